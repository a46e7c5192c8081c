//! Says how many pods of each PodDisruptionBudget may be evicted now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::policy::poddisruptionbudget::PodDisruptionBudget;
use apimachinery::meta::Condition;
use apimachinery::selector::LabelSelector;
use apimachinery::{Api, GroupVersionResource, IntOrString, SmolStr, Status, Time, Value};
use client::{Client, Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::{Context, Owner, PodView};

/// An eviction that was granted and did not happen counts no longer after this.
const GRANTED: i64 = 120;

/// A budget and the selector of its pods.
#[derive(Clone, Debug, PartialEq)]
struct Budget {
    object: PodDisruptionBudget,
    selector: Option<LabelSelector>,
}

fn budget(tree: &Value) -> Option<Budget> {
    let object = PodDisruptionBudget::from_value(tree).ok()?;
    // Without a selector no pod is meant; an empty one means all.
    let selector = object.spec.selector.is_some().then(|| LabelSelector::from_value(tree.at(&["spec", "selector"])));
    Some(Budget { object, selector: selector.transpose().ok()? })
}

fn selects(budget: &Budget, pod: &PodView) -> bool {
    let label = |key: &str| pod.labels.get(key).map(SmolStr::as_str);
    budget.selector.as_ref().is_some_and(|selector| selector.matches(label))
}

/// How many pods an owner wants, and who owns it.
#[derive(Clone, Debug, PartialEq)]
struct Scaled {
    uid: SmolStr,
    replicas: i64,
    controller: Option<Owner>,
}

fn scaled(tree: &Value) -> Option<Scaled> {
    Some(Scaled {
        uid: tree.str_at(&["metadata", "uid"])?.into(),
        replicas: tree.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1),
        controller: Owner::controller_of(tree),
    })
}

/// The owners of pods, by kind.
#[derive(Clone)]
struct Owners(Vec<(&'static str, Informer<Scaled>)>);

impl Owners {
    fn start(watcher: &Client) -> Owners {
        let follow = |kind, group: &str, resource: &str| {
            (kind, Informer::start(watcher, GroupVersionResource::new(group, "v1", resource), Scope::default(), scaled))
        };
        Owners(vec![
            follow("ReplicaSet", "apps", "replicasets"),
            follow("Deployment", "apps", "deployments"),
            follow("StatefulSet", "apps", "statefulsets"),
            follow("ReplicationController", "", "replicationcontrollers"),
        ])
    }

    fn find(&self, namespace: &str, owner: &Owner) -> Option<Arc<Scaled>> {
        let (_, informer) = self.0.iter().find(|(kind, _)| *kind == owner.kind)?;
        informer.get(namespace, &owner.name).filter(|found| found.uid == owner.uid)
    }

    /// Who decides how many pods there are: the owner, or the Deployment above it.
    fn scale_of(&self, namespace: &str, pod: &PodView) -> Result<(SmolStr, i64), String> {
        let owner = pod.controller.as_ref().ok_or("found no controllers for pod")?;
        let found = self
            .find(namespace, owner)
            .ok_or_else(|| format!("no scale of {} {:?} is known", owner.kind, owner.name.as_str()))?;
        if let Some(above) = &found.controller
            && let Some(top) = self.find(namespace, above)
        {
            return Ok((top.uid.clone(), top.replicas));
        }
        Ok((found.uid.clone(), found.replicas))
    }
}

/// A number, or a part of a whole, rounded up.
fn amount(of: &IntOrString, whole: i64) -> i64 {
    match of {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent * whole + 99) / 100
        }
    }
}

/// What a budget's numbers are.
#[derive(Debug, Default, PartialEq)]
struct Numbers {
    expected: i64,
    desired: i64,
    healthy: i64,
    disrupted: BTreeMap<String, Time>,
}

fn numbers(
    budget: &PodDisruptionBudget,
    pods: &[(Key, Arc<PodView>)],
    scale_of: &dyn Fn(&Key, &PodView) -> Result<(SmolStr, i64), String>,
    now: i64,
) -> Result<Numbers, String> {
    let spec = &budget.spec;
    let by_owners = || -> Result<i64, String> {
        let mut scales: HashMap<SmolStr, i64> = HashMap::new();
        for (key, pod) in pods {
            let (uid, replicas) = scale_of(key, pod)?;
            scales.insert(uid, replicas);
        }
        Ok(scales.values().sum())
    };
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = by_owners()?;
            (expected, (expected - amount(most, expected)).max(0))
        }
        (None, Some(least @ IntOrString::Int(_))) => (pods.len() as i64, amount(least, 0)),
        (None, Some(least)) => {
            let expected = by_owners()?;
            (expected, amount(least, expected))
        }
        // Upstream's default: none may be missing.
        (None, None) => (pods.len() as i64, 1),
    };
    let mut disrupted = BTreeMap::new();
    for (name, since) in &budget.status.disrupted_pods {
        let waits = pods.iter().any(|(key, pod)| key.name == name.as_str() && !pod.deleting);
        if waits && now < since.0 + GRANTED {
            disrupted.insert(name.clone(), *since);
        }
    }
    let healthy =
        pods.iter().filter(|(key, pod)| pod.ready && !pod.deleting && !disrupted.contains_key(key.name.as_str()));
    Ok(Numbers { expected, desired, healthy: healthy.count() as i64, disrupted })
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let budgets = Informer::start(
        &cx.watcher,
        GroupVersionResource::new("policy", "v1", "poddisruptionbudgets"),
        Scope::default(),
        budget,
    );
    let owners = Owners::start(&cx.watcher);
    let pods = cx.shared.pods().clone();
    budgets.synced().await;
    pods.synced().await;
    for (_, informer) in &owners.0 {
        informer.synced().await;
    }
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    budgets.on_change(move |change| to.add(change.key.clone()));
    let (to, all) = (queue.clone(), budgets.clone());
    pods.on_change(move |change| {
        let hit = all.filter(|key, budget| {
            key.namespace == change.key.namespace
                && [change.old, change.new].into_iter().flatten().any(|pod| selects(budget, pod))
        });
        hit.into_iter().for_each(|(key, _)| to.add(key));
    });
    for (_, informer) in &owners.0 {
        let (to, all) = (queue.clone(), budgets.clone());
        informer.on_change(move |change| {
            if change.old.map(|o| o.replicas) != change.new.map(|n| n.replicas) {
                all.filter(|key, _| key.namespace == change.key.namespace).into_iter().for_each(|(key, _)| to.add(key));
            }
        });
    }
    run_workers("disruption-controller", queue, 1, move |key| {
        let (cx, budgets, owners, pods) = (cx.clone(), budgets.clone(), owners.clone(), pods.clone());
        async move {
            let Some(budget) = budgets.by_key(&key) else { return Ok(Outcome::Done) };
            let behind = pods.filter(|k, pod| {
                k.namespace == key.namespace
                    && selects(&budget, pod)
                    && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
            });
            sync(&cx, &budget.object, &owners, &behind).await
        }
    })
    .await;
}

