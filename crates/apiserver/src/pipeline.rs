//! The life of a request, read downwards.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::quote::quoted;
use apimachinery::{GroupResource, Status};
use engine::{Cx, User};
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use hyper::body::Incoming;

use crate::authz::Decision;
use crate::request::RequestInfo;
use crate::respond::{self, Form, Response};
use crate::server::ApiServer;

/// A request that is not a watch, a stream or a proxy is answered within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What the connection knows of its peer.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub address: Option<std::net::SocketAddr>,
    /// DER certificates, leaf first, already verified by TLS against the pool of client CAs.
    pub certificates: Arc<Vec<Vec<u8>>>,
    /// What they have proved, kept by the authenticator.
    pub proof: Arc<parking_lot::Mutex<Option<crate::authn::Proof>>>,
}

/// A request on its way: head read, body still to come.
pub struct Request {
    pub info: RequestInfo,
    pub parts: Parts,
    pub body: Incoming,
    pub peer: Peer,
}

/// Answers one request. Never fails and never panics: whatever goes wrong becomes a Status.
pub async fn serve(server: Arc<ApiServer>, request: http::Request<Incoming>, peer: Peer) -> Response {
    let (parts, body) = request.into_parts();
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query());
    let form = Form::negotiate(&parts.headers, &info, true).unwrap_or(Form::JSON);
    let form = Form { view: respond::View::Whole, ..form };
    let request = Request { info, parts, body, peer };
    // One request's panic must not take the connection's other requests, or the process.
    let answer = AssertUnwindSafe(authenticated(server, request)).catch_unwind().await;
    match answer {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::error(&status, form),
        Err(_) => {
            tracing::error!("a request panicked");
            respond::error(&Status::internal("the request failed unexpectedly"), form)
        }
    }
}

async fn authenticated(server: Arc<ApiServer>, mut request: Request) -> Result<Response, Status> {
    if let Some(gate) = server.gates.of(&request.info.path) {
        return crate::join::handle(gate, request).await;
    }
    let long_running = is_long_running(&request.info);
    let limit = if long_running { REQUEST_TIMEOUT } else { time_limit(&request.info)? };
    let user = server.authenticator.authenticate(&request.parts.headers, &request.peer).await?;
    // The token has done its work: nothing downstream, such as a proxied backend, may see it.
    request.parts.headers.remove(http::header::AUTHORIZATION);
    let user = impersonated(&server, &request, user).await?;
    authorize(&server, &user, &request.info).await?;

    let cx = Cx::new(Arc::new(user));
    let routed = route(&server, &cx, request);
    let mut response = if long_running {
        routed.await?
    } else {
        match tokio::time::timeout(limit, routed).await {
            Ok(answer) => answer?,
            Err(_) => {
                let why = "Timeout: request did not complete within the allotted timeout";
                return Err(Status::generic(504, "Timeout", why));
            }
        }
    };
    add_warnings(&cx, &mut response);
    Ok(response)
}

/// How long a request may take: less than the usual when its client says so.
fn time_limit(info: &RequestInfo) -> Result<Duration, Status> {
    let text = info.param("timeout").unwrap_or_default();
    if text.is_empty() {
        return Ok(REQUEST_TIMEOUT);
    }
    let wanted = apimachinery::time::Duration::parse(text).ok_or_else(|| {
        Status::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {}",
            quoted(text)
        ))
    })?;
    Ok(if wanted.0 > 0 { wanted.as_std().min(REQUEST_TIMEOUT) } else { REQUEST_TIMEOUT })
}

/// Refuses with 403 unless some authorizer allows.
pub async fn authorize(server: &ApiServer, user: &User, info: &RequestInfo) -> Result<(), Status> {
    match server.authorizer.authorize(user, info).await {
        Decision::Allow => Ok(()),
        Decision::Deny(why) => Err(refusal(user, info, &why)),
    }
}

/// 403 in the words that clients and people look for.
pub fn refusal(user: &User, info: &RequestInfo, why: &str) -> Status {
    let tail = if why.is_empty() { String::new() } else { format!(": {why}") };
    if !info.is_resource {
        let resource = GroupResource::default();
        return Status::forbidden(
            &resource,
            "",
            format!("User {} cannot {} path {}{tail}", quoted(&user.name), info.verb, quoted(&info.path)),
        );
    }
    let resource = GroupResource { group: info.group.clone(), resource: info.resource.clone() };
    let what = if info.subresource.is_empty() {
        info.resource.to_string()
    } else {
        format!("{}/{}", info.resource, info.subresource)
    };
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_string()
    } else {
        format!("in the namespace {}", quoted(&info.namespace))
    };
    Status::forbidden(
        &resource,
        &info.name,
        format!(
            "User {} cannot {} resource {} in API group {} {place}{tail}",
            quoted(&user.name),
            info.verb,
            quoted(&what),
            quoted(&info.group)
        ),
    )
}

