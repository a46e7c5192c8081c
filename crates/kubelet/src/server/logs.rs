//! Reading a container's log, which is in CRI form: `<time> <stream> <P or F> <text>`.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::sys::inotify::AddWatchFlags;
use runtime::Runtime;
use tokio::sync::mpsc;

use crate::folder_watch::FolderWatch;

/// A line is at most so long in the file; longer ones are written in parts.
const MAX_LINE: u64 = 1 << 20;
/// How much is gathered before it is sent.
const CHUNK: usize = 32 << 10;

/// What is asked of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub limit: Option<u64>,
    /// Nanoseconds since 1970: older lines are left out.
    pub since: Option<i128>,
    pub stdout: bool,
    pub stderr: bool,
}

/// One line as it is in the file.
struct Line<'a> {
    time: &'a str,
    stdout: bool,
    /// The text goes on in the next line.
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stdout = match parts.next()? {
        b"stdout" => true,
        b"stderr" => false,
        _ => return None,
    };
    let partial = parts.next()?.split(|b| *b == b':').next()? == b"P";
    Some(Line { time, stdout, partial, text: parts.next().unwrap_or_default() })
}

fn nanos(time: &str) -> Option<i128> {
    let (seconds, nanos) = apimachinery::time::parse_rfc3339(time)?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

/// Turns lines of the file into what is sent.
struct Writer {
    options: Options,
    left: Option<u64>,
    /// The line before was not whole, so this one has no time of its own.
    within: bool,
    out: Vec<u8>,
}

impl Writer {
    fn new(options: &Options) -> Writer {
        Writer { left: options.limit, options: options.clone(), within: false, out: Vec::new() }
    }

    /// Takes a line; answers whether more is wanted.
    fn line(&mut self, raw: &[u8]) -> bool {
        let Some(line) = parse(raw.strip_suffix(b"\n").unwrap_or(raw)) else { return true };
        if !(if line.stdout { self.options.stdout } else { self.options.stderr }) {
            return true;
        }
        if let Some(since) = self.options.since
            && nanos(line.time).is_some_and(|time| time < since)
        {
            return true;
        }
        let start = self.out.len();
        if self.options.timestamps && !self.within {
            self.out.extend_from_slice(line.time.as_bytes());
            self.out.push(b' ');
        }
        self.out.extend_from_slice(line.text);
        if !line.partial {
            self.out.push(b'\n');
        }
        self.within = line.partial;
        match &mut self.left {
            Some(left) => {
                let added = (self.out.len() - start) as u64;
                if added >= *left {
                    self.out.truncate(start + *left as usize);
                    *left = 0;
                    return false;
                }
                *left -= added;
                true
            }
            None => true,
        }
    }
}

/// Where the last lines begin: before the `tail`-th whole line from the end.
fn tail_start(file: &mut std::fs::File, tail: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let end = file.metadata()?.len();
    if tail == 0 {
        return Ok(end);
    }
    let mut at = end;
    let mut lines = 0;
    // Reads backwards; a line that goes on in the next counts with it.
    let mut after: Vec<u8> = Vec::new();
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        let mut block = vec![0; (at - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&after);
        let mut line_end = block.len();
        // All lines in the block that begin in it.
        let starts: Vec<usize> = block[..(at - from) as usize]
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(i, _)| i + 1)
            .chain((from == 0).then_some(0))
            .collect();
        let mut starts = starts;
        starts.sort_unstable();
        for start in starts.iter().rev().filter(|s| **s < block.len()) {
            let line = &block[*start..line_end];
            if parse(line.strip_suffix(b"\n").unwrap_or(line)).is_none_or(|l| !l.partial) {
                lines += 1;
            }
            if lines > tail {
                return Ok(from + line_end as u64);
            }
            line_end = *start;
        }
        after = block[..line_end].to_vec();
        at = from;
    }
    Ok(0)
}

/// Sends a log, and goes on with what is written to it if so asked, until the container has ended.
pub async fn send(
    runtime: Runtime,
    container: String,
    path: PathBuf,
    options: Options,
    to: mpsc::Sender<Result<Bytes, transport::BoxError>>,
) {
    if let Err(error) = read(&runtime, &container, &path, &options, &to).await {
        let _ = to.send(Err(error.into())).await;
    }
}

