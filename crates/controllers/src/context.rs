//! What every controller is given.

use std::sync::Arc;

use client::{Client, Recorder};

use crate::shared::Shared;

/// What all controllers are told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificates that pods must trust to reach the API, as PEM.
    pub root_ca: String,
    /// Ranges of pod addresses; each node gets a part of each. None: nodes bring their own.
    pub cluster_cidrs: Vec<String>,
    /// The wall clock as RFC 3339 with seconds.
    pub now: fn() -> String,
}

/// A controller's own handle on the cluster.
#[derive(Clone)]
pub struct Context {
    /// Acts as the controller's service account.
    pub client: Client,
    /// Writes the controller's events.
    pub recorder: Recorder,
    pub config: Arc<Config>,
    /// Informers that several controllers need.
    pub shared: Arc<Shared>,
}

impl Context {
    pub(crate) fn new(name: &'static str, client: Client, config: Arc<Config>, shared: Arc<Shared>) -> Context {
        let client = client.with_manager(name);
        let recorder = Recorder::new(client.clone(), name, "", config.now);
        Context { client, recorder, config, shared }
    }
}
