//! AdmissionReview: asks a webhook about one request.

use std::collections::BTreeMap;

use apimachinery::meta::{GroupVersionKind, GroupVersionResource, Status};
use apimachinery::{Api, Bytes, RawExtension};

use crate::authentication::tokenreview::UserInfo;

/// AdmissionReview: asks a webhook about one request.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admission.v1.AdmissionReview")]
pub struct AdmissionReview {
    #[api(1, omitempty)]
    pub request: Option<AdmissionRequest>,
    #[api(2, omitempty)]
    pub response: Option<AdmissionResponse>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admission.v1.AdmissionRequest")]
pub struct AdmissionRequest {
    #[api(1)]
    pub uid: String,
    #[api(2)]
    pub kind: GroupVersionKind,
    #[api(3)]
    pub resource: GroupVersionResource,
    #[api(4, omitempty)]
    pub sub_resource: String,
    #[api(13, omitempty)]
    pub request_kind: Option<GroupVersionKind>,
    #[api(14, omitempty)]
    pub request_resource: Option<GroupVersionResource>,
    #[api(15, omitempty)]
    pub request_sub_resource: String,
    #[api(5, omitempty)]
    pub name: String,
    #[api(6, omitempty)]
    pub namespace: String,
    #[api(7)]
    pub operation: String,
    #[api(8)]
    pub user_info: UserInfo,
    #[api(9, omitempty)]
    pub object: RawExtension,
    #[api(10, omitempty)]
    pub old_object: RawExtension,
    #[api(11, omitempty)]
    pub dry_run: Option<bool>,
    #[api(12, omitempty)]
    pub options: RawExtension,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admission.v1.AdmissionResponse")]
pub struct AdmissionResponse {
    #[api(1)]
    pub uid: String,
    #[api(2)]
    pub allowed: bool,
    #[api(3, omitempty)]
    pub status: Option<Status>,
    #[api(4, omitempty)]
    pub patch: Bytes,
    #[api(5, omitempty)]
    pub patch_type: Option<String>,
    #[api(6, omitempty)]
    pub audit_annotations: BTreeMap<String, String>,
    #[api(7, omitempty, list = "atomic")]
    pub warnings: Vec<String>,
}
