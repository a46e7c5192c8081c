//! Asks containers whether they have started, live and are ready.
//!
//! Each probe of each running container is a task. What they find is looked up by plan and status; a change wakes the
//! pod's worker.

mod check;
mod grpc;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::pod::probe::Probe;
use client::Recorder;
use parking_lot::Mutex;
use runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use check::{Outcome, check, port_of, request};

/// A probe that says the container must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Such as `Container web failed liveness probe`.
    pub message: String,
    /// The probe's own grace period, in seconds.
    pub grace_period_seconds: Option<i64>,
}

/// What the probes of one container have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeState {
    pub started: bool,
    pub ready: bool,
    pub failed: Option<Failure>,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Startup,
    Liveness,
    Readiness,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Startup => "Startup",
            Sort::Liveness => "Liveness",
            Sort::Readiness => "Readiness",
        }
    }
}

struct Watched {
    state: watch::Sender<ProbeState>,
    /// Ends with the container.
    _tasks: JoinSet<()>,
}

/// The probes of all containers of a node.
pub struct Probes {
    runtime: Runtime,
    recorder: Recorder,
    changed: Arc<dyn Fn(&str) + Send + Sync>,
    containers: Mutex<HashMap<String, Watched>>,
}

/// One probe of one container.
struct Task {
    runtime: Runtime,
    recorder: Recorder,
    changed: Arc<dyn Fn(&str) + Send + Sync>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    ip: Option<IpAddr>,
    state: watch::Sender<ProbeState>,
    sort: Sort,
    probe: Probe,
}

impl Probes {
    /// `changed` is called with a pod's uid when something about it is to be looked at.
    pub fn new(runtime: Runtime, recorder: Recorder, changed: Arc<dyn Fn(&str) + Send + Sync>) -> Probes {
        Probes { runtime, recorder, changed, containers: Mutex::default() }
    }

    /// A container runs; called again for one that is known, it does nothing.
    pub fn started(&self, pod: &Arc<Pod>, name: &str, id: &str, ip: Option<IpAddr>) {
        let mut containers = self.containers.lock();
        if containers.contains_key(id) {
            return;
        }
        let Some(container) = crate::pod::find(pod, name) else { return };
        let state = watch::channel(ProbeState {
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            failed: None,
        })
        .0;
        let mut tasks = JoinSet::new();
        for (sort, probe) in [
            (Sort::Startup, &container.startup_probe),
            (Sort::Liveness, &container.liveness_probe),
            (Sort::Readiness, &container.readiness_probe),
        ] {
            let Some(probe) = probe else { continue };
            let task = Task {
                runtime: self.runtime.clone(),
                recorder: self.recorder.clone(),
                changed: self.changed.clone(),
                pod: pod.clone(),
                container: container.clone(),
                id: id.to_owned(),
                ip,
                state: state.clone(),
                sort,
                probe: probe.clone(),
            };
            tasks.spawn(task.run());
        }
        containers.insert(id.to_owned(), Watched { state, _tasks: tasks });
    }

    /// A container has ended, or is about to be ended.
    pub fn ended(&self, id: &str) {
        self.containers.lock().remove(id);
    }

    /// What is known of a container. One that is not probed is as its being there says.
    pub fn state(&self, id: &str) -> ProbeState {
        match self.containers.lock().get(id) {
            Some(watched) => watched.state.borrow().clone(),
            None => ProbeState { started: false, ready: false, failed: None },
        }
    }
}

fn seconds(value: i32, default: u64) -> Duration {
    Duration::from_secs(u64::try_from(value).ok().filter(|v| *v > 0).unwrap_or(default))
}

impl Task {
    async fn run(self) {
        tokio::time::sleep(Duration::from_secs(u64::try_from(self.probe.initial_delay_seconds).unwrap_or(0))).await;
        if self.sort != Sort::Startup {
            // The others begin once it has started.
            let mut state = self.state.subscribe();
            if state.wait_for(|s| s.started).await.is_err() {
                return;
            }
        }
        let mut counter = Counter::new(&self.probe, self.sort);
        let period = seconds(self.probe.period_seconds, 10);
        loop {
            let limit = seconds(self.probe.timeout_seconds, 1);
            let outcome =
                check(&self.runtime, &self.probe.probe_handler, &self.container, &self.id, self.ip, limit).await;
            if let Outcome::Bad(text) | Outcome::Unknown(text) = &outcome {
                let about = crate::pod::subject(&self.pod, &self.container.name);
                let verb = if matches!(outcome, Outcome::Bad(_)) { "failed" } else { "errored" };
                self.recorder.warning(&about, "Unhealthy", format!("{} probe {verb}: {text}", self.sort.name()));
            }
            if let Some(good) = counter.count(&outcome)
                && self.found(good)
            {
                return;
            }
            tokio::time::sleep(period).await;
        }
    }

    /// Notes what the probe has decided; answers whether the probe is over.
    fn found(&self, good: bool) -> bool {
        let over = match (self.sort, good) {
            (Sort::Startup, good) => !good || self.state.borrow().failed.is_none(),
            (Sort::Liveness, good) => !good,
            (Sort::Readiness, _) => false,
        };
        let changed = self.state.send_if_modified(|state| {
            let before = state.clone();
            match (self.sort, good) {
                (Sort::Startup, true) => state.started = true,
                (Sort::Readiness, good) => state.ready = good,
                (Sort::Liveness, true) => {}
                (Sort::Startup | Sort::Liveness, false) => {
                    state.failed = Some(Failure {
                        message: format!(
                            "Container {} failed {} probe",
                            self.container.name,
                            self.sort.name().to_lowercase()
                        ),
                        grace_period_seconds: self.probe.termination_grace_period_seconds,
                    });
                }
            }
            *state != before
        });
        if changed {
            (self.changed)(&self.pod.metadata.uid);
        }
        over
    }
}

/// Counts outcomes up to a threshold.
struct Counter {
    success: i32,
    failure: i32,
    last: Option<bool>,
    run: i32,
}

impl Counter {
    fn new(probe: &Probe, sort: Sort) -> Counter {
        let at_least = |value: i32, default: i32| if value > 0 { value } else { default };
        let success = if sort == Sort::Readiness { at_least(probe.success_threshold, 1) } else { 1 };
        Counter { success, failure: at_least(probe.failure_threshold, 3), last: None, run: 0 }
    }

    /// Whether things are good or bad now, once that is sure.
    fn count(&mut self, outcome: &Outcome) -> Option<bool> {
        let good = match outcome {
            Outcome::Good => true,
            Outcome::Bad(_) => false,
            // Nothing is learned from a probe that could not be made.
            Outcome::Unknown(_) => return None,
        };
        self.run = if self.last == Some(good) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(good);
        (self.run >= if good { self.success } else { self.failure }).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: 2, failure_threshold: 3, ..Probe::default() };
        let bad = || Outcome::Bad(String::new());
        let mut counter = Counter::new(&probe, Sort::Readiness);
        assert_eq!(counter.count(&Outcome::Good), None);
        assert_eq!(counter.count(&Outcome::Good), Some(true));
        assert_eq!((counter.count(&bad()), counter.count(&bad())), (None, None));
        assert_eq!(counter.count(&Outcome::Unknown(String::new())), None);
        assert_eq!(counter.count(&bad()), Some(false));
        assert_eq!(Counter::new(&probe, Sort::Liveness).count(&Outcome::Good), Some(true));
    }
}
