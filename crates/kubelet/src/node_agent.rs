//! The node agent: follows the pods of its node and keeps a worker for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use api::core::pod::Pod;
use api::core::pod::container::Container;
use apimachinery::{Api, GroupVersionResource, Quantity, SmolStr};
use client::{Client, Informer, Recorder, Scope};
use cri::v1;
use parking_lot::Mutex;
use runtime::Runtime;

use crate::images::Images;
use crate::node::{Identity, machine::Machine};
use crate::observed::{Observed, POD_UID};
use crate::pod_groups::PodGroups;
use crate::probes::Probes;
use crate::resize::Refusal;
use crate::server::{Pods, Running};
use crate::spec::{ContainerInputs, ImageFacts, NodeFacts};
use crate::status::Verdict;
use crate::volumes::Volumes;
use crate::worker::{self, Desired, Handle};

/// What a node agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: Identity,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    /// Pods' volumes, and what else belongs to the agent.
    pub root: PathBuf,
    /// Pods' logs.
    pub logs: PathBuf,
    /// Pod manifests that this node runs without being told by the API.
    pub static_pods: PathBuf,
}

/// What all workers share.
pub struct Shared {
    pub client: Client,
    pub runtime: Runtime,
    pub facts: Arc<NodeFacts>,
    pub ips: Vec<String>,
    pub volumes: Volumes,
    pub probes: Probes,
    pub images: Images,
    pub groups: PodGroups,
    pub recorder: Recorder,
    services: Informer<crate::services::Ports>,
    workers: Mutex<HashMap<String, Handle>>,
    /// Pods whose wish for other resources waits until others need less.
    deferred: Mutex<HashSet<String>>,
    /// Pods that come from files of this node.
    pub statics: crate::static_pods::Known,
    /// Mirrors of them that the API has, by namespace and name.
    mirrors: Mutex<HashMap<(String, String), Arc<Pod>>>,
    allocatable: BTreeMap<String, Quantity>,
    me: Weak<Shared>,
}

/// The agent of a node, ready to run.
pub struct Agent {
    shared: Arc<Shared>,
    network: Arc<cni::Network>,
    machine: Machine,
    config: Config,
}

impl Agent {
    /// The pods of the node, for its server.
    pub fn pods(&self) -> Arc<dyn Pods> {
        self.shared.clone()
    }

    /// Runs the node's pods until the task is aborted. They run on.
    pub async fn run(self) {
        let Agent { shared, network, machine, config } = self;
        tokio::join!(
            crate::node::run(
                shared.client.clone(),
                shared.recorder.clone(),
                shared.runtime.clone(),
                network,
                config.node.clone(),
                machine
            ),
            follow_runtime(shared.clone()),
            follow_pods(shared.clone(), config),
        );
    }

    /// Prepares the agent of a node; its client acts as the node.
    pub fn new(client: Client, runtime: Runtime, network: Arc<cni::Network>, config: Config) -> crate::Result<Agent> {
        let shared = shared(client, runtime, &config)?;
        let machine = Machine::read();
        Ok(Agent { shared, network, machine, config })
    }
}

fn shared(client: Client, runtime: Runtime, config: &Config) -> crate::Result<Arc<Shared>> {
    let machine = Machine::read();
    let capacity = machine.capacity(&config.node.data, config.node.max_pods);
    let facts = Arc::new(NodeFacts {
        name: config.node.name.clone(),
        ips: config.node.ips.clone(),
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: config.resolv_conf.clone(),
        root: config.root.clone(),
        logs: config.logs.clone(),
        allocatable: crate::node::allocatable(&capacity),
    });
    for folder in [&config.root, &config.logs] {
        std::fs::create_dir_all(folder).map_err(|error| crate::Error::Folder(folder.clone(), error))?;
    }
    let recorder = Recorder::new(client.clone(), "kubelet", &config.node.name, crate::now_text);
    let services = Informer::start(
        &client,
        GroupVersionResource::new("", "v1", "services"),
        Scope::default(),
        crate::services::Ports::read,
    );
    Ok(Arc::new_cyclic(|me: &Weak<Shared>| {
        let waker = me.clone();
        let wake: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |uid: &str| {
            if let Some(shared) = waker.upgrade() {
                shared.wake(uid);
            }
        });
        let refresher = me.clone();
        let refresh: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |uid: &str| {
            if let Some(shared) = refresher.upgrade() {
                shared.refresh(uid);
            }
        });
        Shared {
            volumes: Volumes::new(client.clone(), facts.clone(), recorder.clone(), refresh),
            probes: Probes::new(runtime.clone(), recorder.clone(), wake),
            images: Images::new(client.clone(), runtime.clone(), recorder.clone()),
            groups: PodGroups::new(),
            ips: facts.ips.iter().map(ToString::to_string).collect(),
            allocatable: facts.allocatable.clone(),
            facts,
            client: client.clone(),
            runtime: runtime.clone(),
            recorder: recorder.clone(),
            services,
            workers: Mutex::default(),
            deferred: Mutex::default(),
            statics: Arc::default(),
            mirrors: Mutex::default(),
            me: me.clone(),
        }
    }))
}

