//! SelfSubjectAccessReview: asks whether the caller may do something.

use crate::authorization::subjectaccessreview::{attributes, without_metadata};
use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::authorization::subjectaccessreview::{NonResourceAttributes, ResourceAttributes, SubjectAccessReviewStatus};
use crate::served::served;

/// SelfSubjectAccessReview: asks whether the caller may do something.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SelfSubjectAccessReview")]
pub struct SelfSubjectAccessReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: SelfSubjectAccessReviewSpec,
    #[api(3, omitempty)]
    pub status: SubjectAccessReviewStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SelfSubjectAccessReviewSpec")]
pub struct SelfSubjectAccessReviewSpec {
    #[api(1, omitempty)]
    pub resource_attributes: Option<ResourceAttributes>,
    #[api(2, omitempty)]
    pub non_resource_attributes: Option<NonResourceAttributes>,
}

pub fn kind() -> Kind {
    Kind::cluster::<SelfSubjectAccessReview>("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(
            r#"{"metadata": {}, "spec": {"resourceAttributes": {"namespace": "default",
            "verb": "get", "resource": "pods"}}}"#,
        )
}

served!(SelfSubjectAccessReview, "authorization.k8s.io", "v1", "selfsubjectaccessreviews", false);

impl Rules for SelfSubjectAccessReview {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        attributes(errors, &path, self.spec.resource_attributes.as_ref(), self.spec.non_resource_attributes.as_ref());
        without_metadata(errors, &self.metadata, "must be empty");
    }
}
