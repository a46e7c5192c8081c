//! How things lie in the log: keys by kind and order, records with a format byte.
//!
//! ```text
//! 'r' revision(8) position(4)   a change: format, create, version, lease, key length, key, value
//! 's' key                       a volatile key as of the last snapshot: its revision, then as above
//! 'l' lease(8)                  a lease: seconds
//! 'm' name                      one number or list: compacted, ceiling, clean, gaps
//! ```

use bytes::{Buf, Bytes};

use crate::error::Error;
use crate::index::Version;

pub(crate) const CHANGES: u8 = b'r';
pub(crate) const SNAPSHOT: u8 = b's';
pub(crate) const LEASES: u8 = b'l';

/// The revision compacted up to.
pub(crate) const COMPACTED: &[u8] = b"mcompacted";
/// No revision above this one has been given.
pub(crate) const CEILING: &[u8] = b"mceiling";
/// The newest revision at a clean stop; absent while the store is open.
pub(crate) const CLEAN: &[u8] = b"mclean";
/// Ranges of revisions that were skipped after unclean stops, as pairs.
pub(crate) const GAPS: &[u8] = b"mgaps";

const FORMAT: u8 = 1;

/// A change as read from the log.
pub(crate) struct Record {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
}

pub(crate) fn change_key(revision: i64, sub: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = CHANGES;
    key[1..9].copy_from_slice(&revision.to_be_bytes());
    key[9..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// Takes a change's key apart.
pub(crate) fn parse_change_key(key: &[u8]) -> Option<(i64, u32)> {
    let key: &[u8; 13] = key.try_into().ok()?;
    let revision = i64::from_be_bytes(key[1..9].try_into().ok()?);
    Some((revision, u32::from_be_bytes(key[9..].try_into().ok()?)))
}

pub(crate) fn snapshot_key(key: &[u8]) -> Vec<u8> {
    [&[SNAPSHOT], key].concat()
}

pub(crate) fn lease_key(id: i64) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = LEASES;
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

pub(crate) fn encode(key: &[u8], version: &Version, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 24 + 4 + key.len() + value.len());
    out.push(FORMAT);
    for number in [version.create_revision, version.version, version.lease] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Record, Error> {
    let damaged = || Error::Corrupt("a record of the log does not parse".to_owned());
    let mut rest = bytes;
    if rest.len() < 29 || rest.get_u8() != FORMAT {
        return Err(damaged());
    }
    let (create_revision, version, lease) = (rest.get_i64(), rest.get_i64(), rest.get_i64());
    let length = rest.get_u32() as usize;
    if length == 0 || length > rest.len() {
        return Err(damaged());
    }
    let (key, value) = rest.split_at(length);
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    Ok(Record { key, value, create_revision, version, lease })
}

pub(crate) fn numbers(bytes: &[u8]) -> Result<Vec<i64>, Error> {
    if !bytes.len().is_multiple_of(8) {
        return Err(Error::Corrupt("a number of the log does not parse".to_owned()));
    }
    Ok(bytes.chunks_exact(8).map(|mut chunk| chunk.get_i64()).collect())
}

pub(crate) fn encode_numbers(numbers: impl IntoIterator<Item = i64>) -> Vec<u8> {
    numbers.into_iter().flat_map(i64::to_be_bytes).collect()
}
