//! A job's policies: what a failed pod means, and when enough indexes have succeeded.

use api::batch::job::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, SuccessPolicy};
use client::Key;

use super::indexes::Indexes;
use crate::shared::job_pod::JobPod;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the limits.
    Count,
    /// It does not.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has failed, for this reason.
    FailJob(String),
}

/// The verdict of the first rule that matches.
pub fn judge(policy: Option<&PodFailurePolicy>, key: &Key, pod: &JobPod) -> Verdict {
    for (at, rule) in policy.into_iter().flat_map(|p| &p.rules).enumerate() {
        let why = if let Some(codes) = &rule.on_exit_codes {
            pod.exits.iter().find(|exit| matches(codes, exit)).map(|(container, code)| {
                format!(
                    "Container {container} for pod {}/{} failed with exit code {code} matching {} rule at index {at}",
                    key.namespace, key.name, rule.action
                )
            })
        } else {
            let matching = |(kind, status): &&(apimachinery::SmolStr, apimachinery::SmolStr)| {
                rule.on_pod_conditions.iter().any(|pattern| *kind == pattern.type_ && *status == pattern.status)
            };
            pod.conditions.iter().find(matching).map(|(kind, _)| {
                format!(
                    "Pod {}/{} has condition {kind} matching {} rule at index {at}",
                    key.namespace, key.name, rule.action
                )
            })
        };
        match (why, rule.action.as_str()) {
            (None, _) => {}
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), "FailIndex") => return Verdict::FailIndex,
            (Some(_), "Count") => return Verdict::Count,
            (Some(why), "FailJob") => return Verdict::FailJob(why),
            (Some(_), _) => {}
        }
    }
    Verdict::Count
}

fn matches(codes: &PodFailurePolicyOnExitCodesRequirement, (container, code): &(apimachinery::SmolStr, i32)) -> bool {
    let named = codes.container_name.as_ref().is_none_or(|name| *name == container.as_str());
    named
        && match codes.operator.as_str() {
            "In" => codes.values.contains(code),
            "NotIn" => !codes.values.contains(code),
            _ => false,
        }
}

/// Why the job has succeeded early, if it has.
pub fn succeeds(policy: Option<&SuccessPolicy>, completions: u32, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let at = policy?.rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(indexes), count) => {
            let wanted = Indexes::parse(indexes, completions);
            let shared = wanted.shared(succeeded);
            !wanted.is_empty() && (shared == wanted.total() || count.is_some_and(|n| shared >= n))
        }
        (None, Some(count)) => succeeded.total() >= count,
        (None, None) => false,
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use api::batch::job::{PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicyRule};

    use super::*;

    #[test]
    fn the_first_matching_rule_decides() {
        let codes = |action: &str, operator: &str, container: Option<&str>| PodFailurePolicyRule {
            action: action.into(),
            on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                container_name: container.map(Into::into),
                operator: operator.into(),
                values: vec![42],
            }),
            ..PodFailurePolicyRule::default()
        };
        let disrupted = PodFailurePolicyRule {
            action: "Ignore".into(),
            on_pod_conditions: vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
            }],
            ..PodFailurePolicyRule::default()
        };
        let policy = PodFailurePolicy {
            rules: vec![disrupted, codes("FailJob", "In", Some("a")), codes("FailIndex", "NotIn", None)],
        };
        let key = Key::new("ns", "p");
        let exit = |container: &str, code| JobPod { exits: vec![(container.into(), code)], ..JobPod::default() };
        let why = "Container a for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        for (pod, verdict) in [
            (exit("a", 42), Verdict::FailJob(why.into())),
            (exit("b", 42), Verdict::Count),
            (exit("b", 1), Verdict::FailIndex),
            (JobPod { conditions: vec![("DisruptionTarget".into(), "True".into())], ..exit("a", 42) }, Verdict::Ignore),
        ] {
            assert_eq!(judge(Some(&policy), &key, &pod), verdict);
        }
        assert_eq!(judge(None, &key, &exit("a", 42)), Verdict::Count);
    }

    #[test]
    fn enough_is_a_set_a_count_or_both() {
        let rule = |indexes: Option<&str>, count| SuccessPolicyRule {
            succeeded_indexes: indexes.map(Into::into),
            succeeded_count: count,
        };
        let succeeded = Indexes::parse("0,2-3", 10);
        for (rule, met) in [
            (rule(Some("0,2"), None), true),
            (rule(Some("0-2"), None), false),
            (rule(Some("0-2"), Some(2)), true),
            (rule(None, Some(3)), true),
            (rule(None, Some(4)), false),
            (rule(Some("20"), None), false),
        ] {
            let policy = SuccessPolicy { rules: vec![rule] };
            assert_eq!(succeeds(Some(&policy), 10, &succeeded).is_some(), met, "{policy:?}");
        }
    }
}
