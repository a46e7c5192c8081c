//! Short forms of the requests that cases make.

use std::path::Path;
use std::time::Duration;

use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{self, ContainerState};
use tonic::Status;
use tonic::transport::Channel;

use crate::lab::{IMAGE, PATIENCE};

/// A client for pods and containers.
pub type Client = RuntimeServiceClient<Channel>;

/// What a pod is made from; its logs go into a folder of its name.
pub fn pod(folder: &Path, name: &str, attempt: u32) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "test".to_owned(),
            attempt,
        }),
        hostname: name.to_owned(),
        log_directory: folder.join("logs").join(name).display().to_string(),
        labels: [("name".to_owned(), name.to_owned())].into(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..v1::PodSandboxConfig::default()
    }
}

/// What a container is made from that runs a script of the shell.
pub fn container(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: IMAGE.to_owned(), ..v1::ImageSpec::default() }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..v1::ContainerConfig::default()
    }
}

/// Makes a pod.
pub async fn run_pod(client: &mut Client, config: v1::PodSandboxConfig) -> Result<String, Status> {
    let request = v1::RunPodSandboxRequest { config: Some(config), ..v1::RunPodSandboxRequest::default() };
    Ok(client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
}

/// Makes and starts a container.
pub async fn start(client: &mut Client, pod: &str, config: v1::ContainerConfig) -> Result<String, Status> {
    let request =
        v1::CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(config), sandbox_config: None };
    let container_id = client.create_container(request).await?.into_inner().container_id;
    client.start_container(v1::StartContainerRequest { container_id: container_id.clone() }).await?;
    Ok(container_id)
}

/// A container's status.
pub async fn status(client: &mut Client, id: &str) -> Result<v1::ContainerStatus, Status> {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    Ok(client.container_status(request).await?.into_inner().status.unwrap_or_default())
}

/// Waits for a container's end.
pub async fn ended(client: &mut Client, id: &str) -> Result<v1::ContainerStatus, Status> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = status(client, id).await?;
        if status.state == ContainerState::ContainerExited as i32 {
            return Ok(status);
        }
        assert!(tokio::time::Instant::now() < deadline, "container {id} does not end: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a script of the shell in a container; gives its exit code and what it said.
pub async fn exec(client: &mut Client, id: &str, script: &str) -> Result<(i32, String), Status> {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let timeout = PATIENCE.as_secs().try_into().unwrap_or(i64::MAX);
    let done = client.exec_sync(v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout }).await?.into_inner();
    Ok((done.exit_code, String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()))
}

/// Stops and removes a pod.
pub async fn remove(client: &mut Client, pod: &str) -> Result<(), Status> {
    client.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() }).await?;
    client.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() }).await?;
    Ok(())
}

/// The pods of a name; all without one.
pub async fn pods(client: &mut Client, name: Option<&str>) -> Result<Vec<v1::PodSandbox>, Status> {
    let labels = name.map(|name| ("name".to_owned(), name.to_owned())).into_iter().collect();
    let filter = v1::PodSandboxFilter { label_selector: labels, ..v1::PodSandboxFilter::default() };
    Ok(client.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?.into_inner().items)
}

/// A container's log, empty while there is none.
pub fn log(folder: &Path, pod: &str, container: &str) -> String {
    std::fs::read_to_string(folder.join("logs").join(pod).join(format!("{container}.log"))).unwrap_or_default()
}

/// Waits until a log says something.
pub async fn logged(folder: &Path, pod: &str, container: &str, text: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !log(folder, pod, container).contains(text) {
        let log = log(folder, pod, container);
        assert!(tokio::time::Instant::now() < deadline, "{text:?} does not come to {log:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
