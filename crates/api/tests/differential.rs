//! Patches, server-side apply, selectors, JSON paths and ages do what upstream's own code does.
//!
//! `differential.jsonl` holds cases and upstream's answers, so that the quick test needs no Go. Where Go is installed
//! new random cases are answered by the program in `conformance/differential`; `UPDATE_GOLDENS=1` writes the file anew.
//! `DIFFERENTIAL_CASES=20000` asks for more cases, `DIFFERENTIAL_SEED=7` for others.
#![allow(clippy::disallowed_methods)] // Upstream's code runs as a child process, and only in this test.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use apimachinery::apply::{self, ManagerCx, Set};
use apimachinery::codec::json;
use apimachinery::jsonpath::{self, JsonPath};
use apimachinery::schema::{Field, ListType, Node, Patch, Struct, Type};
use apimachinery::selector::{FieldSelector, LabelSelector};
use apimachinery::table::{human_duration, short_human_duration};
use apimachinery::{Kind, Map, Value, patch};

const GOLDENS: &str = "tests/differential.jsonl";

/// The kinds that objects are made of.
const KINDS: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Node"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "Ingress"),
    ("batch/v1", "Job"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "PersistentVolume"),
];

#[test]
fn the_goldens_hold() {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let cases = cases(1, 400);
        let answers = upstream(&cases).expect("UPDATE_GOLDENS needs Go and the modules of conformance/go.mod");
        let mut text = String::new();
        for (case, answer) in cases.iter().zip(&answers) {
            let mut line = Map::new();
            line.insert("case", case.clone());
            line.insert("answer", answer.clone());
            let _ = writeln!(text, "{}", compact(&Value::Map(line)));
        }
        std::fs::write(GOLDENS, text).unwrap();
    }
    let text = std::fs::read_to_string(GOLDENS).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| json::parse(line.as_bytes()).unwrap()).collect();
    assert!(lines.len() >= 400);
    let cases: Vec<Value> = lines.iter().map(|l| l.get("case").unwrap().clone()).collect();
    let answers: Vec<Value> = lines.iter().map(|l| l.get("answer").unwrap().clone()).collect();
    compare(&cases, &answers);
}

#[test]
fn random_cases_are_answered_as_upstream_answers_them() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let cases = cases(number("DIFFERENTIAL_SEED", 42), number("DIFFERENTIAL_CASES", 1500) as usize);
    match upstream(&cases) {
        Some(answers) => compare(&cases, &answers),
        None => println!("skipped: no Go, or not the modules of conformance/go.mod"),
    }
}

fn compare(cases: &[Value], answers: &[Value]) {
    let kinds = api::kinds();
    let mut wrong = Vec::new();
    for (case, expected) in cases.iter().zip(answers) {
        let (mut got, mut expected) = (ours(case, &kinds), expected.clone());
        if case.str_at(&["op"]) == Some("jsonpath") {
            // Upstream reaches the members of a map in no order.
            sort_results(&mut got);
            sort_results(&mut expected);
        }
        if !same(&got, &expected) {
            wrong.push(format!(
                "case {}\n  ours     {}\n  upstream {}",
                compact(case),
                compact(&got),
                compact(&expected)
            ));
        }
    }
    let shown: Vec<String> = wrong.iter().take(12).cloned().collect();
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), shown.join("\n"));
}

fn sort_results(answer: &mut Value) {
    if let Some(list) = answer.as_map_mut().and_then(|m| m.get_mut("ok")).and_then(Value::as_list_mut) {
        list.sort_by_key(compact);
    }
}

