//! The storage group: classes, drivers, attachments.

use apimachinery::Kind;

pub mod csidriver;
pub mod csinode;
pub mod csistoragecapacity;
pub mod storageclass;
pub mod volumeattachment;
pub mod volumeattributesclass;

pub use csidriver::{CSIDriver, CSIDriverSpec, TokenRequest};
pub use csinode::{
    CSINode, CSINodeDriver, CSINodeSpec, CSINodeStatus, StorageHealth, StorageHealthCondition, VolumeNodeResources,
};
pub use csistoragecapacity::CSIStorageCapacity;
pub use storageclass::StorageClass;
pub use volumeattachment::{
    VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec, VolumeAttachmentStatus, VolumeError,
};
pub use volumeattributesclass::VolumeAttributesClass;

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![
        csidriver::kind(),
        csinode::kind(),
        csistoragecapacity::kind(),
        storageclass::kind(),
        volumeattachment::kind(),
        volumeattributesclass::kind(),
    ]
}
