//! What is there: lists and statuses of pods and containers.

use std::collections::HashMap;

use cri::v1::{self, ContainerState, PodSandboxState};

use crate::containers::{Container, load_spec};
use crate::pods::Pod;
use crate::record::Phase;
use crate::spec::pod_namespace_options;
use crate::{Error, Result, Runtime};

/// The name by which this runtime is known.
pub const NAME: &str = "skiff";

impl Runtime {
    /// What this runtime is.
    pub async fn version(&self, _: v1::VersionRequest) -> Result<v1::VersionResponse> {
        Ok(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: NAME.to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    /// Whether it is ready, and what it can do.
    pub async fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse> {
        let condition = |kind: &str, trouble: Option<(&str, String)>| {
            let status = trouble.is_none();
            let (reason, message) = trouble.unwrap_or_default();
            v1::RuntimeCondition { r#type: kind.to_owned(), status, reason: reason.to_owned(), message }
        };
        let network = match self.network_status().await {
            None => Some(("NetworkPluginNotReady", "this runtime has no pod network".to_owned())),
            Some(Err(error)) => Some(("NetworkPluginNotReady", error.to_string())),
            Some(Ok(())) => None,
        };
        let mut info = HashMap::new();
        if request.verbose {
            let config = serde_json::json!({"root": self.config().root, "state": self.config().state});
            info.insert("config".to_owned(), config.to_string());
        }
        Ok(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", None), condition("NetworkReady", network)],
            }),
            info,
            runtime_handlers: vec![v1::RuntimeHandler {
                name: String::new(),
                features: Some(v1::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: false }),
            }],
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
                mount_options: false,
            }),
        })
    }

    /// How control groups are driven: by their files.
    pub async fn runtime_config(&self, _: v1::RuntimeConfigRequest) -> Result<v1::RuntimeConfigResponse> {
        let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
        Ok(v1::RuntimeConfigResponse { linux: Some(linux) })
    }

    /// Takes the ranges of this node's pods.
    pub async fn update_runtime_config(
        &self,
        request: v1::UpdateRuntimeConfigRequest,
    ) -> Result<v1::UpdateRuntimeConfigResponse> {
        let cidr = request.runtime_config.and_then(|c| c.network_config).map(|n| n.pod_cidr).unwrap_or_default();
        if let (false, Some(network)) = (cidr.is_empty(), &self.config().network) {
            let ranges = cidr.split(',').map(|range| range.trim().parse());
            let ranges = ranges.collect::<std::result::Result<Vec<_>, _>>();
            network
                .set_pod_ranges(ranges.map_err(|_| Error::Invalid(format!("{cidr:?} is no list of address ranges")))?);
        }
        Ok(v1::UpdateRuntimeConfigResponse {})
    }

    /// The pods that a filter lets through.
    pub async fn list_pod_sandbox(&self, request: v1::ListPodSandboxRequest) -> Result<v1::ListPodSandboxResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut items: Vec<v1::PodSandbox> = self
            .pods()
            .iter()
            .map(|pod| self.pod_status(pod))
            .filter(|pod| filter.id.is_empty() || pod.id.starts_with(&filter.id))
            .filter(|pod| filter.state.as_ref().is_none_or(|state| state.state == pod.state))
            .filter(|pod| selects(&filter.label_selector, &pod.labels))
            .map(|pod| v1::PodSandbox {
                id: pod.id,
                metadata: pod.metadata,
                state: pod.state,
                created_at: pod.created_at,
                labels: pod.labels,
                annotations: pod.annotations,
                runtime_handler: pod.runtime_handler,
            })
            .collect();
        items.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        Ok(v1::ListPodSandboxResponse { items })
    }

    /// A pod's status.
    pub async fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let shim = pod.shim().ok();
            let network = shim.as_ref().and_then(|shim| shim.namespaces().network.clone());
            let value = serde_json::json!({"pid": shim.map(|shim| shim.pid()), "runtimeSpec": {"linux": {"namespaces":
                [{"type": "network", "path": network}]}}});
            info.insert("info".to_owned(), value.to_string());
        }
        Ok(v1::PodSandboxStatusResponse {
            status: Some(self.pod_status(&pod)),
            info,
            containers_statuses: self.containers_of(&pod.id).iter().map(|c| self.status_of(c)).collect(),
            timestamp: crate::record::now(),
        })
    }

    pub(crate) fn pod_status(&self, pod: &Pod) -> v1::PodSandboxStatus {
        let record = pod.record();
        let state = if record.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready };
        let mut ips = record.ips.iter().map(ToString::to_string);
        v1::PodSandboxStatus {
            id: pod.id.clone(),
            metadata: pod.config.metadata.clone(),
            state: state.into(),
            created_at: record.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace { options: Some(pod_namespace_options(&pod.config)) }),
            }),
            labels: pod.config.labels.clone(),
            annotations: pod.config.annotations.clone(),
            runtime_handler: record.handler,
        }
    }

    /// The containers that a filter lets through.
    pub async fn list_containers(&self, request: v1::ListContainersRequest) -> Result<v1::ListContainersResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut containers: Vec<v1::Container> = self
            .containers()
            .iter()
            .filter(|container| filter.id.is_empty() || container.id.starts_with(&filter.id))
            .filter(|container| {
                filter.pod_sandbox_id.is_empty() || container.record().pod.starts_with(&filter.pod_sandbox_id)
            })
            .filter(|container| selects(&filter.label_selector, &container.config.labels))
            .map(|container| {
                let record = container.record();
                v1::Container {
                    id: container.id.clone(),
                    pod_sandbox_id: record.pod,
                    metadata: container.config.metadata.clone(),
                    image: container.config.image.clone(),
                    image_ref: record.image.to_string(),
                    state: state(record.phase).into(),
                    created_at: record.created_at,
                    labels: container.config.labels.clone(),
                    annotations: container.config.annotations.clone(),
                    image_id: record.image.to_string(),
                }
            })
            .filter(|container| filter.state.as_ref().is_none_or(|state| state.state == container.state))
            .collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        Ok(v1::ListContainersResponse { containers })
    }

    /// A container's status.
    pub async fn container_status(&self, request: v1::ContainerStatusRequest) -> Result<v1::ContainerStatusResponse> {
        let container = self.container(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let record = container.record();
            let spec = load_spec(&self.container_folder(&container.id)).ok();
            let value = serde_json::json!({"sandboxID": record.pod, "pid": record.pid, "runtimeSpec": spec});
            info.insert("info".to_owned(), value.to_string());
        }
        Ok(v1::ContainerStatusResponse { status: Some(self.status_of(&container)), info })
    }

    pub(crate) fn status_of(&self, container: &Container) -> v1::ContainerStatus {
        let record = container.record();
        let config = &container.config;
        let log_path = self.pod(&record.pod).ok().and_then(|pod| container.log_path(&pod));
        let resources = container.resources();
        let stop_signal = v1::Signal::from_str_name(&format!("SIGNAL_{}", container.stop_signal()));
        v1::ContainerStatus {
            id: container.id.clone(),
            metadata: config.metadata.clone(),
            state: state(record.phase).into(),
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            exit_code: record.exit_code,
            image: config.image.as_ref().map(|image| v1::ImageSpec {
                // As the user wrote it, where kubelet passes the identity.
                image: if image.user_specified_image.is_empty() {
                    image.image.clone()
                } else {
                    image.user_specified_image.clone()
                },
                ..image.clone()
            }),
            image_ref: record.image_ref,
            reason: record.reason,
            message: record.message,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: log_path.map(|path| path.display().to_string()).unwrap_or_default(),
            resources: resources.map(|linux| v1::ContainerResources { linux: Some(linux), windows: None }),
            image_id: record.image.to_string(),
            user: Some(v1::ContainerUser {
                linux: Some(v1::LinuxContainerUser {
                    uid: record.uid.into(),
                    gid: record.gid.into(),
                    supplemental_groups: record.groups.iter().map(|gid| i64::from(*gid)).collect(),
                }),
            }),
            stop_signal: stop_signal.unwrap_or(v1::Signal::RuntimeDefault).into(),
        }
    }
}

pub(crate) fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn state(phase: Phase) -> ContainerState {
    match phase {
        Phase::Created => ContainerState::ContainerCreated,
        Phase::Running => ContainerState::ContainerRunning,
        Phase::Exited => ContainerState::ContainerExited,
        Phase::Unknown => ContainerState::ContainerUnknown,
    }
}
