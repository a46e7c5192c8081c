//! Defaults of pods and of pod templates.

use crate::core::pod::container::{Container, EnvVar, EphemeralContainer, EphemeralContainerCommon};
use crate::core::pod::probe::{HTTPGetAction, Lifecycle, Probe};
use crate::core::pod::spec::{PodSpec, PodTemplateSpec};
use crate::core::volumes::{Volume, VolumeSource};

/// Defaults of a pod template: what a pod gets, less what only a pod gets.
pub(crate) fn pod_template_defaults(template: &mut PodTemplateSpec) {
    pod_spec_defaults(&mut template.spec);
}

/// Defaults of any pod spec.
pub(crate) fn pod_spec_defaults(spec: &mut PodSpec) {
    if spec.service_account_name.is_empty() {
        spec.service_account_name = spec.service_account.clone();
    }
    // The older name is kept equal to the newer one.
    spec.service_account = spec.service_account_name.clone();
    or(&mut spec.dns_policy, "ClusterFirst");
    or(&mut spec.restart_policy, "Always");
    or(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    for volume in &mut spec.volumes {
        volume_defaults(volume);
    }
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        container_defaults(container);
    }
    for container in &mut spec.ephemeral_containers {
        ephemeral_defaults(&mut container.ephemeral_container_common);
    }
}

/// Defaults that a pod has and a template has not.
pub(crate) fn pod_only_defaults(spec: &mut PodSpec) {
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        spec.termination_grace_period_seconds = Some(1);
    }
    spec.enable_service_links.get_or_insert(true);
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        // What is limited and not requested is requested up to the limit.
        let resources = &mut container.resources;
        for (resource, limit) in &resources.limits {
            resources.requests.entry(resource.clone()).or_insert_with(|| *limit);
        }
        container_protocols(container);
    }
    if spec.host_network {
        // Ports of a pod in the host's network are the host's ports.
        for port in spec.containers.iter_mut().chain(&mut spec.init_containers).flat_map(|c| &mut c.ports) {
            if port.host_port == 0 {
                port.host_port = port.container_port;
            }
        }
    }
    for EphemeralContainer { ephemeral_container_common: c, .. } in &mut spec.ephemeral_containers {
        protocols([&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe], &mut c.lifecycle);
    }
}

fn or(field: &mut String, default: &str) {
    if field.is_empty() {
        *field = default.into();
    }
}

fn volume_defaults(volume: &mut Volume) {
    let source = &mut volume.volume_source;
    if *source == VolumeSource::default() {
        source.empty_dir = Some(Default::default());
    }
    if let Some(image) = &mut source.image {
        or(&mut image.pull_policy, pull_policy(&image.reference));
    }
    if let Some(path) = &mut source.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(iscsi) = &mut source.iscsi {
        or(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut source.rbd {
        or(&mut rbd.pool, "rbd");
        or(&mut rbd.user, "admin");
        or(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut source.azure_disk {
        disk.caching_mode.get_or_insert_with(|| "ReadWrite".into());
        disk.fs_type.get_or_insert_with(|| "ext4".into());
        disk.read_only.get_or_insert(false);
        disk.kind.get_or_insert_with(|| "Shared".into());
    }
    if let Some(scale_io) = &mut source.scale_io {
        or(&mut scale_io.storage_mode, "ThinProvisioned");
        or(&mut scale_io.fs_type, "xfs");
    }
    if let Some(secret) = &mut source.secret {
        secret.default_mode.get_or_insert(0o644);
    }
    if let Some(map) = &mut source.config_map {
        map.default_mode.get_or_insert(0o644);
    }
    if let Some(downward) = &mut source.downward_api {
        downward.default_mode.get_or_insert(0o644);
        for field in downward.items.iter_mut().filter_map(|item| item.field_ref.as_mut()) {
            or(&mut field.api_version, "v1");
        }
    }
    if let Some(projected) = &mut source.projected {
        projected.default_mode.get_or_insert(0o644);
        for projection in &mut projected.sources {
            if let Some(token) = &mut projection.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
            let items = projection.downward_api.iter_mut().flat_map(|downward| &mut downward.items);
            for field in items.filter_map(|item| item.field_ref.as_mut()) {
                or(&mut field.api_version, "v1");
            }
        }
    }
    if let Some(template) = source.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        template.spec.set_defaults();
    }
}

/// `Always` for an image without a tag or with the tag `latest`, `IfNotPresent` for any other.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, digest),
        None => (image, ""),
    };
    // A colon before the last slash belongs to a registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map_or("", |(_, tag)| tag);
    if tag == "latest" || (tag.is_empty() && digest.is_empty()) { "Always" } else { "IfNotPresent" }
}

macro_rules! defaults_of_container {
    ($name:ident, $type:ty) => {
        fn $name(container: &mut $type) {
            or(&mut container.image_pull_policy, pull_policy(&container.image));
            or(&mut container.termination_message_path, "/dev/termination-log");
            or(&mut container.termination_message_policy, "File");
            for port in &mut container.ports {
                or(&mut port.protocol, "TCP");
            }
            env_defaults(&mut container.env);
            let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
            probes.into_iter().flatten().for_each(probe_defaults);
            if let Some(lifecycle) = &mut container.lifecycle {
                for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
                    handler.http_get.iter_mut().for_each(http_get_defaults);
                }
            }
        }
    };
}
defaults_of_container!(container_defaults, Container);
defaults_of_container!(ephemeral_defaults, EphemeralContainerCommon);

fn env_defaults(env: &mut [EnvVar]) {
    for source in env.iter_mut().filter_map(|variable| variable.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            or(&mut field.api_version, "v1");
        }
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
}

fn probe_defaults(probe: &mut Probe) {
    let fields = [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ];
    for (field, value) in fields {
        if *field == 0 {
            *field = value;
        }
    }
    probe.probe_handler.http_get.iter_mut().for_each(http_get_defaults);
    if let Some(grpc) = &mut probe.probe_handler.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get_defaults(action: &mut HTTPGetAction) {
    or(&mut action.path, "/");
    or(&mut action.scheme, "HTTP");
}

fn container_protocols(c: &mut Container) {
    protocols([&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe], &mut c.lifecycle);
}

/// HTTP probes and hooks of a pod say which HTTP they speak.
fn protocols(probes: [&mut Option<Probe>; 3], lifecycle: &mut Option<Lifecycle>) {
    let probes = probes.into_iter().flatten().filter_map(|probe| probe.probe_handler.http_get.as_mut());
    let hooks = lifecycle.iter_mut().flat_map(|l| [&mut l.post_start, &mut l.pre_stop]).flatten();
    for action in probes.chain(hooks.filter_map(|hook| hook.http_get.as_mut())) {
        action.protocol.get_or_insert_with(|| "HTTP1".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untagged_and_latest_images_are_always_pulled() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("nginx:latest@sha256:00", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
