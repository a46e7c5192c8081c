//! What the scheduler keeps of pods and nodes.

use apimachinery::selector::LabelSelector;
use apimachinery::{Map, Quantity, SmolStr, Value};

/// Amounts of resources: thousandths for cpu, whole numbers for all others, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    amounts: Vec<(SmolStr, i64)>,
}

impl Resources {
    /// Reads a `resources.requests`, `capacity` or `allocatable` map.
    pub fn read(map: Option<&Map>) -> Resources {
        let mut all = Resources::default();
        for (name, value) in map.into_iter().flat_map(Map::iter) {
            let text = match value {
                Value::String(text) => text.to_string(),
                Value::Int(number) => number.to_string(),
                _ => continue,
            };
            if let Ok(quantity) = Quantity::parse(&text) {
                all.set(name, if name == "cpu" { quantity.milli_value() } else { quantity.value() });
            }
        }
        all
    }

    pub fn get(&self, name: &str) -> i64 {
        self.amounts.binary_search_by(|(n, _)| n.as_str().cmp(name)).map_or(0, |i| self.amounts[i].1)
    }

    fn set(&mut self, name: &str, amount: i64) {
        match self.amounts.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) => self.amounts[i].1 = amount,
            Err(i) => self.amounts.insert(i, (name.into(), amount)),
        }
    }

    pub fn add(&mut self, other: &Resources) {
        for (name, amount) in &other.amounts {
            self.set(name, self.get(name).saturating_add(*amount));
        }
    }

    pub fn sub(&mut self, other: &Resources) {
        for (name, amount) in &other.amounts {
            self.set(name, self.get(name).saturating_sub(*amount));
        }
    }

    /// Each resource at its larger amount.
    fn raise_to(&mut self, other: &Resources) {
        for (name, amount) in &other.amounts {
            self.set(name, self.get(name).max(*amount));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SmolStr, i64)> {
        self.amounts.iter().map(|(n, a)| (n, *a))
    }
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taint {
    pub key: SmolStr,
    pub value: SmolStr,
    pub effect: SmolStr,
}

/// A toleration of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    pub key: SmolStr,
    pub operator: SmolStr,
    pub value: SmolStr,
    pub effect: SmolStr,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator.as_str() {
            "" | "Equal" => self.value == taint.value && !self.key.is_empty(),
            "Exists" => true,
            _ => false,
        }
    }
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: SmolStr,
    pub protocol: SmolStr,
    pub port: i64,
}

impl HostPort {
    pub fn clashes(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// A term of pod (anti-)affinity.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub selector: LabelSelector,
    pub namespaces: Vec<SmolStr>,
    pub all_namespaces: bool,
    pub topology_key: SmolStr,
    /// 0 for a required term.
    pub weight: i64,
}

impl AffinityTerm {
    pub fn selects(&self, namespace: &str, labels: &Map) -> bool {
        (self.all_namespaces || self.namespaces.iter().any(|n| n == namespace))
            && self.selector.matches(|key| labels.get(key).and_then(Value::as_str))
    }
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: SmolStr,
    pub required: bool,
    pub selector: LabelSelector,
    pub min_domains: i64,
    /// Nodes that the pod's node selector and affinity leave out are no domains.
    pub honors_affinity: bool,
    /// Nodes whose taints the pod does not tolerate are no domains.
    pub honors_taints: bool,
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default)]
pub struct PodInfo {
    pub namespace: SmolStr,
    pub name: SmolStr,
    pub uid: SmolStr,
    pub labels: Map,
    pub node: SmolStr,
    pub scheduler: SmolStr,
    pub priority: i64,
    pub requests: Resources,
    pub node_selector: Vec<(SmolStr, SmolStr)>,
    /// `requiredDuringSchedulingIgnoredDuringExecution`: one of these terms must match; absent when not asked for.
    pub required_nodes: Option<Vec<Value>>,
    /// Preferred terms with their weights.
    pub preferred_nodes: Vec<(i64, Value)>,
    pub tolerations: Vec<Toleration>,
    pub ports: Vec<HostPort>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    pub spreads: Vec<Spread>,
    pub gated: bool,
    pub deleting: bool,
    pub finished: bool,
    pub has_claims: bool,
    /// It makes no others leave.
    pub never_preempts: bool,
    /// The node that others leave for it.
    pub nominated: SmolStr,
    /// It is leaving for another.
    pub preempted: bool,
    /// When it began, or was made, in seconds since 1970.
    pub started: i64,
    /// Of its spec.
    pub generation: i64,
    /// Since when it has been said that it fits nowhere, and what.
    pub refused: Option<(SmolStr, SmolStr)>,
}

