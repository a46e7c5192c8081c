//! Taking up pods: those that run when the daemon starts, and what their shims tell.

use std::fs;
use std::sync::Arc;

use cri::v1::{ContainerConfig, PodSandboxConfig};

use crate::containers::Container;
use crate::error::blocking;
use crate::image::layers::{remove_tree, unmount};
use crate::pods::Pod;
use crate::record::{self, ContainerRecord, Phase, PodRecord, now};
use crate::shim::client::Events;
use crate::shim::protocol::{Event, ExitStatus, PodState};
use crate::shim::{self, ShimClient};
use crate::{Error, Result, Runtime};

/// The exit code of a container whose end nobody saw.
const LOST: i32 = 255;

impl Runtime {
    /// Takes up what is recorded on disk: running pods by their shims, the rest as ended.
    pub(crate) async fn adopt(&self) -> Result<()> {
        for (id, record, config) in self.recorded::<PodRecord, PodSandboxConfig>("pods").await? {
            if let Some(metadata) = &config.metadata {
                let name =
                    format!("pod {}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt);
                self.reserve_name(&name, &id)?;
            }
            self.insert_pod(Arc::new(Pod::new(id, config, record)));
        }
        for (id, record, config) in self.recorded::<ContainerRecord, ContainerConfig>("containers").await? {
            let metadata = config.metadata.clone().unwrap_or_default();
            self.reserve_name(&format!("container {}_{}_{}", record.pod, metadata.name, metadata.attempt), &id)?;
            self.images().hold(&id, &record.chain);
            let mounts = config.mounts.iter().filter(|mount| mount.image.as_ref().is_some_and(|i| !i.image.is_empty()));
            for (number, mount) in mounts.enumerate() {
                let image = mount.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
                if let Some(named) = self.images().find(image) {
                    self.images().hold(&format!("{id}/{number}"), &named.image.chain);
                }
            }
            self.insert_container(Arc::new(Container::new(id, config, record)));
        }
        for pod in self.pods() {
            if let Err(error) = self.take_up(&pod).await {
                tracing::error!(pod = %pod.id, %error, "a pod could not be taken up");
            }
        }
        // Containers whose pod is gone were being removed.
        for container in self.containers() {
            if self.pod(&container.record().pod).is_err() {
                let (runtime, id) = (self.clone(), container.id.clone());
                blocking(move || runtime.unmake(&id)).await?;
                self.forget_container(&container.id);
            }
        }
        self.detach_unknown().await;
        Ok(())
    }

    /// Lets the network go of sandboxes that no record speaks of.
    async fn detach_unknown(&self) {
        let Some(network) = self.config().network.clone() else { return };
        let known: std::collections::HashSet<String> =
            self.pods().iter().filter(|pod| pod.record().attached).map(|pod| pod.id.clone()).collect();
        let swept = blocking(move || Ok(network.gc(&|id| known.contains(id))?)).await;
        if let Err(error) = swept {
            // A node may not know its ranges yet; the next start tries again.
            tracing::debug!(%error, "the network could not be swept");
        }
    }

    /// Reads all records of a kind; what was being made when the daemon ended has none and is taken away.
    async fn recorded<R, C>(&self, kind: &str) -> Result<Vec<(String, R, C)>>
    where
        R: serde::de::DeserializeOwned + Send + 'static,
        C: prost::Message + Default + 'static,
    {
        let root = self.config().root.join(kind);
        let (runtime, is_pod) = (self.clone(), kind == "pods");
        blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&root).map_err(Error::file(&root))?.flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                match record::load::<R, C>(&entry.path()) {
                    Ok((record, config)) => found.push((id, record, config)),
                    Err(error) => {
                        tracing::warn!(%id, %error, "an unfinished {kind} folder is removed", kind = if is_pod { "pod" } else { "container" });
                        if is_pod {
                            unmount(&entry.path().join("shm"))?;
                            remove_tree(&entry.path())?;
                        } else {
                            runtime.unmake(&id)?;
                        }
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn take_up(&self, pod: &Arc<Pod>) -> Result<()> {
        let same_boot = pod.record().boot_id == self.host().boot_id;
        let connected = if same_boot {
            ShimClient::connect(&self.socket(&pod.id)).await
        } else {
            Err(Error::NotFound { what: "shim", id: pod.id.clone() })
        };
        let (shim, state, events) = match connected {
            Ok(connected) => connected,
            Err(error) if error.is_not_found() => return self.lose(pod).await,
            Err(error) => return Err(error),
        };
        pod.set_shim(Some(shim));
        if !pod.record().ready {
            // It was being made, or taken down.
            self.settle(pod, &state)?;
            self.follow(pod, events);
            return self.tear_down(pod).await;
        }
        self.settle(pod, &state)?;
        self.follow(pod, events);
        let shim = pod.shim()?;
        for known in state.containers.iter().filter(|known| known.started_at.is_none()) {
            // The daemon ended between making it and starting it: whoever starts it begins anew.
            match shim.delete(&known.container).await {
                // It was just being started, and now it runs.
                Err(Error::State(_)) => self.settle(pod, &shim.state().await?)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Brings records in line with what a shim says.
    fn settle(&self, pod: &Pod, state: &PodState) -> Result<()> {
        for container in self.containers_of(&pod.id) {
            let known = state.containers.iter().find(|known| known.container == container.id);
            match (container.record().phase, known) {
                (Phase::Exited, _) | (Phase::Created, None) => {}
                (Phase::Created, Some(known)) if known.started_at.is_none() => {}
                (_, Some(known)) => {
                    container.update(&self.container_folder(&container.id), |record| {
                        record.pid = known.pid;
                        record.started_at = known.started_at.unwrap_or(record.started_at);
                        if known.started_at.is_some() {
                            record.phase = Phase::Running;
                        }
                    })?;
                    if let Some(exit) = &known.exit {
                        self.ended(pod, &container.id, exit);
                    }
                }
                (_, None) => self.ended(pod, &container.id, &lost()),
            }
        }
        Ok(())
    }

    /// A pod's shim is gone: what still runs of it is killed, and ends that nobody heard of are learned.
    async fn lose(&self, pod: &Arc<Pod>) -> Result<()> {
        let folder = self.pod_folder(&pod.id).join("shim");
        let left = blocking(move || shim::bury(&folder)).await?;
        for container in self.containers_of(&pod.id) {
            if container.record().phase == Phase::Running {
                let exit = left.iter().find(|state| state.container == container.id).and_then(|state| state.exit);
                self.ended(pod, &container.id, &exit.unwrap_or_else(lost));
            }
        }
        self.tear_down(pod).await
    }

    /// Listens to a pod's shim until it goes.
    pub(crate) fn follow(&self, pod: &Arc<Pod>, mut events: Events) {
        let (runtime, pod) = (self.downgrade(), Arc::downgrade(pod));
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::Exited { container, exit } => {
                        let (Some(runtime), Some(pod)) = (runtime.upgrade(), pod.upgrade()) else { return };
                        // Writes the record: off the asynchronous threads, but in order.
                        let told = blocking(move || {
                            runtime.ended(&pod, &container, &exit);
                            Ok(())
                        })
                        .await;
                        if let Err(error) = told {
                            tracing::error!(%error, "the end of a container was lost");
                        }
                    }
                    Event::OutOfMemory { container } => tracing::info!(%container, "a container ran out of memory"),
                    Event::Started { .. } | Event::ExecExited { .. } => {}
                }
            }
            let (Some(runtime), Some(pod)) = (runtime.upgrade(), pod.upgrade()) else { return };
            // A pod that is being taken down has let its shim go before.
            if pod.has_shim() {
                tracing::error!(pod = %pod.id, "a pod's shim is gone");
                if let Err(error) = runtime.lose_shim(&pod).await {
                    tracing::error!(pod = %pod.id, %error, "what a lost shim left could not be taken away");
                }
            }
        });
    }

    /// The shim died while its pod was in use.
    async fn lose_shim(&self, pod: &Arc<Pod>) -> Result<()> {
        let _one = pod.changing.lock().await;
        let was_ready = pod.record().ready;
        pod.set_shim(None);
        self.lose(pod).await?;
        if was_ready {
            self.tell(&pod.id, pod, cri::v1::ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }
}

fn lost() -> ExitStatus {
    ExitStatus { code: LOST, at: now(), oom_killed: false }
}
