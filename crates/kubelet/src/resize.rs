//! Resources of running pods: what the node has granted, what containers have, and what is to change.
//!
//! ```text
//! wished (spec) ──fits?──> granted ──> containers, in place or by a restart ──> told (status.resources)
//!        └──not now──> PodResizePending     └──> PodResizeInProgress
//! ```
//! What was granted survives the daemon by the pod's status, which tells it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::container::{Container, ResourceRequirements};
use api::core::pod::status::{ContainerStatus, PodCondition};
use apimachinery::{Api, Map, Quantity, Value};

/// Conditions about resizes. They are there only while there is something to say.
pub const PENDING: &str = "PodResizePending";
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// Resources of a pod's containers by name, and of the pod as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Granted {
    containers: BTreeMap<String, ResourceRequirements>,
    whole: Option<ResourceRequirements>,
}

impl Granted {
    /// What a pod wishes.
    pub fn wished(pod: &Pod) -> Granted {
        let all = pod.spec.init_containers.iter().chain(&pod.spec.containers);
        Granted {
            containers: all.map(|c| (c.name.clone(), c.resources.clone())).collect(),
            whole: pod.spec.resources.clone(),
        }
    }

    /// What a pod had been granted as its status tells; what that does not tell is what the pod wishes.
    pub fn told(pod: &Pod) -> Granted {
        let mut granted = Granted::wished(pod);
        let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        for status in statuses.filter(|s| s.state.running.is_some()) {
            if let (Some(resources), Some(known)) = (&status.resources, granted.containers.get_mut(&status.name)) {
                known.requests.clone_from(&status.allocated_resources);
                known.limits.clone_from(&resources.limits);
            }
        }
        granted
    }

    /// The pod as if it wished what it was granted.
    pub fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if *self == Granted::wished(pod) {
            return pod.clone();
        }
        let mut pod = (**pod).clone();
        for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
            if let Some(granted) = self.containers.get(&container.name) {
                container.resources.clone_from(granted);
            }
        }
        pod.spec.resources.clone_from(&self.whole);
        Arc::new(pod)
    }
}

/// What running containers were last given, by their identities.
pub type Given = HashMap<String, ResourceRequirements>;

/// What containers were given before the daemon was started anew, as the pod's status tells.
pub fn given(pod: &Pod) -> Given {
    let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let of = |status: &ContainerStatus| {
        let id = status.container_id.strip_prefix(crate::status::SCHEME)?.to_owned();
        Some((id, status.resources.clone()?))
    };
    statuses.filter(|s| s.state.running.is_some()).filter_map(of).collect()
}

/// What a container needs to have what it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Its control group is changed while it runs.
    InPlace,
    /// It is to be started anew.
    Restart,
}

/// What has to change of a running container, by what it was given. Whose resources nobody knows is given them again.
pub fn change(container: &Container, given: Option<&ResourceRequirements>) -> Change {
    let Some(given) = given else { return Change::InPlace };
    let amount = |amounts: &BTreeMap<String, Quantity>, resource: &str| amounts.get(resource).copied();
    let granted = &container.resources;
    let mut needed = Change::Nothing;
    for resource in ["cpu", "memory"] {
        let same = amount(&granted.requests, resource) == amount(&given.requests, resource)
            && amount(&granted.limits, resource) == amount(&given.limits, resource);
        if same {
            continue;
        }
        let policy = container.resize_policy.iter().find(|policy| policy.resource_name == resource);
        if policy.is_some_and(|policy| policy.restart_policy == "RestartContainer") {
            return Change::Restart;
        }
        needed = Change::InPlace;
    }
    needed
}

/// Why a resize waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `Infeasible` where the node will never have so much, `Deferred` where others have it now.
    pub reason: &'static str,
    pub message: String,
}

/// What there is to say about a pod's resizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Why the newest wish is not granted, and which generation of the pod has it.
    pub pending: Option<(Refusal, i64)>,
    /// What was granted and is not done yet: the generation, and what stands in its way.
    pub running: Option<(i64, Option<String>)>,
}

impl Progress {
    /// The conditions that say so; `now` in seconds since 1970.
    pub fn conditions(&self, old: &[PodCondition], now: i64) -> Vec<PodCondition> {
        let condition = |type_: &str, reason: &str, message: &str, generation: i64| {
            let before = old.iter().find(|c| c.type_ == type_).map(|c| c.last_transition_time);
            PodCondition {
                type_: type_.into(),
                status: "True".into(),
                reason: reason.into(),
                message: message.into(),
                observed_generation: generation,
                last_transition_time: before.unwrap_or(apimachinery::Time(now)),
                ..PodCondition::default()
            }
        };
        let pending =
            self.pending.iter().map(|(why, generation)| condition(PENDING, why.reason, &why.message, *generation));
        let running = self.running.iter().map(|(generation, error)| match error {
            Some(error) => condition(IN_PROGRESS, "Error", error, *generation),
            None => condition(IN_PROGRESS, "", "", *generation),
        });
        pending.chain(running).collect()
    }
}

