//! VolumeAttachment: asks to attach a volume to a node.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use apimachinery::field::{ErrorKind, FieldError};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, dns_subdomain_caseless};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time};

use crate::cells::{flag, text};
use crate::core::persistentvolume::PersistentVolumeSpec;
use crate::served::served;

/// VolumeAttachment: asks to attach a volume to a node.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeAttachment")]
pub struct VolumeAttachment {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: VolumeAttachmentSpec,
    #[api(3, omitempty)]
    pub status: VolumeAttachmentStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeAttachmentSpec")]
pub struct VolumeAttachmentSpec {
    #[api(1, required)]
    pub attacher: String,
    #[api(2, required)]
    pub source: VolumeAttachmentSource,
    #[api(3, required)]
    pub node_name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeAttachmentSource")]
pub struct VolumeAttachmentSource {
    #[api(1, omitempty)]
    pub persistent_volume_name: Option<String>,
    #[api(2, omitempty)]
    pub inline_volume_spec: Option<PersistentVolumeSpec>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeAttachmentStatus")]
pub struct VolumeAttachmentStatus {
    #[api(1, required)]
    pub attached: bool,
    #[api(2, omitempty)]
    pub attachment_metadata: BTreeMap<String, String>,
    #[api(3, omitempty)]
    pub attach_error: Option<VolumeError>,
    #[api(4, omitempty)]
    pub detach_error: Option<VolumeError>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeError")]
pub struct VolumeError {
    #[api(1, omitempty)]
    pub time: Time,
    #[api(2, omitempty)]
    pub message: String,
    #[api(3, omitempty)]
    pub error_code: Option<i32>,
}

pub fn kind() -> Kind {
    Kind::cluster::<VolumeAttachment>("storage.k8s.io", "v1", "volumeattachments")
        .status()
        .code_column("Attacher", "string", |o, _| text(o, &["spec", "attacher"]))
        .code_column("PV", "string", |o, _| text(o, &["spec", "source", "persistentVolumeName"]))
        .code_column("Node", "string", |o, _| text(o, &["spec", "nodeName"]))
        .code_column("Attached", "boolean", |o, _| flag(o, &["status", "attached"], false))
        .age()
        .conditional_update()
        .returns_deleted()
        .status_keeps_metadata()
        .example(
            r#"{"metadata": {"name": "attach-1"}, "spec": {"attacher": "disks.example.com",
            "nodeName": "node-1", "source": {"persistentVolumeName": "disk-1"}}}"#,
        )
}

served!(VolumeAttachment, "storage.k8s.io", "v1", "volumeattachments", false);

impl Rules for VolumeAttachment {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        attacher(errors, &path.child("attacher"), &self.spec.attacher);
        check(errors, &path.child("nodeName"), &self.spec.node_name, dns_subdomain);
        let source = path.child("source");
        match (&self.spec.source.persistent_volume_name, &self.spec.source.inline_volume_spec) {
            (None, None) => {
                errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
            }
            (Some(_), Some(_)) => {
                errors.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
            }
            (Some(name), None) => {
                let field = source.child("persistentVolumeName");
                if name.is_empty() {
                    errors.required(&field, "must specify non empty persistentVolumeName");
                }
                check(errors, &field, name, dns_subdomain);
            }
            (None, Some(_)) => {}
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }
}

/// The name of a driver, in which case does not matter.
fn attacher(errors: &mut Errors, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        let detail = "may not be more than 63 characters".to_string();
        errors.push(FieldError { kind: ErrorKind::TooLong, field: path.to_string(), value: None, detail });
    }
    for fault in dns_subdomain_caseless(name) {
        errors.invalid(path, name, fault);
    }
}
