//! LocalSubjectAccessReview: asks whether someone may do something in one namespace.

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

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

impl Rules for LocalSubjectAccessReview {}
