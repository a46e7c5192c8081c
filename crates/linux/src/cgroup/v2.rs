//! Control groups of version 2: one folder with all controllers.

use std::fs;
use std::path::Path;

use super::{Cgroup, Limits, write, write_if_there};
use crate::error::{Context, Error, Result};

pub(super) fn create(mount: &Path, path: &Path) -> Result<()> {
    let mut folder = mount.to_owned();
    for part in path.components() {
        delegate(&folder)?;
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).context(|| format!("cannot make {}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lets the groups inside a folder have every controller that it has itself.
fn delegate(folder: &Path) -> Result<()> {
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).context(|| file.display().to_string())
    };
    let (there, on) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let on: Vec<&str> = on.split_whitespace().collect();
    for missing in there.split_whitespace().filter(|name| !on.contains(name)) {
        // One by one: a controller that cannot be delegated, as that of real-time time slices, keeps no other back.
        let _ = write(&folder.join("cgroup.subtree_control"), &format!("+{missing}"));
    }
    Ok(())
}

/// From shares of version 1 (2 to 262144) to a weight (1 to 10000), as kubelet does for the groups above.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

pub(super) fn limit(group: &Cgroup, limits: &Limits) -> Result<()> {
    let folder = group.unified_folder().ok_or_else(|| Error::invalid("no unified hierarchy"))?;
    let set = |file: &str, value: Option<String>| match value {
        Some(value) => write(&folder.join(file), &value),
        None => Ok(()),
    };
    set("cpu.weight", limits.cpu_shares.filter(|shares| *shares > 0).map(|shares| weight(shares).to_string()))?;
    let quota = limits.cpu_quota.filter(|quota| *quota != 0);
    let period = limits.cpu_period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or_else(|| current_quota(&folder), |quota| Ok(or_max(quota)))?;
        set("cpu.max", Some(format!("{quota} {}", period.unwrap_or(100_000))))?;
    }
    if let Some(burst) = limits.cpu_burst {
        write_if_there(&folder.join("cpu.max.burst"), &burst.to_string())?;
    }
    set("cpuset.cpus", limits.cpuset_cpus.clone().filter(|list| !list.is_empty()))?;
    set("cpuset.mems", limits.cpuset_mems.clone().filter(|list| !list.is_empty()))?;
    let memory = limits.memory.filter(|bytes| *bytes != 0);
    // Before the limit of memory: where that is lowered, what is pushed out goes to swap only as far as allowed.
    if let Some(sum) = limits.memory_and_swap.filter(|bytes| *bytes != 0) {
        let swap = match (sum, memory) {
            (sum, _) if sum < 0 => "max".to_owned(),
            (_, Some(memory)) if memory < 0 => "max".to_owned(),
            (sum, Some(memory)) if sum >= memory => (sum - memory).to_string(),
            (_, Some(_)) => return Err(Error::invalid("memory and swap together are less than memory")),
            (_, None) => return Err(Error::invalid("a limit of swap needs a limit of memory")),
        };
        write_if_there(&folder.join("memory.swap.max"), &swap)?;
    }
    set("memory.max", memory.map(or_max))?;
    set("memory.low", limits.memory_reservation.filter(|bytes| *bytes != 0).map(or_max))?;
    let pids = limits.pids.filter(|count| *count != 0);
    set("pids.max", pids.map(or_max))?;
    for (size, bytes) in &limits.huge_pages {
        write_if_there(&folder.join(format!("hugetlb.{size}.max")), &bytes.to_string())?;
        write_if_there(&folder.join(format!("hugetlb.{size}.rsvd.max")), &bytes.to_string())?;
    }
    if let Some(block) = limits.block_weight.filter(|weight| *weight > 0) {
        write_if_there(&folder.join("io.bfq.weight"), &block.to_string())?;
    }
    for (name, value) in &limits.unified {
        if name.contains('/') || name.starts_with("cgroup.") {
            return Err(Error::invalid(format!("control group file {name:?}")));
        }
        set(name, Some(value.clone()))?;
    }
    Ok(())
}

/// The quota of `cpu.max`, to be kept where only the period changes.
fn current_quota(folder: &Path) -> Result<String> {
    let file = folder.join("cpu.max");
    let text = fs::read_to_string(&file).context(|| file.display().to_string())?;
    Ok(text.split_whitespace().next().unwrap_or("max").to_owned())
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_become_weights() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10_000, 10_000]);
    }
}
