//! A node's pod network: attaching and detaching pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::RwLock;

use ipnet::IpNet;
use linux::netlink::namespace::Namespace;
use serde_json::{Map, json};

use crate::cache::{Cache, Entry};
use crate::conflist::{self, NetworkList};
use crate::runner::{Runner, Target};
use crate::spec::{Outcome, check_id};
use crate::{Error, Result, plugins};

/// The interface every pod has.
pub const INTERFACE: &str = "eth0";
/// The name of the network we make ourselves.
pub const NAME: &str = "skiff";

/// Where a node's network finds and keeps things.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Configurations of foreign networks, which go before our own.
    pub config_folder: PathBuf,
    /// Foreign plugins.
    pub plugin_paths: Vec<PathBuf>,
    /// Addresses handed out and attachments made.
    pub data_folder: PathBuf,
    /// The ranges of this node's pods, one a family; given later by [`Network::set_pod_ranges`] if unknown yet.
    pub pod_ranges: Vec<IpNet>,
    /// Largest packet of pods; that of the host's way out when 0.
    pub mtu: u32,
}

impl NetworkConfig {
    /// The usual places, with data below `data_folder`.
    pub fn new(data_folder: PathBuf) -> Self {
        Self {
            config_folder: "/etc/cni/net.d".into(),
            plugin_paths: vec!["/opt/cni/bin".into()],
            data_folder,
            pod_ranges: Vec::new(),
            mtu: 0,
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// The host's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Only on this address of the host; on all when `None`.
    pub host_ip: Option<IpAddr>,
}

/// A pod to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The sandbox, one life of the pod.
    pub sandbox_id: String,
    /// Where its network namespace is found.
    pub netns_path: PathBuf,
    /// Host ports.
    pub port_mappings: Vec<PortMapping>,
    /// Addresses it must have; the network picks otherwise.
    pub ips: Vec<IpAddr>,
}

/// An attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// All that the plugins said.
    pub outcome: Outcome,
}

/// The pod network of a node. Its calls block (they talk to the kernel and write files): from async code, call them on
/// a blocking thread. They may run side by side for different pods.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    pod_ranges: RwLock<Vec<IpNet>>,
    runner: Runner,
}

impl Network {
    /// A network as configured; touches nothing yet.
    pub fn new(config: NetworkConfig) -> Self {
        let cache = Cache::new(config.data_folder.join("attachments"));
        let runner = Runner::new(config.plugin_paths.clone(), cache);
        Self { pod_ranges: RwLock::new(config.pod_ranges.clone()), config, runner }
    }

    /// Says which ranges this node's pods have, once the cluster has decided.
    pub fn set_pod_ranges(&self, ranges: Vec<IpNet>) {
        *self.pod_ranges.write().unwrap_or_else(std::sync::PoisonError::into_inner) = ranges;
    }

