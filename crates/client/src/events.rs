//! Events: what components tell people about an object, with repetitions counted instead of repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Map, SmolStr, Value};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::{Body, PatchKind, Query, Request, Verb};
use crate::typed::Client;

/// How long a repetition of the same event only raises the count of the first.
const AGGREGATE_FOR: Duration = Duration::from_secs(600);
/// Remembered events at most; the oldest go first.
const REMEMBERED: usize = 2048;

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    pub api_version: SmolStr,
    pub kind: SmolStr,
    pub namespace: SmolStr,
    pub name: SmolStr,
    pub uid: SmolStr,
    /// Such as `spec.containers{web}`.
    pub field_path: SmolStr,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    subject: Subject,
    warning: bool,
    reason: SmolStr,
    message: String,
}

struct Sent {
    name: String,
    count: i64,
    last: Instant,
}

/// Writes events for one component. Cheap to clone; never blocks and never fails its caller.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    component: SmolStr,
    host: SmolStr,
    sent: Arc<Mutex<HashMap<Same, Sent>>>,
    now: fn() -> String,
}

impl Recorder {
    /// `now` gives the wall clock as RFC 3339 with seconds.
    pub fn new(client: Client, component: &str, host: &str, now: fn() -> String) -> Recorder {
        Recorder { client, component: component.into(), host: host.into(), sent: Arc::default(), now }
    }

    pub fn normal(&self, subject: &Subject, reason: &str, message: impl Into<String>) {
        self.record(subject, false, reason, message.into());
    }

    pub fn warning(&self, subject: &Subject, reason: &str, message: impl Into<String>) {
        self.record(subject, true, reason, message.into());
    }

    fn record(&self, subject: &Subject, warning: bool, reason: &str, mut message: String) {
        if message.len() > 1024 {
            let end = (0..=1024).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
        }
        let same = Same { subject: subject.clone(), warning, reason: reason.into(), message };
        let now = Instant::now();
        let mut sent = self.sent.lock();
        if sent.len() >= REMEMBERED {
            sent.retain(|_, s| now.duration_since(s.last) < AGGREGATE_FOR);
        }
        let request = match sent.get_mut(&same) {
            Some(earlier) if now.duration_since(earlier.last) < AGGREGATE_FOR => {
                earlier.count += 1;
                earlier.last = now;
                self.raise(&same, &earlier.name, earlier.count)
            }
            _ => {
                // Unique enough: the object's name and the nanoseconds of the wall clock, as clients expect it.
                let nanos =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
                let name = format!("{}.{:x}", same.subject.name, nanos);
                let request = self.first(&same, &name);
                sent.insert(same, Sent { name, count: 1, last: now });
                request
            }
        };
        drop(sent);
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(status) = client.send(request).await {
                tracing::debug!(%status, "event not recorded");
            }
        });
    }

    fn request(&self, verb: Verb, same: &Same, name: &str, body: Body) -> Request {
        Request {
            verb,
            resource: GroupVersionResource::new("", "v1", "events"),
            namespace: namespace(same),
            name: name.into(),
            subresource: SmolStr::default(),
            query: Query::default(),
            body,
        }
    }

    fn raise(&self, same: &Same, name: &str, count: i64) -> Request {
        let mut patch = Map::new();
        patch.insert("count", count);
        patch.insert("lastTimestamp", (self.now)());
        self.request(Verb::Patch, same, name, Body::Patch(PatchKind::Merge, Value::Map(patch)))
    }

    fn first(&self, same: &Same, name: &str) -> Request {
        let now = (self.now)();
        let s = &same.subject;
        let mut involved = Map::new();
        for (key, text) in [
            ("apiVersion", &s.api_version),
            ("kind", &s.kind),
            ("namespace", &s.namespace),
            ("name", &s.name),
            ("uid", &s.uid),
            ("fieldPath", &s.field_path),
        ] {
            if !text.is_empty() {
                involved.insert(key, text.clone());
            }
        }
        let mut source = Map::new();
        source.insert("component", self.component.clone());
        if !self.host.is_empty() {
            source.insert("host", self.host.clone());
        }
        let mut metadata = Map::new();
        metadata.insert("name", name);
        metadata.insert("namespace", namespace(same));
        let mut event = Map::new();
        event.insert("apiVersion", "v1");
        event.insert("kind", "Event");
        event.insert("metadata", metadata);
        event.insert("involvedObject", involved);
        event.insert("reason", same.reason.clone());
        event.insert("message", same.message.as_str());
        event.insert("source", source);
        event.insert("firstTimestamp", now.clone());
        event.insert("lastTimestamp", now);
        event.insert("count", 1i64);
        event.insert("type", if same.warning { "Warning" } else { "Normal" });
        event.insert("reportingComponent", self.component.clone());
        event.insert("reportingInstance", self.host.clone());
        self.request(Verb::Create, same, "", Body::Object(Value::Map(event)))
    }
}

/// Events about cluster-scoped objects are kept in `default`.
fn namespace(same: &Same) -> SmolStr {
    if same.subject.namespace.is_empty() { SmolStr::new_static("default") } else { same.subject.namespace.clone() }
}
