//! The checks of the Pod Security Standards: baseline ones by name, then restricted ones by name.

use apimachinery::Value;

use super::containers::{Texts, containers, names, plural, quoted, security, setters};
use super::{Level, Rules};
use crate::tree::{flag, list, strings, text};

/// Why a pod is not allowed.
#[derive(Debug, PartialEq)]
pub struct Problem {
    pub reason: &'static str,
    pub detail: String,
}

type Found = Option<Problem>;

/// A check: its level, the first release that has it, and what it does with pod metadata, spec and release.
struct Check {
    level: Level,
    from: u32,
    /// At the restricted level another check stands in for this one from this release on.
    replaced: u32,
    run: fn(&Value, &Value, u32) -> Found,
}

const NEVER: u32 = u32::MAX;

const fn baseline(from: u32, run: fn(&Value, &Value, u32) -> Found) -> Check {
    Check { level: Level::Baseline, from, replaced: NEVER, run }
}

const fn replaced(at: u32, run: fn(&Value, &Value, u32) -> Found) -> Check {
    Check { level: Level::Baseline, from: 0, replaced: at, run }
}

const fn restricted(from: u32, run: fn(&Value, &Value, u32) -> Found) -> Check {
    Check { level: Level::Restricted, from, replaced: NEVER, run }
}

const CHECKS: [Check; 19] = [
    baseline(0, app_armor),
    replaced(22, capabilities_baseline),
    baseline(0, host_namespaces),
    replaced(0, host_path),
    baseline(0, host_ports),
    baseline(34, host_probes),
    baseline(0, privileged),
    replaced(35, proc_mount_baseline),
    baseline(0, selinux),
    replaced(19, seccomp_baseline),
    baseline(0, sysctls),
    baseline(0, windows_host_process),
    restricted(8, privilege_escalation),
    restricted(22, capabilities_restricted),
    restricted(35, proc_mount),
    restricted(0, volumes),
    restricted(0, non_root),
    restricted(23, user),
    restricted(19, seccomp_restricted),
];

/// Runs every check of a level on a pod or pod template.
pub fn run(pod: &Value, rules: Rules) -> Vec<Problem> {
    let minor = rules.minor.unwrap_or(NEVER);
    let empty = Value::Null;
    let (metadata, spec) = (pod.get("metadata").unwrap_or(&empty), pod.get("spec").unwrap_or(&empty));
    CHECKS
        .iter()
        .filter(|c| c.level <= rules.level && minor >= c.from)
        .filter(|c| rules.level < Level::Restricted || c.replaced == NEVER || minor < c.replaced)
        .filter_map(|c| (c.run)(metadata, spec, minor))
        .collect()
}

fn problem(reason: &'static str, detail: impl Into<String>) -> Found {
    Some(Problem { reason, detail: detail.into() })
}

fn is_windows(spec: &Value) -> bool {
    text(spec, &["os", "name"]) == "windows"
}

/// In a user namespace of its own, root in the pod is nobody outside.
fn has_user_namespace(spec: &Value) -> bool {
    spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
}

/// A profile's type on the pod and its containers against what is allowed: who set something else, and what.
fn profiles<'a>(spec: &'a Value, key: &str) -> (bool, Vec<&'a str>, Texts) {
    let mut bad_values = Texts::new();
    let mut is_bad = |holder: &Value| match security(holder, &[key]) {
        Some(profile) if !matches!(text(profile, &["type"]), "RuntimeDefault" | "Localhost") => {
            bad_values.insert(text(profile, &["type"]).into());
            true
        }
        _ => false,
    };
    let pod = is_bad(spec);
    let names = names(spec, is_bad);
    (pod, names, bad_values)
}

fn app_armor(metadata: &Value, spec: &Value, _: u32) -> Found {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let (pod, bad, values) = profiles(spec, "appArmorProfile");
    let annotations = metadata.get("annotations").and_then(Value::as_map);
    let forbidden: Vec<String> = annotations
        .into_iter()
        .flat_map(|map| map.iter())
        .filter(|(key, _)| key.starts_with(PREFIX))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, v)| !v.is_empty() && *v != "runtime/default" && !v.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters(pod, &bad).into_iter().collect();
    if !forbidden.is_empty() {
        who.push(plural("annotation", "annotations", forbidden.len()).into());
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(forbidden).collect();
    let reason = if all.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
    problem(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(all)))
}

