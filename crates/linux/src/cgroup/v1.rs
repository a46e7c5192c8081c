//! Control groups of version 1: a folder in each hierarchy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, DeviceRule, Limits, Split, write, write_if_there};
use crate::error::{Context, Error, Result};

pub(super) fn create(split: &Split, path: &Path) -> Result<()> {
    for hierarchy in &split.hierarchies {
        let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
        let mut folder = hierarchy.mount.clone();
        for part in path.components() {
            let parent = folder.clone();
            folder.push(part);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error).context(|| format!("cannot make {}", folder.display()));
                }
                _ => {}
            }
            if cpuset {
                inherit_cpuset(&parent, &folder)?;
            }
        }
    }
    if let Some(unified) = &split.unified {
        let folder = unified.join(path);
        fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(())
}

/// A new group of processors is empty, and nothing can run in it.
fn inherit_cpuset(parent: &Path, folder: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = folder.join(name);
        let own = fs::read_to_string(&file).context(|| file.display().to_string())?;
        if own.trim().is_empty() {
            let above = parent.join(name);
            let inherited = fs::read_to_string(&above).context(|| above.display().to_string())?;
            write(&file, inherited.trim())?;
        }
    }
    Ok(())
}

pub(super) fn limit(group: &Cgroup, limits: &Limits) -> Result<()> {
    let set = |controller: &str, file: &str, value: Option<String>| match (value, group.folder(controller)) {
        (Some(value), Some(folder)) => write(&folder.join(file), &value),
        (Some(_), None) if controller != "hugetlb" => {
            Err(Error::invalid(format!("this host has no control group controller {controller}")))
        }
        _ => Ok(()),
    };
    let shares = limits.cpu_shares.filter(|shares| *shares > 0);
    set("cpu", "cpu.shares", shares.map(|shares| shares.clamp(2, 262_144).to_string()))?;
    if let Some(folder) = group.folder("cpu") {
        bandwidth(&folder, limits)?;
    }
    set("cpuset", "cpuset.cpus", limits.cpuset_cpus.clone().filter(|list| !list.is_empty()))?;
    set("cpuset", "cpuset.mems", limits.cpuset_mems.clone().filter(|list| !list.is_empty()))?;
    memory(group, limits)?;
    let reservation = limits.memory_reservation.filter(|bytes| *bytes != 0);
    set("memory", "memory.soft_limit_in_bytes", reservation.map(|bytes| bytes.to_string()))?;
    set("memory", "memory.swappiness", limits.swappiness.map(|readily| readily.min(100).to_string()))?;
    set("memory", "memory.oom_control", limits.disable_oom_killer.filter(|off| *off).map(|_| "1".to_owned()))?;
    let pids = limits.pids.filter(|count| *count != 0);
    set("pids", "pids.max", pids.map(|count| if count > 0 { count.to_string() } else { "max".to_owned() }))?;
    for (size, bytes) in &limits.huge_pages {
        if let Some(folder) = group.folder("hugetlb") {
            write_if_there(&folder.join(format!("hugetlb.{size}.limit_in_bytes")), &bytes.to_string())?;
            write_if_there(&folder.join(format!("hugetlb.{size}.rsvd.limit_in_bytes")), &bytes.to_string())?;
        } else if let Some(folder) = group.unified_folder() {
            write_if_there(&folder.join(format!("hugetlb.{size}.max")), &bytes.to_string())?;
        }
    }
    if let (Some(weight), Some(folder)) = (limits.block_weight.filter(|weight| *weight > 0), group.folder("blkio")) {
        write_if_there(&folder.join("blkio.bfq.weight"), &weight.to_string())?;
    }
    match limits.unified.first() {
        Some((name, _)) => Err(Error::invalid(format!("{name} needs control groups of version 2"))),
        None => Ok(()),
    }
}

/// Quota and period hold each other: a smaller quota may only fit a period that is set first, or the other way round.
fn bandwidth(folder: &Path, limits: &Limits) -> Result<()> {
    let quota = limits.cpu_quota.filter(|quota| *quota != 0).map(|quota| quota.max(-1).to_string());
    let period = limits.cpu_period.filter(|period| *period != 0).map(|period| period.to_string());
    let (quota_file, period_file) = (folder.join("cpu.cfs_quota_us"), folder.join("cpu.cfs_period_us"));
    let mut again = false;
    if let Some(period) = &period {
        match write(&period_file, period) {
            Err(_) if quota.is_some() => again = true,
            other => other?,
        }
    }
    if let Some(quota) = &quota {
        write(&quota_file, quota)?;
    }
    if let (true, Some(period)) = (again, &period) {
        write(&period_file, period)?;
    }
    if let Some(burst) = limits.cpu_burst {
        write_if_there(&folder.join("cpu.cfs_burst_us"), &burst.to_string())?;
    }
    Ok(())
}

/// Memory may never exceed memory and swap together, so the order of two changes depends on their direction.
fn memory(group: &Cgroup, limits: &Limits) -> Result<()> {
    let Some(folder) = group.folder("memory") else { return Ok(()) };
    let (memory, both) = (folder.join("memory.limit_in_bytes"), folder.join("memory.memsw.limit_in_bytes"));
    let set = |file: &Path, bytes: i64| write(file, &bytes.to_string());
    let alone = limits.memory.filter(|bytes| *bytes != 0);
    let together = limits.memory_and_swap.filter(|bytes| *bytes != 0);
    match (alone, together) {
        (Some(bytes), Some(sum)) if both.exists() => {
            if set(&memory, bytes).is_err() {
                set(&both, sum)?;
                set(&memory, bytes)?;
            }
            set(&both, sum)
        }
        // Without swap accounting the limit of memory is all there is.
        (Some(bytes), _) => set(&memory, bytes),
        (None, Some(sum)) if both.exists() => set(&both, sum),
        _ => Ok(()),
    }
}

pub(super) fn allow_devices(group: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    let Some(folder) = group.folder("devices") else { return Ok(()) };
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        write(&folder.join(file), &rule.line())?;
    }
    Ok(())
}

pub(super) fn freeze(group: &Cgroup, frozen: bool) -> Result<()> {
    let folder = group.folder("freezer").ok_or_else(|| Error::invalid("this host cannot freeze processes"))?;
    let (file, wanted) = (folder.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
    for _ in 0..100 {
        write(&file, wanted)?;
        let state = fs::read_to_string(&file).context(|| file.display().to_string())?;
        if state.trim() == wanted {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Error::invalid(format!("{} does not become {wanted}", file.display())))
}
