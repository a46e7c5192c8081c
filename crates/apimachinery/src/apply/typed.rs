//! How server-side apply sees a schema: at each position a scalar, a list or a map, granular or atomic.

use crate::json_text;
use crate::lookup::find_field;
use crate::schema::{AnyKind, ListType, Literal, Node, Patch, Struct, Type};
use crate::value::{Map, Value};

use super::set::PathElement;

/// A position in a schema. Where nothing is declared the type is deduced from the value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ty<'a> {
    /// The object itself; `apiVersion` and `kind` are known beside its fields.
    Root(&'a Struct),
    Node {
        node: &'a Node,
        patch: Patch,
        /// An enclosing position keeps unknown members.
        preserve: bool,
    },
    /// Maps are granular, lists atomic.
    Deduced,
    /// Everything is one value.
    Atomic,
    Text,
}

/// What a scalar must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Number,
    String,
    Boolean,
    Untyped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ListAtom<'a> {
    pub(crate) associative: bool,
    /// Without keys an associative list is a set.
    pub(crate) keys: Keys<'a>,
    pub(crate) element: Ty<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys<'a> {
    None,
    One(&'a str),
    Many(&'a [crate::schema::Text]),
}

impl<'a> Keys<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a str> {
        let (one, many): (Option<&'a str>, &'a [crate::schema::Text]) = match self {
            Keys::None => (None, &[]),
            Keys::One(key) => (Some(key), &[]),
            Keys::Many(keys) => (None, keys),
        };
        one.into_iter().chain(many.iter().map(|k| &**k))
    }

    pub(crate) fn is_empty(self) -> bool {
        match self {
            Keys::None => true,
            Keys::One(_) => false,
            Keys::Many(keys) => keys.is_empty(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct MapAtom<'a> {
    pub(crate) atomic: bool,
    fields: Option<&'a Struct>,
    root: bool,
    /// The type of unnamed members; `None` when there may be none.
    other: Option<Ty<'a>>,
    preserve: bool,
}

impl<'a> MapAtom<'a> {
    /// The type of a declared member.
    pub(crate) fn field(&self, name: &str) -> Option<Ty<'a>> {
        if self.root && (name == "apiVersion" || name == "kind") {
            return Some(Ty::Text);
        }
        let field = find_field(self.fields?, name)?;
        Some(Ty::Node { node: &field.node, patch: field.patch, preserve: self.preserve })
    }

    /// The type of any member; `None` when the schema has no place for it.
    pub(crate) fn member(&self, name: &str) -> Option<Ty<'a>> {
        self.field(name).or(self.other)
    }

    /// Neither fields nor a declared type of members.
    pub(crate) fn is_deduced(&self) -> bool {
        self.fields.is_none() && matches!(self.other, Some(Ty::Deduced))
    }
}

/// What values of a type may be; with more than one the value decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Atom<'a> {
    pub(crate) scalar: Option<Scalar>,
    pub(crate) list: Option<ListAtom<'a>>,
    pub(crate) map: Option<MapAtom<'a>>,
}

/// The one thing that an atom is handled as.
pub(crate) enum Shape<'a> {
    Map(MapAtom<'a>),
    Scalar(Scalar),
    List(ListAtom<'a>),
}

impl<'a> Atom<'a> {
    fn scalar(scalar: Scalar) -> Atom<'a> {
        Atom { scalar: Some(scalar), ..Atom::default() }
    }

    fn map(map: MapAtom<'a>) -> Atom<'a> {
        Atom { map: Some(map), ..Atom::default() }
    }

    /// Narrows an atom to what the value is.
    pub(crate) fn deduce(self, value: Option<&Value>) -> Atom<'a> {
        match value {
            Some(Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Bool(_)) if self.scalar.is_some() => {
                Atom { list: None, map: None, ..self }
            }
            Some(Value::List(_)) if self.list.is_some() => Atom { scalar: None, map: None, ..self },
            Some(Value::Map(_)) if self.map.is_some() => Atom { scalar: None, list: None, ..self },
            _ => self,
        }
    }

    pub(crate) fn same_as(&self, other: &Atom<'_>) -> bool {
        (self.scalar.is_some(), self.list.is_some(), self.map.is_some())
            == (other.scalar.is_some(), other.list.is_some(), other.map.is_some())
    }

    pub(crate) fn shape(self) -> Shape<'a> {
        match (self.map, self.scalar, self.list) {
            (Some(map), _, _) => Shape::Map(map),
            (None, Some(scalar), _) => Shape::Scalar(scalar),
            (None, None, Some(list)) => Shape::List(list),
            (None, None, None) => Shape::Scalar(Scalar::Untyped),
        }
    }
}

