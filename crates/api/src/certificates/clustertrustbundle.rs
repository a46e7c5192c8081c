//! ClusterTrustBundle: publishes trust anchors.

use crate::certificates::certificatesigningrequest::signer_name;
use crate::checks::immutable;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

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
        .conditional_update()
        .example(
            r#"{"metadata": {"name": "example.com:signer:main"}, "spec": {"signerName": "example.com/signer",
            "trustBundle": "-----BEGIN CERTIFICATE-----\nMIIBgjCCASegAwIBAgIUTL86f9qwHkMIqY2IVeUKhmu7BTMwCgYIKoZIzj0EAwIw\nFTETMBEGA1UEAwwKZXhhbXBsZS1jYTAgFw0yNjExMjMxNTE4MzRaGA8yMTI2MTAz\nMDE1MTgzNFowFTETMBEGA1UEAwwKZXhhbXBsZS1jYTBZMBMGByqGSM49AgEGCCqG\nSM49AwEHA0IABM3L+YV7uxph2S4dug9a4GVimBuBoVMu0UWI4LRXYjsu6vYwqJOl\neI7an/cwR6By/Mqf1FnEX1csICgHJDfp9i2jUzBRMB0GA1UdDgQWBBQXS6tLSwTY\ntxMPI5Gr5GcfP7aglDAfBgNVHSMEGDAWgBQXS6tLSwTYtxMPI5Gr5GcfP7aglDAP\nBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQC1KD0FB2BR6Ny2R29U\nujW1B4pXcPplHB9UlL7dIdwxxwIhAMUj1hToMyHLD/Rud+Sd9G6d2BvaX063+QOa\nKsWDPge3\n-----END CERTIFICATE-----\n"}}"#,
        )
}

served!(ClusterTrustBundle, "certificates.k8s.io", "v1", "clustertrustbundles", false);

impl Rules for ClusterTrustBundle {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let metadata = Path::new("metadata");
        let spec = Path::new("spec");
        let signer = &self.spec.signer_name;
        let field = metadata.child("name");
        let name = self.metadata.name.as_str();
        if name.is_empty() {
            errors.required(&field, "name or generateName is required");
        } else if signer.is_empty() {
            if name.contains(':') {
                errors.invalid(&field, name, "ClusterTrustBundle without signer name must not have \":\" in its name");
            }
            check(errors, &field, name, dns_subdomain);
        } else {
            let prefix = format!("{}:", signer.replace('/', ":"));
            match name.strip_prefix(prefix.as_str()) {
                Some(rest) => check(errors, &field, rest, dns_subdomain),
                None => {
                    let message =
                        format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
                    errors.invalid(&field, name, message);
                }
            }
            signer_name(errors, &spec.child("signerName"), signer);
        }
        let bundle = spec.child("trustBundle");
        if !self.spec.trust_bundle.contains("-----BEGIN CERTIFICATE-----") {
            let message = "at least one trust anchor must be provided";
            errors.invalid(&bundle, "<value omitted>", message);
        } else if self.spec.trust_bundle.len() > 1 << 20 {
            errors.too_long(&bundle, 1 << 20);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("signerName"), &self.spec.signer_name, &old.spec.signer_name);
    }
}
