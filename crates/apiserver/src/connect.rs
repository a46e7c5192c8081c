//! Streams that end in a kubelet, a pod or a service: exec, attach, portforward, log, proxy.

pub(crate) mod admit;
mod socket;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use engine::{Cx, Engine, Target};
use http::header::{CONNECTION, HOST, UPGRADE};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::pipeline::Request;
use crate::respond::Response;
use crate::server::ApiServer;

/// Where the kubelet of a node listens unless its status says otherwise.
const KUBELET_PORT: i64 = 10250;
/// How long a peer may take to answer the head of a request.
const ANSWER: Duration = Duration::from_secs(60);

/// The HTTP clients by which connect requests go on.
#[derive(Default)]
pub struct Connector {
    /// Shows the API server's own certificate to kubelets.
    kubelet: OnceLock<transport::Client>,
    /// Reaches pods and services; shows nothing and believes any certificate, as upstream's proxy does.
    plain: OnceLock<transport::Client>,
}

impl Connector {
    pub fn set(&self, kubelet: transport::Client, plain: transport::Client) {
        let _ = self.kubelet.set(kubelet);
        let _ = self.plain.set(plain);
    }
}

fn not_ready() -> Status {
    Status::service_unavailable("connections to nodes and pods cannot be opened while the server starts")
}

/// Where a request goes on to.
struct Onward {
    scheme: &'static str,
    host: String,
    port: i64,
    path: String,
    kubelet: bool,
    /// The path of the proxy itself, which goes before links of pages behind it.
    rewrite: Option<String>,
}

impl Onward {
    fn uri(&self, parts: &http::request::Parts) -> Result<http::Uri, Status> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let uri = format!("{}://{host}:{}{}{query}", self.scheme, self.port, self.path);
        uri.parse().map_err(|_| Status::bad_request("the proxied path is not valid"))
    }
}

/// Answers a connect request by passing it on.
pub async fn handle(server: &Arc<ApiServer>, cx: &Cx, request: Request, target: Target) -> Result<Response, Status> {
    // Relative links of what is behind a proxy are right only below a folder (kubernetes/kubernetes#4958).
    let upgrading = request.parts.headers.contains_key(UPGRADE);
    let reads = matches!(request.parts.method, http::Method::GET | http::Method::HEAD);
    let bare = request.info.rest.is_empty() && !request.info.path.ends_with('/');
    if target.subresource == "log" {
        crate::options::logs(&request.info, &target.name)?;
    }
    admit::admit(server, cx, &request.info, &target).await?;
    if target.subresource == "proxy" && bare && reads && !upgrading {
        let query = request.parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        return crate::respond::moved(&format!("{}/{query}", request.info.path));
    }
    let proxy = request.info.path.strip_suffix(&request.info.rest).map(|p| p.trim_end_matches('/').to_owned());
    let onward = match (&*target.kind.resource, target.subresource.as_str()) {
        ("pods", "log") => {
            let (pod, container) = container_of(server, cx, &target, &request).await?;
            let path = format!("/containerLogs/{}/{}/{container}", target.namespace, target.name);
            kubelet_of_pod(server, cx, &pod, path).await?
        }
        ("pods", verb @ ("exec" | "attach")) => {
            let (pod, container) = container_of(server, cx, &target, &request).await?;
            if matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
                return Err(Status::bad_request(format!(
                    "cannot exec into a container in a completed pod; current phase is {}",
                    pod.str_at(&["status", "phase"]).unwrap_or_default()
                )));
            }
            let path = format!("/{verb}/{}/{}/{container}", target.namespace, target.name);
            kubelet_of_pod(server, cx, &pod, path).await?
        }
        ("pods", "portforward") => {
            let pod = pod(server, cx, &target).await?;
            kubelet_of_pod(server, cx, &pod, format!("/portForward/{}/{}", target.namespace, target.name)).await?
        }
        ("nodes", "proxy") => {
            let (scheme, name, _) = split_name(&target.name);
            let (host, port) = node_address(server, cx, name).await?;
            let _ = scheme;
            Onward {
                scheme: "https",
                host,
                port,
                path: format!("/{}", request.info.rest),
                kubelet: true,
                rewrite: proxy,
            }
        }
        ("pods", "proxy") => {
            let (scheme, name, port) = split_name(&target.name);
            let pod = pod(server, cx, &Target { name: name.into(), ..target.clone() }).await?;
            let host = pod.str_at(&["status", "podIP"]).unwrap_or_default().to_string();
            if host.is_empty() {
                return Err(Status::service_unavailable(format!("pod {name:?} has no address yet")));
            }
            let port = pod_port(&pod, port)?;
            Onward { scheme, host, port, path: format!("/{}", request.info.rest), kubelet: false, rewrite: proxy }
        }
        ("services", "proxy") => {
            let (scheme, name, port) = split_name(&target.name);
            let (host, port) = endpoint(&server.engine, cx, &target.namespace, name, port).await?;
            Onward { scheme, host, port, path: format!("/{}", request.info.rest), kubelet: false, rewrite: proxy }
        }
        (resource, subresource) => {
            return Err(Status::new(404, "NotFound", format!("{resource}/{subresource} cannot be connected to")));
        }
    };
    if target.subresource != "log" {
        return pass_on(server, request, onward).await;
    }
    if socket::is_asked(&request.parts.headers) {
        return logs(server, request, onward).await;
    }
    let response = pass_on(server, request, onward).await?;
    if response.status().is_success() { Ok(response) } else { Err(refusal_of(response).await) }
}

