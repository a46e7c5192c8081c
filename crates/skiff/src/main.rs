//! The binary: configuration, wiring, supervision, commands.

mod agent;
mod ask;
mod backup;
mod clock;
mod cluster;
mod commands;
mod config;
mod control;
mod datastore;
mod etcd;
mod folder;
mod host;
mod join;
mod leader;
mod local;
mod network;
mod node;
mod parts;
mod process;
mod reset;
mod servers;
mod status;
mod storage;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

/// A Kubernetes distribution in one binary.
#[derive(Parser)]
#[command(name = "skiff", version, disable_help_subcommand = true, args_override_self = true)]
struct Skiff {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    if let Some(code) = commands::cni::by_name() {
        return code;
    }
    // Before anything is set up: a shim stays small and has one thread.
    if std::env::args_os().nth(1).is_some_and(|command| command == "shim") {
        return runtime::shim::run();
    }
    let arguments = match config::with_file(std::env::args_os().collect(), Skiff::command()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let matches = match Skiff::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let outcome = Skiff::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(|skiff| skiff.command.run());
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// One sentence that names the cause and, where there is one, the remedy.
fn fail(error: &anyhow::Error) -> ExitCode {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    eprintln!("skiff: {}", causes.join(": "));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Skiff::command().debug_assert();
    }
}
