//! Service-account tokens: issued bound to a pod, secret or node, and refused once what they are bound to is gone.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::PatchKind;
use client::backend::{Body, Query};
use client::{Client, Request, Verb};
use engine::{Clock, User};
use pki::jwt::{Bound, Claims, Ref, TokenSigner, TokenVerifier};

/// A token lasts at least this long.
const SHORTEST: i64 = 600;
/// A token lasts at most this long.
const LONGEST: i64 = 1 << 32;
/// Label of a Secret with a token of the older form: the day of its last use.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Label of such a Secret whose token is no longer to be believed.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// What a request that names no time gets.
pub const DEFAULT_SECONDS: i64 = 3600;

/// Issues and verifies the tokens of service accounts.
pub struct Tokens {
    signer: TokenSigner,
    verifier: TokenVerifier,
    /// Audiences that mean this API server.
    audiences: Vec<String>,
    clock: Arc<dyn Clock>,
    /// Looks up what tokens are bound to; set when the API can be asked.
    client: OnceLock<Client>,
}

/// What a token is to be bound to.
pub struct Wanted<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub account_uid: &'a str,
    pub audiences: Vec<String>,
    pub seconds: i64,
    pub pod: Option<Ref>,
    pub secret: Option<Ref>,
    pub node: Option<Ref>,
}

impl Tokens {
    pub fn new(signer: TokenSigner, verifier: TokenVerifier, audiences: Vec<String>, clock: Arc<dyn Clock>) -> Tokens {
        Tokens { signer, verifier, audiences, clock, client: OnceLock::new() }
    }

