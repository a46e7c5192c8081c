//! Leaf values, strict decoding, YAML and custom resource schemas are what upstream's own code makes of them.
//!
//! `forms.jsonl` holds cases and upstream's answers, so that the quick test needs no Go. Where Go is installed new
//! random cases are answered by the program in `conformance/forms`; `UPDATE_GOLDENS=1` writes the file anew.
//! `FORMS_CASES=20000` asks for more cases, `FORMS_SEED=7` for others.
#![allow(clippy::disallowed_methods)] // Upstream's code runs as a child process, and only in this test.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use apimachinery::codec::{json, normalize, yaml};
use apimachinery::{Errors, Kind, Map, Quantity, Value, crd, defaults, prune, schema, time, validate};

const GOLDENS: &str = "tests/forms.jsonl";

#[test]
fn the_goldens_hold() {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let cases = cases(1, 600);
        let answers = upstream(&cases).expect("UPDATE_GOLDENS needs Go and the modules of conformance/go.mod");
        let mut text = String::new();
        for (case, answer) in cases.iter().zip(answers) {
            let line = map(&[("case", case.clone()), ("answer", answer)]);
            let _ = writeln!(text, "{}", compact(&line));
        }
        std::fs::write(GOLDENS, text).unwrap();
    }
    let text = std::fs::read_to_string(GOLDENS).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| json::parse(line.as_bytes()).unwrap()).collect();
    assert!(lines.len() >= 600);
    compare(lines.iter().map(|l| (l.get("case").unwrap().clone(), l.get("answer").unwrap().clone())).collect());
}

#[test]
fn random_cases_are_answered_as_upstream_answers_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let cases = cases(number("FORMS_SEED").unwrap_or(2), number("FORMS_CASES").unwrap_or(1500) as usize);
    match upstream(&cases) {
        Some(answers) => compare(cases.into_iter().zip(answers).collect()),
        None => println!("skipped: Go or the modules of conformance/go.mod are not on this machine"),
    }
}

fn compare(pairs: Vec<(Value, Value)>) {
    let kinds = api::kinds();
    let mut wrong = Vec::new();
    let count = pairs.len();
    for (case, expected) in pairs {
        let got = match ours(&case, &kinds) {
            Ok(value) => map(&[("ok", value)]),
            Err(error) => map(&[("error", error.into())]),
        };
        let got = json::parse(compact(&got).as_bytes()).unwrap();
        // The words of a parser's errors are its own; that it refuses is what counts.
        let loose = matches!(case.str_at(&["op"]), Some("yaml" | "quantity" | "duration" | "time" | "microtime"));
        let (got, expected) = (quantities(&case, got), quantities(&case, expected));
        let same = match (got.get("error"), expected.get("error")) {
            (Some(ours), Some(theirs)) => loose || same_refusal(ours, theirs),
            _ => got == expected,
        };
        if !same {
            let mut case = case;
            if let (Some("resource"), Value::Map(case)) = (case.clone().str_at(&["op"]), &mut case) {
                case.remove("schema");
            }
            wrong.push(format!(
                "case {}\n  ours     {}\n  upstream {}",
                compact(&case),
                compact(&got),
                compact(&expected)
            ));
        }
    }
    let shown: Vec<String> = wrong.iter().take(12).cloned().collect();
    assert!(wrong.is_empty(), "{} of {count} cases differ:\n{}", wrong.len(), shown.join("\n"));
}

/// Upstream keeps some texts as they came, `1E6` for one, and its whole numbers overflow; neither is compared.
fn quantities(case: &Value, mut answer: Value) -> Value {
    let parsed = Quantity::parse(case.str_at(&["text"]).unwrap_or_default());
    if case.str_at(&["op"]) == Some("quantity")
        && let Some(Value::Map(ok)) = answer.as_map_mut().and_then(|m| m.get_mut("ok"))
        && let Ok(quantity) = parsed
    {
        if ok.get("text") == case.get("text") {
            ok.insert("text", quantity.to_string());
        }
        if quantity.as_f64().abs() > 9e28 {
            ok.remove("text");
        }
        if quantity.as_f64().abs() > 9e15 || quantity.is_negative() {
            ok.remove("milli");
        }
        if quantity.as_f64().abs() > 4e18 || quantity.is_negative() {
            ok.remove("value");
        }
    }
    answer
}

