//! Why a container could not be made, in the words that users of other runtimes know.

use std::path::PathBuf;

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification cannot be carried out.
    #[error("invalid specification: {0}")]
    Spec(String),
    /// A file of the bundle cannot be read.
    #[error("{}: {reason}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    /// The container's process could not come up; the text is its own.
    #[error("unable to start container process: {0}")]
    Process(String),
    /// The program cannot be executed.
    #[error("{0}")]
    Program(String),
}

impl Error {
    pub(crate) fn spec(what: impl Into<String>) -> Self {
        Error::Spec(what.into())
    }
}
