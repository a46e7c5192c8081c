//! `bench api`: processor time and latency of the API's operations, beside upstream's API server with etcd.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use testkit::Daemon;

use super::load::Load;
use super::table::{Table, mebibytes, seconds};
use super::{Common, peer, process};

/// How much.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    /// Leave upstream's API server out.
    #[arg(long)]
    alone: bool,
    /// ConfigMaps that are made, listed and changed.
    #[arg(long, default_value_t = 5001)]
    objects: u64,
    /// Watchers among whom the cost of an event is divided: few make it less exact.
    #[arg(long, default_value_t = 400)]
    watchers: u64,
}

impl Options {
    /// The same options as arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--objects={}", self.objects), format!("--watchers={}", self.watchers)];
        arguments.extend(self.alone.then(|| "--alone".to_owned()));
        arguments
    }
}

/// What is measured: its name, its aim, and how it is written.
const ROWS: &[(&str, &str, fn(f64) -> String)] = &[
    ("create, durable, 64 clients: server CPU", "0.20 ms", seconds),
    ("create: a second", "-", rate),
    ("create, one client: p50", "-", seconds),
    ("get, 64 clients: server CPU", "0.06 ms", seconds),
    ("get: a second", "-", rate),
    ("update, 16 clients: server CPU", "0.25 ms", seconds),
    ("update: a second", "-", rate),
    ("list of all, protobuf: p50", "4 ms", seconds),
    ("list of all, protobuf: server CPU", "-", seconds),
    ("list of all, JSON: p50", "5 ms", seconds),
    ("list of all, JSON: server CPU", "-", seconds),
    ("watch event to one watcher: server CPU", "1.5 µs", seconds),
    ("memory after the load (PSS)", "-", mebibytes),
];

const OFTEN: Duration = Duration::from_millis(20);

fn rate(value: f64) -> String {
    format!("{value:.0}/s")
}

/// Measures and prints.
pub async fn measure(options: &Options, folder: &Path) -> anyhow::Result<()> {
    let skiff = options.common.skiff.clone().context("which binary?")?;
    let data = folder.join("skiff");
    let log = folder.join("skiff.log");
    let mut command = Command::new(skiff);
    command.args(["server", "--disable", "node", "--data-dir"]).arg(&data);
    let mut daemon = Daemon::start(&mut command, &log)?;
    daemon.ready(&data.join("kubeconfig"), OFTEN).await?;
    let ours = figures(options, &data.join("kubeconfig"))?;
    daemon.stop()?;

    let theirs = match (options.alone, peer::Peer::find()) {
        (true, _) => None,
        (false, Err(missing)) => {
            println!("measured alone: {missing}");
            None
        }
        (false, Ok(peer)) => {
            let running = peer.start(&folder.join("peer")).await?;
            let theirs = figures(options, &running.kubeconfig)?;
            running.stop()?;
            Some(theirs)
        }
    };

    let table = Table::new(&[("what", 42), ("Skiff", 12), ("upstream", 12), ("ratio", 7), ("aim", 8)]);
    for (number, (what, aim, text)) in ROWS.iter().enumerate() {
        let our = ours[number];
        let (their, ratio) = match &theirs {
            Some(theirs) => (text(theirs[number]), format!("{:.2}×", our / theirs[number])),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row([(*what).to_owned(), text(our), their, ratio, (*aim).to_owned()]);
    }
    Ok(())
}

/// The figures of one server, in the order of [`ROWS`].
fn figures(options: &Options, kubeconfig: &Path) -> anyhow::Result<Vec<f64>> {
    let load = Load::new(kubeconfig)?;
    let n = options.objects;
    let objects = n.to_string();
    let mut figures = Vec::new();
    println!("measuring {}", kubeconfig.display());

    // What a server does only once, such as opening its caches, is not the operation's.
    load.run("create", 200, &["--parallel", "16", "--prefix", "warm", "--namespace", "warm"])?;
    load.run("get", 200, &["--parallel", "16", "--prefix", "warm", "--namespace", "warm"])?;

    let create = load.run("create", n, &["--parallel", "64", "--conns", "4"])?;
    let single = load.run("create", 500, &["--prefix", "single", "--namespace", "single"])?;
    figures.extend([create.server_each(), create.number("opsPerS"), single.number("p50ms") / 1e3]);

    let gets = ["--parallel", "64", "--conns", "4", "--raw", "--objects", &objects];
    let get = load.run("get", 4 * n, &gets)?;
    figures.extend([get.server_each(), get.number("opsPerS")]);

    let few = n.min(250).to_string();
    // Few objects: the client reads each of them once before it begins.
    let update = load.run("update", 2 * n, &["--parallel", "16", "--conns", "4", "--objects", &few])?;
    figures.extend([update.server_each(), update.number("opsPerS")]);

    for form in ["protobuf", "json"] {
        let list = load.run("list", 50, &["--raw", "--content-type", form])?;
        figures.extend([list.number("p50ms") / 1e3, list.server_each()]);
    }

    // The same changes seen by few and by many: the difference is what the others' events cost.
    const EVENTS: u64 = 300;
    let others = options.watchers.max(1);
    let watched = |watchers: u64| {
        load.run("watch-fanout", EVENTS, &["--watchers", &watchers.to_string(), "--conns", "8", "--namespace", "watch"])
    };
    let (one, many) = (watched(1)?, watched(1 + others)?);
    let more = many.server.as_secs_f64() - one.server.as_secs_f64();
    figures.push(more / (EVENTS * others) as f64);
    figures.push(process::pss() as f64);
    Ok(figures)
}
