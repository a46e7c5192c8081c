//! The start-up story, top to bottom: `Config → run`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use apiserver::admission::Plugins;
use apiserver::aggregation::Aggregation;
use apiserver::authn::Authenticator;
use apiserver::authn::service_account::Tokens;
use apiserver::authz::Authorizer;
use apiserver::convert::Conversions;
use apiserver::crd::Definitions;
use apiserver::seal::Seal;
use apiserver::{ApiServer, bootstrap, local::Local};
use client::Client;
use engine::{Clock, Engine, Resource};
use pki::seal::Keyring;
use pki::{Authority, Hierarchy, Identity};
use transport::{ClientAuth, ServerTls, Trust};

use crate::clock::{self, Host};
use crate::datastore::{self, Datastore};
use crate::folder::Role;
use crate::leader::Leadership;
use crate::parts::{Disabled, Part};
use crate::servers::Servers;
use crate::{control, etcd, host, join, network, node, storage};

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub bind_address: IpAddr,
    pub port: u16,
    pub advertise_address: Option<IpAddr>,
    pub tls_sans: Vec<String>,
    pub cluster_cidrs: Vec<String>,
    pub service_cidrs: Vec<String>,
    pub cluster_domain: String,
    pub storage: storage::Options,
    pub datastore: datastore::Options,
    /// Where the store is served as etcd.
    pub etcd_urls: Vec<String>,
    /// What is left out.
    pub disabled: Disabled,
    pub node_name: String,
    /// `key=value`, for a node that is new.
    pub node_labels: Vec<String>,
    /// `key=value:Effect`, for a node that is new.
    pub node_taints: Vec<String>,
}

