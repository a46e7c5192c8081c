//! SelfSubjectReview: answers who the caller is.

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

use crate::authentication::tokenreview::UserInfo;
use crate::served::served;

/// SelfSubjectReview: answers who the caller is.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.SelfSubjectReview")]
pub struct SelfSubjectReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub status: SelfSubjectReviewStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.SelfSubjectReviewStatus")]
pub struct SelfSubjectReviewStatus {
    #[api(1, omitempty)]
    pub user_info: UserInfo,
}

pub fn kind() -> Kind {
    Kind::cluster::<SelfSubjectReview>("authentication.k8s.io", "v1", "selfsubjectreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(r#"{"metadata":{}}"#)
}

served!(SelfSubjectReview, "authentication.k8s.io", "v1", "selfsubjectreviews", false);

impl Rules for SelfSubjectReview {}
