//! Brings a container's image onto the node: pull policies, credentials, growing delays after failures.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use api::core::secret::Secret;
use client::events::Subject;
use client::{Client, Recorder};
use cri::v1;
use parking_lot::Mutex;
use runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use crate::spec::ImageFacts;

/// Pulls at a time.
const PULLS: usize = 4;
/// First and longest delay after a failed pull.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// Why a container has no image: a reason of `state.waiting`, and how long to wait before trying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub reason: &'static str,
    pub message: String,
    pub again: Duration,
}

struct Failure {
    delay: Duration,
    until: Instant,
    message: String,
}

/// The images of a node.
#[derive(Clone)]
pub struct Images {
    client: Client,
    runtime: Runtime,
    recorder: Recorder,
    pulls: Arc<Semaphore>,
    /// By pod and image.
    failures: Arc<Mutex<HashMap<(String, String), Failure>>>,
}

impl Images {
    pub fn new(client: Client, runtime: Runtime, recorder: Recorder) -> Images {
        Images { client, runtime, recorder, pulls: Arc::new(Semaphore::new(PULLS)), failures: Arc::default() }
    }

    /// Forgets what failed for a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().retain(|(pod, _), _| pod != uid);
    }

    /// Makes sure that a container's image is here, and those that it mounts, as their pull policies say.
    pub async fn ensure(&self, pod: &Pod, container: &Container, about: &Subject) -> Result<ImageFacts, Missing> {
        for mount in &container.volume_mounts {
            let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
            let source = volume.and_then(|volume| volume.volume_source.image.as_ref());
            if let Some(source) = source.filter(|source| !source.reference.is_empty()) {
                self.have(pod, &source.reference, &source.pull_policy, about).await?;
            }
        }
        self.have(pod, &container.image, &container.image_pull_policy, about).await
    }

    async fn have(&self, pod: &Pod, image: &str, policy: &str, about: &Subject) -> Result<ImageFacts, Missing> {
        let here = self.find(image).await.map_err(|error| Missing {
            reason: if error.contains("reference") { "InvalidImageName" } else { "ImageInspectError" },
            message: format!("Failed to inspect image {image:?}: {error}"),
            again: FIRST,
        })?;
        match here {
            Some(here) if policy != "Always" => {
                let message =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                self.recorder.normal(about, "Pulled", message);
                return Ok(here);
            }
            None if policy == "Never" => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.recorder.warning(about, "ErrImageNeverPull", message.clone());
                return Err(Missing { reason: "ErrImageNeverPull", message, again: FIRST });
            }
            _ => {}
        }
        self.pull(pod, image, about).await
    }

    /// Whether an image is here.
    pub async fn is_here(&self, image: &str) -> bool {
        self.find(image).await.is_ok_and(|found| found.is_some())
    }

    /// An image that is here.
    async fn find(&self, image: &str) -> Result<Option<ImageFacts>, String> {
        let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
        let answer = self.runtime.image_status(request).await.map_err(|e| e.to_string())?;
        Ok(answer.image.map(|image| ImageFacts {
            reference: image.id,
            uid: image.uid.map(|uid| uid.value),
            username: image.username,
        }))
    }

    async fn pull(&self, pod: &Pod, image: &str, about: &Subject) -> Result<ImageFacts, Missing> {
        let key = (pod.metadata.uid.clone(), image.to_owned());
        let waits = self.failures.lock().get(&key).and_then(|failure| {
            let left = failure.until.checked_duration_since(Instant::now())?;
            Some((left, failure.message.clone()))
        });
        if let Some((left, earlier)) = waits {
            let message = format!("Back-off pulling image {image:?}");
            self.recorder.normal(about, "BackOff", message.clone());
            return Err(Missing {
                reason: "ImagePullBackOff",
                message: format!("{message}: ErrImagePull: {earlier}"),
                again: left,
            });
        }
        let started = Instant::now();
        let permit = self.pulls.acquire().await;
        let begun = Instant::now();
        self.recorder.normal(about, "Pulling", format!("Pulling image {image:?}"));
        let pulled = self.pull_with_secrets(pod, image).await;
        drop(permit);
        let found = match pulled {
            Ok(()) => match self.find(image).await {
                Ok(Some(found)) => Ok(found),
                Ok(None) => Err("it is not there although it was pulled".to_owned()),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                self.failures.lock().remove(&key);
                let message = format!(
                    "Successfully pulled image {image:?} in {:?} ({:?} including waiting). Image size: {} bytes.",
                    rounded(begun.elapsed()),
                    rounded(started.elapsed()),
                    self.size(image).await
                );
                self.recorder.normal(about, "Pulled", message);
                Ok(found)
            }
            Err(error) => {
                let message = format!("Failed to pull image {image:?}: {error}");
                self.recorder.warning(about, "Failed", message.clone());
                self.recorder.warning(about, "Failed", "Error: ErrImagePull");
                let mut failures = self.failures.lock();
                let delay = failures.get(&key).map_or(FIRST, |f| (f.delay * 2).min(LONGEST));
                let until = Instant::now() + delay;
                failures.insert(key, Failure { delay, until, message: message.clone() });
                // The next look, soon after, tells of the waiting.
                Err(Missing { reason: "ErrImagePull", message, again: Duration::from_secs(1) })
            }
        }
    }

    async fn size(&self, image: &str) -> u64 {
        let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
        self.runtime.image_status(request).await.ok().and_then(|a| a.image).map_or(0, |i| i.size)
    }

    /// Tries the credentials of the pod's secrets, one after the other, and none at last.
    async fn pull_with_secrets(&self, pod: &Pod, image: &str) -> Result<(), String> {
        let mut last = None;
        for auth in self.credentials(pod, image).await.into_iter().map(Some).chain([None]) {
            let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
            let request = v1::PullImageRequest { image: Some(spec), auth, sandbox_config: None };
            match self.runtime.pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(error) => last = last.or(Some(error.to_string())),
            }
        }
        Err(last.unwrap_or_default())
    }

    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<v1::AuthConfig> {
        let mut found = Vec::new();
        for reference in &pod.spec.image_pull_secrets {
            let secret: Secret = match self.client.get(&pod.metadata.namespace, &reference.name).await {
                Ok(secret) => secret,
                // As upstream: a secret that is not there is skipped, and the pull says what is missing.
                Err(status) => {
                    tracing::debug!(secret = reference.name, %status, "image pull secret not read");
                    continue;
                }
            };
            let modern = secret.data.get(".dockerconfigjson");
            let text = modern.or_else(|| secret.data.get(".dockercfg")).map(|b| b.0.as_ref()).unwrap_or_default();
            found.extend(logins(text, modern.is_some(), image));
        }
        found
    }
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

