//! Rules of the containers of a pod.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::validation::{
    self, check, config_key, dns_label, dns_subdomain, env_name, nonnegative, port_name, port_number, qualified_name,
};
use apimachinery::{Errors, IntOrString, Path};

use crate::checks::{descending_path, no_backsteps, one_of};
use crate::core::pod::container::{
    Container, ContainerPort, EnvFromSource, EnvVar, EphemeralContainerCommon, ObjectFieldSelector,
    ResourceFieldSelector, ResourceRequirements,
};
use crate::core::pod::probe::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use crate::core::pod::security::{SeccompProfile, SecurityContext};
use crate::core::pod::spec::PodSpec;
use crate::core::pod::validate::user_id;
use crate::core::volumes::VolumeSource;
use crate::quantities;

/// The volumes of a pod by name.
pub(crate) type Volumes<'a> = BTreeMap<&'a str, &'a VolumeSource>;

/// Field paths that a variable may take its value from.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Field paths that a downward API file may take its content from.
pub(crate) const FILE_FIELDS: [&str; 5] =
    ["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];

/// Checks every container of a spec.
pub(crate) fn containers(errors: &mut Errors, path: &Path<'_>, spec: &PodSpec, volumes: &Volumes<'_>) {
    let grace = spec.termination_grace_period_seconds;
    let (regular, init, ephemeral) =
        (path.child("containers"), path.child("initContainers"), path.child("ephemeralContainers"));
    if spec.containers.is_empty() {
        errors.required(&regular, "");
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = regular.index(i);
        common(errors, &path, container, spec, volumes);
        unique(errors, &path, &container.name, &mut names);
        hooks_and_probes(errors, &path, container, grace);
        restart_policy(errors, &path, container);
        unique_host_ports(errors, &path, &container.ports, &mut host_ports);
        if spec.host_network {
            for (j, port) in container.ports.iter().enumerate() {
                if port.host_port != 0 && port.host_port != port.container_port {
                    let message = "must match `containerPort` when `hostNetwork` is true";
                    errors.invalid(&path.child("ports").index(j).child("hostPort"), port.host_port, message);
                }
            }
        }
    }
    for (i, container) in spec.init_containers.iter().enumerate() {
        let path = init.index(i);
        common(errors, &path, container, spec, volumes);
        let policy = container.restart_policy.as_deref();
        restart_policy(errors, &path, container);
        unique(errors, &path, &container.name, &mut names);
        unique_host_ports(errors, &path, &container.ports, &mut BTreeSet::new());
        if policy == Some("Always") {
            hooks_and_probes(errors, &path, container, grace);
        } else {
            let set = [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ];
            for (field, _) in set.into_iter().filter(|(_, set)| *set) {
                errors.forbidden(&path.child(field), "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
    let others: BTreeSet<&str> = names.clone();
    for (i, container) in spec.ephemeral_containers.iter().enumerate() {
        let path = ephemeral.index(i);
        let common_fields = as_container(&container.ephemeral_container_common);
        common(errors, &path, &common_fields, spec, volumes);
        unique(errors, &path, &container.ephemeral_container_common.name, &mut names);
        let target = container.target_container_name.as_str();
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        ephemeral_fields(errors, &path, &common_fields);
    }
}

fn unique<'a>(errors: &mut Errors, path: &Path<'_>, name: &'a str, names: &mut BTreeSet<&'a str>) {
    if !names.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
}

fn unique_host_ports(errors: &mut Errors, path: &Path<'_>, ports: &[ContainerPort], seen: &mut BTreeSet<String>) {
    for (i, port) in ports.iter().enumerate().filter(|(_, port)| port.host_port != 0) {
        let key = format!("{}/{}/{}", port.protocol, port.host_ip, port.host_port);
        if !seen.insert(key.clone()) {
            errors.duplicate(&path.child("ports").index(i).child("hostPort"), key);
        }
    }
}

/// What may be set for a container that is added to a running pod.
fn ephemeral_fields(errors: &mut Errors, path: &Path<'_>, container: &Container) {
    let set = [
        ("ports", !container.ports.is_empty()),
        ("resources", container.resources != ResourceRequirements::default()),
        ("resizePolicy", !container.resize_policy.is_empty()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", !container.restart_policy_rules.is_empty()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
    }
    let mounts = path.child("volumeMounts");
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if !value.is_empty() {
                errors.forbidden(&mounts.index(i).child(field), "cannot be set for an Ephemeral Container");
            }
        }
    }
}

fn restart_policy(errors: &mut Errors, path: &Path<'_>, container: &Container) {
    let field = path.child("restartPolicy");
    match container.restart_policy.as_deref() {
        None if !container.restart_policy_rules.is_empty() => {
            errors.required(&field, "must specify restartPolicy when restart rules are used");
        }
        None => {}
        Some(policy) if !matches!(policy, "Always" | "OnFailure" | "Never") => {
            errors.not_supported(&field, policy, &["Always", "Never", "OnFailure"]);
        }
        Some(_) => {}
    }
    let rules = path.child("restartPolicyRules");
    if container.restart_policy_rules.len() > 20 {
        errors.too_many(&rules, container.restart_policy_rules.len(), 20);
    }
    for (i, rule) in container.restart_policy_rules.iter().enumerate() {
        let path = rules.index(i);
        if !matches!(rule.action.as_str(), "Restart" | "RestartAllContainers") {
            errors.not_supported(&path.child("action"), rule.action.as_str(), &["Restart", "RestartAllContainers"]);
        }
        let field = path.child("exitCodes");
        match &rule.exit_codes {
            None => errors.required(&field, "must be specified"),
            Some(codes) => {
                if !matches!(codes.operator.as_str(), "In" | "NotIn") {
                    errors.not_supported(&field.child("operator"), codes.operator.as_str(), &["In", "NotIn"]);
                }
                if codes.values.len() > 255 {
                    errors.too_many(&field.child("values"), codes.values.len(), 255);
                }
            }
        }
    }
}

fn common(errors: &mut Errors, path: &Path<'_>, container: &Container, spec: &PodSpec, volumes: &Volumes<'_>) {
    validation::require(errors, &path.child("name"), &container.name, dns_label);
    let image = path.child("image");
    if container.image.is_empty() {
        errors.required(&image, "");
    } else if container.image.trim() != container.image {
        errors.invalid(&image, container.image.as_str(), "must not have leading or trailing whitespace");
    }
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(errors, &path.child("terminationMessagePolicy"), &container.termination_message_policy, &policies);
    ports(errors, &path.child("ports"), &container.ports);
    env(errors, &path.child("env"), &container.env);
    env_from(errors, &path.child("envFrom"), &container.env_from);
    mounts(errors, path, container, volumes);
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(errors, &path.child("imagePullPolicy"), &container.image_pull_policy, &policies);
    resources(errors, &path.child("resources"), &container.resources, spec);
    resize_policy(errors, &path.child("resizePolicy"), container, &spec.restart_policy);
    if let Some(security) = &container.security_context {
        security_context(errors, &path.child("securityContext"), security, spec.host_users != Some(false));
    }
}

fn resize_policy(errors: &mut Errors, path: &Path<'_>, container: &Container, pod_policy: &str) {
    let mut seen = BTreeSet::new();
    for (i, policy) in container.resize_policy.iter().enumerate() {
        if !seen.insert(&policy.resource_name) {
            errors.duplicate(&path.index(i), policy.resource_name.as_str());
        }
        one_of(errors, path, &policy.resource_name, &["cpu", "memory"]);
        one_of(errors, path, &policy.restart_policy, &["NotRequired", "RestartContainer"]);
        if pod_policy == "Never" && policy.restart_policy != "NotRequired" {
            let message = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(path, policy.restart_policy.as_str(), message);
        }
    }
}

fn ports(errors: &mut Errors, path: &Path<'_>, ports: &[ContainerPort]) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if !port.name.is_empty() {
            let name = path.child("name");
            let faults = port_name(&port.name);
            if !faults.is_empty() {
                check(errors, &name, &port.name, port_name);
            } else if !names.insert(&port.name) {
                errors.duplicate(&name, port.name.as_str());
            }
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else if let Some(fault) = port_number(i64::from(port.container_port)) {
            errors.invalid(&path.child("containerPort"), port.container_port, fault);
        }
        if port.host_port != 0
            && let Some(fault) = port_number(i64::from(port.host_port))
        {
            errors.invalid(&path.child("hostPort"), port.host_port, fault);
        }
        one_of(errors, &path.child("protocol"), &port.protocol, &["SCTP", "TCP", "UDP"]);
    }
}

fn env(errors: &mut Errors, path: &Path<'_>, variables: &[EnvVar]) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        validation::require(errors, &path.child("name"), &variable.name, env_name);
        let Some(source) = &variable.value_from else { continue };
        let path = path.child("valueFrom");
        let mut sources = 0;
        if let Some(field) = &source.field_ref {
            sources += 1;
            field_selector(errors, &path.child("fieldRef"), field, &ENV_FIELDS);
        }
        if let Some(resource) = &source.resource_field_ref {
            sources += 1;
            resource_selector(errors, &path.child("resourceFieldRef"), resource, false);
        }
        let keys = [
            ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|r| (&r.local_object_reference.name, &r.key))),
            ("secretKeyRef", source.secret_key_ref.as_ref().map(|r| (&r.local_object_reference.name, &r.key))),
        ];
        for (field, reference) in keys {
            let Some((name, key)) = reference else { continue };
            sources += 1;
            let path = path.child(field);
            check(errors, &path.child("name"), name, dns_subdomain);
            validation::require(errors, &path.child("key"), key, config_key);
        }
        if let Some(file) = &source.file_key_ref {
            sources += 1;
            let path = path.child("fileKeyRef");
            validation::require(errors, &path.child("key"), &file.key, env_name);
            validation::require(errors, &path.child("volumeName"), &file.volume_name, dns_label);
            if file.path.is_empty() {
                errors.required(&path.child("path"), "");
            } else {
                no_backsteps(errors, &path.child("path"), &file.path);
            }
        }
        if sources == 0 {
            let message = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.invalid(&path, "", message);
        } else if !variable.value.is_empty() {
            errors.invalid(&path, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            errors.invalid(&path, "", "may not have more than one field specified at a time");
        }
    }
}

