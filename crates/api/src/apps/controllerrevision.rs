//! ControllerRevision: keeps one state of a controller's template for rollbacks.

use crate::checks::{immutable, name};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, Kind, Path, RawExtension, Rules, RulesCx, Value};

use crate::cells::{items, number, str_of};
use crate::served::served;

/// ControllerRevision: keeps one state of a controller's template for rollbacks.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ControllerRevision")]
pub struct ControllerRevision {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub data: RawExtension,
    #[api(3)]
    pub revision: i64,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ControllerRevision>("apps", "v1", "controllerrevisions")
        .code_column("Controller", "string", controller_cell)
        .code_column("Revision", "string", |o, _| number(o, &["revision"]))
        .age()
        .example(r#"{"metadata":{"name":"web-1"},"data":{"spec":{"replicas":1}},"revision":1}"#)
}

served!(ControllerRevision, "apps", "v1", "controllerrevisions", true);

impl Rules for ControllerRevision {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        nonnegative(errors, &Path::new("revision"), self.revision);
        let data = Path::new("data");
        match &self.data.0 {
            Value::Map(_) => {}
            Value::Null => errors.required(&data, "data is mandatory"),
            _ => errors.required(&data, "data must be a valid JSON object"),
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("data"), &self.data, &old.data);
    }
}

fn controller_cell(object: &Value, _now: i64) -> Value {
    let owners = items(object, &["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|o| o.get("controller").and_then(Value::as_bool) == Some(true)) else {
        return "<none>".into();
    };
    let kind = str_of(owner, &["kind"]).to_ascii_lowercase();
    let name = str_of(owner, &["name"]);
    match str_of(owner, &["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}
