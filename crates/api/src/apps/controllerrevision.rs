//! ControllerRevision: keeps one state of a controller's template for rollbacks.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, RawExtension, Rules, Value};

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

impl Rules for ControllerRevision {}

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
