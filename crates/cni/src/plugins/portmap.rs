//! Host ports: connections to a port of the host are led into a pod.
//!
//! ```text
//! table inet skiff-hostports
//!   map any4    { protocol . port             -> pod . port }     and any6
//!   map bound4  { address . protocol . port   -> pod . port }     and bound6
//!   set hairpin4 { pod . pod }                                    and hairpin6
//! ```
//! Each element carries the container it belongs to as its comment: that is all a DEL or GC needs.

use std::net::{IpAddr, Ipv4Addr};

use linux::conntrack::Conntrack;
use linux::nftables::batch::{ChainKind, PRIORITY_DSTNAT, PRIORITY_SRCNAT};
use linux::nftables::expr::{ADDRESS_LOCAL, STATUS_DNAT};
use linux::nftables::{Batch, Chain, DataType, Element, Family, Field, Hook, HookPoint, Key, Rule, Set, Table, Tables};
use serde::Deserialize;

use crate::network::Protocol;
use crate::spec::{Command, Outcome, Request};
use crate::{Error, Result};

const IPV4: u8 = 2;
const IPV6: u8 = 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_port: u16,
    container_port: u16,
    #[serde(default = "tcp")]
    protocol: Protocol,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

impl Protocol {
    /// The protocol's number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

fn table() -> Table {
    Table::new(Family::Inet, crate::node::HOSTPORTS)
}

fn address(v6: bool) -> DataType {
    if v6 { DataType::Ip6 } else { DataType::Ip4 }
}

fn any_map(v6: bool) -> Set {
    let name = if v6 { "any6" } else { "any4" };
    Set::map(name, &[DataType::Protocol, DataType::Port], &[address(v6), DataType::Port])
}

fn bound_map(v6: bool) -> Set {
    let name = if v6 { "bound6" } else { "bound4" };
    Set::map(name, &[address(v6), DataType::Protocol, DataType::Port], &[address(v6), DataType::Port])
}

fn hairpin_set(v6: bool) -> Set {
    Set::new(if v6 { "hairpin6" } else { "hairpin4" }, &[address(v6), address(v6)])
}

fn all_sets() -> [Set; 6] {
    [any_map(false), any_map(true), bound_map(false), bound_map(true), hairpin_set(false), hairpin_set(true)]
}

/// Answers a request.
pub fn run(request: &Request) -> Result<Option<Outcome>> {
    match request.command {
        Command::Add => add(request).map(Some),
        Command::Del => remove(|container| container == request.container_id).map(|()| None),
        Command::Check => check(request).map(|()| None),
        Command::Gc => {
            let valid = super::valid_attachments(request)?;
            remove(|container| !valid.iter().any(|(id, _)| id == container)).map(|()| None)
        }
        Command::Status | Command::Version => Ok(None),
    }
}

/// The elements a request wants: which set each belongs to.
fn elements(request: &Request, outcome: &Outcome) -> Result<Vec<(Set, Element)>> {
    let mappings = match request.config.pointer("/runtimeConfig/portMappings") {
        Some(list) => Vec::<Mapping>::deserialize(list).map_err(Error::decode("portMappings"))?,
        None => Vec::new(),
    };
    let ips = outcome.container_ips();
    let mut wanted: Vec<(Set, Element)> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let host_ip: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::Config(format!("hostIP {text:?} is not an address")))?),
        };
        for v6 in [false, true] {
            let Some(pod) = ips.iter().copied().find(|ip| ip.is_ipv6() == v6) else { continue };
            if host_ip.is_some_and(|ip| ip.is_ipv6() != v6) {
                continue;
            }
            let target = Key::new().ip(pod).port(mapping.container_port);
            let key = match host_ip.filter(|ip| !ip.is_unspecified()) {
                Some(ip) => (bound_map(v6), Key::new().ip(ip)),
                None => (any_map(v6), Key::new()),
            };
            let full = key.1.protocol(mapping.protocol.number()).port(mapping.host_port);
            wanted.push((key.0, Element::value(full, target).commented(&request.container_id)));
            let hairpin = Element::key(Key::new().ip(pod).ip(pod)).commented(&request.container_id);
            if !wanted.iter().any(|(_, element)| *element == hairpin) {
                wanted.push((hairpin_set(v6), hairpin));
            }
        }
    }
    Ok(wanted)
}

fn add(request: &Request) -> Result<Outcome> {
    let Some(previous) = request.previous()? else {
        return Err(Error::Config("portmap must follow a plugin that gives addresses".to_owned()));
    };
    let wanted = elements(request, &previous)?;
    if wanted.is_empty() {
        return Ok(previous);
    }
    remove(|container| container == request.container_id)?;
    let mut tables = Tables::open()?;
    let mut batch = Batch::new();
    if !tables.has_table(&table())? {
        lay_out(&mut batch)?;
    }
    for (set, element) in &wanted {
        batch.add_elements(&table(), set, std::slice::from_ref(element))?;
    }
    tables.apply(&batch).map_err(|error| {
        if error.is_present() { Error::Config("a host port is taken by another pod".to_owned()) } else { error.into() }
    })?;
    forget_flows(request)?;
    Ok(previous)
}

