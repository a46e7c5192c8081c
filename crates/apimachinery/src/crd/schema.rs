//! An OpenAPI schema of a definition as [`Struct`] and [`Node`].

use std::sync::Arc;

use super::document::Document;
use crate::json_text;
use crate::meta::ObjectMeta;
use crate::schema::{
    AnyKind, Api, Bound, CelRule, Facets, Field, Junctors, ListType, Literal, Node, Omit, Patch, Ref, Struct,
    StructRef, Text, Type,
};
use crate::value::Value;

/// The shape of a custom resource: what its schema says, with the metadata that every object has.
///
/// # Errors
/// A sentence that names the keyword, when the schema uses one that has no structural meaning.
pub fn structural_schema(schema: Option<&Value>) -> Result<Struct, String> {
    let document = Document::of(schema);
    unsupported_anywhere(&document)?;
    let mut shape = object(&document, Level::Root)?;
    // A resource without a schema is kept whole.
    shape.preserve_unknown |= schema.is_none_or(Value::is_null);
    Ok(shape)
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Inner,
}

fn text(text: &str) -> Text {
    Text::from(text.to_string())
}

/// Keywords that a structural schema cannot have.
pub(super) fn unsupported(schema: &Document<'_>) -> Result<(), String> {
    for (key, shown) in [("id", "id"), ("$schema", "schema"), ("$ref", "$ref")] {
        if !schema.text(key).is_empty() {
            return Err(format!("OpenAPIV3Schema '{shown}' is not supported"));
        }
    }
    for key in ["patternProperties", "dependencies", "definitions"] {
        if !schema.object(key).map().is_empty() {
            return Err(format!("OpenAPIV3Schema '{key}' is not supported"));
        }
    }
    if schema.value("additionalItems").is_some() {
        return Err("OpenAPIV3Schema 'additionalItems' is not supported".into());
    }
    if matches!(schema.value("items"), Some(Value::List(_))) {
        return Err("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    if schema.value("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Err("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into());
    }
    Ok(())
}

fn unsupported_anywhere(schema: &Document<'_>) -> Result<(), String> {
    unsupported(schema)?;
    for key in ["items", "additionalProperties", "not"] {
        if let Some(below) = schema.present(key) {
            unsupported_anywhere(&below)?;
        }
    }
    for (_, below) in schema.members("properties") {
        unsupported_anywhere(&below)?;
    }
    for below in ["allOf", "anyOf", "oneOf"].iter().flat_map(|key| schema.documents(key)) {
        unsupported_anywhere(&below)?;
    }
    Ok(())
}

/// The schema at one position.
pub(crate) fn node(schema: &Document<'_>) -> Result<Node, String> {
    unsupported(schema)?;
    let ty = if schema.flag("x-kubernetes-int-or-string") {
        Type::IntOrString
    } else {
        match schema.text("type") {
            "object" => match map_of(schema)? {
                Some(ty) => ty,
                None => Type::Struct(StructRef::Shared(Arc::new(object(schema, Level::Inner)?))),
            },
            "array" => Type::List(Ref::Shared(Arc::new(node(&schema.object("items"))?))),
            "string" => Type::String,
            "integer" if schema.text("format") == "int32" => Type::Int32,
            "integer" => Type::Int64,
            "number" => Type::Double,
            "boolean" => Type::Bool,
            _ => Type::Any(AnyKind::Free),
        }
    };
    Ok(Node { ty, facets: facets(schema)? })
}

/// A map, when the schema describes members by a rule instead of by name.
fn map_of(schema: &Document<'_>) -> Result<Option<Type>, String> {
    if !schema.object("properties").map().is_empty() || schema.flag("x-kubernetes-preserve-unknown-fields") {
        return Ok(None);
    }
    Ok(match schema.value("additionalProperties") {
        Some(Value::Map(_)) => Some(Type::Map(Ref::Shared(Arc::new(node(&schema.object("additionalProperties"))?)))),
        // Members of no stated type: scalars are kept, what is inside objects is not known and so pruned.
        Some(Value::Bool(true)) => Some(Type::Map(Ref::Shared(Arc::new(Node::of(Type::Any(AnyKind::Free)))))),
        _ => None,
    })
}

fn object(schema: &Document<'_>, level: Level) -> Result<Struct, String> {
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let required: Vec<&str> = schema.list("required").iter().filter_map(Value::as_str).collect();
    let mut fields = Vec::new();
    for (name, property) in schema.members("properties") {
        match name {
            // Every object has them, in a form that no schema changes.
            "apiVersion" | "kind" if level == Level::Root => continue,
            "metadata" if level == Level::Root || embedded => {
                let mut field = metadata_field();
                field.node.facets = metadata_facets(&property)?;
                fields.push(field);
            }
            _ => fields.push(field(name, node(&property)?, required.contains(&name) || is_type(embedded, name))),
        }
    }
    let named = |fields: &[Field], name: &str| fields.iter().any(|f| f.name == name);
    if embedded {
        for name in ["apiVersion", "kind"] {
            if !named(&fields, name) {
                fields.push(field(name, Node::of(Type::String), true));
            }
        }
    }
    if (embedded || level == Level::Root) && !named(&fields, "metadata") {
        fields.push(metadata_field());
    }
    for name in required {
        let implied = level == Level::Root && matches!(name, "apiVersion" | "kind" | "metadata");
        if !named(&fields, name) && !implied {
            fields.push(field(name, Node::of(Type::Any(AnyKind::Free)), true));
        }
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Struct {
        name: "".into(),
        doc: if level == Level::Root { text(schema.text("description")) } else { "".into() },
        fields: fields.into(),
        preserve_unknown: schema.flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: embedded,
        atomic: schema.text("x-kubernetes-map-type") == "atomic",
    })
}

fn is_type(embedded: bool, name: &str) -> bool {
    embedded && matches!(name, "apiVersion" | "kind")
}

fn field(name: &str, node: Node, required: bool) -> Field {
    Field { name: text(name), tag: 0, pointer: true, omit: Omit::Never, required, patch: Patch::REPLACE, node }
}

fn metadata_field() -> Field {
    field("metadata", Node::of(ObjectMeta::TYPE), false)
}

/// What a schema may demand of metadata: forms of the name.
fn metadata_facets(schema: &Document<'_>) -> Result<Option<Ref<Facets>>, String> {
    let mut fields = Vec::new();
    for (name, property) in schema.members("properties") {
        fields.push(field(name, Node { ty: Type::Any(AnyKind::Free), facets: facets(&property)? }, false));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let demands = Struct {
        name: "".into(),
        doc: "".into(),
        fields: fields.into(),
        preserve_unknown: true,
        embedded_resource: false,
        atomic: false,
    };
    let demands = Node::of(Type::Struct(StructRef::Shared(Arc::new(demands))));
    let junctors = Junctors { all_of: vec![demands], ..Junctors::default() };
    Ok(Some(Ref::Shared(Arc::new(Facets { junctors: Some(Arc::new(junctors)), ..Facets::NONE }))))
}

/// A branch of `allOf` and its like: demands on values, types only to tell integers from strings.
fn branch(schema: &Document<'_>) -> Result<Node, String> {
    unsupported(schema)?;
    let required: Vec<&str> = schema.list("required").iter().filter_map(Value::as_str).collect();
    let properties = schema.object("properties");
    let ty = if !properties.map().is_empty() || !required.is_empty() {
        let mut fields = Vec::new();
        for (name, property) in schema.members("properties") {
            fields.push(field(name, branch(&property)?, required.contains(&name)));
        }
        for name in &required {
            if !properties.map().contains_key(name) {
                fields.push(field(name, Node::of(Type::Any(AnyKind::Free)), true));
            }
        }
        Type::Struct(StructRef::Shared(Arc::new(Struct {
            name: "".into(),
            doc: "".into(),
            fields: fields.into(),
            preserve_unknown: true,
            embedded_resource: false,
            atomic: false,
        })))
    } else if let Some(items) = schema.present("items") {
        Type::List(Ref::Shared(Arc::new(branch(&items)?)))
    } else {
        match schema.text("type") {
            "integer" => Type::Int64,
            "string" => Type::String,
            _ => Type::Any(AnyKind::Free),
        }
    };
    Ok(Node { ty, facets: facets(schema)? })
}

fn branches(schema: &Document<'_>, key: &str) -> Result<Vec<Node>, String> {
    schema.documents(key).map(|b| branch(&b)).collect()
}

/// What is declared beside the type; nothing when nothing is.
fn facets(schema: &Document<'_>) -> Result<Option<Ref<Facets>>, String> {
    let limit = |key: &str| schema.integer(key).and_then(|n| u64::try_from(n).ok());
    let bound =
        |key: &str, exclusive: &str| schema.number(key).map(|value| Bound { value, exclusive: schema.flag(exclusive) });
    let junctors = Junctors {
        all_of: branches(schema, "allOf")?,
        any_of: branches(schema, "anyOf")?,
        one_of: branches(schema, "oneOf")?,
        not: schema.present("not").map(|b| branch(&b)).transpose()?,
    };
    let combined = !junctors.all_of.is_empty()
        || !junctors.any_of.is_empty()
        || !junctors.one_of.is_empty()
        || junctors.not.is_some();
    let list_type = match schema.text("x-kubernetes-list-type") {
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        "atomic" => Some(ListType::Atomic),
        _ => None,
    };
    let has = |key: &str| schema.value(key).is_some();
    const DECLARING: [&str; 23] = [
        "description",
        "default",
        "enum",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "nullable",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "title",
    ];
    if !combined && !DECLARING.iter().any(|key| has(key)) {
        return Ok(None);
    }
    Ok(Some(Ref::Shared(Arc::new(Facets {
        doc: text(schema.text("description")),
        default: schema.value("default").map(|v| Literal::Tree(Arc::new(v.clone()))),
        enumeration: schema.list("enum").iter().map(enum_text).collect(),
        format: text(supported_format(schema.text("type"), schema.text("format"))),
        pattern: text(schema.text("pattern")),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: schema.number("multipleOf"),
        min_length: limit("minLength"),
        max_length: limit("maxLength"),
        min_items: limit("minItems"),
        max_items: limit("maxItems"),
        unique_items: schema.flag("uniqueItems"),
        min_properties: limit("minProperties"),
        max_properties: limit("maxProperties"),
        nullable: schema.flag("nullable"),
        immutable: false,
        list_type,
        list_map_keys: schema.list("x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).map(text).collect(),
        atomic: schema.text("x-kubernetes-map-type") == "atomic",
        granular: schema.text("x-kubernetes-map-type") == "granular",
        rules: schema.documents("x-kubernetes-validations").map(|r| rule(&r)).collect(),
        junctors: combined.then(|| Arc::new(junctors)),
    }))))
}

/// Texts stand as they are, other values as their JSON.
fn enum_text(value: &Value) -> Text {
    match value {
        Value::String(s) => text(s),
        other => json_text::write(other).into(),
    }
}

/// Formats without a meaning to the server are dropped, as they must not refuse anything.
fn supported_format<'a>(ty: &str, format: &'a str) -> &'a str {
    const STRINGS: [&str; 27] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "datetime",
        "k8sshortname",
        "k8slongname",
        "",
    ];
    let known = match ty {
        "" | "string" => STRINGS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if known { format } else { "" }
}

/// One rule as a definition has it.
pub(crate) fn rule(rule: &Document<'_>) -> CelRule {
    CelRule {
        rule: text(rule.text("rule")),
        message: text(rule.text("message")),
        message_expression: text(rule.text("messageExpression")),
        reason: text(rule.text("reason")),
        field_path: text(rule.text("fieldPath")),
        optional_old_self: rule.value("optionalOldSelf").and_then(Value::as_bool),
    }
}
