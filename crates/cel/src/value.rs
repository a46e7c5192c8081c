//! What an expression computes with. Lists and maps may stay where their host has them: they are read through traits.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::opaque::Opaque;
use crate::time::Timestamp;

/// A value; `'a` is how long the host's data lives that it reads.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(SmolStr),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    /// A type as a value: its name.
    Type(SmolStr),
    Optional(Option<Arc<Value<'a>>>),
    Opaque(Opaque<'a>),
}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    /// The budget was used up: nothing may turn this into an answer.
    pub exhausted: bool,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), exhausted: false }
    }

    pub(crate) fn exhausted() -> Error {
        Error { message: "operation cancelled: actual cost limit exceeded".into(), exhausted: true }
    }

    pub(crate) fn no_such_overload() -> Error {
        Error::new("no such overload")
    }

    pub(crate) fn no_such_key(key: impl fmt::Display) -> Error {
        Error::new(format!("no such key: {key}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How a list compares and adds up (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Item by item, in order.
    Atomic,
    /// In any order.
    Set,
    /// In any order, items with equal values under these keys being the same.
    Keyed(Arc<[SmolStr]>),
}

/// A list that the host holds.
pub trait HostList<'a>: Send + Sync {
    fn len(&self) -> usize;
    fn get(&self, index: usize) -> Option<Value<'a>>;
    fn kind(&self) -> ListKind {
        ListKind::Atomic
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A map with text keys, or an object, that the host holds.
pub trait HostMap<'a>: Send + Sync {
    /// The value of a key or field, if it is there; an error when it could not be computed.
    fn get(&self, key: &str) -> Result<Option<Value<'a>>, Error>;
    /// The keys, or the fields that are set.
    fn keys(&self) -> Vec<SmolStr>;
    /// The type's name, when this is an object; a map has none.
    fn type_name(&self) -> Option<SmolStr> {
        None
    }
}

#[derive(Clone)]
pub enum List<'a> {
    Own(Arc<Vec<Value<'a>>>, ListKind),
    Host(Arc<dyn HostList<'a> + 'a>),
}

#[derive(Clone)]
pub enum Map<'a> {
    Own(Arc<BTreeMap<Key, Value<'a>>>),
    /// An object that the expression made: type and fields.
    Made(SmolStr, Arc<BTreeMap<SmolStr, Value<'a>>>),
    Host(Arc<dyn HostMap<'a> + 'a>),
}

/// What may be a key. Whole numbers are the same key whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    /// Only for what no `Int` holds.
    Uint(u64),
    String(SmolStr),
}

impl Key {
    /// `None` when a value of this type cannot be a key.
    pub fn of(value: &Value<'_>) -> Option<Key> {
        match value {
            Value::Bool(b) => Some(Key::Bool(*b)),
            Value::Int(i) => Some(Key::Int(*i)),
            Value::Uint(u) => Some(i64::try_from(*u).map_or(Key::Uint(*u), Key::Int)),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.0e18 => Some(Key::Int(*d as i64)),
            Value::String(s) => Some(Key::String(s.clone())),
            _ => None,
        }
    }

    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(i) => Value::Int(*i),
            Key::Uint(u) => Value::Uint(*u),
            Key::String(s) => Value::String(s.clone()),
        }
    }
}

