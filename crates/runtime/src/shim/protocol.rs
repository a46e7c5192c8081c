//! What daemon and shim say to each other: frames of JSON over a unix socket, with descriptors beside them.
//!
//! ```text
//! frame   := length of the body (u32, little endian) · number of descriptors (u32) · body
//! daemon → shim   Call { id, request }
//! shim → daemon   Message::Answer { id, … } | Message::Event(…)
//! ```
//!
//! # Why
//! A shim lives longer than the daemon that made it, so both sides of an upgrade must understand each other: the
//! first call is [`Request::Hello`] with the daemon's version, fields are only ever added, and a shim answers the
//! versions from [`OLDEST`] on. JSON needs no schema compiler, and a frame is small and rare.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxResources, Process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the protocol that this program speaks.
pub const VERSION: u32 = 1;
/// The oldest version that a shim of this program still understands.
pub const OLDEST: u32 = 1;
/// The longest body of a frame.
pub const MAX_FRAME: usize = 4 << 20;
const HEADER: usize = 8;

/// How a shim is started; handed to `skiff shim` as JSON on its standard input.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// The pod's identity.
    pub pod: String,
    /// The socket to listen on; its folder exists, and the path has at most 107 bytes.
    pub socket: PathBuf,
    /// The folder for what must outlive the shim (exit codes, process numbers); made if missing. Take
    /// `<pod folder>/shim`.
    pub folder: PathBuf,
    /// The control group that the shim itself moves to, out of the daemon's; it stays where it is if empty.
    pub cgroup: String,
    /// Makes a network namespace for the pod; without, it has the host's.
    pub own_network: bool,
    /// Makes an IPC namespace for the pod.
    pub own_ipc: bool,
    /// Makes a UTS namespace for the pod.
    pub own_uts: bool,
    /// Makes a process namespace that the pod's containers may join, with a child like `pause` in it.
    pub shared_pid: bool,
    /// Makes a user namespace for the pod with these mappings, if there are any.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// Its groups.
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// The host name of the pod's UTS namespace.
    pub hostname: String,
    /// The NIS domain name of the pod's UTS namespace.
    pub domainname: String,
    /// Kernel settings of the pod's network and IPC namespaces, by their dotted names.
    pub sysctls: Vec<(String, String)>,
}

/// Where the namespaces that a pod's containers share are found; none where the pod has the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Network.
    pub network: Option<PathBuf>,
    /// System V IPC and POSIX message queues.
    pub ipc: Option<PathBuf>,
    /// Host name.
    pub uts: Option<PathBuf>,
    /// Processes, if the pod's containers share them.
    pub pid: Option<PathBuf>,
    /// Users.
    pub user: Option<PathBuf>,
}

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// Comes back with the answer.
    pub id: u64,
    /// What to do.
    pub request: Request,
}

/// What a daemon asks a shim to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first call of a connection; from then on the shim sends events.
    Hello {
        /// The daemon's version of the protocol.
        version: u32,
    },
    /// Tells all state once more.
    State,
    /// Makes a container up to, but not including, the execution of its program.
    Create(Create),
    /// Executes a created container's program.
    Start {
        /// The container.
        container: String,
    },
    /// Runs another process in a running container. Without a terminal three descriptors come with the frame:
    /// standard input, output and error. With one, the answer brings the master side of the terminal.
    Exec {
        /// The container.
        container: String,
        /// The name of this process, unique in the container.
        exec: String,
        /// What to run.
        process: Box<Process>,
    },
    /// Sends a signal.
    Kill {
        /// The container.
        container: String,
        /// A process of [`Request::Exec`]; the container's first process without.
        #[serde(default)]
        exec: Option<String>,
        /// The signal's number.
        signal: i32,
        /// To every process in the container.
        #[serde(default)]
        all: bool,
    },
    /// Removes a container that does not run from the shim, with its control group. One whose program was not executed
    /// yet is killed.
    Delete {
        /// The container.
        container: String,
    },
    /// Hands over new ends of a container's streams: the answer brings those asked for, in this order.
    Attach {
        /// The container.
        container: String,
        /// A pipe to standard input.
        stdin: bool,
        /// A pipe from standard output, or the terminal.
        stdout: bool,
        /// A pipe from standard error; a terminal has none.
        stderr: bool,
    },
    /// Changes the size of a container's terminal.
    Resize {
        /// The container.
        container: String,
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Opens a container's log again by its name, after it was renamed.
    ReopenLog {
        /// The container.
        container: String,
    },
    /// Changes a container's limits; what is not given stays.
    Update {
        /// The container.
        container: String,
        /// The new limits.
        resources: Box<LinuxResources>,
    },
    /// Connects to a port on the pod's loopback; the answer brings a TCP socket that may still be connecting.
    Dial {
        /// The port.
        port: u16,
        /// To `::1` rather than `127.0.0.1`.
        #[serde(default)]
        ipv6: bool,
    },
    /// Kills what runs, lets the namespaces go, removes the socket and ends.
    Shutdown,
}

