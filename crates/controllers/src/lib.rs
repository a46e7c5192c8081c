//! Makes the observed cluster the desired one: one file or folder a controller.
//!
//! [`CONTROLLERS`] is the table. A controller is one function that runs until its task ends: it starts informers of
//! projections (or takes a shared one from its [`Context`]), feeds a [`client::Queue`] of keys, and reconciles one key
//! at a time with [`client::run_workers`]. Each acts as its own service account in `kube-system` with the role that
//! upstream gives it. To add one, write its file and its line in the table.
//!
//! Start reading at [`root_ca`], the smallest.

pub mod certificates;
mod context;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoints;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod policy_status;
pub mod protection;
pub mod replicaset;
pub mod resource_quota;
pub mod role_aggregation;
pub mod root_ca;
pub mod service_account;
pub mod service_account_tokens;
mod shared;
pub mod slice_mirroring;
pub mod statefulset;
pub mod taint_eviction;
pub mod ttl_after_finished;
pub mod workload;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

pub use context::{Config, Context};
pub use shared::{NodeView, Owner, PodView, Shared};

/// A controller as the table knows it.
pub struct Controller {
    /// Its name in logs and in `source.component` of events; also the service account it acts as.
    pub name: &'static str,
    /// Runs it until the task is ended.
    pub run: fn(Context) -> BoxFuture<'static, ()>,
}

/// Every controller.
pub const CONTROLLERS: &[Controller] = &[
    Controller { name: "root-ca-cert-publisher", run: |cx| root_ca::run(cx).boxed() },
    Controller { name: "certificate-controller", run: |cx| certificates::approve::run(cx).boxed() },
    Controller { name: "certificate-controller", run: |cx| certificates::sign::run(cx).boxed() },
    Controller { name: "certificate-controller", run: |cx| certificates::clean::run(cx).boxed() },
    Controller { name: "podcertificaterequestcleaner", run: |cx| certificates::clean::run_of_pods(cx).boxed() },
    Controller {
        name: "kube-apiserver-serving-clustertrustbundle-publisher",
        run: |cx| certificates::publish::run(cx).boxed(),
    },
    Controller { name: "cronjob-controller", run: |cx| cronjob::run(cx).boxed() },
    Controller { name: "daemon-set-controller", run: |cx| daemonset::run(cx).boxed() },
    Controller { name: "node-controller", run: |cx| node_ipam::run(cx).boxed() },
    Controller { name: "node-controller", run: |cx| node_lifecycle::run(cx).boxed() },
    Controller { name: "node-controller", run: |cx| taint_eviction::run(cx).boxed() },
    Controller { name: "namespace-controller", run: |cx| namespace::run(cx).boxed() },
    Controller { name: "generic-garbage-collector", run: |cx| garbage::run(cx).boxed() },
    Controller { name: "endpointslicemirroring-controller", run: |cx| slice_mirroring::run(cx).boxed() },
    Controller { name: "disruption-controller", run: |cx| disruption::run(cx).boxed() },
    Controller { name: "resourcequota-controller", run: |cx| resource_quota::run(cx).boxed() },
    Controller { name: "pvc-protection-controller", run: |cx| protection::run_claims(cx).boxed() },
    Controller { name: "pv-protection-controller", run: |cx| protection::run_volumes(cx).boxed() },
    Controller { name: "volumeattributesclass-protection-controller", run: |cx| protection::run_classes(cx).boxed() },
    Controller { name: "validatingadmissionpolicy-status-controller", run: |cx| policy_status::run(cx).boxed() },
    Controller { name: "pod-garbage-collector", run: |cx| pod_gc::run(cx).boxed() },
    Controller { name: "clusterrole-aggregation-controller", run: |cx| role_aggregation::run(cx).boxed() },
    Controller { name: "service-account-controller", run: |cx| service_account::run(cx).boxed() },
    Controller { name: "tokens-controller", run: |cx| service_account_tokens::run(cx).boxed() },
    Controller { name: "endpointslice-controller", run: |cx| endpoint_slice::run(cx).boxed() },
    Controller { name: "endpoint-controller", run: |cx| endpoints::run(cx).boxed() },
    Controller { name: "deployment-controller", run: |cx| deployment::run(cx).boxed() },
    Controller { name: "job-controller", run: |cx| job::run(cx).boxed() },
    Controller { name: "replicaset-controller", run: |cx| replicaset::run(cx).boxed() },
    Controller { name: "replication-controller", run: |cx| replicaset::run_replication(cx).boxed() },
    Controller { name: "statefulset-controller", run: |cx| statefulset::run(cx).boxed() },
    Controller { name: "ttl-after-finished-controller", run: |cx| ttl_after_finished::run(cx).boxed() },
];

/// Starts every controller. `client_of` gives the client of a user; the tasks end with the set.
pub fn start(tasks: &mut JoinSet<()>, client_of: &dyn Fn(&str) -> client::Client, config: Config) {
    let config = std::sync::Arc::new(config);
    let shared = std::sync::Arc::new(Shared::new(client_of("system:kube-controller-manager")));
    for controller in CONTROLLERS {
        let client = client_of(&format!("system:serviceaccount:kube-system:{}", controller.name));
        let cx = Context::new(controller.name, client, config.clone(), shared.clone());
        tasks.spawn((controller.run)(cx));
    }
}

/// Whether a write was refused because its namespace is ending.
fn ends(status: &apimachinery::Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}