async fn sync(
    cx: &Context,
    budget: &PodDisruptionBudget,
    owners: &Owners,
    pods: &[(Key, Arc<PodView>)],
) -> Result<Outcome, Status> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = since.as_secs() as i64;
    let scale_of = |key: &Key, pod: &PodView| owners.scale_of(&key.namespace, pod);
    let found = numbers(budget, pods, &scale_of, now);
    let mut new = budget.clone();
    let status = &mut new.status;
    status.observed_generation = budget.metadata.generation;
    let (ok, reason, message) = match found {
        Ok(found) => {
            let allowed = if found.expected > 0 { (found.healthy - found.desired).max(0) } else { 0 };
            let narrow = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
            status.current_healthy = narrow(found.healthy);
            status.desired_healthy = narrow(found.desired);
            status.expected_pods = narrow(found.expected);
            status.disruptions_allowed = narrow(allowed);
            status.disrupted_pods = found.disrupted;
            if allowed > 0 {
                (true, "SufficientPods", String::new())
            } else {
                (false, "InsufficientPods", String::new())
            }
        }
        Err(why) => {
            status.disruptions_allowed = 0;
            (false, "SyncFailed", why)
        }
    };
    set_condition(&mut status.conditions, ok, reason, message, budget.metadata.generation, now);
    let waits = status.disrupted_pods.values().map(|since| since.0 + GRANTED - now).min();
    if new.status != budget.status {
        match cx.client.update_status(&new).await {
            Err(status) if status.is_not_found() => return Ok(Outcome::Done),
            other => drop(other?),
        }
    }
    Ok(match waits {
        Some(seconds) => Outcome::After(Duration::from_secs(seconds.max(1) as u64)),
        None => Outcome::Done,
    })
}

fn set_condition(all: &mut Vec<Condition>, ok: bool, reason: &str, message: String, generation: i64, now: i64) {
    const TYPE: &str = "DisruptionAllowed";
    let status = if ok { "True" } else { "False" };
    let old = all.iter().position(|c| c.type_ == TYPE);
    let since = match old {
        Some(at) if all[at].status == status => all[at].last_transition_time,
        _ => Time(now),
    };
    let condition = Condition {
        type_: TYPE.into(),
        status: status.into(),
        observed_generation: generation,
        last_transition_time: since,
        reason: reason.into(),
        message,
    };
    match old {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ready: usize, all: usize) -> Vec<(Key, Arc<PodView>)> {
        let pod =
            |n: usize| (Key::new("n", format!("p{n}")), Arc::new(PodView { ready: n < ready, ..PodView::default() }));
        (0..all).map(pod).collect()
    }

    fn told(spec: &str, ready: usize, all: usize) -> (i64, i64, i64) {
        let text = format!(r#"{{"spec":{spec},"status":{{"disruptedPods":{{"p0":"1970-01-01T00:00:50Z"}}}}}}"#);
        let budget = PodDisruptionBudget::from_value(&apimachinery::codec::json::parse(text.as_bytes()).unwrap());
        let scale = |_: &Key, _: &PodView| Ok(("owner".into(), 10));
        let found = numbers(&budget.unwrap(), &pods(ready, all), &scale, 300).unwrap();
        assert!(found.disrupted.is_empty(), "it was granted too long ago");
        (found.expected, found.desired, found.healthy)
    }

    #[test]
    fn numbers_follow_the_spec() {
        assert_eq!(told(r#"{"minAvailable":2}"#, 3, 4), (4, 2, 3));
        assert_eq!(told(r#"{"minAvailable":"25%"}"#, 3, 4), (10, 3, 3));
        assert_eq!(told(r#"{"maxUnavailable":"15%"}"#, 9, 10), (10, 8, 9));
        let budget = PodDisruptionBudget::from_value(
            &apimachinery::codec::json::parse(br#"{"spec":{"maxUnavailable":1}}"#).unwrap(),
        );
        let none = |_: &Key, _: &PodView| Err("found no controllers for pod".to_owned());
        assert!(numbers(&budget.unwrap(), &pods(1, 1), &none, 0).is_err());
    }
}