fn env_from(errors: &mut Errors, path: &Path<'_>, sources: &[EnvFromSource]) {
    for (i, source) in sources.iter().enumerate() {
        let item = path.index(i);
        if !source.prefix.is_empty() {
            check(errors, &item.child("prefix"), &source.prefix, env_name);
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|r| &r.local_object_reference.name)),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.local_object_reference.name)),
        ];
        let mut count = 0;
        for (field, name) in names {
            let Some(name) = name else { continue };
            count += 1;
            validation::require(errors, &item.child(field).child("name"), name, dns_subdomain);
        }
        match count {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// Checks a reference to a field of the pod.
pub(crate) fn field_selector(errors: &mut Errors, path: &Path<'_>, field: &ObjectFieldSelector, allowed: &[&str]) {
    let field_path = path.child("fieldPath");
    if field.api_version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if field.field_path.is_empty() {
        errors.required(&field_path, "");
        return;
    }
    let text = field.field_path.as_str();
    if let Some((base, key)) = text.strip_suffix("']").and_then(|t| t.split_once("['")) {
        match base {
            "metadata.annotations" => check(errors, path, &key.to_lowercase(), qualified_name),
            "metadata.labels" => check(errors, path, key, qualified_name),
            _ => errors.invalid(
                &field_path,
                text,
                format!("error converting fieldPath: field label does not support subscript: {text}"),
            ),
        }
        return;
    }
    let known = ENV_FIELDS.contains(&text)
        || FILE_FIELDS.contains(&text)
        || matches!(text, "spec.restartPolicy" | "spec.schedulerName" | "status.phase" | "spec.host");
    if !known {
        errors.invalid(&field_path, text, format!("error converting fieldPath: field label not supported: {text}"));
    } else if !allowed.contains(&text) {
        errors.not_supported(&field_path, text, allowed);
    }
}

/// Checks a reference to a resource of a container.
pub(crate) fn resource_selector(errors: &mut Errors, path: &Path<'_>, field: &ResourceFieldSelector, volume: bool) {
    const RESOURCES: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = field.resource.as_str();
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && field.container_name.is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, &RESOURCES);
    }
}

