//! Gives a pod its node: one file a plugin.
