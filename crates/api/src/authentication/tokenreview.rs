//! TokenReview: asks whom a token belongs to.

use std::collections::BTreeMap;

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::served::served;

/// TokenReview: asks whom a token belongs to.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenReview")]
pub struct TokenReview {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: TokenReviewSpec,
    #[api(3, omitempty)]
    pub status: TokenReviewStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenReviewSpec")]
pub struct TokenReviewSpec {
    #[api(1, omitempty, required)]
    pub token: String,
    #[api(2, omitempty, list = "atomic")]
    pub audiences: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenReviewStatus")]
pub struct TokenReviewStatus {
    #[api(1, omitempty)]
    pub authenticated: bool,
    #[api(2, omitempty)]
    pub user: UserInfo,
    #[api(4, omitempty, list = "atomic")]
    pub audiences: Vec<String>,
    #[api(3, omitempty)]
    pub error: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.UserInfo")]
pub struct UserInfo {
    #[api(1, omitempty)]
    pub username: String,
    #[api(2, omitempty)]
    pub uid: String,
    #[api(3, omitempty, list = "atomic")]
    pub groups: Vec<String>,
    #[api(4, omitempty)]
    pub extra: BTreeMap<String, Vec<String>>,
}

pub fn kind() -> Kind {
    Kind::cluster::<TokenReview>("authentication.k8s.io", "v1", "tokenreviews")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(r#"{"metadata":{},"spec":{"token":"abc"}}"#)
}

served!(TokenReview, "authentication.k8s.io", "v1", "tokenreviews", false);

impl Rules for TokenReview {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if self.spec.token.is_empty() {
            errors.required(&Path::new("spec").child("token"), "token is required for TokenReview in authentication");
        }
    }
}
