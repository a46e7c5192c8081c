//! etcd's messages and ours, and errors in the words that etcd's clients compare.

use bytes::Bytes;
use tonic::{Code, Status};

use super::pb;
use super::proto::mvccpb;
use crate::contract::{
    Compare, CompareOp, CompareTarget, Event, KeyRange, KeyValue, Op, Put, RangeRequest, RangeResponse, Txn,
};
use crate::error::Error;

/// The most operations of a transaction, as etcd has it.
const MAX_OPS: usize = 128;

/// An error as etcd's clients know it.
pub(super) fn status(error: Error) -> Status {
    let (code, message) = match &error {
        Error::Compacted { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        Error::FutureRevision { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        Error::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        Error::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        Error::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        Error::LeaseNotFound(_) => (Code::NotFound, "etcdserver: requested lease not found"),
        Error::LeaseExists(_) => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Error::LeaseTtl { .. } => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Error::TooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        Error::NoSpace { .. } => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        Error::Corrupt(_) => (Code::DataLoss, "etcdserver: corrupt cluster"),
        Error::Closed => (Code::Unavailable, "etcdserver: server stopped"),
        Error::Unsupported(_) => return Status::unimplemented(error.to_string()),
        _ => return Status::unavailable(error.to_string()),
    };
    if matches!(error, Error::Corrupt(_)) {
        tracing::error!(%error, "the store is damaged");
    }
    Status::new(code, message)
}

pub(super) fn kv(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

pub(super) fn event(event: &Event, prev: bool) -> mvccpb::Event {
    let kind = if event.is_delete() { mvccpb::event::EventType::Delete } else { mvccpb::event::EventType::Put };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(kv(event.kv.clone())),
        prev_kv: event.prev.clone().filter(|_| prev).map(kv),
    }
}

pub(super) fn key_range(key: Bytes, end: Bytes) -> KeyRange {
    KeyRange { start: key, end }
}

/// What the store does not do by itself to a range: order, and bounds of revisions.
#[derive(Clone)]
pub(super) struct Shape {
    request: pb::RangeRequest,
    target: pb::range_request::SortTarget,
    order: pb::range_request::SortOrder,
}

impl Shape {
    fn of(request: &pb::RangeRequest) -> Result<Shape, Status> {
        let invalid = |_| Status::invalid_argument("etcdserver: invalid sort option");
        Ok(Shape {
            target: request.sort_target.try_into().map_err(invalid)?,
            order: request.sort_order.try_into().map_err(invalid)?,
            request: pb::RangeRequest { key: Bytes::new(), range_end: Bytes::new(), ..request.clone() },
        })
    }

    fn is_plain(&self) -> bool {
        use pb::range_request::{SortOrder, SortTarget};
        let r = &self.request;
        let bounds = [r.min_mod_revision, r.max_mod_revision, r.min_create_revision, r.max_create_revision];
        bounds == [0; 4] && self.target == SortTarget::Key && self.order != SortOrder::Descend
    }

    /// Bounds, sorts, cuts, and says it in etcd's message.
    pub fn apply(&self, mut response: RangeResponse, header: Option<pb::ResponseHeader>) -> pb::RangeResponse {
        use pb::range_request::{SortOrder, SortTarget};
        if !self.is_plain() && !self.request.count_only {
            let r = &self.request;
            let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
            response.kvs.retain(|kv| {
                within(kv.mod_revision, r.min_mod_revision, r.max_mod_revision)
                    && within(kv.create_revision, r.min_create_revision, r.max_create_revision)
            });
            match self.target {
                SortTarget::Key => {}
                SortTarget::Version => response.kvs.sort_by_key(|kv| kv.version),
                SortTarget::Create => response.kvs.sort_by_key(|kv| kv.create_revision),
                SortTarget::Mod => response.kvs.sort_by_key(|kv| kv.mod_revision),
                SortTarget::Value => response.kvs.sort_by(|a, b| a.value.cmp(&b.value)),
            }
            if self.order == SortOrder::Descend {
                response.kvs.reverse();
            }
            let limit = usize::try_from(r.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
            response.more = response.kvs.len() > limit;
            response.kvs.truncate(limit);
            if r.keys_only {
                response.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
            }
        }
        pb::RangeResponse {
            header,
            count: response.count as i64,
            more: response.more,
            kvs: response.kvs.into_iter().map(kv).collect(),
        }
    }
}

/// The store's part of a range, and the rest.
pub(super) fn range(request: pb::RangeRequest) -> Result<(RangeRequest, Shape), Status> {
    let shape = Shape::of(&request)?;
    let plain = shape.is_plain();
    let by_value = shape.target == pb::range_request::SortTarget::Value;
    let range = RangeRequest {
        range: key_range(request.key, request.range_end),
        revision: request.revision.max(0),
        limit: if plain { usize::try_from(request.limit).unwrap_or(0) } else { 0 },
        keys_only: request.keys_only && (plain || !by_value),
        count_only: request.count_only,
    };
    Ok((range, shape))
}

pub(super) fn put(request: pb::PutRequest) -> Result<Op, Status> {
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(Op::Put(Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
        prev: request.prev_kv,
    }))
}

pub(super) fn delete(request: pb::DeleteRangeRequest) -> Op {
    Op::Delete { range: key_range(request.key, request.range_end), prev: request.prev_kv }
}

/// What an operation's answer needs to become etcd's.
pub(super) enum Answer {
    Put,
    Delete,
    Range(Shape),
    Txn { success: Vec<Answer>, failure: Vec<Answer> },
}

/// A transaction, and what its answers need.
pub(super) fn txn(request: pb::TxnRequest) -> Result<(Txn, Answer), Status> {
    if request.compare.len().max(request.success.len()).max(request.failure.len()) > MAX_OPS {
        return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
    }
    let compares = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    let (success, on_success) = operations(request.success)?;
    let (failure, on_failure) = operations(request.failure)?;
    Ok((Txn { compares, success, failure }, Answer::Txn { success: on_success, failure: on_failure }))
}

fn operations(requests: Vec<pb::RequestOp>) -> Result<(Vec<Op>, Vec<Answer>), Status> {
    use pb::request_op::Request;
    let mut all = (Vec::new(), Vec::new());
    for request in requests {
        let (op, answer) = match request.request {
            Some(Request::RequestRange(request)) => {
                let (request, shape) = range(request)?;
                (Op::Range(request), Answer::Range(shape))
            }
            Some(Request::RequestPut(request)) => (put(request)?, Answer::Put),
            Some(Request::RequestDeleteRange(request)) => (delete(request), Answer::Delete),
            Some(Request::RequestTxn(request)) => {
                let (inner, answer) = txn(request)?;
                (Op::Txn(Box::new(inner)), answer)
            }
            None => return Err(Status::invalid_argument("etcdserver: an operation is empty")),
        };
        all.0.push(op);
        all.1.push(answer);
    }
    Ok(all)
}

fn compare(request: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult, CompareTarget as Target, TargetUnion};
    let invalid = |_| Status::invalid_argument("etcdserver: an unknown comparison");
    let op = match CompareResult::try_from(request.result).map_err(invalid)? {
        CompareResult::Equal => CompareOp::Equal,
        CompareResult::NotEqual => CompareOp::NotEqual,
        CompareResult::Greater => CompareOp::Greater,
        CompareResult::Less => CompareOp::Less,
    };
    // A side left out is its zero, as protobuf has it.
    let target = match (Target::try_from(request.target).map_err(invalid)?, request.target_union) {
        (Target::Version, Some(TargetUnion::Version(n))) => CompareTarget::Version(n),
        (Target::Create, Some(TargetUnion::CreateRevision(n))) => CompareTarget::CreateRevision(n),
        (Target::Mod, Some(TargetUnion::ModRevision(n))) => CompareTarget::ModRevision(n),
        (Target::Lease, Some(TargetUnion::Lease(n))) => CompareTarget::Lease(n),
        (Target::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (Target::Version, _) => CompareTarget::Version(0),
        (Target::Create, _) => CompareTarget::CreateRevision(0),
        (Target::Mod, _) => CompareTarget::ModRevision(0),
        (Target::Lease, _) => CompareTarget::Lease(0),
        (Target::Value, _) => CompareTarget::Value(Bytes::new()),
    };
    Ok(Compare { range: key_range(request.key, request.range_end), op, target })
}
