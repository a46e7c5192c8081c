//! A real shim with real containers, as root: started, called, killed off its daemon, found again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use oci_spec::runtime::Process;
use runtime::shim::protocol::{Create, Event, ExitStatus, Launch};
use runtime::shim::{Events, ShimClient, Streams, bury};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("shim") {
        return runtime::shim::run();
    }
    let cases: [(&str, fn()); 9] = [
        ("output_is_logged_and_ends_are_told", || run(output_is_logged_and_ends_are_told)),
        ("failing_starts_say_why", || run(failing_starts_say_why)),
        ("exec_has_streams_and_codes", || run(exec_has_streams_and_codes)),
        ("exec_has_a_terminal", || run(exec_has_a_terminal)),
        ("attached_streams_flow_both_ways", || run(attached_streams_flow_both_ways)),
        ("a_container_has_a_terminal", || run(a_container_has_a_terminal)),
        ("state_is_told_again", || run(state_is_told_again)),
        ("namespaces_are_shared", || run(namespaces_are_shared)),
        ("a_dead_shim_is_buried", || run(a_dead_shim_is_buried)),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let chosen = cases.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())));
    let mut failed = 0;
    for (name, case) in chosen {
        let good = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed += u8::from(!good);
    }
    ExitCode::from(failed)
}

fn run<F: Future<Output = ()>>(case: impl FnOnce(Pod) -> F) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    tokio.block_on(async {
        let pod = Pod::new();
        timeout(Duration::from_secs(300), case(pod)).await.unwrap();
    });
}

/// A pod's folder, and what must be gone at the end.
struct Pod {
    folder: tempfile::TempDir,
    launch: Launch,
    groups: Vec<String>,
}

impl Pod {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            pod: "pod".to_owned(),
            socket: folder.path().join("shim.sock"),
            folder: folder.path().join("shim"),
            own_network: true,
            own_ipc: true,
            own_uts: true,
            hostname: "the-pod".to_owned(),
            sysctls: vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())],
            ..Launch::default()
        };
        Self { folder, launch, groups: Vec::new() }
    }

    async fn launch(&self) -> (ShimClient, Events) {
        let (client, state, events) =
            ShimClient::launch(&std::env::current_exe().unwrap(), &self.launch).await.unwrap();
        assert!(state.containers.is_empty());
        (client, events)
    }

    fn log(&self, container: &str) -> PathBuf {
        self.folder.path().join(format!("{container}.log"))
    }

    fn logged(&self, container: &str) -> String {
        let text = fs::read_to_string(self.log(container)).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned() + "\n").collect()
    }

    /// Waits until a container has logged a line of standard output.
    async fn until_logged(&self, container: &str, line: &str) {
        let wanted = format!("stdout F {line}\n");
        while !(self.log(container).exists() && self.logged(container).contains(&wanted)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes a bundle and tells how to create it.
    fn bundle(&mut self, container: &str, script: &str, change: impl FnOnce(&mut Value)) -> Create {
        let bundle = self.folder.path().join(container);
        let root = bundle.join("rootfs");
        for made in ["bin", "proc", "dev"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "sleep", "echo", "hostname", "stty", "dd", "ps", "nc", "readlink"] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let group = format!(
            "/skiff-shim-test-{}-{container}",
            self.folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.')
        );
        self.groups.push(group.clone());
        let mut spec = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "linux": {"cgroupsPath": group, "namespaces": [{"type": "mount"}, {"type": "pid"}]},
        });
        change(&mut spec);
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        Create { container: container.to_owned(), bundle, log: Some(self.log(container)), ..Create::default() }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let layout = linux::cgroup::Layout::detect().unwrap();
        for path in &self.groups {
            let group = linux::cgroup::Cgroup::new(layout.clone(), path).unwrap();
            group.signal(9).unwrap();
            group.remove().unwrap();
        }
    }
}

async fn start(client: &ShimClient, create: Create) -> u32 {
    let name = create.container.clone();
    let pid = client.create(create).await.unwrap();
    client.start(&name).await.unwrap();
    pid
}

