//! Whether the rules of a definition may be: they compile, and are affordable.

use super::declare::{Decl, declare, object};
use super::names::escape;
use super::rules::{Compiled, compile};
use crate::crd::{Document, node, rule, structural_schema};
use crate::field::{Errors, Path};
use crate::value::Value;

/// What one rule may be estimated to cost.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of one version may be estimated to cost.
const SCHEMA_LIMIT: u64 = 100_000_000;
/// How many of the most expensive rules are named.
const NAMED: usize = 4;

/// What is gathered while a schema is walked.
struct Walk<'w> {
    errors: &'w mut Errors,
    total: u64,
    expensive: Vec<(u64, String)>,
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// How often a value may occur; `None` when nothing bounds it.
    cardinality: Option<u64>,
    /// The list around it whose items cannot be told apart between writes.
    uncorrelatable: Option<&'a str>,
    root: bool,
}

/// Checks the rules of a schema that is otherwise fine.
pub(crate) fn check_rules(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Ok(shape) = structural_schema(Some(schema)) else { return };
    let decl = object(&shape, true, "self");
    let mut walk = Walk { errors, total: 0, expensive: Vec::new() };
    let place = Place { cardinality: Some(1), uncorrelatable: None, root: true };
    schema_at(&Document::of(Some(schema)), Some(&decl), place, path, &mut walk);
    let Walk { total, mut expensive, errors } = walk;
    if total > SCHEMA_LIMIT {
        expensive.sort_by_key(|found| std::cmp::Reverse(found.0));
        for (_, field) in expensive.into_iter().take(NAMED) {
            let words = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(&Path::new(&field), words);
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, too_expensive(name, total, SCHEMA_LIMIT));
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_string(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// By how much a schema multiplies what is below it.
fn elements(schema: &Document<'_>) -> Option<u64> {
    let limit = |key| schema.integer(key).map(|n| u64::try_from(n).unwrap_or(0));
    match schema.text("type") {
        "object" if schema.value("additionalProperties").is_some() => limit("maxProperties"),
        "array" => limit("maxItems"),
        _ => Some(1),
    }
}

fn schema_at(schema: &Document<'_>, decl: Option<&Decl>, place: Place<'_>, path: &Path<'_>, walk: &mut Walk<'_>) {
    let factor = elements(schema);
    let cardinality = place.cardinality.and_then(|c| Some(c.saturating_mul(factor?)));
    let below = Place { cardinality, root: false, ..place };
    if let Some(additional) = schema.present("additionalProperties") {
        let inner = decl.and_then(Decl::inner);
        schema_at(&additional, inner, below, &path.child("additionalProperties"), walk);
    }
    let properties = path.child("properties");
    for (name, property) in schema.members("properties") {
        if place.root && matches!(name, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let at = properties.key(name);
        let known = escape(name).and_then(|escaped| decl.and_then(|d| d.field(&escaped)));
        match known {
            Some(known) => schema_at(&property, Some(known), below, &at, walk),
            None => {
                let own = node(&property).ok().and_then(|node| declare(&node, "self"));
                schema_at(&property, own.as_ref(), below, &at, walk);
            }
        }
    }
    if let Some(items) = schema.present("items") {
        let at = path.to_string();
        let keyed = schema.text("x-kubernetes-list-type") == "map";
        let uncorrelatable = if keyed { place.uncorrelatable } else { Some(place.uncorrelatable.unwrap_or(&at)) };
        let inner = decl.and_then(Decl::inner);
        schema_at(&items, inner, Place { uncorrelatable, ..below }, &path.child("items"), walk);
    }
    rules_at(schema, decl, place, path, walk);
}

fn rules_at(schema: &Document<'_>, decl: Option<&Decl>, place: Place<'_>, path: &Path<'_>, walk: &mut Walk<'_>) {
    let all = path.child("x-kubernetes-validations");
    if schema.list("x-kubernetes-validations").is_empty() {
        return;
    }
    let Ok(shape) = node(schema) else { return };
    for (i, document) in schema.documents("x-kubernetes-validations").enumerate() {
        let Some(decl) = decl else {
            let words = "internal error: failed to retrieve type information for x-kubernetes-validations";
            walk.errors.internal(&all, words);
            return;
        };
        let at = all.index(i);
        let compiled = compile(&rule(&document), decl, &shape);
        if compiled.field.is_none() {
            walk.errors.invalid(&at.child("fieldPath"), document.text("fieldPath"), "must be a valid path");
        }
        costs(&compiled, place.cardinality.unwrap_or_else(|| decl.cardinality()), &at, walk);
        if let Err(why) = &compiled.program {
            walk.errors.invalid(&at.child("rule"), document.map().clone(), why.clone());
        }
        if let Some(Err(why)) = &compiled.message {
            walk.errors.invalid(&at.child("messageExpression"), document.map().clone(), why.clone());
        }
        match (compiled.transition, place.uncorrelatable, compiled.rule.optional_old_self) {
            (true, Some(list), _) => {
                let words = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                walk.errors.invalid(&at.child("rule"), document.text("rule"), words);
            }
            (false, _, Some(optional)) => {
                let words = "may not be set if oldSelf is not used in rule";
                walk.errors.invalid(&at.child("optionalOldSelf"), optional, words);
            }
            _ => {}
        }
    }
}

fn costs(compiled: &Compiled, cardinality: u64, at: &Path<'_>, walk: &mut Walk<'_>) {
    let cost = compiled.cost.saturating_mul(cardinality);
    for (field, what, cost) in [
        ("rule", "estimated rule cost", cost),
        ("messageExpression", "estimated messageExpression cost", compiled.message_cost),
    ] {
        if cost > RULE_LIMIT {
            walk.errors.forbidden(&at.child(field), too_expensive(what, cost, RULE_LIMIT));
        }
        walk.total = walk.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            walk.expensive.push((cost, at.child(field).to_string()));
        }
    }
}
