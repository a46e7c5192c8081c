//! Drafts etcd's messages and services from its definitions, which lean on others that no module carries.

use std::path::Path;

use anyhow::Context;

const MODULE: &str = "go.etcd.io/etcd/api/v3@v3.7.0";
/// What the service's definition takes in, in the folders that it looks for.
const DEFINITIONS: [&str; 4] =
    ["etcdserverpb/rpc.proto", "mvccpb/kv.proto", "authpb/auth.proto", "versionpb/version.proto"];
/// The services that the store answers.
const SERVICES: [&str; 5] = ["KV", "Watch", "Lease", "Cluster", "Maintenance"];

/// Where the draft goes.
pub const DRAFT: &str = "crates/store/src/grpc/proto.rs";

/// The draft's text.
pub fn draft(modules: &Path) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    for definition in DEFINITIONS {
        let path = modules.join(MODULE).join(definition);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let target = folder.path().join("etcd/api").join(definition);
        std::fs::create_dir_all(target.parent().context("a folder")?)?;
        std::fs::write(target, without_gateway(&text))?;
    }
    let mut set = protox::compile([folder.path().join("etcd/api/etcdserverpb/rpc.proto")], [folder.path()])?;
    for file in &mut set.file {
        // Names and numbers carry over, upstream's sentences do not.
        file.source_code_info = None;
        file.service.retain(|service| SERVICES.contains(&service.name()));
    }
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure().out_dir(out.path()).bytes(".").compile_fds(set)?;
    let mut text = String::from(
        "//! Messages and services of etcd, version 3.\n//! Drafted by `cargo xtask import-protos`; do not edit.\n",
    );
    for package in ["etcdserverpb", "mvccpb", "authpb"] {
        let code = std::fs::read_to_string(out.path().join(format!("{package}.rs")))?;
        text.push_str(&format!("\npub mod {package} {{\n{code}}}\n"));
    }
    Ok(text)
}

/// The definition without what describes it as REST: statements whose own definitions are elsewhere.
fn without_gateway(text: &str) -> String {
    let foreign =
        ["import \"google/api", "import \"protoc-gen-openapiv2", "option (google.api", "option (grpc.gateway"];
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = foreign.iter().filter_map(|f| rest.find(f)).min() {
        out.push_str(&rest[..start]);
        let mut depth = 0;
        let end = rest[start..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            *c == ';' && depth == 0
        });
        rest = end.map_or("", |(at, _)| &rest[start + at + 1..]);
    }
    out + rest
}
