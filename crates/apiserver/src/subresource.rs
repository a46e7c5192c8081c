//! Subresources with a behaviour of their own, and the reviews that are never stored.

mod reviews;

use std::sync::Arc;

use apimachinery::{Map, SmolStr, Status, Value};
use engine::{Cx, Target, User, WriteOptions};

use crate::authn::service_account::{DEFAULT_SECONDS, Wanted};
use crate::options;
use crate::pipeline::Request;
use crate::resource;
use crate::respond::{Form, Presenter, Response, View};
use crate::server::ApiServer;

/// A POST to a virtual kind: token and access reviews.
pub async fn review(server: &Arc<ApiServer>, cx: &Cx, request: Request, target: Target) -> Result<Response, Status> {
    let form = Form::negotiate(&request.parts.headers, &request.info, true)?;
    if form.view != View::Whole {
        return Err(Status::new(406, "NotAcceptable", "a review has no metadata and cannot be shown as a table"));
    }
    let options = options::write(&request.info, &request.parts.headers, "CreateOptions")?;
    let kind = target.kind.clone();
    let tree = resource::read_object(cx, request, &kind, options.validation).await?;
    let answer = post(server, cx, &target, tree, &options).await?;
    let presenter = Presenter { engine: &server.engine, kind: &kind, form, now: server.now() };
    presenter.tree(201, answer)
}

/// A request to a declared subresource.
pub async fn handle(server: &Arc<ApiServer>, cx: &Cx, request: Request, target: Target) -> Result<Response, Status> {
    let declared = target.kind.subresources.iter().find(|s| s.name == target.subresource.as_str()).cloned();
    let Some(declared) = declared else { return crate::routes::nowhere(server, &request.info.path) };
    if matches!(declared.action, apimachinery::kind::Action::Connect) {
        return crate::connect::handle(server, cx, request, target).await;
    }
    if request.info.verb != "create" {
        return Err(crate::routes::method_not_allowed());
    }
    let form = Form { view: View::Whole, ..Form::negotiate(&request.parts.headers, &request.info, true)? };
    let options = options::write(&request.info, &request.parts.headers, "CreateOptions")?;
    let Some((group, version, kind)) = declared.body else {
        return Err(Status::internal("the subresource declares no body"));
    };
    let body_kind = server
        .body_kind(&group, &version, &kind)
        .ok_or_else(|| Status::internal(format!("the kind {kind} is not known")))?;
    let tree = resource::read_object(cx, request, &body_kind, options.validation).await?;
    let answer = post(server, cx, &target, tree, &options).await?;
    let is_status = answer.str_at(&["kind"]) == Some("Status");
    if is_status {
        return crate::respond::tree(201, &answer, apimachinery::codec::status_schema(), form);
    }
    let presenter = Presenter { engine: &server.engine, kind: &body_kind, form, now: server.now() };
    presenter.tree(201, answer)
}

/// What a POST to a subresource or a virtual kind answers, for HTTP and in-process callers alike.
pub async fn post(
    server: &Arc<ApiServer>,
    cx: &Cx,
    target: &Target,
    body: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    match (&*target.kind.group, &*target.kind.resource, target.subresource.as_str()) {
        ("", "pods", "binding") if body.str_at(&["metadata", "name"]).unwrap_or_default() != target.name => {
            Err(Status::bad_request("name in URL does not match name in Binding object"))
        }
        ("", "pods", "binding") => bind(server, cx, target, &body, options).await,
        ("", "bindings", "") => {
            let name = body.str_at(&["metadata", "name"]).unwrap_or_default();
            let pods = server
                .engine
                .catalog()
                .kind("", "v1", "pods")
                .ok_or_else(|| Status::internal("pods are not served"))?;
            let target = Target { kind: pods, name: name.into(), subresource: "binding".into(), ..target.clone() };
            bind(server, cx, &target, &body, options).await
        }
        ("", "pods", "eviction") => crate::eviction::evict(server, cx, target, &body, options).await,
        ("", "serviceaccounts", "token") => token(server, cx, target, body).await,
        ("authentication.k8s.io", "tokenreviews", "") => reviews::token_review(server, body).await,
        ("authentication.k8s.io", "selfsubjectreviews", "") => Ok(reviews::self_review(cx, body)),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "") => {
            let user = User::clone(&cx.user);
            let body = reviews::checked(server, cx, target, body)?;
            Ok(reviews::access_review(server, &user, body).await)
        }
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            let body = reviews::checked(server, cx, target, body)?;
            let user = reviews::reviewed_user(&body);
            Ok(reviews::access_review(server, &user, body).await)
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews", "") => Ok(reviews::rules_review(server, cx, body)),
        (_, resource, subresource) => Err(Status::new(
            501,
            "NotImplemented",
            format!("{resource}/{subresource} is not served by this version of Skiff"),
        )),
    }
}

