//! What is told of a pod, as a pure function of what is wanted and what is there.

use std::collections::HashMap;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::pod::status::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use apimachinery::Time;
use smol_str::SmolStr;

use crate::observed::{Observed, Seen, State};
use crate::probes::ProbeState;
use crate::resize::{self, Given, Progress};
use crate::restart;

/// Conditions that the node owns; all others are left as they are.
pub const OWNED: &[&str] = &[
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    resize::PENDING,
    resize::IN_PROGRESS,
];

/// What ended a pod other than its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// What decides beside the pod and the runtime.
pub struct Inputs<'a> {
    pub probe: &'a dyn Fn(&str) -> ProbeState,
    /// Why containers wait: reason and message.
    pub waiting: &'a HashMap<SmolStr, (String, String)>,
    pub verdict: Option<&'a Verdict>,
    /// Nothing will be started any more.
    pub ending: bool,
    pub node_ips: &'a [String],
    /// What running containers have; those that are not in it have what they were granted.
    pub given: &'a Given,
    pub resize: &'a Progress,
    /// Seconds since 1970.
    pub now: i64,
}

/// The status of a pod, whose spec has the resources that it was granted. `pod.status` is the one before.
pub fn status(pod: &Pod, seen: &Observed, inputs: &Inputs<'_>) -> PodStatus {
    let old = &pod.status;
    let mut status = old.clone();
    let group = |containers: &[Container], old: &[ContainerStatus], default: &str| -> Vec<ContainerStatus> {
        containers.iter().map(|c| container_status(c, old, seen, inputs, default)).collect()
    };
    let first_reason = if pod.spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    status.init_container_statuses = group(&pod.spec.init_containers, &old.init_container_statuses, "PodInitializing");
    status.container_statuses = group(&pod.spec.containers, &old.container_statuses, first_reason);
    let ephemeral: Vec<Container> = ephemeral_containers(pod);
    status.ephemeral_container_statuses = group(&ephemeral, &old.ephemeral_container_statuses, "ContainerCreating");

    // An init container that has ended well is ready.
    for (container, status) in pod.spec.init_containers.iter().zip(&mut status.init_container_statuses) {
        if !restart::is_sidecar(container) {
            status.ready = status.state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
            status.started = Some(status.state.running.is_some());
        }
    }

    status.phase = phase(pod, &status, inputs);
    if let Some(verdict) = inputs.verdict {
        (status.reason, status.message) = (verdict.reason.clone(), verdict.message.clone());
    }
    if status.start_time.is_none() {
        status.start_time = Some(Time(inputs.now));
    }
    status.observed_generation = pod.metadata.generation;
    addresses(pod, seen, inputs, &mut status);
    conditions(pod, seen, inputs, &mut status);
    status
}

/// Ephemeral containers in the form of the others, which have the same fields.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    use apimachinery::Api;
    let common = pod.spec.ephemeral_containers.iter().map(|e| &e.ephemeral_container_common);
    common.filter_map(|c| Container::from_value(&c.to_value()).ok()).collect()
}

fn time(nanos: i64) -> Time {
    Time(nanos.div_euclid(1_000_000_000))
}

