//! What can go wrong while keeping containers, with the gRPC code that each kind of failure answers.

use std::io;
use std::path::PathBuf;

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong while keeping containers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was named does not exist.
    #[error("{what} {id:?} not found")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// The request cannot be carried out as it is.
    #[error("{0}")]
    Invalid(String),
    /// The thing is in a state that does not allow it.
    #[error("{0}")]
    State(String),
    /// What was to be made exists.
    #[error("{0}")]
    Exists(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// This runtime does not do that.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The host or a peer is not ready.
    #[error("{0}")]
    Unavailable(String),
    /// An image or archive is damaged or hostile.
    #[error("corrupt image: {0}")]
    Corrupt(String),
    /// A registry refused or failed.
    #[error("registry {host}: {reason}")]
    Registry {
        /// The registry.
        host: String,
        /// What it said.
        reason: String,
    },
    /// A file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused an operation.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A container could not be made, or its program not be run.
    #[error("{0}")]
    Start(String),
    /// The shim of a pod failed.
    #[error("shim: {0}")]
    Shim(String),
    /// The pod network failed.
    #[error("network: {0}")]
    Network(#[from] cni::Error),
    /// A connection failed.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// Something broke that should not.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Names the file an I/O error is about.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { path, source }
    }

    /// Names what was tried when an operating system call failed.
    pub fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source: source.into() }
    }

    /// Whether what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => tonic::Status::not_found(text),
            Error::Invalid(_) | Error::Corrupt(_) => tonic::Status::invalid_argument(text),
            Error::State(_) => tonic::Status::failed_precondition(text),
            Error::Exists(_) => tonic::Status::already_exists(text),
            Error::Timeout(_) => tonic::Status::deadline_exceeded(text),
            Error::Unsupported(_) => tonic::Status::unimplemented(text),
            Error::Unavailable(_) => tonic::Status::unavailable(text),
            _ => tonic::Status::unknown(text),
        }
    }
}

/// Runs blocking work away from the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a task failed: {error}"))),
    }
}
