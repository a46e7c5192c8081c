//! What the runtime keeps of a pod, as plan and status look at it.

use std::collections::HashMap;
use std::net::IpAddr;

use cri::v1;
use runtime::Runtime;
use smol_str::SmolStr;

/// Labels by which the runtime's objects are found again.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The annotation that says which definition a container was made from.
pub const HASH: &str = "io.kubernetes.container.hash";

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container as the runtime has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub id: String,
    pub name: SmolStr,
    pub sandbox: String,
    /// How often the container was started before this one.
    pub attempt: u32,
    pub state: State,
    /// The image as the pod names it, what it resolved to, and its identity.
    pub image: String,
    pub image_ref: String,
    /// Which definition it was made from.
    pub hash: String,
    /// Nanoseconds since 1970; 0 for what has not happened.
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    /// The termination message.
    pub message: String,
    pub user: Option<v1::LinuxContainerUser>,
}

/// A sandbox as the runtime has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub ready: bool,
    pub attempt: u32,
    pub ips: Vec<IpAddr>,
}

/// Everything that the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub containers: Vec<Seen>,
}

impl Observed {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&Seen> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The container of a name before the newest.
    pub fn previous(&self, name: &str) -> Option<&Seen> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Seen> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    /// Reads what the runtime has of a pod. `messages` keeps termination messages, which are read from disk once.
    pub async fn read(
        runtime: &Runtime,
        uid: &str,
        messages: &mut HashMap<String, String>,
    ) -> runtime::Result<Observed> {
        let labels = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
        let filter = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let listed = runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?.items;
        let mut observed = Observed::default();
        for sandbox in listed {
            let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: false };
            // It may be gone since it was listed.
            let Ok(answer) = runtime.pod_sandbox_status(request).await else { continue };
            let Some(status) = answer.status else { continue };
            observed.sandboxes.push(sandbox_of(status));
            for container in answer.containers_statuses {
                observed.containers.push(seen(container, &sandbox.id, messages).await);
            }
        }
        observed.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.attempt));
        observed.containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.started_at)));
        Ok(observed)
    }
}

fn sandbox_of(status: v1::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    Sandbox {
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ips: all.filter_map(|ip| ip.parse().ok()).collect(),
        id: status.id,
    }
}

async fn seen(status: v1::ContainerStatus, sandbox: &str, messages: &mut HashMap<String, String>) -> Seen {
    let state = match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let message = match state {
        State::Exited => match messages.get(&status.id) {
            Some(message) => message.clone(),
            None => {
                let message = crate::termination::message(&status).await;
                messages.insert(status.id.clone(), message.clone());
                message
            }
        },
        _ => String::new(),
    };
    let metadata = status.metadata.unwrap_or_default();
    Seen {
        name: metadata.name.into(),
        attempt: metadata.attempt,
        sandbox: sandbox.to_owned(),
        state,
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_ref: status.image_ref,
        hash: status.annotations.get(HASH).cloned().unwrap_or_default(),
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message,
        user: status.user.and_then(|u| u.linux),
        id: status.id,
    }
}
