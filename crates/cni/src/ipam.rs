//! Host-local address management: one file per address handed out, under a lock that all processes respect.
//!
//! ```text
//! DATA/NETWORK/lock                  flock while handing out or taking back
//! DATA/NETWORK/10.42.0.7             "CONTAINER\r\nINTERFACE": who has it
//! DATA/NETWORK/last_reserved_ip.0    where the search of range set 0 goes on
//! ```
//! The folder's form is the one of the reference plugin of the same name, so that either can take over from the other.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

use crate::spec::{Ip, Outcome, Request, RouteEntry};
use crate::{Error, Result};

/// Where the reference plugin keeps its files.
pub const DEFAULT_FOLDER: &str = "/var/lib/cni/networks";

/// The `ipam` part of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    ranges: Vec<Vec<Range>>,
    #[serde(default)]
    routes: Vec<RouteEntry>,
    data_dir: Option<PathBuf>,
    // The older form with one range.
    subnet: Option<IpNet>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

/// A range of addresses.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// The prefix addresses belong to.
    pub subnet: IpNet,
    /// The first address handed out.
    pub range_start: Option<IpAddr>,
    /// The last address handed out.
    pub range_end: Option<IpAddr>,
    /// The next hop, never handed out.
    pub gateway: Option<IpAddr>,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Range {
    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    fn gateway(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| self.address(number(self.subnet.network()) + 1))
    }

    /// First and last number of the range; network and IPv4 broadcast addresses are not in it.
    fn bounds(&self) -> Result<(u128, u128)> {
        let width = u32::from(self.subnet.max_prefix_len() - self.subnet.prefix_len());
        if width < 2 {
            return Err(Error::Config(format!("range {} is too small to allocate from", self.subnet)));
        }
        let network = number(self.subnet.network());
        let last = network + ((1u128 << width.min(127)) - 1) - u128::from(matches!(self.subnet, IpNet::V4(_)));
        let inside = |address: Option<IpAddr>, default: u128| match address {
            None => Ok(default),
            Some(address) if self.subnet.contains(&address) => Ok(number(address)),
            Some(address) => Err(Error::Config(format!("{address} is not in {}", self.subnet))),
        };
        let (start, end) = (inside(self.range_start, network + 1)?, inside(self.range_end, last)?);
        if start > end {
            return Err(Error::Config(format!("range in {} starts after its end", self.subnet)));
        }
        Ok((start, end))
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address)
            && self.bounds().is_ok_and(|(start, end)| (start..=end).contains(&number(address)))
    }
}

/// The address store of one network.
#[derive(Debug)]
pub struct HostLocal {
    folder: PathBuf,
    ranges: Vec<Vec<Range>>,
    routes: Vec<RouteEntry>,
}

impl HostLocal {
    /// Reads the `ipam` part of a plugin's configuration, and ranges given by the runtime.
    pub fn of(request: &Request) -> Result<Self> {
        let network = request.network()?;
        let ipam = request.config.get("ipam").cloned().unwrap_or_default();
        let config = Config::deserialize(&ipam).map_err(Error::decode("ipam"))?;
        let mut ranges = config.ranges;
        if let Some(subnet) = config.subnet {
            let (range_start, range_end, gateway) = (config.range_start, config.range_end, config.gateway);
            ranges.push(vec![Range { subnet, range_start, range_end, gateway }]);
        }
        if let Some(more) = request.config.pointer("/runtimeConfig/ipRanges") {
            ranges.extend(Vec::<Vec<Range>>::deserialize(more).map_err(Error::decode("ipRanges"))?);
        }
        let folder = config.data_dir.unwrap_or_else(|| DEFAULT_FOLDER.into());
        Self::new(&folder, &network.name, ranges, config.routes)
    }

    /// A store below `folder`.
    pub fn new(folder: &Path, network: &str, ranges: Vec<Vec<Range>>, routes: Vec<RouteEntry>) -> Result<Self> {
        crate::spec::check_id("network name", network)?;
        if ranges.is_empty() {
            return Err(Error::Config("ipam has no ranges".to_owned()));
        }
        for range in &ranges {
            let Some(first) = range.first() else {
                return Err(Error::Config("ipam has an empty range set".to_owned()));
            };
            for member in range {
                member.bounds()?;
                if member.subnet.addr().is_ipv4() != first.subnet.addr().is_ipv4() {
                    return Err(Error::Config("a range set mixes address families".to_owned()));
                }
            }
        }
        Ok(Self { folder: folder.join(network), ranges, routes })
    }