/// Errors of Go's own JSON and YAML readers may differ in words; those of types and fields may not.
fn same_refusal(ours: &Value, theirs: &Value) -> bool {
    let (ours, theirs) = (ours.as_str().unwrap_or_default(), theirs.as_str().unwrap_or_default());
    ours == theirs || !theirs.contains("cannot unmarshal") || theirs.contains("parse error")
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(k, v)| ((*k).into(), v.clone())).collect())
}

fn compact(value: &Value) -> String {
    String::from_utf8(json::encode_free(value).to_vec()).unwrap().trim_end().to_string()
}

fn upstream(cases: &[Value]) -> Option<Vec<Value>> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let program = std::env::temp_dir().join(format!("forms-{}", std::process::id()));
    let built =
        Command::new("go").args(["build", "-o", program.to_str()?, "./forms"]).current_dir(&module).status().ok()?;
    if !built.success() {
        return None;
    }
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
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

fn ours(case: &Value, kinds: &[Kind]) -> Result<Value, String> {
    let text = case.str_at(&["text"]).unwrap_or_default();
    match case.str_at(&["op"]).unwrap() {
        "quantity" => {
            let quantity = Quantity::parse(text).map_err(|e| e.to_string())?;
            let (value, milli) = (quantity.value().into(), quantity.milli_value().into());
            Ok(map(&[("text", quantity.to_string().into()), ("value", value), ("milli", milli)]))
        }
        "duration" => leaf::<time::Duration>(text),
        "time" => member("creationTimestamp", "v1", "ConfigMap", text, kinds),
        "microtime" => member("renewTime", "coordination.k8s.io/v1", "Lease", text, kinds),
        "yaml" => {
            let value = yaml::parse_reporting(text.as_bytes(), &mut Vec::new()).map_err(|e| e.to_string())?;
            Ok(compact(&value).into())
        }
        "write" => Ok(yaml::write(case.get("object").unwrap()).into()),
        "json" | "strictyaml" => decode(case, text, kinds),
        "resource" => resource(case),
        "schema" => {
            let mut errors = Errors::new();
            let spec = apimachinery::Path::new("spec");
            crd::check_schema(case.get("schema").unwrap(), false, &spec.child("validation"), &mut errors);
            Ok(sorted(&errors))
        }
        other => Err(format!("no such operation: {other}")),
    }
}

fn sorted(errors: &Errors) -> Value {
    let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.sort();
    Value::List(texts.into_iter().map(Value::from).collect())
}

fn leaf<T: schema::Api>(text: &str) -> Result<Value, String> {
    let value = json::parse(text.as_bytes()).map_err(|e| e.to_string())?;
    T::from_value(&value).map(|t| t.to_value()).map_err(|m| m.to_string())
}

/// A leaf as a member of an object, which is how decoding meets it.
fn member(name: &str, version: &str, kind: &str, text: &str, kinds: &[Kind]) -> Result<Value, String> {
    let kind = kinds.iter().find(|k| k.kind == kind && k.group_version().to_string() == version).unwrap();
    let holder = if name == "renewTime" { "spec" } else { "metadata" };
    let mut tree =
        json::parse(format!("{{\"{holder}\":{{\"{name}\":{text}}}}}").as_bytes()).map_err(|e| e.to_string())?;
    normalize(&mut tree, &kind.schema).map_err(|e| e.to_string())?;
    Ok(tree.at(&[holder, name]).cloned().unwrap_or_default())
}

