//! Requests and limits as the kernel knows them.

use std::collections::BTreeMap;

use api::core::pod::Pod;
use api::core::pod::container::{Container, ResourceRequirements};
use apimachinery::Quantity;
use cri::v1::{HugepageLimit, LinuxContainerResources};

use crate::restart::is_sidecar;

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
    let set =
        |amounts: &BTreeMap<String, Quantity>, name: &str| amounts.get(name).copied().filter(|q| !q.is_zero_amount());
    let any = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().any(|n| set(&r.requests, n).or(set(&r.limits, n)).is_some())
    };
    let full = |r: &ResourceRequirements| {
        ["cpu", "memory"].iter().all(|n| {
            let limit = set(&r.limits, n);
            limit.is_some() && set(&r.requests, n).is_none_or(|request| Some(request) == limit)
        })
    };
    // What the pod says of itself as a whole decides alone.
    let asked: Vec<&ResourceRequirements> = match whole(pod) {
        Some(whole) => vec![whole],
        None => pod.spec.containers.iter().chain(&pod.spec.init_containers).map(|c| &c.resources).collect(),
    };
    match () {
        () if !asked.iter().any(|r| any(r)) => Qos::BestEffort,
        () if asked.iter().all(|r| full(r)) => Qos::Guaranteed,
        () => Qos::Burstable,
    }
}

/// What a pod asks for as a whole, beside or instead of what its containers ask for.
fn whole(pod: &Pod) -> Option<&ResourceRequirements> {
    let supported = |name: &String| name == "cpu" || name == "memory" || name.starts_with("hugepages-");
    pod.spec.resources.as_ref().filter(|r| r.requests.keys().chain(r.limits.keys()).any(supported))
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

/// The control groups that a pod may have, whichever class it is of.
pub fn cgroups_of(uid: &str) -> [String; 3] {
    ["", "/burstable", "/besteffort"].map(|class| format!("/kubepods{class}/pod{uid}"))
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
    // Without a limit of its own a container may use all that its pod may.
    let limit_of = |name: &str| {
        let own = amount(limits, name).filter(|q| !q.is_zero_amount());
        own.or_else(|| amount(&whole(pod)?.limits, name))
    };
    // A limit without a request is the request.
    let cpu = amount(requests, "cpu").or(limit_of("cpu"));
    let limit = limit_of("cpu").map_or(0, |q| q.milli_value());
    LinuxContainerResources {
        cpu_shares: cpu.map_or(MIN_SHARES, |q| shares(q.milli_value())),
        cpu_period: PERIOD,
        cpu_quota: quota(limit),
        memory_limit_in_bytes: limit_of("memory").map_or(0, |q| q.value()),
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

/// What a pod's containers need together at the worst: all main ones and sidecars, or an init container and the
/// sidecars that were started before it.
fn together(pod: &Pod, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut peak) = (0i64, 0i64);
    for container in &pod.spec.init_containers {
        peak = peak.max(sidecars.saturating_add(of(container)));
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(of(container));
        }
    }
    pod.spec.containers.iter().map(of).fold(sidecars, i64::saturating_add).max(peak)
}

/// What all containers of a pod get together.
pub fn of_pod(pod: &Pod) -> LinuxContainerResources {
    type Measure = fn(Quantity) -> i64;
    let overhead = |name: &str, measure: Measure| amount(&pod.spec.overhead, name).map_or(0, measure);
    let request = |name: &str, measure: Measure| {
        let wanted = whole(pod).and_then(|w| amount(&w.requests, name).or(amount(&w.limits, name))).map(measure);
        let wanted = wanted.unwrap_or_else(|| {
            together(pod, |c| {
                amount(&c.resources.requests, name).or(amount(&c.resources.limits, name)).map_or(0, measure)
            })
        });
        wanted.saturating_add(overhead(name, measure))
    };
    // One container without a limit is a pod without a limit, unless the pod has one as a whole.
    let limit = |name: &str, measure: Measure| {
        let declared = |amounts: &BTreeMap<String, Quantity>| amount(amounts, name).filter(|q| !q.is_zero_amount());
        let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        let limit = match whole(pod).and_then(|w| declared(&w.limits)) {
            Some(limit) => measure(limit),
            None if all.all(|c| declared(&c.resources.limits).is_some()) => {
                together(pod, |c| declared(&c.resources.limits).map_or(0, measure))
            }
            None => return 0,
        };
        limit.saturating_add(overhead(name, measure))
    };
    let (milli, bytes): (Measure, Measure) = (|q| q.milli_value(), |q| q.value());
    let best_effort = qos(pod) == Qos::BestEffort;
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_shares: if best_effort { MIN_SHARES } else { shares(request("cpu", milli)) },
        cpu_quota: if best_effort { 0 } else { quota(limit("cpu", milli)) },
        memory_limit_in_bytes: if best_effort { 0 } else { limit("memory", bytes) },
        ..Default::default()
    }
}

