//! The columns of `kubectl get pods`: one walk over the statuses gives ready count, status and restarts.

use apimachinery::Value;

use crate::cells::{int, items, seconds, since, str_of};

/// What the columns say about a pod.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    last_restart: String,
}

pub(super) fn ready_cell(pod: &Value, _now: i64) -> Value {
    let summary = summary(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(super) fn status_cell(pod: &Value, _now: i64) -> Value {
    summary(pod).status.into()
}

pub(super) fn restarts_cell(pod: &Value, now: i64) -> Value {
    let summary = summary(pod);
    if summary.restarts != 0 && !summary.last_restart.is_empty() {
        return format!("{} ({} ago)", summary.restarts, since(&summary.last_restart, now)).into();
    }
    summary.restarts.to_string().into()
}

pub(super) fn ip_cell(pod: &Value, _now: i64) -> Value {
    match items(pod, &["status", "podIPs"]).first().map(|ip| str_of(ip, &["ip"])) {
        Some(ip) if !ip.is_empty() => ip.into(),
        _ => "<none>".into(),
    }
}

pub(super) fn gates_cell(pod: &Value, _now: i64) -> Value {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates.iter().filter(|gate| condition(pod, str_of(gate, &["conditionType"])) == Some("True")).count();
    format!("{open}/{}", gates.len()).into()
}

/// The status of the first condition of a type.
fn condition<'a>(pod: &'a Value, wanted: &str) -> Option<&'a str> {
    let conditions = items(pod, &["status", "conditions"]);
    conditions.iter().find(|c| str_of(c, &["type"]) == wanted).map(|c| str_of(c, &["status"]))
}

/// Why a terminated container ended, as a status.
fn ended(terminated: &Value) -> String {
    match (str_of(terminated, &["reason"]), int(terminated, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

/// Keeps the later of two timestamps.
fn later(last: &mut String, status: &Value) {
    let finished = str_of(status, &["lastState", "terminated", "finishedAt"]);
    if seconds(finished) > seconds(last) {
        *last = finished.to_string();
    }
}

fn summary(pod: &Value) -> Summary {
    let phase = str_of(pod, &["status", "phase"]);
    let pod_reason = str_of(pod, &["status", "reason"]);
    let mut status = if pod_reason.is_empty() { phase } else { pod_reason }.to_string();
    let conditions = items(pod, &["status", "conditions"]);
    let gated = |c: &Value| str_of(c, &["type"]) == "PodScheduled" && str_of(c, &["reason"]) == "SchedulingGated";
    if conditions.iter().any(gated) {
        status = "SchedulingGated".into();
    }
    let init = items(pod, &["spec", "initContainers"]);
    let sidecar =
        |name: &str| init.iter().any(|c| str_of(c, &["name"]) == name && str_of(c, &["restartPolicy"]) == "Always");
    let sidecars = init.iter().filter(|c| str_of(c, &["restartPolicy"]) == "Always").count();
    let total = items(pod, &["spec", "containers"]).len() + sidecars;
    let mut ready = 0;
    let (mut restarts, mut last_restart) = (0, String::new());
    let (mut sidecar_restarts, mut sidecar_last) = (0, String::new());
    let mut initializing = false;
    for (i, container) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let is_sidecar = sidecar(str_of(container, &["name"]));
        restarts += int(container, &["restartCount"]);
        later(&mut last_restart, container);
        if is_sidecar {
            sidecar_restarts += int(container, &["restartCount"]);
            later(&mut sidecar_last, container);
        }
        let terminated = container.at(&["state", "terminated"]);
        let waiting = str_of(container, &["state", "waiting", "reason"]);
        if terminated.is_some_and(|t| int(t, &["exitCode"]) == 0) {
            continue;
        }
        if is_sidecar && container.get("started").and_then(Value::as_bool) == Some(true) {
            ready += usize::from(container.get("ready").and_then(Value::as_bool) == Some(true));
            continue;
        }
        status = match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", init.len()),
        };
        initializing = true;
        break;
    }
    if !initializing || condition(pod, "Initialized") == Some("True") {
        (restarts, last_restart) = (sidecar_restarts, sidecar_last);
        let mut running = false;
        let mut error = String::new();
        for container in items(pod, &["status", "containerStatuses"]).iter().rev() {
            restarts += int(container, &["restartCount"]);
            later(&mut last_restart, container);
            let waiting = str_of(container, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                status = waiting.to_string();
            } else if let Some(terminated) = container.at(&["state", "terminated"]) {
                status = ended(terminated);
                if int(terminated, &["exitCode"]) != 0 {
                    error = status.clone();
                }
            } else if container.get("ready").and_then(Value::as_bool) == Some(true)
                && container.at(&["state", "running"]).is_some()
            {
                running = true;
                ready += 1;
            }
        }
        if status == "Completed" {
            // One container done does not make the pod done.
            if running && condition(pod, "Ready") == Some("True") {
                status = "Running".into();
            } else if !error.is_empty() {
                status = error;
            } else if running {
                status = "NotReady".into();
            }
        }
    }
    if pod.at(&["metadata", "deletionTimestamp"]).is_some() {
        if pod_reason == "NodeLost" {
            status = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            status = "Terminating".into();
        }
    }
    Summary { ready, total, status, restarts, last_restart }
}
