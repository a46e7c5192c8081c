//! PodSecurity: the labels of a namespace say how much pods may ask of their host.

mod checks;
mod containers;

use apimachinery::{Errors, Path, Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::{label, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "PodSecurity",
    handles,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(check(world, a))),
};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods looked at when a namespace becomes stricter; beyond it the warning says so.
const MOST_PODS: usize = 3000;
/// Parts of pods through which their spec cannot change.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Where the pod template is, in the resources that make pods.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "replicationcontrollers", &["spec", "template"]),
    ("", "podtemplates", &["template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// How strict, and by the rules of which release: `None` for the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub level: Level,
    pub minor: Option<u32>,
}

const OPEN: Rules = Rules { level: Level::Privileged, minor: None };

impl std::fmt::Display for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

fn template_path(a: &Attributes<'_>) -> Option<&'static [&'static str]> {
    TEMPLATES.iter().find(|(group, resource, _)| is(a, group, resource)).map(|(_, _, path)| *path)
}

fn handles(a: &Attributes<'_>) -> bool {
    if !matches!(a.operation, Operation::Create | Operation::Update) {
        return false;
    }
    if is(a, "", "pods") {
        return !IGNORED.contains(&a.subresource);
    }
    a.subresource.is_empty() && (is(a, "", "namespaces") || template_path(a).is_some())
}

/// What the labels of a namespace ask for.
#[derive(Debug, PartialEq)]
struct Policy {
    enforce: Rules,
    warn: Rules,
}

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn parse_version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
    if plain { minor.parse().ok().map(Some) } else { None }
}

/// Reads the labels; what is wrong is told in `errors` and taken as strict where it enforces, as open where it warns.
fn policy(namespace: &Value, errors: &mut Errors) -> Policy {
    let mut rules = [OPEN; 3];
    let metadata = Path::new("metadata");
    let labels = metadata.child("labels");
    let mut told = [false; 3];
    for (i, (mode, fallback)) in
        [("enforce", Level::Restricted), ("audit", Level::Privileged), ("warn", Level::Privileged)]
            .into_iter()
            .enumerate()
    {
        let name = format!("{PREFIX}{mode}");
        if let Some(level) = label(namespace, &name) {
            let parsed = parse_level(level);
            told[i] = parsed.is_some() || mode == "warn";
            rules[i].level = parsed.unwrap_or(fallback);
            if parsed.is_none() {
                errors.invalid(&labels.key(&name), level, "must be one of privileged, baseline, restricted");
            }
        }
        let name = format!("{PREFIX}{mode}-version");
        if let Some(version) = label(namespace, &name) {
            let parsed = parse_version(version);
            rules[i].minor = parsed.flatten();
            if parsed.is_none() {
                errors.invalid(&labels.key(&name), version, "must be \"latest\" or \"v1.x\"");
            }
        }
    }
    let [enforce, _, mut warn] = rules;
    if !told[2] && told[0] && enforce.level > warn.level {
        warn.level = enforce.level;
        if label(namespace, "pod-security.kubernetes.io/warn-version").is_none() {
            warn.minor = enforce.minor;
        }
    }
    Policy { enforce, warn }
}

async fn check(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if is(a, "", "namespaces") {
        return check_namespace(world, a).await;
    }
    let namespace = world.get("", "namespaces", "", a.namespace).await?.unwrap_or_default();
    let policy = policy(&namespace, &mut Errors::new());
    let (pod, enforce) = match template_path(a) {
        Some(path) => (a.object.at(path), false),
        None => (Some(&*a.object), true),
    };
    let Some(pod) = pod else { return Ok(()) };
    if enforce && a.old.is_some_and(|old| !is_significant(pod, old)) {
        return Ok(());
    }
    if enforce && let Some(problems) = evaluate(pod, policy.enforce) {
        return Err(forbidden(
            a,
            format!("violates PodSecurity {:?}: {}", policy.enforce.to_string(), detail(&problems)),
        ));
    }
    if let Some(problems) = evaluate(pod, policy.warn) {
        a.cx.warn(format!("would violate PodSecurity {:?}: {}", policy.warn.to_string(), detail(&problems)));
    }
    Ok(())
}

/// What is wrong with a pod, if anything.
fn evaluate(pod: &Value, rules: Rules) -> Option<Vec<checks::Problem>> {
    if rules.level == Level::Privileged {
        return None;
    }
    let problems = checks::run(pod, rules);
    (!problems.is_empty()).then_some(problems)
}

fn detail(problems: &[checks::Problem]) -> String {
    let one = |p: &checks::Problem| {
        if p.detail.is_empty() { p.reason.to_string() } else { format!("{} ({})", p.reason, p.detail) }
    };
    problems.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether an update of a pod changes anything that the rules look at.
fn is_significant(new: &Value, old: &Value) -> bool {
    const ANNOTATIONS: [&str; 3] = [
        "container.apparmor.security.beta.kubernetes.io/",
        "seccomp.security.alpha.kubernetes.io/pod",
        "container.seccomp.security.alpha.kubernetes.io/",
    ];
    let images = |pod: &Value| -> Vec<String> {
        let spec = pod.get("spec").cloned().unwrap_or_default();
        super::pod::containers(&spec).map(|(list, i, c)| format!("{list} {i} {}", text(c, &["image"]))).collect()
    };
    let notes = |pod: &Value| -> Vec<(String, Value)> {
        let all = pod.at(&["metadata", "annotations"]).and_then(Value::as_map).cloned().unwrap_or_default();
        all.into_iter()
            .filter(|(k, _)| ANNOTATIONS.iter().any(|a| k.starts_with(a)))
            .map(|(k, v)| (k.to_string(), v))
            .collect()
    };
    images(new) != images(old) || notes(new) != notes(old)
}

async fn check_namespace(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let mut errors = Errors::new();
    let new = policy(a.object, &mut errors);
    let mut old_errors = Errors::new();
    let old = a.old.map(|old| policy(old, &mut old_errors));
    let told = |errors: &Errors| errors.iter().map(|e| e.to_string()).collect::<Vec<_>>();
    if !errors.is_empty() && (old.is_none() || told(&errors) != told(&old_errors)) {
        return Err(Status::invalid(&a.kind.group_kind(), a.name, &errors));
    }
    let Some(old) = old else { return Ok(()) };
    let relaxed = new.enforce.minor == old.enforce.minor && new.enforce.level <= old.enforce.level;
    if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let pods = world.list("", "pods", a.name).await?;
    for warning in existing(a.name, &pods, new.enforce) {
        a.cx.warn(warning);
    }
    Ok(())
}

/// Sentences about pods that are there already and would not be let in any more.
fn existing(namespace: &str, pods: &[Value], rules: Rules) -> Vec<String> {
    let mut found: std::collections::BTreeMap<String, Vec<&str>> = Default::default();
    for pod in pods.iter().take(MOST_PODS) {
        if let Some(problems) = evaluate(pod, rules) {
            let reasons = problems.iter().map(|p| p.reason).collect::<Vec<_>>().join(", ");
            found.entry(reasons).or_default().push(text(pod, &["metadata", "name"]));
        }
    }
    let mut out = Vec::new();
    if pods.len() > MOST_PODS {
        let all = pods.len();
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        out.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            rules.to_string()
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, names)| {
            let first = names.iter().min().copied().unwrap_or_default();
            match names.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                n => format!("{first} (and {} other pods): {reasons}", n - 1),
            }
        })
        .collect();
    lines.sort();
    out.extend(lines);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    fn namespace(labels: serde_json::Value) -> Value {
        tree(json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn labels_make_the_policy() {
        let restricted = Rules { level: Level::Restricted, minor: None };
        let cases = [
            (json!({}), OPEN, OPEN, 0),
            (json!({"pod-security.kubernetes.io/enforce": "restricted"}), restricted, restricted, 0),
            (
                json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.20"}),
                Rules { level: Level::Baseline, minor: Some(20) },
                Rules { level: Level::Baseline, minor: Some(20) },
                0,
            ),
            (
                json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "privileged"}),
                restricted,
                OPEN,
                0,
            ),
            (json!({"pod-security.kubernetes.io/enforce": "strict"}), restricted, OPEN, 1),
            (json!({"pod-security.kubernetes.io/warn-version": "1.2"}), OPEN, OPEN, 1),
        ];
        for (labels, enforce, warn, problems) in cases {
            let mut errors = Errors::new();
            let policy = policy(&namespace(labels.clone()), &mut errors);
            assert_eq!((policy.enforce, policy.warn, errors.len()), (enforce, warn, problems), "{labels}");
        }
    }

    #[test]
    fn a_plain_pod_is_not_restricted() {
        let pod = tree(json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}));
        let rules = Rules { level: Level::Restricted, minor: None };
        assert_eq!(
            detail(&evaluate(&pod, rules).unwrap()),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert!(evaluate(&pod, Rules { level: Level::Baseline, minor: None }).is_none());
        let lines = existing("ns", &[pod.clone(), pod], rules);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("(and 1 other pod): allowPrivilegeEscalation != false, "), "{lines:?}");
    }

    #[test]
    fn only_what_matters_is_looked_at_again() {
        let old = tree(json!({"metadata": {}, "spec": {"containers": [{"image": "a"}]}}));
        let labelled = tree(json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"image": "a"}]}}));
        let other = tree(json!({"metadata": {}, "spec": {"containers": [{"image": "b"}]}}));
        assert!(!is_significant(&labelled, &old));
        assert!(is_significant(&other, &old));
    }
}
