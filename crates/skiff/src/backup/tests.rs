//! Backups are written, verified, damaged and restored.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pki::Hierarchy;
use pki::token::JoinToken;
use store::{KeyRange, RangeRequest, Store, WatchRequest};

use super::*;
use crate::storage;

const WEAK: Stretch = Stretch { memory: 64, passes: 1 };

fn words(text: &str) -> Secret {
    Secret::Passphrase(text.into())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// A data folder with keys, as a server leaves it.
fn data(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    private_dir(&data).unwrap();
    let hierarchy = Hierarchy::open(data.join("pki")).unwrap();
    hierarchy.prepare().unwrap();
    hierarchy.client(&pki::Identity::Admin).unwrap();
    let authority = hierarchy.ca(pki::Authority::Server).unwrap().cert().clone();
    pki::file::create_once(&data.join("token"), || JoinToken::generate(&authority, "node").map(|t| t.to_string()))
        .unwrap();
    pki::file::create_once(&data.join("sealing-keys"), || Ok(pki::seal::Keyring::generate()?.to_text())).unwrap();
    data
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn fill(store: &dyn Store, from: u32, to: u32) -> i64 {
    let mut revision = 0;
    for n in from..to {
        let key = format!("/registry/configmaps/default/{n}").into();
        revision = store.put(key, Bytes::from(vec![n as u8; 2000])).await.unwrap();
    }
    store.put("/registry/leases/kube-node-lease/a".into(), "volatile".into()).await.unwrap();
    revision
}

#[test]
fn a_running_servers_backup_becomes_a_cluster_on_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let file = folder.path().join("backup");
    let secret = words("correct horse");
    let seen = block_on(async {
        let store: Arc<dyn Store> = Arc::new(storage::open(&data).unwrap());
        fill(&*store, 0, 100).await;
        let mut serving = tokio::task::JoinSet::new();
        crate::control::start(&mut serving, &data, store.clone()).unwrap();
        assert_eq!(fs::metadata(data.join("control.sock")).unwrap().mode() & 0o777, 0o600);
        let path = data.clone();
        let asked = tokio::task::spawn_blocking(move || {
            assert!(crate::control::ask(&path, "nonsense").is_err());
            block_on(storage::Snapshot::take(&path)).unwrap()
        });
        let snapshot = asked.await.unwrap();
        // What is written from here on is no part of the backup.
        let seen = fill(&*store, 50, 150).await;
        let manifest = write(&data, snapshot.folder(), &file, &secret, WEAK).unwrap();
        assert_eq!(manifest.keys, 101);
        let folder = snapshot.folder().to_owned();
        drop(snapshot);
        // The server removes it when it hears that the caller is gone.
        let removed = async {
            while folder.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed).await.expect("a removed checkpoint");
        seen
    });
    let manifest = verify(&file, &secret, folder.path()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(names(folder.path()), ["backup", "data"], "something stayed");
    let other = |name: &&String| !name.starts_with("store/");
    let secrets: Vec<&str> = manifest.files.iter().filter(other).map(String::as_str).collect();
    let wanted = ["pki/client-ca.pem", "pki/front-proxy-ca.pem", "pki/server-ca.pem", "pki/service-account.pem"];
    assert_eq!(secrets[..4], wanted);
    assert_eq!(secrets[4..], ["token", "sealing-keys"]);
    let content = fs::read(&file).unwrap();
    for secret in ["PRIVATE KEY", "/registry/", "sealing-keys"] {
        assert!(!content.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} can be read");
    }

    let other = folder.path().join("other");
    let (restored, revision) = restore(&file, &other, &secret).unwrap();
    assert_eq!(restored, manifest);
    for name in ["token", "sealing-keys", "pki/server-ca.pem", "pki/client-ca.pem", "pki/service-account.pem"] {
        assert_eq!(fs::read(data.join(name)).unwrap(), fs::read(other.join(name)).unwrap(), "{name}");
    }
    assert_eq!(names(&other), ["daemon.lock", "pki", "sealing-keys", "store", "token"]);
    block_on(async {
        let store = storage::open(&other).unwrap();
        store.verify().await.unwrap();
        let all = store.range(RangeRequest::prefix("/registry/configmaps/".into())).await.unwrap();
        assert_eq!((all.count, all.revision), (100, revision));
        assert!(revision > seen);
        assert_eq!(store.get(b"/registry/leases/kube-node-lease/a").await.unwrap().unwrap().value, "volatile");
        let watch = store.watch(WatchRequest::over(KeyRange::all()).after(seen)).await;
        assert!(watch.err().is_some_and(|e| e.is_compacted()));
    });
    // Not over a cluster that is there.
    let again = restore(&file, &other, &secret).unwrap_err();
    assert!(format!("{again:#}").contains("is there"), "{again:#}");
}

#[test]
fn an_interrupted_restore_is_done_again_and_nothing_starts_before() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let file = folder.path().join("backup");
    let secret = Secret::Key([3; 32]);
    block_on(async {
        let store = storage::open(&data).unwrap();
        fill(&store, 0, 5).await;
        store.close();
        let snapshot = storage::Snapshot::take(&data).await.unwrap();
        write(&data, snapshot.folder(), &file, &secret, WEAK).unwrap();
    });
    let other = folder.path().join("other");
    for left in [&["restoring/store/db"][..], &["restoring/store", "pki", "token"], &["restoring", "pki", "store/db"]] {
        for name in left {
            fs::create_dir_all(other.join(name)).unwrap();
        }
        let refused = storage::check(&other).err().unwrap();
        assert!(format!("{refused:#}").contains("interrupted"), "{refused:#}");
        restore(&file, &other, &secret).unwrap();
        storage::check(&other).unwrap();
        drop(storage::open(&other).unwrap());
        fs::remove_dir_all(&other).unwrap();
    }
}

#[test]
fn wrong_secrets_cut_files_and_flipped_bits_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (file, bad) = (folder.path().join("backup"), folder.path().join("bad"));
    let secret = words("correct horse");
    block_on(async {
        let store = storage::open(&data).unwrap();
        fill(&store, 0, 200).await;
        store.close();
        let snapshot = storage::Snapshot::take(&data).await.unwrap();
        write(&data, snapshot.folder(), &file, &secret, WEAK).unwrap();
    });
    fs::write(&bad, "").unwrap();
    let other = folder.path().join("other");
    let before = names(folder.path());
    let refused = |file: &Path, secret: &Secret, what: &str| {
        let error = verify(file, secret, folder.path()).expect_err(what);
        let restored = restore(file, &other, secret).expect_err(what);
        assert!(!other.exists(), "{what}: something stayed");
        assert_eq!(names(folder.path()), before, "{what}: something stayed");
        assert!(!format!("{restored:#}").is_empty());
        format!("{error:#}")
    };
    let error = refused(&file, &words("correct hose"), "a wrong passphrase");
    assert!(error.contains("passphrase or key is wrong"), "{error}");
    let error = refused(&file, &Secret::Key([0; 32]), "a key for a passphrase");
    assert!(error.contains("not with a key"), "{error}");
    let content = fs::read(&file).unwrap();
    for at in [0, 20, 40, 70, content.len() / 2, content.len() - 1] {
        let mut flipped = content.clone();
        flipped[at] ^= 1;
        fs::write(&bad, flipped).unwrap();
        refused(&bad, &secret, &format!("a flipped bit at {at}"));
    }
    for cut in [0, 30, 200, content.len() / 2, content.len() - 1] {
        fs::write(&bad, &content[..cut]).unwrap();
        refused(&bad, &secret, &format!("cut at {cut}"));
    }
    verify(&file, &secret, folder.path()).unwrap();
}

