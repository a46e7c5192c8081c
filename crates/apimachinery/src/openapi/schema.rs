//! Struct and Node as OpenAPI schemas.

use std::collections::BTreeMap;

use super::Dialect;
use crate::json_text;
use crate::lookup::each_field;
use crate::schema::{AnyKind, CelRule, Facets, Field, ListType, Literal, Node, Omit, Patch, Struct, Type};
use crate::value::{Map, Value};

/// Named schemas, gathered while others refer to them.
pub(super) struct Components {
    pub(super) dialect: Dialect,
    /// Built-ins refer to shared leaf types; a custom resource writes them out.
    pub(super) named: BTreeMap<String, Value>,
}

impl Components {
    pub(super) fn new(dialect: Dialect) -> Components {
        Components { dialect, named: BTreeMap::new() }
    }

    /// `{"$ref": ...}` to a named schema.
    pub(super) fn reference(&self, name: &str) -> Value {
        let mut map = Map::new();
        map.insert("$ref", format!("{}{name}", self.dialect.ref_prefix()));
        Value::Map(map)
    }

    /// Adds a struct under its name, with everything that it refers to.
    pub(super) fn add(&mut self, schema: &Struct) -> Value {
        self.add_as(&schema.name, schema)
    }

    pub(super) fn add_as(&mut self, name: &str, schema: &Struct) -> Value {
        if !self.named.contains_key(name) {
            // A placeholder ends recursion.
            self.named.insert(name.to_string(), Value::Null);
            let body = self.object(schema);
            self.named.insert(name.to_string(), body);
        }
        self.reference(name)
    }

    /// A reference at a field that is a struct by value.
    pub(super) fn by_value(&self, reference: Value) -> Value {
        match reference {
            Value::Map(mut map) if self.dialect == Dialect::V3 => {
                wrap_reference(&mut map, self.dialect);
                map.insert("default", Map::new());
                Value::Map(map)
            }
            other => other,
        }
    }

