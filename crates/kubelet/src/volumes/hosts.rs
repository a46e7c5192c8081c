//! A pod's `/etc/hosts`.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use api::core::pod::Pod;

use super::{Error, places};
use crate::spec::{NodeFacts, host_name};

/// Writes the file anew.
pub fn write(file: &Path, pod: &Pod, node: &NodeFacts, ips: &[IpAddr]) -> Result<(), Error> {
    let text = match pod.spec.host_network {
        true => on_host(pod, &std::fs::read_to_string("/etc/hosts").unwrap_or_default()),
        false => contents(pod, node, ips)?,
    };
    if std::fs::read_to_string(file).is_ok_and(|known| known == text) {
        return Ok(());
    }
    std::fs::write(file, text).map_err(|source| Error::File { what: "cannot write", path: file.into(), source })?;
    places::set_mode(file, 0o644)
}

fn aliases(pod: &Pod, text: &mut String) {
    if pod.spec.host_aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in &pod.spec.host_aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
}

fn on_host(pod: &Pod, host: &str) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{host}");
    aliases(pod, &mut text);
    text
}

fn contents(pod: &Pod, node: &NodeFacts, ips: &[IpAddr]) -> Result<String, Error> {
    let (name, domain) = host_name(pod, node)?;
    let mut text = String::from("# Kubernetes-managed hosts file.\n");
    for line in [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "fe00::\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ] {
        text.push_str(line);
        text.push('\n');
    }
    for ip in ips {
        let _ = match &domain {
            Some(domain) => {
                // The short name is there too where the host name is the full one.
                let short = name.strip_suffix(domain.as_str()).and_then(|n| n.strip_suffix('.')).unwrap_or(&name);
                writeln!(text, "{ip}\t{short}.{domain}\t{short}")
            }
            None => writeln!(text, "{ip}\t{name}"),
        };
    }
    aliases(pod, &mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::{node, pod};

    #[test]
    fn names_and_aliases() {
        let mut pod = pod(r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"subdomain":"sub",
            "hostAliases":[{"ip":"192.0.2.9","hostnames":["a","b"]}]}}"#);
        let text = contents(&pod, &node(), &["10.0.0.1".parse().unwrap()]).unwrap();
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.0.0.1\tweb.sub.shop.svc.cluster.local\tweb\n"));
        assert!(text.ends_with("192.0.2.9\ta\tb\n"));
        pod.spec.set_hostname_as_fqdn = Some(true);
        assert_eq!(contents(&pod, &node(), &["10.0.0.1".parse().unwrap()]).unwrap(), text);
        pod.spec.subdomain.clear();
        let text = contents(&pod, &node(), &["10.0.0.1".parse().unwrap()]).unwrap();
        assert!(text.contains("\n10.0.0.1\tweb\n"));
    }
}
