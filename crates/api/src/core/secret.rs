//! Secret: holds a small amount of confidential data.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use crate::core::configmap::MAX_SIZE;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, config_key, dns_subdomain};
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Value};

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
        // Plain text is only ever written; it goes over what `data` says.
        for (key, text) in std::mem::take(&mut self.string_data) {
            self.data.insert(key, Bytes(text.into_bytes()));
        }
    }

    fn prepare_update(&mut self, old: &Self, _cx: &RulesCx<'_>) {
        // A client that leaves the type out means to keep it.
        if self.type_.is_empty() {
            self.type_.clone_from(&old.type_);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let data = Path::new("data");
        for key in self.data.keys() {
            check(errors, &data.key(key), key, config_key);
        }
        if self.data.values().map(|value| value.0.len()).sum::<usize>() > MAX_SIZE {
            errors.too_long(&data, MAX_SIZE);
        }
        let has = |key: &str| self.data.contains_key(key);
        let required: &[&str] = match self.type_.as_str() {
            "kubernetes.io/service-account-token" => {
                const NAME: &str = "kubernetes.io/service-account.name";
                if self.metadata.annotations.get(NAME).is_none_or(|name| name.is_empty()) {
                    let metadata = Path::new("metadata");
                    errors.required(&metadata.child("annotations").key(NAME), "");
                }
                &[]
            }
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/basic-auth" if !has("username") && !has("password") => &["username", "password"],
            "kubernetes.io/ssh-auth" if self.data.get("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
                errors.required(&data.key("ssh-privatekey"), "");
                &[]
            }
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for key in required.iter().filter(|key| !has(key)) {
            errors.required(&data.key(key), "");
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            for (field, changed) in [("immutable", self.immutable != Some(true)), ("data", self.data != old.data)] {
                if changed {
                    errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn types_require_their_keys_and_stay() {
        let kind = super::kind();
        refuses(
            &kind,
            &[("type", "\"kubernetes.io/tls\"")],
            &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        );
        refuses_update(&kind, &[("type", "\"other\"")], &["type: Invalid value: \"other\": field is immutable"]);
    }
}