/// What a kubelet says, as plain text, why it shows no logs, as a Status, which clients can show.
async fn refusal_of(response: Response) -> Status {
    const LONGEST: usize = 50_000;
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), LONGEST).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    match code.as_u16() {
        500 => Status::internal(text),
        400 => Status::bad_request(text),
        404 => Status::new(404, "NotFound", text),
        code => Status::new(code, "", text),
    }
}

/// Logs for a client that wants them as messages of a WebSocket.
async fn logs(server: &Arc<ApiServer>, request: Request, onward: Onward) -> Result<Response, Status> {
    let client = server.connector.kubelet.get().ok_or_else(not_ready)?;
    let Request { mut parts, .. } = request;
    let uri = onward.uri(&parts)?;
    let body = transport::body::empty();
    let asked = http::Request::builder().uri(uri).body(body).map_err(Status::internal)?;
    let response = client.send_within(ANSWER, asked).await.map_err(gone)?;
    if response.status() != http::StatusCode::OK {
        return Err(refusal_of(stream_back(response)).await);
    }
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    socket::stream(&parts.headers, upgrade, response.into_body())
}

fn gone(error: transport::Error) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {error}"))
}

/// `https:name:port`, `name:port` or `name`.
fn split_name(text: &str) -> (&'static str, &str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["https", name, port] => ("https", name, port),
        ["http" | "", name, port] => ("http", name, port),
        [name, port] => ("http", name, port),
        _ => ("http", text, ""),
    }
}

