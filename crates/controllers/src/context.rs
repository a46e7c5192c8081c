//! What every controller is given.

use std::sync::Arc;

use client::{Client, Recorder};

use crate::shared::Shared;

/// What all controllers are told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificates that pods must trust to reach the API, as PEM.
    pub root_ca: String,
    /// Who signs requests for certificates.
    pub authorities: crate::certificates::Authorities,
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
    /// Lists and watches anything, as `system:kube-controller-manager`: upstream's roles leave it to that user.
    pub watcher: Client,
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
        let watcher = shared.client().clone();
        Context { client, watcher, recorder, config, shared }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// A context over a fake cluster; the wall clock stands at 2026-01-01T00:00:00Z.
    pub(crate) fn context(backend: &testkit::FakeBackend) -> Context {
        let start = std::time::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let authority = || Arc::new(pki::Ca::generate("test", Duration::from_secs(400 * 86_400), start).unwrap());
        let config = Config {
            root_ca: String::new(),
            authorities: crate::certificates::Authorities { clients: authority(), servers: authority() },
            cluster_cidrs: Vec::new(),
            now: || "2026-01-01T00:00:00Z".into(),
        };
        Context::new("test", backend.client(), Arc::new(config), Arc::new(Shared::new(backend.client())))
    }

    /// Waits until something holds.
    pub(crate) async fn eventually(holds: impl Fn() -> bool) {
        for _ in 0..500 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come true within 5 seconds");
    }
}
