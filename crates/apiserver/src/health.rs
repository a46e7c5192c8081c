//! `/healthz`, `/livez`, `/readyz`, `/version`, `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use apimachinery::Status;

use crate::pipeline::{self, Request};
use crate::request::RequestInfo;
use crate::respond::{self, Response};
use crate::server::ApiServer;

/// The Kubernetes version that this server speaks.
pub const VERSION: &str = "v1.37.2";

/// What start-up has reached.
#[derive(Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

/// The checks of one endpoint, each with its outcome.
pub async fn check(server: &ApiServer, info: &RequestInfo) -> Result<Response, Status> {
    let mut parts = info.path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or_default();
    let mut checks = vec![("ping", Ok(())), ("etcd", server.store_answers().await)];
    if endpoint == "readyz" {
        let ready = server.health.ready.load(Ordering::Acquire);
        checks.push(("poststarthook/bootstrap", if ready { Ok(()) } else { Err(Status::internal("not finished")) }));
    }
    if let Some(name) = parts.next() {
        checks.retain(|(check, _)| *check == name);
        if checks.is_empty() {
            return Ok(pipeline::page_not_found());
        }
    }
    let excluded: Vec<&str> = info.query.iter().filter(|(k, _)| k == "exclude").map(|(_, v)| v.as_str()).collect();
    checks.retain(|(check, _)| !excluded.contains(check));
    let failed = checks.iter().any(|(_, outcome)| outcome.is_err());
    let plain = "text/plain; charset=utf-8";
    if !failed && !info.flag("verbose") {
        return Ok(respond::respond(200, plain, respond::full("ok")));
    }
    let mut text = String::new();
    for (name, outcome) in &checks {
        let _ = match outcome {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(_) => writeln!(text, "[-]{name} failed: reason withheld"),
        };
    }
    let _ = writeln!(text, "{endpoint} check {}", if failed { "failed" } else { "passed" });
    Ok(respond::respond(if failed { 500 } else { 200 }, plain, respond::full(text)))
}

/// `/version`: the Kubernetes version that clients gate features on.
pub fn version(request: &Request) -> Result<Response, Status> {
    if request.parts.method != http::Method::GET {
        return Ok(pipeline::page_not_found());
    }
    let mut numbers = VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let body = format!(
        r#"{{
  "major": "{major}",
  "minor": "{minor}",
  "emulationMajor": "{major}",
  "emulationMinor": "{minor}",
  "minCompatibilityMajor": "{major}",
  "minCompatibilityMinor": "{}",
  "gitVersion": "{VERSION}+skiff.{}",
  "gitCommit": "",
  "gitTreeState": "clean",
  "buildDate": "1970-01-01T00:00:00Z",
  "goVersion": "",
  "compiler": "rustc",
  "platform": "linux/{}"
}}"#,
        minor.parse::<u32>().map_or(0, |m| m.saturating_sub(1)),
        env!("CARGO_PKG_VERSION"),
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    );
    Ok(respond::respond(200, "application/json", respond::full(body)))
}

/// `/metrics` in the Prometheus text format.
pub fn metrics(server: &ApiServer) -> Result<Response, Status> {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind."
    );
    let _ = writeln!(text, "# TYPE apiserver_storage_objects gauge");
    for (resource, count) in server.engine.counts() {
        let _ = writeln!(text, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
    }
    Ok(respond::respond(200, "text/plain; version=0.0.4; charset=utf-8", respond::full(text)))
}