impl PodInfo {
    /// Takes what scheduling needs out of a pod's tree.
    pub fn read(pod: &Value) -> PodInfo {
        let text = |path: &[&str]| SmolStr::new(pod.str_at(path).unwrap_or_default());
        let list = |path: &[&str]| pod.at(path).and_then(Value::as_list).unwrap_or_default();
        let namespace = text(&["metadata", "namespace"]);
        let labels = pod.at(&["metadata", "labels"]).and_then(Value::as_map).cloned().unwrap_or_default();
        let tolerations = list(&["spec", "tolerations"]).iter().map(|t| {
            let text = |key: &str| SmolStr::new(t.str_at(&[key]).unwrap_or_default());
            Toleration { key: text("key"), operator: text("operator"), value: text("value"), effect: text("effect") }
        });
        let affinity = |kind: &str| terms(pod, &namespace, kind);
        let node_affinity = pod.at(&["spec", "affinity", "nodeAffinity"]);
        let preferred = node_affinity
            .and_then(|a| a.get("preferredDuringSchedulingIgnoredDuringExecution"))
            .and_then(Value::as_list)
            .unwrap_or_default();
        PodInfo {
            name: text(&["metadata", "name"]),
            uid: text(&["metadata", "uid"]),
            node: text(&["spec", "nodeName"]),
            scheduler: text(&["spec", "schedulerName"]),
            priority: pod.at(&["spec", "priority"]).and_then(Value::as_i64).unwrap_or(0),
            requests: requests(pod),
            node_selector: pod
                .at(&["spec", "nodeSelector"])
                .and_then(Value::as_map)
                .map(|m| m.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect())
                .unwrap_or_default(),
            required_nodes: node_affinity
                .and_then(|a| a.at(&["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"]))
                .and_then(Value::as_list)
                .map(<[Value]>::to_vec),
            preferred_nodes: preferred
                .iter()
                .map(|p| {
                    let weight = p.get("weight").and_then(Value::as_i64).unwrap_or(0);
                    (weight, p.get("preference").cloned().unwrap_or_default())
                })
                .collect(),
            tolerations: tolerations.collect(),
            ports: host_ports(pod),
            affinity: affinity("podAffinity"),
            anti_affinity: affinity("podAntiAffinity"),
            spreads: spreads(pod, &labels),
            gated: !list(&["spec", "schedulingGates"]).is_empty(),
            deleting: pod.str_at(&["metadata", "deletionTimestamp"]).is_some(),
            never_preempts: pod.str_at(&["spec", "preemptionPolicy"]) == Some("Never"),
            nominated: text(&["status", "nominatedNodeName"]),
            preempted: pod.str_at(&["metadata", "deletionTimestamp"]).is_some()
                && list(&["status", "conditions"]).iter().any(|c| {
                    c.str_at(&["type"]) == Some("DisruptionTarget")
                        && c.str_at(&["status"]) == Some("True")
                        && c.str_at(&["reason"]) == Some("PreemptionByScheduler")
                }),
            generation: pod.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0),
            refused: list(&["status", "conditions"])
                .iter()
                .find(|c| c.str_at(&["type"]) == Some("PodScheduled") && c.str_at(&["reason"]) == Some("Unschedulable"))
                .map(|c| {
                    let text = |key: &str| SmolStr::new(c.str_at(&[key]).unwrap_or_default());
                    (text("lastTransitionTime"), text("message"))
                }),
            started: [&["status", "startTime"][..], &["metadata", "creationTimestamp"]]
                .iter()
                .find_map(|path| apimachinery::time::parse_rfc3339(pod.str_at(path)?))
                .map_or(0, |(seconds, _)| seconds),
            finished: matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")),
            has_claims: list(&["spec", "volumes"])
                .iter()
                .any(|v| v.get("persistentVolumeClaim").is_some() || v.get("ephemeral").is_some()),
            namespace,
            labels,
        }
    }
}

/// What a container has or wants, whichever is more: while a pod is resized both count, and a wish that its node cannot
/// fulfil does not.
fn requests_of(pod: &Value, container: &Value) -> Resources {
    let wanted = Resources::read(container.at(&["resources", "requests"]).and_then(Value::as_map));
    let name = container.str_at(&["name"]);
    let list = |key: &str| pod.at(&["status", key]).and_then(Value::as_list).unwrap_or_default();
    let mut statuses = list("containerStatuses").iter().chain(list("initContainerStatuses"));
    let Some(status) = statuses.find(|status| status.str_at(&["name"]) == name) else { return wanted };
    if status.get("resources").is_none() {
        return wanted;
    }
    let infeasible = list("conditions")
        .iter()
        .any(|c| c.str_at(&["type"]) == Some("PodResizePending") && c.str_at(&["reason"]) == Some("Infeasible"));
    let mut most = if infeasible { Resources::default() } else { wanted };
    most.raise_to(&Resources::read(status.at(&["resources", "requests"]).and_then(Value::as_map)));
    most.raise_to(&Resources::read(status.get("allocatedResources").and_then(Value::as_map)));
    most
}

