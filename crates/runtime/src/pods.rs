//! Pod sandboxes: their folder, shim, namespaces and network.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cni::{PodNetwork, PortMapping, Protocol};
use cri::v1::{self, ContainerEventType, NamespaceMode, PodSandboxConfig};
use nix::mount::{MsFlags, mount};
use parking_lot::Mutex;

use crate::error::blocking;
use crate::image::content::replace_volatile;
use crate::image::layers::{remove_tree, set_mode, unmount};
use crate::record::{self, PodRecord, new_id, now};
use crate::shim::ShimClient;
use crate::shim::protocol::Launch;
use crate::spec::pod_namespace_options;
use crate::{Error, Result, Runtime};

/// The longest host name that the kernel takes.
const MAX_HOSTNAME: usize = 64;

/// A pod sandbox.
#[derive(Debug)]
pub(crate) struct Pod {
    pub id: String,
    pub config: PodSandboxConfig,
    record: Mutex<PodRecord>,
    /// The way to its shim, while there is one.
    shim: Mutex<Option<ShimClient>>,
    /// One change at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Pod {
    pub fn new(id: String, config: PodSandboxConfig, record: PodRecord) -> Self {
        Self { id, config, record: Mutex::new(record), shim: Mutex::new(None), changing: tokio::sync::Mutex::default() }
    }

    pub fn record(&self) -> PodRecord {
        self.record.lock().clone()
    }

    /// Changes the record, in memory and on disk.
    pub fn update(&self, folder: &Path, change: impl FnOnce(&mut PodRecord)) -> Result<()> {
        let changed = {
            let mut record = self.record.lock();
            change(&mut record);
            record.clone()
        };
        record::save(folder, &changed)
    }

    pub fn shim(&self) -> Result<ShimClient> {
        let shim = self.shim.lock().clone();
        shim.ok_or_else(|| Error::State(format!("pod sandbox {} does not run", self.id)))
    }

    pub fn has_shim(&self) -> bool {
        self.shim.lock().is_some()
    }

    pub fn set_shim(&self, shim: Option<ShimClient>) -> Option<ShimClient> {
        std::mem::replace(&mut *self.shim.lock(), shim)
    }

    /// How its shim is started.
    fn launch(&self, folder: &Path, socket: PathBuf, cgroup: String) -> Launch {
        let options = pod_namespace_options(&self.config);
        let own = |mode: i32| mode != NamespaceMode::Node as i32;
        let linux = self.config.linux.clone().unwrap_or_default();
        Launch {
            pod: self.id.clone(),
            socket,
            folder: folder.join("shim"),
            cgroup,
            own_network: own(options.network),
            own_ipc: own(options.ipc),
            own_uts: own(options.network),
            shared_pid: options.pid == NamespaceMode::Pod as i32,
            hostname: if own(options.network) { self.hostname() } else { String::new() },
            sysctls: linux.sysctls.into_iter().collect(),
            ..Launch::default()
        }
    }

    /// The host name that its containers see.
    pub fn hostname(&self) -> String {
        if uses_host_network(&self.config) {
            return nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        }
        let name = match &self.config.metadata {
            Some(metadata) if self.config.hostname.is_empty() => &metadata.name,
            _ => &self.config.hostname,
        };
        name.chars().take(MAX_HOSTNAME).collect()
    }

    /// The parent of its containers' control groups.
    pub fn cgroup_parent(&self, usual: &str) -> String {
        let asked = self.config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
        if asked.is_empty() { format!("{}/{}", usual.trim_end_matches('/'), self.id) } else { asked.to_owned() }
    }

    fn network(&self, netns_path: std::path::PathBuf) -> Result<PodNetwork> {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        let port = |n: i32| u16::try_from(n).map_err(|_| Error::Invalid(format!("port {n} is out of range")));
        let mut port_mappings = Vec::new();
        for mapping in self.config.port_mappings.iter().filter(|mapping| mapping.host_port > 0) {
            let protocol = match v1::Protocol::try_from(mapping.protocol) {
                Ok(v1::Protocol::Tcp) => Protocol::Tcp,
                Ok(v1::Protocol::Udp) => Protocol::Udp,
                Ok(v1::Protocol::Sctp) => Protocol::Sctp,
                Err(_) => return Err(Error::Invalid(format!("protocol {} is unknown", mapping.protocol))),
            };
            let host_ip = match mapping.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| Error::Invalid(format!("{text:?} is no address")))?),
            };
            let (host_port, container_port) = (port(mapping.host_port)?, port(mapping.container_port)?);
            port_mappings.push(PortMapping { host_port, container_port, protocol, host_ip });
        }
        Ok(PodNetwork {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            sandbox_id: self.id.clone(),
            netns_path,
            port_mappings,
            ips: Vec::new(),
        })
    }
}

