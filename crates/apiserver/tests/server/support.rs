//! A whole API server in memory, asked in process.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use apimachinery::{GroupVersionResource, Status, Value};
use apiserver::admission::Plugins;
use apiserver::authn::Authenticator;
use apiserver::authn::service_account::Tokens;
use apiserver::authz::Authorizer;
use apiserver::convert::Conversions;
use apiserver::local::Local;
use apiserver::{ApiServer, bootstrap};
use client::{Body, Client, PatchKind, Query, Request, Verb};
use engine::{Clock, Engine, Resource};
use pki::{Authority, Hierarchy};

struct Host;

impl Clock for Host {
    fn now(&self) -> (i64, u32) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since.as_secs() as i64, since.subsec_nanos())
    }
}

/// The server with everything that it needs to live.
pub struct Cluster {
    pub server: Arc<ApiServer>,
    pub engine: Arc<Engine>,
    pub plugins: Arc<Plugins>,
    pub admin: Client,
    pub config: bootstrap::Config,
    pub hierarchy: Hierarchy,
    _definitions: apiserver::crd::Definitions,
    _folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::open(folder.path().join("pki")).unwrap();
        hierarchy.prepare().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Host);
        let authorizer = Arc::new(Authorizer::new());
        let plugins = Plugins::new(authorizer.clone());
        let conversions = Conversions::new(plugins.caller());
        let keys = pki::seal::Keyring::generate().unwrap();
        let engine = Engine::start(engine::Config {
            store: Arc::new(store::LocalStore::memory(store::Config::default())),
            admission: plugins.clone(),
            converter: conversions.clone(),
            sealer: Arc::new(apiserver::seal::Seal::new(keys)),
            clock: clock.clone(),
            resources: Resource::group(api::kinds()).unwrap(),
        })
        .await
        .unwrap();
        plugins.attach(&engine);
        conversions.attach(&engine);
        let issuer = "https://kubernetes.default.svc.cluster.local".to_string();
        let tokens = Arc::new(Tokens::new(
            hierarchy.token_signer(&issuer).unwrap(),
            hierarchy.token_verifier(vec![issuer.clone()]).unwrap(),
            vec![issuer],
            clock.clone(),
        ));
        let server = ApiServer::new(apiserver::Config {
            engine: engine.clone(),
            authenticator: Authenticator {
                tokens: tokens.clone(),
                client_ca: hierarchy.trust(Authority::Client).unwrap(),
                front_proxy_ca: hierarchy.trust(Authority::FrontProxy).unwrap(),
                clock: clock.clone(),
            },
            authorizer: authorizer.clone(),
            clock,
            body_kinds: api::body_kinds(),
            advertised: "192.0.2.1:6443".into(),
        });
        let admin = Client::new(Arc::new(Local::new(server.clone(), "system:apiserver", &["system:masters"])), "test");
        let config = bootstrap::Config {
            advertise_addresses: vec!["192.0.2.1".parse().unwrap()],
            secure_port: 6443,
            service_cidrs: vec!["10.96.0.0/16".into()],
            service_ip: Some("10.96.0.1".parse().unwrap()),
            client_ca: "client".into(),
            requestheader_ca: "front".into(),
            requestheader_allowed_names: vec!["front-proxy-client".into()],
        };
        bootstrap::ensure(&engine, &config).await.unwrap();
        authorizer.start(&admin).await;
        plugins.start(&admin).await;
        let definitions = apiserver::crd::Definitions::start(engine.clone(), &admin, conversions, server.clock.clone())
            .await
            .unwrap();
        Cluster { server, engine, plugins, admin, config, hierarchy, _definitions: definitions, _folder: folder }
    }

    /// A client that acts as someone else.
    pub fn user(&self, name: &str, groups: &[&str]) -> Client {
        Client::new(Arc::new(Local::new(self.server.clone(), name, groups)), "test")
    }

    /// The names of what a field selector takes in the default namespace.
    pub async fn names(&self, resource: &str, field_selector: &str) -> Result<Vec<String>, Status> {
        let mut request = request(Verb::List, resource, "default", "", serde_json::Value::Null);
        request.query.field_selector = field_selector.into();
        let list: serde_json::Value = serde_json::from_slice(&self.admin.send(request).await?).unwrap();
        let items = list["items"].as_array().unwrap();
        Ok(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect())
    }
}

fn tree(json: serde_json::Value) -> Value {
    apimachinery::codec::json::parse(json.to_string().as_bytes()).unwrap()
}

/// One call on a resource, named as in a URL: `v1/pods`, `apps/v1/deployments`.
pub async fn call(
    client: &Client,
    verb: Verb,
    resource: &str,
    namespace: &str,
    name: &str,
    body: serde_json::Value,
) -> Result<serde_json::Value, Status> {
    let answer = client.send(request(verb, resource, namespace, name, body)).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn request(verb: Verb, resource: &str, namespace: &str, name: &str, body: serde_json::Value) -> Request {
    let parts: Vec<&str> = resource.split('/').collect();
    let (group, version, plural) = match parts.as_slice() {
        [version, plural] => ("", *version, *plural),
        [group, version, plural] => (*group, *version, *plural),
        _ => panic!("{resource}"),
    };
    let (name, subresource) = name.split_once(':').unwrap_or((name, ""));
    let body = match (verb, body) {
        (_, serde_json::Value::Null) => Body::None,
        (Verb::Patch, body) => Body::Patch(PatchKind::Merge, tree(body)),
        (_, body) => Body::Object(tree(body)),
    };
    Request {
        verb,
        resource: GroupVersionResource::new(group, version, plural),
        namespace: namespace.into(),
        name: name.into(),
        subresource: subresource.into(),
        query: Query::default(),
        body,
    }
}
