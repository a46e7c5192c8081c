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

/// Processor time that they have used, with that of children they have waited for.
pub fn cpu() -> Duration {
    measured().into_iter().map(|pid| by_ticks(pid).unwrap_or_default().max(by_scheduler(pid))).sum()
}

/// User and system time of a process and of its ended threads and children. It is counted in ticks, of 10 ms as a rule,
/// which miss what begins and ends between two of them: nearly all of an idle process.
fn by_ticks(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it come the state and then numbers (proc(5): utime is field 14).
    let numbers = text.rsplit_once(')')?.1;
    let ticks: u64 = numbers.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    Some(Duration::from_secs_f64(ticks as f64 / per_second))
}

/// Time on a processor of a process's threads that live, to the nanosecond (schedstat, first number).
fn by_scheduler(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |text: String| text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
    let nanoseconds = threads.filter_map(|t| of(fs::read_to_string(t.path().join("schedstat")).ok()?));
    Duration::from_nanos(nanoseconds.sum())
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
