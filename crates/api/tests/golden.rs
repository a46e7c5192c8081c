//! Our JSON, YAML and protobuf are upstream's, byte for byte, for every served kind.
//!
//! The corpus is `testdata` of the module `k8s.io/api`, found through `KUBERNETES_API_TESTDATA` or Go's module cache.
//! Without it the test says so and does nothing: set the variable where it must run.

use std::path::PathBuf;

use apimachinery::Kind;
use apimachinery::codec::{json, normalize, proto, yaml};

fn corpus() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KUBERNETES_API_TESTDATA") {
        return Some(path.into());
    }
    let home = std::env::var_os("HOME")?;
    let path = PathBuf::from(home).join("go/pkg/mod/k8s.io/api@v0.37.2/testdata");
    if !path.is_dir() {
        println!("skipped: the corpus of k8s.io/api v0.37.2 is not on this machine");
        return None;
    }
    Some(path)
}

fn stem(corpus: &std::path::Path, release: &str, kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "core" } else { &kind.group };
    corpus.join(release).join(format!("{group}.{}.{}", kind.version, kind.kind)).display().to_string()
}

/// What is wrong with one kind's three encodings.
fn check(kind: &Kind, text: &[u8], pb: &[u8], yml: &[u8]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut tree = match json::parse(text) {
        Ok(tree) => tree,
        Err(error) => return vec![format!("parse: {error}")],
    };
    if let Err(error) = normalize(&mut tree, &kind.schema) {
        return vec![format!("normalize: {error}")];
    }
    let unknown = apimachinery::prune::unknown_fields(&tree, &kind.schema);
    if !unknown.is_empty() {
        wrong.push(format!("unknown fields {unknown:?}"));
    }
    let back = json::encode_pretty(&tree, &kind.schema);
    if back.trim_ascii_end() != text.trim_ascii_end() {
        wrong.push(format!("JSON: {}", difference(&back, text)));
    }
    match proto::encode_object(&tree, &kind.schema) {
        Ok(bytes) if bytes == pb => {}
        Ok(bytes) => {
            let at = bytes.iter().zip(pb).position(|(a, b)| a != b).unwrap_or(bytes.len().min(pb.len()));
            let near = &pb[at.saturating_sub(40)..(at + 20).min(pb.len())];
            wrong.push(format!("protobuf differs at {at} of {}: near {:?}", pb.len(), String::from_utf8_lossy(near)));
        }
        Err(error) => wrong.push(format!("protobuf: {error}")),
    }
    match proto::decode_object(pb, &kind.schema) {
        Ok(decoded) if decoded == tree => {}
        Ok(decoded) => {
            wrong.push(format!("from protobuf: {}", difference(&json::encode_pretty(&decoded, &kind.schema), text)));
        }
        Err(error) => wrong.push(format!("from protobuf: {error}")),
    }
    match yaml::parse_reporting(yml, &mut Vec::new()) {
        Ok(mut from_yaml) => {
            if let Err(error) = normalize(&mut from_yaml, &kind.schema) {
                wrong.push(format!("from YAML: {error}"));
            } else if from_yaml != tree {
                wrong.push(format!("from YAML: {}", difference(&json::encode_pretty(&from_yaml, &kind.schema), text)));
            }
        }
        Err(error) => wrong.push(format!("YAML: {error}")),
    }
    let ours = yaml::encode(&tree, &kind.schema);
    if ours != yml {
        wrong.push(format!("YAML: {}", difference(&ours, yml)));
    }
    wrong
}

#[test]
fn every_served_kind_is_upstreams_byte_for_byte() {
    let Some(corpus) = corpus() else { return };
    let (mut failures, mut differing, mut checked) = (Vec::new(), 0, 0);
    for kind in api::kinds() {
        let stem = stem(&corpus, "HEAD", &kind);
        let read = |ending: &str| std::fs::read(format!("{stem}.{ending}"));
        let (Ok(text), Ok(pb), Ok(yml)) = (read("json"), read("pb"), read("yaml")) else { continue };
        checked += 1;
        let wrong = check(&kind, &text, &pb, &yml);
        differing += usize::from(!wrong.is_empty());
        failures.extend(wrong.into_iter().map(|w| format!("{}/{} {}: {w}", kind.group, kind.version, kind.kind)));
    }
    assert!(checked > 50, "only {checked} kinds have a corpus");
    assert!(failures.is_empty(), "{differing} of {checked} kinds differ:\n{}", failures.join("\n"));
}

/// What older releases wrote is the same object in both encodings, as far as today's schema knows it.
#[test]
fn older_releases_decode_to_the_same_object() {
    let Some(corpus) = corpus() else { return };
    let mut failures = Vec::new();
    for release in ["v1.33.0", "v1.34.0", "v1.35.0", "v1.36.0"] {
        for kind in api::kinds() {
            let stem = stem(&corpus, release, &kind);
            let (Ok(text), Ok(pb)) = (std::fs::read(format!("{stem}.json")), std::fs::read(format!("{stem}.pb")))
            else {
                continue;
            };
            let tree = json::parse(&text).and_then(|mut tree| normalize(&mut tree, &kind.schema).map(|()| tree));
            match (tree, proto::decode_object(&pb, &kind.schema)) {
                (Ok(mut tree), Ok(decoded)) => {
                    apimachinery::prune::prune(&mut tree, &kind.schema);
                    if tree != decoded {
                        failures.push(format!("{release} {} {}: JSON and protobuf differ", kind.group, kind.kind));
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    failures.push(format!("{release} {} {}: {error}", kind.group, kind.kind));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The first lines that differ.
fn difference(ours: &[u8], theirs: &[u8]) -> String {
    let (ours, theirs) = (String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
    for (i, pair) in ours.lines().zip(theirs.lines()).enumerate() {
        if pair.0 != pair.1 {
            return format!("line {}: ours {:?}, upstream {:?}", i + 1, pair.0, pair.1);
        }
    }
    format!("{} lines, upstream {}", ours.lines().count(), theirs.lines().count())
}
