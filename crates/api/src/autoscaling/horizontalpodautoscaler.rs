//! HorizontalPodAutoscaler: adjusts a workload's replicas to metrics.

use crate::checks::{maybe_one_of, name};
use crate::quantities::container_resource_name;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_label, dns_subdomain, path_segment, qualified_name, require};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Time, Value};

use crate::cells::{items, number, scalar_or, str_of};
use crate::served::served;

/// HorizontalPodAutoscaler: adjusts a workload's replicas to metrics.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler")]
pub struct HorizontalPodAutoscaler {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: HorizontalPodAutoscalerSpec,
    #[api(3, omitempty)]
    pub status: HorizontalPodAutoscalerStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec")]
pub struct HorizontalPodAutoscalerSpec {
    #[api(1, required)]
    pub scale_target_ref: CrossVersionObjectReference,
    #[api(2, omitempty)]
    pub min_replicas: Option<i32>,
    #[api(3, required)]
    pub max_replicas: i32,
    #[api(4, omitempty, list = "atomic")]
    pub metrics: Vec<MetricSpec>,
    #[api(5, omitempty)]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.CrossVersionObjectReference")]
pub struct CrossVersionObjectReference {
    #[api(1, required)]
    pub kind: String,
    #[api(2, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub api_version: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.MetricSpec")]
pub struct MetricSpec {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub object: Option<ObjectMetricSource>,
    #[api(3, omitempty)]
    pub pods: Option<PodsMetricSource>,
    #[api(4, omitempty)]
    pub resource: Option<ResourceMetricSource>,
    #[api(7, omitempty)]
    pub container_resource: Option<ContainerResourceMetricSource>,
    #[api(5, omitempty)]
    pub external: Option<ExternalMetricSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior")]
pub struct HorizontalPodAutoscalerBehavior {
    #[api(1, omitempty)]
    pub scale_up: Option<HPAScalingRules>,
    #[api(2, omitempty)]
    pub scale_down: Option<HPAScalingRules>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HPAScalingRules")]
pub struct HPAScalingRules {
    #[api(3, omitempty)]
    pub stabilization_window_seconds: Option<i32>,
    #[api(1, omitempty)]
    pub select_policy: Option<String>,
    #[api(2, omitempty, list = "atomic")]
    pub policies: Vec<HPAScalingPolicy>,
    #[api(4, omitempty)]
    pub tolerance: Option<Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HPAScalingPolicy")]
pub struct HPAScalingPolicy {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub value: i32,
    #[api(3, required)]
    pub period_seconds: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ObjectMetricSource")]
pub struct ObjectMetricSource {
    #[api(1, required)]
    pub described_object: CrossVersionObjectReference,
    #[api(2, required)]
    pub target: MetricTarget,
    #[api(3, required)]
    pub metric: MetricIdentifier,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.PodsMetricSource")]
pub struct PodsMetricSource {
    #[api(1, required)]
    pub metric: MetricIdentifier,
    #[api(2, required)]
    pub target: MetricTarget,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ResourceMetricSource")]
pub struct ResourceMetricSource {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub target: MetricTarget,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ContainerResourceMetricSource")]
pub struct ContainerResourceMetricSource {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub target: MetricTarget,
    #[api(3, required)]
    pub container: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ExternalMetricSource")]
pub struct ExternalMetricSource {
    #[api(1, required)]
    pub metric: MetricIdentifier,
    #[api(2, required)]
    pub target: MetricTarget,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.MetricIdentifier")]
pub struct MetricIdentifier {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub selector: Option<LabelSelector>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.MetricTarget")]
pub struct MetricTarget {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub value: Option<Quantity>,
    #[api(3, omitempty)]
    pub average_value: Option<Quantity>,
    #[api(4, omitempty)]
    pub average_utilization: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus")]
pub struct HorizontalPodAutoscalerStatus {
    #[api(1, omitempty)]
    pub observed_generation: Option<i64>,
    #[api(2, omitempty)]
    pub last_scale_time: Option<Time>,
    #[api(3, omitempty)]
    pub current_replicas: i32,
    #[api(4, required)]
    pub desired_replicas: i32,
    #[api(5, list = "atomic")]
    pub current_metrics: Vec<MetricStatus>,
    #[api(6, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<HorizontalPodAutoscalerCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerCondition")]
pub struct HorizontalPodAutoscalerCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
    #[api(6, omitempty)]
    pub observed_generation: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.MetricStatus")]
pub struct MetricStatus {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub object: Option<ObjectMetricStatus>,
    #[api(3, omitempty)]
    pub pods: Option<PodsMetricStatus>,
    #[api(4, omitempty)]
    pub resource: Option<ResourceMetricStatus>,
    #[api(7, omitempty)]
    pub container_resource: Option<ContainerResourceMetricStatus>,
    #[api(5, omitempty)]
    pub external: Option<ExternalMetricStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ObjectMetricStatus")]
pub struct ObjectMetricStatus {
    #[api(1, required)]
    pub metric: MetricIdentifier,
    #[api(2, required)]
    pub current: MetricValueStatus,
    #[api(3, required)]
    pub described_object: CrossVersionObjectReference,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.PodsMetricStatus")]
pub struct PodsMetricStatus {
    #[api(1, required)]
    pub metric: MetricIdentifier,
    #[api(2, required)]
    pub current: MetricValueStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ResourceMetricStatus")]
pub struct ResourceMetricStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub current: MetricValueStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ContainerResourceMetricStatus")]
pub struct ContainerResourceMetricStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub current: MetricValueStatus,
    #[api(3, required)]
    pub container: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.ExternalMetricStatus")]
pub struct ExternalMetricStatus {
    #[api(1, required)]
    pub metric: MetricIdentifier,
    #[api(2, required)]
    pub current: MetricValueStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v2.MetricValueStatus")]
pub struct MetricValueStatus {
    #[api(1, omitempty)]
    pub value: Option<Quantity>,
    #[api(2, omitempty)]
    pub average_value: Option<Quantity>,
    #[api(3, omitempty)]
    pub average_utilization: Option<i32>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<HorizontalPodAutoscaler>("autoscaling", "v2", "horizontalpodautoscalers")
        .short(&["hpa"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .code_column("Reference", "string", reference_cell)
        .code_column("Targets", "string", targets_cell)
        .code_column("MinPods", "string", |o, _| scalar_or(o, &["spec", "minReplicas"], "<unset>"))
        .code_column("MaxPods", "string", |o, _| number(o, &["spec", "maxReplicas"]))
        .code_column("Replicas", "string", |o, _| number(o, &["status", "currentReplicas"]))
        .age()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1",
            "kind": "Deployment", "name": "web"}, "maxReplicas": 5, "metrics": [{"type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}}"#,
        )
}

served!(HorizontalPodAutoscaler, "autoscaling", "v2", "horizontalpodautoscalers", true);

impl Rules for HorizontalPodAutoscaler {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.is_empty() {
            let target =
                MetricTarget { type_: "Utilization".into(), average_utilization: Some(80), ..MetricTarget::default() };
            let resource = ResourceMetricSource { name: "cpu".into(), target };
            spec.metrics =
                vec![MetricSpec { type_: "Resource".into(), resource: Some(resource), ..MetricSpec::default() }];
        }
        if let Some(behavior) = &mut spec.behavior {
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            up.select_policy.get_or_insert_with(|| "Max".into());
            if up.policies.is_empty() {
                up.policies = vec![scaling_policy("Pods", 4), scaling_policy("Percent", 100)];
            }
            let down = behavior.scale_down.get_or_insert_default();
            down.select_policy.get_or_insert_with(|| "Max".into());
            if down.policies.is_empty() {
                down.policies = vec![scaling_policy("Percent", 100)];
            }
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let (min, max) = (self.spec.min_replicas, self.spec.max_replicas);
        if let Some(min) = min.filter(|min| *min < 0) {
            errors.invalid(&path.child("minReplicas"), min, "must be greater than or equal to 0");
        }
        let field = path.child("maxReplicas");
        if max == 0 {
            errors.required(&field, "");
        } else if max < 0 {
            errors.invalid(&field, max, "must be greater than or equal to 1");
        }
        if min.is_some_and(|min| max < min) {
            errors.invalid(&field, max, "must be greater than or equal to `minReplicas`");
        }

        let target = &self.spec.scale_target_ref;
        let field = path.child("scaleTargetRef");
        require(errors, &field.child("kind"), &target.kind, path_segment);
        require(errors, &field.child("name"), &target.name, path_segment);
        if !target.api_version.contains('/') && target.kind != "ReplicationController" {
            let message = "apiVersion must specify API group";
            errors.invalid(&field.child("apiVersion"), target.api_version.as_str(), message);
        }
        let metrics = path.child("metrics");
        let elsewhere = self.spec.metrics.iter().any(|m| matches!(m.type_.as_str(), "Object" | "External"));
        if min == Some(0) && !elsewhere {
            let message = "must specify at least one Object or External metric to support scaling to zero replicas";
            errors.forbidden(&metrics, message);
        }
        for (i, metric) in self.spec.metrics.iter().enumerate() {
            metric_spec(errors, &metrics.index(i), metric);
        }
        if let Some(behavior) = &self.spec.behavior {
            let path = path.child("behavior");
            for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
                if let Some(rules) = rules {
                    scaling_rules(errors, &path.child(field), rules);
                }
            }
        }
    }
}

fn metric_spec(errors: &mut Errors, path: &Path<'_>, metric: &MetricSpec) {
    const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let sources = [
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Object", "object", metric.object.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
    ];
    if metric.type_.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if !TYPES.contains(&metric.type_.as_str()) {
        errors.not_supported(&path.child("type"), metric.type_.as_str(), &TYPES);
    }
    let alone = sources.iter().filter(|(_, _, set)| *set).count() == 1;
    for (type_, field, set) in sources {
        if type_ == metric.type_ && !set {
            errors.required(&path.child(field), "must populate information for the given metric source");
        } else if type_ != metric.type_ && set && !alone {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
    if let Some(source) = &metric.container_resource {
        let path = path.child("containerResource");
        if source.container.is_empty() {
            errors.required(&path.child("container"), "must specify a container");
        } else {
            check(errors, &path.child("container"), &source.container, dns_label);
        }
        if !source.name.is_empty() {
            container_resource_name(errors, &path.child("name"), &source.name);
            if !qualified_name(&source.name).is_empty() && !source.name.contains('/') {
                let message = "must be a standard resource for containers";
                errors.invalid(&path.child("name"), source.name.as_str(), message);
            }
        }
    }
    if let Some(source) = &metric.pods {
        let path = path.child("pods");
        identifier(errors, &path.child("metric"), &source.metric);
        let target = path.child("target");
        target_type(errors, &target, &source.target);
        if source.target.average_value.as_ref().is_none_or(|q| q.is_negative() || q.is_zero_amount()) {
            errors.required(&target.child("averageValue"), "must specify a positive target averageValue");
        }
    }
    if let Some(source) = &metric.object {
        let path = path.child("object");
        let described = path.child("describedObject");
        require(errors, &described.child("kind"), &source.described_object.kind, path_segment);
        require(errors, &described.child("name"), &source.described_object.name, path_segment);
        identifier(errors, &path.child("metric"), &source.metric);
        let target = path.child("target");
        target_type(errors, &target, &source.target);
        if source.target.value.is_none() && source.target.average_value.is_none() {
            errors.required(&target.child("averageValue"), "must set either a target value or averageValue");
        }
    }
    if let Some(source) = &metric.external {
        let path = path.child("external");
        identifier(errors, &path.child("metric"), &source.metric);
        let target = path.child("target");
        target_type(errors, &target, &source.target);
        match (&source.target.value, &source.target.average_value) {
            (None, None) => {
                let message = "must set either a target value for metric or a per-pod target";
                errors.required(&target.child("averageValue"), message);
            }
            (Some(_), Some(_)) => {
                let message = "may not set both a target value for metric and a per-pod target";
                errors.forbidden(&target.child("value"), message);
            }
            _ => {}
        }
    }
    let targets = [
        ("resource", metric.resource.as_ref().map(|m| (&m.name, &m.target))),
        ("containerResource", metric.container_resource.as_ref().map(|m| (&m.name, &m.target))),
    ];
    for (field, source) in targets {
        let Some((name, target)) = source else { continue };
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "must specify a resource name");
        }
        let field = path.child("target");
        target_type(errors, &field, target);
        match (target.average_utilization, &target.average_value) {
            (None, None) => {
                let message = "must set either a target raw value or a target utilization";
                errors.required(&field.child("averageUtilization"), message);
            }
            (Some(_), Some(_)) => {
                let message = "may not set both a target raw value and a target utilization";
                errors.forbidden(&field.child("averageValue"), message);
            }
            (Some(percent), None) if percent < 1 => {
                errors.invalid(&field.child("averageUtilization"), percent, "must be greater than 0");
            }
            _ => {}
        }
    }
}

/// The name and selector of a metric.
fn identifier(errors: &mut Errors, path: &Path<'_>, metric: &MetricIdentifier) {
    if metric.name.is_empty() {
        errors.required(&path.child("name"), "must specify a metric name");
    } else {
        check(errors, &path.child("name"), &metric.name, path_segment);
    }
}

fn target_type(errors: &mut Errors, path: &Path<'_>, target: &MetricTarget) {
    let field = path.child("type");
    if target.type_.is_empty() {
        errors.required(&field, "must specify a metric target type");
    }
    if !matches!(target.type_.as_str(), "Utilization" | "Value" | "AverageValue") {
        let message = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&field, target.type_.as_str(), message);
    }
}

fn scaling_rules(errors: &mut Errors, path: &Path<'_>, rules: &HPAScalingRules) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let field = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.invalid(&field, seconds, "must be greater than or equal to zero");
        } else if seconds > 3600 {
            errors.invalid(&field, seconds, "must be less than or equal to 3600");
        }
    }
    maybe_one_of(errors, &path.child("selectPolicy"), rules.select_policy.as_ref(), &["Disabled", "Max", "Min"]);
    let policies = path.child("policies");
    if rules.policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for (i, policy) in rules.policies.iter().enumerate() {
        let path = policies.index(i);
        if !matches!(policy.type_.as_str(), "Pods" | "Percent") {
            errors.not_supported(&path.child("type"), policy.type_.as_str(), &["Percent", "Pods"]);
        }
        for (field, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
            if value <= 0 {
                errors.invalid(&path.child(field), value, "must be greater than zero");
            }
        }
        if policy.period_seconds > 1800 {
            errors.invalid(&path.child("periodSeconds"), policy.period_seconds, "must be less than or equal to 1800");
        }
    }
}

/// A default policy: so much every quarter of a minute.
fn scaling_policy(type_: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: type_.into(), value, period_seconds: 15 }
}

fn reference_cell(object: &Value, _now: i64) -> Value {
    let target = |member| str_of(object, &["spec", "scaleTargetRef", member]);
    format!("{}/{}", target("kind"), target("name")).into()
}

fn targets_cell(object: &Value, _now: i64) -> Value {
    let specs = items(object, &["spec", "metrics"]);
    let statuses = items(object, &["status", "currentMetrics"]);
    if specs.is_empty() {
        return "<none>".into();
    }
    let parts: Vec<String> = specs.iter().enumerate().map(|(i, spec)| metric(spec, statuses.get(i))).collect();
    match parts.len() {
        1 | 2 => parts.join(", ").into(),
        n => format!("{} + {} more...", parts[..2].join(", "), n - 2).into(),
    }
}

/// One metric as `current/target`.
fn metric(spec: &Value, status: Option<&Value>) -> String {
    let source = match str_of(spec, &["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".into(),
    };
    let target = |member: &str| spec.at(&[source, "target", member]);
    let now = |member: &str| status.and_then(|s| s.at(&[source, "current", member]));
    let quantity = |value: Option<&Value>, absent: &str| value.and_then(Value::as_str).unwrap_or(absent).to_string();
    let percent = |value: Option<&Value>, absent: &str| match value.and_then(Value::as_i64) {
        Some(i) => format!("{i}%"),
        None => absent.to_string(),
    };
    let average = || (quantity(now("averageValue"), "<unknown>"), quantity(target("averageValue"), "0"));
    let name = str_of(spec, &[source, "name"]);
    match source {
        "resource" | "containerResource" if target("averageValue").is_some() => {
            let (now, target) = average();
            format!("{name}: {now}/{target}")
        }
        "resource" | "containerResource" => {
            let now = percent(now("averageUtilization"), "<unknown>");
            format!("{name}: {now}/{}", percent(target("averageUtilization"), "<auto>"))
        }
        "pods" => {
            let (now, target) = average();
            format!("{now}/{target}")
        }
        _ if target("averageValue").is_some() => {
            let (now, target) = average();
            format!("{now}/{target} (avg)")
        }
        _ => format!("{}/{}", quantity(now("value"), "<unknown>"), quantity(target("value"), "0")),
    }
}
