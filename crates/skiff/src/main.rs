//! The binary: configuration, wiring, supervision, commands.

fn main() {}
