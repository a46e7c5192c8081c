//! NetworkPolicy: says which traffic selected pods may send and receive.

use crate::checks::{cidr, label_selector, maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_subdomain, port_name, port_number};
use apimachinery::{Api, Errors, IntOrString, Kind, Path, Rules, RulesCx};

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

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        label_selector(errors, &path.child("podSelector"), &spec.pod_selector);
        let ingress = path.child("ingress");
        for (i, rule) in spec.ingress.iter().enumerate() {
            rule_parts(errors, &ingress.index(i), &rule.ports, ("from", &rule.from));
        }
        let egress = path.child("egress");
        for (i, rule) in spec.egress.iter().enumerate() {
            rule_parts(errors, &egress.index(i), &rule.ports, ("to", &rule.to));
        }
        let types = path.child("policyTypes");
        if spec.policy_types.len() > 2 {
            let shown = apimachinery::Api::to_value(&spec.policy_types);
            errors.invalid(&types, shown, "may not specify more than two policyTypes");
            return;
        }
        for (i, type_) in spec.policy_types.iter().enumerate() {
            if !matches!(type_.as_str(), "Ingress" | "Egress") {
                errors.not_supported(&types.index(i), type_.as_str(), &["Ingress", "Egress"]);
            }
        }
    }
}

fn rule_parts(
    errors: &mut Errors,
    path: &Path<'_>,
    ports: &[NetworkPolicyPort],
    (peers_field, peers): (&str, &[NetworkPolicyPeer]),
) {
    let list = path.child("ports");
    for (i, port) in ports.iter().enumerate() {
        let path = list.index(i);
        maybe_one_of(errors, &path.child("protocol"), port.protocol.as_ref(), &["TCP", "UDP", "SCTP"]);
        let (field, end_field) = (path.child("port"), path.child("endPort"));
        match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), end) => {
                if let Some(fault) = port_number(i64::from(*first)) {
                    errors.invalid(&field, *first, fault);
                }
                if let Some(end) = end {
                    if end < *first {
                        errors.invalid(&end_field, end, "must be greater than or equal to `port`");
                    }
                    if let Some(fault) = port_number(i64::from(end)) {
                        errors.invalid(&end_field, end, fault);
                    }
                }
            }
            (Some(IntOrString::String(name)), end) => {
                if let Some(end) = end {
                    errors.invalid(&end_field, end, "may not be specified when `port` is non-numeric");
                }
                check(errors, &field, name, port_name);
            }
            (None, Some(end)) => {
                errors.invalid(&end_field, end, "may not be specified when `port` is not specified");
            }
            (None, None) => {}
        }
    }
    let list = path.child(peers_field);
    for (i, peer) in peers.iter().enumerate() {
        let path = list.index(i);
        let mut count = 0;
        for (field, selector) in [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)]
        {
            if let Some(selector) = selector {
                count += 1;
                label_selector(errors, &path.child(field), selector);
            }
        }
        if let Some(block) = &peer.ip_block {
            count += 1;
            ip_block(errors, &path.child("ipBlock"), block);
        }
        if count == 0 {
            errors.required(&path, "must specify a peer");
        } else if count > 1 && peer.ip_block.is_some() {
            errors.forbidden(&path, "may not specify both ipBlock and another peer");
        }
    }
}

fn ip_block(errors: &mut Errors, path: &Path<'_>, block: &IPBlock) {
    let field = path.child("cidr");
    if block.cidr.is_empty() {
        errors.required(&field, "");
        return;
    }
    let Some((network, bits)) = cidr(errors, &field, &block.cidr) else { return };
    let except = path.child("except");
    for (i, range) in block.except.iter().enumerate() {
        let path = except.index(i);
        let Some((inner, inner_bits)) = cidr(errors, &path, range) else { continue };
        if inner_bits <= bits || !within(network, bits, inner) {
            errors.invalid(&path, range.as_str(), "must be a strict subset of `cidr`");
        }
    }
}

/// Whether an address lies in a network.
fn within(network: std::net::IpAddr, bits: u8, address: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    let (a, b, width) = match (network, address) {
        (V4(a), V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (V6(a), V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let shift = width - u32::from(bits);
    a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn blocks_contain_their_exceptions() {
        let block = r#"[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/9","10.1.0.0/16"]}}]"#;
        refuses(
            &super::kind(),
            &[("spec.ingress.0.from", block)],
            &[
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/9\": must be a strict subset of `cidr`",
            ],
        );
    }
}
