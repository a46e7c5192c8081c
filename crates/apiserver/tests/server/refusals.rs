//! Bad input over real HTTP: the Status for each, judged against what is recorded.
//!
//! `refusals.jsonl` has a line a case: what upstream's kube-apiserver v1.37.2 answers. Where a case is not held to that,
//! it says why. Under `conformance/reference` this test asks that server and writes the file; `UPDATE_GOLDENS=1` writes
//! our own answers there instead, to be compared line by line.

mod cases;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::support::Cluster;
use super::wire::{Answer, Wire};
use cases::{Case, Said};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/refusals.jsonl");

/// What of an answer is compared.
fn digest(answer: &Answer) -> Value {
    let mut digest = json!({"code": answer.code});
    let warnings = answer.all("warning");
    if !warnings.is_empty() {
        digest["warnings"] = json!(warnings);
    }
    let tree: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match tree {
        Some(tree) if tree["kind"] == "Status" && tree["status"] == "Failure" => {
            for key in ["reason", "message", "details"] {
                if !tree[key].is_null() {
                    digest[key] = tree[key].clone();
                }
            }
            assert_eq!(tree["apiVersion"], "v1");
            assert_eq!(tree["code"], answer.code);
        }
        _ if answer.code >= 400 => digest["text"] = json!(String::from_utf8_lossy(&answer.body)),
        _ => {}
    }
    digest
}

/// Objects that the cases speak of.
async fn furnish(wire: &Wire) {
    let object = |path: &str, body: Value| (path.to_string(), body);
    let container = json!([{"name": "c", "image": "i"}]);
    let labels = json!({"app": "there"});
    let all = [
        object("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})),
        object("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "there"}, "data": {"a": "b"}})),
        object(
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "there"}, "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": container}}}}),
        ),
        object(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json!({"metadata": {"name": "things.test.example"}, "spec": {"group": "test.example", "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1},
                        "color": {"type": "string", "enum": ["red", "blue"]}},
                        "required": ["size"]}}}}}]}}),
        ),
    ];
    let json_type = [("Content-Type".to_string(), "application/json".to_string())];
    for (path, body) in all {
        let answer = wire.send("POST", &path, &json_type, body.to_string().as_bytes()).await;
        assert!(matches!(answer.code, 201 | 409), "{path}: {}", String::from_utf8_lossy(&answer.body));
    }
    for _ in 0..600 {
        let answer = wire.send("GET", "/apis/test.example/v1/things", &[], &[]).await;
        if answer.code == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the custom resource is never served");
}

async fn ask(wire: &Wire, case: &Case) -> Value {
    match wire.try_send(case.method, &case.path, &case.headers, &case.body).await {
        Some(answer) => digest(&answer),
        None => json!("the connection was closed without an answer"),
    }
}

/// How our answer differs from the wanted one, if it does.
fn difference(case: &Case, wanted: &Value, got: &Value) -> Option<String> {
    let (mut wanted, mut got) = (wanted.clone(), got.clone());
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_string();
    match case.said {
        Said::Exactly => {}
        // Up to these words the message is upstream's; what follows tells of the other language's types.
        Said::UpTo(words) => {
            for side in [&mut wanted, &mut got] {
                let message = text(side, "message");
                let cut = message.find(words).map_or(message.len(), |at| at + words.len());
                side["message"] = json!(message[..cut]);
                if let Some(causes) = side["details"]["causes"].as_array_mut() {
                    causes.iter_mut().for_each(|cause| cause["message"] = Value::Null);
                }
            }
            if !text(&wanted, "message").ends_with(words) {
                return Some(format!("upstream does not say {words:?}: {wanted}"));
            }
        }
        Said::InAnyOrder => {
            for side in [&mut wanted, &mut got] {
                let message = text(side, "message");
                side["message"] = json!(message.split(": [").next());
                if let Some(causes) = side["details"]["causes"].as_array_mut() {
                    causes.sort_by_key(|cause| cause.to_string());
                }
            }
        }
        Said::InOtherWords => {
            for side in [&mut wanted, &mut got] {
                for key in ["message", "text", "warnings"] {
                    side.as_object_mut().unwrap().remove(key);
                }
                if let Some(causes) = side["details"]["causes"].as_array_mut() {
                    causes.iter_mut().for_each(|cause| cause["message"] = Value::Null);
                }
            }
        }
        Said::Ours(code, reason) => {
            let same = got["code"] == code && got["reason"].as_str().unwrap_or_default() == reason;
            return (!same).then(|| format!("wanted {code} {reason}, got {got}"));
        }
    }
    (wanted != got).then(|| format!("upstream: {wanted}\n     ours: {got}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_as_recorded() {
    let all = cases::all();
    let names: std::collections::BTreeSet<&str> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len(), "two cases have one name");
    if let Ok(url) = std::env::var("UPSTREAM_URL") {
        return record(&url, &all).await;
    }
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    furnish(&wire).await;
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        return write(&wire, &all).await;
    }
    let golden: BTreeMap<String, Value> = std::fs::read_to_string(GOLDEN)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["case"].as_str().unwrap().to_string(), line["answer"].clone()))
        .collect();
    let mut wrong = Vec::new();
    for case in &all {
        let got = ask(&wire, case).await;
        match golden.get(case.name) {
            None => wrong.push(format!("{}: upstream was never asked\n     ours: {got}", case.name)),
            Some(wanted) => {
                if let Some(difference) = difference(case, wanted, &got) {
                    wrong.push(format!("{}: {} {}\n{difference}", case.name, case.method, case.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    // Whatever came in, the server goes on.
    assert_eq!(wire.send("GET", "/version", &[], &[]).await.code, 200);
}

/// Writes down what upstream's server answers.
async fn record(url: &str, all: &[Case]) {
    let address = url.trim_start_matches("https://").parse().unwrap();
    let tls = transport::ClientTls::insecure().config(&[b"http/1.1"]).unwrap();
    let wire = Wire { address, tls, token: Some(std::env::var("UPSTREAM_TOKEN").unwrap()) };
    furnish(&wire).await;
    write(&wire, all).await;
}

async fn write(wire: &Wire, all: &[Case]) {
    let mut text = String::new();
    for case in all {
        text.push_str(&json!({"case": case.name, "answer": ask(wire, case).await}).to_string());
        text.push('\n');
    }
    std::fs::write(GOLDEN, text).unwrap();
}

impl Cluster {
    /// Serves the cluster on loopback, to clients of the administrators' group.
    pub async fn listen(&self) -> Wire {
        use pki::{Authority, Identity};
        use transport::tls::ServerTls;
        use transport::{ClientAuth, ClientTls, Trust};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let roots = |which| Trust::new(self.hierarchy.trust(which).unwrap().roots().to_vec()).unwrap();
        let identity = |credential: pki::Credential| {
            transport::Identity::new(credential.chain.clone(), credential.key_der()).unwrap()
        };
        let serving = identity(self.hierarchy.server("kube-apiserver", ["127.0.0.1"]).unwrap());
        let server = ServerTls { identity: serving, client_auth: ClientAuth::Requested(roots(Authority::Client)) };
        let server = server.config(&transport::tls::H2_AND_H1).unwrap();
        tokio::spawn(apiserver::http::listen(self.server.clone(), listener, server, std::future::pending()));
        let admin = identity(self.hierarchy.client(&Identity::Admin).unwrap());
        let client = ClientTls::trusting(roots(Authority::Server)).identity(admin);
        Wire { address, tls: Arc::clone(&client.config(&[b"http/1.1"]).unwrap()), token: None }
    }
}
