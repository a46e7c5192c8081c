//! Bad writes: patches, applies, updates, creates, deletes.

use super::*;

pub fn patches(t: &mut Table) {
    t.patch("a JSON patch that is none", MAP, JSON_PATCH, "what", Said::Exactly);
    t.patch("a JSON patch that is an object", MAP, JSON_PATCH, "{}", Said::UpTo("error decoding patch: "));
    t.patch(
        "a JSON patch with an unknown operation",
        MAP,
        JSON_PATCH,
        r#"[{"op":"jump","path":"/data"}]"#,
        Said::InOtherWords,
    );
    t.patch("a JSON patch without a path", MAP, JSON_PATCH, r#"[{"op":"add","value":1}]"#, Said::InOtherWords);
    t.patch(
        "a JSON patch whose test fails",
        MAP,
        JSON_PATCH,
        r#"[{"op":"test","path":"/data/a","value":"x"}]"#,
        Said::Exactly,
    );
    t.patch(
        "a JSON patch that removes nothing",
        MAP,
        JSON_PATCH,
        r#"[{"op":"remove","path":"/data/none"}]"#,
        Said::Exactly,
    );
    t.patch(
        "a JSON patch that replaces nothing",
        MAP,
        JSON_PATCH,
        r#"[{"op":"replace","path":"/none/more","value":1}]"#,
        Said::InOtherWords,
    );
    t.patch(
        "a JSON patch to nowhere",
        MAP,
        JSON_PATCH,
        r#"[{"op":"add","path":"/none/more","value":1}]"#,
        Said::InOtherWords,
    );
    t.patch(
        "a JSON patch past the end of a list",
        DEPLOYMENT,
        JSON_PATCH,
        r#"[{"op":"add","path":"/spec/template/spec/containers/7","value":{}}]"#,
        Said::InOtherWords,
    );
    t.patch("a JSON patch that breaks a type", MAP, JSON_PATCH, r#"[{"op":"add","path":"/data","value":5}]"#, UNFIT);
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/data/a","value":"b"}"#; 10_001].join(","));
    t.patch("a JSON patch of too many operations", MAP, JSON_PATCH, many, Said::Exactly);
    t.patch("a merge patch that is none", MAP, MERGE, "what", Said::Exactly);
    t.patch("a merge patch that is a list", MAP, MERGE, "[]", Said::UpTo("error decoding patch: "));
    t.patch("a merge patch that is empty", MAP, MERGE, "", Said::Exactly);
    t.patch("a merge patch that breaks a type", MAP, MERGE, r#"{"data":5}"#, UNFIT);
    t.patch("a merge patch that breaks a rule", DEPLOYMENT, MERGE, r#"{"spec":{"replicas":-1}}"#, Said::Exactly);
    t.patch(
        "a merge patch that changes what may not",
        DEPLOYMENT,
        MERGE,
        r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#,
        Said::Exactly,
    );
    t.patch("a merge patch that changes the name", MAP, MERGE, r#"{"metadata":{"name":"other"}}"#, Said::Exactly);
    t.patch("a merge patch that changes the kind", MAP, MERGE, r#"{"kind":"Secret"}"#, UNFIT);
    t.patch("a merge patch of another revision", MAP, MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#, Said::Exactly);
    t.patch("a merge patch of another uid", MAP, MERGE, r#"{"metadata":{"uid":"x"}}"#, Said::InOtherWords);
    t.patch("a merge patch of nobody", &format!("{MAPS}/nobody"), MERGE, "{}", Said::Exactly);
    t.patch("a strategic patch that is none", MAP, STRATEGIC, "what", Said::InOtherWords);
    t.patch("a strategic patch that is a list", MAP, STRATEGIC, "[]", Said::InOtherWords);
    t.patch(
        "a strategic patch with an unknown directive",
        DEPLOYMENT,
        STRATEGIC,
        r#"{"spec":{"template":{"spec":{"containers":[{"$patch":"hope","name":"c"}]}}}}"#,
        Said::InOtherWords,
    );
    t.patch(
        "a strategic patch without the merge key",
        DEPLOYMENT,
        STRATEGIC,
        r#"{"spec":{"template":{"spec":{"containers":[{"image":"j"}]}}}}"#,
        Said::InOtherWords,
    );
    t.patch(
        "a strategic patch that breaks a type",
        DEPLOYMENT,
        STRATEGIC,
        r#"{"spec":{"template":{"spec":{"containers":5}}}}"#,
        UNFIT,
    );
    t.patch("a patch that is forced and no apply", &format!("{MAP}?force=true"), MERGE, "{}", Said::Exactly);
    t.patch(
        "a patch of a scale below zero",
        &format!("{DEPLOYMENT}/scale"),
        MERGE,
        r#"{"spec":{"replicas":-5}}"#,
        Said::Exactly,
    );
}

pub fn applies(t: &mut Table) {
    let to = format!("{MAP}?fieldManager=test");
    t.patch("an apply without a manager", MAP, APPLY, "apiVersion: v1\nkind: ConfigMap\n", Said::Exactly);
    t.patch("an apply that is no YAML", &to, APPLY, "a: b: c", Said::UpTo("error encoding patch: "));
    t.patch("an apply that is empty", &to, APPLY, "", Said::InOtherWords);
    t.patch("an apply without a kind", &to, APPLY, "metadata: {name: there}\n", Said::InOtherWords);
    t.patch(
        "an apply of another kind",
        &to,
        APPLY,
        "{apiVersion: v1, kind: Secret, metadata: {name: there}}",
        Said::InOtherWords,
    );
    t.patch(
        "an apply of another version",
        &to,
        APPLY,
        "{apiVersion: v7, kind: ConfigMap, metadata: {name: there}}",
        Said::InOtherWords,
    );
    t.patch(
        "an apply of another name",
        &to,
        APPLY,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}",
        Said::InOtherWords,
    );
    t.patch(
        "an apply with managed fields",
        &to,
        APPLY,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: there, managedFields: [{manager: x}]}}",
        Said::Exactly,
    );
    t.patch(
        "an apply of wrong types",
        &to,
        APPLY,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: there}, data: 5}",
        Said::InOtherWords,
    );
    t.patch(
        "an apply with an unknown field",
        &to,
        APPLY,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: there}, dat: {a: c}}",
        Said::InOtherWords,
    );
    let containers = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: there}, spec: {template: {spec: {containers: [{name: c, image: i}, {name: c, image: j}]}}}}";
    t.patch(
        "an apply with an item twice",
        &format!("{DEPLOYMENT}?fieldManager=test"),
        APPLY,
        containers,
        Said::InOtherWords,
    );
    t.patch("an apply with a conflict", &format!("{DEPLOYMENT}?fieldManager=test"), APPLY, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: there}, spec: {selector: {matchLabels: {app: other}}}}", Said::InOtherWords);
}

