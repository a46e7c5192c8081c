//! Which store a server uses: its own on disk, or an etcd cluster that it shares with other servers.
//!
//! ```text
//! <data>/store         the server's own store
//! <data>/server-token  the secret of servers that share a datastore; where it is, the store of one's own is not used
//! /skiff/keys          in the datastore: what makes the cluster, sealed under the server token
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use pki::Hierarchy;
use pki::vault::Secret;
use store::grpc::client::{Connect, EtcdConfig, EtcdStore, Stream};
use store::{Compare, KeyRange, LocalStore, Op, OpResponse, RangeRequest, Store, Txn};
use tokio_rustls::TlsConnector;
use transport::{ClientTls, Dialer, Resolver, Target, Trust};

use crate::etcd::{ALPN, Endpoint};
use crate::{backup, storage};

/// Where the servers' keys are in the datastore.
const KEYS: &[u8] = b"/skiff/keys";
/// Where the cluster's objects are.
const OBJECTS: &[u8] = b"/registry/";
/// The secret that servers of one datastore share, in each one's data folder.
const TOKEN: &str = "server-token";

/// The options of `skiff server` about where its objects are kept.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Options {
    /// Keep objects in this etcd cluster instead of a store of this server's own, as https://192.0.2.1:2379.
    #[arg(long, env = "SKIFF_DATASTORE_ENDPOINT", value_name = "URL", value_delimiter = ',')]
    pub datastore_endpoint: Vec<String>,
    /// Certificates of the authorities that vouch for the etcd cluster (default: those this machine trusts).
    #[arg(long, env = "SKIFF_DATASTORE_CAFILE", value_name = "FILE")]
    pub datastore_cafile: Option<PathBuf>,
    /// This server's certificate for the etcd cluster.
    #[arg(long, env = "SKIFF_DATASTORE_CERTFILE", value_name = "FILE", requires = "datastore_keyfile")]
    pub datastore_certfile: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, env = "SKIFF_DATASTORE_KEYFILE", value_name = "FILE", requires = "datastore_certfile")]
    pub datastore_keyfile: Option<PathBuf>,
    /// The secret that servers of one etcd cluster share: a copy of <data-dir>/server-token of the first.
    #[arg(long, env = "SKIFF_SERVER_TOKEN_FILE", value_name = "FILE")]
    pub server_token_file: Option<PathBuf>,
}

/// The store that a server uses.
pub enum Datastore {
    /// Its own.
    Local(Arc<LocalStore>),
    /// One that several servers may use.
    Shared(Arc<EtcdStore>),
}

impl Datastore {
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Datastore::Local(store) => store.clone(),
            Datastore::Shared(store) => store.clone(),
        }
    }
}

/// Refuses a data folder whose objects are in an etcd cluster: its own store is older, or not there.
pub fn check_own(data: &Path) -> anyhow::Result<()> {
    ensure!(
        !data.join(TOKEN).exists(),
        "the objects of this server are in an etcd cluster: name it with --datastore-endpoint, or move {} away to begin \
         with a store of its own",
        data.join(TOKEN).display()
    );
    Ok(())
}

/// Connects to the etcd cluster that the options name, if they do; touches nothing here.
pub async fn connect(options: &Options) -> anyhow::Result<Option<Arc<EtcdStore>>> {
    if options.datastore_endpoint.is_empty() {
        return Ok(None);
    }
    let endpoints = options.datastore_endpoint.iter().map(|url| Endpoint::parse(url));
    let endpoints = endpoints.collect::<anyhow::Result<Vec<_>>>()?;
    let secure = endpoints.iter().filter(|endpoint| endpoint.tls).count();
    ensure!(
        secure == 0 || secure == endpoints.len(),
        "either all addresses of --datastore-endpoint begin with https://, or none does"
    );
    let tls = if secure > 0 { Some(client_tls(options)?) } else { None };
    let names: Vec<String> =
        endpoints.into_iter().map(|endpoint| Target::Host(endpoint.host, endpoint.port).to_string()).collect();
    let store = EtcdStore::connect(EtcdConfig::new(names.clone(), connector(tls))).await;
    let store = store.with_context(|| format!("the datastore at {} cannot be used", names.join(", ")))?;
    tracing::info!(endpoints = names.join(","), "objects are kept in an etcd cluster");
    Ok(Some(Arc::new(store)))
}

/// Opens the store of a data folder, unless an etcd cluster takes its place, whose servers share their keys.
pub async fn open(data: &Path, shared: Option<Arc<EtcdStore>>, options: &Options) -> anyhow::Result<Datastore> {
    match shared {
        Some(store) => {
            share_keys(&*store, data, options.server_token_file.as_deref()).await?;
            Ok(Datastore::Shared(store))
        }
        None => {
            check_own(data)?;
            Ok(Datastore::Local(Arc::new(storage::open(data)?)))
        }
    }
}

