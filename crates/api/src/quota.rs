//! What objects use of a ResourceQuota: shared by admission, which reserves it, and by the controller, which recounts.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::quantity::{Format, Quantity};
use apimachinery::selector::{LabelSelector, Operator, Requirement};
use apimachinery::{SmolStr, Value};

/// Amounts by resource name, such as `requests.cpu`.
pub type Amounts = BTreeMap<SmolStr, Quantity>;

const POD_RESOURCES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Amounts that every container of a pod must name when a quota limits them.
const MANDATORY: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Resources that have a quota name without `count/`.
const PLAIN_NAMES: [&str; 6] =
    ["configmaps", "secrets", "resourcequotas", "replicationcontrollers", "services", "persistentvolumeclaims"];

const CLASS_STORAGE: &str = ".storageclass.storage.k8s.io/requests.storage";
const CLASS_CLAIMS: &str = ".storageclass.storage.k8s.io/persistentvolumeclaims";
const CLASS_DEVICES: &str = ".deviceclass.resource.k8s.io/devices";

fn one() -> Quantity {
    count(1)
}

fn count(n: i64) -> Quantity {
    Quantity::new(n, Format::DecimalSi)
}

fn items<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    tree.at(path).and_then(Value::as_list).unwrap_or_default()
}

/// Reads a ResourceList; amounts that cannot be read are left out, since validation refuses them.
pub fn amounts(tree: Option<&Value>) -> Amounts {
    let Some(map) = tree.and_then(Value::as_map) else { return Amounts::new() };
    let read = |v: &Value| match v {
        Value::String(s) => Quantity::parse(s).ok(),
        Value::Int(i) => Some(count(*i)),
        Value::Float(f) => Quantity::parse(&f.to_string()).ok(),
        _ => None,
    };
    map.iter().filter_map(|(k, v)| Some((k.clone(), read(v)?))).collect()
}

/// The tree of a ResourceList.
pub fn to_tree(amounts: &Amounts) -> Value {
    Value::Map(amounts.iter().map(|(k, v)| (k.clone(), Value::from(v.to_string()))).collect())
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match to.get_mut(name) {
            Some(sum) => sum.add(*amount),
            None => {
                to.insert(name.clone(), *amount);
            }
        }
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = to.entry(name.clone()).or_insert_with(|| *amount);
        if *entry < *amount {
            *entry = *amount;
        }
    }
}

/// What a pod asks for (`requests`) or may use (`limits`) at any time of its life: its containers together, or its
/// most demanding init step; amounts at pod level go first; overhead comes on top.
pub fn pod_amounts(pod: &Value, which: &str) -> Amounts {
    let mut total = container_amounts(pod, which);
    for (name, amount) in amounts(pod.at(&["spec", "resources", which])) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            total.insert(name, amount);
        }
    }
    let overhead = amounts(pod.at(&["spec", "overhead"]));
    if which == "requests" {
        add(&mut total, &overhead);
    } else {
        // Overhead raises limits that there are and makes none.
        for (name, more) in &overhead {
            if let Some(limit) = total.get_mut(name) {
                limit.add(*more);
            }
        }
    }
    total
}

fn container_amounts(pod: &Value, which: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in items(pod, &["spec", "containers"]) {
        add(&mut total, &amounts(container.at(&["resources", which])));
    }
    let (mut sidecars, mut steps) = (Amounts::new(), Amounts::new());
    for container in items(pod, &["spec", "initContainers"]) {
        let mut own = amounts(container.at(&["resources", which]));
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut steps, &own);
    }
    raise(&mut total, &steps);
    total
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn compute_usage(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".into(), one())]);
    for (name, amount) in requests {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                usage.insert(name.clone(), *amount);
                usage.insert(format!("requests.{name}").into(), *amount);
            }
            pages if pages.starts_with("hugepages-") => {
                usage.insert(name.clone(), *amount);
                usage.insert(format!("requests.{name}").into(), *amount);
            }
            extended if is_extended(extended) => {
                usage.insert(format!("requests.{name}").into(), *amount);
            }
            _ => {}
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}").into(), *amount);
        }
    }
    usage
}

