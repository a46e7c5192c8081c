//! MutatingAdmissionPolicy: changes objects on their way in, by configurations that are applied or by patches.

use std::sync::Arc;

use api::admissionregistration::expressions::{Scope, object_type, patches_type};
use apimachinery::expressions::{BUDGET, to_tree};
use apimachinery::status::Cause;
use apimachinery::{Kind, Map, SmolStr, Status, Value, apply, patch};
use cel::{Program, Value as Cel};
use engine::{Attributes, Operation};

use super::{Binding, Policy, bound, handles, namespace, params};
use crate::admission::expressions::{Input, versioned};
use crate::admission::webhook::review;
use crate::admission::{Plugin, Step, World, forbidden};
use crate::tree::{list, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "MutatingAdmissionPolicy",
    handles: |a| handles(a) && a.operation != Operation::Delete,
    mutate: Step::Later(|world, a| Box::pin(mutate(world, a))),
    validate: Step::Nothing,
};

/// What a mutation's value is.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Configuration,
    Patch,
}

struct Mutation {
    text: String,
    form: Form,
    program: Result<Program, String>,
}

/// A policy, compiled.
pub(super) struct Rules {
    policy: Policy,
    mutations: Vec<Mutation>,
    /// Is asked again when others changed the object since.
    reinvoke: bool,
}

impl Rules {
    pub fn read(tree: &Value) -> Rules {
        let (policy, compiler, scope) = Policy::read(tree);
        let scope = Scope { patches: true, ..scope };
        let mutations = list(tree, &["spec", "mutations"]).iter().map(|mutation| {
            let (form, key, wanted) = match text(mutation, &["patchType"]) {
                "JSONPatch" => (Form::Patch, "jsonPatch", patches_type()),
                _ => (Form::Configuration, "applyConfiguration", object_type()),
            };
            let text = text(mutation, &[key, "expression"]).trim();
            Mutation { text: text.to_string(), form, program: compiler.compile(text, scope, &[wanted]) }
        });
        let mutations = mutations.collect();
        Rules { policy, mutations, reinvoke: text(tree, &["spec", "reinvocationPolicy"]) == "IfNeeded" }
    }
}

/// A policy that applies to a write by a binding, with one set of parameters.
struct Invocation {
    who: String,
    rules: Arc<Rules>,
    kind: Arc<Kind>,
    param: Option<Value>,
}

async fn mutate(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let all = bound(world.policies.mutating.get(), world.policies.mutating_bindings.get());
    if all.is_empty() || a.object.is_null() {
        return Ok(());
    }
    let mut errors = Vec::new();
    let mut invocations = Vec::new();
    for ((name, rules), bindings) in all {
        let Some(kind) = rules.policy.what.version(world, a).await? else { continue };
        for (binding_name, binding) in bindings {
            let who = format!("policy '{name}' with binding '{binding_name}'");
            collect(world, a, &rules, &kind, &binding, &who, &mut invocations, &mut errors).await?;
        }
    }
    if invocations.is_empty() && errors.is_empty() {
        return Ok(());
    }
    let namespace = namespace(world, a).await?;
    let mut seen: Vec<(Invocation, Value)> = Vec::new();
    for invocation in invocations {
        invoke(world, a, &invocation, namespace.as_ref(), &mut errors).await?;
        if invocation.rules.reinvoke {
            seen.push((invocation, a.object.clone()));
        }
    }
    for (invocation, left) in seen {
        if *a.object != left {
            invoke(world, a, &invocation, namespace.as_ref(), &mut errors).await?;
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(refusal(a, errors)) }
}

#[allow(clippy::too_many_arguments)]
async fn collect(
    world: &World,
    a: &Attributes<'_>,
    rules: &Arc<Rules>,
    kind: &Arc<Kind>,
    binding: &Binding,
    who: &str,
    invocations: &mut Vec<Invocation>,
    errors: &mut Vec<String>,
) -> Result<(), Status> {
    if binding.what.version(world, a).await?.is_none() {
        return Ok(());
    }
    match params(world, a, &rules.policy, binding).await {
        Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
            who: who.to_string(),
            rules: rules.clone(),
            kind: kind.clone(),
            param,
        })),
        Err(why) if rules.policy.fails => {
            errors.push(format!("{who} denied request: failed to configure binding: {why}"));
        }
        Err(_) => {}
    }
    Ok(())
}

fn refusal(a: &Attributes<'_>, errors: Vec<String>) -> Status {
    let mut status = forbidden(a, "admission request denied by policy");
    status.reason = "Invalid";
    if let Some(first) = errors.first() {
        status.message.clone_from(first);
    }
    if let Some(details) = &mut status.details {
        details.causes.extend(errors.into_iter().map(|message| Cause { message, ..Cause::default() }));
    }
    status
}

