//! TokenRequest: asks for a token of a service account.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Time};

/// TokenRequest: asks for a token of a service account.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenRequest")]
pub struct TokenRequest {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub spec: TokenRequestSpec,
    #[api(3, omitempty)]
    pub status: TokenRequestStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenRequestSpec")]
pub struct TokenRequestSpec {
    #[api(1, list = "atomic")]
    pub audiences: Vec<String>,
    #[api(4)]
    pub expiration_seconds: Option<i64>,
    #[api(3)]
    pub bound_object_ref: Option<BoundObjectReference>,
    #[api(5, omitempty)]
    pub attestations: BTreeMap<String, Vec<String>>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.TokenRequestStatus")]
pub struct TokenRequestStatus {
    #[api(1)]
    pub token: String,
    #[api(2)]
    pub expiration_timestamp: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.authentication.v1.BoundObjectReference")]
pub struct BoundObjectReference {
    #[api(1, omitempty)]
    pub kind: String,
    #[api(2, omitempty)]
    pub api_version: String,
    #[api(3, omitempty)]
    pub name: String,
    #[api(4, omitempty)]
    pub uid: String,
}
