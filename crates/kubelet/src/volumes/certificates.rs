//! Certificates of pods: the node makes the keys, asks a signer by a PodCertificateRequest, and renews in time.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::certificates::podcertificaterequest::{PodCertificateRequest, PodCertificateRequestSpec};
use api::core::node::Node;
use api::core::pod::Pod;
use api::core::serviceaccount::ServiceAccount;
use api::core::volumes::PodCertificateProjection;
use apimachinery::meta::OwnerReference;
use apimachinery::resource::Resource;
use apimachinery::{Api, Bytes, ObjectMeta, SmolStr};
use client::{Client, Informer, Recorder, Scope};
use parking_lot::Mutex;
use pki::proof::KeyType;

use super::Changed;
use super::alarms::Alarms;
use crate::hash::fnv;
use crate::pod::subject;

/// How long the first look at the node's requests may take.
const FIRST_SIGHT: Duration = Duration::from_secs(5);
/// A request that is not to be seen so long after it was made has been deleted by somebody, in seconds.
const ABANDON: i64 = 600;
/// A renewal is overdue so long after it should have begun, in seconds.
const OVERDUE: i64 = 600;
/// Renewals of many pods are spread over so many seconds.
const SPREAD: u64 = 300;

/// A key and the certificates that go with it, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub key: String,
    pub chain: String,
}

/// Which certificate: the pod's uid, the volume, and the place among its sources.
type Key = (String, String, usize);

/// A request as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    pod: String,
    outcome: Outcome,
}

/// What the signer said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    /// Times in seconds since 1970.
    Issued {
        chain: String,
        refresh: i64,
        end: i64,
    },
    /// Denied or failed, as the condition's type says; for good.
    Refused {
        how: String,
        reason: String,
        message: String,
    },
}

impl Seen {
    fn read(request: &PodCertificateRequest) -> Seen {
        let status = &request.status;
        let decided = status.conditions.iter().find(|c| matches!(c.type_.as_str(), "Issued" | "Denied" | "Failed"));
        let outcome = match decided {
            None => Outcome::Pending,
            Some(issued) if issued.type_ == "Issued" => Outcome::Issued {
                chain: clean(&status.certificate_chain),
                refresh: status.begin_refresh_at.map_or(i64::MAX, |t| t.0),
                end: status.not_after.map_or(i64::MAX, |t| t.0),
            },
            Some(refusal) => Outcome::Refused {
                how: refusal.type_.clone(),
                reason: refusal.reason.clone(),
                message: refusal.message.clone(),
            },
        };
        Seen { pod: request.spec.pod_uid.clone(), outcome }
    }
}

/// A request that was made and not answered yet.
#[derive(Clone, Debug)]
struct Asked {
    key: String,
    namespace: String,
    name: String,
    /// Seconds since 1970.
    at: i64,
}

/// A certificate that pods have.
#[derive(Clone, Debug)]
struct Held {
    bundle: Bundle,
    refresh: i64,
    end: i64,
    told_overdue: bool,
    told_expired: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    held: Option<Held>,
    asked: Option<Asked>,
    refused: Option<String>,
}

/// The certificates in use.
pub struct Certificates {
    client: Client,
    node: SmolStr,
    recorder: Recorder,
    changed: Changed,
    alarms: Alarms,
    requests: OnceLock<Informer<Seen>>,
    known: Mutex<HashMap<Key, State>>,
}

