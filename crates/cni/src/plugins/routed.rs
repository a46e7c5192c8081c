//! The default pod network: one link a pod, its addresses alone, routes instead of a bridge.
//!
//! ```text
//!   pod                                    host
//!   eth0 10.42.0.7/32, fd42::7/128  <-->   sk1x…   no address
//!   default via 169.254.1.1, fe80::1       10.42.0.7/32 dev sk1x…, fd42::7/128 dev sk1x…
//!   169.254.1.1, fe80::1 at <host's mac>   10.42.0.7, fd42::7 at <pod's mac>
//! ```
//!
//! # Why
//! Both ends know each other's link-layer address for good, so nothing is ever asked by ARP or neighbour discovery, no
//! duplicate address detection delays the first packet, no bridge learns or floods, and packets between pods pass the
//! host's forwarding path once, where services and policies see them without `br_netfilter`. The gateways exist only
//! in the pod's neighbour table. A bridge would save one route per pod and cost all of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use ipnet::IpNet;
use linux::netlink::Socket;
use linux::netlink::link::{Mac, VethEnd};
use linux::netlink::namespace::Namespace;
use linux::netlink::route::Route;
use serde::Deserialize;

use super::{LINK_PREFIX, add_ipam, delegate_ipam, fingerprint, host_link_name, uplink_mtu};
use crate::spec::{Command, Interface, Outcome, Request, RouteEntry};
use crate::{Error, Result, sysctl};

/// The pods' next hop, which no interface has.
pub const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The pods' IPv6 next hop, which no interface has.
pub const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

#[derive(Debug, Deserialize)]
struct Config {
    /// Largest packet; that of the host's way out when 0.
    #[serde(default)]
    mtu: u32,
}

/// Answers a request.
pub fn run(request: &Request) -> Result<Option<Outcome>> {
    match request.command {
        Command::Add => add(request).map(Some),
        Command::Del => del(request).map(|()| None),
        Command::Check => check(request).map(|()| None),
        Command::Gc => gc(request).map(|()| None),
        Command::Status => delegate_ipam(request).map(|_| None),
        Command::Version => Ok(None),
    }
}

fn names(request: &Request) -> (String, Mac, Mac) {
    let uid = request.arguments.get("K8S_POD_UID").map_or("", String::as_str);
    let (id, interface) = (request.container_id.as_str(), request.interface.as_str());
    let mac = |end: &str| Mac::local(fingerprint(&[uid, id, interface, end]));
    (host_link_name(uid, id, interface), mac("host"), mac("pod"))
}

fn gateway(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 }
}

fn single(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

fn add(request: &Request) -> Result<Outcome> {
    let config: Config = request.config()?;
    let path = request.required_namespace()?;
    let pod = Namespace::open(path)?;
    let mut host = Socket::route()?;
    let mtu = if config.mtu == 0 { uplink_mtu(&mut host)? } else { config.mtu };
    let addresses = add_ipam(request)?;
    let (host_name, host_mac, pod_mac) = names(request);
    let ips: Vec<IpAddr> = addresses.ips.iter().map(|ip| ip.address.addr()).collect();
    let plan = Plan { request, host_name: &host_name, host_mac, pod_mac, mtu, ips: &ips };
    if let Err(error) = plan.make(&mut host, &pod) {
        // Nothing half-made stays; the first failure is what the caller should hear of.
        let _ = host.delete_link_named(&host_name);
        let _ = delegate_ipam(&Request { command: Command::Del, ..request.clone() });
        return Err(error);
    }
    let mut outcome = Outcome {
        interfaces: vec![
            Interface { name: host_name.clone(), mac: host_mac.to_string(), mtu, sandbox: String::new() },
            Interface {
                name: request.interface.clone(),
                mac: pod_mac.to_string(),
                mtu,
                sandbox: path.display().to_string(),
            },
        ],
        dns: addresses.dns,
        ..Outcome::default()
    };
    for mut ip in addresses.ips {
        let address = ip.address.addr();
        ip.address = single(address);
        ip.gateway = Some(gateway(address));
        ip.interface = Some(1);
        let everything =
            if address.is_ipv4() { IpNet::V4(ipnet::Ipv4Net::default()) } else { IpNet::V6(ipnet::Ipv6Net::default()) };
        let route = RouteEntry { dst: everything, gw: ip.gateway, mtu: None };
        if !outcome.routes.contains(&route) {
            outcome.routes.push(route);
        }
        outcome.ips.push(ip);
    }
    Ok(outcome)
}

/// All that is to be made, on both sides of the link.
struct Plan<'a> {
    request: &'a Request,
    host_name: &'a str,
    host_mac: Mac,
    pod_mac: Mac,
    mtu: u32,
    ips: &'a [IpAddr],
}

