//! Admission webhooks over real TLS: changes, refusals, failures.

use std::convert::Infallible;

use super::support::{Cluster, call};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Verb;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

/// Answers reviews: labels what is created, refuses what is called `bad`.
async fn review(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<Full<bytes::Bytes>>, Infallible> {
    let mutating = request.uri().path() == "/mutate";
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = &review["request"];
    let mut response = json!({"uid": asked["uid"], "allowed": true, "warnings": ["seen"]});
    if mutating {
        let patch = json!([{"op": "add", "path": "/data/patched", "value": asked["userInfo"]["username"]}]);
        response["patch"] = json!(STANDARD.encode(patch.to_string()));
        response["patchType"] = json!("JSONPatch");
    } else if asked["name"] == "bad" {
        response["allowed"] = json!(false);
        response["status"] = json!({"message": "not this one", "code": 403});
    }
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(hyper::Response::new(Full::new(answer.to_string().into())))
}

/// A TLS server on loopback: its URL and the PEM of its authority.
async fn server() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let hierarchy = pki::Hierarchy::open(folder.path().join("pki")).unwrap();
    hierarchy.prepare().unwrap();
    let credential = hierarchy.server("webhook", &["127.0.0.1".to_string()]).unwrap();
    let identity = transport::Identity::new(credential.chain.clone(), credential.key_der()).unwrap();
    let tls = transport::ServerTls { identity, client_auth: transport::ClientAuth::None };
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.config(&transport::tls::H2_AND_H1).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let authority = hierarchy.ca(pki::Authority::Server).unwrap().bundle_pem();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let io = TokioIo::new(stream);
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service_fn(review))
                    .await;
            });
        }
    });
    (url, authority)
}

fn configuration(kind: &str, name: &str, config: Value, policy: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "webhooks": [{
            "name": format!("{name}.example.com"), "clientConfig": config, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": policy, "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"hooked": "yes"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        }],
    })
}

async fn map(c: &Cluster, namespace: &str, name: &str) -> Result<Value, apimachinery::Status> {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}});
    call(&c.admin, Verb::Create, "v1/configmaps", namespace, "", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_change_refuse_and_fail() {
    let c = Cluster::start().await;
    c.plugins.caller().set(transport::Dialer::direct(transport::Resolver::system()));
    let (url, authority) = server().await;
    let authority = STANDARD.encode(authority);
    let space =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hooked", "labels": {"hooked": "yes"}}});
    call(&c.admin, Verb::Create, "v1/namespaces", "", "", space).await.unwrap();
    let mutating = "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let validating = "admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let config = json!({"url": format!("{url}/mutate"), "caBundle": authority});
    let body = configuration("MutatingWebhookConfiguration", "m", config, "Fail");
    call(&c.admin, Verb::Create, mutating, "", "", body).await.unwrap();
    let config = json!({"url": format!("{url}/validate"), "caBundle": authority});
    let body = configuration("ValidatingWebhookConfiguration", "v", config, "Fail");
    call(&c.admin, Verb::Create, validating, "", "", body).await.unwrap();

    // Configurations are followed by a watch.
    let mut refused = None;
    for i in 0..3000 {
        let made = map(&c, "hooked", &format!("m{i}")).await.unwrap();
        if made["data"]["patched"] == "system:apiserver" {
            if let Err(status) = map(&c, "hooked", "bad").await {
                refused = Some(status);
                break;
            }
            call(&c.admin, Verb::Delete, "v1/configmaps", "hooked", "bad", Value::Null).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = refused.expect("a refusal");
    assert_eq!(
        (status.code, status.message.as_str()),
        (403, "admission webhook \"v.example.com\" denied the request: not this one")
    );
    let made = map(&c, "default", "bad").await.unwrap();
    assert!(made["data"].get("patched").is_none(), "another namespace is not asked about");

    // A webhook that nobody answers.
    let dead = json!({"url": "https://127.0.0.1:1/x", "caBundle": authority});
    let body = configuration("ValidatingWebhookConfiguration", "a", dead.clone(), "Fail");
    call(&c.admin, Verb::Create, validating, "", "", body).await.unwrap();
    let mut failed = None;
    for i in 0..3000 {
        if let Err(status) = map(&c, "hooked", &format!("d{i}")).await {
            failed = Some(status);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = failed.expect("a failure");
    assert_eq!(status.code, 500);
    assert!(
        status.message.contains("failed calling webhook \"a.example.com\": failed to call webhook: Post"),
        "{status}"
    );
    let ignore = json!({"webhooks": configuration("ValidatingWebhookConfiguration", "a", dead, "Ignore")["webhooks"]});
    call(&c.admin, Verb::Patch, validating, "", "a", ignore).await.unwrap();
    let mut passed = false;
    for i in 0..3000 {
        passed = map(&c, "hooked", &format!("i{i}")).await.is_ok();
        if passed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(passed, "failures are ignored where the policy says so");
}
