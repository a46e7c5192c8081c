//! The store over gRPC, asked by a client drafted from etcd's own definition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::grpc::proto::{etcdserverpb as pb, mvccpb};
use store::{Config, LocalStore};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

async fn connect() -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::new(LocalStore::memory(Config { history: 0, ..Config::default() }));
    tokio::spawn(store::grpc::serve(store, listener, std::future::pending()));
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: b(key), value: b(value), ..Default::default() }
}

fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: b(key), range_end: b(end), ..Default::default() }
}

fn keys(kvs: &[mvccpb::KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn keys_are_put_ranged_sorted_and_deleted() {
    let mut kv = pb::kv_client::KvClient::new(connect().await);
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "4")] {
        kv.put(put(key, value)).await.unwrap();
    }
    let all = kv.range(range("a", "z")).await.unwrap().into_inner();
    assert_eq!(
        (keys(&all.kvs), all.count, all.header.unwrap().revision),
        (vec!["a".into(), "b".into(), "c".into()], 3, 5)
    );
    let request = pb::RangeRequest {
        sort_target: pb::range_request::SortTarget::Value.into(),
        sort_order: pb::range_request::SortOrder::Descend.into(),
        limit: 2,
        keys_only: true,
        ..range("a", "z")
    };
    let sorted = kv.range(request).await.unwrap().into_inner();
    assert_eq!((keys(&sorted.kvs), sorted.more, sorted.count), (vec!["a".into(), "c".into()], true, 3));
    assert!(sorted.kvs.iter().all(|kv| kv.value.is_empty()));
    let young = kv.range(pb::RangeRequest { min_mod_revision: 4, ..range("a", "z") }).await.unwrap().into_inner();
    assert_eq!(keys(&young.kvs), ["a", "c"]);
    let request = pb::DeleteRangeRequest { key: b("a"), range_end: b("c"), prev_kv: true };
    let deleted = kv.delete_range(request).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, keys(&deleted.prev_kvs)), (2, vec!["a".to_owned(), "b".to_owned()]));

    kv.compact(pb::CompactionRequest { revision: 5, physical: true }).await.unwrap();
    let error = kv.range(pb::RangeRequest { revision: 2, ..range("a", "z") }).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
    );
    let error = kv.put(put("", "x")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));
}

#[tokio::test]
async fn transactions_answer_every_operation() {
    use pb::request_op::Request;
    use pb::response_op::Response;
    let mut kv = pb::kv_client::KvClient::new(connect().await);
    let op = |request| pb::RequestOp { request: Some(request) };
    let absent = pb::Compare {
        key: b("a"),
        target: pb::compare::CompareTarget::Mod.into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let create = pb::TxnRequest {
        compare: vec![absent],
        success: vec![op(Request::RequestPut(put("a", "1")))],
        failure: vec![op(Request::RequestRange(range("a", "")))],
    };
    let made = kv.txn(create.clone()).await.unwrap().into_inner();
    assert!(made.succeeded && matches!(made.responses[0].response, Some(Response::ResponsePut(_))));
    let again = kv.txn(create).await.unwrap().into_inner();
    let Some(Response::ResponseRange(found)) = &again.responses[0].response else { panic!("a range") };
    assert!(!again.succeeded && keys(&found.kvs) == ["a"]);
    let many = pb::TxnRequest { success: vec![op(Request::RequestPut(put("a", "1"))); 200], ..Default::default() };
    assert_eq!(kv.txn(many).await.unwrap_err().message(), "etcdserver: too many operations in txn request");
}

#[tokio::test]
async fn watches_share_a_stream_and_marks_never_overtake() {
    use pb::watch_request::RequestUnion;
    let channel = connect().await;
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    let (sender, receiver) = mpsc::channel(16);
    let mut watch = pb::watch_client::WatchClient::new(channel);
    let ask = async |union| sender.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    let create = |key: &str, prev_kv, start_revision| {
        RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: b(key),
            range_end: store::prefix_end(key.as_bytes()),
            prev_kv,
            start_revision,
            ..Default::default()
        })
    };
    kv.put(put("a/1", "0")).await.unwrap();
    ask(create("a/", true, 0)).await;
    let mut stream = watch.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap().unwrap().unwrap();
    let created = next().await;
    assert!(created.created && created.watch_id == 0);
    ask(create("b/", false, 1)).await;
    let created = next().await;
    assert!(created.created && created.watch_id == 1);
    for n in 1..=50 {
        kv.put(put("a/1", &n.to_string())).await.unwrap();
        kv.put(put("b/1", &n.to_string())).await.unwrap();
    }
    ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let mut seen = [0; 2];
    loop {
        let response = next().await;
        if response.watch_id == -1 {
            assert!(response.header.unwrap().revision >= 102);
            break;
        }
        for event in response.events {
            let at = response.watch_id as usize;
            seen[at] += 1;
            assert_eq!(event.kv.unwrap().value, seen[at].to_string());
            let prev = (at == 0).then(|| (seen[0] - 1).to_string());
            assert_eq!(event.prev_kv.map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()), prev);
        }
    }
    assert_eq!(seen, [50, 50], "the mark overtook events");
    ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 })).await;
    assert!(next().await.canceled);
    kv.compact(pb::CompactionRequest { revision: 50, physical: false }).await.unwrap();
    ask(create("a/", false, 7)).await;
    assert!(next().await.created);
    let canceled = next().await;
    assert!(canceled.canceled && canceled.compact_revision == 50);
}

#[tokio::test]
async fn leases_and_the_member_answer() {
    let channel = connect().await;
    let mut kv = pb::kv_client::KvClient::new(channel.clone());
    let mut lease = pb::lease_client::LeaseClient::new(channel.clone());
    let id = lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner().id;
    kv.put(pb::PutRequest { lease: id, ..put("a", "1") }).await.unwrap();
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let left = lease.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((left.granted_ttl, left.keys), (60, vec![b("a")]));
    let beats = tokio_stream::iter([id, id + 1].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = lease.lease_keep_alive(beats).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 60);
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 0);
    lease.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
    assert_eq!(kv.range(range("a", "")).await.unwrap().into_inner().count, 0);
    let error = lease.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "etcdserver: requested lease not found"));

    let mut member = pb::maintenance_client::MaintenanceClient::new(channel.clone());
    let status = member.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.leader, status.header.unwrap().member_id);
    let mut snapshot = member.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(part) = snapshot.message().await.unwrap() {
        file.extend_from_slice(&part.blob);
        if part.remaining_bytes == 0 {
            break;
        }
    }
    // Pages, and the checksum that etcd's tools look for.
    assert_eq!(file.len() % 512, 32);
    let mut cluster = pb::cluster_client::ClusterClient::new(channel);
    let list = cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(list.members.len(), 1);
}
