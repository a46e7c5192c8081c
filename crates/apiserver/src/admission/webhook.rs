//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: others are asked over HTTPS.

pub(super) mod matching;
pub(super) mod review;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::admissionregistration::expressions::{Compiler, Scope as Sees};
use apimachinery::patch;
use apimachinery::selector::LabelSelector;
use apimachinery::{GroupVersionResource, Kind, SmolStr, Status, Value};
use client::{Client, Informer, Scope};
use engine::{Attributes, Operation};

use super::expressions::{self, Conditions, Input};
use super::{Plugin, Step, World};
use crate::tree::{list, text};
use crate::webhook::Hook;
use matching::{Match, Rule};

pub(crate) const MUTATING: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    handles,
    mutate: Step::Later(|world, a| Box::pin(mutate(world, a))),
    validate: Step::Nothing,
};

pub(crate) const VALIDATING: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    handles,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(validate(world, a))),
};

/// What configures admission is never handed to webhooks: a broken one could not be repaired.
fn handles(a: &Attributes<'_>) -> bool {
    a.kind.group != "admissionregistration.k8s.io"
        && matches!(a.kind.storage, apimachinery::kind::Storage::Stored { .. })
}

/// One webhook of a configuration, ready to be matched and called.
pub(crate) struct Webhook {
    name: SmolStr,
    hook: Result<Hook, String>,
    what: Match,
    conditions: Conditions,
    ignore_failure: bool,
    /// Has no side effects when told that the request is a dry run.
    dry_run: bool,
    limit: Duration,
    reinvoke: bool,
}

