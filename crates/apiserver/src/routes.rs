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
        _ if below || info.name.is_empty() => Verbs(0),
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

/// Refuses a name in a path that cannot be part of a key.
pub fn check_name(info: &RequestInfo) -> Result<(), Status> {
    let name = info.name.as_str();
    if !is_named(info) {
        return Ok(());
    }
    let faults: Vec<String> = match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => ["/", "%"]
            .iter()
            .filter(|mark| name.contains(**mark))
            .map(|mark| format!("may not contain '{mark}'"))
            .collect(),
    };
    if faults.is_empty() {
        return Ok(());
    }
    Err(Status::bad_request(format!("Name parameter invalid: {}: {}", quoted(name), faults.join(";"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    /// The code with which a request is refused, 0 where it goes on.
    fn refused(kind: &Kind, method: &Method, path: &str, headers: &[(http::HeaderName, &str)]) -> u16 {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let info = RequestInfo::parse(method, path, query);
        let headers: HeaderMap = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        if !in_scope(kind, &info) {
            return 404;
        }
        check(kind, &info, &headers).and_then(|()| check_name(&info)).map_or_else(|status| status.code, |()| 0)
    }

    #[test]
    fn paths_have_their_methods() {
        let (pod, node, review) =
            (api::core::pod::kind(), api::core::node::kind(), api::authorization::localsubjectaccessreview::kind());
        const PODS: &str = "/api/v1/namespaces/a/pods";
        const REVIEWS: &str = "/apis/authorization.k8s.io/v1/namespaces/a/localsubjectaccessreviews";
        let below = |path: &str, more: &str| format!("{path}{more}");
        let patch = [(CONTENT_TYPE, PATCHES[1])];
        let cases = [
            (&pod, Method::GET, below(PODS, ""), 0),
            (&pod, Method::POST, below(PODS, ""), 0),
            (&pod, Method::DELETE, below(PODS, ""), 0),
            (&pod, Method::PUT, below(PODS, ""), 405),
            (&pod, Method::PATCH, below(PODS, ""), 405),
            (&pod, Method::OPTIONS, below(PODS, ""), 405),
            (&pod, Method::GET, below(PODS, "?watch=true&fieldSelector=metadata.name%3Da%2Fb"), 0),
            (&pod, Method::GET, below(PODS, "/p"), 0),
            (&pod, Method::PATCH, below(PODS, "/p"), 0),
            (&pod, Method::POST, below(PODS, "/p"), 405),
            (&pod, Method::GET, below(PODS, "/.."), 400),
            (&pod, Method::GET, below(PODS, "/a%25b"), 400),
            (&pod, Method::GET, below(PODS, "/p/nothing"), 404),
            (&pod, Method::GET, below(PODS, "/p/status"), 0),
            (&pod, Method::GET, below(PODS, "/p/status/more"), 404),
            (&pod, Method::POST, below(PODS, "/p/status"), 405),
            (&pod, Method::POST, below(PODS, "/p/binding"), 0),
            (&pod, Method::GET, below(PODS, "/p/binding"), 405),
            (&pod, Method::POST, below(PODS, "/p/exec"), 0),
            (&pod, Method::PUT, below(PODS, "/p/exec"), 405),
            (&pod, Method::POST, below(PODS, "/p/log"), 405),
            (&pod, Method::OPTIONS, below(PODS, "/p/proxy/any/where"), 0),
            (&pod, Method::GET, "/api/v1/pods".into(), 0),
            (&pod, Method::POST, "/api/v1/pods".into(), 405),
            (&pod, Method::DELETE, "/api/v1/pods".into(), 405),
            (&pod, Method::GET, "/api/v1/pods/p".into(), 404),
            (&node, Method::GET, "/api/v1/nodes/n".into(), 0),
            (&node, Method::GET, "/api/v1/namespaces/a/nodes/n".into(), 404),
            (&review, Method::POST, below(REVIEWS, ""), 0),
            (&review, Method::GET, below(REVIEWS, ""), 405),
            (&review, Method::GET, below(REVIEWS, "/r"), 404),
            (&review, Method::POST, "/apis/authorization.k8s.io/v1/localsubjectaccessreviews".into(), 404),
        ];
        for (kind, method, path, code) in cases {
            assert_eq!(refused(kind, &method, &path, &patch), code, "{method} {path}");
        }
    }

    #[test]
    fn types_are_judged_one_by_one() {
        let pod = api::core::pod::kind();
        let list = |accept| refused(&pod, &Method::GET, "/api/v1/pods", &[(ACCEPT, accept)]);
        for accept in ["", "*/*", "application/json", "text/html, application/yaml;q=0.5", "a/b ,application/json;as=X"]
        {
            assert_eq!(list(accept), 0, "{accept}");
        }
        for accept in [";;;", "text/html", "application/*"] {
            assert_eq!(list(accept), 406, "{accept}");
        }
        let path = "/api/v1/namespaces/a/pods/p";
        assert_eq!(refused(&pod, &Method::GET, &format!("{path}/log"), &[(ACCEPT, "text/plain")]), 0);
        let patch = |sent| refused(&pod, &Method::PATCH, path, &[(CONTENT_TYPE, sent)]);
        assert_eq!(patch("application/json-patch+json; charset=utf-8"), 0);
        for sent in ["", "application/json", "application/apply-patch+json"] {
            assert_eq!(patch(sent), 415, "{sent}");
        }
    }
}
