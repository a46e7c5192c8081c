//! A file system in memory, mounted through FUSE, that records every change and every sync in the order in which the
//! kernel asked for them. It can also misbehave as disks do.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use wire::{Answer, Arguments};

/// What happened, in order. Files and folders are known by number; the root is 1.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        parent: u64,
        name: String,
        ino: u64,
        folder: bool,
    },
    Remove {
        parent: u64,
        name: String,
    },
    Rename {
        parent: u64,
        name: String,
        to: u64,
        new: String,
    },
    Link {
        ino: u64,
        parent: u64,
        name: String,
    },
    Truncate {
        ino: u64,
        size: u64,
    },
    Write {
        ino: u64,
        offset: u64,
        data: Vec<u8>,
    },
    /// Of a file or a folder.
    Sync {
        ino: u64,
    },
    /// A note of whoever uses the file system.
    Note(String),
}

/// How the disk misbehaves.
#[derive(Default)]
pub struct Faults {
    /// The next syncs fail.
    pub fail_syncs: AtomicBool,
    /// Syncs take so many milliseconds longer.
    pub stall: AtomicU64,
    /// No room is left.
    pub full: AtomicBool,
    /// Syncs of a write-ahead log (`*.log`) are answered at once and not recorded: a store without its fsync.
    pub ignore_log_syncs: AtomicBool,
}

struct Node {
    /// Entries of a folder.
    entries: Option<BTreeMap<String, u64>>,
    data: Vec<u8>,
    mode: u32,
    links: u32,
}

struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    log: Vec<Op>,
    /// Files that are write-ahead logs.
    logs: BTreeSet<u64>,
}

/// A mounted file system; dropping it unmounts.
pub struct Mounted {
    state: Arc<Mutex<State>>,
    pub faults: Arc<Faults>,
    path: PathBuf,
    threads: Vec<std::thread::JoinHandle<()>>,
}

const ROOT: u64 = 1;
const MAX_WRITE: usize = 128 << 10;

impl Mounted {
    /// Mounts an empty file system on a folder. Needs the right to mount.
    pub fn new(path: &Path) -> Mounted {
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&device);
        let options = format!("fd={descriptor},rootmode=40755,user_id=0,group_id=0");
        mount(Some("recorder"), path, Some("fuse"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
            .unwrap();
        let root = Node { entries: Some(BTreeMap::new()), data: Vec::new(), mode: 0o40755, links: 2 };
        let state = State { nodes: BTreeMap::from([(ROOT, root)]), next: 2, log: Vec::new(), logs: BTreeSet::new() };
        let (state, faults) = (Arc::new(Mutex::new(state)), Arc::new(Faults::default()));
        // Two, so that a stalled sync holds nobody else up.
        let threads = (0..2).map(|_| {
            let (mut device, state, faults) = (device.try_clone().unwrap(), state.clone(), faults.clone());
            std::thread::spawn(move || serve(&mut device, &state, &faults))
        });
        let threads = threads.collect();
        Mounted { state, faults, path: path.to_owned(), threads }
    }

    /// Puts a note into the record.
    pub fn note(&self, text: String) {
        self.state.lock().unwrap().log.push(Op::Note(text));
    }

    pub fn folder(&self) -> &Path {
        &self.path
    }

    pub fn record(&self) -> Vec<Op> {
        self.state.lock().unwrap().log.clone()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(device: &mut File, state: &Mutex<State>, faults: &Faults) {
    let mut buffer = vec![0; MAX_WRITE + 4096];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::EINTR | Errno::EAGAIN | Errno::ENOENT => continue,
                // Unmounted.
                _ => return,
            },
        };
        let mut arguments = Arguments::new(&buffer[..length]);
        let (_, opcode, unique, ino) = (arguments.u32(), arguments.u32(), arguments.u64(), arguments.u64());
        arguments.skip(16);
        let answer = match handle(opcode, ino, &mut arguments, state, faults) {
            Ok(Some(answer)) => wire::reply(unique, 0, answer.bytes()),
            Ok(None) => continue,
            Err(errno) => wire::reply(unique, -(errno as i32), &[]),
        };
        // The asker may be gone.
        let _ = device.write_all(&answer);
    }
}