/// Wakes the worker of each pod to which something happened.
async fn follow_runtime(shared: Arc<Shared>) {
    use tokio::sync::broadcast::error::RecvError;
    let mut events = shared.runtime.events();
    loop {
        match events.recv().await {
            Ok(event) => {
                let uid = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                if let Some(uid) = uid {
                    shared.wake(&uid);
                }
            }
            // Too far behind: every worker looks by itself.
            Err(RecvError::Lagged(_)) => shared.wake_all(),
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

async fn follow_pods(shared: Arc<Shared>, config: Config) {
    shared.services.synced().await;
    let scope = Scope { field_selector: format!("spec.nodeName={}", config.node.name), ..Scope::default() };
    let pods: Informer<Pod> = Informer::start(
        &shared.client,
        GroupVersionResource::new("", "v1", "pods"),
        scope,
        |tree| match Pod::from_value(tree) {
            Ok(pod) => Some(pod),
            Err(error) => {
                tracing::error!(%error, "a pod could not be read");
                None
            }
        },
    );
    let to = shared.clone();
    let node = config.node.name.clone();
    pods.on_change(move |change| {
        to.note_mirror(change);
        if let Some(old) = change.old
            && change.new.is_none_or(|new| new.metadata.uid != old.metadata.uid)
        {
            to.gone(old);
            crate::static_pods::restore_mirror(&to, old);
        }
        if let Some(new) = change.new
            && new.spec.node_name == node.as_str()
        {
            to.want(new.clone());
        }
    });
    pods.synced().await;
    let statics = crate::static_pods::start(shared.clone(), &config);
    shared.end_orphans(&pods, &statics).await;
    // The informer and the manifests live as long as this task.
    std::future::pending::<()>().await;
}

/// Whether a pod only mirrors one that comes from a file here.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.contains_key(crate::static_pods::MIRROR)
}

impl Shared {
    /// A pod of the API is to run, or has changed.
    fn want(&self, pod: Arc<Pod>) {
        // Its original comes from the file; the mirror's end in the API ends nothing here.
        if is_mirror(&pod) {
            if pod.metadata.deletion_timestamp.is_some()
                && let Some(me) = self.me.upgrade()
            {
                crate::static_pods::restore_mirror(&me, &pod);
            }
            return;
        }
        self.set(Desired { pod, gone: false, is_static: false });
    }

    /// Keeps in mind which mirrors there are.
    fn note_mirror(&self, change: &client::Change<'_, Pod>) {
        let key = (change.key.namespace.to_string(), change.key.name.to_string());
        match change.new.filter(|pod| is_mirror(pod)) {
            Some(mirror) => drop(self.mirrors.lock().insert(key, mirror.clone())),
            None => drop(self.mirrors.lock().remove(&key)),
        }
    }

    /// The mirror of a static pod, as the API has it.
    pub fn mirror(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.mirrors.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Gives a worker its new wish, or starts one.
    pub fn set(&self, desired: Desired) {
        let mut workers = self.workers.lock();
        match workers.get(&desired.pod.metadata.uid) {
            Some(worker) => {
                let fresh = &desired.pod.metadata;
                let old = worker.desired.borrow().pod.clone();
                // Files that show the pod's own labels and annotations follow them.
                let shown = old.metadata.labels != fresh.labels || old.metadata.annotations != fresh.annotations;
                let uid = fresh.uid.clone();
                let over = |pod: &Pod| matches!(pod.status.phase.as_str(), "Failed" | "Succeeded");
                let ended = over(&desired.pod) && !over(&old);
                worker.desired.send_replace(desired);
                if ended && let Some(me) = self.me.upgrade() {
                    tokio::spawn(async move { me.resources_freed() });
                }
                if shown && let Some(me) = self.me.upgrade() {
                    tokio::spawn(async move { me.refresh(&uid) });
                }
            }
            None => {
                if let Some(me) = self.me.upgrade() {
                    workers.insert(desired.pod.metadata.uid.clone(), worker::spawn(me, desired));
                }
            }
        }
    }

    /// The API has a pod no more.
    fn gone(&self, pod: &Arc<Pod>) {
        let workers = self.workers.lock();
        if let Some(worker) = workers.get(&pod.metadata.uid) {
            worker.desired.send_modify(|desired| desired.gone = true);
        }
    }

    /// Ends the worker of a static pod whose file went.
    pub fn end_static(&self, uid: &str) {
        if let Some(worker) = self.workers.lock().get(uid) {
            worker.desired.send_modify(|desired| desired.gone = true);
        }
    }

    /// A worker has ended.
    pub fn forget(&self, uid: &str) {
        self.workers.lock().remove(uid);
        self.weigh();
        self.resources_freed();
    }

    /// Gives the classes of pods the weights that follow from who is here.
    pub fn weigh(&self) {
        let mut pods = others(&self.workers.lock(), "");
        pods.retain(|pod| !matches!(pod.status.phase.as_str(), "Failed" | "Succeeded"));
        self.groups.weigh(&pods);
    }

    /// The API has to be told of a pod anew.
    pub fn retell(&self, uid: &str) {
        if let Some(worker) = self.workers.lock().get(uid) {
            worker.retell.store(true, Ordering::Relaxed);
            worker.wake.notify_one();
        }
    }

    fn wake(&self, uid: &str) {
        if let Some(worker) = self.workers.lock().get(uid) {
            worker.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        self.workers.lock().values().for_each(|worker| worker.wake.notify_one());
    }

    /// A ConfigMap or Secret of a pod changed: its files follow, and what failed for lack of it is tried again.
    fn refresh(&self, uid: &str) {
        let Some(pod) = self.workers.lock().get(uid).map(|w| w.desired.borrow().pod.clone()) else { return };
        let Some(me) = self.me.upgrade() else { return };
        tokio::spawn(async move {
            if let Err(error) = me.volumes.refresh(&pod).await {
                tracing::warn!(pod = pod.metadata.name, %error, "a pod's files could not be brought up to date");
            }
            if let Some(worker) = me.workers.lock().get(&pod.metadata.uid) {
                worker.again.store(true, Ordering::Relaxed);
                worker.wake.notify_one();
            }
        });
    }

    /// Pods that run here though nobody wants them any more: deleted while the agent was away.
    async fn end_orphans(&self, pods: &Informer<Pod>, statics: &HashSet<String>) {
        let mut keep: HashSet<String> = pods.all().iter().map(|(_, pod)| pod.metadata.uid.clone()).collect();
        keep.extend(statics.iter().cloned());
        let listed = match self.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await {
            Ok(listed) => listed.items,
            Err(error) => {
                tracing::error!(%error, "the runtime does not say which pods it has");
                return;
            }
        };
        for sandbox in listed {
            // Without our label it is somebody else's.
            let Some(uid) = sandbox.labels.get(POD_UID).filter(|uid| !keep.contains(*uid)) else { continue };
            let metadata = sandbox.metadata.unwrap_or_default();
            let mut pod = Pod::default();
            pod.metadata.name = metadata.name;
            pod.metadata.namespace = metadata.namespace;
            pod.metadata.uid = uid.clone();
            // There is nobody who could be asked for the grace period.
            pod.spec.termination_grace_period_seconds = Some(30);
            self.set(Desired { pod: Arc::new(pod), gone: true, is_static: false });
        }
        let mut in_use = keep;
        in_use.extend(self.workers.lock().keys().cloned());
        if let Err(error) = self.volumes.orphans(&in_use).await {
            tracing::warn!(%error, "volumes of pods that are gone could not be taken away");
        }
    }

    /// Whether the node takes a pod, by what it has and what already runs.
    pub fn admit(&self, pod: &Pod) -> Result<(), Verdict> {
        let others = others(&self.workers.lock(), &pod.metadata.uid);
        crate::admission::admit(pod, &others, &self.allocatable)
    }

    /// Grants a running pod the resources that it wishes, if the node has them.
    pub fn grant(&self, pod: &Arc<Pod>) -> Result<(), Refusal> {
        let uid = &pod.metadata.uid;
        {
            // One after the other: two that fit alone may not fit together.
            let workers = self.workers.lock();
            let granted = crate::admission::resize(pod, &others(&workers, uid), &self.allocatable);
            if let Err(refusal) = granted {
                if refusal.reason == "Deferred" {
                    self.deferred.lock().insert(uid.clone());
                }
                return Err(refusal);
            }
            if let Some(worker) = workers.get(uid) {
                *worker.granted.lock() = Some(pod.clone());
            }
        }
        self.resources_freed();
        Ok(())
    }

    /// Pods may need less than before: wishes that were put off are looked at again.
    fn resources_freed(&self) {
        let waiting: Vec<String> = self.deferred.lock().drain().collect();
        waiting.iter().for_each(|uid| self.wake(uid));
    }

    /// The runtime's handler for a pod's class; empty for the usual one.
    pub async fn handler(&self, pod: &Pod) -> Result<String, String> {
        let Some(class) = pod.spec.runtime_class_name.as_deref().filter(|c| !c.is_empty()) else {
            return Ok(String::new());
        };
        let found = self.client.get::<api::node::runtimeclass::RuntimeClass>("", class).await;
        found.map(|class| class.handler).map_err(|status| {
            if status.is_not_found() {
                format!("failed to get sandbox runtime: RuntimeClass {class:?} not found")
            } else {
                format!("failed to get sandbox runtime: {status}")
            }
        })
    }

    /// What the runtime is told of a container.
    pub async fn container_config(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        attempt: u32,
        image: &ImageFacts,
        ips: &[IpAddr],
    ) -> Result<v1::ContainerConfig, String> {
        let services = crate::services::variables(&self.services, pod);
        let env = self.volumes.env(pod, container, ips, services).await.map_err(|e| e.to_string())?;
        let mounts = self.volumes.mounts(pod, container, &env, attempt, ips).await.map_err(|e| e.to_string())?;
        let target = self.target_of(pod, &container.name)?;
        let inputs = ContainerInputs { attempt, image, env, mounts, target };
        crate::spec::container(pod, container, &self.facts, inputs).map_err(|e| e.to_string())
    }

    /// The running container whose processes an ephemeral one shall see.
    fn target_of(&self, pod: &Pod, name: &str) -> Result<String, String> {
        let ephemeral = pod.spec.ephemeral_containers.iter().find(|e| e.ephemeral_container_common.name == name);
        let Some(target) = ephemeral.map(|e| e.target_container_name.as_str()).filter(|t| !t.is_empty()) else {
            return Ok(String::new());
        };
        let workers = self.workers.lock();
        let seen = workers.get(&pod.metadata.uid).map(|w| w.seen.borrow().clone()).unwrap_or_default();
        let found = seen.latest(target).map(|c| c.id.clone());
        found.ok_or_else(|| format!("unable to find target container {target:?}"))
    }

    /// Takes the logs of a pod away that is gone.
    pub fn remove_logs(&self, pod: &Pod) {
        let meta = &pod.metadata;
        let folder = self.facts.logs.join(format!("{}_{}_{}", meta.namespace, meta.name, meta.uid));
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "logs could not be removed");
        }
    }
}

/// All pods here but one, with the resources that they were granted.
fn others(workers: &HashMap<String, Handle>, uid: &str) -> Vec<Arc<Pod>> {
    let others = workers.iter().filter(|(other, _)| *other != uid);
    let pod = |worker: &Handle| {
        let granted = worker.granted.lock().clone();
        let now = worker.desired.borrow().pod.clone();
        // Its phase is the newest, its resources are the granted ones.
        match granted {
            Some(granted) => crate::resize::Granted::wished(&granted).apply(&now),
            None => now,
        }
    };
    others.map(|(_, worker)| pod(worker)).collect()
}

impl Pods for Shared {
    fn get(&self, namespace: &str, name: &str) -> Option<Running> {
        let workers = self.workers.lock();
        let mut found = workers.values().filter(|worker| {
            let desired = worker.desired.borrow();
            let meta = &desired.pod.metadata;
            meta.namespace == namespace && meta.name == name
        });
        // Of an old and a new pod of one name the one that is wanted.
        let first = found.next()?;
        let best = found.find(|worker| !worker.desired.borrow().gone).filter(|_| first.desired.borrow().gone);
        Some(running(best.unwrap_or(first)))
    }

    fn all(&self) -> Vec<Running> {
        self.workers.lock().values().map(running).collect()
    }
}

fn running(worker: &Handle) -> Running {
    let pod = worker.desired.borrow().pod.clone();
    let seen: Arc<Observed> = worker.seen.borrow().clone();
    let mut containers: Vec<(SmolStr, String)> = Vec::new();
    let mut previous: Vec<(SmolStr, String)> = Vec::new();
    // Newest first.
    for container in &seen.containers {
        let to =
            if containers.iter().any(|(name, _)| *name == container.name) { &mut previous } else { &mut containers };
        if !to.iter().any(|(name, _)| *name == container.name) {
            to.push((container.name.clone(), container.id.clone()));
        }
    }
    Running { pod, sandbox: seen.sandbox().filter(|s| s.ready).map(|s| s.id.clone()), containers, previous }
}
