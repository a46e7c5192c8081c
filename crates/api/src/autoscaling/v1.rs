//! HorizontalPodAutoscaler: adjusts a workload's replicas to its CPU use, in the older form.

use crate::checks::name;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, path_segment, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::{number, scalar_or, str_of};
use crate::served::served;

/// HorizontalPodAutoscaler: adjusts a workload's replicas to its CPU use, in the older form.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler")]
pub struct HorizontalPodAutoscaler {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: HorizontalPodAutoscalerSpec,
    #[api(3, omitempty)]
    pub status: HorizontalPodAutoscalerStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.CrossVersionObjectReference", atomic)]
pub struct CrossVersionObjectReference {
    #[api(1, required)]
    pub kind: String,
    #[api(2, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub api_version: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerSpec")]
pub struct HorizontalPodAutoscalerSpec {
    #[api(1, required)]
    pub scale_target_ref: CrossVersionObjectReference,
    #[api(2, omitempty)]
    pub min_replicas: Option<i32>,
    #[api(3, required)]
    pub max_replicas: i32,
    #[api(4, json = "targetCPUUtilizationPercentage", omitempty)]
    pub target_cpu_utilization_percentage: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerStatus")]
pub struct HorizontalPodAutoscalerStatus {
    #[api(1, omitempty)]
    pub observed_generation: Option<i64>,
    #[api(2, omitempty)]
    pub last_scale_time: Option<Time>,
    #[api(3, required)]
    pub current_replicas: i32,
    #[api(4, required)]
    pub desired_replicas: i32,
    #[api(5, json = "currentCPUUtilizationPercentage", omitempty)]
    pub current_cpu_utilization_percentage: Option<i32>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<HorizontalPodAutoscaler>("autoscaling", "v1", "horizontalpodautoscalers")
        .short(&["hpa"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .converted()
        .code_column("Reference", "string", reference_cell)
        .code_column("Targets", "string", targets_cell)
        .code_column("MinPods", "string", |o, _| scalar_or(o, &["spec", "minReplicas"], "<unset>"))
        .code_column("MaxPods", "string", |o, _| number(o, &["spec", "maxReplicas"]))
        .code_column("Replicas", "string", |o, _| number(o, &["status", "currentReplicas"]))
        .age()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1",
            "kind": "Deployment", "name": "web"}, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}}"#,
        )
}

served!(HorizontalPodAutoscaler, "autoscaling", "v1", "horizontalpodautoscalers", true);

impl Rules for HorizontalPodAutoscaler {
    fn set_defaults(&mut self) {
        self.spec.min_replicas.get_or_insert(1);
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
    }
}

fn reference_cell(object: &Value, _now: i64) -> Value {
    let target = |member| str_of(object, &["spec", "scaleTargetRef", member]);
    format!("{}/{}", target("kind"), target("name")).into()
}

fn targets_cell(object: &Value, _now: i64) -> Value {
    let percent = |path: &[&str], absent: &str| match object.at(path) {
        Some(Value::Int(i)) => format!("{i}%"),
        _ => absent.to_string(),
    };
    if object.at(&["spec", "targetCPUUtilizationPercentage"]).is_none() {
        return "<none>".into();
    }
    let current = percent(&["status", "currentCPUUtilizationPercentage"], "<unknown>");
    format!("cpu: {current}/{}", percent(&["spec", "targetCPUUtilizationPercentage"], "<auto>")).into()
}
