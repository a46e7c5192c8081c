//! ReplicaSet: keeps a number of equal pods running.

use crate::checks::{immutable, label_selector, matches, name, selects_nothing};
use crate::core::pod::defaults::pod_template_defaults;
use crate::core::pod::validate::pod_template;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::{joined, number, selector};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// ReplicaSet: keeps a number of equal pods running.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSet")]
pub struct ReplicaSet {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: ReplicaSetSpec,
    #[api(3, omitempty)]
    pub status: ReplicaSetStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetSpec")]
pub struct ReplicaSetSpec {
    #[api(1, omitempty)]
    pub replicas: Option<i32>,
    #[api(4, omitempty)]
    pub min_ready_seconds: i32,
    #[api(2, required)]
    pub selector: Option<LabelSelector>,
    #[api(3, omitempty)]
    pub template: PodTemplateSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetStatus")]
pub struct ReplicaSetStatus {
    #[api(1, required)]
    pub replicas: i32,
    #[api(2, omitempty)]
    pub fully_labeled_replicas: i32,
    #[api(4, omitempty)]
    pub ready_replicas: i32,
    #[api(5, omitempty)]
    pub available_replicas: i32,
    #[api(7, omitempty)]
    pub terminating_replicas: Option<i32>,
    #[api(3, omitempty)]
    pub observed_generation: i64,
    #[api(6, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<ReplicaSetCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetCondition")]
pub struct ReplicaSetCondition {
    #[api(1)]
    pub type_: String,
    #[api(2)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ReplicaSet>("apps", "v1", "replicasets")
        .short(&["rs"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .selectable(&["status.replicas"])
        .code_column("Desired", "integer", |o, _| number(o, &["spec", "replicas"]))
        .code_column("Current", "integer", |o, _| number(o, &["status", "replicas"]))
        .code_column("Ready", "integer", |o, _| number(o, &["status", "readyReplicas"]))
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .wide_code_column("Selector", "string", |o, _| selector(o, &["spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "web-1"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}}}}"#,
        )
}

served!(ReplicaSet, "apps", "v1", "replicasets", true);

impl Rules for ReplicaSet {
    fn set_defaults(&mut self) {
        pod_template_defaults(&mut self.spec.template);
        self.spec.replicas.get_or_insert(1);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        nonnegative(errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
        nonnegative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds));
        workload(errors, &path, spec.selector.as_ref(), &spec.template, "deployment", "ReplicaSet");
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("selector"), &self.spec.selector, &old.spec.selector);
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("status");
        let status = &self.status;
        let counts = [
            ("replicas", status.replicas),
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        counts_within(errors, &path, &counts);
    }
}

/// Checks the selector and the template of a workload whose pods run until they are deleted.
pub(crate) fn workload(
    errors: &mut Errors,
    path: &Path<'_>,
    selector: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    selector_word: &str,
    kind: &str,
) {
    let (field, template_field) = (path.child("selector"), path.child("template"));
    match selector {
        None => {
            if kind != "DaemonSet" {
                errors.required(&field, "");
            }
            unselected(errors, &template_field, template);
        }
        Some(selector) => {
            let before = errors.len();
            label_selector(errors, &field, selector);
            if errors.len() > before {
                // Nothing can be said about the template of a workload whose selector is none.
                match kind {
                    "ReplicaSet" => errors.invalid(&field, selector.to_value(), "invalid label selector"),
                    "StatefulSet" => errors.invalid(&field, selector.to_value(), ""),
                    _ => {}
                }
            } else if selects_nothing(selector) {
                let message = format!("empty selector is invalid for {selector_word}");
                errors.invalid(&field, selector.to_value(), message);
            } else if !matches(selector, &template.metadata.labels) {
                unselected(errors, &template_field, template);
            }
        }
    }
    pod_template(errors, &template_field, template);
    long_running(errors, &template_field, template, kind);
}

/// Reports a template whose pods its own workload would not find.
pub(crate) fn unselected(errors: &mut Errors, path: &Path<'_>, template: &PodTemplateSpec) {
    let metadata = path.child("metadata");
    let labels = &template.metadata.labels;
    // As Go shows a map that nobody made.
    let shown = if labels.is_empty() { Value::Null } else { labels.to_value() };
    errors.invalid(&metadata.child("labels"), shown, "`selector` does not match template `labels`");
}

/// Pods of such a workload are restarted always and have no deadline.
pub(crate) fn long_running(errors: &mut Errors, path: &Path<'_>, template: &PodTemplateSpec, kind: &str) {
    let spec = path.child("spec");
    if !matches!(template.spec.restart_policy.as_str(), "Always" | "") {
        errors.not_supported(&spec.child("restartPolicy"), template.spec.restart_policy.as_str(), &["Always"]);
    }
    if template.spec.active_deadline_seconds.is_some() {
        let message = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&spec.child("activeDeadlineSeconds"), message);
    }
}

/// Counts of a status: none below zero, none above the first, available ones among the ready.
pub(crate) fn counts_within(errors: &mut Errors, path: &Path<'_>, counts: &[(&str, i32)]) {
    for (field, count) in counts {
        nonnegative(errors, &path.child(field), i64::from(*count));
    }
    let Some((_, all)) = counts.first() else { return };
    for (field, count) in counts[1..].iter().filter(|(_, count)| count > all) {
        errors.invalid(&path.child(field), *count, "cannot be greater than status.replicas");
    }
    let of = |wanted: &str| counts.iter().find(|(field, _)| *field == wanted).map(|(_, count)| *count);
    if let (Some(ready), Some(available)) = (of("readyReplicas"), of("availableReplicas"))
        && available > ready
    {
        errors.invalid(&path.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
}
