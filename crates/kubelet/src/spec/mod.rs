//! Turns a pod into what the container runtime is told.

mod container;
mod dns;
pub mod env;
pub mod fields;
pub mod resources;
pub mod security;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use api::core::pod::Pod;
use apimachinery::Quantity;
use cri::v1;
use smol_str::SmolStr;

pub use container::{ContainerInputs, container};

/// What a container's configuration needs of the node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub name: SmolStr,
    pub ips: Vec<IpAddr>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    /// The agent's own folder.
    pub root: PathBuf,
    /// Pods' logs.
    pub logs: PathBuf,
    pub allocatable: BTreeMap<String, Quantity>,
}

/// What a container's configuration needs of its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    pub reference: String,
    /// As whom it runs by itself: a number, or a name that only the image knows.
    pub uid: Option<i64>,
    pub username: String,
}

/// Why a pod or container cannot be told to the runtime; the text is what users of upstream see.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Error(pub String);

pub(crate) fn error(text: impl Into<String>) -> Error {
    Error(text.into())
}

/// Where a pod's logs are: `<namespace>_<name>_<uid>` below the node's folder of logs.
pub fn log_directory(pod: &Pod, node: &NodeFacts) -> PathBuf {
    let meta = &pod.metadata;
    node.logs.join(format!("{}_{}_{}", meta.namespace, meta.name, meta.uid))
}

/// The labels by which a pod's sandbox is found again.
fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let meta = &pod.metadata;
    let mut labels: HashMap<String, String> = meta.labels.clone().into_iter().collect();
    labels.insert("io.kubernetes.pod.name".into(), meta.name.clone());
    labels.insert("io.kubernetes.pod.namespace".into(), meta.namespace.clone());
    labels.insert("io.kubernetes.pod.uid".into(), meta.uid.clone());
    labels
}

/// A pod's host name, short, and its domain if it has one.
pub fn host_name(pod: &Pod, node: &NodeFacts) -> Result<(String, Option<String>), Error> {
    let spec = &pod.spec;
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return Ok((name.to_owned(), None));
    }
    let name = if spec.hostname.is_empty() {
        let mut name: String = pod.metadata.name.chars().take(63).collect();
        name.truncate(name.trim_end_matches(['-', '.']).len());
        name
    } else {
        spec.hostname.clone()
    };
    let domain = (!spec.subdomain.is_empty())
        .then(|| format!("{}.{}.svc.{}", spec.subdomain, pod.metadata.namespace, node.cluster_domain));
    if spec.set_hostname_as_fqdn == Some(true)
        && let Some(domain) = &domain
    {
        let full = format!("{name}.{domain}");
        if full.len() > 64 {
            return Err(error(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
                full.len()
            )));
        }
        return Ok((full, Some(domain.clone())));
    }
    Ok((name, domain))
}

/// The configuration of a pod's sandbox.
pub fn sandbox(pod: &Pod, node: &NodeFacts, attempt: u32) -> Result<v1::PodSandboxConfig, Error> {
    let (spec, meta) = (&pod.spec, &pod.metadata);
    if spec.host_users == Some(false) {
        return Err(error("user namespaces (hostUsers: false) are not supported by this node"));
    }
    let hostname = if spec.host_network { String::new() } else { host_name(pod, node)?.0 };
    let ports = spec.containers.iter().chain(spec.init_containers.iter().filter(|c| crate::restart::is_sidecar(c)));
    let port_mappings = ports
        .flat_map(|c| &c.ports)
        .filter(|port| port.host_port > 0 && !spec.host_network)
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_str() {
                "UDP" => v1::Protocol::Udp,
                "SCTP" => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port,
            host_ip: port.host_ip.clone(),
        })
        .collect();
    let security = spec.security_context.clone().unwrap_or_default();
    Ok(v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            namespace: meta.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(pod, node).display().to_string(),
        dns_config: Some(dns::config(pod, node)?),
        port_mappings,
        labels: pod_labels(pod),
        annotations: meta.annotations.clone().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(pod),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(security::namespaces(pod, "")),
                run_as_user: security.run_as_user.map(|value| v1::Int64Value { value }),
                run_as_group: security.run_as_group.map(|value| v1::Int64Value { value }),
                supplemental_groups: security::groups(pod),
                privileged: security::any_privileged(pod),
                seccomp: security::seccomp(security.seccomp_profile.as_ref(), true),
                ..Default::default()
            }),
            sysctls: security.sysctls.iter().map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
            overhead: None,
            resources: Some(resources::of_pod(pod)),
        }),
        windows: None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pod(text: &str) -> Pod {
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
        apimachinery::Api::from_value(&tree).unwrap()
    }

    pub(crate) fn node() -> NodeFacts {
        NodeFacts {
            name: "n1".into(),
            ips: vec!["192.0.2.1".parse().unwrap()],
            cluster_dns: vec!["10.43.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/nonexistent/resolv.conf".into(),
            root: "/var/lib/skiff/kubelet".into(),
            logs: "/var/log/pods".into(),
            allocatable: BTreeMap::from([
                ("cpu".to_owned(), Quantity::parse("2").unwrap()),
                ("memory".to_owned(), Quantity::parse("4Gi").unwrap()),
            ]),
        }
    }

    #[test]
    fn a_sandbox_is_told() {
        let pod = pod(r#"{"metadata":{"name":"web","namespace":"shop","uid":"u1"},"spec":{"subdomain":"sub",
            "containers":[{"name":"a","ports":[{"containerPort":80,"hostPort":8080,"protocol":"TCP"},{"containerPort":1}]}]}}"#);
        let told = sandbox(&pod, &node(), 2).unwrap();
        assert_eq!(told.hostname, "web");
        assert_eq!(told.log_directory, "/var/log/pods/shop_web_u1");
        assert_eq!(told.port_mappings.len(), 1);
        assert_eq!(told.metadata.unwrap().attempt, 2);
        assert_eq!(told.labels["io.kubernetes.pod.uid"], "u1");
        assert_eq!(told.linux.unwrap().cgroup_parent, "/kubepods/besteffort/podu1");
    }

    #[test]
    fn host_names() {
        let mut p = pod(r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"subdomain":"sub","hostname":"h"}}"#);
        let domain = Some("sub.shop.svc.cluster.local".to_owned());
        assert_eq!(host_name(&p, &node()), Ok(("h".into(), domain.clone())));
        p.spec.set_hostname_as_fqdn = Some(true);
        assert_eq!(host_name(&p, &node()), Ok(("h.sub.shop.svc.cluster.local".into(), domain)));
        p.spec.hostname = "x".repeat(60);
        assert!(host_name(&p, &node()).is_err());
        p.spec.hostname.clear();
        p.spec.set_hostname_as_fqdn = None;
        p.metadata.name = format!("{}-b", "a".repeat(62));
        assert_eq!(host_name(&p, &node()).unwrap().0, "a".repeat(62));
    }
}