fn handle(
    opcode: u32,
    ino: u64,
    arguments: &mut Arguments<'_>,
    state: &Mutex<State>,
    faults: &Faults,
) -> Result<Option<Answer>, Errno> {
    if matches!(opcode, wire::FSYNC | wire::FSYNCDIR) {
        std::thread::sleep(Duration::from_millis(faults.stall.load(Ordering::SeqCst)));
        if faults.fail_syncs.load(Ordering::SeqCst) {
            return Err(Errno::EIO);
        }
        let mut state = state.lock().unwrap();
        if !(faults.ignore_log_syncs.load(Ordering::SeqCst) && state.logs.contains(&ino)) {
            state.log.push(Op::Sync { ino });
        }
        return Ok(Some(Answer::default()));
    }
    let full = faults.full.load(Ordering::SeqCst);
    let mut state = state.lock().unwrap();
    let state = &mut *state;
    let answer = match opcode {
        wire::INIT => wire::init(arguments, MAX_WRITE as u32),
        wire::FORGET | wire::BATCH_FORGET | wire::INTERRUPT => return Ok(None),
        wire::LOOKUP => {
            let name = arguments.name();
            let found = *state.folder(ino)?.get(&name).ok_or(Errno::ENOENT)?;
            state.entry(found)?
        }
        wire::GETATTR => state.attributes(ino)?,
        wire::SETATTR => {
            let valid = arguments.u32();
            arguments.skip(12);
            let size = arguments.u64();
            arguments.skip(8 + 24 + 12);
            let mode = arguments.u32();
            let node = state.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?;
            if valid & wire::SET_MODE != 0 {
                node.mode = (node.mode & 0o170000) | (mode & 0o7777);
            }
            if valid & wire::SET_SIZE != 0 {
                node.data.resize(size as usize, 0);
                state.log.push(Op::Truncate { ino, size });
            }
            state.attributes(ino)?
        }
        wire::MKDIR => {
            let mode = arguments.u32();
            arguments.skip(4);
            let made = state.make(ino, arguments.name(), 0o40000 | (mode & 0o7777), true)?;
            state.entry(made)?
        }
        wire::CREATE => {
            if full {
                return Err(Errno::ENOSPC);
            }
            arguments.skip(4);
            let mode = arguments.u32();
            arguments.skip(8);
            let made = state.make(ino, arguments.name(), 0o100000 | (mode & 0o7777), false)?;
            let mut answer = state.entry(made)?;
            answer.opened();
            answer
        }
        wire::UNLINK | wire::RMDIR => {
            let name = arguments.name();
            let gone = *state.folder(ino)?.get(&name).ok_or(Errno::ENOENT)?;
            if opcode == wire::RMDIR && !state.folder(gone)?.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            state.folder(ino)?.remove(&name);
            // Data stays for those who have it open; a run is short.
            if let Some(node) = state.nodes.get_mut(&gone) {
                node.links = node.links.saturating_sub(1);
            }
            state.log.push(Op::Remove { parent: ino, name });
            Answer::default()
        }
        wire::RENAME | wire::RENAME2 => {
            let to = arguments.u64();
            if opcode == wire::RENAME2 {
                let flags = arguments.u32();
                arguments.skip(4);
                if flags != 0 {
                    return Err(Errno::EINVAL);
                }
            }
            let (name, new) = (arguments.name(), arguments.name());
            let moved = state.folder(ino)?.remove(&name).ok_or(Errno::ENOENT)?;
            state.folder(to)?.insert(new.clone(), moved);
            state.log.push(Op::Rename { parent: ino, name, to, new });
            Answer::default()
        }
        wire::LINK => {
            let old = arguments.u64();
            let name = arguments.name();
            if state.folder(ino)?.insert(name.clone(), old).is_some() {
                return Err(Errno::EEXIST);
            }
            state.nodes.get_mut(&old).ok_or(Errno::ENOENT)?.links += 1;
            state.log.push(Op::Link { ino: old, parent: ino, name });
            state.entry(old)?
        }
        wire::OPEN | wire::OPENDIR => {
            let mut answer = Answer::default();
            answer.opened();
            answer
        }
        wire::READ => {
            arguments.skip(8);
            let (offset, size) = (arguments.u64() as usize, arguments.u32() as usize);
            let data = &state.nodes.get(&ino).ok_or(Errno::ENOENT)?.data;
            let start = offset.min(data.len());
            Answer::of(data[start..(start + size).min(data.len())].to_vec())
        }
        wire::WRITE => {
            if full {
                return Err(Errno::ENOSPC);
            }
            arguments.skip(8);
            let (offset, size) = (arguments.u64(), arguments.u32() as usize);
            arguments.skip(20);
            let data = arguments.rest()[..size].to_vec();
            let node = state.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?;
            let end = offset as usize + size;
            if node.data.len() < end {
                node.data.resize(end, 0);
            }
            node.data[offset as usize..end].copy_from_slice(&data);
            state.log.push(Op::Write { ino, offset, data });
            wire::written(size as u32)
        }
        wire::STATFS => wire::room(if full { 0 } else { 1 << 20 }),
        wire::RELEASE | wire::RELEASEDIR | wire::FLUSH | wire::DESTROY => Answer::default(),
        wire::READDIR => {
            arguments.skip(8);
            let (offset, size) = (arguments.u64() as usize, arguments.u32() as usize);
            let entries = state.folder(ino)?.clone();
            let mut answer = Answer::default();
            for (n, (name, child)) in entries.into_iter().enumerate().skip(offset) {
                let folder = state.nodes.get(&child).is_some_and(|node| node.entries.is_some());
                if !answer.listed(child, n as u64 + 1, &name, folder, size) {
                    break;
                }
            }
            answer
        }
        wire::FALLOCATE => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOSYS),
    };
    Ok(Some(answer))
}

impl State {
    fn folder(&mut self, ino: u64) -> Result<&mut BTreeMap<String, u64>, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?.entries.as_mut().ok_or(Errno::ENOTDIR)
    }

    fn make(&mut self, parent: u64, name: String, mode: u32, folder: bool) -> Result<u64, Errno> {
        let ino = self.next;
        if self.folder(parent)?.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        self.folder(parent)?.insert(name.clone(), ino);
        self.next += 1;
        if name.ends_with(".log") {
            self.logs.insert(ino);
        }
        let entries = folder.then(BTreeMap::new);
        self.nodes.insert(ino, Node { entries, data: Vec::new(), mode, links: 1 });
        self.log.push(Op::Create { parent, name, ino, folder });
        Ok(ino)
    }

    fn entry(&self, ino: u64) -> Result<Answer, Errno> {
        let node = self.nodes.get(&ino).ok_or(Errno::ENOENT)?;
        Ok(wire::entry(ino, node.data.len() as u64, node.mode, node.links))
    }

    fn attributes(&self, ino: u64) -> Result<Answer, Errno> {
        let node = self.nodes.get(&ino).ok_or(Errno::ENOENT)?;
        Ok(wire::attributes(ino, node.data.len() as u64, node.mode, node.links))
    }
}
