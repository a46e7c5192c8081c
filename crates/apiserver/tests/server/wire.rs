//! Raw HTTP/1.1 over TLS: what a client library would not let through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Long enough for a slow machine; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where requests go and who sends them.
pub struct Wire {
    pub address: SocketAddr,
    pub tls: Arc<rustls::ClientConfig>,
    /// For servers that know this client by a token.
    pub token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

impl Wire {
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.unwrap()
    }

    /// The head of a request, without a length.
    pub fn head(&self, method: &str, path: &str, headers: &[(String, String)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends a request of known length and reads the answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        let answer = self.try_send(method, path, headers, body).await;
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// The same for what a server may find too bad to answer; `None` when it just closes.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut bytes = self.head(method, path, headers).into_bytes();
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.exchange(&bytes).await
    }

    /// Writes bytes and reads what comes back until the server closes; `None` when that is no answer.
    pub async fn exchange(&self, bytes: &[u8]) -> Option<Answer> {
        let (mut read, mut write) = tokio::io::split(self.connect().await);
        let mut got = Vec::new();
        // A server may answer before it has read all, and then need not read the rest.
        let sending = async {
            let _ = write.write_all(bytes).await;
            let _ = write.flush().await;
            std::future::pending::<()>().await;
        };
        let receiving = async {
            let mut chunk = [0; 16 << 10];
            while let Ok(count @ 1..) = read.read(&mut chunk).await {
                got.extend_from_slice(&chunk[..count]);
                if parse(&got).is_some_and(|(_, whole)| whole) {
                    break;
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                () = sending => {}
                () = receiving => {}
            }
        });
        if ended.await.is_err() {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
            panic!("the server neither answers nor closes: {start}");
        }
        parse(&got).map(|(answer, _)| answer)
    }
}

/// Reads an answer, and whether it is whole.
pub fn parse(bytes: &[u8]) -> Option<(Answer, bool)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let code: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let rest = &bytes[end + 4..];
    if find("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        let (body, whole) = unchunk(rest);
        return Some((Answer { code, headers, body }, whole));
    }
    let length: Option<usize> = find("content-length").and_then(|text| text.parse().ok());
    let whole = length.is_some_and(|length| rest.len() >= length);
    Some((Answer { code, headers, body: rest.to_vec() }, whole))
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        match size {
            Some(0) => return (body, true),
            Some(size) if rest.len() >= at + 2 + size + 2 => {
                body.extend_from_slice(&rest[at + 2..at + 2 + size]);
                rest = &rest[at + 2 + size + 2..];
            }
            _ => break,
        }
    }
    (body, false)
}