impl<'a> Ty<'a> {
    pub(crate) fn atom(self) -> Atom<'a> {
        let untyped = |member: Ty<'a>, atomic: bool| Atom {
            scalar: Some(Scalar::Untyped),
            list: Some(ListAtom { associative: false, keys: Keys::None, element: Ty::Atomic }),
            map: Some(MapAtom { atomic, fields: None, root: false, other: Some(member), preserve: false }),
        };
        match self {
            Ty::Root(schema) => Atom::map(struct_atom(schema, true, false, false)),
            Ty::Deduced => untyped(Ty::Deduced, false),
            Ty::Atomic => untyped(Ty::Atomic, true),
            Ty::Text => Atom::scalar(Scalar::String),
            Ty::Node { node, patch, preserve } => {
                let facets = node.facets();
                match &node.ty {
                    Type::Bool => Atom::scalar(Scalar::Boolean),
                    Type::Int32 | Type::Int64 | Type::Double => Atom::scalar(Scalar::Number),
                    Type::String if facets.format.is_empty() => Atom::scalar(Scalar::String),
                    Type::Bytes => Atom::scalar(Scalar::String),
                    Type::Duration => Atom::scalar(Scalar::String),
                    Type::String | Type::Quantity | Type::Time | Type::MicroTime | Type::IntOrString => {
                        Atom::scalar(Scalar::Untyped)
                    }
                    Type::Any(AnyKind::RawExtension) => Ty::Atomic.atom(),
                    Type::Any(_) => {
                        let mut atom = Ty::Deduced.atom();
                        if let Some(map) = &mut atom.map {
                            map.atomic = facets.atomic;
                        }
                        atom
                    }
                    Type::Map(value) => Atom::map(MapAtom {
                        atomic: facets.atomic,
                        fields: None,
                        root: false,
                        other: Some(Ty::Node { node: value, patch: Patch::REPLACE, preserve }),
                        preserve,
                    }),
                    Type::Struct(schema) => {
                        let root = schema.embedded_resource;
                        Atom::map(struct_atom(
                            schema,
                            root,
                            facets.atomic || (schema.atomic && !facets.granular),
                            preserve,
                        ))
                    }
                    Type::List(element) => {
                        let element = Ty::Node { node: element, patch: Patch::REPLACE, preserve };
                        let (associative, keys) = match facets.list_type {
                            Some(ListType::Atomic) => (false, Keys::None),
                            Some(ListType::Set) => (true, Keys::None),
                            Some(ListType::Map) => (true, Keys::Many(&facets.list_map_keys)),
                            None if patch.merge && patch.merge_key.is_empty() => (true, Keys::None),
                            None if patch.merge => (true, Keys::One(patch.merge_key)),
                            None => (false, Keys::None),
                        };
                        Atom { list: Some(ListAtom { associative, keys, element }), ..Atom::default() }
                    }
                }
            }
        }
    }
}

fn struct_atom<'a>(schema: &'a Struct, root: bool, atomic: bool, preserve: bool) -> MapAtom<'a> {
    let preserve = preserve || schema.preserve_unknown;
    let free = preserve || schema.fields.is_empty();
    MapAtom { atomic, fields: Some(schema), root, other: free.then_some(Ty::Deduced), preserve }
}

