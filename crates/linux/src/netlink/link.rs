//! Links: making, finding, changing and removing network devices.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::wire::{self, Message};
use super::{Error, Reply, Result, Socket};

/// The longest name of a link.
pub const MAX_NAME: usize = 15;

const IFLA_IFALIAS: u16 = 20;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_PROTINFO: u16 = 12;

const UP: u32 = libc::IFF_UP as u32;

/// A link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address made of `seed`.
    pub fn local(seed: u64) -> Self {
        let bytes = seed.to_be_bytes();
        Self([(bytes[2] & 0xfc) | 0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts
                .next()
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| Error::Invalid(format!("{text:?} is not a link-layer address")))?;
        }
        if parts.next().is_some() {
            return Err(Error::Invalid(format!("{text:?} is not a link-layer address")));
        }
        Ok(Self(bytes))
    }
}

/// A network device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `IFF_*` flags.
    pub flags: u32,
    /// Maximum transmission unit.
    pub mtu: u32,
    /// Link-layer address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// `veth`, `bridge` and so on; empty for hardware and the loopback device.
    pub kind: String,
    /// The bridge it belongs to.
    pub master: Option<u32>,
    /// The other end of a pair, or the device below.
    pub parent: Option<u32>,
    /// Free text kept by the kernel.
    pub alias: String,
    /// `IF_OPER_*`.
    pub operational_state: u8,
}

impl Link {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & UP != 0
    }

    /// Whether it is the loopback device.
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    pub(super) fn parse(reply: &Reply) -> Option<Self> {
        let attributes = reply.attributes(16);
        let info = attributes.nested(IFLA_LINKINFO);
        Some(Self {
            index: wire::u32_at(&reply.payload, 4)?,
            flags: wire::u32_at(&reply.payload, 8)?,
            name: attributes.text(IFLA_IFNAME).unwrap_or_default(),
            mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
            mac: attributes.get(IFLA_ADDRESS).and_then(|bytes| Some(Mac(bytes.try_into().ok()?))),
            kind: info.text(IFLA_INFO_KIND).unwrap_or_default(),
            master: attributes.u32(IFLA_MASTER),
            parent: attributes.u32(IFLA_LINK),
            alias: attributes.text(IFLA_IFALIAS).unwrap_or_default(),
            operational_state: attributes.get(IFLA_OPERSTATE).and_then(|b| b.first().copied()).unwrap_or(0),
        })
    }
}

/// One end of a virtual pair to be made.
#[derive(Debug, Clone, Default)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its link-layer address; the kernel picks one otherwise.
    pub mac: Option<Mac>,
    /// Where it shall be; the socket's namespace otherwise.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Text kept with it.
    pub alias: &'a str,
}

/// A VXLAN device to be made; its forwarding table is filled by [`Socket::add_forwarding`].
#[derive(Debug, Clone)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network identifier.
    pub id: u32,
    /// UDP port.
    pub port: u16,
    /// Local address of the tunnel.
    pub local: IpAddr,
    /// The device that carries it.
    pub device: Option<u32>,
    /// Link-layer address.
    pub mac: Option<Mac>,
    /// Maximum transmission unit.
    pub mtu: u32,
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', ':']) || name.chars().any(char::is_whitespace) {
        return Err(Error::Invalid(format!("{name:?} is not a name for a link")));
    }
    Ok(())
}

fn ifinfo(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&change.to_ne_bytes());
    bytes
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

