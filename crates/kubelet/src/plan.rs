//! What is to be done for a pod, as a pure function of what is wanted and what is there.

use std::collections::HashMap;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use smol_str::SmolStr;

use crate::observed::{Observed, Seen, State};
use crate::probes::ProbeState;
use crate::resize::Change;
use crate::restart::{self, Backoff};

/// What to do next, in this order: kill, make the sandbox, resize, start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// All is over (or was never to be): stop whatever runs, and the sandbox.
    pub end: bool,
    /// Running containers to stop.
    pub kill: Vec<Kill>,
    /// Running containers whose resources are to change: identity and name.
    pub resize: Vec<(String, SmolStr)>,
    /// The sandbox is to be made, as this attempt; what is left of older ones goes first.
    pub sandbox: Option<u32>,
    /// Containers to start, in this order.
    pub start: Vec<Start>,
    /// Containers that wait to be started again: name and how long, in nanoseconds.
    pub backing_off: Vec<(SmolStr, i64)>,
}

/// A running container to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: SmolStr,
    /// For the event.
    pub message: String,
    /// The probe's own grace period, in seconds, where it has one.
    pub grace: Option<i64>,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub name: SmolStr,
    /// How often it was started before.
    pub attempt: u32,
    /// It is started again after an end, so its delay grows.
    pub again: bool,
}

/// What decides beside the pod and the runtime.
pub struct Inputs<'a> {
    pub probe: &'a dyn Fn(&str) -> ProbeState,
    pub backoff: &'a HashMap<SmolStr, Backoff>,
    /// What a container's definition is now, to compare with [`Seen::hash`].
    pub hash: &'a dyn Fn(&Container) -> String,
    /// What a running container needs to have the resources that it was granted.
    pub change: &'a dyn Fn(&Container, &Seen) -> Change,
    /// Nanoseconds since 1970.
    pub now: i64,
}

/// Plans for a pod that is to run.
pub fn plan(pod: &Pod, seen: &Observed, inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(sandbox) = seen.sandbox().filter(|s| s.ready) else {
        without_sandbox(pod, seen, inputs, &mut plan);
        return plan;
    };
    for ephemeral in &pod.spec.ephemeral_containers {
        let name = &ephemeral.ephemeral_container_common.name;
        // Once made they are never started again.
        if seen.latest(name).is_none() {
            plan.start.push(Start { name: name.as_str().into(), attempt: 0, again: false });
        }
    }
    let here = |name: &str| seen.latest(name).filter(|c| c.sandbox == sandbox.id);
    let initialized_before = pod.spec.containers.iter().any(|c| here(&c.name).is_some());
    if !init(pod, seen, inputs, &here, initialized_before, &mut plan) || plan.end {
        return plan;
    }
    let sidecars = std::mem::take(&mut plan.start);
    let (mut kept, mut wanted) = (0, 0);
    for container in &pod.spec.containers {
        let latest = seen.latest(&container.name);
        match latest {
            Some(latest) if latest.state == State::Running => {
                if let Some((message, again, grace)) = ill(pod, container, latest, inputs) {
                    let message = if again { format!("{message}, will be restarted") } else { message };
                    wanted += usize::from(again);
                    plan.kill.push(Kill { id: latest.id.clone(), name: latest.name.clone(), message, grace });
                } else {
                    kept += 1;
                    resize(container, latest, inputs, &mut plan);
                }
            }
            latest if restart::wanted(pod, container, latest) => {
                wanted += 1;
                start(container, latest, inputs, &mut plan);
            }
            _ => {}
        }
    }
    if kept == 0 && wanted == 0 {
        // Sidecars must not keep a pod alive.
        return Plan { end: true, ..Plan::default() };
    }
    plan.start.splice(0..0, sidecars);
    plan
}