impl Certificates {
    pub fn new(client: Client, node: SmolStr, recorder: Recorder, changed: Changed) -> Certificates {
        Certificates {
            client,
            node,
            recorder,
            alarms: Alarms::new(changed.clone()),
            changed,
            requests: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// The node's requests; they are followed from the first pod on that needs a certificate.
    async fn requests(&self) -> Result<&Informer<Seen>, String> {
        let requests = self.requests.get_or_init(|| {
            let scope = Scope { field_selector: format!("spec.nodeName={}", self.node), ..Scope::default() };
            let requests = Informer::start(&self.client, PodCertificateRequest::resource(), scope, |tree| {
                PodCertificateRequest::from_value(tree).ok().map(|request| Seen::read(&request))
            });
            let changed = self.changed.clone();
            requests.on_change(move |change| {
                if change.old != change.new
                    && let Some(seen) = change.new.or(change.old)
                {
                    changed(&seen.pod);
                }
            });
            requests
        });
        let synced = tokio::time::timeout(FIRST_SIGHT, requests.synced()).await;
        synced.map_err(|_| "failed to sync podcertificaterequest cache: timed out waiting for the condition")?;
        Ok(requests)
    }

    /// The certificate of a source of a projected volume; asks for it where there is none, and for the next where it
    /// is time. Fails as long as the signer has not answered. Calls for one pod must not overlap.
    pub async fn get(
        &self,
        pod: &Arc<Pod>,
        volume: &str,
        index: usize,
        wanted: &PodCertificateProjection,
    ) -> Result<Bundle, String> {
        let requests = self.requests().await?;
        let uid = &pod.metadata.uid;
        let place = (uid.clone(), volume.to_owned(), index);
        let now = crate::seconds();
        let (ask, answer) = {
            let mut known = self.known.lock();
            let state = known.entry(place.clone()).or_default();
            let seen = |asked: &Asked| requests.get(&asked.namespace, &asked.name).map(|seen| seen.outcome.clone());
            let spread = (fnv(&[uid.as_bytes()]) % SPREAD) as i64;
            for (reason, message) in settle(state, now, spread, seen) {
                self.recorder.warning(&subject(pod, ""), &reason, message);
            }
            (wants_new(state, now), answer(state))
        };
        if ask {
            let asked = self.ask(pod, wanted).await;
            match asked {
                Ok(asked) => {
                    if let Some(state) = self.known.lock().get_mut(&place) {
                        state.asked = Some(asked);
                    }
                }
                // What is held serves on; the next look tries again.
                Err(error) if answer.is_err() => return Err(error),
                Err(error) => {
                    tracing::warn!(pod = pod.metadata.name, %error, "a certificate could not be renewed yet");
                }
            }
        }
        self.arm(uid, now);
        answer
    }

    async fn ask(&self, pod: &Pod, wanted: &PodCertificateProjection) -> Result<Asked, String> {
        let namespace = &pod.metadata.namespace;
        let sort = KeyType::from_api(&wanted.key_type)
            .ok_or_else(|| format!("keys of type {:?} are not supported by this node", wanted.key_type))?;
        let account_name = &pod.spec.service_account_name;
        let account: ServiceAccount = self
            .client
            .get(namespace, account_name)
            .await
            .map_err(|status| format!("while fetching service account: {status}"))?;
        let node: Node =
            self.client.get("", &self.node).await.map_err(|status| format!("while getting node: {status}"))?;
        let proven = sort.generate().map_err(|error| format!("while generating keypair: {error}"))?;
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..OwnerReference::default()
        };
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                namespace: namespace.clone(),
                generate_name: "req-".into(),
                owner_references: vec![owner],
                ..ObjectMeta::default()
            },
            spec: PodCertificateRequestSpec {
                signer_name: wanted.signer_name.clone(),
                pod_name: pod.metadata.name.clone(),
                pod_uid: pod.metadata.uid.clone(),
                service_account_name: account_name.clone(),
                service_account_uid: account.metadata.uid,
                node_name: self.node.to_string(),
                node_uid: node.metadata.uid,
                max_expiration_seconds: wanted.max_expiration_seconds,
                stub_pkcs10_request: Bytes(proven.request),
                unverified_user_annotations: wanted.user_annotations.clone(),
            },
            ..PodCertificateRequest::default()
        };
        let made = self.client.create(&request).await;
        let made = made.map_err(|status| format!("while creating a PodCertificateRequest: {status}"))?;
        Ok(Asked { key: proven.key_pem, namespace: namespace.clone(), name: made.metadata.name, at: crate::seconds() })
    }

    /// Sets the pod's alarm to the next time at which something is due.
    fn arm(&self, uid: &str, now: i64) {
        let due = |state: &State| -> Vec<i64> {
            let asked = state.asked.as_ref().map(|asked| asked.at + ABANDON);
            let held = state.held.iter().flat_map(|h| [h.refresh, h.refresh.saturating_add(OVERDUE), h.end]);
            held.chain(asked).filter(|at| *at > now).collect()
        };
        let next = self.known.lock().iter().filter(|(key, _)| key.0 == uid).flat_map(|(_, s)| due(s)).min();
        if let Some(next) = next.filter(|next| *next < i64::MAX) {
            self.alarms.set(uid, next);
        }
    }

    /// A pod is gone.
    pub fn forget(&self, uid: &str) {
        self.known.lock().retain(|key, _| key.0 != uid);
        self.alarms.forget(uid);
    }
}