impl Socket {
    /// Makes a virtual pair: `near` in the socket's namespace, `far` where it says, both with `mtu`.
    pub fn add_veth(&mut self, near: &VethEnd<'_>, far: &VethEnd<'_>, mtu: u32) -> Result<()> {
        check_name(near.name)?;
        check_name(far.name)?;
        let describe = |message: &mut Message, end: &VethEnd<'_>| {
            message.str(IFLA_IFNAME, end.name);
            if mtu != 0 {
                message.u32(IFLA_MTU, mtu);
            }
            if let Some(mac) = end.mac {
                message.attr(IFLA_ADDRESS, &mac.0);
            }
            if let Some(namespace) = end.namespace {
                message.u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
            }
        };
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0, 0));
        describe(&mut message, near);
        message.nest(IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest_after(VETH_INFO_PEER | wire::NESTED, &ifinfo(0, 0, 0), |peer| describe(peer, far));
            });
        });
        self.request(&format!("make link {}", near.name), message)?;
        if !near.alias.is_empty() {
            let link = self.link(near.name)?;
            let mut message = Message::new(libc::RTM_SETLINK, 0, &ifinfo(link.index, 0, 0));
            message.str(IFLA_IFALIAS, near.alias);
            self.request(&format!("describe link {}", near.name), message)?;
        }
        Ok(())
    }

    /// Makes a bridge.
    pub fn add_bridge(&mut self, name: &str, mtu: u32, mac: Option<Mac>) -> Result<()> {
        self.add_simple(name, "bridge", mtu, mac)
    }

    /// Makes a dummy device.
    pub fn add_dummy(&mut self, name: &str, mtu: u32) -> Result<()> {
        self.add_simple(name, "dummy", mtu, None)
    }

    fn add_simple(&mut self, name: &str, kind: &str, mtu: u32, mac: Option<Mac>) -> Result<()> {
        check_name(name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, name);
        if mtu != 0 {
            message.u32(IFLA_MTU, mtu);
        }
        if let Some(mac) = mac {
            message.attr(IFLA_ADDRESS, &mac.0);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_KIND, kind);
        });
        self.request(&format!("make link {name}"), message)
    }

    /// Makes a VXLAN device without address learning.
    pub fn add_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<()> {
        check_name(vxlan.name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, vxlan.name);
        if vxlan.mtu != 0 {
            message.u32(IFLA_MTU, vxlan.mtu);
        }
        if let Some(mac) = vxlan.mac {
            message.attr(IFLA_ADDRESS, &mac.0);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_KIND, "vxlan");
            info.nest(IFLA_INFO_DATA, |data| {
                const ID: u16 = 1;
                const LINK: u16 = 3;
                const LOCAL: u16 = 4;
                const LEARNING: u16 = 7;
                const PORT: u16 = 15;
                const LOCAL6: u16 = 17;
                data.u32(ID, vxlan.id);
                if let Some(device) = vxlan.device {
                    data.u32(LINK, device);
                }
                data.ip(if vxlan.local.is_ipv4() { LOCAL } else { LOCAL6 }, vxlan.local);
                data.u8(LEARNING, 0).be16(PORT, vxlan.port);
            });
        });
        self.request(&format!("make link {}", vxlan.name), message)
    }

    /// Finds a link by name.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        check_name(name)?;
        let mut message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, name);
        let reply = self.get(&format!("find link {name}"), message)?;
        reply.as_ref().and_then(Link::parse).ok_or(Error::Malformed("link"))
    }

    /// Finds a link by name; `None` if there is none.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>> {
        match self.link(name) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds a link by number.
    pub fn link_by_index(&mut self, index: u32) -> Result<Link> {
        let message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(index, 0, 0));
        let reply = self.get(&format!("find link {index}"), message)?;
        reply.as_ref().and_then(Link::parse).ok_or(Error::Malformed("link"))
    }

    /// Lists all links.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        Ok(self.dump("list links", message)?.iter().filter_map(Link::parse).collect())
    }

    /// Removes a link.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        self.request(&format!("remove link {index}"), Message::new(libc::RTM_DELLINK, 0, &ifinfo(index, 0, 0)))
    }

    /// Removes a link by name; says whether there was one.
    pub fn delete_link_named(&mut self, name: &str) -> Result<bool> {
        let Some(link) = self.find_link(name)? else { return Ok(false) };
        match self.delete_link(link.index) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings a link up or down.
    pub fn set_link_up(&mut self, index: u32, up: bool) -> Result<()> {
        let fixed = ifinfo(index, if up { UP } else { 0 }, UP);
        self.request(&format!("bring link {index} up"), Message::new(libc::RTM_NEWLINK, 0, &fixed))
    }

    fn set_link(&mut self, index: u32, what: &str, fill: impl FnOnce(&mut Message)) -> Result<()> {
        let mut message = Message::new(libc::RTM_SETLINK, 0, &ifinfo(index, 0, 0));
        fill(&mut message);
        self.request(&format!("set {what} of link {index}"), message)
    }

    /// Sets the maximum transmission unit.
    pub fn set_link_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.set_link(index, "mtu", |message| {
            message.u32(IFLA_MTU, mtu);
        })
    }

    /// Sets the link-layer address.
    pub fn set_link_mac(&mut self, index: u32, mac: Mac) -> Result<()> {
        self.set_link(index, "address", |message| {
            message.attr(IFLA_ADDRESS, &mac.0);
        })
    }

    /// Renames a link, which must be down.
    pub fn rename_link(&mut self, index: u32, name: &str) -> Result<()> {
        check_name(name)?;
        self.set_link(index, "name", |message| {
            message.str(IFLA_IFNAME, name);
        })
    }

    /// Puts a link into a bridge, or takes it out.
    pub fn set_link_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        self.set_link(index, "bridge", |message| {
            message.u32(IFLA_MASTER, master.unwrap_or(0));
        })
    }

    /// Lets a bridge port send frames back where they came from.
    pub fn set_link_hairpin(&mut self, index: u32, on: bool) -> Result<()> {
        const MODE: u16 = 4;
        let mut fixed = ifinfo(index, 0, 0);
        fixed[0] = libc::AF_BRIDGE as u8;
        let mut message = Message::new(libc::RTM_SETLINK, 0, &fixed);
        message.nest(IFLA_PROTINFO, |info| {
            info.u8(MODE, u8::from(on));
        });
        self.request(&format!("set hairpin of link {index}"), message)
    }

    /// Stops the kernel from giving the link an IPv6 link-local address by itself.
    pub fn set_link_without_autoconf(&mut self, index: u32) -> Result<()> {
        const GENERATION_MODE: u16 = 8;
        const NONE: u8 = 1;
        self.set_link(index, "address generation", |message| {
            message.nest(IFLA_AF_SPEC, |spec| {
                spec.nest(libc::AF_INET6 as u16, |inet6| {
                    inet6.u8(GENERATION_MODE, NONE);
                });
            });
        })
    }
}
