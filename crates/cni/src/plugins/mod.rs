//! The plugins of our own, callable in process and as programs.

pub mod bridge;
pub mod loopback;
pub mod portmap;
pub mod routed;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::ipam::HostLocal;
use crate::spec::{self, Command, Outcome, Request};
use crate::{Error, Result, runner};

/// A plugin: what it answers to a request; only ADD has a result.
pub type Plugin = fn(&Request) -> Result<Option<Outcome>>;

/// All plugins of our own.
pub const PLUGINS: [(&str, Plugin); 5] = [
    ("routed", routed::run),
    ("bridge", bridge::run),
    ("loopback", loopback::run),
    ("host-local", host_local),
    ("portmap", portmap::run),
];

/// Finds a plugin of our own by name.
pub fn find(name: &str) -> Option<Plugin> {
    PLUGINS.iter().find(|(own, _)| *own == name).map(|(_, plugin)| *plugin)
}

fn host_local(request: &Request) -> Result<Option<Outcome>> {
    let store = match request.command {
        Command::Version => return Ok(None),
        _ => HostLocal::of(request)?,
    };
    let (container, interface) = (&request.container_id, &request.interface);
    match request.command {
        Command::Add => return store.add(container, interface, &wanted_addresses(request)?).map(Some),
        Command::Del => store.del(container, interface)?,
        Command::Check => store.check(container, interface)?,
        Command::Gc => store.gc(&valid_attachments(request)?)?,
        Command::Status | Command::Version => {}
    }
    Ok(None)
}

/// Addresses that the runtime or the arguments ask for.
fn wanted_addresses(request: &Request) -> Result<Vec<IpAddr>> {
    let mut wanted = Vec::new();
    let mut push = |text: &str| -> Result<()> {
        let bare = text.split('/').next().unwrap_or_default();
        let address = bare.parse().map_err(|_| Error::Config(format!("{text:?} is not an address")))?;
        if !wanted.contains(&address) {
            wanted.push(address);
        }
        Ok(())
    };
    for list in ["/runtimeConfig/ips", "/args/cni/ips"] {
        for entry in request.config.pointer(list).and_then(Value::as_array).into_iter().flatten() {
            push(entry.as_str().unwrap_or_default())?;
        }
    }
    if let Some(list) = request.arguments.get("IP") {
        for entry in list.split(',').filter(|entry| !entry.is_empty()) {
            push(entry)?;
        }
    }
    Ok(wanted)
}

/// The attachments a GC must keep, as (container, interface).
pub(crate) fn valid_attachments(request: &Request) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Attachment {
        #[serde(rename = "containerID")]
        container: String,
        ifname: String,
    }
    let Some(list) = request.config.get("cni.dev/valid-attachments") else {
        return Err(Error::Config("cni.dev/valid-attachments is missing".to_owned()));
    };
    // Programs in Go write an empty list so.
    if list.is_null() {
        return Ok(Vec::new());
    }
    let list = Vec::<Attachment>::deserialize(list).map_err(Error::decode("cni.dev/valid-attachments"))?;
    Ok(list.into_iter().map(|attachment| (attachment.container, attachment.ifname)).collect())
}

/// Asks the plugin named in `ipam`, ours or another's.
pub(crate) fn delegate_ipam(request: &Request) -> Result<Option<Outcome>> {
    let Some(name) = request.config.pointer("/ipam/type").and_then(Value::as_str) else {
        return Err(Error::Config("ipam.type is missing".to_owned()));
    };
    runner::call(name, request)
}

/// Asks for addresses; there must be some.
pub(crate) fn add_ipam(request: &Request) -> Result<Outcome> {
    let outcome = delegate_ipam(request)?.unwrap_or_default();
    if outcome.ips.is_empty() {
        return Err(Error::Config("the ipam plugin gave no address".to_owned()));
    }
    Ok(outcome)
}

