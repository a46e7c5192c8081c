//! How a worker makes the pod's sandbox and starts its containers.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use cri::v1;
use tokio::time::Instant;

use super::Worker;
use crate::hash::definition;
use crate::observed::{HASH, Observed, State};
use crate::plan::{Kill, Start};
use crate::pod::{grace, subject};

impl Worker {
    pub(super) fn sandbox_failed(&self, pod: &Pod, error: &str) {
        let message = format!("Failed to create pod sandbox: {error}");
        self.shared.recorder.warning(&subject(pod, ""), "FailedCreatePodSandBox", message);
    }

    pub(super) async fn make_sandbox(
        &mut self,
        pod: &Arc<Pod>,
        seen: &Observed,
        attempt: u32,
    ) -> Result<(String, v1::PodSandboxConfig, Vec<IpAddr>), ()> {
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
    pub(super) async fn start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        start: &Start,
        sandbox: &str,
        sandbox_config: &v1::PodSandboxConfig,
        ips: &[IpAddr],
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
            self.kill(pod, &kill, grace(pod)).await;
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
}
