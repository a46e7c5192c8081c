//! The shape of a value and everything declared about it: one description for built-in kinds and custom resources.
//!
//! ```text
//! Struct ── fields ──> Field ── node ──> Node ── ty ──> Type ──> (leaf | List(Node) | Map(Node) | Struct)
//!  named, shared        JSON name,        what is declared
//!                       protobuf tag,     at this position:
//!                       presence, patch   facets
//! ```
//!
//! Built-ins are `static` data that the `Api` derive emits; a custom resource builds the same types at run time.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use crate::value::Value;

/// Text that is static for built-ins and owned for custom resources.
pub type Text = Cow<'static, str>;

/// Shared schema data: borrowed from the binary for built-ins, counted for custom resources.
#[derive(Debug)]
pub enum Ref<T: 'static> {
    Static(&'static T),
    Shared(Arc<T>),
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        match self {
            Ref::Static(t) => Ref::Static(t),
            Ref::Shared(t) => Ref::Shared(t.clone()),
        }
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Ref::Static(t) => t,
            Ref::Shared(t) => t,
        }
    }
}

/// A struct's description; the static form is a function so that types may refer to themselves.
#[derive(Clone)]
pub enum StructRef {
    Static(fn() -> &'static Struct),
    Shared(Arc<Struct>),
}

impl Deref for StructRef {
    type Target = Struct;
    fn deref(&self) -> &Struct {
        match self {
            StructRef::Static(f) => f(),
            StructRef::Shared(s) => s,
        }
    }
}

impl std::fmt::Debug for StructRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StructRef({})", self.name)
    }
}

/// A named object type: its fields in the order in which they are encoded.
#[derive(Debug, Clone)]
pub struct Struct {
    /// The OpenAPI definition name, such as `io.k8s.api.core.v1.PodSpec`; empty for a custom resource's inner objects.
    pub name: Text,
    pub doc: Text,
    pub fields: Cow<'static, [Field]>,
    /// Keep members that no field names (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// What an unnamed member must look like (`additionalProperties` beside `properties` never occurs; this is for
    /// embedded resources, whose apiVersion, kind and metadata are implied).
    pub embedded_resource: bool,
    /// Server-side apply treats a value of this type as one (`+structType=atomic`).
    pub atomic: bool,
}

/// What one field of a struct is called and how it is carried.
#[derive(Debug, Clone)]
pub struct Field {
    /// JSON name; empty for an inlined struct, whose fields appear among its parent's in JSON but nested in protobuf.
    pub name: Text,
    /// Protobuf field number; 0 when there is none (custom resources).
    pub tag: u32,
    /// Whether the zero value and absence differ (a pointer in Go, `Option` here).
    pub pointer: bool,
    /// When the JSON encoding leaves the field out.
    pub omit: Omit,
    /// Clients must give it.
    pub required: bool,
    pub patch: Patch,
    pub node: Node,
}

impl Field {
    pub fn is_inline(&self) -> bool {
        self.name.is_empty()
    }
}

/// When the JSON encoding leaves a field out (Go's `omitempty` and `omitzero`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    /// Always written: absence becomes `null`, `""`, `0`, `false` or an object of such.
    Never,
    /// Left out when false, 0, "", an empty list or map, or an absent pointer; a struct by value is still written.
    Empty,
    /// Like `Empty`, and a struct by value is left out when all of it is zero.
    Zero,
}

/// How strategic merge patch treats a field (`patchStrategy`, `patchMergeKey`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    pub merge: bool,
    pub retain_keys: bool,
    /// Said in so many words: a struct or map is replaced too, which otherwise merge member by member.
    pub replace: bool,
    pub merge_key: &'static str,
}

impl Patch {
    /// Replace as a whole: what a field without a strategy gets.
    pub const REPLACE: Patch = Patch { merge: false, retain_keys: false, replace: false, merge_key: "" };
}

/// One position in a shape: a type and what is declared about it there.
#[derive(Debug, Clone)]
pub struct Node {
    pub ty: Type,
    /// Absent when nothing is declared, which is the common case.
    pub facets: Option<Ref<Facets>>,
}

impl Node {
    pub const fn of(ty: Type) -> Node {
        Node { ty, facets: None }
    }

    pub fn facets(&self) -> &Facets {
        self.facets.as_deref().unwrap_or(&Facets::NONE)
    }
}

