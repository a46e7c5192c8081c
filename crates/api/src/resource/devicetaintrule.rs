//! DeviceTaintRule: taints devices that match.

use crate::checks::{name, one_of};
use apimachinery::kind::Generation;
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::{check, dns_subdomain, label_value, qualified_name, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::cells::text;
use crate::resource::resourceslice::DeviceTaint;
use crate::served::served;

/// DeviceTaintRule: taints devices that match.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceTaintRule")]
pub struct DeviceTaintRule {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: DeviceTaintRuleSpec,
    #[api(3, omitempty)]
    pub status: DeviceTaintRuleStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceTaintRuleSpec")]
pub struct DeviceTaintRuleSpec {
    #[api(1, omitempty)]
    pub device_selector: Option<DeviceTaintSelector>,
    #[api(2, omitempty, required)]
    pub taint: DeviceTaint,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceTaintSelector")]
pub struct DeviceTaintSelector {
    #[api(2, omitempty)]
    pub driver: Option<String>,
    #[api(3, omitempty)]
    pub pool: Option<String>,
    #[api(4, omitempty)]
    pub device: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceTaintRuleStatus")]
pub struct DeviceTaintRuleStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
}

pub fn kind() -> Kind {
    Kind::cluster::<DeviceTaintRule>("resource.k8s.io", "v1", "devicetaintrules")
        .status()
        .generation(Generation::OnSpec)
        .code_column("Key", "string", |o, _| text(o, &["spec", "taint", "key"]))
        .code_column("Value", "string", |o, _| text(o, &["spec", "taint", "value"]))
        .code_column("Effect", "string", |o, _| text(o, &["spec", "taint", "effect"]))
        .code_column("TimeAdded", "string", |o, _| text(o, &["spec", "taint", "timeAdded"]))
        .age()
        .status_keeps_metadata()
        .example(
            r#"{"metadata": {"name": "broken"}, "spec": {"deviceSelector": {"driver": "gpu.example.com"},
            "taint": {"key": "example.com/broken", "effect": "NoSchedule", "timeAdded": "2024-01-01T00:00:00Z"}}}"#,
        )
}

served!(DeviceTaintRule, "resource.k8s.io", "v1", "devicetaintrules", false);

impl Rules for DeviceTaintRule {
    fn prepare_create(&mut self, cx: &RulesCx<'_>) {
        self.spec.taint.time_added.get_or_insert(apimachinery::Time(cx.now.0));
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let taint = spec.child("taint");
        require(errors, &taint.child("key"), &self.spec.taint.key, qualified_name);
        check(errors, &taint.child("value"), &self.spec.taint.value, label_value);
        one_of(errors, &taint.child("effect"), &self.spec.taint.effect, &["NoExecute", "NoSchedule", "None"]);
    }
}
