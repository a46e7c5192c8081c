//! Answers the names of the cluster.