impl<'a> List<'a> {
    pub fn new(items: Vec<Value<'a>>) -> List<'a> {
        List::Own(Arc::new(items), ListKind::Atomic)
    }

    pub fn len(&self) -> usize {
        match self {
            List::Own(items, _) => items.len(),
            List::Host(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Own(items, _) => items.get(index).cloned(),
            List::Host(list) => list.get(index),
        }
    }

    pub fn kind(&self) -> ListKind {
        match self {
            List::Own(_, kind) => kind.clone(),
            List::Host(list) => list.kind(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// Where an equal item stands.
    pub(crate) fn position(&self, item: &Value<'a>) -> Option<usize> {
        self.iter().position(|own| own.equals(item))
    }

    /// What tells an item apart from others in a set or keyed list; `None` when it cannot be ordered.
    fn identity(item: &Value<'a>, kind: &ListKind) -> Option<Vec<Option<Key>>> {
        match (kind, item) {
            (ListKind::Keyed(keys), Value::Map(map)) => {
                let of = |key: &SmolStr| match map.field(key).ok()? {
                    Some(value) => Key::of(&value).map(Some),
                    None => Some(None),
                };
                keys.iter().map(of).collect()
            }
            (_, item) => Some(vec![Some(Key::of(item)?)]),
        }
    }

    /// Where each item stands, by its identity.
    fn positions(&self, kind: &ListKind) -> Option<BTreeMap<Vec<Option<Key>>, usize>> {
        self.iter().enumerate().map(|(i, item)| Some((List::identity(&item, kind)?, i))).collect()
    }

    /// `+`: sets unite, keyed lists merge (the right side's items win), others are joined.
    pub(crate) fn plus(&self, other: &List<'a>) -> List<'a> {
        let kind = self.kind();
        let mut items: Vec<Value<'a>> = self.iter().collect();
        let mut positions = if kind == ListKind::Atomic { None } else { self.positions(&kind) };
        for item in other.iter() {
            let identity = List::identity(&item, &kind);
            match (&mut positions, identity) {
                (Some(positions), Some(identity)) => match positions.get(&identity) {
                    Some(at) if kind != ListKind::Set => items[*at] = item,
                    Some(_) => {}
                    None => {
                        positions.insert(identity, items.len());
                        items.push(item);
                    }
                },
                _ => items.push(item),
            }
        }
        List::Own(Arc::new(items), kind)
    }

    fn equals(&self, other: &List<'a>) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let kind = self.kind();
        let positions = if kind == ListKind::Atomic { None } else { other.positions(&kind) };
        match positions {
            None => self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b)),
            Some(positions) => self.iter().all(|item| {
                let at = List::identity(&item, &kind).and_then(|identity| positions.get(&identity).copied());
                at.and_then(|at| other.get(at)).is_some_and(|o| item.equals(&o))
            }),
        }
    }
}

impl<'a> Map<'a> {
    pub fn new(entries: BTreeMap<Key, Value<'a>>) -> Map<'a> {
        Map::Own(Arc::new(entries))
    }

    /// The type's name, when this is an object; a map has none.
    pub fn type_name(&self) -> Option<SmolStr> {
        match self {
            Map::Own(_) => None,
            Map::Made(name, _) => Some(name.clone()),
            Map::Host(map) => map.type_name(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Map::Own(entries) => entries.len(),
            Map::Made(_, fields) => fields.len(),
            Map::Host(map) => map.keys().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value under a text key.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>, Error> {
        match self {
            Map::Own(entries) => Ok(entries.get(&Key::String(name.into())).cloned()),
            Map::Made(_, fields) => Ok(fields.get(name).cloned()),
            Map::Host(map) => map.get(name),
        }
    }

    pub fn get(&self, key: &Key) -> Result<Option<Value<'a>>, Error> {
        match (self, key) {
            (Map::Own(entries), key) => Ok(entries.get(key).cloned()),
            (_, Key::String(name)) => self.field(name),
            _ => Ok(None),
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        match self {
            Map::Own(entries) => entries.keys().cloned().collect(),
            Map::Made(_, fields) => fields.keys().cloned().map(Key::String).collect(),
            Map::Host(map) => map.keys().into_iter().map(Key::String).collect(),
        }
    }

    fn equals(&self, other: &Map<'a>) -> bool {
        let keys = self.keys();
        keys.len() == other.len()
            && keys.iter().all(|key| match (self.get(key), other.get(key)) {
                (Ok(Some(a)), Ok(Some(b))) => a.equals(&b),
                _ => false,
            })
    }
}

impl<'a> Value<'a> {
    pub fn list(items: impl IntoIterator<Item = Value<'a>>) -> Value<'a> {
        Value::List(List::new(items.into_iter().collect()))
    }

    /// A map with text keys.
    pub fn map(entries: impl IntoIterator<Item = (SmolStr, Value<'a>)>) -> Value<'a> {
        Value::Map(Map::new(entries.into_iter().map(|(k, v)| (Key::String(k), v)).collect()))
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// The type's name, as `type(x)` gives it.
    pub fn type_name(&self) -> SmolStr {
        let name = match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(map) => return map.type_name().unwrap_or("map".into()),
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Opaque(opaque) => opaque.type_name(),
        };
        name.into()
    }

    /// Equality of CEL: numbers compare by what they are worth, and different types are unequal.
    pub fn equals(&self, other: &Value<'a>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) | (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.equals(b),
            (Value::Map(a), Value::Map(b)) => a.equals(b),
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => a.equals(b),
            (Value::Opaque(a), Value::Opaque(b)) => a.equals(b),
            (a, b) => matches!(numbers(a, b), Some(Some(Ordering::Equal))),
        }
    }

    /// How two values that have an order stand to each other. `Ok(None)` when one is no number.
    pub fn compare(&self, other: &Value<'a>) -> Result<Option<Ordering>, Error> {
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (a, b) => numbers(a, b).ok_or_else(Error::no_such_overload)?,
        })
    }

    /// The size that costs are counted by: characters, bytes, items or entries; 1 for everything else.
    pub fn size(&self) -> u64 {
        match self {
            Value::String(s) => s.chars().count() as u64,
            Value::Bytes(b) => b.len() as u64,
            Value::List(l) => l.len() as u64,
            Value::Map(m) if m.type_name().is_none() => m.len() as u64,
            Value::Optional(Some(inner)) => inner.size(),
            Value::Opaque(opaque) => opaque.size(),
            _ => 1,
        }
    }

    /// Whether this is what its type begins with: 0, "", an empty list.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Int(i) => *i == 0,
            Value::Uint(u) => *u == 0,
            Value::Double(d) => *d == 0.0,
            Value::String(s) => s.is_empty(),
            Value::Bytes(b) => b.is_empty(),
            Value::Duration(d) => *d == 0,
            Value::Timestamp(t) => t.is_zero(),
            Value::List(l) => l.is_empty(),
            Value::Map(m) => m.is_empty(),
            Value::Optional(inner) => inner.is_none(),
            Value::Type(_) | Value::Opaque(_) => false,
        }
    }
}

/// How two numbers compare; the outer `None` when one of them is none, the inner one for NaN.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    use Value::{Double, Int, Uint};
    Some(match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(b)),
        (Uint(a), Uint(b)) => Some(a.cmp(b)),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (Int(a), Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Uint(a), Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Int(a), Double(b)) => whole_to_double(i128::from(*a), *b),
        (Uint(a), Double(b)) => whole_to_double(i128::from(*a), *b),
        (Double(a), Int(b)) => whole_to_double(i128::from(*b), *a).map(Ordering::reverse),
        (Double(a), Uint(b)) => whole_to_double(i128::from(*b), *a).map(Ordering::reverse),
        _ => return None,
    })
}

fn whole_to_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1.0e20 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = double.floor();
    let order = whole.cmp(&(floor as i128));
    Some(if order == Ordering::Equal && double > floor { Ordering::Less } else { order })
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.type_name() {
            write!(f, "{name}")?;
        }
        f.debug_map().entries(self.keys().into_iter().map(|k| (k.clone(), self.get(&k).ok().flatten()))).finish()
    }
}
