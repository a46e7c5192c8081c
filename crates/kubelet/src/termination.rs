//! What a container left to say: its termination message file, or the end of its log.

use std::path::Path;

use cri::v1;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Annotations that [`crate::spec::container`] leaves on a container for us.
pub const PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";

/// As upstream: a message from the file has at most 4 KiB, one from the log 2 KiB and 80 lines.
const MAX_FILE: u64 = 4096;
const MAX_LOG: usize = 2048;
const MAX_LINES: usize = 80;

/// The termination message of an ended container; what cannot be read is empty.
pub async fn message(status: &v1::ContainerStatus) -> String {
    let path = status.annotations.get(PATH).map(String::as_str).unwrap_or_default();
    let file = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    let mut text = match file {
        Some(mount) => start_of(Path::new(&mount.host_path)).await,
        None => String::new(),
    };
    let fallback = status.annotations.get(POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    if text.is_empty() && fallback && status.exit_code != 0 {
        text = end_of_log(Path::new(&status.log_path)).await;
    }
    // What the runtime says of a failure to start is worth more than nothing.
    if text.is_empty() { status.message.clone() } else { text }
}

async fn start_of(path: &Path) -> String {
    let Ok(file) = tokio::fs::File::open(path).await else { return String::new() };
    let mut bytes = Vec::new();
    let _ = file.take(MAX_FILE).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn end_of_log(path: &Path) -> String {
    let Ok(mut file) = tokio::fs::File::open(path).await else { return String::new() };
    let length = file.metadata().await.map_or(0, |m| m.len());
    // Each line carries a time and a stream beside its text.
    let from = length.saturating_sub(MAX_LOG as u64 + MAX_LINES as u64 * 64);
    if file.seek(std::io::SeekFrom::Start(from)).await.is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = file.take(MAX_LOG as u64 + MAX_LINES as u64 * 64).read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    tail(&text, from > 0)
}

/// The texts of the last lines of a log in CRI form; the first line may be cut.
fn tail(log: &str, cut: bool) -> String {
    let lines: Vec<&str> = log.lines().skip(usize::from(cut)).collect();
    let from = lines.len().saturating_sub(MAX_LINES);
    let mut text = String::new();
    for line in &lines[from..] {
        // <time> <stream> <tag> <text>; a tag P means that the line goes on in the next.
        let mut parts = line.splitn(4, ' ');
        let (Some(_), Some(_), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { continue };
        text.push_str(parts.next().unwrap_or_default());
        if tag != "P" {
            text.push('\n');
        }
    }
    let start = text.len().saturating_sub(MAX_LOG);
    let start = (start..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_texts() {
        let log = "t stdout F one\nt stderr P tw\nt stderr F o\nt stdout F \n";
        assert_eq!(tail(log, false), "one\ntwo\n\n");
        assert_eq!(tail(log, true), "two\n\n");
        let long: String = (0..200).map(|i| format!("t stdout F line {i}\n")).collect();
        let end = tail(&long, false);
        assert!(end.ends_with("line 199\n") && end.lines().count() == 80, "{end}");
    }

    #[tokio::test]
    async fn the_file_goes_before_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("message"), folder.path().join("0.log"));
        std::fs::write(&file, "bye").unwrap();
        std::fs::write(&log, "t stdout F from the log\n").unwrap();
        let mut status = v1::ContainerStatus {
            exit_code: 1,
            log_path: log.display().to_string(),
            mounts: vec![v1::Mount {
                container_path: "/dev/termination-log".into(),
                host_path: file.display().to_string(),
                ..Default::default()
            }],
            ..Default::default()
        };
        status.annotations.insert(PATH.into(), "/dev/termination-log".into());
        status.annotations.insert(POLICY.into(), "FallbackToLogsOnError".into());
        assert_eq!(message(&status).await, "bye");
        std::fs::write(&file, "").unwrap();
        assert_eq!(message(&status).await, "from the log\n");
        status.exit_code = 0;
        assert_eq!(message(&status).await, "");
    }
}
