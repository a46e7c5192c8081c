//! Bytes to trees and back, by Schema: JSON, YAML, protobuf.
//!
//! A tree is in normal form when it has no zero values that Go's round trip would lose and every leaf is canonical;
//! [`normalize()`] brings it there, [`json::encode`] and [`proto::encode_object`] start from there.

pub mod json;
mod normalize;
pub mod proto;
pub mod yaml;

pub use normalize::normalize;

use crate::meta;
use crate::schema::Struct;

/// Why bytes are not an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Error {
        Error(text.into())
    }
}

/// Deepest nesting of lists and objects that is read.
pub const MAX_DEPTH: usize = 500;

pub fn status_schema() -> &'static Struct {
    meta::Status::schema()
}

pub fn partial_metadata_schema() -> &'static Struct {
    meta::PartialObjectMetadata::schema()
}

pub fn partial_metadata_list_schema() -> &'static Struct {
    meta::PartialObjectMetadataList::schema()
}

pub fn delete_options_schema() -> &'static Struct {
    meta::DeleteOptions::schema()
}
