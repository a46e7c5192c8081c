//! A node on a machine of its own: joins with a token, keeps its certificates, and runs pods.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use apimachinery::codec::json;
use apimachinery::{Map, Status, Value};
use client::Client;
use client::https::Https;
use pki::renew::{Renewal, decide};
use pki::token::JoinToken;
use pki::{CertInfo, Credential, Csr, Leaf, PrivateKey};
use transport::{ClientAuth, ClientTls, Dialer, Resolver, ServerTls, Trust};

use crate::folder::Role;
use crate::join::ClusterFacts;
use crate::{host, network, node};

/// How long the server may take to answer.
const LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 256 << 10;
const RETRY: Duration = Duration::from_secs(2);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: String,
    pub token: String,
    pub data_dir: PathBuf,
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    pub node_labels: Vec<String>,
    pub node_taints: Vec<String>,
}

/// What a join gives, and where it is kept.
struct Credentials {
    node: Credential,
    serving: Credential,
    proxy: Credential,
    client_authority: String,
    facts: ClusterFacts,
}

/// The identities in use, which a renewal replaces.
struct Identities {
    node: transport::Identity,
    serving: transport::Identity,
    proxy: transport::Identity,
}

/// Runs an agent until it is told to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let token = JoinToken::parse(&config.token).context("the join token cannot be used")?;
    let server = config.server.trim_end_matches('/').to_owned();
    let uri: http::Uri = server.parse().with_context(|| format!("{server:?} is no address of a server"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() {
        bail!("{server:?} is no address of a server; write https://<name or address>:6443");
    }
    let folder = config.data_dir.join("pki");
    node::check(&config.data_dir)?;
    let _claims = host::claim(&config.data_dir, Role::Agent, &server, Some(&config.node_name), None)?;
    pki::file::private_dir(&folder)?;
    let node_ips = if config.node_ips.is_empty() { vec![own_address(&uri)?] } else { config.node_ips.clone() };

    let authority = authority(&server, &token, &folder).await?;
    let trust = Trust::from_pem(authority.as_bytes())?;
    let asking =
        Asking { server: server.clone(), token, folder, name: config.node_name.clone(), ips: node_ips.clone() };
    let held = match asking.kept() {
        Some(held) => held,
        None => asking.join(&trust).await?,
    };
    let identity = |c: &Credential| transport::Identity::new(c.chain.clone(), c.key_der());
    let identities =
        Identities { node: identity(&held.node)?, serving: identity(&held.serving)?, proxy: identity(&held.proxy)? };

    let dialer = Dialer::direct(Resolver::system());
    let client_of = |identity: &transport::Identity, name: &str| -> anyhow::Result<Client> {
        let tls = ClientTls::trusting(trust.clone()).identity(identity.clone());
        let backend = Https::new(std::slice::from_ref(&server), tls, dialer.clone())?;
        Ok(Client::new(Arc::new(backend), name))
    };
    let clients = node::Clients {
        node: client_of(&identities.node, "kubelet")?,
        proxy: client_of(&identities.proxy, "kube-proxy")?,
    };
    let serving = ServerTls {
        identity: identities.serving.clone(),
        client_auth: ClientAuth::Requested(Trust::from_pem(held.client_authority.as_bytes())?),
    };
    let settings = node::Config {
        labels: config.node_labels.clone(),
        taints: config.node_taints.clone(),
        network: network::Config {
            node_name: config.node_name.clone(),
            node_ips,
            cluster_ranges: network::Config::ranges(&held.facts.cluster_cidrs)?,
            service_ranges: network::Config::ranges(&held.facts.service_cidrs)?,
            cluster_domain: held.facts.cluster_domain.clone(),
            data_dir: config.data_dir.clone(),
            resolv_conf: "/etc/resolv.conf".into(),
            proxy: held.facts.proxy,
        },
    };
    let mut tasks = tokio::task::JoinSet::new();
    node::start(&mut tasks, clients, serving, settings).await?;
    let due = renewal(&held.node);
    tasks.spawn(async move { asking.keep_fresh(due, &trust, &identities).await });
    tracing::info!(server, node = config.node_name, "ready");
    crate::cluster::wait_for_signal().await;
    tracing::info!("ending");
    Ok(())
}

/// The address by which this machine reaches the server.
fn own_address(server: &http::Uri) -> anyhow::Result<IpAddr> {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    // A name is looked up by whoever connects; any outside address shows the same way out.
    let target = host.parse::<IpAddr>().unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let any: SocketAddr = if target.is_ipv6() { "[::]:0".parse()? } else { "0.0.0.0:0".parse()? };
    // Connecting a datagram socket sends nothing; it asks the routing table.
    let asked = UdpSocket::bind(any).and_then(|socket| {
        socket.connect((target, 9))?;
        socket.local_addr()
    });
    Ok(asked.context("this machine has no address that leads to the server; name one with --node-ip")?.ip())
}

/// The server's authority: as it is kept, or as the server shows it and the token's hash confirms.
async fn authority(server: &str, token: &JoinToken, folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("server-ca.pem");
    if let Some(text) = pki::file::read(&path)? {
        return Ok(text);
    }
    let client = transport::Client::builder(Dialer::direct(Resolver::system())).tls(ClientTls::insecure()).build()?;
    let asked = http::Request::get(format!("{server}/skiff/v1/authority")).body(transport::body::empty())?;
    let answer = client.fetch(LIMIT, MAX_ANSWER, asked).await;
    let answer = answer.with_context(|| format!("the server {server} cannot be reached"))?;
    if !answer.status().is_success() {
        bail!("{server} is no Skiff server that takes nodes (it answered with the code {})", answer.status().as_u16());
    }
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let certificates = pki::cert::certs_from_pem(&text).context("the server shows no certificates")?;
    if token.ca_hash.is_some() && !certificates.iter().any(|c| token.names_ca(c)) {
        bail!(
            "the server's certificate authority is not the one in the token: it is another cluster, or somebody is in between"
        );
    }
    pki::file::write_private(&path, text.as_bytes(), pki::file::Durability::Synced)?;
    Ok(text)
}

fn renewal(credential: &Credential) -> Duration {
    match credential.info().map(|info| decide(&info, SystemTime::now())) {
        Ok(Renewal::Keep(wait)) => wait,
        _ => Duration::ZERO,
    }
}

/// Who asks for certificates.
struct Asking {
    server: String,
    token: JoinToken,
    folder: PathBuf,
    name: String,
    ips: Vec<IpAddr>,
}

impl Asking {
    /// What an earlier join gave, if it still holds and is for this name and these addresses.
    fn kept(&self) -> Option<Credentials> {
        let text = |name: &str| pki::file::read(&self.folder.join(name)).ok().flatten();
        let credential = |name: &str| Credential::from_pem(&text(name)?).ok();
        let node = credential("node.pem")?;
        let serving = credential("serving.pem")?;
        let info = node.info().ok()?;
        let named = info.common_name == format!("system:node:{}", self.name);
        let served: CertInfo = serving.info().ok()?;
        let reachable = self.ips.iter().all(|ip| served.ips.contains(ip));
        let fresh = matches!(decide(&info, SystemTime::now()), Renewal::Keep(_));
        let facts = ClusterFacts::from_value(&json::parse(text("cluster.json")?.as_bytes()).ok()?);
        (named && reachable && fresh).then_some(Credentials {
            node,
            serving,
            proxy: credential("proxy.pem")?,
            client_authority: text("client-ca.pem")?,
            facts,
        })
    }

    async fn join(&self, trust: &Trust) -> anyhow::Result<Credentials> {
        let password = pki::file::create_once(&self.folder.join("node-password"), || {
            JoinToken::generate(self.name.as_bytes(), "node").map(|made| made.secret)
        })?;
        let keys = [PrivateKey::generate()?, PrivateKey::generate()?, PrivateKey::generate()?];
        let user = format!("system:node:{}", self.name);
        let mut names = vec![self.name.clone(), "127.0.0.1".to_owned()];
        names.extend(self.ips.iter().map(ToString::to_string));
        let mut serving = Leaf::server(&user, &names);
        serving.organizations = vec!["system:nodes".to_owned()];
        let mut body = Map::new();
        body.insert("nodeName", self.name.as_str());
        body.insert("password", password.trim());
        body.insert("node", Csr::create(&Leaf::client(&user, &["system:nodes"]), &keys[0])?);
        body.insert("serving", Csr::create(&serving, &keys[1])?);
        body.insert("proxy", Csr::create(&Leaf::client("system:kube-proxy", &[]), &keys[2])?);

        let dialer = Dialer::direct(Resolver::system());
        let client = transport::Client::builder(dialer).tls(ClientTls::trusting(trust.clone())).build()?;
        let asked = http::Request::post(format!("{}/skiff/v1/join", self.server))
            .header(http::header::AUTHORIZATION, format!("Bearer {}:{}", self.token.user, self.token.secret))
            .body(transport::body::full(json::encode_free(&Value::Map(body))))?;
        let answer = client.fetch(LIMIT, MAX_ANSWER, asked).await;
        let answer = answer.with_context(|| format!("the server {} cannot be reached", self.server))?;
        let code = answer.status().as_u16();
        let tree = json::parse(answer.body()).context("the server's answer cannot be read")?;
        match code {
            200 => {}
            401 => bail!("the server does not know this token; see <data-dir>/token on the server"),
            _ => bail!("the server refused: {}", Status::from_value(&tree).message),
        }
        let part = |key: &str| tree.str_at(&[key]).unwrap_or_default().to_owned();
        let credential = |key: &PrivateKey, name: &str| Credential::from_pem(&(key.to_pem() + &part(name)));
        let made = Credentials {
            node: credential(&keys[0], "node")?,
            serving: credential(&keys[1], "serving")?,
            proxy: credential(&keys[2], "proxy")?,
            client_authority: part("clientAuthority"),
            facts: ClusterFacts::from_value(tree.get("cluster").unwrap_or(&Value::Null)),
        };
        let keep = |name: &str, text: &str| {
            pki::file::write_private(&self.folder.join(name), text.as_bytes(), pki::file::Durability::Synced)
        };
        keep("serving.pem", &made.serving.to_pem())?;
        keep("proxy.pem", &made.proxy.to_pem())?;
        keep("client-ca.pem", &made.client_authority)?;
        keep("cluster.json", &String::from_utf8_lossy(&json::encode_free(&made.facts.to_value())))?;
        // The last: without it the next start joins again.
        keep("node.pem", &made.node.to_pem())?;
        Ok(made)
    }

    /// Renews the certificates whenever two thirds of their life are over.
    async fn keep_fresh(&self, mut due: Duration, trust: &Trust, identities: &Identities) {
        loop {
            tokio::time::sleep(due).await;
            due = match self.join(trust).await {
                Ok(made) => {
                    let replaced = [
                        (&identities.node, &made.node),
                        (&identities.serving, &made.serving),
                        (&identities.proxy, &made.proxy),
                    ]
                    .into_iter()
                    .try_for_each(|(identity, c)| identity.replace(c.chain.clone(), c.key_der()));
                    if let Err(error) = replaced {
                        tracing::error!(%error, "renewed certificates cannot be used");
                    }
                    renewal(&made.node).max(RETRY)
                }
                Err(error) => {
                    tracing::warn!(%error, "certificates could not be renewed, trying again in a minute");
                    Duration::from_secs(60)
                }
            };
        }
    }
}
