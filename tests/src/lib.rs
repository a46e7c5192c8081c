//! Tests of the whole: the laws of the workspace, simulations, clusters, upgrades.
