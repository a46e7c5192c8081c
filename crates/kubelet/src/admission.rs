//! Whether a node takes a pod that was bound to it: the last word belongs to who has the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::pod::Pod;
use apimachinery::Quantity;

use crate::resize::Refusal;
use crate::status::Verdict;

/// Refuses a pod for which the node has not enough left, or whose host ports are taken.
pub fn admit(pod: &Pod, others: &[Arc<Pod>], allocatable: &BTreeMap<String, Quantity>) -> Result<(), Verdict> {
    let active: Vec<&Arc<Pod>> =
        others.iter().filter(|p| !matches!(p.status.phase.as_str(), "Failed" | "Succeeded")).collect();
    let refuse = |reason: String, message: String| Err(Verdict { reason, message });
    if let Some(limit) = allocatable.get("pods")
        && active.len() as i64 >= limit.value()
    {
        return refuse(
            "OutOfpods".into(),
            format!(
                "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {}",
                active.len(),
                limit.value()
            ),
        );
    }
    for (resource, wanted) in requests(pod) {
        let used: i64 = active.iter().filter_map(|p| requests(p).get(&resource).copied()).sum();
        let capacity = match allocatable.get(&resource) {
            Some(capacity) => amount(&resource, capacity),
            // Others than this node offer it here; they and the scheduler count it.
            None if resource.contains('/') => continue,
            None => 0,
        };
        if wanted > 0 && used + wanted > capacity {
            return refuse(
                format!("OutOf{resource}"),
                format!(
                    "Pod was rejected: Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
                ),
            );
        }
    }
    let wanted = host_ports(pod);
    let clash = |other: &Arc<Pod>| {
        host_ports(other).iter().any(|(ip, protocol, port)| {
            wanted.iter().any(|(own_ip, own_protocol, own_port)| {
                let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
                port == own_port && protocol == own_protocol && (ip == own_ip || any(ip) || any(own_ip))
            })
        })
    };
    if !wanted.is_empty() && active.iter().any(|p| clash(p)) {
        let message =
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return refuse("NodePorts".into(), message.into());
    }
    Ok(())
}

/// Whether a pod that runs here may have what it wishes now, beside the others with what they were granted.
pub fn resize(pod: &Pod, others: &[Arc<Pod>], allocatable: &BTreeMap<String, Quantity>) -> Result<(), Refusal> {
    let active: Vec<&Arc<Pod>> =
        others.iter().filter(|p| !matches!(p.status.phase.as_str(), "Failed" | "Succeeded")).collect();
    let wanted = requests(pod);
    let of = |resource: &str| {
        let capacity = allocatable.get(resource).map_or(0, |q| amount(resource, q));
        (wanted.get(resource).copied().unwrap_or_default(), capacity)
    };
    for resource in ["cpu", "memory"] {
        let (wanted, capacity) = of(resource);
        if wanted > capacity {
            let message =
                format!("Node didn't have enough capacity: {resource}, requested: {wanted}, capacity: {capacity}");
            return Err(Refusal { reason: "Infeasible", message });
        }
    }
    for resource in ["cpu", "memory"] {
        let (wanted, capacity) = of(resource);
        let used: i64 = active.iter().filter_map(|p| requests(p).get(resource).copied()).sum();
        if used + wanted > capacity {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(Refusal { reason: "Deferred", message });
        }
    }
    Ok(())
}

fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// What a pod asks for in all: its containers and sidecars together, or its hungriest init container if that is more.
fn requests(pod: &Pod) -> BTreeMap<String, i64> {
    let mut all: BTreeMap<String, i64> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, i64> = BTreeMap::new();
    let mut peak: BTreeMap<String, i64> = BTreeMap::new();
    for container in &pod.spec.init_containers {
        for (resource, quantity) in &container.resources.requests {
            let wanted = amount(resource, quantity);
            let beside = sidecars.get(resource).copied().unwrap_or_default();
            if crate::restart::is_sidecar(container) {
                *sidecars.entry(resource.clone()).or_default() += wanted;
            }
            let top = peak.entry(resource.clone()).or_default();
            *top = (*top).max(beside + wanted);
        }
    }
    for container in &pod.spec.containers {
        for (resource, quantity) in &container.resources.requests {
            *all.entry(resource.clone()).or_default() += amount(resource, quantity);
        }
    }
    for (resource, wanted) in sidecars {
        *all.entry(resource).or_default() += wanted;
    }
    for (resource, wanted) in peak {
        let sum = all.entry(resource).or_default();
        *sum = (*sum).max(wanted);
    }
    // What is asked for the pod as a whole takes the place of what its containers add up to.
    for (resource, quantity) in pod.spec.resources.iter().flat_map(|whole| &whole.requests) {
        all.insert(resource.clone(), amount(resource, quantity));
    }
    for (resource, quantity) in &pod.spec.overhead {
        *all.entry(resource.clone()).or_default() += amount(resource, quantity);
    }
    all
}

fn host_ports(pod: &Pod) -> Vec<(&str, &str, i32)> {
    let ports = pod.spec.containers.iter().flat_map(|c| &c.ports);
    ports.filter(|p| p.host_port > 0).map(|p| (p.host_ip.as_str(), p.protocol.as_str(), p.host_port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Arc<Pod> {
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        Arc::new(apimachinery::Api::from_value(&tree).unwrap())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let has = |cpu: &str, pods: &str| {
            BTreeMap::from([
                ("cpu".to_owned(), Quantity::parse(cpu).unwrap()),
                ("pods".to_owned(), Quantity::parse(pods).unwrap()),
            ])
        };
        let one = pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"600m"}}}]}}"#);
        assert_eq!(admit(&one, &[], &has("1", "10")), Ok(()));
        let refusal = admit(&one, std::slice::from_ref(&one), &has("1", "10")).unwrap_err();
        assert_eq!(refusal.reason, "OutOfcpu");
        assert!(refusal.message.ends_with("requested: 600, used: 600, capacity: 1000"), "{}", refusal.message);
        assert_eq!(admit(&one, std::slice::from_ref(&one), &has("2", "1")).unwrap_err().reason, "OutOfpods");
        let two = pod(r#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":"2"}}}]}}"#);
        assert_eq!(
            resize(&one, std::slice::from_ref(&one), &has("2", "1")),
            Ok(()),
            "it counts among the pods already"
        );
        assert_eq!(resize(&two, &[], &has("1", "1")).unwrap_err().reason, "Infeasible");
        let refusal = resize(&two, std::slice::from_ref(&one), &has("2", "1")).unwrap_err();
        assert_eq!(refusal.reason, "Deferred");
        assert!(refusal.message.ends_with("requested: 2000, used: 600, capacity: 2000"), "{}", refusal.message);
        let port = |ip: &str| {
            pod(&format!(
                r#"{{"spec":{{"containers":[{{"name":"a","ports":[{{"hostPort":80,"protocol":"TCP","hostIP":"{ip}"}}]}}]}}}}"#
            ))
        };
        assert_eq!(admit(&port("127.0.0.1"), &[port("127.0.0.2")], &has("2", "9")), Ok(()));
        assert_eq!(admit(&port("127.0.0.1"), &[port("")], &has("2", "9")).unwrap_err().reason, "NodePorts");
    }
}
