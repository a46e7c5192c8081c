//! The control groups of pods: made with their limits before the first container, removed after the last.
//!
//! ```text
//! /kubepods ─┬─ pod<uid>                Guaranteed
//!            ├─ burstable/pod<uid>      weighs what its pods ask for together
//!            └─ besteffort/pod<uid>     weighs next to nothing
//! ```
//! The runtime puts containers into them. What a pod may use as a whole, and its weight against other pods, is theirs.

use std::sync::Arc;

use api::core::pod::Pod;
use cri::v1::LinuxContainerResources;
use linux::cgroup::{Cgroup, Layout, Limits};
use parking_lot::Mutex;

use crate::spec::resources::{self, Qos};

const BURSTABLE: &str = "/kubepods/burstable";
const BEST_EFFORT: &str = "/kubepods/besteffort";
/// The least weight there is.
const LEAST: u64 = 2;

/// Makes, limits and removes groups; without control groups on the host it does nothing.
#[derive(Clone)]
pub struct PodGroups {
    layout: Option<Layout>,
    /// The weight that the group of burstable pods has.
    burstable: Arc<Mutex<u64>>,
}

/// Limits as the kernel takes them. Zero is no limit, which has to be said of a group that had one.
fn limits(resources: &LinuxContainerResources) -> Limits {
    let unlimited = |amount: i64| Some(if amount == 0 { -1 } else { amount });
    Limits {
        cpu_shares: u64::try_from(resources.cpu_shares).ok(),
        cpu_period: u64::try_from(resources.cpu_period).ok(),
        cpu_quota: unlimited(resources.cpu_quota),
        memory: unlimited(resources.memory_limit_in_bytes),
        memory_and_swap: unlimited(resources.memory_limit_in_bytes),
        ..Limits::default()
    }
}

/// The larger of two limits each: what holds while containers change one after the other.
pub fn wider(a: &LinuxContainerResources, b: &LinuxContainerResources) -> LinuxContainerResources {
    let limit = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
    LinuxContainerResources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota: limit(a.cpu_quota, b.cpu_quota),
        memory_limit_in_bytes: limit(a.memory_limit_in_bytes, b.memory_limit_in_bytes),
        ..a.clone()
    }
}

impl PodGroups {
    pub fn new() -> PodGroups {
        let layout =
            Layout::detect().inspect_err(|error| tracing::warn!(%error, "pods have no limits as a whole")).ok();
        PodGroups { layout, burstable: Arc::default() }
    }

    fn group(&self, path: &str) -> Result<Option<Cgroup>, linux::Error> {
        self.layout.clone().map(|layout| Cgroup::new(layout, path)).transpose()
    }

    /// Makes a pod's group and gives it these limits.
    pub async fn set(&self, pod: &Pod, resources: LinuxContainerResources) -> Result<(), String> {
        let Some(group) = self.group(&resources::cgroup_parent(pod)).map_err(|e| e.to_string())? else { return Ok(()) };
        let best_effort = self.group(BEST_EFFORT).map_err(|e| e.to_string())?;
        let set = move || {
            group.create()?;
            if let Some(class) = best_effort.filter(|class| group.path().starts_with(&format!("{}/", class.path()))) {
                class.limit(&Limits { cpu_shares: Some(LEAST), ..Limits::default() })?;
            }
            group.limit(&limits(&resources))
        };
        let done = tokio::task::spawn_blocking(set).await.map_err(|e| e.to_string())?;
        done.map_err(|e: linux::Error| e.to_string())
    }

    /// Gives the burstable pods together the weight of what they ask for.
    pub fn weigh(&self, pods: &[Arc<Pod>]) {
        let burstable = pods.iter().filter(|pod| resources::qos(pod) == Qos::Burstable);
        let all: u64 = burstable.map(|pod| u64::try_from(resources::of_pod(pod).cpu_shares).unwrap_or_default()).sum();
        let weight = all.max(LEAST);
        let mut known = self.burstable.lock();
        if *known == weight {
            return;
        }
        let Ok(Some(group)) = self.group(BURSTABLE) else { return };
        let set = group.create().and_then(|()| group.limit(&Limits { cpu_shares: Some(weight), ..Limits::default() }));
        match set {
            Ok(()) => *known = weight,
            Err(error) => tracing::warn!(%error, "the weight of burstable pods could not be set"),
        }
    }

    /// Removes a pod's group. The sort of a pod that is only known by its uid is not known either, so all are looked at.
    pub async fn remove(&self, uid: &str) -> Result<(), String> {
        let places = ["/kubepods", BURSTABLE, BEST_EFFORT].map(|class| self.group(&format!("{class}/pod{uid}")));
        let remove = move || -> Result<(), linux::Error> {
            for group in places {
                match group? {
                    Some(group) if group.exists() => group.remove()?,
                    _ => {}
                }
            }
            Ok(())
        };
        let done = tokio::task::spawn_blocking(remove).await.map_err(|e| e.to_string())?;
        done.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_said() {
        let pod = LinuxContainerResources { cpu_shares: 2, cpu_period: 100_000, cpu_quota: 5000, ..Default::default() };
        let told = limits(&pod);
        assert_eq!((told.cpu_shares, told.cpu_quota, told.memory), (Some(2), Some(5000), Some(-1)));
        let other = LinuxContainerResources { cpu_quota: 9000, memory_limit_in_bytes: 1, ..pod.clone() };
        let both = wider(&pod, &other);
        assert_eq!((both.cpu_quota, both.memory_limit_in_bytes), (9000, 0), "no limit is more than any");
    }
}