fn decode(case: &Value, text: &str, kinds: &[Kind]) -> Result<Value, String> {
    let (version, name) = (case.str_at(&["apiVersion"]).unwrap(), case.str_at(&["kind"]).unwrap());
    let kind = kinds.iter().find(|k| k.kind == name && k.group_version().to_string() == version).unwrap();
    let mut problems = Vec::new();
    let parse = if case.str_at(&["op"]) == Some("json") { json::parse_strict } else { yaml::parse_strict };
    let mut tree = parse(text.as_bytes(), &kind.schema, &mut problems).map_err(|e| e.to_string())?;
    normalize(&mut tree, &kind.schema).map_err(|e| e.to_string())?;
    prune::prune(&mut tree, &kind.schema);
    if let Value::Map(map) = &mut tree {
        map.insert("apiVersion", version);
        map.insert("kind", name);
    }
    let object = String::from_utf8(json::encode(&tree, &kind.schema).to_vec()).unwrap();
    let mut result = vec![("object", Value::from(object))];
    if !problems.is_empty() {
        result.push(("strict", format!("strict decoding error: {}", problems.join(", ")).into()));
    }
    Ok(map(&result))
}

fn resource(case: &Value) -> Result<Value, String> {
    let shape = crd::structural_schema(case.get("schema"))?;
    let mut object = case.get("object").unwrap().clone();
    let unknown = prune::unknown_fields(&object, &shape);
    prune::prune(&mut object, &shape);
    defaults::set_defaults(&mut object, &shape);
    let mut errors = Errors::new();
    validate::structure(&object, case.get("old"), &shape, &mut errors);
    let unknown =
        if unknown.is_empty() { Value::Null } else { Value::List(unknown.into_iter().map(Value::from).collect()) };
    Ok(map(&[("object", object), ("unknown", unknown), ("errors", sorted(&errors))]))
}

/// Xorshift: the same cases for the same seed, everywhere.
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

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn digits(&mut self, most: usize) -> String {
        (0..self.below(most + 1)).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

fn cases(seed: u64, count: usize) -> Vec<Value> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 20));
    (0..count).map(|i| case(i, &mut random)).collect()
}

fn case(i: usize, random: &mut Random) -> Value {
    let plain = |op: &str, text: String| map(&[("op", op.into()), ("text", text.into())]);
    match i % 10 {
        0 | 1 => {
            let most = random.pick(&[&3, &3, &5, &16]);
            let sign = random.pick(&["", "", "", "-", "+"]);
            let places = *random.pick(&[&0, &2, &12]);
            let fraction = format!("{}{}", random.pick(&["", ".", "."]), random.digits(places));
            const SUFFIXES: [&str; 24] = [
                "", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E3",
                "e-3", "e+2", "e", "K", "e1",
            ];
            let first = random.below(10);
            plain("quantity", format!("{sign}{first}{}{fraction}{}", random.digits(*most), random.pick(&SUFFIXES)))
        }
        2 => {
            let mut text = random.pick(&["1s", "3m", "-", "-2h"]).to_string();
            for _ in 0..=random.below(3) {
                let number = format!("{}{}{}", random.digits(3), random.pick(&["", "", "."]), random.digits(2));
                text += &format!("{number}{}", random.pick(&["h", "m", "s", "ms", "us", "ns", "µs", "", "d"]));
            }
            plain("duration", format!("\"{text}\""))
        }
        3 => {
            let number = |random: &mut Random, low: usize, n: usize| low + random.below(n);
            let date =
                format!("{:04}-{:02}-{:02}", number(random, 1, 2400), number(random, 0, 14), number(random, 1, 32));
            let clock =
                format!("{:02}:{:02}:{:02}", number(random, 0, 25), number(random, 0, 61), number(random, 0, 61));
            let fraction = random.pick(&["", "", ".5", ".123456789", ".999999999", "."]);
            let zone = random.pick(&["Z", "Z", "Z", "+02:00", "-11:30", "", "z"]);
            let letter = random.pick(&["T", "T", "T", "T", "T", " ", "t"]);
            plain(random.pick(&["time", "microtime"]), format!("\"{date}{letter}{clock}{fraction}{zone}\""))
        }
        4 => plain("yaml", yaml_text(random)),
        5 => map(&[("op", "write".into()), ("object", free(3, random))]),
        6 | 7 => object_case(random),
        8 => resource_case(random),
        _ => schema_case(random),
    }
}

