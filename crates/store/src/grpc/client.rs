//! An etcd cluster as a store: the second backend of the contract.
//!
//! ```text
//! EtcdStore ── the contract over etcd's messages       convert ── messages and errors
//! Members ── which member is asked                     watch ── a watch that outlives members
//! ```
//! One member is asked until it fails to answer, then the next. Reads are tried again elsewhere; a write is tried again
//! only when it cannot have been sent, since nothing says whether one that was sent has happened.

mod convert;
mod watch;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use self::convert::Refusal;
use super::pb;
use crate::contract::{
    BoxFuture, Grant, KeyRange, LeaseStatus, RangeRequest, RangeResponse, Stats, Store, Txn, TxnResponse, Verified,
    WatchRequest,
};
use crate::error::Error;
use crate::hub::Watch;
use crate::txn::check_range;

/// A connection to a member.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Opens a connection to a member, given as in the endpoints.
pub type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Which cluster, and how it is asked.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `host:port` of each member.
    pub endpoints: Vec<String>,
    pub connect: Connect,
    /// How long a member may take to answer before the next is asked.
    pub patience: Duration,
    /// Events that may wait for one watcher before it is cut off.
    pub watcher_bytes: usize,
}

impl EtcdConfig {
    pub fn new(endpoints: Vec<String>, connect: Connect) -> EtcdConfig {
        EtcdConfig { endpoints, connect, patience: Duration::from_secs(5), watcher_bytes: 16 << 20 }
    }
}

/// Keys that are read at a time when a whole range is asked for.
const PAGE: usize = 2000;
/// How often a connection is tested while it is quiet. etcd ends connections that test more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often all members are asked before a read fails.
const ROUNDS: usize = 2;

/// Marks, within an error's causes, that no connection could be opened: the request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(io::Error);

/// The members and which of them is asked.
struct Members {
    channels: Vec<Channel>,
    at: AtomicUsize,
    patience: Duration,
    /// The newest revision that any answer showed: watches behind it ask how far they are.
    seen: tokio::sync::watch::Sender<i64>,
    watches: Arc<AtomicUsize>,
}

/// The member that is asked now.
struct Current {
    at: usize,
    channel: Channel,
}

impl Members {
    fn current(&self) -> Current {
        let at = self.at.load(Ordering::Relaxed) % self.channels.len();
        Current { at, channel: self.channels[at].clone() }
    }

    /// Asks another member from now on, unless that was decided already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.channels.len();
        let _ = self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn saw(&self, revision: i64) {
        self.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }
}

/// An etcd cluster.
pub struct EtcdStore {
    members: Arc<Members>,
    watcher_bytes: usize,
}

fn was_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<Unreachable>() {
            return false;
        }
        cause = error.source();
    }
    true
}

impl EtcdStore {
    /// Uses a cluster, and asks it once whether it answers.
    ///
    /// # Errors
    /// `Io` for endpoints that are none, `Unavailable` when no member answers.
    pub async fn connect(config: EtcdConfig) -> Result<EtcdStore, Error> {
        let mut channels = Vec::new();
        for endpoint in &config.endpoints {
            let uri = format!("http://{endpoint}");
            let described = Endpoint::from_shared(uri)
                .map_err(|_| Error::Io(format!("{endpoint:?} is no address of an etcd member")))?
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(config.patience)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            let (connect, target) = (config.connect.clone(), endpoint.clone());
            let connector = tower::service_fn(move |_| {
                let (connect, target) = (connect.clone(), target.clone());
                async move {
                    let stream = connect(target).await.map_err(Unreachable)?;
                    Ok::<_, Unreachable>(hyper_util::rt::TokioIo::new(stream))
                }
            });
            channels.push(described.connect_with_connector_lazy(connector));
        }
        if channels.is_empty() {
            return Err(Error::Io("no member of the datastore is named".to_owned()));
        }
        let members = Members {
            channels,
            at: AtomicUsize::new(0),
            patience: config.patience,
            seen: tokio::sync::watch::channel(0).0,
            watches: Arc::default(),
        };
        let store = EtcdStore { members: Arc::new(members), watcher_bytes: config.watcher_bytes };
        store.read_revision().await?;
        Ok(store)
    }

