//! Who a container's processes run as, by the image's own passwd and group files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{Error, Result};

/// The most that is read of a passwd or group file, which the image wrote.
const MAX_FILE: u64 = 16 << 20;

/// A resolved user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All other groups, with the primary one, in order.
    pub groups: Vec<u32>,
    /// Home directory; empty if the image does not know the user.
    pub home: String,
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Finds the user that the request, or else the image, asks for.
pub fn resolve(rootfs: &Path, security: &LinuxContainerSecurityContext, image_user: &str) -> Result<User> {
    let id =
        |value: i64| u32::try_from(value).map_err(|_| Error::Invalid(format!("user or group {value} is out of range")));
    let user = match (&security.run_as_username, &security.run_as_user) {
        (name, _) if !name.is_empty() => name.clone(),
        (_, Some(uid)) => id(uid.value)?.to_string(),
        _ => String::new(),
    };
    let wanted = match (&security.run_as_group, user.is_empty()) {
        (Some(_), true) => return Err(Error::Invalid("a group to run as needs a user to run as".to_owned())),
        (Some(gid), false) => format!("{user}:{}", id(gid.value)?),
        (None, true) => image_user.to_owned(),
        (None, false) => user,
    };
    let (accounts, groups) = (accounts(rootfs)?, groups(rootfs)?);
    let mut found = lookup(&accounts, &groups, &wanted)?;
    let strict = security.supplemental_groups_policy == SupplementalGroupsPolicy::Strict as i32;
    let mut all = BTreeSet::from([found.gid]);
    let mut order = vec![found.gid];
    let from_image = groups
        .iter()
        .filter(|group| !strict && accounts.iter().any(|a| a.uid == found.uid && group.members.contains(&a.name)));
    let from_image: Vec<u32> = from_image.map(|group| group.gid).collect();
    let asked = security.supplemental_groups.iter().map(|gid| id(*gid)).collect::<Result<Vec<_>>>()?;
    for gid in from_image.into_iter().chain(asked) {
        if all.insert(gid) {
            order.push(gid);
        }
    }
    found.groups = order;
    Ok(found)
}

fn lookup(accounts: &[Account], groups: &[Group], wanted: &str) -> Result<User> {
    let (user, group) = wanted.split_once(':').unwrap_or((wanted, ""));
    let user = if user.is_empty() { "0" } else { user };
    let account = match user.parse::<u32>() {
        Ok(uid) => accounts.iter().find(|account| account.uid == uid),
        Err(_) => accounts.iter().find(|account| account.name == user),
    };
    let mut found = match (account, user.parse::<u32>()) {
        (Some(account), _) => {
            User { uid: account.uid, gid: account.gid, groups: Vec::new(), home: account.home.clone() }
        }
        (None, Ok(uid)) => User { uid, ..User::default() },
        (None, Err(_)) => return Err(Error::Invalid(format!("the image has no user {user:?}"))),
    };
    if !group.is_empty() {
        let by_name = || groups.iter().find(|g| g.name == group).map(|g| g.gid);
        found.gid = group
            .parse()
            .ok()
            .or_else(by_name)
            .ok_or_else(|| Error::Invalid(format!("the image has no group {group:?}")))?;
    }
    Ok(found)
}

/// The text of a file inside the image; links do not lead out of it, and a missing file is empty.
fn text(rootfs: &Path, name: &str) -> Result<String> {
    let failed =
        |e: rustix::io::Errno| Error::Io { what: format!("cannot read {name} of the image"), source: e.into() };
    let root =
        rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    // Not blocking: the image could have put a FIFO there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat2(&root, name, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(e) => return Err(failed(e)),
    };
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(Error::file(name))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn accounts(rootfs: &Path) -> Result<Vec<Account>> {
    let text = text(rootfs, "etc/passwd")?;
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let (name, _, uid, gid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let home = parts.nth(1).unwrap_or_default().to_owned();
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    });
    Ok(lines.collect())
}

fn groups(rootfs: &Path) -> Result<Vec<Group>> {
    let text = text(rootfs, "etc/group")?;
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let (name, _, gid) = (parts.next()?, parts.next()?, parts.next()?);
        let members = parts.next().unwrap_or_default().split(',').map(|m| m.trim().to_owned()).collect();
        Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members })
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::Int64Value;

    fn image() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\nbroken\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), "root:x:0:\nalice:x:1001:\nextra:x:50000:bob,alice\n").unwrap();
        root
    }

    #[test]
    fn names_and_numbers_are_found_in_the_image() {
        let root = image();
        let none = LinuxContainerSecurityContext::default();
        let alice = resolve(root.path(), &none, "alice").unwrap();
        assert_eq!((alice.uid, alice.gid, alice.groups.as_slice()), (1000, 1001, &[1001, 50000][..]));
        assert_eq!(alice.home, "/home/alice");
        assert_eq!(resolve(root.path(), &none, "1000:extra").unwrap().gid, 50000);
        assert_eq!(resolve(root.path(), &none, "77").unwrap().gid, 0);
        assert_eq!(resolve(root.path(), &none, "").unwrap().uid, 0);
        assert!(resolve(root.path(), &none, "mallory").is_err());
    }

    #[test]
    fn strict_groups_leave_the_image_out() {
        let root = image();
        let context = LinuxContainerSecurityContext {
            run_as_user: Some(Int64Value { value: 1000 }),
            supplemental_groups: vec![60000],
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict as i32,
            ..Default::default()
        };
        assert_eq!(resolve(root.path(), &context, "").unwrap().groups, [1001, 60000]);
        let merged = LinuxContainerSecurityContext { supplemental_groups_policy: 0, ..context };
        assert_eq!(resolve(root.path(), &merged, "").unwrap().groups, [1001, 50000, 60000]);
    }
}
