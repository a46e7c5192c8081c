//! Who may ask and in which tongue: TLS, HTTP, authentication, authorization, admission, discovery, OpenAPI, CRDs.
//!
//! Start reading at [`pipeline`]: one function, read downwards, is the life of a request. `resource.rs` is what a verb
//! on a resource does; `local.rs` is the same road for components in this process.

pub mod admission;
pub mod aggregation;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod connect;
pub mod convert;
pub mod crd;
mod discovery;
mod eviction;
mod health;
pub mod http;
pub mod join;
pub mod local;
mod openapi;
mod options;
pub mod pipeline;
pub mod request;
mod resource;
mod respond;
mod routes;
pub mod seal;
pub mod server;
mod subresource;
mod tree;
mod watch;
pub mod webhook;

pub use server::{ApiServer, Config};
