//! What the daemon of a data folder does: asked of its API, of the kernel, and of the folder.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail};
use apimachinery::Value;
use pki::{Authority, Credential, Hierarchy, Identity};
use serde::Serialize;

use crate::ask::{Api, has_condition};
use crate::control::Stats;
use crate::folder::{self, Record, Role};
use crate::process::Process;

/// What there is to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: String,
    pub role: Role,
    pub pid: i32,
    pub uptime_seconds: u64,
    /// Where the API is.
    pub server: String,
    /// Whether the API says that it can be used.
    pub ready: bool,
    /// Checks that fail, as the API names them.
    pub failed_checks: Vec<String>,
    /// Of an agent only its own.
    pub nodes: Vec<Node>,
    /// How many pods there are in each phase; on an agent's own node.
    pub pods: BTreeMap<String, usize>,
    /// Only a server has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Stats>,
    pub memory: Memory,
}

/// A node of the cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub ready: bool,
    pub schedulable: bool,
}

/// What the daemon itself uses, without pods and their shims.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub resident_bytes: u64,
    /// Pages that several processes share are counted in part.
    pub proportional_bytes: u64,
}

impl Report {
    /// Asks the daemon that runs on a data folder.
    pub async fn gather(data: &Path) -> anyhow::Result<Report> {
        let record = match Record::read(data)? {
            Some(record) if folder::is_held(data)? => record,
            Some(record) => bail!(
                "no {} runs on the data folder {}: start one with `skiff {}`, or name another folder with --data-dir",
                record.role,
                data.display(),
                record.role
            ),
            None => bail!(
                "{} is no data folder of Skiff: start a server on it with `skiff server`, or name another folder with \
                 --data-dir",
                data.display()
            ),
        };
        let api = api(data, &record)?;
        let (code, body) = api.ask("/readyz?verbose").await.with_context(|| {
            format!(
                "the API at {} does not answer: look at the log of {}, or wait until it has started",
                record.url, record.process
            )
        })?;
        let own = record.node.as_ref().map(|node| node.name.clone()).unwrap_or_default();
        let nodes = match record.role {
            Role::Server => api.list("/api/v1/nodes").await?,
            Role::Agent => vec![api.get(&format!("/api/v1/nodes/{own}")).await?],
        };
        let pods = match record.role {
            Role::Server => "/api/v1/pods".to_owned(),
            Role::Agent => format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{own}"),
        };
        let mut phases = BTreeMap::new();
        for pod in api.list(&pods).await? {
            let phase = pod.str_at(&["status", "phase"]).filter(|phase| !phase.is_empty()).unwrap_or("Unknown");
            *phases.entry(phase.to_owned()).or_default() += 1;
        }
        let folder = data.to_owned();
        // What keeps it from being told, such as a datastore that is away, the checks tell already.
        let store = tokio::task::spawn_blocking(move || Stats::ask(&folder)).await?.unwrap_or_else(|error| {
            tracing::warn!("the store's figures are not known: {error:#}");
            None
        });
        Ok(Report {
            pid: record.process.pid,
            uptime_seconds: record.process.age().unwrap_or_default().as_secs(),
            ready: code == 200,
            failed_checks: failed(&String::from_utf8_lossy(&body)),
            nodes: nodes.iter().map(node).collect(),
            pods: phases,
            store,
            memory: memory(&record.process),
            version: record.version,
            role: record.role,
            server: record.url,
        })
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<9} {value}");
        };
        line("version", self.version.clone());
        line("role", format!("{} (process {})", self.role, self.pid));
        line("uptime", duration(self.uptime_seconds));
        line("server", self.server.clone());
        line(
            "ready",
            match (self.ready, self.failed_checks.as_slice()) {
                (true, _) => "yes".to_owned(),
                (false, []) => "no".to_owned(),
                (false, failed) => format!("no ({} failed)", failed.join(", ")),
            },
        );
        for (index, node) in self.nodes.iter().enumerate() {
            let state = if node.ready { "Ready" } else { "NotReady" };
            let cordoned = if node.schedulable { "" } else { ", unschedulable" };
            line(if index == 0 { "nodes" } else { "" }, format!("{} {state}{cordoned}", node.name));
        }
        let pods: Vec<String> = self.pods.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        line("pods", if pods.is_empty() { "none".to_owned() } else { pods.join(", ") });
        if let Some(store) = &self.store {
            line("store", format!("{}, {} keys, revision {}", bytes(store.bytes), store.keys, store.revision));
            if store.syncs > 0 {
                let milliseconds = |time: u64| format!("{:.1} ms", time as f64 / 1000.0);
                line(
                    "",
                    format!(
                        "{} written today; {} syncs, {} on average, {} at most",
                        bytes(store.written_bytes),
                        store.syncs,
                        milliseconds(store.sync_mean_microseconds),
                        milliseconds(store.sync_longest_microseconds)
                    ),
                );
            }
            if let Some(cause) = &store.read_only {
                line("", format!("refuses writes: {cause}"));
            }
        }
        let memory = &self.memory;
        line("memory", format!("{} ({} resident)", bytes(memory.proportional_bytes), bytes(memory.resident_bytes)));
        text
    }
}