/// Whether the container can still write.
async fn runs(runtime: &Runtime, container: &str) -> bool {
    let request = cri::v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
    let status = runtime.container_status(request).await.ok().and_then(|answer| answer.status);
    status.is_some_and(|s| {
        matches!(
            cri::v1::ContainerState::try_from(s.state),
            Ok(cri::v1::ContainerState::ContainerRunning | cri::v1::ContainerState::ContainerCreated)
        )
    })
}

async fn read(
    runtime: &Runtime,
    container: &str,
    path: &Path,
    options: &Options,
    to: &mpsc::Sender<Result<Bytes, transport::BoxError>>,
) -> std::io::Result<()> {
    // Watching begins before reading: what is written in between is not missed.
    let watch = options.follow.then(|| follow(path)).transpose()?;
    let mut events = options.follow.then(|| runtime.events());
    let mut file = std::fs::File::open(path)?;
    if let Some(tail) = options.tail {
        let start = tail_start(&mut file, tail)?;
        file.seek(SeekFrom::Start(start))?;
    }
    let mut identity = file.metadata()?.ino();
    let mut reader = BufReader::with_capacity(CHUNK, file);
    let mut writer = Writer::new(options);
    let mut line = Vec::new();
    loop {
        // Asked before the last read: an end that is seen here leaves nothing unread.
        let ended = watch.is_none() || !runs(runtime, container).await;
        loop {
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if read == 0 || (line.last() != Some(&b'\n') && (line.len() as u64) < MAX_LINE) {
                break;
            }
            let more = writer.line(&line);
            line.clear();
            let full = writer.out.len() >= CHUNK || !more;
            if full && (to.send(Ok(std::mem::take(&mut writer.out).into())).await.is_err() || !more) {
                return Ok(());
            }
        }
        if ended && !line.is_empty() && watch.is_none() {
            writer.line(&line);
        }
        if !writer.out.is_empty() && to.send(Ok(std::mem::take(&mut writer.out).into())).await.is_err() {
            return Ok(());
        }
        let (Some(watch), Some(events)) = (&watch, &mut events) else { return Ok(()) };
        // The log was put aside and a new one begun.
        if let Ok(fresh) = std::fs::File::open(path)
            && fresh.metadata()?.ino() != identity
        {
            identity = fresh.metadata()?.ino();
            reader = BufReader::with_capacity(CHUNK, fresh);
            line.clear();
            continue;
        }
        if ended {
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            event = events.recv() => {
                if let Err(tokio::sync::broadcast::error::RecvError::Closed) = event {
                    return Ok(());
                }
            }
            () = to.closed() => return Ok(()),
        }
    }
}

/// Follows what happens to a file and around it.
fn follow(path: &Path) -> std::io::Result<FolderWatch> {
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    FolderWatch::new(path.parent().unwrap_or(path), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
                       2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    fn all() -> Options {
        Options { stdout: true, stderr: true, ..Options::default() }
    }

    fn text(log: &str, options: &Options) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(log.as_bytes()).unwrap();
        let start = options.tail.map_or(0, |tail| tail_start(&mut file, tail).unwrap());
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut writer = Writer::new(options);
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            if !writer.line(&line) {
                break;
            }
            line.clear();
        }
        String::from_utf8(writer.out).unwrap()
    }

    #[test]
    fn lines_are_joined_and_chosen() {
        assert_eq!(text(LOG, &all()), "one\ntwo\nthree\n");
        assert_eq!(text(LOG, &Options { stderr: false, ..all() }), "one\nthree\n");
        let since = nanos("2026-01-01T00:00:02Z");
        assert_eq!(text(LOG, &Options { since, ..all() }), "two\nthree\n");
        assert_eq!(text(LOG, &Options { limit: Some(6), ..all() }), "one\ntw");
        let stamped = text(LOG, &Options { timestamps: true, ..all() });
        assert_eq!(stamped, "2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n");
    }

    #[test]
    fn tails() {
        for (tail, wanted) in
            [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (3, "one\ntwo\nthree\n"), (9, "one\ntwo\nthree\n")]
        {
            assert_eq!(text(LOG, &Options { tail: Some(tail), ..all() }), wanted, "{tail}");
        }
        let long: String = (0..5000).map(|i| format!("2026-01-01T00:00:01Z stdout F line number {i}\n")).collect();
        let end = text(&long, &Options { tail: Some(3000), ..all() });
        assert!(end.starts_with("line number 2000\n") && end.lines().count() == 3000);
    }
}
