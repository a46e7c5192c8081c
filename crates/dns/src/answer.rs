//! Answering a question from the cluster's records: a pure function.
//!
//! The names (Kubernetes DNS specification 1.1.0), below the cluster's domain:
//! ```text
//! SERVICE.NAMESPACE.svc                       A, AAAA   the cluster addresses; of a headless service the endpoints'
//!                                             CNAME     of a service that stands for an external name
//! _PORT._PROTOCOL.SERVICE.NAMESPACE.svc       SRV       the service; of a headless service every endpoint
//! HOSTNAME.SERVICE.NAMESPACE.svc              A, AAAA   one endpoint; without a hostname 10-42-0-7 stands for it
//! 10-42-0-7.NAMESPACE.pod                     A, AAAA   the address in the name
//! dns-version                                 TXT       1.1.0
//! ```
//! A name that has something below it exists, even without records of its own: asking for it gives no data, not "no
//! such name", which resolvers take for the end of the whole branch.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::records::{EndpointAddress, Records, Service, undashed};

/// How long answers may be kept: as short as upstream's default, since services come and go.
pub const TTL: u32 = 5;

/// What is known of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Records, and further ones that the asker will want next.
    Found { answers: Vec<Record>, additionals: Vec<Record> },
    /// The name exists, without such records.
    NoData,
    /// There is no such name.
    NoName,
    /// The name is another's: its alias, and the name to ask for.
    Alias { alias: Box<Record>, target: Name },
    /// The name is not the cluster's.
    Elsewhere,
}

impl Answer {
    fn of(answers: Vec<Record>) -> Self {
        if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals: Vec::new() } }
    }
}

/// Answers a question about `name` for records of type `kind`.
pub fn answer(name: &Name, kind: RecordType, records: &Records) -> Answer {
    let zone = records.zone();
    if !zone.zone_of(name) {
        return if kind == RecordType::PTR { reverse(name, records) } else { Answer::Elsewhere };
    }
    let own = usize::from(name.num_labels()) - usize::from(zone.num_labels());
    let labels: Option<Vec<String>> =
        name.iter().take(own).map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase)).collect();
    let Some(labels) = labels else { return Answer::NoName };
    let question = Question { name, kind, records };
    let labels: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
    match labels.as_slice() {
        [] => question.apex(),
        ["dns-version"] => question.version(),
        ["dns"] if !records.servers.is_empty() => Answer::NoData,
        ["dns", "ns"] if !records.servers.is_empty() => question.addresses(records.servers.iter().copied()),
        ["svc"] | ["pod"] => Answer::NoData,
        ["svc" | "pod", namespace] if records.has_namespace(namespace) => Answer::NoData,
        ["svc", namespace, service, below @ ..] => match records.service(namespace, service) {
            Some(found) => question.service(namespace, service, found, below),
            None => Answer::NoName,
        },
        ["pod", namespace, address] if records.has_namespace(namespace) => match undashed(address) {
            Some(ip) => question.addresses([ip]),
            None => Answer::NoName,
        },
        _ => Answer::NoName,
    }
}

/// The record that says how long the absence of a name may be remembered.
pub fn authority(records: &Records) -> Record {
    let zone = records.zone();
    let below = |labels: &[&str]| below(zone, labels).unwrap_or_else(|| zone.clone());
    let soa = SOA::new(below(&["dns", "ns"]), below(&["hostmaster"]), 1, 7200, 1800, 86_400, TTL);
    Record::from_rdata(zone.clone(), TTL, RData::SOA(soa))
}

/// A name below another, labels from the top down.
fn below(zone: &Name, labels: &[&str]) -> Option<Name> {
    labels.iter().try_fold(zone.clone(), |name, label| name.prepend_label(label.as_bytes()).ok())
}

struct Question<'a> {
    name: &'a Name,
    kind: RecordType,
    records: &'a Records,
}

