//! Finding and reading network configurations, as administrators and foreign networks leave them in a folder.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::spec::{VERSION, VERSIONS, check_id};
use crate::{Error, Result};

const MAX_FILE: u64 = 1 << 20;

/// A list of plugins that together make one network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The protocol version it is written in.
    pub version: String,
    /// Never ask for CHECK.
    pub disable_check: bool,
    /// Never ask for GC.
    pub disable_gc: bool,
    /// The plugins' configurations, in order.
    pub plugins: Vec<Value>,
}

impl NetworkList {
    /// Reads a list, or a single plugin's configuration as a list of one.
    pub fn parse(value: &Value) -> Result<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| match value.get(key) {
            Some(Value::Bool(on)) => *on,
            // Older files quote it.
            Some(Value::String(on)) => on == "true",
            _ => false,
        };
        let name = text("name");
        check_id("network name", &name).map_err(|_| Error::Config(format!("{name:?} is not a network name")))?;
        let plugins = match value.get("plugins") {
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => return Err(Error::Config("plugins is not a list".to_owned())),
            None => vec![value.clone()],
        };
        if plugins.is_empty() {
            return Err(Error::Config(format!("network {name} has no plugins")));
        }
        for plugin in &plugins {
            if plugin.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(Error::Config(format!("a plugin of network {name} has no type")));
            }
        }
        // A list may name several versions; the newest that we speak too is used.
        let offered = value.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
        let newest = offered
            .filter_map(Value::as_str)
            .chain([text("cniVersion").as_str()])
            .fold(None, |best, v| VERSIONS.iter().position(|own| *own == v).max(best));
        let version = match newest {
            Some(index) => VERSIONS[index].to_owned(),
            None => return Err(Error::Version(text("cniVersion"))),
        };
        Ok(Self { name, version, disable_check: flag("disableCheck"), disable_gc: flag("disableGC"), plugins })
    }

    /// The list as JSON, for keeping.
    pub fn to_value(&self) -> Value {
        json!({
            "cniVersion": self.version, "name": self.name, "disableCheck": self.disable_check,
            "disableGC": self.disable_gc, "plugins": self.plugins,
        })
    }
}

/// Reads the first usable configuration of a folder, by file name; `None` if there is none at all.
pub fn load(folder: &Path) -> Result<Option<NetworkList>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file(folder)(error)),
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| ["conflist", "conf", "json"].iter().any(|known| extension == *known))
        })
        .collect();
    paths.sort();
    let mut first_error = None;
    for path in paths {
        match load_file(&path) {
            Ok(list) => return Ok(Some(list)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

fn load_file(path: &Path) -> Result<NetworkList> {
    let size = fs::metadata(path).map_err(Error::file(path))?.len();
    if size > MAX_FILE {
        return Err(Error::Config(format!("{} is larger than {MAX_FILE} bytes", path.display())));
    }
    let bytes = fs::read(path).map_err(Error::file(path))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(Error::decode(path.display().to_string()))?;
    NetworkList::parse(&value)
}

/// The default network: routed, with host ports.
pub fn routed(name: &str, subnets: &[ipnet::IpNet], mtu: u32, address_folder: &Path) -> NetworkList {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    NetworkList {
        name: name.to_owned(),
        version: VERSION.to_owned(),
        disable_check: false,
        disable_gc: false,
        plugins: vec![
            json!({
                "type": "routed", "mtu": mtu,
                "ipam": {"type": "host-local", "dataDir": address_folder, "ranges": ranges},
                "capabilities": {"ips": true},
            }),
            json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_file_wins() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), None);
        assert_eq!(load(&folder.path().join("missing")).unwrap(), None);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("00-broken.conflist", "{");
        assert!(load(folder.path()).is_err());
        write("20-b.conf", r#"{"cniVersion":"0.4.0","name":"b","type":"bridge"}"#);
        assert_eq!(load(folder.path()).unwrap().unwrap().name, "b");
        write(
            "10-a.conflist",
            r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","9.0.0"],"name":"a","disableCheck":true,"plugins":[{"type":"x"}]}"#,
        );
        let list = load(folder.path()).unwrap().unwrap();
        assert_eq!((list.name.as_str(), list.version.as_str(), list.disable_check), ("a", "1.0.0", true));
        assert_eq!(NetworkList::parse(&list.to_value()).unwrap(), list);
    }

    #[test]
    fn senseless_lists_are_refused() {
        for bad in [
            json!({"cniVersion": "1.0.0", "name": "a", "plugins": []}),
            json!({"cniVersion": "1.0.0", "name": "../a", "plugins": [{"type": "x"}]}),
            json!({"cniVersion": "9.0.0", "name": "a", "plugins": [{"type": "x"}]}),
            json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{}]}),
            json!({"cniVersion": "1.0.0", "name": "a", "plugins": 3}),
            json!([]),
        ] {
            assert!(NetworkList::parse(&bad).is_err(), "{bad}");
        }
    }
}
