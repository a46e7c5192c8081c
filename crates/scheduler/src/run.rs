//! The loop: follows pods and nodes, and binds one pod after the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Map, SmolStr, Status, Value};
use client::events::Subject;
use client::{Client, Informer, Key, PatchKind, Recorder, Scope};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};
use crate::plugins;
use crate::preempt::{self, Budget, Choice};

/// A pod whose binding failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// A pod that fits nowhere is looked at again after this long, should a change have been missed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What the scheduler is told.
pub struct Config {
    /// Pods that name this scheduler are its own.
    pub name: SmolStr,
    /// The wall clock as RFC 3339 with seconds.
    pub now: fn() -> String,
}

enum Change {
    Pod(Key, Option<Arc<PodInfo>>, Option<Arc<PodInfo>>),
    Node(Key, Option<Arc<NodeInfo>>),
    /// A binding failed: the pod is pending again.
    Unbound(Key, SmolStr),
    /// A pod that was to leave for another could not be deleted.
    Spared(SmolStr),
}

/// A pod that waits for a node.
struct Waiting {
    pod: Arc<PodInfo>,
    /// It fits nowhere as things are; a change, or this time, makes it worth another try.
    until: Option<Instant>,
}

/// Schedules until the task is aborted.
pub async fn run(client: Client, config: Config) {
    let (sender, mut changes) = mpsc::unbounded_channel();
    let core = |name| GroupVersionResource::new("", "v1", name);
    let nodes = Informer::start(&client, core("nodes"), Scope::default(), |tree| Some(NodeInfo::read(tree)));
    let pods = Informer::start(&client, core("pods"), Scope::default(), |tree| Some(PodInfo::read(tree)));
    let to = sender.clone();
    nodes.on_change(move |c| {
        let _ = to.send(Change::Node(c.key.clone(), c.new.cloned()));
    });
    nodes.synced().await;
    let to = sender.clone();
    pods.on_change(move |c| {
        let _ = to.send(Change::Pod(c.key.clone(), c.old.cloned(), c.new.cloned()));
    });
    pods.synced().await;
    let policies = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let budgets = Informer::start(&client, policies, Scope::default(), |tree| Some(Budget::read(tree)));
    budgets.synced().await;

    let recorder = Recorder::new(client.clone(), &config.name, "", config.now);
    let mut scheduler = Scheduler {
        client,
        recorder,
        name: config.name,
        cache: Cache::default(),
        waiting: BTreeMap::new(),
        assumed: HashMap::new(),
        nominated: HashMap::new(),
        leaving: HashMap::new(),
        budgets,
        sender,
        now: config.now,
    };
    loop {
        while let Ok(change) = changes.try_recv() {
            scheduler.take(change);
        }
        if scheduler.schedule_one() {
            continue;
        }
        let wake = scheduler.next_look();
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => scheduler.take(change),
                None => return,
            },
            _ = tokio::time::sleep_until(wake) => scheduler.stir(),
        }
    }
}

struct Scheduler {
    client: Client,
    recorder: Recorder,
    name: SmolStr,
    cache: Cache,
    /// By priority, the highest first, then by name.
    waiting: BTreeMap<(i64, Key), Waiting>,
    /// Pods counted on a node whose binding is not confirmed by the API yet, by uid.
    assumed: HashMap<SmolStr, SmolStr>,
    /// Pods that wait until others have left their nodes, by uid, with the nodes' names.
    nominated: HashMap<SmolStr, (SmolStr, Arc<PodInfo>)>,
    /// Pods that were told to leave and are still counted, by uid, with the uids of those for whom.
    leaving: HashMap<SmolStr, SmolStr>,
    budgets: Informer<Budget>,
    sender: mpsc::UnboundedSender<Change>,
    now: fn() -> String,
}

