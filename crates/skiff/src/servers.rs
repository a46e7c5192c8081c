//! The servers that share a datastore: each is written down there while it lives, and the Service `kubernetes` leads to
//! all of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use store::{Error, Grant, KeyRange, Op, RangeRequest, Store, Txn, WatchRequest};
use tokio::time::Instant;

use crate::leader::{BEAT, LEASE};

/// Under this prefix are the addresses of the servers that live, `ADDRESS:PORT`.
const SERVERS: &[u8] = b"/skiff/servers/";

/// A server among those of its datastore.
pub struct Servers {
    store: Arc<dyn Store>,
    own: SocketAddr,
    /// The lease that keeps this server's entry; 0 for none.
    lease: Mutex<i64>,
}

impl Servers {
    pub fn new(store: Arc<dyn Store>, own: SocketAddr) -> Servers {
        Servers { store, own, lease: Mutex::new(0) }
    }

    /// The addresses of the servers on the port of this one, its own included, and the revision at which that holds.
    /// Others than on this port cannot be behind one Service.
    pub async fn addresses(&self) -> Result<(BTreeSet<IpAddr>, i64), Error> {
        let found = self.store.range(RangeRequest::over(KeyRange::prefix(SERVERS.into()))).await?;
        let entries = found.kvs.iter().filter_map(|kv| std::str::from_utf8(kv.key.get(SERVERS.len()..)?).ok());
        let servers = entries.filter_map(|text| text.parse::<SocketAddr>().ok());
        let mut addresses: BTreeSet<IpAddr> =
            servers.filter(|server| server.port() == self.own.port()).map(|server| server.ip()).collect();
        addresses.insert(self.own.ip());
        Ok((addresses, found.revision))
    }

    /// Is there for the others, and calls `changed` with the addresses whenever they change; it is called again when it
    /// answers that it failed. Goes on until it is dropped.
    pub async fn keep<F: Future<Output = bool>>(self: Arc<Servers>, changed: impl Fn(BTreeSet<IpAddr>) -> F) {
        let mut told = BTreeSet::new();
        loop {
            if let Err(error) = self.follow(&changed, &mut told).await {
                tracing::debug!(%error, "the list of servers is not followed");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn follow<F: Future<Output = bool>>(
        &self,
        changed: &impl Fn(BTreeSet<IpAddr>) -> F,
        told: &mut BTreeSet<IpAddr>,
    ) -> Result<(), Error> {
        let lease = self.enter().await?;
        let (_, revision) = self.addresses().await?;
        let all = WatchRequest::prefix(SERVERS.into()).after(revision).without_progress();
        let mut watch = self.store.watch(all).await?;
        let mut beat = Instant::now() + BEAT;
        loop {
            let (addresses, _) = self.addresses().await?;
            if addresses != *told {
                if !changed(addresses.clone()).await {
                    return Ok(());
                }
                *told = addresses;
            }
            loop {
                tokio::select! {
                    batch = watch.next() => match batch {
                        Some(Ok(_)) => break,
                        Some(Err(error)) => return Err(error),
                        None => return Err(Error::Closed),
                    },
                    () = tokio::time::sleep_until(beat) => {
                        beat = Instant::now() + BEAT;
                        self.store.keep_alive(lease).await?;
                    }
                }
            }
        }
    }

    /// Writes this server down, under the lease that it has or a new one.
    async fn enter(&self) -> Result<i64, Error> {
        let mut lease = *self.lease.lock();
        if lease == 0 || self.store.keep_alive(lease).await.is_err() {
            lease = self.store.grant(Grant { id: 0, ttl: LEASE }).await?;
            *self.lease.lock() = lease;
        }
        let key = [SERVERS, self.own.to_string().as_bytes()].concat();
        self.store.txn(Txn::new().then(Op::put_with_lease(key.into(), bytes::Bytes::new(), lease))).await?;
        Ok(lease)
    }

    /// Is gone for the others at once. Only when it is not kept any more.
    pub async fn leave(&self) {
        let lease = std::mem::take(&mut *self.lease.lock());
        if lease != 0
            && let Err(error) = self.store.revoke(lease).await
        {
            tracing::debug!(%error, "the others hear that this server is gone once its lease has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::LocalStore;

    use super::*;

    #[tokio::test]
    async fn servers_come_and_go() {
        let store: Arc<dyn Store> = Arc::new(LocalStore::memory(store::Config::default()));
        let server = |text: &str| Arc::new(Servers::new(store.clone(), text.parse().unwrap()));
        let first = server("192.0.2.1:6443");
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let failed = std::sync::atomic::AtomicBool::new(false);
        let watching = tokio::spawn(first.clone().keep(move |addresses| {
            // The first time it fails, and is told again.
            let succeeds = failed.swap(true, std::sync::atomic::Ordering::SeqCst);
            let _ = sender.send(addresses);
            async move { succeeds }
        }));
        let mut next = async || {
            let heard = tokio::time::timeout(Duration::from_secs(120), told.recv()).await;
            let heard = heard.expect("a change").expect("a list");
            heard.into_iter().map(|address| address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(next().await, ["192.0.2.1"]);
        assert_eq!(next().await, ["192.0.2.1"]);
        let other = tokio::spawn(server("192.0.2.3:7443").keep(async |_| true));
        let second = server("192.0.2.2:6443");
        let entered = tokio::spawn(second.clone().keep(async |_| true));
        assert_eq!(next().await, ["192.0.2.1", "192.0.2.2"], "another port is another Service's");
        entered.abort();
        let _ = entered.await;
        second.leave().await;
        assert_eq!(next().await, ["192.0.2.1"]);
        watching.abort();
        other.abort();
    }
}
