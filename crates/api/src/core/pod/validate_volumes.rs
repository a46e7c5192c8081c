//! Rules of the volumes of a pod.

use std::collections::BTreeSet;

use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{self, dns_label, dns_subdomain};
use apimachinery::{Errors, Path};

use crate::certificates::certificatesigningrequest::signer_name;
use crate::checks::{no_backsteps, one_of, volume_file};
use crate::core::pod::validate_container::{FILE_FIELDS, Volumes, field_selector, resource_selector};
use crate::core::volumes::{
    DownwardAPIVolumeFile, KeyToPath, PodCertificateProjection, ProjectedVolumeSource, Volume, VolumeSource,
};
use crate::quantities;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks the volumes and returns the sound ones by name.
pub(crate) fn volumes<'a>(
    errors: &mut Errors,
    path: &Path<'_>,
    volumes: &'a [Volume],
    metadata: Option<&ObjectMeta>,
) -> Volumes<'a> {
    let pod = metadata.map_or("", |m| m.name.as_str());
    let created: BTreeSet<String> = volumes
        .iter()
        .filter(|v| !pod.is_empty() && v.volume_source.ephemeral.is_some())
        .map(|v| format!("{pod}-{}", v.name))
        .collect();
    let mut found = Volumes::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let mut faults = Errors::new();
        source(&mut faults, &path, &volume.volume_source, &volume.name, pod);
        validation::require(&mut faults, &path.child("name"), &volume.name, dns_label);
        if found.contains_key(volume.name.as_str()) {
            faults.duplicate(&path.child("name"), volume.name.as_str());
        }
        if faults.is_empty() {
            found.insert(&volume.name, &volume.volume_source);
        }
        errors.append(faults);
        if let Some(claim) = &volume.volume_source.persistent_volume_claim
            && created.contains(&claim.claim_name)
        {
            let message = "must not reference a PVC that gets created for an ephemeral volume";
            let field = path.child("persistentVolumeClaim");
            errors.invalid(&field.child("claimName"), claim.claim_name.as_str(), message);
        }
    }
    found
}

fn source(errors: &mut Errors, path: &Path<'_>, source: &VolumeSource, name: &str, pod: &str) {
    let set = [
        ("emptyDir", source.empty_dir.is_some()),
        ("hostPath", source.host_path.is_some()),
        ("gitRepo", source.git_repo.is_some()),
        ("gcePersistentDisk", source.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", source.aws_elastic_block_store.is_some()),
        ("secret", source.secret.is_some()),
        ("nfs", source.nfs.is_some()),
        ("iscsi", source.iscsi.is_some()),
        ("glusterfs", source.glusterfs.is_some()),
        ("flocker", source.flocker.is_some()),
        ("persistentVolumeClaim", source.persistent_volume_claim.is_some()),
        ("rbd", source.rbd.is_some()),
        ("cinder", source.cinder.is_some()),
        ("cephFS", source.cephfs.is_some()),
        ("quobyte", source.quobyte.is_some()),
        ("downwardAPI", source.downward_api.is_some()),
        ("fc", source.fc.is_some()),
        ("flexVolume", source.flex_volume.is_some()),
        ("configMap", source.config_map.is_some()),
        ("azureFile", source.azure_file.is_some()),
        ("vsphereVolume", source.vsphere_volume.is_some()),
        ("photonPersistentDisk", source.photon_persistent_disk.is_some()),
        ("portworxVolume", source.portworx_volume.is_some()),
        ("azureDisk", source.azure_disk.is_some()),
        ("storageos", source.storageos.is_some()),
        ("projected", source.projected.is_some()),
        ("scaleIO", source.scale_io.is_some()),
        ("csi", source.csi.is_some()),
        ("ephemeral", source.ephemeral.is_some()),
        ("image", source.image.is_some()),
    ];
    let present: Vec<&str> = set.into_iter().filter(|(_, set)| *set).map(|(field, _)| field).collect();
    let Some(first) = present.first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    for field in &present[1..] {
        errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
    }
    content(errors, &path.child(first), source, first);
    if *first == "ephemeral" && !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for fault in dns_subdomain(&claim) {
            errors.invalid(&path.child("name"), name, format!("PVC name {claim:?}: {fault}"));
        }
    }
}

