//! VolumeAttachment: asks to attach a volume to a node.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Time};

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
        .example(
            r#"{"metadata": {"name": "attach-1"}, "spec": {"attacher": "disks.example.com",
            "nodeName": "node-1", "source": {"persistentVolumeName": "disk-1"}}}"#,
        )
}

served!(VolumeAttachment, "storage.k8s.io", "v1", "volumeattachments", false);

impl Rules for VolumeAttachment {}
