//! From a container's CRI configuration, its image and its pod to the runtime specification that the shim carries out.

mod devices;
mod mounts;
pub mod resources;
mod seccomp;
pub mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cri::v1::security_profile::ProfileType;
use cri::v1::{
    ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig, SecurityProfile,
};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::image::format::Defaults;
use crate::shim::protocol::Namespaces;
use crate::{Error, Result};
use user::User;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What containers may do unless told otherwise.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All capabilities, by number.
const ALL_CAPABILITIES: [&str; 41] = [
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

/// Hidden from containers: the host's secrets, and knobs of its kernel.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What this host offers.
#[derive(Debug, Clone)]
pub struct Host {
    /// Capabilities that this process could pass on.
    pub capabilities: BTreeSet<String>,
    /// Whether controllers live in the unified hierarchy.
    pub unified_cgroups: bool,
    /// Whether the kernel enforces AppArmor profiles.
    pub apparmor: bool,
    /// Identity of this boot.
    pub boot_id: String,
    /// Where `Localhost` seccomp profiles are.
    pub seccomp_root: PathBuf,
}

impl Host {
    /// Looks at the host.
    pub fn detect() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").map_err(Error::file("/proc/self/status"))?;
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap_or_default();
        let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap_or(0);
        let held = ALL_CAPABILITIES.iter().enumerate().filter(|(bit, _)| bounding & (1 << bit) != 0);
        let boot_id = "/proc/sys/kernel/random/boot_id";
        Ok(Self {
            capabilities: held.map(|(_, name)| (*name).to_owned()).collect(),
            unified_cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            boot_id: fs::read_to_string(boot_id).map_err(Error::file(boot_id))?.trim().to_owned(),
            seccomp_root: PathBuf::from("/var/lib/kubelet/seccomp"),
        })
    }
}

/// All that decides a container's specification.
#[derive(Debug)]
pub struct Input<'a> {
    /// The container.
    pub config: &'a ContainerConfig,
    /// Its pod.
    pub pod: &'a PodSandboxConfig,
    /// What its image says.
    pub defaults: &'a Defaults,
    /// Who it runs as.
    pub user: &'a User,
    /// Its root file system, mounted.
    pub rootfs: &'a Path,
    /// The folder with the pod's `resolv.conf`, `hostname` and `shm`.
    pub pod_folder: &'a Path,
    /// The pod's namespaces.
    pub namespaces: &'a Namespaces,
    /// The pod's host name.
    pub hostname: &'a str,
    /// Its control group.
    pub cgroup: &'a str,
    /// Where images that are mounted into it are, by the path inside.
    pub image_mounts: &'a BTreeMap<String, PathBuf>,
}

impl Input<'_> {
    fn privileged(&self) -> bool {
        security(self.config).privileged
    }
}

/// The security context of a container; the empty one where it has none.
pub fn security(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

/// The namespace options of a pod.
pub fn pod_namespace_options(config: &PodSandboxConfig) -> NamespaceOption {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.and_then(|context| context.namespace_options.clone()).unwrap_or_default()
}

/// The specification of a container.
pub fn build(host: &Host, input: &Input<'_>) -> Result<Spec> {
    let security = security(input.config);
    let (mounts, propagation) = mounts::build(host, input)?;
    let capabilities = capabilities(host, &security)?;
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": input.rootfs, "readonly": security.readonly_rootfs},
        "mounts": mounts,
        "process": process(host, input, &security, &capabilities)?,
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": input.config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
        },
        "linux": {
            "namespaces": namespaces(host, input, &security),
            "cgroupsPath": input.cgroup,
            "rootfsPropagation": propagation,
            "resources": resources::build(input, &devices::rules(input)?),
            "devices": devices::build(input)?,
        },
    });
    if !security.privileged {
        let own_users = input.namespaces.user.is_some();
        let listed = |asked: &[String], usual: &[&str]| match asked {
            // Kubelet always lists them, except to unmask a pod with its own users.
            [] if !own_users => usual.iter().map(|path| (*path).to_owned()).collect(),
            asked => asked.to_vec(),
        };
        spec["linux"]["maskedPaths"] = json!(listed(&security.masked_paths, &MASKED));
        spec["linux"]["readonlyPaths"] = json!(listed(&security.readonly_paths, &READ_ONLY));
        if let Some(profile) = seccomp_profile(host, &security, &capabilities)? {
            spec["linux"]["seccomp"] = profile;
        }
    }
    serde_json::from_value(spec).map_err(|e| Error::Internal(format!("a specification is malformed: {e}")))
}

