//! From the resources of a specification to the limits of a control group.

use linux::cgroup::{DeviceKind, DeviceRule, Limits};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

/// The limits that resources ask for; what they do not name stays.
pub fn limits(resources: &LinuxResources) -> Limits {
    let (cpu, memory) = (resources.cpu().as_ref(), resources.memory().as_ref());
    let huge_pages = resources.hugepage_limits().iter().flatten();
    let mut unified: Vec<(String, String)> =
        resources.unified().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    unified.sort();
    Limits {
        cpu_shares: cpu.and_then(|cpu| cpu.shares()),
        cpu_quota: cpu.and_then(|cpu| cpu.quota()),
        cpu_period: cpu.and_then(|cpu| cpu.period()),
        cpu_burst: cpu.and_then(|cpu| cpu.burst()),
        cpuset_cpus: cpu.and_then(|cpu| cpu.cpus().clone()),
        cpuset_mems: cpu.and_then(|cpu| cpu.mems().clone()),
        memory: memory.and_then(|memory| memory.limit()),
        memory_and_swap: memory.and_then(|memory| memory.swap()),
        memory_reservation: memory.and_then(|memory| memory.reservation()),
        swappiness: memory.and_then(|memory| memory.swappiness()),
        disable_oom_killer: memory.and_then(|memory| memory.disable_oom_killer()),
        pids: resources.pids().map(|pids| pids.limit()),
        huge_pages: huge_pages.map(|limit| (limit.page_size().clone(), limit.limit())).collect(),
        block_weight: resources.block_io().as_ref().and_then(|io| io.weight()),
        unified,
    }
}

/// The rules about devices, in order.
pub fn device_rules(rules: &[LinuxDeviceCgroup]) -> Vec<DeviceRule> {
    // Minus one stands for all, as does the lack of a number.
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let rules = rules.iter().map(|rule| {
        let access = rule.access().as_deref().unwrap_or("rwm");
        DeviceRule {
            allow: rule.allow(),
            kind: match rule.typ() {
                Some(LinuxDeviceType::B) => DeviceKind::Block,
                Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
                _ => DeviceKind::All,
            },
            major: number(rule.major()),
            minor: number(rule.minor()),
            read: access.contains('r'),
            write: access.contains('w'),
            make: access.contains('m'),
        }
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_become_limits() {
        let text = r#"{"memory":{"limit":1048576,"swap":2097152},"cpu":{"shares":512,"quota":-1,"period":100000,
            "cpus":"0"},"pids":{"limit":64},"hugepageLimits":[{"pageSize":"2MB","limit":4}],
            "unified":{"memory.high":"9"},"devices":[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":-1,"access":"r"}]}"#;
        let resources: LinuxResources = serde_json::from_str(text).unwrap();
        let limits = limits(&resources);
        assert_eq!((limits.memory, limits.memory_and_swap, limits.pids), (Some(1 << 20), Some(2 << 20), Some(64)));
        assert_eq!(
            (limits.cpu_shares, limits.cpu_quota, limits.cpuset_cpus.as_deref()),
            (Some(512), Some(-1), Some("0"))
        );
        assert_eq!(limits.huge_pages, [("2MB".to_owned(), 4)]);
        assert_eq!(limits.unified, [("memory.high".to_owned(), "9".to_owned())]);
        let rules = device_rules(resources.devices().as_deref().unwrap());
        assert_eq!((rules[0].kind, rules[0].allow, rules[0].major), (DeviceKind::All, false, None));
        assert_eq!((rules[1].major, rules[1].minor, rules[1].write), (Some(1), None, false));
    }
}
