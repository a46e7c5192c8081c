//! Service account tokens of pods: asked for once, renewed long before they end.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::serviceaccount::ServiceAccount;
use api::core::volumes::ServiceAccountTokenProjection;
use apimachinery::{Map, Value};
use client::Client;
use parking_lot::Mutex;

use super::Changed;
use super::alarms::Alarms;

/// Without a wish, tokens live an hour.
const LIFE: i64 = 3600;
/// Older ones are renewed, however long they would live (upstream's rule).
const OLDEST: i64 = 24 * 3600;

/// How long after a renewal that failed the next is tried, in seconds.
const AGAIN: i64 = 60;

struct Token {
    text: String,
    /// Seconds since 1970.
    renew: i64,
    end: i64,
}

/// The tokens in use, by pod, audience and life.
pub struct Tokens {
    client: Client,
    alarms: Alarms,
    known: Mutex<HashMap<(String, String, i64), Token>>,
}

impl Tokens {
    pub fn new(client: Client, changed: Changed) -> Tokens {
        Tokens { client, alarms: Alarms::new(changed), known: Mutex::default() }
    }

    /// As whom tokens are asked for.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A token for a pod, which holds for a while yet.
    pub async fn get(&self, pod: &Arc<Pod>, wanted: &ServiceAccountTokenProjection) -> Result<String, String> {
        let uid = &pod.metadata.uid;
        let life = wanted.expiration_seconds.unwrap_or(LIFE);
        let key = (uid.clone(), wanted.audience.clone(), life);
        if let Some(known) = self.known.lock().get(&key).filter(|t| t.renew > crate::seconds()) {
            return Ok(known.text.clone());
        }
        let now = crate::seconds();
        let answer = match self.ask(pod, &wanted.audience, life).await {
            Ok(answer) => answer,
            Err(error) => {
                // The old one serves until its end, and a later renewal may succeed.
                let kept = self.known.lock().get_mut(&key).filter(|t| t.end > now).map(|old| {
                    old.renew = (now + AGAIN).min(old.end);
                    old.text.clone()
                });
                let Some(text) = kept else { return Err(error) };
                tracing::warn!(pod = pod.metadata.name, %error, "a token could not be renewed yet");
                self.arm(uid);
                return Ok(text);
            }
        };
        let text = answer.str_at(&["status", "token"]).unwrap_or_default().to_owned();
        if text.is_empty() {
            return Err("the API gave no token".to_owned());
        }
        let end = answer.str_at(&["status", "expirationTimestamp"]).and_then(apimachinery::time::parse_rfc3339);
        let end = end.map_or(now + life, |(seconds, _)| seconds);
        // At four fifths of its life, or after a day.
        let renew = (now + (end - now) * 4 / 5).min(now + OLDEST);
        self.known.lock().insert(key, Token { text: text.clone(), renew, end });
        self.arm(uid);
        Ok(text)
    }

    async fn ask(&self, pod: &Pod, audience: &str, life: i64) -> Result<Value, String> {
        let mut reference = Map::new();
        reference.insert("apiVersion", "v1");
        reference.insert("kind", "Pod");
        reference.insert("name", pod.metadata.name.as_str());
        reference.insert("uid", pod.metadata.uid.as_str());
        let mut spec = Map::new();
        let audiences: Vec<Value> = if audience.is_empty() { vec![] } else { vec![Value::from(audience)] };
        spec.insert("audiences", audiences);
        spec.insert("expirationSeconds", life);
        spec.insert("boundObjectRef", reference);
        let mut body = Map::new();
        body.insert("apiVersion", "authentication.k8s.io/v1");
        body.insert("kind", "TokenRequest");
        body.insert("spec", spec);
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        let namespace = pod.metadata.namespace.as_str();
        let asked = self.client.create_subresource::<ServiceAccount>(namespace, account, "token", Value::Map(body));
        asked.await.map_err(|status| format!("failed to fetch token: {status}"))
    }

    /// Sets the pod's alarm to its next renewal.
    fn arm(&self, uid: &str) {
        let next = self.known.lock().iter().filter(|(key, _)| key.0 == uid).map(|(_, t)| t.renew).min();
        if let Some(next) = next {
            self.alarms.set(uid, next);
        }
    }

    /// A pod is gone.
    pub fn forget(&self, uid: &str) {
        self.known.lock().retain(|key, _| key.0 != uid);
        self.alarms.forget(uid);
    }
}
