//! Service-account tokens: issued bound to a pod, secret or node, and refused once what they are bound to is gone.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use bytes::Bytes;
use client::backend::{Body, Query};
use client::{Client, Request, Verb};
use engine::{Clock, User};
use pki::jwt::{Bound, Claims, Ref, TokenSigner, TokenVerifier};

/// A token lasts at least this long.
const SHORTEST: i64 = 600;
/// A token lasts at most this long.
const LONGEST: i64 = 1 << 32;
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

    /// The object that a token is bound to, with the same uid.
    async fn look_up(&self, client: &Client, resource: &str, namespace: &str, wanted: &Ref) -> Result<Value, String> {
        let request = Request {
            verb: Verb::Get,
            resource: GroupVersionResource::new("", "v1", resource),
            namespace: namespace.into(),
            name: wanted.name.as_str().into(),
            subresource: SmolStr::default(),
            query: Query::default(),
            body: Body::None,
        };
        let object = client.send_tree(request).await.map_err(|s| s.message)?;
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