    /// Asks members in turn. A request that changes something is sent once.
    async fn ask<T, F>(&self, repeatable: bool, request: impl Fn(Channel) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = String::new();
        for attempt in 0..ROUNDS * self.members.channels.len() {
            if attempt > 0 && attempt % self.members.channels.len() == 0 {
                // All failed: a new leader is perhaps being elected.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let member = self.members.current();
            let sent = match tokio::time::timeout(self.members.patience, request(member.channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => match convert::refusal(&status) {
                    Refusal::Unavailable(text) => {
                        last = text;
                        was_sent(&status)
                    }
                    other => return Err(other),
                },
                Err(_) => {
                    last = format!("no answer within {:?}", self.members.patience);
                    true
                }
            };
            self.members.leave(member.at);
            if sent && !repeatable {
                break;
            }
        }
        Err(Refusal::Unavailable(last))
    }

    /// Fills in what etcd's words lack. `asked` is the revision of the request.
    async fn refuse(&self, refusal: Refusal, asked: i64) -> Error {
        match refusal {
            Refusal::Other(error) => error,
            Refusal::Unavailable(text) => Error::Unavailable(text),
            Refusal::Compacted => match watch::compacted(&self.members).await {
                Ok(revision) => Error::Compacted { revision },
                Err(error) => error,
            },
            Refusal::Future => match self.read_revision().await {
                Ok(current) => Error::FutureRevision { asked, current },
                Err(error) => error,
            },
        }
    }

    async fn one_range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let message = convert::range(request);
        let answer = self.ask(true, |channel| {
            let message = message.clone();
            async move {
                let mut client = pb::kv_client::KvClient::new(channel).max_decoding_message_size(usize::MAX);
                Ok(client.range(message).await?.into_inner())
            }
        });
        match answer.await {
            Ok(answer) => {
                let answer = convert::ranged(answer);
                self.members.saw(answer.revision);
                Ok(answer)
            }
            Err(refusal) => Err(self.refuse(refusal, request.revision).await),
        }
    }

    /// A range in pages at one revision, as one message could be too large.
    async fn read(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check_range(&request.range)?;
        if request.count_only || request.range.is_single() {
            return self.one_range(&request).await;
        }
        let limit = if request.limit > 0 { request.limit } else { usize::MAX };
        let mut whole = self.one_range(&RangeRequest { limit: limit.min(PAGE), ..request.clone() }).await?;
        let revision = if request.revision > 0 { request.revision } else { whole.revision };
        let end = request.range.end.clone();
        while whole.more && whole.kvs.len() < limit {
            let Some(last) = whole.kvs.last() else { break };
            let start = Bytes::from([&last.key[..], &[0]].concat());
            let range = KeyRange { start, end: end.clone() };
            let next = RangeRequest { range, revision, limit: (limit - whole.kvs.len()).min(PAGE), ..request.clone() };
            let page = self.one_range(&next).await?;
            whole.more = page.more;
            whole.kvs.extend(page.kvs);
        }
        Ok(whole)
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResponse, Error> {
        crate::txn::check(&txn, 0)?;
        let message = convert::txn(&txn);
        let reads_only = txn.success.iter().chain(&txn.failure).all(|op| matches!(op, crate::contract::Op::Range(_)));
        let answer = self.ask(reads_only, |channel| {
            let message = message.clone();
            async move {
                let mut client = pb::kv_client::KvClient::new(channel).max_decoding_message_size(usize::MAX);
                Ok(client.txn(message).await?.into_inner())
            }
        });
        match answer.await {
            Ok(answer) => {
                let revision = answer.header.as_ref().map_or(0, |h| h.revision);
                self.members.saw(revision);
                Ok(convert::transacted(answer, revision))
            }
            Err(Refusal::Other(Error::LeaseNotFound(_))) => Err(Error::LeaseNotFound(lease_of(&txn))),
            Err(refusal) => Err(self.refuse(refusal, 0).await),
        }
    }

    async fn follow(&self, mut request: WatchRequest) -> Result<Watch, Error> {
        check_range(&request.range)?;
        let current = self.read_revision().await?;
        if request.from <= 0 {
            request.from = current + 1;
        } else if request.from <= current {
            // etcd tells a watch from before the compaction of it only after it was made.
            let there = RangeRequest::over(request.range.clone()).at(request.from).limit(1).count_only();
            self.one_range(&there).await?;
        }
        Ok(watch::follow(&self.members, request, current, self.watcher_bytes))
    }

    /// Asks about leases; an error without its number gets it here.
    async fn lease_call<T, F>(
        &self,
        id: i64,
        repeatable: bool,
        request: impl Fn(pb::lease_client::LeaseClient<Channel>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        match self.ask(repeatable, |channel| request(pb::lease_client::LeaseClient::new(channel))).await {
            Ok(answer) => Ok(answer),
            Err(Refusal::Other(Error::LeaseNotFound(_))) => Err(Error::LeaseNotFound(id)),
            Err(Refusal::Other(Error::LeaseExists(_))) => Err(Error::LeaseExists(id)),
            Err(refusal) => Err(self.refuse(refusal, 0).await),
        }
    }
}

/// The first lease that a transaction puts a key under.
fn lease_of(txn: &Txn) -> i64 {
    let ops = txn.success.iter().chain(&txn.failure);
    let found = ops.filter_map(|op| match op {
        crate::contract::Op::Put(put) if put.lease != 0 => Some(put.lease),
        crate::contract::Op::Txn(inner) => Some(lease_of(inner)).filter(|id| *id != 0),
        _ => None,
    });
    found.into_iter().next().unwrap_or(0)
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

impl Store for EtcdStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        Box::pin(self.read(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(self.transact(txn))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(self.follow(request))
    }

    fn read_revision(&self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            // A linearizable read of a key that nobody writes.
            let nothing = RangeRequest::key(Bytes::from_static(b"\0")).count_only();
            Ok(self.one_range(&nothing).await?.revision)
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let answer = self.ask(true, |channel| async move {
                let request = pb::CompactionRequest { revision, physical: false };
                pb::kv_client::KvClient::new(channel).compact(request).await
            });
            match answer.await {
                Ok(_) => Ok(()),
                Err(refusal) => Err(self.refuse(refusal, revision).await),
            }
        })
    }

    fn grant(&self, grant: Grant) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            let ttl = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX);
            if !(1..=crate::lease::MAX_TTL).contains(&ttl) {
                return Err(Error::LeaseTtl { asked: ttl, max: crate::lease::MAX_TTL });
            }
            let granted = self.lease_call(grant.id, false, |mut client| async move {
                Ok(client.lease_grant(pb::LeaseGrantRequest { ttl, id: grant.id }).await?.into_inner().id)
            });
            granted.await
        })
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<Duration, Error>> {
        Box::pin(async move {
            let kept = self.lease_call(lease, true, |mut client| async move {
                let beat = tokio_stream::once(pb::LeaseKeepAliveRequest { id: lease });
                let mut answers = client.lease_keep_alive(beat).await?.into_inner();
                let answer = answers.message().await?;
                answer.map(|a| a.ttl).ok_or_else(|| Status::unavailable("the lease's stream ended"))
            });
            match kept.await? {
                ttl if ttl > 0 => Ok(seconds(ttl)),
                _ => Err(Error::LeaseNotFound(lease)),
            }
        })
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            let revoked = self.lease_call(lease, false, |mut client| async move {
                Ok(client.lease_revoke(pb::LeaseRevokeRequest { id: lease }).await?.into_inner().header)
            });
            let revision = revoked.await?.map_or(0, |h| h.revision);
            self.members.saw(revision);
            Ok(revision)
        })
    }

    fn lease(&self, lease: i64) -> BoxFuture<'_, Result<LeaseStatus, Error>> {
        Box::pin(async move {
            let found = self.lease_call(lease, true, |mut client| async move {
                let request = pb::LeaseTimeToLiveRequest { id: lease, keys: true };
                Ok(client.lease_time_to_live(request).await?.into_inner())
            });
            let found = found.await?;
            if found.ttl < 0 {
                return Err(Error::LeaseNotFound(lease));
            }
            Ok(LeaseStatus { granted: seconds(found.granted_ttl), remaining: seconds(found.ttl), keys: found.keys })
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<i64>, Error>> {
        Box::pin(async move {
            let all = self.lease_call(0, true, |mut client| async move {
                Ok(client.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner().leases)
            });
            Ok(all.await?.into_iter().map(|lease| lease.id).collect())
        })
    }

    /// Reads every key; that the members agree is etcd's own check.
    fn verify(&self) -> BoxFuture<'_, Result<Verified, Error>> {
        Box::pin(async move {
            let all = self.read(RangeRequest::over(KeyRange::all())).await?;
            let bytes = all.kvs.iter().map(|kv| kv.value.len() as u64).sum();
            Ok(Verified { revision: all.revision, keys: all.kvs.len(), versions: all.kvs.len(), bytes })
        })
    }

    fn checkpoint(&self, _: PathBuf) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(Error::Unsupported("an etcd cluster is backed up with `etcdctl snapshot save`")) })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        Box::pin(async move {
            let status = self.ask(true, |channel| async move {
                let mut client = pb::maintenance_client::MaintenanceClient::new(channel);
                Ok(client.status(pb::StatusRequest {}).await?.into_inner())
            });
            let status = match status.await {
                Ok(status) => status,
                Err(refusal) => return Err(self.refuse(refusal, 0).await),
            };
            let all = self.one_range(&RangeRequest::over(KeyRange::all()).count_only()).await?;
            Ok(Stats {
                revision: all.revision,
                keys: all.count,
                watchers: self.members.watches.load(Ordering::Relaxed),
                leases: self.leases().await?.len(),
                disk_bytes: u64::try_from(status.db_size).unwrap_or(0),
                read_only: (!status.errors.is_empty()).then(|| status.errors.join(", ")),
                ..Stats::default()
            })
        })
    }
}
