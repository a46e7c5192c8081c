//! Answers: which form the client asked for, and the bytes of it.

use std::sync::Arc;

use apimachinery::quote::quoted;
use apimachinery::table::{self, Printer};
use apimachinery::{Kind, Status, Value, codec};
use bytes::{BufMut, Bytes, BytesMut};
use engine::{Engine, Object, Page};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::request::RequestInfo;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Response = http::Response<Body>;

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What an answer shows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Whole,
    /// `meta.k8s.io` PartialObjectMetadata.
    Metadata,
    /// `meta.k8s.io` Table, with what of the objects in its rows.
    Table(table::Include),
}

/// The form that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub encoding: Encoding,
    pub view: View,
    pub pretty: bool,
}

impl Form {
    /// Plain JSON: for errors before the client's wish is known.
    pub const JSON: Form = Form { encoding: Encoding::Json, view: View::Whole, pretty: false };

    /// Reads the `Accept` header. `protobuf` says whether the kind has that form.
    pub fn negotiate(headers: &HeaderMap, info: &RequestInfo, protobuf: bool) -> Result<Form, Status> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
        let pretty = info.flag("pretty");
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let encoding = match parts.next().unwrap_or_default() {
                "application/json" | "*/*" | "application/*" | "" => Encoding::Json,
                "application/yaml" => Encoding::Yaml,
                "application/vnd.kubernetes.protobuf" if protobuf => Encoding::Protobuf,
                _ => continue,
            };
            let mut view = View::Whole;
            let mut understood = true;
            for part in parts {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                match (key, value) {
                    ("as", "Table") => {
                        view = View::Table(
                            table::Include::parse(info.param("includeObject").unwrap_or_default()).ok_or_else(
                                || {
                                    let wish = info.param("includeObject").unwrap_or_default();
                                    Status::bad_request(format!(
                                        "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                                        quoted(wish)
                                    ))
                                },
                            )?,
                        );
                    }
                    ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => view = View::Metadata,
                    ("as", _) => understood = false,
                    ("g", group) => understood &= group == "meta.k8s.io",
                    ("v", version) => understood &= matches!(version, "v1" | "v1beta1") && view != View::Whole,
                    // `q`, `charset`, `stream`, `profile`: order alone decides here.
                    _ => {}
                }
            }
            // Tables have no protobuf form: a client that asks for one lists JSON after it.
            let impossible = encoding == Encoding::Protobuf && matches!(view, View::Table(_));
            if understood && !impossible {
                return Ok(Form { encoding, view, pretty });
            }
        }
        Err(Status::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ))
    }

    /// A small number that tells encoded watch frames apart.
    pub fn number(self, version: &Kind) -> u32 {
        let encoding = self.encoding as u32;
        let view = match self.view {
            View::Whole => 0,
            View::Metadata => 1,
            View::Table(include) => 2 + include as u32,
        };
        // Versions of one resource are told apart by a small hash of their name.
        let version = version.version.bytes().fold(7u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        (version << 8) | (view << 4) | encoding
    }
}

