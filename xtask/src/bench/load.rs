//! The load client: one operation, many times.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{build, process};

/// The load client against one server.
pub struct Load {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What came of one run.
pub struct Figures {
    /// What the client saw: `opsPerS`, `p50ms`, `p99ms`, `note` and more.
    pub seen: serde_json::Value,
    /// Processor time that every other process used meanwhile.
    pub server: Duration,
    /// Operations.
    pub n: u64,
}

impl Figures {
    /// A number that the client printed.
    pub fn number(&self, name: &str) -> f64 {
        self.seen[name].as_f64().unwrap_or(f64::NAN)
    }

    /// Seconds of processor time of the server, for one operation.
    pub fn server_each(&self) -> f64 {
        self.server.as_secs_f64() / self.n as f64
    }
}

impl Load {
    pub fn new(kubeconfig: &Path) -> anyhow::Result<Load> {
        let program = build::cached("loadgen").context("the load client has not been built")?;
        Ok(Load { program, kubeconfig: kubeconfig.into() })
    }

    /// Runs one operation `n` times with further options, and accounts for it.
    pub fn run(&self, op: &str, n: u64, options: &[&str]) -> anyhow::Result<Figures> {
        let before = process::cpu();
        let output = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--op", op, "--json", "--n", &n.to_string()])
            .args(options)
            .stderr(Stdio::inherit())
            .output()?;
        let server = process::cpu().saturating_sub(before);
        ensure!(output.status.success(), "the load client failed at {op}");
        let seen = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the load client said {:?}", String::from_utf8_lossy(&output.stdout)))?;
        Ok(Figures { seen, server, n })
    }
}
