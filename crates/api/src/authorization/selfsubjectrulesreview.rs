//! SelfSubjectRulesReview: lists what the caller may do in a namespace.

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

use crate::served::served;

/// SelfSubjectRulesReview: lists what the caller may do in a namespace.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SelfSubjectRulesReview")]
pub struct SelfSubjectRulesReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: SelfSubjectRulesReviewSpec,
    #[api(3, omitempty)]
    pub status: SubjectRulesReviewStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SelfSubjectRulesReviewSpec")]
pub struct SelfSubjectRulesReviewSpec {
    #[api(1, omitempty)]
    pub namespace: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.SubjectRulesReviewStatus")]
pub struct SubjectRulesReviewStatus {
    #[api(1, required, list = "atomic")]
    pub resource_rules: Vec<ResourceRule>,
    #[api(2, required, list = "atomic")]
    pub non_resource_rules: Vec<NonResourceRule>,
    #[api(3, required)]
    pub incomplete: bool,
    #[api(4, omitempty)]
    pub evaluation_error: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.ResourceRule")]
pub struct ResourceRule {
    #[api(1, required, list = "atomic")]
    pub verbs: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub api_groups: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub resources: Vec<String>,
    #[api(4, omitempty, list = "atomic")]
    pub resource_names: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authorization.v1.NonResourceRule")]
pub struct NonResourceRule {
    #[api(1, required, list = "atomic")]
    pub verbs: Vec<String>,
    #[api(2, json = "nonResourceURLs", omitempty, list = "atomic")]
    pub non_resource_urls: Vec<String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<SelfSubjectRulesReview>("authorization.k8s.io", "v1", "selfsubjectrulesreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(r#"{"metadata":{},"spec":{"namespace":"default"}}"#)
}

served!(SelfSubjectRulesReview, "authorization.k8s.io", "v1", "selfsubjectrulesreviews", false);

impl Rules for SelfSubjectRulesReview {}
