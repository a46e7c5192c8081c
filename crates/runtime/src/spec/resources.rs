//! Limits of a container, as the runtime specification writes them.

use cri::v1::LinuxContainerResources;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::spec::Input;
use crate::{Error, Result};

pub(super) fn build(input: &Input<'_>, devices: &[Value]) -> Value {
    let limits = input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let mut value = limits.map_or_else(|| json!({}), limits_of);
    value["devices"] = json!(devices);
    value
}

/// The changes that an update asks for.
pub fn update(limits: &LinuxContainerResources) -> Result<LinuxResources> {
    serde_json::from_value(limits_of(limits)).map_err(|e| Error::Invalid(format!("resources: {e}")))
}

fn limits_of(limits: &LinuxContainerResources) -> Value {
    // Zero means "not given" in the protocol.
    let mut cpu = Map::new();
    let mut memory = Map::new();
    let numbers = [("shares", limits.cpu_shares), ("quota", limits.cpu_quota), ("period", limits.cpu_period)];
    for (name, value) in numbers.into_iter().filter(|(_, value)| *value != 0) {
        cpu.insert(name.to_owned(), value.into());
    }
    for (name, value) in [("cpus", &limits.cpuset_cpus), ("mems", &limits.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(name.to_owned(), value.clone().into());
        }
    }
    if limits.memory_limit_in_bytes != 0 {
        memory.insert("limit".to_owned(), limits.memory_limit_in_bytes.into());
        // Memory and swap together: without swap of its own the container has none.
        let swap = match limits.memory_swap_limit_in_bytes {
            0 => limits.memory_limit_in_bytes,
            given => given,
        };
        memory.insert("swap".to_owned(), swap.into());
    }
    let huge: Vec<Value> = limits
        .hugepage_limits
        .iter()
        .map(|limit| json!({"pageSize": limit.page_size, "limit": i64::try_from(limit.limit).unwrap_or(i64::MAX)}))
        .collect();
    let mut value = json!({"cpu": cpu, "memory": memory, "hugepageLimits": huge});
    if !limits.unified.is_empty() {
        value["unified"] = json!(limits.unified);
    }
    value
}
