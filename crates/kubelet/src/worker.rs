//! One pod's task: looks, plans, acts, tells; until the pod is gone.

mod end;
mod resources;
mod start;
mod stop;
mod tell;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::core::pod::Pod;
use api::core::pod::status::PodStatus;
use client::Client;
use cri::v1;
use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::hash::definition;
use crate::node_agent::Shared;
use crate::observed::{Observed, State};
use crate::plan::{self, Plan};
use crate::pod::{find, grace, subject};
use crate::resize::{self, Given, Granted, Progress};
use crate::restart::Backoff;
use crate::status::Verdict;

/// First and longest delay after something failed that nobody tells us the end of.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What is wanted of a pod.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The API has it no more.
    pub gone: bool,
    /// It came from a file on this node: the API holds a mirror of it only.
    pub is_static: bool,
}

/// The handle by which a worker is told.
pub struct Handle {
    pub desired: watch::Sender<Desired>,
    pub wake: Arc<Notify>,
    /// Set where what failed may succeed now: it is tried again without waiting.
    pub again: Arc<AtomicBool>,
    /// Set where the API knows nothing of the pod's status any more.
    pub retell: Arc<AtomicBool>,
    /// What the worker saw last.
    pub seen: watch::Receiver<Arc<Observed>>,
    /// The pod with the resources that it was granted, once it was.
    pub granted: Arc<Mutex<Option<Arc<Pod>>>>,
}

/// Starts a worker.
pub fn spawn(shared: Arc<Shared>, desired: Desired) -> Handle {
    let wake = Arc::new(Notify::new());
    let again = Arc::new(AtomicBool::new(false));
    let retell = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = watch::channel(desired);
    let granted: Arc<Mutex<Option<Arc<Pod>>>> = Arc::default();
    let (seen_to, seen) = watch::channel(Arc::new(Observed::default()));
    let uid = receiver.borrow().pod.metadata.uid.clone();
    let worker = Worker {
        client: shared.client.clone(),
        shared: shared.clone(),
        uid: uid.clone(),
        desired: receiver,
        wake: wake.clone(),
        again: again.clone(),
        retell: retell.clone(),
        seen: seen_to,
        messages: HashMap::new(),
        backoff: HashMap::new(),
        waiting: HashMap::new(),
        verdict: None,
        retry: None,
        sent: None,
        killed: HashMap::new(),
        replaced: Vec::new(),
        ending: None,
        held: granted.clone(),
        granted: None,
        given: Given::new(),
        progress: Progress::default(),
        limited: None,
    };
    tokio::spawn(async move {
        use futures::FutureExt;
        let name = worker.name();
        let run = std::panic::AssertUnwindSafe(worker.run()).catch_unwind();
        if run.await.is_err() {
            tracing::error!(pod = name, "the pod's worker panicked; it starts anew with the pod's next change");
        }
        shared.forget(&uid);
    });
    Handle { desired: sender, wake, again, retell, seen, granted }
}

struct Worker {
    shared: Arc<Shared>,
    client: Client,
    uid: String,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    again: Arc<AtomicBool>,
    retell: Arc<AtomicBool>,
    seen: watch::Sender<Arc<Observed>>,
    /// Termination messages by container.
    messages: HashMap<String, String>,
    backoff: HashMap<SmolStr, Backoff>,
    /// Why containers wait: reason and message.
    waiting: HashMap<SmolStr, (String, String)>,
    verdict: Option<Verdict>,
    /// When to try again what failed, and the delay that led there.
    retry: Option<(Instant, Duration)>,
    /// The status as the API was told.
    sent: Option<PodStatus>,
    /// Containers that were told to stop, so that events say so once.
    killed: HashMap<String, ()>,
    /// Containers that were stopped in the last round to be started anew.
    replaced: Vec<SmolStr>,
    /// When the pod's end began.
    ending: Option<Instant>,
    /// Shows others what was granted.
    held: Arc<Mutex<Option<Arc<Pod>>>>,
    granted: Option<Granted>,
    given: Given,
    progress: Progress,
    /// What the pod's control group was limited to before a resize that is not done yet.
    limited: Option<v1::LinuxContainerResources>,
}

/// What one round led to.
enum Round {
    /// Something was done: look again.
    Again,
    /// Nothing to do until something changes or this time has come.
    Wait(Option<Instant>),
    /// The pod is gone.
    Done,
}

impl Worker {
    fn name(&self) -> String {
        let desired = self.desired.borrow();
        format!("{}/{}", desired.pod.metadata.namespace, desired.pod.metadata.name)
    }

