//! StorageClass: names a way to provision volumes.

use std::collections::BTreeMap;

use crate::checks::{immutable, maybe_one_of, name};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, qualified_name, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{flag, str_of, text, text_or};
use crate::core::nodeselector::TopologySelectorTerm;
use crate::served::served;

/// StorageClass: names a way to provision volumes.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.StorageClass")]
pub struct StorageClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub provisioner: String,
    #[api(3, omitempty)]
    pub parameters: BTreeMap<String, String>,
    #[api(4, omitempty, enumeration("Delete", "Recycle", "Retain"))]
    pub reclaim_policy: Option<String>,
    #[api(5, omitempty, list = "atomic")]
    pub mount_options: Vec<String>,
    #[api(6, omitempty)]
    pub allow_volume_expansion: Option<bool>,
    #[api(7, omitempty, enumeration("Immediate", "WaitForFirstConsumer"))]
    pub volume_binding_mode: Option<String>,
    #[api(8, omitempty, list = "atomic")]
    pub allowed_topologies: Vec<TopologySelectorTerm>,
}

pub fn kind() -> Kind {
    Kind::cluster::<StorageClass>("storage.k8s.io", "v1", "storageclasses")
        .short(&["sc"])
        .code_column("Name", "string", name_cell)
        .code_column("Provisioner", "string", |o, _| text(o, &["provisioner"]))
        .code_column("ReclaimPolicy", "string", |o, _| text_or(o, &["reclaimPolicy"], "Delete"))
        .code_column("VolumeBindingMode", "string", |o, _| text_or(o, &["volumeBindingMode"], "Immediate"))
        .code_column("AllowVolumeExpansion", "string", |o, _| flag(o, &["allowVolumeExpansion"], false))
        .age()
        .returns_deleted()
        .example(r#"{"metadata":{"name":"slow"},"provisioner":"disks.example.com","parameters":{"kind":"hdd"}}"#)
}

served!(StorageClass, "storage.k8s.io", "v1", "storageclasses", false);

impl Rules for StorageClass {
    fn set_defaults(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".into());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".into());
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let provisioner = self.provisioner.to_lowercase();
        require(errors, &Path::new("provisioner"), &provisioner, qualified_name);
        let parameters = Path::new("parameters");
        let size: usize = self.parameters.iter().map(|(k, v)| k.len() + v.len()).sum();
        if self.parameters.keys().any(|key| key.is_empty()) {
            errors.invalid(&parameters, "", "field can not be empty.");
        }
        if self.parameters.len() > 512 {
            errors.too_many(&Path::new("Provisioner Parameters exceeded max allowed"), self.parameters.len(), 512);
        }
        if size > 256 << 10 {
            errors.too_long(&parameters, 256 << 10);
        }
        maybe_one_of(errors, &Path::new("reclaimPolicy"), self.reclaim_policy.as_ref(), &["Delete", "Retain"]);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        let mode = Path::new("volumeBindingMode");
        match &self.volume_binding_mode {
            None => errors.required(&mode, ""),
            some => maybe_one_of(errors, &mode, some.as_ref(), &modes),
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        for (field, changed) in [
            ("parameters", self.parameters != old.parameters),
            ("provisioner", self.provisioner != old.provisioner),
            ("reclaimPolicy", self.reclaim_policy != old.reclaim_policy),
        ] {
            if changed {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
        immutable(errors, &Path::new("volumeBindingMode"), &self.volume_binding_mode, &old.volume_binding_mode);
    }
}

fn name_cell(object: &Value, _now: i64) -> Value {
    let name = str_of(object, &["metadata", "name"]);
    match object.str_at(&["metadata", "annotations", "storageclass.kubernetes.io/is-default-class"]) {
        Some("true") => format!("{name} (default)").into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses_update;

    #[test]
    fn a_class_keeps_its_way_to_provision() {
        refuses_update(
            &super::kind(),
            &[("provisioner", "\"other.example.com\"")],
            &["provisioner: Forbidden: updates to provisioner are forbidden."],
        );
    }
}