/// The API as the administrator asks it on a server, and as the node on an agent.
fn api(data: &Path, record: &Record) -> anyhow::Result<Api> {
    let folder = data.join("pki");
    let missing = || format!("the certificates in {} cannot be used", folder.display());
    match record.role {
        Role::Server => {
            // Never made here: a server that is just starting may be about to get those of a cluster.
            let hierarchy = Hierarchy::existing(&folder).with_context(|| {
                format!("there are no certificates in {} yet: wait until the server has started", folder.display())
            })?;
            let own = hierarchy.client(&Identity::Admin).with_context(missing)?;
            Api::new(&record.url, &hierarchy.ca(Authority::Server)?.bundle_pem(), &own)
        }
        Role::Agent => {
            let text = |name: &str| pki::file::read(&folder.join(name)).ok().flatten().with_context(missing);
            Api::new(&record.url, &text("server-ca.pem")?, &Credential::from_pem(&text("node.pem")?)?)
        }
    }
}

fn node(object: &Value) -> Node {
    Node {
        name: object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned(),
        ready: has_condition(object, "Ready"),
        schedulable: object.at(&["spec", "unschedulable"]).and_then(Value::as_bool) != Some(true),
    }
}

/// The checks that an answer of `/readyz?verbose` tells to fail.
fn failed(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("[-]"));
    lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn memory(process: &Process) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0) << 10
    };
    Memory { resident_bytes: field("Rss:"), proportional_bytes: field("Pss:") }
}

fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        small if small < 1024.0 => format!("{small} bytes"),
        small if small < 1024.0 * 1024.0 => format!("{:.1} KiB", small / 1024.0),
        small if small < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", small / 1024.0 / 1024.0),
        large => format!("{:.1} GiB", large / 1024.0 / 1024.0 / 1024.0),
    }
}

fn duration(seconds: u64) -> String {
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes}m"),
        (days, hours, ..) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_readable() {
        assert_eq!((bytes(12).as_str(), bytes(3 << 19).as_str()), ("12 bytes", "1.5 MiB"));
        assert_eq!((duration(61).as_str(), duration(90_000).as_str()), ("1m1s", "1d1h"));
        assert_eq!(failed("[+]ping ok\n[-]etcd failed: reason withheld\n"), ["etcd"]);
        let own = memory(&Process::current().unwrap());
        assert!(own.resident_bytes > 0 && own.proportional_bytes > 0);
    }

    #[tokio::test]
    async fn without_a_daemon_the_remedy_is_told() {
        let place = tempfile::tempdir().unwrap();
        let message = Report::gather(place.path()).await.unwrap_err().to_string();
        assert!(message.contains("is no data folder of Skiff: start a server"), "{message}");
        let data = place.path().join("data");
        drop(folder::Folder::claim(&data, Role::Server, "https://127.0.0.1:6443", None).unwrap());
        let message = Report::gather(&data).await.unwrap_err().to_string();
        assert!(message.starts_with("no server runs on the data folder"), "{message}");
    }
}
