//! SubjectAccessReview: asks whether someone may do something.

use std::collections::BTreeMap;

use apimachinery::kind::Verbs;
use apimachinery::meta::{FieldSelectorRequirement, LabelSelectorRequirement, ObjectMeta};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::served::served;

/// SubjectAccessReview: asks whether someone may do something.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SubjectAccessReview")]
pub struct SubjectAccessReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: SubjectAccessReviewSpec,
    #[api(3, omitempty)]
    pub status: SubjectAccessReviewStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.ResourceAttributes")]
pub struct ResourceAttributes {
    #[api(1, omitempty)]
    pub namespace: String,
    #[api(2, omitempty)]
    pub verb: String,
    #[api(3, omitempty)]
    pub group: String,
    #[api(4, omitempty)]
    pub version: String,
    #[api(5, omitempty)]
    pub resource: String,
    #[api(6, omitempty)]
    pub subresource: String,
    #[api(7, omitempty)]
    pub name: String,
    #[api(8, omitempty)]
    pub field_selector: Option<FieldSelectorAttributes>,
    #[api(9, omitempty)]
    pub label_selector: Option<LabelSelectorAttributes>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.LabelSelectorAttributes")]
pub struct LabelSelectorAttributes {
    #[api(1, omitempty)]
    pub raw_selector: String,
    #[api(2, omitempty, list = "atomic")]
    pub requirements: Vec<LabelSelectorRequirement>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.FieldSelectorAttributes")]
pub struct FieldSelectorAttributes {
    #[api(1, omitempty)]
    pub raw_selector: String,
    #[api(2, omitempty, list = "atomic")]
    pub requirements: Vec<FieldSelectorRequirement>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.NonResourceAttributes")]
pub struct NonResourceAttributes {
    #[api(1, omitempty)]
    pub path: String,
    #[api(2, omitempty)]
    pub verb: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SubjectAccessReviewSpec")]
pub struct SubjectAccessReviewSpec {
    #[api(1, omitempty)]
    pub resource_attributes: Option<ResourceAttributes>,
    #[api(2, omitempty)]
    pub non_resource_attributes: Option<NonResourceAttributes>,
    #[api(3, omitempty)]
    pub user: String,
    #[api(4, omitempty, list = "atomic")]
    pub groups: Vec<String>,
    #[api(5, omitempty)]
    pub extra: BTreeMap<String, Vec<String>>,
    #[api(6, omitempty)]
    pub uid: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SubjectAccessReviewStatus")]
pub struct SubjectAccessReviewStatus {
    #[api(1, required)]
    pub allowed: bool,
    #[api(4, omitempty)]
    pub denied: bool,
    #[api(2, omitempty)]
    pub reason: String,
    #[api(3, omitempty)]
    pub evaluation_error: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<SubjectAccessReview>("authorization.k8s.io", "v1", "subjectaccessreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(r#"{"metadata":{},"spec":{"user":"ann","nonResourceAttributes":{"path":"/healthz","verb":"get"}}}"#)
}

served!(SubjectAccessReview, "authorization.k8s.io", "v1", "subjectaccessreviews", false);

impl Rules for SubjectAccessReview {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        attributes(errors, &path, self.spec.resource_attributes.as_ref(), self.spec.non_resource_attributes.as_ref());
        if self.spec.user.is_empty() && self.spec.groups.is_empty() {
            errors.invalid(&path.child("user"), "", "at least one of user or group must be specified");
        }
        without_metadata(errors, &self.metadata, "must be empty");
    }
}

/// Exactly one of the two sorts of request.
pub(crate) fn attributes(
    errors: &mut Errors,
    path: &Path<'_>,
    resource: Option<&ResourceAttributes>,
    other: Option<&NonResourceAttributes>,
) {
    if resource.is_some() == other.is_some() {
        let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(path, other.map_or(Value::Null, Api::to_value), message);
    }
}

/// A question has no metadata; what the server itself fills in does not count.
pub(crate) fn without_metadata(errors: &mut Errors, metadata: &ObjectMeta, message: &str) {
    let said = ObjectMeta { managed_fields: Vec::new(), ..metadata.clone() };
    if said != ObjectMeta::default() {
        errors.invalid(&Path::new("metadata"), metadata.to_value(), message);
    }
}
