//! Drafts Rust messages and services from protobuf definitions in the Go module cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::etcd;

/// Where definitions are found and drafts go.
#[derive(Args)]
pub struct Options {
    /// The Go module cache.
    #[arg(long, env = "GOMODCACHE")]
    modules: PathBuf,
    /// Compare only, and fail when a committed draft differs.
    #[arg(long)]
    check: bool,
}

struct Protocol {
    /// A Go module, or a folder of this repository.
    home: Home,
    definition: &'static str,
    package_file: &'static str,
    draft: &'static str,
    title: &'static str,
}

enum Home {
    Module(&'static str),
    Folder(&'static str),
}

const PROTOCOLS: [Protocol; 2] = [
    Protocol {
        home: Home::Module("k8s.io/cri-api@v0.37.2"),
        definition: "pkg/apis/runtime/v1/api.proto",
        package_file: "runtime.v1.rs",
        draft: "crates/cri/src/v1.rs",
        title: "Messages and services of the container runtime protocol, version 1.",
    },
    Protocol {
        home: Home::Folder("crates/cri/proto"),
        definition: "archives.proto",
        package_file: "skiff.runtime.v1.rs",
        draft: "crates/cri/src/archives.rs",
        title: "Brings image archives to a runtime, which the container runtime protocol has no call for.",
    },
];

/// Drafts every protocol.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    for protocol in &PROTOCOLS {
        let folder = match protocol.home {
            Home::Module(module) => options.modules.join(module),
            Home::Folder(folder) => root.join(folder),
        };
        let draft = draft(&folder, protocol).with_context(|| protocol.definition.to_owned())?;
        settle(root, protocol.draft, &draft, options)?;
    }
    settle(root, etcd::DRAFT, &etcd::draft(&options.modules).context("etcd")?, options)
}

/// Writes a draft, or compares it.
fn settle(root: &Path, place: &str, draft: &str, options: &Options) -> anyhow::Result<()> {
    let path = root.join(place);
    if !options.check {
        std::fs::write(&path, draft)?;
    } else if std::fs::read_to_string(&path)? != draft {
        bail!("{place} differs from its definition: run cargo xtask import-protos");
    }
    Ok(())
}

fn draft(folder: &Path, protocol: &Protocol) -> anyhow::Result<String> {
    let definition = folder.join(protocol.definition);
    let mut set = protox::compile([&definition], [folder])?;
    for file in &mut set.file {
        // Names and numbers carry over, upstream's sentences do not.
        file.source_code_info = None;
    }
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(set)?;
    let code = std::fs::read_to_string(out.path().join(protocol.package_file))?;
    Ok(format!("//! {}\n//! Drafted by `cargo xtask import-protos`; do not edit.\n\n{code}", protocol.title))
}
