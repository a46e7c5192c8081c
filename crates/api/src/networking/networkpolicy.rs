//! NetworkPolicy: says which traffic selected pods may send and receive.

use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, IntOrString, Kind, Rules};

use crate::cells::selector;
use crate::served::served;

/// NetworkPolicy: says which traffic selected pods may send and receive.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicy")]
pub struct NetworkPolicy {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: NetworkPolicySpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicySpec")]
pub struct NetworkPolicySpec {
    #[api(1)]
    pub pod_selector: LabelSelector,
    #[api(2, omitempty, list = "atomic")]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    #[api(3, omitempty, list = "atomic")]
    pub egress: Vec<NetworkPolicyEgressRule>,
    #[api(4, omitempty, list = "atomic")]
    pub policy_types: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicyIngressRule")]
pub struct NetworkPolicyIngressRule {
    #[api(1, omitempty, list = "atomic")]
    pub ports: Vec<NetworkPolicyPort>,
    #[api(2, omitempty, list = "atomic")]
    pub from: Vec<NetworkPolicyPeer>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicyEgressRule")]
pub struct NetworkPolicyEgressRule {
    #[api(1, omitempty, list = "atomic")]
    pub ports: Vec<NetworkPolicyPort>,
    #[api(2, omitempty, list = "atomic")]
    pub to: Vec<NetworkPolicyPeer>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicyPort")]
pub struct NetworkPolicyPort {
    #[api(1, omitempty, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: Option<String>,
    #[api(2, omitempty)]
    pub port: Option<IntOrString>,
    #[api(3, omitempty)]
    pub end_port: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IPBlock")]
pub struct IPBlock {
    #[api(1, required)]
    pub cidr: String,
    #[api(2, omitempty, list = "atomic")]
    pub except: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.NetworkPolicyPeer")]
pub struct NetworkPolicyPeer {
    #[api(1, omitempty)]
    pub pod_selector: Option<LabelSelector>,
    #[api(2, omitempty)]
    pub namespace_selector: Option<LabelSelector>,
    #[api(3, omitempty)]
    pub ip_block: Option<IPBlock>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<NetworkPolicy>("networking.k8s.io", "v1", "networkpolicies")
        .short(&["netpol"])
        .generation(Generation::OnSpec)
        .code_column("Pod-Selector", "string", |o, _| selector(o, &["spec", "podSelector"]))
        .age()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 8080}]}]}}"#,
        )
}

served!(NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies", true);

impl Rules for NetworkPolicy {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        let ports = spec.ingress.iter_mut().flat_map(|rule| &mut rule.ports);
        for port in ports.chain(spec.egress.iter_mut().flat_map(|rule| &mut rule.ports)) {
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
        if spec.policy_types.is_empty() {
            spec.policy_types.push("Ingress".into());
            if !spec.egress.is_empty() {
                spec.policy_types.push("Egress".into());
            }
        }
    }
}
