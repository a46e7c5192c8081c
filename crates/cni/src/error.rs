//! Why a pod could not be attached, with the number the protocol gives to each cause.

use std::path::PathBuf;

/// The result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for a protocol version we do not speak.
    #[error("CNI version {0:?} is not supported, only 0.3.0 to 1.1.0 are")]
    Version(String),
    /// A field of the configuration is not supported.
    #[error("{0}")]
    UnsupportedField(String),
    /// There is no attachment of that container.
    #[error("container {0} has no attachment here")]
    UnknownContainer(String),
    /// An environment variable of the call is missing or wrong.
    #[error("environment variable {0}")]
    Environment(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// Something that should be JSON of a certain form is not.
    #[error("{what}: {source}")]
    Decode { what: String, source: serde_json::Error },
    /// The configuration makes no sense.
    #[error("network configuration: {0}")]
    Config(String),
    /// A range of addresses is used up.
    #[error("no free address in {0}: delete pods or enlarge the range")]
    NoFreeAddress(String),
    /// A wanted address is taken or outside all ranges.
    #[error("address {address}: {reason}")]
    Address { address: std::net::IpAddr, reason: String },
    /// The plugin cannot attach pods now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// What was found differs from what was set up.
    #[error("check failed: {0}")]
    Check(String),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] linux::netlink::Error),
    /// A foreign plugin answered with an error.
    #[error("plugin {plugin}: {message} (code {code}){}", if details.is_empty() { String::new() } else { format!(": {details}") })]
    Plugin { plugin: String, code: u32, message: String, details: String },
    /// A foreign plugin is not installed.
    #[error("plugin {name:?} is neither built in nor found in {}", paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    PluginMissing { name: String, paths: Vec<PathBuf> },
    /// A foreign plugin could not be run to its end.
    #[error("plugin {plugin}: {reason}")]
    PluginRun { plugin: String, reason: String },
}

impl Error {
    /// The number of the cause in the protocol.
    pub fn code(&self) -> u32 {
        match self {
            Error::Version(_) => 1,
            Error::UnsupportedField(_) => 2,
            Error::UnknownContainer(_) => 3,
            Error::Environment(_) => 4,
            Error::File { .. } => 5,
            Error::Decode { .. } => 6,
            Error::Config(_) => 7,
            Error::NotReady(_) => 50,
            Error::NoFreeAddress(_) => 11,
            Error::Plugin { code, .. } => *code,
            // Numbers from 100 on are a plugin's own.
            Error::Check(_) => 100,
            Error::Netlink(_) => 101,
            Error::Address { .. } => 102,
            Error::PluginMissing { .. } | Error::PluginRun { .. } => 103,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn decode(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Decode { what, source }
    }
}
