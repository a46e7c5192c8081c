//! What each path does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use apimachinery::{Api, Map, Value};
use bytes::Bytes;
use cri::v1;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use runtime::streaming::{Wanted, respond};

use super::auth::{Refusal, User, attributes};
use super::{Running, Server, logs, stats};

type Body = UnsyncBoxBody<Bytes, transport::BoxError>;

fn full(status: StatusCode, kind: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", message.into())
}

fn json(tree: &Value) -> Response<Body> {
    full(StatusCode::OK, "application/json", apimachinery::codec::json::encode_free(tree))
}

/// Decodes the query; of several values of one key all are kept.
fn query(uri: &http::Uri) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(decoded(key)).or_default().push(decoded(value));
    }
    all
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex =
            |i: usize| std::str::from_utf8(bytes.get(i + 1..i + 3)?).ok().and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex(i)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Answers one request.
pub async fn answer(server: Arc<Server>, request: Request<Incoming>, certified: Option<User>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let token = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = token.and_then(|v| v.strip_prefix("Bearer ")).map(str::to_owned);
    let (verb, subresource) = attributes(request.method(), &path);
    let allowed = async {
        let user = server.auth.who(certified, token.as_deref()).await?;
        server.auth.allow(&user, verb, subresource).await
    };
    match allowed.await {
        Ok(()) => {}
        Err(Refusal::Unknown) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Err(Refusal::Forbidden(why)) => return text(StatusCode::FORBIDDEN, why),
        Err(Refusal::Unavailable(why)) => {
            return text(StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error: {why}"));
        }
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz", ..] if read => text(StatusCode::OK, "ok"),
        ["pods"] if read => json(&pod_list(server.pods.all().iter())),
        ["runningpods"] if read => json(&pod_list(server.pods.all().iter().filter(|p| p.sandbox.is_some()))),
        ["containerLogs", namespace, pod, container] if read => {
            log(&server, namespace, pod, container, &query(request.uri())).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            command(&server, namespace, pod, container, request, true)
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            command(&server, namespace, pod, container, request, false)
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            forward(&server, namespace, pod, request)
        }
        ["run", namespace, pod, container] if *request.method() == Method::POST => {
            run(&server, namespace, pod, container, &query(request.uri())).await
        }
        ["stats", "summary"] if read => json(&stats::summary(&server).await),
        ["metrics"] if read => text(StatusCode::OK, stats::metrics(&server)),
        ["metrics", "resource"] if read => text(StatusCode::OK, stats::resource_metrics(&server).await),
        ["metrics", "cadvisor"] if read => text(StatusCode::OK, stats::container_metrics(&server).await),
        ["configz"] if read => json(&stats::configuration()),
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn pod_list<'a>(pods: impl Iterator<Item = &'a Running>) -> Value {
    let mut list = Map::new();
    list.insert("kind", "PodList");
    list.insert("apiVersion", "v1");
    list.insert("metadata", Map::new());
    list.insert("items", pods.map(|p| p.pod.to_value()).collect::<Vec<_>>());
    Value::Map(list)
}

/// A pod and the identity of one of its containers.
fn container_of(server: &Server, namespace: &str, pod: &str, name: &str) -> Result<(Running, String), Response<Body>> {
    let Some(running) = server.pods.get(namespace, pod) else {
        return Err(text(StatusCode::NOT_FOUND, format!("pod \"{pod}_{namespace}\" does not exist")));
    };
    match running.containers.iter().find(|(n, _)| n == name).map(|(_, id)| id.clone()) {
        Some(id) => Ok((running, id)),
        None => Err(text(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"))),
    }
}

fn flag(query: &HashMap<String, Vec<String>>, names: &[&str]) -> bool {
    let value = names.iter().find_map(|name| query.get(*name)?.first());
    value.is_some_and(|v| matches!(v.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T"))
}

fn log_options(query: &HashMap<String, Vec<String>>) -> Result<logs::Options, String> {
    let first = |name: &str| query.get(name).and_then(|v| v.first()).filter(|v| !v.is_empty());
    let number = |name: &str| match first(name) {
        Some(value) => value.parse::<u64>().map(Some).map_err(|_| format!("{name} {value:?} is no number")),
        None => Ok(None),
    };
    let since = match (first("sinceTime"), number("sinceSeconds")?) {
        (Some(time), _) => {
            let (seconds, nanos) =
                apimachinery::time::parse_rfc3339(time).ok_or_else(|| format!("sinceTime {time:?} is no time"))?;
            Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
        }
        (None, Some(seconds)) => Some(i128::from(crate::nanos()) - i128::from(seconds) * 1_000_000_000),
        (None, None) => None,
    };
    let stream = first("stream").map_or("All", String::as_str);
    Ok(logs::Options {
        follow: flag(query, &["follow"]),
        timestamps: flag(query, &["timestamps"]),
        tail: number("tailLines")?,
        limit: number("limitBytes")?,
        since,
        stdout: matches!(stream, "All" | "Stdout"),
        stderr: matches!(stream, "All" | "Stderr"),
    })
}

async fn log(
    server: &Arc<Server>,
    namespace: &str,
    pod: &str,
    name: &str,
    query: &HashMap<String, Vec<String>>,
) -> Response<Body> {
    let mut options = match log_options(query) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(running) = server.pods.get(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}\" in namespace \"{namespace}\": not found"));
    };
    let find = |list: &[(smol_str::SmolStr, String)]| list.iter().find(|(n, _)| n == name).map(|(_, id)| id.clone());
    let id = if flag(query, &["previous"]) {
        // Of a container that waits to be started again, the one that ended is the one before.
        match find(&running.previous).or_else(|| waiting(&running, name).then(|| find(&running.containers)).flatten()) {
            Some(id) => {
                options.follow = false;
                id
            }
            None => {
                let message = format!("previous terminated container \"{name}\" in pod \"{pod}\" not found");
                return text(StatusCode::BAD_REQUEST, message);
            }
        }
    } else {
        match find(&running.containers) {
            Some(id) => id,
            None => {
                let why = reason(&running, name);
                let message = format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {why}");
                return text(StatusCode::BAD_REQUEST, message);
            }
        }
    };
    let request = v1::ContainerStatusRequest { container_id: id.clone(), verbose: false };
    let path = match server.runtime.container_status(request).await {
        Ok(answer) => PathBuf::from(answer.status.map(|s| s.log_path).unwrap_or_default()),
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    if !path.exists() {
        return text(StatusCode::OK, "");
    }
    let (to, body) = transport::body::channel(4);
    tokio::spawn(logs::send(server.runtime.clone(), id, path, options, to));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response.map(|body| body.boxed_unsync())
}

fn statuses(running: &Running) -> impl Iterator<Item = &api::core::pod::status::ContainerStatus> {
    let status = &running.pod.status;
    let groups = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    groups.into_iter().flatten()
}

fn waiting(running: &Running, name: &str) -> bool {
    statuses(running).any(|s| s.name == name && s.state.waiting.is_some())
}

fn reason(running: &Running, name: &str) -> String {
    let status = statuses(running).find(|s| s.name == name);
    let waiting = status.and_then(|s| s.state.waiting.as_ref());
    match waiting {
        Some(w) if !w.message.is_empty() && w.reason != "ContainerCreating" => w.message.clone(),
        Some(w) if !w.reason.is_empty() => w.reason.clone(),
        _ => "ContainerCreating".to_owned(),
    }
}

fn command(
    server: &Server,
    namespace: &str,
    pod: &str,
    name: &str,
    request: Request<Incoming>,
    exec: bool,
) -> Response<Body> {
    let (_, container_id) = match container_of(server, namespace, pod, name) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let query = query(request.uri());
    let tty = flag(&query, &["tty"]);
    let stdin = flag(&query, &["stdin", "input"]);
    let stdout = flag(&query, &["stdout", "output"]);
    let stderr = flag(&query, &["stderr", "error"]) && !tty;
    if !(stdin || stdout || stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let wanted = if exec {
        let cmd = query.get("command").cloned().unwrap_or_default();
        if cmd.is_empty() {
            return text(StatusCode::BAD_REQUEST, "you must specify at least 1 command");
        }
        Wanted::Exec(v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr })
    } else {
        Wanted::Attach(v1::AttachRequest { container_id, tty, stdin, stdout, stderr })
    };
    stream(server, wanted, request)
}

fn stream(server: &Server, wanted: Wanted, request: Request<Incoming>) -> Response<Body> {
    respond(&server.runtime, wanted, request).map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

fn forward(server: &Server, namespace: &str, pod: &str, request: Request<Incoming>) -> Response<Body> {
    let Some(running) = server.pods.get(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}_{namespace}\" does not exist"));
    };
    let Some(pod_sandbox_id) = running.sandbox else {
        return text(StatusCode::BAD_REQUEST, format!("pod \"{pod}_{namespace}\" does not run"));
    };
    let ports = query(request.uri());
    let ports = ports.get("port").or_else(|| ports.get("ports")).cloned().unwrap_or_default();
    let port = ports.iter().flat_map(|p| p.split(',').map(str::to_owned).collect::<Vec<_>>());
    let port = port.filter_map(|p| p.parse().ok()).collect();
    stream(server, Wanted::PortForward(v1::PortForwardRequest { pod_sandbox_id, port }), request)
}

async fn run(
    server: &Server,
    namespace: &str,
    pod: &str,
    name: &str,
    query: &HashMap<String, Vec<String>>,
) -> Response<Body> {
    let (_, container_id) = match container_of(server, namespace, pod, name) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let cmd: Vec<String> =
        query.get("cmd").and_then(|c| c.first()).map(|c| c.split(' ').map(str::to_owned).collect()).unwrap_or_default();
    match server.runtime.exec_sync(v1::ExecSyncRequest { container_id, cmd, timeout: 0 }).await {
        Ok(answer) => {
            let mut out = answer.stdout;
            out.extend(answer.stderr);
            let status = if answer.exit_code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            full(status, "text/plain", out)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let uri: http::Uri = "/exec/n/p/c?command=sh&command=-c&command=echo+a%20b&input=1&tty=".parse().unwrap();
        let all = query(&uri);
        assert_eq!(all["command"], ["sh", "-c", "echo a b"]);
        assert!(flag(&all, &["stdin", "input"]) && !flag(&all, &["tty"]));
        let uri: http::Uri = "/x?tailLines=5&follow=true&stream=Stderr&sinceTime=2026-01-01T00:00:00Z".parse().unwrap();
        let options = log_options(&query(&uri)).unwrap();
        assert_eq!((options.tail, options.follow, options.stdout, options.stderr), (Some(5), true, false, true));
        assert!(options.since.is_some());
        let uri: http::Uri = "/x?tailLines=many".parse().unwrap();
        assert!(log_options(&query(&uri)).is_err());
    }
}
