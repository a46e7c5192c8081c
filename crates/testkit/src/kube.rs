//! A small client of the API over HTTPS: what tests and benchmarks of a whole server ask with, nothing of the product's
//! own client in between.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::{Method, Request, header};
use pki::kubeconfig::{Kubeconfig, Source};
use serde_json::Value;
use transport::{Client, ClientTls, Dialer, Identity, Resolver, Trust};

/// How long anything may take before whoever waits for it gives up: slow machines run tests too.
pub const PATIENCE: Duration = Duration::from_secs(180);
const LARGEST: usize = 64 << 20;

/// A client with the credentials of a kubeconfig.
pub struct Kube {
    /// The connections.
    pub client: Client,
    /// The address, such as `https://127.0.0.1:6443`.
    pub server: String,
}

impl Kube {
    /// Reads a kubeconfig that carries its credentials.
    pub fn read(path: &Path) -> anyhow::Result<Kube> {
        let config = Kubeconfig::read(path, None)?;
        let load = |source: &Option<Source>| -> anyhow::Result<Vec<u8>> {
            Ok(source.as_ref().context("the kubeconfig lacks a credential")?.load()?)
        };
        let trust = Trust::from_pem(&load(&config.cluster.certificate_authority)?)?;
        let identity = Identity::from_pem(&load(&config.user.client_certificate)?, &load(&config.user.client_key)?)?;
        let client = Client::builder(Dialer::direct(Resolver::system()))
            .tls(ClientTls::trusting(trust).identity(identity))
            .build()?;
        Ok(Kube { client, server: config.cluster.server })
    }

    /// Sends a request with a JSON body; the code and the whole answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, bytes::Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(header::CONTENT_TYPE, content_type)
            .body(body.map_or_else(transport::body::empty, |b| transport::body::full(b.to_string())))?;
        let response = self.client.fetch(PATIENCE, LARGEST, request).await?;
        Ok((response.status().as_u16(), response.into_body()))
    }

    async fn object(&self, method: Method, path: &str, form: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (code, bytes) = self.ask(method.clone(), path, form, body).await?;
        if code >= 300 {
            bail!("{method} {path}: {code} {}", String::from_utf8_lossy(&bytes));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Whether `/readyz` says ok.
    pub async fn ready(&self) -> bool {
        matches!(self.ask(Method::GET, "/readyz", "text/plain", None).await, Ok((200, body)) if body == "ok")
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.object(Method::GET, path, "application/json", None).await
    }

    pub async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.object(Method::POST, path, "application/json", Some(object)).await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.object(Method::DELETE, path, "application/json", None).await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        self.object(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await
    }

    /// Looks at an object again and again until it is as wanted; errors count as not yet.
    pub async fn until(&self, path: &str, every: Duration, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let asked = Instant::now();
        loop {
            if let Ok(object) = self.get(path).await
                && wanted(&object)
            {
                return Ok(object);
            }
            if asked.elapsed() > PATIENCE {
                bail!("{path} did not become as wanted within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(every).await;
        }
    }
}