/// Where a case has several faults, upstream names the one that a Go map yields first: such errors are only compared
/// as errors.
fn same(a: &Value, b: &Value) -> bool {
    let unordered = |v: &Value| {
        v.get("error").and_then(Value::as_str).is_some_and(|e| {
            [
                "failed to create typed patch object",
                "list element types are not identical",
                "panic: ",
                "does not contain declared merge key",
                "unknown patch type",
                "invalid patch format",
                "doesn't match $setElementOrder",
                "is not array or slice",
                "array index out of bounds",
            ]
            .iter()
            .any(|text| e.contains(text))
        })
    };
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a_map), Value::Map(b_map)) if a_map.contains_key("ok") && b_map.contains_key("ok") => {
            same(&a_map.get("ok").cloned().unwrap_or_default(), &b_map.get("ok").cloned().unwrap_or_default())
        }
        _ => a == b || (a.get("error").is_some() && b.get("error").is_some() && (unordered(a) || unordered(b))),
    }
}

fn compact(value: &Value) -> String {
    to_serde(value).to_string()
}

fn to_serde(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::Float(x) => (*x).into(),
        Value::String(s) => s.as_str().into(),
        Value::List(items) => items.iter().map(to_serde).collect(),
        Value::Map(map) => map.iter().map(|(k, v)| (k.to_string(), to_serde(v))).collect(),
    }
}

