//! `bench boot`: how fast a one-node cluster comes up, what it costs when idle, how fast pods are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use testkit::kube::PATIENCE;
use testkit::{Daemon, Kube};

use super::load::Load;
use super::table::{Table, mebibytes, median, seconds};
use super::{Common, build, exec, process};

/// The image of the pods.
const IMAGE: &str = "docker.io/library/busybox:latest";
/// How often something that is about to happen is looked at.
const OFTEN: Duration = Duration::from_millis(2);
const SOMETIMES: Duration = Duration::from_millis(100);
/// Time for a cluster to come to rest before it is measured idle.
const REST: Duration = Duration::from_secs(15);

/// How often and how long.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    /// Cold and warm starts; the middle one counts.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Seconds over which idle processor time is taken.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Pods made one after the other.
    #[arg(long, default_value_t = 20)]
    pods: u64,
    /// Only starts.
    #[arg(long)]
    only_starts: bool,
}

impl Options {
    /// The same options as arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--starts={}", self.starts), format!("--idle={}", self.idle)];
        arguments.push(format!("--pods={}", self.pods));
        arguments.extend(self.only_starts.then(|| "--only-starts".to_owned()));
        arguments
    }
}

/// Where a server keeps what.
struct Place {
    skiff: PathBuf,
    data: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(skiff: &Path, folder: &Path, name: &str) -> anyhow::Result<Place> {
        let place = Place { skiff: skiff.into(), data: folder.join(name), log: folder.join(format!("{name}.log")) };
        std::fs::create_dir_all(place.data.join("images"))?;
        std::fs::copy(build::busybox_archive(), place.data.join("images/busybox.tar"))?;
        Ok(place)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    fn start(&self) -> anyhow::Result<Daemon> {
        let mut command = Command::new(&self.skiff);
        command.args(["server", "--node-name", "n1", "--data-dir"]).arg(&self.data);
        Daemon::start(&mut command, &self.log)
    }
}

/// Seconds since the start of the program, except the last one.
#[derive(Default)]
struct Start {
    /// `/readyz` says ok, and the create that follows at once succeeds.
    usable: f64,
    node_ready: f64,
    untainted: f64,
    /// From create sent to Ready seen of a pod made when the node has just become schedulable.
    pod: f64,
}

/// Measures and prints.
pub async fn measure(options: &Options, folder: &Path) -> anyhow::Result<()> {
    let skiff = options.common.skiff.clone().context("which binary?")?;
    let table = Table::new(&[("what", 44), ("measured", 22), ("first light", 12), ("aim", 12)]);
    let row = |what: &str, measured: String, first: &str, aim: &str| {
        table.row([what.to_owned(), measured, first.to_owned(), aim.to_owned()]);
    };

    let mut cold = Vec::new();
    for number in 0..options.starts.max(1) {
        let place = Place::new(&skiff, folder, &format!("cold{number}"))?;
        let mut daemon = place.start()?;
        cold.push(cold_start(&place, &mut daemon).await?);
        daemon.stop()?;
    }
    let middle = |pick: fn(&Start) -> f64, of: &[Start]| seconds(median(&mut of.iter().map(pick).collect::<Vec<_>>()));
    row("cold start to readyz, next create succeeds", middle(|s| s.usable, &cold), "0.3 s", "0.1 s");

    let place = Place::new(&skiff, folder, "cold0")?;
    let mut warm = Vec::new();
    for _ in 0..options.starts.max(1) {
        let mut daemon = place.start()?;
        warm.push(warm_start(&place, &mut daemon).await?);
        daemon.stop()?;
    }
    row("warm start to readyz, next create succeeds", seconds(median(&mut warm)), "-", "0.05 s");
    row("node Ready", middle(|s| s.node_ready, &cold), "0.6 s", "0.3 s");
    row("node untainted", middle(|s| s.untainted, &cold), "0.8 s", "0.35 s");
    row("first pod: create → Running and Ready", middle(|s| s.pod, &cold), "+0.5 s", "+0.15 s");
    if options.only_starts {
        return Ok(());
    }
    let mut daemon = place.start()?;
    daemon.ready(&place.kubeconfig(), SOMETIMES).await?;
    if let Err(error) = idle_and_pods(options, &place, &row).await {
        bail!("{error}\n{}", daemon.log_end());
    }
    daemon.check()?;
    daemon.stop()?;
    sizes(&skiff, &row)
}

async fn connect(place: &Place, daemon: &mut Daemon) -> anyhow::Result<Kube> {
    let kube = daemon.ready(&place.kubeconfig(), OFTEN).await?;
    // Ready must mean that the next request succeeds.
    let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "bench-"}});
    kube.create("/api/v1/namespaces/default/configmaps", &probe).await?;
    Ok(kube)
}

async fn warm_start(place: &Place, daemon: &mut Daemon) -> anyhow::Result<f64> {
    connect(place, daemon).await?;
    Ok(daemon.started.elapsed().as_secs_f64())
}

async fn cold_start(place: &Place, daemon: &mut Daemon) -> anyhow::Result<Start> {
    let kube = connect(place, daemon).await?;
    let since = || daemon.started.elapsed().as_secs_f64();
    let mut start = Start { usable: since(), ..Start::default() };
    let node = "/api/v1/nodes/n1";
    kube.until(node, OFTEN, |node| condition(node, "Ready")).await?;
    start.node_ready = since();
    kube.until(node, OFTEN, |node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)).await?;
    start.untainted = since();

    let pods = "/api/v1/namespaces/default/pods";
    let sent = Instant::now();
    // The account that every pod has comes with the first breath of the controllers.
    while let Err(error) = kube.create(pods, &pod("first")).await {
        ensure!(sent.elapsed() < PATIENCE, "the first pod cannot be created: {error}");
        tokio::time::sleep(OFTEN).await;
    }
    let path = format!("{pods}/first");
    kube.until(&path, OFTEN, |pod| pod["status"]["phase"] == "Running" && condition(pod, "Ready")).await?;
    start.pod = sent.elapsed().as_secs_f64();
    kube.delete(&path).await?;
    no_pods(&kube).await?;
    Ok(start)
}