/// Applies the mutations of a policy one after the other.
async fn invoke(
    world: &World,
    a: &mut Attributes<'_>,
    invocation: &Invocation,
    namespace: Option<&Value>,
    errors: &mut Vec<String>,
) -> Result<(), Status> {
    let Invocation { who, rules, kind, param } = invocation;
    let policy = &rules.policy;
    let engine = world.engine()?;
    let facts = review::facts(a, kind);
    // What is changed is the object in the version that the policy is about.
    let (mut object, changed) = {
        let a = &*a;
        let objects = versioned(&engine, a, kind).await?;
        let input = Input::new(world, a, &objects, &facts).with_params(param.as_ref());
        match policy.conditions.hold(&input.with_variables(&policy.variables)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(why) => {
                if policy.fails {
                    errors.push(format!("{who} denied request: {why}"));
                }
                return Ok(());
            }
        }
        let input = input.with_namespace(namespace);
        let mut object = objects.object().clone();
        let mut changed = false;
        for mutation in &rules.mutations {
            let result = {
                let input = input.with_object(&object);
                mutated(&input.with_variables(&policy.variables), mutation, &object, kind)
            };
            let settled = result.and_then(|mut new| {
                engine::decode::settle(a.cx, kind, &mut new, engine::Validation::Ignore).map_err(|s| s.message)?;
                Ok(new)
            });
            match settled {
                Ok(new) => {
                    changed |= new != object;
                    object = new;
                }
                Err(why) if policy.fails => errors.push(format!("{who} denied request: {why}")),
                Err(why) => tracing::debug!(policy = who, why, "a failing mutation is ignored"),
            }
        }
        (object, changed)
    };
    if !changed {
        return Ok(());
    }
    if kind.version != a.kind.version {
        object = engine.convert_shared(Arc::new(object), kind, a.kind).await?;
    }
    engine::decode::settle(a.cx, a.kind, &mut object, engine::Validation::Ignore)?;
    *a.object = object;
    Ok(())
}

/// The object after one mutation.
fn mutated(input: &Input<'_>, mutation: &Mutation, object: &Value, kind: &Kind) -> Result<Value, String> {
    let program = mutation.program.as_ref().map_err(|why| format!("compilation error: {why}"))?;
    let mut budget = BUDGET;
    let value = input.evaluate(&mutation.text, program, &mut budget)?;
    match mutation.form {
        Form::Configuration => {
            check_names(&value, "Object").map_err(|why| format!("type mismatch: {why}"))?;
            let mut configuration = to_tree(&value)?;
            if let Some(map) = configuration.as_map_mut() {
                map.insert("apiVersion", kind.group_version().to_string());
                map.insert("kind", &*kind.kind);
            }
            apply::merge_unowned(object, &configuration, &kind.schema)
                .map_err(|why| format!("error applying patch: {why}"))
        }
        Form::Patch => {
            let Cel::List(operations) = &value else { return Err("a patch must be a list".into()) };
            let operations =
                operations.iter().map(|operation| operation_tree(&operation)).collect::<Result<Vec<_>, _>>()?;
            match patch::json::apply(object.clone(), &Value::List(operations)) {
                Ok(new) => Ok(new),
                // A patch whose test fails is not applied.
                Err(error) if error.to_string().ends_with("test failed") => Ok(object.clone()),
                Err(error) => Err(format!("JSON Patch: {error}")),
            }
        }
    }
}

/// One operation of a patch as JSON has it.
fn operation_tree(value: &Cel<'_>) -> Result<Value, String> {
    let Cel::Map(map) = value else { return Err("a patch must be a list of JSONPatch".into()) };
    let mut operation = Map::new();
    for key in ["op", "path", "from", "value"] {
        let Some(found) = map.field(key).map_err(|e| e.message)? else { continue };
        if key == "value" && matches!(&found, Cel::Map(made) if made.type_name().is_some()) {
            let root = made_name(&found);
            check_names(&found, &root).map_err(|why| format!("type mismatch: {why}"))?;
        }
        let tree = to_tree(&found)?;
        if !(key == "from" && tree.as_str() == Some("")) {
            operation.insert(key, tree);
        }
    }
    Ok(Value::Map(operation))
}

fn made_name(value: &Cel<'_>) -> SmolStr {
    match value {
        Cel::Map(map) => map.type_name().unwrap_or_default(),
        _ => SmolStr::default(),
    }
}

/// `Object{spec: Object.spec{…}}`: each object's name says where it stands.
fn check_names(value: &Cel<'_>, expected: &str) -> Result<(), String> {
    let map = match value {
        Cel::Map(map) => map,
        Cel::List(items) => return items.iter().try_for_each(|item| check_names(&item, expected)),
        _ => return Ok(()),
    };
    let name = map.type_name();
    // What was read out of the request has no name.
    if let Some(name) = name.as_deref().filter(|name| name.starts_with("Object"))
        && name != expected
    {
        return Err(format!(
            "unexpected type name {name:?}, expected {expected:?}, which matches field name path from root Object type"
        ));
    }
    let Some(_) = name else { return Ok(()) };
    for key in map.keys() {
        if let (cel::Key::String(field), Ok(Some(inner))) = (&key, map.get(&key)) {
            check_names(&inner, &format!("{expected}.{field}"))?;
        }
    }
    Ok(())
}
