//! ConfigMap: holds configuration that pods read as files or variables.

use std::collections::BTreeMap;

use crate::checks::name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, config_key, dns_subdomain};
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Value};

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

impl Rules for ConfigMap {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let (data, binary) = (Path::new("data"), Path::new("binaryData"));
        let mut size = 0;
        for (key, value) in &self.data {
            check(errors, &data.key(key), key, config_key);
            if self.binary_data.contains_key(key) {
                errors.invalid(&data.key(key), key.as_str(), "duplicate of key present in binaryData");
            }
            size += value.len();
        }
        for (key, value) in &self.binary_data {
            check(errors, &binary.key(key), key, config_key);
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.too_long(&Path::new(""), MAX_SIZE);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if old.immutable != Some(true) {
            return;
        }
        let changed = [
            ("immutable", self.immutable != Some(true)),
            ("data", self.data != old.data),
            ("binaryData", self.binary_data != old.binary_data),
        ];
        for (field, _) in changed.into_iter().filter(|(_, changed)| *changed) {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

/// The bytes that the values of a ConfigMap or Secret may have together.
pub(crate) const MAX_SIZE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn keys_are_file_names_and_immutable_maps_stay() {
        let kind = super::kind();
        refuses(&kind, &[("data", r#"{"..":"x"}"#)], &["data[..]: Invalid value: \"..\": must not be '..'"]);
        refuses_update(&kind, &[("immutable", "true"), ("data.color", "\"red\"")], &[]);
    }
}