/// Gives a pod its node.
async fn bind(
    server: &ApiServer,
    cx: &Cx,
    target: &Target,
    body: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let node: SmolStr = body.str_at(&["target", "name"]).unwrap_or_default().into();
    if node.is_empty() {
        let mut errors = apimachinery::Errors::new();
        let path = apimachinery::Path::new("target");
        errors.required(&path.child("name"), "");
        let kind = apimachinery::GroupKind { group: "".into(), kind: "Binding".into() };
        return Err(Status::invalid(&kind, &target.name, &errors));
    }
    let uid: SmolStr = body.str_at(&["metadata", "uid"]).unwrap_or_default().into();
    let extra = |key: &str| body.at(&["metadata", key]).and_then(Value::as_map).cloned().unwrap_or_default();
    let (annotations, labels) = (extra("annotations"), extra("labels"));
    let (resource, name) = (target.kind.group_resource(), target.name.clone());
    let now = server.now();
    let change = move |pod: &mut Value| {
        let found = pod.str_at(&["metadata", "uid"]).unwrap_or_default();
        if !uid.is_empty() && uid != found {
            return Err(Status::conflict(
                &resource,
                &name,
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"),
            ));
        }
        if pod.str_at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err(Status::conflict(
                &resource,
                &name,
                format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        let bound = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
        if !bound.is_empty() {
            return Err(Status::conflict(
                &resource,
                &name,
                format!("pod {name} is already assigned to node {bound:?}"),
            ));
        }
        if pod.at(&["spec", "schedulingGates"]).and_then(Value::as_list).is_some_and(|g| !g.is_empty()) {
            return Err(Status::conflict(&resource, &name, format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let map = pod.as_map_mut().ok_or_else(|| Status::internal("a pod is an object"))?;
        if let Some(spec) = map.get_mut("spec").and_then(Value::as_map_mut) {
            spec.insert("nodeName", node.clone());
        }
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_map_mut) {
            for (member, more) in [("annotations", &annotations), ("labels", &labels)] {
                if more.is_empty() {
                    continue;
                }
                let Value::Map(all) = metadata.get_or_insert_with(member, || Value::Map(Map::new())) else { continue };
                for (key, value) in more.iter() {
                    all.insert(key.clone(), value.clone());
                }
            }
        }
        let status = map.get_or_insert_with("status", || Value::Map(Map::new()));
        // It waits for no node any more.
        if let Some(status) = status.as_map_mut() {
            status.remove("nominatedNodeName");
        }
        set_condition(status, "PodScheduled", now);
        Ok(())
    };
    server.engine.edit(cx, target, options, &change).await?;
    Ok(Status { code: 201, ..Status::new(201, "", "") }.to_value())
}

/// Sets a pod condition to true, keeping its transition time when it was true already.
fn set_condition(status: &mut Value, ty: &str, now: i64) {
    let Some(status) = status.as_map_mut() else { return };
    let Value::List(conditions) = status.get_or_insert_with("conditions", || Value::List(Vec::new())) else { return };
    let mut condition = Map::new();
    condition.insert("type", ty);
    condition.insert("status", "True");
    condition.insert("lastProbeTime", Value::Null);
    condition.insert("lastTransitionTime", apimachinery::time::rfc3339(now));
    match conditions.iter_mut().find(|c| c.str_at(&["type"]) == Some(ty)) {
        Some(old) if old.str_at(&["status"]) == Some("True") => {}
        Some(old) => *old = Value::Map(condition),
        None => conditions.push(Value::Map(condition)),
    }
}

/// Issues a token for a service account.
async fn token(server: &ApiServer, cx: &Cx, target: &Target, mut body: Value) -> Result<Value, Status> {
    let kind = apimachinery::GroupKind { group: "authentication.k8s.io".into(), kind: "TokenRequest".into() };
    let metadata = apimachinery::Path::new("metadata");
    for (key, wanted) in [("name", &target.name), ("namespace", &target.namespace)] {
        let said = body.str_at(&["metadata", key]).unwrap_or_default();
        if !said.is_empty() && said != wanted.as_str() {
            let mut errors = apimachinery::Errors::new();
            errors.invalid(&metadata.child(key), said, format!("must match the service account {key} if specified"));
            return Err(Status::invalid(&kind, &target.name, &errors));
        }
    }
    let account = server.engine.get(cx, &Target { subresource: Default::default(), ..target.clone() }).await?.tree()?;
    let spec = body.get("spec").cloned().unwrap_or_default();
    let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
    let mut errors = apimachinery::Errors::new();
    let path = apimachinery::Path::new("spec");
    if seconds < 600 {
        errors.invalid(&path.child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&kind, "", &errors));
    }
    let audiences: Vec<String> = spec
        .get("audiences")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(|a| a.as_str().map(str::to_string))
        .collect();
    let mut wanted = Wanted {
        namespace: &target.namespace,
        account: &target.name,
        account_uid: account.str_at(&["metadata", "uid"]).unwrap_or_default(),
        audiences: audiences.clone(),
        seconds,
        pod: None,
        secret: None,
        node: None,
    };
    if let Some(bound) = spec.get("boundObjectRef").filter(|b| b.is_map()) {
        let name = bound.str_at(&["name"]).unwrap_or_default();
        let resource = match bound.str_at(&["kind"]).unwrap_or_default() {
            "Pod" => "pods",
            "Secret" => "secrets",
            "Node" => "nodes",
            other => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to type {other:?}",
                    target.name
                )));
            }
        };
        let object = get(server, cx, resource, if resource == "nodes" { "" } else { &target.namespace }, name).await?;
        let uid = object.str_at(&["metadata", "uid"]).unwrap_or_default();
        let asked = bound.str_at(&["uid"]).unwrap_or_default();
        if !asked.is_empty() && asked != uid {
            return Err(Status::conflict(
                &apimachinery::GroupResource { group: "".into(), resource: resource.into() },
                name,
                format!(
                    "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        let reference = pki::jwt::Ref { name: name.into(), uid: uid.into() };
        match resource {
            "pods" => {
                if object.str_at(&["spec", "serviceAccountName"]) != Some(target.name.as_str()) {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        target.name
                    )));
                }
                if let Some(node) = object.str_at(&["spec", "nodeName"]).filter(|n| !n.is_empty()) {
                    let uid = match get(server, cx, "nodes", "", node).await {
                        Ok(node) => node.str_at(&["metadata", "uid"]).unwrap_or_default().to_string(),
                        Err(_) => String::new(),
                    };
                    wanted.node = Some(pki::jwt::Ref { name: node.into(), uid });
                }
                wanted.pod = Some(reference);
            }
            "secrets" => wanted.secret = Some(reference),
            _ => wanted.node = Some(reference),
        }
    }
    let (token, expires) = server.authenticator.tokens.issue(wanted)?;
    let mut status = Map::new();
    status.insert("token", token);
    status.insert("expirationTimestamp", apimachinery::time::rfc3339(expires));
    if let Some(map) = body.as_map_mut() {
        if audiences.is_empty()
            && let Some(spec) = map.get_mut("spec").and_then(Value::as_map_mut)
        {
            let ours = server.authenticator.tokens.audiences();
            spec.insert("audiences", ours.iter().map(|a| Value::from(a.as_str())).collect::<Vec<_>>());
        }
        map.insert("status", status);
        let metadata = map.get_or_insert_with("metadata", || Value::Map(Map::new()));
        if let Some(metadata) = metadata.as_map_mut() {
            metadata.insert("name", target.name.clone());
            metadata.insert("namespace", target.namespace.clone());
            metadata.insert("creationTimestamp", apimachinery::time::rfc3339(server.now()));
        }
    }
    Ok(body)
}

async fn get(server: &ApiServer, cx: &Cx, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let kind = server
        .engine
        .catalog()
        .kind("", "v1", resource)
        .ok_or_else(|| Status::internal(format!("{resource} are not served")))?;
    let target = Target { kind, namespace: namespace.into(), name: name.into(), subresource: Default::default() };
    server.engine.get(cx, &target).await?.tree()
}
