//! What services, endpoints and namespaces mean as names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::Name;
use smol_str::SmolStr;

use crate::{Error, Result};

/// A port of a service or endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: SmolStr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: SmolStr,
    /// Its number.
    pub port: u16,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Cluster addresses; none for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// Another name it stands for.
    pub external_name: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// Whether its endpoints answer for it.
    pub fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty() && self.external_name.is_none()
    }
}

/// An address behind a service that wants traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointAddress {
    /// Address.
    pub ip: IpAddr,
    /// The pod's name below the service; made of the address if it has none.
    pub hostname: Option<SmolStr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

impl EndpointAddress {
    /// Its label below the service.
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_lowercase(),
            None => dashed(self.ip),
        }
    }
}

/// An address as a label.
pub fn dashed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        // A label must not begin or end with a dash, so the address is written in full.
        IpAddr::V6(ip) => ip.segments().map(|segment| format!("{segment:x}")).join("-"),
    }
}

/// The address a label stands for.
pub fn undashed(label: &str) -> Option<IpAddr> {
    if let Ok(ip) = label.replace('-', ".").parse::<std::net::Ipv4Addr>() {
        return Some(IpAddr::V4(ip));
    }
    label.replace('-', ":").parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Namespace and name.
type Key = (SmolStr, SmolStr);

#[derive(Debug, Clone)]
struct Slice {
    service: SmolStr,
    addresses: Vec<EndpointAddress>,
}

/// All names of the cluster.
#[derive(Debug)]
pub struct Records {
    zone: Name,
    /// The addresses of the name servers themselves.
    pub servers: Vec<IpAddr>,
    /// The nodes' own addresses, which may ask too.
    nodes: HashMap<SmolStr, Vec<IpAddr>>,
    namespaces: HashSet<SmolStr>,
    services: HashMap<Key, Service>,
    /// Endpoint slices by namespace and name of the slice.
    slices: HashMap<Key, Slice>,
    /// The slices of each service.
    slices_of: HashMap<Key, BTreeMap<SmolStr, ()>>,
    service_of_ip: HashMap<IpAddr, Key>,
    /// The slices each address is in, with the number of times.
    slices_with_ip: HashMap<IpAddr, HashMap<Key, usize>>,
}

impl Records {
    /// No names yet below the cluster's domain, such as `cluster.local`.
    pub fn new(domain: &str) -> Result<Self> {
        let mut zone = Name::from_ascii(domain).map_err(|_| Error::Domain(domain.to_owned()))?.to_lowercase();
        zone.set_fqdn(true);
        if zone.is_root() {
            return Err(Error::Domain(domain.to_owned()));
        }
        Ok(Self {
            zone,
            servers: Vec::new(),
            nodes: HashMap::new(),
            namespaces: HashSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            service_of_ip: HashMap::new(),
            slices_with_ip: HashMap::new(),
        })
    }

    /// The cluster's domain.
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// Says which addresses a node has; none if it is gone.
    pub fn set_node(&mut self, name: &str, ips: Vec<IpAddr>) {
        if ips.is_empty() {
            self.nodes.remove(name);
        } else {
            self.nodes.insert(name.into(), ips);
        }
    }

    /// Whether an address is a node's.
    pub fn is_node(&self, ip: IpAddr) -> bool {
        self.nodes.values().any(|ips| ips.contains(&ip))
    }

    /// Says that a namespace exists or does not.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.into());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// Says what a service is; `None` if it is gone.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let key: Key = (namespace.into(), name.into());
        for ip in self.services.remove(&key).into_iter().flat_map(|old| old.cluster_ips) {
            // The address may be another service's by now.
            if self.service_of_ip.get(&ip) == Some(&key) {
                self.service_of_ip.remove(&ip);
            }
        }
        if let Some(service) = service {
            for ip in &service.cluster_ips {
                self.service_of_ip.insert(*ip, key.clone());
            }
            self.services.insert(key, service);
        }
    }

    /// Finds a service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.get(&(namespace.into(), name.into()))
    }

    /// Says what an endpoint slice holds: a service's addresses that want traffic; `None` if it is gone.
    pub fn set_slice(&mut self, namespace: &str, name: &str, content: Option<(&str, Vec<EndpointAddress>)>) {
        let key: Key = (namespace.into(), name.into());
        if let Some(old) = self.slices.remove(&key) {
            let service = (key.0.clone(), old.service);
            if let Some(slices) = self.slices_of.get_mut(&service) {
                slices.remove(&key.1);
                if slices.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
            for address in &old.addresses {
                if let Some(slices) = self.slices_with_ip.get_mut(&address.ip) {
                    slices.remove(&key);
                    if slices.is_empty() {
                        self.slices_with_ip.remove(&address.ip);
                    }
                }
            }
        }
        if let Some((service, addresses)) = content {
            self.slices_of.entry((key.0.clone(), service.into())).or_default().insert(key.1.clone(), ());
            for address in &addresses {
                *self.slices_with_ip.entry(address.ip).or_default().entry(key.clone()).or_default() += 1;
            }
            self.slices.insert(key, Slice { service: service.into(), addresses });
        }
    }

    /// The addresses behind a service.
    pub fn endpoints(&self, namespace: &str, service: &str) -> impl Iterator<Item = &EndpointAddress> {
        let namespace: SmolStr = namespace.into();
        let slices = self.slices_of.get(&(namespace.clone(), service.into()));
        slices
            .into_iter()
            .flat_map(|slices| slices.keys())
            .filter_map(move |name| self.slices.get(&(namespace.clone(), name.clone())))
            .flat_map(|slice| &slice.addresses)
    }

    /// The names that an address has, as labels below `svc` and the zone.
    pub fn names_of(&self, ip: IpAddr) -> Vec<Vec<String>> {
        if let Some((namespace, name)) = self.service_of_ip.get(&ip) {
            return vec![vec![name.to_string(), namespace.to_string()]];
        }
        let mut names = Vec::new();
        for key in self.slices_with_ip.get(&ip).into_iter().flat_map(HashMap::keys) {
            let Some(slice) = self.slices.get(key) else { continue };
            for address in slice.addresses.iter().filter(|address| address.ip == ip) {
                let name = vec![address.label(), slice.service.to_string(), key.0.to_string()];
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_labels_and_back() {
        for (ip, label) in [("10.42.0.7", "10-42-0-7"), ("fd42::7", "fd42-0-0-0-0-0-0-7"), ("::1", "0-0-0-0-0-0-0-1")] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(dashed(ip), label);
            assert_eq!(undashed(label), Some(ip));
        }
        assert_eq!(undashed("fd42--7"), Some("fd42::7".parse().unwrap()), "as other servers write it");
        assert_eq!(undashed("web-0"), None);
    }

    #[test]
    fn indexes_follow_changes() {
        let mut records = Records::new("cluster.local").unwrap();
        let ip: IpAddr = "10.43.0.1".parse().unwrap();
        let service = |ips: &[IpAddr]| Service { cluster_ips: ips.to_vec(), ..Service::default() };
        records.set_service("a", "one", Some(service(&[ip])));
        records.set_service("a", "two", Some(service(&[ip])));
        records.set_service("a", "one", None);
        assert_eq!(records.names_of(ip), [["two", "a"]]);
        records.set_service("a", "two", Some(service(&[])));
        assert!(records.names_of(ip).is_empty());
        let address = EndpointAddress { ip, hostname: Some("web-0".into()), ports: vec![] };
        records.set_slice("a", "s1", Some(("two", vec![address.clone()])));
        records.set_slice("a", "s2", Some(("two", vec![address])));
        assert_eq!(records.names_of(ip), [["web-0", "two", "a"]]);
        records.set_slice("a", "s1", None);
        assert_eq!(records.endpoints("a", "two").count(), 1);
        records.set_slice("a", "s2", Some(("other", vec![])));
        assert!(records.names_of(ip).is_empty());
        assert!(Records::new("").is_err());
    }
}
