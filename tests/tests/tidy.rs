//! The laws of the workspace, each a test: what is not checked, decays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Which floor a crate stands on; arrows only go down, and crates on floor 4 never see each other.
const FLOORS: &[(&str, u8)] = &[
    ("apimachinery-derive", 0),
    ("cel", 0),
    ("apimachinery", 1),
    ("store", 1),
    ("pki", 1),
    ("transport", 1),
    ("cri", 1),
    ("linux", 1),
    ("engine", 2),
    ("api", 2),
    ("oci", 2),
    ("cni", 2),
    ("csi", 2),
    ("client", 3),
    ("runtime", 3),
    ("apiserver", 4),
    ("controllers", 4),
    ("scheduler", 4),
    ("kubelet", 4),
    ("proxy", 4),
    ("dns", 4),
    ("skiff", 5),
];

/// The names under `[dependencies]` of a manifest, without those for development.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || (line.ends_with(".dependencies]") && !line.contains("dev-"));
            continue;
        }
        if inside && !line.is_empty() && !line.starts_with('#') {
            names.push(line.split(['.', ' ', '=']).next().unwrap_or_default().to_string());
        }
    }
    names
}

/// Every Rust source below a folder.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn crates() -> BTreeMap<String, (Vec<String>, Vec<(PathBuf, String)>)> {
    let folder = root().join("crates");
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap_or_default();
        all.insert(name, (dependencies(&manifest), sources(&entry.path().join("src"))));
    }
    assert!(all.len() > 20, "the crates are not where they are looked for");
    all
}

fn assert_none(law: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{law}\n{}", broken.join("\n"));
}

#[test]
fn arrows_between_crates_go_down() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, (dependencies, _)) in crates() {
        if name == "testkit" {
            continue;
        }
        let Some(floor) = floors.get(name.as_str()) else {
            broken.push(format!("{name} stands on no floor: add it to FLOORS"));
            continue;
        };
        for dependency in dependencies {
            // `apiserver::local` implements the client's trait, which stands below it.
            if let Some(below) = floors.get(dependency.as_str())
                && below >= floor
            {
                broken.push(format!("{name} (floor {floor}) depends on {dependency} (floor {below})"));
            }
        }
    }
    assert_none("an arrow goes up or sideways:", broken);
}

#[test]
fn unsafe_stays_in_linux_and_oci() {
    let mut broken = Vec::new();
    for (name, (_, sources)) in crates() {
        if name == "linux" || name == "oci" {
            continue;
        }
        for (path, text) in sources {
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") {
                    broken.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    assert_none("unsafe code outside `linux` and `oci`:", broken);
}

#[test]
fn only_the_store_knows_rocksdb() {
    let broken = crates()
        .into_iter()
        .filter(|(name, (dependencies, _))| name != "store" && dependencies.iter().any(|d| d == "rocksdb"))
        .map(|(name, _)| name);
    assert_none("depends on rocksdb:", broken.collect());
}

#[test]
fn the_lower_floors_name_no_kind() {
    // Words that only a built-in kind's name would bring into code (comments may explain with them).
    let kinds = [
        "\"Pod\"",
        "\"pods\"",
        "\"Deployment\"",
        "\"deployments\"",
        "\"Service\"",
        "\"services\"",
        "\"Node\"",
        "\"Secret\"",
    ];
    let mut broken = Vec::new();
    for (name, (_, sources)) in crates() {
        if !matches!(name.as_str(), "apimachinery" | "store" | "engine") {
            continue;
        }
        for (path, text) in sources {
            // Tests of an interpreter may use a familiar example.
            if path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests") {
                continue;
            }
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in product.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if kinds.iter().any(|k| code.contains(k)) {
                    broken.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert_none("a crate below the kinds names one:", broken);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let mut broken = Vec::new();
    for (_, (_, sources)) in crates() {
        for (path, text) in sources {
            let generated = text.starts_with("// @generated") || text.starts_with("// This file is @generated");
            if !text.starts_with("//!") && !generated {
                broken.push(path.display().to_string());
            }
        }
    }
    assert_none("a file does not open with a `//!` sentence:", broken);
}

#[test]
fn no_crate_is_a_drawer() {
    let drawers = ["common", "util", "utils", "core", "types", "helpers"];
    assert_none(
        "a crate's name says nothing:",
        crates().into_keys().filter(|name| drawers.contains(&name.as_str())).collect(),
    );
}

#[test]
fn every_page_of_a_kind_is_in_its_group() {
    let mut broken = Vec::new();
    for (path, text) in sources(&root().join("crates/api/src")) {
        let Some(group) = path.parent() else { continue };
        if !text.contains("\npub fn kind() -> Kind {") {
            continue;
        }
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
        let table = fs::read_to_string(group.join("mod.rs")).unwrap_or_default();
        if !table.contains(&format!("{stem}::kind()")) {
            broken.push(format!("{} is not in {}", stem, group.join("mod.rs").display()));
        }
    }
    assert_none("a page is in no table:", broken);
}
