//! Leases over gRPC.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::status;
use super::{Service, pb};
use crate::contract::Grant;
use crate::error::Error;

#[tonic::async_trait]
impl pb::lease_server::Lease for Service {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        // etcd lifts what is too short to its own least time to live.
        let ttl = Duration::from_secs(u64::try_from(request.ttl).unwrap_or(0).max(1));
        let id = self.store.grant(Grant { id: request.id, ttl }).await.map_err(status)?;
        let header = self.header_now().await?;
        Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl: ttl.as_secs() as i64, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let revision = self.store.revoke(request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.header(revision) }))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = service.kept_alive(request.id).await;
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let header = self.header_now().await?;
        let mut response =
            pb::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, granted_ttl: 0, keys: Vec::new() };
        match self.store.lease(request.id).await {
            Ok(lease) => {
                response.ttl = lease.remaining.as_secs_f64().ceil() as i64;
                response.granted_ttl = lease.granted.as_secs() as i64;
                if request.keys {
                    response.keys = lease.keys;
                }
            }
            Err(Error::LeaseNotFound(_)) => {}
            Err(error) => return Err(status(error)),
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.store.leases().await.map_err(status)?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.header_now().await?, leases }))
    }
}

impl Service {
    /// A lease that is gone is told by a time to live of 0.
    async fn kept_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let ttl = match self.store.keep_alive(id).await {
            Ok(ttl) => ttl.as_secs() as i64,
            Err(Error::LeaseNotFound(_)) => 0,
            Err(error) => return Err(status(error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header: self.header_now().await?, id, ttl })
    }
}