impl Question<'_> {
    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), TTL, data)
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    fn addresses(&self, ips: impl IntoIterator<Item = IpAddr>) -> Answer {
        let wanted =
            ips.into_iter().filter(|ip| self.wants(if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA }));
        let mut answers: Vec<Record> = Vec::new();
        for ip in wanted {
            let record = self.record(address_data(ip));
            if !answers.contains(&record) {
                answers.push(record);
            }
        }
        Answer::of(answers)
    }

    fn apex(&self) -> Answer {
        let mut answers = Vec::new();
        if self.wants(RecordType::SOA) {
            answers.push(authority(self.records));
        }
        let server = below(self.records.zone(), &["dns", "ns"]).filter(|_| !self.records.servers.is_empty());
        if let Some(server) = server.filter(|_| self.wants(RecordType::NS)) {
            answers.push(self.record(RData::NS(NS(server))));
        }
        Answer::of(answers)
    }

    fn version(&self) -> Answer {
        let text = self.wants(RecordType::TXT).then(|| self.record(RData::TXT(TXT::new(vec!["1.1.0".to_owned()]))));
        Answer::of(text.into_iter().collect())
    }

    fn service(&self, namespace: &str, name: &str, service: &Service, labels: &[&str]) -> Answer {
        if let Some(target) = &service.external_name {
            return if labels.is_empty() { self.alias(target) } else { Answer::NoName };
        }
        let mut endpoints = self.records.endpoints(namespace, name);
        match labels {
            [] if self.kind == RecordType::SRV => self.all_ports(namespace, name, service),
            [] if service.is_headless() => self.addresses(endpoints.map(|endpoint| endpoint.ip)),
            [] => self.addresses(service.cluster_ips.iter().copied()),
            [protocol] if protocol.starts_with('_') => {
                let found = has_port(service, &mut endpoints, |_, known| known == &protocol[1..]);
                if found { Answer::NoData } else { Answer::NoName }
            }
            [hostname] => {
                let ip = undashed(hostname);
                let own: Vec<IpAddr> = endpoints
                    .filter(|endpoint| {
                        endpoint.label() == *hostname || (endpoint.hostname.is_none() && Some(endpoint.ip) == ip)
                    })
                    .map(|endpoint| endpoint.ip)
                    .collect();
                if own.is_empty() { Answer::NoName } else { self.addresses(own) }
            }
            [protocol, port] => match (protocol.strip_prefix('_'), port.strip_prefix('_')) {
                (Some(protocol), Some(port)) => {
                    let wanted = |known: &str, known_protocol: &str| known == port && known_protocol == protocol;
                    if !has_port(service, &mut endpoints, wanted) {
                        Answer::NoName
                    } else if self.wants(RecordType::SRV) {
                        self.ports(namespace, name, service, &wanted)
                    } else {
                        Answer::NoData
                    }
                }
                _ => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    fn alias(&self, target: &str) -> Answer {
        if let Ok(ip) = target.parse::<IpAddr>() {
            return self.addresses([ip]);
        }
        let Ok(mut target) = Name::from_ascii(target) else { return Answer::NoData };
        target.set_fqdn(true);
        Answer::Alias { alias: Box::new(self.record(RData::CNAME(CNAME(target.clone())))), target }
    }

    fn all_ports(&self, namespace: &str, name: &str, service: &Service) -> Answer {
        self.ports(namespace, name, service, &|_, _| true)
    }

    fn ports(&self, namespace: &str, name: &str, service: &Service, wanted: &dyn Fn(&str, &str) -> bool) -> Answer {
        let Some(base) = below(self.records.zone(), &["svc", namespace, name]) else { return Answer::NoName };
        let mut targets: Vec<(Name, u16, Vec<IpAddr>)> = Vec::new();
        if service.is_headless() {
            for endpoint in self.records.endpoints(namespace, name) {
                let Some(target) = below(&base, &[&endpoint.label()]) else { continue };
                for port in endpoint.ports.iter().filter(|port| wanted(&port.name, &port.protocol)) {
                    match targets.iter_mut().find(|(known, number, _)| *known == target && *number == port.port) {
                        Some((_, _, ips)) => ips.push(endpoint.ip),
                        None => targets.push((target.clone(), port.port, vec![endpoint.ip])),
                    }
                }
            }
        } else {
            for port in service.ports.iter().filter(|port| wanted(&port.name, &port.protocol)) {
                targets.push((base.clone(), port.port, service.cluster_ips.clone()));
            }
        }
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (target, port, ips) in targets {
            for ip in ips {
                let record = Record::from_rdata(target.clone(), TTL, address_data(ip));
                if !additionals.contains(&record) {
                    additionals.push(record);
                }
            }
            answers.push(self.record(RData::SRV(SRV::new(0, weight, port, target))));
        }
        if answers.is_empty() { Answer::NoData } else { Answer::Found { answers, additionals } }
    }
}

fn has_port<'a>(
    service: &Service,
    mut endpoints: impl Iterator<Item = &'a EndpointAddress>,
    wanted: impl Fn(&str, &str) -> bool,
) -> bool {
    service.ports.iter().any(|port| wanted(&port.name, &port.protocol))
        || (service.is_headless()
            && endpoints.any(|endpoint| endpoint.ports.iter().any(|port| wanted(&port.name, &port.protocol))))
}

fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The names of an address of the cluster; what is not the cluster's is asked elsewhere.
fn reverse(name: &Name, records: &Records) -> Answer {
    let Ok(net) = name.parse_arpa_name() else { return Answer::Elsewhere };
    if net.prefix_len() != net.max_prefix_len() {
        return Answer::Elsewhere;
    }
    let answers: Vec<Record> = records
        .names_of(net.addr())
        .into_iter()
        .filter_map(|labels| {
            let labels: Vec<&str> = std::iter::once("svc").chain(labels.iter().rev().map(String::as_str)).collect();
            let target = below(records.zone(), &labels)?;
            Some(Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target))))
        })
        .collect();
    if answers.is_empty() { Answer::Elsewhere } else { Answer::Found { answers, additionals: Vec::new() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::ServicePort;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(name: &str, protocol: &str, port: u16) -> ServicePort {
        ServicePort { name: name.into(), protocol: protocol.into(), port }
    }

    fn records() -> Records {
        let mut records = Records::new("cluster.local").unwrap();
        records.servers = vec![ip("10.43.0.10")];
        for namespace in ["default", "shop"] {
            records.set_namespace(namespace, true);
        }
        let web = Service {
            cluster_ips: vec![ip("10.43.0.7"), ip("fd43::7")],
            external_name: None,
            ports: vec![port("http", "tcp", 80), port("dns", "udp", 53)],
        };
        records.set_service("shop", "web", Some(web));
        let headless = Service { ports: vec![port("sql", "tcp", 5432)], ..Service::default() };
        records.set_service("shop", "db", Some(headless));
        let endpoint = |address: &str, hostname: Option<&str>| EndpointAddress {
            ip: ip(address),
            hostname: hostname.map(Into::into),
            ports: vec![port("sql", "tcp", 5432)],
        };
        records.set_slice(
            "shop",
            "db-1",
            Some(("db", vec![endpoint("10.42.0.5", Some("db-0")), endpoint("10.42.0.6", None)])),
        );
        records.set_slice("shop", "db-2", Some(("db", vec![endpoint("fd42::5", Some("db-0"))])));
        records.set_slice("shop", "web-1", Some(("web", vec![endpoint("10.42.0.9", None)])));
        let external = Service { external_name: Some("example.org".to_owned()), ..Service::default() };
        records.set_service("shop", "out", Some(external));
        records
    }

    /// Asks and writes the answer in one line.
    fn ask(name: &str, kind: RecordType) -> String {
        match answer(&Name::from_ascii(name).unwrap(), kind, &records()) {
            Answer::Found { answers, additionals } => {
                let mut lines: Vec<String> = answers.iter().map(|record| record.data.to_string()).collect();
                lines.sort();
                let mut more: Vec<String> = additionals.iter().map(|r| format!("+{}", r.data)).collect();
                more.sort();
                lines.extend(more);
                lines.join(" | ")
            }
            Answer::Alias { target, .. } => format!("alias {target}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn services_by_cluster_address() {
        assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::A), "10.43.0.7");
        assert_eq!(ask("WEB.Shop.svc.Cluster.LOCAL.", RecordType::A), "10.43.0.7");
        assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::AAAA), "fd43::7");
        assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::MX), "NoData");
        assert_eq!(
            ask("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
            "0 100 80 web.shop.svc.cluster.local. | +10.43.0.7 | +fd43::7"
        );
        assert_eq!(ask("_http._tcp.web.shop.svc.cluster.local.", RecordType::A), "NoData");
        assert_eq!(ask("_http._udp.web.shop.svc.cluster.local.", RecordType::SRV), "NoName");
        assert_eq!(ask("_tcp.web.shop.svc.cluster.local.", RecordType::SRV), "NoData");
        assert_eq!(ask("_sctp.web.shop.svc.cluster.local.", RecordType::SRV), "NoName");
        assert_eq!(ask("10-42-0-9.web.shop.svc.cluster.local.", RecordType::A), "10.42.0.9");
    }

    #[test]
    fn headless_services_by_endpoint() {
        assert_eq!(ask("db.shop.svc.cluster.local.", RecordType::A), "10.42.0.5 | 10.42.0.6");
        assert_eq!(ask("db.shop.svc.cluster.local.", RecordType::AAAA), "fd42::5");
        assert_eq!(ask("db-0.db.shop.svc.cluster.local.", RecordType::A), "10.42.0.5");
        assert_eq!(ask("10-42-0-6.db.shop.svc.cluster.local.", RecordType::A), "10.42.0.6");
        assert_eq!(ask("10-42-0-6.db.shop.svc.cluster.local.", RecordType::AAAA), "NoData");
        assert_eq!(ask("db-1.db.shop.svc.cluster.local.", RecordType::A), "NoName");
        assert_eq!(
            ask("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV),
            "0 50 5432 10-42-0-6.db.shop.svc.cluster.local. | 0 50 5432 db-0.db.shop.svc.cluster.local. | \
             +10.42.0.5 | +10.42.0.6 | +fd42::5"
        );
    }

    #[test]
    fn external_names_pods_and_reverse_names() {
        assert_eq!(ask("out.shop.svc.cluster.local.", RecordType::A), "alias example.org.");
        assert_eq!(ask("out.shop.svc.cluster.local.", RecordType::CNAME), "alias example.org.");
        assert_eq!(ask("x.out.shop.svc.cluster.local.", RecordType::A), "NoName");
        assert_eq!(ask("10-42-0-5.shop.pod.cluster.local.", RecordType::A), "10.42.0.5");
        assert_eq!(ask("fd42-0-0-0-0-0-0-5.shop.pod.cluster.local.", RecordType::AAAA), "fd42::5");
        assert_eq!(ask("web.shop.pod.cluster.local.", RecordType::A), "NoName");
        assert_eq!(ask("10-42-0-5.none.pod.cluster.local.", RecordType::A), "NoName");
        assert_eq!(ask("7.0.43.10.in-addr.arpa.", RecordType::PTR), "web.shop.svc.cluster.local.");
        assert_eq!(ask("5.0.42.10.in-addr.arpa.", RecordType::PTR), "db-0.db.shop.svc.cluster.local.");
        assert_eq!(ask("6.0.42.10.in-addr.arpa.", RecordType::PTR), "10-42-0-6.db.shop.svc.cluster.local.");
        let v6 = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.d.f.ip6.arpa.";
        assert_eq!(ask(v6, RecordType::PTR), "db-0.db.shop.svc.cluster.local.");
        assert_eq!(ask("1.1.1.1.in-addr.arpa.", RecordType::PTR), "Elsewhere");
        assert_eq!(ask("42.10.in-addr.arpa.", RecordType::PTR), "Elsewhere");
    }

    #[test]
    fn names_in_between_and_outside() {
        assert_eq!(ask("cluster.local.", RecordType::A), "NoData");
        assert_eq!(ask("cluster.local.", RecordType::NS), "ns.dns.cluster.local.");
        assert!(
            ask("cluster.local.", RecordType::SOA).starts_with("ns.dns.cluster.local. hostmaster.cluster.local. 1")
        );
        assert_eq!(ask("ns.dns.cluster.local.", RecordType::A), "10.43.0.10");
        assert_eq!(ask("dns-version.cluster.local.", RecordType::TXT), "1.1.0");
        for empty in ["svc.cluster.local.", "shop.svc.cluster.local.", "pod.cluster.local.", "shop.pod.cluster.local."]
        {
            assert_eq!(ask(empty, RecordType::A), "NoData", "{empty}");
        }
        for nothing in [
            "none.svc.cluster.local.",
            "none.shop.svc.cluster.local.",
            "example.org.shop.svc.cluster.local.",
            "example.org.svc.cluster.local.",
            "example.org.cluster.local.",
            "a.b.c.d.web.shop.svc.cluster.local.",
        ] {
            assert_eq!(ask(nothing, RecordType::A), "NoName", "{nothing}");
        }
        for other in ["example.org.", "local.", "xcluster.local.", "."] {
            assert_eq!(ask(other, RecordType::A), "Elsewhere", "{other}");
        }
    }
}
