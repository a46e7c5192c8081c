//! Makes the kernel do what a plan says, by the difference to the plan before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use linux::conntrack::Conntrack;
use linux::nftables::{Batch, Tables};

use crate::Result;
use crate::model::{Prefix, Protocol};
use crate::plan::{Plan, table};

/// Applies plans in the network namespace in which it was opened. Calls block shortly.
#[derive(Debug)]
pub struct Applier {
    tables: Tables,
    conntrack: Conntrack,
    current: Option<Plan>,
}

impl Applier {
    /// Connects to the caller's network namespace; changes nothing yet.
    pub fn open() -> Result<Self> {
        Ok(Self { tables: Tables::open()?, conntrack: Conntrack::open()?, current: None })
    }

    /// Makes the kernel do what `plan` says. After a failure the next call starts from scratch.
    pub fn apply(&mut self, plan: Plan) -> Result<()> {
        let old = self.current.take();
        let mut batch = plan.ruleset.changes_from(old.as_ref().map(|old| &old.ruleset))?;
        if let Err(error) = self.tables.apply(&batch) {
            if old.is_none() {
                return Err(error.into());
            }
            // Somebody changed our tables: make them anew, in one transaction too.
            batch = plan.ruleset.changes_from(None)?;
            self.tables.apply(&batch)?;
        }
        let result = self.forget_stale_flows(old.as_ref(), &plan);
        self.current = Some(plan);
        result
    }

    /// Whether our tables are still there; if not, the next [`Applier::apply`] makes them anew.
    pub fn verify(&mut self) -> Result<bool> {
        for v6 in [false, true] {
            if !self.tables.has_table(&table(v6))? {
                self.current = None;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes everything.
    pub fn remove(&mut self) -> Result<()> {
        self.current = None;
        let mut batch = Batch::new();
        for v6 in [false, true] {
            batch.destroy_table(&table(v6))?;
        }
        Ok(self.tables.apply(&batch)?)
    }

    /// UDP has no end of connection: flows that go to an endpoint that is gone, or that went nowhere while there was
    /// none, would go on for ever.
    fn forget_stale_flows(&mut self, old: Option<&Plan>, new: &Plan) -> Result<()> {
        let nothing = BTreeMap::new();
        let before = old.map_or(&nothing, |old| &old.udp);
        if *before == new.udp {
            return Ok(());
        }
        let udp = Protocol::Udp.number();
        self.conntrack.delete_where(|flow| {
            if flow.original.protocol != udp {
                return false;
            }
            let front = (flow.original.destination, flow.original.destination_port);
            let target = (flow.reply.source, flow.reply.source_port);
            match (new.udp.get(&front), before.get(&front)) {
                (Some(endpoints), _) if flow.is_redirected() => !endpoints.contains(&target),
                (Some(endpoints), _) => !endpoints.is_empty(),
                (None, Some(_)) => flow.is_redirected(),
                (None, None) => false,
            }
        })?;
        Ok(())
    }
}

/// Removes all that a proxy sets up in this network namespace: its tables, and the routes to the service ranges.
pub fn remove(ranges: &[Prefix]) -> Result<()> {
    use linux::netlink::Socket;
    use linux::netlink::route::PROTOCOL;
    Applier::open()?.remove()?;
    let mut socket = Socket::route()?;
    let ours = socket.routes()?.into_iter().filter(|route| {
        let to_services = |range: &Prefix| range.address == route.destination && range.length == route.prefix;
        route.protocol == PROTOCOL && ranges.iter().any(to_services)
    });
    for route in ours {
        match socket.delete_route(&route) {
            Err(error) if !error.is_absent() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Gives this host a route to service addresses, so that its own packets to them get as far as being translated even
/// without a default route; `sources` are the host's addresses, the preferred one of each family first.
pub fn route_services(ranges: &[Prefix], sources: &[IpAddr]) -> Result<()> {
    use linux::netlink::Socket;
    use linux::netlink::route::Route;
    let mut socket = Socket::route()?;
    let addresses = socket.addresses()?;
    for range in ranges {
        let Some(source) = sources.iter().copied().find(|ip| ip.is_ipv6() == range.address.is_ipv6()) else { continue };
        // By the loopback device the kernel would answer IPv6 with an error of its own, before anything is translated.
        let Some(holder) = addresses.iter().find(|address| address.ip == source) else { continue };
        let route = Route { link: Some(holder.link), source: Some(source), ..Route::to(range.address, range.length) };
        socket.replace_route(&route)?;
    }
    Ok(())
}
