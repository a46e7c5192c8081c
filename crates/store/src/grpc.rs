//! The store served as etcd v3 over gRPC, so that etcd's own clients can use it.
//!
//! ```text
//! kv ── Range, Put, DeleteRange, Txn, Compact     watch ── many watches over one stream
//! lease ── Lease                                  member ── Maintenance and Cluster: one member, always the leader
//! client ── the other way: an etcd cluster as a store
//! snapshot ── the file that etcd starts from, over bolt
//! convert ── etcd's messages and ours; errors in the words that clients compare
//! ```
//!
//! What an etcd has and this store does not (authentication, members that come and go, downgrades)
//! is answered with a clear error.

mod bolt;
pub mod client;
mod convert;
mod kv;
mod lease;
mod member;
#[rustfmt::skip]
#[allow(clippy::all, missing_docs, rust_2018_idioms)]
pub mod proto;
mod snapshot;
mod watch;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpIncoming};

use self::proto::etcdserverpb as pb;
use crate::contract::Store;

/// The only member; etcd's clients show it in hexadecimal.
const MEMBER: u64 = 0x736b_6966_665f_3031;
/// The cluster of that member.
const CLUSTER: u64 = 0x736b_6966_665f_6330;
/// The version that is spoken: clients choose what they ask for by it.
const VERSION: &str = "3.7.0";
/// The largest message that is taken in.
const MAX_MESSAGE: usize = 4 << 20;

/// The services over one store.
#[derive(Clone)]
pub(crate) struct Service {
    store: Arc<dyn Store>,
}

impl Service {
    fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term: 1 })
    }

    async fn header_now(&self) -> Result<Option<pb::ResponseHeader>, tonic::Status> {
        Ok(self.header(self.store.read_revision().await.map_err(convert::status)?))
    }
}

/// Serves a store on a listener until `stop` is done. Whoever reaches the listener may do everything: it belongs on
/// loopback.
pub async fn serve(
    store: Arc<dyn Store>,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let listener = TcpIncoming::from(listener).with_nodelay(Some(true));
    serve_on(store, listener, stop).await
}

/// A connection that somebody else accepted, and whose peer somebody else has authenticated.
pub struct Accepted<S>(pub S);

impl<S> Connected for Accepted<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves a store on connections that come from a channel, such as those of a TLS listener, until `stop` is done.
pub async fn serve_accepted<S>(
    store: Arc<dyn Store>,
    accepted: tokio::sync::mpsc::Receiver<io::Result<Accepted<S>>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_on(store, tokio_stream::wrappers::ReceiverStream::new(accepted), stop).await
}

async fn serve_on<S>(
    store: Arc<dyn Store>,
    connections: impl tokio_stream::Stream<Item = io::Result<S>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
{
    let service = Service { store };
    let kv = pb::kv_server::KvServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE);
    tonic::transport::Server::builder()
        .add_service(kv)
        .add_service(pb::watch_server::WatchServer::new(service.clone()))
        .add_service(pb::lease_server::LeaseServer::new(service.clone()))
        .add_service(pb::maintenance_server::MaintenanceServer::new(service.clone()))
        .add_service(pb::cluster_server::ClusterServer::new(service))
        .serve_with_incoming_shutdown(connections, stop)
        .await
}