pub(crate) fn uses_host_network(config: &PodSandboxConfig) -> bool {
    pod_namespace_options(config).network == NamespaceMode::Node as i32
}

impl Runtime {
    /// Makes a pod sandbox and starts its shim and network.
    pub async fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest) -> Result<v1::RunPodSandboxResponse> {
        let config = request.config.ok_or_else(|| Error::Invalid("the request has no pod configuration".to_owned()))?;
        if !request.runtime_handler.is_empty() {
            return Err(Error::Invalid(format!("there is no runtime handler {:?}", request.runtime_handler)));
        }
        let metadata = config.metadata.clone().ok_or_else(|| Error::Invalid("a pod needs metadata".to_owned()))?;
        if metadata.name.is_empty() || metadata.uid.is_empty() {
            return Err(Error::Invalid("a pod needs a name and a uid".to_owned()));
        }
        let users = pod_namespace_options(&config).userns_options.map(|users| users.mode);
        if users.is_some_and(|mode| mode != NamespaceMode::Node as i32) {
            return Err(Error::Unsupported("a user namespace for a pod".to_owned()));
        }
        let id = new_id()?;
        let name = format!("pod {}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt);
        self.reserve_name(&name, &id)?;
        let record = PodRecord {
            created_at: now(),
            boot_id: self.host().boot_id.clone(),
            ready: false,
            attached: false,
            ips: Vec::new(),
            handler: String::new(),
        };
        let pod = Arc::new(Pod::new(id.clone(), config, record));
        // On a task of its own: a caller that goes away must not leave half a pod.
        let (runtime, made) = (self.clone(), pod.clone());
        let task = tokio::spawn(async move {
            let started = runtime.start_pod(&made).await;
            if let Err(error) = &started {
                tracing::warn!(pod = %made.id, %error, "a pod sandbox could not be started");
                let undone = runtime.tear_down(&made).await.and_then(|()| remove_tree(&runtime.pod_folder(&made.id)));
                if let Err(error) = undone {
                    tracing::warn!(pod = %made.id, %error, "what was made of a pod sandbox could not be removed");
                }
                runtime.forget_pod(&made.id);
            }
            started
        });
        task.await.map_err(|e| Error::Internal(e.to_string()))??;
        self.tell(&id, &pod, ContainerEventType::ContainerCreatedEvent);
        self.tell(&id, &pod, ContainerEventType::ContainerStartedEvent);
        Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn start_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let folder = self.pod_folder(&pod.id);
        let (made, in_folder) = (pod.clone(), folder.clone());
        blocking(move || furnish(&made, &in_folder)).await?;
        let launch = pod.launch(&folder, self.socket(&pod.id), self.shims_cgroup());
        let (shim, _, events) = ShimClient::launch(&self.config().program, &launch).await?;
        pod.set_shim(Some(shim.clone()));
        self.follow(pod, events);
        if !uses_host_network(&pod.config) {
            let network = self.config().network.clone().ok_or_else(|| {
                Error::Unavailable(
                    "this runtime has no pod network; only pods on the host's network can run".to_owned(),
                )
            })?;
            let path = shim
                .namespaces()
                .network
                .clone()
                .ok_or_else(|| Error::Shim("the pod has no network namespace".to_owned()))?;
            // Before asking: after a crash in between, the network is told to let go.
            pod.update(&folder, |record| record.attached = true)?;
            let asked = pod.network(path)?;
            let attachment = blocking(move || Ok(network.add(&asked)?)).await?;
            pod.update(&folder, |record| record.ips = attachment.ips)?;
        }
        pod.update(&folder, |record| record.ready = true)?;
        self.insert_pod(pod.clone());
        Ok(())
    }

    /// Ends all of a pod's containers and lets its network go. A pod that is not here is fine.
    pub async fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Result<v1::StopPodSandboxResponse> {
        match self.pod(&request.pod_sandbox_id) {
            Ok(pod) => self.stop_pod(&pod).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(v1::StopPodSandboxResponse {})
    }

    async fn stop_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let _one = pod.changing.lock().await;
        for container in self.containers_of(&pod.id) {
            self.stop(&container, Duration::ZERO).await?;
        }
        let was_ready = pod.record().ready;
        self.tear_down(pod).await?;
        if was_ready {
            self.tell(&pod.id, pod, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    /// Takes everything a pod has on the host away, but its folder.
    pub(crate) async fn tear_down(&self, pod: &Arc<Pod>) -> Result<()> {
        let folder = self.pod_folder(&pod.id);
        let shim = pod.set_shim(None);
        if pod.record().attached {
            if let Some(network) = self.config().network.clone() {
                let path = shim.as_ref().and_then(|shim| shim.namespaces().network.clone()).unwrap_or_default();
                let asked = pod.network(path)?;
                let detached = blocking(move || Ok(network.del(&asked)?)).await;
                if let Err(error) = detached {
                    // The next try needs the namespace again.
                    pod.set_shim(shim);
                    return Err(error);
                }
            }
            pod.update(&folder, |record| record.attached = false)?;
        }
        if let Some(shim) = shim {
            shim.shutdown().await?;
        }
        let cgroup = pod.cgroup_parent(&self.config().cgroup_parent);
        let own_cgroup = cgroup.ends_with(&pod.id);
        let socket = self.socket(&pod.id);
        blocking(move || {
            unmount(&folder.join("shm"))?;
            // A shim that was killed leaves it.
            let _ = fs::remove_file(socket);
            if own_cgroup {
                crate::cgroup::remove(&cgroup);
            }
            Ok(())
        })
        .await?;
        let folder = self.pod_folder(&pod.id);
        if folder.join("record.json").exists() {
            pod.update(&folder, |record| record.ready = false)?;
        }
        Ok(())
    }

    /// Removes a pod with all its containers. A pod that is not here is fine.
    pub async fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Result<v1::RemovePodSandboxResponse> {
        let pod = match self.pod(&request.pod_sandbox_id) {
            Ok(pod) => pod,
            Err(error) if error.is_not_found() => return Ok(v1::RemovePodSandboxResponse {}),
            Err(error) => return Err(error),
        };
        self.stop_pod(&pod).await?;
        for container in self.containers_of(&pod.id) {
            self.remove(&container).await?;
        }
        let folder = self.pod_folder(&pod.id);
        blocking(move || remove_tree(&folder)).await?;
        self.forget_pod(&pod.id);
        self.tell(&pod.id, &pod, ContainerEventType::ContainerDeletedEvent);
        Ok(v1::RemovePodSandboxResponse {})
    }

    /// Takes note of a pod's limits; its control group is the caller's, who changes it there.
    pub async fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Result<v1::UpdatePodSandboxResourcesResponse> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let _one = pod.changing.lock().await;
        let mut config = pod.config.clone();
        let linux = config.linux.get_or_insert_with(Default::default);
        linux.overhead = request.overhead;
        linux.resources = request.resources;
        let folder = self.pod_folder(&pod.id);
        blocking(move || record::save_config(&folder, &config)).await?;
        Ok(v1::UpdatePodSandboxResourcesResponse {})
    }

    /// Asks the pod network whether it is ready; `None` without a network.
    pub(crate) async fn network_status(&self) -> Option<Result<()>> {
        let network = self.config().network.clone()?;
        Some(blocking(move || Ok(network.status()?)).await)
    }
}

/// Makes a pod's folder and the files that its containers share.
fn furnish(pod: &Pod, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    record::save_config(folder, &pod.config)?;
    record::save(folder, &pod.record())?;
    let resolv = match &pod.config.dns_config {
        Some(dns) if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) => resolv_conf(dns),
        _ => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    let hostname = pod.hostname();
    let hosts = match fs::read_to_string("/etc/hosts") {
        Ok(text) if uses_host_network(&pod.config) => text,
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    for (name, text) in [("resolv.conf", resolv), ("hostname", format!("{hostname}\n")), ("hosts", hosts)] {
        let path = folder.join(name);
        replace_volatile(&path, text.as_bytes())?;
        set_mode(&path, 0o644)?;
    }
    if pod_namespace_options(&pod.config).ipc != NamespaceMode::Node as i32 {
        mount_shm(folder)?;
    }
    if !pod.config.log_directory.is_empty() {
        fs::create_dir_all(&pod.config.log_directory).map_err(Error::file(&pod.config.log_directory))?;
    }
    Ok(())
}

/// Mounts the memory that a pod's containers share.
fn mount_shm(folder: &Path) -> Result<()> {
    let shm = folder.join("shm");
    fs::create_dir_all(&shm).map_err(Error::file(&shm))?;
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let failed = || Error::io::<nix::Error>(format!("cannot mount {}", shm.display()));
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k")).map_err(failed())?;
    mount(None::<&str>, &shm, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(failed())
}

fn resolv_conf(dns: &v1::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}
