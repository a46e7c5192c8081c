//! The API over HTTPS, for components on other machines than the server's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apimachinery::codec::json;
use apimachinery::{Status, Value};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt;
use transport::{Client, ClientTls};

use crate::backend::{BoxFuture, Served};
use crate::{Backend, Body, EventKind, Query, Request, Verb, WatchEvent, WatchStream};

/// A request that is not a watch is given up after this.
const LIMIT: Duration = Duration::from_secs(60);
/// The head of a watch's answer is there after this, or never.
const HEAD: Duration = Duration::from_secs(30);
/// The longest answer, and the longest event of a watch.
const MAX_ANSWER: usize = 256 << 20;
const MAX_EVENT: usize = 8 << 20;

/// A connection to one or more servers that serve the same cluster.
pub struct Https {
    client: Client,
    /// Such as `https://192.0.2.1:6443`, without a slash at the end.
    servers: Vec<String>,
    /// The server that answered last.
    current: AtomicUsize,
    token: Option<String>,
}

impl Https {
    /// Connects to servers. `tls` says whom to trust, and as whom we come; its identity may be replaced while in use.
    ///
    /// # Errors
    /// When the settings are not usable, or no server is named.
    pub fn new(servers: &[String], tls: ClientTls, dialer: transport::Dialer) -> Result<Https, transport::Error> {
        let servers: Vec<String> = servers.iter().map(|s| s.trim_end_matches('/').to_owned()).collect();
        if servers.is_empty() {
            return Err(transport::Error::Tls("no server was named".into()));
        }
        let client = Client::builder(dialer).tls(tls).build()?;
        Ok(Https { client, servers, current: AtomicUsize::new(0), token: None })
    }

    /// Shows a bearer token with every request.
    pub fn token(mut self, token: impl Into<String>) -> Https {
        self.token = Some(token.into());
        self
    }

    fn request(&self, server: &str, request: &Request, watch: bool) -> Result<http::Request<transport::Body>, Status> {
        let method = match request.verb {
            _ if watch => http::Method::GET,
            Verb::Get | Verb::List => http::Method::GET,
            Verb::Create => http::Method::POST,
            Verb::Update => http::Method::PUT,
            Verb::Patch => http::Method::PATCH,
            Verb::Delete | Verb::DeleteCollection => http::Method::DELETE,
        };
        let uri = format!("{server}{}{}", path(request), query(&request.query, watch));
        let mut builder = http::Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            builder = builder.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let (content_type, body) = match &request.body {
            Body::None => (None, transport::body::empty()),
            Body::Object(tree) => (Some("application/json"), transport::body::full(json::encode_free(tree))),
            // JSON is YAML.
            Body::Patch(kind, tree) => (Some(kind.content_type()), transport::body::full(json::encode_free(tree))),
        };
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        builder.body(body).map_err(Status::internal)
    }

    /// The servers, from the one that answered last.
    fn order(&self) -> impl Iterator<Item = usize> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.servers.len());
        (0..count).map(move |i| (first + i) % count)
    }

    async fn call(&self, request: Request) -> Result<Bytes, Status> {
        let mut last = None;
        for server in self.order() {
            let asked = self.request(&self.servers[server], &request, false)?;
            match self.client.fetch(LIMIT, MAX_ANSWER, asked).await {
                Ok(answer) => {
                    self.current.store(server, Ordering::Relaxed);
                    let success = answer.status().is_success();
                    let (code, body) = (answer.status().as_u16(), answer.into_body());
                    return if success { Ok(body) } else { Err(refusal(code, &body)) };
                }
                // Only what surely did not arrive may be sent to another.
                Err(error) if never_sent(&error) => last = Some(error),
                Err(error) => return Err(unreachable(&error)),
            }
        }
        Err(last.as_ref().map_or_else(|| Status::internal("no server is known"), unreachable))
    }

    async fn open(&self, request: Request) -> Result<WatchStream, Status> {
        let mut last = None;
        for server in self.order() {
            let asked = self.request(&self.servers[server], &request, true)?;
            match self.client.send_within(HEAD, asked).await {
                Ok(answer) => {
                    self.current.store(server, Ordering::Relaxed);
                    let code = answer.status();
                    if !code.is_success() {
                        let body = transport::body::read_all(answer.into_body(), MAX_EVENT).await.unwrap_or_default();
                        return Err(refusal(code.as_u16(), &body));
                    }
                    return Ok(events(answer.into_body()));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.as_ref().map_or_else(|| Status::internal("no server is known"), unreachable))
    }

    async fn get(&self, path: &str) -> Result<Value, Status> {
        let server = &self.servers[self.current.load(Ordering::Relaxed)];
        let mut builder = http::Request::get(format!("{server}{path}"))
            .header(ACCEPT, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        if let Some(token) = &self.token {
            builder = builder.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let asked = builder.body(transport::body::empty()).map_err(Status::internal)?;
        let answer = self.client.fetch(LIMIT, MAX_ANSWER, asked).await.map_err(|e| unreachable(&e))?;
        if !answer.status().is_success() {
            return Err(refusal(answer.status().as_u16(), answer.body()));
        }
        json::parse(answer.body()).map_err(Status::internal)
    }
}

impl Backend for Https {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(self.call(request))
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(self.open(request))
    }

    fn resources(&self) -> BoxFuture<'_, Result<Vec<Served>, Status>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for path in ["/api", "/apis"] {
                served(&self.get(path).await?, &mut all);
            }
            Ok(all)
        })
    }
}

