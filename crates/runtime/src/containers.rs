//! Containers: made, started, stopped, removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cri::v1::{self, ContainerConfig, ContainerEventType, NamespaceMode};
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::blocking;
use crate::image::content::replace_volatile;
use crate::image::layers::{remove_tree, set_mode, unmount};
use crate::image::{ImageStore, Named};
use crate::pods::Pod;
use crate::record::{self, ContainerRecord, Phase, new_id, now};
use crate::shim::ShimClient;
use crate::shim::protocol::{Create, ExitStatus, Namespaces};
use crate::spec::{self, Input};
use crate::{Error, Result, Runtime};

/// The exit code of a container that could not be started.
const START_FAILED: i32 = 128;
/// How long a killed container may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub config: ContainerConfig,
    record: Mutex<ContainerRecord>,
    /// Its limits, which updates change.
    resources: Mutex<Option<v1::LinuxContainerResources>>,
    /// The phase once more, for those who wait for its change.
    phase: watch::Sender<Phase>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Container {
    pub fn new(id: String, config: ContainerConfig, record: ContainerRecord) -> Self {
        let phase = watch::Sender::new(record.phase);
        let resources = Mutex::new(config.linux.as_ref().and_then(|linux| linux.resources.clone()));
        Self { id, config, record: Mutex::new(record), resources, phase, changing: tokio::sync::Mutex::default() }
    }

    pub fn resources(&self) -> Option<v1::LinuxContainerResources> {
        self.resources.lock().clone()
    }

    pub fn record(&self) -> ContainerRecord {
        self.record.lock().clone()
    }

    /// Changes the record, in memory and on disk.
    pub fn update(&self, folder: &Path, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let changed = {
            let mut record = self.record.lock();
            change(&mut record);
            record.clone()
        };
        let saved = record::save(folder, &changed);
        self.phase.send_replace(changed.phase);
        saved
    }

    pub async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as the container.
        let _ = phase.wait_for(|phase| matches!(phase, Phase::Exited | Phase::Unknown)).await;
    }

    /// Where its output is written.
    pub fn log_path(&self, pod: &Pod) -> Option<PathBuf> {
        let name = self.config.log_path.as_str();
        (!name.is_empty() && !pod.config.log_directory.is_empty())
            .then(|| Path::new(&pod.config.log_directory).join(name))
    }

    /// The signal that asks it to stop.
    pub fn stop_signal(&self) -> String {
        match v1::Signal::try_from(self.config.stop_signal) {
            Ok(v1::Signal::RuntimeDefault) | Err(_) => match self.record.lock().image_stop_signal.as_str() {
                "" => "SIGTERM".to_owned(),
                from_image => from_image.to_owned(),
            },
            Ok(signal) => signal.as_str_name().trim_start_matches("SIGNAL_").to_owned(),
        }
    }
}

