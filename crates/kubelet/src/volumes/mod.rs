//! Puts the files of a pod in place and takes them away.
//!
//! A pod's files are below `<root>/pods/<uid>`, in the places where other kubelets have them:
//! `volumes/kubernetes.io~<plugin>/<name>`, `volume-subpaths`, `containers/<name>/<attempt>`, `etc-hosts`.

mod alarms;
mod bundles;
mod certificates;
mod claims;
mod contents;
mod hosts;
pub mod objects;
mod places;
mod tokens;
mod writer;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::container::{Container, VolumeMount};
use api::core::volumes::Volume;
use client::{Client, Recorder};
use cri::v1;
use parking_lot::Mutex;

use crate::spec::{NodeFacts, env, resources};
use certificates::Certificates;
use objects::Watched;
use tokens::Tokens;

/// Why a pod's files are not in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    Volume { volume: String, why: String },
    #[error("{0}")]
    Environment(#[from] crate::spec::Error),
    #[error("{what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Mount(String),
}

/// Says when a pod's files are to be refreshed.
pub type Changed = Arc<dyn Fn(&str) + Send + Sync>;

/// The files of all pods of a node.
pub struct Volumes {
    client: Client,
    node: Arc<NodeFacts>,
    objects: Watched,
    tokens: Arc<Tokens>,
    certificates: Certificates,
    /// Where volumes are that are not below the pod's folder, by pod and volume.
    outside: Mutex<HashMap<(String, String), PathBuf>>,
    /// One thing at a time is done to a pod's files: its worker mounts them, changes of objects refresh them.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A file of a projected volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub contents: Vec<u8>,
    pub mode: u32,
    /// Whose it is; the daemon's own user without.
    pub owner: Option<u32>,
}

/// Whether no container may write to a volume, whatever it asks for: what comes from the API is not its to change.
fn always_read_only(pod: &Pod, name: &str) -> bool {
    let Some(volume) = pod.spec.volumes.iter().find(|v| v.name == name) else { return false };
    let source = &volume.volume_source;
    contents::plugin(source).is_some() || source.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only)
}

/// A mount of an image, which no container can write to.
fn image_mount(mount: &VolumeMount, reference: &str) -> v1::Mount {
    v1::Mount {
        container_path: mount.mount_path.clone(),
        image: Some(v1::ImageSpec { image: reference.to_owned(), ..Default::default() }),
        image_sub_path: mount.sub_path.clone(),
        readonly: true,
        ..Default::default()
    }
}

