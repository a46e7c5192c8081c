//! Kernel settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::path::PathBuf;

use crate::{Error, Result};

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}

/// Reads a setting, such as `net/ipv4/ip_forward`.
pub fn read(key: &str) -> Result<String> {
    let path = path(key);
    Ok(fs::read_to_string(&path).map_err(Error::file(&path))?.trim().to_owned())
}

/// Writes a setting if it differs; says what it was.
pub fn write(key: &str, value: &str) -> Result<String> {
    let old = read(key)?;
    if old != value {
        let path = path(key);
        fs::write(&path, value).map_err(Error::file(&path))?;
    }
    Ok(old)
}

/// Writes a setting that some kernels lack, or that a read-only `/proc/sys` keeps as it is.
pub fn write_if_possible(key: &str, value: &str) {
    let _ = write(key, value);
}
