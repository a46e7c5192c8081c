//! Makes a golden data folder: what this version leaves on disk, for this and every later version to open.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use apimachinery::Kind;
use apimachinery::kind::{Storage, Verbs};
use clap::Args;
use pki::{Authority, Ca, Credential, Leaf};
use serde_json::{Value, json};
use testkit::{Daemon, Kube};

/// Where the folder comes from and goes to.
#[derive(Args)]
pub struct Options {
    /// The binary that makes the folder.
    #[arg(long)]
    skiff: PathBuf,
    /// The archive (default: tests/upgrade/<version>.tar.gz).
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Kinds that are left out: policies that some version would apply to the other objects, and what controllers of some
/// version rightly remove once it is old or belongs to nobody.
const LEFT_OUT: &[&str] = &[
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicyBinding",
    "IPAddress",
    "CertificateSigningRequest",
    "PodCertificateRequest",
];
/// Kinds that are made, so that their form is in the folder, but may have vanished when it is opened.
const FLEETING: &[&str] = &["Event"];
/// Kinds of which controllers change more than the status.
const LIVELY: &[&str] =
    &["Node", "Pod", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Endpoints", "EndpointSlice"];
/// The namespace of everything that has one.
const NAMESPACE: &str = "golden";
/// A moment before any test's clock.
const LONG_AGO: Duration = Duration::from_secs(1_577_836_800);
const DAY: Duration = Duration::from_secs(86_400);
/// Time for controllers to come to rest.
const REST: Duration = Duration::from_secs(15);

/// Makes the archive.
pub fn run(options: &Options) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(make(options))
}

async fn make(options: &Options) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no folder above")?;
    let out =
        options.out.clone().unwrap_or_else(|| root.join(format!("tests/upgrade/{}.tar.gz", env!("CARGO_PKG_VERSION"))));
    let work = tempfile::tempdir()?;
    let data = work.path().join("data");
    authorities(&data.join("pki"))?;

    let mut daemon = start(&options.skiff, &data, work.path())?;
    let kube = daemon.ready(&data.join("kubeconfig"), Duration::from_millis(50)).await?;
    let made = objects(&kube).await?;
    tokio::time::sleep(REST).await;
    let mut answers = String::new();
    for (path, compare) in &made {
        // What a controller has removed meanwhile is not part of the folder.
        if let Ok(object) = kube.get(path).await {
            writeln!(answers, "{}", json!({"path": path, "compare": compare, "object": object}))?;
        }
    }
    daemon.stop()?;
    std::fs::write(work.path().join("answers.jsonl"), &answers)?;
    expired_pairs(&data.join("pki"))?;
    for file in ["kubeconfig", "store/LOCK"] {
        let _ = std::fs::remove_file(data.join(file));
    }

    let pack = Command::new("bash")
        .args(["-c", "tar --sort=name --owner=0 --group=0 --numeric-owner --exclude='LOG*' -C \"$1\" -cf - data answers.jsonl | gzip -9n >\"$2\"", "pack"])
        .arg(work.path())
        .arg(&out)
        .status()?;
    ensure!(pack.success(), "the archive could not be written");
    let size = std::fs::metadata(&out)?.len();
    println!("{}: {} objects, {size} bytes", out.display(), answers.lines().count());
    Ok(())
}

fn start(skiff: &Path, data: &Path, work: &Path) -> anyhow::Result<Daemon> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(skiff);
    command.args(["server", "--disable", "node", "--bind-address", "127.0.0.1"]);
    command.args(["--https-listen-port", &port.to_string()]).arg("--data-dir").arg(data);
    Daemon::start(&mut command, &work.join("log"))
}

/// Authorities that outlive every test: a server takes those that it finds.
fn authorities(folder: &Path) -> anyhow::Result<()> {
    pki::file::private_dir(folder)?;
    for which in Authority::ALL {
        let made = Ca::generate(&format!("golden-{}", which.name()), 36_500 * DAY, SystemTime::UNIX_EPOCH + LONG_AGO)?;
        let path = folder.join(format!("{}.pem", which.name()));
        pki::file::write_private(&path, made.to_pem().as_bytes(), pki::file::Durability::Synced)?;
    }
    Ok(())
}

/// Replaces every issued pair by one that has expired: opening the folder must renew them.
fn expired_pairs(folder: &Path) -> anyhow::Result<()> {
    let issued = folder.join("issued");
    for entry in std::fs::read_dir(&issued)? {
        std::fs::remove_file(entry?.path())?;
    }
    let long_ago = SystemTime::UNIX_EPOCH + LONG_AGO;
    let leaves = [
        ("serving-kube-apiserver", Authority::Server, Leaf::server("kube-apiserver", ["localhost", "127.0.0.1"])),
        ("admin", Authority::Client, Leaf::client("system:admin", &["system:masters"])),
    ];
    for (name, authority, leaf) in leaves {
        let ca = Ca::from_pem(&std::fs::read_to_string(folder.join(format!("{}.pem", authority.name())))?)?;
        let (key, cert) = ca.issue_pair(&leaf, DAY, long_ago)?;
        let pair = Credential { key, chain: vec![cert] }.to_pem();
        pki::file::write_private(&issued.join(format!("{name}.pem")), pair.as_bytes(), pki::file::Durability::Synced)?;
    }
    Ok(())
}

