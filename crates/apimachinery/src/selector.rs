//! Selectors: which objects a list, a watch or a controller means, by labels or by fields.

mod fields;
mod labels;

pub use fields::{FieldSelector, FieldTerm, field_text};
pub use labels::{LabelSelector, Operator, Requirement};

/// A selector that could not be read; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
