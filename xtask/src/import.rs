//! Compares our API types with upstream's Go types, and drafts a type that we do not have yet.
//!
//! Upstream is read twice: types by `conformance/schema` (a Go program over the pinned modules, so that Go's own parser
//! reads Go), served paths and required fields from the published `swagger.json`. Ours is the schema that the derive
//! compiled in. Names, order, tags, presence, list types, patch keys, defaults and shapes must agree.

mod draft;
mod ours;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, bail};

use ours::Ours;
use upstream::Upstream;

/// What to read, and what to do with it.
#[derive(clap::Args)]
pub struct Options {
    /// The Go module cache; asked of `go` when absent.
    #[arg(long)]
    modules: Option<PathBuf>,
    /// Fail when our types differ from upstream's.
    #[arg(long)]
    check: bool,
    /// Print a draft of one of upstream's types, such as `apps/v1.Deployment`.
    #[arg(long)]
    draft: Option<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let upstream = Upstream::read(options.modules.as_deref())?;
    if let Some(name) = &options.draft {
        print!("{}", draft::draft(&upstream, name)?);
        return Ok(());
    }
    let ours = Ours::read();
    let mut drift = structs(&ours, &upstream);
    drift.extend(served(&upstream));
    for line in &drift {
        println!("{line}");
    }
    let documented = ours.documented();
    println!(
        "{} types, {} fields, {} kinds; {} types and {} fields have docs; {} differences",
        ours.structs.len(),
        documented.fields,
        api::kinds().len(),
        documented.structs_with_docs,
        documented.fields_with_docs,
        drift.len()
    );
    if options.check && !drift.is_empty() {
        bail!("our API types differ from upstream's");
    }
    Ok(())
}

/// Differences between structs of the same name.
fn structs(ours: &Ours, upstream: &Upstream) -> Vec<String> {
    let mut drift = Vec::new();
    for (name, fields) in &ours.structs {
        let Some(theirs) = upstream.structs.get(name) else {
            drift.push(format!("{name}: upstream has no such type"));
            continue;
        };
        let left: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
        let right: Vec<&str> = theirs.iter().map(|f| f.name.as_str()).collect();
        if left != right {
            drift.push(format!("{name}: the fields are {left:?}, upstream's {right:?}"));
            continue;
        }
        for (field, other) in fields.iter().zip(theirs) {
            let differences = field.differences(other);
            if !differences.is_empty() {
                drift.push(format!("{name}.{}: {differences}", field.name));
            }
        }
    }
    drift
}

/// Differences between what we serve and what upstream's published paths serve by default.
fn served(upstream: &Upstream) -> Vec<String> {
    let mut drift = Vec::new();
    let mut ours: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in api::kinds() {
        let version = kind.group_version().to_string();
        let resources = ours.entry(version).or_default();
        resources.insert(format!("{}{}", kind.resource, if kind.namespaced { " (namespaced)" } else { "" }));
        let mut subresources: Vec<&str> = kind.subresources.iter().map(|s| &*s.name).collect();
        subresources.extend(kind.status.then_some("status"));
        subresources.extend(kind.scale.is_some().then_some("scale"));
        resources.extend(subresources.iter().map(|s| format!("{}/{s}", kind.resource)));
    }
    for (version, theirs) in &upstream.served {
        let none = BTreeSet::new();
        let resources = ours.get(version).unwrap_or(&none);
        for missing in theirs.difference(resources) {
            drift.push(format!("{version}: upstream serves {missing}"));
        }
        for extra in resources.difference(theirs) {
            drift.push(format!("{version}: upstream does not serve {extra}"));
        }
    }
    drift
}

/// The repository's root: xtask is run from anywhere inside it.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).context("xtask lies in the repository")
}