/// Runs a server until it is told to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let clock: Arc<dyn Clock> = Arc::new(Host);

    // What may be refused comes first: nothing is half-made then. The port before all, as the usual cause.
    let address = SocketAddr::new(config.bind_address, config.port);
    let listener = listen(address)?;
    let etcd = etcd::listen(&config.etcd_urls).await?;
    storage::check(&config.data_dir)?;
    let shared = datastore::connect(&config.datastore).await?;
    let has_node = config.disabled.allows(Part::Node);
    if has_node {
        node::check(&config.data_dir)?;
    }
    let _claims = host::claim(
        &config.data_dir,
        Role::Server,
        &local_url(&config),
        has_node.then_some(config.node_name.as_str()),
        Some(&config.kubeconfig),
    )?;

    let datastore = datastore::open(&config.data_dir, shared, &config.datastore).await?;
    let store = datastore.store();
    let hierarchy = Hierarchy::open(config.data_dir.join("pki"))?;
    hierarchy.prepare()?;

    // The tasks end with this set; what they set up for running pods stays.
    let mut tasks = tokio::task::JoinSet::new();
    control::start(&mut tasks, &config.data_dir, store.clone())?;

    let authorizer = Arc::new(Authorizer::new());
    let plugins = Plugins::new(authorizer.clone());
    let conversions = Conversions::new(plugins.caller());
    let engine = Engine::start(engine::Config {
        store: store.clone(),
        admission: plugins.clone(),
        converter: conversions.clone(),
        sealer: Arc::new(Seal::new(sealing_keys(&config.data_dir)?)),
        clock: clock.clone(),
        resources: Resource::group(api::kinds()).map_err(|e| anyhow!(e))?,
    })
    .await?;
    plugins.attach(&engine);
    conversions.attach(&engine);
    plugins.caller().set(transport::Dialer::direct(transport::Resolver::system()));

    let service_ip = first_address(&config.service_cidrs)?;
    let advertised = advertised(&config);
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let tokens = Arc::new(Tokens::new(
        hierarchy.token_signer(&issuer)?,
        hierarchy.token_verifier(vec![issuer.clone()])?,
        vec![issuer],
        clock.clone(),
    ));
    let server = ApiServer::new(apiserver::Config {
        engine: engine.clone(),
        authenticator: Authenticator {
            tokens: tokens.clone(),
            client_ca: hierarchy.trust(Authority::Client)?,
            front_proxy_ca: hierarchy.trust(Authority::FrontProxy)?,
            clock: clock.clone(),
        },
        authorizer: authorizer.clone(),
        clock,
        body_kinds: api::body_kinds(),
        advertised: SocketAddr::new(advertised, config.port).to_string(),
    });
    connect_out(&server, &hierarchy)?;

    let identity = serving_identity(&config, &hierarchy, service_ip, advertised)?;
    let trust = Trust::new(
        hierarchy
            .trust(Authority::Client)?
            .roots()
            .iter()
            .chain(hierarchy.trust(Authority::FrontProxy)?.roots())
            .cloned()
            .collect::<Vec<_>>(),
    )?;
    let tls = ServerTls { identity, client_auth: ClientAuth::Requested(trust) }.config(&transport::tls::H2_AND_H1)?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(apiserver::http::listen(server.clone(), listener, tls, async {
        let _ = ended.await;
    }));

    let itself = Client::new(Arc::new(Local::new(server.clone(), "system:apiserver", &["system:masters"])), "skiff");
    tokens.start(itself.clone());
    let servers = match &datastore {
        Datastore::Local(_) => None,
        Datastore::Shared(store) => {
            Some(Arc::new(Servers::new(store.clone(), SocketAddr::new(advertised, config.port))))
        }
    };
    let addresses = match &servers {
        Some(servers) => servers.addresses().await?.0.into_iter().collect(),
        None => vec![advertised],
    };
    let first_objects = bootstrap::Config {
        advertise_addresses: addresses,
        secure_port: config.port,
        service_cidrs: config.service_cidrs.clone(),
        service_ip: Some(service_ip),
        client_ca: hierarchy.ca(Authority::Client)?.bundle_pem(),
        requestheader_ca: hierarchy.ca(Authority::FrontProxy)?.bundle_pem(),
        requestheader_allowed_names: vec!["front-proxy-client".into()],
    };
    bootstrap::ensure(&engine, &first_objects)
        .await
        .context("the objects that every cluster starts with could not be written")?;
    authorizer.start(&itself).await;
    plugins.start(&itself).await;
    let definitions = Definitions::start(engine.clone(), &itself, conversions, server.clock.clone()).await?;
    let front_proxy = hierarchy.client(&Identity::FrontProxyClient)?;
    let front_proxy = transport::Identity::new(front_proxy.chain.clone(), front_proxy.key_der())?;
    let dialer = transport::Dialer::direct(transport::Resolver::system());
    let checks = Aggregation::start(&server, &itself, dialer, front_proxy).await;

    let facts = join::ClusterFacts {
        cluster_cidrs: config.cluster_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        cluster_domain: config.cluster_domain.clone(),
        proxy: config.disabled.allows(Part::Proxy),
    };
    server.gates.set(Arc::new(join::Gate::open(&config.data_dir, &hierarchy, itself.clone(), facts)?));

    let client_of = |user: &str, groups: &[&str]| Client::new(Arc::new(Local::new(server.clone(), user, groups)), user);
    let of_user = |user: &str| local_client(&server, user);
    let work = work(&config, &server, &hierarchy)?;
    let leadership = match &datastore {
        Datastore::Local(_) => {
            work(&mut tasks);
            None
        }
        Datastore::Shared(store) => {
            let name = format!("{} at {}", config.node_name, SocketAddr::new(advertised, config.port));
            let leadership = Arc::new(Leadership::new(store.clone(), name));
            let own = leadership.clone();
            tasks.spawn(async move { own.run(work).await });
            Some(leadership)
        }
    };
    if has_node {
        let network = network::Config {
            node_name: config.node_name.clone(),
            node_ips: vec![advertised],
            cluster_ranges: network::Config::ranges(&config.cluster_cidrs)?,
            service_ranges: network::Config::ranges(&config.service_cidrs)?,
            cluster_domain: config.cluster_domain.clone(),
            data_dir: config.data_dir.clone(),
            resolv_conf: "/etc/resolv.conf".into(),
            proxy: config.disabled.allows(Part::Proxy),
        };
        let node_user = format!("system:node:{}", config.node_name);
        let clients =
            node::Clients { node: client_of(&node_user, &["system:nodes"]), proxy: of_user("system:kube-proxy") };
        let names = [config.node_name.clone(), advertised.to_string(), "127.0.0.1".into()];
        let credential = hierarchy.server("kubelet", &names)?;
        let serving = ServerTls {
            identity: transport::Identity::new(credential.chain.clone(), credential.key_der())?,
            client_auth: ClientAuth::Requested(Trust::new(hierarchy.trust(Authority::Client)?.roots().to_vec())?),
        };
        let settings = node::Config {
            labels: config.node_labels.clone(),
            taints: config.node_taints.clone(),
            network: network.clone(),
        };
        if config.disabled.allows(Part::Dns) {
            network::start_dns(&mut tasks, itself.clone(), of_user(dns::USER), &network)?;
        }
        // The API serves already; the node comes up beside it.
        node::start(&mut tasks, clients, serving, settings).await?;
    }

    match &datastore {
        Datastore::Local(store) => {
            let names = [vec![advertised.to_string()], config.tls_sans.clone()].concat();
            etcd::serve(&mut tasks, etcd, store, &hierarchy, &names)?;
            tasks.spawn(storage::keep_checkpoints(config.data_dir.clone(), store.clone(), config.storage.clone()));
        }
        Datastore::Shared(store) => drop(tasks.spawn(datastore::keep_compacted(store.clone()))),
    }
    write_kubeconfig(&config, &hierarchy)?;
    equip_replacements(&config, &hierarchy)?;
    server.set_ready();
    let entered = servers.clone().map(|servers| tasks.spawn(be_among(servers, engine, first_objects)));
    tracing::info!(
        address = %address,
        kubeconfig = %config.kubeconfig.display(),
        milliseconds = started.elapsed().as_millis() as u64,
        "ready"
    );

    wait_for_signal().await;
    tracing::info!("ending");
    if let (Some(servers), Some(entered)) = (servers, entered) {
        entered.abort();
        servers.leave().await;
    }
    drop((definitions, checks));
    let _ = end.send(());
    let _ = serving.await;
    tasks.shutdown().await;
    if let Some(leadership) = leadership {
        leadership.resign().await;
    }
    match datastore {
        // Engine, admission and caches hold each other, so the last of them does not take the store with it.
        Datastore::Local(store) => {
            tokio::task::spawn_blocking(move || store.stop()).await.context("the store did not stop cleanly")
        }
        Datastore::Shared(_) => Ok(()),
    }
}

