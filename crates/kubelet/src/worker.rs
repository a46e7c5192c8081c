//! One pod's task: looks, plans, acts, tells; until the pod is gone.

mod resources;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::pod::status::{PodCondition, PodStatus};
use apimachinery::{Api, Map, Value};
use client::events::Subject;
use client::{Client, PatchKind};
use cri::v1;
use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::node_agent::Shared;
use crate::observed::{HASH, Observed, Seen, State};
use crate::plan::{self, Kill, Plan, Start};
use crate::resize::{self, Given, Granted, Progress};
use crate::restart::{self, Backoff};
use crate::status::{self, Verdict};

/// First and longest delay after something failed that nobody tells us the end of.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Upstream gives a container at least this long, whatever a hook took.
const SHORTEST_GRACE: i64 = 2;
/// The API keeps a pod at least this long after its graceful end began: clients expect to find it by their next request,
/// as they do where a node looks at its containers once a second.
const SHORTEST_END: Duration = Duration::from_secs(1);

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
            let kills = plan.kill.iter().map(|kill| self.kill(pod, kill, pod_grace(pod)));
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

    fn sandbox_failed(&self, pod: &Pod, error: &str) {
        let message = format!("Failed to create pod sandbox: {error}");
        self.shared.recorder.warning(&subject(pod, ""), "FailedCreatePodSandBox", message);
    }

    async fn make_sandbox(
        &mut self,
        pod: &Arc<Pod>,
        seen: &Observed,
        attempt: u32,
    ) -> Result<(String, v1::PodSandboxConfig, Vec<std::net::IpAddr>), ()> {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.recorder.normal(&subject(pod, ""), "SandboxChanged", message);
        }
        for old in &seen.sandboxes {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: old.id.clone() };
            if let Err(error) = self.shared.runtime.stop_pod_sandbox(request).await {
                self.sandbox_failed(pod, &error.to_string());
                return Err(());
            }
        }
        if let Err(error) = self.shared.volumes.mount(pod, &[]).await {
            self.shared.recorder.warning(&subject(pod, ""), "FailedMount", error.to_string());
            return Err(());
        }
        self.shared.weigh();
        if let Err(error) = self.shared.groups.set(pod, crate::spec::resources::of_pod(pod)).await {
            tracing::warn!(pod = self.name(), error, "a pod's control group has no limits");
        }
        let config = match crate::spec::sandbox(pod, &self.shared.facts, attempt) {
            Ok(config) => config,
            Err(error) => {
                self.sandbox_failed(pod, &error.to_string());
                return Err(());
            }
        };
        let runtime_handler = match self.shared.handler(pod).await {
            Ok(handler) => handler,
            Err(error) => {
                self.sandbox_failed(pod, &error);
                return Err(());
            }
        };
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler };
        let made = match self.shared.runtime.run_pod_sandbox(request).await {
            Ok(made) => made.pod_sandbox_id,
            Err(error) => {
                self.sandbox_failed(pod, &error.to_string());
                return Err(());
            }
        };
        let seen = self.observe().await.map_err(|_| ())?;
        let ips = seen.sandboxes.iter().find(|s| s.id == made).map(|s| s.ips.clone()).unwrap_or_default();
        // Others may use the address before the first container runs.
        self.tell(pod, &seen, false).await;
        Ok((made, config, ips))
    }

    /// Starts one container; fails with a reason and a message for its status.
    async fn start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        start: &Start,
        sandbox: &str,
        sandbox_config: &v1::PodSandboxConfig,
        ips: &[std::net::IpAddr],
    ) -> Result<(), (String, String)> {
        let about = subject(pod, &start.name);
        let image = self.shared.images.ensure(pod, container, &about).await.map_err(|missing| {
            self.retry = Some((Instant::now() + missing.again, missing.again));
            (missing.reason.to_owned(), missing.message)
        })?;
        let bad = |error: String| {
            self.shared.recorder.warning(&about, "Failed", format!("Error: {error}"));
            ("CreateContainerConfigError".to_owned(), error)
        };
        // Files may have changed since the sandbox was made.
        self.shared.volumes.mount(pod, ips).await.map_err(|error| {
            self.shared.recorder.warning(&subject(pod, ""), "FailedMount", error.to_string());
            ("ContainerCreating".to_owned(), String::new())
        })?;
        let mut config = self.shared.container_config(pod, container, start.attempt, &image, ips).await.map_err(bad)?;
        config.annotations.insert(HASH.to_owned(), definition(container));
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        // One that was made and never started stands in the way of its successor.
        self.remove_unstarted(&start.name).await;
        let id = match self.shared.runtime.create_container(request).await {
            Ok(made) => made.container_id,
            Err(error) => {
                self.shared.recorder.warning(&about, "Failed", format!("Error: {error}"));
                return Err(("CreateContainerError".into(), error.to_string()));
            }
        };
        self.shared.recorder.normal(&about, "Created", "Container created");
        if start.again {
            self.backoff.entry(start.name.clone()).or_default().grow(crate::nanos());
        }
        let request = v1::StartContainerRequest { container_id: id.clone() };
        if let Err(error) = self.shared.runtime.start_container(request).await {
            self.shared.recorder.warning(&about, "Failed", format!("Error: {error}"));
            return Err(("RunContainerError".into(), error.to_string()));
        }
        self.given.insert(id.clone(), container.resources.clone());
        self.shared.recorder.normal(&about, "Started", "Container started");
        if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref())
            && let Err(error) =
                crate::hooks::run(&self.shared.runtime, hook, pod, container, &id, ips.first().copied()).await
        {
            self.shared.recorder.warning(&about, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
            let message = "FailedPostStartHook".to_owned();
            let kill = Kill { id, name: start.name.clone(), message, grace: None };
            self.kill(pod, &kill, pod_grace(pod)).await;
            return Err(("PostStartHookError".into(), error));
        }
        Ok(())
    }

    async fn remove_unstarted(&mut self, name: &str) {
        let Ok(seen) = self.observe().await else { return };
        for container in seen.containers.iter().filter(|c| c.name == name && c.state == State::Created) {
            let request = v1::RemoveContainerRequest { container_id: container.id.clone() };
            let _ = self.shared.runtime.remove_container(request).await;
        }
    }

    /// Runs the hook and stops a container, within a grace period in seconds.
    async fn kill(&self, pod: &Pod, kill: &Kill, grace: i64) {
        let about = subject(pod, &kill.name);
        if !self.killed.contains_key(&kill.id) {
            self.shared.recorder.normal(&about, "Killing", kill.message.clone());
        }
        self.shared.probes.ended(&kill.id);
        let mut grace = kill.grace.unwrap_or(grace);
        let container = find(pod, &kill.name);
        let hook = container.as_ref().and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.pre_stop.as_ref());
        if let (Some(hook), Some(container)) = (hook, &container)
            && grace > 0
        {
            let begun = Instant::now();
            let ip = self.seen.borrow().sandbox().and_then(|s| s.ips.first().copied());
            let run = crate::hooks::run(&self.shared.runtime, hook, pod, container, &kill.id, ip);
            match tokio::time::timeout(Duration::from_secs(grace as u64), run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.shared.recorder.warning(&about, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
                }
                Err(_) => tracing::debug!(container = kill.id, "the hook took the whole grace period"),
            }
            grace = (grace - begun.elapsed().as_secs() as i64).max(SHORTEST_GRACE);
        }
        let request = v1::StopContainerRequest { container_id: kill.id.clone(), timeout: grace };
        if let Err(error) = self.shared.runtime.stop_container(request).await {
            tracing::warn!(container = kill.id, %error, "a container could not be stopped");
        }
    }

    /// Stops whatever runs: first all but the sidecars, then these from the last to the first. A wish for a shorter
    /// grace period is followed while waiting.
    async fn stop_all(&mut self, pod: &Pod, seen: &Observed, grace: i64) {
        let sidecars: Vec<&str> =
            pod.spec.init_containers.iter().filter(|c| restart::is_sidecar(c)).map(|c| c.name.as_str()).collect();
        let kill_of = |container: &Seen| Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            message: format!("Stopping container {}", container.name),
            grace: None,
        };
        let begun = Instant::now();
        let main: Vec<Kill> = seen.running().filter(|c| !sidecars.contains(&c.name.as_str())).map(kill_of).collect();
        let mut desired = self.desired.clone();
        {
            let kills = futures::future::join_all(main.iter().map(|kill| self.kill(pod, kill, grace)));
            tokio::pin!(kills);
            let mut shortest = grace;
            loop {
                tokio::select! {
                    _ = &mut kills => break,
                    changed = desired.changed() => {
                        let now = desired.borrow_and_update().clone();
                        let wanted = if now.gone { 1 } else { deletion_grace(&now.pod) };
                        if changed.is_err() || wanted >= shortest {
                            if changed.is_err() { kills.as_mut().await; break }
                            continue;
                        }
                        shortest = wanted;
                        for kill in &main {
                            let (runtime, container_id) = (self.shared.runtime.clone(), kill.id.clone());
                            let request = v1::StopContainerRequest { container_id, timeout: wanted };
                            tokio::spawn(async move { runtime.stop_container(request).await });
                        }
                    }
                }
            }
        }
        for kill in &main {
            self.killed.insert(kill.id.clone(), ());
        }
        for name in sidecars.iter().rev() {
            let Some(running) = seen.running().find(|c| c.name == *name) else { continue };
            let left = (grace - begun.elapsed().as_secs() as i64).max(SHORTEST_GRACE.min(grace.max(1)));
            let kill = kill_of(running);
            self.kill(pod, &kill, left).await;
            self.killed.insert(kill.id, ());
        }
    }

    async fn stop_sandboxes(&mut self, seen: &Observed) -> bool {
        let mut ok = true;
        for sandbox in seen.sandboxes.iter().filter(|s| s.ready) {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.shared.runtime.stop_pod_sandbox(request).await {
                tracing::warn!(pod = self.name(), %error, "a pod sandbox could not be stopped");
                ok = false;
            }
        }
        ok
    }

    /// A pod that has ended but is to be kept: nothing runs, its logs and ends stay.
    async fn finish(&mut self, desired: &Desired, seen: Observed) -> Round {
        let pod = &desired.pod;
        if seen.running().next().is_some() {
            self.stop_all(pod, &seen, pod_grace(pod)).await;
            return Round::Again;
        }
        if seen.sandboxes.iter().any(|s| s.ready) {
            // The end is told before what nobody waits for is put away.
            self.tell(pod, &seen, true).await;
            return if self.stop_sandboxes(&seen).await { Round::Again } else { self.fail() };
        }
        if !self.tell(pod, &seen, true).await {
            return self.fail();
        }
        if let Err(error) = self.shared.volumes.unmount(&self.uid).await {
            tracing::warn!(pod = self.name(), %error, "a pod's volumes could not be taken away");
            return self.fail();
        }
        Round::Wait(None)
    }

    /// A pod that is to go: everything is stopped, told, taken away, and the API forgets it.
    async fn end(&mut self, desired: &Desired, seen: Observed) -> Round {
        let pod = &desired.pod;
        let begun = *self.ending.get_or_insert_with(Instant::now);
        if seen.running().next().is_some() {
            let grace = if desired.gone && pod.metadata.deletion_timestamp.is_none() {
                pod_grace(pod)
            } else {
                deletion_grace(pod)
            };
            self.stop_all(pod, &seen, grace).await;
            return Round::Again;
        }
        if !self.stop_sandboxes(&seen).await {
            return self.fail();
        }
        if !desired.gone && !self.tell(pod, &seen, true).await {
            return self.fail();
        }
        if let Err(error) = self.shared.volumes.unmount(&self.uid).await {
            tracing::warn!(pod = self.name(), %error, "a pod's volumes could not be taken away");
            return self.fail();
        }
        if !desired.gone && !desired.is_static {
            // Whoever asked for a graceful end can look at it once, however fast the containers were.
            let graceful = pod.metadata.deletion_grace_period_seconds.is_some_and(|seconds| seconds > 0);
            if graceful && begun.elapsed() < SHORTEST_END {
                return Round::Wait(Some(begun + SHORTEST_END));
            }
            let deleted =
                self.client.delete_with::<Pod>(&pod.metadata.namespace, &pod.metadata.name, at_once(&self.uid));
            match deleted.await {
                Ok(()) => {}
                Err(status) if status.is_not_found() || status.is_conflict() => {}
                Err(status) => {
                    tracing::warn!(pod = self.name(), %status, "an ended pod could not be deleted");
                    return self.fail();
                }
            }
            // Finalizers of others keep it; its containers' logs stay until it is gone.
            return if self.desired.borrow().gone { Round::Again } else { Round::Wait(None) };
        }
        for sandbox in &seen.sandboxes {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.shared.runtime.remove_pod_sandbox(request).await {
                tracing::warn!(pod = self.name(), %error, "a pod sandbox could not be removed");
                return self.fail();
            }
        }
        if let Err(error) = self.shared.groups.remove(&self.uid).await {
            tracing::warn!(pod = self.name(), error, "a pod's control group could not be removed");
            return self.fail();
        }
        self.shared.images.forget(&self.uid);
        self.shared.remove_logs(pod);
        self.remove_groups().await;
        Round::Done
    }

    /// Takes a pod's control groups away, which are empty now. Of a pod that ended while the agent was away it is not
    /// known of which class it was.
    async fn remove_groups(&self) {
        let groups = crate::spec::resources::cgroups_of(&self.uid);
        let removed = tokio::task::spawn_blocking(move || {
            let layout = linux::cgroup::Layout::detect()?;
            groups.iter().try_for_each(|path| linux::cgroup::Cgroup::new(layout.clone(), path)?.remove())
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(pod = self.name(), %error, "a pod's control group could not be removed"),
            Err(error) => tracing::error!(pod = self.name(), %error, "removing a pod's control group panicked"),
        }
    }

    /// Takes away what is no longer of use: all but the last end of each container, and older sandboxes.
    async fn tidy(&mut self, pod: &Pod, seen: &Observed) {
        let _ = pod;
        let mut ends: HashMap<&str, usize> = HashMap::new();
        for container in seen.containers.iter().filter(|c| c.state == State::Exited) {
            let before = ends.entry(container.name.as_str()).or_default();
            *before += 1;
            let running = seen.latest(&container.name).is_some_and(|l| l.state != State::Exited);
            if *before > 1 + usize::from(!running) {
                let request = v1::RemoveContainerRequest { container_id: container.id.clone() };
                let _ = self.shared.runtime.remove_container(request).await;
            }
        }
        let newest = seen.sandbox().map(|s| s.id.clone()).unwrap_or_default();
        for sandbox in seen.sandboxes.iter().filter(|s| s.id != newest && !s.ready) {
            if !seen.containers.iter().any(|c| c.sandbox == sandbox.id) {
                let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
                let _ = self.shared.runtime.remove_pod_sandbox(request).await;
            }
        }
    }

    /// Tells the API what is; answers whether it knows.
    async fn tell(&mut self, pod: &Arc<Pod>, seen: &Observed, ending: bool) -> bool {
        // What runs waits no longer.
        for container in seen.running() {
            self.waiting.remove(&container.name);
        }
        let probe = |id: &str| self.shared.probes.state(id);
        let mut base = match &self.granted {
            Some(granted) => (*granted.apply(pod)).clone(),
            None => (**pod).clone(),
        };
        if let Some(sent) = &self.sent {
            // Our own last word may be newer than what we have heard back; other writers' conditions are not.
            let others = base.status.conditions.iter().filter(|c| !status::OWNED.contains(&c.type_.as_str())).cloned();
            let own = sent.conditions.iter().filter(|c| status::OWNED.contains(&c.type_.as_str())).cloned();
            let conditions = own.chain(others).collect();
            base.status = PodStatus { conditions, ..sent.clone() };
        }
        let new = status::status(
            &base,
            seen,
            &status::Inputs {
                probe: &probe,
                waiting: &self.waiting,
                verdict: self.verdict.as_ref(),
                ending,
                node_ips: &self.shared.ips,
                given: &self.given,
                resize: &self.progress,
                now: crate::seconds(),
            },
        );
        if new == pod.status && self.sent.as_ref().is_none_or(|sent| *sent == new) || self.sent.as_ref() == Some(&new) {
            return true;
        }
        // A static pod's mirror has an identity of its own.
        let uid = (!crate::static_pods::is_static(pod)).then_some(pod.metadata.uid.as_str());
        let before = pod.status.conditions.iter().chain(self.sent.iter().flat_map(|sent| &sent.conditions));
        let Some(patch) = difference(uid, &new, before) else { return true };
        let meta = &pod.metadata;
        match self.client.patch::<Pod>(&meta.namespace, &meta.name, "status", PatchKind::Strategic, patch).await {
            Ok(_) => {
                self.sent = Some(new);
                true
            }
            // Gone, or another of the same name.
            Err(status) if status.is_not_found() || status.is_conflict() => true,
            Err(status) => {
                tracing::warn!(pod = self.name(), %status, "a pod's status could not be written");
                false
            }
        }
    }
}

