//! Reading a definition's tree the way Go's types hold it: what is zero is absent.

use crate::value::{Map, Value};

static EMPTY: Map = Map::new();

/// One object of a definition.
#[derive(Clone, Copy)]
pub(crate) struct Document<'a> {
    map: &'a Map,
}

impl<'a> Document<'a> {
    /// An absent object is an empty one.
    pub(crate) fn of(value: Option<&'a Value>) -> Document<'a> {
        Document { map: value.and_then(Value::as_map).unwrap_or(&EMPTY) }
    }

    pub(crate) fn map(&self) -> &'a Map {
        self.map
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> &'a str {
        self.value(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        self.value(key).and_then(Value::as_i64)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::Int(i) => Some(*i as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub(crate) fn object(&self, key: &str) -> Document<'a> {
        Document::of(self.value(key))
    }

    /// The object under `key`, when there is one.
    pub(crate) fn present(&self, key: &str) -> Option<Document<'a>> {
        match self.value(key) {
            Some(Value::Map(map)) => Some(Document { map }),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> &'a [Value] {
        self.value(key).and_then(Value::as_list).unwrap_or_default()
    }

    pub(crate) fn documents(&self, key: &str) -> impl Iterator<Item = Document<'a>> + use<'a> {
        self.list(key).iter().map(|v| Document::of(Some(v)))
    }

    /// The members of a map of objects.
    pub(crate) fn members(&self, key: &str) -> impl Iterator<Item = (&'a str, Document<'a>)> + use<'a> {
        self.object(key).map.iter().map(|(k, v)| (k.as_str(), Document::of(Some(v))))
    }
}
