//! Asks a local cluster's API whether its nodes are ready.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use apimachinery::Value;
use apimachinery::codec::json;
use pki::Credential;
use pki::kubeconfig::{Kubeconfig, Source};
use transport::{ClientTls, Dialer, Resolver, Trust};

use super::Cluster;

const LIMIT: Duration = Duration::from_secs(3);
const MAX_ANSWER: usize = 16 << 20;

/// A cluster's API as its administrator asks it.
pub struct Api {
    client: transport::Client,
    server: String,
}

impl Api {
    /// Reads what to trust and who asks from a kubeconfig.
    pub fn new(kubeconfig: &str, cluster: &Cluster) -> anyhow::Result<Api> {
        let read = Kubeconfig::parse(kubeconfig, Path::new("/"), None)?;
        let load = |source: &Option<Source>| -> anyhow::Result<String> {
            let bytes = source.as_ref().context("the kubeconfig is not complete")?.load()?;
            Ok(String::from_utf8(bytes)?)
        };
        let trust = Trust::from_pem(load(&read.cluster.certificate_authority)?.as_bytes())?;
        let own = load(&read.user.client_key)? + &load(&read.user.client_certificate)?;
        let own = Credential::from_pem(&own)?;
        let identity = transport::Identity::new(own.chain.clone(), own.key_der())?;
        let tls = ClientTls::trusting(trust).identity(identity);
        let client = transport::Client::builder(Dialer::direct(Resolver::system())).tls(tls).build()?;
        Ok(Api { client, server: format!("https://{}:6443", cluster.nodes[0].ip) })
    }

    /// Why not all of so many nodes are ready, or nothing if they are.
    pub async fn trouble(&self, count: usize) -> Option<String> {
        match self.ready().await {
            Ok(ready) if ready.len() < count => Some(format!("{} of {count} nodes have joined", ready.len())),
            Ok(ready) => {
                let waiting = ready.iter().filter(|one| !**one).count();
                (waiting > 0).then(|| format!("{waiting} of {count} nodes are not ready"))
            }
            Err(error) => Some(format!("{error:#}")),
        }
    }

    async fn ready(&self) -> anyhow::Result<Vec<bool>> {
        let asked = http::Request::get(format!("{}/api/v1/nodes", self.server)).body(transport::body::empty())?;
        let answer = self.client.fetch(LIMIT, MAX_ANSWER, asked).await?;
        anyhow::ensure!(answer.status().is_success(), "the API answered with {}", answer.status());
        let tree = json::parse(answer.body())?;
        let items = tree.get("items").and_then(Value::as_list).unwrap_or_default();
        Ok(items.iter().map(is_ready).collect())
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.at(&["status", "conditions"]).and_then(Value::as_list).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == Some("Ready"));
    ready.is_some_and(|condition| condition.str_at(&["status"]) == Some("True"))
}