impl Plan<'_> {
    fn make(&self, host: &mut Socket, pod: &Namespace) -> Result<()> {
        // An ADD that died half-way may have left the link behind.
        host.delete_link_named(self.host_name)?;
        let uid = self.request.arguments.get("K8S_POD_UID").map_or("", String::as_str);
        let alias = format!("pod {uid} sandbox {}", self.request.container_id);
        host.add_veth(
            &VethEnd { name: self.host_name, mac: Some(self.host_mac), namespace: None, alias: &alias },
            &VethEnd {
                name: &self.request.interface,
                mac: Some(self.pod_mac),
                namespace: Some(pod.as_fd()),
                alias: "",
            },
            self.mtu,
        )?;
        self.fill_pod(pod)?;
        self.fill_host(host)
    }

    fn fill_pod(&self, pod: &Namespace) -> Result<()> {
        let interface = &self.request.interface;
        let has_v6 = self.ips.iter().any(IpAddr::is_ipv6);
        pod.run(|| {
            let conf = format!("net/ipv6/conf/{interface}");
            if has_v6 {
                sysctl::write_if_possible(&format!("{conf}/disable_ipv6"), "0");
                sysctl::write_if_possible(&format!("{conf}/accept_dad"), "0");
                sysctl::write_if_possible(&format!("{conf}/accept_ra"), "0");
            }
        })?;
        let mut socket = pod.route_socket()?;
        let link = socket.link(interface)?.index;
        for ip in self.ips {
            socket.add_address(link, *ip, single(*ip).prefix_len())?;
        }
        socket.set_link_up(link, true)?;
        let mut families = Vec::new();
        for ip in self.ips {
            let gateway = gateway(*ip);
            if families.contains(&gateway) {
                continue;
            }
            families.push(gateway);
            socket.set_neighbour(link, gateway, self.host_mac)?;
            let unspecified: IpAddr =
                if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            if ip.is_ipv4() {
                socket.replace_route(&Route { protocol: STATIC, ..Route::host(gateway, link) })?;
            }
            let default = Route::to(unspecified, 0);
            let default = Route { link: Some(link), gateway: Some(gateway), onlink: true, protocol: STATIC, ..default };
            socket.replace_route(&default)?;
        }
        Ok(())
    }

    fn fill_host(&self, host: &mut Socket) -> Result<()> {
        let link = host.link(self.host_name)?.index;
        // The host's end needs no address of its own: it only forwards.
        match host.set_link_without_autoconf(link) {
            Err(error) if self.ips.iter().any(IpAddr::is_ipv6) => return Err(error.into()),
            _ => {}
        }
        // Lets connections to a host port on 127.0.0.1 be led into the pod and back.
        sysctl::write_if_possible(&format!("net/ipv4/conf/{}/route_localnet", self.host_name), "1");
        sysctl::write_if_possible(&format!("net/ipv6/conf/{}/accept_ra", self.host_name), "0");
        host.set_link_up(link, true)?;
        for ip in self.ips {
            host.set_neighbour(link, *ip, self.pod_mac)?;
            host.replace_route(&Route::host(*ip, link))?;
        }
        Ok(())
    }
}

/// `RTPROT_STATIC`: routes in the pod look like an administrator's.
const STATIC: u8 = 4;

fn del(request: &Request) -> Result<()> {
    let (host_name, ..) = names(request);
    Socket::route()?.delete_link_named(&host_name)?;
    delegate_ipam(request).map(|_| ())
}

fn check(request: &Request) -> Result<()> {
    delegate_ipam(request)?;
    let Some(previous) = request.previous()? else {
        return Err(Error::Config("prevResult is missing".to_owned()));
    };
    let (host_name, ..) = names(request);
    let mut host = Socket::route()?;
    let link = host
        .find_link(&host_name)?
        .filter(|link| link.is_up())
        .ok_or_else(|| Error::Check(format!("the host's link {host_name} is missing or down")))?;
    let mut pod = Namespace::open(request.required_namespace()?)?.route_socket()?;
    let inside = pod
        .find_link(&request.interface)?
        .filter(|link| link.is_up())
        .ok_or_else(|| Error::Check(format!("{} is missing or down in the pod", request.interface)))?;
    let (routes, addresses) = (host.routes()?, pod.addresses()?);
    for ip in previous.container_ips() {
        if !addresses.iter().any(|address| address.link == inside.index && address.ip == ip) {
            return Err(Error::Check(format!("{} does not have address {ip}", request.interface)));
        }
        if !routes.iter().any(|route| route.destination == ip && route.link == Some(link.index)) {
            return Err(Error::Check(format!("the host has no route to {ip}")));
        }
    }
    Ok(())
}

fn gc(request: &Request) -> Result<()> {
    let valid = super::valid_attachments(request)?;
    let mut host = Socket::route()?;
    for link in host.links()? {
        let Some(container) = link.alias.strip_prefix("pod ").and_then(|text| text.split_once(" sandbox ")) else {
            continue;
        };
        let stale = !valid.iter().any(|(id, _)| id == container.1);
        if link.name.starts_with(LINK_PREFIX) && link.kind == "veth" && stale {
            match host.delete_link(link.index) {
                Err(error) if !error.is_absent() => return Err(error.into()),
                _ => {}
            }
        }
    }
    delegate_ipam(request).map(|_| ())
}