const SCALARS: [&str; 49] = [
    "1",
    "-1",
    "0",
    "012",
    "0x1F",
    "0b11",
    "0o17",
    "1_000",
    "1.5",
    "-.5",
    ".5e3",
    "1e3",
    "1E+2",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "n",
    "true",
    "True",
    "~",
    "null",
    "Null",
    "",
    "abc",
    "a b",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "'1'",
    "\"1\"",
    "\"a\\tb\"",
    "'it''s'",
    "1:30",
    "12:30:45",
    "0.0",
    "-0",
    "08",
    "1.",
    "+1",
    "-9223372036854775808",
    "1e400",
    "=",
    "- x",
    "!!str 1",
    "a#b",
    "a #b",
    "@x",
    "a: b",
];

fn yaml_text(random: &mut Random) -> String {
    let mut text = String::new();
    for i in 0..=random.below(4) {
        let key = random.pick(&["a", "b", "c", "1", "true", "'x y'", "null", "d-e"]);
        let value = random.pick(&SCALARS);
        match random.below(6) {
            0 => text += &format!("{key}:\n- {value}\n- {}\n", random.pick(&SCALARS)),
            1 => text += &format!("{key}:\n  k{i}: {value}\n"),
            2 => text += &format!("{key}: [{}, x]\n", random.pick(&["1", "a", "true", "'q'"])),
            3 => text += &format!("{key}: |\n  line {i}\n  two\n"),
            _ => text += &format!("{key}: {value}\n"),
        }
    }
    text
}

