//! How a worker puts away what has ended: old containers, the pod that stays in the API, and the pod that goes.

use std::collections::HashMap;
use std::time::Duration;

use api::core::pod::Pod;
use apimachinery::{Map, Value};
use client::Client;
use cri::v1;
use tokio::time::Instant;

use super::{Desired, Round, Worker};
use crate::observed::{Observed, State};
use crate::pod::{deletion_grace, grace};

/// The API keeps a pod at least this long after its graceful end began: clients expect to find it by their next request,
/// as they do where a node looks at its containers once a second.
const SHORTEST_END: Duration = Duration::from_secs(1);

impl Worker {
    /// A pod that has ended but is to be kept: nothing runs, its logs and ends stay.
    pub(super) async fn finish(&mut self, desired: &Desired, seen: Observed) -> Round {
        let pod = &desired.pod;
        if seen.running().next().is_some() {
            self.stop_all(pod, &seen, grace(pod)).await;
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
    pub(super) async fn end(&mut self, desired: &Desired, seen: Observed) -> Round {
        let pod = &desired.pod;
        let begun = *self.ending.get_or_insert_with(Instant::now);
        if seen.running().next().is_some() {
            let grace = if desired.gone && pod.metadata.deletion_timestamp.is_none() {
                grace(pod)
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
    pub(super) async fn tidy(&mut self, pod: &Pod, seen: &Observed) {
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
}

fn at_once(uid: &str) -> Value {
    let mut options = match Client::only_uid(uid) {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    options.insert("gracePeriodSeconds", 0i64);
    Value::Map(options)
}