fn terminated(seen: &Seen) -> ContainerStateTerminated {
    let reason = match (seen.reason.as_str(), seen.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    ContainerStateTerminated {
        exit_code: seen.exit_code,
        signal: 0,
        reason: reason.into(),
        message: seen.message.clone(),
        started_at: time(seen.started_at),
        finished_at: time(seen.finished_at),
        container_id: id(seen),
    }
}

/// The runtime's name goes before each identity.
pub const SCHEME: &str = "skiff://";

fn id(seen: &Seen) -> String {
    format!("{SCHEME}{}", seen.id)
}

fn container_status(
    container: &Container,
    old: &[ContainerStatus],
    seen: &Observed,
    inputs: &Inputs<'_>,
    default_reason: &str,
) -> ContainerStatus {
    let old = old.iter().find(|s| s.name == container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        started: Some(false),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    let running = seen.latest(&container.name).filter(|latest| latest.state == State::Running);
    let given = running.and_then(|running| inputs.given.get(&running.id));
    status.allocated_resources = container.resources.requests.clone();
    status.resources = Some(given.unwrap_or(&container.resources).clone());
    let waiting = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: reason.into(), message: message.into() }),
        ..ContainerState::default()
    };
    let why = inputs.waiting.get(container.name.as_str());
    let Some(latest) = seen.latest(&container.name) else {
        // What the runtime has forgotten stays as it was told.
        if let Some(old) = old {
            status.restart_count = old.restart_count;
            status.last_state = old.last_state.clone();
            if old.state.terminated.is_some() {
                return ContainerStatus { ready: false, started: Some(false), ..old.clone() };
            }
            if let Some(running) = &old.state.running {
                let lost = ContainerStateTerminated {
                    exit_code: 137,
                    reason: "ContainerStatusUnknown".into(),
                    message: "The container could not be located when the pod was terminated".into(),
                    started_at: running.started_at,
                    container_id: old.container_id.clone(),
                    ..ContainerStateTerminated::default()
                };
                status.container_id = old.container_id.clone();
                status.image_id = old.image_id.clone();
                if inputs.ending {
                    status.state = ContainerState { terminated: Some(lost), ..ContainerState::default() };
                    return status;
                }
                status.last_state = ContainerState { terminated: Some(lost), ..ContainerState::default() };
            }
        }
        status.state = match why {
            Some((reason, message)) => waiting(reason, message),
            None => waiting(default_reason, ""),
        };
        return status;
    };
    status.restart_count = i32::try_from(latest.attempt).unwrap_or(i32::MAX);
    status.image = if latest.image.is_empty() { container.image.clone() } else { latest.image.clone() };
    status.image_id = latest.image_ref.clone();
    status.container_id = id(latest);
    status.user = latest.user.as_ref().map(|user| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: user.supplemental_groups.clone(),
        }),
    });
    if let Some(previous) = seen.previous(&container.name).filter(|p| p.state == State::Exited) {
        status.last_state.terminated = Some(terminated(previous));
    } else if let Some(old) = old
        && old.restart_count == status.restart_count
    {
        status.last_state = old.last_state.clone();
    }
    match latest.state {
        State::Running => {
            let probe = (inputs.probe)(&latest.id);
            status.state.running = Some(ContainerStateRunning { started_at: time(latest.started_at) });
            status.started = Some(probe.started);
            status.ready = probe.started && probe.ready;
        }
        State::Exited => match why {
            // It waits to be started again: its end is its last state.
            Some((reason, message)) if !inputs.ending => {
                status.last_state.terminated = Some(terminated(latest));
                status.state = waiting(reason, message);
            }
            _ => status.state.terminated = Some(terminated(latest)),
        },
        State::Created | State::Unknown => {
            let (reason, message) = why.map_or((default_reason, ""), |(r, m)| (r.as_str(), m.as_str()));
            status.state = waiting(reason, message);
        }
    }
    status
}

fn volume_mounts(container: &Container) -> Vec<VolumeMountStatus> {
    let status = |mount: &api::core::pod::container::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.read_only.then(|| {
            let wanted = mount.recursive_read_only.as_deref();
            if matches!(wanted, Some("Enabled" | "IfPossible")) { "Enabled" } else { "Disabled" }.to_owned()
        }),
        ..VolumeMountStatus::default()
    };
    container.volume_mounts.iter().map(status).collect()
}

