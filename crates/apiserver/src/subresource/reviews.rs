//! Reviews: whose token it is, who the caller is, and what someone may do.

use apimachinery::kind::Write;
use apimachinery::{Map, SmolStr, Status, Value};
use engine::{Cx, Target, User};

use crate::authz::Decision;
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// A question about access by the rules of its kind. Upstream's refusals do not say which kind.
pub(super) fn checked(server: &ApiServer, cx: &Cx, target: &Target, mut body: Value) -> Result<Value, Status> {
    if target.kind.namespaced {
        let metadata = crate::tree::map_mut(&mut body, &["metadata"]);
        match metadata.get("namespace").and_then(Value::as_str).unwrap_or_default() {
            "" => {
                metadata.insert("namespace", target.namespace.clone());
            }
            said if said == target.namespace => {}
            _ => {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        }
    }
    let rules = target.rules(cx, server.clock.now());
    let (mut errors, mut warnings) = (apimachinery::Errors::new(), Vec::new());
    if let Some(write) = target.kind.hooks.write {
        let written = write(&mut body, Write::Create, &rules, &mut errors, &mut warnings);
        written.map_err(|malformed| Status::bad_request(malformed.to_string()))?;
    }
    if errors.is_empty() {
        return Ok(body);
    }
    let kind = apimachinery::GroupKind { group: target.kind.group.as_ref().into(), kind: "".into() };
    Err(Status::invalid(&kind, "", &errors))
}

fn user_tree(user: &User) -> Value {
    let mut map = Map::new();
    map.insert("username", user.name.clone());
    if !user.uid.is_empty() {
        map.insert("uid", user.uid.clone());
    }
    let strings = |list: &[SmolStr]| Value::List(list.iter().cloned().map(Value::String).collect());
    map.insert("groups", strings(&user.groups));
    if !user.extra.is_empty() {
        map.insert("extra", user.extra.iter().map(|(k, v)| (k.clone(), strings(v))).collect::<Map>());
    }
    Value::Map(map)
}

pub(super) async fn token_review(server: &ApiServer, mut body: Value) -> Result<Value, Status> {
    let token = body.str_at(&["spec", "token"]).unwrap_or_default().to_string();
    let audiences: Vec<String> = body
        .at(&["spec", "audiences"])
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(|a| a.as_str().map(str::to_string))
        .collect();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let mut status = Map::new();
    match server.authenticator.tokens.authenticate(&token, &audiences).await {
        Ok(mut user) => {
            user.groups.retain(|g| g != crate::authn::AUTHENTICATED);
            user.groups.push(crate::authn::AUTHENTICATED.into());
            status.insert("authenticated", true);
            status.insert("user", user_tree(&user));
            let shown = if audiences.is_empty() { server.authenticator.tokens.audiences().to_vec() } else { audiences };
            status.insert("audiences", shown.into_iter().map(Value::from).collect::<Vec<_>>());
        }
        Err(why) => {
            status.insert("user", Map::new());
            status.insert("error", format!("[invalid bearer token, {why}]"));
        }
    }
    if let Some(map) = body.as_map_mut() {
        map.insert("status", status);
    }
    Ok(body)
}

pub(super) fn self_review(cx: &Cx, mut body: Value) -> Value {
    let mut status = Map::new();
    status.insert("userInfo", user_tree(&cx.user));
    if let Some(map) = body.as_map_mut() {
        map.insert("status", status);
    }
    body
}

pub(super) fn reviewed_user(body: &Value) -> User {
    let spec = body.get("spec").cloned().unwrap_or_default();
    let strings = |v: Option<&Value>| -> Vec<SmolStr> {
        v.and_then(Value::as_list).unwrap_or_default().iter().filter_map(|g| g.as_str().map(SmolStr::new)).collect()
    };
    User {
        name: spec.str_at(&["user"]).unwrap_or_default().into(),
        uid: spec.str_at(&["uid"]).unwrap_or_default().into(),
        groups: strings(spec.get("groups")),
        extra: spec
            .get("extra")
            .and_then(Value::as_map)
            .map(|m| m.iter().map(|(k, v)| (k.clone(), strings(Some(v)))).collect())
            .unwrap_or_default(),
    }
}

pub(super) async fn access_review(server: &ApiServer, user: &User, mut body: Value) -> Value {
    let mut info = RequestInfo::default();
    let text = |path: &[&str]| SmolStr::new(body.str_at(path).unwrap_or_default());
    if body.at(&["spec", "resourceAttributes"]).is_some_and(Value::is_map) {
        let attribute = |key: &str| text(&["spec", "resourceAttributes", key]);
        info.is_resource = true;
        info.verb = attribute("verb");
        info.group = attribute("group");
        info.version = attribute("version");
        info.namespace = attribute("namespace");
        info.resource = attribute("resource");
        info.subresource = attribute("subresource");
        info.name = attribute("name");
    } else {
        info.path = text(&["spec", "nonResourceAttributes", "path"]).to_string();
        info.verb = text(&["spec", "nonResourceAttributes", "verb"]);
    }
    let mut status = Map::new();
    match server.authorizer.authorize(user, &info).await {
        Decision::Allow => {
            status.insert("allowed", true);
        }
        Decision::Deny(why) => {
            status.insert("allowed", false);
            if !why.is_empty() {
                status.insert("reason", why);
            }
        }
    }
    if let Some(map) = body.as_map_mut() {
        map.insert("status", status);
    }
    body
}

pub(super) fn rules_review(server: &ApiServer, cx: &Cx, mut body: Value) -> Value {
    let namespace = body.str_at(&["spec", "namespace"]).unwrap_or_default().to_string();
    let strings = |list: &[SmolStr]| Value::List(list.iter().cloned().map(Value::String).collect());
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    if cx.user.groups.iter().any(|g| g == crate::authz::MASTERS) {
        let star = || Value::List(vec!["*".into()]);
        resources.push(Value::Map(
            [("verbs", star()), ("apiGroups", star()), ("resources", star())]
                .map(|(k, v)| (k.into(), v))
                .into_iter()
                .collect(),
        ));
        urls.push(Value::Map(
            [("verbs", star()), ("nonResourceURLs", star())].map(|(k, v)| (k.into(), v)).into_iter().collect(),
        ));
    }
    for rule in server.authorizer.rules_for(&cx.user, &namespace) {
        let mut map = Map::new();
        map.insert("verbs", strings(&rule.verbs));
        if rule.urls.is_empty() {
            map.insert("apiGroups", strings(&rule.groups));
            map.insert("resources", strings(&rule.resources));
            if !rule.names.is_empty() {
                map.insert("resourceNames", strings(&rule.names));
            }
            resources.push(Value::Map(map));
        } else {
            map.insert("nonResourceURLs", strings(&rule.urls));
            urls.push(Value::Map(map));
        }
    }
    let mut status = Map::new();
    status.insert("resourceRules", resources);
    status.insert("nonResourceRules", urls);
    status.insert("incomplete", false);
    if let Some(map) = body.as_map_mut() {
        map.insert("status", status);
    }
    body
}
