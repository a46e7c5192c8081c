//! `skiff shim`: keeps one pod's containers; the runtime starts it.

use std::process::ExitCode;

/// Keep one pod's containers; settings come on standard input.
#[derive(clap::Args)]
pub struct Shim {}

impl Shim {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(runtime::shim::run())
    }
}
