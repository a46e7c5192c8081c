//! Benchmarks: figures of a server and of its peer in one run, each beside what it aims at.

mod api;
mod boot;
mod build;
mod exec;
mod load;
mod peer;
mod process;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};

/// What is measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Start, memory, processor time and pods of a one-node cluster.
    Boot(boot::Options),
    /// The API under load, against upstream's API server and etcd when both have been built.
    Api(api::Options),
}

/// What every benchmark is told.
#[derive(Args, Clone)]
pub struct Common {
    /// Build the binary with this profile: release, or quick for trials.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Measure this binary instead of building one.
    #[arg(long)]
    skiff: Option<PathBuf>,
    /// The folder of the load client's Go source.
    #[arg(long, default_value = "../shared/loadgen")]
    loadgen: PathBuf,
    /// Set by the benchmark when it runs itself again in namespaces of its own.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Runs one benchmark.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match bench {
        Bench::Boot(options) => match &options.common.inside {
            Some(folder) => runtime.block_on(boot::measure(options, folder)),
            None => again("boot", &options.common, &options.arguments()),
        },
        Bench::Api(options) => match &options.common.inside {
            Some(folder) => runtime.block_on(api::measure(options, folder)),
            None => again("api", &options.common, &options.arguments()),
        },
    }
}

/// Builds what is measured, then runs this program again where it disturbs nobody and nobody disturbs its listings.
fn again(bench: &str, common: &Common, arguments: &[String]) -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "benchmarks make namespaces of their own: run them as root");
    let skiff = match &common.skiff {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => build::skiff(&common.profile)?,
    };
    build::loadgen(&common.loadgen)?;
    if bench == "api" {
        build::etcd()?;
    } else {
        build::busybox()?;
    }
    let work = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
    let folder = on_memory_where_needed(work.path())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/alone.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(work.path()).arg(std::env::current_exe()?);
    command.args(["bench", bench, "--profile", &common.profile]).arg("--skiff").arg(skiff);
    command.arg("--inside").arg(work.path()).args(arguments);
    let status = command.status().context("cannot start bash")?;
    drop(folder);
    drop(work);
    ensure!(status.success(), "the benchmark failed: {}", code(status));
    Ok(())
}

fn code(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

/// Unmounts when dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Containers' file systems are overlays, which cannot lie on another overlay: there the folder is put in memory.
/// Syncs then cost nothing, which is said.
fn on_memory_where_needed(folder: &Path) -> anyhow::Result<Option<Mounted<'_>>> {
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output()?.stdout;
    if String::from_utf8_lossy(&kind).trim() != "overlayfs" {
        return Ok(None);
    }
    println!("the temporary folder lies on an overlay: data is kept in memory, and syncs cost nothing");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder).status()?;
    ensure!(mounted.success(), "cannot mount a tmpfs on {}", folder.display());
    Ok(Some(Mounted(folder)))
}