/// The host of a reference as registries' logins name it.
fn host_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The logins of a docker configuration that are for an image.
fn logins(text: &[u8], modern: bool, image: &str) -> Vec<v1::AuthConfig> {
    use apimachinery::Value;
    let Ok(tree) = apimachinery::codec::json::parse(text) else { return Vec::new() };
    let entries = if modern { tree.get("auths").cloned().unwrap_or_default() } else { tree };
    let Some(entries) = entries.as_map() else { return Vec::new() };
    let host = host_of(image);
    let matches = |server: &str| {
        let server = server.trim_start_matches("https://").trim_start_matches("http://");
        let (name, path) = server.split_once('/').unwrap_or((server, ""));
        let same = name == host || (host == "docker.io" && matches!(name, "index.docker.io" | "registry-1.docker.io"));
        let path = path.trim_end_matches('/');
        same && (matches!(path, "" | "v1" | "v2") || image.strip_prefix(host).is_some_and(|r| r[1..].starts_with(path)))
    };
    let text = |entry: &Value, key: &str| entry.str_at(&[key]).unwrap_or_default().to_owned();
    let wanted = entries.iter().filter(|(server, _)| matches(server));
    wanted
        .map(|(server, entry)| v1::AuthConfig {
            username: text(entry, "username"),
            password: text(entry, "password"),
            auth: text(entry, "auth"),
            identity_token: text(entry, "identitytoken"),
            server_address: server.to_string(),
            ..Default::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_for_their_registry() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"},
            "registry.example:5000":{"auth":"eA=="},"registry.example:5000/team":{"auth":"eQ=="}}}"#;
        let names = |image: &str| {
            let mut names: Vec<String> = logins(text, true, image).into_iter().map(|l| l.username + &l.auth).collect();
            names.sort();
            names
        };
        assert_eq!(names("busybox"), ["u"]);
        assert_eq!(names("registry.example:5000/other/app:1"), ["eA=="]);
        assert_eq!(names("registry.example:5000/team/app:1"), ["eA==", "eQ=="]);
        assert!(names("elsewhere.example/app").is_empty());
        assert!(logins(b"not json", true, "a").is_empty());
    }
}
