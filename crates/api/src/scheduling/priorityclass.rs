//! PriorityClass: maps a name to a pod priority.

use crate::checks::{immutable, maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::cells::{flag, number, text};
use crate::served::served;

/// PriorityClass: maps a name to a pod priority.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1.PriorityClass")]
pub struct PriorityClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub value: i32,
    #[api(3, omitempty)]
    pub global_default: bool,
    #[api(4, omitempty)]
    pub description: String,
    #[api(5, omitempty, enumeration("Never", "PreemptLowerPriority"))]
    pub preemption_policy: Option<String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<PriorityClass>("scheduling.k8s.io", "v1", "priorityclasses")
        .short(&["pc"])
        .generation(Generation::OnContent)
        .code_column("Value", "integer", |o, _| number(o, &["value"]))
        .code_column("Global-Default", "boolean", |o, _| flag(o, &["globalDefault"], false))
        .age()
        .wide_code_column("PreemptionPolicy", "string", |o, _| text(o, &["preemptionPolicy"]))
        .example(r#"{"metadata":{"name":"high"},"value":1000,"description":"for what must run first"}"#)
}

served!(PriorityClass, "scheduling.k8s.io", "v1", "priorityclasses", false);

impl Rules for PriorityClass {
    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".into());
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let system = match self.metadata.name.as_str() {
            "system-node-critical" => Some(2_000_001_000),
            "system-cluster-critical" => Some(2_000_000_000),
            _ => None,
        };
        if self.metadata.name.starts_with("system-") {
            if system != Some(self.value) || self.global_default {
                let metadata = Path::new("metadata");
                let message = "priority class names with 'system-' prefix are reserved for system use only";
                errors.forbidden(&metadata.child("name"), message);
            }
        } else if self.value > 1_000_000_000 {
            let message = "maximum allowed value of a user defined priority is 1000000000";
            errors.forbidden(&Path::new("value"), message);
        }
        let policies = ["Never", "PreemptLowerPriority"];
        maybe_one_of(errors, &Path::new("preemptionPolicy"), self.preemption_policy.as_ref(), &policies);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if self.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        immutable(errors, &Path::new("preemptionPolicy"), &self.preemption_policy, &old.preemption_policy);
    }
}