#[test]
fn a_damaged_store_names_the_checkpoint_that_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let seen = block_on(async {
        let store = storage::open(&data).unwrap();
        fill(&store, 0, 20).await;
        storage::checkpoints(&data).take(&store, SystemTime::now()).await.unwrap();
        let seen = fill(&store, 20, 40).await;
        store.close();
        seen
    });
    let current = data.join("store/db/CURRENT");
    fs::write(&current, "MANIFEST-nonsense\n").unwrap();
    let error = format!("{:#}", storage::open(&data).err().unwrap());
    let command = error.split("skiff restore ").nth(1).unwrap_or_else(|| panic!("{error}"));
    let checkpoint = PathBuf::from(command.split(" --data-dir").next().unwrap());
    assert_eq!(Some(checkpoint.as_path()), storage::checkpoints(&data).list().first().map(|c| c.folder.as_path()));
    // Interrupted at its last step: no server may start on what would be an empty store.
    fs::rename(data.join("store"), data.join("store.damaged-before")).unwrap();
    fs::create_dir(data.join(REPLACEMENT)).unwrap();
    assert!(format!("{:#}", storage::check(&data).unwrap_err()).contains("was interrupted"));
    let refused = restore(&checkpoint, &data, &words("correct horse")).unwrap_err();
    assert!(format!("{refused:#}").contains("is there"), "{refused:#}");
    assert_eq!(restore_checkpoint(&checkpoint, &data).unwrap().0, None);
    storage::check(&data).unwrap();
    // And whole.
    fs::write(&current, "MANIFEST-nonsense\n").unwrap();
    let (aside, revision) = restore_checkpoint(&checkpoint, &data).unwrap();
    assert!(aside.unwrap().join("db/CURRENT").exists() && revision > seen);
    block_on(async {
        let held = folder::lock(&data, 1).unwrap();
        let refused = restore_checkpoint(&checkpoint, &data).unwrap_err();
        assert!(format!("{refused:#}").contains("stop it first"), "{refused:#}");
        let refused = restore(&checkpoint, &data, &words("correct horse")).unwrap_err();
        assert!(format!("{refused:#}").contains("stop it first"), "{refused:#}");
        drop(held);
        let store = storage::open(&data).unwrap();
        let all = store.range(RangeRequest::prefix("/registry/configmaps/".into())).await.unwrap();
        assert_eq!((all.count, all.revision), (20, revision));
        store.verify().await.unwrap();
    });
    store::check(&checkpoint).unwrap();
}
