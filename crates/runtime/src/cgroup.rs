//! Reads and removes control groups, in the unified hierarchy and in those of version 1.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// What a group of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of memory that cannot be reclaimed easily.
    pub working_set: u64,
    /// Bytes of anonymous memory.
    pub rss: u64,
    /// The limit of memory, if there is one.
    pub memory_limit: Option<u64>,
    /// Pages that were missing.
    pub page_faults: u64,
    /// Of those, the ones read from disk.
    pub major_page_faults: u64,
    /// Bytes in swap.
    pub swap: u64,
    /// Processes.
    pub processes: u64,
}

/// The folders of a group, one in each hierarchy that has it.
fn folders(group: &str) -> Vec<PathBuf> {
    let relative = group.trim_start_matches('/');
    if relative.is_empty() || relative.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    let root = Path::new(ROOT);
    let mut found = vec![root.join(relative)];
    if !root.join("cgroup.controllers").exists() {
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
        found = hierarchies.map(|entry| entry.path().join(relative)).collect();
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// Removes a group with the groups inside it, as far as no process is left there.
pub fn remove(group: &str) {
    for folder in folders(group) {
        remove_below(&folder);
    }
}

/// Removes a group that has neither processes nor groups in it; another stays.
pub fn remove_empty(group: &str) {
    for folder in folders(group) {
        let _ = fs::remove_dir(folder);
    }
}

fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// What a group uses; zeros where nothing can be read.
pub fn used(group: &str) -> Used {
    let relative = group.trim_start_matches('/');
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() { unified(&root.join(relative)) } else { version_1(root, relative) }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn unified(folder: &Path) -> Used {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (cpu, memory) = (text("cpu.stat"), text("memory.stat"));
    let current = number(&folder.join("memory.current")).unwrap_or(0);
    Used {
        cpu: field(&cpu, "usage_usec") * 1000,
        memory: current,
        working_set: current.saturating_sub(field(&memory, "inactive_file")),
        rss: field(&memory, "anon"),
        memory_limit: number(&folder.join("memory.max")),
        page_faults: field(&memory, "pgfault"),
        major_page_faults: field(&memory, "pgmajfault"),
        swap: number(&folder.join("memory.swap.current")).unwrap_or(0),
        processes: number(&folder.join("pids.current")).unwrap_or(0),
    }
}

fn version_1(root: &Path, relative: &str) -> Used {
    /// A limit of version 1 at or above this means none.
    const NO_LIMIT: u64 = 1 << 62;
    let controller = |name: &str| root.join(name).join(relative);
    let memory = fs::read_to_string(controller("memory").join("memory.stat")).unwrap_or_default();
    let current = number(&controller("memory").join("memory.usage_in_bytes")).unwrap_or(0);
    let cpu = ["cpuacct", "cpu,cpuacct", "cpu"].iter().find_map(|name| number(&controller(name).join("cpuacct.usage")));
    let processes = number(&controller("pids").join("pids.current"));
    Used {
        cpu: cpu.unwrap_or(0),
        memory: current,
        working_set: current.saturating_sub(field(&memory, "total_inactive_file")),
        rss: field(&memory, "total_rss"),
        memory_limit: number(&controller("memory").join("memory.limit_in_bytes")).filter(|limit| *limit < NO_LIMIT),
        page_faults: field(&memory, "total_pgfault"),
        major_page_faults: field(&memory, "total_pgmajfault"),
        swap: field(&memory, "total_swap"),
        processes: processes.unwrap_or(0),
    }
}
