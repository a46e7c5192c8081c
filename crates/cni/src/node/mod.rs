//! What a node needs once: forwarding, masquerading, routes to other nodes' pods, and how to undo it all.

pub mod masquerade;
pub mod overlay;
pub mod routes;

use std::collections::BTreeMap;
use std::path::Path;

use linux::netlink::Socket;
use linux::netlink::route::PROTOCOL;
use linux::nftables::{Batch, Tables};

use crate::plugins::LINK_PREFIX;
use crate::{Error, Result, cache, sysctl};

pub use masquerade::{masquerade_network, sync_masquerade};
pub use routes::{NodeRoute, RouteReport, sync_node_routes};

/// Tables of masquerading begin with this.
pub(crate) const MASQUERADE: &str = "skiff-masquerade-";
/// The table of ports of the host that lead into pods.
pub(crate) const HOSTPORTS: &str = "skiff-hostports";
/// Where a node's settings are recorded, below its data folder.
pub const RECORD: &str = "sysctls.json";
/// The setting that lets the host pass IPv4 packets on.
pub const FORWARDING: &str = "net/ipv4/ip_forward";

/// Lets the host pass packets of one family on.
pub fn enable_forwarding(v6: bool) -> Result<()> {
    sysctl::write(forwarding_key(v6), "1").map(|_| ())
}

fn forwarding_key(v6: bool) -> &'static str {
    if v6 { "net/ipv6/conf/all/forwarding" } else { FORWARDING }
}

/// Lets the host pass packets on, and records in `record` what was set before, for [`restore`].
pub fn prepare(record: &Path) -> Result<()> {
    // What an earlier start found is the truth: by now the values are ours.
    let mut old = recorded(record)?;
    let known = old.len();
    let mut wanted = vec![(forwarding_key(false).to_owned(), "1")];
    if sysctl::read(forwarding_key(true)).is_ok() {
        // A host that passes packets on stops listening to routers, and would lose its own way out after a while.
        wanted.extend(listening_to_routers().into_iter().map(|key| (key, "2")));
        wanted.push((forwarding_key(true).to_owned(), "1"));
    }
    for (key, _) in &wanted {
        if !old.contains_key(key) {
            old.insert(key.clone(), sysctl::read(key)?);
        }
    }
    if old.len() != known {
        write_record(record, &old)?;
    }
    wanted.iter().try_for_each(|(key, value)| sysctl::write(key, value).map(|_| ()))
}

/// The settings of links, other than pods', that take their routes from routers as long as the host forwards nothing.
fn listening_to_routers() -> Vec<String> {
    let folder = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    let names = folder.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo") && !name.starts_with(LINK_PREFIX))
        .map(|name| format!("net/ipv6/conf/{name}/accept_ra"))
        .filter(|key| sysctl::read(key).is_ok_and(|value| value == "1"))
        .collect()
}

/// What [`prepare`] found, by setting; nothing if it never ran.
pub fn recorded(record: &Path) -> Result<BTreeMap<String, String>> {
    match std::fs::read(record) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(Error::decode(record.display().to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Error::file(record)(error)),
    }
}

/// Replaces what is recorded, when others on this host share a setting and one of them goes.
pub fn write_record(record: &Path, old: &BTreeMap<String, String>) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(old).map_err(Error::decode("sysctl record"))?;
    cache::write_durably(record, &bytes)
}

/// Puts back what [`prepare`] found.
pub fn restore(record: &Path) -> Result<()> {
    let old = recorded(record)?;
    // Forwarding first: it resets how links listen to routers.
    let (forwarding, others): (Vec<_>, Vec<_>) =
        old.iter().partition(|(key, _)| key.ends_with("forward") || key.ends_with("forwarding"));
    for (key, value) in forwarding.into_iter().chain(others) {
        match sysctl::write(key, value) {
            // A link that is gone took its settings along.
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    match std::fs::remove_file(record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(record)(error)),
        _ => Ok(()),
    }
}

/// Removes every link, route and table that nodes make in this network namespace, with the tables of these names; says
/// what it removed. Tables of others that share the beginning of their names stay.
pub fn remove_all(also: &[&str]) -> Result<Vec<String>> {
    let ours = |name: &str| name.starts_with(MASQUERADE) || name == HOSTPORTS || also.contains(&name);
    let mut removed = Vec::new();
    let mut socket = Socket::route()?;
    for link in socket.links()? {
        let pod = link.name.starts_with(LINK_PREFIX) && link.kind == "veth" && link.alias.starts_with("pod ");
        if pod || (link.name == overlay::LINK && link.kind == "vxlan") {
            match socket.delete_link(link.index) {
                Err(error) if !error.is_absent() => return Err(error.into()),
                _ => removed.push(format!("link {}", link.name)),
            }
        }
    }
    for route in socket.routes()?.into_iter().filter(|route| route.protocol == PROTOCOL) {
        match socket.delete_route(&route) {
            Err(error) if !error.is_absent() => return Err(error.into()),
            _ => removed.push(format!("route {}/{}", route.destination, route.prefix)),
        }
    }
    let mut tables = Tables::open()?;
    for table in tables.tables()?.into_iter().filter(|table| ours(&table.name)) {
        let mut batch = Batch::new();
        batch.destroy_table(&table)?;
        tables.apply(&batch)?;
        removed.push(format!("table {} {}", table.family.name(), table.name));
    }
    Ok(removed)
}
