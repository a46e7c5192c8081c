//! CSIDriver: describes a storage driver.

use crate::checks::{immutable, maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{flag, joined, strings};
use crate::served::served;

/// CSIDriver: describes a storage driver.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSIDriver")]
pub struct CSIDriver {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: CSIDriverSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSIDriverSpec")]
pub struct CSIDriverSpec {
    #[api(1, omitempty)]
    pub attach_required: Option<bool>,
    #[api(2, omitempty)]
    pub pod_info_on_mount: Option<bool>,
    #[api(3, omitempty, list = "set")]
    pub volume_lifecycle_modes: Vec<String>,
    #[api(4, omitempty)]
    pub storage_capacity: Option<bool>,
    #[api(5, omitempty)]
    pub fs_group_policy: Option<String>,
    #[api(6, omitempty, list = "atomic")]
    pub token_requests: Vec<TokenRequest>,
    #[api(7, omitempty)]
    pub requires_republish: Option<bool>,
    #[api(8, omitempty)]
    pub se_linux_mount: Option<bool>,
    #[api(9, omitempty)]
    pub node_allocatable_update_period_seconds: Option<i64>,
    #[api(10, omitempty)]
    pub service_account_token_in_secrets: Option<bool>,
    #[api(11, omitempty)]
    pub prevent_pod_scheduling_if_missing: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.TokenRequest")]
pub struct TokenRequest {
    #[api(1, required)]
    pub audience: String,
    #[api(2, omitempty)]
    pub expiration_seconds: Option<i64>,
}

pub fn kind() -> Kind {
    Kind::cluster::<CSIDriver>("storage.k8s.io", "v1", "csidrivers")
        .generation(Generation::OnSpec)
        .code_column("AttachRequired", "boolean", |o, _| flag(o, &["spec", "attachRequired"], true))
        .code_column("PodInfoOnMount", "boolean", |o, _| flag(o, &["spec", "podInfoOnMount"], false))
        .code_column("StorageCapacity", "boolean", |o, _| flag(o, &["spec", "storageCapacity"], false))
        .code_column("TokenRequests", "string", tokens_cell)
        .code_column("RequiresRepublish", "boolean", |o, _| flag(o, &["spec", "requiresRepublish"], false))
        .code_column("Modes", "string", modes_cell)
        .age()
        .conditional_update()
        .returns_deleted()
        .example(r#"{"metadata":{"name":"disks.example.com"},"spec":{"attachRequired":false}}"#)
}

served!(CSIDriver, "storage.k8s.io", "v1", "csidrivers", false);

impl Rules for CSIDriver {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".into());
        if spec.volume_lifecycle_modes.is_empty() {
            spec.volume_lifecycle_modes.push("Persistent".into());
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        for (field, value) in [
            ("attachRequired", self.spec.attach_required),
            ("podInfoOnMount", self.spec.pod_info_on_mount),
            ("storageCapacity", self.spec.storage_capacity),
        ] {
            if value.is_none() {
                errors.required(&path.child(field), "");
            }
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        maybe_one_of(errors, &path.child("fsGroupPolicy"), self.spec.fs_group_policy.as_ref(), &policies);
        let modes = path.child("volumeLifecycleModes");
        for mode in &self.spec.volume_lifecycle_modes {
            maybe_one_of(errors, &modes, Some(mode), &["Persistent", "Ephemeral"]);
        }
        let requests = path.child("tokenRequests");
        for (i, request) in self.spec.token_requests.iter().enumerate() {
            let path = requests.index(i);
            if self.spec.token_requests[..i].iter().any(|other| other.audience == request.audience) {
                errors.duplicate(&path.child("audience"), request.audience.as_str());
            }
            let field = path.child("expirationSeconds");
            match request.expiration_seconds {
                Some(seconds) if seconds < 600 => {
                    errors.invalid(&field, seconds, "may not specify a duration less than 10 minutes");
                }
                Some(seconds) if seconds > 1 << 32 => {
                    errors.invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds");
                }
                _ => {}
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        let (new, old) = (&self.spec, &old.spec);
        immutable(errors, &path.child("attachRequired"), &new.attach_required, &old.attach_required);
        let modes = (&new.volume_lifecycle_modes, &old.volume_lifecycle_modes);
        immutable(errors, &path.child("volumeLifecycleModes"), modes.0, modes.1);
    }
}

fn tokens_cell(object: &Value, _now: i64) -> Value {
    match object.at(&["spec", "tokenRequests"]) {
        Some(_) => joined(object, &["spec", "tokenRequests"], "audience"),
        None => "<unset>".into(),
    }
}

fn modes_cell(object: &Value, _now: i64) -> Value {
    let modes = strings(object, &["spec", "volumeLifecycleModes"]);
    if modes.is_empty() { "<none>".into() } else { modes.into() }
}
