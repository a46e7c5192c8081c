//! The commands: one file each, one line in the table.

mod server;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    Server(server::Server),
}

impl Command {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Server(command) => command.run(),
        }
    }
}

/// Logs go to standard error; `SKIFF_LOG` says how much (`info` by default).
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