async fn object(
    engine: &Engine,
    cx: &Cx,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Value, Status> {
    let kind = engine
        .catalog()
        .kind(group, "v1", resource)
        .ok_or_else(|| Status::internal(format!("{resource} are not served")))?;
    let target = Target { kind, namespace: namespace.into(), name: name.into(), subresource: SmolStr::default() };
    engine.get(cx, &target).await?.tree()
}

async fn pod(server: &ApiServer, cx: &Cx, target: &Target) -> Result<Value, Status> {
    object(&server.engine, cx, "", "pods", &target.namespace, &target.name).await
}

/// The pod, and which of its containers is meant.
async fn container_of(
    server: &ApiServer,
    cx: &Cx,
    target: &Target,
    request: &Request,
) -> Result<(Value, String), Status> {
    let pod = pod(server, cx, target).await?;
    let names = |member: &str| -> Vec<String> {
        pod.at(&["spec", member])
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .filter_map(|c| c.str_at(&["name"]).map(str::to_string))
            .collect()
    };
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let container = match request.info.param("container").filter(|c| !c.is_empty()) {
        Some(name) => {
            if ![&main, &init, &ephemeral].iter().any(|list| list.iter().any(|n| n == name)) {
                return Err(Status::bad_request(format!("container {name} is not valid for pod {}", target.name)));
            }
            name.to_string()
        }
        None => match main.as_slice() {
            [one] => one.clone(),
            several => {
                let marked = pod
                    .at(&["metadata", "annotations", "kubectl.kubernetes.io/default-container"])
                    .and_then(Value::as_str)
                    .filter(|n| several.iter().any(|m| m == n));
                match marked {
                    Some(name) => name.to_string(),
                    None => {
                        let mut text = format!(
                            "a container name must be specified for pod {}, choose one of: [{}]",
                            target.name,
                            several.join(" ")
                        );
                        if !init.is_empty() {
                            text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                        }
                        if !ephemeral.is_empty() {
                            text.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
                        }
                        return Err(Status::bad_request(text));
                    }
                }
            }
        },
    };
    Ok((pod, container))
}

async fn kubelet_of_pod(server: &ApiServer, cx: &Cx, pod: &Value, path: String) -> Result<Onward, Status> {
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    if node.is_empty() {
        let name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let (host, port) = node_address(server, cx, node).await?;
    Ok(Onward { scheme: "https", host, port, path, kubelet: true, rewrite: None })
}

/// The address at which a node's kubelet listens.
async fn node_address(server: &ApiServer, cx: &Cx, name: &str) -> Result<(String, i64), Status> {
    let node = object(&server.engine, cx, "", "nodes", "", name).await?;
    let addresses = node.at(&["status", "addresses"]).and_then(Value::as_list).unwrap_or_default();
    let address = ["InternalIP", "ExternalIP", "Hostname"]
        .iter()
        .find_map(|ty| addresses.iter().find(|a| a.str_at(&["type"]) == Some(ty)))
        .and_then(|a| a.str_at(&["address"]));
    let address = address.ok_or_else(|| {
        Status::service_unavailable(format!("no preferred addresses found; known addresses of node {name:?}: []"))
    })?;
    let port = node
        .at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"])
        .and_then(Value::as_i64)
        .filter(|p| *p > 0)
        .unwrap_or(KUBELET_PORT);
    Ok((address.to_string(), port))
}

/// A pod's port by number or name; its first port when none is named.
fn pod_port(pod: &Value, port: &str) -> Result<i64, Status> {
    if let Ok(number) = port.parse::<i64>() {
        return Ok(number);
    }
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_list).unwrap_or_default();
    let mut ports = containers.iter().flat_map(|c| c.get("ports").and_then(Value::as_list).unwrap_or_default());
    let found = if port.is_empty() { ports.next() } else { ports.find(|p| p.str_at(&["name"]) == Some(port)) };
    match found.and_then(|p| p.get("containerPort")).and_then(Value::as_i64) {
        Some(number) => Ok(number),
        None if port.is_empty() => Ok(80),
        None => Err(Status::bad_request(format!("the pod has no port {port:?}"))),
    }
}

/// Any ready endpoint of a service's port.
pub(crate) async fn endpoint(
    engine: &Engine,
    cx: &Cx,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<(String, i64), Status> {
    let service = object(engine, cx, "", "services", namespace, name).await?;
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_list).unwrap_or_default();
    let wanted = match (port, ports) {
        ("", [one]) => one,
        (text, all) => all
            .iter()
            .find(|p| {
                p.str_at(&["name"]) == Some(text)
                    || text.parse::<i64>().is_ok_and(|n| p.get("port").and_then(Value::as_i64) == Some(n))
            })
            .ok_or_else(|| {
                Status::service_unavailable(format!("no service port {text:?} found for service {name:?}"))
            })?,
    };
    let port_name = wanted.str_at(&["name"]).unwrap_or_default();
    let kind = engine
        .catalog()
        .kind("discovery.k8s.io", "v1", "endpointslices")
        .ok_or_else(|| Status::internal("endpoint slices are not served"))?;
    let target =
        Target { kind, namespace: namespace.into(), name: SmolStr::default(), subresource: SmolStr::default() };
    let labels = apimachinery::selector::LabelSelector::parse(&format!("kubernetes.io/service-name={name}"))
        .map_err(|e| Status::bad_request(e.to_string()))?;
    let page = engine.list(cx, &target, &engine::ListOptions { labels, ..Default::default() }).await?;
    for slice in &page.objects {
        let slice = slice.tree()?;
        let ports = slice.get("ports").and_then(Value::as_list).unwrap_or_default();
        let number = ports
            .iter()
            .find(|p| p.str_at(&["name"]).unwrap_or_default() == port_name)
            .and_then(|p| p.get("port"))
            .and_then(Value::as_i64);
        let Some(number) = number else { continue };
        for endpoint in slice.get("endpoints").and_then(Value::as_list).unwrap_or_default() {
            if endpoint.at(&["conditions", "ready"]).and_then(Value::as_bool) == Some(false) {
                continue;
            }
            if let Some(address) = endpoint.get("addresses").and_then(Value::as_list).and_then(|a| a.first()?.as_str())
            {
                return Ok((address.to_string(), number));
            }
        }
    }
    Err(Status::service_unavailable(format!("no endpoints available for service {name:?}")))
}

/// Sends the request on and streams back what comes, upgrades included.
async fn pass_on(server: &Arc<ApiServer>, request: Request, onward: Onward) -> Result<Response, Status> {
    let client = if onward.kubelet { server.connector.kubelet.get() } else { server.connector.plain.get() };
    let client = client.ok_or_else(not_ready)?;
    let Request { mut parts, body, .. } = request;
    let uri = onward.uri(&parts)?;
    parts.headers.remove(HOST);
    let rewrite = onward.rewrite;
    if parts.headers.contains_key(UPGRADE) {
        return upgrade(client, parts, uri).await;
    }
    transport::http::remove_hop_by_hop(&mut parts.headers);
    let mut builder = http::Request::builder().method(parts.method.clone()).uri(uri);
    if let Some(headers) = builder.headers_mut() {
        *headers = parts.headers;
    }
    let request = builder.body(transport::body::wrap(body)).map_err(Status::internal)?;
    let response = client.send_within(ANSWER, request).await.map_err(gone)?;
    if let Some(prefix) = rewrite
        && is_html(response.headers())
    {
        return rewritten(response, &prefix).await;
    }
    Ok(stream_back(response))
}

/// The longest page whose links are rewritten; longer ones pass as they are.
const MAX_PAGE: usize = 8 << 20;

fn is_html(headers: &http::HeaderMap) -> bool {
    let text = |name: http::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let plain = matches!(text(http::header::CONTENT_ENCODING), "" | "identity");
    plain && text(http::header::CONTENT_TYPE).starts_with("text/html")
}

/// A page behind the proxy: links from the root lead through the proxy again.
async fn rewritten(response: http::Response<hyper::body::Incoming>, prefix: &str) -> Result<Response, Status> {
    let (mut parts, body) = response.into_parts();
    transport::http::remove_hop_by_hop(&mut parts.headers);
    let page = transport::body::read_all(body, MAX_PAGE).await;
    let page = page.map_err(|e| Status::service_unavailable(format!("error trying to reach service: {e}")))?;
    parts.headers.remove(http::header::CONTENT_LENGTH);
    let text = relink(&String::from_utf8_lossy(&page), prefix);
    Ok(http::Response::from_parts(parts, crate::respond::full(text)))
}

/// Puts a prefix before links that begin at the root.
fn relink(page: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let mut rest = page;
    // Attributes that carry an address, as upstream's list has them.
    const NAMES: [&str; 12] = [
        "action",
        "background",
        "cite",
        "classid",
        "codebase",
        "data",
        "formaction",
        "href",
        "icon",
        "longdesc",
        "src",
        "poster",
    ];
    while let Some(at) = rest.find("=\"/") {
        let (before, after) = rest.split_at(at + 2);
        out.push_str(before);
        let name = before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let known = NAMES.iter().any(|n| n.eq_ignore_ascii_case(name));
        // `//host` is elsewhere, and what leads through the proxy already stays.
        if known && !after.starts_with("//") && !after.starts_with(prefix) {
            out.push_str(prefix);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Passes on a request to switch protocols, and then the bytes of both sides.
pub(crate) async fn upgrade(
    client: &transport::Client,
    mut parts: http::request::Parts,
    uri: http::Uri,
) -> Result<Response, Status> {
    let on_client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let mut builder = http::Request::builder().method(parts.method).uri(uri);
    if let Some(headers) = builder.headers_mut() {
        *headers = parts.headers;
    }
    let request = builder.body(transport::body::empty()).map_err(Status::internal)?;
    match client.upgrade(request).await.map_err(gone)? {
        transport::Upgrade::Refused(response) => Ok(stream_back(response)),
        transport::Upgrade::Switched(head, mut upstream) => {
            let on_client = on_client.ok_or_else(|| Status::bad_request("the connection cannot be upgraded"))?;
            tokio::spawn(async move {
                let Ok(client) = on_client.await else { return };
                let mut client = TokioIo::new(client);
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                    tracing::debug!(%error, "a stream ended");
                }
            });
            let mut response = http::Response::new(crate::respond::full(""));
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in head.headers() {
                response.headers_mut().append(name, value.clone());
            }
            response.headers_mut().insert(CONNECTION, http::header::HeaderValue::from_static("Upgrade"));
            Ok(response)
        }
    }
}

pub(crate) fn stream_back(response: http::Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    transport::http::remove_hop_by_hop(&mut parts.headers);
    http::Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync())
}

/// The resource of pods, for callers that look them up.
pub fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_from_the_root_lead_through_the_proxy() {
        let page = r#"<a href="/x">a</a><img src="//else/y"><a href="z"><b title="/t"><a HREF="/p/q">"#;
        let wanted = r#"<a href="/p/x">a</a><img src="//else/y"><a href="z"><b title="/t"><a HREF="/p/q">"#;
        assert_eq!(relink(page, "/p"), wanted);
    }
}
