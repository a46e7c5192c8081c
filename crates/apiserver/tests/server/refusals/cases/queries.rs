//! Bad questions: options, selectors, revisions, paths.

use super::*;

pub fn options(t: &mut Table) {
    let body = r#"{"metadata":{"name":"a"}}"#;
    let long = "x".repeat(200);
    for (name, query) in [
        ("an unknown dry run", "dryRun=Some".to_string()),
        ("an empty dry run", "dryRun=".into()),
        ("an unknown strictness", "fieldValidation=Hope".into()),
        ("a manager that is too long", format!("fieldManager={long}")),
        ("a manager that cannot be printed", "fieldManager=a%01b".into()),
        ("many faults of options", format!("fieldManager={long}&dryRun=Some&fieldValidation=Hope")),
    ] {
        t.post(name, &format!("{MAPS}?{query}"), JSON, body, Said::Exactly);
    }
    t.patch("a patch with an unknown dry run", &format!("{MAP}?dryRun=Some"), MERGE, "{}", Said::Exactly);
    t.patch(
        "an apply with an unknown dry run and no manager",
        &format!("{MAP}?dryRun=Some"),
        APPLY,
        "{}",
        Said::Exactly,
    );
    t.put(
        "an update with an unknown dry run",
        &format!("{MAP}?dryRun=Some"),
        r#"{"metadata":{"name":"there"}}"#,
        Said::Exactly,
    );
    t.get("a bad limit", &format!("{MAPS}?limit=many"), Said::Exactly);
    t.get("a limit below zero", &format!("{MAPS}?limit=-1"), Said::Exactly);
    t.get("a bad timeout of a list", &format!("{MAPS}?timeoutSeconds=soon"), Said::Exactly);
    t.get("a bad timeout of a request", &format!("{MAPS}?timeout=soon"), Said::Exactly);
    t.get("a timeout below zero", &format!("{MAPS}?timeout=-5s"), Said::Exactly);
}

pub fn selectors(t: &mut Table) {
    for (name, selector) in [
        ("words for labels", "a%20b%20c"),
        ("only marks for labels", "%21%21"),
        ("an open set", "a%20in%20("),
        ("an empty set", "a%20in%20()"),
        ("a label without a key", "%3Db"),
        ("two values of a label", "a%3Db%3Dc"),
        ("a bad key of a label", "a%25%25%3Db"),
        ("a bad value of a label", "a%3D-b-"),
        ("a number that is none", "a%3Eb"),
        ("a comma too many for labels", "a%3Db%2C%2Cc"),
        (
            "a key that is too long",
            "a12345678901234567890123456789012345678901234567890123456789012345678901234567890%3Db",
        ),
    ] {
        t.get(name, &format!("{MAPS}?labelSelector={selector}"), Said::Exactly);
    }
    for (name, selector) in [
        ("an unknown field", "bogus%3D1"),
        ("a field of another kind", "spec.nodeName%3Da"),
        ("a field without a value", "metadata.name"),
        ("a bad escape of a field", "metadata.name%3Da%5Cb"),
    ] {
        t.get(name, &format!("{MAPS}?fieldSelector={selector}"), Said::Exactly);
    }
    t.get("an unknown field of pods", "/api/v1/pods?fieldSelector=spec.bogus%3D1", Said::Exactly);
    t.get("an unknown field of a custom resource", &format!("{THINGS}?fieldSelector=spec.size%3D1"), Said::Exactly);
    t.get("an unknown field of a watch", &format!("{MAPS}?watch=1&fieldSelector=bogus%3D1"), Said::Exactly);
    t.get("bad labels of a watch", &format!("{MAPS}?watch=1&labelSelector=%21%21"), Said::Exactly);
    t.delete("a delete by bad labels", &format!("{MAPS}?labelSelector=%21%21"), "", "", Said::Exactly);
    t.delete("a delete by an unknown field", &format!("{MAPS}?fieldSelector=bogus%3D1"), "", "", Said::Exactly);
}

