//! `skiff status`: what the daemon of a data folder does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::status::Report;

/// Show what the server or agent of this machine does; fails unless it is ready.
#[derive(clap::Args)]
pub struct Status {
    /// Take the data folder from this file of the server or agent.
    #[arg(long, env = "SKIFF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder of the server or agent.
    #[arg(long, env = "SKIFF_DATA_DIR", value_name = "FOLDER", default_value = "/var/lib/skiff")]
    data_dir: PathBuf,
    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Status {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        crate::folder::check_access(&self.data_dir)?;
        let report = super::block_on(Report::gather(&self.data_dir))?;
        match self.output {
            Output::Text => print!("{}", report.text()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        }
        Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