/// Takes over what a signer has answered since; answers with events: reason and message.
fn settle(state: &mut State, now: i64, spread: i64, seen: impl Fn(&Asked) -> Option<Outcome>) -> Vec<(String, String)> {
    let mut events = Vec::new();
    if let Some(asked) = state.asked.clone() {
        match seen(&asked) {
            Some(Outcome::Issued { chain, refresh, end }) => {
                let bundle = Bundle { key: asked.key, chain };
                let refresh = refresh.saturating_add(spread);
                state.held = Some(Held { bundle, refresh, end, told_overdue: false, told_expired: false });
                state.asked = None;
            }
            Some(Outcome::Refused { how, reason, message }) => {
                let what = if how == "Denied" { "was denied" } else { "failed" };
                let place = format!("{}/{}", asked.namespace, asked.name);
                events.push((
                    how.clone(),
                    format!("PodCertificateRequest {place} {what}, reason={reason:?}, message={message:?}"),
                ));
                let how = how.to_lowercase();
                state.refused =
                    Some(format!("PodCertificateRequest was permanently {how}: reason={reason:?} message={message:?}"));
                state.asked = None;
            }
            None if now >= asked.at + ABANDON => state.asked = None,
            Some(Outcome::Pending) | None => {}
        }
    }
    if let Some(held) = &mut state.held {
        if now >= held.refresh.saturating_add(OVERDUE) && !held.told_overdue {
            held.told_overdue = true;
            events.push(("CertificateOverdueForRefresh".into(), "PodCertificate refresh overdue".into()));
        }
        if now >= held.end && !held.told_expired {
            held.told_expired = true;
            events.push(("CertificateExpired".into(), "PodCertificate expired".into()));
        }
    }
    events
}

/// Whether a request is to be made now.
fn wants_new(state: &State, now: i64) -> bool {
    let due = state.held.as_ref().is_none_or(|held| now >= held.refresh);
    due && state.asked.is_none() && state.refused.is_none()
}

fn answer(state: &State) -> Result<Bundle, String> {
    if let Some(refused) = &state.refused {
        return Err(refused.clone());
    }
    let held = state.held.as_ref().map(|held| held.bundle.clone());
    held.ok_or_else(|| "credential bundle is not issued yet".to_owned())
}

/// The certificates of a chain, without what a signer may have put between them.
fn clean(chain: &str) -> String {
    let certs = pki::cert::certs_from_pem(chain).unwrap_or_default();
    certs.iter().map(|cert| pki::cert::to_pem(cert)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked { key: "k".into(), namespace: "n".into(), name: "req-1".into(), at: 1000 }
    }

    #[test]
    fn a_certificate_is_asked_for_held_and_renewed() {
        let mut state = State::default();
        assert!(wants_new(&state, 1000) && answer(&state).is_err());
        state.asked = Some(asked());
        assert!(settle(&mut state, 1001, 0, |_| Some(Outcome::Pending)).is_empty());
        assert!(!wants_new(&state, 1001));
        let issued = |_: &Asked| Some(Outcome::Issued { chain: "c".into(), refresh: 2000, end: 3000 });
        settle(&mut state, 1002, 7, issued);
        assert_eq!(answer(&state), Ok(Bundle { key: "k".into(), chain: "c".into() }));
        assert!(!wants_new(&state, 2006) && wants_new(&state, 2007));
        // While the next is on its way the old one serves, and its end is told once.
        state.asked = Some(Asked { key: "k2".into(), at: 2007, ..asked() });
        let reasons = |state: &mut State, now| {
            settle(state, now, 0, |_| Some(Outcome::Pending)).into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&mut state, 2607), ["CertificateOverdueForRefresh"]);
        assert_eq!(reasons(&mut state, 3000), ["CertificateExpired"]);
        assert!(reasons(&mut state, 3001).is_empty());
        assert_eq!(answer(&state).unwrap().key, "k");
        settle(&mut state, 3002, 0, issued);
        assert_eq!(answer(&state).unwrap().key, "k2");
    }

    #[test]
    fn refusals_last_and_lost_requests_are_made_anew() {
        let mut state = State { asked: Some(asked()), ..State::default() };
        settle(&mut state, 1599, 0, |_| None);
        assert!(!wants_new(&state, 1599));
        settle(&mut state, 1600, 0, |_| None);
        assert!(wants_new(&state, 1600));
        state.asked = Some(asked());
        let refused =
            |_: &Asked| Some(Outcome::Refused { how: "Denied".into(), reason: "R".into(), message: "no".into() });
        let events = settle(&mut state, 1601, 0, refused);
        assert_eq!(events[0].1, "PodCertificateRequest n/req-1 was denied, reason=\"R\", message=\"no\"");
        assert!(!wants_new(&state, 9999));
        let text = answer(&state).unwrap_err();
        assert_eq!(text, "PodCertificateRequest was permanently denied: reason=\"R\" message=\"no\"");
    }
}
