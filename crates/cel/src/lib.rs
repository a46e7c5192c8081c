//! The Common Expression Language with type checker, cost estimates and limits, and the Kubernetes libraries. Pure.