/// Whether a pod still counts: not when it has ended, nor when it should be gone by now (seconds since 1970).
fn pod_counts(pod: &Value, now: i64) -> bool {
    if matches!(pod.str_at(&["status", "phase"]), Some("Failed" | "Succeeded")) {
        return false;
    }
    let deletion = pod.str_at(&["metadata", "deletionTimestamp"]).and_then(apimachinery::time::parse_rfc3339);
    let grace = pod.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    !matches!((deletion, grace), (Some((at, _)), Some(grace)) if now > at + grace)
}

/// The quota name that counts every stored object of a resource.
pub fn count_name(group: &str, resource: &str) -> SmolStr {
    if group.is_empty() { format!("count/{resource}").into() } else { format!("count/{resource}.{group}").into() }
}

/// What one object uses.
pub fn usage(group: &str, resource: &str, object: &Value, now: i64) -> Amounts {
    let mut usage = Amounts::from([(count_name(group, resource), one())]);
    match (group, resource) {
        ("", "pods") if pod_counts(object, now) => {
            let (requests, limits) = (pod_amounts(object, "requests"), pod_amounts(object, "limits"));
            add(&mut usage, &compute_usage(&requests, &limits));
        }
        ("", "services") => service_usage(object, &mut usage),
        ("", "persistentvolumeclaims") => claim_usage(object, &mut usage),
        ("resource.k8s.io", "resourceclaims") => device_usage(object, &mut usage),
        ("", plain) if PLAIN_NAMES.contains(&plain) => {
            usage.insert(plain.into(), one());
        }
        _ => {}
    }
    usage
}

fn service_usage(service: &Value, usage: &mut Amounts) {
    let ports = items(service, &["spec", "ports"]);
    let wished = || ports.iter().filter(|p| p.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0).count();
    let allocates = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) != Some(false);
    let (balancers, nodes) = match service.str_at(&["spec", "type"]) {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") => (1, if allocates { ports.len() } else { wished() }),
        _ => (0, 0),
    };
    usage.insert("services".into(), one());
    usage.insert("services.loadbalancers".into(), count(balancers));
    usage.insert("services.nodeports".into(), count(nodes as i64));
}

fn claim_usage(claim: &Value, usage: &mut Amounts) {
    let annotation = claim.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    let class = annotation.or_else(|| claim.str_at(&["spec", "storageClassName"])).unwrap_or_default();
    usage.insert("persistentvolumeclaims".into(), one());
    if !class.is_empty() {
        usage.insert(format!("{class}{CLASS_CLAIMS}").into(), one());
    }
    let mut storage = amounts(claim.at(&["spec", "resources", "requests"])).remove("storage");
    if let Some(allocated) = amounts(claim.at(&["status", "allocatedResources"])).remove("storage")
        && storage.as_ref().is_none_or(|s| *s < allocated)
    {
        storage = Some(allocated);
    }
    if let Some(storage) = storage {
        usage.insert("requests.storage".into(), storage);
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS_STORAGE}").into(), storage);
        }
    }
}

fn device_usage(claim: &Value, usage: &mut Amounts) {
    /// What a request for all devices counts as: the most that one claim can have.
    const ALL: i64 = 32;
    for request in items(claim, &["spec", "devices", "requests"]) {
        let choices: Vec<&Value> = match request.get("exactly") {
            Some(exactly) => vec![exactly],
            None => items(request, &["firstAvailable"]).iter().collect(),
        };
        // Of alternatives each class counts with its most demanding one.
        let mut most: BTreeMap<SmolStr, i64> = BTreeMap::new();
        for choice in choices {
            let Some(class) = choice.str_at(&["deviceClassName"]) else { continue };
            let number = match choice.str_at(&["allocationMode"]) {
                Some("All") => ALL,
                _ => choice.get("count").and_then(Value::as_i64).unwrap_or(1),
            };
            let entry = most.entry(class.into()).or_default();
            *entry = number.max(*entry);
        }
        for (class, number) in most {
            add(usage, &Amounts::from([(format!("{class}{CLASS_DEVICES}").into(), count(number))]));
        }
    }
}

