//! Checks the expressions of validating admission policies against the types of what they are about, and warns in
//! their status: the API server takes an object to be anything.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use api::admissionregistration::expressions::{Compiler, Scope as Sees};
use api::admissionregistration::{ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy};
use apimachinery::expressions::type_of;
use apimachinery::{Api, GroupVersionResource, Kind, SmolStr, Status, crd};
use client::{Informer, Outcome, Queue, Scope, run_workers};

use crate::Context;

/// How many kinds a policy is checked against.
const MAX_KINDS: usize = 10;

type Kinds = HashMap<(SmolStr, SmolStr, SmolStr), Arc<Kind>>;

/// The built-in kinds by group, version and resource.
static BUILT_IN: LazyLock<Kinds> = LazyLock::new(|| table(api::kinds().into_iter().map(Arc::new)));

fn table(kinds: impl Iterator<Item = Arc<Kind>>) -> Kinds {
    let key = |kind: &Kind| {
        let text = |part: &str| SmolStr::new(part);
        (text(&kind.group), text(&kind.version), text(&kind.resource))
    };
    kinds.map(|kind| (key(&kind), kind)).collect()
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let resource = |group: &str, name: &str| GroupVersionResource::new(group, "v1", name);
    let policies = Informer::start(
        &cx.watcher,
        resource("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        Scope::default(),
        |tree| ValidatingAdmissionPolicy::from_value(tree).ok(),
    );
    let definitions = Informer::start(
        &cx.watcher,
        resource("apiextensions.k8s.io", "customresourcedefinitions"),
        Scope::default(),
        |tree| Some(crd::define(tree).ok()?.served.into_iter().map(Arc::new).collect::<Vec<_>>()),
    );
    definitions.synced().await;
    policies.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let to = queue.clone();
    policies.on_change(move |change| {
        if change.new.is_some_and(|p| !is_checked(p)) {
            to.add(change.key.name.clone());
        }
    });
    // A kind that changes may change what fits.
    let (to, known) = (queue.clone(), policies.clone());
    definitions.on_change(move |_| known.all().into_iter().for_each(|(key, _)| to.add(key.name)));
    run_workers("validatingadmissionpolicy-status-controller", queue, 1, move |name| {
        let (cx, policies, definitions) = (cx.clone(), policies.clone(), definitions.clone());
        async move {
            let Some(policy) = policies.get("", &name) else { return Ok(Outcome::Done) };
            let custom = table(definitions.all().iter().flat_map(|(_, kinds)| kinds.iter().cloned()));
            settle(&cx, &policy, &custom).await.map(|()| Outcome::Done)
        }
    })
    .await;
}

fn is_checked(policy: &ValidatingAdmissionPolicy) -> bool {
    policy.status.type_checking.is_some() && policy.status.observed_generation == policy.metadata.generation
}

async fn settle(cx: &Context, policy: &ValidatingAdmissionPolicy, custom: &Kinds) -> Result<(), Status> {
    let found = Some(TypeChecking { expression_warnings: warnings(policy, custom) });
    if is_checked(policy) && policy.status.type_checking == found {
        return Ok(());
    }
    let mut new = policy.clone();
    new.status.type_checking = found;
    new.status.observed_generation = policy.metadata.generation;
    match cx.client.update_status(&new).await {
        Err(status) if status.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

fn warnings(policy: &ValidatingAdmissionPolicy, custom: &Kinds) -> Vec<ExpressionWarning> {
    let spec = &policy.spec;
    let kinds = kinds_of(policy, custom);
    let params = spec.param_kind.as_ref().map(|param| {
        let (group, version) = param.api_version.split_once('/').unwrap_or(("", &param.api_version));
        let is = |kind: &&Arc<Kind>| kind.group == group && kind.version == version && kind.kind == param.kind;
        BUILT_IN.values().chain(custom.values()).find(is).map_or(cel_dyn(), |kind| type_of(kind))
    });
    let sees = Sees { params: params.is_some(), authorizer: true, patches: false };
    let compilers: Vec<(String, Compiler)> = kinds
        .iter()
        .map(|kind| {
            let mut compiler = Compiler::typed(type_of(kind), params.clone().unwrap_or(cel_dyn()));
            for variable in &spec.variables {
                // What is wrong with a variable shows where it is used.
                let _ = compiler.variable(&variable.name, &variable.expression, sees);
            }
            (format!("{}, Kind={}", kind.group_version(), kind.kind), compiler)
        })
        .collect();
    let mut found = Vec::new();
    let mut check = |field_ref: String, text: &str| {
        let faults: Vec<String> = compilers
            .iter()
            .filter_map(|(kind, compiler)| Some(format!("{kind}: {}\n", compiler.compile(text, sees, &[]).err()?)))
            .collect();
        if !faults.is_empty() {
            found.push(ExpressionWarning { field_ref, warning: faults.join("\n") });
        }
    };
    for (i, validation) in spec.validations.iter().enumerate() {
        check(format!("spec.validations[{i}].expression"), &validation.expression);
        if !validation.message_expression.is_empty() {
            check(format!("spec.validations[{i}].messageExpression"), &validation.message_expression);
        }
    }
    found
}

/// Anything.
fn cel_dyn() -> api::admissionregistration::expressions::Type {
    api::admissionregistration::expressions::Type::Dyn
}

/// The kinds that a policy's rules name, without those that mean several.
fn kinds_of(policy: &ValidatingAdmissionPolicy, custom: &Kinds) -> Vec<Arc<Kind>> {
    let mut kinds: Vec<Arc<Kind>> = Vec::new();
    let rules = policy.spec.match_constraints.iter().flat_map(|m| &m.resource_rules);
    for rule in rules.map(|r| &r.rule_with_operations.rule) {
        let plain = |parts: &[String]| {
            let mut parts: Vec<String> = parts.iter().filter(|p| !p.contains(['*', '/'])).cloned().collect();
            parts.sort();
            parts
        };
        for group in plain(&rule.api_groups) {
            for version in plain(&rule.api_versions) {
                for resource in plain(&rule.resources) {
                    let key = (group.as_str().into(), version.as_str().into(), resource.as_str().into());
                    let Some(kind) = BUILT_IN.get(&key).or_else(|| custom.get(&key)) else { continue };
                    if kinds.len() < MAX_KINDS && !kinds.iter().any(|known| Arc::ptr_eq(known, kind)) {
                        kinds.push(kind.clone());
                    }
                }
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    fn policies() -> GroupVersionResource {
        GroupVersionResource::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
    }

    fn policy(name: &str, group: &str, resource: &str, validations: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","generation":1}},"spec":{{"matchConstraints":{{"resourceRules":[{{
            "operations":["*"],"apiGroups":["{group}"],"apiVersions":["v1"],"resources":["{resource}"]}}]}},
            "variables":[{{"name":"n","expression":"object.spec.replicas"}}],"validations":[{validations}]}}}}"#
        )
    }

    #[tokio::test]
    async fn confused_types_are_told() {
        let cluster = testkit::FakeBackend::new();
        cluster.put(
            &GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
            r#"{"metadata":{"name":"tabs.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
            "names":{"plural":"tabs","kind":"Tab"},"versions":[{"name":"v1","served":true,"storage":true,
            "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{
            "replicas":{"type":"integer"}}}}}}}]}}"#,
        );
        let fine =
            r#"{"expression":"object.spec.replicas > 1 && variables.n > 1 && object.metadata.labels['a'] == 'b'"}"#;
        cluster.put(&policies(), &policy("fine", "apps", "deployments", fine));
        let confused = r#"{"expression":"object.spec.replicas > '1'",
            "messageExpression":"'wants more, got ' + object.spec.replicas"}"#;
        cluster.put(&policies(), &policy("confused", "apps", "deployments", confused));
        let custom = r#"{"expression":"object.spec.maxRetries < 10"},{"expression":"variables.n > 1"}"#;
        cluster.put(&policies(), &policy("custom", "example.com", "tabs", custom));
        let task = tokio::spawn(run(context(&cluster)));
        let checked = |name: &str| {
            let policy = ValidatingAdmissionPolicy::from_value(&cluster.get(&policies(), "", name)?).ok()?;
            Some(policy.status.type_checking?.expression_warnings)
        };
        eventually(|| ["fine", "confused", "custom"].iter().all(|name| checked(name).is_some())).await;
        task.abort();
        assert_eq!(checked("fine"), Some(Vec::new()));
        let of = |name: &str| {
            let all = checked(name).unwrap_or_default();
            all.into_iter().map(|w| (w.field_ref, w.warning)).collect::<Vec<_>>()
        };
        let [(first, overload), (second, sum)] = &of("confused")[..] else { panic!("{:?}", of("confused")) };
        assert_eq!(
            (first.as_str(), second.as_str()),
            ("spec.validations[0].expression", "spec.validations[0].messageExpression")
        );
        assert!(
            overload.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:22"),
            "{overload}"
        );
        assert!(overload.contains("found no matching overload for '_>_' applied to '(int, string)'"), "{overload}");
        assert!(sum.contains("found no matching overload for '_+_' applied to '(string, int)'"), "{sum}");
        let [(field, why)] = &of("custom")[..] else { panic!("{:?}", of("custom")) };
        assert_eq!(field, "spec.validations[0].expression");
        assert!(why.contains("undefined field 'maxRetries'"), "{why}");
    }
}