    async fn run(mut self) {
        loop {
            // Armed before looking: what happens from here on is not missed.
            let wake = self.wake.clone();
            let woken = wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let desired = self.desired.borrow_and_update().clone();
            match self.round(&desired).await {
                Round::Again => {}
                Round::Done => return,
                Round::Wait(until) => {
                    let alarm = async {
                        match until {
                            Some(until) => tokio::time::sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = woken => {}
                        changed = self.desired.changed() => if changed.is_err() { return },
                        () = alarm => {}
                    }
                }
            }
        }
    }

    async fn observe(&mut self) -> Result<Observed, runtime::Error> {
        let seen = Observed::read(&self.shared.runtime, &self.uid, &mut self.messages).await?;
        self.messages.retain(|id, _| seen.containers.iter().any(|c| c.id == *id));
        self.seen.send_replace(Arc::new(seen.clone()));
        Ok(seen)
    }

    async fn round(&mut self, desired: &Desired) -> Round {
        let pod = &desired.pod;
        if self.retell.swap(false, Ordering::Relaxed) {
            self.sent = None;
        }
        let seen = match self.observe().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(pod = self.name(), %error, "the runtime does not answer for a pod");
                return self.fail();
            }
        };
        self.follow_probes(pod, &seen);
        if desired.gone || pod.metadata.deletion_timestamp.is_some() {
            return self.end(desired, seen).await;
        }
        if self.verdict.is_none() {
            self.judge(pod);
        }
        let over = self.verdict.is_some() || matches!(pod.status.phase.as_str(), "Failed" | "Succeeded");
        if over {
            return self.finish(desired, seen).await;
        }
        let pod = &self.resources_of(pod);
        let plan = self.plan(pod, &seen);
        if plan.end {
            return self.finish(desired, seen).await;
        }
        self.note_resize(pod, &seen);
        self.note_backoff(pod, &plan);
        // Between the end of a container and its successor, which starts at once, there is nothing to tell.
        if !self.restarts_at_once(pod, &plan).await {
            self.tell(pod, &seen, false).await;
        }
        if plan.kill.is_empty() && plan.sandbox.is_none() && plan.resize.is_empty() && plan.start.is_empty() {
            let wake = plan.backing_off.iter().map(|(_, nanos)| Duration::from_nanos((*nanos).max(0) as u64)).min();
            self.tidy(pod, &seen).await;
            let deadline = self.deadline(pod);
            let wake = wake.map(|wait| Instant::now() + wait);
            return Round::Wait([wake, deadline].into_iter().flatten().min());
        }
        if self.again.swap(false, Ordering::Relaxed) {
            self.retry = None;
        }
        // What failed just now waits, unless something changed in between.
        if let Some((until, _)) = self.retry
            && until > Instant::now()
            && plan.kill.is_empty()
        {
            return Round::Wait(Some(until));
        }
        match self.act(pod, &seen, &plan).await {
            Ok(()) => {
                self.retry = None;
                Round::Again
            }
            Err(()) => {
                // What was learned is told before waiting.
                if let Ok(seen) = self.observe().await {
                    self.tell(pod, &seen, false).await;
                }
                self.fail()
            }
        }
    }

    /// Whether all that was just stopped is what starts now, with images that are here.
    async fn restarts_at_once(&mut self, pod: &Pod, plan: &Plan) -> bool {
        let replaced = std::mem::take(&mut self.replaced);
        let starts = |name: &SmolStr| plan.start.iter().any(|start| start.name == *name);
        if replaced.is_empty() || !plan.kill.is_empty() || plan.sandbox.is_some() || !replaced.iter().all(starts) {
            return false;
        }
        for name in &replaced {
            let Some(container) = find(pod, name) else { return false };
            if !self.shared.images.is_here(&container.image).await {
                return false;
            }
        }
        true
    }

    /// Waits longer each time.
    fn fail(&mut self) -> Round {
        let delay = self.retry.map_or(FIRST_RETRY, |(_, delay)| (delay * 2).min(LONGEST_RETRY));
        let until = Instant::now() + delay;
        self.retry = Some((until, delay));
        Round::Wait(Some(until))
    }

    fn plan(&self, pod: &Pod, seen: &Observed) -> Plan {
        let probe = |id: &str| self.shared.probes.state(id);
        plan::plan(
            pod,
            seen,
            &plan::Inputs {
                probe: &probe,
                backoff: &self.backoff,
                hash: &definition,
                change: &|container, running| resize::change(container, self.given.get(&running.id)),
                now: crate::nanos(),
            },
        )
    }

    /// Tells the probes what runs.
    fn follow_probes(&self, pod: &Arc<Pod>, seen: &Observed) {
        let ip = seen.sandbox().and_then(|s| s.ips.first().copied());
        let ip = if pod.spec.host_network { self.shared.facts.ips.first().copied() } else { ip };
        for container in &seen.containers {
            match container.state {
                State::Running if !self.killed.contains_key(&container.id) => {
                    self.shared.probes.started(pod, &container.name, &container.id, ip);
                }
                _ => self.shared.probes.ended(&container.id),
            }
        }
    }

    /// Ends of a pod that are not its containers' doing.
    fn judge(&mut self, pod: &Pod) {
        if let Some(deadline) = pod.spec.active_deadline_seconds
            && let Some(start) = pod.status.start_time
            && crate::seconds() >= start.0 + deadline
        {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.verdict = Some(Verdict { reason: "DeadlineExceeded".into(), message });
        }
        // A pod that began is past admission, also after the daemon was started anew.
        if pod.status.start_time.is_none()
            && let Err(refusal) = self.shared.admit(pod)
        {
            self.shared.recorder.warning(&subject(pod, ""), &refusal.reason, refusal.message.clone());
            self.verdict = Some(refusal);
        }
    }

    fn deadline(&self, pod: &Pod) -> Option<Instant> {
        let end = pod.status.start_time?.0 + pod.spec.active_deadline_seconds?;
        Some(Instant::now() + Duration::from_secs((end - crate::seconds()).max(0) as u64))
    }

    /// Containers that wait to start again say so.
    fn note_backoff(&mut self, pod: &Pod, plan: &Plan) {
        for (name, _) in &plan.backing_off {
            let delay = self.backoff.get(name).map_or(0, Backoff::delay);
            let time = match (delay / 60, delay % 60) {
                (0, seconds) => format!("{seconds}s"),
                (minutes, seconds) => format!("{minutes}m{seconds}s"),
            };
            let meta = &pod.metadata;
            let full = format!("{}_{}({})", meta.name, meta.namespace, meta.uid);
            let message = format!("back-off {time} restarting failed container={name} pod={full}");
            let old = self.waiting.insert(name.clone(), ("CrashLoopBackOff".into(), message.clone()));
            if old.is_none_or(|(_, old)| old != message) {
                let text = format!("Back-off restarting failed container {name} in pod {full}");
                self.shared.recorder.warning(&subject(pod, name), "BackOff", text);
            }
        }
    }

    /// Carries a plan out, in order; stops at the first failure.
    async fn act(&mut self, pod: &Arc<Pod>, seen: &Observed, plan: &Plan) -> Result<(), ()> {
        if !plan.kill.is_empty() {
            let kills = plan.kill.iter().map(|kill| self.kill(pod, kill, grace(pod)));
            futures::future::join_all(kills).await;
            for kill in &plan.kill {
                self.killed.insert(kill.id.clone(), ());
                self.replaced.push(kill.name.clone());
            }
        }
        self.resize(pod, plan).await?;
        let (sandbox, config, ips) = match plan.sandbox {
            Some(attempt) => self.make_sandbox(pod, seen, attempt).await?,
            None if plan.start.is_empty() => return Ok(()),
            None => {
                let sandbox = seen.sandbox().ok_or(())?;
                let config = crate::spec::sandbox(pod, &self.shared.facts, sandbox.attempt);
                let config = config.map_err(|error| self.sandbox_failed(pod, &error.to_string()))?;
                (sandbox.id.clone(), config, sandbox.ips.clone())
            }
        };
        let ips = if pod.spec.host_network { self.shared.facts.ips.clone() } else { ips };
        let mut failed = false;
        for start in &plan.start {
            let Some(container) = find(pod, &start.name) else { continue };
            let started = self.start(pod, &container, start, &sandbox, &config, &ips).await;
            match started {
                Ok(()) => {
                    self.waiting.remove(&start.name);
                }
                Err((reason, message)) => {
                    self.waiting.insert(start.name.clone(), (reason, message));
                    failed = true;
                }
            }
            // A pod that is to go must not wait for images of containers that will never run.
            if self.desired.has_changed().unwrap_or(true) {
                break;
            }
        }
        if failed { Err(()) } else { Ok(()) }
    }
}
