//! What pods and containers use, in the forms that are asked for: the summary, and metrics as text.

use std::fmt::Write;

use apimachinery::{Map, Value};
use cri::v1;

use super::Server;

fn time(nanos: i64) -> String {
    apimachinery::time::rfc3339(nanos.div_euclid(1_000_000_000))
}

fn value(of: &Option<v1::UInt64Value>) -> Option<i64> {
    of.as_ref().map(|v| i64::try_from(v.value).unwrap_or(i64::MAX))
}

fn put(map: &mut Map, key: &str, value: Option<i64>) {
    if let Some(value) = value {
        map.insert(key, value);
    }
}

fn cpu(usage: &v1::CpuUsage) -> Map {
    let mut map = Map::new();
    map.insert("time", time(usage.timestamp));
    put(&mut map, "usageNanoCores", value(&usage.usage_nano_cores));
    put(&mut map, "usageCoreNanoSeconds", value(&usage.usage_core_nano_seconds));
    map
}

fn memory(usage: &v1::MemoryUsage) -> Map {
    let mut map = Map::new();
    map.insert("time", time(usage.timestamp));
    put(&mut map, "availableBytes", value(&usage.available_bytes));
    put(&mut map, "usageBytes", value(&usage.usage_bytes));
    put(&mut map, "workingSetBytes", value(&usage.working_set_bytes));
    put(&mut map, "rssBytes", value(&usage.rss_bytes));
    put(&mut map, "pageFaults", value(&usage.page_faults));
    put(&mut map, "majorPageFaults", value(&usage.major_page_faults));
    map
}

async fn pods(server: &Server) -> Vec<v1::PodSandboxStats> {
    let listed = server.runtime.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest::default()).await;
    listed.map(|l| l.stats).unwrap_or_default()
}

fn name_of(labels: &std::collections::HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

/// The summary (`stats.k8s.io/v1alpha1`) of node and pods.
pub async fn summary(server: &Server) -> Value {
    let mut list = Vec::new();
    for pod in pods(server).await {
        let attributes = pod.attributes.unwrap_or_default();
        let metadata = attributes.metadata.unwrap_or_default();
        let mut reference = Map::new();
        reference.insert("name", metadata.name);
        reference.insert("namespace", metadata.namespace);
        reference.insert("uid", metadata.uid);
        let linux = pod.linux.unwrap_or_default();
        let mut entry = Map::new();
        entry.insert("podRef", reference);
        let containers = linux.containers.iter().map(|container| {
            let attributes = container.attributes.clone().unwrap_or_default();
            let mut map = Map::new();
            map.insert("name", name_of(&attributes.labels, "io.kubernetes.container.name"));
            map.insert("startTime", time(crate::nanos()));
            if let Some(usage) = &container.cpu {
                map.insert("cpu", cpu(usage));
            }
            if let Some(usage) = &container.memory {
                map.insert("memory", memory(usage));
            }
            if let Some(layer) = &container.writable_layer {
                let mut files = Map::new();
                files.insert("time", time(layer.timestamp));
                put(&mut files, "usedBytes", value(&layer.used_bytes));
                put(&mut files, "inodesUsed", value(&layer.inodes_used));
                map.insert("rootfs", files);
            }
            Value::Map(map)
        });
        entry.insert("containers", containers.collect::<Vec<_>>());
        if let Some(usage) = &linux.cpu {
            entry.insert("cpu", cpu(usage));
        }
        if let Some(usage) = &linux.memory {
            entry.insert("memory", memory(usage));
        }
        if let Some(interface) = linux.network.as_ref().and_then(|n| n.default_interface.as_ref()) {
            let mut network = Map::new();
            network.insert("name", interface.name.as_str());
            put(&mut network, "rxBytes", value(&interface.rx_bytes));
            put(&mut network, "rxErrors", value(&interface.rx_errors));
            put(&mut network, "txBytes", value(&interface.tx_bytes));
            put(&mut network, "txErrors", value(&interface.tx_errors));
            entry.insert("network", network);
        }
        list.push(Value::Map(entry));
    }
    let mut node = Map::new();
    node.insert("nodeName", server.node_name.as_str());
    let (busy, used, available) = node_usage();
    let now = time(crate::nanos());
    let mut cpu = Map::new();
    cpu.insert("time", now.as_str());
    cpu.insert("usageCoreNanoSeconds", busy);
    let mut memory = Map::new();
    memory.insert("time", now.as_str());
    memory.insert("workingSetBytes", used);
    memory.insert("usageBytes", used);
    memory.insert("availableBytes", available);
    node.insert("cpu", cpu);
    node.insert("memory", memory);
    let mut summary = Map::new();
    summary.insert("node", node);
    summary.insert("pods", list);
    Value::Map(summary)
}

/// The node's CPU time in nanoseconds, memory in use and memory left in bytes.
fn node_usage() -> (i64, i64, i64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<i64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    // Without idle and waiting for disks; a tick is a hundredth of a second on every Linux.
    let busy: i64 = ticks.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, t)| t).take(6).sum();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| -> i64 {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').split_whitespace().next().and_then(|k| k.parse::<i64>().ok()).unwrap_or(0) * 1024
    };
    (busy * 10_000_000, of("MemTotal") - of("MemAvailable"), of("MemAvailable"))
}

