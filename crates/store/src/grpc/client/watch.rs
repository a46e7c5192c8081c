//! One watch on an etcd cluster: a stream that is opened again where it ended, on another member if need be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::pb;
use super::super::proto::mvccpb;
use super::{Members, convert};
use crate::contract::{WatchBatch, WatchRequest};
use crate::error::Error;
use crate::hub::{Queue, Watch};

/// How long an event gets to come by itself before etcd is asked how far the watch is.
const GRACE: Duration = Duration::from_millis(50);
/// How long a stream may take to open.
const OPENING: Duration = Duration::from_secs(5);
/// Between two attempts to open a stream.
const RETRY: Duration = Duration::from_millis(200);

/// What fills one watch's queue.
struct Follower {
    members: Arc<Members>,
    request: WatchRequest,
    queue: Arc<Queue>,
    /// The next revision to see.
    next: i64,
    /// Everything up to here was seen.
    reached: i64,
}

/// Ends the follower when the watch is dropped, and counts it no more.
struct Leave {
    task: AbortHandle,
    count: Arc<AtomicUsize>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.task.abort();
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open stream with one watch on it.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    /// The member's revision when the watch was made.
    revision: i64,
    /// Which member it is.
    at: usize,
}

/// Why a stream is read no more.
enum End {
    /// It is to be opened again.
    Broken(String),
    Final(Error),
    /// The queue has ended by itself: its watcher is too slow.
    Full,
}

/// Begins to follow; `current` is the newest revision, read before, and `request.from` is not below the compaction.
pub(super) fn follow(members: &Arc<Members>, request: WatchRequest, current: i64, limit: usize) -> Watch {
    let from = request.from;
    let reached = (from - 1).min(current);
    let told = if request.progress && from > current { current } else { 0 };
    let queue = Queue::new(from, told, limit);
    let follower = Follower { members: members.clone(), request, queue: queue.clone(), next: from, reached };
    let count = members.watches.clone();
    count.fetch_add(1, Ordering::Relaxed);
    let task = tokio::spawn(follower.run()).abort_handle();
    Watch::of(queue, Leave { task, count })
}

/// The revision that was compacted, by the only answer that names it: that to a watch from before it.
pub(super) async fn compacted(members: &Arc<Members>) -> Result<i64, Error> {
    let create = pb::WatchCreateRequest { key: vec![0].into(), start_revision: 1, ..Default::default() };
    let asked = async {
        let mut stream = open(members, create).await?;
        while let Ok(Some(response)) = stream.responses.message().await {
            if response.compact_revision > 0 {
                return Ok(response.compact_revision);
            }
            // Events from the beginning: nothing was compacted yet.
            if !response.created {
                return Ok(0);
            }
        }
        Err(Error::Unavailable("the watch ended at once".to_owned()))
    };
    match tokio::time::timeout(OPENING, asked).await {
        Ok(revision) => revision,
        // Nothing was compacted and nothing was ever written.
        Err(_) => Ok(0),
    }
}

async fn open(members: &Members, create: pb::WatchCreateRequest) -> Result<Stream, Error> {
    let channel = members.current();
    let opened = async {
        let (requests, receiver) = mpsc::channel(16);
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        // There is room: the channel is new.
        let _ = requests.send(pb::WatchRequest { request_union: Some(union) }).await;
        let mut client =
            pb::watch_client::WatchClient::new(channel.channel.clone()).max_decoding_message_size(usize::MAX);
        let mut responses = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        let Some(created) = responses.message().await? else {
            return Err(tonic::Status::unavailable("the watch ended before it began"));
        };
        if created.canceled && !created.created {
            return Err(tonic::Status::unavailable(created.cancel_reason));
        }
        let revision = created.header.map_or(0, |h| h.revision);
        Ok(Stream { requests, responses, revision, at: channel.at })
    };
    let outcome = match tokio::time::timeout(OPENING, opened).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(status)) => status.message().to_owned(),
        Err(_) => "the watch could not be opened in time".to_owned(),
    };
    members.leave(channel.at);
    Err(Error::Unavailable(outcome))
}

impl Follower {
    async fn run(mut self) {
        loop {
            let create = pb::WatchCreateRequest {
                key: self.request.range.start.clone(),
                range_end: self.request.range.end.clone(),
                start_revision: self.next,
                prev_kv: true,
                fragment: true,
                progress_notify: self.request.progress,
                ..Default::default()
            };
            match open(&self.members, create).await {
                Ok(stream) => match self.read(stream).await {
                    End::Broken(reason) => tracing::debug!(reason, "a watch on the datastore is opened again"),
                    End::Final(error) => return self.queue.end(error),
                    End::Full => return,
                },
                Err(error) => tracing::debug!(%error, "a watch on the datastore cannot be opened yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn read(&mut self, mut stream: Stream) -> End {
        let at = stream.at;
        let mut wanted = self.members.seen.subscribe();
        let mut gathered: Vec<mvccpb::Event> = Vec::new();
        // A watch from the future has seen all of the present.
        if self.next > stream.revision {
            self.reach(stream.revision);
        }
        loop {
            let behind = self.request.progress && *wanted.borrow_and_update() > self.reached;
            let response = tokio::select! {
                response = stream.responses.message() => response,
                _ = tokio::time::sleep(GRACE), if behind => {
                    let union = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    let ask = pb::WatchRequest { request_union: Some(union) };
                    // When it has no room, asking is under way already.
                    let _ = stream.requests.try_send(ask);
                    continue;
                }
                changed = wanted.changed(), if self.request.progress && !behind => {
                    if changed.is_err() {
                        return End::Final(Error::Closed);
                    }
                    continue;
                }
            };
            let response = match response {
                Ok(Some(response)) => response,
                Ok(None) => {
                    self.members.leave(at);
                    return End::Broken("the member ended it".to_owned());
                }
                Err(status) => {
                    self.members.leave(at);
                    return End::Broken(status.message().to_owned());
                }
            };
            if response.compact_revision > 0 {
                return End::Final(Error::Compacted { revision: response.compact_revision });
            }
            if response.canceled {
                self.members.leave(at);
                return End::Broken(response.cancel_reason);
            }
            let quiet = response.events.is_empty() && !response.created;
            gathered.extend(response.events);
            if response.fragment {
                continue;
            }
            if quiet && gathered.is_empty() {
                self.reach(response.header.map_or(0, |h| h.revision));
            }
            if !self.hand_over(std::mem::take(&mut gathered)) {
                return End::Full;
            }
        }
    }

    /// Everything up to a revision was seen.
    fn reach(&mut self, revision: i64) {
        if revision > self.reached {
            self.reached = revision;
            self.next = self.next.max(revision + 1);
            if self.request.progress {
                self.queue.mark(revision);
            }
        }
    }

    /// Hands events over, a batch for each revision; false when the queue is full.
    fn hand_over(&mut self, events: Vec<mvccpb::Event>) -> bool {
        let mut batches: Vec<WatchBatch> = Vec::new();
        for event in events.into_iter().map(convert::event) {
            let revision = event.kv.mod_revision;
            match batches.last_mut() {
                Some(batch) if batch.revision == revision => batch.events.push(Arc::new(event)),
                _ => batches.push(WatchBatch { revision, events: vec![Arc::new(event)] }),
            }
        }
        for batch in batches {
            // After a reconnection nothing is shown twice.
            if batch.revision < self.next {
                continue;
            }
            self.next = batch.revision + 1;
            self.reached = self.reached.max(batch.revision);
            if !self.queue.push(batch) {
                return false;
            }
        }
        true
    }
}
