//! Runs a node's pods.

pub mod node_network;
