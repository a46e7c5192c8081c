//! A host of its own with one runtime: starting and killing the daemon, and listing what the host holds.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use cri::v1::VersionRequest;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long anything may take before the test gives up: far longer than it does on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The image that cases run, whose programs are in `/inside`.
pub const IMAGE: &str = "example.com/busybox:1";

/// A host of its own.
pub struct Lab {
    /// Where everything is kept.
    pub folder: PathBuf,
    /// The control group of all pods.
    pub group: String,
    /// What the daemon says.
    pub log: PathBuf,
    daemon: Option<Child>,
}

impl Lab {
    /// Furnishes the namespaces in which this process is, and builds the image.
    pub fn new(folder: &Path, group: &str) -> Self {
        const OVERLAY: nix::sys::statfs::FsType = nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
        if nix::sys::statfs::statfs(folder).unwrap().filesystem_type() == OVERLAY {
            // The file systems of containers are overlays, which cannot lie on another one.
            command("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder.to_str().unwrap()]);
        }
        command("ip", &["link", "set", "lo", "up"]);
        command("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth0p"]);
        command("ip", &["link", "set", "eth0p", "up"]);
        command("ip", &["addr", "add", "172.31.0.2/24", "dev", "eth0"]);
        command("ip", &["link", "set", "eth0", "up"]);
        command("ip", &["route", "add", "default", "via", "172.31.0.1"]);
        let archive = folder.join("busybox.tar");
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/busybox");
        command(recipe.to_str().unwrap(), &[archive.to_str().unwrap(), IMAGE, "/inside"]);
        Self { folder: folder.to_owned(), group: group.to_owned(), log: folder.join("log"), daemon: None }
    }

    /// The runtime's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("cri.sock")
    }

    /// Where the runtime keeps everything.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What the daemon is started with, with all data below `folder` as the daemon sees it.
    pub fn arguments(folder: &Path, group: &str) -> Vec<String> {
        let at = |name: &str| folder.join(name).display().to_string();
        let options = [
            ("--socket", at("cri.sock")),
            ("--root", at("root")),
            ("--cgroup-parent", group.to_owned()),
            ("--pod-cidr", "10.88.0.0/20".to_owned()),
            ("--cni-config-dir", at("none")),
            ("--registries", at("none")),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        std::iter::once("runtime".to_owned()).chain(options).collect()
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
        command.args(Self::arguments(&self.folder, &self.group)).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        self.answers().await;
    }

    /// Waits until the daemon answers.
    pub async fn answers(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut client = runtime(&self.socket());
        while client.version(VersionRequest::default()).await.is_err() {
            if let Some(daemon) = &mut self.daemon {
                assert_eq!(daemon.try_wait().unwrap(), None, "the daemon ended");
            }
            assert!(tokio::time::Instant::now() < deadline, "the daemon does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the daemon as a crash would.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Asks the daemon to end, and waits for it.
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(daemon.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success());
    }

    /// Runs `skiff image ACTION` against the daemon; tells whether it succeeded and what it said.
    pub fn image(&self, action: &str, arguments: &[&str]) -> (bool, String) {
        let socket = self.socket();
        let output = Command::new(env!("CARGO_BIN_EXE_skiff"))
            .args(["image", action, "--socket", socket.to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    /// Brings the image in.
    pub fn import(&self) {
        let archive = self.folder.join("busybox.tar");
        let (good, said) = self.image("import", &[archive.to_str().unwrap()]);
        assert!(good && said.contains(IMAGE), "{said}");
    }

    /// What the host holds: mounts, control groups, network namespaces, links, addresses, routes, tables of packet
    /// filters, processes, and the runtime's files.
    pub fn holds(&self) -> Vec<String> {
        let mut held = Vec::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        held.extend(mounts.lines().map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            format!("mount {} {}", fields[3], fields[4])
        }));
        held.extend(groups(&self.group).iter().map(|group| format!("group {}", group.display())));
        for (what, arguments) in
            [("link", &["-o", "link"][..]), ("address", &["-o", "addr"]), ("route", &["route", "show", "table", "all"])]
        {
            let said = Command::new("ip").args(arguments).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            held.extend(said.lines().map(|line| format!("{what} {}", stable(what, line))));
        }
        let mut tables = linux::nftables::Tables::open().unwrap();
        for table in tables.tables().unwrap() {
            let rules: usize = tables.rules(&table).unwrap().len();
            held.push(format!("table {table:?} with {rules} rules"));
            for set in tables.sets(&table).unwrap() {
                let elements = tables.elements(&table, &set).unwrap().map(|elements| elements.len());
                held.push(format!("set {set} of {table:?} with {elements:?} elements"));
            }
        }
        let mut namespaces = std::collections::BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.parse::<u32>().is_err() {
                continue;
            }
            // It may end while we look.
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let (program, rest) = text.split_once(") ").unwrap();
            // Whose parent has died and who has ended waits for the first process, which is this test.
            if rest.starts_with("Z 1 ") {
                continue;
            }
            held.push(format!("process {}", program.split_once('(').unwrap().1));
            namespaces.extend(fs::read_link(entry.path().join("ns/net")).ok());
        }
        held.push(format!("network namespaces {}", namespaces.len()));
        files(&self.root(), &mut held);
        // The kernel gives every link an address of its own when it has seen that nobody else has it, in its own time.
        held.retain(|line| !line.contains("fe80::"));
        held.sort();
        held
    }

    /// Waits until the host holds just this: processes and control groups end in their own time.
    pub async fn holds_again(&self, before: &[String]) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.holds();
            if now == before {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let more: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
                let less: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
                panic!("the host holds more: {more:#?}\nand less: {less:#?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The parts of a line that do not change by themselves.
fn stable(what: &str, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match what {
        "link" => words[1].to_owned(),
        "address" => format!("{} {}", words[1], words[3]),
        _ => words.join(" "),
    }
}

fn files(folder: &Path, held: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        // The network's own folders come with the first pod; which address was given last stays, so that the next pod
        // gets another.
        let of_network = entry.path().components().any(|part| part.as_os_str() == "network");
        if !of_network || !(is_folder || name == "lock" || name.starts_with("last_reserved_ip")) {
            held.push(format!("file {}", entry.path().display()));
        }
        // What an image unpacks to is the image's; there are many files.
        if is_folder && name != "fs" {
            files(&entry.path(), held);
        }
    }
}

/// The folders of a control group and those inside it, in all hierarchies.
fn groups(group: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        hierarchies.chain([root.to_owned()]).map(|folder| folder.join(group.trim_start_matches('/'))).collect();
    while let Some(folder) = folders.pop() {
        if folder.is_dir() {
            folders.extend(fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()));
            found.push(folder);
        }
    }
    found
}

/// Removes a control group with those inside it; tells whether all are gone.
pub fn remove_groups(group: &str) -> bool {
    let mut found = groups(group);
    found.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    found.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    groups(group).is_empty()
}

fn command(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn channel(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // Connects when asked, and again after the daemon was away.
    Endpoint::from_static("http://runtime").connect_with_connector_lazy(connector)
}

/// A client for pods and containers.
pub fn runtime(socket: &Path) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::new(channel(socket))
}

/// A client for images.
pub fn images(socket: &Path) -> ImageServiceClient<Channel> {
    ImageServiceClient::new(channel(socket))
}
