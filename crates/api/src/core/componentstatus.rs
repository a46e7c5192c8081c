//! ComponentStatus: reports the health of a control plane part.

use apimachinery::kind::Verbs;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

use crate::cells::{items, str_of};
use crate::served::served;

/// ComponentStatus: reports the health of a control plane part.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ComponentStatus")]
pub struct ComponentStatus {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<ComponentCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ComponentCondition")]
pub struct ComponentCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub message: String,
    #[api(4, omitempty)]
    pub error: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<ComponentStatus>("", "v1", "componentstatuses")
        .verbs(Verbs::GET.with(Verbs::LIST))
        .virtual_()
        .short(&["cs"])
        .code_column("Status", "string", status_cell)
        .code_column("Message", "string", |o, _| healthy(o).map_or("", |c| str_of(c, &["message"])).into())
        .code_column("Error", "string", |o, _| healthy(o).map_or("", |c| str_of(c, &["error"])).into())
        .example(
            r#"{"metadata":{"name":"scheduler"},"conditions":[{"type":"Healthy","status":"True","message":"ok"}]}"#,
        )
}

served!(ComponentStatus, "", "v1", "componentstatuses", false);

impl Rules for ComponentStatus {}

fn healthy(object: &Value) -> Option<&Value> {
    items(object, &["conditions"]).iter().find(|c| str_of(c, &["type"]) == "Healthy")
}

fn status_cell(object: &Value, _now: i64) -> Value {
    match healthy(object).map(|c| str_of(c, &["status"])) {
        Some("True") => "Healthy".into(),
        Some(_) => "Unhealthy".into(),
        None => "Unknown".into(),
    }
}
