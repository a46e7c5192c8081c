//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::Status;

/// Why a patch could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    BadPatch(String),
    /// The patch is well formed but does not fit this object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch has too many operations: 413.
    #[error("{0}")]
    TooLarge(String),
    /// What upstream reports as an internal error: 500.
    #[error("{0}")]
    Internal(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let text = error.to_string();
        match error {
            Error::BadPatch(_) => Status::bad_request(text),
            // Upstream's words, which clients match; they say nothing of the cause.
            Error::Unprocessable(_) => {
                Status::generic(422, "Invalid", "the server rejected our request due to an error in our request")
            }
            Error::TooLarge(_) => {
                Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {text}"))
            }
            Error::Internal(_) => Status::new(500, "", text),
        }
    }
}