impl Webhook {
    fn read(tree: &Value) -> Webhook {
        let seconds = tree.get("timeoutSeconds").and_then(Value::as_i64).unwrap_or(10).clamp(1, 30);
        Webhook {
            name: text(tree, &["name"]).into(),
            hook: Hook::read(tree.get("clientConfig").unwrap_or(&Value::Null)),
            what: Match {
                rules: list(tree, &["rules"]).iter().map(Rule::read).collect(),
                equivalent: text(tree, &["matchPolicy"]) != "Exact",
                namespaces: matching::selector(tree.get("namespaceSelector")),
                objects: matching::selector(tree.get("objectSelector")),
            },
            conditions: Conditions::read(
                list(tree, &["matchConditions"]),
                &Compiler::default(),
                Sees { params: false, authorizer: true, patches: false },
            ),
            ignore_failure: text(tree, &["failurePolicy"]) == "Ignore",
            dry_run: matches!(text(tree, &["sideEffects"]), "None" | "NoneOnDryRun"),
            limit: Duration::from_secs(seconds as u64),
            reinvoke: text(tree, &["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

type Hooks = Informer<Vec<Arc<Webhook>>>;

/// The live configurations.
#[derive(Default)]
pub(crate) struct Webhooks {
    mutating: OnceLock<Hooks>,
    validating: OnceLock<Hooks>,
}

impl Webhooks {
    pub(super) async fn start(&self, client: &Client) {
        let follow = |resource| {
            let resource = GroupVersionResource::new("admissionregistration.k8s.io", "v1", resource);
            Informer::start(client, resource, Scope::default(), |tree| {
                Some(list(tree, &["webhooks"]).iter().map(|w| Arc::new(Webhook::read(w))).collect())
            })
        };
        let mutating = self.mutating.get_or_init(|| follow("mutatingwebhookconfigurations"));
        let validating = self.validating.get_or_init(|| follow("validatingwebhookconfigurations"));
        mutating.synced().await;
        validating.synced().await;
    }
}

/// Every webhook, by the names of their configurations and then in their order.
fn sorted(hooks: Option<&Hooks>) -> Vec<Arc<Webhook>> {
    let Some(hooks) = hooks.filter(|h| !h.is_empty()) else { return Vec::new() };
    let mut all = hooks.all();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.iter().flat_map(|(_, hooks)| hooks.iter().cloned()).collect()
}

/// The version of the object that a webhook wants, if it wants it at all.
async fn wanted(world: &World, a: &Attributes<'_>, webhook: &Webhook) -> Result<Option<Arc<Kind>>, Status> {
    let engine = world.engine()?;
    let resource = engine.catalog().get(&a.kind.group, &a.kind.resource);
    let versions = resource.map(|r| r.versions.clone()).unwrap_or_default();
    let Some(kind) = webhook.what.version(a, &versions) else { return Ok(None) };
    if !webhook.what.objects_match(a) {
        return Ok(None);
    }
    if let Some(selector) = &webhook.what.namespaces
        && !namespace_matches(world, a, selector).await?
    {
        return Ok(None);
    }
    if !meets_conditions(world, a, webhook, &kind).await? {
        return Ok(None);
    }
    Ok(Some(kind))
}

/// Whether the namespace of a write has the labels; what is in no namespace always matches.
pub(super) async fn namespace_matches(
    world: &World,
    a: &Attributes<'_>,
    selector: &LabelSelector,
) -> Result<bool, Status> {
    if super::is(a, "", "namespaces") {
        return Ok(matching::labels_match(selector, if a.object.is_null() { a.old } else { Some(&*a.object) }));
    }
    if a.namespace.is_empty() {
        return Ok(true);
    }
    let namespace = world.get("", "namespaces", "", a.namespace).await?;
    Ok(namespace.is_some_and(|n| matching::labels_match(selector, Some(&n))))
}

/// Whether the expressions of a webhook hold for a write.
async fn meets_conditions(
    world: &World,
    a: &Attributes<'_>,
    webhook: &Webhook,
    kind: &Arc<Kind>,
) -> Result<bool, Status> {
    if webhook.conditions.is_empty() {
        return Ok(true);
    }
    let converted = expressions::versioned(&*world.engine()?, a, kind).await?;
    let request = review::facts(a, kind);
    let input = Input::new(world, a, &converted, &request);
    match webhook.conditions.hold(&input) {
        Ok(holds) => Ok(holds),
        Err(why) if webhook.ignore_failure => {
            tracing::warn!(webhook = %webhook.name, why, "a webhook whose match conditions fail is ignored");
            Ok(false)
        }
        Err(why) => Err(super::forbidden(a, why)),
    }
}

/// Why a webhook gave no answer that counts.
enum Failure {
    /// It refuses: final, whatever the failure policy.
    Denied(Status),
    /// It could not be asked, or not understood.
    Broken(String),
}

impl Failure {
    /// The error that the client sees, or none when failures of the webhook are ignored.
    fn settle(self, webhook: &Webhook) -> Result<(), Status> {
        match self {
            Failure::Denied(status) => Err(status),
            Failure::Broken(why) if webhook.ignore_failure => {
                tracing::warn!(webhook = %webhook.name, why, "a failing webhook is ignored");
                Ok(())
            }
            Failure::Broken(why) => Err(Status::internal(format!("failed calling webhook {:?}: {why}", webhook.name))),
        }
    }
}

async fn call(
    world: &World,
    a: &Attributes<'_>,
    webhook: &Webhook,
    kind: &Arc<Kind>,
) -> Result<review::Answer, Failure> {
    if a.dry_run && !webhook.dry_run {
        return Err(Failure::Denied(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            webhook.name
        ))));
    }
    let hook = webhook.hook.as_ref().map_err(|why| Failure::Broken(format!("failed to call webhook: {why}")))?;
    let engine = world.engine().map_err(|s| Failure::Broken(s.message))?;
    let mut sent = Vec::with_capacity(2);
    for tree in [Some(&*a.object), a.old] {
        let tree = tree.filter(|t| !t.is_null()).cloned();
        sent.push(match tree {
            Some(tree) if kind.version != a.kind.version => {
                let converted = engine.convert_shared(Arc::new(tree), a.kind, kind).await;
                converted.map_err(|s| Failure::Broken(s.message))?
            }
            other => other.unwrap_or_default(),
        });
    }
    let old = sent.pop().unwrap_or_default();
    let object = sent.pop().unwrap_or_default();
    let uid = uuid::Uuid::new_v4().to_string();
    let body = review::request(a, kind, &uid, object, old);
    let query = format!("timeout={}s", webhook.limit.as_secs());
    let answer = world
        .caller
        .post(&engine, world.cx(), hook, &body, &query, webhook.limit)
        .await
        .map_err(|why| Failure::Broken(format!("failed to call webhook: {why}")))?;
    let answer = review::read(&answer, &uid).map_err(Failure::Broken)?;
    for warning in &answer.warnings {
        a.cx.warn(warning.clone());
    }
    match answer.denied {
        Some(status) => Err(Failure::Denied(review::denial(&webhook.name, status))),
        None => Ok(answer),
    }
}

async fn mutate(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let hooks = sorted(world.webhooks.mutating.get());
    // What each webhook left behind: one that wants to be asked again is, when others changed the object since.
    let mut seen: Vec<(Arc<Webhook>, Value)> = Vec::new();
    for webhook in &hooks {
        if let Some(kind) = wanted(world, a, webhook).await? {
            mutate_by(world, a, webhook, &kind).await?;
            if webhook.reinvoke {
                seen.push((webhook.clone(), a.object.clone()));
            }
        }
    }
    for (webhook, left) in seen {
        if *a.object != left
            && let Some(kind) = wanted(world, a, &webhook).await?
        {
            mutate_by(world, a, &webhook, &kind).await?;
        }
    }
    Ok(())
}

async fn mutate_by(world: &World, a: &mut Attributes<'_>, webhook: &Webhook, kind: &Arc<Kind>) -> Result<(), Status> {
    let answer = match call(world, a, webhook, kind).await {
        Ok(answer) => answer,
        Err(failure) => return failure.settle(webhook),
    };
    let Some(changes) = answer.patch else { return Ok(()) };
    if a.object.is_null() || a.operation == Operation::Connect {
        let verb = a.operation.word().to_ascii_lowercase();
        return Failure::Broken(format!("admission webhook attempted to modify a {verb} request")).settle(webhook);
    }
    match patched(world, a, kind, &changes).await {
        Ok(object) => {
            *a.object = object;
            Ok(())
        }
        Err(why) => Failure::Broken(why).settle(webhook),
    }
}

async fn patched(world: &World, a: &Attributes<'_>, kind: &Arc<Kind>, changes: &Value) -> Result<Value, String> {
    let engine = world.engine().map_err(|s| s.message)?;
    let convert = async |tree: Value, from: &Kind, to: &Kind| {
        if from.version == to.version {
            return Ok(tree);
        }
        engine.convert_shared(Arc::new(tree), from, to).await.map_err(|s| s.message)
    };
    let object = convert(a.object.clone(), a.kind, kind).await?;
    let object = patch::json::apply(object, changes).map_err(|e| e.to_string())?;
    let mut object = convert(object, kind, a.kind).await?;
    engine::decode::settle(a.cx, a.kind, &mut object, engine::Validation::Ignore).map_err(|s| s.message)?;
    Ok(object)
}

async fn validate(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let hooks = sorted(world.webhooks.validating.get());
    let mut asked = Vec::new();
    for webhook in hooks {
        if let Some(kind) = wanted(world, a, &webhook).await? {
            asked.push((webhook, kind));
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let a = &*a;
    // All at once: none sees what another says.
    let answers = asked.iter().map(|(webhook, kind)| async move {
        match call(world, a, webhook, kind).await {
            Ok(_) => Ok(()),
            Err(failure) => failure.settle(webhook),
        }
    });
    futures::future::join_all(answers).await.into_iter().collect()
}
