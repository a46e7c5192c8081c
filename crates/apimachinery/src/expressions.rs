//! Objects as expressions see them: values read in place, types and sizes from schemas, rules of custom resources.
//!
//! ```text
//! tree ──── any tree as values, and back        typed ─── a tree as its schema means it
//! declare ─ types and sizes from a schema        rules ─── `x-kubernetes-validations`: compiled, checked, evaluated
//! names ─── which field stands behind an escaped name
//! ```

mod check;
mod declare;
mod names;
mod rules;
#[cfg(test)]
mod tests;
mod tree;
mod typed;

pub(crate) use check::check_rules;
pub use declare::Decl;
pub use rules::{Outcome, Validator};
pub use tree::{of_type, to_tree, value};

/// The type of objects of a kind, for checks of expressions about them.
pub fn type_of(kind: &crate::kind::Kind) -> cel::Type {
    declare::whole(&kind.schema, &kind.kind)
}

/// What one expression may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one object, or of one policy with one binding, may cost.
pub const BUDGET: u64 = 10_000_000;
/// What the match conditions of one webhook or policy may cost.
pub const MATCH_BUDGET: u64 = 2_500_000;
/// The largest request that estimates reckon with, in bytes.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