async fn exit(events: &mut Events, name: &str) -> ExitStatus {
    loop {
        let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        if let Event::Exited { container, exit } = event
            && container == name
        {
            return exit;
        }
    }
}

fn process(arguments: &[&str], terminal: bool) -> Process {
    let text = json!({"args": arguments, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "terminal": terminal});
    serde_json::from_value(text).unwrap()
}

async fn output_is_logged_and_ends_are_told(mut pod: Pod) {
    let (client, mut events) = pod.launch().await;
    let script = "hostname; echo no >&2; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo -n end; exit 3";
    let create = pod.bundle("one", script, |_| {});
    start(&client, create).await;
    assert_eq!(exit(&mut events, "one").await.code, 3);
    let logged = pod.logged("one");
    let (out, err): (Vec<&str>, Vec<&str>) = logged.lines().partition(|line| line.starts_with("stdout"));
    assert_eq!((out, err), (vec!["stdout F the-pod", "stdout F 7", "stdout P end"], vec!["stderr F no"]));
    // Rotation: the old file is renamed, and a new one takes what comes next.
    let create = pod.bundle("two", "while true; do echo tick; sleep 0.05; done", |_| {});
    start(&client, create).await;
    pod.until_logged("two", "tick").await;
    fs::rename(pod.log("two"), pod.folder.path().join("old")).unwrap();
    client.reopen_log("two").await.unwrap();
    pod.until_logged("two", "tick").await;
    client.kill("two", 15, true).await.unwrap();
    client.kill("two", 9, true).await.unwrap();
    assert_eq!(exit(&mut events, "two").await.code, 137);
    assert!(pod.logged("two").starts_with("stdout F tick\n"));
    let create = pod.bundle(
        "three",
        "dd if=/dev/zero of=/dev/null bs=64M count=1; exec dd if=/dev/zero of=/dev/null bs=64M count=1",
        |spec| {
            spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
        },
    );
    start(&client, create).await;
    let exit = exit(&mut events, "three").await;
    assert!(exit.code == 137 && exit.oom_killed, "{exit:?}");
    for name in ["one", "two", "three"] {
        client.delete(name).await.unwrap();
    }
    assert!(client.state().await.unwrap().containers.is_empty());
    client.shutdown().await.unwrap();
    assert!(!pod.launch.socket.exists());
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", client.pid()));
    timeout(PATIENCE, async {
        while fs::read_link(&namespace).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

async fn failing_starts_say_why(mut pod: Pod) {
    let (client, mut events) = pod.launch().await;
    let create = pod.bundle("one", "", |spec| spec["process"]["args"] = json!(["foo"]));
    let error = client.create(create).await.unwrap_err().to_string();
    assert_eq!(error, r#"unable to start container process: exec: "foo": executable file not found in $PATH"#);
    assert!(client.state().await.unwrap().containers.is_empty());
    let create = pod.bundle("two", "", |spec| spec["process"]["args"] = json!(["/bin/script"]));
    fs::copy("/bin/busybox", create.bundle.join("rootfs/bin/script"))
        .or_else(|_| fs::copy("/usr/bin/busybox", create.bundle.join("rootfs/bin/script")))
        .unwrap();
    fs::write(create.bundle.join("rootfs/bin/script"), "#!/no/such\n").unwrap();
    client.create(create).await.unwrap();
    let error = client.start("two").await.unwrap_err().to_string();
    assert_eq!(error, "exec /bin/script: no such file or directory");
    assert_eq!(exit(&mut events, "two").await.code, 128);
    assert!(client.start("three").await.unwrap_err().is_not_found());
    let bad = Create { container: "../x".to_owned(), ..Create::default() };
    assert!(client.create(bad).await.is_err());
    client.shutdown().await.unwrap();
}

async fn exec_has_streams_and_codes(mut pod: Pod) {
    let (client, _events) = pod.launch().await;
    let create = pod.bundle("one", "sleep 1000", |_| {});
    start(&client, create).await;
    let exec = client.exec("one", "a", process(&["sh", "-c", "cat; echo no >&2; exit 5"], false), true).await.unwrap();
    let (streams, end) = exec.split();
    let Streams::Pipes { stdin, stdout, stderr } = streams else { panic!() };
    let mut stdin = stdin.unwrap();
    let sent = vec![b'x'; 300_000];
    let writing = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let (mut out, mut err) = (Vec::new(), String::new());
    let (mut stdout, mut stderr) = (stdout.unwrap(), stderr.unwrap());
    let (_, read, _) = tokio::join!(writing, stdout.read_to_end(&mut out), stderr.read_to_string(&mut err));
    assert_eq!((read.unwrap(), err.as_str()), (300_000, "no\n"));
    assert_eq!(end.wait().await.unwrap().code, 5);
    let error = client.exec("one", "b", process(&["foo"], false), false).await.unwrap_err().to_string();
    assert!(error.ends_with(r#"exec: "foo": executable file not found in $PATH"#), "{error}");
    let many = (0..20).map(|n| {
        let client = client.clone();
        async move {
            let exec =
                client.exec("one", &format!("n{n}"), process(&["sh", "-c", &format!("exit {n}")], false), false).await;
            assert_eq!(exec.unwrap().wait().await.unwrap().code, n);
        }
    });
    let many: Vec<_> = many.map(tokio::spawn).collect();
    for one in many {
        one.await.unwrap();
    }
    let exec = client.exec("one", "c", process(&["sleep", "1000"], false), false).await.unwrap();
    client.kill_exec("one", "c", 9).await.unwrap();
    assert_eq!(exec.wait().await.unwrap().code, 137);
    client.shutdown().await.unwrap();
}

async fn exec_has_a_terminal(mut pod: Pod) {
    let (client, _events) = pod.launch().await;
    let create = pod.bundle("one", "sleep 1000", |_| {});
    start(&client, create).await;
    let exec = client.exec("one", "a", process(&["sh", "-c", "read x; stty size; exit 4"], true), true).await.unwrap();
    let (Streams::Terminal(terminal), end) = exec.split() else { panic!() };
    terminal.resize(91, 33).unwrap();
    terminal.write_all(b"go\n").await.unwrap();
    let (mut said, mut bytes) = (Vec::new(), [0; 128]);
    loop {
        match terminal.read(&mut bytes).await.unwrap() {
            0 => break,
            count => said.extend_from_slice(&bytes[..count]),
        }
    }
    assert_eq!(String::from_utf8(said).unwrap(), "go\r\n33 91\r\n");
    assert_eq!(end.wait().await.unwrap().code, 4);
    client.shutdown().await.unwrap();
}

async fn attached_streams_flow_both_ways(mut pod: Pod) {
    let (client, mut events) = pod.launch().await;
    let mut create = pod.bundle("one", "cat; echo over >&2", |_| {});
    (create.stdin, create.stdin_once) = (true, true);
    client.create(create).await.unwrap();
    let Streams::Pipes { stdin, stdout, stderr } = client.attach("one", true, true, true).await.unwrap() else {
        panic!()
    };
    client.start("one").await.unwrap();
    let (mut stdin, mut stdout, mut stderr) = (stdin.unwrap(), stdout.unwrap(), stderr.unwrap());
    let text = "0123456789\n".repeat(50_000);
    let writing = async {
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let (mut out, mut err) = (String::new(), String::new());
    let (_, read, _) = tokio::join!(writing, stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    read.unwrap();
    assert!(out == text, "{} of {} bytes", out.len(), text.len());
    assert_eq!(err, "over\n");
    assert_eq!(exit(&mut events, "one").await.code, 0);
    assert_eq!(pod.logged("one").lines().count(), 50_001);
    client.shutdown().await.unwrap();
}

async fn a_container_has_a_terminal(mut pod: Pod) {
    let (client, mut events) = pod.launch().await;
    let mut create =
        pod.bundle("one", "read x; stty size; echo got $x", |spec| spec["process"]["terminal"] = json!(true));
    create.stdin = true;
    client.create(create).await.unwrap();
    let Streams::Pipes { stdin, stdout, .. } = client.attach("one", true, true, false).await.unwrap() else { panic!() };
    client.start("one").await.unwrap();
    client.resize("one", 70, 20).await.unwrap();
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"this\n").await.unwrap();
    let mut out = String::new();
    stdout.unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "this\r\n20 70\r\ngot this\r\n");
    assert_eq!(exit(&mut events, "one").await.code, 0);
    client.shutdown().await.unwrap();
}

async fn state_is_told_again(mut pod: Pod) {
    let (client, events) = pod.launch().await;
    let create = pod.bundle("short", "sleep 0.3; exit 9", |_| {});
    start(&client, create).await;
    let create = pod.bundle("long", "while true; do echo on; sleep 0.1; done", |_| {});
    let pid = start(&client, create).await;
    let shim = client.pid();
    drop((client, events));
    while pod.logged("long").lines().count() <= 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (client, state, mut events) = loop {
        let connected = ShimClient::connect(&pod.launch.socket).await.unwrap();
        if connected.1.containers.iter().any(|c| c.container == "short" && c.exit.is_some()) {
            break connected;
        }
        drop(connected);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((client.pid(), state.pid), (shim, shim));
    let find = |name: &str| state.containers.iter().find(|c| c.container == name).unwrap().clone();
    assert_eq!(find("short").exit.unwrap().code, 9);
    assert_eq!((find("long").exit, find("long").pid), (None, pid));
    assert!(pod.logged("long").lines().count() > 4);
    client.kill("long", 9, false).await.unwrap();
    assert_eq!(exit(&mut events, "long").await.code, 137);
    let status = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let own = line("Pss_Anon:").split(' ').next().unwrap().parse::<u32>().unwrap();
    println!("the shim holds {}, of which {own} kB are its own", line("Pss:"));
    // What is mapped from the program depends on how that was built; what is allocated does not.
    assert!(own < 1024, "{own} kB");
    client.shutdown().await.unwrap();
}

async fn namespaces_are_shared(mut pod: Pod) {
    pod.launch.shared_pid = true;
    let (client, _events) = pod.launch().await;
    let namespaces = client.namespaces().clone();
    let change = |spec: &mut Value| {
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid", "path": namespaces.pid},
            {"type": "network", "path": namespaces.network}, {"type": "ipc", "path": namespaces.ipc}, {"type": "uts", "path": namespaces.uts}]);
    };
    let create = pod.bundle("one", "sleep 1000 & exec sleep 1000", change);
    start(&client, create).await;
    let exec = client.exec("one", "a", process(&["cat", "/proc/1/cmdline"], false), false).await.unwrap();
    let (Streams::Pipes { stdout, .. }, end) = exec.split() else { panic!() };
    let mut said = String::new();
    stdout.unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("/pause\0"), "{said:?}");
    assert_eq!(end.wait().await.unwrap().code, 0);
    // A port that nobody listens on is refused, in the pod and not on the host.
    assert!(client.dial(9).await.is_err());
    client.kill("one", 9, false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.delete("one").await.unwrap();
    client.shutdown().await.unwrap();
}

async fn a_dead_shim_is_buried(mut pod: Pod) {
    let (client, mut events) = pod.launch().await;
    let create = pod.bundle("done", "exit 6", |_| {});
    start(&client, create).await;
    assert_eq!(exit(&mut events, "done").await.code, 6);
    let create = pod.bundle("left", "sleep 1000", |_| {});
    let pid = start(&client, create).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.pid() as i32), nix::sys::signal::SIGKILL).unwrap();
    while timeout(PATIENCE, events.next()).await.unwrap().is_some() {}
    assert!(client.state().await.is_err());
    assert!(ShimClient::connect(&pod.launch.socket).await.is_err_and(|e| e.is_not_found()));
    let folder = pod.launch.folder.clone();
    let left = tokio::task::spawn_blocking(move || bury(&folder)).await.unwrap().unwrap();
    let code = |name: &str| left.iter().find(|c| c.container == name).unwrap().exit.unwrap().code;
    assert_eq!((code("done"), code("left")), (6, 137));
    assert!(!Path::new(&format!("/proc/{pid}/exe")).exists());
}
