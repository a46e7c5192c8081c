//! What OpenAPI version 3 and Kubernetes' extensions allow in the schema of a definition.

use super::document::Document;
use super::schema::node;
use super::structural;
use crate::field::{Errors, Path};
use crate::json_text;
use crate::schema::{Field, Node, Omit, Patch, Struct};
use crate::value::Value;

/// What the place of a schema forbids.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Why there may be no default here; empty when there may.
    no_default: &'a str,
    /// Inside apiVersion, kind or metadata.
    inside_meta: bool,
    root: bool,
}

/// Checks the schema of one version, which `path` holds under `openAPIV3Schema`. `status` says whether status is a
/// subresource.
pub fn check_schema(schema: &Value, status: bool, path: &Path<'_>, errors: &mut Errors) {
    let openapi = Some(schema);
    let schema = Document::of(openapi);
    let before = errors.len();
    if status {
        root_for_status(&schema, path, errors);
    }
    if schema.flag("nullable") {
        errors.forbidden(&path.child("openAPIV3Schema.nullable"), "nullable cannot be true at the root");
    }
    let at = path.child("openAPIV3Schema");
    let structural_before = errors.len();
    // Keywords without structural meaning are named by the walk below; only where it does not is this repeated.
    let mut unsupported = None;
    match super::schema::structural_schema(openapi) {
        Err(why) => unsupported = Some(why),
        Ok(shape) => {
            structural::check(&schema, &at, errors);
            if errors.len() == structural_before {
                defaults(&schema, &shape, true, &at, errors);
            }
        }
    }
    walk(&schema, Place { no_default: "", inside_meta: false, root: true }, &at, errors);
    match unsupported {
        Some(why) if errors.len() == before => errors.invalid(&at, "", why),
        // Expressions about a schema that is wrong would only be blamed for what is not theirs.
        None if errors.len() == before => {
            if let Some(schema) = openapi {
                crate::expressions::check_rules(schema, &at, errors);
            }
        }
        _ => {}
    }
}

/// With a status subresource, nothing at the root may speak of spec and status together.
fn root_for_status(schema: &Document<'_>, path: &Path<'_>, errors: &mut Errors) {
    const ALLOWED: [(&str, &str); 22] = [
        ("description", "Description"),
        ("type", "Type"),
        ("format", "Format"),
        ("title", "Title"),
        ("maximum", "Maximum"),
        ("exclusiveMaximum", "ExclusiveMaximum"),
        ("minimum", "Minimum"),
        ("exclusiveMinimum", "ExclusiveMinimum"),
        ("maxLength", "MaxLength"),
        ("minLength", "MinLength"),
        ("pattern", "Pattern"),
        ("maxItems", "MaxItems"),
        ("minItems", "MinItems"),
        ("uniqueItems", "UniqueItems"),
        ("multipleOf", "MultipleOf"),
        ("required", "Required"),
        ("items", "Items"),
        ("properties", "Properties"),
        ("externalDocs", "ExternalDocs"),
        ("example", "Example"),
        ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
        ("x-kubernetes-validations", "XValidations"),
    ];
    let ty = schema.text("type");
    if !ty.is_empty() && ty != "object" {
        let words =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&path.child("openAPIV3Schema.type"), ty, words);
    }
    let zero = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s.is_empty(),
        Value::List(items) => items.is_empty(),
        _ => false,
    };
    if schema.map().iter().any(|(k, v)| !zero(v) && !ALLOWED.iter().any(|(name, _)| name == k)) {
        let names: Vec<&str> = ALLOWED.iter().map(|(_, name)| *name).collect();
        let words = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.invalid(&path.child("openAPIV3Schema"), schema.map().clone(), words);
    }
}

fn walk(schema: &Document<'_>, place: Place<'_>, path: &Path<'_>, errors: &mut Errors) {
    keywords(schema, place, path, errors);
    if schema.flag("uniqueItems") {
        let words = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), words);
    }
    let below = Place { root: false, ..place };
    let properties = schema.object("properties");
    if let Some(additional) = schema.value("additionalProperties") {
        let at = path.child("additionalProperties");
        if !properties.map().is_empty() && *additional != Value::Bool(true) {
            errors.forbidden(&at, "additionalProperties and properties are mutual exclusive");
        }
        if let Some(inner) = schema.present("additionalProperties") {
            let no_default = if place.inside_meta {
                "inside additionalProperties applying to object metadata"
            } else {
                place.no_default
            };
            walk(&inner, Place { no_default, ..below }, &at, errors);
        }
    }
    let at = path.child("properties");
    for (name, property) in schema.members("properties") {
        let meta = matches!(name, "metadata" | "kind" | "apiVersion");
        let mut inner = below;
        let reason = format!("in top-level {name}");
        if meta && (place.root || schema.flag("x-kubernetes-embedded-resource")) {
            inner.inside_meta = true;
            if place.root {
                inner.no_default = &reason;
            }
        }
        walk(&property, inner, &at.key(name), errors);
    }
    if let Some(not) = schema.present("not") {
        walk(&not, below, &path.child("not"), errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        let at = path.child(key);
        for (i, branch) in schema.documents(key).enumerate() {
            walk(&branch, below, &at.index(i), errors);
        }
    }
    let at = path.child("definitions");
    for (name, definition) in schema.members("definitions") {
        walk(&definition, below, &at.key(name), errors);
    }
    if let Some(items) = schema.present("items") {
        walk(&items, below, &path.child("items"), errors);
    }
    let at = path.child("items");
    for (i, items) in schema.documents("items").enumerate() {
        walk(&items, below, &at.index(i), errors);
    }
    extensions(schema, path, errors);
    rules(schema, path, errors);
}