/// Who is killed first when memory runs out: by class, then by how little was asked for (upstream's scale).
pub fn oom_score_adj(pod: &Pod, container: &Container, allocatable: &BTreeMap<String, Quantity>) -> i64 {
    // Pods that the node cannot do without; those that the cluster cannot do without are as others here.
    if pod.spec.priority_class_name == "system-node-critical" {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => return -997,
        Qos::BestEffort => return 1000,
        Qos::Burstable => {}
    }
    let capacity = allocatable.get("memory").map_or(0, |q| q.value()).max(1);
    let request = |c: &Container| amount(&c.resources.requests, "memory").map_or(0, |q| q.value());
    let mut wanted = request(container);
    // A sidecar is not killed before those that it serves.
    if is_sidecar(container) {
        wanted = wanted.max(pod.spec.containers.iter().map(request).min().unwrap_or_default());
    }
    // What the pod asks for as a whole and no container does is shared by all.
    if let Some(all) = whole(pod).and_then(|w| amount(&w.requests, "memory")) {
        let sidecars = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
        let sharers = pod.spec.containers.iter().chain(sidecars).count().max(1) as i64;
        wanted = wanted.saturating_add(all.value().saturating_sub(together(pod, request)).max(0) / sharers);
    }
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
        assert!(cgroups_of("u").contains(&cgroup_parent(&with(guaranteed))));
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
    fn limits_of(spec: &str) -> (i64, i64, i64) {
        let all = of_pod(&pod(&format!(r#"{{"metadata":{{"uid":"u"}},"spec":{spec}}}"#)));
        (all.cpu_shares, all.cpu_quota, all.memory_limit_in_bytes >> 20)
    }

    #[test]
    fn a_pod_has_what_its_containers_need_at_the_worst() {
        let r = |cpu: &str, memory: &str| format!(r#""resources":{{"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}"#);
        let main = format!(r#""containers":[{{"name":"a",{}}},{{"name":"b",{}}}]"#, r("1", "64Mi"), r("1", "64Mi"));
        assert_eq!(limits_of(&format!("{{{main}}}")), (2048, 200_000, 128));
        let hungry = format!(r#"{{"initContainers":[{{"name":"i",{}}}],{main}}}"#, r("500m", "1Gi"));
        assert_eq!(limits_of(&hungry), (2048, 200_000, 1024), "an init container may need more");
        let unbound = format!(r#"{{"initContainers":[{{"name":"i"}}],{main}}}"#);
        assert_eq!(limits_of(&unbound), (2048, 0, 0), "an init container without limits has none");
        let sidecar = format!(
            r#"{{"initContainers":[{{"name":"s","restartPolicy":"Always",{}}},{{"name":"i",{}}}],{main}}}"#,
            r("1", "32Mi"),
            r("1", "100Mi")
        );
        assert_eq!(limits_of(&sidecar), (3072, 300_000, 160));
        let overhead = format!(r#"{{"overhead":{{"cpu":"1","memory":"1Mi"}},{main}}}"#);
        assert_eq!(limits_of(&overhead), (3072, 300_000, 129));
        let whole = r#"{"resources":{"requests":{"cpu":"1"},"limits":{"memory":"1Gi"}},"containers":[{"name":"a"}]}"#;
        assert_eq!(limits_of(whole), (1024, 0, 1024));
        assert_eq!(limits_of(r#"{"containers":[{"name":"a"}]}"#), (2, 0, 0));
    }

    #[test]
    fn a_pod_as_a_whole() {
        let p =
            pod(r#"{"spec":{"resources":{"requests":{"cpu":"1","memory":"2Gi"},"limits":{"cpu":"1","memory":"2Gi"}},
            "containers":[{"name":"a"}]}}"#);
        assert_eq!(qos(&p), Qos::Guaranteed);
        let r = of_container(&p, &p.spec.containers[0], &node().allocatable);
        assert_eq!((r.cpu_quota, r.memory_limit_in_bytes, r.oom_score_adj), (100_000, 2 << 30, -997));
        // Two of four gibibytes, shared by two containers.
        let p = pod(r#"{"spec":{"resources":{"requests":{"memory":"2Gi"}},"containers":[{"name":"a"},{"name":"b"}]}}"#);
        assert_eq!(oom_score_adj(&p, &p.spec.containers[0], &node().allocatable), 750);
    }

    #[test]
    fn who_is_killed_first() {
        let score = |spec: &str, init: bool| {
            let p = pod(&format!(r#"{{"spec":{spec}}}"#));
            let container = if init { &p.spec.init_containers[0] } else { &p.spec.containers[0] };
            oom_score_adj(&p, container, &node().allocatable)
        };
        let burstable = r#""containers":[{"name":"a","resources":{"requests":{"memory":"1Gi"}}}]"#;
        assert_eq!(score(&format!("{{{burstable}}}"), false), 750);
        let node_critical = r#""priorityClassName":"system-node-critical","priority":2000001000"#;
        assert_eq!(score(&format!("{{{node_critical},{burstable}}}"), false), -997);
        let cluster_critical = r#""priorityClassName":"system-cluster-critical","priority":2000000000"#;
        assert_eq!(score(&format!("{{{cluster_critical},{burstable}}}"), false), 750);
        let sidecar = format!(r#"{{"initContainers":[{{"name":"s","restartPolicy":"Always"}}],{burstable}}}"#);
        assert_eq!(score(&sidecar, true), 750, "a sidecar lives as long as whom it serves");
        let init = format!(r#"{{"initContainers":[{{"name":"i"}}],{burstable}}}"#);
        assert_eq!(score(&init, true), 999);
    }
}