pub fn updates(t: &mut Table) {
    t.put("an update of another name", MAP, r#"{"metadata":{"name":"other"}}"#, Said::Exactly);
    t.put("an update without a name", MAP, r#"{"metadata":{}}"#, Said::Exactly);
    t.put("an update of another namespace", MAP, r#"{"metadata":{"name":"there","namespace":"other"}}"#, Said::Exactly);
    t.put(
        "an update of another kind",
        MAP,
        r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"there"}}"#,
        Said::InOtherWords,
    );
    t.put(
        "an update of an unknown kind",
        MAP,
        r#"{"kind":"Nothing","apiVersion":"v7","metadata":{"name":"there"}}"#,
        Said::InOtherWords,
    );
    t.put("an update of an old revision", MAP, r#"{"metadata":{"name":"there","resourceVersion":"1"}}"#, Said::Exactly);
    // Upstream answers 500, though it is the client that is wrong.
    t.put(
        "an update of no revision",
        MAP,
        r#"{"metadata":{"name":"there","resourceVersion":"abc"}}"#,
        Said::Ours(400, "BadRequest"),
    );
    t.put("an update of another uid", MAP, r#"{"metadata":{"name":"there","uid":"x"}}"#, Said::InOtherWords);
    t.put("an update of nobody", &format!("{MAPS}/nobody"), r#"{"metadata":{"name":"nobody"}}"#, Said::Exactly);
    t.put(
        "an update of nobody at a revision",
        &format!("{MAPS}/nobody"),
        r#"{"metadata":{"name":"nobody","resourceVersion":"5"}}"#,
        Said::Exactly,
    );
    t.put("an update without what is needed", DEPLOYMENT, r#"{"metadata":{"name":"there"}}"#, Said::Exactly);
    t.put(
        "an update of a status of nobody",
        "/apis/apps/v1/namespaces/default/deployments/nobody/status",
        r#"{"metadata":{"name":"nobody"}}"#,
        Said::Exactly,
    );
}

pub fn creates(t: &mut Table) {
    t.post(
        "a create of another kind",
        MAPS,
        JSON,
        r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}"#,
        Said::InOtherWords,
    );
    t.post(
        "a create of another version",
        MAPS,
        JSON,
        r#"{"kind":"ConfigMap","apiVersion":"v7","metadata":{"name":"a"}}"#,
        Said::InOtherWords,
    );
    t.post(
        "a create of another group",
        MAPS,
        JSON,
        r#"{"kind":"ConfigMap","apiVersion":"apps/v1","metadata":{"name":"a"}}"#,
        Said::InOtherWords,
    );
    t.post(
        "a create of a bad version",
        MAPS,
        JSON,
        r#"{"kind":"ConfigMap","apiVersion":"a/b/c","metadata":{"name":"a"}}"#,
        Said::InOtherWords,
    );
    t.post(
        "a create in another namespace",
        MAPS,
        JSON,
        r#"{"metadata":{"name":"a","namespace":"other"}}"#,
        Said::Exactly,
    );
    t.post(
        "a create in no namespace",
        "/api/v1/namespaces/nowhere/configmaps",
        JSON,
        r#"{"metadata":{"name":"a"}}"#,
        Said::Exactly,
    );
    t.post("a create without a name", MAPS, JSON, r#"{"metadata":{}}"#, Said::Exactly);
    t.post("a create with a bad name", MAPS, JSON, r#"{"metadata":{"name":"Not A Name"}}"#, Said::Exactly);
    t.post("a create with a name of a folder", MAPS, JSON, r#"{"metadata":{"name":".."}}"#, Said::Exactly);
    t.post("a create with a name with a slash", MAPS, JSON, r#"{"metadata":{"name":"a/b"}}"#, Said::Exactly);
    t.post("a create of what is there", MAPS, JSON, r#"{"metadata":{"name":"there"}}"#, Said::Exactly);
    t.post("a create with a revision", MAPS, JSON, r#"{"metadata":{"name":"a","resourceVersion":"5"}}"#, Said::Exactly);
    t.post(
        "a create with bad labels",
        MAPS,
        JSON,
        r#"{"metadata":{"name":"a","labels":{"a b":"c","d":"-"}}}"#,
        Said::InAnyOrder,
    );
    t.post(
        "a create with a bad owner",
        MAPS,
        JSON,
        r#"{"metadata":{"name":"a","ownerReferences":[{"name":"x"}]}}"#,
        Said::Exactly,
    );
    t.post("a create with a bad key", MAPS, JSON, r#"{"metadata":{"name":"a"},"data":{"a b":"c"}}"#, Said::Exactly);
    t.post("a create at a name", MAP, JSON, "{}", Said::Exactly);
}

pub fn deletes(t: &mut Table) {
    t.delete("a delete of nobody", &format!("{MAPS}/nobody"), "", "", Said::Exactly);
    t.delete("a delete with a body that is none", MAP, JSON, "what", Said::InOtherWords);
    t.delete("a delete with a list", MAP, JSON, "[]", Said::InOtherWords);
    t.delete("a delete with another kind", MAP, JSON, r#"{"kind":"ConfigMap","apiVersion":"v1"}"#, Said::InOtherWords);
    t.delete("a delete with an unknown policy", MAP, JSON, r#"{"propagationPolicy":"Hope"}"#, Said::Exactly);
    t.delete(
        "a delete with policy and orphans",
        MAP,
        JSON,
        r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
        Said::Exactly,
    );
    t.delete("a delete with wrong types", MAP, JSON, r#"{"gracePeriodSeconds":"soon"}"#, Said::InOtherWords);
    t.delete("a delete with an unknown dry run", MAP, JSON, r#"{"dryRun":["Some"]}"#, Said::Exactly);
    t.delete("a delete of another uid", MAP, JSON, r#"{"preconditions":{"uid":"x"}}"#, Said::InOtherWords);
    t.delete(
        "a delete of another revision",
        MAP,
        JSON,
        r#"{"preconditions":{"resourceVersion":"1"}}"#,
        Said::InOtherWords,
    );
    t.delete("a delete with protobuf that is noise", MAP, PROTOBUF, [0xff; 32], Said::InOtherWords);
    t.delete(
        "a delete with an unknown policy in the query",
        &format!("{MAP}?propagationPolicy=Hope"),
        "",
        "",
        Said::Exactly,
    );
    t.delete(
        "a delete with a bad period in the query",
        &format!("{MAP}?gracePeriodSeconds=soon"),
        "",
        "",
        Said::Exactly,
    );
    t.delete(
        "a delete of a folder",
        "/api/v1/namespaces/default",
        JSON,
        r#"{"propagationPolicy":"Hope"}"#,
        Said::Exactly,
    );
    t.delete("a delete of the default namespace", "/api/v1/namespaces/default", "", "", Said::Exactly);
}
