//! Types and sizes of what a schema allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::types::Type;
use smol_str::SmolStr;

use super::MAX_REQUEST;
use super::names::escape;
use crate::schema::{self, AnyKind, Facets, Node, Struct};

/// What an expression may know about a value.
#[derive(Clone, Debug)]
pub struct Decl {
    pub ty: Type,
    /// Characters, items or entries at most; 0 for what has no size.
    max: u64,
    /// How many bytes the shortest value takes as JSON.
    min_size: u64,
    inner: Option<Arc<Decl>>,
    fields: BTreeMap<SmolStr, Decl>,
}

/// How long a name may be, and the part of a generated one that the client gives.
const MAX_NAME: u64 = 253;

/// A length of `n` characters in bytes.
fn in_bytes(n: u64) -> u64 {
    n.saturating_mul(4)
}

impl Decl {
    fn simple(ty: Type, max: u64, min_size: u64) -> Decl {
        Decl { ty, max, min_size, inner: None, fields: BTreeMap::new() }
    }

    /// How often a value of this kind fits into a request, when nothing bounds it.
    pub fn cardinality(&self) -> u64 {
        MAX_REQUEST / (self.min_size + 1)
    }

    pub fn field(&self, escaped: &str) -> Option<&Decl> {
        self.fields.get(escaped)
    }

    pub fn inner(&self) -> Option<&Decl> {
        self.inner.as_deref()
    }
}

/// What a position holds; `None` when expressions cannot see it. `name` is what its type is called.
pub fn declare(node: &Node, name: &str) -> Option<Decl> {
    let facets = node.facets();
    Some(match &node.ty {
        schema::Type::Bool => Decl::simple(Type::Bool, 0, 4),
        schema::Type::Int32 | schema::Type::Int64 => Decl::simple(Type::Int, 0, 1),
        schema::Type::Double => Decl::simple(Type::Double, 0, 1),
        schema::Type::IntOrString => Decl::simple(Type::Dyn, facets.max_length.map_or(MAX_REQUEST - 2, in_bytes), 1),
        schema::Type::String => text(facets),
        schema::Type::List(item) => {
            let inner = declare(item, &format!("{name}.@idx"))?;
            let max = facets.max_items.unwrap_or((MAX_REQUEST - 2) / (inner.min_size + 1));
            Decl {
                ty: Type::list(inner.ty.clone()),
                max,
                min_size: 2,
                inner: Some(Arc::new(inner)),
                fields: BTreeMap::new(),
            }
        }
        schema::Type::Map(item) => {
            let inner = declare(item, &format!("{name}.@elem"))?;
            let max = facets.max_properties.unwrap_or((MAX_REQUEST - 2) / (inner.min_size + 6));
            Decl {
                ty: Type::map(Type::String, inner.ty.clone()),
                max,
                min_size: 2,
                inner: Some(Arc::new(inner)),
                fields: BTreeMap::new(),
            }
        }
        // Types that hold themselves would have no end; expressions do not go deeper than this.
        schema::Type::Struct(shape) if within(name, shape) => Decl::simple(Type::Dyn, MAX_REQUEST - 2, 1),
        schema::Type::Struct(shape) => object(shape, shape.embedded_resource, &nested(name, shape)),
        schema::Type::Any(AnyKind::Free) => return None,
        schema::Type::Bytes => Decl::simple(Type::Bytes, MAX_REQUEST - 2, 2),
        schema::Type::Time | schema::Type::MicroTime => Decl::simple(Type::Timestamp, 32, 21),
        schema::Type::Quantity | schema::Type::Duration => Decl::simple(Type::String, MAX_REQUEST - 2, 2),
        _ => Decl::simple(Type::Dyn, MAX_REQUEST - 2, 1),
    })
}

/// Whether a place is inside of an object of the same built-in type.
fn within(name: &str, shape: &Struct) -> bool {
    !shape.name.is_empty() && name.contains(&format!("<{}>", shape.name))
}

/// The place, with the built-in type that it has.
fn nested(name: &str, shape: &Struct) -> String {
    if shape.name.is_empty() { name.to_string() } else { format!("{name}<{}>", shape.name) }
}

fn text(facets: &Facets) -> Decl {
    match &*facets.format {
        "byte" => Decl::simple(Type::Bytes, facets.max_length.unwrap_or(MAX_REQUEST - 2), 2),
        "duration" => Decl::simple(Type::Duration, 32, 3),
        "date" => Decl::simple(Type::Timestamp, 12, 12),
        "date-time" => Decl::simple(Type::Timestamp, 32, 21),
        _ => {
            let longest = facets.enumeration.iter().map(|e| e.len() as u64).max();
            let max = facets.max_length.map(in_bytes).or(longest).unwrap_or(MAX_REQUEST - 2);
            Decl::simple(Type::String, max, 2)
        }
    }
}

/// What an object holds; a resource has its type and name whatever its schema says.
pub fn object(shape: &Struct, resource: bool, name: &str) -> Decl {
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    for field in shape.fields.iter() {
        let Some(escaped) = escape(&field.name) else { continue };
        if resource && matches!(&*field.name, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let Some(decl) = declare(&field.node, &format!("{name}.{escaped}")) else { continue };
        // The server fills in what has a default.
        if field.required && field.node.facets().default.is_none() {
            min_size += field.name.len() as u64 + decl.min_size + 4;
        }
        fields.insert(SmolStr::from(escaped), decl);
    }
    if resource {
        let text = |max| Decl::simple(Type::String, max, 2);
        let named = [("name".into(), text(in_bytes(MAX_NAME))), ("generateName".into(), text(in_bytes(MAX_NAME - 1)))];
        fields.insert("metadata".into(), of_fields(named.into_iter().collect(), 2, &format!("{name}.metadata")));
        for key in ["apiVersion", "kind"] {
            fields.insert(key.into(), text(MAX_REQUEST - 2));
        }
    }
    of_fields(fields, min_size, name)
}

/// The type of a whole object with all of its metadata.
pub fn whole(shape: &Struct, name: &str) -> Type {
    let mut fields = object(shape, false, &nested(name, shape)).fields;
    for key in ["apiVersion", "kind"] {
        fields.insert(key.into(), Decl::simple(Type::String, MAX_REQUEST - 2, 2));
    }
    of_fields(fields, 2, name).ty
}

fn of_fields(fields: BTreeMap<SmolStr, Decl>, min_size: u64, name: &str) -> Decl {
    let types = fields.iter().map(|(name, decl)| (name.clone(), decl.ty.clone()));
    Decl { ty: Type::object(name, types), max: 0, min_size, inner: None, fields }
}

impl cel::Sizes for Decl {
    fn max(&self, path: &[SmolStr]) -> Option<u64> {
        let mut at = self;
        // The first step is the variable, which this declares.
        for step in path.get(1..)? {
            at = match step.as_str() {
                "@items" | "@values" => at.inner()?,
                "@keys" => {
                    at.inner()?;
                    return Some(0);
                }
                field => at.field(field)?,
            };
        }
        Some(at.max)
    }
}
