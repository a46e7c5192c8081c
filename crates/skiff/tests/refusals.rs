//! What a host or its user cannot have is refused by one sentence with the remedy, and nothing half-made stays.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_skiff");
const NOBODY: u32 = 65534;

fn skiff(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// A control plane alone, on a free port of loopback.
fn server(data: &Path, port: u16) -> Command {
    let mut command = skiff(PROGRAM);
    command.args(["server", "--disable=node", "--bind-address=127.0.0.1", "--node-name=one"]);
    command.arg(format!("--data-dir={}", data.display())).arg(format!("--https-listen-port={port}"));
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The one sentence with which a command failed.
#[track_caller]
fn refusal(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it did not fail: {said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("skiff: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].to_owned()
}

/// A server that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command, data: &Path) -> Running {
        let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(120);
        while !status(data).status.success() {
            assert!(Instant::now() < deadline, "the server never became ready: {:?}", status(data));
            std::thread::sleep(Duration::from_millis(100));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(data: &Path) -> Output {
    skiff(PROGRAM).arg("status").arg(format!("--data-dir={}", data.display())).output().unwrap()
}

#[test]
fn a_port_in_use() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = refusal(server(&data, port).output().unwrap());
    assert!(said.contains("is another server running, or must --https-listen-port be another"), "{said}");
    assert!(!data.exists());
}

#[test]
fn a_folder_in_use() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let running = Running::start(server(&data, free_port()), &data);
    let said = refusal(server(&data, free_port()).output().unwrap());
    let holder = format!("is held by a Skiff server (process {}): stop it first", running.0.id());
    assert!(said.contains(&holder), "{said}");
    assert!(status(&data).status.success(), "the first one goes on");
}

#[test]
fn a_folder_of_a_newer_version() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&data).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    fs::create_dir(&data).unwrap();
    fs::write(data.join("daemon.json"), r#"{"format": 1000, "version": "7.0.0"}"#).unwrap();
    for command in [&mut server(&data, free_port()), skiff(PROGRAM).args(["reset", "--yes", "--data-dir"]).arg(&data)] {
        let said = refusal(command.output().unwrap());
        assert!(said.contains("was written by Skiff 7.0.0, which is newer than this one"), "{said}");
        assert_eq!(names(), ["daemon.json"]);
    }
    // The store has a number of its own.
    fs::remove_file(data.join("daemon.json")).unwrap();
    drop(Running::start(server(&data, free_port()), &data));
    fs::write(data.join("store/FORMAT"), "1000\n").unwrap();
    let said = refusal(server(&data, free_port()).output().unwrap());
    assert!(said.contains("format 1000") && said.contains("run a newer version"), "{said}");
}

#[test]
fn a_user_without_rights() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can become another user");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Where it was built, others may not look.
    let program = place.path().join("skiff");
    fs::copy(PROGRAM, &program).unwrap();
    let data = place.path().join("data");
    let folder = data.display().to_string();
    let asked: [(&[&str], &str); 4] = [
        (
            &["server", "--bind-address=127.0.0.1", "--https-listen-port=0", "--data-dir", &folder],
            "a node needs root: run this as root",
        ),
        (&["cluster", "create", "one"], "local clusters need root: run this with sudo"),
        (&["runtime", "--root", &folder], "keeping containers needs root: run as root"),
        (&["reset", "--yes", "--data-dir", "/proc/1/root"], "cannot look into"),
    ];
    for (arguments, expected) in asked {
        let said = refusal(skiff(program.to_str().unwrap()).args(arguments).uid(NOBODY).gid(NOBODY).output().unwrap());
        assert!(said.contains(expected), "{said}");
    }
    assert!(!data.exists());
}

#[test]
fn parts_that_do_not_exist() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let file = place.path().join("config.yaml");
    let expected = "cannot disable \"coredns\"; --disable takes node, controllers, scheduler, dns, proxy";
    let mut by_flag = server(&data, free_port());
    by_flag.args(["--disable", "scheduler", "--disable=dns,coredns"]);
    let mut by_environment = server(&data, free_port());
    // The flag would beat it.
    by_environment = {
        let mut command = skiff(PROGRAM);
        command.arg("server").args(by_environment.get_args().skip(2)).env("SKIFF_DISABLE", "node,coredns");
        command
    };
    let mut by_file = skiff(PROGRAM);
    fs::write(&file, "disable: [node, coredns]\n").unwrap();
    by_file.arg("server").arg("--config").arg(&file).arg(format!("--data-dir={}", data.display()));
    for mut command in [by_flag, by_environment, by_file] {
        let said = refusal(command.output().unwrap());
        assert!(said.contains(expected), "{said}");
    }
    assert!(!data.exists());
}
