//! Chores of the repository: import, bench, dist.

mod protos;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Drafts the messages and services of the gRPC protocols from their definitions.
    ImportProtos(protos::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::ImportProtos(options) => protos::run(&options),
    }
}
