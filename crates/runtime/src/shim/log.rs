//! A container's log in the format of the container runtime interface.
//!
//! ```text
//! 2026-01-02T03:04:05.000000006Z stdout F a whole line
//! 2026-01-02T03:04:05.000000006Z stderr P the beginning of a longer one
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A line is cut where it is longer.
const LONGEST: usize = 16 << 10;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Stream::Stdout => b"stdout",
            Stream::Stderr => b"stderr",
        }
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// What came of each stream since its last line ended.
    begun: [Vec<u8>; 2],
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Log {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: open(&path)?, path, begun: [Vec::new(), Vec::new()] })
    }

    /// Goes on in a new file of the same name, after the old one was renamed.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Takes what a process wrote at a time in nanoseconds since 1970. What a full disk does not take is lost; the
    /// container goes on.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: i64) {
        let mut out = Vec::new();
        let begun = &mut self.begun[stream as usize];
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LONGEST - begun.len();
            let window = &rest[..rest.len().min(room)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line(&mut out, stream, b'F', begun, &window[..end], now);
                    begun.clear();
                    rest = &rest[end + 1..];
                }
                None if window.len() == room => {
                    line(&mut out, stream, b'P', begun, window, now);
                    begun.clear();
                    rest = &rest[room..];
                }
                None => {
                    begun.extend_from_slice(window);
                    rest = &[];
                }
            }
        }
        if begun.is_empty() {
            *begun = Vec::new();
        }
        let _ = self.file.write_all(&out);
    }

    /// Writes what has no end of line and will not get one.
    pub fn finish(&mut self, now: i64) {
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                line(&mut out, stream, b'P', &begun, &[], now);
            }
        }
        let _ = self.file.write_all(&out);
    }
}

fn line(out: &mut Vec<u8>, stream: Stream, tag: u8, begun: &[u8], rest: &[u8], now: i64) {
    out.extend_from_slice(timestamp(now).as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.name());
    out.extend_from_slice(&[b' ', tag, b' ']);
    out.extend_from_slice(begun);
    out.extend_from_slice(rest);
    out.push(b'\n');
}

/// A time in the form of RFC 3339 with all nanoseconds.
fn timestamp(now: i64) -> String {
    // Any count of nanoseconds in 64 bits is within the years that there are.
    let time = jiff::Timestamp::from_nanosecond(now.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_400_000_000_006), "2000-02-29T00:00:00.000000006Z");
        assert_eq!(timestamp(1_767_225_599_999_999_999), "2025-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn lines_are_whole_or_marked_as_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = Log::open(path.clone()).unwrap();
        log.write(Stream::Stdout, b"one\ntw", 0);
        log.write(Stream::Stderr, b"\n", 0);
        log.write(Stream::Stdout, b"o\n", 0);
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        log.write(Stream::Stdout, b"late\n", 0);
        log.reopen().unwrap();
        log.write(Stream::Stdout, &[b'x'; LONGEST + 1], 0);
        log.finish(0);
        let read = |name: &str| {
            std::fs::read_to_string(folder.path().join(name)).unwrap().replace("1970-01-01T00:00:00.000000000Z ", "")
        };
        assert_eq!(read("old"), "stdout F one\nstderr F \nstdout F two\nstdout F late\n");
        assert_eq!(read("0.log"), format!("stdout P {}\nstdout P x\n", "x".repeat(LONGEST)));
    }
}