/// There is no sandbox, or it is dead: everything begins anew, unless all is done.
fn without_sandbox(pod: &Pod, seen: &Observed, inputs: &Inputs<'_>, plan: &mut Plan) {
    let attempt = seen.sandbox().map_or(0, |s| s.attempt + 1);
    let done = |c: &Container| match seen.latest(&c.name) {
        Some(latest) if latest.state == State::Exited => !restart::after_exit(pod, c, latest.exit_code),
        // A container that was running when its sandbox went has ended somehow.
        Some(_) => !restart::after_exit(pod, c, 137),
        None => false,
    };
    let begun = attempt != 0 && pod.spec.containers.iter().any(|c| seen.latest(&c.name).is_some());
    let init_failed = attempt != 0
        && pod.spec.init_containers.iter().filter(|c| !restart::is_sidecar(c)).any(|c| {
            seen.latest(&c.name).is_some_and(|l| {
                l.state == State::Exited && l.exit_code != 0 && !restart::after_exit(pod, c, l.exit_code)
            })
        });
    if init_failed || (begun && pod.spec.containers.iter().all(done)) {
        plan.end = true;
        return;
    }
    for running in seen.running() {
        plan.kill.push(Kill {
            id: running.id.clone(),
            name: running.name.clone(),
            message: format!("Stopping container {}", running.name),
            grace: None,
        });
    }
    plan.sandbox = Some(attempt);
    match pod.spec.init_containers.first() {
        Some(first) => start(first, seen.latest(&first.name), inputs, plan),
        None => {
            for container in pod.spec.containers.iter().filter(|c| !done(c)) {
                start(container, seen.latest(&container.name), inputs, plan);
            }
        }
    }
}

/// Plans the init containers; answers whether the others may run.
fn init<'a>(
    pod: &Pod,
    seen: &Observed,
    inputs: &Inputs<'_>,
    here: &dyn Fn(&str) -> Option<&'a Seen>,
    initialized_before: bool,
    plan: &mut Plan,
) -> bool {
    for container in &pod.spec.init_containers {
        let latest = here(&container.name);
        if restart::is_sidecar(container) {
            match latest {
                Some(latest) if latest.state == State::Running => {
                    if let Some((message, _, grace)) = ill(pod, container, latest, inputs) {
                        let message = format!("{message}, will be restarted");
                        plan.kill.push(Kill { id: latest.id.clone(), name: latest.name.clone(), message, grace });
                    } else {
                        resize(container, latest, inputs, plan);
                        if !(inputs.probe)(&latest.id).started && !initialized_before {
                            return false;
                        }
                    }
                }
                _ => {
                    start(container, seen.latest(&container.name), inputs, plan);
                    if !initialized_before {
                        return false;
                    }
                }
            }
            continue;
        }
        if initialized_before {
            continue;
        }
        match latest {
            Some(latest) if latest.state == State::Running => {
                resize(container, latest, inputs, plan);
                return false;
            }
            Some(latest) if latest.state == State::Exited => {
                if latest.exit_code == 0 {
                    continue;
                }
                if restart::after_exit(pod, container, latest.exit_code) {
                    start(container, Some(latest), inputs, plan);
                } else {
                    *plan = Plan { end: true, ..Plan::default() };
                }
                return false;
            }
            _ => {
                start(container, seen.latest(&container.name), inputs, plan);
                return false;
            }
        }
    }
    true
}

/// Why a running container has to go, whether it starts again, and its grace period.
fn ill(pod: &Pod, container: &Container, running: &Seen, inputs: &Inputs<'_>) -> Option<(String, bool, Option<i64>)> {
    if !running.hash.is_empty() && running.hash != (inputs.hash)(container) {
        return Some((format!("Container {} definition changed", container.name), true, None));
    }
    let Some(failed) = (inputs.probe)(&running.id).failed else {
        let restart = (inputs.change)(container, running) == Change::Restart;
        return restart.then(|| (format!("Container {} resize requires restart", container.name), true, None));
    };
    let policy = container.restart_policy.as_deref().unwrap_or(&pod.spec.restart_policy);
    Some((failed.message, policy != "Never", failed.grace_period_seconds))
}

