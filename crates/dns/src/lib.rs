//! Answers the names of the cluster.
//!
//! [`records::Records`] holds what the cluster's services, endpoints and namespaces mean as names, [`answer::answer`]
//! answers a question from it, a pure function that follows the Kubernetes DNS specification 1.1.0; [`server`] speaks
//! the protocol over UDP and TCP; [`forward`] asks the resolvers of the host about all other names.
//!
//! This crate must not know how objects are stored or served: it listens through `client`.
//!
//! Start reading at [`answer`].

pub mod answer;
pub mod forward;
pub mod objects;
pub mod records;
pub mod run;
pub mod server;

pub use answer::{Answer, answer};
pub use forward::Forwarder;
pub use records::{EndpointAddress, Records, Service, ServicePort};
pub use run::{DnsConfig, Publication, USER, publish, run};
pub use server::{Server, ServerConfig};

/// Why the server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address could not be listened on.
    #[error("listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    /// The cluster's domain is no domain name.
    #[error("{0:?} is not a domain name")]
    Domain(String),
}

/// The result of a server operation.
pub type Result<T> = std::result::Result<T, Error>;