/// A container to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// Its identity.
    pub container: String,
    /// The folder with its `config.json`.
    pub bundle: PathBuf,
    /// Where to write its log in CRI's format; none is written without.
    pub log: Option<PathBuf>,
    /// Gives it a standard input that can be attached to; otherwise it is empty.
    pub stdin: bool,
    /// Closes its standard input when the first one attached to it ends.
    pub stdin_once: bool,
}

/// What a shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to a call.
    Answer {
        /// The call's number.
        id: u64,
        /// What came out.
        result: Result<Answer, Failure>,
    },
    /// Something happened.
    Event(Event),
}

/// What came out of a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// A process was made.
    Process {
        /// Its number on the host.
        pid: u32,
    },
    /// All state.
    State(PodState),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no such container or process.
    NotFound,
    /// The call makes no sense.
    Invalid,
    /// The container is in a state that does not allow it.
    State,
    /// It exists.
    Exists,
    /// It took too long.
    Timeout,
    /// The container could not be made or its program not be run.
    Start,
    /// The daemon's version is too old.
    Version,
    /// Anything else.
    Failed,
}

/// All that a shim knows; a daemon that connects learns from it what it missed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodState {
    /// The shim's version of the protocol.
    pub version: u32,
    /// The pod.
    pub pod: String,
    /// The shim's process number.
    pub pid: u32,
    /// Where the pod's namespaces are.
    pub namespaces: Namespaces,
    /// Its containers, also those that have ended and were not deleted.
    pub containers: Vec<ContainerState>,
}

/// What a shim knows of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its identity.
    pub container: String,
    /// The number of its first process on the host.
    pub pid: u32,
    /// Its control group, as in its specification.
    #[serde(default)]
    pub cgroup: String,
    /// Whether its program was executed, and when, in nanoseconds since 1970.
    pub started_at: Option<i64>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
}

/// Something that happened in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A container's program was executed.
    Started {
        /// The container.
        container: String,
        /// The number of its first process on the host.
        pid: u32,
    },
    /// A container has ended; its output is in the log by now.
    Exited {
        /// The container.
        container: String,
        /// How.
        exit: ExitStatus,
    },
    /// A process of [`Request::Exec`] has ended.
    ExecExited {
        /// The container.
        container: String,
        /// The process.
        exec: String,
        /// How.
        exit: ExitStatus,
    },
    /// The kernel killed a process of a container for want of memory.
    OutOfMemory {
        /// The container.
        container: String,
    },
}

/// Why a frame could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is longer than anything meant.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// Its descriptors did not come with it.
    #[error("a frame lacks its descriptors")]
    MissingDescriptors,
    /// Its body is not what was expected.
    #[error("a frame is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A frame's bytes.
pub fn encode<T: Serialize>(body: &T, descriptors: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, body)?;
    let length = bytes.len() - HEADER;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[4..HEADER].copy_from_slice(&(descriptors as u32).to_le_bytes());
    Ok(bytes)
}

/// Puts frames together from what a socket yields.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        self.bytes.extend_from_slice(bytes);
        self.descriptors.extend(descriptors);
    }

    /// Takes the next whole frame out.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [l0, l1, l2, l3, d0, d1, d2, d3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let descriptors = u32::from_le_bytes([d0, d1, d2, d3]) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        let body = serde_json::from_slice(body)?;
        // The kernel delivers descriptors no later than the bytes they were sent with.
        if self.descriptors.len() < descriptors {
            return Err(FrameError::MissingDescriptors);
        }
        let descriptors = self.descriptors.drain(..descriptors).collect();
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            // An idle shim keeps no buffers.
            self.bytes = Vec::new();
        }
        Ok(Some((body, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut() {
        let call = Call { id: 7, request: Request::Kill { container: "c".into(), exec: None, signal: 9, all: true } };
        let mut bytes = encode(&call, 0).unwrap();
        bytes.extend(encode(&Call { id: 8, request: Request::State }, 0).unwrap());
        let mut decoder = Decoder::default();
        let mut ids = Vec::new();
        for byte in bytes {
            decoder.push(&[byte], Vec::new());
            while let Some((call, fds)) = decoder.take::<Call>().unwrap() {
                assert!(fds.is_empty());
                ids.push(call.id);
            }
        }
        assert_eq!(ids, [7, 8]);
    }

    #[test]
    fn bad_frames_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes(), Vec::new());
        decoder.push(&[0; 4], Vec::new());
        assert!(matches!(decoder.take::<Call>(), Err(FrameError::TooLong(_))));
        let mut decoder = Decoder::default();
        decoder.push(&encode(&Call { id: 1, request: Request::State }, 2).unwrap(), Vec::new());
        assert!(matches!(decoder.take::<Call>(), Err(FrameError::MissingDescriptors)));
        let mut decoder = Decoder::default();
        decoder.push(&encode(&"nonsense", 0).unwrap(), Vec::new());
        assert!(matches!(decoder.take::<Call>(), Err(FrameError::Malformed(_))));
    }
}
