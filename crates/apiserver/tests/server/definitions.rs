//! Custom resources from definition to end.

use std::time::Duration;

use super::support::{Cluster, call};
use client::Verb;
use serde_json::{Value, json};

const CRDS: &str = "apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "example.com/v1/widgets";

fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red"}},
                }}}},
            }],
        },
    })
}

async fn condition(c: &Cluster, name: &str, ty: &str) -> Value {
    let crd = call(&c.admin, Verb::Get, CRDS, "", name, Value::Null).await.unwrap();
    let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == ty).unwrap_or_default()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain: {what}");
}

fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size, "x": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_serves_and_ends_with_its_instances() {
    let c = Cluster::start().await;
    call(&c.admin, Verb::Create, CRDS, "", "", definition("widgets", "Widget")).await.unwrap();
    until("established", async || condition(&c, "widgets.example.com", "Established").await["status"] == "True").await;
    assert_eq!(condition(&c, "widgets.example.com", "NamesAccepted").await["reason"], "NoConflicts");

    let made = call(&c.admin, Verb::Create, WIDGETS, "default", "", widget("a", 3)).await.unwrap();
    assert_eq!(made["spec"], json!({"size": 3, "color": "red"}), "defaulted and pruned");
    let status = call(&c.admin, Verb::Create, WIDGETS, "default", "", widget("b", 0)).await.unwrap_err();
    assert_eq!(status.code, 422, "{status}");
    let status = call(&c.admin, Verb::Create, WIDGETS, "nowhere", "", widget("b", 1)).await.unwrap_err();
    assert_eq!(status.code, 404, "admission looks at custom resources too");

    let mut other = definition("gadgets", "Widget");
    other["spec"]["names"]["singular"] = json!("gadget");
    call(&c.admin, Verb::Create, CRDS, "", "", other).await.unwrap();
    until("refused", async || condition(&c, "gadgets.example.com", "NamesAccepted").await["status"] == "False").await;
    assert_eq!(condition(&c, "gadgets.example.com", "Established").await["reason"], "NotAccepted");

    call(&c.admin, Verb::Delete, CRDS, "", "widgets.example.com", Value::Null).await.unwrap();
    until("gone", async || {
        call(&c.admin, Verb::Get, CRDS, "", "widgets.example.com", Value::Null).await.is_err_and(|s| s.is_not_found())
    })
    .await;
    until("no longer served", async || c.engine.catalog().get("example.com", "widgets").is_none()).await;
    assert!(c.engine.store().get(b"/registry/example.com/widgets/default/a").await.unwrap().is_none());
    until("the name is free", async || condition(&c, "gadgets.example.com", "Established").await["status"] == "True")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_instance_holds_its_definition() {
    let c = Cluster::start().await;
    call(&c.admin, Verb::Create, CRDS, "", "", definition("widgets", "Widget")).await.unwrap();
    until("established", async || condition(&c, "widgets.example.com", "Established").await["status"] == "True").await;
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    call(&c.admin, Verb::Create, WIDGETS, "default", "", held).await.unwrap();
    call(&c.admin, Verb::Delete, CRDS, "", "widgets.example.com", Value::Null).await.unwrap();
    until("ending", async || {
        condition(&c, "widgets.example.com", "Terminating").await["reason"] == "InstanceDeletionInProgress"
    })
    .await;
    let status = call(&c.admin, Verb::Create, WIDGETS, "default", "", widget("new", 1)).await.unwrap_err();
    assert_eq!(status.code, 405, "{status}");
    let release = json!({"metadata": {"finalizers": null}});
    call(&c.admin, Verb::Patch, WIDGETS, "default", "held", release).await.unwrap();
    until("gone", async || {
        call(&c.admin, Verb::Get, CRDS, "", "widgets.example.com", Value::Null).await.is_err_and(|s| s.is_not_found())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_is_read_as_the_definition_is_now() {
    let c = Cluster::start().await;
    call(&c.admin, Verb::Create, CRDS, "", "", definition("widgets", "Widget")).await.unwrap();
    until("established", async || condition(&c, "widgets.example.com", "Established").await["status"] == "True").await;
    call(&c.admin, Verb::Create, WIDGETS, "default", "", widget("old", 3)).await.unwrap();

    // A second version becomes the stored one, with a default that the first has not, and a field to select by.
    let mut later = definition("widgets", "Widget");
    let mut second = later["spec"]["versions"][0].clone();
    later["spec"]["versions"][0]["storage"] = json!(false);
    second["name"] = json!("v2");
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["shape"] =
        json!({"type": "string", "default": "round"});
    second["selectableFields"] = json!([{"jsonPath": ".spec.shape"}]);
    later["spec"]["versions"].as_array_mut().unwrap().push(second);
    let patch = json!({"spec": {"versions": later["spec"]["versions"]}});
    call(&c.admin, Verb::Patch, CRDS, "", "widgets.example.com", patch).await.unwrap();
    const SECOND: &str = "example.com/v2/widgets";
    until("the second version", async || {
        call(&c.admin, Verb::Get, SECOND, "default", "old", Value::Null).await.is_ok()
    })
    .await;

    let read = call(&c.admin, Verb::Get, SECOND, "default", "old", Value::Null).await.unwrap();
    assert_eq!(read["apiVersion"], "example.com/v2");
    assert_eq!(read["spec"], json!({"size": 3, "color": "red", "shape": "round"}));
    let read = call(&c.admin, Verb::Get, WIDGETS, "default", "old", Value::Null).await.unwrap();
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("example.com/v1"), &json!({"size": 3, "color": "red"})));

    let mut flat = widget("new", 4);
    flat["apiVersion"] = json!("example.com/v2");
    flat["spec"]["shape"] = json!("flat");
    call(&c.admin, Verb::Create, SECOND, "default", "", flat).await.unwrap();
    for (shape, name) in [("round", "old"), ("flat", "new")] {
        let names = c.names(SECOND, &format!("spec.shape={shape}")).await.unwrap();
        assert_eq!(names, [name], "{shape}");
    }
    let status = c.names(WIDGETS, "spec.shape=flat").await.unwrap_err();
    assert_eq!(status.code, 400, "the first version has no such field: {status}");
}