/// Changes the resources of a running container where they are not what it was granted.
fn resize(container: &Container, running: &Seen, inputs: &Inputs<'_>, plan: &mut Plan) {
    if (inputs.change)(container, running) == Change::InPlace {
        plan.resize.push((running.id.clone(), running.name.clone()));
    }
}

/// Starts a container, or lets it wait.
fn start(container: &Container, latest: Option<&Seen>, inputs: &Inputs<'_>, plan: &mut Plan) {
    let ended = latest.filter(|l| l.state == State::Exited);
    if let (Some(ended), Some(backoff)) = (ended, inputs.backoff.get(container.name.as_str())) {
        let wait = backoff.wait(ended.finished_at, inputs.now);
        if wait > 0 {
            plan.backing_off.push((container.name.as_str().into(), wait));
            return;
        }
    }
    plan.start.push(Start {
        name: container.name.as_str().into(),
        attempt: latest.map_or(0, |l| l.attempt + 1),
        again: ended.is_some(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Sandbox;

    fn pod(text: &str) -> Pod {
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        apimachinery::Api::from_value(&tree).unwrap()
    }

    fn seen(name: &str, attempt: u32, state: State, exit_code: i32) -> Seen {
        Seen {
            id: format!("{name}-{attempt}"),
            name: name.into(),
            sandbox: "s".into(),
            attempt,
            state,
            image: String::new(),
            image_ref: String::new(),
            hash: String::new(),
            started_at: 1,
            finished_at: 2,
            exit_code,
            reason: String::new(),
            message: String::new(),
            user: None,
        }
    }

    fn observed(ready: bool, containers: Vec<Seen>) -> Observed {
        Observed { sandboxes: vec![Sandbox { id: "s".into(), ready, attempt: 0, ips: vec![] }], containers }
    }

    fn run(pod: &Pod, seen: &Observed) -> Plan {
        let probe = |_: &str| ProbeState { started: true, ready: true, failed: None };
        let inputs = Inputs {
            probe: &probe,
            backoff: &HashMap::new(),
            hash: &|_| String::new(),
            change: &|_, _| Change::Nothing,
            now: 100,
        };
        plan(pod, seen, &inputs)
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.start.iter().map(|s| format!("{}:{}", s.name, s.attempt)).collect()
    }

    const TWO: &str = r#"{"spec":{"restartPolicy":"Always","containers":[{"name":"a"},{"name":"b"}]}}"#;
    const INIT: &str = r#"{"spec":{"restartPolicy":"Never",
        "initContainers":[{"name":"i"},{"name":"side","restartPolicy":"Always"},{"name":"j"}],"containers":[{"name":"a"}]}}"#;

    #[test]
    fn a_new_pod_gets_a_sandbox_and_its_containers() {
        let plan = run(&pod(TWO), &Observed::default());
        assert_eq!((plan.sandbox, names(&plan)), (Some(0), vec!["a:0".into(), "b:0".into()]));
        let plan = run(&pod(INIT), &Observed::default());
        assert_eq!((plan.sandbox, names(&plan)), (Some(0), vec!["i:0".into()]));
    }

    #[test]
    fn init_containers_go_one_after_the_other() {
        let p = pod(INIT);
        let ok = |name: &str| seen(name, 0, State::Exited, 0);
        let up = |name: &str| seen(name, 0, State::Running, 0);
        assert_eq!(names(&run(&p, &observed(true, vec![ok("i")]))), ["side:0"]);
        assert_eq!(names(&run(&p, &observed(true, vec![ok("i"), up("side")]))), ["j:0"]);
        assert!(names(&run(&p, &observed(true, vec![ok("i"), up("side"), up("j")]))).is_empty());
        assert_eq!(names(&run(&p, &observed(true, vec![ok("i"), up("side"), ok("j")]))), ["a:0"]);
        // A sidecar that ends is started again; one cannot keep the pod alive.
        let side = seen("side", 0, State::Exited, 0);
        assert_eq!(names(&run(&p, &observed(true, vec![ok("i"), side, ok("j"), up("a")]))), ["side:1"]);
        assert!(run(&p, &observed(true, vec![ok("i"), up("side"), ok("j"), ok("a")])).end);
        assert!(run(&p, &observed(true, vec![seen("i", 0, State::Exited, 3)])).end);
    }

    #[test]
    fn ends_and_restarts() {
        let p = pod(TWO);
        let end = seen("a", 4, State::Exited, 1);
        let plan = run(&p, &observed(true, vec![end.clone(), seen("b", 0, State::Running, 0)]));
        assert_eq!(names(&plan), ["a:5"]);
        assert!(plan.start[0].again);
        let mut never = p.clone();
        never.spec.restart_policy = "Never".into();
        assert!(run(&never, &observed(true, vec![end.clone(), seen("b", 0, State::Exited, 0)])).end);
        // A dead sandbox: all begins anew, or ends.
        assert!(run(&never, &observed(false, vec![end.clone(), seen("b", 0, State::Exited, 0)])).end);
        let plan = run(&p, &observed(false, vec![end, seen("b", 0, State::Exited, 0)]));
        assert_eq!((plan.sandbox, names(&plan)), (Some(1), vec!["a:5".into(), "b:1".into()]));
    }

    #[test]
    fn a_failed_probe_kills() {
        let p = pod(TWO);
        let probe = |id: &str| ProbeState {
            started: true,
            ready: false,
            failed: (id == "a-0").then(|| crate::probes::Failure {
                message: "Container a failed liveness probe".into(),
                grace_period_seconds: Some(7),
            }),
        };
        let inputs = Inputs {
            probe: &probe,
            backoff: &HashMap::new(),
            hash: &|_| String::new(),
            change: &|_, _| Change::Nothing,
            now: 100,
        };
        let running = vec![seen("a", 0, State::Running, 0), seen("b", 0, State::Running, 0)];
        let plan = plan(&p, &observed(true, running), &inputs);
        assert_eq!(plan.kill.len(), 1);
        assert_eq!(plan.kill[0].message, "Container a failed liveness probe, will be restarted");
        assert_eq!(plan.kill[0].grace, Some(7));
        assert!(!plan.end);
    }

    #[test]
    fn resources_change_in_place_or_by_a_restart() {
        let probe = |_: &str| ProbeState { started: true, ready: true, failed: None };
        let change = |c: &Container, _: &Seen| if c.name == "a" { Change::InPlace } else { Change::Restart };
        let inputs =
            Inputs { probe: &probe, backoff: &HashMap::new(), hash: &|_| String::new(), change: &change, now: 100 };
        let running = vec![seen("a", 0, State::Running, 0), seen("b", 0, State::Running, 0)];
        let plan = plan(&pod(TWO), &observed(true, running), &inputs);
        assert_eq!(plan.resize, [("a-0".to_owned(), "a".into())]);
        assert_eq!(plan.kill.len(), 1);
        assert_eq!(plan.kill[0].message, "Container b resize requires restart, will be restarted");
    }

    #[test]
    fn a_container_that_crashes_waits() {
        let mut backoff = Backoff::default();
        backoff.grow(1_000_000_000);
        let all = HashMap::from([("a".into(), backoff)]);
        let probe = |_: &str| ProbeState { started: true, ready: true, failed: None };
        let mut end = seen("a", 1, State::Exited, 1);
        end.finished_at = 1_000_000_000;
        let inputs = Inputs {
            probe: &probe,
            backoff: &all,
            hash: &|_| String::new(),
            change: &|_, _| Change::Nothing,
            now: 3_000_000_000,
        };
        let plan = plan(&pod(TWO), &observed(true, vec![end, seen("b", 0, State::Running, 0)]), &inputs);
        assert!(plan.start.is_empty() && !plan.end);
        assert_eq!(plan.backing_off, [("a".into(), 8_000_000_000)]);
    }
}
