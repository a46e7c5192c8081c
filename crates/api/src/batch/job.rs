//! Job: runs pods until a number of them succeeded.

use crate::apps::replicaset::unselected;
use crate::checks::{immutable, label_selector, matches, maybe_one_of, name, one_of};
use crate::core::pod::defaults::pod_template_defaults;
use crate::core::pod::validate::pod_template;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_label, dns_subdomain, nonnegative, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

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
        .selectable(&["status.successful=status.succeeded"])
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

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        if self.spec.manual_selector != Some(true) {
            self.generate_selector();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        match &self.spec.selector {
            None => errors.required(&path.child("selector"), ""),
            Some(selector) => {
                label_selector(errors, &path.child("selector"), selector);
                if !matches(selector, &self.spec.template.metadata.labels) {
                    unselected(errors, &path.child("template"), &self.spec.template);
                }
            }
        }
        job_spec(errors, &path, &self.spec);
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        // The names of the pods of an indexed job are their hostnames.
        if self.spec.completion_mode.as_deref() == Some("Indexed")
            && let Some(last) = self.spec.completions.map(|count| count - 1).filter(|last| *last >= 0)
        {
            let pod = format!("{}-{last}", self.metadata.name);
            if !dns_label(&pod).is_empty() {
                let metadata = Path::new("metadata");
                let message = format!("will not able to create pod with invalid DNS label: {pod}");
                errors.invalid(&metadata.child("name"), self.metadata.name.as_str(), message);
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        let (new, old) = (&self.spec, &old.spec);
        let indexed = new.completion_mode.as_deref() == Some("Indexed");
        let completions = path.child("completions");
        if !indexed {
            immutable(errors, &completions, &new.completions, &old.completions);
        } else if new.completions != old.completions
            && let Some(count) = new.completions
            && new.parallelism != Some(count)
        {
            errors.invalid(&completions, count, "can only be modified in tandem with spec.parallelism");
        }
        immutable(errors, &path.child("selector"), &new.selector, &old.selector);
        let mut template = old.template.clone();
        let status = &self.status;
        let dormant = status.active == 0 && status.start_time.is_none();
        if old.suspend == Some(true) && dormant {
            // A suspended job that runs nothing may be placed and sized anew.
            let to = &new.template;
            template.metadata.labels.clone_from(&to.metadata.labels);
            template.metadata.annotations.clone_from(&to.metadata.annotations);
            template.spec.affinity.clone_from(&to.spec.affinity);
            template.spec.node_selector.clone_from(&to.spec.node_selector);
            template.spec.tolerations.clone_from(&to.spec.tolerations);
            template.spec.scheduling_gates.clone_from(&to.spec.scheduling_gates);
            for (container, to) in template.spec.containers.iter_mut().zip(&to.spec.containers) {
                container.resources.clone_from(&to.resources);
            }
            for (container, to) in template.spec.init_containers.iter_mut().zip(&to.spec.init_containers) {
                container.resources.clone_from(&to.resources);
            }
        }
        immutable(errors, &path.child("template"), &new.template, &template);
        immutable(errors, &path.child("completionMode"), &new.completion_mode, &old.completion_mode);
        immutable(errors, &path.child("podFailurePolicy"), &new.pod_failure_policy, &old.pod_failure_policy);
        let limits = (&new.backoff_limit_per_index, &old.backoff_limit_per_index);
        immutable(errors, &path.child("backoffLimitPerIndex"), limits.0, limits.1);
        immutable(errors, &path.child("managedBy"), &new.managed_by, &old.managed_by);
        immutable(errors, &path.child("successPolicy"), &new.success_policy, &old.success_policy);
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("status");
        let status = &self.status;
        for (field, count) in [
            ("active", status.active),
            ("succeeded", status.succeeded),
            ("failed", status.failed),
            ("ready", status.ready.unwrap_or(0)),
            ("terminating", status.terminating.unwrap_or(0)),
        ] {
            nonnegative(errors, &path.child(field), i64::from(count));
        }
        let holds = |wanted: &str| status.conditions.iter().any(|c| c.type_ == wanted && c.status == "True");
        if holds("Complete") && holds("Failed") {
            let message = "cannot set Complete=True and Failed=true conditions";
            errors.invalid(&path.child("conditions"), status.conditions.to_value(), message);
        }
        if status.completion_time.is_some() && !holds("Complete") {
            let message = "cannot set completionTime when there is no Complete=True condition";
            let value = status.completion_time.to_value();
            errors.invalid(&path.child("completionTime"), value, message);
        }
    }
}

impl Job {
    /// A selector of the job's own uid, and the labels that it finds; the older label names are kept beside the newer.
    fn generate_selector(&mut self) {
        let (uid, name) = (self.metadata.uid.clone(), self.metadata.name.clone());
        let labels = &mut self.spec.template.metadata.labels;
        for prefix in ["", "batch.kubernetes.io/"] {
            labels.insert(format!("{prefix}controller-uid"), uid.clone());
            labels.insert(format!("{prefix}job-name"), name.clone());
        }
        let selector = self.spec.selector.get_or_insert_default();
        selector.match_labels.insert("batch.kubernetes.io/controller-uid".into(), uid);
    }
}

/// Checks a job spec, in a Job and in a CronJob's template alike.
pub(crate) fn job_spec(errors: &mut Errors, path: &Path<'_>, spec: &JobSpec) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        nonnegative(errors, &path.child(field), value.unwrap_or(0));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    maybe_one_of(errors, &path.child("completionMode"), spec.completion_mode.as_ref(), &["NonIndexed", "Indexed"]);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed {
        if spec.completions.is_none() {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if let Some(parallelism) = spec.parallelism.filter(|p| *p > 100_000) {
            let message = "must be less than or equal to 100000 when completion mode is Indexed";
            errors.invalid(&path.child("parallelism"), parallelism, message);
        }
        if let (Some(failed), Some(completions)) = (spec.max_failed_indexes, spec.completions)
            && failed > completions
        {
            errors.invalid(&path.child("maxFailedIndexes"), failed, "must be less than or equal to completions");
        }
        if let Some(failed) = spec.max_failed_indexes.filter(|failed| *failed > 100_000) {
            errors.invalid(&path.child("maxFailedIndexes"), failed, "must be less than or equal to 100000");
        }
    }
    if spec.completion_mode.as_deref().is_none_or(|mode| mode == "NonIndexed") {
        let set =
            [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
        for (field, value) in set {
            if let Some(value) = value {
                errors.invalid(&path.child(field), value, "requires indexed completion mode");
            }
        }
    }
    if let Some(policy) = spec.success_policy.as_ref().filter(|_| !indexed) {
        errors.invalid(&path.child("successPolicy"), policy.to_value(), "requires indexed completion mode");
    }
    if let Some(policy) = &spec.pod_failure_policy {
        failure_policy(errors, &path.child("podFailurePolicy"), policy, spec);
    }
    if let Some(policy) = spec.success_policy.as_ref().filter(|_| indexed) {
        success_policy(errors, &path.child("successPolicy"), policy, spec.completions.unwrap_or(0));
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let field = path.child("podReplacementPolicy");
        if spec.pod_failure_policy.is_some() && policy != "Failed" {
            errors.not_supported(&field, policy.as_str(), &["Failed"]);
        } else if !matches!(policy.as_str(), "Failed" | "TerminatingOrFailed") {
            errors.not_supported(&field, policy.as_str(), &["Failed", "TerminatingOrFailed"]);
        }
    }
    let template = path.child("template");
    pod_template(errors, &template, &spec.template);
    let pod = template.child("spec");
    let field = pod.child("restartPolicy");
    match spec.template.spec.restart_policy.as_str() {
        "Always" | "" => errors.required(&field, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let message = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&field, "OnFailure", message);
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&field, other, &["OnFailure", "Never"]),
    }
}

fn failure_policy(errors: &mut Errors, path: &Path<'_>, policy: &PodFailurePolicy, spec: &JobSpec) {
    let rules = path.child("rules");
    if policy.rules.len() > 20 {
        errors.too_many(&rules, policy.rules.len(), 20);
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        let path = rules.index(i);
        let action = path.child("action");
        match rule.action.as_str() {
            "" => errors.required(&action, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
            "FailIndex" if spec.backoff_limit_per_index.is_none() => {
                errors.invalid(&action, "FailIndex", "requires the backoffLimitPerIndex to be set");
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            other => errors.not_supported(&action, other, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        if rule.on_exit_codes.is_some() && !rule.on_pod_conditions.is_empty() {
            errors.invalid(&path, rule.to_value(), "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        if rule.on_exit_codes.is_none() && rule.on_pod_conditions.is_empty() {
            errors.invalid(&path, rule.to_value(), "specifying one of OnExitCodes and OnPodConditions is required");
        }
        if let Some(codes) = &rule.on_exit_codes {
            let path = path.child("onExitCodes");
            if codes.operator.is_empty() {
                errors.required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]");
            } else if !matches!(codes.operator.as_str(), "In" | "NotIn") {
                errors.not_supported(&path.child("operator"), codes.operator.as_str(), &["In", "NotIn"]);
            }
            if let Some(name) = &codes.container_name {
                let pod = &spec.template.spec;
                if !pod.containers.iter().chain(&pod.init_containers).any(|c| c.name == *name) {
                    let message = "must be one of the container or initContainer names in the pod template";
                    errors.invalid(&path.child("containerName"), name.as_str(), message);
                }
            }
            let values = path.child("values");
            if codes.values.is_empty() {
                errors.invalid(&values, codes.values.to_value(), "at least one value is required");
            }
            if !codes.values.is_sorted() {
                errors.invalid(&values, codes.values.to_value(), "must be ordered");
            }
            for (j, value) in codes.values.iter().enumerate() {
                if *value == 0 && codes.operator == "In" {
                    errors.invalid(&values.index(j), 0, "must not be 0 for the In operator");
                }
                if codes.values[..j].contains(value) {
                    errors.duplicate(&values.index(j), *value);
                }
            }
        }
        for (j, pattern) in rule.on_pod_conditions.iter().enumerate() {
            let patterns = path.child("onPodConditions");
            let path = patterns.index(j);
            check(errors, &path.child("type"), &pattern.type_, qualified_name);
            one_of(errors, &path.child("status"), &pattern.status, &["False", "True", "Unknown"]);
        }
    }
}

fn success_policy(errors: &mut Errors, path: &Path<'_>, policy: &SuccessPolicy, completions: i32) {
    let rules = path.child("rules");
    if policy.rules.is_empty() {
        errors.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    }
    if policy.rules.len() > 20 {
        errors.too_many(&rules, policy.rules.len(), 20);
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
            let message = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&rules.index(i), message);
        }
        let path = rules.index(i);
        let named = rule.succeeded_indexes.as_deref().map(|text| (text, count_indexes(text, completions)));
        if let Some((text, Err(fault))) = &named {
            let message = format!("error parsing succeededIndexes: {fault}");
            errors.invalid(&path.child("succeededIndexes"), *text, message);
        }
        if let Some(count) = rule.succeeded_count {
            let field = path.child("succeededCount");
            nonnegative(errors, &field, i64::from(count));
            if count > completions {
                let message =
                    format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.invalid(&field, count, message);
            }
            if let Some((_, named)) = named {
                let named = named.unwrap_or(0);
                if count > named {
                    let message = format!(
                        "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
                    );
                    errors.invalid(&field, count, message);
                }
            }
        }
    }
}

/// How many indexes a text such as `0-2,5` names; they must be in order and below the number of completions.
fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    let mut before = None;
    for part in text.split(',') {
        let number = |text: &str| -> Result<i32, String> {
            let index =
                text.parse::<i32>().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
        };
        let (first, last) = match part.split_once('-') {
            None => (number(part)?, number(part)?),
            Some((first, last)) => (number(first)?, number(last)?),
        };
        if before.is_some_and(|before| first <= before) || last < first {
            return Err(format!("non-increasing order, previous: {}, current: {first}", before.unwrap_or(first)));
        }
        count += last - first + 1;
        before = Some(last);
    }
    Ok(count)
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

#[cfg(test)]
mod tests {
    use super::kind;
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn pods_of_a_job_end() {
        refuses(
            &kind(),
            &[("spec.template.spec.restartPolicy", "\"Always\"")],
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        );
        refuses(
            &kind(),
            &[("spec.backoffLimitPerIndex", "1")],
            &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        );
    }

    #[test]
    fn completions_stay_and_parallelism_may_change() {
        refuses_update(&kind(), &[("spec.parallelism", "2")], &[]);
        refuses_update(
            &kind(),
            &[("spec.completions", "3")],
            &["spec.completions: Invalid value: 3: field is immutable"],
        );
    }
}
