//! What the proxy knows of services, endpoints and its node.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use smol_str::SmolStr;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Reads the API's word for it; the empty word means TCP.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Names one port of one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortName {
    /// The service's namespace.
    pub namespace: SmolStr,
    /// The service's name.
    pub service: SmolStr,
    /// The port's name; empty if it has none.
    pub port: SmolStr,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

/// An address prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// An address in it.
    pub address: IpAddr,
    /// How many bits count.
    pub length: u8,
}

impl std::str::FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (address, length) = match text.trim().split_once('/') {
            Some((address, length)) => (address.parse::<IpAddr>().map_err(|_| ())?, length.parse().map_err(|_| ())?),
            None => {
                let address: IpAddr = text.trim().parse().map_err(|_| ())?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(());
        }
        Ok(Self { address, length })
    }
}

/// One port of one service, with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: ServicePortName,
    /// Protocol.
    pub protocol: Protocol,
    /// The port clients ask.
    pub port: u16,
    /// Addresses inside the cluster, one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses somebody else routes to the nodes.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that keep the destination address.
    pub load_balancer_ips: Vec<IpAddr>,
    /// The port of every node.
    pub node_port: Option<u16>,
    /// Who may ask the load balancer addresses; all when empty.
    pub source_ranges: Vec<Prefix>,
    /// How long a client keeps its endpoint.
    pub affinity: Option<Duration>,
    /// Traffic from outside goes to endpoints of this node only, and keeps its source address.
    pub external_local: bool,
    /// Traffic from inside goes to endpoints of this node only.
    pub internal_local: bool,
    /// Where load balancers ask whether this node has endpoints.
    pub health_check_port: Option<u16>,
    /// All endpoints, both families.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// A port of a plain service.
    pub fn new(name: ServicePortName, protocol: Protocol, port: u16, cluster_ips: Vec<IpAddr>) -> Self {
        Self {
            name,
            protocol,
            port,
            cluster_ips,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            node_port: None,
            source_ranges: Vec::new(),
            affinity: None,
            external_local: false,
            internal_local: false,
            health_check_port: None,
            endpoints: Vec::new(),
        }
    }

    /// Whether anything leads to it from outside the cluster.
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}

/// Where a service's traffic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// The node it is on.
    pub node: SmolStr,
    /// It wants traffic.
    pub ready: bool,
    /// It can take traffic, ready or about to end.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
    /// Zones it is meant for.
    pub zone_hints: Vec<SmolStr>,
    /// Nodes it is meant for.
    pub node_hints: Vec<SmolStr>,
}

impl Endpoint {
    /// A ready endpoint.
    pub fn ready(ip: IpAddr, port: u16, node: impl Into<SmolStr>) -> Self {
        Self {
            ip,
            port,
            node: node.into(),
            ready: true,
            serving: true,
            terminating: false,
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
        }
    }
}

/// The node the proxy works for, and the cluster around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: SmolStr,
    /// Its zone; empty if it has none.
    pub zone: SmolStr,
    /// Its addresses, at which node ports answer.
    pub ips: Vec<IpAddr>,
    /// The ranges of all pods of the cluster.
    pub pod_ranges: Vec<Prefix>,
    /// The ranges of cluster addresses of services: what is asked there and does not exist is refused.
    pub service_ranges: Vec<Prefix>,
}