/// The process of an exec in a container: its main process with other arguments and terminal.
pub fn exec_process(spec: &Spec, arguments: &[String], terminal: bool) -> Result<oci_spec::runtime::Process> {
    let mut process = spec.process().clone().ok_or_else(|| Error::Internal("a container has no process".to_owned()))?;
    process.set_args(Some(arguments.to_vec()));
    process.set_terminal(Some(terminal));
    if terminal {
        let mut environment = process.env().clone().unwrap_or_default();
        if !environment.iter().any(|pair| pair.starts_with("TERM=")) {
            environment.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(environment));
    }
    Ok(process)
}

fn process(
    host: &Host,
    input: &Input<'_>,
    security: &LinuxContainerSecurityContext,
    capabilities: &BTreeSet<String>,
) -> Result<Value> {
    let (config, defaults) = (input.config, input.defaults);
    let mut arguments = if config.command.is_empty() { defaults.entrypoint.clone() } else { config.command.clone() };
    match (config.args.is_empty(), config.command.is_empty()) {
        (false, _) => arguments.extend(config.args.iter().cloned()),
        (true, true) => arguments.extend(defaults.cmd.iter().cloned()),
        (true, false) => {}
    }
    if arguments.is_empty() {
        return Err(Error::Invalid("no command specified, neither by the container nor by its image".to_owned()));
    }
    let cwd = [config.working_dir.as_str(), defaults.working_dir.as_str(), "/"];
    let cwd = cwd.into_iter().find(|path| !path.is_empty()).unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(Error::Invalid(format!("the working directory {cwd:?} is not an absolute path")));
    }
    let ambient = security.capabilities.as_ref().map(|c| c.add_ambient_capabilities.as_slice()).unwrap_or_default();
    let ambient = ambient.iter().map(|name| capability(name)).collect::<Result<Vec<_>>>()?;
    let ambient: Vec<String> = ambient.into_iter().filter(|name| capabilities.contains(name)).collect();
    let mut process = json!({
        "terminal": config.tty,
        "user": {"uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups},
        "args": arguments,
        "env": environment(input),
        "cwd": cwd,
        "noNewPrivileges": security.no_new_privs,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            "inheritable": ambient, "ambient": ambient,
        },
    });
    let adjustment = config.linux.as_ref().and_then(|l| l.resources.as_ref()).map(|r| r.oom_score_adj);
    if let Some(adjustment) = adjustment {
        process["oomScoreAdj"] = json!(adjustment.clamp(-1000, 1000));
    }
    if let Some(profile) = apparmor_profile(host, security)? {
        process["apparmorProfile"] = json!(profile);
    }
    Ok(process)
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        if values.insert(name.to_owned(), value).is_none() {
            order.push(name.to_owned());
        }
    };
    let mut put_pair = |pair: &str| {
        if let Some((name, value)) = pair.split_once('=') {
            put(name, value.to_owned());
        }
    };
    put_pair(PATH);
    put_pair(&format!("HOSTNAME={}", input.hostname));
    if input.config.tty {
        put_pair("TERM=xterm");
    }
    input.defaults.env.iter().for_each(|pair| put_pair(pair));
    for pair in &input.config.envs {
        put(&pair.key, String::from_utf8_lossy(&pair.value).into_owned());
    }
    if !values.contains_key("HOME") {
        let home = if input.user.home.is_empty() { "/" } else { &input.user.home };
        values.insert("HOME".to_owned(), home.to_owned());
        order.push("HOME".to_owned());
    }
    order.iter().map(|name| format!("{name}={}", values[name])).collect()
}

