//! Watches over HTTP: a frame an event, until the client, the clock or a slow reader ends it.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::table::{self, Printer};
use apimachinery::{Kind, Map, Status, Value, codec};
use bytes::{BufMut, Bytes, BytesMut};
use engine::{Change, Cx, Engine, Notice, Object, Target, Watch};
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::options;
use crate::request::RequestInfo;
use crate::respond::{self, Encoding, Form, Response, View};
use crate::server::ApiServer;

/// A watch that names no timeout ends between this and twice this, so that clients do not all come back at once.
const LEAST_TIMEOUT: u64 = 1800;
/// Frames are gathered into one write up to this size while more events wait.
const WRITE: usize = 64 << 10;

/// Answers a watch request with a stream of frames.
pub async fn serve(
    server: &Arc<ApiServer>,
    cx: &Cx,
    target: &Target,
    info: &RequestInfo,
    form: Form,
) -> Result<Response, Status> {
    let (options, timeout) = options::watch(info)?;
    if form.encoding == Encoding::Yaml {
        return Err(Status::new(
            406,
            "NotAcceptable",
            "watches are served as application/json and application/vnd.kubernetes.protobuf",
        ));
    }
    let watch = server.engine.watch(cx, target, options).await?;
    let jitter = u64::from(uuid_byte()) * LEAST_TIMEOUT / 256;
    let lasts = Duration::from_secs(timeout.unwrap_or(LEAST_TIMEOUT + jitter));
    let framer = Framer {
        engine: server.engine.clone(),
        kind: target.kind.clone(),
        stored: watch.stored.clone(),
        form,
        now: server.clock.clone(),
        first_table: true,
        printer: None,
    };
    let state = Stream { watch, framer, ends: tokio::time::Instant::now() + lasts, failed: false };
    let frames = futures::stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(bytes)), state))
    });
    let content_type = match form.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    Ok(respond::respond(200, content_type, BodyExt::boxed_unsync(StreamBody::new(frames))))
}

fn uuid_byte() -> u8 {
    // Any spread will do; addresses and time are as good as a random source.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| (d.subsec_nanos() >> 8) as u8)
}

struct Stream {
    watch: Watch,
    framer: Framer,
    ends: tokio::time::Instant,
    failed: bool,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.failed {
            return None;
        }
        let first = tokio::select! {
            biased;
            notice = self.watch.next() => notice,
            _ = tokio::time::sleep_until(self.ends) => return None,
        };
        let Some(first) = first else {
            // Cut off for being slow: the client must list anew.
            self.failed = true;
            return self.framer.error(&Status::expired("too old resource version: the watch could not keep up")).ok();
        };
        let mut out = BytesMut::new();
        let mut notice = Some(first);
        while let Some(n) = notice {
            match self.framer.frame(n).await {
                Ok(bytes) if out.is_empty() && bytes.len() >= WRITE => return Some(bytes),
                Ok(bytes) => out.put_slice(&bytes),
                Err(status) => {
                    self.failed = true;
                    if let Ok(bytes) = self.framer.error(&status) {
                        out.put_slice(&bytes);
                    }
                    break;
                }
            }
            notice = if out.len() < WRITE { self.watch.try_next() } else { None };
        }
        Some(out.freeze())
    }
}

/// Makes frames of one form.
struct Framer {
    engine: Arc<Engine>,
    kind: Arc<Kind>,
    stored: Arc<Kind>,
    form: Form,
    now: Arc<dyn engine::Clock>,
    /// Column definitions are said in the first table only.
    first_table: bool,
    printer: Option<Printer>,
}

