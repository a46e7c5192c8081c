//! Pods and containers, end to end: real processes in real namespaces, on the host's network.

mod images;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::v1;
use runtime::{Config, Error, Runtime};

/// A runtime on a folder of its own. Everything it made is taken away again when a test is done or has failed.
struct Lab {
    folder: tempfile::TempDir,
    runtime: Option<Runtime>,
}

const IMAGE: &str = "example.com/busybox:1";

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("skiff-").tempdir().unwrap();
        let mut lab = Self { folder, runtime: None };
        lab.open().await;
        let archive = lab.folder.path().join("busybox.tar");
        std::fs::write(&archive, images::busybox(IMAGE)).unwrap();
        lab.runtime().import_archive(archive, true).await.unwrap();
        lab
    }

    async fn open(&mut self) {
        let root = self.folder.path().join("r");
        let mut config = Config::new(root, None).unwrap();
        config.program = program();
        config.cgroup_parent = format!("/skiff-test-{}", self.folder.path().file_name().unwrap().to_str().unwrap());
        self.runtime = Some(Runtime::open(config).await.unwrap());
    }

    fn runtime(&self) -> Runtime {
        self.runtime.clone().unwrap()
    }

    fn pod_config(&self, name: &str) -> v1::PodSandboxConfig {
        let node = v1::NamespaceMode::Node as i32;
        let options = v1::NamespaceOption { network: node, pid: 1, ..Default::default() };
        let context = v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "test".to_owned(),
                attempt: 0,
            }),
            log_directory: self.folder.path().join("logs").display().to_string(),
            linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
    }

    async fn pod(&self, name: &str) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(self.pod_config(name)), ..Default::default() };
        self.runtime().run_pod_sandbox(request).await.unwrap().pod_sandbox_id
    }

    fn container_config(&self, name: &str, script: &str) -> v1::ContainerConfig {
        let options = v1::NamespaceOption { network: 2, pid: 1, ..Default::default() };
        let context = v1::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            log_path: format!("{name}.log"),
            linux: Some(v1::LinuxContainerConfig { security_context: Some(context), resources: None }),
            ..Default::default()
        }
    }

    async fn create(&self, pod: &str, config: v1::ContainerConfig) -> runtime::Result<String> {
        let request =
            v1::CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(config), sandbox_config: None };
        Ok(self.runtime().create_container(request).await?.container_id)
    }

    async fn start(&self, pod: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.runtime().start_container(v1::StartContainerRequest { container_id: id.clone() }).await.unwrap();
        id
    }

    async fn run(&self, pod: &str, name: &str, script: &str) -> String {
        self.start(pod, self.container_config(name, script)).await
    }

    async fn status(&self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime().container_status(request).await.unwrap().status.unwrap()
    }

    async fn ended(&self, id: &str) -> v1::ContainerStatus {
        for _ in 0..3000 {
            let status = self.status(id).await;
            if status.state == v1::ContainerState::ContainerExited as i32 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("container {id} does not end: {:?}", self.status(id).await);
    }

    /// Waits until a container has logged a line.
    async fn says(&self, name: &str, line: &str) {
        for _ in 0..3000 {
            if self.log(name).contains(&format!("stdout F {line}\n")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("container {name} does not say {line:?}: {}", self.log(name));
    }

    async fn sh(&self, id: &str, script: &str) -> (i32, String) {
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 20 };
        let done = self.runtime().exec_sync(request).await.unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.exit_code, String::from_utf8(text).unwrap())
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("logs").join(format!("{name}.log"))).unwrap()
    }

    async fn remove(&self, pod: &str) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.runtime().remove_pod_sandbox(request).await.unwrap();
    }

    /// Removes all pods and checks that the host holds nothing of them.
    async fn finish(mut self) {
        let pods = self.runtime().list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap();
        for pod in pods.items {
            self.remove(&pod.id).await;
        }
        let root = self.folder.path().join("r");
        assert_eq!(names(&root.join("pods")), Vec::<String>::new());
        assert_eq!(names(&root.join("containers")), Vec::<String>::new());
        assert_eq!(names(&root.join("run")), Vec::<String>::new());
        self.runtime = None;
        let tag = self.folder.path().file_name().unwrap().to_str().unwrap();
        let groups = names(Path::new("/sys/fs/cgroup"))
            .into_iter()
            .map(|name| format!("/sys/fs/cgroup/{name}/skiff-test-{tag}"));
        let left: Vec<String> = groups.filter(|group| Path::new(group).exists()).collect();
        assert_eq!(left, Vec::<String>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.path().to_str().unwrap()), "mounts stay:\n{mounts}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // After a failed test: kill what still runs, by the groups that are this test's alone, and unmount.
        let tag = self.folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let ours = groups.contains(&format!("skiff-test-{tag}"));
            if let (true, Ok(pid)) = (ours, entry.file_name().to_string_lossy().parse::<i32>()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.contains(&tag)) {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/lab");
    assert!(program.exists(), "build the example first: cargo test builds it");
    program
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_and_ends() {
    let lab = Lab::new().await;
    let pod = lab.pod("first").await;
    let id = lab.run(&pod, "hello", "echo out; echo err >&2; echo $FROM_IMAGE; exit 7").await;
    let status = lab.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at);
    let log = lab.log("hello");
    for line in ["stdout F out", "stderr F err", "stdout F yes"] {
        assert!(log.contains(line), "{line:?} is not in {log:?}");
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_a_container_with_its_limits_of_time() {
    let lab = Lab::new().await;
    let pod = lab.pod("exec").await;
    let mut config = lab.container_config("sleeper", "sleep 1000");
    config.envs = vec![v1::KeyValue { key: "GIVEN".to_owned(), value: b"by the pod".to_vec() }];
    let id = lab.start(&pod, config).await;
    assert_eq!(lab.sh(&id, "echo $GIVEN; echo $HOME").await, (0, "by the pod\n/root\n".to_owned()));
    assert_eq!(lab.sh(&id, "exit 3").await.0, 3);
    let cmd = ["sleep", "100"].map(str::to_owned).to_vec();
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd, timeout: 1 };
    assert!(matches!(lab.runtime().exec_sync(request).await, Err(Error::Timeout(_))));
    let mut left = String::new();
    for _ in 0..600 {
        left = lab.sh(&id, "ps").await.1;
        if !left.contains("sleep 100\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!left.contains("sleep 100\n"), "the command lives on: {left}");
    let (code, size) = lab.sh(&id, "head -c 3000000 /dev/zero | wc -c; head -c 3000000 /dev/zero >&2").await;
    assert_eq!((code, size.len()), (0, 3_000_008));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_capabilities_and_the_root_are_as_asked() {
    let lab = Lab::new().await;
    let pod = lab.pod("users").await;
    let mut config = lab.container_config("alice", "sleep 1000");
    let linux = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    linux.run_as_username = "alice".to_owned();
    linux.supplemental_groups = vec![777];
    linux.readonly_rootfs = true;
    linux.no_new_privs = true;
    linux.seccomp = Some(v1::SecurityProfile::default());
    linux.capabilities = Some(v1::Capability { drop_capabilities: vec!["ALL".to_owned()], ..Default::default() });
    let id = lab.start(&pod, config).await;
    let (_, who) = lab.sh(&id, "id").await;
    assert!(
        who.contains("uid=1000(alice) gid=1000(alice)") && who.contains("50000(extra)") && who.contains("777"),
        "{who}"
    );
    let (_, status) = lab.sh(&id, "cat /proc/self/status").await;
    for line in ["CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    assert_ne!(lab.sh(&id, "touch /file").await.0, 0);
    let user = lab.status(&id).await.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 50000, 777]));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_then() {
    let lab = Lab::new().await;
    let pod = lab.pod("stop").await;
    let polite = lab.run(&pod, "polite", "trap 'exit 5' TERM; echo set; while :; do sleep 0.05; done").await;
    let stubborn = lab.run(&pod, "stubborn", "trap '' TERM; echo set; while :; do sleep 0.05; done").await;
    lab.says("polite", "set").await;
    lab.says("stubborn", "set").await;
    let stop = |id: &str, timeout| v1::StopContainerRequest { container_id: id.to_owned(), timeout };
    lab.runtime().stop_container(stop(&polite, 20)).await.unwrap();
    assert_eq!(lab.status(&polite).await.exit_code, 5);
    lab.runtime().stop_container(stop(&stubborn, 1)).await.unwrap();
    assert_eq!(lab.status(&stubborn).await.exit_code, 137);
    lab.runtime().stop_container(stop("0123456789", 1)).await.unwrap();
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_takes_pods_up_and_learns_what_it_missed() {
    let mut lab = Lab::new().await;
    let pod = lab.pod("adopted").await;
    let lasting = lab.run(&pod, "lasting", "sleep 1000").await;
    let ending = lab.run(&pod, "ending", "sleep 1; echo late; exit 9").await;
    let pid = lab.sh(&lasting, "echo hi").await;
    assert_eq!(pid.0, 0);
    lab.runtime = None;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    lab.open().await;
    assert_eq!(lab.status(&lasting).await.state, v1::ContainerState::ContainerRunning as i32);
    let status = lab.ended(&ending).await;
    assert_eq!(status.exit_code, 9);
    assert!(lab.log("ending").contains("stdout F late"));
    assert_eq!(lab.sh(&lasting, "echo again").await, (0, "again\n".to_owned()));
    let config = lab.container_config("lasting", "true");
    assert!(matches!(lab.create(&pod, config).await, Err(Error::Exists(_))));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_ended_by_force_even_if_no_record_tells_of_it() {
    let mut lab = Lab::new().await;
    let root = lab.folder.path().join("r");
    let other = Lab::new().await;
    let kept = other.pod("kept").await;
    let kept = other.run(&kept, "kept", "sleep 1000").await;
    let pod = lab.pod("forced").await;
    let known = lab.run(&pod, "known", "sleep 1000").await;
    let unknown = lab.run(&pod, "unknown", "sleep 1000 & sleep 1000").await;
    lab.runtime = None;
    std::fs::write(root.join("containers").join(&unknown).join("record.json"), "{").unwrap();
    let found = runtime::remains::Remains::read(&root);
    assert_eq!((found.pods, found.logs.iter().next().cloned()), (1, Some(lab.folder.path().join("logs"))));
    // The shim, and what runs in both containers.
    assert!(found.end().unwrap() >= 4);
    assert_eq!(found.end().unwrap(), 0);
    lab.open().await;
    let request = v1::ContainerStatusRequest { container_id: known, verbose: false };
    let known = lab.runtime().container_status(request).await.unwrap().status.unwrap();
    assert_eq!(known.state, v1::ContainerState::ContainerExited as i32);
    assert_eq!(other.sh(&kept, "echo on").await, (0, "on\n".to_owned()), "others' pods run on");
    other.finish().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_leaves_nothing() {
    let lab = Lab::new().await;
    let pod = lab.pod("bad").await;
    let mut unknown = lab.container_config("image", "true");
    unknown.image = Some(v1::ImageSpec { image: "example.com/none:1".to_owned(), ..Default::default() });
    assert!(matches!(lab.create(&pod, unknown).await, Err(Error::NotFound { .. })));
    let mut user = lab.container_config("user", "true");
    user.linux.as_mut().unwrap().security_context.as_mut().unwrap().run_as_username = "nobody-here".to_owned();
    assert!(matches!(lab.create(&pod, user).await, Err(Error::Invalid(_))));
    let mut program = lab.container_config("program", "true");
    program.command = vec!["/no/such/program".to_owned()];
    let id = lab.create(&pod, program).await.unwrap();
    let error =
        lab.runtime().start_container(v1::StartContainerRequest { container_id: id.clone() }).await.unwrap_err();
    assert!(error.to_string().contains("no such file or directory"), "{error}");
    let status = lab.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert_eq!(names(&lab.folder.path().join("r/containers")), [id]);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_carries_input_output_and_the_exit_code() {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let lab = Lab::new().await;
    let pod = lab.pod("stream").await;
    let id = lab.run(&pod, "sleeper", "sleep 1000").await;
    let cmd = ["sh", "-c", "cat; echo err >&2; exit 4"].map(str::to_owned).to_vec();
    let request = v1::ExecRequest { container_id: id, cmd, tty: false, stdin: true, stdout: true, stderr: true };
    let url = lab.runtime().exec(request).await.unwrap().url;
    let address = url.split('/').nth(2).unwrap().to_owned();
    for attempt in 0..2 {
        let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "v5.channel.k8s.io".parse().unwrap());
        let connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let opened = tokio_tungstenite::client_async(request, connection).await;
        if attempt == 1 {
            assert!(opened.is_err(), "a ticket was good twice");
            break;
        }
        let (mut socket, _) = opened.unwrap();
        let big = vec![b'x'; 200_000];
        for part in big.chunks(50_000) {
            socket.send(Message::binary([&[0], part].concat())).await.unwrap();
        }
        socket.send(Message::binary(vec![255, 0])).await.unwrap();
        let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), String::new());
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(data) = message else { continue };
            match data[0] {
                1 => out.extend_from_slice(&data[1..]),
                2 => err.extend_from_slice(&data[1..]),
                3 => status = String::from_utf8(data[1..].to_vec()).unwrap(),
                other => panic!("channel {other}"),
            }
        }
        assert_eq!((out.len(), err.as_slice()), (big.len(), &b"err\n"[..]));
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "4", "{status}");
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_a_containers_life() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let pod = lab.pod("events").await;
    let id = lab.run(&pod, "short", "true").await;
    lab.ended(&id).await;
    lab.remove(&pod).await;
    let mut seen = Vec::new();
    while let Ok(Ok(event)) = tokio::time::timeout(Duration::from_secs(60), events.recv()).await {
        if event.container_id == id {
            seen.push(event.container_event_type);
        }
        if event.container_id == pod && event.container_event_type == 3 {
            break;
        }
    }
    // Started and stopped may be told in either order when the program is that short.
    assert_eq!((seen.first(), seen.last(), seen.len()), (Some(&0), Some(&3), 4), "{seen:?}");
    lab.finish().await;
}
