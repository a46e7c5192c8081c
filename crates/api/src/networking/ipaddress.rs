//! IPAddress: records who owns a service address.

use crate::checks::immutable;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, path_segment, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::str_of;
use crate::served::served;

/// IPAddress: records who owns a service address.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IPAddress")]
pub struct IPAddress {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: IPAddressSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IPAddressSpec")]
pub struct IPAddressSpec {
    #[api(1, omitempty, required)]
    pub parent_ref: Option<ParentReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ParentReference")]
pub struct ParentReference {
    #[api(1, omitempty)]
    pub group: String,
    #[api(2, omitempty, required)]
    pub resource: String,
    #[api(3, omitempty)]
    pub namespace: String,
    #[api(4, omitempty, required)]
    pub name: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<IPAddress>("networking.k8s.io", "v1", "ipaddresses")
        .short(&["ip"])
        .code_column("ParentRef", "string", parent_cell)
        .example(
            r#"{"metadata": {"name": "10.96.0.10", "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}}, "spec": {"parentRef": {"resource": "services",
            "namespace": "default", "name": "web"}}}"#,
        )
}

served!(IPAddress, "networking.k8s.io", "v1", "ipaddresses", false);

impl Rules for IPAddress {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let metadata = Path::new("metadata");
        // The canonical form alone, so that an address has one name.
        let canonical = self.metadata.name.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string());
        if self.metadata.name.is_empty() {
            errors.required(&metadata.child("name"), "name or generateName is required");
        } else if canonical.as_deref() != Some(self.metadata.name.as_str()) {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(&metadata.child("name"), self.metadata.name.as_str(), message);
        }
        let spec = Path::new("spec");
        let path = spec.child("parentRef");
        let Some(parent) = &self.spec.parent_ref else {
            errors.required(&path, "");
            return;
        };
        if !parent.group.is_empty() {
            check(errors, &path.child("group"), &parent.group, dns_subdomain);
        }
        require(errors, &path.child("resource"), &parent.resource, path_segment);
        require(errors, &path.child("name"), &parent.name, path_segment);
        if !parent.namespace.is_empty() {
            check(errors, &path.child("namespace"), &parent.namespace, path_segment);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec").child("parentRef"), &self.spec.parent_ref, &old.spec.parent_ref);
    }
}

fn parent_cell(object: &Value, _now: i64) -> Value {
    let Some(parent) = object.at(&["spec", "parentRef"]) else { return "<none>".into() };
    let mut text = str_of(parent, &["resource"]).to_ascii_lowercase();
    if let Some(group) = parent.str_at(&["group"]).filter(|g| !g.is_empty()) {
        text = format!("{text}.{}", group.to_ascii_lowercase());
    }
    for part in ["namespace", "name"] {
        if let Some(part) = parent.str_at(&[part]).filter(|p| !p.is_empty()) {
            text = format!("{text}/{part}");
        }
    }
    text.into()
}