impl Framer {
    async fn frame(&mut self, notice: Notice) -> Result<Bytes, Status> {
        match notice {
            Notice::Bookmark { revision, ends_initial_events } => self.bookmark(revision, ends_initial_events),
            Notice::Object { change, entry, revision, event } => {
                let object = Object::new(self.stored.clone(), revision, entry.body.clone());
                let word = match change {
                    Change::Added => "ADDED",
                    Change::Modified => "MODIFIED",
                    Change::Deleted => "DELETED",
                };
                if self.form == Form::JSON && self.stored.reads_as(&self.kind) {
                    return Ok(json_frame(word, &object));
                }
                let shared = event.filter(|_| !matches!(self.form.view, View::Table(_)));
                let Some(event) = shared else {
                    let whole = self.form.encoding == Encoding::Protobuf && self.form.view == View::Whole;
                    if whole && revision == entry.revision && self.stored.same_form(&self.kind) {
                        let message = self.engine.message(&entry.object(&self.stored))?;
                        return Ok(codec::proto::watch_frame(word, &codec::proto::wrap(&self.kind, &message)));
                    }
                    let tree = self.engine.tree(&object, &self.kind).await?;
                    return self.encode(word, tree);
                };
                let number = self.form.number(&self.kind) << 2 | change as u32;
                if let Some(bytes) = event.known_frame(number) {
                    return Ok(bytes);
                }
                let tree = event.tree(&self.stored)?;
                let tree = self.engine.convert_shared(tree, &self.stored, &self.kind).await?;
                event.frame(number, || self.encode(word, tree))
            }
        }
    }

    fn encode(&mut self, word: &str, object: Value) -> Result<Bytes, Status> {
        match self.form.view {
            View::Whole => self.wrap(word, &object, &self.kind.schema),
            View::Metadata => self.wrap(word, &table::partial(&object), codec::partial_metadata_schema()),
            View::Table(include) => {
                let headers = std::mem::take(&mut self.first_table);
                let now = self.now.now().0;
                let printer = self.printer.get_or_insert_with(|| Printer::new(&self.kind));
                let table = printer.table([&object], object.get("metadata"), include, headers, now);
                Ok(json_wrap(word, &codec::json::encode_free(&table)))
            }
        }
    }

    fn wrap(&self, word: &str, object: &Value, schema: &apimachinery::Struct) -> Result<Bytes, Status> {
        let form = Form { pretty: false, view: View::Whole, ..self.form };
        let inner = respond::encode_tree(object, schema, form)?;
        Ok(match self.form.encoding {
            Encoding::Protobuf => codec::proto::watch_frame(word, &inner),
            _ => json_wrap(word, &inner),
        })
    }

    fn bookmark(&mut self, revision: i64, ends_initial_events: bool) -> Result<Bytes, Status> {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion", revision.to_string());
        if ends_initial_events {
            let mut annotations = Map::new();
            annotations.insert("k8s.io/initial-events-end", "true");
            metadata.insert("annotations", annotations);
        }
        let mut object = Map::new();
        object.insert("metadata", metadata);
        match self.form.view {
            View::Whole => {
                object.insert("apiVersion", self.kind.group_version().to_string());
                object.insert("kind", &*self.kind.kind);
                self.wrap("BOOKMARK", &Value::Map(object), &self.kind.schema)
            }
            View::Metadata => {
                let partial = table::partial(&Value::Map(object));
                self.wrap("BOOKMARK", &partial, codec::partial_metadata_schema())
            }
            View::Table(_) => {
                // The row carries the metadata, in which the end of the initial events is marked.
                let object = Value::Map(object);
                let printer = self.printer.get_or_insert_with(|| Printer::new(&self.kind));
                let table =
                    printer.table([&object], object.get("metadata"), table::Include::Metadata, false, self.now.now().0);
                Ok(json_wrap("BOOKMARK", &codec::json::encode_free(&table)))
            }
        }
    }

    fn error(&self, status: &Status) -> Result<Bytes, Status> {
        self.wrap("ERROR", &status.to_value(), codec::status_schema())
    }
}

/// A JSON frame around an object's JSON.
fn json_wrap(word: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(format!(r#"{{"type":"{word}","object":"#).as_bytes());
    out.put_slice(object.trim_ascii_end());
    out.put_slice(b"}\n");
    out.freeze()
}

/// The frame of an object whose stored bytes are what the client wants.
fn json_frame(word: &str, object: &Object) -> Bytes {
    let mut out = BytesMut::with_capacity(object.body().len() + 80);
    out.put_slice(br#"{"type":""#);
    out.put_slice(word.as_bytes());
    out.put_slice(br#"","object":"#);
    object.write_json(&mut out);
    out.put_slice(b"}\n");
    out.freeze()
}
