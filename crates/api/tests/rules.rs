//! Defaults and refusals are upstream's: every example, and every example with one leaf spoilt.
//!
//! `rules.jsonl` holds the cases with upstream's answers, so that the test needs no Go. `UPDATE_GOLDENS=1` asks the
//! program in `conformance/rules` anew; `RULES_REPORT=1` prints what differs instead of failing at the first.
#![allow(clippy::disallowed_methods)] // Upstream's code runs as a child process, and only in this test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use apimachinery::codec::{self, json};
use apimachinery::kind::Write as KindWrite;
use apimachinery::{Errors, Kind, Map, RulesCx, Value, defaults};

const GOLDENS: &str = "tests/rules.jsonl";

/// Objects that use more fields than the examples, by resource.
const RICH: &str = include_str!("rules_rich.json");

/// Cases that a struct cannot tell apart (an empty list given, and none), and what upstream's service storage fills in
/// before its strategy sees it.
const UNLIKE: &[(&str, &str)] = &[
    ("autoscaling/v2, Resource=horizontalpodautoscalers", "rich example spec.behavior.scaleUp.policies emptied"),
    ("autoscaling/v2, Resource=horizontalpodautoscalers", "rich example spec.behavior.scaleUp.policies.0 removed"),
    ("/v1, Resource=services", "rich example spec.clusterIPs removed"),
    ("/v1, Resource=services", "rich example spec.clusterIPs emptied"),
    ("/v1, Resource=services", "rich example spec.clusterIPs.0 removed"),
];

/// A kind's object as a client would send it.
struct Case {
    kind: Kind,
    what: String,
    object: Value,
}

#[test]
fn spoilt_examples_are_refused_as_upstream_refuses_them() {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        update();
    }
    let cases: BTreeMap<(String, String), Case> =
        cases().into_iter().map(|case| ((case.kind.gvr().to_string(), case.what.clone()), case)).collect();
    let goldens = std::fs::read_to_string(GOLDENS).expect("the goldens are part of the repository");
    let (mut same, mut differing) = (0, Vec::new());
    for line in goldens.lines() {
        let golden = json::parse(line.as_bytes()).unwrap();
        let (resource, what) = (golden.str_at(&["resource"]).unwrap(), golden.str_at(&["what"]).unwrap());
        if UNLIKE.contains(&(resource, what)) {
            continue;
        }
        let case = cases.get(&(resource.into(), what.into())).expect("examples changed: UPDATE_GOLDENS=1");
        if let Some(defaulted) = golden.get("defaulted") {
            assert_eq!(with_defaults(case), *defaulted, "defaults of {resource} {what}");
        }
        let ours = answer(case);
        let theirs: BTreeSet<String> =
            golden.get("errors").unwrap().as_list().unwrap().iter().map(|e| normal(e.as_str().unwrap())).collect();
        if ours == theirs {
            same += 1;
        } else {
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                a.difference(b).cloned().collect::<Vec<_>>().join("\n      ")
            };
            differing.push(format!(
                "{} {}\n  ours {}\n  upstream {}",
                case.kind.kind,
                case.what,
                only(&ours, &theirs),
                only(&theirs, &ours)
            ));
        }
    }
    if std::env::var_os("RULES_REPORT").is_some() {
        println!("{}", differing.join("\n"));
    }
    assert!(
        differing.is_empty(),
        "{same} cases are answered as upstream answers them, {} are not:\n{}",
        differing.len(),
        differing[..differing.len().min(5)].join("\n")
    );
}

