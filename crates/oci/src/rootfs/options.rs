//! Options of mounts, as `mount` and the runtime specification write them.

use std::path::Path;

use linux::Context;
use linux::mount::{attribute, change};
use nix::mount::{MsFlags, mount};

use crate::{Error, Result};

/// What the options of a mount ask for.
#[derive(Debug)]
pub struct Options {
    pub bind: bool,
    /// The mounts below the source too.
    pub recursive: bool,
    /// Flags of a new file system.
    pub flags: MsFlags,
    set: u64,
    clear: u64,
    /// Attributes of the mounts below too.
    set_below: u64,
    clear_below: u64,
    propagation: Vec<MsFlags>,
    pub shift_users: bool,
    pub shift_below: bool,
    /// Options of the file system itself.
    pub data: Vec<String>,
}

/// How mounts below a mount spread.
pub fn propagation(name: &str) -> Option<MsFlags> {
    let (plain, recursive) = match name.strip_prefix('r') {
        Some(plain) => (plain, MsFlags::MS_REC),
        None => (name, MsFlags::empty()),
    };
    let kind = match plain {
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "private" => MsFlags::MS_PRIVATE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// A flag by name: whether it is set or cleared, and its forms for new file systems and for mounts.
fn flag(name: &str) -> Option<(bool, MsFlags, u64)> {
    Some(match name {
        "ro" => (true, MsFlags::MS_RDONLY, attribute::READ_ONLY),
        "rw" => (false, MsFlags::MS_RDONLY, attribute::READ_ONLY),
        "nosuid" => (true, MsFlags::MS_NOSUID, attribute::NO_SUID),
        "suid" => (false, MsFlags::MS_NOSUID, attribute::NO_SUID),
        "nodev" => (true, MsFlags::MS_NODEV, attribute::NO_DEV),
        "dev" => (false, MsFlags::MS_NODEV, attribute::NO_DEV),
        "noexec" => (true, MsFlags::MS_NOEXEC, attribute::NO_EXEC),
        "exec" => (false, MsFlags::MS_NOEXEC, attribute::NO_EXEC),
        "nodiratime" => (true, MsFlags::MS_NODIRATIME, attribute::NO_DIR_TIME),
        "diratime" => (false, MsFlags::MS_NODIRATIME, attribute::NO_DIR_TIME),
        "noatime" => (true, MsFlags::MS_NOATIME, attribute::NO_TIME),
        "strictatime" => (true, MsFlags::MS_STRICTATIME, attribute::STRICT_TIME),
        "relatime" => (true, MsFlags::MS_RELATIME, 0),
        "nosymfollow" => (true, MsFlags::empty(), attribute::NO_LINKS),
        "symfollow" => (false, MsFlags::empty(), attribute::NO_LINKS),
        "sync" => (true, MsFlags::MS_SYNCHRONOUS, 0),
        "async" => (false, MsFlags::MS_SYNCHRONOUS, 0),
        "dirsync" => (true, MsFlags::MS_DIRSYNC, 0),
        "mand" | "nomand" | "atime" | "norelatime" | "nostrictatime" | "loud" | "silent" | "defaults" | "iversion"
        | "noiversion" => (true, MsFlags::empty(), 0),
        _ => return None,
    })
}

impl Options {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self {
            bind: false,
            recursive: false,
            flags: MsFlags::empty(),
            set: 0,
            clear: 0,
            set_below: 0,
            clear_below: 0,
            propagation: Vec::new(),
            shift_users: false,
            shift_below: false,
            data: Vec::new(),
        };
        for option in options {
            match option.as_str() {
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                "idmap" => parsed.shift_users = true,
                "ridmap" => (parsed.shift_users, parsed.shift_below) = (true, true),
                "remount" | "tmpcopyup" => {
                    return Err(Error::spec(format!("mount option {option:?} is not supported")));
                }
                name => {
                    if let Some(propagation) = propagation(name) {
                        parsed.propagation.push(propagation);
                    } else if let Some((on, old, new)) = flag(name) {
                        parsed.flags.set(old, on);
                        merge(&mut parsed.set, &mut parsed.clear, on, new);
                    } else if let Some((on, _, new)) = name.strip_prefix('r').and_then(flag) {
                        // As `rro`: for all mounts below too.
                        merge(&mut parsed.set_below, &mut parsed.clear_below, on, new);
                    } else {
                        parsed.data.push(name.to_owned());
                    }
                }
            }
        }
        Ok(parsed)
    }

    /// The attributes of a mount to set and to clear.
    pub fn attributes(&self) -> (u64, u64) {
        let times = self.set & attribute::TIMES != 0;
        (self.set, self.clear | if times { attribute::TIMES } else { 0 })
    }

    /// Applies attributes and propagation to an attached tree.
    pub fn apply(&self, target: &Path) -> Result<()> {
        let (set, clear) = self.attributes();
        if set | clear != 0 {
            change(target, set, clear, false).context(|| "cannot change its attributes")?;
        }
        if self.set_below | self.clear_below != 0 {
            change(target, self.set_below, self.clear_below, true).context(|| "cannot change attributes below it")?;
        }
        if self.propagation.is_empty() {
            // As if it said so: a container's mounts are its own.
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(None::<&str>, target, None::<&str>, private, None::<&str>).context(|| "cannot make it private")?;
        }
        self.apply_propagation(target)
    }

    pub fn apply_propagation(&self, target: &Path) -> Result<()> {
        for propagation in &self.propagation {
            mount(None::<&str>, target, None::<&str>, *propagation, None::<&str>)
                .context(|| "cannot set its propagation")?;
        }
        Ok(())
    }
}

/// The last of several options about the same thing counts.
fn merge(set: &mut u64, clear: &mut u64, on: bool, bits: u64) {
    let (to, from) = if on { (set, clear) } else { (clear, set) };
    *to |= bits;
    *from &= !bits;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_into_what_the_kernel_takes() {
        let options = ["rbind", "rprivate", "ro", "nosuid", "rw", "rro", "noatime", "size=64k", "mode=1777"];
        let options = Options::parse(&options.map(str::to_owned)).unwrap();
        assert!(options.bind && options.recursive && options.flags.contains(MsFlags::MS_NOSUID));
        assert!(!options.flags.contains(MsFlags::MS_RDONLY));
        assert_eq!(options.set_below, attribute::READ_ONLY);
        let (set, clear) = options.attributes();
        assert_eq!(set, attribute::NO_SUID | attribute::NO_TIME);
        assert_eq!(clear, attribute::READ_ONLY | attribute::TIMES);
        assert_eq!(options.data, ["size=64k", "mode=1777"]);
        assert_eq!(propagation("rslave"), Some(MsFlags::MS_SLAVE | MsFlags::MS_REC));
        assert!(Options::parse(&["tmpcopyup".to_owned()]).is_err());
    }
}
