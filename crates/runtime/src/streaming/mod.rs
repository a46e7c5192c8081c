//! Exec, attach and port-forward: tickets for sessions, and the HTTP server that redeems them.
//!
//! A client that asks for a session over gRPC gets an address with a ticket that is good once and for a minute. A
//! caller in this process (the kubelet's own server) hands its request to [`respond`] with the session it wants.

mod dictionary;
mod forward;
mod remote;
pub mod spdy;
mod websocket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cri::v1;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::record::new_id;
use crate::runtime::WeakRuntime;
use crate::{Error, Result, Runtime};

const TICKET_LIFE: Duration = Duration::from_secs(60);
const MAX_TICKETS: usize = 1000;

/// What a session is about.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Run a command.
    Exec(v1::ExecRequest),
    /// Join a container's own streams.
    Attach(v1::AttachRequest),
    /// Reach ports of a pod.
    PortForward(v1::PortForwardRequest),
}

/// The tickets, and the address of the server once it was needed.
#[derive(Debug, Default)]
pub struct Streaming {
    tickets: Mutex<HashMap<String, (Wanted, Instant)>>,
    address: OnceCell<SocketAddr>,
}

impl Streaming {
    fn issue(&self, wanted: Wanted) -> Result<String> {
        let ticket = new_id()?;
        let mut tickets = self.tickets.lock();
        tickets.retain(|_, (_, issued)| issued.elapsed() < TICKET_LIFE);
        if tickets.len() >= MAX_TICKETS {
            return Err(Error::Unavailable("too many sessions were asked for and not opened".to_owned()));
        }
        tickets.insert(ticket.clone(), (wanted, Instant::now()));
        Ok(ticket)
    }

    fn redeem(&self, ticket: &str) -> Option<Wanted> {
        let (wanted, issued) = self.tickets.lock().remove(ticket)?;
        (issued.elapsed() < TICKET_LIFE).then_some(wanted)
    }
}

impl Runtime {
    /// Prepares to run a command; answers where to connect.
    pub async fn exec(&self, request: v1::ExecRequest) -> Result<v1::ExecResponse> {
        check_streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        self.running(&request.container_id)?;
        Ok(v1::ExecResponse { url: self.address_for("exec", Wanted::Exec(request)).await? })
    }

    /// Prepares to join a container's streams; answers where to connect.
    pub async fn attach(&self, request: v1::AttachRequest) -> Result<v1::AttachResponse> {
        check_streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        self.running(&request.container_id)?;
        Ok(v1::AttachResponse { url: self.address_for("attach", Wanted::Attach(request)).await? })
    }

    /// Prepares to reach ports of a pod; answers where to connect.
    pub async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<v1::PortForwardResponse> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        if !pod.record().ready {
            return Err(Error::State(format!("pod sandbox {} does not run", pod.id)));
        }
        Ok(v1::PortForwardResponse { url: self.address_for("portforward", Wanted::PortForward(request)).await? })
    }

    async fn address_for(&self, verb: &str, wanted: Wanted) -> Result<String> {
        let address = self.streaming().address.get_or_try_init(|| listen(self.downgrade())).await?;
        Ok(format!("http://{address}/{verb}/{}", self.streaming().issue(wanted)?))
    }
}

fn check_streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<()> {
    if tty && stderr {
        return Err(Error::Invalid("a terminal has no separate standard error".to_owned()));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::Invalid("one of stdin, stdout and stderr is needed".to_owned()));
    }
    Ok(())
}

/// Serves sessions on loopback: whoever comes needs a ticket.
async fn listen(runtime: WeakRuntime) -> Result<SocketAddr> {
    let failed = || Error::io::<std::io::Error>("cannot listen on loopback");
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    tokio::spawn(async move {
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                // Out of descriptors: others must close theirs first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = connection.set_nodelay(true);
            let runtime = runtime.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| redeem(runtime.clone(), request));
                let server = hyper::server::conn::http1::Builder::new();
                let served = server.serve_connection(TokioIo::new(connection), service).with_upgrades().await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a streaming connection broke");
                }
            });
        }
    });
    Ok(address)
}

async fn redeem(
    runtime: WeakRuntime,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let Some(runtime) = runtime.upgrade() else {
        return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "the runtime has stopped"));
    };
    let ticket = request.uri().path().rsplit('/').next().unwrap_or_default();
    Ok(match runtime.streaming().redeem(ticket) {
        Some(wanted) => respond(&runtime, wanted, request),
        None => text(StatusCode::NOT_FOUND, "this session was opened before, or has expired"),
    })
}

/// Answers a request to open a session by switching protocols, over WebSocket or SPDY/3.1; the session then runs on a
/// task of its own.
pub fn respond(runtime: &Runtime, wanted: Wanted, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        websocket::respond(runtime.clone(), wanted, request)
    } else if upgrade.eq_ignore_ascii_case("spdy/3.1") {
        spdy_respond(runtime.clone(), wanted, request)
    } else {
        text(StatusCode::BAD_REQUEST, "this needs an upgrade to websocket or SPDY/3.1")
    }
}

fn spdy_respond(runtime: Runtime, wanted: Wanted, request: Request<Incoming>) -> Response<Full<Bytes>> {
    const COMMAND: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
    let offered = listed(request.headers(), "x-stream-protocol-version");
    let known: &[&str] = if matches!(wanted, Wanted::PortForward(_)) { &["portforward.k8s.io"] } else { &COMMAND };
    let Some(protocol) = known.iter().find(|name| offered.iter().any(|o| o == *name)).copied() else {
        let message = format!("none of the protocols {offered:?} is one of {known:?}");
        return text(StatusCode::FORBIDDEN, &message);
    };
    tokio::spawn(async move {
        let upgraded = match hyper::upgrade::on(request).await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a client did not finish its upgrade"),
        };
        let session = spdy::Session::serve(upgraded);
        let ended = match wanted {
            Wanted::PortForward(request) => forward::over_spdy(&runtime, &request.pod_sandbox_id, session).await,
            wanted => remote::over_spdy(&runtime, wanted, session, protocol).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a session ended early");
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol);
    response.body(Full::default()).unwrap_or_else(|e| text(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()))
}

/// The members of a header that is a list, over all its lines.
fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
}

fn text(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{message}\n").into_bytes()));
    *response.status_mut() = status;
    response
}