/// Acts as someone else when the headers ask for it and the user may.
async fn impersonated(server: &ApiServer, request: &Request, user: User) -> Result<User, Status> {
    let headers = &request.parts.headers;
    let all = |name: &str| -> Vec<apimachinery::SmolStr> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(Into::into).collect()
    };
    let name = all("impersonate-user").pop();
    let groups = all("impersonate-group");
    let uid = all("impersonate-uid").pop();
    let Some(name) = name else {
        if !groups.is_empty() || uid.is_some() {
            return Err(Status::internal("requested to impersonate without impersonating a user"));
        }
        return Ok(user);
    };
    let mut info = RequestInfo { verb: "impersonate".into(), is_resource: true, ..RequestInfo::default() };
    let service_account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .map(|(ns, n)| (apimachinery::SmolStr::new(ns), apimachinery::SmolStr::new(n)));
    match &service_account {
        Some((namespace, account)) => {
            info.resource = "serviceaccounts".into();
            info.namespace = namespace.clone();
            info.name = account.clone();
        }
        None => {
            info.resource = "users".into();
            info.name = name.clone();
        }
    }
    authorize(server, &user, &info).await?;
    info.namespace = Default::default();
    for group in &groups {
        info.resource = "groups".into();
        info.name = group.clone();
        authorize(server, &user, &info).await?;
    }
    if let Some(uid) = &uid {
        info.group = "authentication.k8s.io".into();
        info.resource = "uids".into();
        info.name = uid.clone();
        authorize(server, &user, &info).await?;
    }
    let mut extra: Vec<(apimachinery::SmolStr, Vec<apimachinery::SmolStr>)> = Vec::new();
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix("impersonate-extra-") else { continue };
        let key = crate::request::decode(key).to_ascii_lowercase();
        let value = value.to_str().unwrap_or_default();
        info.group = "authentication.k8s.io".into();
        info.resource = "userextras".into();
        info.subresource = key.as_str().into();
        info.name = value.into();
        authorize(server, &user, &info).await?;
        match extra.iter_mut().find(|(k, _)| *k == key) {
            Some((_, values)) => values.push(value.into()),
            None => extra.push((key.into(), vec![value.into()])),
        }
    }
    let mut groups = groups;
    if let Some((namespace, _)) = &service_account
        && groups.is_empty()
    {
        groups.push("system:serviceaccounts".into());
        groups.push(format!("system:serviceaccounts:{namespace}").into());
    }
    let always = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|g| g == always) {
        groups.push(always.into());
    }
    Ok(User { name, uid: uid.unwrap_or_default(), groups, extra })
}

/// Watches, streams and proxied requests last as long as they last.
fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch"
        || matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy")
        || (info.subresource == "log" && info.truth("follow"))
}

async fn route(server: &Arc<ApiServer>, cx: &Cx, request: Request) -> Result<Response, Status> {
    if let Some(remote) = server.aggregation.remote_of(&request.info.path) {
        return crate::aggregation::pass(server, cx, request, &remote).await;
    }
    if request.info.is_resource {
        return crate::resource::handle(server, cx, request).await;
    }
    let path = request.info.path.clone();
    match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => crate::health::check(server, &request.info).await,
        health
            if health.starts_with("/healthz/") || health.starts_with("/livez/") || health.starts_with("/readyz/") =>
        {
            crate::health::check(server, &request.info).await
        }
        "/version" => crate::health::version(&request),
        "/metrics" => crate::health::metrics(server),
        "/openid/v1/jwks" | "/.well-known/openid-configuration" => crate::authn::discovery(server, &path),
        openapi if openapi.starts_with("/openapi/") => crate::openapi::handle(server, &request),
        _ => crate::discovery::handle(server, &request),
    }
}

/// `Warning: 299 - "text"`, one header a sentence.
fn add_warnings(cx: &Cx, response: &mut Response) {
    for text in cx.warnings.lock().iter() {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let line: String = format!("299 - \"{quoted}\"").chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
            response.headers_mut().append("warning", value);
        }
    }
}

/// The answer to a path that nothing serves, as Go's mux gives it.
pub fn page_not_found() -> Response {
    let mut response = respond::respond(404, "text/plain; charset=utf-8", respond::full("404 page not found\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
