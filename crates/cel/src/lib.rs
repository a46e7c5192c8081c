//! The Common Expression Language with type checker, cost estimates and limits, and the Kubernetes libraries. Pure.
//!
//! ```text
//! text ─ lexer, parser (macros expand) ─> ast ─ checker (Env) ─> Program ─ interpreter (variables, budget) ─> Value
//!                                                                  └─ cost::estimate (sizes) ─> Estimate
//! ```
//!
//! It knows nothing of the host: objects are read through [`HostMap`] and [`HostList`], types come as [`Type`]s, sizes
//! through [`Sizes`], permissions through [`library::authz::Authorizer`]. Start reading at [`Program`].
//!
//! # Why
//!
//! The crates that exist interpret without checking types and without counting costs; Kubernetes refuses expressions at
//! creation for either.

pub mod ast;
mod checker;
pub mod cost;
mod interpreter;
mod lexer;
pub mod library;
mod macros;
mod opaque;
pub mod parser;
mod program;
mod source;
#[cfg(test)]
mod tests;
pub mod time;
pub mod types;
mod value;

pub use checker::Env;
pub use cost::{Estimate, Sizes};
pub use opaque::Opaque;
pub use program::{Program, Variables};
pub use source::{Issue, Issues};
pub use types::{Fields, Struct, Type};
pub use value::{Error, HostList, HostMap, Key, List, ListKind, Map, Value};
