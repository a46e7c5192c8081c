//! What a value may be, as the checker sees it: types, their names, and which fits where.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// Anything; checked when it is evaluated.
    Dyn,
    /// What a faulty node gets, so that one fault is reported once.
    Error,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    /// An object with declared fields.
    Struct(Arc<Struct>),
    /// A type of a library, such as `kubernetes.Quantity`.
    Opaque(&'static str),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A type parameter of a function, or a variable of the checker.
    Param(SmolStr),
}

/// An object type.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: SmolStr,
    pub fields: Fields,
}

/// Which fields an object has, under the names that expressions use.
#[derive(Clone, Debug)]
pub enum Fields {
    Declared(BTreeMap<SmolStr, Type>),
    /// Any name is a field; its value is what the function says for the struct's name and the field.
    Open(fn(&str, &str) -> Type),
}

impl PartialEq for Struct {
    fn eq(&self, other: &Struct) -> bool {
        self.name == other.name
    }
}

impl Struct {
    pub fn field(&self, name: &str) -> Option<Type> {
        match &self.fields {
            Fields::Declared(fields) => fields.get(name).cloned(),
            Fields::Open(of) => Some(of(&self.name, name)),
        }
    }
}

/// The opaque types of the libraries.
pub mod opaque {
    pub const URL: &str = "kubernetes.URL";
    pub const QUANTITY: &str = "kubernetes.Quantity";
    pub const SEMVER: &str = "kubernetes.Semver";
    pub const FORMAT: &str = "kubernetes.NamedFormat";
    pub const IP: &str = "net.IP";
    pub const CIDR: &str = "net.CIDR";
    pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
    pub const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
    pub const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
    pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
    pub const DECISION: &str = "kubernetes.authorization.Decision";

    pub(crate) const ALL: &[&str] =
        &[URL, QUANTITY, SEMVER, FORMAT, IP, CIDR, AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION];
}

impl Type {
    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Optional(Arc::new(inner))
    }

    /// An object type with these fields.
    pub fn object(name: impl Into<SmolStr>, fields: impl IntoIterator<Item = (SmolStr, Type)>) -> Type {
        Type::Struct(Arc::new(Struct { name: name.into(), fields: Fields::Declared(fields.into_iter().collect()) }))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// What a type is called by `type(x)` and in messages, without its parameters.
    pub fn name(&self) -> &str {
        match self {
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Dyn => "dyn",
            Type::Error => "!error!",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Struct(s) => &s.name,
            Type::Opaque(name) => name,
            Type::Optional(_) => "optional_type",
            Type::Type(_) => "type",
            Type::Param(name) => name,
        }
    }

    /// Reads a signature's notation: `list<T>`, `map<K, V>`, `optional<string>`, `net.IP`; one capital is a parameter.
    pub(crate) fn read(text: &str) -> Type {
        let text = text.trim();
        if let Some((outer, inner)) = text.strip_suffix('>').and_then(|t| t.split_once('<')) {
            let inner_type = || Arc::new(Type::read(inner));
            return match outer {
                "list" => Type::List(inner_type()),
                "optional" => Type::Optional(inner_type()),
                "type" => Type::Type(inner_type()),
                _ => match split_top(inner).as_slice() {
                    [key, value] => Type::map(Type::read(key), Type::read(value)),
                    _ => Type::Error,
                },
            };
        }
        match text {
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "dyn" => Type::Dyn,
            one if one.len() == 1 => Type::Param(one.into()),
            name => opaque::ALL.iter().find(|o| **o == name).map_or(Type::Error, |o| Type::Opaque(o)),
        }
    }

    /// The type with its parameters replaced by `of`.
    fn replace(&self, of: &dyn Fn(&SmolStr) -> Option<Type>) -> Type {
        match self {
            Type::Param(name) => of(name).unwrap_or_else(|| self.clone()),
            Type::List(item) => Type::list(item.replace(of)),
            Type::Map(key, value) => Type::map(key.replace(of), value.replace(of)),
            Type::Optional(inner) => Type::optional(inner.replace(of)),
            Type::Type(inner) => Type::Type(Arc::new(inner.replace(of))),
            other => other.clone(),
        }
    }

    fn mentions(&self, name: &str) -> bool {
        match self {
            Type::Param(own) => own == name,
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => inner.mentions(name),
            Type::Map(key, value) => key.mentions(name) || value.mentions(name),
            _ => false,
        }
    }
}

/// Splits at commas outside of angle brackets.
pub(crate) fn split_top(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(item) => write!(f, "list({item})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Type(inner) => write!(f, "type({inner})"),
            other => f.write_str(other.name()),
        }
    }
}

/// What is known about type variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapping {
    known: HashMap<SmolStr, Type>,
    made: usize,
}

impl Mapping {
    /// A type variable that nothing is known of.
    pub fn fresh(&mut self) -> Type {
        self.made += 1;
        Type::Param(format!("_var{}", self.made - 1).into())
    }