/// Messages without what is ours to word: offending values that are whole objects, and Go's own errors.
fn normal(error: &str) -> String {
    let (field, rest) = error.split_once(": ").unwrap_or((error, ""));
    for words in ["Unsupported value: ", "Duplicate value: "] {
        if let Some(rest) = rest.strip_prefix(words)
            && (rest.starts_with('{') || rest.starts_with("null"))
        {
            return format!(
                "{field}: {words}…{}",
                rest.split_once("supported values").map_or("", |(_, values)| values)
            );
        }
    }
    // Bytes are shown as Go shows a slice.
    if field == "spec.request" {
        return format!("{field}: {}", rest.rsplit(": ").next().unwrap_or(""));
    }
    if let Some(rest) = rest.strip_prefix("Invalid value: null: ") {
        return format!("{field}: Invalid value: …: {rest}");
    }
    if let Some(rest) = rest.strip_prefix("Invalid value: ")
        && (rest.starts_with('{') || rest.starts_with('['))
    {
        let end = rest.rfind("}: ").into_iter().chain(rest.rfind("]: ")).max();
        let message = end.map_or("", |end| &rest[end + 1..]);
        // Here upstream passes its message as the value.
        if message.contains("specifying one of OnExitCodes") {
            return format!("{field}: Invalid value{message}");
        }
        return format!("{field}: Invalid value: …{message}");
    }
    error.to_string()
}

/// The object after defaults, as it is encoded.
fn with_defaults(case: &Case) -> Value {
    let mut object = case.object.clone();
    codec::normalize(&mut object, &case.kind.schema).unwrap();
    defaults::set_defaults(&mut object, &case.kind.schema);
    (case.kind.hooks.set_defaults.unwrap())(&mut object).unwrap();
    let mut object = json::parse(&json::encode(&object, &case.kind.schema)).unwrap();
    if let Some(map) = object.as_map_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    object
}

fn answer(case: &Case) -> BTreeSet<String> {
    let mut object = case.object.clone();
    if codec::normalize(&mut object, &case.kind.schema).is_err() {
        return ["cannot be decoded".to_string()].into();
    }
    defaults::set_defaults(&mut object, &case.kind.schema);
    (case.kind.hooks.set_defaults.unwrap())(&mut object).unwrap();
    let metadata = object.as_map_mut().map(|map| map.get_or_insert_with("metadata", || Value::Map(Map::new())));
    if let Some(metadata) = metadata.and_then(Value::as_map_mut) {
        metadata.insert("uid", "00000000-0000-0000-0000-000000000000");
        if case.kind.namespaced {
            metadata.insert("namespace", "default");
        }
    }
    let mut errors = Errors::new();
    let cx = RulesCx { now: (1_700_000_000, 0), user: "ann", namespace: "default", ..RulesCx::default() };
    let write = case.kind.hooks.write.unwrap();
    write(&mut object, KindWrite::Create, &cx, &mut errors, &mut Vec::new()).unwrap();
    apimachinery::validate::metadata(&object, None, &case.kind, &mut errors);
    errors.iter().map(|e| normal(&e.to_string())).collect()
}

/// Every example, and every example with one leaf spoilt in each way that its type allows.
fn cases() -> Vec<Case> {
    let rich = json::parse(RICH.as_bytes()).unwrap();
    let mut cases = Vec::new();
    let examples = api::kinds().into_iter().flat_map(|kind| {
        let example = json::parse(kind.example.as_bytes()).unwrap();
        let rich = rich.get(&kind.gvr().to_string()).cloned();
        [Some(("example", example)), rich.map(|rich| ("rich example", rich))]
            .into_iter()
            .flatten()
            .map(move |(which, object)| (kind.clone(), which, object))
    });
    for (kind, which, object) in examples {
        let mut paths = Vec::new();
        leaves(&object, &mut Vec::new(), &mut paths);
        for path in paths {
            for (how, value) in spoilt(at(&object, &path)) {
                let mut changed = object.clone();
                set(&mut changed, &path, value);
                let path: Vec<String> = path.iter().map(ToString::to_string).collect();
                cases.push(Case {
                    kind: kind.clone(),
                    what: format!("{which} {} {how}", path.join(".")),
                    object: changed,
                });
            }
        }
        cases.push(Case { kind, what: which.into(), object });
    }
    cases
}