impl Volumes {
    /// `changed` is called with a pod's uid when a ConfigMap, a Secret, a token or a certificate of it is to be renewed.
    pub fn new(client: Client, node: Arc<NodeFacts>, recorder: Recorder, changed: Changed) -> Volumes {
        Volumes {
            objects: Watched::new(client.clone(), changed.clone()),
            tokens: Arc::new(Tokens::new(client.clone(), changed.clone())),
            certificates: Certificates::new(client.clone(), node.name.clone(), recorder, changed),
            client,
            node,
            outside: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    fn turn(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.lock().entry(uid.to_owned()).or_default().clone()
    }

    fn pod_folder(&self, uid: &str) -> PathBuf {
        self.node.root.join("pods").join(uid)
    }

    fn folder(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod_folder(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume)
    }

    /// Puts all volumes of a pod in place; what is there already is brought up to date.
    pub async fn mount(&self, pod: &Arc<Pod>, ips: &[IpAddr]) -> Result<(), Error> {
        let turn = self.turn(&pod.metadata.uid);
        let _turn = turn.lock().await;
        self.mount_all(pod, ips).await
    }

    async fn mount_all(&self, pod: &Arc<Pod>, ips: &[IpAddr]) -> Result<(), Error> {
        self.objects.follow(pod).await.map_err(Error::Mount)?;
        let folder = self.pod_folder(&pod.metadata.uid);
        places::make_folder(&folder, 0o750)?;
        for volume in &pod.spec.volumes {
            self.mount_one(pod, volume, ips).await.map_err(|error| match error {
                Error::Volume { .. } => error,
                other => Error::Volume { volume: volume.name.clone(), why: other.to_string() },
            })?;
        }
        Ok(())
    }

    /// Brings files up to date that come from objects of the API.
    pub async fn refresh(&self, pod: &Arc<Pod>) -> Result<(), Error> {
        let turn = self.turn(&pod.metadata.uid);
        let _turn = turn.lock().await;
        // Nothing to refresh before the first mount, or after the last unmount.
        if !self.pod_folder(&pod.metadata.uid).exists() {
            return Ok(());
        }
        let ips: Vec<IpAddr> = pod.status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect();
        self.mount_all(pod, &ips).await
    }

    async fn mount_one(&self, pod: &Arc<Pod>, volume: &Volume, ips: &[IpAddr]) -> Result<(), Error> {
        let uid = &pod.metadata.uid;
        let source = &volume.volume_source;
        let group = pod.spec.security_context.as_ref().and_then(|s| s.fs_group);
        let bad = |why: String| Error::Volume { volume: volume.name.clone(), why };
        if let Some(host) = &source.host_path {
            places::check_host_path(Path::new(&host.path), host.type_.as_deref().unwrap_or_default()).map_err(bad)?;
            self.outside.lock().insert((uid.clone(), volume.name.clone()), PathBuf::from(&host.path));
            return Ok(());
        }
        // The runtime mounts an image itself, out of what was pulled for the container.
        if source.image.is_some() {
            return Ok(());
        }
        if let Some(empty) = &source.empty_dir {
            let folder = self.folder(uid, "empty-dir", &volume.name);
            return places::empty_dir(&folder, empty, group, self.memory_of(pod));
        }
        if let Some(claim) = &source.persistent_volume_claim {
            let path = claims::path(&self.client, &pod.metadata.namespace, &claim.claim_name).await.map_err(bad)?;
            if let Some(group) = group {
                places::give_to_group(&path, group)?;
            }
            self.outside.lock().insert((uid.clone(), volume.name.clone()), path);
            return Ok(());
        }
        let Some((plugin, in_memory)) = contents::plugin(source) else {
            return Err(bad("this kind of volume is not supported by this node".to_owned()));
        };
        let folder = self.folder(uid, plugin, &volume.name);
        places::make_folder(&folder, 0o755)?;
        // What is secret never reaches a disk.
        if in_memory && !linux::mount::is_mount_point(&folder).map_err(|e| Error::Mount(e.to_string()))? {
            linux::mount::tmpfs(&folder, None, 0o755).map_err(|e| Error::Mount(e.to_string()))?;
        }
        let (objects, tokens, certificates) = (&self.objects, &self.tokens, &self.certificates);
        let entries = contents::entries(pod, volume, &self.node, ips, objects, tokens, certificates);
        let entries = entries.await.map_err(bad)?;
        writer::write(&folder, &entries, group).map_err(|source| Error::File {
            what: "cannot write",
            path: folder,
            source,
        })
    }

    /// The environment of a container.
    pub async fn env(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        ips: &[IpAddr],
        services: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, Error> {
        self.objects.follow(pod).await.map_err(Error::Mount)?;
        Ok(env::env(pod, container, &self.node, ips, services, &self.objects)?)
    }

    /// The most memory that a pod can use.
    fn memory_of(&self, pod: &Pod) -> Option<u64> {
        let own = resources::of_pod(pod).memory_limit_in_bytes;
        let node = self.node.allocatable.get("memory").map_or(0, |amount| amount.value());
        [own, node].into_iter().filter_map(|bytes| u64::try_from(bytes).ok().filter(|b| *b > 0)).min()
    }

    /// Where a volume's files are.
    fn place_of(&self, pod: &Pod, name: &str) -> Option<PathBuf> {
        let uid = &pod.metadata.uid;
        if let Some(path) = self.outside.lock().get(&(uid.clone(), name.to_owned())) {
            return Some(path.clone());
        }
        let volume = pod.spec.volumes.iter().find(|v| v.name == name)?;
        let plugin = match volume.volume_source.empty_dir {
            Some(_) => "empty-dir",
            None => contents::plugin(&volume.volume_source)?.0,
        };
        Some(self.folder(uid, plugin, name))
    }

    /// What is mounted into a container: its volumes, `/etc/hosts`, and the file of its last words.
    pub async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        env: &[(String, String)],
        attempt: u32,
        ips: &[IpAddr],
    ) -> Result<Vec<v1::Mount>, Error> {
        let folder = self.pod_folder(&pod.metadata.uid);
        let values: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().enumerate() {
            let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
            if let Some(source) = volume.and_then(|volume| volume.volume_source.image.as_ref()) {
                // Until it names an image, the volume is not there.
                if !source.reference.is_empty() {
                    mounts.push(image_mount(mount, &source.reference));
                }
                continue;
            }
            let place = self
                .place_of(pod, &mount.name)
                .ok_or_else(|| Error::Volume { volume: mount.name.clone(), why: "it is not in place".to_owned() })?;
            let below = if mount.sub_path_expr.is_empty() {
                mount.sub_path.clone()
            } else {
                let below = env::expand(&mount.sub_path_expr, &values);
                if below.contains("$(") {
                    return Err(Error::Mount(format!("missing value for {:?}", mount.sub_path_expr)));
                }
                below
            };
            let host_path = if below.is_empty() {
                place
            } else {
                let target =
                    folder.join("volume-subpaths").join(&mount.name).join(&container.name).join(index.to_string());
                let shown = places::sub_path(&place, Path::new(&below), &target);
                shown.map_err(|error| match error {
                    // Users are not told what is where on the node.
                    Error::File { .. } => {
                        tracing::warn!(pod = pod.metadata.name, container = container.name, %error, "no subPath");
                        let (volume, container) = (&mount.name, &container.name);
                        Error::Mount(format!(
                            "failed to prepare subPath for volumeMount {volume:?} of container {container:?}"
                        ))
                    }
                    other => other,
                })?;
                target
            };
            let propagation = match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
                _ => v1::MountPropagation::PropagationPrivate,
            };
            mounts.push(v1::Mount {
                container_path: mount.mount_path.clone(),
                host_path: host_path.display().to_string(),
                readonly: mount.read_only || always_read_only(pod, &mount.name),
                propagation: propagation.into(),
                recursive_read_only: mount.read_only
                    && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
                ..Default::default()
            });
        }
        let taken = |path: &str| container.volume_mounts.iter().any(|m| m.mount_path == path);
        if !taken("/etc/hosts") {
            let file = folder.join("etc-hosts");
            hosts::write(&file, pod, &self.node, ips)?;
            mounts.push(v1::Mount {
                container_path: "/etc/hosts".into(),
                host_path: file.display().to_string(),
                ..Default::default()
            });
        }
        let last_words = &container.termination_message_path;
        if !last_words.is_empty() && !taken(last_words) {
            let file = folder.join("containers").join(&container.name).join(attempt.to_string());
            places::make_folder(file.parent().unwrap_or(&folder), 0o755)?;
            places::empty_file(&file, 0o666)?;
            mounts.push(v1::Mount {
                container_path: last_words.clone(),
                host_path: file.display().to_string(),
                ..Default::default()
            });
        }
        Ok(mounts)
    }

    /// Takes all files of a pod away.
    pub async fn unmount(&self, uid: &str) -> Result<(), Error> {
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        self.objects.forget(uid);
        self.tokens.forget(uid);
        self.certificates.forget(uid);
        self.outside.lock().retain(|(pod, _), _| pod != uid);
        let folder = self.pod_folder(uid);
        let removed = tokio::task::spawn_blocking(move || places::remove(&folder)).await;
        removed.map_err(|e| Error::Mount(e.to_string()))??;
        self.turns.lock().remove(uid);
        Ok(())
    }

    /// Takes away what is left of pods that are not among those to keep.
    pub async fn orphans(&self, keep: &HashSet<String>) -> Result<(), Error> {
        let folder = self.node.root.join("pods");
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !keep.contains(&uid) {
                self.unmount(&uid).await?;
            }
        }
        Ok(())
    }
}
