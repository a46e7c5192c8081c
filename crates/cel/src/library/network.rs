//! Addresses and networks, read as strictly as Kubernetes reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("ip", ip, &[("string_to_ip", "(string) net.IP")]),
    Decl("isIP", is_ip, &[("is_ip", "(string) bool")]),
    Decl("ip.isCanonical", is_canonical, &[("ip_is_canonical", "(string) bool")]),
    Decl("family", family, &[("ip_family", "net.IP.() int")]),
    Decl("isUnspecified", |a| test(a, IpAddr::is_unspecified), &[("ip_is_unspecified", "net.IP.() bool")]),
    Decl("isLoopback", |a| test(a, IpAddr::is_loopback), &[("ip_is_loopback", "net.IP.() bool")]),
    Decl(
        "isLinkLocalMulticast",
        |a| test(a, is_link_local_multicast),
        &[("ip_is_link_local_multicast", "net.IP.() bool")],
    ),
    Decl("isLinkLocalUnicast", |a| test(a, is_link_local_unicast), &[("ip_is_link_local_unicast", "net.IP.() bool")]),
    Decl("isGlobalUnicast", |a| test(a, is_global_unicast), &[("ip_is_global_unicast", "net.IP.() bool")]),
    Decl("cidr", cidr, &[("string_to_cidr", "(string) net.CIDR")]),
    Decl("isCIDR", is_cidr, &[("is_cidr", "(string) bool")]),
    Decl(
        "containsIP",
        contains_ip,
        &[("cidr_contains_ip_string", "net.CIDR.(string) bool"), ("cidr_contains_ip_ip", "net.CIDR.(net.IP) bool")],
    ),
    Decl(
        "containsCIDR",
        contains_cidr,
        &[("cidr_contains_cidr_string", "net.CIDR.(string) bool"), ("cidr_contains_cidr", "net.CIDR.(net.CIDR) bool")],
    ),
    Decl("ip", cidr_ip, &[("cidr_ip", "net.CIDR.() net.IP")]),
    Decl("prefixLength", prefix_length, &[("cidr_prefix_length", "net.CIDR.() int")]),
    Decl("masked", masked, &[("cidr_masked", "net.CIDR.() net.CIDR")]),
];

fn is_link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !is_link_local_unicast(ip)
}

/// Neither zones nor IPv4 addresses in the clothes of IPv6 are accepted.
fn parse_ip(text: &str) -> Result<IpAddr, Error> {
    if text.contains('%') {
        return Err(Error::new(format!("IP address with zone value is not allowed: {text:?}")));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        Error::new(format!("IP Address {text:?} parse error during conversion from string: unable to parse IP"))
    })?;
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(Error::new(format!("IPv4-mapped IPv6 address is not allowed: {text:?}")));
    }
    Ok(ip)
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), Error> {
    let fail = |why: &str| {
        Error::new(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let (address, bits) = text.split_once('/').ok_or_else(|| fail("no '/'"))?;
    let ip = parse_ip(address).map_err(|_| fail("unable to parse IP"))?;
    let plain = bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|_| plain).ok_or_else(|| fail("bad bits after slash"))?;
    if bits > width(&ip) {
        return Err(fail("prefix length out of range"));
    }
    Ok((ip, bits))
}

fn width(ip: &IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn mask(ip: &IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(*ip) & keep))
        }
        IpAddr::V6(ip) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(*ip) & keep))
        }
    }
}

fn contains(network: &IpAddr, bits: u8, ip: &IpAddr) -> bool {
    network.is_ipv4() == ip.is_ipv4() && mask(network, bits) == mask(ip, bits)
}

fn ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Opaque(Opaque::Ip(parse_ip(text)?))),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text).is_ok())),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_canonical<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text)?.to_string() == text.as_str())),
        _ => Err(Error::no_such_overload()),
    }
}

fn family<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        _ => Err(Error::no_such_overload()),
    }
}

fn test<'a>(args: &[Value<'a>], holds: impl Fn(&IpAddr) -> bool) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool(holds(ip))),
        _ => Err(Error::no_such_overload()),
    }
}

fn cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => parse_cidr(text).map(|(ip, bits)| Value::Opaque(Opaque::Cidr(ip, bits))),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_cidr(text).is_ok())),
        _ => Err(Error::no_such_overload()),
    }
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (network, bits, ip) = match args {
        [Value::Opaque(Opaque::Cidr(network, bits)), Value::Opaque(Opaque::Ip(ip))] => (network, bits, *ip),
        [Value::Opaque(Opaque::Cidr(network, bits)), Value::String(text)] => (network, bits, parse_ip(text)?),
        _ => return Err(Error::no_such_overload()),
    };
    Ok(Value::Bool(contains(network, *bits, &ip)))
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (network, bits, (ip, other)) = match args {
        [Value::Opaque(Opaque::Cidr(network, bits)), Value::Opaque(Opaque::Cidr(ip, other))] => {
            (network, bits, (*ip, *other))
        }
        [Value::Opaque(Opaque::Cidr(network, bits)), Value::String(text)] => (network, bits, parse_cidr(text)?),
        _ => return Err(Error::no_such_overload()),
    };
    Ok(Value::Bool(other >= *bits && contains(network, *bits, &ip)))
}

fn cidr_ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Cidr(ip, _))] => Ok(Value::Opaque(Opaque::Ip(*ip))),
        _ => Err(Error::no_such_overload()),
    }
}

fn prefix_length<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Cidr(_, bits))] => Ok(Value::Int(i64::from(*bits))),
        _ => Err(Error::no_such_overload()),
    }
}

fn masked<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Cidr(ip, bits))] => Ok(Value::Opaque(Opaque::Cidr(mask(ip, *bits), *bits))),
        _ => Err(Error::no_such_overload()),
    }
}