/// The patch that tells a status whole, but for conditions of others. Keys that are not in it are taken away, and so are
/// own conditions that were told before.
fn difference<'a>(
    uid: Option<&str>,
    status: &PodStatus,
    before: impl Iterator<Item = &'a PodCondition>,
) -> Option<Value> {
    let Value::Map(mut tree) = status.to_value() else { return None };
    let before: Vec<&PodCondition> = before.collect();
    let own = status.conditions.iter().filter(|c| status::OWNED.contains(&c.type_.as_str()));
    let whole = |condition: &PodCondition| {
        let mut tree = condition.to_value();
        // What is empty now and was not has to be said.
        let old = before.iter().filter(|old| old.type_ == condition.type_);
        for (key, had) in old.flat_map(|old| [("reason", &old.reason), ("message", &old.message)]) {
            if let Some(map) = tree.as_map_mut().filter(|map| !had.is_empty() && map.get(key).is_none()) {
                map.insert(key, Value::Null);
            }
        }
        tree
    };
    let mut conditions: Vec<Value> = own.map(whole).collect();
    let gone: BTreeSet<&str> = before
        .iter()
        .map(|c| c.type_.as_str())
        .filter(|t| status::OWNED.contains(t) && !status.conditions.iter().any(|c| c.type_ == *t))
        .collect();
    for type_ in gone {
        let mut directive = Map::new();
        directive.insert("type", type_);
        directive.insert("$patch", "delete");
        conditions.push(Value::Map(directive));
    }
    tree.insert("conditions", conditions);
    for key in ["message", "reason", "podIP", "podIPs"] {
        if tree.get(key).is_none() {
            tree.insert(key, Value::Null);
        }
    }
    // By their keys, the addresses of a sandbox that is gone would stay beside those of its successor.
    for key in ["podIPs", "hostIPs"] {
        if let Some(Value::List(items)) = tree.get_mut(key) {
            let mut directive = Map::new();
            directive.insert("$patch", "replace");
            items.push(Value::Map(directive));
        }
    }
    // These belong to others.
    for key in ["qosClass", "nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus", "resize"] {
        tree.remove(key);
    }
    let mut patch = Map::new();
    if let Some(uid) = uid {
        let mut metadata = Map::new();
        metadata.insert("uid", uid);
        patch.insert("metadata", metadata);
    }
    patch.insert("status", tree);
    Some(Value::Map(patch))
}