pub fn versions(t: &mut Table) {
    use base64::Engine as _;
    let token = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    for (name, query) in [
        ("a revision that is a word", "resourceVersion=abc".to_string()),
        ("a revision below zero", "resourceVersion=-1".into()),
        ("a revision that is too long", "resourceVersion=99999999999999999999999".into()),
        ("a match without a revision", "resourceVersionMatch=Exact".into()),
        ("an unknown match", "resourceVersion=1&resourceVersionMatch=Hope".into()),
        ("an exact match of anything", "resourceVersion=0&resourceVersionMatch=Exact".into()),
        ("an exact match of a word", "resourceVersion=abc&resourceVersionMatch=Exact".into()),
        ("a token that is noise", "continue=%25%25".into()),
        ("a token that is no JSON", format!("continue={}", token("what"))),
        (
            "a token of an unknown version",
            format!("continue={}", token(r#"{"v":"meta.k8s.io/v9","rv":5,"start":"a"}"#)),
        ),
        ("a token without a revision", format!("continue={}", token(r#"{"v":"meta.k8s.io/v1","start":"a"}"#))),
        ("a token without a start", format!("continue={}", token(r#"{"v":"meta.k8s.io/v1","rv":5}"#))),
        (
            "a token that climbs",
            format!("continue={}", token(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"../../secrets/x"}"#)),
        ),
        (
            "a token with a revision beside it",
            format!("resourceVersion=5&continue={}", token(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"a"}"#)),
        ),
        (
            "a token with a match",
            format!(
                "resourceVersion=5&resourceVersionMatch=Exact&continue={}",
                token(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"a"}"#)
            ),
        ),
        ("initial events of a list", "sendInitialEvents=true".into()),
        (
            "initial events of a list with a match",
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=1".into(),
        ),
    ] {
        t.get(name, &format!("{MAPS}?limit=1&{query}"), Said::Exactly);
    }
    // To watches and gets of such revisions upstream answers 500, to lists 400.
    let wrong = || Said::Ours(400, "BadRequest");
    t.get("a watch from a word", &format!("{MAPS}?watch=true&resourceVersion=abc&timeoutSeconds=1"), wrong());
    t.get("a watch from below zero", &format!("{MAPS}?watch=true&resourceVersion=-1&timeoutSeconds=1"), wrong());
    t.get("a get of a revision that is a word", &format!("{MAP}?resourceVersion=abc"), wrong());
    for (name, query) in [
        ("a watch with a match alone", "resourceVersion=1&resourceVersionMatch=NotOlderThan"),
        ("a watch with initial events and no match", "sendInitialEvents=true"),
        ("a watch without initial events and no match", "sendInitialEvents=false"),
        (
            "a watch with initial events and another match",
            "sendInitialEvents=true&resourceVersion=1&resourceVersionMatch=Exact",
        ),
        ("a watch that goes on", "continue=abc"),
        ("a watch with a bad timeout", "timeoutSeconds=soon&a=b"),
    ] {
        t.get(name, &format!("{MAPS}?watch=true&{query}&timeoutSeconds=1"), Said::Exactly);
    }
    t.get("a get of nobody", &format!("{MAPS}/nobody"), Said::Exactly);
}

pub fn paths(t: &mut Table) {
    t.get("an unknown resource", "/api/v1/namespaces/default/nothings", Said::Exactly);
    t.get("an unknown group", "/apis/nothing.example/v1/things", Said::Exactly);
    t.get("an unknown version", "/apis/apps/v9/deployments", Said::Exactly);
    t.get("an unknown path", "/nothing", Said::Exactly);
    t.get("an unknown subresource", &format!("{MAP}/status"), Said::Exactly);
    t.post("a create at a subresource", &format!("{MAP}/status"), JSON, "{}", Said::Exactly);
    t.put("an update of all", MAPS, "{}", Said::Exactly);
    t.patch("a patch of all", MAPS, MERGE, "{}", Said::Exactly);
    t.post("a create of a namespaced kind in none", "/api/v1/configmaps", JSON, "{}", Said::Exactly);
    t.get("a name with a slash", "/api/v1/namespaces/default/configmaps/a%2Fb", Said::Exactly);
    t.get("a name that climbs", "/api/v1/namespaces/default/configmaps/..", Said::Exactly);
    t.get("a name that is no text", "/api/v1/namespaces/default/configmaps/%ff", Said::InOtherWords);
    t.add("a list of componentstatuses that is deleted", "DELETE", "/api/v1/componentstatuses", "", b"", Said::Exactly);
    t.post(
        "a review without a spec",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        JSON,
        "{}",
        Said::Exactly,
    );
    t.post(
        "a review of a token that is empty",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        JSON,
        "{}",
        Said::Exactly,
    );
    t.get("a review that is got", "/apis/authentication.k8s.io/v1/tokenreviews", Said::Exactly);
    t.post(
        "a binding of nobody",
        "/api/v1/namespaces/default/pods/nobody/binding",
        JSON,
        r#"{"target":{"name":"n"}}"#,
        Said::Exactly,
    );
    t.post(
        "an eviction of nobody",
        "/api/v1/namespaces/default/pods/nobody/eviction",
        JSON,
        r#"{"metadata":{"name":"nobody"}}"#,
        Said::Exactly,
    );
    t.get("logs of nobody", "/api/v1/namespaces/default/pods/nobody/log", Said::Exactly);
    t.get("logs with a bad length", "/api/v1/namespaces/default/pods/nobody/log?tailLines=-1", Said::Exactly);
    t.post("a token of nobody", "/api/v1/namespaces/default/serviceaccounts/nobody/token", JSON, "{}", Said::Exactly);
    t.post(
        "a token that lasts no time",
        "/api/v1/namespaces/default/serviceaccounts/default/token",
        JSON,
        r#"{"spec":{"expirationSeconds":1}}"#,
        Said::Exactly,
    );
}
