//! Admission of requests that connect: webhooks see their options as the object.

use apimachinery::{Kind, Map, Status, Value};
use engine::cx::Reservations;
use engine::{Attributes, Cx, Operation, Target};

use crate::request::RequestInfo;
use crate::server::ApiServer;

/// The options of a connect request, as the kind of its body has them: read out of the query and the path behind it.
fn options(kind: &str, version: &str, info: &RequestInfo) -> Value {
    let mut tree = Map::new();
    tree.insert("apiVersion", version);
    tree.insert("kind", kind);
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if info.param(flag).is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            tree.insert(flag, true);
        }
    }
    if let Some(container) = info.param("container").filter(|name| !name.is_empty()) {
        tree.insert("container", container);
    }
    let all = |key: &str| info.query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    let command: Vec<Value> = all("command").into_iter().map(Value::from).collect();
    if !command.is_empty() {
        tree.insert("command", command);
    }
    let ports: Vec<Value> = all("ports").iter().filter_map(|port| port.parse::<i64>().ok()).map(Value::from).collect();
    if !ports.is_empty() {
        tree.insert("ports", ports);
    }
    if !info.rest.is_empty() {
        tree.insert("path", info.rest.to_string());
    }
    Value::Map(tree)
}

/// Asks admission whether a request may connect.
pub async fn admit(server: &ApiServer, cx: &Cx, info: &RequestInfo, target: &Target) -> Result<(), Status> {
    let declared = target.kind.subresources.iter().find(|s| s.name == target.subresource.as_str());
    // Those without a body, as logs, only read.
    let Some((_, version, kind)) = declared.and_then(|declared| declared.body.clone()) else { return Ok(()) };
    let mut object = options(&kind, &version, info);
    let admission = server.engine.admission().clone();
    let (none, mut reservations) = (Value::Null, Reservations::default());
    let mut attributes = Attributes {
        cx,
        operation: Operation::Connect,
        kind: &target.kind,
        namespace: &target.namespace,
        name: &target.name,
        subresource: &target.subresource,
        object: &mut object,
        old: None,
        options: &none,
        dry_run: false,
        reservations: &mut reservations,
    };
    admission.mutate(&mut attributes).await?;
    admission.validate(&mut attributes).await
}

/// The kind by which reviews name the options.
pub fn kind_of(a: &Attributes<'_>, kind: &Kind) -> String {
    match (a.operation, a.object.str_at(&["kind"])) {
        (Operation::Connect, Some(options)) => options.to_owned(),
        _ => kind.kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_options() {
        let path = "/api/v1/namespaces/n/pods/p/exec";
        let query = "command=sh&command=-c&stdout=true&stdin=false&container=a";
        let info = RequestInfo::parse(&http::Method::GET, path, Some(query));
        let tree = options("PodExecOptions", "v1", &info);
        let text = String::from_utf8(apimachinery::codec::json::encode_free(&tree).to_vec()).unwrap();
        assert_eq!(
            text.trim_end(),
            r#"{"apiVersion":"v1","command":["sh","-c"],"container":"a","kind":"PodExecOptions","stdout":true}"#
        );
    }
}
