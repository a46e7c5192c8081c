//! How a worker stops containers and sandboxes.

use std::time::Duration;

use api::core::pod::Pod;
use cri::v1;
use tokio::time::Instant;

use super::Worker;
use crate::observed::{Observed, Seen};
use crate::plan::Kill;
use crate::pod::{deletion_grace, find, subject};
use crate::restart;

/// Upstream gives a container at least this long, whatever a hook took.
const SHORTEST_GRACE: i64 = 2;

impl Worker {
    /// Runs the hook and stops a container, within a grace period in seconds.
    pub(super) async fn kill(&self, pod: &Pod, kill: &Kill, grace: i64) {
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
    pub(super) async fn stop_all(&mut self, pod: &Pod, seen: &Observed, grace: i64) {
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

    pub(super) async fn stop_sandboxes(&mut self, seen: &Observed) -> bool {
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
}