impl Runtime {
    /// Makes a container ready to be started.
    pub async fn create_container(&self, request: v1::CreateContainerRequest) -> Result<v1::CreateContainerResponse> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let _one = pod.changing.lock().await;
        if !pod.record().ready {
            return Err(Error::State(format!("pod sandbox {} is not ready", pod.id)));
        }
        let config =
            request.config.ok_or_else(|| Error::Invalid("the request has no container configuration".to_owned()))?;
        let metadata =
            config.metadata.clone().ok_or_else(|| Error::Invalid("a container needs metadata".to_owned()))?;
        if metadata.name.is_empty() {
            return Err(Error::Invalid("a container needs a name".to_owned()));
        }
        let id = new_id()?;
        self.reserve_name(&format!("container {}_{}_{}", pod.id, metadata.name, metadata.attempt), &id)?;
        let pid_namespace = self.pid_namespace(&pod, &config);
        let making = self.clone();
        let (made_id, in_pod) = (id.clone(), pod.clone());
        let made = match pid_namespace {
            Ok(pid) => blocking(move || making.make(&made_id, &in_pod, config, pid)).await,
            Err(error) => Err(error),
        };
        let container = match made {
            Ok(container) => Arc::new(container),
            Err(error) => {
                let (runtime, gone) = (self.clone(), id.clone());
                blocking(move || runtime.unmake(&gone)).await?;
                self.release_names(&id);
                return Err(error);
            }
        };
        self.insert_container(container.clone());
        self.tell(&id, &pod, ContainerEventType::ContainerCreatedEvent);
        Ok(v1::CreateContainerResponse { container_id: id })
    }

    /// The process namespace that a container joins, if any.
    fn pid_namespace(&self, pod: &Pod, config: &ContainerConfig) -> Result<Option<PathBuf>> {
        let options = spec::security(config).namespace_options.unwrap_or_default();
        match NamespaceMode::try_from(options.pid) {
            Ok(NamespaceMode::Pod) => Ok(pod.shim()?.namespaces().pid.clone()),
            Ok(NamespaceMode::Target) => {
                let target = self.container(&options.target_id)?;
                let record = target.record();
                if record.pod != pod.id || record.phase != Phase::Running {
                    return Err(Error::Invalid(format!("container {} does not run in this pod", target.id)));
                }
                Ok(Some(PathBuf::from(format!("/proc/{}/ns/pid", record.pid))))
            }
            Ok(_) => Ok(None),
            Err(_) => Err(Error::Invalid(format!("namespace mode {} is unknown", options.pid))),
        }
    }

    fn make(&self, id: &str, pod: &Pod, config: ContainerConfig, pid: Option<PathBuf>) -> Result<Container> {
        let images = self.images();
        let named = find_image(images, config.image.as_ref())?;
        let image = &named.image;
        images.hold(id, &image.chain);
        let folder = self.container_folder(id);
        let (upper, work, rootfs) = (folder.join("upper"), folder.join("work"), folder.join("rootfs"));
        for made in [&upper, &work, &rootfs] {
            fs::create_dir_all(made).map_err(Error::file(made))?;
        }
        set_mode(&folder, 0o711)?;
        set_mode(&upper, 0o755)?;
        images.layers().mount(&image.chain, Some((&upper, &work)), &rootfs)?;
        let image_mounts = self.mount_images(id, &config)?;
        let user = spec::user::resolve(&rootfs, &spec::security(&config), &image.defaults.user)?;
        let namespaces = Namespaces { pid, ..pod.shim()?.namespaces().clone() };
        let cgroup = format!("{}/{id}", pod.cgroup_parent(&self.config().cgroup_parent).trim_end_matches('/'));
        let spec = spec::build(
            self.host(),
            &Input {
                config: &config,
                pod: &pod.config,
                defaults: &image.defaults,
                user: &user,
                rootfs: &rootfs,
                pod_folder: &self.pod_folder(&pod.id),
                namespaces: &namespaces,
                hostname: &pod.hostname(),
                cgroup: &cgroup,
                image_mounts: &image_mounts,
            },
        )?;
        let bytes = serde_json::to_vec(&spec).map_err(|e| Error::Internal(e.to_string()))?;
        replace_volatile(&folder.join("config.json"), &bytes)?;
        record::save_config(&folder, &config)?;
        let record = ContainerRecord {
            pod: pod.id.clone(),
            image: image.id.clone(),
            image_ref: named.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
            chain: image.chain.clone(),
            image_stop_signal: image.defaults.stop_signal.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            cgroup,
            boot_id: self.host().boot_id.clone(),
            phase: Phase::Created,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            pid: 0,
        };
        record::save(&folder, &record)?;
        Ok(Container::new(id.to_owned(), config, record))
    }

    /// Mounts the images that a container wants to see, each at a place of its own.
    fn mount_images(&self, id: &str, config: &ContainerConfig) -> Result<BTreeMap<String, PathBuf>> {
        let mut places = BTreeMap::new();
        let asked = config.mounts.iter().filter(|m| m.image.as_ref().is_some_and(|image| !image.image.is_empty()));
        for (number, mount) in asked.enumerate() {
            let named = find_image(self.images(), mount.image.as_ref())?;
            self.images().hold(&format!("{id}/{number}"), &named.image.chain);
            let place = self.container_folder(id).join(format!("image-{number}"));
            fs::create_dir_all(&place).map_err(Error::file(&place))?;
            self.images().layers().mount(&named.image.chain, None, &place)?;
            let shown = sub_path(&place, &mount.image_sub_path)?;
            places.insert(mount.container_path.clone(), shown);
        }
        Ok(places)
    }

    /// Takes away everything that a container has on disk.
    pub(crate) fn unmake(&self, id: &str) -> Result<()> {
        let folder = self.container_folder(id);
        unmount(&folder.join("rootfs"))?;
        let mut number = 0;
        loop {
            let place = folder.join(format!("image-{number}"));
            if !place.exists() {
                break;
            }
            unmount(&place)?;
            self.images().release(&format!("{id}/{number}"))?;
            number += 1;
        }
        remove_tree(&folder)?;
        self.images().release(id)
    }

    /// Starts a container.
    pub async fn start_container(&self, request: v1::StartContainerRequest) -> Result<v1::StartContainerResponse> {
        let container = self.container(&request.container_id)?;
        // On a task of its own: what was begun is finished, though the caller goes away.
        let runtime = self.clone();
        let task = tokio::spawn(async move { runtime.start(&container).await });
        task.await.map_err(|e| Error::Internal(e.to_string()))??;
        Ok(v1::StartContainerResponse {})
    }

    async fn start(&self, container: &Arc<Container>) -> Result<()> {
        let _one = container.changing.lock().await;
        let record = container.record();
        if record.phase != Phase::Created {
            return Err(Error::State(format!("container {} was started before", container.id)));
        }
        let pod = self.pod(&record.pod)?;
        let shim = pod.shim()?;
        let folder = self.container_folder(&container.id);
        let log = container.log_path(&pod);
        if let Some(parent) = log.as_deref().and_then(Path::parent) {
            fs::create_dir_all(parent).map_err(Error::file(parent))?;
        }
        let create = Create {
            container: container.id.clone(),
            bundle: folder.clone(),
            log,
            stdin: container.config.stdin,
            stdin_once: container.config.stdin_once,
        };
        let mut began = 0;
        let started = async {
            let pid = shim.create(create).await?;
            began = now();
            let started = shim.start(&container.id).await;
            if started.is_err() {
                shim.delete(&container.id).await?;
            }
            started.map(|()| pid)
        };
        match started.await {
            Ok(pid) => {
                // Its end may have been told already.
                container.update(&folder, |record| {
                    record.pid = pid;
                    record.started_at = began;
                    if record.phase == Phase::Created {
                        record.phase = Phase::Running;
                    }
                })?;
                self.tell(&container.id, &pod, ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Err(error) => {
                let message = error.to_string();
                container.update(&folder, |record| {
                    record.phase = Phase::Exited;
                    record.started_at = 0;
                    record.finished_at = now();
                    record.exit_code = START_FAILED;
                    "StartError".clone_into(&mut record.reason);
                    record.message.clone_from(&message);
                })?;
                self.tell(&container.id, &pod, ContainerEventType::ContainerStoppedEvent);
                Err(error)
            }
        }
    }

    /// Takes note of a container's end.
    pub(crate) fn ended(&self, pod: &Pod, id: &str, exit: &ExitStatus) {
        let Ok(container) = self.container(id) else { return };
        if matches!(container.record().phase, Phase::Exited) {
            return;
        }
        let reason = match (exit.oom_killed, exit.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let updated = container.update(&self.container_folder(id), |record| {
            record.phase = Phase::Exited;
            record.finished_at = exit.at;
            record.exit_code = exit.code;
            reason.clone_into(&mut record.reason);
        });
        if let Err(error) = updated {
            tracing::error!(container = id, %error, "the end of a container could not be recorded");
        }
        self.tell(id, pod, ContainerEventType::ContainerStoppedEvent);
    }

    /// Asks a container to stop, and kills it when it has not within the time given. One that is not here is fine.
    pub async fn stop_container(&self, request: v1::StopContainerRequest) -> Result<v1::StopContainerResponse> {
        let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        match self.container(&request.container_id) {
            Ok(container) => self.stop(&container, timeout).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(v1::StopContainerResponse {})
    }

    pub(crate) async fn stop(&self, container: &Arc<Container>, timeout: Duration) -> Result<()> {
        if container.record().phase != Phase::Running {
            return Ok(());
        }
        let pod = self.pod(&container.record().pod)?;
        let shim = pod.shim()?;
        // It may end by itself in between: then its end is on its way.
        let sent = |sent: Result<()>| match sent {
            Err(Error::State(_) | Error::NotFound { .. }) => Ok(()),
            other => other,
        };
        if !timeout.is_zero() {
            sent(shim.kill(&container.id, signal_number(&container.stop_signal())?, false).await)?;
            if tokio::time::timeout(timeout, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        sent(shim.kill(&container.id, Signal::SIGKILL as i32, true).await)?;
        match tokio::time::timeout(KILL_TIMEOUT, container.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Timeout(format!("container {} does not go although it was killed", container.id))),
        }
    }

    /// Removes a container, killing it first if it runs. One that is not here is fine.
    pub async fn remove_container(&self, request: v1::RemoveContainerRequest) -> Result<v1::RemoveContainerResponse> {
        match self.container(&request.container_id) {
            Ok(container) => self.remove(&container).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(v1::RemoveContainerResponse {})
    }

    pub(crate) async fn remove(&self, container: &Arc<Container>) -> Result<()> {
        let _one = container.changing.lock().await;
        self.stop(container, Duration::ZERO).await?;
        let record = container.record();
        let pod = self.pod(&record.pod).ok();
        if let Some(shim) = pod.as_ref().and_then(|pod| pod.shim().ok()) {
            shim.delete(&container.id).await?;
        }
        let (runtime, id, cgroup) = (self.clone(), container.id.clone(), record.cgroup);
        blocking(move || {
            crate::cgroup::remove(&cgroup);
            runtime.unmake(&id)
        })
        .await?;
        self.forget_container(&container.id);
        if let Some(pod) = pod {
            self.tell(&container.id, &pod, ContainerEventType::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// Opens a container's log again, after it was rotated away.
    pub async fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Result<v1::ReopenContainerLogResponse> {
        let container = self.running(&request.container_id)?;
        self.shim_of(&container)?.reopen_log(&container.id).await?;
        Ok(v1::ReopenContainerLogResponse {})
    }

    /// Changes a container's limits.
    pub async fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<v1::UpdateContainerResourcesResponse> {
        let container = self.container(&request.container_id)?;
        let limits = request.linux.ok_or_else(|| Error::Invalid("the request has no Linux resources".to_owned()))?;
        let resources = spec::resources::update(&limits)?;
        let folder = self.container_folder(&container.id);
        let _one = container.changing.lock().await;
        match container.record().phase {
            Phase::Running => self.shim_of(&container)?.update(&container.id, &resources).await?,
            Phase::Created => {
                let mut spec = load_spec(&folder)?;
                merge(&mut spec, &resources)?;
                let bytes = serde_json::to_vec(&spec).map_err(|e| Error::Internal(e.to_string()))?;
                replace_volatile(&folder.join("config.json"), &bytes)?;
            }
            Phase::Exited | Phase::Unknown => {
                return Err(Error::State(format!("container {} does not run", container.id)));
            }
        }
        let changed = overlay(container.resources().unwrap_or_default(), limits);
        *container.resources.lock() = Some(changed.clone());
        let mut config = container.config.clone();
        config.linux.get_or_insert_with(Default::default).resources = Some(changed);
        record::save_config(&folder, &config)?;
        Ok(v1::UpdateContainerResourcesResponse {})
    }

    /// A container that runs.
    pub(crate) fn running(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.container(id)?;
        if container.record().phase == Phase::Running {
            return Ok(container);
        }
        Err(Error::State(format!("container {} does not run", container.id)))
    }

    pub(crate) fn shim_of(&self, container: &Container) -> Result<ShimClient> {
        self.pod(&container.record().pod)?.shim()
    }
}

/// The number of a signal by its name, with or without `SIG`, or by its number.
fn signal_number(name: &str) -> Result<i32> {
    let bad = || Error::Invalid(format!("there is no signal {name:?}"));
    const FIRST_REAL_TIME: i32 = 34;
    const LAST_REAL_TIME: i32 = 64;
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=LAST_REAL_TIME).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper).replace("PLUS", "+").replace("MINUS", "-");
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let real_time = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some(FIRST_REAL_TIME + offset(rest, '+').ok_or_else(bad)?),
        (_, Some(rest)) => Some(LAST_REAL_TIME - offset(rest, '-').ok_or_else(bad)?),
        _ => None,
    };
    if let Some(number) = real_time {
        return if (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let usual = match short.as_str() {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    Signal::from_str(&format!("SIG{usual}")).map(|signal| signal as i32).map_err(|_| bad())
}

/// Reads a container's specification.
pub(crate) fn load_spec(folder: &Path) -> Result<Spec> {
    let path = folder.join("config.json");
    let bytes = fs::read(&path).map_err(Error::file(&path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Internal(format!("{}: {e}", path.display())))
}

fn merge(spec: &mut Spec, resources: &oci_spec::runtime::LinuxResources) -> Result<()> {
    let malformed = |e: serde_json::Error| Error::Internal(e.to_string());
    let mut value = serde_json::to_value(&*spec).map_err(malformed)?;
    let changes = serde_json::to_value(resources).map_err(malformed)?;
    for (name, change) in changes.as_object().into_iter().flatten() {
        let place = &mut value["linux"]["resources"][name];
        match (place.as_object_mut(), change.as_object()) {
            (Some(old), Some(new)) => old.extend(new.clone()),
            _ => *place = change.clone(),
        }
    }
    *spec = serde_json::from_value(value).map_err(malformed)?;
    Ok(())
}

/// The old limits with what the new ones give.
fn overlay(mut old: v1::LinuxContainerResources, new: v1::LinuxContainerResources) -> v1::LinuxContainerResources {
    let take = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    take(&mut old.cpu_period, new.cpu_period);
    take(&mut old.cpu_quota, new.cpu_quota);
    take(&mut old.cpu_shares, new.cpu_shares);
    take(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    take(&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes);
    for (old, new) in [(&mut old.cpuset_cpus, new.cpuset_cpus), (&mut old.cpuset_mems, new.cpuset_mems)] {
        if !new.is_empty() {
            *old = new;
        }
    }
    old.unified.extend(new.unified);
    old
}

fn find_image(images: &ImageStore, spec: Option<&v1::ImageSpec>) -> Result<Named> {
    let name = spec.map(|spec| spec.image.as_str()).unwrap_or_default();
    images.find(name).ok_or_else(|| Error::NotFound { what: "image", id: name.to_owned() })
}

/// A path inside a mounted image, by links of its own only.
fn sub_path(root: &Path, sub: &str) -> Result<PathBuf> {
    if sub.is_empty() {
        return Ok(root.to_owned());
    }
    let bad = || Error::Invalid(format!("the image has no folder {sub:?}"));
    if Path::new(sub).is_absolute() || sub.split('/').any(|part| part == "..") {
        return Err(bad());
    }
    let real = fs::canonicalize(root.join(sub)).map_err(|_| bad())?;
    if real.starts_with(root) { Ok(real) } else { Err(bad()) }
}
