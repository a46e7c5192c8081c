//! Who asks, and whether the API lets them.

use std::collections::HashMap;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Map, SmolStr, Value};
use client::{Body, Client, Query, Request, Verb};
use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long an answer of the API holds (upstream's defaults).
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
const KNOWN: Duration = Duration::from_secs(120);
const MOST: usize = 1024;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Forbidden(String),
    Unavailable(String),
}

pub struct Auth {
    client: Client,
    node: SmolStr,
    tokens: Mutex<HashMap<String, (Option<User>, Instant)>>,
    answers: Mutex<HashMap<(User, &'static str, &'static str), (bool, Instant)>>,
}

/// The user that a client certificate names: common name and organisations of its subject.
pub fn user_of(certificate: &[u8]) -> Option<User> {
    let said = pki::CertInfo::from_der(certificate).ok()?;
    Some(User { name: said.common_name, groups: said.organizations })
}

/// The verb of a method, and the subresource of the node that a path belongs to.
pub fn attributes(method: &Method, path: &str) -> (&'static str, &'static str) {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let subresource = match first {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "pods" | "runningpods" => "pods",
        "healthz" => "healthz",
        "configz" => "configz",
        _ => "proxy",
    };
    (verb, subresource)
}

impl Auth {
    pub fn new(client: Client, node: SmolStr) -> Auth {
        Auth { client, node, tokens: Mutex::default(), answers: Mutex::default() }
    }

    /// Who asks: by certificate, else by token.
    pub async fn who(&self, certified: Option<User>, token: Option<&str>) -> Result<User, Refusal> {
        if let Some(user) = certified {
            return Ok(user);
        }
        let token = token.ok_or(Refusal::Unknown)?;
        let known = self.tokens.lock().get(token).filter(|(_, until)| *until > Instant::now()).map(|(u, _)| u.clone());
        let user = match known {
            Some(user) => user,
            None => {
                let user = self.review(token).await?;
                let mut tokens = self.tokens.lock();
                if tokens.len() >= MOST {
                    tokens.clear();
                }
                tokens.insert(token.to_owned(), (user.clone(), Instant::now() + KNOWN));
                user
            }
        };
        user.ok_or(Refusal::Unknown)
    }

    async fn ask(&self, group: &str, resource: &str, kind: &str, spec: Map) -> Result<Value, Refusal> {
        let mut body = Map::new();
        body.insert("apiVersion", format!("{group}/v1"));
        body.insert("kind", kind);
        body.insert("spec", spec);
        let request = Request {
            verb: Verb::Create,
            resource: GroupVersionResource::new(group, "v1", resource),
            namespace: SmolStr::default(),
            name: SmolStr::default(),
            subresource: SmolStr::default(),
            query: Query::default(),
            body: Body::Object(Value::Map(body)),
        };
        self.client.send_tree(request).await.map_err(|status| Refusal::Unavailable(status.to_string()))
    }

    async fn review(&self, token: &str) -> Result<Option<User>, Refusal> {
        let mut spec = Map::new();
        spec.insert("token", token);
        let answer = self.ask("authentication.k8s.io", "tokenreviews", "TokenReview", spec).await?;
        if answer.at(&["status", "authenticated"]).and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        let groups = answer.at(&["status", "user", "groups"]).and_then(Value::as_list).unwrap_or_default();
        Ok(Some(User {
            name: answer.str_at(&["status", "user", "username"]).unwrap_or_default().to_owned(),
            groups: groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }))
    }

    /// Whether a user may do that with this node.
    pub async fn allow(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<(), Refusal> {
        let key = (user.clone(), verb, subresource);
        let known = self.answers.lock().get(&key).filter(|(_, until)| *until > Instant::now()).map(|(ok, _)| *ok);
        let allowed = match known {
            Some(allowed) => allowed,
            None => {
                let allowed = self.access(user, verb, subresource).await?;
                let until = Instant::now() + if allowed { ALLOWED } else { DENIED };
                let mut answers = self.answers.lock();
                if answers.len() >= MOST {
                    answers.clear();
                }
                answers.insert(key, (allowed, until));
                allowed
            }
        };
        if allowed {
            return Ok(());
        }
        let text =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])", user.name);
        Err(Refusal::Forbidden(text))
    }

    async fn access(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let mut attributes = Map::new();
        attributes.insert("verb", verb);
        attributes.insert("version", "v1");
        attributes.insert("resource", "nodes");
        attributes.insert("subresource", subresource);
        attributes.insert("name", self.node.as_str());
        let mut spec = Map::new();
        spec.insert("user", user.name.as_str());
        spec.insert("groups", user.groups.iter().map(|g| Value::from(g.as_str())).collect::<Vec<_>>());
        spec.insert("resourceAttributes", attributes);
        let answer = self.ask("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", spec).await?;
        Ok(answer.at(&["status", "allowed"]).and_then(Value::as_bool) == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_subresources() {
        assert_eq!(attributes(&Method::GET, "/containerLogs/a/b/c"), ("get", "proxy"));
        assert_eq!(attributes(&Method::POST, "/exec/a/b/c"), ("create", "proxy"));
        assert_eq!(attributes(&Method::GET, "/stats/summary"), ("get", "stats"));
        assert_eq!(attributes(&Method::GET, "/metrics/resource"), ("get", "metrics"));
        assert_eq!(attributes(&Method::GET, "/pods"), ("get", "pods"));
    }

    #[tokio::test]
    async fn strangers_are_refused() {
        let cluster = testkit::FakeBackend::new();
        let auth = Auth::new(cluster.client(), "n".into());
        assert_eq!(auth.who(None, None).await, Err(Refusal::Unknown));
        let user = User { name: "u".into(), groups: vec![] };
        assert_eq!(auth.who(Some(user.clone()), None).await, Ok(user.clone()));
        // The fake cluster answers with what it was asked: nothing is allowed.
        assert!(matches!(auth.allow(&user, "get", "proxy").await, Err(Refusal::Forbidden(_))));
    }
}