fn keywords(schema: &Document<'_>, place: Place<'_>, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];
    let ty = schema.text("type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.not_supported(&path.child("type"), ty, &TYPES);
    }
    if schema.value("default").is_some() && !place.no_default.is_empty() {
        errors.forbidden(&path.child("default"), format!("must not be set {}", place.no_default));
    }
    if !schema.text("id").is_empty() {
        errors.forbidden(&path.child("id"), "id is not supported");
    }
    for key in ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let set = match schema.value(key) {
            Some(Value::Map(map)) => key == "additionalItems" || !map.is_empty(),
            other => other.is_some(),
        };
        if set {
            errors.forbidden(&path.child(key), format!("{key} is not supported"));
        }
    }
    if ty == "null" {
        let words = "type cannot be set to null, use nullable as an alternative";
        errors.forbidden(&path.child("type"), words);
    }
    if !schema.list("items").is_empty() {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if place.inside_meta && schema.flag("x-kubernetes-embedded-resource") {
        errors.forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
}

/// How lists and maps are merged.
fn extensions(schema: &Document<'_>, path: &Path<'_>, errors: &mut Errors) {
    let ty = schema.text("type");
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.value(preserve) == Some(&Value::Bool(false)) {
        errors.invalid(&path.child(preserve), false, "must be true or undefined");
    }
    let wants = |wanted: &str, key: &str, errors: &mut Errors| {
        let words = format!("must be {wanted} if {key} is specified");
        match ty {
            "" => errors.required(&path.child("type"), words),
            ty => errors.invalid(&path.child("type"), ty, words),
        }
    };
    if let Some(map_type) = schema.value("x-kubernetes-map-type").and_then(Value::as_str) {
        if ty != "object" {
            wants("object", "x-kubernetes-map-type", errors);
        }
        if !matches!(map_type, "atomic" | "granular") {
            errors.not_supported(&path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
        }
    }
    let at = path.child("items");
    let items = schema.present("items");
    let list_type = schema.value("x-kubernetes-list-type").and_then(Value::as_str);
    if list_type.is_some() && ty != "array" {
        wants("array", "x-kubernetes-list-type", errors);
    } else if let (Some("set"), Some(items)) = (list_type, &items) {
        let words = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let inner = items.text("x-kubernetes-list-type");
        match items.text("type") {
            "array" if !matches!(inner, "" | "atomic") => {
                errors.invalid(&at.child("x-kubernetes-list-type"), inner, words);
            }
            "object" if items.text("x-kubernetes-map-type") != "atomic" => {
                errors.invalid(&at.child("x-kubernetes-map-type"), Value::Null, words);
            }
            _ => {}
        }
    }
    if let Some(list_type) = list_type
        && !matches!(list_type, "atomic" | "set" | "map")
    {
        errors.not_listed(&path.child("x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]);
    }
    let keys = schema.list("x-kubernetes-list-map-keys");
    if !keys.is_empty() && list_type != Some("map") {
        let words = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.required(&path.child("x-kubernetes-list-type"), words),
            Some(other) => errors.invalid(&path.child("x-kubernetes-list-type"), other, words),
        }
    }
    if list_type == Some("map") {
        keyed(schema, keys, path, errors);
    }
    if let (Some(list_type @ ("set" | "map")), Some(items)) = (list_type, items) {
        if items.flag("nullable") {
            let words = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            errors.forbidden(&at.child("nullable"), words);
        }
        if list_type == "map" {
            key_properties(&items, keys, &at.child("properties"), errors);
        }
    }
}

fn keyed(schema: &Document<'_>, keys: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    let at = path.child("items");
    let items = match (schema.value("items"), schema.present("items")) {
        (None, _) => return errors.required(&at, "must have a schema if x-kubernetes-list-type is map"),
        (Some(other), None) => {
            return errors.invalid(
                &at,
                other.clone(),
                "must only have a single schema if x-kubernetes-list-type is map",
            );
        }
        (_, Some(items)) => items,
    };
    if items.text("type") != "object" {
        let words = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&at.child("type"), items.text("type"), words);
    }
    let properties = at.child("properties");
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items.object("properties").present(name) {
            Some(property) if matches!(property.text("type"), "array" | "object") => {
                let words = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&properties.key(name).child("type"), items.text("type"), words);
            }
            Some(_) => {}
            None => errors.invalid(&keys_path, keys.to_vec(), "entries must all be names of item properties"),
        }
        if keys[..i].contains(key) {
            errors.invalid(&keys_path, keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

fn key_properties(items: &Document<'_>, keys: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for key in keys {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items.object("properties").present(name) else { continue };
        let at = path.key(name);
        if !items.list("required").contains(key) && property.value("default").is_none() {
            let words =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&at.child("default"), words);
        }
        if property.flag("nullable") {
            let words = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), words);
        }
    }
}