impl Scheduler {
    fn take(&mut self, change: Change) {
        match change {
            Change::Node(key, info) => {
                self.cache.set_node(&key.name, info);
                self.stir();
            }
            Change::Pod(key, old, new) => {
                let waited = old.as_ref().and_then(|old| self.waiting.remove(&(-old.priority, key.clone())));
                match new {
                    Some(pod) if pod.finished => self.leave(&pod),
                    Some(pod) if !pod.node.is_empty() => {
                        self.assumed.remove(&pod.uid);
                        self.nominated.remove(&pod.uid);
                        let node = pod.node.clone();
                        let known = self.cache.pod(&pod.uid);
                        let news = known.is_none_or(|k| k.labels != pod.labels || k.deleting != pod.deleting);
                        self.cache.place(&node, pod);
                        if news {
                            self.stir_companions();
                        }
                    }
                    Some(pod) => {
                        let mine = pod.scheduler == self.name
                            || (pod.scheduler.is_empty() && self.name == "default-scheduler");
                        let lost = old.as_ref().is_some_and(|old| !old.nominated.is_empty());
                        if pod.deleting || (pod.nominated.is_empty() && lost) {
                            self.nominated.remove(&pod.uid);
                        } else if !pod.nominated.is_empty() {
                            self.nominated.insert(pod.uid.clone(), (pod.nominated.clone(), pod.clone()));
                        }
                        // What is written of it, such as why it waits, makes it fit no better.
                        let same = |old: &Arc<PodInfo>| old.generation == pod.generation && old.labels == pod.labels;
                        let until = waited.filter(|waited| same(&waited.pod)).and_then(|waited| waited.until);
                        if mine && !pod.gated && !pod.deleting && !self.assumed.contains_key(&pod.uid) {
                            self.waiting.insert((-pod.priority, key), Waiting { pod, until });
                        }
                    }
                    None => {
                        if let Some(old) = old {
                            self.leave(&old);
                        }
                    }
                }
            }
            Change::Spared(uid) => {
                self.leaving.remove(&uid);
                self.stir();
            }
            Change::Unbound(key, uid) => {
                if self.assumed.remove(&uid).is_some() {
                    self.cache.remove(&uid);
                    let (client, sender) = (self.client.clone(), self.sender.clone());
                    // What the API has now decides whether it is still to be bound.
                    tokio::spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        if let Ok(Some(pod)) = client.try_get::<api::core::pod::Pod>(&key.namespace, &key.name).await {
                            let pod = Arc::new(PodInfo::read(&client::encode(&pod)));
                            let _ = sender.send(Change::Pod(key, None, Some(pod)));
                        }
                    });
                }
            }
        }
    }

    /// A pod gives back what it took.
    fn leave(&mut self, pod: &PodInfo) {
        self.assumed.remove(&pod.uid);
        self.nominated.remove(&pod.uid);
        self.leaving.remove(&pod.uid);
        self.cache.remove(&pod.uid);
        self.stir();
    }

    /// Something changed that may help pods that fitted nowhere.
    fn stir(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.until = None;
        }
    }

    /// A pod came or changed: that helps only those who want to be near others, or evenly spread.
    fn stir_companions(&mut self) {
        for waiting in self.waiting.values_mut() {
            if !waiting.pod.affinity.is_empty() || !waiting.pod.spreads.is_empty() {
                waiting.until = None;
            }
        }
    }

    fn next_look(&self) -> Instant {
        let soonest = self.waiting.values().filter_map(|w| w.until).min();
        soonest.unwrap_or_else(|| Instant::now() + LOOK_AGAIN)
    }

    /// Handles the first pod that is worth a try; says whether there was one.
    fn schedule_one(&mut self) -> bool {
        let Some(place) = self.waiting.iter().find(|(_, w)| w.until.is_none()).map(|(k, _)| k.clone()) else {
            return false;
        };
        let Some(waiting) = self.waiting.get_mut(&place) else { return false };
        let pod = waiting.pod.clone();
        let expected = self.expected(&pod);
        match plugins::choose(&pod, &self.cache, expected.as_ref()) {
            Ok(node) => {
                self.waiting.remove(&place);
                self.nominated.remove(&pod.uid);
                self.cache.place(&node, pod.clone());
                self.assumed.insert(pod.uid.clone(), node.clone());
                self.bind(place.1, pod, node);
            }
            Err(reasons) => {
                if let Some(waiting) = self.waiting.get_mut(&place) {
                    waiting.until = Some(Instant::now() + LOOK_AGAIN);
                }
                let made = self.preempt(&pod);
                self.refuse(&pod, &reasons, made);
            }
        }
        true
    }

    /// The cluster with those pods in it for which others are leaving, as far as they go before this one.
    fn expected(&self, pod: &PodInfo) -> Option<Cache> {
        let before = |other: &PodInfo| other.uid != pod.uid && other.priority >= pod.priority;
        let mut ahead = self.nominated.values().filter(|(_, other)| before(other)).peekable();
        ahead.peek()?;
        let mut cache = self.cache.clone();
        for (node, other) in ahead {
            cache.place(node, other.clone());
        }
        Some(cache)
    }

    /// Makes pods of lower priority leave, if that helps; says for which node, or why not.
    fn preempt(&mut self, pod: &Arc<PodInfo>) -> Result<SmolStr, String> {
        if let Some(why) = preempt::ineligible(pod, &self.cache) {
            return Err(why.into());
        }
        if self.leaving.values().any(|of| *of == pod.uid) {
            return Err("not eligible due to a terminating pod on the nominated node.".into());
        }
        let budgets: Vec<Budget> = self.budgets.all().iter().map(|(_, budget)| (**budget).clone()).collect();
        let mut cache = self.expected(pod).unwrap_or_else(|| self.cache.clone());
        let choice = preempt::choose(pod, &mut cache, &budgets).map_err(|reasons| {
            let list: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            format!("0/{} nodes are available: {}.", self.cache.len(), list.join(", "))
        })?;
        // Lower ones that waited for this node look for another.
        let lower = |(node, other): &(SmolStr, Arc<PodInfo>)| {
            *node == choice.node && other.uid != pod.uid && other.priority < pod.priority
        };
        let passed: Vec<Arc<PodInfo>> =
            self.nominated.values().filter(|nominated| lower(nominated)).map(|(_, other)| other.clone()).collect();
        for other in passed {
            self.nominated.remove(&other.uid);
            let client = self.client.clone();
            tokio::spawn(async move {
                let mut status = Map::new();
                status.insert("nominatedNodeName", Value::Null);
                tell(&client, &other, status).await;
            });
        }
        self.nominated.insert(pod.uid.clone(), (choice.node.clone(), pod.clone()));
        let node = choice.node.clone();
        self.send_away(pod, choice);
        Ok(node)
    }

    /// Tells the victims why, and deletes them.
    fn send_away(&mut self, pod: &Arc<PodInfo>, choice: Choice) {
        for victim in choice.victims {
            self.leaving.insert(victim.uid.clone(), pod.uid.clone());
            if victim.deleting {
                continue;
            }
            let (client, recorder, sender) = (self.client.clone(), self.recorder.clone(), self.sender.clone());
            let (by, node, name, now) = (pod.uid.clone(), choice.node.clone(), self.name.clone(), (self.now)());
            tokio::spawn(async move {
                let mut condition = Map::new();
                condition.insert("type", "DisruptionTarget");
                condition.insert("status", "True");
                condition.insert("reason", "PreemptionByScheduler");
                condition.insert("message", format!("{name}: preempting to accommodate a higher priority pod"));
                condition.insert("lastTransitionTime", now);
                let mut status = Map::new();
                status.insert("conditions", vec![Value::Map(condition)]);
                tell(&client, &victim, status).await;
                let only = Client::only_uid(&victim.uid);
                let deleted = client.delete_with::<api::core::pod::Pod>(&victim.namespace, &victim.name, only).await;
                match deleted {
                    Err(status) if !status.is_not_found() && !status.is_conflict() => {
                        tracing::warn!(pod = %victim.name, %status, "a pod could not be preempted");
                        let _ = sender.send(Change::Spared(victim.uid.clone()));
                    }
                    _ => {
                        let text = format!("Preempted by pod {by} on node {node}");
                        recorder.normal(&Scheduler::subject(&victim), "Preempted", text);
                    }
                }
            });
        }
    }

    fn subject(pod: &PodInfo) -> Subject {
        Subject {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            field_path: SmolStr::default(),
        }
    }

    fn bind(&self, key: Key, pod: Arc<PodInfo>, node: SmolStr) {
        let (client, recorder, sender) = (self.client.clone(), self.recorder.clone(), self.sender.clone());
        tokio::spawn(async move {
            let mut metadata = Map::new();
            metadata.insert("name", pod.name.clone());
            metadata.insert("namespace", pod.namespace.clone());
            metadata.insert("uid", pod.uid.clone());
            let mut target = Map::new();
            target.insert("apiVersion", "v1");
            target.insert("kind", "Node");
            target.insert("name", node.clone());
            let mut body = Map::new();
            body.insert("apiVersion", "v1");
            body.insert("kind", "Binding");
            body.insert("metadata", metadata);
            body.insert("target", target);
            let bound = client
                .create_subresource::<api::core::pod::Pod>(&pod.namespace, &pod.name, "binding", Value::Map(body))
                .await;
            match bound {
                Ok(_) => recorder.normal(
                    &Scheduler::subject(&pod),
                    "Scheduled",
                    format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name),
                ),
                Err(status) => {
                    if !status.is_not_found() {
                        tracing::warn!(pod = %key, %node, %status, "binding failed");
                    }
                    let _ = sender.send(Change::Unbound(key, pod.uid.clone()));
                }
            }
        });
    }

    /// Says on the pod and in an event why it waits, and for which node others leave, or why none do.
    fn refuse(&self, pod: &Arc<PodInfo>, reasons: &[(String, usize)], made: Result<SmolStr, String>) {
        let nodes = self.cache.len();
        let list: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let mut message = format!("0/{nodes} nodes are available");
        if nodes == 0 {
            message = "no nodes available to schedule pods".into();
        } else if !list.is_empty() {
            message.push_str(&format!(": {}.", list.join(", ")));
        }
        if let Err(why) = made.as_ref()
            && nodes > 0
        {
            message.push_str(&format!(" preemption: {why}"));
        }
        let known = pod.refused.as_ref();
        let told = known.is_some_and(|(_, known)| *known == message);
        if told && made.as_ref().map_or(true, |node| *node == pod.nominated) {
            return;
        }
        self.recorder.warning(&Scheduler::subject(pod), "FailedScheduling", message.clone());
        let since = known.map(|(since, _)| since.to_string()).filter(|since| !since.is_empty());
        let (client, pod, now) = (self.client.clone(), pod.clone(), since.unwrap_or_else(self.now));
        tokio::spawn(async move {
            let mut condition = Map::new();
            condition.insert("type", "PodScheduled");
            condition.insert("status", "False");
            condition.insert("reason", "Unschedulable");
            condition.insert("message", message);
            condition.insert("lastTransitionTime", now);
            let mut status = Map::new();
            status.insert("conditions", vec![Value::Map(condition)]);
            if let Ok(node) = made {
                status.insert("nominatedNodeName", node);
            }
            tell(&client, &pod, status).await;
        });
    }
}

/// Writes a part of a pod's status; a pod that is gone needs none.
async fn tell(client: &Client, pod: &PodInfo, status: Map) {
    let mut metadata = Map::new();
    metadata.insert("uid", pod.uid.clone());
    let mut patch = Map::new();
    patch.insert("metadata", metadata);
    patch.insert("status", status);
    let patched: Result<api::core::pod::Pod, Status> =
        client.patch(&pod.namespace, &pod.name, "status", PatchKind::Strategic, Value::Map(patch)).await;
    if let Err(status) = patched
        && !status.is_not_found()
        && !status.is_conflict()
    {
        tracing::debug!(%status, "a pod's status could not be written");
    }
}
