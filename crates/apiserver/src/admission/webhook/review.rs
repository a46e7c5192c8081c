//! AdmissionReview v1: what a webhook is told, and how its answer is read.

use apimachinery::{Kind, Status, Value, codec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::Attributes;
use serde_json::json;

use crate::connect::admit::kind_of;
use crate::tree::{flag, set, strings, text, tree};

/// A webhook's answer.
#[derive(Debug)]
pub struct Answer {
    /// The Status that comes with a refusal, which may be empty.
    pub denied: Option<Value>,
    /// A JSON patch.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
}

/// The review to send; object and old object are in the version of `kind`, or null.
pub fn request(a: &Attributes<'_>, kind: &Kind, uid: &str, object: Value, old: Value) -> Value {
    let mut review = tree(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}));
    set(&mut review, &["request"], facts(a, kind));
    set(&mut review, &["request", "uid"], uid);
    set(&mut review, &["request", "object"], object);
    set(&mut review, &["request", "oldObject"], old);
    review
}

/// What a request is about, without its objects.
pub fn facts(a: &Attributes<'_>, kind: &Kind) -> Value {
    let names = |kind: &Kind| {
        (
            json!({"group": &*kind.group, "version": &*kind.version, "kind": kind_of(a, kind)}),
            json!({"group": &*kind.group, "version": &*kind.version, "resource": &*kind.resource}),
        )
    };
    let (sent_kind, sent_resource) = names(kind);
    let (asked_kind, asked_resource) = names(a.kind);
    let user = &a.cx.user;
    let extra: serde_json::Map<String, serde_json::Value> = user
        .extra
        .iter()
        .map(|(k, v)| (k.to_string(), json!(v.iter().map(|s| s.as_str()).collect::<Vec<_>>())))
        .collect();
    let mut info = json!({
        "username": user.name.as_str(),
        "groups": user.groups.iter().map(|g| g.as_str()).collect::<Vec<_>>(),
    });
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid.as_str());
    }
    if !extra.is_empty() {
        info["extra"] = extra.into();
    }
    let mut request = json!({
        "kind": sent_kind,
        "resource": sent_resource,
        "requestKind": asked_kind,
        "requestResource": asked_resource,
        "operation": a.operation.word(),
        "userInfo": info,
        "dryRun": a.dry_run,
    });
    // A namespace is in itself, as far as reviews go.
    let namespace = if super::super::is(a, "", "namespaces") { a.name } else { a.namespace };
    for (key, value) in [
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
        ("name", a.name),
        ("namespace", namespace),
    ] {
        if !value.is_empty() {
            request[key] = json!(value);
        }
    }
    let mut facts = tree(request);
    set(&mut facts, &["options"], a.options.clone());
    facts
}

/// Reads the answer.
///
/// # Errors
/// A sentence when it is not an answer to this request.
pub fn read(answer: &Value, uid: &str) -> Result<Answer, String> {
    let (version, kind) = (text(answer, &["apiVersion"]), text(answer, &["kind"]));
    if version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let response = answer.get("response").filter(|r| r.is_map()).ok_or("webhook response was absent")?;
    let found = text(response, &["uid"]);
    if found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let patch = match (text(response, &["patch"]), text(response, &["patchType"])) {
        ("", "") => None,
        ("", _) => return Err("webhook returned response.patchType but not response.patch".into()),
        (patch, "JSONPatch") => {
            let bytes = STANDARD.decode(patch).map_err(|_| "response.patch is not base64")?;
            Some(codec::json::parse(&bytes).map_err(|e| format!("response.patch is not JSON: {e}"))?)
        }
        (_, other) => return Err(format!("webhook returned invalid response.patchType of {other:?}")),
    };
    Ok(Answer {
        denied: (!flag(response, &["allowed"])).then(|| response.get("status").cloned().unwrap_or_default()),
        patch,
        warnings: strings(response, &["warnings"]).into_iter().map(str::to_string).collect(),
    })
}

/// The error that a refusal becomes.
pub fn denial(webhook: &str, result: Value) -> Status {
    let start = format!("admission webhook {webhook:?} denied the request");
    let mut status = Status::from_value(&result);
    let reason = text(&result, &["reason"]);
    let code = result.get("code").and_then(Value::as_i64).unwrap_or(0);
    status.code = if code < 400 { 400 } else { u16::try_from(code).unwrap_or(500) };
    status.message = match (text(&result, &["message"]), reason) {
        ("", "") => format!("{start} without explanation"),
        ("", reason) => format!("{start}: {reason}"),
        (message, _) => format!("{start}: {message}"),
    };
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use engine::Operation;

    #[test]
    fn requests_say_who_does_what() {
        let object = tree(json!({"metadata": {"name": "web"}}));
        let mut write = Write::new(api::core::pod::kind(), Operation::Create, object.clone());
        write.name = "web";
        let kind = write.kind.clone();
        let review = request(&write.attributes(), &kind, "u", object, Value::Null);
        assert_eq!(text(&review, &["request", "resource", "resource"]), "pods");
        assert_eq!(text(&review, &["request", "operation"]), "CREATE");
        assert_eq!(text(&review, &["request", "namespace"]), "default");
        assert_eq!(text(&review, &["request", "object", "metadata", "name"]), "web");
        assert_eq!(review.at(&["request", "oldObject"]), Some(&Value::Null));
    }

    #[test]
    fn answers_are_read_strictly() {
        let answer = |response| {
            tree(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
        };
        let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
        let good = answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}));
        assert!(read(&good, "u").unwrap().patch.is_some());
        for bad in [
            json!({"uid": "v", "allowed": true}),
            json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "Other"}),
            json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
            json!(null),
        ] {
            assert!(read(&answer(bad), "u").is_err());
        }
        assert!(read(&tree(json!({"response": {"uid": "u"}})), "u").is_err());
    }

    #[test]
    fn refusals_carry_the_webhooks_words() {
        let cases = [
            (json!({"message": "no", "code": 403}), 403, "denied the request: no"),
            (json!({"reason": "Because"}), 400, "denied the request: Because"),
            (json!(null), 400, "denied the request without explanation"),
        ];
        for (result, code, end) in cases {
            let status = denial("w.example.com", tree(result));
            assert_eq!(status.code, code);
            assert_eq!(status.message, format!("admission webhook \"w.example.com\" {end}"));
        }
    }
}