/// Whether a condition of an object is true.
fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == name && c["status"] == "True"))
}

fn pod_spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", "sleep 3600"],
        }],
    })
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec()})
}

/// Waits until no pod is left, and none of their processes.
async fn no_pods(kube: &Kube) -> anyhow::Result<()> {
    let none = |list: &Value| list["items"].as_array().is_some_and(Vec::is_empty);
    kube.until("/api/v1/pods", SOMETIMES, none).await?;
    let asked = Instant::now();
    while process::memory().len() > 1 {
        ensure!(asked.elapsed() < PATIENCE, "processes of pods are left: {:?}", process::memory());
        tokio::time::sleep(SOMETIMES).await;
    }
    Ok(())
}

fn sizes(skiff: &Path, row: &dyn Fn(&str, String, &str, &str)) -> anyhow::Result<()> {
    let size = std::fs::metadata(skiff)?.len();
    let packed = Command::new("xz").args(["-6", "-T0", "-k", "-c"]).arg(skiff).output();
    let packed = packed.ok().filter(|o| o.status.success()).map(|o| o.stdout.len());
    let megabytes = |bytes: f64| format!("{:.1} MB", bytes / 1e6);
    let measured = match packed {
        Some(packed) => format!("{} / {}", megabytes(size as f64), megabytes(packed as f64)),
        None => format!("{} / - (no xz)", megabytes(size as f64)),
    };
    row("binary / packed", measured, "60 MB", "40 / 15 MB");
    Ok(())
}

/// Processor time of one core that everything uses while nothing happens, as a share.
async fn idle_share(time: Duration) -> f64 {
    tokio::time::sleep(REST).await;
    let (before, started) = (process::cpu(), Instant::now());
    tokio::time::sleep(time).await;
    (process::cpu() - before).as_secs_f64() / started.elapsed().as_secs_f64()
}

async fn idle_and_pods(options: &Options, place: &Place, row: &dyn Fn(&str, String, &str, &str)) -> anyhow::Result<()> {
    let idle = Duration::from_secs(options.idle);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let kube = Kube::read(&place.kubeconfig())?;
    kube.until("/api/v1/nodes/n1", SOMETIMES, |node| condition(node, "Ready")).await?;
    let share = idle_share(idle).await;
    let none = process::pss() as f64;
    row("memory idle (PSS, all processes)", mebibytes(none), "60 MiB", "45 MiB");
    row("idle CPU of one core, no pods", percent(share), "0.5 %", "0.15 %");

    let load = Load::new(&place.kubeconfig())?;
    let image = ["--image", IMAGE];
    for (what, host, first, aim) in [
        ("pod: create → Ready, pod network", "false", "150 ms", "60 ms"),
        ("pod: create → Ready, host network", "true", "-", "45 ms"),
    ] {
        let network = format!("--host-network={host}");
        let ready = load.run("pod-ready", options.pods, &[&image[..], &[&network, "--prefix", host]].concat())?;
        let (p50, p90) = (ready.number("p50ms") / 1e3, ready.number("p90ms") / 1e3);
        row(what, format!("{} (p90 {})", seconds(p50), seconds(p90)), first, aim);
        no_pods(&kube).await?;
    }

    let deployment =
        load.run("deploy-ready", 1, &[&image[..], &["--replicas", "20", "--prefix", "twenty", "--keep"]].concat())?;
    row("20-replica Deployment Ready", seconds(deployment.number("wallS")), "2 s", "0.8 s");

    let pods = kube.get("/api/v1/namespaces/loadgen/pods").await?;
    let name = pods["items"][0]["metadata"]["name"].as_str().context("the Deployment has no pod")?.to_owned();
    let mut rounds = Vec::new();
    for _ in 0..30 {
        let sent = Instant::now();
        let output = exec::exec(&kube, "loadgen", &name, &["echo", "hello"]).await?;
        ensure!(output == "hello\n", "exec said {output:?}");
        rounds.push(sent.elapsed().as_secs_f64());
    }
    row("exec round trip, a connection each", seconds(median(&mut rounds)), "-", "10 ms");

    let share = idle_share(idle).await;
    row("idle CPU of one core, 20 pods", percent(share), "-", "0.5 %");
    let path = "/apis/apps/v1/namespaces/loadgen/deployments/twenty";
    kube.patch(path, &json!({"spec": {"replicas": 50}})).await?;
    kube.until(path, SOMETIMES, |d| d["status"]["readyReplicas"] == 50).await?;
    tokio::time::sleep(REST).await;
    let each = (process::pss() as f64 - none) / 50.0;
    let shims: Vec<u64> = process::memory().iter().filter(|m| m.command.contains(" shim")).map(|m| m.pss).collect();
    let shim = shims.iter().sum::<u64>() as f64 / shims.len().max(1) as f64;
    row(
        "memory per idle pod (of which the shim)",
        format!("{} ({})", mebibytes(each), mebibytes(shim)),
        "4 MiB",
        "2 MiB",
    );

    kube.delete(path).await?;
    no_pods(&kube).await
}
