//! Service networks and the arithmetic of their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use apimachinery::Value;

use crate::tree::{list, strings, text};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub fn of_name(name: &str) -> Option<Family> {
        match name {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        }
    }

    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// One service network: the addresses that can be given out.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub cidr: String,
    family: Family,
    first: u128,
    last: u128,
    /// Addresses at the start that are only given out on wish, or when nothing else is left.
    reserved: u128,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// How many addresses stay for wishes: a sixteenth, at least 16, at most 256; none in a small network.
fn reserved(size: u128) -> u128 {
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
}

impl Network {
    /// Reads `10.96.0.0/12`; `None` for what is no network.
    pub fn parse(cidr: &str) -> Option<Network> {
        let (address, bits) = cidr.split_once('/')?;
        let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let family = Family::of(address);
        let width = if family == Family::V4 { 32 } else { 128 };
        if bits > width {
            return None;
        }
        let host = width - bits;
        let mask = if host == 128 { u128::MAX } else { (1u128 << host) - 1 };
        let base = number(address) & !mask;
        // The network's own address is nobody's, and in IPv4 the broadcast address neither.
        let first = base.saturating_add(1);
        let last = if family == Family::V4 { (base | mask).saturating_sub(1) } else { base | mask };
        if first > last {
            return None;
        }
        Some(Network { cidr: cidr.into(), family, first, last, reserved: reserved((last - first).saturating_add(1)) })
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family && (self.first..=self.last).contains(&number(ip))
    }

    /// Any address above those that stay for wishes.
    pub fn random_upper(&self, random: u128) -> Option<IpAddr> {
        let start = self.first.checked_add(self.reserved)?;
        let size = self.last.checked_sub(start)?.saturating_add(1);
        Some(self.address(start + random % size))
    }

    /// Searches the upper part from a random place on, then the lower.
    pub fn search(&self, random: u128, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        /// A search that long would only happen in a network with more services than a cluster can have.
        const MOST: u128 = 1 << 20;
        let middle = self.first + self.reserved;
        let part = |from: u128, to: u128| {
            let size = to.checked_sub(from)?.saturating_add(1);
            let start = random % size;
            (0..size.min(MOST)).map(|i| self.address(from + (start + i) % size)).find(|ip| free(*ip))
        };
        part(middle, self.last).or_else(|| if self.reserved > 0 { part(self.first, middle - 1) } else { None })
    }
}

/// The networks of this cluster.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// The families of the default network, the default first.
    pub families: Vec<Family>,
    usable: Vec<Network>,
}

const DEFAULT: &str = "kubernetes";

impl Networks {
    /// Reads the ServiceCIDR objects. The default one counts before its controller has said that it is ready, since
    /// the first services are made by then; others must be ready, and none may be ending.
    pub fn read(objects: &[Value]) -> Networks {
        let mut networks = Networks::default();
        for object in objects {
            let default = text(object, &["metadata", "name"]) == DEFAULT;
            let cidrs: Vec<Network> =
                strings(object, &["spec", "cidrs"]).into_iter().filter_map(Network::parse).collect();
            if default {
                networks.families = cidrs.iter().map(|n| n.family).collect();
            }
            let ready = list(object, &["status", "conditions"])
                .iter()
                .find(|c| text(c, &["type"]) == "Ready")
                .map(|c| text(c, &["status"]) == "True");
            let ending = object.at(&["metadata", "deletionTimestamp"]).is_some();
            if ready.unwrap_or(default) && !ending {
                networks.usable.extend(cidrs);
            }
        }
        networks
    }

    pub fn of(&self, family: Family) -> impl Iterator<Item = &Network> {
        self.usable.iter().filter(move |n| n.family == family)
    }

    /// Whether some network has this address.
    pub fn check(&self, ip: IpAddr) -> Result<(), String> {
        if self.usable.iter().any(|n| n.contains(ip)) {
            return Ok(());
        }
        let ranges: Vec<&str> = self.of(Family::of(ip)).map(|n| n.cidr.as_str()).collect();
        match ranges.as_slice() {
            [] => Err("the provided network does not match the current range".into()),
            ranges => Err(format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                ranges.join(",")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn networks_know_their_edges() {
        let cases = [
            ("10.96.0.0/12", "10.96.0.1", "10.111.255.254"),
            ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
            ("fd00::/120", "fd00::1", "fd00::ff"),
        ];
        for (cidr, first, last) in cases {
            let network = Network::parse(cidr).unwrap();
            assert_eq!(network.address(network.first).to_string(), first);
            assert!(network.contains(last.parse().unwrap()));
            assert!(!network.contains(network.address(network.last + 1)));
            for random in [0, 1, u128::MAX, 12345] {
                assert!(network.contains(network.random_upper(random).unwrap()), "{cidr}");
            }
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/32", "10.0.0.0/31"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_lower_part_is_the_last_resort() {
        let network = Network::parse("10.0.0.0/27").unwrap();
        assert_eq!(network.reserved, 16);
        assert_eq!(network.search(0, |_| true).unwrap().to_string(), "10.0.0.17");
        let low: IpAddr = "10.0.0.3".parse().unwrap();
        assert_eq!(network.search(9, |ip| ip == low), Some(low));
        assert_eq!(network.search(9, |_| false), None);
    }

    #[test]
    fn only_usable_networks_count() {
        let networks = Networks::read(&[
            tree(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.0.0.0/24", "fd00::/112"]}})),
            tree(json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.1.0.0/24"]}})),
            tree(json!({
                "metadata": {"name": "ready"},
                "spec": {"cidrs": ["10.2.0.0/24"]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })),
        ]);
        assert_eq!(networks.families, [Family::V4, Family::V6]);
        assert!(networks.check("10.0.0.9".parse().unwrap()).is_ok());
        assert!(networks.check("10.2.0.9".parse().unwrap()).is_ok());
        assert_eq!(
            networks.check("10.1.0.9".parse().unwrap()).unwrap_err(),
            "the provided IP (10.1.0.9) is not in the valid range. The range of valid IPs is 10.0.0.0/24,10.2.0.0/24"
        );
    }
}
