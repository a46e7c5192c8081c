//! Service-account tokens: JSON web tokens signed with ES256, with the claims upstream puts in bound tokens.

use crate::key::{PrivateKey, PublicKey};
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::SystemTime;

/// How far clocks may differ, as upstream allows.
const LEEWAY: i64 = 60;

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Claims of a service-account token, in the order upstream writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who may be shown the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Expires, seconds since 1970.
    #[serde(default)]
    pub exp: i64,
    /// Issued at, seconds since 1970.
    #[serde(default)]
    pub iat: i64,
    /// Issuer.
    #[serde(default)]
    pub iss: String,
    /// Unique id of this token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What the token is bound to.
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: Bound,
    /// Not before, seconds since 1970.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(default)]
    pub sub: String,
}

/// The objects a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of the service account.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Node of the pod, or the node it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    /// Pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    /// Secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    /// The service account.
    #[serde(default)]
    pub serviceaccount: Ref,
    /// After this second its use is warned about, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// The issuer of tokens of the older form, which Secrets hold that upstream's controller filled.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Claims of a token of the older form: it has no end of its own, and holds as long as its Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LegacyClaims {
    iss: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
    /// Namespace of the Secret and the service account.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret that holds the token.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret_name: String,
    /// Name of the service account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account_name: String,
    /// UID of the service account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
}

/// An object by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
}

/// The audience claim may be one string.
fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(d)? {
        Either::One(s) => vec![s],
        Either::Many(v) => v,
    })
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Vec<String>>,
}

/// Signs tokens in the name of an issuer.
#[derive(Clone, Debug)]
pub struct TokenSigner {
    issuer: String,
    header: String,
    key: PrivateKey,
}

impl TokenSigner {
    /// Signs with that key.
    pub fn new(issuer: &str, key: PrivateKey) -> Self {
        let header = Header { alg: "ES256".into(), kid: key.public().id(), crit: None };
        let header = B64.encode(serde_json::to_vec(&header).unwrap_or_default());
        Self { issuer: issuer.to_owned(), header, key }
    }

    /// The issuer put in every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs the claims; `iss` is set to this signer's.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let claims = Claims { iss: self.issuer.clone(), ..claims.clone() };
        let body = serde_json::to_vec(&claims).map_err(|_| Error::Token("claims cannot be encoded"))?;
        let mut token = format!("{}.{}", self.header, B64.encode(body));
        let signature = self.key.sign_fixed(token.as_bytes())?;
        token.push('.');
        B64.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// Who a token claims to be of; nothing is verified.
pub fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(body), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let body = B64.decode(body).ok().filter(|_| token.len() <= MAX_TOKEN)?;
    serde_json::from_slice::<Issuer>(&body).ok().map(|claims| claims.iss)
}

/// Verifies tokens of known issuers by any of several keys.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    issuers: Vec<String>,
    keys: Vec<(String, PublicKey)>,
}

impl TokenVerifier {
    /// Accepts tokens of these issuers signed by one of these keys.
    pub fn new(issuers: Vec<String>, keys: Vec<PublicKey>) -> Self {
        Self { issuers, keys: keys.into_iter().map(|k| (k.id(), k)).collect() }
    }

    /// Whether the token claims to be of one of our issuers; nothing is verified, so that others may be asked if not.
    pub fn is_ours(&self, token: &str) -> bool {
        issuer(token).is_some_and(|issuer| self.issuers.contains(&issuer))
    }