fn capabilities_baseline(_: &Value, spec: &Value, _: u32) -> Found {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (bad, added) = added_beyond(spec, &ALLOWED);
    (!bad.is_empty()).then(|| Problem {
        reason: "non-default capabilities",
        detail: format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(added)),
    })
}

/// The containers that add other capabilities than these, and which.
fn added_beyond<'a>(spec: &'a Value, allowed: &[&str]) -> (Vec<&'a str>, Texts) {
    let mut added = Texts::new();
    let bad = names(spec, |c| {
        let more: Vec<&str> = strings(c, &["securityContext", "capabilities", "add"])
            .into_iter()
            .filter(|cap| !allowed.contains(cap))
            .collect();
        added.extend(more.iter().map(|c| c.to_string()));
        !more.is_empty()
    });
    (bad, added)
}

fn capabilities_restricted(_: &Value, spec: &Value, minor: u32) -> Found {
    if minor >= 25 && is_windows(spec) {
        return None;
    }
    let mut details = Vec::new();
    let keep = names(spec, |c| !strings(c, &["securityContext", "capabilities", "drop"]).contains(&"ALL"));
    if !keep.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keep)));
    }
    let (bad, added) = added_beyond(spec, &["NET_BIND_SERVICE"]);
    if !bad.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&bad),
            quoted(added)
        ));
    }
    if details.is_empty() { None } else { problem("unrestricted capabilities", details.join("; ")) }
}

fn host_namespaces(_: &Value, spec: &Value, _: u32) -> Found {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|k| flag(spec, &[k]))
        .map(|k| format!("{k}=true"))
        .collect();
    if shared.is_empty() { None } else { problem("host namespaces", shared.join(", ")) }
}

