//! The derive behind every API type: struct to Schema, tree to struct, struct to tree.
