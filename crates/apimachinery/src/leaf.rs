//! The types that a tree's leaves are read into, and the containers around them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::schema::{AnyKind, Api, Mismatch, Node, Ref, Type};
use crate::value::{Map, Value};

macro_rules! scalar {
    ($rust:ty, $type:ident, $word:literal, $pattern:pat => $read:expr, $self:ident => $write:expr, $zero:expr) => {
        impl Api for $rust {
            const TYPE: Type = Type::$type;

            fn from_value(value: &Value) -> Result<Self, Mismatch> {
                match value {
                    $pattern => Ok($read),
                    Value::Null => Ok(<$rust>::default()),
                    other => Err(Mismatch::new($word, other)),
                }
            }

            fn to_value(&self) -> Value {
                let $self = self;
                $write
            }

            fn is_zero(&self) -> bool {
                *self == $zero
            }
        }
    };
}

scalar!(bool, Bool, "boolean", Value::Bool(b) => *b, s => Value::Bool(*s), false);
scalar!(i64, Int64, "integer", Value::Int(i) => *i, s => Value::Int(*s), 0);
scalar!(String, String, "string", Value::String(t) => t.to_string(), s => Value::String(s.as_str().into()), "");

impl Api for i32 {
    const TYPE: Type = Type::Int32;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Int(i) => i32::try_from(*i).map_err(|_| Mismatch::new("32-bit integer", value)),
            Value::Null => Ok(0),
            other => Err(Mismatch::new("integer", other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Api for f64 {
    const TYPE: Type = Type::Double;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Float(x) => Ok(*x),
            Value::Int(i) => Ok(*i as f64),
            Value::Null => Ok(0.0),
            other => Err(Mismatch::new("number", other)),
        }
    }

    fn to_value(&self) -> Value {
        // Go prints a whole float without a fraction, and reads it back as one.
        if self.fract() == 0.0 && self.abs() < 9e15 { Value::Int(*self as i64) } else { Value::Float(*self) }
    }

    fn is_zero(&self) -> bool {
        *self == 0.0
    }
}

impl<T: Api> Api for Option<T> {
    const TYPE: Type = T::TYPE;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_value)
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

impl<T: Api> Api for Box<T> {
    const TYPE: Type = T::TYPE;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        T::from_value(value).map(Box::new)
    }

    fn to_value(&self) -> Value {
        T::to_value(self)
    }

    fn is_zero(&self) -> bool {
        T::is_zero(self)
    }
}

/// The node of a container's elements, as a static.
struct Element<T>(PhantomData<T>);

impl<T: Api> Element<T> {
    const NODE: &'static Node = &Node { ty: T::TYPE, facets: None };
}

impl<T: Api> Api for Vec<T> {
    const TYPE: Type = Type::List(Ref::Static(Element::<T>::NODE));

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| T::from_value(item).map_err(|m| m.below(&format!("[{i}]"))))
                .collect(),
            Value::Null => Ok(Vec::new()),
            other => Err(Mismatch::new("array", other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(T::to_value).collect())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Api> Api for BTreeMap<String, T> {
    const TYPE: Type = Type::Map(Ref::Static(Element::<T>::NODE));

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Map(map) => {
                map.iter().map(|(k, v)| Ok((k.to_string(), T::from_value(v).map_err(|m| m.below(k))?))).collect()
            }
            Value::Null => Ok(BTreeMap::new()),
            other => Err(Mismatch::new("object", other)),
        }
    }

    fn to_value(&self) -> Value {
        // The keys come sorted, so this is one pass.
        Value::Map(self.iter().map(|(k, v)| (k.as_str().into(), v.to_value())).collect::<Map>())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// `[]byte`: base64 text in the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Api for Bytes {
    const TYPE: Type = Type::Bytes;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::String(text) => {
                // Go's decoder skips line breaks.
                let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                STANDARD.decode(text).map(Bytes).map_err(|_| Mismatch {
                    path: vec![],
                    expected: "base64",
                    found: "string",
                })
            }
            Value::Null => Ok(Bytes::default()),
            other => Err(Mismatch::new("string", other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(STANDARD.encode(&self.0).into())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// A number or a text, such as a port or a percentage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        IntOrString::Int(0)
    }
}

impl IntOrString {
    /// The number meant by a count out of `total`: itself, or a percentage rounded up or down.
    /// `None` when the text is no percentage.
    pub fn scaled(&self, total: i32, round_up: bool) -> Option<i32> {
        match self {
            IntOrString::Int(n) => Some(*n),
            IntOrString::String(text) => {
                let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
                let product = percent * i64::from(total);
                let value = if round_up {
                    product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
                } else {
                    product.div_euclid(100)
                };
                i32::try_from(value).ok()
            }
        }
    }
}

impl std::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IntOrString::Int(n) => write!(f, "{n}"),
            IntOrString::String(s) => f.write_str(s),
        }
    }
}

impl Api for IntOrString {
    const TYPE: Type = Type::IntOrString;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Int(i) => {
                i32::try_from(*i).map(IntOrString::Int).map_err(|_| Mismatch::new("32-bit integer", value))
            }
            Value::String(s) => Ok(IntOrString::String(s.to_string())),
            Value::Null => Ok(IntOrString::default()),
            other => Err(Mismatch::new("integer or string", other)),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            IntOrString::Int(n) => Value::Int(i64::from(*n)),
            IntOrString::String(s) => Value::String(s.as_str().into()),
        }
    }

    /// Written always: Go's type writes itself, and has no zero value that JSON leaves out.
    fn is_zero(&self) -> bool {
        false
    }
}

macro_rules! any {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name(pub Value);

        impl Api for $name {
            const TYPE: Type = Type::Any(AnyKind::$kind);

            fn from_value(value: &Value) -> Result<Self, Mismatch> {
                Ok($name(value.clone()))
            }

            fn to_value(&self) -> Value {
                self.0.clone()
            }

            fn is_zero(&self) -> bool {
                self.0.is_null()
            }
        }
    };
}

any!(
    /// Any object, carried as it is (`runtime.RawExtension`).
    RawExtension,
    RawExtension
);
any!(
    /// A set of fields (`metav1.FieldsV1`).
    FieldsV1,
    FieldsV1
);
any!(
    /// Any JSON value (`apiextensions.JSON`).
    Json,
    Json
);
any!(
    /// An object like the one that holds it, or a list of such (`JSONSchemaPropsOrArray`).
    SelfOrList,
    SelfOrList
);
any!(
    /// An object like the one that holds it, or a boolean (`JSONSchemaPropsOrBool`).
    SelfOrBool,
    SelfOrBool
);
any!(
    /// An object like the one that holds it, or a list of texts (`JSONSchemaPropsOrStringArray`).
    SelfOrTexts,
    SelfOrTexts
);
