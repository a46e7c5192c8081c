//! The API server put together.

use std::sync::Arc;

use apimachinery::{Kind, Status};
use engine::{Clock, Engine};

use crate::authn::Authenticator;
use crate::authz::Authorizer;

/// What an API server is made of.
pub struct Config {
    pub engine: Arc<Engine>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub clock: Arc<dyn Clock>,
    /// Kinds that are never served at a path of their own, only as bodies of subresources (Scale, Eviction, ...).
    pub body_kinds: Vec<Kind>,
    /// `host:port` under which clients reach this server, for plain discovery.
    pub advertised: String,
}

/// One API server: everything that a request needs, shared by all of them.
pub struct ApiServer {
    pub engine: Arc<Engine>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub clock: Arc<dyn Clock>,
    body_kinds: Vec<Arc<Kind>>,
    pub(crate) advertised: String,
    pub connector: crate::connect::Connector,
    pub aggregation: crate::aggregation::Aggregation,
    pub gates: crate::join::Gates,
    pub(crate) openapi: crate::openapi::Cache,
    pub(crate) health: crate::health::Health,
}

impl ApiServer {
    pub fn new(config: Config) -> Arc<ApiServer> {
        Arc::new(ApiServer {
            engine: config.engine,
            authenticator: config.authenticator,
            authorizer: config.authorizer,
            clock: config.clock,
            body_kinds: config.body_kinds.into_iter().map(Arc::new).collect(),
            advertised: config.advertised,
            connector: Default::default(),
            aggregation: Default::default(),
            gates: Default::default(),
            openapi: Default::default(),
            health: Default::default(),
        })
    }

    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now().0
    }

    /// Every served kind, by group, resource and version preference.
    pub(crate) fn served_kinds(&self) -> Vec<Arc<Kind>> {
        self.engine.catalog().all().iter().flat_map(|r| r.versions.iter().cloned()).collect()
    }

    /// A kind that is the body of a subresource.
    pub(crate) fn body_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Kind>> {
        let is = |k: &&Arc<Kind>| k.group == group && k.version == version && k.kind == kind;
        self.body_kinds.iter().find(is).cloned().or_else(|| self.engine.catalog().by_kind(group, version, kind))
    }

    /// Says that bootstrap objects and in-process parts are there: `/readyz` answers 200 from now on.
    pub fn set_ready(&self) {
        self.health.set_ready();
    }

    /// Whether the store answers.
    pub(crate) async fn store_answers(&self) -> Result<(), Status> {
        self.engine.store().read_revision().await.map(|_| ()).map_err(Status::internal)
    }
}
