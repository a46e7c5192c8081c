//! A refused system call, with what was tried and the kernel's word for it as Kubernetes users know it.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// What functions of this crate's container half return.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused system call, or input that the kernel could not take.
#[derive(Debug)]
pub struct Error {
    what: String,
    source: io::Error,
}

impl Error {
    /// Input that no system call was tried with.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: Errno::EINVAL.into() }
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
    }

    /// What the kernel said.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, plain(&self.source))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The kernel's words in lower case and without number: `no such file or directory`.
pub fn plain(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return error.to_string() };
    let text = Errno::from_raw(number).desc();
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() && second != '/' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Says what was tried when a system call failed.
pub trait Context<T> {
    /// Adds what was tried.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error { what: what().into(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_go() {
        let text = |errno: Errno| plain(&io::Error::from(errno));
        assert_eq!(text(Errno::ENOENT), "no such file or directory");
        assert_eq!(text(Errno::EIO), "I/O error");
        let error = Err::<(), _>(Errno::EACCES).context(|| "exec: \"/x\"").unwrap_err();
        assert_eq!(error.to_string(), "exec: \"/x\": permission denied");
        assert_eq!(error.errno(), Errno::EACCES);
    }
}
