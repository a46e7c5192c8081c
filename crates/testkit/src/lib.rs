//! What tests share: a fake cluster for components, a client and daemons for whole servers.

pub mod backend;
pub mod daemon;
pub mod kube;

pub use backend::FakeBackend;
pub use daemon::Daemon;
pub use kube::Kube;