fn at_once(uid: &str) -> Value {
    let mut options = match Client::only_uid(uid) {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    options.insert("gracePeriodSeconds", 0i64);
    Value::Map(options)
}

/// A container of any sort, by its name.
pub fn find(pod: &Pod, name: &str) -> Option<Container> {
    let spec = &pod.spec;
    let plain = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == name).cloned();
    plain.or_else(|| status::ephemeral_containers(pod).into_iter().find(|c| c.name == name))
}

/// What of a container's definition makes a new container when it changes: its name and image.
fn definition(container: &Container) -> String {
    format!("{:016x}", fnv(&[container.name.as_bytes(), container.image.as_bytes()]))
}

/// FNV-1a: stable over releases, unlike the standard library's hash.
pub fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn pod_grace(pod: &Pod) -> i64 {
    pod.spec.termination_grace_period_seconds.unwrap_or(30).max(0)
}

/// How long a pod that is being deleted has; at least a second.
fn deletion_grace(pod: &Pod) -> i64 {
    pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| pod_grace(pod)).max(1)
}

/// The subject of events about a pod, or about one of its containers.
pub fn subject(pod: &Pod, container: &str) -> Subject {
    let spec = &pod.spec;
    let place = if container.is_empty() {
        String::new()
    } else if spec.init_containers.iter().any(|c| c.name == container) {
        format!("spec.initContainers{{{container}}}")
    } else if spec.ephemeral_containers.iter().any(|c| c.ephemeral_container_common.name == container) {
        format!("spec.ephemeralContainers{{{container}}}")
    } else {
        format!("spec.containers{{{container}}}")
    };
    Subject {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.as_str().into(),
        name: pod.metadata.name.as_str().into(),
        uid: pod.metadata.uid.as_str().into(),
        field_path: place.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_name_and_image() {
        let mut container = Container { name: "a".into(), image: "i:1".into(), ..Container::default() };
        let first = definition(&container);
        container.args = vec!["x".into()];
        assert_eq!(definition(&container), first);
        container.image = "i:2".into();
        assert_ne!(definition(&container), first);
        // Kept on disk by running containers: it must never change.
        assert_eq!(fnv(&[b"a"]), 0x089b_e207_b544_f1e4);
    }

    #[test]
    fn others_conditions_are_not_told() {
        let text = r#"{"phase":"Running","qosClass":"Burstable","conditions":[{"type":"x/y","status":"True"},
            {"type":"Ready","status":"True"}]}"#;
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        let gone = PodCondition { type_: "PodResizePending".into(), ..PodCondition::default() };
        let other = PodCondition { type_: "x/z".into(), ..PodCondition::default() };
        let unready = PodCondition { type_: "Ready".into(), reason: "No".into(), ..PodCondition::default() };
        let before = [&gone, &other, &unready].into_iter();
        let patch = difference(Some("u"), &PodStatus::from_value(&tree).unwrap(), before).unwrap();
        let conditions = patch.at(&["status", "conditions"]).unwrap().as_list().unwrap();
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[0].get("reason"), Some(&Value::Null));
        assert_eq!(conditions[0].get("message"), None);
        assert_eq!(conditions[1].str_at(&["type"]), Some("PodResizePending"));
        assert_eq!(conditions[1].str_at(&["$patch"]), Some("delete"));
        assert!(patch.at(&["status", "qosClass"]).is_none());
        assert_eq!(patch.at(&["status", "reason"]), Some(&Value::Null));
    }

    #[test]
    fn addresses_replace_those_of_an_earlier_sandbox() {
        let tree = apimachinery::codec::json::parse(br#"{"podIPs":[{"ip":"10.42.0.3"}]}"#).unwrap();
        let patch = difference(None, &PodStatus::from_value(&tree).unwrap(), std::iter::empty()).unwrap();
        let expected = br#"[{"ip":"10.42.0.3"},{"$patch":"replace"}]"#;
        assert_eq!(patch.at(&["status", "podIPs"]), Some(&apimachinery::codec::json::parse(expected).unwrap()));
    }
}
