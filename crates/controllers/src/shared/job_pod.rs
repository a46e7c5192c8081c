//! What the job controller looks at in a pod.

use apimachinery::time::parse_rfc3339;
use apimachinery::{SmolStr, Value};

use super::{Owner, list, text};

/// Pods with this finalizer are not counted in their job's status yet.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The annotation and label with a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this pod.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often it failed in ways that do not count.
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The part of a pod that says how it ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPod {
    /// It carries [`FINALIZER`].
    pub tracked: bool,
    pub index: Option<u32>,
    pub failures: i32,
    pub ignored_failures: i32,
    /// The sum over all containers, those of the start included.
    pub restarts: i64,
    /// Unix seconds; an estimate if the containers do not tell.
    pub finished: i64,
    /// Containers that ended with another code than 0, those of the start last.
    pub exits: Vec<(SmolStr, i32)>,
    /// Type and status.
    pub conditions: Vec<(SmolStr, SmolStr)>,
}

impl JobPod {
    /// Reads a pod that a Job controls, that may come to be controlled, or that is still tracked.
    pub(super) fn read(tree: &Value) -> Option<Box<JobPod>> {
        let tracked = list(tree, &["metadata", "finalizers"]).iter().any(|f| f.as_str() == Some(FINALIZER));
        if Owner::controller_of(tree).is_some_and(|owner| owner.kind != "Job") && !tracked {
            return None;
        }
        let annotation = |name: &str| tree.str_at(&["metadata", "annotations", name]);
        let count = |name| annotation(name).and_then(|n| n.parse().ok()).filter(|n: &i32| *n >= 0).unwrap_or(0);
        let statuses = || {
            list(tree, &["status", "containerStatuses"]).iter().chain(list(tree, &["status", "initContainerStatuses"]))
        };
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        Some(Box::new(JobPod {
            tracked,
            index: annotation(INDEX).and_then(|n| n.parse().ok()),
            failures: count(FAILURES),
            ignored_failures: count(IGNORED_FAILURES),
            restarts: statuses().map(|s| number(s.get("restartCount"))).sum(),
            finished: finished(tree),
            exits: statuses()
                .map(|s| (text(s, &["name"]), number(s.at(&["state", "terminated", "exitCode"])) as i32))
                .filter(|(_, code)| *code != 0)
                .collect(),
            conditions: list(tree, &["status", "conditions"])
                .iter()
                .map(|c| (text(c, &["type"]), text(c, &["status"])))
                .collect(),
        }))
    }
}

/// When a pod ended: as its containers tell, else when it became unready, else when it was told to go.
fn finished(tree: &Value) -> i64 {
    let seconds = |text: Option<&str>| text.and_then(parse_rfc3339).map(|(seconds, _)| seconds);
    let containers = list(tree, &["status", "containerStatuses"]);
    let ends: Option<Vec<i64>> =
        containers.iter().map(|s| seconds(s.str_at(&["state", "terminated", "finishedAt"]))).collect();
    let unready = || {
        let conditions = list(tree, &["status", "conditions"]).iter();
        let mut ready =
            conditions.filter(|c| c.str_at(&["type"]) == Some("Ready") && c.str_at(&["status"]) == Some("False"));
        seconds(ready.next()?.str_at(&["lastTransitionTime"]))
    };
    let told = || {
        let grace = tree.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
        Some(seconds(tree.str_at(&["metadata", "deletionTimestamp"]))? - grace)
    };
    ends.and_then(|ends| ends.into_iter().max())
        .or_else(unready)
        .or_else(told)
        .or_else(|| seconds(tree.str_at(&["metadata", "creationTimestamp"])))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pod_is_read() {
        let json = r#"{"metadata":{"finalizers":["batch.kubernetes.io/job-tracking"],
            "creationTimestamp":"1970-01-01T00:00:01Z","deletionTimestamp":"1970-01-01T00:01:00Z",
            "deletionGracePeriodSeconds":30,"annotations":{"batch.kubernetes.io/job-completion-index":"3",
            "batch.kubernetes.io/job-index-failure-count":"-1"}},"status":{"containerStatuses":[
            {"name":"a","restartCount":2,"state":{"terminated":{"exitCode":7FINISHED}}}],
            "initContainerStatuses":[{"name":"i","restartCount":1,"state":{"running":{}}}]}}"#;
        let read = |finished: &str| {
            let json = json.replace("FINISHED", finished);
            JobPod::read(&apimachinery::codec::json::parse(json.as_bytes()).unwrap()).unwrap()
        };
        let pod = read(r#","finishedAt":"1970-01-01T00:00:50Z""#);
        assert_eq!((pod.tracked, pod.index, pod.failures, pod.restarts, pod.finished), (true, Some(3), 0, 3, 50));
        assert_eq!(pod.exits, [("a".into(), 7)]);
        assert_eq!(read("").finished, 30);
    }
}