/// Upstream's answers; `None` where its code cannot be built.
fn upstream(cases: &[Value]) -> Option<Vec<Value>> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let go = |arguments: &[&str]| {
        let output = Command::new("go").args(arguments).current_dir(&module).stderr(Stdio::inherit()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let source = go(&["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])?;
    let program: PathBuf = std::env::temp_dir().join(format!("differential-{}", std::process::id()));
    go(&["build", "-o", program.to_str()?, "./differential"])?;
    let mut child = Command::new(&program)
        .arg(Path::new(&source).join("api/openapi-spec/v3"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let lines: String = cases.iter().map(|c| compact(c) + "\n").collect();
    let mut stdin = child.stdin.take()?;
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().ok()?;
    writer.join().unwrap().unwrap();
    std::fs::remove_file(&program).ok();
    let answers: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| json::parse(l).unwrap()).collect();
    assert_eq!(answers.len(), cases.len(), "upstream answers every case");
    Some(answers)
}

fn result(value: Result<Value, String>) -> Value {
    let mut map = Map::new();
    match value {
        Ok(value) => map.insert("ok", value),
        Err(error) => map.insert("error", error),
    };
    Value::Map(map)
}

fn texts(texts: impl IntoIterator<Item = String>) -> Value {
    Value::List(texts.into_iter().map(Value::from).collect())
}

fn kind_of<'a>(case: &Value, kinds: &'a [Kind]) -> &'a Kind {
    let api_version = case.str_at(&["apiVersion"]).unwrap();
    let name = case.str_at(&["kind"]).unwrap();
    kinds.iter().find(|k| k.kind == name && k.group_version().to_string() == api_version).unwrap()
}

fn ours(case: &Value, kinds: &[Kind]) -> Value {
    let object = || case.get("object").cloned().unwrap_or_default();
    let patch = || case.get("patch").cloned().unwrap_or_default();
    let text = case.str_at(&["text"]).unwrap_or_default();
    let labels = case.get("labels");
    result(match case.str_at(&["op"]).unwrap() {
        "strategic" => {
            let kind = kind_of(case, kinds);
            patch::strategic::apply(object(), patch(), &kind.schema).map_err(|e| e.to_string())
        }
        "json" => patch::json::apply(object(), &patch()).map_err(|e| e.to_string()),
        "merge" => Ok(patch::merge::apply(object(), patch())),
        "labels" => LabelSelector::parse(text)
            .map(|s| Value::List(vec![s.to_string().into(), s.matches_value(labels).into()]))
            .map_err(|e| e.to_string()),
        "fields" => FieldSelector::parse(text)
            .map(|s| {
                let found = s.matches(|field| labels.and_then(|l| l.get(field)).and_then(Value::as_str));
                Value::List(vec![s.to_string().into(), found.into()])
            })
            .map_err(|e| e.to_string()),
        "jsonpath" => JsonPath::parse(text)
            .and_then(|path| path.find(&object()).map(|found| texts(found.into_iter().map(jsonpath::show))))
            .map_err(|e| e.to_string()),
        "duration" => {
            let seconds = case.get("seconds").and_then(Value::as_i64).unwrap();
            Ok(texts([human_duration(seconds), short_human_duration(seconds)]))
        }
        "sequence" => Ok(sequence(case, kind_of(case, kinds))),
        other => panic!("unknown op {other}"),
    })
}

fn sequence(case: &Value, kind: &Kind) -> Value {
    let api_version = kind.group_version().to_string();
    let reset = Set::new();
    let mut live: Option<Value> = None;
    let mut results = Vec::new();
    for (i, step) in case.get("steps").and_then(Value::as_list).unwrap().iter().enumerate() {
        let now = format!("2026-01-01T00:{:02}:00Z", i);
        let cx = ManagerCx {
            manager: step.str_at(&["manager"]).unwrap(),
            subresource: "",
            api_version: &api_version,
            kind: &kind.kind,
            now: &now,
            schema: &kind.schema,
            reset_fields: &reset,
            versions: &[],
        };
        let mut object = step.get("object").unwrap().clone();
        let done = if step.str_at(&["verb"]) == Some("apply") {
            let force = step.get("force").and_then(Value::as_bool).unwrap_or(false);
            apply::apply(live.as_ref(), object, &cx, force).map_err(|e| e.to_string())
        } else {
            if i > 0 {
                let metadata = object.as_map_mut().unwrap().get_or_insert_with("metadata", || Value::Map(Map::new()));
                metadata.as_map_mut().unwrap().insert("uid", "1");
            }
            apply::update(live.as_ref(), &mut object, &cx);
            Ok(object)
        };
        if let Ok(object) = &done {
            live = Some(object.clone());
        }
        results.push(result(done.map(without_times)));
    }
    Value::List(results)
}

fn without_times(mut object: Value) -> Value {
    let metadata = object.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Value::as_map_mut);
    if let Some(entries) = metadata.and_then(|m| m.get_mut("managedFields")).and_then(Value::as_list_mut) {
        for entry in entries.iter_mut().filter_map(Value::as_map_mut) {
            entry.remove("time");
        }
        entries.sort_by_key(|e| format!("{:?} {:?}", e.str_at(&["operation"]), e.str_at(&["manager"])));
    }
    object
}

/// A small deterministic generator (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

fn cases(seed: u64, count: usize) -> Vec<Value> {
    let kinds = api::kinds();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    (0..count).map(|i| case(i, &kinds, &mut random)).collect()
}

fn case(i: usize, kinds: &[Kind], random: &mut Random) -> Value {
    let mut map = Map::new();
    let (api_version, name) = KINDS[random.below(KINDS.len())];
    let mut named = Map::new();
    named.insert("apiVersion", api_version);
    named.insert("kind", name);
    let named = Value::Map(named);
    let kind = kind_of(&named, kinds);
    let typed = |map: &mut Map| {
        map.insert("apiVersion", api_version);
        map.insert("kind", name);
    };
    match i % 10 {
        0..=2 => {
            map.insert("op", "strategic");
            typed(&mut map);
            map.insert("object", object(&kind.schema, 0, random));
            map.insert("patch", strategic_patch(&kind.schema, 0, random));
        }
        3..=6 => {
            map.insert("op", "sequence");
            typed(&mut map);
            let steps: Vec<Value> = (0..2 + random.below(5)).map(|_| step(kind, &named, random)).collect();
            map.insert("steps", steps);
        }
        7 => {
            map.insert("op", if random.one_in(3) { "merge" } else { "json" });
            map.insert("object", free(3, random).filled());
            if map.get("op").and_then(Value::as_str) == Some("merge") {
                map.insert("patch", free(3, random).filled());
            } else {
                let operations: Vec<Value> = (0..1 + random.below(4)).map(|_| operation(random)).collect();
                map.insert("patch", operations);
            }
        }
        8 => {
            let labels = random.one_in(2);
            map.insert("op", if labels { "labels" } else { "fields" });
            let tokens: &[&str] = if labels {
                &[
                    "a", "b/c", "=", "==", "!=", " in ", " notin ", "(", ")", ",", "!", "x", ">", "<", "5", " ", "-",
                    "a.b",
                ]
            } else {
                &["a", "b.c", "=", "==", "!=", ",", "\\,", "\\\\", "\\x", "x", "\\=", ""]
            };
            let text: String = (0..1 + random.below(8)).map(|_| random.pick(tokens)).collect();
            // Well-formed texts are rare among random ones.
            let text = match (labels, random.below(3)) {
                (true, 0) => format!("a in ({text})"),
                (true, 1) => format!("a=x,{text}"),
                (false, 0) => format!("a={text}"),
                _ => text,
            };
            map.insert("text", text);
            let mut set = Map::new();
            for key in ["a", "b/c", "x", "b.c"] {
                if random.one_in(2) {
                    set.insert(key, random.pick(&["x", "5", "a", ""]));
                }
            }
            map.insert("labels", set);
        }
        _ if random.one_in(3) => {
            map.insert("op", "duration");
            let magnitude = 1_i64 << random.below(34);
            map.insert("seconds", (random.next() as i64).rem_euclid(magnitude.max(2)) - 3);
        }
        _ => {
            map.insert("op", "jsonpath");
            map.insert("object", object(&kind.schema, 0, random));
            let parts: &[&str] = &[
                ".metadata",
                ".spec",
                ".status",
                ".containers",
                ".name",
                "[0]",
                "[*]",
                "[-1]",
                "[0:1]",
                "..name",
                ".labels",
                ".a",
                "[?(@.name==\"a\")]",
                "[?(@.port>1)]",
                "[?(@.name)]",
                ".ports",
                "[0,1]",
                ".*",
                "['a']",
                ".template",
                ".conditions",
                "[?(@.type!='b')]",
                "[1:]",
                "[:1]",
                "[::2]",
                ".data",
            ];
            let text: String = (0..1 + random.below(4)).map(|_| random.pick(parts)).collect();
            // Upstream takes a string for a list of bytes; nobody means that.
            map.insert("text", if text.starts_with(".*") { text.clone() } else { text.replace(".*", "[*]") });
        }
    }
    Value::Map(map)
}

fn step(kind: &Kind, named: &Value, random: &mut Random) -> Value {
    let mut body = object(&kind.schema, 0, random);
    if let (Value::Map(body), Value::Map(named)) = (&mut body, named) {
        body.remove("status");
        for (key, value) in named.iter() {
            body.insert(key.clone(), value.clone());
        }
    }
    let mut map = Map::new();
    map.insert("verb", random.pick(&["apply", "apply", "update"]));
    map.insert("manager", random.pick(&["one", "two", "kubectl"]));
    map.insert("force", random.one_in(2));
    map.insert("object", body);
    Value::Map(map)
}

/// Fields of a struct, inlined ones included.
fn fields(schema: &Struct) -> Vec<Field> {
    let mut out = Vec::new();
    for field in schema.fields.iter() {
        match (&field.node.ty, field.name.is_empty()) {
            (Type::Struct(inner), true) => out.extend(fields(inner)),
            _ => out.push(field.clone()),
        }
    }
    out
}

fn object(schema: &Struct, depth: usize, random: &mut Random) -> Value {
    let mut map = Map::new();
    let all = fields(schema);
    // Few fields, the same ones often, so that objects overlap.
    for field in all.iter().filter(|f| f.name != "managedFields" && f.name != "uid") {
        let chosen = match &*field.name {
            "metadata" | "spec" | "containers" | "template" | "data" | "name" => !random.one_in(3),
            _ => random.one_in(2 + all.len() / 2 + depth),
        };
        if chosen {
            map.insert(&*field.name, value(&field.node, field.patch, depth + 1, random));
        }
    }
    Value::Map(map)
}

fn value(node: &Node, patch: Patch, depth: usize, random: &mut Random) -> Value {
    match &node.ty {
        Type::Bool => random.one_in(2).into(),
        Type::Int32 | Type::Int64 | Type::Double => Value::Int(1 + random.below(3) as i64),
        Type::String => random.pick(&["a", "b", "c"]).into(),
        Type::Bytes => "YQ==".into(),
        Type::Quantity => random.pick(&["1", "2Gi"]).into(),
        Type::Time => "2026-01-01T00:00:00Z".into(),
        Type::MicroTime => "2026-01-01T00:00:00.000000Z".into(),
        Type::Duration => "1m0s".into(),
        Type::IntOrString => {
            if random.one_in(2) {
                Value::Int(80)
            } else {
                "http".into()
            }
        }
        Type::Any(_) => free(2, random).filled(),
        Type::Map(inner) => {
            let mut map = Map::new();
            for key in ["a", "b", "c"] {
                if random.one_in(2) {
                    map.insert(key, value(inner, Patch::REPLACE, depth + 1, random));
                }
            }
            Value::Map(map)
        }
        Type::Struct(schema) if depth < 9 => object(schema, depth, random),
        Type::Struct(_) => Value::Map(Map::new()),
        Type::List(element) => {
            let mut items: Vec<Value> = Vec::new();
            for _ in 0..random.below(4) {
                let item = value(element, Patch::REPLACE, depth + 1, random);
                items.push(keyed(item, element, node, patch, random));
            }
            distinct(&mut items, node, patch);
            Value::List(items)
        }
    }
}

/// The keys that tell the elements of a list apart, for apply and for patches.
fn keys(node: &Node, patch: Patch) -> Vec<String> {
    let mut keys: Vec<String> = node.facets().list_map_keys.iter().map(|k| k.to_string()).collect();
    if !patch.merge_key.is_empty() && !keys.iter().any(|k| k == patch.merge_key) {
        keys.push(patch.merge_key.to_string());
    }
    keys
}

/// Gives an element its keys, except one that has a default now and then.
fn keyed(mut item: Value, element: &Node, node: &Node, patch: Patch, random: &mut Random) -> Value {
    if let (Value::Map(map), Type::Struct(schema)) = (&mut item, &element.ty) {
        for key in keys(node, patch) {
            if let Some(field) = fields(schema).iter().find(|f| f.name == key) {
                let optional = field.node.facets().default.is_some() && patch.merge_key != key;
                if !(optional && random.one_in(2)) {
                    map.insert(key, value(&field.node, Patch::REPLACE, 9, random));
                }
            }
        }
    }
    item
}

/// Drops elements that are the same by their keys, or altogether in a set.
fn distinct(items: &mut Vec<Value>, node: &Node, patch: Patch) {
    let set = node.facets().list_type == Some(ListType::Set) || (patch.merge && patch.merge_key.is_empty());
    let keys = keys(node, patch);
    let mut seen: Vec<Value> = Vec::new();
    items.retain(|item| {
        let same = if keys.is_empty() && set {
            item.clone()
        } else if keys.is_empty() {
            return true;
        } else {
            match item.get(&keys[0]) {
                Some(key) => key.clone(),
                None => return true,
            }
        };
        let new = !seen.contains(&same);
        if new {
            seen.push(same);
        }
        new
    });
}

/// A patch: an object with deletions and directives sprinkled in.
fn strategic_patch(schema: &Struct, depth: usize, random: &mut Random) -> Value {
    let Value::Map(mut map) = object(schema, depth, random) else { return Value::Null };
    if depth > 0 && random.one_in(12) {
        map.insert("$patch", random.pick(&["replace", "delete", "replace", "other"]));
        return Value::Map(map);
    }
    for field in fields(schema) {
        let Some(found) = map.get(&field.name).cloned() else { continue };
        if random.one_in(6) {
            map.insert(&*field.name, Value::Null);
            continue;
        }
        match (&field.node.ty, found) {
            (Type::Struct(inner), _) if depth < 5 => {
                map.insert(&*field.name, strategic_patch(inner, depth + 1, random));
            }
            (Type::List(element), Value::List(mut items)) if field.patch.merge => {
                let key = field.patch.merge_key;
                let scalars = !matches!(element.ty, Type::Struct(_));
                if scalars && random.one_in(3) {
                    map.insert(format!("$deleteFromPrimitiveList/{}", field.name), items.clone());
                    map.remove(&field.name);
                    continue;
                }
                if random.one_in(3) && !items.is_empty() {
                    let mut order: Vec<Value> = items.iter().map(|item| only_key(item, key)).collect();
                    if random.one_in(3) {
                        order.push(only_key(&items[0], key));
                        order.reverse();
                    }
                    map.insert(format!("$setElementOrder/{}", field.name), order);
                }
                if !scalars && random.one_in(4) {
                    if let Some(Value::Map(last)) = items.last_mut() {
                        last.insert("$patch", "delete");
                    }
                } else if !scalars && random.one_in(8) {
                    let mut replace = Map::new();
                    replace.insert("$patch", "replace");
                    items.push(Value::Map(replace));
                }
                map.insert(&*field.name, items);
            }
            _ => {}
        }
    }
    if random.one_in(10) {
        let mut keys: Vec<Value> =
            map.keys().filter(|k| !k.starts_with('$')).map(|k| Value::from(k.as_str())).collect();
        if random.one_in(4) {
            keys.pop();
        }
        map.insert("$retainKeys", keys);
    }
    Value::Map(map)
}

fn only_key(item: &Value, key: &str) -> Value {
    match item {
        Value::Map(map) => {
            Value::Map(map.iter().filter(|(k, _)| *k == key).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        scalar => scalar.clone(),
    }
}

/// Any JSON value; see [`Free::filled`].
struct Free(Value);

impl Free {
    /// As an object, whatever it was.
    fn filled(self) -> Value {
        match self.0 {
            map @ Value::Map(_) => map,
            other => {
                let mut map = Map::new();
                map.insert("a", other);
                Value::Map(map)
            }
        }
    }
}

fn free(depth: usize, random: &mut Random) -> Free {
    Free(match random.below(if depth == 0 { 4 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Int(random.below(3) as i64),
        2 => random.pick(&["x", "y"]).into(),
        3 => random.one_in(2).into(),
        4 => Value::List((0..random.below(4)).map(|_| free(depth - 1, random).0).collect()),
        _ => {
            let mut map = Map::new();
            for key in ["a", "b", "c/d", "e~f"] {
                if random.one_in(2) {
                    map.insert(key, free(depth - 1, random).0);
                }
            }
            Value::Map(map)
        }
    })
}

fn operation(random: &mut Random) -> Value {
    let parts: &[&str] = &["/a", "/b", "/c~1d", "/e~0f", "/0", "/1", "/-1", "/-", "/x"];
    let mut path = || -> String { (0..1 + random.below(3)).map(|_| random.pick(parts)).collect() };
    let (to, from) = (path(), path());
    let mut map = Map::new();
    map.insert("op", random.pick(&["add", "add", "remove", "replace", "move", "copy", "test", "jump"]));
    if !random.one_in(20) {
        map.insert("path", to);
    }
    if !random.one_in(10) {
        map.insert("from", from);
    }
    if !random.one_in(8) {
        map.insert("value", free(2, random).0);
    }
    Value::Map(map)
}