/// A client in this process under a component's own identity.
fn local_client(server: &Arc<ApiServer>, user: &str) -> Client {
    let groups: &[&str] = match user.strip_prefix("system:serviceaccount:kube-system:") {
        Some(_) => &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
        None => &[],
    };
    Client::new(Arc::new(Local::new(server.clone(), user, groups)), user)
}

/// Lets the others of a shared datastore know this server, and the Service `kubernetes` lead to all that live.
async fn be_among(servers: Arc<Servers>, engine: Arc<Engine>, wanted: bootstrap::Config) {
    let lead = |addresses: BTreeSet<IpAddr>| {
        let wanted = bootstrap::Config { advertise_addresses: addresses.into_iter().collect(), ..wanted.clone() };
        let engine = engine.clone();
        async move {
            let led = bootstrap::ensure_endpoints(&engine, &wanted).await;
            if let Err(error) = &led {
                tracing::warn!(%error, "the Service kubernetes does not lead to all servers yet");
            }
            led.is_ok()
        }
    };
    servers.keep(lead).await;
}

/// What one server of a cluster does at a time, started in a set of tasks: controllers and scheduler.
fn work(
    config: &Config,
    server: &Arc<ApiServer>,
    hierarchy: &Hierarchy,
) -> anyhow::Result<impl Fn(&mut tokio::task::JoinSet<()>) + Send + Sync + 'static> {
    let (server, disabled, cluster_cidrs) = (server.clone(), config.disabled.clone(), config.cluster_cidrs.clone());
    let (clients, servers) = (hierarchy.ca(Authority::Client)?, hierarchy.ca(Authority::Server)?);
    Ok(move |tasks: &mut tokio::task::JoinSet<()>| {
        let client_of = |user: &str| local_client(&server, user);
        if disabled.allows(Part::Controllers) {
            let authorities =
                controllers::certificates::Authorities { clients: clients.clone(), servers: servers.clone() };
            let config = controllers::Config {
                root_ca: servers.bundle_pem(),
                authorities,
                cluster_cidrs: cluster_cidrs.clone(),
                now: clock::now_text,
            };
            controllers::start(tasks, &client_of, config);
        }
        if disabled.allows(Part::Scheduler) {
            let scheduling = scheduler::Config { name: "default-scheduler".into(), now: clock::now_text };
            tasks.spawn(scheduler::run(client_of("system:kube-scheduler"), scheduling));
        }
    })
}

/// The keys that seal Secrets at rest, made at the first start. Who has them and the store can read the Secrets, so they
/// are a file of their own, readable by the owner alone.
pub fn sealing_keys(data: &Path) -> anyhow::Result<Keyring> {
    let path = data.join("sealing-keys");
    let text = pki::file::create_once(&path, || Keyring::generate().map(|keys| keys.to_text()))?;
    Keyring::parse(&text).with_context(|| format!("{} holds no sealing keys", path.display()))
}

