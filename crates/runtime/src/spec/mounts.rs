//! What is mounted into a container.

use std::fs;
use std::path::Path;

use cri::v1::{Mount, MountPropagation, NamespaceMode};
use serde_json::{Value, json};

use crate::spec::{Host, Input, pod_namespace_options};
use crate::{Error, Result};

/// The mounts of a container in the order to make them, and the propagation of its root.
pub(super) fn build(host: &Host, input: &Input<'_>) -> Result<(Vec<Value>, &'static str)> {
    let mut asked = Vec::new();
    let mut root_propagation = "rprivate";
    for mount in &input.config.mounts {
        let (value, propagation) = one(input, mount)?;
        root_propagation = match (root_propagation, propagation) {
            ("rshared", _) | (_, "rshared") => "rshared",
            ("rslave", _) | (_, "rslave") => "rslave",
            _ => root_propagation,
        };
        asked.push((clean(&mount.container_path), value));
    }
    // A parent comes before what is mounted inside it.
    asked.sort_by_key(|(path, _)| path.matches('/').count());
    let mut mounts: Vec<Value> = usual(host, input)
        .into_iter()
        .filter(|mount| !asked.iter().any(|(path, _)| mount["destination"] == json!(path)))
        .collect();
    mounts.extend(asked.into_iter().map(|(_, value)| value));
    Ok((mounts, root_propagation))
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

fn usual(host: &Host, input: &Input<'_>) -> Vec<Value> {
    let privileged = input.privileged();
    let sys_mode = if privileged { "rw" } else { "ro" };
    let options = pod_namespace_options(input.pod);
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys_mode]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", sys_mode]}),
    ];
    // Joined user namespaces may not mount the host's sysfs, and see the host's network there anyway.
    if host.unified_cgroups && input.namespaces.user.is_some() && input.namespaces.network.is_none() {
        mounts[4] = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    }
    let shm = if options.ipc == NamespaceMode::Node as i32 {
        Path::new("/dev/shm").to_owned()
    } else {
        input.pod_folder.join("shm")
    };
    mounts.push(
        json!({"destination": "/dev/shm", "type": "bind", "source": shm, "options": ["rbind", "rprivate", "rw"]}),
    );
    let mode = if super::security(input.config).readonly_rootfs { "ro" } else { "rw" };
    for (name, destination) in
        [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
    {
        let source = input.pod_folder.join(name);
        if source.exists() {
            let options = ["rbind", "rprivate", mode];
            mounts.push(json!({"destination": destination, "type": "bind", "source": source, "options": options}));
        }
    }
    mounts
}

fn one(input: &Input<'_>, mount: &Mount) -> Result<(Value, &'static str)> {
    if !mount.container_path.starts_with('/') || mount.container_path.split('/').any(|part| part == "..") {
        return Err(Error::Invalid(format!("mount path {:?} is not an absolute, plain path", mount.container_path)));
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(Error::Unsupported("a mount with its own ID mappings".to_owned()));
    }
    if mount.selinux_relabel && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::Unsupported("relabelling mounts for SELinux".to_owned()));
    }
    let destination = clean(&mount.container_path);
    let mut options = vec!["rbind".to_owned()];
    if let Some(image) = input.image_mounts.get(&mount.container_path) {
        options.extend(["ro".to_owned(), "rprivate".to_owned()]);
        return Ok((
            json!({"destination": destination, "type": "bind", "source": image, "options": options}),
            "rprivate",
        ));
    }
    if !mount.host_path.starts_with('/') {
        return Err(Error::Invalid(format!("host path {:?} is not absolute", mount.host_path)));
    }
    let source = match fs::canonicalize(&mount.host_path) {
        Ok(path) => path,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(&mount.host_path).map_err(Error::file(&mount.host_path))?;
            fs::canonicalize(&mount.host_path).map_err(Error::file(&mount.host_path))?
        }
        Err(e) => return Err(Error::File { path: mount.host_path.clone().into(), source: e }),
    };
    let propagation = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationPrivate) => "rprivate",
        Ok(MountPropagation::PropagationHostToContainer) => {
            require_propagation(&source, &["shared:", "master:"], "a shared or slave")?;
            "rslave"
        }
        Ok(MountPropagation::PropagationBidirectional) => {
            require_propagation(&source, &["shared:"], "a shared")?;
            "rshared"
        }
        Err(_) => return Err(Error::Invalid(format!("mount propagation {} is unknown", mount.propagation))),
    };
    options.push(propagation.to_owned());
    options.extend(mount.mount_options.iter().cloned());
    options.push(match (mount.readonly, mount.recursive_read_only) {
        (true, true) if propagation == "rprivate" => "rro".to_owned(),
        (_, true) => {
            return Err(Error::Invalid("a recursively read-only mount must be read-only and private".to_owned()));
        }
        (true, false) => "ro".to_owned(),
        (false, false) => "rw".to_owned(),
    });
    Ok((json!({"destination": destination, "type": "bind", "source": source, "options": options}), propagation))
}

/// Checks that events can reach the mount that a path is on.
fn require_propagation(path: &Path, wanted: &[&str], words: &str) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(Error::file("/proc/self/mountinfo"))?;
    let mut best: Option<(usize, bool)> = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(point), Some(end)) = (fields.get(4), fields.iter().position(|field| *field == "-")) else { continue };
        let point = point.replace("\\040", " ");
        if !path.starts_with(&point) || best.is_some_and(|(length, _)| length > point.len()) {
            continue;
        }
        let fits = fields[6.min(end)..end].iter().any(|field| wanted.iter().any(|prefix| field.starts_with(prefix)));
        best = Some((point.len(), fits));
    }
    if best.is_some_and(|(_, fits)| fits) {
        return Ok(());
    }
    Err(Error::Invalid(format!("path {} is mounted on a mount that is not {words} mount", path.display())))
}
