//! Who asks, and the seams through which the engine is told what it must not know.

use std::sync::Arc;

use apimachinery::{Kind, SmolStr, Status, Value};
use bytes::Bytes;

/// A boxed future, since seams are used behind `dyn`.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: SmolStr,
    pub uid: SmolStr,
    pub groups: Vec<SmolStr>,
    pub extra: Vec<(SmolStr, Vec<SmolStr>)>,
}

/// One request's circumstances.
#[derive(Clone, Debug, Default)]
pub struct Cx {
    pub user: Arc<User>,
    /// Sentences for the `Warning` header, gathered on the way.
    pub warnings: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Cx {
    pub fn new(user: Arc<User>) -> Cx {
        Cx { user, warnings: Arc::default() }
    }

    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

/// What a write does, as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// The word of AdmissionReview.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A write on its way through admission.
pub struct Attributes<'a> {
    pub cx: &'a Cx,
    pub operation: Operation,
    pub kind: &'a Arc<Kind>,
    pub namespace: &'a str,
    /// Empty while a generated name is not made yet.
    pub name: &'a str,
    pub subresource: &'a str,
    /// The new object; `Null` for a delete. Mutating admission changes it.
    pub object: &'a mut Value,
    /// The object as stored before; absent for a create.
    pub old: Option<&'a Value>,
    /// The options of the request as a tree with apiVersion and kind (CreateOptions, UpdateOptions, ...).
    pub options: &'a Value,
    pub dry_run: bool,
    /// Writes that must become true together with this one: reservations of addresses, ports, quota.
    pub reservations: &'a mut Reservations,
}

/// Further compares and puts for the transaction that carries a write.
#[derive(Clone, Default)]
pub struct Reservations {
    pub compares: Vec<store::Compare>,
    pub operations: Vec<store::Op>,
}

/// What looks at other objects before a write: the built-in plugins, policies, webhooks.
pub trait Admission: Send + Sync {
    /// May change the object.
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>>;

    /// May only refuse. Runs after validation, as the last step before the transaction.
    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>>;
}

/// Turns an object of one version of a resource into another. Asynchronous, since a webhook may be asked.
pub trait Converter: Send + Sync {
    fn convert<'a>(&'a self, object: Value, from: &'a Kind, to: &'a Kind) -> BoxFuture<'a, Result<Value, Status>>;
}

/// Seals the values of sensitive resources at rest.
pub trait Sealer: Send + Sync {
    /// Whether values under this storage prefix are sealed when written.
    fn seals(&self, prefix: &str) -> bool;

    /// `key` binds the value to its place. Returns the key id and the sealed bytes.
    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<(u32, Vec<u8>), Status>;

    fn open(&self, key: &[u8], key_id: u32, sealed: &[u8]) -> Result<Bytes, Status>;
}

/// Wall clock: seconds since 1970 and nanoseconds.
pub trait Clock: Send + Sync {
    fn now(&self) -> (i64, u32);
}

/// Neither changes nor refuses anything: for tests of the engine itself.
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn mutate<'a>(&'a self, _: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
    fn validate<'a>(&'a self, _: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

/// Versions of a resource that share one shape: only apiVersion and kind change.
pub struct SameShape;

impl Converter for SameShape {
    fn convert<'a>(&'a self, mut object: Value, _: &'a Kind, to: &'a Kind) -> BoxFuture<'a, Result<Value, Status>> {
        if let Value::Map(map) = &mut object {
            map.insert("apiVersion", to.group_version().to_string());
            map.insert("kind", &*to.kind);
        }
        Box::pin(async { Ok(object) })
    }
}

/// Seals nothing.
pub struct Unsealed;

impl Sealer for Unsealed {
    fn seals(&self, _: &str) -> bool {
        false
    }
    fn seal(&self, _: &[u8], _: &[u8]) -> Result<(u32, Vec<u8>), Status> {
        Err(Status::internal("no sealing key is configured"))
    }
    fn open(&self, _: &[u8], key_id: u32, _: &[u8]) -> Result<Bytes, Status> {
        Err(Status::internal(format!("no sealing key {key_id} is configured")))
    }
}
