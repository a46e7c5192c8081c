//! StorageVersionMigration: asks to rewrite stored objects in the current form.

use crate::checks::{immutable, name};
use apimachinery::meta::{Condition, GroupResource, ObjectMeta};
use apimachinery::validation::{check, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{items, str_of};
use crate::served::served;

/// StorageVersionMigration: asks to rewrite stored objects in the current form.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storagemigration.v1.StorageVersionMigration")]
pub struct StorageVersionMigration {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: StorageVersionMigrationSpec,
    #[api(3, omitempty)]
    pub status: StorageVersionMigrationStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storagemigration.v1.StorageVersionMigrationSpec")]
pub struct StorageVersionMigrationSpec {
    #[api(1, required)]
    pub resource: GroupResource,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus")]
pub struct StorageVersionMigrationStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
    #[api(2, omitempty)]
    pub resource_version: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<StorageVersionMigration>("storagemigration.k8s.io", "v1", "storageversionmigrations")
        .status()
        .code_column("Resource", "string", resource_cell)
        .code_column("Status", "string", status_cell)
        .conditional_update()
        .status_keeps_metadata()
        .example(r#"{"metadata":{"name":"configmaps"},"spec":{"resource":{"group":"","resource":"configmaps"}}}"#)
}

served!(StorageVersionMigration, "storagemigration.k8s.io", "v1", "storageversionmigrations", false);

impl Rules for StorageVersionMigration {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let resource = spec.child("resource");
        if self.spec.resource.resource.is_empty() {
            errors.required(&resource.child("resource"), "resource is required");
        }
        if !self.spec.resource.group.is_empty() {
            check(errors, &resource.child("group"), &self.spec.resource.group, dns_subdomain);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }
}

fn resource_cell(object: &Value, _now: i64) -> Value {
    match (str_of(object, &["spec", "resource", "resource"]), str_of(object, &["spec", "resource", "group"])) {
        (resource, "") => resource.into(),
        (resource, group) => format!("{resource}.{group}").into(),
    }
}

fn status_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]).iter();
    let held = conditions.filter(|c| str_of(c, &["status"]) == "True").map(|c| str_of(c, &["type"]));
    held.rev().find(|t| matches!(*t, "Running" | "Failed" | "Succeeded")).unwrap_or("Unknown").into()
}
