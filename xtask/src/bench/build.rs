//! What the benchmarks run: built when it is missing, kept outside the clone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where built programs and images stay: `SKIFF_CACHE`, or `/var/cache/skiff`.
pub fn cache() -> PathBuf {
    std::env::var_os("SKIFF_CACHE").map_or_else(|| "/var/cache/skiff".into(), PathBuf::from)
}

/// A program of the cache, if it is there.
pub fn cached(name: &str) -> Option<PathBuf> {
    Some(cache().join("bin").join(name)).filter(|path| path.is_file())
}

/// The archive of the image that pods run; `images` beside it holds those of the official suite.
pub fn busybox_archive() -> PathBuf {
    cache().join("bench/busybox.tar")
}

/// Builds the binary with a profile; where it lies.
pub fn skiff(profile: &str) -> anyhow::Result<PathBuf> {
    println!("building skiff with profile {profile}");
    let output = Command::new("cargo")
        .args(["build", "--locked", "--package", "skiff", "--bin", "skiff", "--profile", profile])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the build failed");
    let mut executables = output.stdout.split(|b| *b == b'\n').filter_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().context("cargo told no executable")
}

/// Builds the load client; the Go tool knows what has changed.
pub fn loadgen(source: &Path) -> anyhow::Result<()> {
    if !source.join("go.mod").is_file() {
        ensure!(
            cached("loadgen").is_some(),
            "there is no load client in {}: name its folder with --loadgen",
            source.display()
        );
        return Ok(());
    }
    go(source, "loadgen", ".")
}

/// Builds the store of upstream's API server, of the version that v1.37.2 pins.
pub fn etcd() -> anyhow::Result<()> {
    if cached("etcd").is_some() {
        return Ok(());
    }
    go(&root().join("conformance/etcd"), "etcd", "go.etcd.io/etcd/server/v3")
}

fn go(module: &Path, name: &str, package: &str) -> anyhow::Result<()> {
    let bin = cache().join("bin");
    std::fs::create_dir_all(&bin)?;
    println!("building {name}");
    let status = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(bin.join(name))
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .status()
        .with_context(|| format!("cannot run go, which builds {name}: install Go 1.26 or later"))?;
    ensure!(status.success(), "go could not build {name}");
    Ok(())
}

/// Builds the image that pods run.
pub fn busybox() -> anyhow::Result<()> {
    let archive = busybox_archive();
    if archive.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(cache().join("bench"))?;
    let status = Command::new("bash").arg(root().join("images/busybox")).arg(&archive).status()?;
    ensure!(status.success(), "the busybox image could not be built");
    Ok(())
}
