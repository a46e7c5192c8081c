//! The runtime of a node: what it keeps, and how it is opened.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cri::v1;
use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;

use crate::containers::Container;
use crate::error::blocking;
use crate::image::ImageStore;
use crate::image::registry::Registries;
use crate::pods::Pod;
use crate::spec::Host;
use crate::streaming::Streaming;
use crate::{Error, Result};

/// How many events a slow listener may lag behind before it must list again.
const EVENTS: usize = 1024;

/// Where a runtime finds and keeps things.
#[derive(Debug, Clone)]
pub struct Config {
    /// Images, pods and containers, kept over reboots.
    pub root: PathBuf,
    /// Sockets of the shims; a folder whose path is short enough for a socket's name.
    pub state: PathBuf,
    /// The program that is run as `<program> shim …`; our own binary.
    pub program: PathBuf,
    /// The pod network; without one only pods on the host's network run.
    pub network: Option<Arc<cni::Network>>,
    /// Where the control groups of pods go that name no parent.
    pub cgroup_parent: String,
    /// Mirrors and credentials of registries, read again whenever it changes.
    pub registries: PathBuf,
}

impl Config {
    /// The usual settings, with data below `root`.
    pub fn new(root: PathBuf, network: Option<Arc<cni::Network>>) -> Result<Self> {
        let program = std::env::current_exe().map_err(Error::file("/proc/self/exe"))?;
        Ok(Self {
            state: root.join("run"),
            root,
            program,
            network,
            cgroup_parent: "/skiff".to_owned(),
            registries: PathBuf::from("/etc/skiff/registries.json"),
        })
    }
}

/// The runtime of a node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

/// A runtime as its own tasks hold it: they must not keep it open.
#[derive(Debug, Clone)]
pub(crate) struct WeakRuntime(Weak<Inner>);

impl WeakRuntime {
    pub fn upgrade(&self) -> Option<Runtime> {
        self.0.upgrade().map(|inner| Runtime { inner })
    }
}

#[derive(Debug)]
struct Inner {
    config: Config,
    host: Host,
    images: Arc<ImageStore>,
    registries: Registries,
    streaming: Streaming,
    pods: RwLock<HashMap<String, Arc<Pod>>>,
    containers: RwLock<HashMap<String, Arc<Container>>>,
    /// Names in use, by which a repeated request finds what the first one made.
    names: Mutex<HashMap<String, String>>,
    events: broadcast::Sender<v1::ContainerEventResponse>,
    /// Keeps a second daemon off the same data.
    _lock: nix::fcntl::Flock<fs::File>,
}

impl Runtime {
    /// Opens the data, takes up the pods that run, and tidies what a crash or reboot left.
    pub async fn open(config: Config) -> Result<Self> {
        let opened = config.clone();
        let (host, images, lock) = blocking(move || open(&opened)).await?;
        let runtime = Self {
            inner: Arc::new(Inner {
                registries: Registries::new(config.registries.clone())?,
                config,
                host,
                images: Arc::new(images),
                streaming: Streaming::default(),
                pods: RwLock::new(HashMap::new()),
                containers: RwLock::new(HashMap::new()),
                names: Mutex::new(HashMap::new()),
                events: broadcast::channel(EVENTS).0,
                _lock: lock,
            }),
        };
        runtime.adopt().await?;
        let images = runtime.images().clone();
        blocking(move || images.collect()).await?;
        Ok(runtime)
    }

    pub(crate) fn downgrade(&self) -> WeakRuntime {
        WeakRuntime(Arc::downgrade(&self.inner))
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Its images.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.inner.images
    }

    pub(crate) fn registries(&self) -> &Registries {
        &self.inner.registries
    }

    /// The sessions of exec, attach and port-forward.
    pub fn streaming(&self) -> &Streaming {
        &self.inner.streaming
    }

    /// What happens to containers, from now on.
    pub fn events(&self) -> broadcast::Receiver<v1::ContainerEventResponse> {
        self.inner.events.subscribe()
    }

    pub(crate) fn pod_folder(&self, id: &str) -> PathBuf {
        self.inner.config.root.join("pods").join(id)
    }

    /// The socket of a pod's shim: a name that fits into an address.
    pub(crate) fn socket(&self, pod: &str) -> PathBuf {
        self.inner.config.state.join(&pod[..pod.len().min(32)])
    }