/// A body of one piece.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of several pieces, sent without copying them together.
pub fn pieces(parts: Vec<Bytes>) -> Body {
    let frames = parts.into_iter().map(|part| Ok::<_, std::io::Error>(hyper::body::Frame::data(part)));
    http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// An answer with a body and a content type.
pub fn respond(code: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// A document that a client may have already: what the hash of its bytes says decides whether it is sent again.
pub fn tagged(asked: &HeaderMap, content_type: &'static str, bytes: Bytes, hash: u64) -> Response {
    let tag = format!("\"{hash:016x}\"");
    let known = asked.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response =
        if known { respond(304, content_type, full("")) } else { respond(200, content_type, full(bytes)) };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// FNV-1a: tags need to differ, not to withstand anyone.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Sends a client elsewhere for good.
pub fn moved(location: &str) -> Result<Response, Status> {
    let location = HeaderValue::from_str(location).map_err(|_| Status::bad_request("the path is not valid"))?;
    let mut response = respond(301, "text/plain; charset=utf-8", full(Bytes::new()));
    response.headers_mut().insert(http::header::LOCATION, location);
    Ok(response)
}

/// An error as a Status object, in the client's encoding.
pub fn error(status: &Status, form: Form) -> Response {
    let mut response = tree(status.code, &status.to_value(), codec::status_schema(), form)
        .unwrap_or_else(|_| respond(500, "text/plain", full("an error could not be encoded")));
    if let Some(details) = &status.details
        && details.retry_after_seconds > 0
    {
        response.headers_mut().insert("retry-after", HeaderValue::from(details.retry_after_seconds));
    }
    response
}

/// A tree in the client's encoding; it must carry apiVersion and kind.
pub fn tree(code: u16, tree: &Value, schema: &apimachinery::Struct, form: Form) -> Result<Response, Status> {
    let bytes = encode_tree(tree, schema, form)?;
    Ok(respond(code, form.encoding.content_type(), full(bytes)))
}

/// Encodes a tree that carries apiVersion and kind.
pub fn encode_tree(tree: &Value, schema: &apimachinery::Struct, form: Form) -> Result<Bytes, Status> {
    Ok(match form.encoding {
        Encoding::Json if form.pretty => codec::json::encode_pretty(tree, schema),
        Encoding::Json => codec::json::encode(tree, schema),
        Encoding::Yaml => codec::yaml::encode(tree, schema),
        Encoding::Protobuf => codec::proto::encode_object(tree, schema).map_err(Status::internal)?,
    })
}

/// Objects below this size are copied together: one piece on the wire is cheaper than three.
const SMALL: usize = 16 << 10;

/// Turns stored objects into what one client asked for.
pub struct Presenter<'a> {
    pub engine: &'a Engine,
    /// The version that the client speaks.
    pub kind: &'a Arc<Kind>,
    pub form: Form,
    /// Seconds since 1970, for ages.
    pub now: i64,
}

impl Presenter<'_> {
    /// Whether the stored bytes are the answer.
    fn as_stored(&self, object: &Object) -> bool {
        self.form == Form::JSON && object.kind.reads_as(self.kind)
    }

    /// Whether the protobuf form of the stored version is the answer.
    fn as_message(&self, object: &Object) -> bool {
        self.form.encoding == Encoding::Protobuf && self.form.view == View::Whole && object.kind.same_form(self.kind)
    }

    /// One object.
    pub async fn object(&self, code: u16, object: &Object) -> Result<Response, Status> {
        if self.as_stored(object) {
            let body =
                if object.body().len() < SMALL { full(object.json()) } else { pieces(object.json_parts().to_vec()) };
            return Ok(respond(code, Encoding::Json.content_type(), body));
        }
        if self.as_message(object) {
            let message = self.engine.message(object)?;
            let body = full(codec::proto::wrap(self.kind, &message));
            return Ok(respond(code, Encoding::Protobuf.content_type(), body));
        }
        let tree = self.engine.tree(object, self.kind).await?;
        self.tree(code, tree)
    }

    /// One object that is a tree already, in the client's version.
    pub fn tree(&self, code: u16, object: Value) -> Result<Response, Status> {
        let bytes = self.encode_one(object)?;
        Ok(respond(code, self.form.encoding.content_type(), full(bytes)))
    }

    fn encode_one(&self, object: Value) -> Result<Bytes, Status> {
        match self.form.view {
            View::Whole => encode_tree(&object, &self.kind.schema, self.form),
            View::Metadata => {
                let partial = table::partial(&object);
                encode_tree(&partial, codec::partial_metadata_schema(), self.form)
            }
            View::Table(include) => {
                let metadata = object.get("metadata").cloned();
                let table = Printer::new(self.kind).table([&object], metadata.as_ref(), include, true, self.now);
                self.encode_table(&table)
            }
        }
    }

    /// Tables have no protobuf form.
    fn encode_table(&self, table: &Value) -> Result<Bytes, Status> {
        match self.form.encoding {
            Encoding::Yaml => Ok(codec::yaml::write(table).into()),
            _ => Ok(codec::json::encode_free(table)),
        }
    }

    /// A page of a list.
    pub async fn page(&self, page: &Page) -> Result<Response, Status> {
        let all_stored = page.objects.iter().all(|o| self.as_stored(o));
        if all_stored && self.form == Form::JSON {
            return Ok(respond(200, Encoding::Json.content_type(), pieces(self.json_page(page))));
        }
        let mut metadata = apimachinery::Map::new();
        metadata.insert("resourceVersion", page.revision.to_string());
        if !page.continue_token.is_empty() {
            metadata.insert("continue", page.continue_token.as_str());
        }
        if let Some(remaining) = page.remaining {
            metadata.insert("remainingItemCount", remaining);
        }
        let protobuf = self.form.encoding == Encoding::Protobuf && self.form.view == View::Whole;
        if protobuf && page.objects.iter().all(|o| self.as_message(o)) {
            let messages = page.objects.iter().map(|o| self.engine.message(o)).collect::<Result<Vec<_>, _>>()?;
            let list = codec::proto::list_of(self.kind, &messages, &metadata).map_err(Status::internal)?;
            return Ok(respond(200, Encoding::Protobuf.content_type(), pieces(list)));
        }
        let mut items = Vec::with_capacity(page.objects.len());
        for object in &page.objects {
            items.push(self.engine.tree(object, self.kind).await?);
        }
        let bytes = match self.form.view {
            View::Whole => match self.form.encoding {
                Encoding::Protobuf => {
                    codec::proto::encode_list(self.kind, &items, &metadata).map_err(Status::internal)?
                }
                Encoding::Json => codec::json::encode_list(self.kind, &items, &metadata, self.form.pretty),
                Encoding::Yaml => codec::yaml::encode_list(self.kind, &items, &metadata),
            },
            View::Metadata => {
                let items: Vec<Value> = items.iter().map(table::partial).collect();
                if self.form.encoding == Encoding::Protobuf {
                    codec::proto::encode_partial_metadata_list(&items, &metadata).map_err(Status::internal)?
                } else {
                    let mut list = apimachinery::Map::new();
                    list.insert("apiVersion", "meta.k8s.io/v1");
                    list.insert("kind", "PartialObjectMetadataList");
                    list.insert("metadata", metadata);
                    list.insert("items", items);
                    encode_tree(&Value::Map(list), codec::partial_metadata_list_schema(), self.form)?
                }
            }
            View::Table(include) => {
                let metadata = Value::Map(metadata);
                let table = Printer::new(self.kind).table(&items, Some(&metadata), include, true, self.now);
                self.encode_table(&table)?
            }
        };
        Ok(respond(200, self.form.encoding.content_type(), full(bytes)))
    }

    /// The pieces of a JSON list: one head, then every object's slices as they are stored.
    fn json_page(&self, page: &Page) -> Vec<Bytes> {
        // Small objects are cheaper to copy together than to send piece by piece.
        const CHUNK: usize = 64 << 10;
        let mut out = Vec::new();
        let mut buffer = BytesMut::with_capacity(4096);
        buffer.put_slice(
            format!(
                r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}""#,
                self.kind.list_kind,
                self.kind.group_version(),
                page.revision
            )
            .as_bytes(),
        );
        if !page.continue_token.is_empty() {
            buffer.put_slice(format!(r#","continue":"{}""#, page.continue_token).as_bytes());
        }
        if let Some(remaining) = page.remaining {
            buffer.put_slice(format!(r#","remainingItemCount":{remaining}"#).as_bytes());
        }
        buffer.put_slice(br#"},"items":["#);
        for (i, object) in page.objects.iter().enumerate() {
            if i > 0 {
                buffer.put_u8(b',');
            }
            for part in object.json_parts() {
                if part.len() >= CHUNK {
                    out.push(buffer.split().freeze());
                    out.push(part);
                } else {
                    buffer.put_slice(&part);
                }
            }
            if buffer.len() >= CHUNK {
                out.push(buffer.split().freeze());
            }
        }
        buffer.put_slice(b"]}\n");
        out.push(buffer.freeze());
        out
    }
}
