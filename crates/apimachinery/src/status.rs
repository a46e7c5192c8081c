//! `metav1.Status`: the only form in which an error leaves the API.

use std::fmt;

use crate::field::Errors;
use crate::names::{GroupKind, GroupResource};
use crate::quote::quoted;
use crate::value::{Map, Value};

/// An answer that is not an object: what failed, for whom, and what a client can do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// `Success` or `Failure` follows from the code; the machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    pub message: String,
    /// Boxed: errors are rare and results are everywhere.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: how to go on with a list whose revision is gone.
    pub continue_token: Option<String>,
}

/// What a Status is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The resource, or the kind for validation errors, as upstream has it.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: i32,
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Status {
        self.details = Some(Box::new(Details {
            name: name.into(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Details::default()
        }));
        self
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{resource} {} not found", quoted(name))).about(resource, name)
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{resource} {} already exists", quoted(name))).about(resource, name)
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Status {
        Status::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {}: {why}", quoted(name)))
            .about(resource, name)
    }

    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Status {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", quoted(name)),
        };
        Status::new(403, "Forbidden", message).about(resource, name)
    }

    /// What is said without knowing of any resource: its details are there, and empty.
    pub fn generic(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { details: Some(Box::default()), ..Status::new(code, reason, message) }
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn bad_request(why: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", why)
    }

    pub fn internal(why: impl fmt::Display) -> Status {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details = Some(Box::new(Details {
            causes: vec![Cause { message: why.to_string(), ..Cause::default() }],
            ..Details::default()
        }));
        status
    }

    /// The revision asked for is gone: 410 `Expired`.
    pub fn expired(why: impl Into<String>) -> Status {
        Status::new(410, "Expired", why)
    }

    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind {:?}", resource.to_string()),
        )
        .about(resource, "")
    }

    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: i32) -> Status {
        let mut status = Status::new(429, "TooManyRequests", why);
        status.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        status
    }

    pub fn service_unavailable(why: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", why)
    }

    /// 422 `Invalid`: what validation gathered, one cause an error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &Errors) -> Status {
        let all: Vec<String> = errors.iter().map(|e| e.to_string()).collect();
        let list = match all.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status = Status::new(422, "Invalid", format!("{kind} {} is invalid: {list}", quoted(name)));
        status.details = Some(Box::new(Details {
            name: name.into(),
            group: kind.group.to_string(),
            kind: kind.kind.to_string(),
            causes: errors
                .iter()
                .map(|e| Cause { reason: e.kind.reason().into(), message: e.body(), field: e.field.clone() })
                .collect(),
            ..Details::default()
        }));
        status
    }

    /// The tree that is encoded as a `v1` `Status` object.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("kind", "Status");
        map.insert("apiVersion", "v1");
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue", token.as_str());
        }
        map.insert("metadata", metadata);
        map.insert("status", if self.code < 400 { "Success" } else { "Failure" });
        if !self.message.is_empty() {
            map.insert("message", self.message.as_str());
        }
        if !self.reason.is_empty() {
            map.insert("reason", self.reason);
        }
        if let Some(d) = &self.details {
            let mut details = Map::new();
            for (key, text) in [("name", &d.name), ("group", &d.group), ("kind", &d.kind), ("uid", &d.uid)] {
                if !text.is_empty() {
                    details.insert(key, text.as_str());
                }
            }
            if !d.causes.is_empty() {
                let causes = d.causes.iter().map(|c| {
                    let mut cause = Map::new();
                    for (key, text) in [("reason", &c.reason), ("message", &c.message), ("field", &c.field)] {
                        if !text.is_empty() {
                            cause.insert(key, text.as_str());
                        }
                    }
                    Value::Map(cause)
                });
                details.insert("causes", causes.collect::<Vec<_>>());
            }
            if d.retry_after_seconds != 0 {
                details.insert("retryAfterSeconds", d.retry_after_seconds);
            }
            map.insert("details", details);
        }
        map.insert("code", i64::from(self.code));
        Value::Map(map)
    }

    /// Reads a Status that a server sent; unknown reasons become the empty reason.
    pub fn from_value(value: &Value) -> Status {
        const REASONS: &[&str] = &[
            "Unauthorized",
            "Forbidden",
            "NotFound",
            "AlreadyExists",
            "Conflict",
            "Gone",
            "Invalid",
            "ServerTimeout",
            "StoreReadError",
            "Timeout",
            "TooManyRequests",
            "BadRequest",
            "MethodNotAllowed",
            "NotAcceptable",
            "RequestEntityTooLarge",
            "UnsupportedMediaType",
            "InternalError",
            "Expired",
            "ServiceUnavailable",
        ];
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let reason = value.get("reason").and_then(Value::as_str).unwrap_or_default();
        let details = value.get("details").map(|d| {
            Box::new(Details {
                name: text(d, "name"),
                group: text(d, "group"),
                kind: text(d, "kind"),
                uid: text(d, "uid"),
                causes: d
                    .get("causes")
                    .and_then(Value::as_list)
                    .unwrap_or_default()
                    .iter()
                    .map(|c| Cause { reason: text(c, "reason"), message: text(c, "message"), field: text(c, "field") })
                    .collect(),
                retry_after_seconds: d.get("retryAfterSeconds").and_then(Value::as_i64).unwrap_or(0) as i32,
            })
        });
        Status {
            code: value.get("code").and_then(Value::as_i64).and_then(|c| u16::try_from(c).ok()).unwrap_or(500),
            reason: REASONS.iter().find(|r| **r == reason).copied().unwrap_or(""),
            message: text(value, "message"),
            details,
            continue_token: value.str_at(&["metadata", "continue"]).map(str::to_string),
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code == 404 && self.reason == "NotFound"
    }

    pub fn is_conflict(&self) -> bool {
        self.code == 409 && self.reason == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }

    /// A watch or list must start over: 410 `Expired` or `Gone`.
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
