//! How a worker follows its pod's wish for other resources.

use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use cri::v1;

use super::Worker;
use crate::observed::Observed;
use crate::plan::Plan;
use crate::pod::{find, subject};
use crate::pod_groups;
use crate::resize::{self, Change, Granted};
use crate::spec::resources::of_pod;

impl Worker {
    /// The pod with the resources that it may have. A wish for others is granted as soon as the node has them.
    pub(super) fn resources_of(&mut self, pod: &Arc<Pod>) -> Arc<Pod> {
        let wished = Granted::wished(pod);
        let granted = match &self.granted {
            Some(granted) => granted.clone(),
            None => {
                // A pod that began before the daemon did has what its status tells.
                let granted = Granted::told(pod);
                self.given = resize::given(pod);
                *self.held.lock() = Some(granted.apply(pod));
                self.granted = Some(granted.clone());
                granted
            }
        };
        if wished == granted {
            self.progress.pending = None;
            return pod.clone();
        }
        match self.shared.grant(pod) {
            Ok(()) => {
                let before = of_pod(&granted.apply(pod));
                self.limited =
                    Some(self.limited.take().map_or(before.clone(), |wider| pod_groups::wider(&wider, &before)));
                self.granted = Some(wished);
                self.progress.pending = None;
                self.progress.running = Some((pod.metadata.generation, None));
                // What failed before was another resize.
                self.retry = None;
                let message = format!("Pod resize started: {}", resize::summary(pod, ""));
                self.shared.recorder.normal(&subject(pod, ""), "ResizeStarted", message);
                pod.clone()
            }
            Err(refusal) => {
                let pending = Some((refusal.clone(), pod.metadata.generation));
                if self.progress.pending != pending {
                    let summary = resize::summary(pod, &refusal.message);
                    let message = format!("Pod resize {}: {summary}", refusal.reason);
                    self.shared.recorder.warning(&subject(pod, ""), &format!("Resize{}", refusal.reason), message);
                    self.progress.pending = pending;
                }
                granted.apply(pod)
            }
        }
    }

    /// Takes note of whether all that was granted is in place.
    pub(super) fn note_resize(&mut self, pod: &Pod, seen: &Observed) {
        self.given.retain(|id, _| seen.containers.iter().any(|c| c.id == *id));
        let open = seen.running().any(|running| {
            let all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
            let container = all.into_iter().find(|c| c.name == running.name.as_str());
            container.is_some_and(|c| resize::change(c, self.given.get(&running.id)) != Change::Nothing)
        });
        if !open && self.progress.running.take().is_some() {
            let message = format!("Pod resize completed: {}", resize::summary(pod, ""));
            self.shared.recorder.normal(&subject(pod, ""), "ResizeCompleted", message);
        }
    }

    /// Gives running containers the resources that they were granted; tells why where it cannot be done.
    pub(super) async fn resize(&mut self, pod: &Arc<Pod>, plan: &Plan) -> Result<(), ()> {
        match self.resize_all(pod, plan).await {
            Ok(()) => Ok(()),
            Err(error) => {
                if let Some((_, told)) = &mut self.progress.running
                    && told.as_ref() != Some(&error)
                {
                    let message = format!("Pod resize error: {}", resize::summary(pod, &error));
                    self.shared.recorder.warning(&subject(pod, ""), "ResizeError", message);
                    *told = Some(error);
                }
                Err(())
            }
        }
    }

    async fn resize_all(&mut self, pod: &Arc<Pod>, plan: &Plan) -> Result<(), String> {
        let wanted = of_pod(pod);
        // No container may exceed its pod, at no time.
        if let Some(before) = &self.limited {
            self.shared.groups.set(pod, pod_groups::wider(before, &wanted)).await?;
        }
        for (id, name) in &plan.resize {
            let Some(container) = find(pod, name) else { continue };
            self.give(pod, &container, id).await?;
            self.given.insert(id.clone(), container.resources);
        }
        if self.limited.is_some() {
            self.shared.groups.set(pod, wanted).await?;
            self.limited = None;
            self.shared.weigh();
        }
        Ok(())
    }

    async fn give(&self, pod: &Pod, container: &Container, id: &str) -> Result<(), String> {
        let mut wanted = crate::spec::resources::of_container(pod, container, &self.shared.facts.allocatable);
        let before = self.given.get(id).and_then(|given| given.limits.get("memory"));
        let smaller = match (container.resources.limits.get("memory"), before) {
            (Some(limit), Some(before)) => limit < before,
            _ => true,
        };
        if wanted.memory_limit_in_bytes > 0 && smaller {
            // The kernel would end processes to get there.
            let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
            let stats = self.shared.runtime.container_stats(request).await.map_err(|e| e.to_string())?.stats;
            let used = stats.and_then(|s| s.memory).and_then(|m| m.usage_bytes).map_or(0, |used| used.value);
            let limit = wanted.memory_limit_in_bytes;
            if u64::try_from(limit).is_ok_and(|limit| limit < used) {
                return Err(format!(
                    "attempting to set container {:?} memory limit ({limit}) below current usage ({used})",
                    container.name
                ));
            }
        }
        // Nothing said is nothing changed; what is not limited any more has to be said.
        for amount in [&mut wanted.cpu_quota, &mut wanted.memory_limit_in_bytes] {
            if *amount == 0 {
                *amount = -1;
            }
        }
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(wanted),
            ..Default::default()
        };
        self.shared.runtime.update_container_resources(request).await.map(drop).map_err(|e| e.to_string())
    }
}
