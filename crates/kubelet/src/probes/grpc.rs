//! The health check of gRPC (`grpc.health.v1.Health/Check`), as one request over HTTP/2.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::check::{Outcome, dialer, target};

/// Asks for the health of a service; empty is the server as a whole.
pub async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, ask(host, port, service)).await {
        Ok(Ok(1)) => Outcome::Good,
        Ok(Ok(status)) => Outcome::Bad(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(error)) => Outcome::Bad(error),
        Err(_) => Outcome::Bad(format!("timeout: failed to connect service \"{host}:{port}\" within {limit:?}")),
    }
}

fn name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "?",
    }
}

/// The request's message: field 1 is the service.
fn message(service: &str) -> Vec<u8> {
    let mut inner = Vec::new();
    if !service.is_empty() {
        inner.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            inner.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        inner.push(length as u8);
        inner.extend_from_slice(service.as_bytes());
    }
    // Not compressed, then the length.
    let mut framed = vec![0];
    framed.extend_from_slice(&(inner.len() as u32).to_be_bytes());
    framed.extend(inner);
    framed
}

/// The status of an answer: field 1, 0 when it is left out.
fn status(framed: &[u8]) -> Option<u64> {
    let inner = framed.get(5..)?;
    match inner {
        [] => Some(0),
        [0x08, value, ..] => Some(u64::from(*value)),
        _ => None,
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<u64, String> {
    let stream = dialer().dial(&target(host, port)).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let task = tokio::spawn(connection);
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = http::Request::post(format!("http://{shown}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(http_body_util::Full::new(bytes::Bytes::from(message(service))))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let head = answer.headers().get("grpc-status").cloned();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?;
    let code = head.or_else(|| body.trailers().and_then(|t| t.get("grpc-status").cloned()));
    let bytes = body.to_bytes();
    task.abort();
    match code.as_ref().and_then(|c| c.to_str().ok()) {
        None | Some("0") => status(&bytes).ok_or_else(|| "the answer cannot be read".to_owned()),
        Some("12") => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()),
        Some(code) => Err(format!("rpc error: code = {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0]), None);
    }

    #[tokio::test]
    async fn nobody_there_is_bad() {
        let outcome = check("127.0.0.1", 1, "", Duration::from_secs(1)).await;
        assert!(matches!(outcome, Outcome::Bad(_)));
    }
}