    /// Checks signature, issuer and time. Audience and the objects it is bound to are the caller's to check.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims> {
        let claims: Claims =
            serde_json::from_slice(&self.signed(token)?).map_err(|_| Error::Token("claims are not understood"))?;
        if !self.issuers.contains(&claims.iss) {
            return Err(Error::Token("issued by someone else"));
        }
        let now = crate::unix(now) as i64;
        if claims.exp.saturating_add(LEEWAY) <= now {
            return Err(Error::TokenExpired);
        }
        if claims.nbf.saturating_sub(LEEWAY) > now || claims.iat.saturating_sub(LEEWAY) > now {
            return Err(Error::Token("not valid yet"));
        }
        Ok(claims)
    }

    /// Checks signature and issuer of a token of the older form. That its Secret still holds it is the caller's to check.
    pub fn verify_legacy(&self, token: &str) -> Result<LegacyClaims> {
        let claims: LegacyClaims =
            serde_json::from_slice(&self.signed(token)?).map_err(|_| Error::Token("claims are not understood"))?;
        if claims.iss != LEGACY_ISSUER {
            return Err(Error::Token("issued by someone else"));
        }
        if claims.sub != format!("system:serviceaccount:{}:{}", claims.namespace, claims.account_name) {
            return Err(Error::Token("the subject is not the service account"));
        }
        Ok(claims)
    }

    /// The claims of a token that one of the keys has signed.
    fn signed(&self, token: &str) -> Result<Vec<u8>> {
        if token.len() > MAX_TOKEN {
            return Err(Error::Token("longer than 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Error::Token("not a JSON web token"))?;
        let (header, body) = signed.split_once('.').ok_or(Error::Token("not a JSON web token"))?;
        let decode = |s: &str| B64.decode(s).map_err(|_| Error::Token("not base64url"));
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Error::Token("header is not understood"))?;
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(Error::Token("signed with an algorithm that is not accepted"));
        }
        let signature = decode(signature)?;
        let named = self.keys.iter().any(|(id, _)| *id == header.kid);
        let candidates = self.keys.iter().filter(|(id, _)| !named || *id == header.kid);
        if !candidates.into_iter().any(|(_, key)| key.verify_fixed(signed.as_bytes(), &signature)) {
            return Err(Error::Token("signature does not verify"));
        }
        decode(body)
    }

    /// The document served at `/openid/v1/jwks`.
    pub fn jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|(id, key)| {
                let (x, y) = key.coordinates();
                serde_json::json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                    "x": B64.encode(x), "y": B64.encode(y),
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }

    /// The document served at `/.well-known/openid-configuration`.
    pub fn discovery(&self, jwks_uri: &str) -> serde_json::Value {
        serde_json::json!({
            "issuer": self.issuers.first().map(String::as_str).unwrap_or_default(),
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claims() -> Claims {
        Claims {
            aud: vec![ISSUER.into()],
            exp: 5000,
            iat: 1000,
            nbf: 1000,
            jti: "id".into(),
            sub: "system:serviceaccount:ns:sa".into(),
            kubernetes: Bound {
                namespace: "ns".into(),
                serviceaccount: Ref { name: "sa".into(), uid: "u".into() },
                pod: Some(Ref { name: "p".into(), uid: "v".into() }),
                warnafter: Some(4000),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn signed_tokens_verify_with_any_of_several_keys() {
        let (old, new) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let verifier = TokenVerifier::new(vec![ISSUER.into()], vec![new.public(), old.public()]);
        for key in [old, new] {
            let token = TokenSigner::new(ISSUER, key).sign(&claims()).unwrap();
            assert!(verifier.is_ours(&token));
            let got = verifier.verify(&token, at(2000)).unwrap();
            assert_eq!(got, Claims { iss: ISSUER.into(), ..claims() });
        }
    }

    #[test]
    fn claims_have_upstreams_names_and_order() {
        let key = PrivateKey::generate().unwrap();
        let token = TokenSigner::new("i", key).sign(&claims()).unwrap();
        let body = B64.decode(token.split('.').nth(1).unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"aud":["https://kubernetes.default.svc.cluster.local"],"exp":5000,"iat":1000,"iss":"i","jti":"id","#,
                r#""kubernetes.io":{"namespace":"ns","pod":{"name":"p","uid":"v"},"#,
                r#""serviceaccount":{"name":"sa","uid":"u"},"warnafter":4000},"nbf":1000,"sub":"system:serviceaccount:ns:sa"}"#
            )
        );
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = PrivateKey::generate().unwrap();
        let verifier = TokenVerifier::new(vec![ISSUER.into()], vec![key.public()]);
        let token = TokenSigner::new(ISSUER, key).sign(&claims()).unwrap();
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(verifier.verify(&forged, at(2000)).is_err(), "character {i}");
        }
    }

    #[test]
    fn other_algorithms_issuers_keys_and_times_are_refused() {
        let key = PrivateKey::generate().unwrap();
        let verifier = TokenVerifier::new(vec![ISSUER.into()], vec![key.public()]);
        let token = TokenSigner::new(ISSUER, key.clone()).sign(&claims()).unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"ES256","crit":["b64"]}"#, "[]"] {
            let forged = format!("{}.{rest}", B64.encode(header));
            assert!(matches!(verifier.verify(&forged, at(2000)), Err(Error::Token(_))));
        }
        let foreign = TokenSigner::new("else", key.clone()).sign(&claims()).unwrap();
        assert!(verifier.verify(&foreign, at(2000)).is_err() && !verifier.is_ours(&foreign));
        let unknown = TokenSigner::new(ISSUER, PrivateKey::generate().unwrap()).sign(&claims()).unwrap();
        assert!(verifier.verify(&unknown, at(2000)).is_err());
        assert!(verifier.verify(&token, at(5059)).is_ok());
        assert!(matches!(verifier.verify(&token, at(5060)), Err(Error::TokenExpired)));
        assert!(verifier.verify(&token, at(939)).is_err());
        for junk in ["", ".", "..", "a.b.c", "....", &"x".repeat(20_000)] {
            assert!(verifier.verify(junk, at(2000)).is_err() && !verifier.is_ours(junk));
        }
    }

    #[test]
    fn tokens_of_the_older_form_are_read() {
        let key = PrivateKey::generate().unwrap();
        let verifier = TokenVerifier::new(vec![ISSUER.into()], vec![key.public()]);
        let header = TokenSigner::new(LEGACY_ISSUER, key.clone()).header;
        let sign = |iss: &str, sub: &str| {
            let claims = serde_json::json!({
                "iss": iss, "sub": sub,
                "kubernetes.io/serviceaccount/namespace": "n", "kubernetes.io/serviceaccount/secret.name": "s",
                "kubernetes.io/serviceaccount/service-account.name": "a",
                "kubernetes.io/serviceaccount/service-account.uid": "u",
            });
            let signed = format!("{header}.{}", B64.encode(claims.to_string()));
            format!("{signed}.{}", B64.encode(key.sign_fixed(signed.as_bytes()).unwrap()))
        };
        let token = sign(LEGACY_ISSUER, "system:serviceaccount:n:a");
        assert_eq!(issuer(&token).as_deref(), Some(LEGACY_ISSUER));
        let claims = verifier.verify_legacy(&token).unwrap();
        assert_eq!((claims.secret_name.as_str(), claims.account_uid.as_str()), ("s", "u"));
        assert!(verifier.verify(&token, at(2000)).is_err());
        assert!(verifier.verify_legacy(&sign(ISSUER, "system:serviceaccount:n:a")).is_err());
        assert!(verifier.verify_legacy(&sign(LEGACY_ISSUER, "system:serviceaccount:n:b")).is_err());
        let bound = TokenSigner::new(LEGACY_ISSUER, key.clone()).sign(&super::Claims::default()).unwrap();
        assert!(verifier.verify_legacy(&bound).is_err());
    }

    #[test]
    fn key_set_rebuilds_the_key() {
        let key = PrivateKey::generate().unwrap();
        let verifier = TokenVerifier::new(vec![ISSUER.into()], vec![key.public()]);
        let set = verifier.jwks();
        let part = |n: &str| B64.decode(set["keys"][0][n].as_str().unwrap()).unwrap();
        let (x, y) = (part("x"), part("y"));
        assert_eq!(key.public().coordinates(), (&x[..], &y[..]));
        assert_eq!(set["keys"][0]["kid"], key.public().id());
        assert_eq!(verifier.discovery("https://h/openid/v1/jwks")["issuer"], ISSUER);
    }
}
