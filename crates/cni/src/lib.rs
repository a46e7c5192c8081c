//! Gives a pod a network: the plugins, and the runner for foreign ones.
