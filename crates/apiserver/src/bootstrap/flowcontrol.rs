//! Priority levels and flow schemas: the two mandatory pairs and the suggested ones.

use serde_json::{Value as Json, json};

use super::Wanted;
use super::reconcile::Rule;
use crate::tree::tree;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Name, shares, percent it lends, and queues, hand size, queue length (absent: requests are rejected at once).
type Level = (&'static str, i64, i64, Option<(i64, i64, i64)>);

const LEVELS: [Level; 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// What a schema matches.
enum Match {
    Everything,
    /// Verbs and paths.
    Paths(&'static [&'static str], &'static [&'static str]),
    /// Verbs, group, resources, whether cluster-scoped too.
    Resources(&'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)]),
}

/// Name, level, precedence, what tells flows apart, subjects (`g:` group, `u:` user, `s:` account of kube-system).
type Schema = (&'static str, &'static str, i64, &'static str, &'static [&'static str], Match);

const EVERYONE: &[&str] = &["g:system:unauthenticated", "g:system:authenticated"];

const SCHEMAS: [Schema; 11] = [
    ("exempt", "exempt", 1, "", &["g:system:masters"], Match::Everything),
    ("catch-all", "catch-all", 10_000, "ByUser", EVERYONE, Match::Everything),
    ("probes", "exempt", 2, "", EVERYONE, Match::Paths(&["get"], &["/healthz", "/readyz", "/livez"])),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &["u:system:kube-controller-manager", "u:system:kube-scheduler", "s:*"],
        Match::Resources(&[(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false)]),
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        &["g:system:nodes"],
        Match::Resources(&[
            (&["*"], "", &["nodes", "nodes/status"], true),
            (&["*"], "coordination.k8s.io", &["leases"], false),
        ]),
    ),
    ("system-nodes", "system", 500, "ByUser", &["g:system:nodes"], Match::Everything),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &["u:system:kube-controller-manager"],
        Match::Everything,
    ),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &["u:system:kube-scheduler"], Match::Everything),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &["s:*"], Match::Everything),
    ("service-accounts", "workload-low", 9_000, "ByUser", &["g:system:serviceaccounts"], Match::Everything),
    ("global-default", "global-default", 9_900, "ByUser", EVERYONE, Match::Everything),
];

fn object(kind: &str, name: &str, spec: Json) -> Json {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec,
    })
}

fn level((name, shares, lendable, queuing): &Level) -> Json {
    let response = match queuing {
        None => json!({"type": "Reject"}),
        Some((queues, hand, length)) => json!({
            "type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length},
        }),
    };
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
    object("PriorityLevelConfiguration", name, json!({"type": "Limited", "limited": limited}))
}

fn subject(text: &str) -> Json {
    match text.split_at(2) {
        ("g:", name) => json!({"kind": "Group", "group": {"name": name}}),
        ("u:", name) => json!({"kind": "User", "user": {"name": name}}),
        (_, name) => json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}),
    }
}

fn resource_rule(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Json {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn schema((name, level, precedence, distinguisher, subjects, what): &Schema) -> Json {
    let subjects: Vec<Json> = subjects.iter().map(|s| subject(s)).collect();
    let rule = match what {
        Match::Everything => json!({
            "subjects": subjects,
            "resourceRules": [resource_rule(&["*"], "*", &["*"], true)],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        Match::Paths(verbs, paths) => json!({
            "subjects": subjects,
            "nonResourceRules": [{"verbs": verbs, "nonResourceURLs": paths}],
        }),
        Match::Resources(rules) => {
            let rules: Vec<Json> = rules.iter().map(|(v, g, r, c)| resource_rule(v, g, r, *c)).collect();
            json!({"subjects": subjects, "resourceRules": rules})
        }
    };
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    object("FlowSchema", name, spec)
}

/// All of them; `exempt` and `catch-all` are mandatory.
pub fn objects() -> Vec<Wanted> {
    let rule = |name: &str| Rule::FlowControl { mandatory: matches!(name, "exempt" | "catch-all") };
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let exempt = object("PriorityLevelConfiguration", "exempt", exempt);
    let mut all = vec![Wanted::new(GROUP, "prioritylevelconfigurations", tree(exempt), rule("exempt"))];
    all.extend(LEVELS.iter().map(|l| Wanted::new(GROUP, "prioritylevelconfigurations", tree(level(l)), rule(l.0))));
    all.extend(SCHEMAS.iter().map(|s| Wanted::new(GROUP, "flowschemas", tree(schema(s)), rule(s.0))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{list, text};

    #[test]
    fn every_schema_leads_to_a_level() {
        let all = objects();
        let levels: Vec<_> = all.iter().filter(|w| w.resource == "prioritylevelconfigurations").collect();
        assert_eq!((levels.len(), all.len()), (8, 19));
        for schema in all.iter().filter(|w| w.resource == "flowschemas") {
            let level = text(&schema.tree, &["spec", "priorityLevelConfiguration", "name"]);
            assert!(levels.iter().any(|l| text(&l.tree, &["metadata", "name"]) == level), "{level}");
            assert!(!list(&schema.tree, &["spec", "rules"]).is_empty());
        }
    }
}