fn host_path(_: &Value, spec: &Value, _: u32) -> Found {
    let bad: Vec<&str> = list(spec, &["volumes"])
        .iter()
        .filter(|v| v.get("hostPath").is_some_and(|h| !h.is_null()))
        .map(|v| text(v, &["name"]))
        .collect();
    if bad.is_empty() {
        return None;
    }
    problem("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), quoted(bad)))
}

fn host_ports(_: &Value, spec: &Value, _: u32) -> Found {
    let mut ports = Texts::new();
    let bad = names(spec, |c| {
        let used: Vec<i64> = list(c, &["ports"])
            .iter()
            .filter_map(|p| p.get("hostPort").and_then(Value::as_i64))
            .filter(|p| *p != 0)
            .collect();
        ports.extend(used.iter().map(i64::to_string));
        !used.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let what = plural("hostPort", "hostPorts", ports.len());
    let ports: Vec<String> = ports.into_iter().collect();
    problem("hostPort", format!("{} {uses} {what} {}", containers(&bad), ports.join(", ")))
}

fn host_probes(_: &Value, spec: &Value, _: u32) -> Found {
    const PLACES: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Texts::new();
    let mut bad = names(spec, |c| {
        let found: Vec<String> = PLACES
            .iter()
            .filter_map(|place| c.at(place))
            .flat_map(|h| [text(h, &["httpGet", "host"]), text(h, &["tcpSocket", "host"])])
            .filter(|host| !host.is_empty())
            .map(str::to_string)
            .collect();
        let any = !found.is_empty();
        hosts.extend(found);
        any
    });
    if bad.is_empty() {
        return None;
    }
    bad.sort_unstable();
    let uses = plural("uses", "use", bad.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    problem("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&bad), quoted(hosts)))
}

fn privileged(_: &Value, spec: &Value, _: u32) -> Found {
    let bad = names(spec, |c| flag(c, &["securityContext", "privileged"]));
    if bad.is_empty() {
        return None;
    }
    problem("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

fn proc_mount_baseline(metadata: &Value, spec: &Value, minor: u32) -> Found {
    if minor >= 35 && has_user_namespace(spec) {
        return None;
    }
    proc_mount(metadata, spec, minor)
}

fn proc_mount(_: &Value, spec: &Value, _: u32) -> Found {
    let mut types = Texts::new();
    let bad = names(spec, |c| match security(c, &["procMount"]).and_then(Value::as_str) {
        Some(other) if other != "Default" => {
            types.insert(other.into());
            true
        }
        _ => false,
    });
    if bad.is_empty() {
        return None;
    }
    problem("procMount", format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(types)))
}

fn selinux(_: &Value, spec: &Value, minor: u32) -> Found {
    let (mut types, mut user, mut role) = (Texts::new(), false, false);
    let mut is_bad = |holder: &Value| {
        let Some(options) = security(holder, &["seLinuxOptions"]) else { return false };
        let of = |key| text(options, &[key]);
        let known = matches!(of("type"), "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (minor >= 31 && of("type") == "container_engine_t");
        if !known {
            types.insert(of("type").into());
        }
        user |= !of("user").is_empty();
        role |= !of("role").is_empty();
        !known || !of("user").is_empty() || !of("role").is_empty()
    };
    let pod = is_bad(spec);
    let bad = names(spec, is_bad);
    let who = setters(pod, &bad)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        data.push("user may not be set".into());
    }
    if role {
        data.push("role may not be set".into());
    }
    problem("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

fn seccomp_baseline(metadata: &Value, spec: &Value, minor: u32) -> Found {
    if minor < 19 {
        return seccomp_annotations(metadata, spec);
    }
    let (pod, bad, values) = profiles(spec, "seccompProfile");
    let who = setters(pod, &bad)?;
    problem("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values)))
}

fn seccomp_annotations(metadata: &Value, spec: &Value) -> Found {
    let fine = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let mut keys = vec!["seccomp.security.alpha.kubernetes.io/pod".to_string()];
    keys.extend(
        names(spec, |_| true).iter().map(|name| format!("container.seccomp.security.alpha.kubernetes.io/{name}")),
    );
    let forbidden: Texts = keys
        .iter()
        .filter_map(|key| Some((key, metadata.str_at(&["annotations", key])?)))
        .filter(|(_, value)| !fine(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", forbidden.len());
    let all: Vec<String> = forbidden.into_iter().collect();
    problem("seccompProfile", format!("forbidden {what} {}", all.join(", ")))
}

fn seccomp_restricted(metadata: &Value, spec: &Value, minor: u32) -> Found {
    if minor >= 25 && is_windows(spec) {
        return None;
    }
    if let Some(found) = seccomp_baseline(metadata, spec, minor.max(19)) {
        return Some(found);
    }
    if security(spec, &["seccompProfile"]).is_some() {
        return None;
    }
    let open = names(spec, |c| security(c, &["seccompProfile"]).is_none());
    if open.is_empty() {
        return None;
    }
    problem(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&open)
        ),
    )
}

fn sysctls(_: &Value, spec: &Value, minor: u32) -> Found {
    const SAFE: [(u32, &str); 14] = [
        (0, "kernel.shm_rmid_forced"),
        (0, "net.ipv4.ip_local_port_range"),
        (0, "net.ipv4.tcp_syncookies"),
        (0, "net.ipv4.ping_group_range"),
        (0, "net.ipv4.ip_unprivileged_port_start"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_keepalive_time"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (29, "net.ipv4.tcp_keepalive_intvl"),
        (29, "net.ipv4.tcp_keepalive_probes"),
        (32, "net.ipv4.tcp_rmem"),
        (32, "net.ipv4.tcp_wmem"),
        (37, "net.ipv4.tcp_slow_start_after_idle"),
        (37, "net.ipv4.tcp_notsent_lowat"),
    ];
    let bad: Vec<&str> = list(spec, &["securityContext", "sysctls"])
        .iter()
        .map(|s| text(s, &["name"]))
        .filter(|name| !SAFE.iter().any(|(from, safe)| safe == name && minor >= *from))
        .collect();
    if bad.is_empty() { None } else { problem("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(_: &Value, spec: &Value, _: u32) -> Found {
    let is_bad = |holder: &Value| flag(holder, &["securityContext", "windowsOptions", "hostProcess"]);
    let who = setters(is_bad(spec), &names(spec, is_bad))?;
    problem("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(_: &Value, spec: &Value, minor: u32) -> Found {
    if minor >= 25 && is_windows(spec) {
        return None;
    }
    let bad = names(spec, |c| security(c, &["allowPrivilegeEscalation"]).and_then(Value::as_bool) != Some(false));
    if bad.is_empty() {
        return None;
    }
    problem(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)),
    )
}

fn volumes(_: &Value, spec: &Value, _: u32) -> Found {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut bad, mut types) = (Vec::new(), Texts::new());
    for volume in list(spec, &["volumes"]) {
        let Some(map) = volume.as_map() else { continue };
        let kinds: Vec<&str> =
            map.iter().filter(|(k, v)| *k != "name" && !v.is_null()).map(|(k, _)| k.as_str()).collect();
        if !kinds.iter().any(|k| ALLOWED.contains(k)) {
            bad.push(text(volume, &["name"]));
            types.insert(kinds.first().copied().unwrap_or("unknown").into());
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(&bad),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(types)
    );
    problem("restricted volume types", detail)
}

fn non_root(_: &Value, spec: &Value, minor: u32) -> Found {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= 35 && has_user_namespace(spec) {
        return None;
    }
    let of = |holder: &Value| security(holder, &["runAsNonRoot"]).and_then(Value::as_bool);
    let bad = names(spec, |c| of(c) == Some(false));
    if let Some(who) = setters(of(spec) == Some(false), &bad) {
        return problem(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let open = names(spec, |c| of(c).is_none() && of(spec) != Some(true));
    if open.is_empty() {
        return None;
    }
    problem(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&open)))
}

fn user(_: &Value, spec: &Value, minor: u32) -> Found {
    if minor >= 35 && has_user_namespace(spec) {
        return None;
    }
    let is_root = |holder: &Value| security(holder, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let who = setters(is_root(spec), &names(spec, is_root))?;
    problem("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::{Value as Json, json};

    fn found(spec: Json, level: Level, minor: Option<u32>) -> Vec<String> {
        let pod = tree(json!({"metadata": {}, "spec": spec}));
        run(&pod, Rules { level, minor }).into_iter().map(|p| format!("{}: {}", p.reason, p.detail)).collect()
    }

    fn container(security: Json) -> Json {
        json!({"containers": [{"name": "a", "securityContext": security}]})
    }

    #[test]
    fn baseline_refuses_what_reaches_the_host() {
        let cases = [
            (json!({"hostNetwork": true, "hostPID": true}), "host namespaces: hostNetwork=true, hostPID=true"),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "hostPath volumes: volume \"v\""),
            (
                json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 81}]}]}),
                "hostPort: container \"a\" uses hostPorts 80, 81",
            ),
            (
                container(json!({"privileged": true})),
                "privileged: container \"a\" must not set securityContext.privileged=true",
            ),
            (
                container(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}})),
                "non-default capabilities: container \"a\" must not include \"NET_ADMIN\" in securityContext.capabilities.add",
            ),
            (
                container(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile: container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\"",
            ),
            (
                container(json!({"seLinuxOptions": {"type": "x", "user": "u"}})),
                "seLinuxOptions: container \"a\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set",
            ),
            (
                container(json!({"procMount": "Unmasked"})),
                "procMount: container \"a\" must not set securityContext.procMount to \"Unmasked\"",
            ),
            (json!({"securityContext": {"sysctls": [{"name": "kernel.x"}]}}), "forbidden sysctls: kernel.x"),
            (
                json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
                "forbidden AppArmor profile: pod must not set AppArmor profile type to \"Unconfined\"",
            ),
            (
                json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}),
                "probe or lifecycle host: container \"a\" uses probe or lifecycle host \"h\"",
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(found(spec, Level::Baseline, None), [wanted]);
        }
    }

    #[test]
    fn restricted_accepts_a_careful_pod() {
        let mut careful = container(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}));
        careful["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert!(found(careful.clone(), Level::Restricted, None).is_empty());
        careful["volumes"] = json!([{"name": "n", "nfs": {}}, {"name": "e", "emptyDir": {}}]);
        assert_eq!(
            found(careful.clone(), Level::Restricted, None),
            ["restricted volume types: volume \"n\" uses restricted volume type \"nfs\""]
        );
        careful["volumes"] = json!([]);
        careful["securityContext"]["runAsUser"] = json!(0);
        assert_eq!(found(careful.clone(), Level::Restricted, None), ["runAsUser=0: pod must not set runAsUser=0"]);
        careful["hostUsers"] = json!(false);
        assert!(found(careful, Level::Restricted, None).is_empty(), "root in its own user namespace is nobody");
    }

    #[test]
    fn rules_are_those_of_the_release() {
        let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        assert!(found(sysctl.clone(), Level::Baseline, Some(32)).is_empty());
        assert_eq!(found(sysctl, Level::Baseline, Some(31)).len(), 1);
        let plain = container(json!({}));
        assert_eq!(found(plain.clone(), Level::Restricted, Some(7)).len(), 1, "only runAsNonRoot is so old");
        let path = json!({"volumes": [{"name": "v", "hostPath": {}}]});
        assert_eq!(found(path, Level::Restricted, Some(7)).len(), 1, "the stricter check stands in for hostPath");
    }
}