/// Whether a quota's resource name limits objects of a resource.
pub fn limits(group: &str, resource: &str, name: &str) -> bool {
    if name == count_name(group, resource) {
        return true;
    }
    match (group, resource) {
        ("", "pods") => {
            let extended = name.strip_prefix("requests.").is_some_and(is_extended);
            let pages = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
            let implicit = name.starts_with("requests.deviceclass.resource.kubernetes.io/");
            POD_RESOURCES.contains(&name) || extended || pages || implicit
        }
        ("", "services") => matches!(name, "services" | "services.loadbalancers" | "services.nodeports"),
        ("", "persistentvolumeclaims") => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
                || name.ends_with(CLASS_STORAGE)
                || name.ends_with(CLASS_CLAIMS)
        }
        ("resource.k8s.io", "resourceclaims") => name.ends_with(CLASS_DEVICES),
        ("", plain) => PLAIN_NAMES.contains(&plain) && name == plain,
        _ => false,
    }
}

/// Whether a quota's scopes include an object.
pub fn in_scope(quota: &Value, group: &str, resource: &str, object: &Value) -> bool {
    let scopes = items(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str).map(|s| (s, "Exists", &[][..]));
    let selectors = items(quota, &["spec", "scopeSelector", "matchExpressions"]).iter().map(|e| {
        let text = |key| e.str_at(&[key]).unwrap_or_default();
        (text("scopeName"), text("operator"), items(e, &["values"]))
    });
    scopes.chain(selectors).all(|(scope, operator, values)| match (group, resource) {
        ("", "pods") => pod_in_scope(object, scope, operator, values),
        ("", "persistentvolumeclaims") if scope == "VolumeAttributesClass" => {
            let class = object.str_at(&["spec", "volumeAttributesClassName"]).unwrap_or_default();
            names_match(class, operator, values)
        }
        // Other objects have no scopes, so a quota with scopes never means them.
        _ => false,
    })
}

fn names_match(name: &str, operator: &str, values: &[Value]) -> bool {
    let operator = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => Operator::Exists,
    };
    let values = values.iter().filter_map(Value::as_str).map(SmolStr::new).collect();
    let requirement = Requirement { key: "name".into(), operator, values };
    LabelSelector::from_requirements(vec![requirement]).matches(|_| Some(name).filter(|n| !n.is_empty()))
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let terminating = pod.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            names_match(pod.str_at(&["spec", "priorityClassName"]).unwrap_or_default(), operator, values)
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether no container asks for or limits cpu or memory.
fn is_best_effort(pod: &Value) -> bool {
    let lists = [items(pod, &["spec", "containers"]), items(pod, &["spec", "initContainers"])];
    let whole = pod.get("spec").into_iter();
    !lists.into_iter().flatten().chain(whole).any(|c| {
        ["requests", "limits"].iter().any(|which| {
            let amounts = amounts(c.at(&["resources", which]));
            ["cpu", "memory"].iter().any(|name| amounts.get(*name).is_some_and(|a| !a.is_zero_amount()))
        })
    })
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| !items(term, &["namespaces"]).is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let at = |list| items(pod, &["spec", "affinity", side, list]);
        at("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || at("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .filter_map(|t| t.get("podAffinityTerm"))
                .any(crosses)
    })
}

