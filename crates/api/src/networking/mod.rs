//! The networking group: ingresses, policies, service addresses.

use apimachinery::Kind;

pub mod ingress;
pub mod ingressclass;
pub mod ipaddress;
pub mod networkpolicy;
pub mod servicecidr;

pub use ingress::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressLoadBalancerIngress,
    IngressLoadBalancerStatus, IngressPortStatus, IngressRule, IngressRuleValue, IngressServiceBackend, IngressSpec,
    IngressStatus, IngressTLS, ServiceBackendPort,
};
pub use ingressclass::{IngressClass, IngressClassParametersReference, IngressClassSpec};
pub use ipaddress::{IPAddress, IPAddressSpec, ParentReference};
pub use networkpolicy::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
pub use servicecidr::{ServiceCIDR, ServiceCIDRSpec, ServiceCIDRStatus};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![ingress::kind(), ingressclass::kind(), ipaddress::kind(), networkpolicy::kind(), servicecidr::kind()]
}