/// The agent's own metrics.
pub fn metrics(server: &Server) -> String {
    let pods = server.pods.all();
    let running = pods.iter().filter(|p| p.sandbox.is_some()).count();
    let containers: usize = pods.iter().map(|p| p.containers.len()).sum();
    format!(
        "# HELP kubelet_node_name Which node this is; always 1.\n# TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node={:?}}} 1\n\
         # HELP kubelet_running_pods Pods whose sandbox runs.\n# TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {running}\n\
         # HELP kubelet_running_containers Containers of the pods of this node.\n\
         # TYPE kubelet_running_containers gauge\nkubelet_running_containers {containers}\n",
        server.node_name.as_str()
    )
}

/// CPU and memory of node, pods and containers, as metrics servers read them.
pub async fn resource_metrics(server: &Server) -> String {
    let pods = pods(server).await;
    let (busy, used, _) = node_usage();
    let mut text = format!(
        "# HELP node_cpu_usage_seconds_total CPU time of the node, in seconds.\n\
         # TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}\n\
         # HELP node_memory_working_set_bytes Memory in use on the node, in bytes.\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {used}\n",
        busy as f64 / 1e9
    );
    each_container(&pods, &mut text, "container_cpu_usage_seconds_total", "counter", "CPU time, in seconds.", |c| {
        c.cpu.as_ref().and_then(|u| value(&u.usage_core_nano_seconds)).map(|n| n as f64 / 1e9)
    });
    each_container(&pods, &mut text, "container_memory_working_set_bytes", "gauge", "Memory in use, in bytes.", |c| {
        c.memory.as_ref().and_then(|u| value(&u.working_set_bytes)).map(|n| n as f64)
    });
    text
}

/// The metrics of containers that dashboards know from cAdvisor.
pub async fn container_metrics(server: &Server) -> String {
    let pods = pods(server).await;
    let mut text = String::new();
    each_container(&pods, &mut text, "container_cpu_usage_seconds_total", "counter", "CPU time, in seconds.", |c| {
        c.cpu.as_ref().and_then(|u| value(&u.usage_core_nano_seconds)).map(|n| n as f64 / 1e9)
    });
    each_container(&pods, &mut text, "container_memory_usage_bytes", "gauge", "Memory with caches, in bytes.", |c| {
        c.memory.as_ref().and_then(|u| value(&u.usage_bytes)).map(|n| n as f64)
    });
    each_container(&pods, &mut text, "container_memory_working_set_bytes", "gauge", "Memory in use, in bytes.", |c| {
        c.memory.as_ref().and_then(|u| value(&u.working_set_bytes)).map(|n| n as f64)
    });
    each_container(&pods, &mut text, "container_fs_usage_bytes", "gauge", "Written by the container, in bytes.", |c| {
        c.writable_layer.as_ref().and_then(|u| value(&u.used_bytes)).map(|n| n as f64)
    });
    text
}

fn each_container(
    pods: &[v1::PodSandboxStats],
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    of: impl Fn(&v1::ContainerStats) -> Option<f64>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for container in pods.iter().filter_map(|p| p.linux.as_ref()).flat_map(|l| &l.containers) {
        let labels = container.attributes.clone().unwrap_or_default().labels;
        if let Some(value) = of(container) {
            let _ = writeln!(
                text,
                "{name}{{container={:?},namespace={:?},pod={:?}}} {value}",
                name_of(&labels, "io.kubernetes.container.name"),
                name_of(&labels, "io.kubernetes.pod.namespace"),
                name_of(&labels, "io.kubernetes.pod.name"),
            );
        }
    }
}

/// What of the kubelet's configuration can be told: what others' tools read of it.
pub fn configuration() -> Value {
    let mut configuration = Map::new();
    configuration.insert("kind", "KubeletConfiguration");
    configuration.insert("apiVersion", "kubelet.config.k8s.io/v1beta1");
    configuration.insert("maxPods", crate::MAX_PODS);
    let mut outer = Map::new();
    outer.insert("kubeletconfig", configuration);
    Value::Map(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_use_is_read() {
        let (busy, used, available) = node_usage();
        assert!(busy > 0 && used > 0 && available > 0);
    }

    #[test]
    fn containers_become_lines() {
        let mut labels = std::collections::HashMap::new();
        labels.insert("io.kubernetes.pod.name".to_owned(), "p".to_owned());
        let container = v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes { labels, ..Default::default() }),
            ..Default::default()
        };
        let pod = v1::PodSandboxStats {
            linux: Some(v1::LinuxPodSandboxStats { containers: vec![container], ..Default::default() }),
            ..Default::default()
        };
        let mut text = String::new();
        each_container(&[pod], &mut text, "x", "gauge", "X.", |_| Some(2.5));
        assert_eq!(text, "# HELP x X.\n# TYPE x gauge\nx{container=\"\",namespace=\"\",pod=\"p\"} 2.5\n");
    }
}
