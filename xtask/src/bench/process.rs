//! What processes use, by /proc: every process of this PID namespace except its first and this one.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// The processes that are measured.
fn measured() -> Vec<u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != 1 && *pid != own)
        .collect()
}

/// Processor time that they have used, with that of children they have waited for. A tick is 10 ms as a rule.
pub fn cpu() -> Duration {
    let ticks: u64 = measured().into_iter().filter_map(ticks).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    Duration::from_secs_f64(ticks as f64 / per_second)
}

/// User and system time of a process and of its ended children.
fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it come the state and then numbers (proc(5): utime is field 14).
    let numbers = text.rsplit_once(')')?.1;
    Some(numbers.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum())
}

/// Memory of one process, in bytes.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Its arguments.
    pub command: String,
    /// Proportional: pages shared with others count in part.
    pub pss: u64,
}

/// Memory of each of them.
pub fn memory() -> Vec<Memory> {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        Some(Memory { command, pss: kib << 10 })
    };
    measured().into_iter().filter_map(of).collect()
}

/// Their memory together, in bytes.
pub fn pss() -> u64 {
    memory().iter().map(|m| m.pss).sum()
}
