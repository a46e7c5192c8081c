//! Discovery: `/`, `/api`, `/apis` and below, plain and aggregated.

use std::sync::Arc;

use apimachinery::{Kind, Status, Value, codec, discovery};
use http::header::ACCEPT;

use crate::pipeline::{self, Request};
use crate::respond::{self, Form, Response, View};
use crate::routes;
use crate::server::ApiServer;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a path below the API roots, or 404.
pub fn handle(server: &Arc<ApiServer>, request: &Request) -> Result<Response, Status> {
    let path = &request.info.path;
    let reads = matches!(request.parts.method, http::Method::GET | http::Method::HEAD);
    let kinds = server.served_kinds();
    let form = Form {
        view: View::Whole,
        ..Form::negotiate(&request.parts.headers, &request.info, true).unwrap_or(Form::JSON)
    };
    let parts: Vec<&str> = request.info.path.trim_matches('/').split('/').collect();
    let accept = request.parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let aggregated = accept
        .split(',')
        .any(|c| c.contains("as=APIGroupDiscoveryList") && c.contains("v=v2") && !c.contains("v2beta1"));
    let of_version = |group: &str, version: &str| {
        let found: Vec<&Kind> =
            kinds.iter().map(|k| &**k).filter(|k| k.group == group && k.version == version).collect();
        (!found.is_empty()).then(|| discovery::resource_list(group, version, found))
    };
    let tree = match parts.as_slice() {
        [""] | ["apis"] if !reads => None,
        [""] => return Ok(root(&kinds)),
        ["api"] if aggregated && reads => {
            return Ok(aggregate(request, discovery::aggregated(aggregated_groups(&kinds, true))));
        }
        ["apis"] if aggregated => {
            let mut groups = aggregated_groups(&kinds, false);
            groups.extend(server.aggregation.discovery());
            return Ok(aggregate(request, discovery::aggregated(groups)));
        }
        ["api"] => Some(discovery::api_versions(&server.advertised)),
        ["apis"] => Some(discovery::group_list(&groups(server, &kinds))),
        ["apis", name] => {
            let groups = groups(server, &kinds);
            groups.iter().find(|g| g.name == *name).map(discovery::group)
        }
        ["api", version] => of_version("", version),
        ["apis", group, version] => of_version(group, version),
        _ => None,
    };
    let Some(tree) = tree else { return routes::nowhere(server, path) };
    if !reads {
        return if routes::is_routed(server, path) {
            Err(routes::method_not_allowed())
        } else {
            Ok(pipeline::page_not_found())
        };
    }
    let bytes = match form.encoding {
        respond::Encoding::Yaml => codec::yaml::write(&tree).into(),
        // Discovery clients that prefer protobuf take JSON too.
        _ if form.pretty => codec::json::indent(&codec::json::encode_free(&tree)),
        _ => codec::json::encode_free(&tree),
    };
    let content_type = match form.encoding {
        respond::Encoding::Yaml => "application/yaml",
        _ => "application/json",
    };
    Ok(respond::respond(200, content_type, respond::full(bytes)))
}

/// Our groups, then those of other servers.
fn groups(server: &ApiServer, kinds: &[Arc<Kind>]) -> Vec<discovery::Group> {
    let mut groups = discovery::groups(kinds.iter().map(|k| &**k));
    for remote in server.aggregation.remotes() {
        match groups.iter_mut().find(|g| g.name == remote.group) {
            Some(group) if !group.versions.contains(&remote.version) => group.versions.push(remote.version.clone()),
            Some(_) => {}
            None => {
                let versions = vec![remote.version.clone()];
                groups.push(discovery::Group { name: remote.group.clone(), versions });
            }
        }
    }
    groups
}

/// The entries of the aggregated document for the core group, or for all others.
fn aggregated_groups(kinds: &[Arc<Kind>], core: bool) -> Vec<Value> {
    let of = |group: &str, version: &str| discovery::AggregatedVersion {
        version: version.into(),
        kinds: kinds.iter().map(|k| &**k).filter(|k| k.group == group && k.version == version).collect(),
        stale: false,
    };
    if core {
        vec![discovery::aggregated_group("", &[of("", "v1")])]
    } else {
        discovery::groups(kinds.iter().map(|k| &**k))
            .iter()
            .map(|group| {
                let versions: Vec<_> = group.versions.iter().map(|v| of(&group.name, v)).collect();
                discovery::aggregated_group(&group.name, &versions)
            })
            .collect()
    }
}

/// The paths that are served.
fn root(kinds: &[Arc<Kind>]) -> Response {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(String::from)
    .to_vec();
    for kind in kinds {
        if kind.group.is_empty() {
            paths.push(format!("/api/{}", kind.version));
        } else {
            paths.push(format!("/apis/{}", kind.group));
            paths.push(format!("/apis/{}/{}", kind.group, kind.version));
        }
    }
    paths.sort();
    paths.dedup();
    let mut map = apimachinery::Map::new();
    map.insert("paths", paths.into_iter().map(Value::from).collect::<Vec<_>>());
    respond::respond(200, "application/json", respond::full(codec::json::encode_free(&Value::Map(map))))
}

/// An aggregated document with its entity tag.
fn aggregate(request: &Request, tree: Value) -> Response {
    // Clients that know the aggregated form take JSON too, whatever else they list first.
    let bytes = codec::json::encode_free(&tree);
    let hash = respond::fingerprint(&bytes);
    respond::tagged(&request.parts.headers, AGGREGATED, bytes, hash)
}
