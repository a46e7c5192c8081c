//! Keeps containers: images, snapshots, sandboxes, shim; serves the container runtime protocol.
