//! Chores of the repository: import, bench, dist.

fn main() {}
