//! The network between the nodes of a local cluster: a bridge, a link each, a way out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use linux::netlink::Socket;
use linux::netlink::link::VethEnd;
use linux::netlink::namespace::Namespace;
use linux::netlink::route::Route;
use linux::nftables::batch::{ChainKind, PRIORITY_SRCNAT};
use linux::nftables::{Batch, Chain, Family, Field, Hook, HookPoint, Rule, Table, Tables};

use super::{Cluster, Node};
use crate::host;
use crate::process::Process;

const PREFIX: u8 = 24;
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const RECORD: &str = "host.json";
/// Who set a route: an administrator, as the kernel numbers it.
const ADMINISTRATOR: u8 = 4;

fn gateway(subnet: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = subnet.octets();
    Ipv4Addr::new(a, b, c, 1)
}

fn same_net(one: Ipv4Addr, other: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    u32::from(one) & mask == u32::from(other) & mask
}

/// A range of addresses to which the host has no route, or the one that is wanted if it is such.
pub fn free_subnet(wanted: Option<Ipv4Addr>, taken: &[Ipv4Addr]) -> anyhow::Result<Ipv4Addr> {
    let routes = Socket::route()?.routes()?;
    let busy = |subnet: Ipv4Addr| {
        taken.contains(&subnet)
            || routes.iter().any(|route| match route.destination {
                IpAddr::V4(to) => route.prefix > 0 && same_net(to, subnet, route.prefix.min(PREFIX)),
                IpAddr::V6(_) => false,
            })
    };
    if let Some(subnet) = wanted {
        ensure!(subnet.octets()[3] == 0, "{subnet} is no /24 network: it must end in .0");
        ensure!(
            !busy(subnet),
            "the network {subnet}/24 is in use on this host; leave it out to have a free one chosen"
        );
        return Ok(subnet);
    }
    let all = (29..=31).flat_map(|b| (0..=255).map(move |c| Ipv4Addr::new(172, b, c, 0)));
    all.into_iter()
        .find(|subnet| !busy(*subnet))
        .context("no network from 172.29.0.0 to 172.31.255.0 is free on this host; name one with --subnet")
}

/// A name for the bridge, as much of the cluster's as fits.
pub fn free_bridge(name: &str, others: &[Cluster]) -> anyhow::Result<String> {
    let links = Socket::route()?.links()?;
    let short: String = name.chars().take(9).collect();
    for i in 0..1000 {
        let bridge = if i == 0 { format!("sk-{short}") } else { format!("sk-{short}{i}") };
        let taken = links.iter().any(|link| link.name == bridge) || others.iter().any(|o| o.bridge == bridge);
        if !taken {
            return Ok(bridge);
        }
    }
    bail!("no name for a bridge is free on this host")
}

const TABLES: &str = "skiff-cluster-";

fn table(cluster: &Cluster) -> Table {
    Table::new(Family::Ip, format!("{TABLES}{}", cluster.name))
}

/// Whether local clusters on this network need the host to pass packets on.
pub fn need_forwarding() -> anyhow::Result<bool> {
    Ok(Tables::open()?.tables()?.iter().any(|table| table.name.starts_with(TABLES)))
}

/// Has the clusters of a folder put back another value than they found: the one who set theirs has gone.
pub fn inherit_forwarding(root: &Path, found: &str) -> anyhow::Result<()> {
    let path = root.join(RECORD);
    let Some(text) = pki::file::read(&path)? else { return Ok(()) };
    let mut old: BTreeMap<String, String> = serde_json::from_str(&text).context("the record of settings is damaged")?;
    // Whoever came first found it off.
    if found == "0" {
        old.insert(FORWARD.to_owned(), found.to_owned());
        pki::file::write_private(&path, &serde_json::to_vec_pretty(&old)?, pki::file::Durability::Synced)?;
    }
    Ok(())
}

/// The record of a node of `skiff server` or `skiff agent` on this network, which needs packets to be passed on too.
fn node_record() -> anyhow::Result<Option<std::path::PathBuf>> {
    let owner = host::owner(Path::new(host::RUN), host::network()?)?;
    Ok(owner.map(|data| data.join(cni::node::RECORD)).filter(|record| record.is_file()))
}

