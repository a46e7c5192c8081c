//! One question to one container: a command, an HTTP request, a TCP connection, a gRPC health check.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use api::core::pod::container::Container;
use api::core::pod::probe::{HTTPGetAction, ProbeHandler};
use apimachinery::IntOrString;
use cri::v1;
use runtime::Runtime;

/// The most that is read of an answer.
const MAX_BODY: usize = 10 << 10;
/// Redirects that are followed on the same host.
const REDIRECTS: usize = 10;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad(String),
    /// The question could not be put.
    Unknown(String),
}

/// A port by number, or by a name that the container gives one of its ports.
pub fn port_of(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|p| *p > 0),
        IntOrString::String(text) => {
            let named = container.ports.iter().find(|p| p.name == text.as_str());
            named.and_then(|p| u16::try_from(p.container_port).ok()).or_else(|| text.parse().ok())
        }
    }
}

/// Puts the question.
pub async fn check(
    runtime: &Runtime,
    handler: &ProbeHandler,
    container: &Container,
    id: &str,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Outcome {
    if let Some(exec) = &handler.exec {
        return command(runtime, &exec.command, id, limit).await;
    }
    let address = |host: &str, port: Option<u16>| -> Result<(String, u16), Outcome> {
        let port = port.ok_or_else(|| Outcome::Unknown("the port is not known".to_owned()))?;
        match (host, ip) {
            ("", None) => Err(Outcome::Unknown("the pod has no address".to_owned())),
            ("", Some(ip)) => Ok((ip.to_string(), port)),
            (host, _) => Ok((host.to_owned(), port)),
        }
    };
    let outcome = async {
        if let Some(get) = &handler.http_get {
            let (host, port) = address(&get.host, port_of(&get.port, container))?;
            return Ok(http(get, &host, port, limit).await);
        }
        if let Some(tcp) = &handler.tcp_socket {
            let (host, port) = address(&tcp.host, port_of(&tcp.port, container))?;
            return Ok(connect(&host, port, limit).await);
        }
        if let Some(health) = &handler.grpc {
            let (host, port) = address("", u16::try_from(health.port).ok())?;
            return Ok(super::grpc::check(&host, port, health.service.as_deref().unwrap_or_default(), limit).await);
        }
        Err(Outcome::Unknown("the probe asks for nothing".to_owned()))
    };
    outcome.await.unwrap_or_else(|outcome| outcome)
}

async fn command(runtime: &Runtime, command: &[String], id: &str, limit: Duration) -> Outcome {
    let request = v1::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: command.to_vec(),
        timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
    };
    match runtime.exec_sync(request).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Good,
        Ok(answer) => {
            let mut text = answer.stdout;
            text.extend(answer.stderr);
            text.truncate(MAX_BODY);
            Outcome::Bad(String::from_utf8_lossy(&text).into_owned())
        }
        Err(runtime::Error::Timeout(_)) => {
            Outcome::Bad(format!("command timed out: {:?} timed out after {}s", command.join(" "), limit.as_secs()))
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

pub(super) fn dialer() -> transport::Dialer {
    static DIALER: OnceLock<transport::Dialer> = OnceLock::new();
    DIALER.get_or_init(|| transport::Dialer::direct(transport::Resolver::system())).clone()
}

pub(super) fn target(host: &str, port: u16) -> transport::Target {
    transport::Target::Host(host.to_owned(), port)
}

async fn connect(host: &str, port: u16, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, dialer().dial(&target(host, port))).await {
        Ok(Ok(_)) => Outcome::Good,
        Ok(Err(error)) => Outcome::Bad(error.to_string()),
        Err(_) => Outcome::Bad(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// A client that keeps no connection: each question shows whether one can be opened.
fn http_client() -> Result<transport::Client, transport::Error> {
    static CLIENT: OnceLock<transport::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    let client = transport::Client::builder(dialer())
        .tls(transport::ClientTls::insecure())
        .http1_only()
        .idle_timeout(Duration::ZERO)
        .build()?;
    Ok(CLIENT.get_or_init(|| client).clone())
}

/// The request of an action, to a host and port.
pub fn request(get: &HTTPGetAction, host: &str, port: u16) -> Result<http::Request<transport::Body>, String> {
    let scheme = if get.scheme.eq_ignore_ascii_case("https") { "https" } else { "http" };
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let uri = format!("{scheme}://{shown}:{port}{path}");
    build(get, &uri)
}

fn build(get: &HTTPGetAction, uri: &str) -> Result<http::Request<transport::Body>, String> {
    let mut builder = http::Request::get(uri).header("Connection", "close");
    let own = |name: &str| get.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    if !own("User-Agent") {
        builder = builder.header("User-Agent", "kube-probe/1.37");
    }
    if !own("Accept") {
        builder = builder.header("Accept", "*/*");
    }
    for header in &get.http_headers {
        builder = builder.header(header.name.as_str(), header.value.as_str());
    }
    builder.body(transport::body::empty()).map_err(|error| error.to_string())
}

async fn http(get: &HTTPGetAction, host: &str, port: u16, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, follow(get, host, port, limit)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Bad(format!(
            "Get \"{}://{host}:{port}{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            if get.scheme.eq_ignore_ascii_case("https") { "https" } else { "http" },
            get.path
        )),
    }
}

async fn follow(get: &HTTPGetAction, host: &str, port: u16, limit: Duration) -> Outcome {
    let client = match http_client() {
        Ok(client) => client,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let mut request = match request(get, host, port) {
        Ok(request) => request,
        Err(error) => return Outcome::Unknown(error),
    };
    for _ in 0..REDIRECTS {
        let asked = request.uri().clone();
        let answer = match client.fetch(limit, MAX_BODY, request).await {
            Ok(answer) => answer,
            // More than is read is still an answer.
            Err(transport::Error::Timeout { .. }) => {
                return Outcome::Bad(format!("Get {:?}: context deadline exceeded", asked.to_string()));
            }
            Err(error) => return Outcome::Bad(format!("Get {:?}: {error}", asked.to_string())),
        };
        let status = answer.status();
        if status.is_redirection()
            && let Some(next) = answer.headers().get("location").and_then(|l| l.to_str().ok())
        {
            // Elsewhere is not this container's business: that it answers is enough.
            let Some(uri) = same_host(&asked, next) else { return Outcome::Good };
            request = match build(get, &uri) {
                Ok(request) => request,
                Err(error) => return Outcome::Unknown(error),
            };
            continue;
        }
        return match status.as_u16() {
            200..400 => Outcome::Good,
            code => Outcome::Bad(format!("HTTP probe failed with statuscode: {code}")),
        };
    }
    Outcome::Bad(format!("stopped after {REDIRECTS} redirects"))
}

/// Where a redirect leads, if that is the same host.
fn same_host(asked: &http::Uri, next: &str) -> Option<String> {
    let authority = asked.authority()?;
    if next.starts_with('/') && !next.starts_with("//") {
        return Some(format!("{}://{authority}{next}", asked.scheme_str()?));
    }
    let uri: http::Uri = next.parse().ok()?;
    (uri.host()? == authority.host()).then(|| next.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that answers every connection with one text.
    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 2048];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let answer = if head.starts_with("GET /there") { "HTTP/1.1 200 OK\r\n\r\n" } else { answer };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn http_answers() {
        let get = HTTPGetAction { path: "/x".into(), ..HTTPGetAction::default() };
        let limit = Duration::from_secs(2);
        let ok = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(http(&get, "127.0.0.1", ok, limit).await, Outcome::Good);
        let bad = server("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
        let wanted = Outcome::Bad("HTTP probe failed with statuscode: 503".into());
        assert_eq!(http(&get, "127.0.0.1", bad, limit).await, wanted);
        let away = server("HTTP/1.1 302 Found\r\nlocation: http://example.invalid/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(http(&get, "127.0.0.1", away, limit).await, Outcome::Good);
        let near = server("HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(http(&get, "127.0.0.1", near, limit).await, Outcome::Good);
    }

    #[tokio::test]
    async fn connections() {
        let port = server("").await;
        assert_eq!(connect("127.0.0.1", port, Duration::from_secs(2)).await, Outcome::Good);
        assert!(matches!(connect("127.0.0.1", 1, Duration::from_secs(2)).await, Outcome::Bad(_)));
    }

    #[test]
    fn ports_have_names() {
        let mut container = Container::default();
        container.ports = vec![api::core::pod::container::ContainerPort {
            name: "web".into(),
            container_port: 8080,
            ..Default::default()
        }];
        assert_eq!(port_of(&IntOrString::String("web".into()), &container), Some(8080));
        assert_eq!(port_of(&IntOrString::Int(0), &container), None);
        assert_eq!(port_of(&IntOrString::String("none".into()), &container), None);
    }
}
