//! Devices of a container, and the rules of its control group about them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::spec::Input;
use crate::{Error, Result};

struct Node {
    path: String,
    kind: &'static str,
    major: u64,
    minor: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    access: String,
}

/// The device nodes to make.
pub(super) fn build(input: &Input<'_>) -> Result<Vec<Value>> {
    let nodes = nodes(input)?.into_iter().map(|node| {
        json!({"path": node.path, "type": node.kind, "major": node.major, "minor": node.minor,
            "fileMode": node.mode, "uid": node.uid, "gid": node.gid})
    });
    Ok(nodes.collect())
}

/// What the control group allows.
pub(super) fn rules(input: &Input<'_>) -> Result<Vec<Value>> {
    if input.privileged() {
        return Ok(vec![json!({"allow": true, "access": "rwm"})]);
    }
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx and the terminals behind it.
    let usual = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    for (major, minor) in usual {
        rules.push(json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}));
    }
    rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    for node in nodes(input)? {
        rules.push(
            json!({"allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.access}),
        );
    }
    Ok(rules)
}

fn nodes(input: &Input<'_>) -> Result<Vec<Node>> {
    let mut found = Vec::new();
    if input.privileged() {
        collect(Path::new("/dev"), "/dev", "rwm", &mut found, 0)?;
        return Ok(found);
    }
    for device in &input.config.devices {
        let access = if device.permissions.is_empty() { "rwm" } else { device.permissions.as_str() };
        if access.len() > 3 || !access.chars().all(|c| "rwm".contains(c)) {
            return Err(Error::Invalid(format!("device permissions {access:?} are not some of r, w and m")));
        }
        let inside = if device.container_path.is_empty() { &device.host_path } else { &device.container_path };
        let before = found.len();
        collect(Path::new(&device.host_path), inside, access, &mut found, 0)?;
        if found.len() == before {
            return Err(Error::Invalid(format!("{} is no device", device.host_path)));
        }
    }
    Ok(found)
}

/// Adds a device, or all below a folder but those that every container has of its own.
fn collect(path: &Path, inside: &str, access: &str, found: &mut Vec<Node>, depth: usize) -> Result<()> {
    const OWN: [&str; 6] = ["pts", "shm", "mqueue", "fd", ".lxc", "console"];
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        // Links to nothing and nodes that go away meanwhile are not the container's fault, unless it named them.
        Err(_) if depth > 0 => return Ok(()),
        Err(e) => return Err(Error::Invalid(format!("device {}: {e}", path.display()))),
    };
    let kind = meta.file_type();
    if kind.is_dir() && depth < 4 {
        if depth > 0 && fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(Error::file(path))?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if !OWN.contains(&name) {
                collect(&entry.path(), &format!("{inside}/{name}"), access, found, depth + 1)?;
            }
        }
        return Ok(());
    }
    let kind = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => "c",
        (_, true) => "b",
        _ => return Ok(()),
    };
    if depth > 0 && fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) {
        return Ok(());
    }
    found.push(Node {
        path: inside.to_owned(),
        kind,
        major: u64::from(rustix::fs::major(meta.rdev())),
        minor: u64::from(rustix::fs::minor(meta.rdev())),
        mode: meta.mode() & 0o777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    });
    Ok(())
}
