//! Makes services reachable: nftables maps, one transaction a change.
//!
//! Services, endpoints and the node are reduced to the small values of [`model`]; [`plan`] turns them into the ruleset
//! they ask for, a pure function; [`ruleset`] compares that with what is in the kernel and makes one batch of the
//! difference. [`run`](run()) wires it to the cluster.
//!
//! This crate must not know how objects are stored or served: it listens through `client`.
//!
//! Start reading at [`model`], then [`plan`].

pub mod apply;
pub mod health;
pub mod model;
pub mod objects;
pub mod plan;
pub mod ruleset;
pub mod run;
pub mod select;

pub use apply::{Applier, remove};
pub use model::{Endpoint, Node, Protocol, ServicePort, ServicePortName};
pub use plan::{Plan, TABLE, plan};
pub use run::{ProxyConfig, run};

/// Why the proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] linux::netlink::Error),
    /// A health check port could not be opened.
    #[error("health check port {port}: {source}")]
    HealthPort { port: u16, source: std::io::Error },
}

/// The result of a proxy operation.
pub type Result<T> = std::result::Result<T, Error>;
