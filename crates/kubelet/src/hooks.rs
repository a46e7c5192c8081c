//! What a container does after its start and before its stop.

use std::net::IpAddr;
use std::time::Duration;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::pod::probe::{HTTPGetAction, LifecycleHandler};
use cri::v1;
use runtime::Runtime;

use crate::probes::port_of;

/// A hook without an end of its own is cut off after this; a grace period may be shorter.
const LIMIT: Duration = Duration::from_secs(30 * 60);
const MAX_BODY: usize = 10 << 10;

/// Runs a hook to its end; fails with what is told in the event.
pub async fn run(
    runtime: &Runtime,
    handler: &LifecycleHandler,
    pod: &Pod,
    container: &Container,
    id: &str,
    ip: Option<IpAddr>,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: exec.command.clone(), timeout: 0 };
        let answer = runtime.exec_sync(request).await.map_err(|e| e.to_string())?;
        if answer.exit_code != 0 {
            let mut text = answer.stdout;
            text.extend(answer.stderr);
            text.truncate(MAX_BODY);
            let text = String::from_utf8_lossy(&text).into_owned();
            return Err(format!("command '{}' exited with {}: {text}", exec.command.join(" "), answer.exit_code));
        }
        return Ok(());
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if let Some(get) = &handler.http_get {
        let host = match (get.host.as_str(), ip) {
            ("", Some(ip)) => ip.to_string(),
            ("", None) => return Err(format!("pod {} has no address", pod.metadata.name)),
            (host, _) => host.to_owned(),
        };
        return request(get, &host, container).await;
    }
    // Upstream refuses tcpSocket hooks in the same way; the API keeps them for old objects.
    Err("invalid handler: the hook says nothing that can be done".to_owned())
}

async fn request(get: &HTTPGetAction, host: &str, container: &Container) -> Result<(), String> {
    let port = port_of(&get.port, container).unwrap_or(80);
    let client = transport::Client::builder(transport::Dialer::direct(transport::Resolver::system()))
        .tls(transport::ClientTls::insecure())
        .http1_only()
        .build()
        .map_err(|e| e.to_string())?;
    let asked = crate::probes::request(get, host, port)?;
    let answer = client.fetch(LIMIT, MAX_BODY, asked).await;
    let status = match answer {
        Ok(answer) => answer.status(),
        // A server that speaks no TLS is asked again without (upstream's rule for hooks).
        Err(transport::Error::Handshake { .. }) if get.scheme.eq_ignore_ascii_case("https") => {
            let plain = HTTPGetAction { scheme: "HTTP".into(), ..get.clone() };
            let asked = crate::probes::request(&plain, host, port)?;
            client.fetch(LIMIT, MAX_BODY, asked).await.map_err(|e| e.to_string())?.status()
        }
        Err(error) => return Err(error.to_string()),
    };
    if status.as_u16() >= 400 { Err(format!("HTTP hook failed with statuscode: {}", status.as_u16())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hooks_by_http() {
        let get = HTTPGetAction { port: apimachinery::IntOrString::Int(1), ..HTTPGetAction::default() };
        assert!(request(&get, "127.0.0.1", &Container::default()).await.is_err());
    }
}
