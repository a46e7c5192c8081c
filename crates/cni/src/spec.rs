//! The words of the Container Network Interface: commands, configurations, results.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The newest protocol version, which we use ourselves.
pub const VERSION: &str = "1.1.0";
/// All protocol versions we speak.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What is asked of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Is the container still attached as it was?
    Check,
    /// Can you attach containers?
    Status,
    /// Drop all attachments but the listed ones.
    Gc,
    /// Which protocol versions do you speak?
    Version,
}

impl Command {
    /// Its name in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Status => "STATUS",
            Command::Gc => "GC",
            Command::Version => "VERSION",
        }
    }

    /// Reads its name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version]
            .into_iter()
            .find(|command| command.name() == name)
    }

    /// Whether it is about one container.
    pub fn has_container(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// One call of a plugin.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// The container, as the runtime calls it.
    pub container_id: String,
    /// Path of the container's network namespace; may be gone at a DEL.
    pub namespace: Option<PathBuf>,
    /// The interface to make inside.
    pub interface: String,
    /// Extra arguments (`CNI_ARGS`).
    pub arguments: BTreeMap<String, String>,
    /// Where foreign plugins are looked for.
    pub plugin_paths: Vec<PathBuf>,
    /// The plugin's configuration as sent, with `name`, `cniVersion`, `runtimeConfig`, `prevResult`.
    pub config: Value,
}

impl Request {
    /// The fields that every configuration has.
    pub fn network(&self) -> Result<NetworkFields> {
        NetworkFields::deserialize(&self.config).map_err(Error::decode("network configuration"))
    }

    /// The configuration as a plugin's own type.
    pub fn config<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        T::deserialize(&self.config).map_err(Error::decode("network configuration"))
    }

    /// The result of the plugins before this one.
    pub fn previous(&self) -> Result<Option<Outcome>> {
        match self.config.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Outcome::read(value).map(Some),
        }
    }

    /// The namespace path, which an ADD or CHECK must have.
    pub fn required_namespace(&self) -> Result<&PathBuf> {
        self.namespace.as_ref().ok_or_else(|| Error::Environment("CNI_NETNS is missing".to_owned()))
    }
}

/// The fields that every configuration has.
#[derive(Debug, Clone, Deserialize)]
pub struct NetworkFields {
    /// Protocol version.
    #[serde(default, rename = "cniVersion")]
    pub version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin's name.
    #[serde(default, rename = "type")]
    pub plugin: String,
}

/// What an ADD made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Protocol version.
    #[serde(rename = "cniVersion", default)]
    pub version: String,
    /// Interfaces, those inside with their `sandbox`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteEntry>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Link-layer address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Maximum transmission unit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Path of the namespace it is in; empty for the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An address that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// `4` or `6`, in versions before 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Address and length of its prefix.
    pub address: IpNet,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into the interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Destination.
    pub dst: IpNet,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Largest packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Own domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Outcome {
    /// Reads a result of any version we speak.
    pub fn read(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(Error::decode("plugin result"))
    }

    /// The result as a configuration of protocol version `version` wants to see it.
    pub fn write(&self, version: &str) -> Value {
        let mut own = self.clone();
        version.clone_into(&mut own.version);
        let old = matches!(version, "0.3.0" | "0.3.1" | "0.4.0");
        for ip in &mut own.ips {
            ip.version = old.then(|| if ip.address.addr().is_ipv4() { "4" } else { "6" }.to_owned());
        }
        serde_json::to_value(own).unwrap_or(Value::Null)
    }

    /// The addresses of the container, in the order given.
    pub fn container_ips(&self) -> Vec<IpAddr> {
        self.ips
            .iter()
            .filter(|ip| {
                ip.interface.and_then(|index| self.interfaces.get(index)).is_none_or(|i| !i.sandbox.is_empty())
            })
            .map(|ip| ip.address.addr())
            .collect()
    }
}

/// Refuses protocol versions we do not speak; none means the oldest, which nobody writes any more.
pub fn check_version(version: &str) -> Result<()> {
    if VERSIONS.contains(&version) { Ok(()) } else { Err(Error::Version(version.to_owned())) }
}

/// Reads `CNI_ARGS` (`KEY=value;KEY=value`).
pub fn parse_arguments(text: &str) -> Result<BTreeMap<String, String>> {
    text.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::Environment(format!("CNI_ARGS: {pair:?} is not KEY=value")))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Refuses names that could not be part of a path or would be read as several.
pub fn check_id(what: &str, id: &str) -> Result<()> {
    let good = id.len() <= 256
        && id.chars().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if good { Ok(()) } else { Err(Error::Environment(format!("{what} {id:?} is not a valid identifier"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_old_versions_name_the_family() {
        let outcome = Outcome {
            ips: vec![Ip { version: None, address: "10.1.2.3/32".parse().unwrap(), gateway: None, interface: None }],
            ..Outcome::default()
        };
        assert_eq!(outcome.write("0.4.0")["ips"][0]["version"], "4");
        assert_eq!(outcome.write("1.1.0")["ips"][0].get("version"), None);
        assert_eq!(Outcome::read(&outcome.write("0.4.0")).unwrap().container_ips(), outcome.container_ips());
    }

    #[test]
    fn arguments_are_pairs() {
        assert_eq!(parse_arguments("A=1;B=x=y;").unwrap()["B"], "x=y");
        assert!(parse_arguments("A").is_err());
        assert!(check_id("container", "../x").is_err());
        assert!(check_id("container", "0af").is_ok());
    }
}
