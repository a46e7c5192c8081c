//! The resolver configuration of a pod: its policy, then what it asks for itself.

use api::core::pod::Pod;
use cri::v1::DnsConfig;

use super::{Error, NodeFacts};

/// What `resolv.conf` may hold, as the kubelet limits it.
const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_BYTES: usize = 2048;

/// A pod's resolver configuration.
pub fn config(pod: &Pod, node: &NodeFacts) -> Result<DnsConfig, Error> {
    let spec = &pod.spec;
    let policy = match spec.dns_policy.as_str() {
        // On the host's network the host's names come first, unless asked otherwise.
        "ClusterFirst" | "" if spec.host_network => "Default",
        "ClusterFirstWithHostNet" | "" => "ClusterFirst",
        other => other,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        "Default" => host(node),
        _ => {
            let domain = &node.cluster_domain;
            let own = [format!("{}.svc.{domain}", pod.metadata.namespace), format!("svc.{domain}"), domain.clone()];
            let mut searches = own.to_vec();
            for search in host(node).searches {
                if !searches.contains(&search) {
                    searches.push(search);
                }
            }
            DnsConfig {
                servers: node.cluster_dns.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
    };
    if let Some(own) = &spec.dns_config {
        let merge = |to: &mut Vec<String>, more: &[String]| {
            for item in more {
                if !to.contains(item) {
                    to.push(item.clone());
                }
            }
        };
        merge(&mut config.servers, &own.nameservers);
        merge(&mut config.searches, &own.searches);
        for option in &own.options {
            let name = option.name.as_str();
            config.options.retain(|known| known.split(':').next() != Some(name));
            config.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    config.servers.truncate(SERVERS);
    config.searches.truncate(SEARCHES);
    while config.searches.iter().map(|s| s.len() + 1).sum::<usize>() > SEARCH_BYTES {
        config.searches.pop();
    }
    Ok(config)
}

/// The host's own configuration; none where it has none.
fn host(node: &NodeFacts) -> DnsConfig {
    read(&std::fs::read_to_string(&node.resolv_conf).unwrap_or_default())
}

fn read(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(|w| w.trim_end_matches('.').to_owned()).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config.searches.retain(|search| !search.is_empty());
    config
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, pod};
    use super::*;

    #[test]
    fn policies() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node();
        node.resolv_conf = folder.path().join("resolv.conf");
        std::fs::write(&node.resolv_conf, "# x\nnameserver 192.0.2.53\nsearch example.com.\noptions edns0\n").unwrap();
        let told = |spec: &str| {
            let pod = pod(&format!(r#"{{"metadata":{{"namespace":"shop"}},"spec":{spec}}}"#));
            let c = config(&pod, &node).unwrap();
            format!("{} | {} | {}", c.servers.join(" "), c.searches.join(" "), c.options.join(" "))
        };
        let cluster = "10.43.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local example.com | ndots:5";
        assert_eq!(told(r#"{"dnsPolicy":"ClusterFirst"}"#), cluster);
        assert_eq!(told(r#"{"dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true}"#), cluster);
        let default = "192.0.2.53 | example.com | edns0";
        assert_eq!(told(r#"{"dnsPolicy":"Default"}"#), default);
        assert_eq!(told(r#"{"dnsPolicy":"ClusterFirst","hostNetwork":true}"#), default);
        let own = r#"{"dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"],"searches":["a.b"],
            "options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#;
        assert_eq!(told(own), "1.1.1.1 | a.b | ndots:2 edns0");
        let merged = r#"{"dnsPolicy":"ClusterFirst","dnsConfig":{"options":[{"name":"ndots","value":"2"}]}}"#;
        assert!(told(merged).ends_with("| ndots:2"));
    }
}