    fn lock(&self) -> Result<Flock<File>> {
        fs::create_dir_all(&self.folder).map_err(Error::file(&self.folder))?;
        let path = self.folder.join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Error::file(&path)(errno.into()))
    }

    /// Hands out one address of every range set, wanted ones where they fit.
    pub fn add(&self, container: &str, interface: &str, wanted: &[IpAddr]) -> Result<Outcome> {
        let _lock = self.lock()?;
        if let Some((address, _)) = self.held()?.into_iter().find(|(_, h)| h.matches(container, interface)) {
            return Err(Error::Address { address, reason: "the container has it already".to_owned() });
        }
        let stranger = |address: &&IpAddr| !self.ranges.iter().flatten().any(|range| range.contains(**address));
        if let Some(address) = wanted.iter().find(stranger) {
            return Err(Error::Address { address: *address, reason: "it is in none of the ranges".to_owned() });
        }
        let mut wanted = wanted.to_vec();
        let mut outcome = Outcome { routes: self.routes.clone(), ..Outcome::default() };
        for (index, set) in self.ranges.iter().enumerate() {
            let asked = wanted.iter().position(|address| set.iter().any(|range| range.contains(*address)));
            let taken = match asked {
                Some(position) => self.reserve_wanted(set, wanted.remove(position), container, interface),
                None => self.reserve_next(index, set, container, interface),
            };
            match taken {
                Ok(ip) => outcome.ips.push(ip),
                Err(error) => {
                    self.release(&outcome.ips.iter().map(|ip| ip.address.addr()).collect::<Vec<_>>())?;
                    return Err(error);
                }
            }
        }
        if let Some(address) = wanted.first() {
            self.release(&outcome.ips.iter().map(|ip| ip.address.addr()).collect::<Vec<_>>())?;
            let reason = "its range gives one address a pod, and another was asked for too".to_owned();
            return Err(Error::Address { address: *address, reason });
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(Error::file(&self.folder))?;
        Ok(outcome)
    }

    fn reserve_wanted(&self, set: &[Range], address: IpAddr, container: &str, interface: &str) -> Result<Ip> {
        let Some(range) = set.iter().find(|range| range.contains(address)) else {
            return Err(Error::Address { address, reason: "it is in none of the ranges".to_owned() });
        };
        if address == range.gateway() {
            return Err(Error::Address { address, reason: "it is the gateway's".to_owned() });
        }
        if !self.reserve(address, container, interface)? {
            return Err(Error::Address { address, reason: "it is taken".to_owned() });
        }
        Ok(given(range, address))
    }

    fn reserve_next(&self, index: usize, set: &[Range], container: &str, interface: &str) -> Result<Ip> {
        let last_path = self.folder.join(format!("last_reserved_ip.{index}"));
        let last = fs::read_to_string(&last_path).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        // The search starts behind the last address, so that a freed one rests as long as possible.
        let start =
            last.and_then(|last| set.iter().position(|range| range.contains(last)).map(|range| (range, number(last))));
        let (first_range, after) = start.map_or((0, None), |(range, last)| (range, Some(last)));
        for step in 0..=set.len() {
            let range = &set[(first_range + step) % set.len()];
            let (low, high) = range.bounds()?;
            let (from, to) = match (step, after) {
                (0, Some(last)) => (last + 1, high),
                // Back in the first range: only what lies before the start.
                (step, Some(last)) if step == set.len() => (low, last),
                (step, None) if step == set.len() => break,
                _ => (low, high),
            };
            let mut candidate = from;
            while candidate <= to {
                let address = range.address(candidate);
                if address != range.gateway() && self.reserve(address, container, interface)? {
                    fs::write(&last_path, address.to_string()).map_err(Error::file(&last_path))?;
                    return Ok(given(range, address));
                }
                candidate += 1;
            }
        }
        let names: Vec<String> = set.iter().map(|range| range.subnet.to_string()).collect();
        Err(Error::NoFreeAddress(names.join(", ")))
    }

    fn reserve(&self, address: IpAddr, container: &str, interface: &str) -> Result<bool> {
        let path = self.folder.join(address.to_string());
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::file(&path)(error)),
        };
        let written = write!(file, "{container}\r\n{interface}").and_then(|()| file.sync_all());
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(Error::file(&path)(error));
        }
        Ok(true)
    }

    fn release(&self, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            let path = self.folder.join(address.to_string());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes back what a container's interface has; it is no error if it has nothing.
    pub fn del(&self, container: &str, interface: &str) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let held = self.held()?;
        let own: Vec<IpAddr> =
            held.into_iter().filter(|(_, holder)| holder.matches(container, interface)).map(|(ip, _)| ip).collect();
        self.release(&own)
    }

    /// Complains if a container's interface has no address.
    pub fn check(&self, container: &str, interface: &str) -> Result<()> {
        let _lock = self.lock()?;
        if self.held()?.iter().any(|(_, holder)| holder.matches(container, interface)) {
            Ok(())
        } else {
            Err(Error::Check(format!("no address is reserved for container {container}")))
        }
    }

    /// Takes back all addresses but those of the given (container, interface) pairs.
    pub fn gc(&self, valid: &[(String, String)]) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let held = self.held()?;
        let stale: Vec<IpAddr> = held
            .into_iter()
            .filter(|(_, holder)| !valid.iter().any(|(container, name)| holder.matches(container, name)))
            .map(|(address, _)| address)
            .collect();
        self.release(&stale)
    }

    /// All addresses handed out.
    fn held(&self) -> Result<Vec<(IpAddr, Holder)>> {
        let mut held = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::file(&self.folder))? {
            let path = entry.map_err(Error::file(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
            let mut lines = text.lines().map(str::trim);
            let container = lines.next().unwrap_or_default().to_owned();
            held.push((address, Holder { container, interface: lines.next().map(str::to_owned) }));
        }
        Ok(held)
    }
}

