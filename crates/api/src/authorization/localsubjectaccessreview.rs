//! LocalSubjectAccessReview: asks whether someone may do something in one namespace.

use crate::authorization::subjectaccessreview::{attributes, without_metadata};
use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::authorization::subjectaccessreview::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use crate::served::served;

/// LocalSubjectAccessReview: asks whether someone may do something in one namespace.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.LocalSubjectAccessReview")]
pub struct LocalSubjectAccessReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: SubjectAccessReviewSpec,
    #[api(3, omitempty)]
    pub status: SubjectAccessReviewStatus,
}

pub fn kind() -> Kind {
    Kind::namespaced::<LocalSubjectAccessReview>("authorization.k8s.io", "v1", "localsubjectaccessreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(
            r#"{"metadata": {"namespace": "default"}, "spec": {"user": "ann", "resourceAttributes": {"namespace": "default",
            "verb": "get", "resource": "pods"}}}"#,
        )
}

served!(LocalSubjectAccessReview, "authorization.k8s.io", "v1", "localsubjectaccessreviews", true);

impl Rules for LocalSubjectAccessReview {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        attributes(errors, &path, self.spec.resource_attributes.as_ref(), self.spec.non_resource_attributes.as_ref());
        if self.spec.user.is_empty() && self.spec.groups.is_empty() {
            errors.invalid(&path.child("user"), "", "at least one of user or group must be specified");
        }
        let unplaced = ObjectMeta { namespace: String::new(), ..self.metadata.clone() };
        without_metadata(errors, &unplaced, "must be empty except for namespace");
        let namespace = self.spec.resource_attributes.as_ref().map(|a| a.namespace.as_str());
        if namespace.is_some_and(|namespace| namespace != self.metadata.namespace) {
            let message = "must match metadata.namespace";
            let attributes = path.child("resourceAttributes");
            errors.invalid(&attributes.child("namespace"), namespace.unwrap_or(""), message);
        }
        if let Some(other) = &self.spec.non_resource_attributes {
            errors.invalid(
                &path.child("nonResourceAttributes"),
                other.to_value(),
                "disallowed on this kind of request",
            );
        }
    }
}