/// The larger of all containers together and any init container alone, sidecars counted with both, plus overhead.
fn requests(pod: &Value) -> Resources {
    let of = |c: &Value| requests_of(pod, c);
    let list = |key: &str| pod.at(&["spec", key]).and_then(Value::as_list).unwrap_or_default();
    let mut running = Resources::default();
    for container in list("containers") {
        running.add(&of(container));
    }
    let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
    for container in list("initContainers") {
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            sidecars.add(&of(container));
            starting.raise_to(&sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&of(container));
            starting.raise_to(&with_sidecars);
        }
    }
    running.add(&sidecars);
    running.raise_to(&starting);
    // Resources stated for the whole pod take the place of what its containers add up to.
    let whole = Resources::read(pod.at(&["spec", "resources", "requests"]).and_then(Value::as_map));
    for (name, amount) in whole.iter() {
        running.set(name, amount);
    }
    running.add(&Resources::read(pod.at(&["spec", "overhead"]).and_then(Value::as_map)));
    running
}

fn host_ports(pod: &Value) -> Vec<HostPort> {
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_list).unwrap_or_default();
    containers
        .iter()
        .flat_map(|c| c.get("ports").and_then(Value::as_list).unwrap_or_default())
        .filter_map(|p| {
            let port = p.get("hostPort").and_then(Value::as_i64).filter(|p| *p > 0)?;
            Some(HostPort {
                ip: p.str_at(&["hostIP"]).unwrap_or_default().into(),
                protocol: p.str_at(&["protocol"]).unwrap_or("TCP").into(),
                port,
            })
        })
        .collect()
}

fn terms(pod: &Value, namespace: &str, kind: &str) -> Vec<AffinityTerm> {
    let Some(affinity) = pod.at(&["spec", "affinity", kind]) else { return Vec::new() };
    let list = |key: &str| affinity.get(key).and_then(Value::as_list).unwrap_or_default();
    let read = |term: &Value, weight: i64| {
        let mut namespaces: Vec<SmolStr> = term
            .get("namespaces")
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .filter_map(|n| n.as_str().map(SmolStr::new))
            .collect();
        let namespace_selector = term.get("namespaceSelector").filter(|s| s.is_map());
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(namespace.into());
        }
        AffinityTerm {
            selector: LabelSelector::from_value(term.get("labelSelector")).unwrap_or_else(|_| LabelSelector::nothing()),
            namespaces,
            all_namespaces: namespace_selector.is_some(),
            topology_key: term.str_at(&["topologyKey"]).unwrap_or_default().into(),
            weight,
        }
    };
    let required = list("requiredDuringSchedulingIgnoredDuringExecution").iter().map(|t| read(t, 0));
    let preferred = list("preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .filter_map(|p| Some(read(p.get("podAffinityTerm")?, p.get("weight").and_then(Value::as_i64).unwrap_or(1))));
    required.chain(preferred).collect()
}

fn spreads(pod: &Value, labels: &Map) -> Vec<Spread> {
    let list = pod.at(&["spec", "topologySpreadConstraints"]).and_then(Value::as_list).unwrap_or_default();
    list.iter()
        .map(|constraint| {
            let mut selector = constraint.get("labelSelector").cloned().unwrap_or_default();
            // `matchLabelKeys` pins the selector to this pod's own values.
            for key in constraint.get("matchLabelKeys").and_then(Value::as_list).unwrap_or_default() {
                if let (Some(key), Some(map)) = (key.as_str(), selector.as_map_mut())
                    && let Some(value) = labels.get(key)
                    && let Value::Map(all) = map.get_or_insert_with("matchLabels", || Value::Map(Map::new()))
                {
                    all.insert(key, value.clone());
                }
            }
            Spread {
                max_skew: constraint.get("maxSkew").and_then(Value::as_i64).unwrap_or(1),
                topology_key: constraint.str_at(&["topologyKey"]).unwrap_or_default().into(),
                required: constraint.str_at(&["whenUnsatisfiable"]) != Some("ScheduleAnyway"),
                selector: LabelSelector::from_value(Some(&selector)).unwrap_or_else(|_| LabelSelector::nothing()),
                min_domains: constraint.get("minDomains").and_then(Value::as_i64).unwrap_or(1),
                honors_affinity: constraint.str_at(&["nodeAffinityPolicy"]) != Some("Ignore"),
                honors_taints: constraint.str_at(&["nodeTaintsPolicy"]) == Some("Honor"),
            }
        })
        .collect()
}

/// What a node offers.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: SmolStr,
    pub labels: Map,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
}

impl NodeInfo {
    /// Takes what scheduling needs out of a node's tree.
    pub fn read(node: &Value) -> NodeInfo {
        let taints = node.at(&["spec", "taints"]).and_then(Value::as_list).unwrap_or_default().iter().map(|t| {
            let text = |key: &str| SmolStr::new(t.str_at(&[key]).unwrap_or_default());
            Taint { key: text("key"), value: text("value"), effect: text("effect") }
        });
        let allocatable = node.at(&["status", "allocatable"]).and_then(Value::as_map);
        NodeInfo {
            name: node.str_at(&["metadata", "name"]).unwrap_or_default().into(),
            labels: node.at(&["metadata", "labels"]).and_then(Value::as_map).cloned().unwrap_or_default(),
            taints: taints.collect(),
            unschedulable: node.at(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true),
            allocatable: Resources::read(
                allocatable.or_else(|| node.at(&["status", "capacity"]).and_then(Value::as_map)),
            ),
        }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).and_then(Value::as_str)
    }
}
