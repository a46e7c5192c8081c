//! Which devices a control group may use: lines for version 1, a BPF program for version 2.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Context, Result};

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both.
    All,
    /// Character devices.
    Character,
    /// Block devices.
    Block,
}

/// A rule about devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// The kind.
    pub kind: DeviceKind,
    /// The major number; all without.
    pub major: Option<u32>,
    /// The minor number; all without.
    pub minor: Option<u32>,
    /// About reading.
    pub read: bool,
    /// About writing.
    pub write: bool,
    /// About making nodes.
    pub make: bool,
}

impl DeviceRule {
    /// The rule as version 1 takes it.
    pub(super) fn line(&self) -> String {
        let whole = self.major.is_none() && self.minor.is_none() && self.read && self.write && self.make;
        let kind = match self.kind {
            DeviceKind::All if whole => return "a".to_owned(),
            DeviceKind::All => 'a',
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let access = [(self.read, 'r'), (self.write, 'w'), (self.make, 'm')];
        let access: String = access.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// An instruction of extended BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// The destination in the low half, the source in the high one.
    registers: u8,
    offset: i16,
    value: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

/// Registers of the program: what the rules look at, loaded once.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const ACCESS_MAKE: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, value }
}

/// The rules as a program. The last rule that fits counts, so they are tried from the last on.
fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        op(LOAD_WORD, KIND, 1, 0, 0),
        op(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, 1, 4, 0),
        op(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let access = [(rule.make, ACCESS_MAKE), (rule.read, ACCESS_READ), (rule.write, ACCESS_WRITE)];
        let access: i32 = access.into_iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
        let mut block = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => block.push(op(JUMP_NOT_EQUAL, KIND, 0, 0, 1)),
            DeviceKind::Character => block.push(op(JUMP_NOT_EQUAL, KIND, 0, 0, 2)),
        }
        let every = access == ACCESS_MAKE | ACCESS_READ | ACCESS_WRITE;
        if !every && rule.allow {
            // All that is wanted must be allowed.
            block.push(op(MOVE_REGISTER, 1, ACCESS, 0, 0));
            block.push(op(AND, 1, 0, 0, access));
            block.push(op(JUMP_NOT_EQUAL_REGISTER, 1, ACCESS, 0, 0));
        }
        if let Some(major) = rule.major {
            block.push(op(JUMP_NOT_EQUAL, MAJOR, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            block.push(op(JUMP_NOT_EQUAL, MINOR, 0, 0, minor as i32));
        }
        let mut denied = Vec::new();
        if !every && !rule.allow {
            // Any of what is wanted being denied is enough.
            const JUMP_EQUAL: u8 = 0x16;
            denied.push(op(MOVE_REGISTER, 1, ACCESS, 0, 0));
            denied.push(op(AND, 1, 0, 0, access));
            denied.push(op(JUMP_EQUAL, 1, 0, 0, 0));
        }
        block.extend(denied);
        block.push(op(MOVE, 0, 0, 0, i32::from(rule.allow)));
        block.push(op(EXIT, 0, 0, 0, 0));
        let end = block.len();
        if end == 2 {
            // Nothing gets past this rule, and the kernel refuses programs with parts that nothing reaches.
            code.extend(block);
            return code;
        }
        for (at, instruction) in block.iter_mut().enumerate() {
            if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | 0x16) {
                instruction.offset = (end - at - 1) as i16;
            }
        }
        code.extend(block);
    }
    code.extend([op(MOVE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    code
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_QUERY: i32 = 16;
const PROG_GET_FD_BY_ID: i32 = 13;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

fn bpf<T>(command: i32, attributes: &mut T) -> nix::Result<i64> {
    // SAFETY: the structure begins as the kernel defines it for this command and lives through the call, as do the
    // buffers it points to, which the callers own.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) })
}

fn own(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Puts the rules in place of those that the group had.
pub(super) fn attach(folder: &Path, rules: &[DeviceRule]) -> Result<()> {
    let group = File::open(folder).context(|| folder.display().to_string())?;
    let target = group.as_raw_fd() as u32;
    let code = assemble(rules);
    let license = c"Apache-2.0";
    let mut load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let what = || format!("cannot say which devices {} may use", folder.display());
    let program = own(bpf(PROG_LOAD, &mut load).context(what)?);
    let mut old = [0_u32; 64];
    let mut query =
        Query { target, kind: ATTACH_CGROUP_DEVICE, programs: old.as_mut_ptr() as u64, count: 64, ..Query::default() };
    bpf(PROG_QUERY, &mut query).context(what)?;
    let program = program.as_raw_fd() as u32;
    bpf(PROG_ATTACH, &mut Attach { target, program, kind: ATTACH_CGROUP_DEVICE, flags: ALLOW_MULTI }).context(what)?;
    // Only now: in between both hold, and never neither.
    for id in old.iter().take(query.count as usize) {
        let Ok(fd) = bpf(PROG_GET_FD_BY_ID, &mut ById { id: *id, ..ById::default() }) else { continue };
        let gone = own(fd);
        let program = gone.as_raw_fd() as u32;
        bpf(PROG_DETACH, &mut Attach { target, program, kind: ATTACH_CGROUP_DEVICE, flags: 0 }).context(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: DeviceRule = DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(1),
        minor: Some(3),
        read: true,
        write: true,
        make: false,
    };

    #[test]
    fn lines_are_those_of_version_1() {
        let all = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, make: true, ..NULL };
        assert_eq!(all.line(), "a");
        assert_eq!(NULL.line(), "c 1:3 rw");
        assert_eq!(DeviceRule { minor: None, write: false, ..NULL }.line(), "c 1:* r");
    }

    #[test]
    fn a_program_governs_a_group() {
        let layout = crate::cgroup::Layout::detect().unwrap();
        let name = format!("skiff-test-devices-{}", std::process::id());
        let group = crate::cgroup::Cgroup::new(layout, &name).unwrap();
        let folder = group.unified_folder().unwrap();
        std::fs::create_dir(&folder).unwrap();
        let all = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, make: true, ..NULL };
        let readable = DeviceRule { minor: Some(5), write: false, ..NULL };
        let attached = attach(&folder, &[all, NULL]).and_then(|()| attach(&folder, &[all, NULL, readable]));
        let child = attached.as_ref().ok().map(|()| {
            let inside = folder.join("cgroup.procs");
            crate::process::fork(move || {
                std::fs::write(&inside, "0").unwrap();
                let open =
                    |path: &str, write: bool| std::fs::OpenOptions::new().read(!write).write(write).open(path).is_ok();
                let seen = [
                    open("/dev/null", true),
                    open("/dev/null", false),
                    open("/dev/zero", false),
                    open("/dev/zero", true),
                ];
                let others = open("/dev/urandom", false);
                if seen == [true, true, true, false] && !others { 0 } else { 1 }
            })
        });
        let ended = child.map(|pid| nix::sys::wait::waitpid(pid.unwrap(), None).unwrap());
        std::fs::remove_dir(&folder).unwrap();
        attached.unwrap();
        assert!(matches!(ended, Some(nix::sys::wait::WaitStatus::Exited(_, 0))), "{ended:?}");
    }
}