    /// The types of a signature with fresh variables in place of its parameters.
    pub fn instantiate(&mut self, types: &[&Type]) -> Vec<Type> {
        let mut fresh: HashMap<SmolStr, Type> = HashMap::new();
        let mut names = Vec::new();
        types.iter().for_each(|t| parameters(t, &mut names));
        for name in names {
            fresh.entry(name).or_insert_with(|| self.fresh());
        }
        types.iter().map(|t| t.replace(&|name| fresh.get(name).cloned())).collect()
    }

    /// The type with everything put in that is known; the rest becomes `dyn` when asked.
    pub fn substitute(&self, ty: &Type, to_dyn: bool) -> Type {
        ty.replace(&|name| match self.known.get(name) {
            Some(found) => Some(self.substitute(found, to_dyn)),
            None => to_dyn.then_some(Type::Dyn),
        })
    }

    /// Whether a value of type `from` may stand where `to` is wanted; learns about variables if so.
    pub fn assign(&mut self, to: &Type, from: &Type) -> bool {
        let before = self.known.clone();
        let fits = self.fits(to, from);
        if !fits {
            self.known = before;
        }
        fits
    }

    pub fn assign_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        let before = self.known.clone();
        let fits = to.len() == from.len() && to.iter().zip(from).all(|(to, from)| self.fits(to, from));
        if !fits {
            self.known = before;
        }
        fits
    }

    fn resolve(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        while let Type::Param(name) = &ty {
            match self.known.get(name) {
                Some(found) => ty = found.clone(),
                None => break,
            }
        }
        ty
    }

    fn learn(&mut self, name: &SmolStr, ty: &Type) -> bool {
        if matches!(ty, Type::Param(other) if other == name) {
            return true;
        }
        if self.substitute(ty, false).mentions(name) {
            return false;
        }
        self.known.insert(name.clone(), ty.clone());
        true
    }

    fn fits(&mut self, to: &Type, from: &Type) -> bool {
        // A variable that is known may still become more general.
        if let Type::Param(name) = from
            && let Some(found) = self.known.get(name).cloned()
        {
            if self.fits(to, &found) {
                return true;
            }
            let wider = self.resolve(to);
            if wider.is_dyn() {
                return self.learn(name, &Type::Dyn);
            }
            return false;
        }
        if let Type::Param(name) = to
            && let Some(found) = self.known.get(name).cloned()
        {
            if self.fits(&found, from) {
                // `dyn` swallows what was known before.
                if self.resolve(from) == Type::Dyn {
                    self.known.insert(name.clone(), Type::Dyn);
                }
                return true;
            }
            return false;
        }
        match (to, from) {
            (Type::Param(name), other) | (other, Type::Param(name)) => self.learn(name, other),
            (to, from) if to.is_dyn() || from.is_dyn() => true,
            (Type::Null, from) => nullable(from),
            (to, Type::Null) => nullable(to),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Map(k1, v1), Type::Map(k2, v2)) => self.fits(k1, k2) && self.fits(v1, v2),
            (to, from) => to == from,
        }
    }
}

fn parameters(ty: &Type, names: &mut Vec<SmolStr>) {
    match ty {
        Type::Param(name) => names.push(name.clone()),
        Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => parameters(inner, names),
        Type::Map(key, value) => {
            parameters(key, names);
            parameters(value, names);
        }
        _ => {}
    }
}

/// What may be compared with `null`.
fn nullable(ty: &Type) -> bool {
    matches!(ty, Type::Null | Type::Struct(_) | Type::Duration | Type::Timestamp | Type::Opaque(_) | Type::Optional(_))
}

/// The wider of two types of which one fits the other.
pub(crate) fn wider(a: &Type, b: &Type) -> Type {
    if a.is_dyn() || (!b.is_dyn() && equal_or_less_specific(a, b)) { a.clone() } else { b.clone() }
}

fn equal_or_less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (a, _) if a.is_dyn() || matches!(a, Type::Param(_)) => true,
        (_, b) if b.is_dyn() || matches!(b, Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => equal_or_less_specific(a, b),
        (Type::Map(k1, v1), Type::Map(k2, v2)) => equal_or_less_specific(k1, k2) && equal_or_less_specific(v1, v2),
        (a, b) => a == b || *b == Type::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read() {
        for (text, shown) in [
            ("list<T>", "list(T)"),
            ("map<string, list<int>>", "map(string, list(int))"),
            ("optional<kubernetes.NamedFormat>", "optional_type(kubernetes.NamedFormat)"),
        ] {
            assert_eq!(Type::read(text).to_string(), shown);
        }
    }

    #[test]
    fn variables_are_learned() {
        let mut mapping = Mapping::default();
        let signature = mapping.instantiate(&[&Type::read("list<A>"), &Type::read("A")]);
        assert!(mapping.assign_all(&signature, &[Type::list(Type::Int), Type::Int]));
        assert_eq!(mapping.substitute(&signature[1], true), Type::Int);
        let signature = mapping.instantiate(&[&Type::read("A"), &Type::read("A")]);
        assert!(!mapping.assign_all(&signature, &[Type::Int, Type::String]));
        let signature = mapping.instantiate(&[&Type::read("A"), &Type::read("A")]);
        assert!(mapping.assign_all(&signature, &[Type::Int, Type::Dyn]));
    }
}
