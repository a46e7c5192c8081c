//! The container runtime as the real binary serves it: killed daemons, many pods, a root with nothing in it, bad archives.
//!
//! Each case runs in network, mount, process, name and IPC namespaces of its own, with real containers; it needs root.
//! Run one by its name: `cargo test -p skiff --test runtime -- churn`.

mod adoption;
mod archives;
mod bare_root;
mod churn;
mod lab;
mod requests;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lab::Lab;

type Case = fn(Lab) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

const CASES: [(&str, Case); 4] = [
    ("containers_outlive_the_daemon", |lab| Box::pin(adoption::containers_outlive_the_daemon(lab))),
    ("churn_leaves_nothing", |lab| Box::pin(churn::leaves_nothing(lab))),
    ("a_bare_root_is_enough", |lab| Box::pin(bare_root::is_enough(lab))),
    ("bad_archives_are_refused", |lab| Box::pin(archives::are_refused(lab))),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--inside", name, folder, group] => return inside(name, Path::new(folder), group),
        ["--bare", root, folder] => return bare_root::first_process(Path::new(root), Path::new(folder)),
        _ => {}
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let chosen = CASES.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())));
    let mut failed = 0;
    for (name, _) in chosen {
        let began = Instant::now();
        let good = outside(name);
        println!("test {name} ... {} ({} s)", if good { "ok" } else { "FAILED" }, began.elapsed().as_secs());
        failed += u8::from(!good);
    }
    ExitCode::from(failed)
}

/// Runs a case in namespaces and takes away what these do not take along.
fn outside(name: &str) -> bool {
    let folder = tempfile::Builder::new().prefix("skiff-runtime-").tempdir().unwrap();
    // Users of containers must be able to pass through.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let group = format!("/skiff-test-{}-{name}", std::process::id());
    let ended = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc"])
        .args(["--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--inside", name])
        .arg(folder.path())
        .arg(&group)
        .status()
        .unwrap();
    // The processes end with their namespace, each in its own time.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !lab::remove_groups(&group) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    ended.success()
}

fn inside(name: &str, folder: &Path, group: &str) -> ExitCode {
    let Some((_, case)) = CASES.iter().find(|(known, _)| *known == name) else { return ExitCode::FAILURE };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lab = Lab::new(folder, group);
    let log: PathBuf = lab.log.clone();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tokio.block_on(case(lab))));
    if ended.is_err() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("the daemon said last:");
        lines[lines.len().saturating_sub(40)..].iter().for_each(|line| eprintln!("  {line}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
