//! Health check ports: load balancers ask them whether this node has endpoints of a service.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::plan::Health;
use crate::{Error, Result};

type Shared = Arc<RwLock<Health>>;

/// The open health check ports. Dropping it closes them.
#[derive(Debug, Default)]
pub struct HealthPorts {
    open: BTreeMap<u16, Port>,
}

#[derive(Debug)]
struct Port {
    state: Shared,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthPorts {
    /// Opens, updates and closes ports as `wanted` says; gives what could not be opened.
    pub async fn sync(&mut self, wanted: &BTreeMap<u16, Health>) -> Vec<Error> {
        self.open.retain(|port, _| wanted.contains_key(port));
        let mut errors = Vec::new();
        for (port, health) in wanted {
            if let Some(open) = self.open.get(port) {
                *open.state.write().unwrap_or_else(std::sync::PoisonError::into_inner) = health.clone();
                continue;
            }
            match open(*port, health.clone()).await {
                Ok(opened) => {
                    self.open.insert(*port, opened);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }
}

async fn open(port: u16, health: Health) -> Result<Port> {
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    // A host without IPv6 has the other one.
    let listener = match TcpListener::bind(any6).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(any4).await.map_err(|source| Error::HealthPort { port, source })?,
    };
    let state: Shared = Arc::new(RwLock::new(health));
    let shared = state.clone();
    let task = tokio::spawn(async move {
        const AT_ONCE: usize = 64;
        let limit = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = limit.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let state = shared.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        let _ = tokio::time::timeout(Duration::from_secs(5), answer(stream, state)).await;
                    });
                }
                // Out of descriptors, most likely: they come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(Port { state, task })
}

/// Answers any request with the state: whatever is asked, there is one thing to say.
async fn answer(mut stream: TcpStream, state: Shared) -> std::io::Result<()> {
    const MAX_REQUEST: usize = 8 << 10;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let length = stream.read(&mut buffer).await?;
        if length == 0 || request.len() + length > MAX_REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
    }
    let health = state.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    stream.write_all(response(&health).as_bytes()).await?;
    stream.shutdown().await
}

fn response(health: &Health) -> String {
    let status = if health.local_endpoints > 0 { "200 OK" } else { "503 Service Unavailable" };
    // Names of services and namespaces need no escaping in JSON: they are DNS labels.
    let body = format!(
        "{{\"service\":{{\"namespace\":\"{}\",\"name\":\"{}\"}},\"localEndpoints\":{},\"serviceProxyHealthy\":true}}",
        health.namespace, health.service, health.local_endpoints
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        health.local_endpoints,
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_tells_the_number_of_local_endpoints_and_closes() {
        let port = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let health = |local_endpoints| Health { namespace: "ns".into(), service: "s".into(), local_endpoints };
        let mut ports = HealthPorts::default();
        let ask = || async move {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        assert!(ports.sync(&BTreeMap::from([(port, health(2))])).await.is_empty());
        let text = ask().await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"localEndpoints\":2"), "{text}");
        ports.sync(&BTreeMap::from([(port, health(0))])).await;
        assert!(ask().await.unwrap().starts_with("HTTP/1.1 503"));
        ports.sync(&BTreeMap::new()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(ask().await.is_err());
    }
}
