//! `skiff status`: what the daemon of a data folder does.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::status::Report;

/// Show what the server or agent of this machine does; fails unless it is ready.
#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    own: super::DataFolder,
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
        crate::folder::check_access(&self.own.data_dir)?;
        let report = super::block_on(Report::gather(&self.own.data_dir))?;
        match self.output {
            Output::Text => print!("{}", report.text()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        }
        Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