/// The table without elements. Flushing first makes it safe for two processes to do this at once.
fn lay_out(batch: &mut Batch) -> Result<()> {
    let table = table();
    batch.add_table(&table)?;
    for set in all_sets() {
        batch.add_set(&table, &set)?;
    }
    let nat = |point, priority| Hook::new(ChainKind::Nat, point, priority);
    batch.add_chain(&table, &Chain::base("prerouting", nat(HookPoint::Prerouting, PRIORITY_DSTNAT)))?;
    batch.add_chain(&table, &Chain::base("output", nat(HookPoint::Output, PRIORITY_DSTNAT)))?;
    batch.add_chain(&table, &Chain::base("postrouting", nat(HookPoint::Postrouting, PRIORITY_SRCNAT)))?;
    batch.add_chain(&table, &Chain::regular("ports"))?;
    for chain in ["prerouting", "output", "postrouting", "ports"] {
        batch.flush_chain(&table, chain)?;
    }
    for chain in ["prerouting", "output"] {
        let local = Rule::new().is(Field::DestinationType, &ADDRESS_LOCAL.to_ne_bytes()).jump("ports");
        batch.add_rule(&table, chain, &local)?;
    }
    for (v6, protocol) in [(false, IPV4), (true, IPV6)] {
        let family = || Rule::new().is(Field::NetworkProtocol, &[protocol]);
        let port = [Field::Protocol, Field::DestinationPort];
        let bound = [Field::destination(v6), Field::Protocol, Field::DestinationPort];
        batch.add_rule(&table, "ports", &family().look_up(&bound, &bound_map(v6).name).dnat(v6))?;
        batch.add_rule(&table, "ports", &family().look_up(&port, &any_map(v6).name).dnat(v6))?;
        let pair = [Field::source(v6), Field::destination(v6)];
        let hairpin = family().has_bits(Field::Status, STATUS_DNAT).in_set(&pair, &hairpin_set(v6).name);
        batch.add_rule(&table, "postrouting", &hairpin.masquerade().comment("pods to themselves"))?;
    }
    let from_localhost = Rule::new()
        .is(Field::NetworkProtocol, &[IPV4])
        .has_bits(Field::Status, STATUS_DNAT)
        .in_prefix(Field::Source4, Ipv4Addr::new(127, 0, 0, 0).into(), 8)
        .is_not(Field::OutputName, b"lo\0")
        .masquerade()
        .comment("the host by 127.0.0.1");
    batch.add_rule(&table, "postrouting", &from_localhost)?;
    Ok(())
}

/// UDP flows to these ports know another way, or none: they must be led anew.
fn forget_flows(request: &Request) -> Result<()> {
    let mappings = request.config.pointer("/runtimeConfig/portMappings").cloned().unwrap_or_default();
    let mappings: Vec<Mapping> = serde_json::from_value(mappings).map_err(Error::decode("portMappings"))?;
    let udp: Vec<u16> =
        mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp).map(|mapping| mapping.host_port).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let stale = |port: u16, protocol: u8| protocol == Protocol::Udp.number() && udp.contains(&port);
    Conntrack::open()?.delete_where(|flow| stale(flow.original.destination_port, flow.original.protocol))?;
    Ok(())
}

fn remove(stale: impl Fn(&str) -> bool) -> Result<()> {
    let (table, mut tables) = (table(), Tables::open()?);
    let mut batch = Batch::new();
    let mut udp_targets = Vec::new();
    for set in all_sets() {
        // No such set: there is no table, so there is nothing to remove.
        let Some(listed) = tables.elements(&table, &set.name)? else { return Ok(()) };
        for element in listed {
            if !element.comment.as_deref().is_some_and(&stale) {
                continue;
            }
            batch.delete_elements(&table, &set, &[Element::key(Key::new().bytes(&element.key))])?;
            udp_targets.extend(element.value);
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    match tables.apply(&batch) {
        // Somebody else removed the same meanwhile.
        Err(error) if !error.is_absent() => return Err(error.into()),
        _ => {}
    }
    Conntrack::open()?.delete_where(|flow| {
        let key = Key::new().ip(flow.reply.source).port(flow.reply.source_port).encode();
        flow.original.protocol == Protocol::Udp.number() && flow.is_redirected() && udp_targets.contains(&key)
    })?;
    Ok(())
}

fn check(request: &Request) -> Result<()> {
    let Some(previous) = request.previous()? else {
        return Err(Error::Config("prevResult is missing".to_owned()));
    };
    let mut tables = Tables::open()?;
    for (set, element) in elements(request, &previous)? {
        let key = element.key.encode();
        let listed = tables.elements(&table(), &set.name)?.unwrap_or_default();
        if !listed.iter().any(|one| one.key == key && one.comment.as_deref() == Some(&request.container_id)) {
            return Err(Error::Check("a host port is not led into the pod".to_owned()));
        }
    }
    Ok(())
}
