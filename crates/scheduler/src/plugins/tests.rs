//! What pods and nodes make of each other.

use std::sync::Arc;

use apimachinery::Value;
use apimachinery::codec::json::parse;

use super::choose;
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};

fn tree(json: &str) -> Value {
    parse(json.as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}"))
}

/// A cluster of two nodes in two zones, the second with a taint, the given pods on the first.
fn cluster(on_first: &[&str]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone, taints) in [("a", "x", "[]"), ("b", "y", r#"[{"key":"gpu","value":"yes","effect":"NoSchedule"}]"#)]
    {
        let node = tree(&format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"zone":"{zone}","size":"5"}}}},"spec":{{"taints":{taints}}},
            "status":{{"allocatable":{{"cpu":"2","memory":"1Gi","pods":"3"}}}}}}"#
        ));
        cache.set_node(name, Some(Arc::new(NodeInfo::read(&node))));
    }
    for (i, json) in on_first.iter().enumerate() {
        let mut pod = PodInfo::read(&tree(json));
        pod.uid = format!("u{i}").into();
        cache.place("a", Arc::new(pod));
    }
    cache
}

fn outcome(pod: &str, on_first: &[&str]) -> String {
    match choose(&PodInfo::read(&tree(pod)), &cluster(on_first), None) {
        Ok(node) => node.to_string(),
        Err(reasons) => reasons.iter().map(|(r, n)| format!("{n} {r}")).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn pods_go_where_they_fit() {
    const TAINT: &str = "1 node(s) had untolerated taint {gpu: yes}";
    let tolerates = r#""tolerations":[{"key":"gpu","operator":"Exists"}]"#;
    let cases = [
        (r#"{"spec":{}}"#.to_string(), vec![], "a".to_string()),
        (r#"{"spec":{"nodeSelector":{"zone":"y"}}}"#.into(), vec![], format!("1 node(s) didn't match Pod's node affinity/selector, {TAINT}")),
        (format!(r#"{{"spec":{{"nodeSelector":{{"zone":"y"}},{tolerates}}}}}"#), vec![], "b".into()),
        (r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"3"}}}]}}"#.into(), vec![], format!("1 Insufficient cpu, {TAINT}")),
        (
            r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1500m"}}}]}}"#.into(),
            vec![r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"600m"}}}]}}"#],
            format!("1 Insufficient cpu, {TAINT}"),
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"hostPort":80}]}]}}"#.into(),
            vec![r#"{"spec":{"containers":[{"ports":[{"hostPort":80,"hostIP":"127.0.0.1"}]}]}}"#],
            format!("1 node(s) didn't have free ports for the requested pod ports, {TAINT}"),
        ),
        (r#"{"spec":{}}"#.into(), vec![r#"{"spec":{}}"#; 3], format!("1 Too many pods, {TAINT}")),
        (
            r#"{"metadata":{"labels":{"app":"w"}},"spec":{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[
                {"topologyKey":"zone","labelSelector":{"matchLabels":{"app":"w"}}}]}}}}"#.into(),
            vec![r#"{"metadata":{"labels":{"app":"w"}},"spec":{}}"#],
            format!("1 node(s) didn't match pod anti-affinity rules, {TAINT}"),
        ),
        (
            format!(
                r#"{{"metadata":{{"labels":{{"app":"w"}}}},"spec":{{{tolerates},"topologySpreadConstraints":[{{"maxSkew":1,"topologyKey":"zone",
                "whenUnsatisfiable":"DoNotSchedule","labelSelector":{{"matchLabels":{{"app":"w"}}}}}}]}}}}"#
            ),
            vec![r#"{"metadata":{"labels":{"app":"w"}},"spec":{}}"#],
            "b".into(),
        ),
        (
            // A node that is out of reach holds nothing back.
            r#"{"metadata":{"labels":{"app":"w"}},"spec":{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone",
                "whenUnsatisfiable":"DoNotSchedule","nodeTaintsPolicy":"Honor","labelSelector":{"matchLabels":{"app":"w"}}}]}}"#.into(),
            vec![r#"{"metadata":{"labels":{"app":"w"}},"spec":{}}"#],
            "a".into(),
        ),
        (
            r#"{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
                {"matchExpressions":[{"key":"size","operator":"Gt","values":["4"]}]}]}}}}}"#.into(),
            vec![],
            "a".into(),
        ),
    ];
    for (pod, on_first, wanted) in cases {
        assert_eq!(outcome(&pod, &on_first), wanted, "{pod}");
    }
}

#[test]
fn init_containers_count_where_they_need_more() {
    let pod = PodInfo::read(&tree(
        r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"100m"}}}],
        "initContainers":[{"restartPolicy":"Always","resources":{"requests":{"cpu":"50m"}}},{"resources":{"requests":{"cpu":"1"}}}]}}"#,
    ));
    assert_eq!(pod.requests.get("cpu"), 1050);
}

#[test]
fn room_that_others_leave_is_not_taken() {
    let light = PodInfo::read(&tree(r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1500m"}}}]}}"#));
    let cache = cluster(&[]);
    let mut expected = cache.clone();
    let mut heavy = PodInfo::read(&tree(r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1"}}}]}}"#));
    heavy.uid = "heavy".into();
    expected.place("a", Arc::new(heavy));
    assert_eq!(choose(&light, &cache, None).unwrap(), "a");
    let reasons = choose(&light, &cache, Some(&expected)).unwrap_err();
    assert_eq!(reasons[0].0, "Insufficient cpu");
}