/// How a recorded object is compared.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Compare {
    /// Every field.
    Whole,
    /// Without what controllers write: status, resourceVersion, generation, managedFields.
    Spec,
    /// Name, uid, creation time and labels.
    Identity,
}

/// The path of a kind's collection.
fn collection(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let namespace = if kind.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
    format!("{group}/{}{namespace}/{}", kind.version, kind.resource)
}

/// Makes objects of every kind that is stored, and some with a history; their paths.
async fn objects(kube: &Kube) -> anyhow::Result<BTreeMap<String, Compare>> {
    let mut made = BTreeMap::new();
    kube.create("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE, "labels": {"is": "golden"}}})).await?;
    made.insert(format!("/api/v1/namespaces/{NAMESPACE}"), Compare::Spec);
    let account = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default");
    kube.until(&account, Duration::from_millis(50), |_| true).await?;
    made.insert(account, Compare::Whole);
    history(kube, &mut made).await?;
    custom(kube, &mut made).await?;

    let mut kinds: Vec<Kind> = api::kinds();
    kinds.retain(|kind| {
        matches!(kind.storage, Storage::Stored { storage: true, .. })
            && kind.verbs.has(Verbs::CREATE)
            && !kind.example.is_empty()
            && !LEFT_OUT.contains(&kind.kind.as_ref())
    });
    for kind in &kinds {
        let mut object: Value = serde_json::from_str(kind.example).with_context(|| kind.kind.to_string())?;
        object["apiVersion"] = json!(kind.group_version().to_string());
        object["kind"] = json!(kind.kind);
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(NAMESPACE);
        }
        make_still(kind, &mut object);
        let path = collection(kind);
        let created = match kube.create(&path, &object).await {
            Ok(created) => created,
            Err(error) => {
                println!("left out: {error}");
                continue;
            }
        };
        let name = created["metadata"]["name"].as_str().context("an object without a name")?;
        if FLEETING.contains(&kind.kind.as_ref()) {
            continue;
        }
        let compare = match () {
            () if LIVELY.contains(&kind.kind.as_ref()) => Compare::Identity,
            () if kind.status => Compare::Spec,
            () => Compare::Whole,
        };
        made.insert(format!("{path}/{name}"), compare);
    }
    Ok(made)
}

/// Changes an example so that it neither acts on other objects nor is acted upon.
fn make_still(kind: &Kind, object: &mut Value) {
    // An event lies where the object is that it is about.
    if let Some(about) = object.get_mut("involvedObject") {
        about["namespace"] = json!(NAMESPACE);
    }
    for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        webhook["objectSelector"] = json!({"matchLabels": {"golden": "never"}});
    }
    if kind.kind == "Pod" {
        object["spec"]["nodeSelector"] = json!({"golden": "never"});
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("nodeName");
        }
    }
}

/// Objects that were changed and deleted, a sealed Secret, and what lives in memory with snapshots.
async fn history(kube: &Kube, made: &mut BTreeMap<String, Compare>) -> anyhow::Result<()> {
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    for name in ["changed", "deleted"] {
        kube.create(&maps, &json!({"metadata": {"name": name}, "data": {"a": "1", "text": "ü ŷ \u{1F600}\n"}})).await?;
    }
    for number in 0..20 {
        kube.patch(&format!("{maps}/changed"), &json!({"data": {"number": number.to_string()}})).await?;
    }
    kube.delete(&format!("{maps}/deleted")).await?;
    made.insert(format!("{maps}/changed"), Compare::Whole);
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    let secret = json!({"metadata": {"name": "sealed"}, "type": "Opaque", "stringData": {"password": "golden-hush"}});
    kube.create(&secrets, &secret).await?;
    made.insert(format!("{secrets}/sealed"), Compare::Whole);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({"metadata": {"name": "absent"}, "spec": {
        "holderIdentity": "absent", "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"}});
    kube.create(leases, &lease).await?;
    made.insert(format!("{leases}/absent"), Compare::Whole);
    Ok(())
}

/// A custom resource with defaults and a status, and objects of it.
async fn custom(kube: &Kube, made: &mut BTreeMap<String, Compare>) -> anyhow::Result<()> {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "blue"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"seen": {"type": "integer"}}}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.golden.example.com"},
        "spec": {"group": "golden.example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "shortNames": ["bt"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}}}]}});
    kube.create(definitions, &definition).await?;
    let path = format!("{definitions}/boats.golden.example.com");
    let established = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
    };
    kube.until(&path, Duration::from_millis(50), established).await?;
    made.insert(path, Compare::Spec);
    let boats = format!("/apis/golden.example.com/v1/namespaces/{NAMESPACE}/boats");
    let list = kube.until(&boats, Duration::from_millis(50), |list| list["kind"] == "BoatList").await?;
    ensure!(list["items"] == json!([]), "boats before the first one");
    let boat = json!({"apiVersion": "golden.example.com/v1", "kind": "Boat",
        "metadata": {"name": "skiff", "annotations": {"of": "oak"}},
        "spec": {"size": 9_007_199_254_740_993_i64, "free": {"deep": [1, 2.5, null, {"x": "y"}]}}});
    kube.create(&boats, &boat).await?;
    kube.patch(&format!("{boats}/skiff/status"), &json!({"status": {"seen": 3}})).await?;
    made.insert(format!("{boats}/skiff"), Compare::Whole);
    Ok(())
}
