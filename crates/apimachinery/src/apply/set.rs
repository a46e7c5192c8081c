//! Sets of field paths: what a manager owns.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use smol_str::SmolStr;

use crate::json_text;
use crate::value::{Map, Value};

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum PathElement {
    /// A struct's field or a map's key: `f:name`.
    Field(SmolStr),
    /// An element of a keyed list, its keys sorted: `k:{"name":"x"}`.
    Key(Vec<(SmolStr, Value)>),
    /// An element of a set: `v:"x"`.
    Value(Value),
    /// An element of a list by its place: `i:0`.
    Index(i64),
}

impl Eq for PathElement {}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        use PathElement::{Field, Index, Key, Value};
        let rank = |e: &PathElement| match e {
            Field(_) => 0,
            Key(_) => 1,
            Value(_) => 2,
            Index(_) => 3,
        };
        match (self, other) {
            (Field(a), Field(b)) => a.cmp(b),
            (Key(a), Key(b)) => a
                .iter()
                .zip(b)
                .map(|((name_a, a), (name_b, b))| name_a.cmp(name_b).then_with(|| compare_values(a, b)))
                .find(|o| o.is_ne())
                .unwrap_or_else(|| a.len().cmp(&b.len())),
            (Value(a), Value(b)) => compare_values(a, b),
            (Index(a), Index(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// A total order: numbers, strings, booleans, lists, maps, null; integers and floats compare as numbers.
pub(crate) fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Int(_) | Value::Float(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::List(_) => 3,
        Value::Map(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).total_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.total_cmp(&(*b as f64)),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| compare_values(a, b))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (Value::Map(a), Value::Map(b)) => a
            .iter()
            .zip(b.iter())
            .map(|((ka, a), (kb, b))| ka.cmp(kb).then_with(|| compare_values(a, b)))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        _ => rank(a).cmp(&rank(b)),
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", show(v))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            PathElement::Value(value) => write!(f, "[={}]", show(value)),
            PathElement::Index(i) => write!(f, "[{i}]"),
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(s) => format!("{:?}", s.as_str()),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
        Value::Map(map) => {
            format!("{{{}}}", map.iter().map(|(k, v)| format!("{k}={}", show(v))).collect::<Vec<_>>().join(";"))
        }
        scalar => json_text::write(scalar),
    }
}

impl PathElement {
    /// The text that stands as a key in `fieldsV1`.
    pub fn to_text(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(keys) => {
                let map: Map = keys.iter().cloned().collect();
                format!("k:{}", json_text::write(&Value::Map(map)))
            }
            PathElement::Value(value) => format!("v:{}", json_text::write(value)),
            PathElement::Index(i) => format!("i:{i}"),
        }
    }

    /// Reads a key of `fieldsV1`; `None` when it is none of the four forms.
    pub fn parse(text: &str) -> Option<PathElement> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => PathElement::Field(rest.into()),
            "k" => match json_text::read(rest)? {
                Value::Map(map) => PathElement::Key(map.into_iter().collect()),
                _ => return None,
            },
            "v" => PathElement::Value(json_text::read(rest)?),
            "i" => PathElement::Index(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// A set of paths. A path may be a member, lead to members, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(crate) entries: BTreeMap<PathElement, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) member: bool,
    pub(crate) children: Set,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    pub const fn new() -> Set {
        Set { entries: BTreeMap::new() }
    }

    /// A set of paths of plain field names: what reset fields are made of.
    pub fn of_fields(paths: &[&[&str]]) -> Set {
        let mut set = Set::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|f| PathElement::Field((*f).into())).collect();
            set.insert(&path);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a path; the empty path is the whole object, which nobody owns as such.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, front)) = path.split_last() else { return };
        let mut at = self;
        for element in front {
            at = &mut at.entries.entry(element.clone()).or_default().children;
        }
        at.entries.entry(last.clone()).or_default().member = true;
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        let Some((last, front)) = path.split_last() else { return false };
        let mut at = self;
        for element in front {
            match at.entries.get(element) {
                Some(entry) => at = &entry.children,
                None => return false,
            }
        }
        at.entries.get(last).is_some_and(|e| e.member)
    }

    pub fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        for (element, theirs) in &other.entries {
            match out.entries.get_mut(element) {
                Some(ours) => {
                    ours.member |= theirs.member;
                    ours.children = ours.children.union(&theirs.children);
                }
                None => {
                    out.entries.insert(element.clone(), theirs.clone());
                }
            }
        }
        out
    }

    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(|element, ours| {
            let theirs = other.entries.get(element)?;
            Some(Entry { member: ours.member && theirs.member, children: ours.children.intersection(&theirs.children) })
        })
    }

    /// What is in this set and not in the other; a member of the other takes only itself away.
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(|element, ours| {
            Some(match other.entries.get(element) {
                None => ours.clone(),
                Some(theirs) => Entry {
                    member: ours.member && !theirs.member,
                    children: ours.children.difference(&theirs.children),
                },
            })
        })
    }

    /// What is in this set and not in the other; a member of the other takes all below it away too.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        self.combine(|element, ours| {
            Some(match other.entries.get(element) {
                None => ours.clone(),
                Some(theirs) if theirs.member => return None,
                Some(theirs) => {
                    Entry { member: ours.member, children: ours.children.recursive_difference(&theirs.children) }
                }
            })
        })
    }

    fn combine(&self, each: impl Fn(&PathElement, &Entry) -> Option<Entry>) -> Set {
        let entries = self
            .entries
            .iter()
            .filter_map(|(element, ours)| Some((element.clone(), each(element, ours)?)))
            .filter(|(_, entry)| !entry.is_empty())
            .collect();
        Set { entries }
    }

    /// Every path, at each level the members first, as upstream lists conflicts.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        fn walk(set: &Set, prefix: &mut Vec<PathElement>, out: &mut Vec<Vec<PathElement>>) {
            for (element, _) in set.entries.iter().filter(|(_, e)| e.member) {
                let mut path = prefix.clone();
                path.push(element.clone());
                out.push(path);
            }
            for (element, entry) in &set.entries {
                if !entry.children.is_empty() {
                    prefix.push(element.clone());
                    walk(&entry.children, prefix, out);
                    prefix.pop();
                }
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }

    /// `fieldsV1` as JSON text, in upstream's canonical order (which a sorted tree does not always have).
    pub fn to_json(&self) -> String {
        fn write(set: &Set, member: bool, out: &mut String) {
            out.push('{');
            let mut first = true;
            if member && !set.is_empty() {
                out.push_str("\".\":{}");
                first = false;
            }
            for (element, entry) in &set.entries {
                if !first {
                    out.push(',');
                }
                first = false;
                json_text::write_string(&element.to_text(), out);
                out.push(':');
                write(&entry.children, entry.member, out);
            }
            out.push('}');
        }
        let mut out = String::new();
        write(self, false, &mut out);
        out
    }

    /// `fieldsV1` as a tree.
    pub fn to_value(&self) -> Value {
        let entries = self.entries.iter().map(|(element, entry)| {
            let mut below = entry.children.to_value();
            if let (true, false, Value::Map(map)) = (entry.member, entry.children.is_empty(), &mut below) {
                map.insert(".", Map::new());
            }
            (SmolStr::from(element.to_text()), below)
        });
        Value::Map(entries.collect())
    }

    /// Reads `fieldsV1`.
    pub fn from_value(value: &Value) -> Result<Set, String> {
        let mut set = Set::new();
        let Some(map) = value.as_map() else { return Err("fieldsV1 is not an object".into()) };
        for (key, below) in map.iter().filter(|(key, _)| *key != ".") {
            let element = PathElement::parse(key).ok_or_else(|| format!("invalid path element {key:?}"))?;
            let children = Set::from_value(below)?;
            let member = children.is_empty() || below.get(".").is_some();
            set.entries.insert(element, Entry { member, children });
        }
        Ok(set)
    }
}