    pub(crate) fn container_folder(&self, id: &str) -> PathBuf {
        self.inner.config.root.join("containers").join(id)
    }

    /// Finds a pod by its identity or a unique start of it.
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        by_prefix(&self.inner.pods.read(), id).ok_or_else(|| Error::NotFound { what: "pod sandbox", id: id.to_owned() })
    }

    /// Finds a container by its identity or a unique start of it.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = by_prefix(&self.inner.containers.read(), id);
        found.ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })
    }

    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.inner.pods.read().values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.inner.containers.read().values().cloned().collect()
    }

    pub(crate) fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        let mut found = self.containers();
        found.retain(|container| container.record().pod == pod);
        found
    }

    pub(crate) fn insert_pod(&self, pod: Arc<Pod>) {
        self.inner.pods.write().insert(pod.id.clone(), pod);
    }

    pub(crate) fn forget_pod(&self, id: &str) {
        self.inner.pods.write().remove(id);
        self.release_names(id);
    }

    pub(crate) fn insert_container(&self, container: Arc<Container>) {
        self.inner.containers.write().insert(container.id.clone(), container);
    }

    pub(crate) fn forget_container(&self, id: &str) {
        self.inner.containers.write().remove(id);
        self.release_names(id);
    }

    /// Takes a name for an identity, unless another has it.
    pub(crate) fn reserve_name(&self, name: &str, id: &str) -> Result<()> {
        let mut names = self.inner.names.lock();
        if let Some(holder) = names.get(name) {
            return Err(Error::Exists(format!("the name {name:?} is in use by {holder}")));
        }
        names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives names back; with the last one, the control groups that all pods share go.
    pub(crate) fn release_names(&self, id: &str) {
        let mut names = self.inner.names.lock();
        names.retain(|_, holder| holder != id);
        if names.is_empty() {
            // Under the lock: whoever makes a pod takes a name first.
            crate::cgroup::remove_empty(&self.shims_cgroup());
            crate::cgroup::remove_empty(&self.inner.config.cgroup_parent);
        }
    }

    /// Where shims run, out of the daemon's own control group.
    pub(crate) fn shims_cgroup(&self) -> String {
        format!("{}/shims", self.inner.config.cgroup_parent.trim_end_matches('/'))
    }

    /// Tells listeners what happened to a container, or to a pod under its own identity.
    pub(crate) fn tell(&self, id: &str, pod: &Pod, kind: v1::ContainerEventType) {
        // Statuses are costly to gather; nobody may be listening.
        if self.inner.events.receiver_count() == 0 {
            return;
        }
        let _ = self.inner.events.send(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: crate::record::now(),
            pod_sandbox_status: Some(self.pod_status(pod)),
            containers_statuses: self.containers_of(&pod.id).iter().map(|c| self.status_of(c)).collect(),
        });
    }
}

fn by_prefix<T>(all: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(found.clone());
    }
    let mut candidates = all.iter().filter(|(full, _)| !id.is_empty() && full.starts_with(id));
    let found = candidates.next()?;
    candidates.next().is_none().then(|| found.1.clone())
}

fn open(config: &Config) -> Result<(Host, ImageStore, nix::fcntl::Flock<fs::File>)> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Unavailable("keeping containers needs root: run as root".to_owned()));
    }
    for folder in [&config.root, &config.state, &config.root.join("pods"), &config.root.join("containers")] {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        crate::image::layers::set_mode(folder, 0o711)?;
    }
    let lock = lock(&config.root)?;
    for entry in fs::read_dir(&config.root).map_err(Error::file(&config.root))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("import-") {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok((Host::detect()?, ImageStore::open(&config.root.join("images"))?, lock))
}

/// Locks the data folder; a daemon that is just ending gets a moment.
fn lock(root: &Path) -> Result<nix::fcntl::Flock<fs::File>> {
    use nix::fcntl::{Flock, FlockArg};
    const TRIES: u32 = 20;
    let path = root.join("lock");
    let mut file = fs::File::create(&path).map_err(Error::file(&path))?;
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::Unavailable(format!("{} is in use by another runtime: stop it first", root.display())))
}

/// Opens a runtime and serves it on a socket until `stop` is done. Its pods stay.
pub async fn serve(config: Config, socket: &Path, stop: impl Future<Output = ()>) -> Result<()> {
    crate::check_host(&config.root)?;
    crate::grpc::serve(Runtime::open(config).await?, socket, stop).await
}
