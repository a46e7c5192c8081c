//! Namespace: separates names, quotas and permissions.

use crate::checks::name;
use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

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

/// A namespace stays while someone has its content to delete.
fn is_held(namespace: &Value) -> bool {
    namespace.at(&["spec", "finalizers"]).and_then(Value::as_list).is_some_and(|f| !f.is_empty())
}

fn begin_delete(namespace: &mut Value) {
    let Some(object) = namespace.as_map_mut() else { return };
    let status = object.get_or_insert_with("status", || Value::Map(Default::default()));
    if let Some(status) = status.as_map_mut() {
        status.insert("phase", "Terminating");
    }
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
        .returns_deleted()
        .held(is_held, begin_delete)
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

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.status = NamespaceStatus { phase: "Active".into(), ..NamespaceStatus::default() };
        let finalizer = "kubernetes".to_string();
        if !self.spec.finalizers.contains(&finalizer) {
            self.spec.finalizers.push(finalizer);
        }
        self.metadata.labels.insert("kubernetes.io/metadata.name".into(), self.metadata.name.clone());
    }

    fn prepare_update(&mut self, old: &Self, cx: &RulesCx<'_>) {
        if cx.subresource != "finalize" {
            self.spec.finalizers.clone_from(&old.spec.finalizers);
        }
        self.metadata.labels.insert("kubernetes.io/metadata.name".into(), self.metadata.name.clone());
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_label);
        let spec = Path::new("spec");
        let path = spec.child("finalizers");
        for finalizer in &self.spec.finalizers {
            check(errors, &path, finalizer, qualified_name);
            if !finalizer.contains('/') && finalizer != "kubernetes" {
                errors.invalid(
                    &path,
                    finalizer.as_str(),
                    "name is neither a standard finalizer name nor is it fully qualified",
                );
            }
        }
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let status = Path::new("status");
        let (wanted, message) = match self.metadata.deletion_timestamp {
            None => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
            Some(_) => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        };
        if self.status.phase != wanted {
            errors.invalid(&status.child("Phase"), self.status.phase.as_str(), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn names_are_labels() {
        refuses(
            &super::kind(),
            &[("metadata.name", "\"a.b\"")],
            &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
        );
    }
}
