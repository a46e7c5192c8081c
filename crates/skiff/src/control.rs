//! How commands on the same machine ask the running server of a data folder: a socket in that folder.
//!
//! A request is one line of words, the answer one line of JSON. Only the server's own user and root are heard: they hold
//! all keys of the data folder already. What a request made for its caller stays until the caller hangs up.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Store;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::storage::{Scratch, Today};

const NAME: &str = "control.sock";
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 4096;
/// How long an answer may take: a checkpoint waits for what the disk still writes.
const PATIENCE: Duration = Duration::from_secs(300);

/// A short path to a socket in a folder, however deep that lies: socket addresses hold about a hundred bytes.
fn short(folder: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()).into()
}

/// Answers on the socket of a data folder, which this process has for itself, for as long as the tasks run.
pub fn start(tasks: &mut JoinSet<()>, data: &Path, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let today = Arc::new(Today::new());
    tasks.spawn(today.clone().keep(store.clone()));
    let path = data.join(NAME);
    let cannot = || format!("cannot listen on {}", path.display());
    let folder = File::open(data).with_context(cannot)?;
    // No other server has this folder: a socket that is there is a dead one's.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {}
    }
    let listener = UnixListener::bind(short(&folder)).with_context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    let data = data.to_owned();
    tasks.spawn(async move {
        let mut callers = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(callers.spawn(attend(stream, data.clone(), store.clone(), today.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a command on this machine could not be heard");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while callers.try_join_next().is_some() {}
        }
    });
    Ok(())
}

/// Whether a caller is the server's own user or root. The socket's mode says so too, but only after it was bound.
fn is_trusted(stream: &tokio::net::UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn attend(stream: tokio::net::UnixStream, data: PathBuf, store: Arc<dyn Store>, today: Arc<Today>) {
    if !is_trusted(&stream) {
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_REQUEST));
    let mut line = String::new();
    if reader.read_line(&mut line).await.is_err() {
        return;
    }
    let (answer, _made) = match answer(line.trim(), &data, &*store, &today).await {
        Ok(done) => done,
        Err(error) => (json!({ "error": format!("{error:#}") }), None),
    };
    if writer.write_all(format!("{answer}\n").as_bytes()).await.is_ok() {
        // Until the caller hangs up, or dies.
        let _ = reader.read(&mut [0]).await;
    }
}

/// What the store of a running server is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The newest revision.
    pub revision: i64,
    pub keys: usize,
    /// On disk; of an etcd cluster, on the member that was asked.
    pub bytes: u64,
    /// Given to the log today, or since the server started; 0 for an etcd cluster, like all of what follows.
    pub written_bytes: u64,
    /// Since when, in seconds since 1970.
    pub written_since: u64,
    /// Syncs of the log since the server started, and how long they took.
    pub syncs: u64,
    pub sync_mean_microseconds: u64,
    pub sync_longest_microseconds: u64,
    /// Why nothing can be written, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
}

impl Stats {
    fn new(stats: store::Stats, today: &Today) -> Stats {
        let (written_bytes, since) = today.written(stats.logged_bytes);
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Stats {
            revision: stats.revision,
            keys: stats.keys,
            bytes: stats.disk_bytes,
            written_bytes,
            written_since: since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            syncs: stats.syncs,
            sync_mean_microseconds: microseconds(stats.sync_total) / stats.syncs.max(1),
            sync_longest_microseconds: microseconds(stats.sync_longest),
            read_only: stats.read_only,
        }
    }

    /// Asks the running server of a data folder; nothing when none answers there.
    pub fn ask(data: &Path) -> anyhow::Result<Option<Stats>> {
        let Some(answer) = ask(data, "stats")? else { return Ok(None) };
        serde_json::from_value(answer.value).map(Some).context("the server's figures cannot be read")
    }
}

async fn answer(
    request: &str,
    data: &Path,
    store: &dyn Store,
    today: &Today,
) -> anyhow::Result<(Value, Option<Scratch>)> {
    match request {
        "stats" => Ok((serde_json::to_value(Stats::new(store.stats().await?, today))?, None)),
        "checkpoint" => {
            let scratch = Scratch::new(data)?;
            store.checkpoint(scratch.path().to_owned()).await?;
            Ok((json!({ "folder": scratch.path() }), Some(scratch)))
        }
        _ => bail!("this server does not know the request {request:?}"),
    }
}

/// An answer, and the connection that keeps what was made for it.
pub struct Answer {
    pub value: Value,
    _connection: BufReader<UnixStream>,
}

/// Asks the running server of a data folder; nothing when none runs.
pub fn ask(data: &Path, request: &str) -> anyhow::Result<Option<Answer>> {
    let cannot = || format!("cannot ask the server of {}", data.display());
    let Ok(folder) = File::open(data) else { return Ok(None) };
    let mut stream = match UnixStream::connect(short(&folder)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(cannot),
    };
    stream.set_read_timeout(Some(PATIENCE)).with_context(cannot)?;
    stream.write_all(format!("{request}\n").as_bytes()).with_context(cannot)?;
    let mut connection = BufReader::new(stream);
    let mut line = String::new();
    connection.read_line(&mut line).context("the server did not answer")?;
    ensure!(line.ends_with('\n'), "the server ended before it answered");
    let value: Value = serde_json::from_str(&line).context("the server's answer cannot be read")?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => bail!("the server refused: {error}"),
        None => Ok(Some(Answer { value, _connection: connection })),
    }
}