    /// The schema of a struct, written out.
    pub(super) fn object(&mut self, schema: &Struct) -> Value {
        let mut map = Map::new();
        describe(&mut map, &schema.doc);
        map.insert("type", "object");
        let whole = !schema.embedded_resource && schema.fields.iter().any(|field| field.name == "metadata");
        // Of a whole resource that keeps everything, clients of version 2 are told nothing but that it is an object.
        if schema.preserve_unknown && self.dialect == Dialect::V2 && whole {
            let mut bare = Map::new();
            bare.insert("type", "object");
            return Value::Map(bare);
        }
        if schema.preserve_unknown {
            map.insert("x-kubernetes-preserve-unknown-fields", true);
        }
        if schema.embedded_resource {
            map.insert("x-kubernetes-embedded-resource", true);
        }
        if schema.atomic {
            map.insert("x-kubernetes-map-type", "atomic");
        }
        let mut fields: Vec<&Field> = Vec::new();
        each_field(schema, &mut |field| fields.push(field));
        // Clients of version 2 refuse what a schema does not name even where unknown members are kept.
        let hidden = schema.preserve_unknown && self.dialect == Dialect::V2;
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            if field.required {
                required.push(Value::from(&*field.name));
            }
            if !hidden {
                properties.insert(&*field.name, self.field(field));
            }
        }
        if !properties.is_empty() {
            map.insert("properties", properties);
        }
        if !required.is_empty() {
            map.insert("required", required);
        }
        Value::Map(map)
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut value = self.node(&field.node);
        if let (Value::Map(map), Some(zero), Dialect::V3) = (&mut value, zero_value(field), self.dialect) {
            wrap_reference(map, self.dialect);
            map.get_or_insert_with("default", || zero);
        }
        let Patch { merge, retain_keys, replace, merge_key } = field.patch;
        if let Value::Map(map) = &mut value {
            let strategy = match (merge, retain_keys) {
                (true, true) => "merge,retainKeys",
                (true, false) => "merge",
                (false, true) => "retainKeys",
                (false, false) if replace => "replace",
                (false, false) => "",
            };
            if !strategy.is_empty() {
                wrap_reference(map, self.dialect);
                map.insert("x-kubernetes-patch-strategy", strategy);
            }
            if !merge_key.is_empty() {
                map.insert("x-kubernetes-patch-merge-key", merge_key);
            }
        }
        value
    }

    /// The schema at a position.
    pub(super) fn node(&mut self, node: &Node) -> Value {
        let facets = node.facets();
        let mut map = match self.ty(&node.ty) {
            Value::Map(map) => map,
            _ => Map::new(),
        };
        let mut declared = Map::new();
        self.facets(facets, &mut declared);
        if !matches!(node.ty, Type::List(_)) {
            declared.remove("x-kubernetes-list-type");
        }
        if !declared.is_empty() {
            wrap_reference(&mut map, self.dialect);
            for (key, value) in declared {
                map.insert(key, value);
            }
        }
        if self.dialect == Dialect::V2 && facets.nullable {
            // Version 2 has no null: such a value may be anything.
            for key in ["type", "items", "properties", "additionalProperties", "nullable"] {
                map.remove(key);
            }
        }
        Value::Map(map)
    }

    fn ty(&mut self, ty: &Type) -> Value {
        let mut map = Map::new();
        let mut plain = |ty: &str, format: &str| {
            map.insert("type", ty);
            if !format.is_empty() {
                map.insert("format", format);
            }
        };
        match ty {
            Type::Bool => plain("boolean", ""),
            Type::Int32 => plain("integer", "int32"),
            Type::Int64 => plain("integer", "int64"),
            Type::Double => plain("number", "double"),
            Type::String => plain("string", ""),
            Type::Bytes => plain("string", "byte"),
            Type::Quantity => return self.leaf("io.k8s.apimachinery.pkg.api.resource.Quantity"),
            Type::Time => return self.leaf("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
            Type::MicroTime => return self.leaf("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
            Type::Duration => return self.leaf("io.k8s.apimachinery.pkg.apis.meta.v1.Duration"),
            Type::IntOrString => return self.leaf("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
            Type::Any(AnyKind::RawExtension) => return self.leaf("io.k8s.apimachinery.pkg.runtime.RawExtension"),
            Type::Any(AnyKind::FieldsV1) => return self.leaf("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
            Type::Any(AnyKind::Json) => {
                return self.leaf("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON");
            }
            Type::Any(AnyKind::Free) => {
                map.insert("x-kubernetes-preserve-unknown-fields", true);
            }
            Type::Any(AnyKind::SelfOrList) => {
                return self.leaf("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray");
            }
            Type::Any(AnyKind::SelfOrBool) => {
                return self.leaf("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool");
            }
            Type::Any(AnyKind::SelfOrTexts) => {
                let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray";
                return self.leaf(name);
            }
            Type::List(element) => {
                map.insert("type", "array");
                map.insert("items", self.node(element));
            }
            Type::Map(value) => {
                map.insert("type", "object");
                map.insert("additionalProperties", self.node(value));
            }
            Type::Struct(schema) if schema.name.is_empty() => return self.object(schema),
            Type::Struct(schema) => return self.add(schema),
        }
        Value::Map(map)
    }

    /// A leaf type that all documents share.
    fn leaf(&mut self, name: &'static str) -> Value {
        if !self.named.contains_key(name) {
            let (doc, ty, format) = match name.rsplit('.').next().unwrap_or_default() {
                "Quantity" => ("A fixed-point number with an optional suffix, such as 500m, 2Gi or 1e3.", "string", ""),
                "Time" => ("A time in RFC 3339 form, to the second.", "string", "date-time"),
                "MicroTime" => ("A time in RFC 3339 form, to the microsecond.", "string", "date-time"),
                "Duration" => ("A duration such as 1h30m.", "string", ""),
                "IntOrString" => {
                    ("An integer or a string, such as a port number or its name.", "string", "int-or-string")
                }
                "RawExtension" => ("An object of any kind.", "object", ""),
                "FieldsV1" => {
                    ("A set of fields; each key is f:<name>, k:<keys>, v:<value> or i:<index>.", "object", "")
                }
                _ => ("Any JSON value.", "", ""),
            };
            let mut map = Map::new();
            map.insert("description", doc);
            let alternatives: &[&str] = match (self.dialect, name.rsplit('.').next()) {
                (Dialect::V3, Some("Quantity")) => &["string", "number"],
                (Dialect::V3, Some("IntOrString")) => &["integer", "string"],
                _ => &[],
            };
            if alternatives.is_empty() {
                if !ty.is_empty() {
                    map.insert("type", ty);
                }
            } else {
                let types = alternatives.iter().map(|ty| {
                    let mut map = Map::new();
                    map.insert("type", *ty);
                    Value::Map(map)
                });
                map.insert("oneOf", types.collect::<Vec<_>>());
            }
            if !format.is_empty() {
                map.insert("format", format);
            }
            self.named.insert(name.to_string(), Value::Map(map));
        }
        self.reference(name)
    }

    fn facets(&mut self, facets: &Facets, map: &mut Map) {
        describe(map, &facets.doc);
        if let (Some(default), Dialect::V3) = (&facets.default, self.dialect) {
            let value = match default {
                Literal::Json(text) => json_text::read(text),
                Literal::Tree(value) => Some((**value).clone()),
            };
            map.insert("default", value.unwrap_or_default());
        }
        if !facets.enumeration.is_empty() {
            let values = facets.enumeration.iter().map(|v| json_text::read(v).unwrap_or_else(|| Value::from(&**v)));
            map.insert("enum", values.collect::<Vec<_>>());
        }
        for (key, text) in [("format", &facets.format), ("pattern", &facets.pattern)] {
            if !text.is_empty() {
                map.insert(key, text.to_string());
            }
        }
        let number = |x: f64| if x.fract() == 0.0 && x.abs() < 9e15 { Value::Int(x as i64) } else { Value::Float(x) };
        for (key, exclusive, bound) in
            [("minimum", "exclusiveMinimum", facets.minimum), ("maximum", "exclusiveMaximum", facets.maximum)]
        {
            if let Some(bound) = bound {
                map.insert(key, number(bound.value));
                if bound.exclusive {
                    map.insert(exclusive, true);
                }
            }
        }
        if let Some(x) = facets.multiple_of {
            map.insert("multipleOf", number(x));
        }
        for (key, limit) in [
            ("minLength", facets.min_length),
            ("maxLength", facets.max_length),
            ("minItems", facets.min_items),
            ("maxItems", facets.max_items),
            ("minProperties", facets.min_properties),
            ("maxProperties", facets.max_properties),
        ] {
            if let Some(limit) = limit {
                map.insert(key, Value::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
            }
        }
        if facets.unique_items {
            map.insert("uniqueItems", true);
        }
        if facets.nullable {
            map.insert("nullable", true);
        }
        if let Some(list_type) = facets.list_type {
            let name = match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            map.insert("x-kubernetes-list-type", name);
        }
        if !facets.list_map_keys.is_empty() {
            let keys: Vec<Value> = facets.list_map_keys.iter().map(|k| Value::from(&**k)).collect();
            map.insert("x-kubernetes-list-map-keys", keys);
        }
        if facets.atomic || facets.granular {
            map.insert("x-kubernetes-map-type", if facets.atomic { "atomic" } else { "granular" });
        }
        if !facets.rules.is_empty() {
            map.insert("x-kubernetes-validations", facets.rules.iter().map(rule).collect::<Vec<_>>());
        }
        if let (Some(junctors), Dialect::V3) = (&facets.junctors, self.dialect) {
            for (key, nodes) in [("allOf", &junctors.all_of), ("anyOf", &junctors.any_of), ("oneOf", &junctors.one_of)]
            {
                if !nodes.is_empty() {
                    let nodes: Vec<Value> = nodes.iter().map(|n| self.node(n)).collect();
                    map.insert(key, nodes);
                }
            }
            if let Some(not) = &junctors.not {
                let not = self.node(not);
                map.insert("not", not);
            }
        }
    }
}

/// What a field is that nobody set: a built-in's struct by value, or a scalar that is always written.
fn zero_value(field: &Field) -> Option<Value> {
    if field.pointer || field.tag == 0 {
        return None;
    }
    match (&field.node.ty, field.omit) {
        (Type::Struct(_), _) => Some(Value::Map(Map::new())),
        (Type::Bool, Omit::Never) => Some(Value::Bool(false)),
        (Type::Int32 | Type::Int64 | Type::Double, Omit::Never) => Some(Value::Int(0)),
        (Type::String, Omit::Never) => Some("".into()),
        _ => None,
    }
}

/// Version 3 allows nothing beside `$ref`, so a described reference is wrapped.
fn wrap_reference(map: &mut Map, dialect: Dialect) {
    if dialect == Dialect::V3
        && let Some(target) = map.remove("$ref")
    {
        let mut reference = Map::new();
        reference.insert("$ref", target);
        map.insert("allOf", vec![Value::Map(reference)]);
    }
}

fn describe(map: &mut Map, doc: &str) {
    if !doc.is_empty() {
        map.insert("description", doc);
    }
}

fn rule(rule: &CelRule) -> Value {
    let mut map = Map::new();
    for (key, text) in [
        ("rule", &rule.rule),
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("reason", &rule.reason),
        ("fieldPath", &rule.field_path),
    ] {
        if !text.is_empty() {
            map.insert(key, text.to_string());
        }
    }
    if let Some(optional) = rule.optional_old_self {
        map.insert("optionalOldSelf", optional);
    }
    Value::Map(map)
}
