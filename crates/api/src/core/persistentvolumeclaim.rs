//! PersistentVolumeClaim: asks for storage.

use std::collections::BTreeMap;

use crate::checks::{immutable, label_selector, maybe_one_of, name};
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Time, Value};

use crate::cells::{items, scalar_or, str_of, text, text_or};
use crate::core::persistentvolume::access_modes;
use crate::core::persistentvolume::class_cell;
use crate::core::persistentvolume::phase_cell;
use crate::core::references::{TypedLocalObjectReference, TypedObjectReference};
use crate::served::served;

/// PersistentVolumeClaim: asks for storage.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaim")]
pub struct PersistentVolumeClaim {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PersistentVolumeClaimSpec,
    #[api(3, omitempty)]
    pub status: PersistentVolumeClaimStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimSpec")]
pub struct PersistentVolumeClaimSpec {
    #[api(1, omitempty, list = "atomic")]
    pub access_modes: Vec<String>,
    #[api(4, omitempty)]
    pub selector: Option<LabelSelector>,
    #[api(2, omitempty)]
    pub resources: VolumeResourceRequirements,
    #[api(3, omitempty)]
    pub volume_name: String,
    #[api(5, omitempty)]
    pub storage_class_name: Option<String>,
    #[api(6, omitempty, enumeration("Block", "Filesystem"))]
    pub volume_mode: Option<String>,
    #[api(7, omitempty)]
    pub data_source: Option<TypedLocalObjectReference>,
    #[api(8, omitempty)]
    pub data_source_ref: Option<TypedObjectReference>,
    #[api(9, omitempty)]
    pub volume_attributes_class_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ModifyVolumeStatus")]
pub struct ModifyVolumeStatus {
    #[api(1, omitempty)]
    pub target_volume_attributes_class_name: String,
    #[api(2, required, enumeration("InProgress", "Infeasible", "Pending"))]
    pub status: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimCondition")]
pub struct PersistentVolumeClaimCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_probe_time: Time,
    #[api(4, omitempty)]
    pub last_transition_time: Time,
    #[api(5, omitempty)]
    pub reason: String,
    #[api(6, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeHealthCondition")]
pub struct VolumeHealthCondition {
    #[api(1, required, enumeration("DataLoss", "Degraded", "Inaccessible"))]
    pub status: String,
    #[api(2, required)]
    pub reason: String,
    #[api(3, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeHealthStatus")]
pub struct VolumeHealthStatus {
    #[api(1, omitempty, list = "map", keys("status", "reason"), patch = "merge", merge_key = "status")]
    pub health_conditions: Vec<VolumeHealthCondition>,
    #[api(2, omitempty)]
    pub last_transition_time: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimStatus")]
pub struct PersistentVolumeClaimStatus {
    #[api(1, omitempty, enumeration("Bound", "Lost", "Pending"))]
    pub phase: String,
    #[api(2, omitempty, list = "atomic")]
    pub access_modes: Vec<String>,
    #[api(3, omitempty)]
    pub capacity: BTreeMap<String, Quantity>,
    #[api(4, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<PersistentVolumeClaimCondition>,
    #[api(5, omitempty)]
    pub allocated_resources: BTreeMap<String, Quantity>,
    #[api(7, omitempty)]
    pub allocated_resource_statuses: BTreeMap<String, String>,
    #[api(8, omitempty)]
    pub current_volume_attributes_class_name: Option<String>,
    #[api(9, omitempty)]
    pub modify_volume_status: Option<ModifyVolumeStatus>,
    #[api(10, omitempty)]
    pub health_status: Option<VolumeHealthStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeResourceRequirements")]
pub struct VolumeResourceRequirements {
    #[api(1, omitempty)]
    pub limits: BTreeMap<String, Quantity>,
    #[api(2, omitempty)]
    pub requests: BTreeMap<String, Quantity>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<PersistentVolumeClaim>("", "v1", "persistentvolumeclaims")
        .short(&["pvc"])
        .status()
        .selectable(&["name"])
        .code_column("Status", "string", phase_cell)
        .code_column("Volume", "string", |o, _| text(o, &["spec", "volumeName"]))
        .code_column("Capacity", "string", capacity_cell)
        .code_column("Access Modes", "string", modes_cell)
        .code_column("StorageClass", "string", |o, _| class_cell(o))
        .code_column("VolumeAttributesClass", "string", |o, _| {
            text_or(o, &["spec", "volumeAttributesClassName"], "<unset>")
        })
        .age()
        .wide_code_column("VolumeMode", "string", |o, _| text_or(o, &["spec", "volumeMode"], "<unset>"))
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": "slow", "resources": {"requests": {"storage": "1Gi"}}}}"#,
        )
}

served!(PersistentVolumeClaim, "", "v1", "persistentvolumeclaims", true);

impl Rules for PersistentVolumeClaim {
    fn set_defaults(&mut self) {
        if self.status.phase.is_empty() {
            self.status.phase = "Pending".into();
        }
        self.spec.set_defaults();
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.status = PersistentVolumeClaimStatus { phase: "Pending".into(), ..Default::default() };
        self.spec.normalize_sources();
    }

