//! `skiff reset`: ends a server or agent and removes all that it made.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::ensure;

use crate::reset;

/// End the server or agent of this machine with all its pods, and remove everything that it made.
#[derive(clap::Args)]
pub struct Reset {
    #[command(flatten)]
    own: super::DataFolder,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Reset {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        let Some(target) = reset::Target::find(&self.own.data_dir)? else {
            println!("there is nothing in {}", self.own.data_dir.display());
            return Ok(ExitCode::SUCCESS);
        };
        if !self.yes {
            ensure!(
                std::io::stdin().is_terminal(),
                "this ends {target} and removes all its data: add --yes if that is meant"
            );
            print!("This ends {target} and removes all its data. Go on? [y/N] ");
            std::io::stdout().flush()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
                println!("nothing was done");
                return Ok(ExitCode::FAILURE);
            }
        }
        target.reset()?;
        println!("everything is removed");
        Ok(ExitCode::SUCCESS)
    }
}
