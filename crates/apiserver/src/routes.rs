//! Routes: what is refused before a resource is looked at, in the order of upstream's routers: path, method, the body's
//! type, the answer's type.
//!
//! Upstream has two. That of built-in kinds (go-restful) answers with a Status that says nothing of the resource, for
//! every path below `/api` and the groups that it serves. That of custom resources names the resource; what it does not
//! know ends, as any other path, in `404 page not found`.

use apimachinery::kind::Verbs;
use apimachinery::quote::quoted;
use apimachinery::{Kind, Status};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

use crate::pipeline;
use crate::request::RequestInfo;
use crate::respond::Response;
use crate::server::ApiServer;

const ITEM: Verbs = Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH).with(Verbs::DELETE);
const COLLECTION: Verbs = Verbs::LIST.with(Verbs::CREATE).with(Verbs::DELETE_COLLECTION);
const VIEW: Verbs = Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH);

/// What patches of built-in kinds may be sent as.
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// What answers of built-in kinds may be wanted as.
const ANSWERS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What of these watches may be wanted as, which share the routes of lists.
const STREAMS: &[&str] = &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Answers a path that nothing serves: a Status where API paths are, as Go's mux does elsewhere.
pub fn nowhere(server: &ApiServer, path: &str) -> Result<Response, Status> {
    if is_routed(server, path) { Err(no_route()) } else { Ok(pipeline::page_not_found()) }
}

/// Whether upstream's router of built-in kinds claims a path.
pub fn is_routed(server: &ApiServer, path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some("api"), _) => true,
        (Some("apis"), Some(group)) if !group.is_empty() => server
            .engine
            .catalog()
            .all()
            .iter()
            .map(|resource| resource.preferred())
            .any(|k| k.group == group && !k.evolves),
        _ => false,
    }
}

fn no_route() -> Status {
    Status::generic(404, "NotFound", "the server could not find the requested resource")
}

/// The answer to a method that a path does not have.
pub fn method_not_allowed() -> Status {
    Status::generic(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// Whether a request's path is one of its kind: with a namespace where the kind has them, but for lists over all.
pub fn in_scope(kind: &Kind, info: &RequestInfo) -> bool {
    let namespaced = !info.namespace.is_empty();
    if !kind.namespaced {
        return !namespaced || kind.resource == "namespaces";
    }
    // Whether the method fits a list over all namespaces is another question, but to the router of custom resources.
    namespaced
        || matches!(info.verb.as_str(), "list" | "watch")
        || (!kind.evolves && !is_named(info) && kind.verbs.has(Verbs::LIST))
}

/// Whether the path ends in an object's name; that of lists may come from a selector.
fn is_named(info: &RequestInfo) -> bool {
    match info.verb.as_str() {
        "list" | "deletecollection" => false,
        "watch" => info.path.contains("/watch/") && !info.name.is_empty(),
        _ => !info.name.is_empty(),
    }
}

/// The verbs of a path, none when there is no such path.
fn verbs_of(kind: &Kind, info: &RequestInfo) -> Verbs {
    if info.subresource.is_empty() {
        let of_form = if is_named(info) {
            ITEM
        } else if kind.namespaced && info.namespace.is_empty() {
            Verbs::LIST
        } else {
            COLLECTION
        };
        return Verbs(kind.verbs.0 & of_form.0);
    }
    let declared = kind.subresources.iter().find(|s| s.name == info.subresource.as_str());
    let below = !info.rest.is_empty() && info.subresource != "proxy" && !kind.evolves;
    match (info.subresource.as_str(), declared) {
        _ if below => Verbs(0),
        (_, Some(declared)) => declared.verbs,
        ("status", _) if kind.status => VIEW,
        ("scale", _) if kind.scale.is_some() => VIEW,
        _ => Verbs(0),
    }
}

/// Refuses what has no route.
pub fn check(kind: &Kind, info: &RequestInfo, headers: &HeaderMap) -> Result<(), Status> {
    let verbs = verbs_of(kind, info);
    let resource = kind.group_resource();
    if verbs.0 == 0 {
        return Err(if kind.evolves { Status::not_found(&resource, &info.name) } else { no_route() });
    }
    let wanted = match info.verb.as_str() {
        "get" => Verbs::GET,
        // One path for both.
        "list" | "watch" => Verbs::LIST,
        "create" => Verbs::CREATE,
        "update" => Verbs::UPDATE,
        "patch" => Verbs::PATCH,
        "delete" => Verbs::DELETE,
        "deletecollection" => Verbs::DELETE_COLLECTION,
        _ => Verbs(0),
    };
    // What is behind a proxy knows its methods itself.
    let allowed = info.subresource == "proxy" || (wanted.0 != 0 && verbs.has(wanted));
    if kind.evolves {
        return if allowed { Ok(()) } else { Err(Status::method_not_supported(&resource, &info.verb)) };
    }
    if !allowed {
        return Err(method_not_allowed());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if info.verb == "patch" && info.subresource != "proxy" {
        let sent = Some(text(CONTENT_TYPE)).filter(|sent| !sent.is_empty()).unwrap_or("application/octet-stream");
        if !media(sent).any(|sent| PATCHES.contains(&sent)) {
            return Err(Status::generic(415, "UnsupportedMediaType", "415: Unsupported Media Type"));
        }
    }
    let produced: Vec<&str> = match (info.subresource.as_str(), wanted) {
        ("exec" | "attach" | "portforward" | "proxy", _) => Vec::new(),
        ("log", _) => [&["text/plain"], ANSWERS].concat(),
        (_, Verbs::LIST) => [ANSWERS, STREAMS].concat(),
        _ => ANSWERS.to_vec(),
    };
    let accept = Some(text(ACCEPT)).filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    if !produced.is_empty() && !media(accept).any(|wish| wish == "*/*" || produced.contains(&wish)) {
        let why = format!("406: Not Acceptable\n\nAvailable representations: {}", produced.join(", "));
        return Err(Status::generic(406, "NotAcceptable", why));
    }
    if info.verb == "watch" && !kind.verbs.has(Verbs::WATCH) {
        return Err(Status::method_not_supported(&resource, "watch"));
    }
    Ok(())
}

/// The media types that a header lists, without their parameters.
fn media(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim_matches(' '))
}

/// Refuses a name that is no part of a path.
pub fn check_name(name: &str) -> Result<(), Status> {
    let why = match name {
        "." | ".." => format!("may not be '{name}'"),
        _ => {
            let found: Vec<&str> = ["/", "%"].into_iter().filter(|mark| name.contains(mark)).collect();
            if found.is_empty() {
                return Ok(());
            }
            found.iter().map(|mark| format!("may not contain '{mark}'")).collect::<Vec<_>>().join(";")
        }
    };
    Err(Status::bad_request(format!("Name parameter invalid: {}: {why}", quoted(name))))
}
