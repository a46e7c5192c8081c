//! Event: says that something happened to an object, in the newer form.

use crate::checks::immutable;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{qualified_name, require};
use apimachinery::{Api, Errors, Kind, MicroTime, Path, Rules, RulesCx, Time, Value};

use crate::cells::{int, since, str_of, text};
use crate::core::event::EventSource;
use crate::core::references::ObjectReference;
use crate::served::served;

/// Event: says that something happened to an object, in the newer form.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.events.v1.Event")]
pub struct Event {
    #[api(1)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub event_time: MicroTime,
    #[api(3, omitempty)]
    pub series: Option<EventSeries>,
    #[api(4, omitempty)]
    pub reporting_controller: String,
    #[api(5, omitempty)]
    pub reporting_instance: String,
    #[api(6, omitempty)]
    pub action: String,
    #[api(7, omitempty)]
    pub reason: String,
    #[api(8, omitempty)]
    pub regarding: ObjectReference,
    #[api(9, omitempty)]
    pub related: Option<ObjectReference>,
    #[api(10, omitempty)]
    pub note: String,
    #[api(11, omitempty)]
    pub type_: String,
    #[api(12, omitempty)]
    pub deprecated_source: EventSource,
    #[api(13, omitempty)]
    pub deprecated_first_timestamp: Time,
    #[api(14, omitempty)]
    pub deprecated_last_timestamp: Time,
    #[api(15, omitempty)]
    pub deprecated_count: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.events.v1.EventSeries")]
pub struct EventSeries {
    #[api(1, required)]
    pub count: i32,
    #[api(2, required)]
    pub last_observed_time: MicroTime,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Event>("events.k8s.io", "v1", "events")
        .short(&["ev"])
        .converted()
        .ttl(3600)
        // Where the older form, in which events may be stored, has it.
        .selectable(&[
            "reason",
            "regarding.kind=regarding.kind|involvedObject.kind",
            "regarding.namespace=regarding.namespace|involvedObject.namespace",
            "regarding.name=regarding.name|involvedObject.name",
            "regarding.uid=regarding.uid|involvedObject.uid",
            "regarding.apiVersion=regarding.apiVersion|involvedObject.apiVersion",
            "regarding.resourceVersion=regarding.resourceVersion|involvedObject.resourceVersion",
            "regarding.fieldPath=regarding.fieldPath|involvedObject.fieldPath",
            "reportingController=reportingController|reportingComponent",
            "type",
        ])
        .code_column("Last Seen", "string", last_seen_cell)
        .code_column("Type", "string", |o, _| text(o, &["type"]))
        .code_column("Reason", "string", |o, _| text(o, &["reason"]))
        .code_column("Object", "string", object_cell)
        .wide_code_column("Subobject", "string", |o, _| text(o, &["regarding", "fieldPath"]))
        .wide_code_column("Source", "string", source_cell)
        .code_column("Message", "string", |o, _| str_of(o, &["note"]).trim().into())
        .wide_code_column("First Seen", "string", first_seen_cell)
        .wide_code_column("Count", "string", count_cell)
        .wide_code_column("Name", "string", |o, _| text(o, &["metadata", "name"]))
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "web.18"}, "eventTime": "2024-01-01T00:00:00.000000Z",
            "reportingController": "example.com/operator", "reportingInstance": "operator-1",
            "action": "Start", "reason": "Started", "regarding": {"kind": "Pod", "namespace": "default",
            "name": "web"}, "note": "started", "type": "Normal"}"#,
        )
}

served!(Event, "events.k8s.io", "v1", "events", true);

impl Rules for Event {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let metadata = Path::new("metadata");
        if self.metadata.name.is_empty() {
            errors.required(&metadata.child("name"), "name or generateName is required");
        }
        let regarding = Path::new("regarding");
        let namespace = if self.regarding.namespace.is_empty() { "default" } else { &self.regarding.namespace };
        let own = &self.metadata.namespace;
        if namespace != own && !(self.regarding.namespace.is_empty() && own == "kube-system") {
            let message = "does not match event.namespace";
            errors.invalid(&regarding.child("namespace"), self.regarding.namespace.as_str(), message);
        }
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if self.event_time == MicroTime::default() {
            errors.required(&Path::new("eventTime"), "");
        }
        require(errors, &Path::new("reportingController"), &self.reporting_controller, qualified_name);
        for (field, value) in
            [("reportingInstance", &self.reporting_instance), ("action", &self.action), ("reason", &self.reason)]
        {
            if value.is_empty() {
                errors.required(&Path::new(field), "");
            } else if value.len() > 128 {
                errors.invalid(&Path::new(field), "", "can have at most 128 characters");
            }
        }
        if self.note.len() > 1024 {
            errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
        }
        if !matches!(self.type_.as_str(), "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {}", self.type_));
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("regarding"), &self.regarding, &old.regarding);
        for (field, new, old) in [
            ("reason", &self.reason, &old.reason),
            ("action", &self.action, &old.action),
            ("reportingController", &self.reporting_controller, &old.reporting_controller),
            ("reportingInstance", &self.reporting_instance, &old.reporting_instance),
            ("type", &self.type_, &old.type_),
        ] {
            immutable(errors, &Path::new(field), new, old);
        }
        immutable(errors, &Path::new("eventTime"), &self.event_time, &old.event_time);
    }
}

fn last_seen_cell(object: &Value, now: i64) -> Value {
    let series = str_of(object, &["series", "lastObservedTime"]);
    let last = str_of(object, &["deprecatedLastTimestamp"]);
    match (series, last) {
        ("", "") => first_seen_cell(object, now),
        ("", last) => since(last, now).into(),
        (series, _) => since(series, now).into(),
    }
}

fn first_seen_cell(object: &Value, now: i64) -> Value {
    match str_of(object, &["deprecatedFirstTimestamp"]) {
        "" => since(str_of(object, &["eventTime"]), now).into(),
        first => since(first, now).into(),
    }
}

fn object_cell(object: &Value, _now: i64) -> Value {
    let kind = str_of(object, &["regarding", "kind"]).to_ascii_lowercase();
    match str_of(object, &["regarding", "name"]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn source_cell(object: &Value, _now: i64) -> Value {
    let either = |old: &[&str], new: &str| match str_of(object, old) {
        "" => str_of(object, &[new]).to_string(),
        text => text.to_string(),
    };
    let component = either(&["deprecatedSource", "component"], "reportingController");
    let instance = either(&["deprecatedSource", "host"], "reportingInstance");
    if instance.is_empty() { component.into() } else { format!("{component}, {instance}").into() }
}

fn count_cell(object: &Value, _now: i64) -> Value {
    let counts = [int(object, &["series", "count"]), int(object, &["deprecatedCount"])];
    Value::Int(counts.into_iter().find(|count| *count != 0).unwrap_or(1))
}
