//! Calls to webhooks: where they are, how they are trusted, and one POST of a review each.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use apimachinery::{SmolStr, Status, Value, codec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::{Cx, Engine};
use parking_lot::Mutex;
use transport::{Client, ClientTls, Dialer, Target, Trust};

use crate::tree::text;

/// An answer larger than this is refused: objects are smaller.
const MOST: usize = 3 * 1024 * 1024;
/// Clients that are kept; beyond it all are dropped, which only costs new handshakes.
const CLIENTS: usize = 256;

/// Where a webhook is and whom it is trusted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    place: Place,
    /// PEM; empty for the system's authorities.
    authority: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Url(SmolStr),
    Service { namespace: SmolStr, name: SmolStr, path: SmolStr, port: i64 },
}

impl Hook {
    /// Reads a `clientConfig` tree.
    ///
    /// # Errors
    /// A sentence when neither a URL nor a service is named, or the CA bundle is not base64.
    pub fn read(config: &Value) -> Result<Hook, String> {
        let authority = STANDARD.decode(text(config, &["caBundle"])).map_err(|_| "caBundle is not base64")?;
        let place = match (config.str_at(&["url"]), config.get("service")) {
            (Some(url), None) => Place::Url(url.into()),
            (None, Some(service)) => Place::Service {
                namespace: text(service, &["namespace"]).into(),
                name: text(service, &["name"]).into(),
                path: text(service, &["path"]).into(),
                port: service.get("port").and_then(Value::as_i64).unwrap_or(443),
            },
            _ => return Err("exactly one of url or service is required".into()),
        };
        Ok(Hook { place, authority: authority.into() })
    }
}

/// Calls webhooks, keeping connections.
#[derive(Default)]
pub struct Caller {
    dialer: OnceLock<Dialer>,
    clients: Mutex<HashMap<(Hook, Option<Target>), Client>>,
}

impl Caller {
    /// Says how connections are opened; before it every call fails.
    pub fn set(&self, dialer: Dialer) {
        let _ = self.dialer.set(dialer);
    }

    /// Posts a JSON body and reads the JSON answer.
    ///
    /// # Errors
    /// A sentence that says what went wrong on the way.
    pub async fn post(
        &self,
        engine: &Engine,
        cx: &Cx,
        hook: &Hook,
        body: &Value,
        query: &str,
        limit: Duration,
    ) -> Result<Value, String> {
        let (url, target) = match &hook.place {
            Place::Url(url) => (url.to_string(), None),
            Place::Service { namespace, name, path, port } => {
                let to = port.to_string();
                let (host, at) =
                    crate::connect::endpoint(engine, cx, namespace, name, &to).await.map_err(|s| s.message)?;
                let at = u16::try_from(at).map_err(|_| format!("port {at} is not valid"))?;
                let path = path.trim_start_matches('/');
                (format!("https://{name}.{namespace}.svc:{port}/{path}"), Some(Target::Host(host, at)))
            }
        };
        let url = if query.is_empty() { url } else { format!("{url}?{query}") };
        let client = self.client(hook, target)?;
        let request = http::Request::post(&url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::USER_AGENT, "kube-apiserver-admission")
            .body(transport::body::full(codec::json::encode_free(body)))
            .map_err(|e| e.to_string())?;
        let shown = url.clone();
        let answer =
            client.fetch(limit, MOST, request).await.map_err(|e| format!("Post {shown:?}: {}", describe(&e)))?;
        if !answer.status().is_success() {
            let start = String::from_utf8_lossy(&answer.body()[..answer.body().len().min(1024)]).into_owned();
            return Err(match codec::json::parse(answer.body()) {
                Ok(status) if text(&status, &["kind"]) == "Status" => Status::from_value(&status).message,
                _ if start.trim().is_empty() => {
                    format!("the server responded with the status code {}", answer.status().as_u16())
                }
                _ => {
                    format!("the server responded with the status code {}: {}", answer.status().as_u16(), start.trim())
                }
            });
        }
        codec::json::parse(answer.body()).map_err(|e| format!("the answer is not JSON: {e}"))
    }

    fn client(&self, hook: &Hook, target: Option<Target>) -> Result<Client, String> {
        let key = (hook.clone(), target.clone());
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let dialer = self.dialer.get().ok_or("webhooks cannot be called while the server starts")?.clone();
        let trust = if hook.authority.is_empty() { Trust::system() } else { Trust::from_pem(&hook.authority) };
        let tls = ClientTls::trusting(trust.map_err(|e| e.to_string())?);
        let mut builder = Client::builder(dialer).tls(tls);
        if let Some(target) = target {
            builder = builder.target(target);
        }
        let client = builder.build().map_err(|e| e.to_string())?;
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// An error with its causes; a time limit in the words that clients look for.
fn describe(error: &transport::Error) -> String {
    if matches!(error, transport::Error::Timeout { .. }) {
        return "context deadline exceeded".into();
    }
    let mut out = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        let more = one.to_string();
        if !out.contains(&more) {
            out.push_str(": ");
            out.push_str(&more);
        }
        cause = one.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn client_configs_are_read() {
        let service =
            Hook::read(&tree(json!({"service": {"namespace": "a", "name": "b"}, "caBundle": "cGVt"}))).unwrap();
        assert_eq!(service.authority, "pem");
        assert_eq!(
            service.place,
            Place::Service { namespace: "a".into(), name: "b".into(), path: "".into(), port: 443 }
        );
        assert!(Hook::read(&tree(json!({"url": "https://x/y"}))).is_ok());
        for bad in [json!({}), json!({"url": "u", "service": {}}), json!({"url": "u", "caBundle": "%"})] {
            assert!(Hook::read(&tree(bad)).is_err());
        }
    }
}
