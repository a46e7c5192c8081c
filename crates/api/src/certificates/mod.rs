//! The certificates group: signing requests and trust.

use apimachinery::Kind;

pub mod certificatesigningrequest;
pub mod clustertrustbundle;
pub mod podcertificaterequest;

pub use certificatesigningrequest::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
pub use clustertrustbundle::{ClusterTrustBundle, ClusterTrustBundleSpec};
pub use podcertificaterequest::{PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![certificatesigningrequest::kind(), clustertrustbundle::kind(), podcertificaterequest::kind()]
}
