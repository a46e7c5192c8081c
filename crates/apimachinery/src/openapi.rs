//! OpenAPI documents of kinds: version 3, one document a group and version, and version 2, one for all.
//!
//! Pure functions from kinds to trees and bytes; whoever serves them builds them on first use and keeps them.

mod paths;
mod proto;
mod schema;

use crate::json_text;
use crate::kind::Kind;
use crate::meta::ListMeta;
use crate::schema::{Api, StructRef, Type};
use crate::value::{Map, Value};
use schema::Components;

/// The two OpenAPI versions, which say the same in different words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn ref_prefix(self) -> &'static str {
        match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        }
    }
}

/// The version 3 document of the kinds of one group and version, as JSON.
///
/// `bodies` finds the schema of a kind that only subresources use, such as `("autoscaling", "v1", "Scale")`.
pub fn v3<'a>(
    kinds: impl IntoIterator<Item = &'a Kind>,
    bodies: &dyn Fn(&str, &str, &str) -> Option<StructRef>,
) -> Vec<u8> {
    let (named, paths) = build(Dialect::V3, kinds, bodies);
    let mut components = Map::new();
    components.insert("schemas", named);
    components.insert("securitySchemes", security());
    let mut document = Map::new();
    document.insert("openapi", "3.0.0");
    document.insert("info", info());
    document.insert("paths", paths);
    document.insert("components", components);
    json_text::write(&Value::Map(document)).into_bytes()
}

/// The version 2 document of all kinds, as JSON.
pub fn v2<'a>(
    kinds: impl IntoIterator<Item = &'a Kind>,
    bodies: &dyn Fn(&str, &str, &str) -> Option<StructRef>,
) -> Vec<u8> {
    json_text::write(&Value::Map(v2_tree(kinds, bodies))).into_bytes()
}

/// The version 2 document of all kinds as protobuf, in which clients ask for it: `openapi.v2.Document`.
pub fn v2_proto<'a>(
    kinds: impl IntoIterator<Item = &'a Kind>,
    bodies: &dyn Fn(&str, &str, &str) -> Option<StructRef>,
) -> Vec<u8> {
    proto::document(&v2_tree(kinds, bodies))
}

fn v2_tree<'a>(
    kinds: impl IntoIterator<Item = &'a Kind>,
    bodies: &dyn Fn(&str, &str, &str) -> Option<StructRef>,
) -> Map {
    let (named, paths) = build(Dialect::V2, kinds, bodies);
    let mut token = Map::new();
    token.insert("BearerToken", Vec::new());
    let mut document = Map::new();
    document.insert("swagger", "2.0");
    document.insert("info", info());
    document.insert("paths", paths);
    document.insert("definitions", named);
    document.insert("securityDefinitions", security());
    document.insert("security", vec![Value::Map(token)]);
    document
}

/// `GET /openapi/v3`: where the documents are. Each comes as its path (`apis/apps/v1`) and the hash of its bytes.
pub fn v3_root<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut paths = Map::new();
    for (path, hash) in documents {
        let mut entry = Map::new();
        entry.insert("serverRelativeURL", format!("/openapi/v3/{path}?hash={hash}"));
        paths.insert(path, entry);
    }
    let mut root = Map::new();
    root.insert("paths", paths);
    json_text::write(&Value::Map(root)).into_bytes()
}

/// The hash by which clients cache a document: SHA-512 in upper-case hexadecimal.
pub fn hash(document: &[u8]) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    sha2::Sha512::digest(document).iter().fold(String::with_capacity(128), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn info() -> Map {
    let mut info = Map::new();
    info.insert("title", "Kubernetes");
    info.insert("version", "v1.37.2");
    info
}

fn security() -> Map {
    let mut token = Map::new();
    token.insert("description", "Bearer Token authentication");
    token.insert("in", "header");
    token.insert("name", "authorization");
    token.insert("type", "apiKey");
    let mut map = Map::new();
    map.insert("BearerToken", token);
    map
}

fn build<'a>(
    dialect: Dialect,
    kinds: impl IntoIterator<Item = &'a Kind>,
    bodies: &dyn Fn(&str, &str, &str) -> Option<StructRef>,
) -> (Map, Map) {
    let mut components = Components::new(dialect);
    let mut paths = paths::Paths { components: &mut components, bodies, paths: Map::new() };
    for kind in kinds {
        let name = definition_name(kind);
        let object = paths.components.add_as(&name, &kind.schema);
        add_type_meta(paths.components, &name);
        name_kind(paths.components, &name, &kind.group, &kind.version, &kind.kind);
        let list = list_of(paths.components, kind, &name, &object);
        paths.add(kind, &object, &list);
    }
    let paths = paths.paths;
    (components.named.into_iter().map(|(k, v)| (k.into(), v)).collect(), paths)
}

/// A kind's definition: the schema's own name, or one made of the reversed group for a custom resource.
pub fn definition_name(kind: &Kind) -> String {
    if !kind.schema.name.is_empty() {
        return kind.schema.name.to_string();
    }
    let reversed: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{}", reversed.join("."), kind.version, kind.kind)
}

fn gvk_value(group: &str, version: &str, kind: &str) -> Value {
    let mut map = Map::new();
    map.insert("group", group);
    map.insert("version", version);
    map.insert("kind", kind);
    Value::Map(map)
}

/// Says which kind a definition is, and that it carries its own name.
fn name_kind(components: &mut Components, name: &str, group: &str, version: &str, kind: &str) {
    let gvk = gvk_value(group, version, kind);
    if let Some(Value::Map(map)) = components.named.get_mut(name) {
        let list = map.get_or_insert_with("x-kubernetes-group-version-kind", || Value::List(Vec::new()));
        if let Value::List(list) = list
            && !list.contains(&gvk)
        {
            list.push(gvk);
        }
    }
    add_type_meta(components, name);
}

fn add_type_meta(components: &mut Components, name: &str) {
    if let Some(Value::Map(map)) = components.named.get_mut(name) {
        let properties = map.get_or_insert_with("properties", || Value::Map(Map::new()));
        if let Value::Map(properties) = properties {
            for (key, doc) in [
                (
                    "apiVersion",
                    "APIVersion defines the versioned schema of this object: a version, or a group, a slash and a version.",
                ),
                ("kind", "The kind of this object, in CamelCase."),
            ] {
                properties.get_or_insert_with(key, || {
                    let mut map = Map::new();
                    map.insert("description", doc);
                    map.insert("type", "string");
                    Value::Map(map)
                });
            }
        }
    }
}

/// Adds the list of a kind and refers to it.
fn list_of(components: &mut Components, kind: &Kind, name: &str, object: &Value) -> Value {
    let prefix = name.rsplit_once('.').map_or("", |(prefix, _)| prefix);
    let list_name = format!("{prefix}.{}", kind.list_kind);
    let metadata = match ListMeta::TYPE {
        Type::Struct(schema) => components.add(&schema),
        _ => Value::Null,
    };
    let mut items = Map::new();
    items.insert("description", format!("The objects, each a {}.", kind.kind));
    items.insert("type", "array");
    items.insert("items", object.clone());
    let mut properties = Map::new();
    properties.insert("items", items);
    properties.insert("metadata", components.by_value(metadata));
    let mut list = Map::new();
    list.insert("description", format!("A list of {}.", kind.kind));
    list.insert("type", "object");
    list.insert("required", vec![Value::from("items")]);
    list.insert("properties", properties);
    components.named.insert(list_name.clone(), Value::Map(list));
    name_kind(components, &list_name, &kind.group, &kind.version, &kind.list_kind);
    components.reference(&list_name)
}
