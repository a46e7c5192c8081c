//! A pod's and a container's security contexts, merged, in the runtime's terms.

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::pod::security::SeccompProfile;
use cri::v1;

use super::{Error, ImageFacts, error};

/// Which namespaces a pod shares with the node, and how it shares its own.
pub fn namespaces(pod: &Pod, target: &str) -> v1::NamespaceOption {
    use v1::NamespaceMode::{Container as Own, Node, Pod as Shared, Target};
    let spec = &pod.spec;
    let pid = if !target.is_empty() {
        Target
    } else if spec.host_pid {
        Node
    } else if spec.share_process_namespace == Some(true) {
        Shared
    } else {
        Own
    };
    v1::NamespaceOption {
        network: if spec.host_network { Node } else { Shared }.into(),
        pid: pid.into(),
        ipc: if spec.host_ipc { Node } else { Shared }.into(),
        target_id: target.to_owned(),
        userns_options: None,
    }
}

/// The groups that all processes of a pod have beside their own.
pub fn groups(pod: &Pod) -> Vec<i64> {
    let Some(security) = &pod.spec.security_context else { return Vec::new() };
    let mut groups = security.supplemental_groups.clone();
    groups.extend(security.fs_group);
    groups
}

/// Whether any container of a pod is privileged.
pub fn any_privileged(pod: &Pod) -> bool {
    let all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    all.into_iter().any(|c| c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true)))
}

/// A seccomp profile; without one the runtime's default holds where that is wanted.
pub fn seccomp(profile: Option<&SeccompProfile>, default: bool) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType;
    let (kind, reference) = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.clone())) {
        Some(("Unconfined", _)) => (ProfileType::Unconfined, String::new()),
        Some(("Localhost", path)) => (ProfileType::Localhost, path.unwrap_or_default()),
        Some(_) => (ProfileType::RuntimeDefault, String::new()),
        // Safe as installed: what says nothing is confined.
        None if default => (ProfileType::RuntimeDefault, String::new()),
        None => (ProfileType::Unconfined, String::new()),
    };
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: reference })
}

/// A container's security context, of its own and its pod's. `target` is the container whose processes it shall see.
pub fn context(
    pod: &Pod,
    container: &Container,
    image: &ImageFacts,
    target: &str,
) -> Result<v1::LinuxContainerSecurityContext, Error> {
    let outer = pod.spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(outer.run_as_user);
    let group = own.run_as_group.or(outer.run_as_group);
    check_root(pod, container, user, own.run_as_non_root.or(outer.run_as_non_root), image)?;
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.map(|c| v1::Capability {
        add_capabilities: c.add,
        drop_capabilities: c.drop,
        add_ambient_capabilities: Vec::new(),
    });
    // Without an own user the image's holds, which the runtime looks up.
    let (run_as_user, run_as_username) = match user {
        Some(value) => (Some(v1::Int64Value { value }), String::new()),
        None => (
            image.uid.map(|value| v1::Int64Value { value }),
            if image.uid.is_some() { String::new() } else { image.username.clone() },
        ),
    };
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let policy = match outer.supplemental_groups_policy.as_deref() {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict,
        _ => v1::SupplementalGroupsPolicy::Merge,
    };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        run_as_user,
        run_as_group: group.map(|value| v1::Int64Value { value }),
        run_as_username,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: policy.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked || privileged { Vec::new() } else { masked() },
        readonly_paths: if unmasked || privileged { Vec::new() } else { READ_ONLY.map(String::from).to_vec() },
        seccomp: if privileged {
            seccomp(None, false)
        } else {
            seccomp(own.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref()), true)
        },
        ..Default::default()
    })
}

/// What containers do not see of the kernel (upstream's default proc mount).
const MASKED: [&str; 12] = [
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
    "/sys/devices/virtual/powercap",
];
/// The paths above, and the counters of each processor's heat, where there are any: they tell what others compute.
fn masked() -> Vec<String> {
    let mut all = MASKED.map(String::from).to_vec();
    let processors = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let counters = processors
        .filter(|entry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists());
    all.extend(counters.map(|path| path.display().to_string()));
    all
}

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Refuses root where the pod forbids it; the words are upstream's, which tests match.
fn check_root(
    pod: &Pod,
    container: &Container,
    user: Option<i64>,
    non_root: Option<bool>,
    image: &ImageFacts,
) -> Result<(), Error> {
    if non_root != Some(true) {
        return Ok(());
    }
    let meta = &pod.metadata;
    let about = format!("(pod: \"{}_{}({})\", container: {})", meta.name, meta.namespace, meta.uid, container.name);
    match (user, image.uid, image.username.as_str()) {
        (Some(0), ..) => Err(error(format!("container's runAsUser breaks non-root policy {about}"))),
        (Some(_), ..) => Ok(()),
        (None, Some(0), _) | (None, None, "") => {
            Err(error(format!("container has runAsNonRoot and image will run as root {about}")))
        }
        (None, None, name) => Err(error(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {about}"
        ))),
        (None, Some(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pod;
    use super::*;

    fn told(spec: &str, image: &ImageFacts) -> Result<v1::LinuxContainerSecurityContext, String> {
        let pod = pod(&format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#));
        context(&pod, &pod.spec.containers[0], image, "").map_err(|e| e.0)
    }

    #[test]
    fn a_containers_own_word_goes_first() {
        let spec = r#"{"securityContext":{"runAsUser":1,"runAsGroup":2,"fsGroup":3,"supplementalGroups":[4]},
            "containers":[{"name":"a","securityContext":{"runAsUser":9,"allowPrivilegeEscalation":false}}]}"#;
        let c = told(spec, &ImageFacts::default()).unwrap();
        assert_eq!(c.run_as_user.unwrap().value, 9);
        assert_eq!(c.run_as_group.unwrap().value, 2);
        assert_eq!(c.supplemental_groups, [4, 3]);
        assert!(c.no_new_privs && !c.privileged);
        assert!(c.masked_paths.iter().any(|path| path == "/sys/devices/virtual/powercap"));
        assert_eq!(c.seccomp.unwrap().profile_type, 0);
        let spec = r#"{"hostPID":true,"containers":[{"name":"a","securityContext":{"privileged":true}}]}"#;
        let c = told(spec, &ImageFacts::default()).unwrap();
        assert!(c.privileged && c.masked_paths.is_empty());
        assert_eq!(c.namespace_options.unwrap().pid, v1::NamespaceMode::Node as i32);
    }

    #[test]
    fn root_is_refused_where_forbidden() {
        let spec = r#"{"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}"#;
        let image = |uid, name: &str| ImageFacts { reference: String::new(), uid, username: name.into() };
        let text = told(spec, &image(Some(0), "")).unwrap_err();
        assert_eq!(text, "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: a)");
        assert!(told(spec, &image(None, "nobody")).unwrap_err().contains("non-numeric user (nobody)"));
        assert!(told(spec, &image(Some(7), "")).is_ok());
        let spec = r#"{"securityContext":{"runAsNonRoot":true,"runAsUser":0},"containers":[{"name":"a"}]}"#;
        assert!(told(spec, &image(Some(7), "")).unwrap_err().starts_with("container's runAsUser breaks"));
    }
}
