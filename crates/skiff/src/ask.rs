//! A cluster's API as commands on this machine ask it: over TLS, like any other client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use apimachinery::Value;
use apimachinery::codec::json;
use pki::Credential;
use pki::kubeconfig::{Kubeconfig, Source};
use transport::{ClientTls, Dialer, Resolver, Trust};

/// How long the API may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 << 20;
/// How many objects a page of a list has.
const PAGE: usize = 500;

/// A cluster's API.
pub struct Api {
    client: transport::Client,
    url: String,
}

impl Api {
    /// The API at a URL, which shows a certificate of `authority` (PEM), asked as the holder of a credential.
    pub fn new(url: &str, authority: &str, own: &Credential) -> anyhow::Result<Api> {
        let identity = transport::Identity::new(own.chain.clone(), own.key_der())?;
        let tls = ClientTls::trusting(Trust::from_pem(authority.as_bytes())?).identity(identity);
        let client = transport::Client::builder(Dialer::direct(Resolver::system())).tls(tls).build()?;
        Ok(Api { client, url: url.trim_end_matches('/').to_owned() })
    }

    /// The API at a URL, with what to trust and who asks from a kubeconfig.
    pub fn of_kubeconfig(url: &str, kubeconfig: &str) -> anyhow::Result<Api> {
        let read = Kubeconfig::parse(kubeconfig, Path::new("/"), None)?;
        let load = |source: &Option<Source>| -> anyhow::Result<String> {
            let bytes = source.as_ref().context("the kubeconfig is not complete")?.load()?;
            Ok(String::from_utf8(bytes)?)
        };
        let own = load(&read.user.client_key)? + &load(&read.user.client_certificate)?;
        Api::new(url, &load(&read.cluster.certificate_authority)?, &Credential::from_pem(&own)?)
    }

    /// The status code and the body of a path.
    pub async fn ask(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let asked = http::Request::get(format!("{}{path}", self.url)).body(transport::body::empty())?;
        let answer = self.client.fetch(LIMIT, MAX_ANSWER, asked).await?;
        Ok((answer.status().as_u16(), answer.body().to_vec()))
    }

    /// The object at a path.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (code, body) = self.ask(path).await?;
        ensure!((200..300).contains(&code), "the API answered with {code} for {path}");
        Ok(json::parse(&body)?)
    }

    /// All objects of a list, page by page.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut next) = (Vec::new(), String::new());
        let separator = if path.contains('?') { '&' } else { '?' };
        loop {
            let from = if next.is_empty() { String::new() } else { format!("&continue={next}") };
            let tree = self.get(&format!("{path}{separator}limit={PAGE}{from}")).await?;
            all.extend_from_slice(tree.get("items").and_then(Value::as_list).unwrap_or_default());
            next = tree.str_at(&["metadata", "continue"]).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(all);
            }
        }
    }
}

/// Whether an object has a condition that is true.
pub fn has_condition(object: &Value, name: &str) -> bool {
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_list).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition.str_at(&["type"]) == Some(name));
    found.is_some_and(|condition| condition.str_at(&["status"]) == Some("True"))
}