fn namespaces(host: &Host, input: &Input<'_>, security: &LinuxContainerSecurityContext) -> Value {
    let options = security.namespace_options.clone().unwrap_or_default();
    let mut list = vec![json!({"type": "mount"})];
    let shared = [
        ("network", &input.namespaces.network),
        ("ipc", &input.namespaces.ipc),
        ("uts", &input.namespaces.uts),
        ("user", &input.namespaces.user),
    ];
    for (kind, path) in shared {
        if let Some(path) = path {
            list.push(json!({"type": kind, "path": path}));
        }
    }
    match NamespaceMode::try_from(options.pid) {
        Ok(NamespaceMode::Node) => {}
        Ok(NamespaceMode::Pod | NamespaceMode::Target) if input.namespaces.pid.is_some() => {
            list.push(json!({"type": "pid", "path": input.namespaces.pid}));
        }
        _ => list.push(json!({"type": "pid"})),
    }
    if host.unified_cgroups && !security.privileged {
        list.push(json!({"type": "cgroup"}));
    }
    Value::Array(list)
}

/// The full name of a capability.
fn capability(name: &str) -> Result<String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if ALL_CAPABILITIES.contains(&full.as_str()) {
        return Ok(full);
    }
    Err(Error::Invalid(format!("there is no capability {name:?}")))
}

fn capabilities(host: &Host, security: &LinuxContainerSecurityContext) -> Result<BTreeSet<String>> {
    let all = || ALL_CAPABILITIES.iter().map(|name| (*name).to_owned());
    if security.privileged {
        return Ok(host.capabilities.clone());
    }
    let mut held: BTreeSet<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    if let Some(asked) = &security.capabilities {
        let is_all = |name: &&String| name.eq_ignore_ascii_case("ALL");
        let (add_all, drop_all) =
            (asked.add_capabilities.iter().any(|n| is_all(&n)), asked.drop_capabilities.iter().any(|n| is_all(&n)));
        if add_all {
            held.extend(all());
        }
        if drop_all {
            held.clear();
        }
        for name in asked.add_capabilities.iter().chain(&asked.add_ambient_capabilities).filter(|n| !is_all(n)) {
            held.insert(capability(name)?);
        }
        for name in asked.drop_capabilities.iter().filter(|n| !is_all(n)) {
            held.remove(&capability(name)?);
        }
    }
    held.retain(|name| host.capabilities.contains(name));
    Ok(held)
}

fn seccomp_profile(
    host: &Host,
    security: &LinuxContainerSecurityContext,
    capabilities: &BTreeSet<String>,
) -> Result<Option<Value>> {
    let Some(profile) = &security.seccomp else { return Ok(None) };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Some(seccomp::runtime_default(capabilities))),
        Ok(ProfileType::Unconfined) => Ok(None),
        Ok(ProfileType::Localhost) => localhost_profile(host, profile).map(Some),
        Err(_) => Err(Error::Invalid(format!("seccomp profile type {} is unknown", profile.profile_type))),
    }
}

fn localhost_profile(host: &Host, profile: &SecurityProfile) -> Result<Value> {
    let name = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
    if name.is_empty() {
        return Err(Error::Invalid("a Localhost seccomp profile needs a name".to_owned()));
    }
    // Joining an absolute path gives that path.
    let path = host.seccomp_root.join(name);
    let bytes = fs::read(&path).map_err(|e| Error::Invalid(format!("seccomp profile {}: {e}", path.display())))?;
    let bad = |e: serde_json::Error| Error::Invalid(format!("seccomp profile {}: {e}", path.display()));
    let parsed: oci_spec::runtime::LinuxSeccomp = serde_json::from_slice(&bytes).map_err(bad)?;
    serde_json::to_value(parsed).map_err(bad)
}

fn apparmor_profile(host: &Host, security: &LinuxContainerSecurityContext) -> Result<Option<String>> {
    let Some(profile) = &security.apparmor else { return Ok(None) };
    if profile.profile_type != ProfileType::Localhost as i32 || security.privileged {
        return Ok(None);
    }
    if !host.apparmor {
        return Err(Error::Invalid(
            "an AppArmor profile is asked for, but this host's kernel does not enforce them".to_owned(),
        ));
    }
    Ok(Some(profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref).to_owned()))
}
