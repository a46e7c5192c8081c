//! What a control group uses.

use std::fs;
use std::path::Path;

use super::{Cgroup, Layout};

/// What a group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub processes: u64,
}

/// Memory of a group, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All.
    pub usage: u64,
    /// Without files that nothing has used for a while.
    pub working_set: u64,
    /// Not backed by files.
    pub anonymous: u64,
    /// The most it may use, if that is limited.
    pub limit: Option<u64>,
    /// In swap.
    pub swap: u64,
    /// Pages that were missing.
    pub faults: u64,
    /// Of those, read from disk.
    pub major_faults: u64,
}

pub(super) fn read(group: &Cgroup) -> Stats {
    match group.layout {
        Layout::Unified { .. } => group.unified_folder().map(|folder| unified(&folder)).unwrap_or_default(),
        Layout::Split(_) => split(group),
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after a name in lines of name and number.
pub(super) fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn unified(folder: &Path) -> Stats {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (cpu, memory) = (text("cpu.stat"), text("memory.stat"));
    let usage = number(&folder.join("memory.current")).unwrap_or(0);
    Stats {
        cpu: field(&cpu, "usage_usec") * 1000,
        memory: Memory {
            usage,
            working_set: usage.saturating_sub(field(&memory, "inactive_file")),
            anonymous: field(&memory, "anon"),
            limit: number(&folder.join("memory.max")),
            swap: number(&folder.join("memory.swap.current")).unwrap_or(0),
            faults: field(&memory, "pgfault"),
            major_faults: field(&memory, "pgmajfault"),
        },
        processes: number(&folder.join("pids.current")).unwrap_or(0),
    }
}

fn split(group: &Cgroup) -> Stats {
    /// A limit at or above this means none.
    const NO_LIMIT: u64 = 1 << 62;
    let read = |controller: &str, file: &str| number(&group.folder(controller)?.join(file));
    let memory = group.folder("memory").and_then(|folder| fs::read_to_string(folder.join("memory.stat")).ok());
    let memory = memory.unwrap_or_default();
    let usage = read("memory", "memory.usage_in_bytes").unwrap_or(0);
    Stats {
        cpu: read("cpuacct", "cpuacct.usage").unwrap_or(0),
        memory: Memory {
            usage,
            working_set: usage.saturating_sub(field(&memory, "total_inactive_file")),
            anonymous: field(&memory, "total_rss"),
            limit: read("memory", "memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT),
            swap: field(&memory, "total_swap"),
            faults: field(&memory, "total_pgfault"),
            major_faults: field(&memory, "total_pgmajfault"),
        },
        processes: read("pids", "pids.current").unwrap_or(0),
    }
}
