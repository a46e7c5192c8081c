//! ConfigMap: holds configuration that pods read as files or variables.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Bytes, Kind, Rules, Value};

use crate::cells::count;
use crate::served::served;

/// ConfigMap: holds configuration that pods read as files or variables.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMap")]
pub struct ConfigMap {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(4, omitempty)]
    pub immutable: Option<bool>,
    #[api(2, omitempty)]
    pub data: BTreeMap<String, String>,
    #[api(3, omitempty)]
    pub binary_data: BTreeMap<String, Bytes>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ConfigMap>("", "v1", "configmaps")
        .short(&["cm"])
        .code_column("Data", "string", |o, _| Value::Int(count(o, &["data"]) + count(o, &["binaryData"])))
        .age()
        .example(r#"{"metadata":{"name":"settings"},"data":{"color":"blue"},"binaryData":{"logo":"AAEC"}}"#)
}

served!(ConfigMap, "", "v1", "configmaps", true);

impl Rules for ConfigMap {}
