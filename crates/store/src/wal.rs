//! Reads RocksDB's write-ahead log before RocksDB does, to tell a torn tail from a hole.
//!
//! ```text
//! file   = blocks of 32 KiB      block  = records, then fewer than a header's bytes of padding
//! record = checksum(4) length(2) type(1) payload        full | first, middle*, last; recycled ones carry a log number
//! ```
//!
//! Every write is synced before the next one begins, so only the last write can be torn, with any of its pages
//! missing. A valid *beginning* of a write behind damage therefore means that something synced was lost.

use std::fs;
use std::path::Path;

use crate::error::Error;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const RECYCLED_HEADER: usize = 11;

/// What stands at a position of a block.
enum Found {
    /// A valid record, how long it is with its header, and whether a write begins with it.
    Record {
        length: usize,
        begins: bool,
    },
    /// Nothing but padding to the block's end.
    Padding,
    Damage,
}

/// Refuses a folder whose log has a hole.
pub(crate) fn check(folder: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::Io(format!("{}: {error}", folder.display()))),
    };
    let mut logs: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let mut damaged: Option<String> = None;
    for path in logs {
        let bytes = fs::read(&path).map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (end, behind) = scan(&bytes);
        if let Some(earlier) = damaged.as_ref().filter(|_| end > 0) {
            return Err(Error::Corrupt(format!("{earlier} ends early, and {name} goes on after it")));
        }
        if let Some(behind) = behind {
            return Err(Error::Corrupt(format!(
                "{name} has a hole at byte {end}: a valid write follows at byte {behind}"
            )));
        }
        if end < bytes.len() && bytes[end..].iter().any(|byte| *byte != 0) {
            tracing::warn!(log = name, at = end, "the last write was torn by a crash and is cut off");
            damaged = Some(name);
        }
    }
    Ok(())
}

/// Where the valid records end, and where behind damage a valid write begins.
fn scan(bytes: &[u8]) -> (usize, Option<usize>) {
    let mut at = 0;
    while at < bytes.len() {
        let block_end = (at / BLOCK + 1) * BLOCK;
        match look(&bytes[at..block_end.min(bytes.len())], block_end - at) {
            Found::Record { length, .. } => at += length,
            Found::Padding => at = block_end,
            Found::Damage => return (at, behind(bytes, at + 1)),
        }
    }
    (bytes.len().min(at), None)
}

fn behind(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let block_end = (at / BLOCK + 1) * BLOCK;
        match look(&bytes[at..block_end.min(bytes.len())], block_end - at) {
            Found::Record { begins: true, .. } => return Some(at),
            Found::Record { length, .. } => at += length,
            Found::Padding | Found::Damage => at += 1,
        }
    }
    None
}

/// `rest` is what the file has of the block from here on; `room` is how much the block would have.
fn look(rest: &[u8], room: usize) -> Found {
    if room < HEADER {
        return Found::Padding;
    }
    let Some(header) = rest.first_chunk::<HEADER>() else { return Found::Damage };
    let expected = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let payload = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    let (header, begins) = match kind {
        1 | 2 => (HEADER, true),
        3 | 4 => (HEADER, false),
        5 | 6 => (RECYCLED_HEADER, true),
        7 | 8 => (RECYCLED_HEADER, false),
        // What describes the log itself: compression, timestamps, the log before.
        9 | 10 | 130 => (HEADER, false),
        11 | 131 => (RECYCLED_HEADER, false),
        _ => return Found::Damage,
    };
    let length = header + payload;
    if rest.len() < length || unmask(expected) != crc32c(&rest[6..length]) {
        return Found::Damage;
    }
    Found::Record { length, begins }
}

/// Undoes the rotation that keeps a checksum of checksums from being weak.
fn unmask(masked: u32) -> u32 {
    let rotated = masked.wrapping_sub(0xa282_ead8);
    rotated.rotate_right(17)
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![kind];
        body.extend_from_slice(payload);
        let masked = crc32c(&body).rotate_left(17).wrapping_add(0xa282_ead8);
        let mut out = masked.to_le_bytes().to_vec();
        out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn checksum_is_the_castagnoli_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_torn_tail_is_told_from_a_hole() {
        let whole = [record(1, b"one"), record(1, b"two"), record(1, b"three")].concat();
        assert_eq!(scan(&whole), (whole.len(), None));
        // Cut anywhere in the last record: a torn tail.
        let second = record(1, b"one").len() + record(1, b"two").len();
        for cut in second + 1..whole.len() {
            assert_eq!(scan(&whole[..cut]), (second, None), "cut at {cut}");
        }
        // A bit flipped in the middle record: the third still begins a write.
        let mut flipped = whole.clone();
        flipped[record(1, b"one").len() + HEADER] ^= 1;
        assert_eq!(scan(&flipped), (record(1, b"one").len(), Some(second)));
        // The last write's first page is missing, its second one is there: torn, not a hole.
        let mut torn = whole.clone();
        torn.extend(vec![0; BLOCK - whole.len()]);
        torn.extend(record(4, b"rest"));
        assert_eq!(scan(&torn), (whole.len(), None));
    }
}