    /// The ranges of this node's pods.
    pub fn pod_ranges(&self) -> Vec<IpNet> {
        self.pod_ranges.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn list(&self) -> Result<NetworkList> {
        if let Some(list) = conflist::load(&self.config.config_folder)? {
            return Ok(list);
        }
        let ranges = self.pod_ranges();
        if ranges.is_empty() {
            return Err(Error::NotReady("the node has no pod address range yet".to_owned()));
        }
        Ok(self.own_list(&ranges))
    }

    /// Whether an administrator's configuration goes before our own network.
    pub fn is_foreign(&self) -> Result<bool> {
        Ok(conflist::load(&self.config.config_folder)?.is_some())
    }

    fn own_list(&self, ranges: &[IpNet]) -> NetworkList {
        conflist::routed(NAME, ranges, self.config.mtu, &self.config.data_folder.join("addresses"))
    }

    fn target(pod: &PodNetwork) -> Result<Target> {
        check_id("sandbox", &pod.sandbox_id)?;
        let arguments = BTreeMap::from([
            ("IgnoreUnknown".to_owned(), "1".to_owned()),
            ("K8S_POD_NAMESPACE".to_owned(), pod.namespace.clone()),
            ("K8S_POD_NAME".to_owned(), pod.name.clone()),
            ("K8S_POD_INFRA_CONTAINER_ID".to_owned(), pod.sandbox_id.clone()),
            ("K8S_POD_UID".to_owned(), pod.uid.clone()),
        ]);
        let mut capabilities = Map::new();
        if !pod.port_mappings.is_empty() {
            let mappings: Vec<_> = pod
                .port_mappings
                .iter()
                .map(|mapping| {
                    json!({
                        "hostPort": mapping.host_port, "containerPort": mapping.container_port,
                        "protocol": mapping.protocol,
                        "hostIP": mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                    })
                })
                .collect();
            capabilities.insert("portMappings".to_owned(), mappings.into());
        }
        if !pod.ips.is_empty() {
            let ips: Vec<String> = pod.ips.iter().map(|ip| IpNet::from(*ip).to_string()).collect();
            capabilities.insert("ips".to_owned(), ips.into());
        }
        Ok(Target {
            container_id: pod.sandbox_id.clone(),
            namespace: Some(pod.netns_path.clone()),
            interface: INTERFACE.to_owned(),
            arguments,
            capabilities,
        })
    }

    /// Attaches a pod. After a failure nothing stays.
    pub fn add(&self, pod: &PodNetwork) -> Result<Attachment> {
        let list = self.list()?;
        let target = Self::target(pod)?;
        plugins::loopback::bring_up(&Namespace::open(&pod.netns_path)?)?;
        match self.runner.add(&list, &target) {
            Ok(outcome) => Ok(Attachment { ips: outcome.container_ips(), outcome }),
            Err(error) => {
                // What cannot be undone now stays recorded, and the runtime's later `del` or `gc` tries again.
                let _ = self.runner.del(&list, &target);
                Err(error)
            }
        }
    }

    /// Detaches a pod; it is no error if it is not attached, or if its network namespace is gone.
    pub fn del(&self, pod: &PodNetwork) -> Result<()> {
        let mut target = Self::target(pod)?;
        if !pod.netns_path.exists() {
            target.namespace = None;
        }
        // What is recorded goes before what is configured now: the configuration may have changed since.
        self.recorded(pod)?.iter().try_for_each(|entry| self.runner.del(&NetworkList::parse(&entry.config)?, &target))
    }

    fn recorded(&self, pod: &PodNetwork) -> Result<Vec<Entry>> {
        let all = self.runner.cache().list()?.into_iter();
        Ok(all.filter(|entry| entry.container_id == pod.sandbox_id && entry.interface == INTERFACE).collect())
    }

    /// Complains if a pod is not attached as it was.
    pub fn check(&self, pod: &PodNetwork) -> Result<()> {
        let recorded = self.recorded(pod)?;
        if recorded.is_empty() {
            return Err(Error::UnknownContainer(pod.sandbox_id.clone()));
        }
        let target = Self::target(pod)?;
        recorded.iter().try_for_each(|entry| self.runner.check(&NetworkList::parse(&entry.config)?, &target))
    }

    /// What an attached pod has; `None` if it is not attached.
    pub fn attachment(&self, pod: &PodNetwork) -> Result<Option<Attachment>> {
        let outcome = self.recorded(pod)?.into_iter().find_map(|entry| entry.result);
        Ok(outcome.map(|outcome| Attachment { ips: outcome.container_ips(), outcome }))
    }

    /// Whether pods can be attached now.
    pub fn status(&self) -> Result<()> {
        self.runner.status(&self.list()?)
    }

    /// Detaches everything but the given sandboxes: what a crash or a reboot left behind. Needs no pod range yet: what
    /// is recorded says how it was made.
    pub fn gc(&self, is_valid: &dyn Fn(&str) -> bool) -> Result<()> {
        self.runner.cache().sweep(is_valid)?;
        for entry in self.runner.cache().list()? {
            if !is_valid(&entry.container_id) {
                let list = NetworkList::parse(&entry.config)?;
                self.runner.del(&list, &Target::of(&entry))?;
            }
        }
        match self.list() {
            Ok(list) => self.runner.gc(&list, is_valid),
            Err(Error::NotReady(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
