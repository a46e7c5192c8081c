//! What a node needs once: forwarding, masquerading, routes to other nodes' pods.

use crate::{Result, sysctl};
use ipnet::IpNet;

/// Lets the host pass packets on.
pub fn enable_forwarding(v6: bool) -> Result<()> {
    sysctl::write(if v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" }, "1").map(|_| ())
}

/// Masquerades what leaves a bridge network.
pub fn masquerade_network(_name: &str, _nets: &[IpNet]) -> Result<()> {
    Err(crate::Error::UnsupportedField("ipMasq".to_owned()))
}
