//! Pods as ports of a bridge, for networks whose pods must share a link.

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use linux::netlink::Socket;
use linux::netlink::link::{Link, Mac, VethEnd};
use linux::netlink::namespace::Namespace;
use linux::netlink::route::Route;
use serde::Deserialize;

use super::{add_ipam, delegate_ipam, fingerprint, host_link_name};
use crate::spec::{Command, Interface, Outcome, Request, RouteEntry};
use crate::{Error, Result, node, sysctl};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    bridge: Option<String>,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    vlan: u32,
    #[serde(default)]
    promisc_mode: bool,
}

impl Config {
    fn bridge(&self) -> &str {
        self.bridge.as_deref().unwrap_or("cni0")
    }
}

/// Answers a request.
pub fn run(request: &Request) -> Result<Option<Outcome>> {
    match request.command {
        Command::Add => add(request).map(Some),
        Command::Del => del(request).map(|()| None),
        Command::Check => check(request).map(|()| None),
        Command::Gc | Command::Status => delegate_ipam(request).map(|_| None),
        Command::Version => Ok(None),
    }
}

fn name(request: &Request) -> String {
    let uid = request.arguments.get("K8S_POD_UID").map_or("", String::as_str);
    host_link_name(uid, &request.container_id, &request.interface)
}

fn ensure_bridge(host: &mut Socket, config: &Config) -> Result<Link> {
    let name = config.bridge();
    if host.find_link(name)?.is_none() {
        // A fixed address keeps the bridge from taking that of whichever port came last.
        let mac = Mac::local(fingerprint(&["bridge", name]));
        match host.add_bridge(name, config.mtu, Some(mac)) {
            Err(error) if !error.is_present() => return Err(error.into()),
            _ => {}
        }
        sysctl::write_if_possible(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
        sysctl::write_if_possible(&format!("net/ipv4/conf/{name}/route_localnet"), "1");
    }
    let link = host.link(name)?;
    if link.kind != "bridge" {
        return Err(Error::Config(format!("{name} exists and is no bridge")));
    }
    if !link.is_up() {
        host.set_link_up(link.index, true)?;
    }
    Ok(link)
}

fn add(request: &Request) -> Result<Outcome> {
    let mut config: Config = request.config()?;
    if config.vlan != 0 || config.promisc_mode {
        return Err(Error::UnsupportedField("bridge: vlan and promiscMode are not supported".to_owned()));
    }
    config.is_gateway |= config.is_default_gateway;
    let path = request.required_namespace()?;
    let pod = Namespace::open(path)?;
    let mut host = Socket::route()?;
    let bridge = ensure_bridge(&mut host, &config)?;
    let addresses = add_ipam(request)?;
    let near = name(request);
    match attach(request, &config, &mut host, &pod, &bridge, &near, addresses) {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            let _ = host.delete_link_named(&near);
            let _ = delegate_ipam(&Request { command: Command::Del, ..request.clone() });
            Err(error)
        }
    }
}

fn attach(
    request: &Request,
    config: &Config,
    host: &mut Socket,
    pod: &Namespace,
    bridge: &Link,
    near: &str,
    addresses: Outcome,
) -> Result<Outcome> {
    let uid = request.arguments.get("K8S_POD_UID").map_or("", String::as_str);
    let alias = format!("pod {uid} sandbox {}", request.container_id);
    host.delete_link_named(near)?;
    let far = VethEnd { name: &request.interface, namespace: Some(pod.as_fd()), ..VethEnd::default() };
    host.add_veth(&VethEnd { name: near, alias: &alias, ..VethEnd::default() }, &far, config.mtu)?;
    let port = host.link(near)?;
    host.set_link_master(port.index, Some(bridge.index))?;
    host.set_link_hairpin(port.index, config.hairpin_mode)?;
    host.set_link_up(port.index, true)?;

    let interface = &request.interface;
    pod.run(|| {
        sysctl::write_if_possible(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
        sysctl::write_if_possible(&format!("net/ipv6/conf/{interface}/accept_ra"), "0");
    })?;
    let mut socket = pod.route_socket()?;
    let inside = socket.link(interface)?;
    socket.set_link_up(inside.index, true)?;
    let mut outcome = Outcome {
        interfaces: vec![
            described(bridge, String::new()),
            described(&port, String::new()),
            described(&inside, request.required_namespace()?.display().to_string()),
        ],
        routes: addresses.routes.clone(),
        dns: addresses.dns.clone(),
        ..Outcome::default()
    };
    for mut ip in addresses.ips {
        let net = ip.address;
        socket.add_address(inside.index, net.addr(), net.prefix_len())?;
        if config.is_gateway {
            let gateway = ip.gateway.or_else(|| net.hosts().next());
            ip.gateway = gateway;
            if let Some(gateway) = gateway {
                host.add_address(bridge.index, gateway, net.prefix_len())?;
                node::enable_forwarding(gateway.is_ipv6())?;
                if config.is_default_gateway {
                    let any = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
                    let dst: IpNet = any.parse().map_err(|_| Error::Config("default route".to_owned()))?;
                    if !outcome.routes.iter().any(|route| route.dst == dst) {
                        outcome.routes.push(RouteEntry { dst, gw: Some(gateway), mtu: None });
                    }
                }
            }
        }
        ip.interface = Some(2);
        outcome.ips.push(ip);
    }
    for route in &mut outcome.routes {
        let family = route.dst.addr().is_ipv4();
        let gateway = outcome.ips.iter().filter(|ip| ip.address.addr().is_ipv4() == family).find_map(|ip| ip.gateway);
        route.gw = route.gw.or(gateway);
        let kernel = Route {
            link: Some(inside.index),
            gateway: route.gw,
            mtu: route.mtu,
            protocol: 4,
            ..Route::to(route.dst.network(), route.dst.prefix_len())
        };
        socket.replace_route(&kernel)?;
    }
    if config.ip_masq {
        let nets: Vec<IpNet> = outcome.ips.iter().map(|ip| ip.address.trunc()).collect();
        node::masquerade_network(&request.network()?.name, &nets)?;
    }
    Ok(outcome)
}

fn described(link: &Link, sandbox: String) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: link.mtu,
        sandbox,
    }
}

fn del(request: &Request) -> Result<()> {
    Socket::route()?.delete_link_named(&name(request))?;
    delegate_ipam(request).map(|_| ())
}

fn check(request: &Request) -> Result<()> {
    delegate_ipam(request)?;
    let config: Config = request.config()?;
    let mut host = Socket::route()?;
    let bridge = host.link(config.bridge())?;
    let port = host.find_link(&name(request))?.filter(Link::is_up);
    if port.is_none_or(|port| port.master != Some(bridge.index)) {
        return Err(Error::Check(format!("the pod's port of {} is missing or down", config.bridge())));
    }
    let mut pod = Namespace::open(request.required_namespace()?)?.route_socket()?;
    let addresses = pod.addresses()?;
    let expected: Vec<IpAddr> = request.previous()?.map(|previous| previous.container_ips()).unwrap_or_default();
    match expected.iter().find(|ip| !addresses.iter().any(|address| address.ip == **ip)) {
        Some(ip) => Err(Error::Check(format!("{} does not have address {ip}", request.interface))),
        None => Ok(()),
    }
}