fn mounts(errors: &mut Errors, path: &Path<'_>, container: &Container, volumes: &Volumes<'_>) {
    let (mounts, devices) = (path.child("volumeMounts"), path.child("volumeDevices"));
    let mut seen = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        let path = mounts.index(i);
        let (name, mount_path) = (path.child("name"), path.child("mountPath"));
        if mount.name.is_empty() {
            errors.required(&name, "");
        }
        if !volumes.contains_key(mount.name.as_str()) {
            errors.not_found(&name, mount.name.as_str());
        }
        if mount.mount_path.is_empty() {
            errors.required(&mount_path, "");
        }
        if !seen.insert(&mount.mount_path) {
            errors.invalid(&mount_path, mount.mount_path.as_str(), "must be unique");
        }
        if container.volume_devices.iter().any(|d| d.name == mount.name) {
            errors.invalid(&name, mount.name.as_str(), "must not already exist in volumeDevices");
        }
        if container.volume_devices.iter().any(|d| d.device_path == mount.mount_path) {
            let message = "must not already exist as a path in volumeDevices";
            errors.invalid(&mount_path, mount.mount_path.as_str(), message);
        }
        if !mount.sub_path.is_empty() {
            descending_path(errors, &mounts.child("subPath"), &mount.sub_path);
        }
        if !mount.sub_path_expr.is_empty() {
            if !mount.sub_path.is_empty() {
                let message = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&path.child("subPathExpr"), mount.sub_path_expr.as_str(), message);
            }
            descending_path(errors, &mounts.child("subPathExpr"), &mount.sub_path_expr);
        }
        if let Some(propagation) = &mount.mount_propagation {
            let path = mounts.child("mountPropagation");
            let modes = ["Bidirectional", "HostToContainer", "None"];
            if !modes.contains(&propagation.as_str()) {
                errors.not_supported(&path, propagation.as_str(), &modes);
            }
            let privileged = container.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
            if propagation == "Bidirectional" && !privileged {
                let message = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(&path, message);
            }
        }
        if let Some(recursive) = &mount.recursive_read_only {
            let path = mounts.child("recursiveReadOnly");
            match recursive.as_str() {
                "Disabled" => {}
                "Enabled" | "IfPossible" => {
                    if !mount.read_only {
                        errors.forbidden(&path, "may only be specified when readOnly is true");
                    }
                    if mount.mount_propagation.as_ref().is_some_and(|p| p != "None") {
                        errors.forbidden(&path, "may only be specified when mountPropagation is None or not specified");
                    }
                }
                other => errors.not_supported(&path, other, &["Disabled", "IfPossible", "Enabled"]),
            }
        }
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.volume_devices.iter().enumerate() {
        let path = devices.index(i);
        let (name, device_path) = (path.child("name"), path.child("devicePath"));
        if device.name.is_empty() {
            errors.required(&name, "");
        } else if !names.insert(&device.name) {
            errors.invalid(&name, device.name.as_str(), "must be unique");
        }
        match volumes.get(device.name.as_str()) {
            None => errors.not_found(&name, device.name.as_str()),
            Some(source) if source.persistent_volume_claim.is_none() && source.ephemeral.is_none() => {
                let message = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&name, device.name.as_str(), message);
            }
            Some(_) => {}
        }
        if device.device_path.is_empty() {
            errors.required(&device_path, "");
        } else if device.device_path.split('/').any(|part| part == "..") {
            errors.invalid(&device_path, device.device_path.as_str(), "can not contain backsteps ('..')");
        } else if !paths.insert(&device.device_path) {
            errors.invalid(&device_path, device.device_path.as_str(), "must be unique");
        }
        if container.volume_mounts.iter().any(|m| m.name == device.name) {
            errors.invalid(&name, device.name.as_str(), "must not already exist in volumeMounts");
        }
    }
}

