//! What pods and containers use of processor, memory, disk and network.

use std::fs;

use cri::v1::{self, UInt64Value};
use linux::netlink::namespace::Namespace;

use crate::cgroup::{self, Used};
use crate::containers::Container;
use crate::error::blocking;
use crate::image::layers;
use crate::images::filesystem;
use crate::pods::Pod;
use crate::queries::selects;
use crate::record::{Phase, now};
use crate::{Error, Result, Runtime};

impl Runtime {
    /// What one container uses.
    pub async fn container_stats(&self, request: v1::ContainerStatsRequest) -> Result<v1::ContainerStatsResponse> {
        let container = self.container(&request.container_id)?;
        let runtime = self.clone();
        let stats = blocking(move || Ok(runtime.stats_of(&container))).await?;
        Ok(v1::ContainerStatsResponse { stats: Some(stats) })
    }

    /// What the running containers use that a filter lets through.
    pub async fn list_container_stats(
        &self,
        request: v1::ListContainerStatsRequest,
    ) -> Result<v1::ListContainerStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut chosen = self.containers();
        chosen.retain(|container| {
            let record = container.record();
            record.phase == Phase::Running
                && (filter.id.is_empty() || container.id.starts_with(&filter.id))
                && (filter.pod_sandbox_id.is_empty() || record.pod.starts_with(&filter.pod_sandbox_id))
                && selects(&filter.label_selector, &container.config.labels)
        });
        let runtime = self.clone();
        let stats = blocking(move || Ok(chosen.iter().map(|c| runtime.stats_of(c)).collect())).await?;
        Ok(v1::ListContainerStatsResponse { stats })
    }

    /// What one pod uses.
    pub async fn pod_sandbox_stats(&self, request: v1::PodSandboxStatsRequest) -> Result<v1::PodSandboxStatsResponse> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let runtime = self.clone();
        let stats = blocking(move || runtime.pod_stats(&pod)).await?;
        Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
    }

    /// What the running pods use that a filter lets through.
    pub async fn list_pod_sandbox_stats(
        &self,
        request: v1::ListPodSandboxStatsRequest,
    ) -> Result<v1::ListPodSandboxStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let mut chosen = self.pods();
        chosen.retain(|pod| {
            pod.record().ready
                && (filter.id.is_empty() || pod.id.starts_with(&filter.id))
                && selects(&filter.label_selector, &pod.config.labels)
        });
        let runtime = self.clone();
        // A pod that goes away meanwhile is not the others' fault.
        let stats = blocking(move || Ok(chosen.iter().filter_map(|pod| runtime.pod_stats(pod).ok()).collect())).await?;
        Ok(v1::ListPodSandboxStatsResponse { stats })
    }

    /// Metrics in the form that replaces cAdvisor's are not offered.
    pub async fn list_metric_descriptors(
        &self,
        _: v1::ListMetricDescriptorsRequest,
    ) -> Result<v1::ListMetricDescriptorsResponse> {
        Err(Error::Unsupported("telling metrics by descriptors".to_owned()))
    }

    /// Metrics in the form that replaces cAdvisor's are not offered.
    pub async fn list_pod_sandbox_metrics(
        &self,
        _: v1::ListPodSandboxMetricsRequest,
    ) -> Result<v1::ListPodSandboxMetricsResponse> {
        Err(Error::Unsupported("telling metrics by descriptors".to_owned()))
    }

    fn stats_of(&self, container: &Container) -> v1::ContainerStats {
        let record = container.record();
        let used = cgroup::used(&record.cgroup);
        let (bytes, inodes) = layers::measure(&self.container_folder(&container.id).join("upper"));
        let timestamp = now();
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(cpu(&used, timestamp)),
            memory: Some(memory(&used, timestamp)),
            writable_layer: Some(filesystem(&self.config().root.join("containers"), bytes, inodes)),
            swap: Some(v1::SwapUsage { timestamp, swap_available_bytes: None, swap_usage_bytes: value(used.swap) }),
            io: None,
        }
    }

    fn pod_stats(&self, pod: &Pod) -> Result<v1::PodSandboxStats> {
        let timestamp = now();
        let used = cgroup::used(&pod.cgroup_parent(&self.config().cgroup_parent));
        let containers = self.containers_of(&pod.id);
        let running = containers.iter().filter(|container| container.record().phase == Phase::Running);
        let interfaces = match pod.shim().ok().and_then(|shim| shim.namespaces().network.clone()) {
            Some(path) => {
                let text = Namespace::open(&path).and_then(|namespace| namespace.run(read_interfaces));
                parse_interfaces(&text.unwrap_or_default())
            }
            None => Vec::new(),
        };
        let (default, others) = interfaces.into_iter().partition::<Vec<_>, _>(|i| i.name == cni::network::INTERFACE);
        Ok(v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: pod.id.clone(),
                metadata: pod.config.metadata.clone(),
                labels: pod.config.labels.clone(),
                annotations: pod.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(&used, timestamp)),
                memory: Some(memory(&used, timestamp)),
                network: Some(v1::NetworkUsage {
                    timestamp,
                    default_interface: default.into_iter().next(),
                    interfaces: others,
                }),
                process: Some(v1::ProcessUsage { timestamp, process_count: value(used.processes) }),
                containers: running.map(|container| self.stats_of(container)).collect(),
                io: None,
            }),
            windows: None,
        })
    }
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn cpu(used: &Used, timestamp: i64) -> v1::CpuUsage {
    v1::CpuUsage { timestamp, usage_core_nano_seconds: value(used.cpu), usage_nano_cores: None, psi: None }
}

fn memory(used: &Used, timestamp: i64) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(used.working_set),
        available_bytes: used.memory_limit.and_then(|limit| value(limit.saturating_sub(used.working_set))),
        usage_bytes: value(used.memory),
        rss_bytes: value(used.rss),
        page_faults: value(used.page_faults),
        major_page_faults: value(used.major_page_faults),
        psi: None,
    }
}

/// The counters of the network namespace that the calling thread is in.
fn read_interfaces() -> String {
    fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default()
}

fn parse_interfaces(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let lines = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let numbers: Vec<u64> = counters.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).and_then(|n| value(*n));
        let name = name.trim().to_owned();
        Some(v1::NetworkInterfaceUsage { name, rx_bytes: at(0), rx_errors: at(2), tx_bytes: at(8), tx_errors: at(10) })
    });
    lines.filter(|interface| interface.name != "lo" && interface.tx_bytes.is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_interfaces_are_read() {
        let text = "Inter-|   Receive\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs\n    \
            lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 0 0 0 0 0 40 5 6 0 0 0 0 0\n";
        let found = parse_interfaces(text);
        assert_eq!(found.len(), 1);
        let numbers = [&found[0].rx_bytes, &found[0].rx_errors, &found[0].tx_bytes, &found[0].tx_errors];
        assert_eq!(numbers.map(|n| n.as_ref().unwrap().value), [10, 3, 40, 6]);
    }
}
