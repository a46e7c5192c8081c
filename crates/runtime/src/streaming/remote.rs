//! A command or attachment and its client, joined: input, output, terminal size, and how it ended.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::session::{Output, Session};
use crate::streaming::{Wanted, spdy};
use crate::{Error, Result, Runtime};

/// How long a SPDY client may take to open its streams.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER: usize = 32 << 10;

/// What goes to the client.
#[derive(Debug)]
pub(super) enum Outgoing {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How it ended; nothing follows.
    Status(Value),
}

/// The client's side of a session.
#[derive(Debug)]
pub(super) struct Client {
    /// Input; its end is the end of input.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Sizes of the terminal: columns and rows.
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
    pub out: mpsc::Sender<Outgoing>,
}

/// Starts what a client wants and serves it to the end.
pub(super) async fn run(runtime: &Runtime, wanted: Wanted, client: Client) {
    let out = client.out.clone();
    let status = match open(runtime, wanted).await {
        Ok(session) => match serve(session, client).await {
            Ok(code) => exit_status(code),
            Err(error) => error_status(&error),
        },
        Err(error) => error_status(&error),
    };
    // The client may be gone: then nobody wants to know.
    let _ = out.send(Outgoing::Status(status)).await;
}

async fn open(runtime: &Runtime, wanted: Wanted) -> Result<Session> {
    match wanted {
        Wanted::Exec(request) => runtime.open_exec(&request).await,
        Wanted::Attach(request) => runtime.open_attach(&request).await,
        Wanted::PortForward(_) => Err(Error::Invalid("a port-forward is no command".to_owned())),
    }
}

async fn serve(session: Session, client: Client) -> Result<i32> {
    let Session { stdin, stdout, stderr, resizer, exit } = session;
    let input = async {
        match (stdin, client.stdin) {
            (Some(mut stdin), Some(mut from)) => {
                while let Some(bytes) = from.recv().await {
                    if stdin.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                stdin.finish().await;
            }
            (Some(stdin), None) => drop(stdin),
            (None, Some(mut from)) => while from.recv().await.is_some() {},
            (None, None) => {}
        }
    };
    let sizes = async {
        let mut from = client.resize;
        while let Some(from) = &mut from {
            match from.recv().await {
                Some((columns, rows)) => resizer.resize(columns, rows).await,
                None => break,
            }
        }
    };
    let outputs = async {
        tokio::join!(copy(stdout, &client.out, Outgoing::Stdout), copy(stderr, &client.out, Outgoing::Stderr));
    };
    let gone = client.out.clone();
    let finished = async {
        // All output before the status: a client stops reading at the status.
        outputs.await;
        exit.await
    };
    tokio::select! {
        code = finished => code,
        () = async { tokio::join!(input, sizes); std::future::pending::<()>().await } => Ok(0),
        () = gone.closed() => Err(Error::State("the client went away".to_owned())),
    }
}

async fn copy(from: Option<Output>, to: &mpsc::Sender<Outgoing>, wrap: fn(Bytes) -> Outgoing) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; BUFFER];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.send(wrap(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
            break;
        }
    }
}

fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn error_status(error: &Error) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": error.to_string(), "reason": "InternalError", "code": 500})
}

/// The size of a terminal as clients send it.
pub(super) fn parse_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some((side("Width")?, side("Height")?))
}

/// Serves a command to a client that speaks SPDY; by one of the versions of `channel.k8s.io`.
pub(super) async fn over_spdy(
    runtime: &Runtime,
    wanted: Wanted,
    mut session: spdy::Session,
    protocol: &str,
) -> Result<()> {
    let (tty, stdin, stdout, stderr) = match &wanted {
        Wanted::Exec(r) => (r.tty, r.stdin, r.stdout, r.stderr),
        Wanted::Attach(r) => (r.tty, r.stdin, r.stdout, r.stderr),
        Wanted::PortForward(_) => return Err(Error::Invalid("a port-forward is no command".to_owned())),
    };
    // Since v4 the end is told by a Status, since v3 there is a stream for sizes.
    let structured = protocol.starts_with("v4.");
    let sized = tty && (structured || protocol.starts_with("v3."));
    let mut needed: Vec<&str> = vec!["error"];
    needed.extend(
        [("stdin", stdin), ("stdout", stdout), ("stderr", stderr && !tty), ("resize", sized)]
            .iter()
            .filter(|(_, on)| *on)
            .map(|(n, _)| *n),
    );
    let mut streams: HashMap<String, spdy::Stream> = HashMap::new();
    let all = async {
        while !needed.iter().all(|name| streams.contains_key(*name)) {
            let stream = session.accept().await.ok_or_else(|| Error::State("the client went away".to_owned()))?;
            let kind = stream.header("streamtype").to_owned();
            let known = ["error", "stdin", "stdout", "stderr", "resize"].contains(&kind.as_str());
            if !known || streams.insert(kind.clone(), stream).is_some() {
                return Err(Error::Invalid(format!("the client opened an unexpected stream {kind:?}")));
            }
        }
        Ok(())
    };
    match tokio::time::timeout(STREAMS_TIMEOUT, all).await {
        Ok(opened) => opened?,
        Err(_) => return Err(Error::Timeout("the client did not open its streams in time".to_owned())),
    }
    let mut take = |name: &str| streams.remove(name).map(spdy::Stream::split);
    let (error, stdout, stderr) = (take("error"), take("stdout"), take("stderr"));
    let (input, resize) = (take("stdin"), take("resize"));
    let sizes = resize.map(|(mut from, _)| {
        let (to, sizes) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(bytes) = from.recv().await {
                if let Some(size) = parse_size(&bytes)
                    && to.send(size).await.is_err()
                {
                    break;
                }
            }
        });
        sizes
    });
    let (out, mut outgoing) = mpsc::channel(8);
    let client = Client { stdin: input.map(|(from, _)| from), resize: sizes, out };
    let sending = async {
        while let Some(message) = outgoing.recv().await {
            let sent = match (&message, &stdout, &stderr, &error) {
                (Outgoing::Stdout(bytes), Some((_, to)), ..) => to.send(bytes.clone()).await,
                (Outgoing::Stderr(bytes), _, Some((_, to)), _) => to.send(bytes.clone()).await,
                (Outgoing::Status(status), .., Some((_, to))) => {
                    let text = match (structured, status["status"].as_str()) {
                        (true, _) => status.to_string(),
                        (false, Some("Success")) => String::new(),
                        (false, _) => status["message"].as_str().unwrap_or("failed").to_owned(),
                    };
                    let told = if text.is_empty() { Ok(()) } else { to.send(Bytes::from(text)).await };
                    for (_, stream) in [&stdout, &stderr, &error].into_iter().flatten() {
                        let _ = stream.finish().await;
                    }
                    let _ = told;
                    break;
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        // Dropped here, so that a session whose client is gone sees it.
        drop(outgoing);
    };
    tokio::join!(run(runtime, wanted, client), sending);
    session.close().await;
    Ok(())
}