fn resources(errors: &mut Errors, path: &Path<'_>, resources: &ResourceRequirements, spec: &PodSpec) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (resource, quantity) in &resources.limits {
        quantities::container_resource_name(errors, &limits.key(resource), resource);
        quantities::resource_value(errors, &limits.key(resource), resource, quantity);
    }
    for (resource, quantity) in &resources.requests {
        quantities::container_resource_name(errors, &requests.key(resource), resource);
        quantities::resource_value(errors, &requests.key(resource), resource, quantity);
        match resources.limits.get(resource) {
            Some(limit) if !quantities::may_overcommit(resource) && quantity != limit => {
                errors.invalid(
                    &requests,
                    quantity.to_string(),
                    format!("must be equal to {resource} limit of {limit}"),
                );
            }
            Some(limit) if quantity > limit => {
                let message = format!("must be less than or equal to {resource} limit of {limit}");
                errors.invalid(&requests, quantity.to_string(), message);
            }
            None if !quantities::may_overcommit(resource) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    let names = || resources.limits.keys().chain(resources.requests.keys());
    let computes = names().any(|r| matches!(r.as_str(), "cpu" | "memory"));
    if !computes && names().any(|r| quantities::is_huge_page(r)) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    let claims = path.child("claims");
    let mut seen = BTreeSet::new();
    for (i, claim) in resources.claims.iter().enumerate() {
        let path = claims.index(i);
        if claim.name.is_empty() {
            errors.required(&path, "");
        } else if !seen.insert((&claim.name, &claim.request)) {
            errors.duplicate(&path, claim.name.as_str());
        } else if !spec.resource_claims.iter().any(|c| c.name == claim.name) {
            errors.not_found(&path, claim.name.as_str());
        }
    }
}

/// Checks a seccomp profile.
pub(crate) fn seccomp(errors: &mut Errors, path: &Path<'_>, profile: &SeccompProfile) {
    let type_ = path.child("type");
    if profile.type_.is_empty() {
        errors.required(&type_, "type is required when seccompProfile is set");
    } else {
        one_of(errors, &type_, &profile.type_, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let field = path.child("localhostProfile");
    match (&profile.localhost_profile, profile.type_ == "Localhost") {
        (None, true) => errors.required(&field, "must be set when seccomp type is Localhost"),
        (Some(file), true) => descending_path(errors, &field, file),
        (Some(_), false) => {
            let shown = apimachinery::Api::to_value(profile);
            errors.invalid(&field, shown, "can only be set when seccomp type is Localhost");
        }
        (None, false) => {}
    }
}

fn security_context(errors: &mut Errors, path: &Path<'_>, security: &SecurityContext, host_users: bool) {
    for (field, id) in [("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)] {
        if let Some(id) = id {
            user_id(errors, &path.child(field), id);
        }
    }
    if let Some(mount) = &security.proc_mount {
        let path = path.child("procMount");
        if !matches!(mount.as_str(), "Default" | "Unmasked") {
            errors.not_supported(&path, mount.as_str(), &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            errors.invalid(&path, mount.as_str(), "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if let Some(profile) = &security.seccomp_profile {
        seccomp(errors, &path.child("seccompProfile"), profile);
    }
    if security.allow_privilege_escalation == Some(false) {
        let value = || apimachinery::Api::to_value(security);
        if security.privileged == Some(true) {
            errors.invalid(path, value(), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if security.capabilities.as_ref().is_some_and(|c| c.add.iter().any(|c| c == "CAP_SYS_ADMIN")) {
            let message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, value(), message);
        }
    }
}

fn hooks_and_probes(errors: &mut Errors, path: &Path<'_>, container: &Container, grace: Option<i64>) {
    if let Some(Lifecycle { post_start, pre_stop, .. }) = &container.lifecycle {
        let path = path.child("lifecycle");
        for (field, hook) in [("postStart", post_start), ("preStop", pre_stop)] {
            let Some(LifecycleHandler { exec, http_get, tcp_socket, sleep }) = hook else { continue };
            let actions = Actions { exec, http_get, tcp_socket, grpc: &None, sleep };
            handler(errors, &path.child(field), &actions, grace);
        }
    }
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(p) = probe else { continue };
        let path = path.child(field);
        self::probe(errors, &path, p, grace);
        if field == "readinessProbe" {
            if let Some(seconds) = p.termination_grace_period_seconds {
                let message = "must not be set for readinessProbes";
                errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, message);
            }
        } else if p.success_threshold != 1 {
            errors.invalid(&path.child("successThreshold"), p.success_threshold, "must be 1");
        }
    }
}

fn probe(errors: &mut Errors, path: &Path<'_>, probe: &Probe, grace: Option<i64>) {
    let h = &probe.probe_handler;
    let actions =
        Actions { exec: &h.exec, http_get: &h.http_get, tcp_socket: &h.tcp_socket, grpc: &h.grpc, sleep: &None };
    handler(errors, path, &actions, grace);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        nonnegative(errors, &path.child(field), i64::from(value));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

/// The actions that a probe or a hook may have one of.
struct Actions<'a> {
    exec: &'a Option<ExecAction>,
    http_get: &'a Option<HTTPGetAction>,
    tcp_socket: &'a Option<TCPSocketAction>,
    grpc: &'a Option<GRPCAction>,
    sleep: &'a Option<SleepAction>,
}

fn handler(errors: &mut Errors, path: &Path<'_>, actions: &Actions<'_>, grace: Option<i64>) {
    let mut count = 0;
    let mut first = |errors: &mut Errors, field: &str| {
        count += 1;
        if count > 1 {
            errors.forbidden(&path.child(field), "may not specify more than 1 handler type");
        }
        count == 1
    };
    if let Some(exec) = actions.exec
        && first(errors, "exec")
        && exec.command.is_empty()
    {
        errors.required(&path.child("exec").child("command"), "");
    }
    if let Some(http) = actions.http_get
        && first(errors, "httpGet")
    {
        http_get(errors, &path.child("httpGet"), http);
    }
    if let Some(tcp) = actions.tcp_socket
        && first(errors, "tcpSocket")
    {
        port_or_name(errors, &path.child("tcpSocket").child("port"), &tcp.port);
    }
    if let Some(grpc) = actions.grpc
        && first(errors, "grpc")
    {
        port_or_name(errors, &path.child("grpc").child("port"), &IntOrString::Int(grpc.port));
    }
    if let Some(sleep) = actions.sleep
        && first(errors, "sleep")
        && let Some(grace) = grace
        && (sleep.seconds < 0 || sleep.seconds > grace)
    {
        let message = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(&path.child("sleep"), sleep.seconds, message);
    }
    if count == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(errors: &mut Errors, path: &Path<'_>, http: &HTTPGetAction) {
    if http.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    port_or_name(errors, &path.child("port"), &http.port);
    if !matches!(http.scheme.as_str(), "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), http.scheme.as_str(), &["HTTP", "HTTPS"]);
    }
    for header in &http.http_headers {
        check(errors, &path.child("httpHeaders"), &header.name, validation::http_header);
    }
    if let Some(protocol) = &http.protocol {
        let field = path.child("protocol");
        if !matches!(protocol.as_str(), "HTTP1" | "HTTP2") {
            errors.not_supported(&field, protocol.as_str(), &["HTTP1", "HTTP2"]);
        } else if protocol == "HTTP2" && http.scheme != "HTTP" {
            errors.invalid(&field, protocol.as_str(), "is only supported with HTTP (H2C)");
        } else if protocol == "HTTP2" && !http.host.is_empty() {
            let message = "must be empty when `protocol` is \"HTTP2\"";
            errors.invalid(&path.child("host"), http.host.as_str(), message);
        }
    }
}

/// A port by number or by name.
pub(crate) fn port_or_name(errors: &mut Errors, path: &Path<'_>, port: &IntOrString) {
    match port {
        IntOrString::Int(i) => {
            if let Some(fault) = port_number(i64::from(*i)) {
                errors.invalid(path, *i, fault);
            }
        }
        IntOrString::String(name) => check(errors, path, name, port_name),
    }
}

/// The fields that an ephemeral container shares with an ordinary one.
pub(crate) fn as_container(c: &EphemeralContainerCommon) -> Container {
    let c = c.clone();
    Container {
        name: c.name,
        image: c.image,
        command: c.command,
        args: c.args,
        working_dir: c.working_dir,
        ports: c.ports,
        env_from: c.env_from,
        env: c.env,
        resources: c.resources,
        resize_policy: c.resize_policy,
        restart_policy: c.restart_policy,
        restart_policy_rules: c.restart_policy_rules,
        volume_mounts: c.volume_mounts,
        volume_devices: c.volume_devices,
        liveness_probe: c.liveness_probe,
        readiness_probe: c.readiness_probe,
        startup_probe: c.startup_probe,
        lifecycle: c.lifecycle,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        image_pull_policy: c.image_pull_policy,
        security_context: c.security_context,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        tty: c.tty,
    }
}