/// The type of a value.
#[derive(Debug, Clone)]
pub enum Type {
    Bool,
    Int32,
    Int64,
    /// `float64`; JSON integers are accepted and kept as they are.
    Double,
    String,
    /// `[]byte`: base64 text in JSON and in the tree, raw bytes in protobuf.
    Bytes,
    /// `resource.Quantity`: kept in canonical form.
    Quantity,
    /// `metav1.Time`: RFC 3339 with seconds.
    Time,
    /// `metav1.MicroTime`: RFC 3339 with microseconds.
    MicroTime,
    /// `metav1.Duration`: Go's text form, such as `1m30s`.
    Duration,
    IntOrString,
    /// Any JSON value, carried as `kind` says in protobuf.
    Any(AnyKind),
    List(Ref<Node>),
    /// String keys.
    Map(Ref<Node>),
    Struct(StructRef),
}

/// The protobuf form of an arbitrary JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyKind {
    /// `runtime.RawExtension`: message { 1: raw JSON }.
    RawExtension,
    /// `metav1.FieldsV1`: message { 1: raw JSON }.
    FieldsV1,
    /// `apiextensions.JSON`: message { 1: raw JSON }.
    Json,
    /// An object of the struct that has the field, or a list of such: message { 1: one, 2: many }.
    SelfOrList,
    /// An object of the struct that has the field, or a boolean: message { 1: boolean, 2: one }.
    SelfOrBool,
    /// An object of the struct that has the field, or a list of texts: message { 1: one, 2: texts }.
    SelfOrTexts,
    /// A custom resource's free value; has no protobuf form.
    Free,
}

/// How server-side apply and strategic merge see a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// What is declared about a value at one position (OpenAPI keywords and Kubernetes' extensions).
#[derive(Debug, Clone)]
pub struct Facets {
    pub doc: Text,
    pub default: Option<Literal>,
    pub enumeration: Cow<'static, [Text]>,
    pub format: Text,
    pub pattern: Text,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub nullable: bool,
    /// May be set once and never changed.
    pub immutable: bool,
    pub list_type: Option<ListType>,
    pub list_map_keys: Cow<'static, [Text]>,
    /// A map or struct that server-side apply treats as one value.
    pub atomic: bool,
    /// A struct that is not atomic here although its type is.
    pub granular: bool,
    /// `x-kubernetes-validations`, in order.
    pub rules: Cow<'static, [CelRule]>,
    /// `not`, `allOf`, `anyOf`, `oneOf`: value validation only, present in custom resources alone.
    pub junctors: Option<Arc<Junctors>>,
}

impl Facets {
    /// Nothing declared.
    pub const NONE: Facets = Facets {
        doc: Cow::Borrowed(""),
        default: None,
        enumeration: Cow::Borrowed(&[]),
        format: Cow::Borrowed(""),
        pattern: Cow::Borrowed(""),
        minimum: None,
        maximum: None,
        multiple_of: None,
        min_length: None,
        max_length: None,
        min_items: None,
        max_items: None,
        unique_items: false,
        min_properties: None,
        max_properties: None,
        nullable: false,
        immutable: false,
        list_type: None,
        list_map_keys: Cow::Borrowed(&[]),
        atomic: false,
        granular: false,
        rules: Cow::Borrowed(&[]),
        junctors: None,
    };
}

/// A default: JSON text in built-ins (it must be const), a tree in custom resources.
#[derive(Debug, Clone)]
pub enum Literal {
    Json(&'static str),
    Tree(Arc<Value>),
}

/// A numeric bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

/// One `x-kubernetes-validations` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct CelRule {
    pub rule: Text,
    pub message: Text,
    pub message_expression: Text,
    pub reason: Text,
    pub field_path: Text,
    pub optional_old_self: Option<bool>,
}

/// Logical combinations of value validations.
#[derive(Debug, Clone, Default)]
pub struct Junctors {
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Node>,
}

/// A Rust type that is an API type. Implemented by the derive and by the leaf types; never by hand for a struct.
///
/// The three directions agree with each other: `from_value(&to_value(x)) == x`, and `to_value` yields exactly the
/// members that the canonical JSON encoding of `x` would have before `Omit::Never` fills in zero values.
pub trait Api: Sized {
    /// The type at a position that holds this Rust type.
    const TYPE: Type;

    /// Reads a tree. Unknown members are ignored (strictness is the decoder's business), `null` is the zero value.
    fn from_value(value: &Value) -> Result<Self, Mismatch>;

    /// Writes a tree; `None` when the value is the zero value of a type whose zero is not written.
    fn to_value(&self) -> Value;

    /// Whether this is Go's zero value: `false`, 0, "", an empty list or map, `None`, a struct of such.
    fn is_zero(&self) -> bool;
}

/// A tree did not have the shape that a type wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where, innermost last, as JSON names and `[index]`.
    pub path: Vec<String>,
    /// What was wanted, as OpenAPI calls it.
    pub expected: &'static str,
    /// What was there.
    pub found: &'static str,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, got {}", self.path.join("."), self.expected, self.found)
    }
}

impl std::error::Error for Mismatch {}
