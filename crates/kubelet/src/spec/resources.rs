//! Requests and limits as the kernel knows them.

use std::collections::BTreeMap;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use apimachinery::Quantity;
use cri::v1::{HugepageLimit, LinuxContainerResources};

/// The kernel's period of the CPU quota, in microseconds.
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// How dear a pod is: it decides where its control group is and who is killed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// A pod's class, by its containers' requests and limits of CPU and memory.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.qos_class.as_str() {
        "Guaranteed" => return Qos::Guaranteed,
        "Burstable" => return Qos::Burstable,
        "BestEffort" => return Qos::BestEffort,
        _ => {}
    }
    let containers = || pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let set =
        |amounts: &BTreeMap<String, Quantity>, name: &str| amounts.get(name).copied().filter(|q| !q.is_zero_amount());
    let any = |c: &Container| {
        ["cpu", "memory"].iter().any(|n| set(&c.resources.requests, n).or(set(&c.resources.limits, n)).is_some())
    };
    if !containers().any(any) {
        return Qos::BestEffort;
    }
    let full = |c: &Container| {
        ["cpu", "memory"].iter().all(|n| {
            let limit = set(&c.resources.limits, n);
            limit.is_some() && set(&c.resources.requests, n).is_none_or(|request| Some(request) == limit)
        })
    };
    if containers().all(full) { Qos::Guaranteed } else { Qos::Burstable }
}

/// The control group that holds a pod's containers.
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = &pod.metadata.uid;
    match qos(pod) {
        Qos::Guaranteed => format!("/kubepods/pod{uid}"),
        Qos::Burstable => format!("/kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("/kubepods/besteffort/pod{uid}"),
    }
}

/// Weight of thousandths of a CPU.
pub fn shares(milli: i64) -> i64 {
    (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Time in each period; 0 is no limit.
pub fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * PERIOD / 1000).max(MIN_QUOTA) }
}

fn amount(amounts: &BTreeMap<String, Quantity>, name: &str) -> Option<Quantity> {
    amounts.get(name).copied()
}

/// What one container gets.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    allocatable: &BTreeMap<String, Quantity>,
) -> LinuxContainerResources {
    let (requests, limits) = (&container.resources.requests, &container.resources.limits);
    // A limit without a request is the request.
    let cpu = amount(requests, "cpu").or(amount(limits, "cpu"));
    let limit = amount(limits, "cpu").map_or(0, |q| q.milli_value());
    LinuxContainerResources {
        cpu_shares: cpu.map_or(MIN_SHARES, |q| shares(q.milli_value())),
        cpu_period: PERIOD,
        cpu_quota: quota(limit),
        memory_limit_in_bytes: amount(limits, "memory").map_or(0, |q| q.value()),
        oom_score_adj: oom_score_adj(pod, container, allocatable),
        hugepage_limits: hugepages(limits),
        ..Default::default()
    }
}

fn hugepages(limits: &BTreeMap<String, Quantity>) -> Vec<HugepageLimit> {
    let sizes = limits.iter().filter_map(|(name, limit)| Some((name.strip_prefix("hugepages-")?, limit)));
    sizes
        .map(|(size, limit)| HugepageLimit {
            page_size: size.replace("Mi", "MB").replace("Gi", "GB").replace("Ki", "KB"),
            limit: u64::try_from(limit.value()).unwrap_or_default(),
        })
        .collect()
}

/// What all containers of a pod get together.
pub fn of_pod(pod: &Pod) -> LinuxContainerResources {
    let mut all = LinuxContainerResources { cpu_period: PERIOD, ..Default::default() };
    let (mut cpu, mut quota_sum, mut memory) = (0, Some(0), Some(0));
    for container in &pod.spec.containers {
        let limits = &container.resources.limits;
        let limit = amount(limits, "cpu").map(|q| q.milli_value());
        cpu += amount(&container.resources.requests, "cpu").map(|q| q.milli_value()).or(limit).unwrap_or_default();
        quota_sum = quota_sum.zip(limit).map(|(sum, limit)| sum + limit);
        memory = memory.zip(amount(limits, "memory").map(|q| q.value())).map(|(sum, limit)| sum + limit);
    }
    all.cpu_shares = shares(cpu);
    all.cpu_quota = quota_sum.map_or(0, quota);
    all.memory_limit_in_bytes = memory.unwrap_or_default();
    all
}

/// Who is killed first when memory runs out: by class, then by how little was asked for (upstream's scale).
pub fn oom_score_adj(pod: &Pod, container: &Container, allocatable: &BTreeMap<String, Quantity>) -> i64 {
    // Pods that the node cannot do without.
    if pod.spec.priority.unwrap_or_default() >= 2_000_000_000 {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => return -997,
        Qos::BestEffort => return 1000,
        Qos::Burstable => {}
    }
    let capacity = allocatable.get("memory").map_or(0, |q| q.value()).max(1);
    let wanted = amount(&container.resources.requests, "memory").map_or(0, |q| q.value());
    let score = 1000 - (1000 * i128::from(wanted) / i128::from(capacity)) as i64;
    score.clamp(3, 999)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, pod};
    use super::*;

    fn with(resources: &str) -> Pod {
        pod(&format!(
            r#"{{"metadata":{{"uid":"u"}},"spec":{{"containers":[{{"name":"a","resources":{resources}}}]}}}}"#
        ))
    }

    #[test]
    fn classes() {
        let guaranteed = r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1","memory":"1Gi"}}"#;
        assert_eq!(qos(&with(guaranteed)), Qos::Guaranteed);
        assert_eq!(qos(&with(r#"{"requests":{"cpu":"1"}}"#)), Qos::Burstable);
        assert_eq!(qos(&with("{}")), Qos::BestEffort);
        assert_eq!(cgroup_parent(&with(guaranteed)), "/kubepods/podu");
    }

    #[test]
    fn amounts_become_the_kernels() {
        let p = with(r#"{"limits":{"cpu":"500m","memory":"64Mi"},"requests":{"cpu":"250m","memory":"1Gi"}}"#);
        let r = of_container(&p, &p.spec.containers[0], &node().allocatable);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.cpu_period), (256, 50_000, 100_000));
        assert_eq!((r.memory_limit_in_bytes, r.oom_score_adj), (64 << 20, 750));
        let none = with("{}");
        let r = of_container(&none, &none.spec.containers[0], &node().allocatable);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes, r.oom_score_adj), (2, 0, 0, 1000));
        assert_eq!(of_pod(&p).memory_limit_in_bytes, 64 << 20);
    }
}
