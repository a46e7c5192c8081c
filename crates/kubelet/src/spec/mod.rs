//! Turns a pod into what the container runtime is told.