/// Which element of an associative list an item is.
pub(crate) fn list_element(list: &ListAtom<'_>, item: &Value) -> Result<PathElement, String> {
    if !list.associative {
        return Err("invalid indexing of non-associative list".into());
    }
    if list.keys.is_empty() {
        return match item {
            Value::Map(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::List(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => Ok(PathElement::Value(scalar.clone())),
        };
    }
    let map = match item {
        Value::Map(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut keys = Vec::new();
    for key in list.keys.iter() {
        match map.get(key).cloned().or_else(|| key_default(list.element, key)) {
            Some(value) => keys.push((key.into(), value)),
            // An element without one of the keys is another element than one that has it.
            None => continue,
        }
    }
    if keys.is_empty() {
        let names: Vec<String> = list.keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|(a, _): &(smol_str::SmolStr, Value), (b, _)| a.cmp(b));
    Ok(PathElement::Key(keys))
}

fn key_default(element: Ty<'_>, key: &str) -> Option<Value> {
    let field = element.atom().map?.field(key)?;
    let Ty::Node { node, .. } = field else { return None };
    match node.facets().default.as_ref()? {
        Literal::Json(text) => json_text::read(text),
        Literal::Tree(value) => Some((**value).clone()),
    }
}

/// Equality in which an integer and a float may be the same number.
pub(crate) fn values_equal(a: &Value, b: &Value) -> bool {
    super::set::compare_values(a, b).is_eq()
}

/// Checks an applied configuration against the schema; each error names a path.
pub(crate) fn validate(ty: Ty<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    let mut fail = |text: String| {
        errors.push(if path.is_empty() { text } else { format!("{path}: {text}") });
    };
    match ty.atom().deduce(Some(value)).shape() {
        Shape::Scalar(scalar) => {
            let expected = match (scalar, value) {
                (_, Value::Null) => return,
                (Scalar::Number, Value::Int(_) | Value::Float(_)) => return,
                (Scalar::String, Value::String(_)) | (Scalar::Boolean, Value::Bool(_)) => return,
                (Scalar::Untyped, Value::Map(_) | Value::List(_)) => "any scalar",
                (Scalar::Untyped, _) => return,
                (Scalar::Number, other) => {
                    return fail(format!("expected numeric (int or float), got {}", go_type(other)));
                }
                (Scalar::String, other) => {
                    return fail(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_show(other)));
                }
                (Scalar::Boolean, _) => "boolean",
            };
            fail(format!("expected {expected}, got &{{{}}}", go_show(value)));
        }
        Shape::List(list) => {
            let items = match value {
                Value::Null => return,
                Value::List(items) => items,
                other => return fail(format!("expected list, got &{{{}}}", go_show(other))),
            };
            let mut seen = std::collections::BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let element = if list.associative {
                    match list_element(&list, item) {
                        Ok(element) => element,
                        Err(why) => {
                            errors.push(format!("{path}: element {i}: {why}"));
                            return;
                        }
                    }
                } else {
                    PathElement::Index(i as i64)
                };
                let text = format!("{path}{element}");
                if list.associative && !seen.insert(element.clone()) {
                    errors.push(format!("{path}: duplicate entries for key {element}"));
                }
                validate(list.element, item, &text, errors);
            }
        }
        Shape::Map(map) => {
            let members = match value {
                Value::Null => return,
                Value::Map(members) => members,
                other => return fail(format!("expected map, got &{{{}}}", go_show(other))),
            };
            for (key, item) in members.iter() {
                let text = format!("{path}.{key}");
                match map.member(key) {
                    Some(ty) => validate(ty, item, &text, errors),
                    None => {
                        errors.push(format!("{text}: field not declared in schema"));
                        return;
                    }
                }
            }
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

fn go_show(value: &Value) -> String {
    match value {
        Value::String(s) => s.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(go_show).collect::<Vec<_>>().join(" ")),
        Value::Map(map) => {
            format!("map[{}]", map.iter().map(|(k, v)| format!("{k}:{}", go_show(v))).collect::<Vec<_>>().join(" "))
        }
        other => json_text::write(other),
    }
}

/// The paths of values that would be replaced as a whole.
pub(crate) fn atomics(ty: Ty<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (ty.atom().deduce(Some(value)).shape(), value) {
        (Shape::Map(map), Value::Map(members)) => {
            if map.atomic {
                found.push(path.to_string());
            }
            for (name, member) in members.iter() {
                if let Some(ty) = map.field(name) {
                    atomics(ty, member, &format!("{path}.{name}"), found);
                }
            }
        }
        (Shape::List(list), Value::List(items)) => {
            if !list.associative {
                found.push(path.to_string());
            }
            for (i, item) in items.iter().enumerate() {
                atomics(list.element, item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

/// The members of a map, or none for null and for what is no map.
pub(crate) fn members(value: Option<&Value>) -> Option<&Map> {
    value.and_then(Value::as_map)
}
