//! What an object is: Schema and its interpreters, Object, Kind, Rules, Quantity, selectors, field errors, Status.
//!
//! No I/O, no async, no kind by name. An object travels as a [`Value`] tree whose shape a [`Struct`] describes;
//! everything the API server does to it (decode, default, prune, validate, merge, apply, encode, print) is one small
//! interpreter over that pair, the same for built-in kinds and for custom resources.
//!
//! Start reading at [`schema`], then [`kind`].

// The derive names this crate by its full path, inside it too.
extern crate self as apimachinery;

pub mod apply;
pub mod codec;
pub mod crd;
pub mod defaults;
pub mod derived;
pub mod discovery;
pub mod expressions;
pub mod field;
mod json_text;
pub mod jsonpath;
pub mod kind;
pub mod leaf;
mod lookup;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod prune;
pub mod quantity;
pub mod quote;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;
pub mod validate;
pub mod validation;
pub mod value;

pub use apimachinery_derive::Api;
pub use field::{Errors, FieldError, Path};
pub use kind::{Hooks, Kind, Rules, RulesCx};
pub use leaf::{Bytes, FieldsV1, IntOrString, Json, RawExtension};
pub use meta::ObjectMeta;
pub use names::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use quantity::Quantity;
pub use schema::{Api, Field, Node, Struct, Type};
pub use smol_str::SmolStr;
pub use status::Status;
pub use time::{Duration, MicroTime, Time};
pub use value::{Map, Value};
