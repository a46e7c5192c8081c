//! Binding: tells the scheduler's choice of a node for a pod.

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::core::references::ObjectReference;
use crate::served::served;

/// Binding: tells the scheduler's choice of a node for a pod.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Binding")]
pub struct Binding {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub target: ObjectReference,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Binding>("", "v1", "bindings")
        .verbs(Verbs::CREATE)
        .virtual_()
        .example(r#"{"metadata":{"name":"web"},"target":{"kind":"Node","name":"node-1"}}"#)
}

served!(Binding, "", "v1", "bindings", true);

impl Rules for Binding {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let target = Path::new("target");
        if !matches!(self.target.kind.as_str(), "" | "Node") {
            errors.not_supported(&target.child("kind"), self.target.kind.as_str(), &["Node", "<empty>"]);
        }
        require(errors, &target.child("name"), &self.target.name, dns_subdomain);
    }
}
