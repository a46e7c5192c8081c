//! Chores of the repository: import, bench, dist.

mod bench;
mod etcd;
mod golden;
mod import;
mod protos;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measures a server, and prints each figure beside its aim.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Makes a golden data folder for `tests/upgrade` with a binary of this version.
    Golden(golden::Options),
    /// Compares our API types with upstream's Go types, or drafts one of them.
    Import(import::Options),
    /// Drafts the messages and services of the gRPC protocols from their definitions.
    ImportProtos(protos::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Bench(bench) => bench::run(&bench),
        Chore::Golden(options) => golden::run(&options),
        Chore::Import(options) => import::run(&options),
        Chore::ImportProtos(options) => protos::run(&options),
    }
}