/// Checks the fields of the one source that is set.
fn content(errors: &mut Errors, path: &Path<'_>, source: &VolumeSource, which: &str) {
    match which {
        "emptyDir" => {
            let limit = source.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
            if limit.is_some_and(|limit| limit.is_negative()) {
                errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => {
            let Some(host) = &source.host_path else { return };
            if host.path.is_empty() {
                errors.required(&path.child("path"), "");
                return;
            }
            no_backsteps(errors, &path.child("path"), &host.path);
            let types =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            if let Some(type_) = &host.type_
                && !types.contains(&type_.as_str())
            {
                errors.not_supported(&path.child("type"), type_.as_str(), &types);
            }
        }
        "secret" => {
            let Some(secret) = &source.secret else { return };
            if secret.secret_name.is_empty() {
                errors.required(&path.child("secretName"), "");
            }
            mode(errors, &path.child("defaultMode"), secret.default_mode);
            keys(errors, &path.child("items"), &secret.items);
        }
        "configMap" => {
            let Some(map) = &source.config_map else { return };
            if map.local_object_reference.name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            mode(errors, &path.child("defaultMode"), map.default_mode);
            keys(errors, &path.child("items"), &map.items);
        }
        "nfs" => {
            let Some(nfs) = &source.nfs else { return };
            if nfs.server.is_empty() {
                errors.required(&path.child("server"), "");
            }
            if nfs.path.is_empty() {
                errors.required(&path.child("path"), "");
            }
            if !nfs.path.starts_with('/') {
                errors.invalid(&path.child("path"), nfs.path.as_str(), "must be an absolute path");
            }
        }
        "persistentVolumeClaim" if source.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name.is_empty()) => {
            errors.required(&path.child("claimName"), "");
        }
        "downwardAPI" => {
            let Some(downward) = &source.downward_api else { return };
            mode(errors, &path.child("defaultMode"), downward.default_mode);
            for file in &downward.items {
                downward_file(errors, path, file);
            }
        }
        "projected" => {
            if let Some(projected) = &source.projected {
                mode(errors, &path.child("defaultMode"), projected.default_mode);
                projections(errors, path, projected);
            }
        }
        "csi" => {
            let Some(csi) = &source.csi else { return };
            driver_name(errors, &path.child("driver"), &csi.driver);
            if let Some(secret) = &csi.node_publish_secret_ref {
                if secret.name.is_empty() {
                    let reference = path.child("nodePublishSecretRef");
                    errors.required(&reference.child("name"), "");
                } else {
                    validation::check(errors, &path.child("name"), &secret.name, dns_subdomain);
                }
            }
        }
        "ephemeral" => {
            let field = path.child("volumeClaimTemplate");
            match source.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) {
                None => errors.required(&field, ""),
                Some(template) => {
                    crate::core::persistentvolumeclaim::claim_spec(errors, &field.child("spec"), &template.spec);
                }
            }
        }
        "image" => {
            let Some(image) = &source.image else { return };
            if image.reference.is_empty() {
                errors.required(&path.child("reference"), "");
            }
            one_of(errors, &path.child("pullPolicy"), &image.pull_policy, &["Always", "IfNotPresent", "Never"]);
        }
        // The sources of retired in-tree drivers are carried and left to whoever still mounts them.
        _ => {}
    }
}

/// The name of a CSI driver: case is ignored.
pub(crate) fn driver_name(errors: &mut Errors, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    for fault in dns_subdomain(&name.to_lowercase()) {
        errors.invalid(path, name, fault);
    }
}

fn mode(errors: &mut Errors, path: &Path<'_>, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, MODE);
    }
}