/// What a pod lacks for quotas on cpu and memory: each container must name what is limited.
pub fn missing_amounts(pod: &Value, limited: &[SmolStr]) -> Option<String> {
    let whole = ["requests", "limits"].iter().any(|which| !amounts(pod.at(&["spec", "resources", which])).is_empty());
    if whole {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in items(pod, &["spec", list]) {
            let read = |which| amounts(container.at(&["resources", which]));
            let named = compute_usage(&read("requests"), &read("limits"));
            for name in limited.iter().filter(|n| MANDATORY.contains(&n.as_str()) && !named.contains_key(n.as_str())) {
                missing.entry(name).or_default().insert(container.str_at(&["name"]).unwrap_or_default());
            }
        }
    }
    let parts: Vec<String> = missing
        .iter()
        .map(|(name, containers)| {
            let names: Vec<&str> = containers.iter().copied().collect();
            format!("{name} for: {}", names.join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Value {
        apimachinery::codec::json::parse(text.as_bytes()).unwrap()
    }

    fn shown(amounts: &Amounts) -> String {
        amounts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_uses_its_containers_or_its_largest_step() {
        let pod = tree(
            r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"100m"}}},{"resources":{"requests":{"cpu":"200m"}}}],
            "initContainers":[{"restartPolicy":"Always","resources":{"requests":{"cpu":"50m"}}},
            {"resources":{"requests":{"cpu":"1"}}}],"overhead":{"cpu":"10m"}}}"#,
        );
        assert_eq!(shown(&pod_amounts(&pod, "requests")), "cpu=1060m");
        let usage = usage("", "pods", &pod, 0);
        assert_eq!(shown(&usage), "count/pods=1 cpu=1060m pods=1 requests.cpu=1060m");
    }

    #[test]
    fn ended_pods_only_count_as_objects() {
        let ended = tree(r#"{"status":{"phase":"Succeeded"}}"#);
        assert_eq!(shown(&usage("", "pods", &ended, 0)), "count/pods=1");
    }

    #[test]
    fn services_and_claims() {
        let service = tree(r#"{"spec":{"type":"LoadBalancer","ports":[{"port":1},{"port":2}]}}"#);
        assert_eq!(
            shown(&usage("", "services", &service, 0)),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"
        );
        let claim = tree(r#"{"spec":{"storageClassName":"fast","resources":{"requests":{"storage":"1Gi"}}}}"#);
        let used = usage("", "persistentvolumeclaims", &claim, 0);
        assert_eq!(used["fast.storageclass.storage.k8s.io/requests.storage"].to_string(), "1Gi");
        assert!(used.keys().all(|name| limits("", "persistentvolumeclaims", name)));
        assert_eq!(shown(&usage("apps", "deployments", &service, 0)), "count/deployments.apps=1");
    }

    #[test]
    fn scopes_choose_pods() {
        let quota = |scopes: &str| tree(&format!(r#"{{"spec":{scopes}}}"#));
        let plain = tree(r#"{"spec":{"containers":[{}]}}"#);
        let high = tree(r#"{"spec":{"priorityClassName":"high","containers":[{"resources":{"limits":{"cpu":"1"}}}]}}"#);
        let class = r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["high"]}]}}"#;
        let cases = [
            (r#"{"scopes":["BestEffort"]}"#, true, false),
            (r#"{"scopes":["NotBestEffort"]}"#, false, true),
            (r#"{"scopes":["Terminating"]}"#, false, false),
            (r#"{}"#, true, true),
            (class, false, true),
        ];
        for (scopes, of_plain, of_high) in cases {
            let quota = quota(scopes);
            assert_eq!(in_scope(&quota, "", "pods", &plain), of_plain, "{scopes}");
            assert_eq!(in_scope(&quota, "", "pods", &high), of_high, "{scopes}");
        }
        assert!(!in_scope(&quota(r#"{"scopes":["BestEffort"]}"#), "", "secrets", &plain));
    }

    #[test]
    fn containers_must_name_what_is_limited() {
        let pod = tree(r#"{"spec":{"containers":[{"name":"a"},{"name":"b","resources":{"requests":{"cpu":"1"}}}]}}"#);
        let limited = ["requests.cpu".into(), "pods".into(), "limits.memory".into()];
        assert_eq!(
            missing_amounts(&pod, &limited).unwrap(),
            "must specify limits.memory for: a,b; requests.cpu for: a"
        );
        assert_eq!(missing_amounts(&pod, &["pods".into()]), None);
    }
}
