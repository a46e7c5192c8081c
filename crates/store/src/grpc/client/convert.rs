//! Our requests as etcd's messages, and etcd's answers as ours.

use bytes::Bytes;
use tonic::{Code, Status};

use super::super::pb;
use super::super::proto::mvccpb;
use crate::contract::{
    Compare, CompareOp, CompareTarget, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, Put, RangeRequest,
    RangeResponse, Txn, TxnResponse,
};
use crate::error::Error;

/// What etcd says, told apart. Numbers that its words lack are filled in by the caller.
pub(super) enum Refusal {
    Compacted,
    Future,
    /// Nothing was decided; another member may answer.
    Unavailable(String),
    Other(Error),
}

/// An error of etcd.
pub(super) fn refusal(status: &Status) -> Refusal {
    let text = status.message();
    let is = |words: &str| text.ends_with(words);
    let known = match () {
        () if is("required revision has been compacted") => return Refusal::Compacted,
        () if is("required revision is a future revision") => return Refusal::Future,
        () if is("duplicate key given in txn request") => Error::DuplicateKey,
        () if is("key is not provided") => Error::EmptyKey,
        () if is("key not found") => Error::KeyNotFound,
        () if is("requested lease not found") => Error::LeaseNotFound(0),
        () if is("lease already exists") => Error::LeaseExists(0),
        () if is("too large lease TTL") => Error::LeaseTtl { asked: 0, max: crate::lease::MAX_TTL },
        () if is("request is too large") || text.contains("message larger than max") => {
            Error::TooLarge { what: "a request", size: 0, limit: 0 }
        }
        () if is("too many operations in txn request") => {
            Error::TooLarge { what: "a number of operations", size: 0, limit: 0 }
        }
        () if is("database space exceeded") => Error::NoSpace { free: 0, wanted: 0 },
        () if is("corrupt cluster") => Error::Corrupt("etcd found its members to differ".to_owned()),
        () => match status.code() {
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Internal => {
                return Refusal::Unavailable(text.to_owned());
            }
            _ => Error::Io(format!("etcd refused: {text}")),
        },
    };
    Refusal::Other(known)
}

pub(super) fn kv(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(super) fn event(event: mvccpb::Event) -> Event {
    let delete = event.r#type == i32::from(mvccpb::event::EventType::Delete);
    let found = event.kv.map(kv).unwrap_or_default();
    let kv = match delete {
        true => KeyValue { key: found.key, mod_revision: found.mod_revision, ..KeyValue::default() },
        false => found,
    };
    let kind = if delete { EventKind::Delete } else { EventKind::Put };
    Event { kind, kv, prev: event.prev_kv.map(self::kv) }
}

pub(super) fn range(request: &RangeRequest) -> pb::RangeRequest {
    pb::RangeRequest {
        key: request.range.start.clone(),
        range_end: request.range.end.clone(),
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision.max(0),
        keys_only: request.keys_only,
        count_only: request.count_only,
        ..Default::default()
    }
}

pub(super) fn ranged(response: pb::RangeResponse) -> RangeResponse {
    RangeResponse {
        revision: response.header.map_or(0, |h| h.revision),
        kvs: response.kvs.into_iter().map(kv).collect(),
        count: usize::try_from(response.count).unwrap_or(0),
        more: response.more,
    }
}

fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone(),
        // What is to be kept must not be given.
        value: if put.ignore_value { Bytes::new() } else { put.value.clone() },
        lease: if put.ignore_lease { 0 } else { put.lease },
        prev_kv: put.prev,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

fn delete(range: &KeyRange, prev: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: range.start.clone(), range_end: range.end.clone(), prev_kv: prev }
}

fn operation(op: &Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        Op::Put(op) => Request::RequestPut(put(op)),
        Op::Delete { range, prev } => Request::RequestDeleteRange(delete(range, *prev)),
        Op::Range(request) => Request::RequestRange(range(request)),
        Op::Txn(inner) => Request::RequestTxn(txn(inner)),
    };
    pb::RequestOp { request: Some(request) }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget as Target, TargetUnion};
    let result = match compare.op {
        CompareOp::Equal => CompareResult::Equal,
        CompareOp::NotEqual => CompareResult::NotEqual,
        CompareOp::Greater => CompareResult::Greater,
        CompareOp::Less => CompareResult::Less,
    };
    let (target, union) = match &compare.target {
        CompareTarget::ModRevision(n) => (Target::Mod, TargetUnion::ModRevision(*n)),
        CompareTarget::CreateRevision(n) => (Target::Create, TargetUnion::CreateRevision(*n)),
        CompareTarget::Version(n) => (Target::Version, TargetUnion::Version(*n)),
        CompareTarget::Lease(n) => (Target::Lease, TargetUnion::Lease(*n)),
        CompareTarget::Value(value) => (Target::Value, TargetUnion::Value(value.clone())),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: compare.range.start.clone(),
        range_end: compare.range.end.clone(),
        target_union: Some(union),
    }
}

pub(super) fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(operation).collect(),
        failure: txn.failure.iter().map(operation).collect(),
    }
}

/// All parts of an answer carry the revision that the transaction ended at.
pub(super) fn transacted(response: pb::TxnResponse, revision: i64) -> TxnResponse {
    use pb::response_op::Response;
    let responses = response.responses.into_iter().filter_map(|part| {
        Some(match part.response? {
            Response::ResponsePut(put) => OpResponse::Put { prev: put.prev_kv.map(kv) },
            Response::ResponseDeleteRange(deleted) => OpResponse::Delete {
                deleted: usize::try_from(deleted.deleted).unwrap_or(0),
                prev: deleted.prev_kvs.into_iter().map(kv).collect(),
            },
            Response::ResponseRange(range) => OpResponse::Range(RangeResponse { revision, ..ranged(range) }),
            Response::ResponseTxn(inner) => OpResponse::Txn(transacted(inner, revision)),
        })
    });
    TxnResponse { succeeded: response.succeeded, revision, responses: responses.collect() }
}
