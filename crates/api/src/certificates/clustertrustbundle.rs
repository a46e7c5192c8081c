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
        .example(
            r#"{"metadata": {"name": "example.com:signer:main"}, "spec": {"signerName": "example.com/signer",
            "trustBundle": "-----BEGIN CERTIFICATE-----\nMIIBgjCCASegAwIBAgIUTL86f9qwHkMIqY2IVeUKhmu7BTMwCgYIKoZIzj0EAwIw\nFTETMBEGA1UEAwwKZXhhbXBsZS1jYTAgFw0yNjExMjMxNTE4MzRaGA8yMTI2MTAz\nMDE1MTgzNFowFTETMBEGA1UEAwwKZXhhbXBsZS1jYTBZMBMGByqGSM49AgEGCCqG\nSM49AwEHA0IABM3L+YV7uxph2S4dug9a4GVimBuBoVMu0UWI4LRXYjsu6vYwqJOl\neI7an/cwR6By/Mqf1FnEX1csICgHJDfp9i2jUzBRMB0GA1UdDgQWBBQXS6tLSwTY\ntxMPI5Gr5GcfP7aglDAfBgNVHSMEGDAWgBQXS6tLSwTYtxMPI5Gr5GcfP7aglDAP\nBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQC1KD0FB2BR6Ny2R29U\nujW1B4pXcPplHB9UlL7dIdwxxwIhAMUj1hToMyHLD/Rud+Sd9G6d2BvaX063+QOa\nKsWDPge3\n-----END CERTIFICATE-----\n"}}"#,
        )
}

served!(ClusterTrustBundle, "certificates.k8s.io", "v1", "clustertrustbundles", false);

impl Rules for ClusterTrustBundle {}
