//! Whether an OpenAPI schema is structural: every value has one place that states its type, and combinations of
//! validations only add demands.

use regex::Regex;

use super::document::Document;
use crate::field::{Errors, FieldError, Path};
use crate::value::Value;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks a version's schema; errors come sorted by their text.
pub(super) fn check(schema: &Document<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut found = Errors::new();
    invariants(schema, Level::Root, path, &mut found);
    combined_completeness(schema, Some(schema), path, path, &mut found);
    let mut sorted: Vec<FieldError> = found.into_iter().collect();
    sorted.sort_by_cached_key(ToString::to_string);
    for error in sorted {
        errors.push(error);
    }
}

fn invariants(schema: &Document<'_>, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let ty = schema.text("type");
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let preserve = schema.flag("x-kubernetes-preserve-unknown-fields");
    let int_or_string = schema.flag("x-kubernetes-int-or-string");
    let additional = schema.value("additionalProperties");
    match schema.present("items") {
        Some(items) => invariants(&items, Level::Item, &path.child("items"), errors),
        None if ty == "array" => errors.required(&path.child("items"), "must be specified"),
        None => {}
    }
    let properties = path.child("properties");
    for (name, property) in schema.members("properties") {
        invariants(&property, Level::Field, &properties.key(name), errors);
    }
    if additional.is_some() && level == Level::Root {
        errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
    }
    if let Some(inner) = schema.present("additionalProperties") {
        invariants(&inner, Level::Field, &path.child("additionalProperties"), errors);
    }
    if int_or_string && preserve {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, true, "must be false if x-kubernetes-int-or-string is true");
    }
    if int_or_string && embedded {
        let at = path.child("x-kubernetes-embedded-resource");
        errors.invalid(&at, true, "must be false if x-kubernetes-int-or-string is true");
    }
    let any_of = is_int_or_string(schema);
    let first_all_of = schema.documents("allOf").next().is_some_and(|first| is_int_or_string(&first));
    value_validation(schema, any_of, first_all_of, path, errors);

    if embedded && ty != "object" {
        let words = "must be object if x-kubernetes-embedded-resource is true";
        match ty {
            "" => errors.required(&path.child("type"), words),
            ty => errors.invalid(&path.child("type"), ty, words),
        }
    } else if ty.is_empty() && !int_or_string && !preserve {
        let words = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path.child("type"), words);
    }
    if embedded && additional.is_some() {
        let words = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&path.child("additionalProperties"), words);
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.invalid(&path.child("type"), ty, "must be object at the root");
    }
    let checked = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(property) = schema.object("properties").present(name)
            && checked
            && property.text("type") != "string"
        {
            errors.invalid(&properties.key(name).child("type"), property.text("type"), "must be string");
        }
    }
    if let Some(metadata) = schema.object("properties").present("metadata") {
        let at = properties.key("metadata");
        if checked && metadata.text("type") != "object" {
            errors.invalid(&at.child("type"), metadata.text("type"), "must be object");
        }
        if level == Level::Root && !restricts_names_only(&metadata) {
            let words =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.forbidden(&at, words);
        }
    }
    if embedded && !preserve && schema.object("properties").map().is_empty() {
        let words =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), words);
    }
}

/// Whether a schema of top-level metadata says nothing but what names look like.
fn restricts_names_only(metadata: &Document<'_>) -> bool {
    metadata.map().iter().all(|(key, value)| match key.as_str() {
        "type" | "default" => true,
        "properties" => {
            value.as_map().is_none_or(|p| p.iter().all(|(name, _)| matches!(name.as_str(), "name" | "generateName")))
        }
        _ => is_zero(value),
    })
}

/// What Go's types would not hold.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where branches may state types.
fn is_int_or_string(schema: &Document<'_>) -> bool {
    let branches: Vec<Document<'_>> = schema.documents("anyOf").collect();
    let only_type = |branch: &Document<'_>, ty: &str| {
        branch.text("type") == ty && branch.map().iter().all(|(key, value)| key == "type" || is_zero(value))
    };
    matches!(branches.as_slice(), [first, second] if only_type(first, "integer") && only_type(second, "string"))
}

fn value_validation(
    schema: &Document<'_>,
    skip_any_of: bool,
    skip_first_all_of: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        let at = path.child(key);
        for (i, branch) in schema.documents(key).enumerate() {
            nested(&branch, key == "allOf" && skip_first_all_of && i == 0, &at.index(i), errors);
        }
    }
    if let Some(branch) = schema.present("not") {
        nested(&branch, false, &path.child("not"), errors);
    }
    let pattern = schema.text("pattern");
    if let Err(error) = Regex::new(pattern) {
        let words = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), pattern, words);
    }
}

/// A branch under `allOf` and its like may say nothing that gives a value its shape.
fn nested(branch: &Document<'_>, skip_any_of: bool, path: &Path<'_>, errors: &mut Errors) {
    value_validation(branch, skip_any_of, false, path, errors);
    if let Some(items) = branch.present("items") {
        nested(&items, false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in branch.members("properties") {
        nested(&property, false, &properties.key(name), errors);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    for (key, words) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        let set = branch.value(key).is_some_and(|v| words == UNDEFINED || !is_zero(v));
        if set {
            errors.forbidden(&path.child(key), words);
        }
    }
    if branch.object("properties").map().contains_key("metadata") {
        errors.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
    }
}

/// Whatever a branch demands of a member must be about a member that the schema itself describes.
fn combined_completeness(
    branch: &Document<'_>,
    schema: Option<&Document<'_>>,
    schema_path: &Path<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if let Some(not) = branch.present("not") {
        completeness(&not, schema, schema_path, &path.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let at = path.child(key);
        for (i, inner) in branch.documents(key).enumerate() {
            completeness(&inner, schema, schema_path, &at.index(i), errors);
        }
    }
}

fn completeness(
    branch: &Document<'_>,
    schema: Option<&Document<'_>>,
    schema_path: &Path<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let Some(schema) = schema else {
        errors.required(schema_path, format!("because it is defined in {path}"));
        return;
    };
    combined_completeness(branch, Some(schema), schema_path, path, errors);
    if let Some(items) = branch.present("items") {
        let below = schema.present("items");
        completeness(&items, below.as_ref(), &schema_path.child("items"), &path.child("items"), errors);
    }
    let (of_schema, of_branch) = (schema_path.child("properties"), path.child("properties"));
    for (name, property) in branch.members("properties") {
        let (at_schema, at_branch) = (of_schema.key(name), of_branch.key(name));
        match schema.object("properties").present(name) {
            Some(below) => completeness(&property, Some(&below), &at_schema, &at_branch, errors),
            None => errors.required(&at_schema, format!("because it is defined in {at_branch}")),
        }
    }
}