/// The phase that follows from the containers' states.
fn phase(pod: &Pod, status: &PodStatus, inputs: &Inputs<'_>) -> String {
    let old = pod.status.phase.as_str();
    if inputs.verdict.is_some() || old == "Failed" {
        return "Failed".into();
    }
    if old == "Succeeded" {
        return old.into();
    }
    let mut pending_init = false;
    let mut failed_init = false;
    for (container, status) in pod.spec.init_containers.iter().zip(&status.init_container_statuses) {
        if restart::is_sidecar(container) {
            let begun = status.started == Some(true) || status.last_state.terminated.is_some();
            pending_init |= !begun && status.state.terminated.is_none();
            continue;
        }
        let end = status.state.terminated.as_ref().or(status.last_state.terminated.as_ref());
        match end {
            Some(end) if end.exit_code == 0 && status.state.running.is_none() => {}
            Some(end) if status.state.running.is_none() && end.exit_code != 0 => {
                pending_init = true;
                failed_init |= inputs.ending || !restart::after_exit(pod, container, end.exit_code);
            }
            _ => pending_init = true,
        }
    }
    let (mut unknown, mut running, mut waiting, mut stopped, mut failed, mut for_good) = (0, 0, 0, 0, 0, 0);
    for (container, status) in pod.spec.containers.iter().zip(&status.container_statuses) {
        if status.state.running.is_some() {
            running += 1;
        } else if let Some(end) = &status.state.terminated {
            stopped += 1;
            failed += usize::from(end.exit_code != 0);
            for_good += usize::from(inputs.ending || !restart::after_exit(pod, container, end.exit_code));
        } else if status.last_state.terminated.is_some() {
            stopped += 1;
        } else if status.state.waiting.is_some() {
            waiting += 1;
        } else {
            unknown += 1;
        }
    }
    let total = pod.spec.containers.len();
    // A pod that is being ended before its containers ever ran has failed only when it can never run.
    if failed_init {
        return "Failed".into();
    }
    if pending_init && running == 0 && stopped == 0 {
        return "Pending".into();
    }
    // One container that never ran keeps the whole pod pending, as upstream has it.
    if waiting > 0 || unknown > 0 {
        return "Pending".into();
    }
    if running > 0 {
        return "Running".into();
    }
    if for_good == total && total > 0 {
        return if failed > 0 { "Failed" } else { "Succeeded" }.into();
    }
    if stopped > 0 { "Running".into() } else { "Pending".into() }
}

fn addresses(pod: &Pod, seen: &Observed, inputs: &Inputs<'_>, status: &mut PodStatus) {
    status.host_ips = inputs.node_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect();
    status.host_ip = inputs.node_ips.first().cloned().unwrap_or_default();
    let ips: Vec<String> = if pod.spec.host_network {
        inputs.node_ips.to_vec()
    } else {
        seen.sandbox().filter(|s| s.ready).map(|s| s.ips.iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    if !ips.is_empty() {
        status.pod_ip = ips[0].clone();
        status.pod_ips = ips.into_iter().map(|ip| PodIP { ip }).collect();
    }
}

struct Verdicts<'a> {
    unknown: Vec<&'a str>,
    bad: Vec<&'a str>,
}

impl Verdicts<'_> {
    fn message(&self, what: &str) -> String {
        let mut parts = Vec::new();
        if !self.unknown.is_empty() {
            parts.push(format!("containers with unknown status: [{}]", self.unknown.join(" ")));
        }
        if !self.bad.is_empty() {
            parts.push(format!("containers with {what} status: [{}]", self.bad.join(" ")));
        }
        parts.join(", ")
    }
}

fn conditions(pod: &Pod, seen: &Observed, inputs: &Inputs<'_>, status: &mut PodStatus) {
    let sandbox = seen.sandbox().is_some_and(|s| s.ready);
    set(pod, status, inputs.now, "PodReadyToStartContainers", sandbox, "", "");

    let (ok, reason, message) = initialized(pod, status);
    set(pod, status, inputs.now, "Initialized", ok, reason, &message);

    let (ok, reason, message) = containers_ready(pod, status);
    let (pod_ok, pod_reason, pod_message) = match ok {
        true => gates(pod, status),
        false => (false, reason, message.clone()),
    };
    set(pod, status, inputs.now, "Ready", pod_ok, pod_reason, &pod_message);
    set(pod, status, inputs.now, "ContainersReady", ok, reason, &message);
    set(pod, status, inputs.now, "PodScheduled", true, "", "");

    let resizes = inputs.resize.conditions(&status.conditions, inputs.now);
    status.conditions.retain(|c| c.type_ != resize::PENDING && c.type_ != resize::IN_PROGRESS);
    status.conditions.extend(resizes);
}

