//! Many watches over one stream.
//!
//! Each watch is a task that sends into the stream and then says how far it is, so that a mark for the whole stream,
//! which clients ask for, goes out only when every watch has sent what came before it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::proto::mvccpb;
use super::{Service, convert, pb};
use crate::contract::{WatchBatch, WatchRequest};
use crate::error::Error;
use crate::hub::Watch;

/// Watches of one stream.
const MAX_WATCHES: usize = 10_000;
/// How long a quiet watch that wants to hear of progress waits, as etcd has it.
const PROGRESS: Duration = Duration::from_secs(600);
/// How large a response grows before it is sent in fragments, to those that take them.
const FRAGMENT: usize = 1 << 20;

type Sender = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// The watches of one stream.
struct Stream {
    service: Service,
    sender: Sender,
    watches: HashMap<i64, Active>,
    next_id: i64,
}

struct Active {
    task: AbortHandle,
    delivered: watch::Receiver<i64>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl pb::watch_server::Watch for Service {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let mut stream = Stream { service: self.clone(), sender, watches: HashMap::new(), next_id: 0 };
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if stream.serve(request).await.is_none() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Stream {
    /// Nothing when the client is gone.
    async fn serve(&mut self, request: pb::WatchRequest) -> Option<()> {
        use pb::watch_request::RequestUnion;
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.watches.remove(&cancel.watch_id).is_none() {
                    return Some(());
                }
                let canceled = pb::WatchResponse { watch_id: cancel.watch_id, canceled: true, ..Default::default() };
                self.send(canceled).await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.progress();
                Some(())
            }
            None => Some(()),
        }
    }

    async fn send(&self, mut response: pb::WatchResponse) -> Option<()> {
        response.header = self.service.header_now().await.ok()?;
        self.sender.send(Ok(response)).await.ok()
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Option<()> {
        self.watches.retain(|_, active| !active.task.is_finished());
        let watch_id = if create.watch_id != 0 { create.watch_id } else { self.free_id() };
        let refusal = if self.watches.contains_key(&watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if self.watches.len() >= MAX_WATCHES {
            Some("too many watches on one stream")
        } else {
            None
        };
        if let Some(reason) = refusal {
            let refused = pb::WatchResponse {
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..Default::default()
            };
            return self.send(refused).await;
        }
        let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key.clone() };
        let range = convert::key_range(key, create.range_end.clone());
        let created = pb::WatchResponse { watch_id, created: true, ..Default::default() };
        // The revision that a watch of the present begins after is fixed before the client is told of it.
        let watched = self.service.store.watch(WatchRequest::over(range).from(create.start_revision.max(0))).await;
        self.send(created).await?;
        match watched {
            Ok(watch) => {
                let (delivered, receiver) = watch::channel(0);
                let forward =
                    Forward { service: self.service.clone(), sender: self.sender.clone(), create, watch_id, delivered };
                let task = tokio::spawn(forward.run(watch)).abort_handle();
                self.watches.insert(watch_id, Active { task, delivered: receiver });
                Some(())
            }
            Err(error) => self.send(canceled(watch_id, &error)).await,
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Sends a mark for the whole stream once every watch is there.
    fn progress(&self) {
        let (service, sender) = (self.service.clone(), self.sender.clone());
        let waiting: Vec<_> = self.watches.values().map(|active| active.delivered.clone()).collect();
        tokio::spawn(async move {
            let Ok(revision) = service.store.read_revision().await else { return };
            for mut delivered in waiting {
                // A watch that ended has nothing more to send.
                let _ = delivered.wait_for(|at| *at >= revision).await;
            }
            let mark = pb::WatchResponse { header: service.header(revision), watch_id: -1, ..Default::default() };
            let _ = sender.send(Ok(mark)).await;
        });
    }
}

fn canceled(watch_id: i64, error: &Error) -> pb::WatchResponse {
    let compact_revision = match error {
        Error::Compacted { revision } => *revision,
        _ => 0,
    };
    let cancel_reason = convert::status(error.clone()).message().to_owned();
    pb::WatchResponse { watch_id, canceled: true, compact_revision, cancel_reason, ..Default::default() }
}

/// One watch's way into the stream.
struct Forward {
    service: Service,
    sender: Sender,
    create: pb::WatchCreateRequest,
    watch_id: i64,
    delivered: watch::Sender<i64>,
}

impl Forward {
    async fn run(self, mut watch: Watch) {
        let mut seen = 0;
        loop {
            let next = match self.create.progress_notify {
                true => tokio::time::timeout(PROGRESS, watch.next()).await,
                false => Ok(watch.next().await),
            };
            match next {
                Ok(Some(Ok(batch))) => {
                    seen = batch.revision;
                    if self.batch(batch).await.is_none() {
                        return;
                    }
                    self.delivered.send_replace(seen);
                }
                Ok(Some(Err(error))) => {
                    let mut response = canceled(self.watch_id, &error);
                    response.header = self.service.header(seen);
                    let _ = self.sender.send(Ok(response)).await;
                    return;
                }
                Ok(None) => return,
                Err(_) => {
                    // An empty response tells a quiet watch how far it is.
                    let header = self.service.header(seen);
                    let mark = pb::WatchResponse { header, watch_id: self.watch_id, ..Default::default() };
                    if seen > 0 && self.sender.send(Ok(mark)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn batch(&self, batch: WatchBatch) -> Option<()> {
        use pb::watch_create_request::FilterType;
        let unwanted = |delete: bool| {
            let filter = if delete { FilterType::Nodelete } else { FilterType::Noput };
            self.create.filters.contains(&filter.into())
        };
        let wanted = batch.events.iter().filter(|event| !unwanted(event.is_delete()));
        let events: Vec<_> = wanted.map(|event| convert::event(event, self.create.prev_kv)).collect();
        if events.is_empty() {
            return Some(());
        }
        let mut parts = self.parts(events).into_iter().peekable();
        while let Some(events) = parts.next() {
            let response = pb::WatchResponse {
                header: self.service.header(batch.revision),
                watch_id: self.watch_id,
                fragment: parts.peek().is_some(),
                events,
                ..Default::default()
            };
            self.sender.send(Ok(response)).await.ok()?;
        }
        Some(())
    }

    /// A revision's events, in fragments for those that take them.
    fn parts(&self, events: Vec<mvccpb::Event>) -> Vec<Vec<mvccpb::Event>> {
        if !self.create.fragment {
            return vec![events];
        }
        let weight = |kv: &Option<mvccpb::KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        let mut parts: Vec<Vec<mvccpb::Event>> = vec![Vec::new()];
        let mut size = 0;
        for event in events {
            let more = weight(&event.kv) + weight(&event.prev_kv);
            if size > 0 && size + more > FRAGMENT {
                parts.push(Vec::new());
                size = 0;
            }
            size += more;
            if let Some(part) = parts.last_mut() {
                part.push(event);
            }
        }
        parts
    }
}