/// Makes the bridge and the way out.
pub fn up(cluster: &Cluster) -> anyhow::Result<()> {
    let mut socket = Socket::route()?;
    if socket.find_link(&cluster.bridge)?.is_none() {
        socket.add_bridge(&cluster.bridge, 0, None)?;
    }
    let bridge = socket.link(&cluster.bridge)?.index;
    let own = IpAddr::V4(gateway(cluster.subnet));
    if !socket.addresses()?.iter().any(|address| address.link == bridge && address.ip == own) {
        socket.add_address(bridge, own, PREFIX)?;
    }
    socket.set_link_up(bridge, true)?;
    let table = table(cluster);
    let mut batch = Batch::new();
    batch.destroy_table(&table)?;
    batch.add_table(&table)?;
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, PRIORITY_SRCNAT);
    batch.add_chain(&table, &Chain::base("postrouting", hook))?;
    let net = IpAddr::V4(cluster.subnet);
    let rule = Rule::new()
        .in_prefix(Field::source(false), net, PREFIX)
        .not_in_prefix(Field::destination(false), net, PREFIX)
        .masquerade()
        .comment("nodes to the world");
    batch.add_rule(&table, "postrouting", &rule)?;
    Tables::open()?.apply(&batch)?;
    if std::fs::read_to_string(FORWARD)?.trim() != "1" {
        std::fs::write(FORWARD, "1").context("cannot let this host pass the nodes' packets on")?;
    }
    Ok(())
}

/// Gives a node its link.
pub fn connect(cluster: &Cluster, node: &Node, process: &Process) -> anyhow::Result<()> {
    use std::os::fd::AsFd;
    let inside = Namespace::open(Path::new(&format!("/proc/{}/ns/net", process.pid)))?;
    let mut socket = Socket::route()?;
    socket.delete_link_named(&node.link)?;
    let near = VethEnd { name: &node.link, ..VethEnd::default() };
    let far = VethEnd { name: "eth0", namespace: Some(inside.as_fd()), ..VethEnd::default() };
    socket.add_veth(&near, &far, 0)?;
    let bridge = socket.link(&cluster.bridge)?.index;
    let link = socket.link(&node.link)?.index;
    socket.set_link_master(link, Some(bridge))?;
    socket.set_link_up(link, true)?;
    let mut inner = inside.route_socket()?;
    let lo = inner.link("lo")?.index;
    inner.set_link_up(lo, true)?;
    let eth = inner.link("eth0")?.index;
    inner.add_address(eth, IpAddr::V4(node.ip), PREFIX)?;
    inner.set_link_up(eth, true)?;
    let out = Route {
        link: Some(eth),
        gateway: Some(IpAddr::V4(gateway(cluster.subnet))),
        // Not marked as Skiff's own: the node's daemon must take it for the host's.
        protocol: ADMINISTRATOR,
        ..Route::to(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)
    };
    inner.replace_route(&out)?;
    Ok(())
}

/// Removes the links and the way out.
pub fn down(cluster: &Cluster) -> anyhow::Result<()> {
    let mut socket = Socket::route()?;
    for node in &cluster.nodes {
        socket.delete_link_named(&node.link)?;
    }
    socket.delete_link_named(&cluster.bridge)?;
    let mut tables = Tables::open()?;
    if tables.has_table(&table(cluster))? {
        let mut batch = Batch::new();
        batch.delete_table(&table(cluster))?;
        tables.apply(&batch)?;
    }
    Ok(())
}

/// Records the host's settings before they are changed; what an earlier cluster recorded stays.
pub fn record_settings(root: &Path) -> anyhow::Result<()> {
    let path = root.join(RECORD);
    if path.exists() {
        return Ok(());
    }
    let old = BTreeMap::from([(FORWARD, std::fs::read_to_string(FORWARD)?.trim().to_owned())]);
    pki::file::write_private(&path, &serde_json::to_vec_pretty(&old)?, pki::file::Durability::Synced)?;
    Ok(())
}

/// Puts the host's settings back.
pub fn restore_settings(root: &Path) -> anyhow::Result<()> {
    let path = root.join(RECORD);
    let Some(text) = pki::file::read(&path)? else { return Ok(()) };
    let old: BTreeMap<String, String> = serde_json::from_str(&text).context("the record of settings is damaged")?;
    if let Some(value) = old.get(FORWARD) {
        match node_record()? {
            // The node puts back what we found.
            Some(record) => {
                let mut found = cni::node::recorded(&record)?;
                if value == "0" && found.insert(cni::node::FORWARDING.to_owned(), value.clone()).as_ref() != Some(value)
                {
                    cni::node::write_record(&record, &found)?;
                }
            }
            None if std::fs::read_to_string(FORWARD)?.trim() != value => std::fs::write(FORWARD, value)?,
            None => {}
        }
    }
    std::fs::remove_file(path)?;
    Ok(())
}
