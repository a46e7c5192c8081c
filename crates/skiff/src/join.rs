//! The server's side of joining: signs a machine's certificates if it has the token and its name is its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use api::core::secret::Secret;
use apimachinery::{Bytes, Map, ObjectMeta, Status, Value};
use client::Client;
use pki::issue::{KeyUsage, LEAF_LIFETIME};
use pki::token::JoinToken;
use pki::{Authority, Ca, Csr, Hierarchy};

/// Facts of the cluster that every node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    pub cluster_cidrs: Vec<String>,
    pub service_cidrs: Vec<String>,
    pub cluster_domain: String,
    /// Whether nodes make services reachable, or leave that to others' programs.
    pub proxy: bool,
}

impl ClusterFacts {
    pub fn to_value(&self) -> Value {
        let list = |texts: &[String]| Value::List(texts.iter().map(|t| Value::from(t.as_str())).collect());
        let mut map = Map::new();
        map.insert("clusterCIDRs", list(&self.cluster_cidrs));
        map.insert("serviceCIDRs", list(&self.service_cidrs));
        map.insert("clusterDomain", self.cluster_domain.as_str());
        map.insert("proxy", self.proxy);
        Value::Map(map)
    }

    pub fn from_value(tree: &Value) -> ClusterFacts {
        let list = |key: &str| {
            let items = tree.get(key).and_then(Value::as_list).unwrap_or_default();
            items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect()
        };
        ClusterFacts {
            cluster_cidrs: list("clusterCIDRs"),
            service_cidrs: list("serviceCIDRs"),
            cluster_domain: tree.str_at(&["clusterDomain"]).unwrap_or_default().to_owned(),
            proxy: tree.get("proxy").and_then(Value::as_bool).unwrap_or(true),
        }
    }
}

/// The gate of a server.
pub struct Gate {
    token: JoinToken,
    servers: Arc<Ca>,
    clients: Arc<Ca>,
    /// Keeps which machine has which name.
    client: Client,
    facts: ClusterFacts,
}

impl Gate {
    /// Opens the gate; the token is made at the first start and kept in `<data>/token`.
    pub fn open(data: &Path, hierarchy: &Hierarchy, client: Client, facts: ClusterFacts) -> anyhow::Result<Gate> {
        let servers = hierarchy.ca(Authority::Server)?;
        let text = token(data, hierarchy)?;
        Ok(Gate { token: JoinToken::parse(&text)?, servers, clients: hierarchy.ca(Authority::Client)?, client, facts })
    }

    async fn answer(&self, secret: &str, asked: &Value) -> Result<Value, Status> {
        let shown = secret.split_once(':').unwrap_or(("node", secret));
        if !self.token.admits(shown.0, shown.1) {
            return Err(Status::unauthorized());
        }
        let text = |key: &str| asked.str_at(&[key]).unwrap_or_default();
        let name = text("nodeName");
        let fine = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        if !fine {
            return Err(Status::bad_request(format!("{name:?} is no valid name of a node")));
        }
        self.check_owner(name, text("password")).await?;
        let user = format!("system:node:{name}");
        let nodes = ["system:nodes".to_owned()];
        let node = sign(&self.clients, text("node"), &user, &nodes, KeyUsage::ClientAuth)?;
        let serving = sign(&self.servers, text("serving"), &user, &nodes, KeyUsage::ServerAuth)?;
        let proxy = sign(&self.clients, text("proxy"), "system:kube-proxy", &[], KeyUsage::ClientAuth)?;
        let mut map = Map::new();
        map.insert("node", node);
        map.insert("serving", serving);
        map.insert("proxy", proxy);
        map.insert("clientAuthority", self.clients.bundle_pem());
        map.insert("cluster", self.facts.to_value());
        Ok(Value::Map(map))
    }

    /// A name belongs to the machine that had it first, which shows the same password again.
    async fn check_owner(&self, name: &str, password: &str) -> Result<(), Status> {
        if password.len() < 16 || password.len() > 128 {
            return Err(Status::bad_request("a machine needs a password of its own"));
        }
        let hash = hex(&pki_hash(password));
        let object = format!("{name}.node-password.skiff");
        let known = self.client.try_get::<Secret>("kube-system", &object).await?;
        let stored = |secret: &Secret| secret.data.get("hash").map(|b| b.0.to_vec()).unwrap_or_default();
        match known {
            Some(secret) if stored(&secret) == hash.as_bytes() => Ok(()),
            Some(_) => Err(Status::new(
                403,
                "Forbidden",
                format!("another machine has the name {name:?}; choose another, or delete Secret kube-system/{object}"),
            )),
            None => {
                let secret = Secret {
                    metadata: ObjectMeta { name: object, namespace: "kube-system".into(), ..ObjectMeta::default() },
                    data: BTreeMap::from([("hash".to_owned(), Bytes(hash.into_bytes()))]),
                    ..Secret::default()
                };
                self.client.create(&secret).await.map(drop)
            }
        }
    }
}

/// The token by which nodes join, made at the first start and kept in `<data>/token`.
pub fn token(data: &Path, hierarchy: &Hierarchy) -> anyhow::Result<String> {
    let servers = hierarchy.ca(Authority::Server)?;
    let made = || JoinToken::generate(servers.cert(), "node").map(|token| format!("{token}\n"));
    Ok(pki::file::create_once(&data.join("token"), made)?)
}

fn pki_hash(text: &str) -> [u8; 32] {
    pki::sha256(text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Signs a request if it asks for exactly that user.
fn sign(ca: &Ca, request: &str, user: &str, groups: &[String], usage: KeyUsage) -> Result<String, Status> {
    let csr = Csr::from_pem(request.as_bytes()).map_err(|e| Status::bad_request(e.to_string()))?;
    if csr.common_name != user || csr.organizations != groups {
        return Err(Status::bad_request(format!("the certificate request is not for {user}")));
    }
    let usages = [KeyUsage::DigitalSignature, usage];
    let signed = ca.sign_csr(&csr, &usages, LEAF_LIFETIME, SystemTime::now());
    Ok(pki::cert::to_pem(&signed.map_err(Status::internal)?))
}

impl apiserver::join::Gate for Gate {
    fn authority(&self) -> String {
        self.servers.bundle_pem()
    }

    fn admit<'a>(
        &'a self,
        secret: &'a str,
        request: Value,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Status>> + Send + 'a>> {
        Box::pin(async move { self.answer(secret, &request).await })
    }
}