fn keys(errors: &mut Errors, path: &Path<'_>, items: &[KeyToPath]) {
    for (i, item) in items.iter().enumerate() {
        let path = path.index(i);
        for (field, value) in [("key", &item.key), ("path", &item.path)] {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        volume_file(errors, &path.child("path"), &item.path);
        mode(errors, &path.child("mode"), item.mode);
    }
}

fn downward_file(errors: &mut Errors, path: &Path<'_>, file: &DownwardAPIVolumeFile) {
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    volume_file(errors, &path.child("path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            field_selector(errors, &path.child("fieldRef"), field, &FILE_FIELDS);
            if resource.is_some() {
                let message = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", message);
            }
        }
        (None, Some(resource)) => resource_selector(errors, &path.child("resourceFieldRef"), resource, true),
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(errors, &path.child("mode"), file.mode);
}

fn projections(errors: &mut Errors, path: &Path<'_>, projected: &ProjectedVolumeSource) {
    let sources = path.child("sources");
    let mut paths = BTreeSet::new();
    let mut taken = |errors: &mut Errors, file: &str, shown: &str| {
        if !file.is_empty() && !paths.insert(file.to_string()) {
            errors.invalid(path, shown, "conflicting duplicate paths");
        }
    };
    for (i, projection) in projected.sources.iter().enumerate() {
        let item = sources.index(i);
        let mut count = 0;
        let keyed = [
            ("secret", projection.secret.as_ref().map(|s| (&s.local_object_reference.name, &s.items))),
            ("configMap", projection.config_map.as_ref().map(|s| (&s.local_object_reference.name, &s.items))),
        ];
        for (field, projection) in keyed {
            let Some((name, items)) = projection else { continue };
            count += 1;
            let path = item.child(field);
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            keys(errors, &path.child("items"), items);
            for key in items {
                taken(errors, &key.path, name);
            }
        }
        if let Some(downward) = &projection.downward_api {
            count += 1;
            for file in &downward.items {
                downward_file(errors, &item.child("downwardAPI"), file);
                taken(errors, &file.path, &file.path);
            }
        }
        if let Some(token) = &projection.service_account_token {
            count += 1;
            let source = item.child("serviceAccountToken");
            let seconds = source.child("expirationSeconds");
            match token.expiration_seconds {
                None => errors.required(&seconds, ""),
                Some(s) if s < 600 => {
                    errors.invalid(&seconds, s, "may not specify a duration less than 10 minutes");
                }
                Some(s) if s > 1 << 32 => {
                    errors.invalid(&seconds, s, "may not specify a duration larger than 2^32 seconds");
                }
                Some(_) => {}
            }
            if token.path.is_empty() {
                errors.required(&path.child("path"), "");
            } else {
                volume_file(errors, &path.child("path"), &token.path);
            }
        }
        if let Some(bundle) = &projection.cluster_trust_bundle {
            count += 1;
            let source = item.child("clusterTrustBundle");
            match (&bundle.name, &bundle.signer_name) {
                (Some(_), Some(_)) => {
                    errors.invalid(&source, bundle.path.as_str(), "only one of name and signerName may be used");
                }
                (Some(name), None) if name.is_empty() => {
                    errors.required(&source.child("name"), "must be a valid object name");
                }
                (None, Some(signer)) if signer.is_empty() => {
                    errors.required(&source.child("signerName"), "must be a valid signer name");
                }
                (None, None) => errors.required(&source, "either name or signerName must be specified"),
                _ => {}
            }
            if bundle.path.is_empty() {
                errors.required(&source.child("path"), "");
            }
            volume_file(errors, &source.child("path"), &bundle.path);
            taken(errors, &bundle.path, &bundle.path);
        }
        if let Some(certificate) = &projection.pod_certificate {
            count += 1;
            let source = item.child("podCertificate");
            certificate_terms(errors, &source, certificate);
            let files = [
                ("credentialBundlePath", &certificate.credential_bundle_path),
                ("keyPath", &certificate.key_path),
                ("certificateChainPath", &certificate.certificate_chain_path),
            ];
            if files.iter().all(|(_, file)| file.is_empty()) {
                let message = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.required(&source, message);
            }
            for (field, file) in files.into_iter().filter(|(_, file)| !file.is_empty()) {
                volume_file(errors, &source.child(field), file);
                taken(errors, file, file);
            }
        }
        if count > 1 {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}

/// What a certificate of the pod may be asked for, beside its files.
fn certificate_terms(errors: &mut Errors, path: &Path<'_>, certificate: &PodCertificateProjection) {
    signer_name(errors, &path.child("signerName"), &certificate.signer_name);
    let annotations = path.child("userAnnotations");
    for key in certificate.user_annotations.keys() {
        let key = key.to_lowercase();
        let faults = validation::qualified_name(&key);
        if faults.is_empty() && key.split('/').count() != 2 {
            let message = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.invalid(&annotations, key.as_str(), message);
        }
        for fault in faults {
            errors.invalid(&annotations, key.as_str(), fault);
        }
    }
    let size: usize = certificate.user_annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > validation::ANNOTATIONS_LIMIT {
        errors.too_long(&annotations, validation::ANNOTATIONS_LIMIT);
    }
    let types = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    if !types.contains(&certificate.key_type.as_str()) {
        errors.not_supported(&path.child("keyType"), certificate.key_type.as_str(), &types);
    }
    let Some(seconds) = certificate.max_expiration_seconds else { return };
    let field = path.child("maxExpirationSeconds");
    if seconds < 3600 {
        errors.invalid(&field, seconds, "if provided, maxExpirationSeconds must be >= 3600");
    }
    // Signers of Kubernetes itself give a day, all others up to 91.
    let domain = certificate.signer_name.split('/').next().unwrap_or_default();
    let longest = if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") { 86_400 } else { 7_862_400 };
    if seconds > longest {
        errors.invalid(&field, seconds, format!("if provided, maxExpirationSeconds must be <= {longest}"));
    }
}

/// Reports a capacity below zero.
pub(crate) fn capacity(errors: &mut Errors, path: &Path<'_>, capacity: &quantities::Resources) {
    for (resource, quantity) in capacity {
        quantities::resource_value(errors, &path.key(resource), resource, quantity);
    }
}
