//! What may happen to an object: verbs, catalogue, lists, watches, over a store. Names no kind, knows no HTTP.
//!
//! ```text
//! catalog ── which kinds there are         cx ── who asks, and the seams (admission, conversion, sealing)
//! verbs:   read ── get, list               write ── create, update, patch: one path, named steps
//!          delete ── delete, deletecollection
//! feed ── one watch on the store fills every Cache; Cache ── index, event ring, watchers of one prefix
//! stored ── the form of a value at rest    twin ── protobuf forms of what is cached
//! ```
//!
//! Laws: stored bytes never hold a resourceVersion (the store's revision is spliced in on the way out); a write goes
//! through the named steps of `write.rs` in their order, whoever asks; no lock is held across an await.

pub mod cache;
pub mod catalog;
pub mod cx;
pub mod decode;
mod delete;
mod evolve;
mod feed;
mod metadata;
mod options;
mod read;
pub mod scale;
pub mod stored;
mod twin;
pub mod watch;
mod write;

use std::sync::Arc;

use apimachinery::Status;
use store::Store;

pub use cache::{Change, Entry, Event};
pub use catalog::{Catalog, Resource};
pub use cx::{Admission, Attributes, Clock, Converter, Cx, Operation, Sealer, User};
pub use delete::Deleted;
pub use metadata::generate_name;
pub use options::{
    DeleteOptions, ListOptions, Patch, PatchType, Preconditions, Propagation, ResourceVersionMatch, Target, Validation,
    WatchOptions, WriteOptions,
};
pub use read::Page;
pub use stored::Object;
pub use twin::Twin;
pub use watch::{Notice, Watch};
pub use write::Written;

/// The parts that differ between a server, a test and a benchmark.
pub struct Config {
    pub store: Arc<dyn Store>,
    pub admission: Arc<dyn Admission>,
    pub converter: Arc<dyn Converter>,
    pub sealer: Arc<dyn Sealer>,
    pub clock: Arc<dyn Clock>,
    /// What is served from the start; more comes and goes through [`Engine::catalog`].
    pub resources: Vec<Resource>,
}

/// The engine: one for all kinds.
pub struct Engine {
    store: Arc<dyn Store>,
    admission: Arc<dyn Admission>,
    converter: Arc<dyn Converter>,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Clock>,
    catalog: Catalog,
    feed: feed::Feed,
    twins: twin::Twins,
}

impl Engine {
    /// Starts the engine over a store: begins to follow the store's changes on a task of its own.
    pub async fn start(config: Config) -> Result<Arc<Engine>, Status> {
        // A stored key is taken apart by the prefixes that are known.
        let prefixes = config.resources.iter().map(|r| r.prefix.clone()).filter(|p| !p.is_empty()).collect();
        let catalog = Catalog::default();
        catalog.insert_all(config.resources).map_err(Status::internal)?;
        let feed = feed::Feed::start(config.store.clone(), config.sealer.clone(), prefixes).await?;
        Ok(Arc::new(Engine {
            store: config.store,
            admission: config.admission,
            converter: config.converter,
            sealer: config.sealer,
            clock: config.clock,
            catalog,
            feed,
            twins: twin::Twins::default(),
        }))
    }

    /// Which kinds there are; kinds are added and removed through it.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What looks at other objects before a write, for requests that connect instead of writing.
    pub fn admission(&self) -> &Arc<dyn Admission> {
        &self.admission
    }

    /// The store beneath, for health checks and maintenance.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The wall clock that objects get their times from, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now().0
    }

    /// The revision of the newest change that lists and watches show.
    pub fn revision(&self) -> i64 {
        self.feed.revision()
    }
}

/// A store error as clients see it.
pub(crate) fn store_error(error: store::Error) -> Status {
    if error.is_compacted() {
        return Status::expired(error.to_string());
    }
    Status::internal(error)
}