const TEXTS: [&str; 39] = [
    "",
    "a",
    "true",
    "yes",
    "1",
    "1.5",
    "null",
    "~",
    "a: b",
    "a #b",
    "- a",
    "-a",
    "#a",
    "multi\nline",
    "multi\nline\n",
    "tail\n\n",
    " lead",
    "trail ",
    "it's",
    "\"q\"",
    "a\tb",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "0x1f",
    "012",
    "1e3",
    "é",
    "😀",
    "<a>&b",
    "{a}",
    "[a]",
    "a,b",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a`",
    "key=value:x",
];

fn free(depth: usize, random: &mut Random) -> Value {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::Int(random.next() as i64 >> random.below(60)),
        3 => Value::Float([0.5, 1.25, -2.5e10, 1e21, 1e-7, 123456789.125][random.below(6)]),
        4 | 5 => Value::from(random.pick(&TEXTS)),
        6 => Value::List((0..random.below(4)).map(|_| free(depth - 1, random)).collect()),
        _ => Value::Map(
            (0..random.below(4))
                .map(|_| {
                    (
                        random.pick(&TEXTS[..TEXTS.len() - 1]).trim_end().replace('\n', "-").into(),
                        free(depth - 1, random),
                    )
                })
                .collect(),
        ),
    }
}

/// An object with things wrong: unknown, repeated, mistyped and null members.
fn object_case(random: &mut Random) -> Value {
    const DEPLOYMENT: [(&str, &[&str]); 14] = [
        ("replicas", &["3", "0", "null"]),
        ("paused", &["true", "false", "null"]),
        ("minReadySeconds", &["5", "0"]),
        ("foo", &["1", "{}", "null"]),
        ("selector", &["{\"matchLabels\":{\"a\":\"b\"}}", "null", "{}"]),
        (
            "strategy",
            &[
                "{\"type\":\"Recreate\"}",
                "{\"rollingUpdate\":{\"maxSurge\":\"25%\",\"maxUnavailable\":1}}",
                "{\"typ\":1}",
            ],
        ),
        ("revisionHistoryLimit", &["10", "null"]),
        (
            "template",
            &[
                "{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"i\",\"resources\":{\"limits\":{\"cpu\":\"0.5\",\"memory\":\"1024Mi\"}}}]}}",
                "{\"spec\":{\"containers\":[{\"name\":\"a\",\"bar\":1,\"env\":[{\"name\":\"x\",\"value\":\"1\"}]}]}}",
                "{\"spec\":{\"containers\":[null]}}",
                "{\"spec\":{\"containers\":[{\"name\":\"a\",\"name\":\"b\"}]}}",
                "{\"metadata\":{\"creationTimestamp\":null,\"labels\":{\"a\":null}},\"spec\":{}}",
                "{\"spec\":{\"nodeSelector\":{},\"tolerations\":[],\"volumes\":null,\"terminationGracePeriodSeconds\":0}}",
                "null",
            ],
        ),
        ("progressDeadlineSeconds", &["600", "-1"]),
        ("Replicas", &["1"]),
        ("replicas", &["4"]),
        ("status", &["{}"]),
        ("<x>", &["1"]),
        ("template", &["{}"]),
    ];
    /// One of these at a time: of several, which one is named depends on the reader.
    const MISTYPED: [&str; 22] = [
        "\"replicas\":\"3\"",
        "\"replicas\":1.5",
        "\"replicas\":3000000000",
        "\"replicas\":true",
        "\"replicas\":{}",
        "\"paused\":1",
        "\"paused\":\"true\"",
        "\"minReadySeconds\":\"\"",
        "\"selector\":[]",
        "\"selector\":{\"matchLabels\":{\"a\":1}}",
        "\"strategy\":{\"rollingUpdate\":{\"maxSurge\":1.5}}",
        "\"strategy\":{\"rollingUpdate\":{\"maxSurge\":true}}",
        "\"strategy\":\"x\"",
        "\"template\":[]",
        "\"template\":{\"spec\":{\"containers\":{}}}",
        "\"template\":{\"spec\":{\"containers\":[1]}}",
        "\"template\":{\"spec\":{\"containers\":[{\"env\":[{\"value\":1}]}]}}",
        "\"template\":{\"spec\":{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"x\"}}}]}}",
        "\"template\":{\"spec\":{\"containers\":[{\"ports\":[{\"containerPort\":\"80\"}]}]}}",
        "\"template\":{\"metadata\":{\"creationTimestamp\":\"x\"}}",
        "\"template\":{\"metadata\":{\"labels\":[]}}",
        "\"template\":{\"spec\":{\"nodeSelector\":{\"a\":{}}}}",
    ];
    let count = random.below(5);
    let mut members: Vec<String> = Vec::new();
    for _ in 0..count {
        let (key, values) = DEPLOYMENT[random.below(DEPLOYMENT.len())];
        let value = random.pick(values);
        // Go merges objects of the same key; ours counts the last one.
        if !value.contains(['{', 'u']) || !members.iter().any(|m| m.starts_with(&format!("\"{key}\""))) {
            members.push(format!("\"{key}\":{value}"));
        }
    }
    let metadata = random.pick(&[
        "{\"name\":\"n\"}",
        "{\"name\":\"n\",\"labels\":{\"a\":\"b\"},\"x\":1}",
        "{\"name\":\"n\",\"creationTimestamp\":\"2020-01-01T01:00:00+01:00\",\"generation\":0}",
        "{\"name\":\"n\",\"annotations\":{},\"finalizers\":[],\"deletionGracePeriodSeconds\":0}",
    ]);
    if random.below(4) == 0 {
        members = vec![random.pick(&MISTYPED).to_string()];
    }
    let text = format!(
        "{{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{metadata},\"spec\":{{{}}}}}",
        members.join(",")
    );
    map(&[
        ("op", random.pick(&["json", "json", "strictyaml"]).into()),
        ("apiVersion", "apps/v1".into()),
        ("kind", "Deployment".into()),
        ("text", text.into()),
    ])
}

const SHAPE: &str = r#"{"type":"object","properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},
    "metadata":{"type":"object"},
    "spec":{"type":"object","required":["size"],"properties":{
        "size":{"type":"integer","minimum":1,"maximum":5,"exclusiveMaximum":true},
        "ratio":{"type":"number","multipleOf":2},
        "color":{"type":"string","enum":["red","green"],"default":"red"},
        "level":{"type":"integer","enum":[1,2]},
        "port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
        "note":{"type":"string","nullable":true,"default":"hello","maxLength":5,"minLength":2},
        "when":{"type":"string","format":"date-time"},"ip":{"type":"string","format":"ipv4"},
        "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"known":{"type":"object","properties":{"a":{"type":"string"}}}}},
        "any":{"x-kubernetes-preserve-unknown-fields":true},
        "labels":{"type":"object","additionalProperties":{"type":"string"},"maxProperties":2,"minProperties":1},
        "sets":{"type":"array","items":{"type":"string"},"x-kubernetes-list-type":"set","minItems":1},
        "parts":{"type":"array","maxItems":3,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
            "items":{"type":"object","required":["name"],"properties":{
                "name":{"type":"string","pattern":"^[a-z]+$"},"weight":{"type":"number","default":1}}}},
        "either":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},
            "oneOf":[{"required":["a"]},{"required":["b"]}]},
        "all":{"type":"integer","allOf":[{"minimum":2},{"maximum":8}],"not":{"enum":[5]}}}},
    "status":{"type":"object","properties":{"ready":{"type":"boolean"}}}}}"#;

fn custom_object(random: &mut Random) -> Value {
    const MEMBERS: [(&str, &[&str]); 18] = [
        ("size", &["1", "2", "5", "0", "\"x\"", "1.0", "1.5", "null", "9"]),
        ("ratio", &["4", "1", "3", "\"1\""]),
        ("color", &["\"red\"", "\"blue\"", "1", "null"]),
        ("level", &["1", "3", "\"1\""]),
        ("port", &["80", "\"http\"", "true", "1.5"]),
        ("note", &["null", "\"ok\"", "\"x\"", "\"too long\"", "1"]),
        ("when", &["\"2020-01-01T00:00:00Z\"", "\"never\"", "1"]),
        ("ip", &["\"1.2.3.4\"", "\"::1\"", "\"x\""]),
        ("free", &["{}", "{\"x\":{\"y\":null}}", "{\"known\":{\"a\":\"1\",\"b\":2}}", "1"]),
        ("any", &["1", "{\"a\":{\"b\":[1]}}", "[]", "\"x\""]),
        ("labels", &["{\"a\":\"b\"}", "{\"a\":1}", "{}", "{\"a\":\"\",\"b\":\"\",\"c\":\"\"}", "{\"a\":null}", "[]"]),
        ("sets", &["[\"a\",\"b\"]", "[\"a\",\"b\",\"a\",\"a\"]", "[]", "[1]", "[null]"]),
        (
            "parts",
            &[
                "[{\"name\":\"a\"}]",
                "[{\"name\":\"a\"},{\"name\":\"a\",\"weight\":2}]",
                "[{\"name\":\"A\",\"x\":1}]",
                "[{}]",
                "[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"},{\"name\":\"d\"}]",
                "[{\"name\":\"a\",\"weight\":null}]",
                "{}",
            ],
        ),
        ("either", &["{\"a\":\"\"}", "{\"a\":\"\",\"b\":\"\"}", "{}"]),
        ("all", &["1", "5", "8", "9"]),
        ("bogus", &["1", "{\"a\":1}"]),
        ("size", &["3"]),
        ("size", &["2"]),
    ];
    let mut spec = Map::new();
    for _ in 0..random.below(6) {
        let (key, values) = MEMBERS[random.below(MEMBERS.len())];
        spec.insert(key, json::parse(random.pick(values).as_bytes()).unwrap());
    }
    let mut object = map(&[
        ("apiVersion", "example.com/v1".into()),
        ("kind", "Widget".into()),
        ("metadata", map(&[("name", "n".into())])),
        ("spec", Value::Map(spec)),
    ]);
    if let (Value::Map(map), 0) = (&mut object, random.below(6)) {
        map.insert("extra", 1i64);
    }
    object
}

fn resource_case(random: &mut Random) -> Value {
    let mut case = vec![
        ("op", Value::from("resource")),
        ("schema", json::parse(SHAPE.as_bytes()).unwrap()),
        ("object", custom_object(random)),
    ];
    if random.below(3) == 0 {
        case.push(("old", custom_object(random)));
    }
    map(&case)
}

/// A schema in which something at some depth was changed.
fn schema_case(random: &mut Random) -> Value {
    const CHANGES: [(&str, &[&str]); 23] = [
        ("type", &["\"\"", "\"string\"", "\"object\"", "\"array\"", "\"integer\""]),
        ("nullable", &["true"]),
        ("default", &["1", "\"x\"", "{}"]),
        ("x-kubernetes-preserve-unknown-fields", &["true"]),
        ("x-kubernetes-embedded-resource", &["true"]),
        ("x-kubernetes-list-type", &["\"set\"", "\"map\"", "\"atomic\"", "\"heap\""]),
        ("x-kubernetes-map-type", &["\"atomic\"", "\"granular\"", "\"other\""]),
        ("x-kubernetes-list-map-keys", &["[\"name\"]", "[\"name\",\"name\"]", "[\"weight\"]"]),
        ("additionalProperties", &["true", "false", "{\"type\":\"string\"}", "{}"]),
        ("items", &["{\"type\":\"string\"}", "{}", "{\"type\":\"object\"}", "{\"type\":\"string\",\"nullable\":true}"]),
        ("uniqueItems", &["true"]),
        ("pattern", &["\"^a\"", "\"a+b\""]),
        (
            "oneOf",
            &["[{\"required\":[\"a\"]}]", "[{\"type\":\"string\"}]", "[{\"properties\":{\"zz\":{\"minimum\":1}}}]"],
        ),
        (
            "allOf",
            &[
                "[{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}]",
                "[{\"default\":1,\"description\":\"x\"}]",
            ],
        ),
        ("anyOf", &["[{\"type\":\"integer\"},{\"type\":\"string\"}]", "[{\"nullable\":true,\"title\":\"t\"}]"]),
        (
            "not",
            &["{\"type\":\"string\"}", "{\"x-kubernetes-list-type\":\"set\"}", "{\"properties\":{\"metadata\":{}}}"],
        ),
        ("$ref", &["\"x\""]),
        ("id", &["\"x\""]),
        ("definitions", &["{\"a\":{\"type\":\"string\"}}"]),
        ("patternProperties", &["{\"a\":{\"type\":\"string\"}}"]),
        (
            "properties",
            &[
                "{}",
                "{\"metadata\":{\"type\":\"object\",\"properties\":{\"labels\":{\"type\":\"object\"}}}}",
                "{\"kind\":{\"type\":\"integer\"}}",
            ],
        ),
        ("required", &["[\"name\"]", "[]"]),
        ("metadata", &["1"]),
    ];
    let mut schema = json::parse(SHAPE.as_bytes()).unwrap();
    for _ in 0..=random.below(2) {
        let (key, values) = CHANGES[random.below(CHANGES.len() - 1)];
        let value = json::parse(random.pick(values).as_bytes()).unwrap();
        let depth = 1 + random.below(4);
        change(&mut schema, key, value, depth, random);
    }
    map(&[("op", "schema".into()), ("schema", schema)])
}

/// Sets a keyword some levels down.
fn change(schema: &mut Value, key: &str, value: Value, depth: usize, random: &mut Random) {
    let Value::Map(map) = schema else { return };
    let step = if map.contains_key("items") && random.below(2) == 0 { "items" } else { "properties" };
    let goes_on = matches!(map.get(step), Some(Value::Map(m)) if !m.is_empty());
    if depth == 0 || !goes_on {
        map.insert(key, value);
        return;
    }
    let below = map.get_mut(step).unwrap();
    if step == "items" {
        return change(below, key, value, depth - 1, random);
    }
    let members = below.as_map_mut().unwrap();
    // Of what every object has, upstream says things in ways that nobody reads.
    let implied = ["apiVersion", "kind", "metadata"];
    let names: Vec<_> = members.keys().filter(|k| !implied.contains(&k.as_str())).cloned().collect();
    if names.is_empty() {
        return;
    }
    change(members.get_mut(&names[random.below(names.len())]).unwrap(), key, value, depth - 1, random);
}