/// The path of a request.
fn path(request: &Request) -> String {
    let resource = &request.resource;
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    // A namespace as an object has its own name in the place of one.
    let itself = resource.group.is_empty() && resource.resource == "namespaces";
    let inside = !(request.namespace.is_empty() || itself);
    if inside {
        path.push_str(&format!("/namespaces/{}", escaped(&request.namespace)));
    }
    path.push('/');
    path.push_str(&resource.resource);
    for part in [&request.name, &request.subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(&escaped(part));
        }
    }
    path
}

fn query(query: &Query, watch: bool) -> String {
    let mut parts: Vec<(&str, String)> = Vec::new();
    let mut add = |key: &'static str, value: &str| {
        if !value.is_empty() {
            parts.push((key, value.to_owned()));
        }
    };
    add("labelSelector", &query.label_selector);
    add("fieldSelector", &query.field_selector);
    add("resourceVersion", &query.resource_version);
    add("resourceVersionMatch", &query.resource_version_match);
    add("continue", &query.continue_token);
    if query.limit > 0 {
        add("limit", &query.limit.to_string());
    }
    if watch {
        add("watch", "true");
        add("allowWatchBookmarks", "true");
        if query.resource_version.is_empty() {
            add("sendInitialEvents", "true");
            add("resourceVersionMatch", "NotOlderThan");
        }
    } else {
        add("fieldManager", &query.field_manager);
        if query.force {
            add("force", "true");
        }
        if query.dry_run {
            add("dryRun", "All");
        }
    }
    let text: Vec<String> = parts.into_iter().map(|(key, value)| format!("{key}={}", escaped(&value))).collect();
    if text.is_empty() { String::new() } else { format!("?{}", text.join("&")) }
}

/// Percent-encodes all but unreserved characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn never_sent(error: &transport::Error) -> bool {
    matches!(
        error,
        transport::Error::Resolve { .. } | transport::Error::Connect { .. } | transport::Error::Handshake { .. }
    )
}

fn unreachable(error: &transport::Error) -> Status {
    Status::service_unavailable(format!("the server cannot be reached: {error}"))
}

/// What a server said no with.
fn refusal(code: u16, body: &[u8]) -> Status {
    match json::parse(body) {
        Ok(tree) if tree.str_at(&["kind"]) == Some("Status") => Status::from_value(&tree),
        _ => {
            let text = String::from_utf8_lossy(&body[..body.len().min(512)]).trim().to_owned();
            let text = if text.is_empty() { format!("the server answered with the code {code}") } else { text };
            Status::new(code, reason(code), text)
        }
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// The events of a watch: one JSON document a line.
fn events(body: hyper::body::Incoming) -> WatchStream {
    let stream = body.into_data_stream();
    let state = (stream, BytesMut::new(), false);
    Box::pin(futures::stream::unfold(state, |(mut stream, mut buffer, over)| async move {
        if over {
            return None;
        }
        loop {
            if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(end + 1).freeze();
                if line.len() <= 1 {
                    continue;
                }
                let event = event(&line[..line.len() - 1]);
                let failed = event.is_err();
                return Some((event, (stream, buffer, failed)));
            }
            if buffer.len() > MAX_EVENT {
                let status = Status::internal("an event of a watch is longer than 8 MiB");
                return Some((Err(status), (stream, buffer, true)));
            }
            match stream.next().await {
                Some(Ok(chunk)) => buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    let status = Status::service_unavailable(format!("a watch broke off: {error}"));
                    return Some((Err(status), (stream, buffer, true)));
                }
                None => return None,
            }
        }
    }))
}

fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let tree = json::parse(line).map_err(Status::internal)?;
    let object = tree.get("object").cloned().unwrap_or_default();
    let kind = match tree.str_at(&["type"]) {
        Some("ADDED") => EventKind::Added,
        Some("MODIFIED") => EventKind::Modified,
        Some("DELETED") => EventKind::Deleted,
        Some("BOOKMARK") => EventKind::Bookmark,
        _ => return Err(Status::from_value(&object)),
    };
    Ok(WatchEvent { kind, object: json::encode_free(&object) })
}

/// The resources of an aggregated discovery document, each in its preferred version.
fn served(tree: &Value, all: &mut Vec<Served>) {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_list).unwrap_or_default().to_vec();
    let text = |value: &Value, path: &[&str]| apimachinery::SmolStr::from(value.str_at(path).unwrap_or_default());
    for group in list(tree, "items") {
        let name = text(&group, &["metadata", "name"]);
        let mut seen = std::collections::HashSet::new();
        for version in list(&group, "versions") {
            for resource in list(&version, "resources") {
                let plural = text(&resource, &["resource"]);
                if !seen.insert(plural.clone()) {
                    continue;
                }
                let verbs = list(&resource, "verbs");
                let can = |verb: &str| verbs.iter().any(|v| v.as_str() == Some(verb));
                all.push(Served {
                    resource: apimachinery::GroupVersionResource {
                        group: name.clone(),
                        version: text(&version, &["version"]),
                        resource: plural,
                    },
                    kind: text(&resource, &["responseKind", "kind"]),
                    namespaced: resource.str_at(&["scope"]) == Some("Namespaced"),
                    collectable: can("list") && can("watch") && can("delete"),
                    in_collections: can("deletecollection"),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::{GroupVersionResource, SmolStr};

    fn of(group: &str, resource: &str, namespace: &str, name: &str, subresource: &str) -> Request {
        Request {
            verb: Verb::Get,
            resource: GroupVersionResource::new(group, "v1", resource),
            namespace: namespace.into(),
            name: name.into(),
            subresource: subresource.into(),
            query: Query::default(),
            body: Body::None,
        }
    }

    #[test]
    fn paths() {
        assert_eq!(path(&of("", "pods", "a", "b", "log")), "/api/v1/namespaces/a/pods/b/log");
        assert_eq!(path(&of("apps", "deployments", "", "", "")), "/apis/apps/v1/deployments");
        assert_eq!(path(&of("", "namespaces", "a", "a", "finalize")), "/api/v1/namespaces/a/finalize");
        assert_eq!(path(&of("", "nodes", "", "x:y", "")), "/api/v1/nodes/x%3Ay");
    }

    #[test]
    fn queries() {
        let one = Query { label_selector: "a=b,c".into(), limit: 5, field_manager: "m".into(), ..Query::default() };
        assert_eq!(query(&one, false), "?labelSelector=a%3Db%2Cc&limit=5&fieldManager=m");
        assert_eq!(
            query(&Query::default(), true),
            "?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let later = Query { resource_version: "7".into(), ..Query::default() };
        assert_eq!(query(&later, true), "?resourceVersion=7&watch=true&allowWatchBookmarks=true");
        assert_eq!(query(&Query::default(), false), "");
    }

    #[test]
    fn lines_are_events_and_errors_end() {
        let added = event(br#"{"type":"ADDED","object":{"metadata":{"name":"x"}}}"#).unwrap();
        assert_eq!(added.kind, EventKind::Added);
        assert_eq!(added.object.trim_ascii_end(), br#"{"metadata":{"name":"x"}}"#);
        let error = event(br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#).unwrap_err();
        assert!(error.is_expired());
        assert_eq!(refusal(503, b"busy").message, "busy");
        assert_eq!(SmolStr::from(reason(404)), "NotFound");
    }
}
