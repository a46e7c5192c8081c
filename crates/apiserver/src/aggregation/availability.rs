//! Whether the server behind an APIService answers, kept in its `Available` condition.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{SmolStr, Status, Value, codec};
use client::Outcome;
use engine::{Cx, Target, User, WriteOptions};

use super::{GROUP, Remote, forward};
use crate::server::ApiServer;
use crate::tree::{list_mut, set, text, tree};
use serde_json::json;

/// How long a server may take to list its resources.
const LIMIT: Duration = Duration::from_secs(5);
/// A list of resources is not larger than this.
const MOST: usize = 4 * 1024 * 1024;
/// The server is not part of our API, so it is looked at again and again: soon while it does not answer.
const AGAIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(2);

/// The verdict: status, reason, message.
type Verdict = (bool, &'static str, String);

pub(super) async fn check(server: &Arc<ApiServer>, name: &SmolStr) -> Result<Outcome, Status> {
    let Some(remote) = server.aggregation.remote(name) else { return Ok(Outcome::Done) };
    let user = User {
        name: SmolStr::new_static("system:kube-aggregator"),
        groups: vec![SmolStr::new_static(crate::authz::MASTERS)],
        ..User::default()
    };
    let cx = Cx::new(Arc::new(user));
    let (verdict, resources) = match ask(server, &cx, &remote).await {
        Ok(resources) => ((true, "Passed", "all checks passed".to_string()), Some(resources)),
        Err((reason, why)) => ((false, reason, why), None),
    };
    let available = verdict.0;
    server.aggregation.remember(&remote, resources);
    write(server, &cx, name, &verdict).await?;
    Ok(Outcome::After(if available { AGAIN } else { SOON }))
}

async fn ask(server: &ApiServer, cx: &Cx, remote: &Remote) -> Result<Value, (&'static str, String)> {
    let service = format!("service/{} in {:?}", remote.service, remote.namespace);
    let client = server.aggregation.reach(server, cx, remote).await.map_err(|status| match status.code {
        404 => ("ServiceNotFound", format!("{service} is not present")),
        _ => ("MissingEndpoints", format!("endpoints for {service} have no addresses: {}", status.message)),
    })?;
    let url = format!("https://{}:{}/apis/{}/{}", remote.host(), remote.port, remote.group, remote.version);
    let failed = |why: String| ("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"));
    let mut request = http::Request::get(&url).body(transport::body::empty()).map_err(|e| failed(e.to_string()))?;
    forward::identify(request.headers_mut(), &cx.user).map_err(|s| failed(s.message))?;
    let answer = client.fetch(LIMIT, MOST, request).await.map_err(|e| failed(e.to_string()))?;
    if !answer.status().is_success() {
        return Err(failed(format!("bad status from {url}: {}", answer.status().as_u16())));
    }
    codec::json::parse(answer.body()).map_err(|e| failed(e.to_string()))
}

/// Sets the condition where it differs.
pub(super) async fn write(
    server: &ApiServer,
    cx: &Cx,
    name: &str,
    (available, reason, message): &Verdict,
) -> Result<(), Status> {
    let kind = server.engine.catalog().kind(GROUP, "v1", "apiservices");
    let kind = kind.ok_or_else(|| Status::internal("APIServices are not served"))?;
    let target = Target { kind, namespace: "".into(), name: name.into(), subresource: "status".into() };
    let status = if *available { "True" } else { "False" };
    let now = apimachinery::time::rfc3339(server.now());
    let change = |object: &mut Value| {
        let Some(conditions) = list_mut(object, &["status", "conditions"]) else { return Ok(()) };
        let mut new = tree(json!({"type": "Available", "status": status, "reason": reason, "message": message}));
        match conditions.iter_mut().find(|c| text(c, &["type"]) == "Available") {
            Some(old) => {
                let since = match text(old, &["status"]) == status {
                    true => text(old, &["lastTransitionTime"]).to_string(),
                    false => now.clone(),
                };
                set(&mut new, &["lastTransitionTime"], since);
                *old = new;
            }
            None => {
                set(&mut new, &["lastTransitionTime"], now.as_str());
                conditions.push(new);
            }
        }
        Ok(())
    };
    match server.engine.edit(cx, &target, &WriteOptions::default(), &change).await {
        Ok(_) => Ok(()),
        // It was deleted meanwhile.
        Err(status) if status.is_not_found() => Ok(()),
        Err(status) => Err(status),
    }
}