    /// From now on tokens are checked against the objects that they are bound to.
    pub fn start(&self, client: Client) {
        let _ = self.client.set(client);
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.clock.now().0.max(0) as u64)
    }

    /// Signs a token; answers with it and when it expires, in seconds since 1970.
    pub fn issue(&self, wanted: Wanted<'_>) -> Result<(String, i64), Status> {
        let now = self.clock.now().0;
        let seconds = wanted.seconds.clamp(SHORTEST, LONGEST);
        let audiences = if wanted.audiences.is_empty() { self.audiences.clone() } else { wanted.audiences };
        let claims = Claims {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: self.signer.issuer().to_string(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{}:{}", wanted.namespace, wanted.account),
            kubernetes: Bound {
                namespace: wanted.namespace.into(),
                serviceaccount: Ref { name: wanted.account.into(), uid: wanted.account_uid.into() },
                pod: wanted.pod,
                secret: wanted.secret,
                node: wanted.node,
                warnafter: None,
            },
        };
        let token = self.signer.sign(&claims).map_err(Status::internal)?;
        Ok((token, now + seconds))
    }

    /// The user that a token names. With no audiences given, it must be meant for this server.
    ///
    /// # Errors
    /// Why the token is refused; for the log, never for the client.
    pub async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<User, String> {
        if pki::jwt::issuer(token).as_deref() == Some(pki::jwt::LEGACY_ISSUER) {
            return self.legacy(token, audiences).await;
        }
        let claims = self.verifier.verify(token, self.time()).map_err(|e| e.to_string())?;
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        if !claims.aud.iter().any(|a| wanted.contains(a)) {
            return Err("the token is meant for another audience".into());
        }
        let bound = &claims.kubernetes;
        let client = self.client.get().ok_or("tokens cannot be checked while the server starts")?;
        let account = self.look_up(client, "serviceaccounts", &bound.namespace, &bound.serviceaccount).await?;
        if account.str_at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err("the service account is being deleted".into());
        }
        let mut user =
            crate::authz::service_account_user(&bound.namespace, &bound.serviceaccount.name, &bound.serviceaccount.uid);
        let mut extra = |key: &str, value: &str| {
            user.extra.push((SmolStr::new(format!("authentication.kubernetes.io/{key}")), vec![value.into()]));
        };
        extra("credential-id", &format!("JTI={}", claims.jti));
        if let Some(pod) = &bound.pod {
            self.look_up(client, "pods", &bound.namespace, pod).await?;
            extra("pod-name", &pod.name);
            extra("pod-uid", &pod.uid);
        }
        if let Some(node) = &bound.node {
            extra("node-name", &node.name);
            extra("node-uid", &node.uid);
            if bound.pod.is_none() {
                self.look_up(client, "nodes", "", node).await?;
            }
        }
        if let Some(secret) = &bound.secret {
            self.look_up(client, "secrets", &bound.namespace, secret).await?;
        }
        Ok(user)
    }

    /// The user of a token of the older form, which holds as long as its Secret holds it.
    async fn legacy(&self, token: &str, audiences: &[String]) -> Result<User, String> {
        let claims = self.verifier.verify_legacy(token).map_err(|e| e.to_string())?;
        if !audiences.is_empty() && !audiences.iter().any(|a| self.audiences.contains(a)) {
            return Err("the token is meant for another audience".into());
        }
        let client = self.client.get().ok_or("tokens cannot be checked while the server starts")?;
        let account = Ref { name: claims.account_name.clone(), uid: claims.account_uid.clone() };
        let found = self.look_up(client, "serviceaccounts", &claims.namespace, &account).await?;
        let secret = self.object(client, "secrets", &claims.namespace, &claims.secret_name).await?;
        for object in [&found, &secret] {
            if object.str_at(&["metadata", "deletionTimestamp"]).is_some() {
                return Err("the service account or the secret is being deleted".into());
            }
        }
        let held = secret.str_at(&["data", "token"]).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        if !pki::constant_time_eq(&held, token.as_bytes()) {
            return Err("the secret holds another token".into());
        }
        let label = |name: &str| secret.at(&["metadata", "labels", name]).and_then(Value::as_str);
        if label(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
            return Err("the token in the secret was marked as invalid".into());
        }
        let today = apimachinery::time::rfc3339(self.clock.now().0)[..10].to_owned();
        if label(LAST_USED) != Some(today.as_str()) {
            // For upstream's cleaner, which takes what nobody used for a year. The user is known without it.
            let mut labels = apimachinery::Map::new();
            labels.insert(LAST_USED, today);
            let mut metadata = apimachinery::Map::new();
            metadata.insert("labels", labels);
            let mut patch = apimachinery::Map::new();
            patch.insert("metadata", metadata);
            let body = Body::Patch(PatchKind::Merge, Value::Map(patch));
            let request = request(Verb::Patch, "secrets", &claims.namespace, &claims.secret_name, body);
            if let Err(status) = client.send(request).await {
                tracing::warn!(%status, secret = claims.secret_name, "the last use of a token could not be noted");
            }
        }
        Ok(crate::authz::service_account_user(&claims.namespace, &claims.account_name, &claims.account_uid))
    }

    async fn object(&self, client: &Client, resource: &str, namespace: &str, name: &str) -> Result<Value, String> {
        client.send_tree(request(Verb::Get, resource, namespace, name, Body::None)).await.map_err(|s| s.message)
    }

    /// The object that a token is bound to, with the same uid.
    async fn look_up(&self, client: &Client, resource: &str, namespace: &str, wanted: &Ref) -> Result<Value, String> {
        let object = self.object(client, resource, namespace, &wanted.name).await?;
        if object.str_at(&["metadata", "uid"]) != Some(wanted.uid.as_str()) {
            return Err(format!("{resource} {:?} is another one than the token is bound to", wanted.name));
        }
        Ok(object)
    }

    /// `/openid/v1/jwks`.
    pub fn jwks(&self) -> Bytes {
        self.verifier.jwks().to_string().into()
    }

    /// `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self) -> Bytes {
        let jwks = format!("{}/openid/v1/jwks", self.signer.issuer().trim_end_matches('/'));
        self.verifier.discovery(&jwks).to_string().into()
    }
}

fn request(verb: Verb, resource: &str, namespace: &str, name: &str, body: Body) -> Request {
    Request {
        verb,
        resource: GroupVersionResource::new("", "v1", resource),
        namespace: namespace.into(),
        name: name.into(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body,
    }
}
