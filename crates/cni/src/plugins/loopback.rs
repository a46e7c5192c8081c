//! Brings the loopback device of a pod up.

use linux::netlink::namespace::Namespace;

use crate::spec::{Command, Interface, Ip, Outcome, Request};
use crate::{Error, Result};

/// Answers a request.
pub fn run(request: &Request) -> Result<Option<Outcome>> {
    match request.command {
        Command::Add => {
            let path = request.required_namespace()?;
            bring_up(&Namespace::open(path)?)?;
            if let Some(previous) = request.previous()? {
                return Ok(Some(previous));
            }
            let ip = |address: &str| -> Option<Ip> {
                Some(Ip { version: None, address: address.parse().ok()?, gateway: None, interface: Some(0) })
            };
            Ok(Some(Outcome {
                interfaces: vec![Interface {
                    name: "lo".to_owned(),
                    mac: "00:00:00:00:00:00".to_owned(),
                    sandbox: path.display().to_string(),
                    ..Interface::default()
                }],
                ips: ["127.0.0.1/8", "::1/128"].into_iter().filter_map(ip).collect(),
                ..Outcome::default()
            }))
        }
        Command::Check => {
            let mut socket = Namespace::open(request.required_namespace()?)?.route_socket()?;
            if socket.link("lo")?.is_up() { Ok(None) } else { Err(Error::Check("lo is down".to_owned())) }
        }
        // The device vanishes with its namespace.
        Command::Del | Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

/// Brings the loopback device of a namespace up; the kernel gives it its addresses.
pub fn bring_up(namespace: &Namespace) -> Result<()> {
    let mut socket = namespace.route_socket()?;
    let lo = socket.link("lo")?;
    if !lo.is_up() {
        socket.set_link_up(lo.index, true)?;
    }
    Ok(())
}