fn leaves(value: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    if !path.is_empty() {
        out.push(path.clone());
    }
    match value {
        Value::Map(map) => {
            for (key, value) in map.iter() {
                path.push(key.to_string());
                leaves(value, path, out);
                path.pop();
            }
        }
        Value::List(items) => {
            for (i, value) in items.iter().enumerate() {
                path.push(i.to_string());
                leaves(value, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}

fn spoilt(value: &Value) -> Vec<(&'static str, Option<Value>)> {
    let mut ways = vec![("removed", None)];
    match value {
        Value::String(_) => {
            for (how, text) in [("bad", "A_b!"), ("dotted", "a.b"), ("empty", "")] {
                ways.push((how, Some(text.into())));
            }
            ways.push(("long", Some("x".repeat(300).into())));
        }
        Value::Int(_) => {
            for (how, number) in [("negative", -1), ("zero", 0), ("large", 2_000_000_000)] {
                ways.push((how, Some(Value::Int(number))));
            }
        }
        Value::Bool(b) => ways.push(("flipped", Some(Value::Bool(!b)))),
        Value::List(items) => {
            ways.push(("emptied", Some(Value::List(Vec::new()))));
            if let Some(first) = items.first() {
                ways.push(("doubled", Some(Value::List(vec![first.clone(), first.clone()]))));
            }
        }
        Value::Map(_) => ways.push(("emptied", Some(Value::Map(Map::new())))),
        _ => {}
    }
    ways
}

fn at<'a>(value: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(value, |value, step| match value {
        Value::List(items) => &items[step.parse::<usize>().unwrap()],
        other => other.get(step).unwrap(),
    })
}

fn set(value: &mut Value, path: &[String], new: Option<Value>) {
    let (last, parents) = path.split_last().unwrap();
    let parent = parents.iter().fold(value, |value, step| match value {
        Value::List(items) => &mut items[step.parse::<usize>().unwrap()],
        other => other.as_map_mut().unwrap().get_mut(step).unwrap(),
    });
    match (parent, new) {
        (Value::List(items), Some(new)) => items[last.parse::<usize>().unwrap()] = new,
        (Value::List(items), None) => {
            items.remove(last.parse::<usize>().unwrap());
        }
        (Value::Map(map), Some(new)) => {
            map.insert(last.as_str(), new);
        }
        (Value::Map(map), None) => {
            map.remove(last);
        }
        _ => unreachable!("parents are lists or maps"),
    }
}

/// Asks upstream and writes the goldens.
fn update() {
    let cases = cases();
    let input: Vec<Value> = cases
        .iter()
        .map(|case| {
            let mut map = Map::new();
            map.insert("resource", &*case.kind.resource);
            map.insert("group", &*case.kind.group);
            map.insert("version", &*case.kind.version);
            map.insert("kind", &*case.kind.kind);
            map.insert("object", case.object.clone());
            Value::Map(map)
        })
        .collect();
    let conformance: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let mut child = Command::new("go")
        .args(["run", "./rules"])
        .current_dir(conformance)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Go is installed");
    let mut stdin = child.stdin.take().unwrap();
    let bytes = json::encode_free(&Value::List(input));
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers = json::parse(&output.stdout).unwrap();
    let mut goldens = String::new();
    for (case, answer) in cases.iter().zip(answers.as_list().unwrap()) {
        if answer.get("skipped").is_some() || answer.get("failure").is_some() {
            continue;
        }
        let mut map = Map::new();
        map.insert("resource", case.kind.gvr().to_string());
        map.insert("what", case.what.as_str());
        map.insert("errors", answer.get("errors").cloned().unwrap_or_default());
        // Spoilt objects are defaulted by the same code.
        if case.what.ends_with("example")
            && let Some(object) = answer.get("object")
        {
            map.insert("defaulted", object.clone());
        }
        goldens.push_str(std::str::from_utf8(&json::encode_free(&Value::Map(map))).unwrap().trim_end());
        goldens.push('\n');
    }
    std::fs::write(GOLDENS, goldens).unwrap();
}