fn initialized(pod: &Pod, status: &PodStatus) -> (bool, &'static str, String) {
    let mut bad = Verdicts { unknown: Vec::new(), bad: Vec::new() };
    for (container, status) in pod.spec.init_containers.iter().zip(&status.init_container_statuses) {
        let done = if restart::is_sidecar(container) { status.started == Some(true) } else { status.ready };
        if !done {
            bad.bad.push(&container.name);
        }
    }
    if status.phase == "Succeeded" {
        return (true, "PodCompleted", String::new());
    }
    let begun = |s: &ContainerStatus| {
        s.state.running.is_some() || s.state.terminated.is_some() || s.last_state.terminated.is_some()
    };
    if bad.bad.is_empty() || status.container_statuses.iter().any(begun) {
        return (true, "", String::new());
    }
    (false, "ContainersNotInitialized", bad.message("incomplete"))
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> (bool, &'static str, String) {
    match status.phase.as_str() {
        "Succeeded" => return (false, "PodCompleted", String::new()),
        "Failed" => return (false, "PodFailed", String::new()),
        _ => {}
    }
    let mut bad = Verdicts { unknown: Vec::new(), bad: Vec::new() };
    let sidecars = pod.spec.init_containers.iter().zip(&status.init_container_statuses);
    let sidecars = sidecars.filter(|(c, _)| restart::is_sidecar(c));
    for (container, status) in sidecars.chain(pod.spec.containers.iter().zip(&status.container_statuses)) {
        if !status.ready {
            bad.bad.push(&container.name);
        }
    }
    if bad.bad.is_empty() {
        return (true, "", String::new());
    }
    (false, "ContainersNotReady", bad.message("unready"))
}

fn gates(pod: &Pod, status: &PodStatus) -> (bool, &'static str, String) {
    let mut messages = Vec::new();
    for gate in &pod.spec.readiness_gates {
        match status.conditions.iter().find(|c| c.type_ == gate.condition_type) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => messages.push(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => {}
        }
    }
    match messages.is_empty() {
        true => (true, "", String::new()),
        false => (false, "ReadinessGatesNotReady", messages.join(", ")),
    }
}

fn set(pod: &Pod, status: &mut PodStatus, now: i64, type_: &str, ok: bool, reason: &str, message: &str) {
    let value = if ok { "True" } else { "False" };
    let old = status.conditions.iter().position(|c| c.type_ == type_);
    let since = match old {
        Some(at) if status.conditions[at].status == value => status.conditions[at].last_transition_time,
        _ => Time(now),
    };
    let condition = PodCondition {
        type_: type_.into(),
        observed_generation: pod.metadata.generation,
        status: value.into(),
        last_transition_time: since,
        reason: reason.into(),
        message: message.into(),
        ..PodCondition::default()
    };
    match old {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Sandbox;

    fn pod(text: &str) -> Pod {
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        apimachinery::Api::from_value(&tree).unwrap()
    }

    fn seen(name: &str, state: State, exit_code: i32) -> Seen {
        Seen {
            id: name.into(),
            name: name.into(),
            sandbox: "s".into(),
            attempt: 0,
            state,
            image: String::new(),
            image_ref: "ref".into(),
            hash: String::new(),
            started_at: 1_000_000_000,
            finished_at: 2_000_000_000,
            exit_code,
            reason: String::new(),
            message: String::new(),
            user: None,
        }
    }

    fn told(pod: &Pod, containers: Vec<Seen>, waiting: &[(&str, &str)]) -> PodStatus {
        let sandboxes =
            vec![Sandbox { id: "s".into(), ready: true, attempt: 0, ips: vec!["10.0.0.9".parse().unwrap()] }];
        let waiting = waiting.iter().map(|(n, r)| ((*n).into(), ((*r).to_string(), String::new()))).collect();
        let probe = |_: &str| ProbeState { started: true, ready: true, failed: None };
        let inputs = Inputs {
            probe: &probe,
            waiting: &waiting,
            verdict: None,
            ending: false,
            node_ips: &["192.0.2.1".into()],
            given: &Given::new(),
            resize: &Progress::default(),
            now: 50,
        };
        status(pod, &Observed { sandboxes, containers }, &inputs)
    }

    fn condition(status: &PodStatus, type_: &str) -> String {
        let c = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
        format!("{} {} {}", c.status, c.reason, c.message).trim().to_owned()
    }

    const TWO: &str = r#"{"spec":{"restartPolicy":"Always","containers":[{"name":"a"},{"name":"b"}]}}"#;

    #[test]
    fn a_pod_on_its_way() {
        let p = pod(TWO);
        let s = told(&p, vec![], &[]);
        assert_eq!(s.phase, "Pending");
        assert_eq!(s.container_statuses[0].state.waiting.as_ref().unwrap().reason, "ContainerCreating");
        assert_eq!(condition(&s, "Ready"), "False ContainersNotReady containers with unready status: [a b]");
        let s = told(&p, vec![seen("a", State::Running, 0)], &[("b", "ErrImagePull")]);
        assert_eq!(s.phase, "Pending");
        let s = told(&p, vec![seen("a", State::Running, 0), seen("b", State::Running, 0)], &[]);
        assert_eq!((s.phase.as_str(), s.pod_ip.as_str(), s.host_ip.as_str()), ("Running", "10.0.0.9", "192.0.2.1"));
        assert_eq!(condition(&s, "Ready"), "True");
        assert_eq!(s.container_statuses[0].container_id, "skiff://a");
    }

    #[test]
    fn ends() {
        let mut p = pod(TWO);
        let both = |a, b| vec![seen("a", State::Exited, a), seen("b", State::Exited, b)];
        assert_eq!(told(&p, both(0, 1), &[]).phase, "Running");
        let s = told(&p, vec![seen("a", State::Running, 0), seen("b", State::Exited, 1)], &[("b", "CrashLoopBackOff")]);
        assert_eq!(s.phase, "Running");
        assert_eq!(s.container_statuses[1].last_state.terminated.as_ref().unwrap().exit_code, 1);
        p.spec.restart_policy = "Never".into();
        assert_eq!(told(&p, both(0, 1), &[]).phase, "Failed");
        let s = told(&p, both(0, 0), &[]);
        assert_eq!((s.phase.as_str(), condition(&s, "Ready").as_str()), ("Succeeded", "False PodCompleted"));
        assert_eq!(s.container_statuses[0].state.terminated.as_ref().unwrap().reason, "Completed");
    }

    #[test]
    fn init_containers_hold_the_phase() {
        let p = pod(r#"{"spec":{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"a"}],
            "readinessGates":[{"conditionType":"x/y"}]}}"#);
        let s = told(&p, vec![seen("i", State::Running, 0)], &[]);
        assert_eq!(s.phase, "Pending");
        assert_eq!(
            condition(&s, "Initialized"),
            "False ContainersNotInitialized containers with incomplete status: [i]"
        );
        assert_eq!(s.container_statuses[0].state.waiting.as_ref().unwrap().reason, "PodInitializing");
        assert_eq!(told(&p, vec![seen("i", State::Exited, 1)], &[]).phase, "Failed");
        let s = told(&p, vec![seen("i", State::Exited, 0), seen("a", State::Running, 0)], &[]);
        assert_eq!((s.phase.as_str(), condition(&s, "Initialized").as_str()), ("Running", "True"));
        assert!(condition(&s, "Ready").starts_with("False ReadinessGatesNotReady"));
        assert!(s.init_container_statuses[0].ready);
    }
}
