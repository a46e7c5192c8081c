//! The container runtime protocol.
