//! A watch: initial events, then changes as they are committed, with bookmarks in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Kind, Status};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cache::{Cache, Change, Entry, Event, Filter};
use crate::evolve::LateFields;
use crate::options::{Target, WatchOptions};
use crate::{Engine, cx::Cx};

/// How often a watch that asked for bookmarks gets one while nothing else comes.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// One thing that a watch says.
pub enum Notice {
    Object {
        change: Change,
        entry: Arc<Entry>,
        /// The revision to say: for an object that stopped matching it is the event's, not the entry's.
        revision: i64,
        /// The event behind it, whose encoded frames can be shared; absent for initial objects and for objects that
        /// stopped matching.
        event: Option<Arc<Event>>,
    },
    Bookmark {
        revision: i64,
        ends_initial_events: bool,
    },
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    cache: Arc<Cache>,
    id: u64,
    /// The version that is stored, in which entries are.
    pub stored: Arc<Kind>,
    opening: VecDeque<Notice>,
    queue: mpsc::Receiver<(Change, Arc<Event>)>,
    /// The newest revision that the feed has published.
    published: watch::Receiver<i64>,
    next_bookmark: Option<Instant>,
    /// Fields that are looked at in the version that the client speaks.
    late: Option<LateFields>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cache.unregister(self.id);
    }
}

impl Engine {
    /// Starts a watch of a resource, a namespace, or (by field selector) one object.
    pub async fn watch(&self, _cx: &Cx, target: &Target, options: WatchOptions) -> Result<Watch, Status> {
        let (resource, cache) = self.resource_cache(target)?;
        let stored =
            resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource cannot be watched"))?;
        let mut fields = options.fields;
        if !target.name.is_empty() {
            fields.require("metadata.name", &target.name);
        }
        crate::read::check_fields(&fields, &target.kind)?;
        let late = LateFields::split(&mut fields, &stored, &target.kind, &self.converter);
        let from_now = matches!(options.resource_version, None | Some(0));
        let initial = options.send_initial_events.unwrap_or(from_now);
        // The state that a client has seen, or asks for, must be in the cache before it is shown.
        match options.resource_version {
            None => self.caught_up().await?,
            Some(revision) if initial => self.wait_for(revision).await?,
            Some(_) => {}
        }
        let after = match (initial, options.resource_version) {
            (true, _) => None,
            (false, None | Some(0)) => Some(self.revision()),
            (false, Some(revision)) => Some(revision),
        };
        let published = self.feed.published();
        // Read before registering: everything up to it is in the opening, so it is a safe revision to say.
        let opening_revision = *published.borrow();
        let filter =
            Filter { namespace: target.namespace.clone(), labels: options.labels, fields, kind: stored.clone() };
        let registration = cache.register(filter, after)?;
        let mut opening: VecDeque<Notice> = registration
            .entries
            .into_iter()
            .map(|entry| Notice::Object { change: Change::Added, revision: entry.revision, entry, event: None })
            .collect();
        opening.extend(registration.events.into_iter().map(notice));
        if options.send_initial_events == Some(true) && options.bookmarks {
            opening.push_back(Notice::Bookmark { revision: opening_revision, ends_initial_events: true });
        }
        Ok(Watch {
            cache,
            id: registration.id,
            stored,
            opening,
            queue: registration.queue,
            published,
            next_bookmark: options.bookmarks.then(|| Instant::now() + BOOKMARK_EVERY),
            late,
        })
    }
}

fn notice((change, event): (Change, Arc<Event>)) -> Notice {
    match (change, &event.old) {
        // It still exists, only not for this watcher: what it was, said at the revision of the change.
        (Change::Deleted, Some(old)) if !event.deleted => {
            Notice::Object { change, entry: old.clone(), revision: event.revision, event: None }
        }
        _ => Notice::Object { change, entry: event.entry.clone(), revision: event.revision, event: Some(event) },
    }
}

impl Watch {
    /// The next notice; `None` when the watcher was too slow and must start over, or when an object cannot be judged.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            let notice = self.any().await?;
            let Some(late) = &self.late else { return Some(notice) };
            match late.see(notice, &self.stored).await {
                Ok(Some(notice)) => return Some(notice),
                Ok(None) => {}
                Err(status) => {
                    tracing::warn!(%status, "a watch ends: an object cannot be converted for its field selector");
                    return None;
                }
            }
        }
    }

    /// The next notice before fields are looked at late.
    async fn any(&mut self) -> Option<Notice> {
        if let Some(first) = self.opening.pop_front() {
            return Some(first);
        }
        let Some(at) = self.next_bookmark else {
            return self.queue.recv().await.map(notice);
        };
        tokio::select! {
            biased;
            event = self.queue.recv() => event.map(notice),
            _ = tokio::time::sleep_until(at) => {
                self.next_bookmark = Some(Instant::now() + BOOKMARK_EVERY);
                // Events are queued before their revision is published: with this revision read first and the queue
                // found empty after, nothing up to it is missing.
                let revision = *self.published.borrow();
                match self.queue.try_recv() {
                    Ok(event) => Some(notice(event)),
                    Err(_) => Some(Notice::Bookmark { revision, ends_initial_events: false }),
                }
            }
        }
    }

    /// What can be had without waiting, for writing several frames at once.
    pub fn try_next(&mut self) -> Option<Notice> {
        if self.late.is_some() {
            return None;
        }
        self.opening.pop_front().or_else(|| self.queue.try_recv().ok().map(notice))
    }
}
