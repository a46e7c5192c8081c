//! Secret: holds a small amount of confidential data.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Bytes, Kind, Rules, Value};

use crate::cells::{count, text};
use crate::served::served;

/// Secret: holds a small amount of confidential data.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Secret")]
pub struct Secret {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(5, omitempty)]
    pub immutable: Option<bool>,
    #[api(2, omitempty)]
    pub data: BTreeMap<String, Bytes>,
    #[api(4, omitempty)]
    pub string_data: BTreeMap<String, String>,
    #[api(3, omitempty)]
    pub type_: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Secret>("", "v1", "secrets")
        .selectable(&["type"])
        .code_column("Type", "string", |o, _| text(o, &["type"]))
        .code_column("Data", "string", |o, _| Value::Int(count(o, &["data"])))
        .age()
        .example(r#"{"metadata":{"name":"password"},"type":"Opaque","data":{"password":"c2VjcmV0"}}"#)
}

served!(Secret, "", "v1", "secrets", true);

impl Rules for Secret {
    fn set_defaults(&mut self) {
        if self.type_.is_empty() {
            self.type_ = "Opaque".into();
        }
    }
}
