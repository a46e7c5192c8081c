//! Sessions over WebSocket: commands by channels (v4, v5), port-forward as SPDY inside a WebSocket.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use crate::Runtime;
use crate::streaming::remote::{Client, Outgoing, parse_size, run};
use crate::streaming::{Wanted, forward, listed, spdy, text};

/// Protocols for commands, best first; the empty name is that of clients that offer none.
const COMMAND: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"];
const FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Since v5: the channel named in the next byte is at its end.
const CLOSE: u8 = 255;
const MAX_MESSAGE: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) fn respond(runtime: Runtime, wanted: Wanted, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let headers = request.headers();
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is missing");
    };
    let accept = derive_accept_key(key.as_bytes());
    let offered = listed(headers, "sec-websocket-protocol");
    let known: &[&'static str] = if matches!(wanted, Wanted::PortForward(_)) { &[FORWARD] } else { &COMMAND };
    let chosen = known.iter().find(|name| offered.iter().any(|o| o == *name)).copied();
    if chosen.is_none() && (!offered.is_empty() || matches!(wanted, Wanted::PortForward(_))) {
        let message = format!("none of the protocols {offered:?} is one of {known:?}");
        return text(StatusCode::FORBIDDEN, &message);
    }
    tokio::spawn(async move {
        let upgraded = match hyper::upgrade::on(request).await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a client did not finish its upgrade"),
        };
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
        match wanted {
            Wanted::PortForward(request) => tunnel(&runtime, &request.pod_sandbox_id, socket).await,
            wanted => command(&runtime, wanted, socket, chosen.unwrap_or_default()).await,
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(chosen) = chosen {
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    response
}

/// Clients take any other end for an error.
fn normal_end() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Default::default() }
}

async fn command(runtime: &Runtime, wanted: Wanted, socket: Socket, protocol: &str) {
    let (stdin_wanted, stdout, stderr, tty) = match &wanted {
        Wanted::Exec(r) => (r.stdin, r.stdout, r.stderr, r.tty),
        Wanted::Attach(r) => (r.stdin, r.stdout, r.stderr, r.tty),
        Wanted::PortForward(_) => return,
    };
    let structured = protocol.starts_with('v');
    let (mut sink, mut stream) = socket.split();
    // Tells the client that the session is up, as upstream's servers do.
    let first = if stdout {
        STDOUT
    } else if stderr {
        STDERR
    } else {
        ERROR
    };
    if sink.send(Message::binary(vec![first])).await.is_err() {
        return;
    }
    let (to_stdin, stdin) = mpsc::channel::<Bytes>(8);
    let (to_sizes, sizes) = mpsc::channel(4);
    let (out, mut outgoing) = mpsc::channel(8);
    let client = Client { stdin: stdin_wanted.then_some(stdin), resize: tty.then_some(sizes), out };
    let receiving = async move {
        let mut to_stdin = stdin_wanted.then_some(to_stdin);
        while let Some(Ok(message)) = stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                _ => continue,
            };
            match (data.first(), data.get(1)) {
                (Some(&STDIN), _) => {
                    if let Some(to) = &to_stdin
                        && data.len() > 1
                        && to.send(data.slice(1..)).await.is_err()
                    {
                        to_stdin = None;
                    }
                }
                (Some(&RESIZE), _) => {
                    if let Some(size) = parse_size(&data[1..]) {
                        // A size that nobody takes must not hold input up.
                        let _ = to_sizes.try_send(size);
                    }
                }
                (Some(&CLOSE), Some(&STDIN)) => to_stdin = None,
                _ => {}
            }
        }
    };
    let sending = async {
        while let Some(message) = outgoing.recv().await {
            let (channel, bytes, last) = match message {
                Outgoing::Stdout(bytes) => (STDOUT, bytes, false),
                Outgoing::Stderr(bytes) => (STDERR, bytes, false),
                Outgoing::Status(status) if structured => (ERROR, Bytes::from(status.to_string()), true),
                Outgoing::Status(status) if status["status"] == "Success" => (ERROR, Bytes::new(), true),
                Outgoing::Status(status) => {
                    (ERROR, Bytes::from(status["message"].as_str().unwrap_or("failed").to_owned()), true)
                }
            };
            let mut framed = Vec::with_capacity(bytes.len() + 1);
            framed.push(channel);
            framed.extend_from_slice(&bytes);
            if sink.send(Message::binary(framed)).await.is_err() || last {
                break;
            }
        }
        drop(outgoing);
        let _ = sink.send(Message::Close(Some(normal_end()))).await;
        let _ = sink.close().await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(run(runtime, wanted, client), sending) } => {}
        // The client closed or vanished: what it started is let go.
        () = receiving => {}
    }
}

/// Carries SPDY frames in binary messages.
async fn tunnel(runtime: &Runtime, pod: &str, socket: Socket) {
    let (mut sink, mut stream) = socket.split();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (mut reader, mut writer) = tokio::io::split(ours);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) => match writer.write_all(&data).await {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n) = reader.read(&mut buffer).await {
            if n == 0 || sink.send(Message::binary(buffer[..n].to_vec())).await.is_err() {
                break;
            }
        }
        let _ = sink.send(Message::Close(Some(normal_end()))).await;
    };
    let serving = forward::over_spdy(runtime, pod, spdy::Session::serve(theirs));
    tokio::select! {
        _ = async { tokio::join!(serving, outward) } => {}
        () = inward => {}
    }
}