/// The resources of a pod as events about resizes tell them.
pub fn summary(pod: &Pod, error: &str) -> String {
    let list = |containers: &[Container]| -> Vec<Value> {
        let one = |container: &Container| {
            let mut map = Map::new();
            map.insert("name", container.name.as_str());
            map.insert("resources", container.resources.to_value());
            Value::Map(map)
        };
        containers.iter().map(one).collect()
    };
    let mut all = Map::new();
    if !pod.spec.init_containers.is_empty() {
        all.insert("initContainers", list(&pod.spec.init_containers));
    }
    all.insert("containers", list(&pod.spec.containers));
    all.insert("generation", pod.metadata.generation);
    if !error.is_empty() {
        all.insert("error", error);
    }
    String::from_utf8_lossy(&apimachinery::codec::json::encode_free(&Value::Map(all))).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::pod;

    const POD: &str = r#"{"metadata":{"generation":2},"spec":{"containers":[{"name":"a","resizePolicy":
        [{"resourceName":"memory","restartPolicy":"RestartContainer"}],"resources":{"requests":{"cpu":"2","memory":"1Gi"},
        "limits":{"cpu":"3"}}}]},"status":{"containerStatuses":[{"name":"a","containerID":"skiff://x","state":{"running":{}},
        "allocatedResources":{"cpu":"1","memory":"1Gi"},"resources":{"requests":{"cpu":"500m","memory":"1Gi"},
        "limits":{"cpu":"4"}}}]}}"#;

    #[test]
    fn what_was_granted_is_read_from_the_status() {
        let p = Arc::new(pod(POD));
        let told = Granted::told(&p);
        assert_ne!(told, Granted::wished(&p));
        let applied = told.apply(&p);
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!(applied.spec.containers[0].resources.requests["cpu"], quantity("1"));
        assert_eq!(applied.spec.containers[0].resources.limits["cpu"], quantity("4"));
        assert_eq!(given(&p)["x"].requests["cpu"], quantity("500m"));
        let fresh = Arc::new(pod(r#"{"spec":{"containers":[{"name":"a"}]}}"#));
        assert!(Arc::ptr_eq(&Granted::told(&fresh).apply(&fresh), &fresh));
    }

    #[test]
    fn policies_say_how_it_changes() {
        let container = pod(POD).spec.containers[0].clone();
        assert_eq!(change(&container, None), Change::InPlace);
        assert_eq!(change(&container, Some(&container.resources)), Change::Nothing);
        let other = |edit: fn(&mut ResourceRequirements)| {
            let mut given = container.resources.clone();
            edit(&mut given);
            change(&container, Some(&given))
        };
        assert_eq!(
            other(|r| {
                r.limits.remove("cpu");
            }),
            Change::InPlace
        );
        assert_eq!(
            other(|r| {
                r.requests.remove("memory");
            }),
            Change::Restart
        );
        // What means the same is the same.
        assert_eq!(
            other(|r| {
                r.requests.insert("memory".into(), Quantity::parse("1024Mi").unwrap());
            }),
            Change::Nothing
        );
    }

    #[test]
    fn conditions_tell_what_is_open() {
        let mut progress = Progress::default();
        assert!(progress.conditions(&[], 5).is_empty());
        let why = Refusal { reason: "Deferred", message: "later".into() };
        progress.pending = Some((why, 3));
        progress.running = Some((2, Some("no".into())));
        let told = progress.conditions(&[], 5);
        let text: Vec<String> =
            told.iter().map(|c| format!("{} {} {} {}", c.type_, c.reason, c.message, c.observed_generation)).collect();
        assert_eq!(text, ["PodResizePending Deferred later 3", "PodResizeInProgress Error no 2"]);
        assert_eq!(progress.conditions(&told, 9)[0].last_transition_time, apimachinery::Time(5));
        let p = pod(r#"{"metadata":{"generation":2},"spec":{"containers":[{"name":"a"}]}}"#);
        assert!(summary(&p, "").ends_with(r#""generation":2}"#), "{}", summary(&p, ""));
    }
}