/// A fingerprint that is the same in every build and process: names of host objects are derived with it.
pub(crate) fn fingerprint(parts: &[&str]) -> u64 {
    // FNV-1a with a final mix, since neighbours in the input should differ in all bits.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// The names of all host links we make begin with this.
pub const LINK_PREFIX: &str = "sk";

/// The name of the host's end of a pod's link: derived from the pod and its sandbox, so that tearing an old sandbox
/// down late never takes the new one's link.
pub fn host_link_name(pod_uid: &str, container_id: &str, interface: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = fingerprint(&[pod_uid, container_id, interface]);
    let digits = (0..13).map(|place| char::from(DIGITS[(hash >> (5 * place) & 31) as usize]));
    LINK_PREFIX.chars().chain(digits).collect()
}

/// The MTU of the link that leads out of the host, which pods should not exceed.
pub(crate) fn uplink_mtu(socket: &mut linux::netlink::Socket) -> Result<u32> {
    let default = socket
        .routes()?
        .into_iter()
        .filter(|route| route.is_default() && route.table == linux::netlink::route::MAIN)
        .min_by_key(|route| route.metric.unwrap_or(0))
        .and_then(|route| route.link);
    match default {
        Some(link) => Ok(socket.link_by_index(link)?.mtu),
        None => Ok(1500),
    }
}

/// Answers as a CNI plugin program: reads the environment and standard input, writes the result or the error to
/// standard output. `name` is the plugin's; the name the program was called by otherwise.
pub fn plugin_main(name: Option<&str>) -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = name.map(str::to_owned).or(called).unwrap_or_default();
    let mut input = Vec::new();
    const MAX_INPUT: u64 = 8 << 20;
    let read = std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut input);
    let variable = |key: &str| std::env::var(key).ok();
    let answer = match read {
        Ok(_) => answer(&name, &variable, &input),
        Err(error) => Err((spec::VERSION.to_owned(), Error::Environment(format!("standard input: {error}")))),
    };
    let (document, code) = match answer {
        Ok(Some(document)) => (document, ExitCode::SUCCESS),
        Ok(None) => return ExitCode::SUCCESS,
        Err((version, error)) => {
            let document = json!({"cniVersion": version, "code": error.code(), "msg": error.to_string()});
            (document, ExitCode::FAILURE)
        }
    };
    let mut output = std::io::stdout().lock();
    if serde_json::to_writer(&mut output, &document).is_err() || output.write_all(b"\n").is_err() {
        return ExitCode::FAILURE;
    }
    code
}

fn answer(
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    input: &[u8],
) -> std::result::Result<Option<Value>, (String, Error)> {
    let parsed: std::result::Result<Value, _> = serde_json::from_slice(input);
    let version = parsed.as_ref().ok().and_then(|value| value.get("cniVersion")).and_then(Value::as_str);
    let version = version.unwrap_or(spec::VERSION).to_owned();
    respond(name, variable, parsed, &version).map_err(|error| (version, error))
}

fn respond(
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    config: serde_json::Result<Value>,
    version: &str,
) -> Result<Option<Value>> {
    let plugin = find(name).ok_or_else(|| Error::PluginMissing { name: name.to_owned(), paths: Vec::new() })?;
    let command = variable("CNI_COMMAND").ok_or_else(|| Error::Environment("CNI_COMMAND is missing".to_owned()))?;
    let command = Command::parse(&command)
        .ok_or_else(|| Error::Environment(format!("CNI_COMMAND {command:?} is not a command")))?;
    if command == Command::Version {
        return Ok(Some(json!({"cniVersion": spec::VERSION, "supportedVersions": spec::VERSIONS})));
    }
    let config = config.map_err(Error::decode("network configuration"))?;
    spec::check_version(version)?;
    let mut request = Request {
        command,
        container_id: String::new(),
        namespace: None,
        interface: String::new(),
        arguments: spec::parse_arguments(&variable("CNI_ARGS").unwrap_or_default())?,
        plugin_paths: variable("CNI_PATH")
            .unwrap_or_default()
            .split(':')
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect(),
        config,
    };
    if command.has_container() {
        let required = |key: &str| {
            variable(key)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| Error::Environment(format!("{key} is missing")))
        };
        request.container_id = required("CNI_CONTAINERID")?;
        spec::check_id("CNI_CONTAINERID", &request.container_id)?;
        request.interface = required("CNI_IFNAME")?;
        request.namespace = variable("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    let outcome = plugin(&request)?;
    Ok(outcome.map(|outcome| outcome.write(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_link_names_fit_and_differ() {
        let name = host_link_name("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "abc", "eth0");
        assert_eq!(name.len(), 15);
        assert_ne!(name, host_link_name("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "abd", "eth0"));
        assert_eq!(name, host_link_name("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "abc", "eth0"));
    }

    #[test]
    fn bad_calls_get_the_numbers_of_the_protocol() {
        let code = |name: &str, environment: &[(&str, &str)], input: &str| {
            let variable = |key: &str| environment.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
            answer(name, &variable, input.as_bytes()).unwrap_err().1.code()
        };
        let good = r#"{"cniVersion":"1.1.0","name":"n","type":"routed"}"#;
        assert_eq!(code("routed", &[], good), 4);
        assert_eq!(code("routed", &[("CNI_COMMAND", "JUMP")], good), 4);
        assert_eq!(code("routed", &[("CNI_COMMAND", "ADD")], "{"), 6);
        assert_eq!(code("routed", &[("CNI_COMMAND", "ADD")], good), 4);
        assert_eq!(code("routed", &[("CNI_COMMAND", "ADD")], r#"{"cniVersion":"7.0.0"}"#), 1);
        assert_eq!(code("nobody", &[("CNI_COMMAND", "ADD")], good), 103);
        let evil = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "eth0")];
        assert_eq!(code("routed", &evil, good), 4);
    }
}
