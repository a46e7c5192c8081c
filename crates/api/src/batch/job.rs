//! Job: runs pods until a number of them succeeded.

use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Rules, Time, Value};

use crate::batch::podgroup::{
    WorkloadPodGroupDisruptionMode, WorkloadPodGroupResourceClaim, WorkloadPodGroupSchedulingConstraints,
    WorkloadPodGroupSchedulingPolicy,
};
use crate::cells::{duration, int, items, joined, seconds, selector, str_of};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// Job: runs pods until a number of them succeeded.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.Job")]
pub struct Job {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: JobSpec,
    #[api(3, omitempty)]
    pub status: JobStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement")]
pub struct PodFailurePolicyOnExitCodesRequirement {
    #[api(1, omitempty)]
    pub container_name: Option<String>,
    #[api(2, required, enumeration("In", "NotIn"))]
    pub operator: String,
    #[api(3, required, list = "set")]
    pub values: Vec<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.PodFailurePolicyOnPodConditionsPattern")]
pub struct PodFailurePolicyOnPodConditionsPattern {
    #[api(1, required)]
    pub type_: String,
    #[api(2)]
    pub status: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.PodFailurePolicyRule")]
pub struct PodFailurePolicyRule {
    #[api(1, required, enumeration("Count", "FailIndex", "FailJob", "Ignore"))]
    pub action: String,
    #[api(2, omitempty)]
    pub on_exit_codes: Option<PodFailurePolicyOnExitCodesRequirement>,
    #[api(3, omitempty, list = "atomic")]
    pub on_pod_conditions: Vec<PodFailurePolicyOnPodConditionsPattern>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.PodFailurePolicy")]
pub struct PodFailurePolicy {
    #[api(1, required, list = "atomic")]
    pub rules: Vec<PodFailurePolicyRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.SuccessPolicy")]
pub struct SuccessPolicy {
    #[api(1, required, list = "atomic")]
    pub rules: Vec<SuccessPolicyRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.SuccessPolicyRule")]
pub struct SuccessPolicyRule {
    #[api(1, omitempty)]
    pub succeeded_indexes: Option<String>,
    #[api(2, omitempty)]
    pub succeeded_count: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.JobSpec")]
pub struct JobSpec {
    #[api(1, omitempty)]
    pub parallelism: Option<i32>,
    #[api(2, omitempty)]
    pub completions: Option<i32>,
    #[api(3, omitempty)]
    pub active_deadline_seconds: Option<i64>,
    #[api(11, omitempty)]
    pub pod_failure_policy: Option<PodFailurePolicy>,
    #[api(16, omitempty)]
    pub success_policy: Option<SuccessPolicy>,
    #[api(7, omitempty)]
    pub backoff_limit: Option<i32>,
    #[api(12, omitempty)]
    pub backoff_limit_per_index: Option<i32>,
    #[api(13, omitempty)]
    pub max_failed_indexes: Option<i32>,
    #[api(4, omitempty)]
    pub selector: Option<LabelSelector>,
    #[api(5, omitempty)]
    pub manual_selector: Option<bool>,
    #[api(6, required)]
    pub template: PodTemplateSpec,
    #[api(8, omitempty)]
    pub ttl_seconds_after_finished: Option<i32>,
    #[api(9, omitempty, enumeration("Indexed", "NonIndexed"))]
    pub completion_mode: Option<String>,
    #[api(10, omitempty)]
    pub suspend: Option<bool>,
    #[api(14, omitempty, enumeration("Failed", "TerminatingOrFailed"))]
    pub pod_replacement_policy: Option<String>,
    #[api(15, omitempty)]
    pub managed_by: Option<String>,
    #[api(17, omitempty)]
    pub scheduling: Option<JobSchedulingConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.JobSchedulingConfiguration")]
pub struct JobSchedulingConfiguration {
    #[api(1, omitempty)]
    pub scheduling_policy: Option<WorkloadPodGroupSchedulingPolicy>,
    #[api(2, omitempty)]
    pub scheduling_constraints: Option<WorkloadPodGroupSchedulingConstraints>,
    #[api(3, omitempty)]
    pub disruption_mode: Option<WorkloadPodGroupDisruptionMode>,
    #[api(4, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub resource_claims: Vec<WorkloadPodGroupResourceClaim>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.JobStatus")]
pub struct JobStatus {
    #[api(1, omitempty, list = "atomic", patch = "merge", merge_key = "type")]
    pub conditions: Vec<JobCondition>,
    #[api(2, omitempty)]
    pub start_time: Option<Time>,
    #[api(3, omitempty)]
    pub completion_time: Option<Time>,
    #[api(4, omitempty)]
    pub active: i32,
    #[api(5, omitempty)]
    pub succeeded: i32,
    #[api(6, omitempty)]
    pub failed: i32,
    #[api(11, omitempty)]
    pub terminating: Option<i32>,
    #[api(7, omitempty)]
    pub completed_indexes: String,
    #[api(10, omitempty)]
    pub failed_indexes: Option<String>,
    #[api(8, omitempty)]
    pub uncounted_terminated_pods: Option<UncountedTerminatedPods>,
    #[api(9, omitempty)]
    pub ready: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.UncountedTerminatedPods")]
pub struct UncountedTerminatedPods {
    #[api(1, omitempty, list = "set")]
    pub succeeded: Vec<String>,
    #[api(2, omitempty, list = "set")]
    pub failed: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.batch.v1.JobCondition")]
pub struct JobCondition {
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
#[api(name = "io.k8s.api.batch.v1.JobTemplateSpec")]
pub struct JobTemplateSpec {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: JobSpec,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Job>("batch", "v1", "jobs")
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .selectable(&["status.successful"])
        .code_column("Status", "string", status_cell)
        .code_column("Completions", "string", completions_cell)
        .code_column("Duration", "string", duration_cell)
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .wide_code_column("Selector", "string", |o, _| selector(o, &["spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "once"}, "spec": {"completions": 2, "parallelism": 1,
            "template": {"metadata": {"labels": {"app": "once"}}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "once", "image": "registry.example/once:1", "command": ["true"]}]}}}}"#,
        )
}

served!(Job, "batch", "v1", "jobs", true);

impl Rules for Job {
    fn set_defaults(&mut self) {
        job_spec_defaults(&mut self.spec);
        let labels = &self.spec.template.metadata.labels;
        if self.metadata.labels.is_empty() && !labels.is_empty() {
            self.metadata.labels = labels.clone();
        }
        let spec = &mut self.spec;
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".into());
        spec.suspend.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.into());
        spec.manual_selector.get_or_insert(false);
    }
}

/// The defaults that a job spec has in a Job and in a CronJob's template alike.
pub(crate) fn job_spec_defaults(spec: &mut JobSpec) {
    pod_template_defaults(&mut spec.template);
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| &mut rule.on_pod_conditions) {
        if pattern.status.is_empty() {
            pattern.status = "True".into();
        }
    }
}

fn status_cell(object: &Value, _now: i64) -> Value {
    let holds = |wanted: &str| {
        items(object, &["status", "conditions"])
            .iter()
            .any(|c| str_of(c, &["type"]) == wanted && str_of(c, &["status"]) == "True")
    };
    let deleting = object.at(&["metadata", "deletionTimestamp"]).is_some();
    let status = match () {
        _ if holds("Complete") => "Complete",
        _ if holds("Failed") => "Failed",
        _ if deleting => "Terminating",
        _ if holds("Suspended") => "Suspended",
        _ if holds("FailureTarget") => "FailureTarget",
        _ if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        _ => "Running",
    };
    status.into()
}

fn completions_cell(object: &Value, _now: i64) -> Value {
    let succeeded = int(object, &["status", "succeeded"]);
    let parallelism = int(object, &["spec", "parallelism"]);
    match object.at(&["spec", "completions"]).and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}").into(),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}").into(),
        None => format!("{succeeded}/1").into(),
    }
}

fn duration_cell(object: &Value, now: i64) -> Value {
    let Some(start) = seconds(str_of(object, &["status", "startTime"])) else { return "".into() };
    duration(seconds(str_of(object, &["status", "completionTime"])).unwrap_or(now) - start).into()
}