    fn prepare_update(&mut self, _old: &Self, _cx: &RulesCx<'_>) {
        self.spec.normalize_sources();
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        claim_spec(errors, &Path::new("spec"), &self.spec);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        let bound = self.status.phase == "Bound";
        let mut munged = self.spec.clone();
        if old.spec.volume_name.is_empty() {
            munged.volume_name.clear();
        }
        if old.spec.storage_class_name.is_none() {
            // A claim without a class may be given one, as when a default class appears later.
            munged.storage_class_name = None;
        }
        if bound {
            if let Some(size) = old.spec.resources.requests.get("storage") {
                munged.resources.requests.insert("storage".into(), *size);
            }
            munged.volume_attributes_class_name.clone_from(&old.spec.volume_attributes_class_name);
        }
        if munged != old.spec {
            errors.forbidden(
                &spec,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            );
        }
        let of = |spec: &PersistentVolumeClaimSpec| spec.resources.requests.get("storage").copied().unwrap_or_default();
        let (new_size, old_size) = (of(&self.spec), of(&old.spec));
        let capacity = old.status.capacity.get("storage").copied().unwrap_or_default();
        if new_size < old_size && new_size <= capacity {
            let requests = spec.child("resources").child("requests").child("storage").to_string();
            errors.forbidden(&Path::new(&requests), "field can not be less than status.capacity");
        }
        immutable(errors, &Path::new("volumeMode"), &self.spec.volume_mode, &old.spec.volume_mode);
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let status = Path::new("status");
        crate::core::pod::validate_volumes::capacity(errors, &status.child("capacity"), &self.status.capacity);
    }
}

impl PersistentVolumeClaimSpec {
    /// Keeps `dataSource` and `dataSourceRef` equal where one can say what the other says.
    fn normalize_sources(&mut self) {
        // The older field knows two kinds; others in it are dropped, as they always were.
        let known = |group: Option<&String>, kind: &str| match kind {
            "PersistentVolumeClaim" => group.is_none_or(|group| group.is_empty()),
            "VolumeSnapshot" => group.is_some_and(|group| group == "snapshot.storage.k8s.io"),
            _ => false,
        };
        self.data_source = self.data_source.take().filter(|s| known(s.api_group.as_ref(), &s.kind));
        match (&self.data_source, &self.data_source_ref) {
            (Some(source), None) => {
                self.data_source_ref = Some(TypedObjectReference {
                    api_group: source.api_group.clone(),
                    kind: source.kind.clone(),
                    name: source.name.clone(),
                    namespace: None,
                });
            }
            (None, Some(reference))
                if reference.namespace.as_ref().is_none_or(|n| n.is_empty())
                    && known(reference.api_group.as_ref(), &reference.kind) =>
            {
                self.data_source = Some(TypedLocalObjectReference {
                    api_group: reference.api_group.clone(),
                    kind: reference.kind.clone(),
                    name: reference.name.clone(),
                });
            }
            _ => {}
        }
    }
}

/// Access modes of claims and volumes.
pub(crate) fn access_mode_rules(errors: &mut Errors, path: &Path<'_>, modes: &[String], missing: &str) {
    const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    if modes.is_empty() {
        errors.required(path, missing);
    }
    for mode in modes.iter().filter(|mode| !MODES.contains(&mode.as_str())) {
        errors.not_supported(path, mode.as_str(), &MODES);
    }
    let alone = |mode: &String| mode == "ReadWriteOncePod";
    if modes.iter().any(alone) && !modes.iter().all(alone) {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Checks what a claim asks for.
pub(crate) fn claim_spec(errors: &mut Errors, path: &Path<'_>, spec: &PersistentVolumeClaimSpec) {
    let modes = path.child("accessModes");
    access_mode_rules(errors, &modes, &spec.access_modes, "at least 1 access mode is required");
    if let Some(selector) = &spec.selector {
        label_selector(errors, &path.child("selector"), selector);
    }
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match spec.resources.requests.get("storage") {
        None => errors.required(&storage, ""),
        Some(size) if size.is_negative() || size.is_zero_amount() => {
            errors.invalid(&storage, size.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    for (field, class) in [
        ("storageClassName", &spec.storage_class_name),
        ("volumeAttributesClassName", &spec.volume_attributes_class_name),
    ] {
        if let Some(class) = class.as_ref().filter(|class| !class.is_empty()) {
            check(errors, &path.child(field), class, dns_subdomain);
        }
    }
    maybe_one_of(errors, &path.child("volumeMode"), spec.volume_mode.as_ref(), &["Block", "Filesystem"]);
    if let Some(source) = &spec.data_source {
        let group = source.api_group.as_deref().unwrap_or("");
        data_source(errors, &path.child("dataSource"), group, &source.kind, &source.name);
    }
    if let Some(source) = &spec.data_source_ref {
        let group = source.api_group.as_deref().unwrap_or("");
        data_source(errors, &path.child("dataSourceRef"), group, &source.kind, &source.name);
    }
}

fn data_source(errors: &mut Errors, path: &Path<'_>, group: &str, kind: &str, name: &str) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if kind.is_empty() {
        errors.required(&path.child("kind"), "");
    }
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        check(errors, &path.child("apiGroup"), group, dns_subdomain);
    }
}

impl PersistentVolumeClaimSpec {
    pub(crate) fn set_defaults(&mut self) {
        self.volume_mode.get_or_insert_with(|| "Filesystem".into());
    }
}

fn capacity_cell(object: &Value, _now: i64) -> Value {
    match str_of(object, &["spec", "volumeName"]) {
        "" => "".into(),
        _ => scalar_or(object, &["status", "capacity", "storage"], "0"),
    }
}

fn modes_cell(object: &Value, _now: i64) -> Value {
    match str_of(object, &["spec", "volumeName"]) {
        "" => "".into(),
        _ => access_modes(items(object, &["status", "accessModes"])),
    }
}
