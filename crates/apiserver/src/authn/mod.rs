//! Who asks: client certificates, service-account tokens, bootstrap tokens, front proxies; otherwise anonymous.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use apimachinery::{SmolStr, Status};
use engine::{Clock, User};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use pki::{Chain, Usage};
use rustls::pki_types::CertificateDer;

use crate::pipeline::Peer;
use crate::respond::{self, Response};
use crate::server::ApiServer;

pub mod service_account;

/// Anyone who shows nothing.
pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const AUTHENTICATED: &str = "system:authenticated";

/// Knows how to tell who asks.
pub struct Authenticator {
    pub tokens: Arc<service_account::Tokens>,
    /// The authorities that sign users' certificates.
    pub client_ca: Chain,
    /// The authorities that sign front proxies' certificates, whose headers are then believed.
    pub front_proxy_ca: Chain,
    pub clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Names the user of a request. Credentials that are shown but wrong are 401; none at all is the anonymous user.
    pub async fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<User, Status> {
        if let Some(user) = self.certificate(headers, peer) {
            return Ok(user);
        }
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(anonymous()) };
        let text = header.to_str().map_err(|_| Status::unauthorized())?;
        let Some((scheme, token)) = text.split_once(' ') else { return Err(Status::unauthorized()) };
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(Status::unauthorized());
        }
        let mut user = self.tokens.authenticate(token, &[]).await.map_err(|why| {
            tracing::debug!(%why, "a bearer token was refused");
            Status::unauthorized()
        })?;
        if !user.groups.iter().any(|g| g == AUTHENTICATED) {
            user.groups.push(SmolStr::new_static(AUTHENTICATED));
        }
        Ok(user)
    }

    /// The user of a client certificate: its common name, with its organizations as groups.
    fn certificate(&self, headers: &HeaderMap, peer: &Peer) -> Option<User> {
        if peer.certificates.is_empty() {
            return None;
        }
        match self.prove(peer) {
            Proven::User(user) => Some(user),
            Proven::FrontProxy => {
                let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
                let shown = headers.get_all("x-remote-group").iter().filter_map(|v| v.to_str().ok());
                let mut groups: Vec<SmolStr> = shown.map(SmolStr::new).collect();
                groups.push(SmolStr::new_static(AUTHENTICATED));
                text("x-remote-user").map(|name| User {
                    name: name.into(),
                    uid: text("x-remote-uid").unwrap_or_default().into(),
                    groups,
                    extra: Vec::new(),
                })
            }
            Proven::Nobody => None,
        }
    }

    /// What the peer's certificates prove. Signatures are verified once a connection, and again every minute.
    fn prove(&self, peer: &Peer) -> Proven {
        let now = self.clock.now().0;
        let mut proof = peer.proof.lock();
        if let Some(proof) = proof.as_ref()
            && proof.valid.contains(&now)
        {
            return proof.proven.clone();
        }
        let made = self.verify(peer, now);
        let proven = made.proven.clone();
        *proof = Some(made);
        proven
    }

    fn verify(&self, peer: &Peer, now: i64) -> Proof {
        let presented: Vec<CertificateDer<'_>> =
            peer.certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let time = UNIX_EPOCH + Duration::from_secs(now.max(0) as u64);
        let valid = |not_after: i64| now..not_after.min(now + BELIEVED);
        if let Ok(identity) = self.client_ca.verify(&presented, Usage::Client, time) {
            let mut groups: Vec<SmolStr> = identity.organizations.iter().map(SmolStr::new).collect();
            groups.push(SmolStr::new_static(AUTHENTICATED));
            let credential = format!("X509SHA256={}", identity.fingerprint);
            let user = User {
                name: identity.common_name.into(),
                uid: identity.uids.first().map(SmolStr::new).unwrap_or_default(),
                groups,
                extra: vec![("authentication.kubernetes.io/credential-id".into(), vec![credential.into()])],
            };
            return Proof { proven: Proven::User(user), valid: valid(identity.not_after) };
        }
        match self.front_proxy_ca.verify(&presented, Usage::Client, time) {
            Ok(identity) => Proof { proven: Proven::FrontProxy, valid: valid(identity.not_after) },
            Err(_) => Proof { proven: Proven::Nobody, valid: valid(i64::MAX) },
        }
    }
}

/// Seconds for which a verified certificate is believed: authorities may be replaced meanwhile.
const BELIEVED: i64 = 60;

/// What certificates prove.
#[derive(Clone, Debug)]
enum Proven {
    User(User),
    /// Its headers name the user.
    FrontProxy,
    Nobody,
}

/// What a connection's certificates have proved, and when that holds, in seconds since 1970.
#[derive(Debug)]
pub struct Proof {
    proven: Proven,
    valid: std::ops::Range<i64>,
}

pub fn anonymous() -> User {
    User { name: ANONYMOUS.into(), groups: vec![SmolStr::new_static(UNAUTHENTICATED)], ..User::default() }
}

/// The OpenID discovery documents by which others verify service-account tokens.
pub fn discovery(server: &ApiServer, path: &str) -> Result<Response, Status> {
    let tokens = &server.authenticator.tokens;
    if path.trim_end_matches('/') == "/openid/v1/jwks" {
        return Ok(respond::respond(200, "application/jwk-set+json", respond::full(tokens.jwks())));
    }
    Ok(respond::respond(200, "application/json", respond::full(tokens.openid_configuration())))
}