/// Binds the port. A server that is just ending, or was killed, gets a moment to let it go.
fn listen(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    const TRIES: u32 = 40;
    let mut bound = std::net::TcpListener::bind(address);
    for _ in 0..TRIES {
        if !matches!(&bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        bound = std::net::TcpListener::bind(address);
    }
    let listener = bound.with_context(|| {
        format!("cannot listen on {address}; is another server running, or must --https-listen-port be another")
    })?;
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

/// The first address of the first service network: the `kubernetes` Service.
fn first_address(cidrs: &[String]) -> anyhow::Result<IpAddr> {
    let first = cidrs.first().context("--service-cidr names no network")?;
    let (address, bits) =
        first.split_once('/').with_context(|| format!("{first:?} is not a network, such as 10.43.0.0/16"))?;
    let bits: u32 = bits.parse().with_context(|| format!("{first:?} has no valid prefix length"))?;
    let address: IpAddr = address.parse().with_context(|| format!("{first:?} has no valid address"))?;
    Ok(match address {
        IpAddr::V4(v4) if bits <= 30 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from((u32::from(v4) & mask) + 1))
        }
        IpAddr::V6(v6) if bits <= 126 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6(std::net::Ipv6Addr::from((u128::from(v6) & mask) + 1))
        }
        _ => return Err(anyhow!("the service network {first} is too small or its prefix too long")),
    })
}

/// The address that others are told: as configured, the bound one, or the one by which the host reaches out.
fn advertised(config: &Config) -> IpAddr {
    if let Some(address) = config.advertise_address {
        return address;
    }
    if !config.bind_address.is_unspecified() && !config.bind_address.is_loopback() {
        return config.bind_address;
    }
    // Connecting a datagram socket sends nothing; it asks the routing table.
    let asked = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    asked.map(|a| a.ip()).ok().filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn serving_identity(
    config: &Config,
    hierarchy: &Hierarchy,
    service_ip: IpAddr,
    advertised: IpAddr,
) -> anyhow::Result<transport::Identity> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(String::from).to_vec();
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    names.extend(["127.0.0.1".into(), "::1".into(), service_ip.to_string(), advertised.to_string()]);
    if !config.bind_address.is_unspecified() {
        names.push(config.bind_address.to_string());
    }
    names.extend(config.tls_sans.iter().cloned());
    names.sort();
    names.dedup();
    let credential = hierarchy.server("kube-apiserver", &names)?;
    Ok(transport::Identity::new(credential.chain.clone(), credential.key_der())?)
}

/// How the API server reaches kubelets, pods and services.
fn connect_out(server: &ApiServer, hierarchy: &Hierarchy) -> anyhow::Result<()> {
    let dialer = transport::Dialer::direct(transport::Resolver::system());
    let credential = hierarchy.client(&Identity::KubeletClient)?;
    let own = transport::Identity::new(credential.chain.clone(), credential.key_der())?;
    let kubelets = Trust::new(hierarchy.trust(Authority::Server)?.roots().to_vec())?;
    let kubelet = transport::Client::builder(dialer.clone())
        .tls(transport::ClientTls::trusting(kubelets).identity(own))
        .build()?;
    let plain = transport::Client::builder(dialer).tls(transport::ClientTls::insecure()).build()?;
    server.connector.set(kubelet, plain);
    Ok(())
}

/// Gives the programs that take the place of disabled parts what they need: `<data>/pki/NAME.kubeconfig` for each, and
/// the certificates of `server-ca.pem`.
fn equip_replacements(config: &Config, hierarchy: &Hierarchy) -> anyhow::Result<()> {
    let replaced = [
        (Part::Controllers, Identity::ControllerManager, "kube-controller-manager"),
        (Part::Scheduler, Identity::Scheduler, "kube-scheduler"),
    ];
    for (_, identity, name) in replaced.into_iter().filter(|(part, ..)| !config.disabled.allows(*part)) {
        let kubeconfig = hierarchy.kubeconfig(&identity, &local_url(config))?;
        kubeconfig.write(&hierarchy.dir().join(format!("{name}.kubeconfig")))?;
        write_authority(hierarchy)?;
    }
    if !config.etcd_urls.is_empty() {
        write_authority(hierarchy)?;
    }
    Ok(())
}

/// Writes `<data>/pki/server-ca.crt`, which holds the certificates of `server-ca.pem` without its key, for programs that
/// must trust this server.
fn write_authority(hierarchy: &Hierarchy) -> anyhow::Result<()> {
    let authority = hierarchy.ca(Authority::Server)?.bundle_pem();
    let path = hierarchy.dir().join("server-ca.crt");
    Ok(pki::file::write_private(&path, authority.as_bytes(), pki::file::Durability::Remade)?)
}

/// Where this machine's own programs reach the API.
fn local_url(config: &Config) -> String {
    let host = if config.bind_address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { config.bind_address };
    format!("https://{}", SocketAddr::new(host, config.port))
}

fn write_kubeconfig(config: &Config, hierarchy: &Hierarchy) -> anyhow::Result<()> {
    let kubeconfig = hierarchy.kubeconfig(&Identity::Admin, &local_url(config))?;
    if let Some(folder) = config.kubeconfig.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    kubeconfig.write(&config.kubeconfig)?;
    Ok(())
}

pub async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
