//! Capabilities: names, sets, and giving them up.

use std::io;

use nix::errno::Errno;

/// The names of all capabilities, by number.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Adds one by name, with or without `CAP_`, in any case; tells whether there is one.
    pub fn add(&mut self, name: &str) -> bool {
        let name = name.to_ascii_uppercase();
        let short = name.strip_prefix("CAP_").unwrap_or(&name);
        let number = NAMES.iter().position(|known| &known[4..] == short);
        if let Some(number) = number {
            self.0 |= 1 << number;
        }
        number.is_some()
    }

    /// Whether it holds a capability by number.
    pub fn contains(self, number: usize) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// The most that any program executed from now on can get.
    pub bounding: Set,
    /// What counts now.
    pub effective: Set,
    /// What may be made to count.
    pub permitted: Set,
    /// What programs with file capabilities may inherit.
    pub inheritable: Set,
    /// What every program without privileges of its own keeps.
    pub ambient: Set,
}

/// The sets of the calling process.
pub fn current() -> io::Result<Sets> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Set(line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0))
    };
    Ok(Sets {
        bounding: set("CapBnd"),
        effective: set("CapEff"),
        permitted: set("CapPrm"),
        inheritable: set("CapInh"),
        ambient: set("CapAmb"),
    })
}

/// Drops from the bounding set what is not in `kept`.
pub fn limit_bounding(kept: Set) -> io::Result<()> {
    for number in 0..64 {
        if kept.contains(number) {
            continue;
        }
        // SAFETY: takes integers.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) }) {
            // Past the last capability that the kernel knows.
            Err(Errno::EINVAL) => break,
            other => other?,
        };
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets all but the bounding set of the calling thread.
pub fn set(sets: &Sets) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: both structures are as the kernel defines them for this version and live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) })?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: takes integers.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) })?;
    for number in (0..NAMES.len()).filter(|number| sets.ambient.contains(*number)) {
        let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
        // SAFETY: takes integers.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number as libc::c_ulong, 0, 0) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_form() {
        let mut set = Set::default();
        assert!(set.add("CAP_CHOWN") && set.add("net_raw") && set.add("Cap_Bpf"));
        assert_eq!(set.0, 1 | 1 << 13 | 1 << 39);
        assert!(!set.add("CAP_FLY"));
        assert_ne!(current().unwrap().bounding, Set::default());
    }
}
