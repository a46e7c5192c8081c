//! ClusterTrustBundle: publishes trust anchors.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

use crate::cells::text_or;
use crate::served::served;

/// ClusterTrustBundle: publishes trust anchors.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.ClusterTrustBundle")]
pub struct ClusterTrustBundle {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: ClusterTrustBundleSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.ClusterTrustBundleSpec")]
pub struct ClusterTrustBundleSpec {
    #[api(1, omitempty)]
    pub signer_name: String,
    #[api(2, required)]
    pub trust_bundle: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<ClusterTrustBundle>("certificates.k8s.io", "v1", "clustertrustbundles")
        .selectable(&["spec.signerName"])
        .code_column("SignerName", "string", |o, _| text_or(o, &["spec", "signerName"], "<none>"))
}

served!(ClusterTrustBundle, "certificates.k8s.io", "v1", "clustertrustbundles", false);

impl Rules for ClusterTrustBundle {}
