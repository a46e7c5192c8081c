//! Expressions at work: admission policies, match conditions, rules of custom resources.

use std::time::Duration;

use super::support::{Cluster, call};
use apimachinery::Status;
use client::Verb;
use serde_json::{Value, json};

const REGISTRATION: &str = "admissionregistration.k8s.io/v1";

async fn register(c: &Cluster, plural: &str, kind: &str, name: &str, spec: Value) -> Result<Value, Status> {
    let body = json!({"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    call(&c.admin, Verb::Create, &format!("{REGISTRATION}/{plural}"), "", "", body).await
}

async fn map(c: &Cluster, namespace: &str, name: &str, data: Value) -> Result<Value, Status> {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    call(&c.admin, Verb::Create, "v1/configmaps", namespace, "", body).await
}

/// Policies are followed by a watch: tries with new names until an attempt ends as it should.
async fn eventually(what: &str, mut attempt: impl AsyncFnMut(String) -> bool) {
    for i in 0..600 {
        if attempt(format!("try{i}")).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {what}");
}

fn config_maps(operations: &[&str]) -> Value {
    json!({"resourceRules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_policies_refuse_by_variables_and_parameters() {
    let c = Cluster::start().await;
    let limits = map(&c, "default", "limits", json!({"most": "2"})).await;
    limits.unwrap();
    let policy = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": config_maps(&["CREATE", "UPDATE"]),
        "matchConditions": [{"name": "only-tested", "expression": "object.metadata.name.startsWith('try')"}],
        "variables": [
            {"name": "count", "expression": "has(object.data) ? size(object.data) : 0"},
            {"name": "fine", "expression": "variables.count <= int(params.data.most)"},
        ],
        "validations": [
            {"expression": "variables.fine", "messageExpression": "'at most ' + params.data.most", "reason": "Forbidden"},
            {"expression": "namespaceObject.metadata.name == 'default'"},
        ],
    });
    register(&c, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "small", policy).await.unwrap();
    let binding = json!({
        "policyName": "small", "validationActions": ["Deny"],
        "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
    });
    register(&c, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "b", binding).await.unwrap();
    let three = json!({"a": "1", "b": "2", "c": "3"});
    eventually("a refusal", async |name| match map(&c, "default", &name, three.clone()).await {
        Ok(_) => false,
        Err(status) => {
            let end = "is forbidden: ValidatingAdmissionPolicy 'small' with binding 'b' denied request: at most 2";
            assert!(status.code == 403 && status.message.ends_with(end), "{status:?}");
            true
        }
    })
    .await;
    map(&c, "default", "try-two", json!({"a": "1", "b": "2"})).await.unwrap();
    map(&c, "default", "other", three).await.unwrap();
    let status = map(&c, "kube-system", "try-there", json!({})).await.unwrap_err();
    let end = "denied request: failed expression: namespaceObject.metadata.name == 'default'";
    assert!(status.code == 422 && status.reason == "Invalid" && status.message.ends_with(end), "{status:?}");
    // Without its parameters the binding refuses.
    call(&c.admin, Verb::Delete, "v1/configmaps", "default", "limits", Value::Null).await.unwrap();
    let status = map(&c, "default", "try-none", json!({})).await.unwrap_err();
    assert!(status.message.contains("no params found for policy binding with `Deny`"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_policies_apply_and_patch() {
    let c = Cluster::start().await;
    let policy = json!({
        "matchConstraints": config_maps(&["CREATE"]),
        "reinvocationPolicy": "Never",
        "variables": [{"name": "who", "expression": "request.userInfo.username"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}, data: {'who': variables.who}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'test', path: '/data/who', value: variables.who}, \
                  JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: object.data.who.substring(0, 6)}]"}},
        ],
    });
    register(&c, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", "marks", policy).await.unwrap();
    let binding = json!({"policyName": "marks"});
    register(&c, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", "b", binding).await.unwrap();
    eventually("a change", async |name| {
        let made = map(&c, "default", &name, json!({"own": "1"})).await.unwrap();
        if made["data"]["who"].is_null() {
            return false;
        }
        assert_eq!(made["data"], json!({"own": "1", "who": "system:apiserver"}));
        assert_eq!(made["metadata"]["labels"], json!({"seen": "yes", "a/b": "system"}));
        true
    })
    .await;
    // What cannot be computed refuses.
    let broken = json!({
        "matchConstraints": config_maps(&["CREATE"]), "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{data: {'x': object.data.nope}}"}}],
    });
    register(&c, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", "broken", broken).await.unwrap();
    let binding = json!({"policyName": "broken"});
    register(&c, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", "c", binding).await.unwrap();
    eventually("a refusal", async |name| {
        let made = map(&c, "default", &format!("later-{name}"), json!({"own": "1"})).await;
        made.is_err_and(|status| {
            let start = "policy 'broken' with binding 'c' denied request: ";
            assert!(status.message.starts_with(start) && status.message.contains("no such key: nope"), "{status}");
            true
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_expressions_are_refused_at_creation() {
    let c = Cluster::start().await;
    let hook = json!({
        "apiVersion": REGISTRATION, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "w"},
        "webhooks": [{
            "name": "w.example.com", "clientConfig": {"url": "https://127.0.0.1:1/x"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "matchConditions": [{"name": "bad", "expression": "... [] bad expression"}],
        }],
    });
    let resource = format!("{REGISTRATION}/validatingwebhookconfigurations");
    let status = call(&c.admin, Verb::Create, &resource, "", "", hook).await.unwrap_err();
    assert!(status.code == 422 && status.message.contains("compilation failed"), "{status}");
    let policy = json!({
        "matchConstraints": config_maps(&["CREATE"]),
        "validations": [{"expression": "object.x +"}],
    });
    let made = register(&c, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "p", policy).await;
    let status = made.unwrap_err();
    assert!(
        status.message.contains("spec.validations[0].expression") && status.message.contains("Syntax error"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_custom_resources_are_enforced() {
    let c = Cluster::start().await;
    let crds = "apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = |rule: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {
                        "type": "object", "x-kubernetes-validations": [{"rule": rule}],
                        "properties": {"x": {"type": "integer"}, "n": {"type": "integer",
                            "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "must not shrink"}]}},
                    }},
                }}}],
            },
        })
    };
    let status = call(&c.admin, Verb::Create, crds, "", "", definition("self.z == 1")).await.unwrap_err();
    assert!(status.message.contains("undefined field 'z'"), "{status}");
    call(&c.admin, Verb::Create, crds, "", "", definition("self.x > 0")).await.unwrap();
    let widgets = "example.com/v1/widgets";
    let widget = |x: i64, n: i64| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"x": x, "n": n}});
    eventually("the resource is served", async |_| c.engine.catalog().get("example.com", "widgets").is_some()).await;
    let status = call(&c.admin, Verb::Create, widgets, "default", "", widget(0, 5)).await.unwrap_err();
    assert_eq!(status.message, "Widget.example.com \"a\" is invalid: spec: Invalid value: failed rule: self.x > 0");
    call(&c.admin, Verb::Create, widgets, "default", "", widget(1, 5)).await.unwrap();
    let shrink = json!({"spec": {"n": 4}});
    let status = call(&c.admin, Verb::Patch, widgets, "default", "a", shrink).await.unwrap_err();
    assert!(status.message.ends_with("spec.n: Invalid value: 4: must not shrink"), "{status}");
    call(&c.admin, Verb::Patch, widgets, "default", "a", json!({"spec": {"n": 6}})).await.unwrap();
}
