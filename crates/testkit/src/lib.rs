//! What tests share: temporary folders, fake clocks, namespaces that clean up after themselves.

pub mod backend;

pub use backend::FakeBackend;
