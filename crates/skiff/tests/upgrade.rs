//! Opens data folders of this and earlier versions (`tests/upgrade`), and leaves those of later ones alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use testkit::{Daemon, Kube};

/// The archives, one a version.
fn archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/upgrade");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    archives.sort();
    assert!(!archives.is_empty(), "there are no golden folders");
    archives
}

/// A copy of a golden folder: `data` and `answers.jsonl`.
fn unpack(archive: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(unpacked.success(), "{} cannot be unpacked", archive.display());
    folder
}

fn server(data: &Path) -> Command {
    // Taken by the server a moment later; others ask the kernel for ports too, and get others.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    command.args(["server", "--disable", "node", "--bind-address", "127.0.0.1"]);
    command.args(["--https-listen-port", &port.to_string()]).arg("--data-dir").arg(data);
    command
}

/// Takes away what controllers of any version may have written since the folder was made.
fn comparable(object: &Value, compare: &str) -> Value {
    let mut object = object.clone();
    match compare {
        "whole" => {}
        "spec" => {
            object.as_object_mut().unwrap().remove("status");
            let metadata = object["metadata"].as_object_mut().unwrap();
            for field in ["resourceVersion", "generation", "managedFields"] {
                metadata.remove(field);
            }
        }
        "identity" => {
            let metadata = &object["metadata"];
            let fields = ["name", "namespace", "uid", "creationTimestamp", "labels"];
            object = fields.iter().map(|field| ((*field).to_owned(), metadata[field].clone())).collect();
        }
        other => panic!("no way to compare is called {other}"),
    }
    object
}

async fn check_answers(kube: &Kube, answers: &str) {
    let mut different = Vec::new();
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let (path, compare) = (answer["path"].as_str().unwrap(), answer["compare"].as_str().unwrap());
        let now = match kube.get(path).await {
            Ok(now) => now,
            Err(error) => {
                different.push(error.to_string());
                continue;
            }
        };
        let (was, now) = (comparable(&answer["object"], compare), comparable(&now, compare));
        if was != now {
            different.push(format!("{path}\n  was {was}\n  is  {now}"));
        }
    }
    assert!(answers.lines().count() > 50, "few answers are recorded");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[tokio::test]
async fn folders_of_every_version_open_with_all_their_objects() {
    for archive in archives() {
        let folder = unpack(&archive);
        let (data, log) = (folder.path().join("data"), folder.path().join("log"));
        let issued = data.join("pki/issued/serving-kube-apiserver.pem");
        let before = pki::Credential::from_pem(&fs::read_to_string(&issued).unwrap()).unwrap().info().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        assert!(before.not_after < now, "the golden serving certificate shall have expired");

        let answers = fs::read_to_string(folder.path().join("answers.jsonl")).unwrap();
        // Twice: what the first start wrote must be readable too.
        for _ in 0..2 {
            let mut daemon = Daemon::start(&mut server(&data), &log).unwrap();
            // The client verifies the serving certificate, and shows the administrator's.
            let kube = daemon.ready(&data.join("kubeconfig"), Duration::from_millis(50)).await.unwrap();
            check_answers(&kube, &answers).await;
            let gone = "/api/v1/namespaces/golden/configmaps/deleted";
            assert!(kube.get(gone).await.is_err(), "a deleted object is back");
            daemon.stop().unwrap();
        }
        let after = pki::Credential::from_pem(&fs::read_to_string(&issued).unwrap()).unwrap().info().unwrap();
        assert!(after.not_after > now, "the expired serving certificate was not renewed");
    }
}

/// Every file below a folder with its content, and when it was written.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                folders.push(path.clone());
                found.insert(path, (metadata.modified().unwrap(), Vec::new()));
            } else {
                let content = fs::read(&path).unwrap();
                found.insert(path, (metadata.modified().unwrap(), content));
            }
        }
    }
    found
}

#[test]
fn folders_of_later_versions_are_refused_and_stay_as_they_are() {
    let folder = unpack(archives().last().unwrap());
    let data = folder.path().join("data");
    let format = data.join("store/FORMAT");
    let known: u32 = fs::read_to_string(&format).unwrap().trim().parse().unwrap();
    fs::write(&format, format!("{}\n", known + 1)).unwrap();
    // A stopped server leaves this file, which holds nothing.
    fs::write(data.join("store/LOCK"), "").unwrap();

    let before = listing(&data);
    let output = server(&data).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence, not: {said}");
    assert!(said.contains(&format!("format {}", known + 1)) && said.contains("newer version"), "{said}");
    assert!(listing(&data) == before, "the folder was changed");
}
