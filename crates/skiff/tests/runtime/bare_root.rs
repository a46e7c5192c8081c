//! A root that holds the binary, resolv.conf and empty mount points: nothing else is needed, and nothing else is run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use cri::v1::ListImagesRequest;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::lab::{Lab, images, runtime};
use crate::requests::{container, ended, exec, logged, pod, pods, remove, run_pod, start};

const PROGRAM: &str = "/skiff";
const MOUNT_POINTS: [&str; 5] = ["proc", "sys", "dev", "data", "tmp"];

/// A process in the bare root that carries out commands.
struct Inside {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Inside {
    /// Enters the root, with every execution of a program below noted in `trace`.
    fn enter(root: &Path, folder: &Path, trace: &Path) -> Self {
        let mut process = Command::new("strace")
            .args(["--follow-forks", "--trace=execve,execveat", "--decode-fds=path", "--string-limit=4096", "--output"])
            .arg(trace)
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"])
            .arg(std::env::current_exe().unwrap())
            .arg("--bare")
            .args([root, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("strace is needed here: apt-get install strace");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output }
    }

    /// Runs the binary with arguments in the root: in the background with `&` before them.
    fn skiff(&mut self, arguments: &str) -> String {
        self.command(arguments)
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn leave(mut self) {
        drop(self.input);
        assert!(self.process.wait().unwrap().success());
    }
}

/// The first process of the bare root's process namespace: makes the root its own, then runs the binary as it is told by
/// lines on standard input, and answers each with one line.
pub fn first_process(root: &Path, folder: &Path) -> ExitCode {
    let at = |name: &str| root.join(name);
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).unwrap();
    };
    bind(root, root);
    bind(Path::new(env!("CARGO_BIN_EXE_skiff")), &at("skiff"));
    mount(Some("proc"), &at("proc"), Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    bind(Path::new("/sys"), &at("sys"));
    bind(Path::new("/dev"), &at("dev"));
    bind(folder, &at("data"));
    nix::unistd::chdir(root).unwrap();
    nix::unistd::pivot_root(".", ".").unwrap();
    umount2(".", MntFlags::MNT_DETACH).unwrap();
    nix::unistd::chdir("/").unwrap();

    let mut daemon: Option<Child> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let run = |arguments: &str| {
            let log = File::options().create(true).append(true).open("/data/log").unwrap();
            let mut command = Command::new(PROGRAM);
            command.args(arguments.split(' ')).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command
        };
        let answer = if line == "kill" {
            let mut killed = daemon.take().unwrap();
            killed.kill().unwrap();
            killed.wait().unwrap().to_string()
        } else if let Some(arguments) = line.strip_prefix('&') {
            daemon = Some(run(arguments).spawn().unwrap());
            "started".to_owned()
        } else {
            run(&line).status().unwrap().to_string()
        };
        println!("{answer}");
    }
    ExitCode::SUCCESS
}

/// Walks a pod through its life with a daemon whose root is bare; no program runs but the binary and the containers' own.
pub async fn is_enough(mut lab: Lab) {
    let root = lab.folder.join("bare");
    for point in MOUNT_POINTS {
        fs::create_dir_all(root.join(point)).unwrap();
    }
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
    // Where the binary is mounted.
    fs::write(root.join("skiff"), "").unwrap();
    let folder = lab.folder.join("data");
    fs::create_dir(&folder).unwrap();
    fs::rename(lab.folder.join("busybox.tar"), folder.join("busybox.tar")).unwrap();
    lab.log = folder.join("log");
    let trace = lab.folder.join("trace");

    let mut inside = Inside::enter(&root, &folder, &trace);
    let serve = format!("&{}", Lab::arguments(Path::new("/data"), &lab.group).join(" "));
    let socket = folder.join("cri.sock");
    assert_eq!(inside.skiff(&serve), "started");
    lab.folder.clone_from(&folder);
    lab.answers().await;
    let import = "image import --socket /data/cri.sock /data/busybox.tar";
    assert_eq!(inside.skiff(import), "exit status: 0");
    let listed = images(&socket).list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(listed.len(), 1);

    let mut client = runtime(&socket);
    // What the daemon writes is below its own root.
    let mut config = pod(&folder, "bare", 0);
    config.log_directory = "/data/logs/bare".to_owned();
    let sandbox = run_pod(&mut client, config).await.unwrap();
    let script = "trap 'exit 4' TERM; echo hello; cat /etc/resolv.conf; while :; do sleep 0.1; done";
    let id = start(&mut client, &sandbox, container("main", script)).await.unwrap();
    logged(&folder, "bare", "main", "stdout F hello\n").await;
    logged(&folder, "bare", "main", "stdout F nameserver 192.0.2.53\n").await;
    let (code, said) = exec(&mut client, &id, "hostname; ls /; exit 5").await.unwrap();
    assert_eq!(code, 5);
    assert!(said.starts_with("bare\n") && said.contains("inside\n") && !said.contains("skiff"), "{said}");
    assert!(inside.command("kill").contains("signal"));
    assert_eq!(inside.skiff(&serve), "started");
    lab.answers().await;
    assert_eq!(exec(&mut client, &id, "echo again").await.unwrap(), (0, "again\n".to_owned()));
    client.stop_container(cri::v1::StopContainerRequest { container_id: id.clone(), timeout: 60 }).await.unwrap();
    assert_eq!(ended(&mut client, &id).await.unwrap().exit_code, 4);
    remove(&mut client, &sandbox).await.unwrap();
    assert_eq!(pods(&mut client, None).await.unwrap(), Vec::new());
    assert!(inside.command("kill").contains("signal"));
    inside.leave();
    no_foreign_program(&trace);
}

/// Reads the trace: once the binary runs, only the binary is run, and programs in `/inside`, which only the image has.
fn no_foreign_program(trace: &Path) {
    let text = fs::read_to_string(trace).unwrap();
    let executed: Vec<PathBuf> = text.lines().filter_map(program).collect();
    let first = executed.iter().position(|path| path == Path::new(PROGRAM)).expect("the trace does not see the binary");
    let later = &executed[first..];
    let of_the_image = |path: &Path| path.starts_with("/inside");
    let own = |path: &Path| [PROGRAM, "/proc/self/exe"].iter().any(|own| path == Path::new(own));
    let foreign: Vec<&PathBuf> = later.iter().filter(|path| !own(path) && !of_the_image(path)).collect();
    assert!(foreign.is_empty(), "foreign programs were run: {foreign:?}");
    assert!(later.iter().any(|path| of_the_image(path)), "the trace does not see containers");
    assert!(later.iter().filter(|path| own(path)).count() > 2, "the trace does not see shims");
}

/// The program of a traced call: its path, or that of the descriptor when there is none.
fn program(line: &str) -> Option<PathBuf> {
    let call = line.find("execve")?;
    let (call, arguments) = line[call..].split_once('(')?;
    let path = arguments.split('"').nth(1).unwrap_or_default();
    if call == "execveat" && !path.starts_with('/') {
        let folder = arguments.split_once('<')?.1.split_once('>')?.0;
        return Some(Path::new(folder).join(path));
    }
    Some(PathBuf::from(path))
}
