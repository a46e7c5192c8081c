//! ConversionReview: asks a webhook to convert custom resources.

use apimachinery::meta::Status;
use apimachinery::{Api, RawExtension};

/// ConversionReview: asks a webhook to convert custom resources.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ConversionReview")]
pub struct ConversionReview {
    #[api(1, omitempty)]
    pub request: Option<ConversionRequest>,
    #[api(2, omitempty)]
    pub response: Option<ConversionResponse>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ConversionRequest")]
pub struct ConversionRequest {
    #[api(1)]
    pub uid: String,
    #[api(2, json = "desiredAPIVersion")]
    pub desired_api_version: String,
    #[api(3, list = "atomic")]
    pub objects: Vec<RawExtension>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ConversionResponse")]
pub struct ConversionResponse {
    #[api(1)]
    pub uid: String,
    #[api(2, list = "atomic")]
    pub converted_objects: Vec<RawExtension>,
    #[api(3)]
    pub result: Status,
}
