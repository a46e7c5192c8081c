//! The HTTPS server of a node: logs, exec, attach, port-forward, statistics.
