//! LimitRange: bounds and defaults what one pod, container or claim may ask for.

use std::collections::BTreeMap;

use crate::checks::name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx};

use crate::served::served;

/// LimitRange: bounds and defaults what one pod, container or claim may ask for.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRange")]
pub struct LimitRange {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: LimitRangeSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRangeItem")]
pub struct LimitRangeItem {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub max: BTreeMap<String, Quantity>,
    #[api(3, omitempty)]
    pub min: BTreeMap<String, Quantity>,
    #[api(4, omitempty)]
    pub default: BTreeMap<String, Quantity>,
    #[api(5, omitempty)]
    pub default_request: BTreeMap<String, Quantity>,
    #[api(6, omitempty)]
    pub max_limit_request_ratio: BTreeMap<String, Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRangeSpec")]
pub struct LimitRangeSpec {
    #[api(1, required, list = "atomic")]
    pub limits: Vec<LimitRangeItem>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<LimitRange>("", "v1", "limitranges").short(&["limits"]).column(
        "Created At",
        "date",
        ".metadata.creationTimestamp",
    )
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container",
            "max": {"cpu": "2"}, "min": {"cpu": "10m"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}]}}"#,
        )
}

served!(LimitRange, "", "v1", "limitranges", true);

impl Rules for LimitRange {
    fn set_defaults(&mut self) {
        for item in self.spec.limits.iter_mut().filter(|item| item.type_ == "Container") {
            fill(&mut item.default, &item.max);
            fill(&mut item.default_request, &item.default);
            fill(&mut item.default_request, &item.min);
        }
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        if self.metadata.name.is_empty() {
            self.metadata.name.clone_from(&self.metadata.uid);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let limits = spec.child("limits");
        for (i, item) in self.spec.limits.iter().enumerate() {
            let path = limits.index(i);
            check(errors, &path.child("type"), &item.type_, qualified_name);
            let standard = matches!(item.type_.as_str(), "Pod" | "Container" | "PersistentVolumeClaim");
            if !standard && !item.type_.contains('/') && qualified_name(&item.type_).is_empty() {
                let message = "must be a standard limit type or fully qualified";
                errors.invalid(&path.child("type"), item.type_.as_str(), message);
            }
            if self.spec.limits[..i].iter().any(|other| other.type_ == item.type_) {
                errors.duplicate(&path.child("type"), item.type_.as_str());
            }
            limits_agree(errors, &path, item);
        }
    }
}

/// Bounds and defaults of one item must not contradict each other.
fn limits_agree(errors: &mut Errors, path: &Path<'_>, item: &LimitRangeItem) {
    if item.type_ == "Pod" {
        for (field, set) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
            if !set.is_empty() {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
        }
        return;
    }
    if item.type_ == "PersistentVolumeClaim" && !item.min.contains_key("storage") && !item.max.contains_key("storage") {
        let message = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), message);
    }
    let ordered: [(&str, &str, &BTreeMap<String, Quantity>, &str, &BTreeMap<String, Quantity>); 6] = [
        ("min", "min value", &item.min, "max value", &item.max),
        ("defaultRequest", "min value", &item.min, "default request value", &item.default_request),
        ("defaultRequest", "default request value", &item.default_request, "max value", &item.max),
        ("defaultRequest", "default request value", &item.default_request, "default limit value", &item.default),
        ("default", "min value", &item.min, "default value", &item.default),
        ("default", "default value", &item.default, "max value", &item.max),
    ];
    for (field, low_name, low, high_name, high) in ordered {
        for (resource, low) in low {
            let Some(high) = high.get(resource).filter(|high| low > *high) else { continue };
            let shown = if field == "min" || low_name == "min value" && field == "default" { low } else { high };
            let message = format!("{low_name} {low} is greater than {high_name} {high}");
            errors.invalid(&path.child(field).key(resource), shown.to_string(), message);
        }
    }
    for (resource, ratio) in &item.max_limit_request_ratio {
        if ratio.milli_value() < 1000 {
            let field = path.child("maxLimitRequestRatio");
            errors.invalid(&field.key(resource), ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
    }
}

/// Copies the quantities whose resource is not yet there.
fn fill(target: &mut BTreeMap<String, Quantity>, source: &BTreeMap<String, Quantity>) {
    for (resource, quantity) in source {
        target.entry(resource.clone()).or_insert_with(|| *quantity);
    }
}