fn client_tls(options: &Options) -> anyhow::Result<ClientTls> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let unusable = |path: &Path| format!("{} cannot be used for the datastore", path.display());
    let trust = match &options.datastore_cafile {
        Some(path) => Trust::from_pem(&read(path)?).with_context(|| unusable(path))?,
        None => Trust::system()?,
    };
    let tls = ClientTls::trusting(trust);
    Ok(match (&options.datastore_certfile, &options.datastore_keyfile) {
        (Some(chain), Some(key)) => {
            let own = transport::Identity::from_pem(&read(chain)?, &read(key)?);
            tls.identity(own.with_context(|| unusable(chain))?)
        }
        _ => tls,
    })
}

fn connector(tls: Option<ClientTls>) -> Connect {
    let dialer = Dialer::direct(Resolver::system());
    Arc::new(move |endpoint: String| {
        let (dialer, tls) = (dialer.clone(), tls.clone());
        Box::pin(async move {
            let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| io::Error::other("no port"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = port.parse().map_err(io::Error::other)?;
            let stream = dialer.dial(&Target::Host(host.clone(), port)).await.map_err(io::Error::other)?;
            let Some(tls) = tls else { return Ok(Box::new(stream) as Box<dyn Stream>) };
            let name = tls.name_for(&host).map_err(io::Error::other)?;
            let config = tls.config(ALPN).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// How much of an etcd cluster's past is kept, as upstream's API server does.
const HISTORY: Duration = Duration::from_secs(300);

/// Compacts a shared store: what is older than [`HISTORY`] goes. Every server does it; the first one wins.
pub async fn keep_compacted(store: Arc<dyn Store>) {
    let mut then = 0;
    loop {
        if then > 0
            && let Err(error) = store.compact(then).await
            && !error.is_compacted()
        {
            tracing::warn!(%error, "the datastore could not be compacted");
        }
        // Without an answer nothing is compacted the next time.
        then = store.read_revision().await.unwrap_or(0);
        tokio::time::sleep(HISTORY).await;
    }
}

/// Gives the keys that make a cluster to all of its servers: the first puts them into the datastore, sealed under the
/// server token, the others take them from there. Nothing is written into the data folder before that can go well.
async fn share_keys(store: &dyn Store, data: &Path, token_file: Option<&Path>) -> anyhow::Result<()> {
    let found = store.get(KEYS).await?;
    let own = data.join(TOKEN);
    let token = match (token_file, pki::file::read(&own)?) {
        (Some(path), kept) => {
            let token = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                kept.is_none_or(|kept| kept.trim() == token.trim()),
                "{} differs from --server-token-file: move it away if another datastore is meant now",
                own.display()
            );
            token.trim().to_owned()
        }
        (None, Some(token)) => token.trim().to_owned(),
        (None, None) if found.is_none() => pki::hex(&pki::vault::new_key()?),
        (None, None) => bail!(
            "other servers use this datastore already: name a copy of the first one's {TOKEN}, which is in its data \
             folder, with --server-token-file"
        ),
    };
    let secret = Secret::from_hex(&token).context("the server token cannot be used")?;
    let sealed = match found {
        Some(kv) => kv.value,
        None => {
            check_migration(store, data).await?;
            pki::file::private_dir(data)?;
            // First here: a second server that finds the keys must not be told of a token that nobody has.
            pki::file::create_once(&own, || Ok(format!("{token}\n")))?;
            found_cluster(store, data, &secret).await?
        }
    };
    let unusable = "the keys that the servers of this datastore share cannot be used";
    backup::unpack_secrets(&sealed, &secret, data).context(unusable)?;
    pki::file::create_once(&own, || Ok(format!("{token}\n")))?;
    Ok(())
}

/// A data folder that holds a cluster must not come up as an empty one: nodes would end all of their pods.
async fn check_migration(store: &dyn Store, data: &Path) -> anyhow::Result<()> {
    if !storage::folder(data).exists() {
        return Ok(());
    }
    let objects = RangeRequest::over(KeyRange::prefix(Bytes::from_static(OBJECTS))).count_only();
    ensure!(
        store.range(objects).await?.count > 0,
        "the datastore is empty and {} holds a cluster: take it along with a snapshot, as `etcdctl snapshot save` writes \
         it while the server runs with --etcd-listen-client-urls, or move that folder away",
        storage::folder(data).display()
    );
    Ok(())
}

/// Puts the keys of this server into the datastore, unless another is first; answers with those that are there then.
async fn found_cluster(store: &dyn Store, data: &Path, secret: &Secret) -> anyhow::Result<Bytes> {
    // A data folder without keys gets none of its own here: those of another server may be the cluster's.
    let scratch = tempfile_in(data)?;
    let made = async {
        let source = if has_keys(data) { data } else { scratch.as_path() };
        let hierarchy = Hierarchy::open(source.join("pki"))?;
        hierarchy.prepare()?;
        crate::join::token(source, &hierarchy)?;
        crate::cluster::sealing_keys(source)?;
        let sealed = Bytes::from(backup::pack_secrets(source, secret)?);
        let key = Bytes::from_static(KEYS);
        let put = Txn::new()
            .when(Compare::absent(key.clone()))
            .then(Op::put(key.clone(), sealed.clone()))
            .otherwise(Op::range(RangeRequest::key(key)));
        match store.txn(put).await?.responses.pop() {
            Some(OpResponse::Range(found)) => {
                Ok(found.kvs.into_iter().next().ok_or_else(|| anyhow!("the shared keys vanished"))?.value)
            }
            _ => Ok(sealed),
        }
    }
    .await;
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    made
}

/// Whether a data folder is a cluster's already.
fn has_keys(data: &Path) -> bool {
    ["token", "sealing-keys", "pki/server-ca.pem"].iter().any(|name| data.join(name).exists())
}

/// A folder in the data folder that nobody else has.
fn tempfile_in(data: &Path) -> anyhow::Result<PathBuf> {
    let folder = data.join(format!(".keys-{}", pki::hex(&pki::vault::new_key()?[..6])));
    pki::file::private_dir(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(place: &Path, name: &str) -> PathBuf {
        let path = place.join(name);
        pki::file::private_dir(&path).unwrap();
        path
    }

    fn memory() -> Arc<dyn Store> {
        Arc::new(LocalStore::memory(store::Config::default()))
    }

    fn same(one: &Path, other: &Path) {
        for name in [
            "token",
            "sealing-keys",
            "server-token",
            "pki/server-ca.pem",
            "pki/client-ca.pem",
            "pki/service-account.pem",
        ] {
            assert_eq!(std::fs::read(one.join(name)).unwrap(), std::fs::read(other.join(name)).unwrap(), "{name}");
        }
    }

    #[tokio::test]
    async fn servers_share_the_keys_of_the_first() {
        let place = tempfile::tempdir().unwrap();
        let store = memory();
        let (first, second, third) = (folder(place.path(), "1"), folder(place.path(), "2"), folder(place.path(), "3"));
        share_keys(&*store, &first, None).await.unwrap();
        // A restart finds its own keys.
        share_keys(&*store, &first, None).await.unwrap();
        let token = first.join(TOKEN);
        let refused = format!("{:#}", share_keys(&*store, &second, None).await.unwrap_err());
        assert!(refused.contains("--server-token-file"), "{refused}");
        assert_eq!(std::fs::read_dir(&second).unwrap().count(), 0, "something stayed");
        share_keys(&*store, &second, Some(&token)).await.unwrap();
        same(&first, &second);
        // Without the option the next time.
        share_keys(&*store, &second, None).await.unwrap();
        let sealed = store.get(KEYS).await.unwrap().unwrap().value;
        assert!(!sealed.windows(11).any(|w| w == b"PRIVATE KEY"));
        let wrong = place.path().join("wrong");
        std::fs::write(&wrong, format!("{}\n", "0".repeat(64))).unwrap();
        assert!(share_keys(&*store, &third, Some(&wrong)).await.is_err());
        assert_eq!(std::fs::read_dir(&third).unwrap().count(), 0, "something stayed");
        // A data folder of another cluster is not mixed with this one.
        std::fs::write(third.join("token"), "another").unwrap();
        let refused = format!("{:#}", share_keys(&*store, &third, Some(&token)).await.unwrap_err());
        assert!(refused.contains("another cluster"), "{refused}");
        assert_eq!(std::fs::read_dir(&third).unwrap().count(), 1, "something stayed");
    }

    #[tokio::test]
    async fn of_two_that_begin_at_once_one_gives_the_keys() {
        let place = tempfile::tempdir().unwrap();
        let store = memory();
        let token = place.path().join("token");
        std::fs::write(&token, pki::hex(&pki::vault::new_key().unwrap())).unwrap();
        let (first, second) = (folder(place.path(), "1"), folder(place.path(), "2"));
        let (one, other) =
            tokio::join!(share_keys(&*store, &first, Some(&token)), share_keys(&*store, &second, Some(&token)));
        one.unwrap();
        other.unwrap();
        same(&first, &second);
    }

    #[tokio::test]
    async fn a_cluster_is_not_left_behind() {
        let place = tempfile::tempdir().unwrap();
        let data = folder(place.path(), "data");
        folder(&data, "store");
        let store = memory();
        let refused = format!("{:#}", share_keys(&*store, &data, None).await.unwrap_err());
        assert!(refused.contains("the datastore is empty"), "{refused}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "something stayed");
        // It was taken along.
        store.put("/registry/namespaces/default".into(), "".into()).await.unwrap();
        share_keys(&*store, &data, None).await.unwrap();
        // Nor is it taken up where it was left.
        let refused = open(&data, None, &Options::default()).await.err().unwrap();
        assert!(format!("{refused:#}").contains("--datastore-endpoint"), "{refused:#}");
    }
}