/// A path as messages show it: `.spec.containers[name="x"].image`.
pub fn path_text(path: &[PathElement]) -> String {
    path.iter().map(PathElement::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_v1_comes_back_as_it_was_and_in_canonical_order() {
        let text = r#"{"f:a":{},"f:l":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":443}":{}},"f:s":{"v:\"x\"":{},"v:true":{}},"f:z":{"i:2":{}}}"#;
        let set = Set::from_value(&json_text::read(text).unwrap()).unwrap();
        assert_eq!(
            set.to_json(),
            r#"{"f:a":{},"f:l":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":443}":{}},"f:s":{"v:\"x\"":{},"v:true":{}},"f:z":{"i:2":{}}}"#
        );
        assert_eq!(set.to_value(), json_text::read(text).unwrap());
        let shown: Vec<String> = set.paths().iter().map(|p| path_text(p)).collect();
        assert_eq!(
            shown,
            [
                ".a",
                ".l",
                r#".l[port=80,protocol="TCP"]"#,
                ".l[port=443]",
                r#".l[port=80,protocol="TCP"].port"#,
                r#".s[="x"]"#,
                ".s[=true]",
                ".z[2]"
            ]
        );
    }

    #[test]
    fn differences_take_a_member_or_all_below_it() {
        let of = |t: &str| Set::from_value(&json_text::read(t).unwrap()).unwrap();
        let set = of(r#"{"f:a":{".":{},"f:b":{}}}"#);
        assert_eq!(set.difference(&of(r#"{"f:a":{}}"#)).to_json(), r#"{"f:a":{"f:b":{}}}"#);
        assert!(set.recursive_difference(&of(r#"{"f:a":{}}"#)).is_empty());
        assert_eq!(set.intersection(&of(r#"{"f:a":{}}"#)).to_json(), r#"{"f:a":{}}"#);
    }
}