/// Who has an address; files of old versions name no interface.
#[derive(Debug)]
struct Holder {
    container: String,
    interface: Option<String>,
}

impl Holder {
    fn matches(&self, container: &str, interface: &str) -> bool {
        self.container == container && self.interface.as_deref().is_none_or(|own| own == interface)
    }
}

fn given(range: &Range, address: IpAddr) -> Ip {
    let prefix = range.subnet.prefix_len();
    Ip {
        version: None,
        address: IpNet::new(address, prefix).unwrap_or(range.subnet),
        gateway: Some(range.gateway()),
        interface: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str) -> Range {
        Range { subnet: subnet.parse().unwrap(), range_start: None, range_end: None, gateway: None }
    }

    fn store(folder: &Path, subnets: &[&[&str]]) -> HostLocal {
        let ranges = subnets.iter().map(|set| set.iter().map(|subnet| range(subnet)).collect()).collect();
        HostLocal::new(folder, "net", ranges, Vec::new()).unwrap()
    }

    fn add(store: &HostLocal, container: &str) -> Result<Vec<String>> {
        let outcome = store.add(container, "eth0", &[])?;
        Ok(outcome.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    #[test]
    fn addresses_go_round_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), &[&["10.1.0.0/29"], &["fd00::/64"]]);
        assert_eq!(add(&store, "a").unwrap(), ["10.1.0.2/29", "fd00::2/64"]);
        assert_eq!(add(&store, "b").unwrap(), ["10.1.0.3/29", "fd00::3/64"]);
        assert!(add(&store, "a").is_err(), "twice the same container");
        store.del("a", "eth0").unwrap();
        store.del("a", "eth0").unwrap();
        assert_eq!(add(&store, "c").unwrap()[0], "10.1.0.4/29", "freed addresses rest");
        for (container, address) in [("d", "10.1.0.5/29"), ("e", "10.1.0.6/29"), ("f", "10.1.0.2/29")] {
            assert_eq!(add(&store, container).unwrap()[0], address);
        }
        assert!(matches!(add(&store, "g"), Err(Error::NoFreeAddress(_))));
        store.gc(&[("b".to_owned(), "eth0".to_owned())]).unwrap();
        store.check("b", "eth0").unwrap();
        assert!(store.check("c", "eth0").is_err());
        let left: Vec<_> = store.held().unwrap().into_iter().map(|(ip, _)| ip.is_ipv4()).collect();
        assert_eq!(left.len(), 2);
    }

    #[test]
    fn wanted_addresses_are_given_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), &[&["10.1.0.0/24", "10.2.0.0/24"]]);
        let wanted = store.add("a", "eth0", &["10.2.0.77".parse().unwrap()]).unwrap();
        assert_eq!(wanted.ips[0].address.to_string(), "10.2.0.77/24");
        for bad in ["10.2.0.77", "10.2.0.1", "10.3.0.7"] {
            assert!(matches!(store.add("b", "eth0", &[bad.parse().unwrap()]), Err(Error::Address { .. })), "{bad}");
        }
        assert_eq!(add(&store, "b").unwrap(), ["10.1.0.2/24"], "nothing stayed reserved by the failures");
    }

    #[test]
    fn two_processes_never_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let store = store(folder.path(), &[&["10.1.0.0/24"]]);
                std::thread::spawn(move || {
                    (0..20).map(|n| add(&store, &format!("{thread}-{n}")).unwrap().remove(0)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 160);
    }

    #[test]
    fn senseless_ranges_are_refused() {
        let folder = Path::new("/nonexistent");
        let one = |range| HostLocal::new(folder, "net", vec![vec![range]], Vec::new());
        assert!(one(range("10.0.0.0/31")).is_err());
        assert!(one(Range { range_start: Some("10.9.0.1".parse().unwrap()), ..range("10.0.0.0/24") }).is_err());
        assert!(HostLocal::new(folder, "net", vec![], Vec::new()).is_err());
        assert!(HostLocal::new(folder, "../net", vec![vec![range("10.0.0.0/24")]], Vec::new()).is_err());
        assert!(one(range("::/0")).is_ok());
    }
}
