//! Masquerading: pods reach the world outside the cluster under their node's address.

use std::net::IpAddr;

use ipnet::IpNet;
use linux::nftables::batch::{ChainKind, PRIORITY_SRCNAT};
use linux::nftables::{Batch, Chain, DataType, Element, Family, Field, Hook, HookPoint, Rule, Set, Table, Tables};

use super::MASQUERADE;
use crate::Result;

/// Network protocols as netfilter numbers them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Masquerades what leaves this node's pods for anywhere but `inside` (the cluster's pods, services and nodes).
/// Replaces what was set before, in one transaction.
pub fn sync_masquerade(pods: &[IpNet], inside: &[IpNet]) -> Result<()> {
    write("pods", pods, inside)
}

/// Masquerades what leaves a network of the `bridge` plugin.
pub fn masquerade_network(name: &str, nets: &[IpNet]) -> Result<()> {
    write(&format!("net-{name}"), nets, nets)
}

fn write(name: &str, pods: &[IpNet], inside: &[IpNet]) -> Result<()> {
    let table = Table::new(Family::Inet, format!("{MASQUERADE}{name}"));
    let mut batch = Batch::new();
    batch.destroy_table(&table)?;
    batch.add_table(&table)?;
    let hook = Hook::new(ChainKind::Nat, HookPoint::Postrouting, PRIORITY_SRCNAT);
    batch.add_chain(&table, &Chain::base("postrouting", hook))?;
    for v6 in [false, true] {
        let of_family = |nets: &[IpNet]| -> Vec<(IpAddr, u8)> {
            let own = nets.iter().filter(|net| net.addr().is_ipv6() == v6);
            own.map(|net| (net.addr(), net.prefix_len())).collect()
        };
        let (from, mut stay) = (of_family(pods), of_family(inside));
        if from.is_empty() {
            continue;
        }
        // Multicast has no connection that could be translated back.
        stay.push(if v6 {
            (IpAddr::from([0xff00u16, 0, 0, 0, 0, 0, 0, 0]), 8)
        } else {
            (IpAddr::from([224, 0, 0, 0]), 4)
        });
        let kind = if v6 { DataType::Ip6 } else { DataType::Ip4 };
        let suffix = if v6 { "6" } else { "4" };
        let pods_set = Set::new(format!("pods{suffix}"), &[kind]).intervals();
        let inside_set = Set::new(format!("inside{suffix}"), &[kind]).intervals();
        for (set, prefixes) in [(&pods_set, &from), (&inside_set, &stay)] {
            batch.add_set(&table, set)?;
            batch.add_elements(&table, set, &Element::prefixes(prefixes))?;
        }
        let protocol = if v6 { IPV6 } else { IPV4 };
        let rule = Rule::new()
            .is(Field::NetworkProtocol, &[protocol])
            .in_set(&[Field::source(v6)], &pods_set.name)
            .not_in_set(&[Field::destination(v6)], &inside_set.name)
            .masquerade()
            .comment("pods to the world");
        batch.add_rule(&table, "postrouting", &rule)?;
    }
    Ok(Tables::open()?.apply(&batch)?)
}