/// The texts of `x-kubernetes-validations`. The expressions themselves are checked when all else is fine.
fn rules(schema: &Document<'_>, path: &Path<'_>, errors: &mut Errors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let all = path.child("x-kubernetes-validations");
    for (i, rule) in schema.documents("x-kubernetes-validations").enumerate() {
        let at = all.index(i);
        let (expression, message) = (rule.text("rule").trim(), rule.text("message"));
        if expression.is_empty() {
            errors.required(&at.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.child("message"), message, "must be non-empty if specified");
        } else if breaks(message.trim()) {
            errors.invalid(&at.child("message"), message, "must not contain line breaks");
        } else if breaks(expression) && message.trim().is_empty() {
            errors.required(&at.child("message"), "message must be specified if rule contains line breaks");
        }
        let computed = rule.text("messageExpression");
        if !computed.is_empty() && computed.trim().is_empty() {
            let words = "messageExpression must be non-empty if specified";
            errors.required(&at.child("messageExpression"), words);
        }
        if let Some(reason) = rule.value("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            errors.not_supported(&at.child("reason"), reason, &REASONS);
        }
        let field_path = rule.text("fieldPath");
        if !field_path.is_empty() && field_path.trim().is_empty() {
            errors.invalid(&at.child("fieldPath"), field_path, "must be non-empty if specified");
        }
        if breaks(field_path) {
            errors.invalid(&at.child("fieldPath"), field_path, "must not contain line breaks");
        }
    }
}

/// Every default must be a value that its own schema accepts and keeps whole.
fn defaults(schema: &Document<'_>, root: &Struct, top: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Some(default) = schema.value("default").filter(|_| !top) {
        let at = path.child("default");
        if let Ok(node) = node(schema) {
            let holder = holder(node.clone());
            let mut tree = Value::Map([("value".into(), default.clone())].into_iter().collect());
            let before = json_text::write(&tree);
            crate::prune::prune(&mut tree, &holder);
            if json_text::write(&tree) != before {
                errors.invalid(&at, default.clone(), "must not have unknown fields");
            }
            let mut found = Errors::new();
            crate::validate::node(default, None, &node, &Path::ROOT, &mut found);
            for mut error in found {
                error.field = match error.field.as_str() {
                    "" | "<nil>" => at.to_string(),
                    below => format!("{at}.{below}"),
                };
                errors.push(error);
            }
        }
    }
    if let Some(items) = schema.present("items") {
        defaults(&items, root, false, &path.child("items"), errors);
    }
    let at = path.child("properties");
    for (name, property) in schema.members("properties") {
        // Of what every object has, no default is allowed at the top; the walk says so.
        if !(top && matches!(name, "metadata" | "kind" | "apiVersion")) {
            defaults(&property, root, false, &at.key(name), errors);
        }
    }
}

/// A struct whose one member has a given shape, for interpreters that start at structs.
fn holder(node: Node) -> Struct {
    let field = Field {
        name: "value".into(),
        tag: 0,
        pointer: true,
        omit: Omit::Never,
        required: false,
        patch: Patch::REPLACE,
        node,
    };
    Struct {
        name: "".into(),
        doc: "".into(),
        fields: vec![field].into(),
        preserve_unknown: false,
        embedded_resource: false,
        atomic: false,
    }
}

/// Whether field selectors may name the field at a path such as `.spec.color`.
///
/// # Errors
/// What is wrong with the path.
pub fn check_selectable(path: &str, schema: &Value) -> Result<(), String> {
    let steps = path.strip_prefix('.').unwrap_or_default();
    let mut current = Document::of(Some(schema));
    for step in steps.split('.') {
        let below = current.object("properties").present(step).or_else(|| current.present("additionalProperties"));
        current = below.ok_or("is an invalid path: does not refer to a valid field")?;
    }
    if steps == "metadata" || steps.starts_with("metadata.") {
        return Err("must not point to fields in metadata".into());
    }
    match current.text("type") {
        "string" | "boolean" | "integer" => Ok(()),
        _ => Err("must point to a field of type string, boolean or integer. Enum string fields and strings with \
                  formats are allowed."
            .into()),
    }
}
