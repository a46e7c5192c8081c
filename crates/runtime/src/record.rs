//! What is kept on disk of each pod and container, so that another daemon can go on where this one stopped.
//!
//! ```text
//! pods/<id>/         config.pb  record.json  resolv.conf  hostname  hosts  shm/  shim/
//! containers/<id>/   config.pb  record.json  config.json (runtime specification)  upper/  work/  rootfs/  image-<n>/
//! ```
//!
//! # Why
//! None of this is flushed to disk: after a reboot nothing of it runs any more, and what a power cut tore counts as
//! unfinished and is removed. The owner of the pods makes them anew.

use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::image::content::{Digest, replace_volatile};
use crate::{Error, Result};

/// A pod's changing state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PodRecord {
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// The boot it was made in.
    pub boot_id: String,
    /// Whether it runs.
    pub ready: bool,
    /// Whether the network still has to be asked to let it go.
    pub attached: bool,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// The runtime handler asked for.
    pub handler: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not started yet.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Exited,
    /// Nobody saw what became of it.
    Unknown,
}

/// A container's changing state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The pod it belongs to.
    pub pod: String,
    /// Its image's identity.
    pub image: Digest,
    /// The name by which the status tells the image.
    pub image_ref: String,
    /// Its image's layers.
    pub chain: Vec<Digest>,
    /// The signal that asks it to stop, if the image says.
    pub image_stop_signal: String,
    /// Who it runs as.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its groups.
    pub groups: Vec<u32>,
    /// Its control group.
    pub cgroup: String,
    /// The boot it was made in.
    pub boot_id: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Nanoseconds since 1970, or 0.
    pub started_at: i64,
    /// Nanoseconds since 1970, or 0.
    pub finished_at: i64,
    /// How it ended.
    pub exit_code: i32,
    /// Why it ended, in a word.
    pub reason: String,
    /// Why it ended, in a sentence.
    pub message: String,
    /// The kernel's name of its first process.
    pub pid: u32,
}

/// Now, as the protocol counts time.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A new identity of 64 hexadecimal digits.
pub fn new_id() -> Result<String> {
    let mut random = [0; 32];
    let opened = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    opened.map_err(Error::file("/dev/urandom"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a record.
pub fn save<T: Serialize>(folder: &Path, record: &T) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::Internal(e.to_string()))?;
    replace_volatile(&folder.join("record.json"), &bytes)
}

/// Writes a configuration.
pub fn save_config(folder: &Path, config: &impl Message) -> Result<()> {
    replace_volatile(&folder.join("config.pb"), &config.encode_to_vec())
}

/// Reads a record and its configuration.
pub fn load<T: DeserializeOwned, C: Message + Default>(folder: &Path) -> Result<(T, C)> {
    let path = folder.join("record.json");
    let bytes = fs::read(&path).map_err(Error::file(&path))?;
    let record = serde_json::from_slice(&bytes).map_err(|e| Error::Internal(format!("{}: {e}", path.display())))?;
    let path = folder.join("config.pb");
    let bytes = fs::read(&path).map_err(Error::file(&path))?;
    let config = C::decode(bytes.as_slice()).map_err(|e| Error::Internal(format!("{}: {e}", path.display())))?;
    Ok((record, config))
}
