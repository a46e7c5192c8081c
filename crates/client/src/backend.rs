//! The seam: a request as the API understands one, and who carries it.

use std::future::Future;
use std::pin::Pin;

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use bytes::Bytes;
use futures::Stream;

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

/// How a patch body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    /// Server-side apply; `force` and the field manager are in the query.
    Apply,
}

impl PatchKind {
    pub fn content_type(self) -> &'static str {
        match self {
            PatchKind::Json => "application/json-patch+json",
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
            PatchKind::Apply => "application/apply-patch+yaml",
        }
    }
}

/// The body of a request.
#[derive(Clone, Debug)]
pub enum Body {
    None,
    /// A whole object (create, update) or options (delete), with apiVersion and kind.
    Object(Value),
    Patch(PatchKind, Value),
}

/// Everything that HTTP would carry in the query string.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: u32,
    pub continue_token: String,
    pub field_manager: String,
    pub force: bool,
    pub dry_run: bool,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub resource: GroupVersionResource,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: SmolStr,
    pub name: SmolStr,
    pub subresource: SmolStr,
    pub query: Query,
    pub body: Body,
}

/// What happened to a watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

/// One event of a watch; the object is its JSON with resourceVersion.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    pub kind: EventKind,
    pub object: Bytes,
}

/// A boxed future, since backends are used behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Events until the server ends the watch; an error (such as 410 `Expired`) is the last item.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

/// A resource that the API serves, in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Served {
    pub resource: GroupVersionResource,
    pub kind: SmolStr,
    pub namespaced: bool,
    /// Can be listed, watched and deleted.
    pub collectable: bool,
    /// Can be deleted in whole collections.
    pub in_collections: bool,
}

/// Who carries requests: implemented over HTTPS here and in process by `apiserver::local`.
pub trait Backend: Send + Sync + 'static {
    /// Answers with the object (or list, or Status) as JSON.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Status>>;

    /// Starts a watch; `request.verb` is ignored. With an empty resourceVersion the stream opens with an ADDED event
    /// for every existing object and then a bookmark that carries the annotation `k8s.io/initial-events-end`.
    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>>;

    /// What is served now, custom resources included.
    fn resources(&self) -> BoxFuture<'_, Result<Vec<Served>, Status>>;
}
