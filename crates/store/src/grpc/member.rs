//! Maintenance and Cluster: what clients ask of a member. There is one, and it leads.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::status;
use super::{MEMBER, Service, VERSION, pb};

/// What one message of a snapshot carries.
const SNAPSHOT_CHUNK: usize = 32 << 10;

/// Changing members is not something that one embedded store can do.
fn alone() -> Status {
    Status::unimplemented("this store is embedded in one server: it has no members to change")
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Service {
    /// Lists alarms: the store raises one itself while it cannot write. There is nothing to raise or disarm by hand.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let action = request.into_inner().action;
        if action != i32::from(pb::alarm_request::AlarmAction::Get) {
            return Err(Status::unimplemented("alarms of this store come and go with their cause"));
        }
        let stats = self.store.stats().await.map_err(status)?;
        let alarms =
            stats.read_only.iter().map(|_| pb::AlarmMember { member_id: MEMBER, alarm: pb::AlarmType::Corrupt.into() });
        Ok(Response::new(pb::AlarmResponse { header: self.header(stats.revision), alarms: alarms.collect() }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let stats = self.store.stats().await.map_err(status)?;
        let size = i64::try_from(stats.disk_bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: self.header(stats.revision),
            version: VERSION.to_owned(),
            storage_version: VERSION.to_owned(),
            db_size: size,
            db_size_in_use: size,
            leader: MEMBER,
            raft_index: stats.revision.unsigned_abs(),
            raft_applied_index: stats.revision.unsigned_abs(),
            raft_term: 1,
            errors: stats.read_only.into_iter().collect(),
            ..pb::StatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(Status::unimplemented("this store gives space back by itself"))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("this store has no backend whose hash another member could compare"))
    }

    async fn hash_kv(&self, _: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(Status::unimplemented("this store has no other members to compare a hash with"))
    }

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let file = Bytes::from(super::snapshot::write(&self.store).await.map_err(status)?);
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut at = 0;
            while at < file.len() {
                let end = (at + SNAPSHOT_CHUNK).min(file.len());
                let response = pb::SnapshotResponse {
                    remaining_bytes: (file.len() - end) as u64,
                    blob: file.slice(at..end),
                    version: VERSION.to_owned(),
                    ..pb::SnapshotResponse::default()
                };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
                at = end;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn move_leader(&self, _: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(alone())
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("this store is not downgraded over this service"))
    }
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Service {
    async fn member_list(&self, _: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let member = pb::Member { id: MEMBER, name: "skiff".to_owned(), ..pb::Member::default() };
        Ok(Response::new(pb::MemberListResponse { header: self.header_now().await?, members: vec![member] }))
    }

    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(alone())
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(alone())
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(alone())
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(alone())
    }
}
