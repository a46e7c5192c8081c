//! Namespace: separates names, quotas and permissions.

use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Time};

use crate::cells::text;
use crate::served::served;

/// Namespace: separates names, quotas and permissions.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Namespace")]
pub struct Namespace {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: NamespaceSpec,
    #[api(3, omitempty)]
    pub status: NamespaceStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NamespaceSpec")]
pub struct NamespaceSpec {
    #[api(1, omitempty, list = "atomic")]
    pub finalizers: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NamespaceStatus")]
pub struct NamespaceStatus {
    #[api(1, omitempty, enumeration("Active", "Terminating"))]
    pub phase: String,
    #[api(2, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<NamespaceCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NamespaceCondition")]
pub struct NamespaceCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(4, omitempty)]
    pub last_transition_time: Time,
    #[api(5, omitempty)]
    pub reason: String,
    #[api(6, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<Namespace>("", "v1", "namespaces")
        .verbs(Verbs::ALL.without(Verbs::DELETE_COLLECTION))
        .short(&["ns"])
        .status()
        .subresource("finalize", Verbs::UPDATE, Action::Fields(&["spec.finalizers"]))
        .selectable(&["status.phase", "name"])
        .code_column("Status", "string", |o, _| text(o, &["status", "phase"]))
        .age()
        .example(r#"{"metadata":{"name":"team-a","labels":{"team":"a"}}}"#)
}

served!(Namespace, "", "v1", "namespaces", false);

impl Rules for Namespace {
    fn set_defaults(&mut self) {
        // A namespace that waits for a generated name gets the label when it has one.
        if !self.metadata.name.is_empty() {
            self.metadata.labels.insert("kubernetes.io/metadata.name".into(), self.metadata.name.clone());
        }
        if self.status.phase.is_empty() {
            self.status.phase = "Active".into();
        }
    }
}
