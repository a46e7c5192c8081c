//! Event: says that something happened to an object.

use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label};
use apimachinery::{Api, Errors, Kind, MicroTime, Path, Rules, RulesCx, Time, Value};

use crate::cells::{int, since, str_of, text};
use crate::core::references::ObjectReference;
use crate::served::served;

/// Event: says that something happened to an object.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Event")]
pub struct Event {
    #[api(1, required)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub involved_object: ObjectReference,
    #[api(3, omitempty)]
    pub reason: String,
    #[api(4, omitempty)]
    pub message: String,
    #[api(5, omitempty)]
    pub source: EventSource,
    #[api(6, omitempty)]
    pub first_timestamp: Time,
    #[api(7, omitempty)]
    pub last_timestamp: Time,
    #[api(8, omitempty)]
    pub count: i32,
    #[api(9, omitempty)]
    pub type_: String,
    #[api(10, omitempty)]
    pub event_time: MicroTime,
    #[api(11, omitempty)]
    pub series: Option<EventSeries>,
    #[api(12, omitempty)]
    pub action: String,
    #[api(13, omitempty)]
    pub related: Option<ObjectReference>,
    #[api(14)]
    pub reporting_component: String,
    #[api(15)]
    pub reporting_instance: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EventSource")]
pub struct EventSource {
    #[api(1, omitempty)]
    pub component: String,
    #[api(2, omitempty)]
    pub host: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EventSeries")]
pub struct EventSeries {
    #[api(1, omitempty)]
    pub count: i32,
    #[api(2, omitempty)]
    pub last_observed_time: MicroTime,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Event>("", "v1", "events")
        .short(&["ev"])
        .ttl(3600)
        .selectable(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source=source.component|reportingComponent",
            "type",
        ])
        .code_column("Last Seen", "string", last_seen_cell)
        .code_column("Type", "string", |o, _| text(o, &["type"]))
        .code_column("Reason", "string", |o, _| text(o, &["reason"]))
        .code_column("Object", "string", object_cell)
        .wide_code_column("Subobject", "string", |o, _| text(o, &["involvedObject", "fieldPath"]))
        .wide_code_column("Source", "string", source_cell)
        .code_column("Message", "string", |o, _| str_of(o, &["message"]).trim().into())
        .wide_code_column("First Seen", "string", first_seen_cell)
        .wide_code_column("Count", "string", count_cell)
        .wide_code_column("Name", "string", |o, _| text(o, &["metadata", "name"]))
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "web.17"}, "involvedObject": {"kind": "Pod", "namespace": "default",
            "name": "web", "apiVersion": "v1"}, "reason": "Started", "message": "Started container web",
            "type": "Normal", "source": {"component": "kubelet", "host": "node-1"}, "firstTimestamp": "2024-01-01T00:00:00Z",
            "lastTimestamp": "2024-01-01T00:00:05Z", "count": 2}"#,
        )
}

served!(Event, "", "v1", "events", true);

impl Rules for Event {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let object = &self.involved_object;
        let path = Path::new("involvedObject");
        let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
        let own = &self.metadata.namespace;
        if namespace != own && !(object.namespace.is_empty() && own == "kube-system") {
            errors.invalid(&path.child("namespace"), object.namespace.as_str(), "does not match event.namespace");
        }
        if !self.metadata.namespace.is_empty() {
            check(errors, &Path::new("namespace"), &self.metadata.namespace, dns_label);
        }
        if self.metadata.name.is_empty() {
            errors.required(&Path::new("metadata").child("name"), "name or generateName is required");
        }
    }
}

fn last_seen_cell(object: &Value, now: i64) -> Value {
    let series = str_of(object, &["series", "lastObservedTime"]);
    let last = str_of(object, &["lastTimestamp"]);
    match (series, last) {
        ("", "") => first_seen_cell(object, now),
        ("", last) => since(last, now).into(),
        (series, _) => since(series, now).into(),
    }
}

fn first_seen_cell(object: &Value, now: i64) -> Value {
    match str_of(object, &["firstTimestamp"]) {
        "" => since(str_of(object, &["eventTime"]), now).into(),
        first => since(first, now).into(),
    }
}

fn object_cell(object: &Value, _now: i64) -> Value {
    let kind = str_of(object, &["involvedObject", "kind"]).to_ascii_lowercase();
    match str_of(object, &["involvedObject", "name"]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn source_cell(object: &Value, _now: i64) -> Value {
    let either = |old: &[&str], new: &str| match str_of(object, old) {
        "" => str_of(object, &[new]).to_string(),
        text => text.to_string(),
    };
    let component = either(&["source", "component"], "reportingComponent");
    let instance = either(&["source", "host"], "reportingInstance");
    if instance.is_empty() { component.into() } else { format!("{component}, {instance}").into() }
}

fn count_cell(object: &Value, _now: i64) -> Value {
    let counts = [int(object, &["series", "count"]), int(object, &["count"])];
    Value::Int(counts.into_iter().find(|count| *count != 0).unwrap_or(1))
}
