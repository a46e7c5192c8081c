//! Logs over WebSocket: what a kubelet streams becomes messages, one way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use apimachinery::Status;

use crate::respond::Response;

/// How each piece is sent. Clients that name none get the first.
const PROTOCOLS: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];

/// Whether a client asks for a WebSocket.
pub fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
}

/// The protocol to speak: the first of the client's that we know; none where the client names none.
fn choose(headers: &HeaderMap) -> Result<Option<&'static str>, Status> {
    let offered: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let chosen = offered.iter().find_map(|offer| PROTOCOLS.iter().find(|known| *known == offer).copied());
    match chosen {
        None if !offered.is_empty() => {
            Err(Status::new(403, "Forbidden", format!("none of the protocols {offered:?} is one of {PROTOCOLS:?}")))
        }
        chosen => Ok(chosen),
    }
}

/// Answers a client's upgrade and sends it a body as messages, until the body ends or the client goes.
pub fn stream(
    headers: &HeaderMap,
    client: Option<hyper::upgrade::OnUpgrade>,
    mut body: hyper::body::Incoming,
) -> Result<Response, Status> {
    let key =
        headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("the header Sec-WebSocket-Key is missing"))?;
    let chosen = choose(headers)?;
    let accept = derive_accept_key(key.as_bytes());
    let client = client.ok_or_else(|| Status::bad_request("the connection cannot be upgraded"))?;
    tokio::spawn(async move {
        let Ok(client) = client.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
        let (mut to, mut from) = socket.split();
        let encode = |data: Bytes| match chosen {
            Some("base64.binary.k8s.io") => Message::text(STANDARD.encode(&data)),
            _ => Message::binary(data),
        };
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                // Nothing that a client says counts, but that it goes.
                said = from.next() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                },
            };
            let Some(Ok(frame)) = frame else { break };
            let Ok(data) = frame.into_data() else { continue };
            if !data.is_empty() && to.send(encode(data)).await.is_err() {
                return;
            }
        }
        let _ = to.close().await;
    });
    let mut response = http::Response::new(crate::respond::full(""));
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(chosen) = chosen {
        fields.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_agreed_on() {
        let headers = |protocols: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
            for protocol in protocols {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            }
            headers
        };
        assert!(is_asked(&headers(&[])) && !is_asked(&HeaderMap::new()));
        assert_eq!(choose(&headers(&[])).unwrap(), None);
        assert_eq!(choose(&headers(&["x, base64.binary.k8s.io", "binary.k8s.io"])).unwrap(), Some(PROTOCOLS[1]));
        assert_eq!(choose(&headers(&["x"])).unwrap_err().code, 403);
    }
}
