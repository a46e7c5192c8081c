//! Whatever bytes come: an answer, never a panic, never an endless depth.

use proptest::prelude::*;

use super::env;
use crate::{Program, Value, parser};

/// Pieces of which expressions are made, so that random ones get past the first token.
const PIECES: &[&str] = &[
    "1",
    "2u",
    "1.5",
    "'a'",
    "b'\\xff'",
    "true",
    "null",
    "n",
    "self",
    "object",
    ".spec",
    ".names",
    ".x",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ",",
    ":",
    "?",
    ".?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "&&",
    "||",
    "==",
    "<",
    " in ",
    ".all(x, ",
    "x",
    ".map(y, ",
    "y",
    "has(",
    "size(",
    ".size()",
    ".join()",
    "optional.of(",
    ".optMap(z, z)",
    "'%s'.format(",
    ".sortBy(k, k)",
    "lists.range(",
    ".transformMap(i, v, v)",
    "timestamp(",
    "duration(",
    "Object{a: ",
    " ",
    "\n",
    "\t",
    "//",
    "'''",
    "r'\\'",
];

fn text_of_pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

fn walk(text: &str) {
    if let Ok(parsed) = parser::parse(text) {
        assert!(parsed.root.depth <= parser::MAX_DEPTH);
    }
    match Program::compile(&env(), text) {
        Ok(program) => {
            let estimate = program.estimate(&());
            let variables = [("self", super::object()), ("object", super::object()), ("n", Value::Int(7))];
            let (result, cost) = program.evaluate(&variables[..], 10_000);
            if let Err(error) = &result {
                assert!(!error.message.is_empty());
            } else {
                assert!(cost <= 10_000 && cost <= estimate.max, "{text}: {cost} of {estimate:?}");
            }
        }
        Err(issues) => assert!(!issues.issues.is_empty() && !issues.to_string().is_empty(), "{text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts_are_answered(text in "\\PC{0,80}") {
        walk(&text);
    }

    #[test]
    fn random_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        walk(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_expressions_are_answered(text in text_of_pieces()) {
        walk(&text);
    }
}

#[test]
fn depth_is_bounded() {
    for text in [
        "(".repeat(100_000),
        "[".repeat(50_000),
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("n{}", " + n".repeat(5000)),
        format!("object{}", ".a".repeat(5000)),
        format!("{}n", "n ? n : ".repeat(5000)),
        format!("[1]{}", ".map(x, x)".repeat(1000)),
        format!("object{}", "[0]".repeat(5000)),
        "n".repeat(200_000),
    ] {
        assert!(Program::compile(&env(), &text).is_err());
    }
    // Long chains of `||` are not deep.
    walk(&format!("true{}", " || n == 1".repeat(5000)));
    // Nesting up to the limit is fine.
    walk(&format!("{}1{}", "(".repeat(100), ")".repeat(100)));
    walk(&format!("{}1{}", "[".repeat(100), "]".repeat(100)));
    // Macros that copy their target must not grow without bound.
    assert!(Program::compile(&env(), &format!("optional.of(1){}", ".optMap(x, x)".repeat(60))).is_err());
}
