//! Writes through the whole road: bootstrap objects, admission plugins, reservations.

use super::support::{Cluster, call};
use client::Verb;
use serde_json::{Value, json};

async fn create(c: &Cluster, resource: &str, ns: &str, body: Value) -> Result<Value, apimachinery::Status> {
    call(&c.admin, Verb::Create, resource, ns, "", body).await
}

async fn get(c: &Cluster, resource: &str, ns: &str, name: &str) -> Result<Value, apimachinery::Status> {
    call(&c.admin, Verb::Get, resource, ns, name, Value::Null).await
}

async fn count(c: &Cluster, resource: &str, ns: &str) -> usize {
    let list = call(&c.admin, Verb::List, resource, ns, "", Value::Null).await.unwrap();
    list["items"].as_array().unwrap().len()
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

async fn with_account() -> Cluster {
    let c = Cluster::start().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    create(&c, "v1/serviceaccounts", "default", account).await.unwrap();
    c
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_cluster_has_what_every_cluster_has() {
    let c = Cluster::start().await;
    assert_eq!(count(&c, "v1/namespaces", "").await, 4);
    assert!(count(&c, "rbac.authorization.k8s.io/v1/clusterroles", "").await > 60);
    assert_eq!(count(&c, "flowcontrol.apiserver.k8s.io/v1/flowschemas", "").await, 11);
    let service = get(&c, "v1/services", "default", "kubernetes").await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let address = get(&c, "networking.k8s.io/v1/ipaddresses", "", "10.96.0.1").await.unwrap();
    assert_eq!(address["spec"]["parentRef"]["name"], "kubernetes");
    let role = get(&c, "rbac.authorization.k8s.io/v1/clusterroles", "", "cluster-admin").await.unwrap();
    let before = role["metadata"]["resourceVersion"].clone();
    apiserver::bootstrap::ensure(&c.engine, &c.config).await.unwrap();
    let role = get(&c, "rbac.authorization.k8s.io/v1/clusterroles", "", "cluster-admin").await.unwrap();
    assert_eq!(role["metadata"]["resourceVersion"], before, "a second start changes nothing");
    let revision = c.engine.revision();
    apiserver::bootstrap::ensure(&c.engine, &c.config).await.unwrap();
    assert_eq!(c.engine.revision(), revision, "a third start writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_account_priority_and_tolerations() {
    let c = with_account().await;
    let made = create(&c, "v1/pods", "default", pod("web")).await.unwrap();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let volume = made["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
    let mut high = pod("high");
    high["spec"]["priorityClassName"] = json!("system-node-critical");
    let made = create(&c, "v1/pods", "default", high).await.unwrap();
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    let mut lost = pod("lost");
    lost["spec"]["serviceAccountName"] = json!("nobody");
    let status = create(&c, "v1/pods", "default", lost).await.unwrap_err();
    assert_eq!(
        status.message,
        r#"pods "lost" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_guard_their_content() {
    let c = Cluster::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let status = create(&c, "v1/configmaps", "nowhere", map.clone()).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (404, r#"namespaces "nowhere" not found"#));
    let status = call(&c.admin, Verb::Delete, "v1/namespaces", "", "default", Value::Null).await.unwrap_err();
    assert_eq!(status.message, r#"namespaces "default" is forbidden: this namespace may not be deleted"#);
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ending"}});
    create(&c, "v1/namespaces", "", space).await.unwrap();
    create(&c, "v1/configmaps", "ending", map.clone()).await.unwrap();
    call(&c.admin, Verb::Delete, "v1/namespaces", "", "ending", Value::Null).await.unwrap();
    let status = create(
        &c,
        "v1/configmaps",
        "ending",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"},
        }),
    )
    .await
    .unwrap_err();
    assert_eq!(status.code, 403);
    assert_eq!(status.details.unwrap().causes[0].reason, "NamespaceTerminating");
}

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["ports"].is_null() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn services_take_and_give_back() {
    let c = Cluster::start().await;
    let made = create(&c, "v1/services", "default", service("a", json!({"type": "NodePort"}))).await.unwrap();
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_string();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));

    let taken = service("b", json!({"clusterIP": ip}));
    let status = create(&c, "v1/services", "default", taken).await.unwrap_err();
    assert!(
        status.message.ends_with(&format!("failed to allocate IP {ip}: provided IP is already allocated")),
        "{status}"
    );
    let taken = service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}));
    let status = create(&c, "v1/services", "default", taken.clone()).await.unwrap_err();
    assert_eq!(
        status.message,
        format!(
            "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
        )
    );

    // To another type: the node port is free again.
    let mut plain = get(&c, "v1/services", "default", "a").await.unwrap();
    plain["spec"]["type"] = json!("ClusterIP");
    let plain = call(&c.admin, Verb::Update, "v1/services", "default", "a", plain).await.unwrap();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none(), "{}", plain["spec"]);
    create(&c, "v1/services", "default", taken).await.unwrap();

    // Without a service no address.
    call(&c.admin, Verb::Delete, "v1/services", "default", "a", Value::Null).await.unwrap();
    assert_eq!(get(&c, "networking.k8s.io/v1/ipaddresses", "", &ip).await.unwrap_err().code, 404);
    create(&c, "v1/services", "default", service("d", json!({"clusterIP": ip}))).await.unwrap();

    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let mut made = create(&c, "v1/services", "default", service("e", external)).await.unwrap();
    assert!(made["spec"].get("clusterIP").is_none());
    made["spec"]["type"] = json!("ClusterIP");
    made["spec"].as_object_mut().unwrap().remove("externalName");
    let made = call(&c.admin, Verb::Update, "v1/services", "default", "e", made).await.unwrap();
    assert!(made["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_services_at_once_never_share() {
    let c = Cluster::start().await;
    let spec = json!({"type": "NodePort"});
    let all = (0..40).map(|i| create(&c, "v1/services", "default", service(&format!("s{i}"), spec.clone())));
    let made: Vec<Value> = futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    let unique = |f: &dyn Fn(&Value) -> String| made.iter().map(f).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(unique(&|s| s["spec"]["clusterIP"].to_string()), 40);
    assert_eq!(unique(&|s| s["spec"]["ports"][0]["nodePort"].to_string()), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_under_load() {
    let c = with_account().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "5"}},
    });
    let mut quota = create(&c, "v1/resourcequotas", "default", quota).await.unwrap();
    let status = create(&c, "v1/pods", "default", pod("early")).await;
    assert!(status.is_ok(), "a quota without status limits nothing yet");
    quota["status"] = json!({"hard": {"pods": "5"}, "used": {"pods": "1"}});
    quota["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    call(&c.admin, Verb::Update, "v1/resourcequotas", "default", "q:status", quota).await.unwrap();
    let all = (0..12).map(|i| {
        let body = pod(&format!("p{i}"));
        create(&c, "v1/pods", "default", body)
    });
    let results = futures::future::join_all(all).await;
    let made = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(made, 4);
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(
        refused.message.contains("exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"),
        "{refused}"
    );
    let quota = get(&c, "v1/resourcequotas", "default", "q").await.unwrap();
    assert_eq!(quota["status"]["used"]["pods"], "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_they_hold() {
    let c = Cluster::start().await;
    let role = |name: &str, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": rules,
        })
    };
    let roles = "rbac.authorization.k8s.io/v1/clusterroles";
    let manager = role(
        "manager",
        json!([
            {"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        ]),
    );
    create(&c, roles, "", manager).await.unwrap();
    create(
        &c,
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
        "",
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "manager"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "manager"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
        }),
    )
    .await
    .unwrap();
    let ann = c.user("ann", &[]);
    let less = role("less", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    let mut result = call(&ann, Verb::Create, roles, "", "", less.clone()).await;
    for _ in 0..3000 {
        // The authorizer follows the binding by a watch.
        if result.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        result = call(&ann, Verb::Create, roles, "", "", less.clone()).await;
    }
    result.unwrap();
    let more = role("more", json!([{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]));
    let status = call(&ann, Verb::Create, roles, "", "", more).await.unwrap_err();
    assert_eq!(
        status.message,
        "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shapes_are_one_object() {
    let c = Cluster::start().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R", "message": "m",
        "type": "Normal", "source": {"component": "test"},
    });
    create(&c, "v1/events", "default", event).await.unwrap();
    let seen = get(&c, "events.k8s.io/v1/events", "default", "e").await.unwrap();
    assert_eq!((&seen["note"], &seen["regarding"]["name"]), (&json!("m"), &json!("p")));
    let scaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
                 "targetCPUUtilizationPercentage": 60},
    });
    create(&c, "autoscaling/v1/horizontalpodautoscalers", "default", scaler).await.unwrap();
    let seen = get(&c, "autoscaling/v2/horizontalpodautoscalers", "default", "h").await.unwrap();
    assert_eq!(seen["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    create(&c, "v1/secrets", "default", secret).await.unwrap();
    assert_eq!(get(&c, "v1/secrets", "default", "s").await.unwrap()["data"]["k"], "aGlkZGVu");
    let stored = c.engine.store().get(b"/registry/secrets/default/s").await.unwrap().unwrap();
    assert!(!stored.value.windows(8).any(|w| w == b"aGlkZGVu"), "sealed at rest");
}
