//! Runs a command in a pod by WebSocket, as kubectl does.

use anyhow::bail;
use futures::StreamExt;
use http::{Request, header};
use serde_json::Value;
use testkit::Kube;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use transport::Upgrade;

/// Runs a command over a connection of its own; its standard output. The words must be fit for a query as they are.
pub async fn exec(kube: &Kube, namespace: &str, pod: &str, command: &[&str]) -> anyhow::Result<String> {
    let words: String = command.iter().map(|word| format!("&command={word}")).collect();
    let server = &kube.server;
    let request = Request::builder()
        .uri(format!("{server}/api/v1/namespaces/{namespace}/pods/{pod}/exec?stdout=true&stderr=true{words}"))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
        .body(transport::body::empty())?;
    let stream = match kube.client.upgrade(request).await? {
        Upgrade::Switched(_, stream) => stream,
        Upgrade::Refused(response) => bail!("exec was refused: {}", response.status()),
    };
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let (mut output, mut status) = (Vec::new(), Value::Null);
    while let Some(message) = socket.next().await {
        // Channel 1 is the standard output, 3 the outcome as a Status.
        match message? {
            Message::Binary(data) if data.first() == Some(&1) => output.extend_from_slice(&data[1..]),
            Message::Binary(data) if data.first() == Some(&3) => {
                status = serde_json::from_slice(&data[1..])?;
                break;
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    if status["status"] != "Success" {
        bail!("the command failed: {status}");
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}
