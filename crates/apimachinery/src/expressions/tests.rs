//! Rules of custom resources: what is refused, when, and in which words.

use super::*;
use crate::codec::json;
use crate::crd::{check_schema, define};
use crate::field::{Errors, Path};
use crate::value::Value;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What is wrong with a schema of a definition.
fn refusals(spec: &str) -> Vec<String> {
    let schema = format!(r#"{{"type":"object","properties":{{"spec":{spec}}}}}"#);
    let mut errors = Errors::new();
    check_schema(&tree(&schema), false, &Path::new("schema"), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn outcome(spec: &str, new: &str, old: Option<&str>) -> Outcome {
    assert_eq!(refusals(spec), [""; 0], "{spec}");
    let schema = format!(r#"{{"type":"object","properties":{{"spec":{spec}}}}}"#);
    let crd = format!(
        r#"{{"spec":{{"group":"g.example.com","scope":"Namespaced","names":{{"plural":"things","kind":"Thing"}},
        "versions":[{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#
    );
    let kind = define(&tree(&crd)).unwrap_or_else(|e| panic!("{e}")).storage;
    let object = |spec: &str| tree(&format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#));
    let validator = kind.expressions.unwrap_or_else(|| panic!("no rules in {spec}"));
    validator.evaluate(&object(new), old.map(object).as_ref())
}

fn faults(spec: &str, new: &str, old: Option<&str>) -> Vec<String> {
    outcome(spec, new, old).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_hold_or_fail() {
    let schema = |rule: &str, more: &str| {
        format!(
            r#"{{"type":"object","x-kubernetes-validations":[{{"rule":"{rule}"{more}}}],"properties":{{
            "x":{{"type":"integer"}},"y":{{"type":"integer"}},"s":{{"type":"string"}},"f":{{"type":"number"}},
            "d":{{"type":"string","format":"duration"}},"t":{{"type":"string","format":"date-time"}},
            "b":{{"type":"string","format":"byte"}},"x-y":{{"type":"integer"}},"namespace":{{"type":"string"}},
            "any":{{"x-kubernetes-int-or-string":true}},"l":{{"type":"array","items":{{"type":"integer"}}}},
            "set":{{"type":"array","items":{{"type":"string"}},"x-kubernetes-list-type":"set"}},
            "keyed":{{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
              "items":{{"type":"object","required":["k"],"properties":{{"k":{{"type":"string"}},"v":{{"type":"integer"}}}}}}}},
            "m":{{"type":"object","additionalProperties":{{"type":"string"}}}}}}}}"#
        )
    };
    for (rule, object) in [
        ("self.x + self.y > 0", r#"{"x":1,"y":0}"#),
        ("has(self.x) && !has(self.y)", r#"{"x":1}"#),
        ("self.f > 1.0 && type(self.f) == double", r#"{"f":2}"#),
        ("self.d > duration('1m') && self.t.getFullYear() == 2024", r#"{"d":"90s","t":"2024-01-01T00:00:00Z"}"#),
        ("self.b == b'hello'", r#"{"b":"aGVsbG8="}"#),
        ("self.x__dash__y == 1 && self.__namespace__ == 'a'", r#"{"x-y":1,"namespace":"a"}"#),
        ("type(self.any) == int ? self.any < 5 : self.any == 'a'", r#"{"any":"a"}"#),
        ("self.l.isSorted() && self.l.sum() == 6 && 2 in self.l", r#"{"l":[1,2,3]}"#),
        ("self.set == ['b', 'a'] && self.set + ['c', 'a'] == ['a', 'b', 'c']", r#"{"set":["a","b"]}"#),
        ("self.keyed == self.keyed && self.keyed.exists(e, e.k == 'a' && e.v == 1)", r#"{"keyed":[{"k":"a","v":1}]}"#),
        ("self.m.all(k, self.m[k] == 'v') && 'a' in self.m", r#"{"m":{"a":"v"}}"#),
        ("self.m.?a.orValue('') == '' && self.m[?'b'].value() == 'v'", r#"{"m":{"b":"v"}}"#),
    ] {
        let schema = schema(rule, "");
        assert_eq!(faults(&schema, object, None), [""; 0], "{rule}");
    }
    let rule = "self.x > 0";
    for (more, words) in [
        ("", "spec: Invalid value: failed rule: self.x > 0"),
        (r#","message":"too small""#, "spec: Invalid value: too small"),
        (r#","messageExpression":"self.x == 0 ? 'x is 0' : 'x'""#, "spec: Invalid value: x is 0"),
        (r#","messageExpression":"''","message":"else""#, "spec: Invalid value: else"),
        (r#","reason":"FieldValueForbidden","fieldPath":".x""#, "spec.x: Forbidden: failed rule: self.x > 0"),
        (r#","fieldPath":"['x-y']""#, "spec.x-y: Invalid value: failed rule: self.x > 0"),
    ] {
        assert_eq!(faults(&schema(rule, more), r#"{"x":0}"#, None), [words]);
    }
    let missing = faults(&schema(rule, ""), "{}", None);
    assert_eq!(missing, [r#"spec: Invalid value: "object": no such key: x evaluating rule: self.x > 0"#]);
}

#[test]
fn places_and_roots_have_rules() {
    let inner = r#"{"type":"string","maxLength":10,"x-kubernetes-validations":[{"rule":"self != 'bad'"}]}"#;
    let list = format!(
        r#"{{"type":"object","properties":{{"l":{{"type":"array","maxItems":9,"items":{inner}}},
        "m":{{"type":"object","maxProperties":9,"additionalProperties":{inner}}}}}}}"#
    );
    assert_eq!(
        faults(&list, r#"{"l":["good","bad"],"m":{"k":"bad"}}"#, None),
        [
            r#"spec.l[1]: Invalid value: "bad": failed rule: self != 'bad'"#,
            r#"spec.m[k]: Invalid value: "bad": failed rule: self != 'bad'"#
        ]
    );
    let schema = r#"{"type":"object","x-kubernetes-validations":[{"rule":"self.metadata.name.startsWith('a')"}]}"#;
    let mut errors = Errors::new();
    check_schema(&tree(schema), false, &Path::new("schema"), &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn transitions_compare_with_what_was() {
    let grows = r#"{"type":"object","properties":{"n":{"type":"integer","x-kubernetes-validations":[
        {"rule":"self > oldSelf"}]}}}"#;
    assert_eq!(faults(grows, r#"{"n":10}"#, None), [""; 0]);
    assert_eq!(faults(grows, r#"{"n":11}"#, Some(r#"{"n":10}"#)), [""; 0]);
    let words = "spec.n: Invalid value: 9: failed rule: self > oldSelf";
    assert_eq!(faults(grows, r#"{"n":9}"#, Some(r#"{"n":10}"#)), [words]);
    let optional = r#"{"type":"object","properties":{"n":{"type":"integer","x-kubernetes-validations":[
        {"rule":"oldSelf.hasValue() ? self > oldSelf.value() : self == 1","optionalOldSelf":true}]}}}"#;
    assert_eq!(faults(optional, r#"{"n":1}"#, None), [""; 0]);
    assert_eq!(faults(optional, r#"{"n":2}"#, None).len(), 1);
    let keyed = r#"{"type":"object","properties":{"l":{"type":"array","maxItems":5,"x-kubernetes-list-type":"map",
        "x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],
        "x-kubernetes-validations":[{"rule":"self.v == oldSelf.v"}],
        "properties":{"k":{"type":"string"},"v":{"type":"integer"}}}}}}"#;
    let old = Some(r#"{"l":[{"k":"a","v":1},{"k":"b","v":2}]}"#);
    assert_eq!(faults(keyed, r#"{"l":[{"k":"b","v":2},{"k":"c","v":9}]}"#, old), [""; 0]);
    assert_eq!(
        faults(keyed, r#"{"l":[{"k":"b","v":3}]}"#, old),
        ["spec.l[0]: Invalid value: failed rule: self.v == oldSelf.v"]
    );
}

#[test]
fn what_a_write_leaves_as_it_was_is_only_warned_about() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer","x-kubernetes-validations":[
        {"rule":"self > 0"}]},"b":{"type":"integer"}}}"#;
    let found = outcome(schema, r#"{"a":0,"b":2}"#, Some(r#"{"a":0,"b":1}"#));
    assert!(found.errors.is_empty());
    assert_eq!(found.warnings, ["spec.a: Invalid value: 0: failed rule: self > 0"]);
    assert_eq!(faults(schema, r#"{"a":-1,"b":1}"#, Some(r#"{"a":0,"b":1}"#)).len(), 1);
}

#[test]
fn faulty_and_expensive_rules_are_refused() {
    let about = |ty: &str, rule: &str| {
        format!(r#"{{"type":"object","x-kubernetes-validations":[{{"rule":"{rule}"}}],"properties":{{"x":{ty}}}}}"#)
    };
    for (schema, words) in [
        (about(r#"{"type":"integer"}"#, "self.z == 100"), "undefined field 'z'"),
        (about(r#"{"type":"integer"}"#, "self = 42"), "Syntax error"),
        (about(r#"{"type":"integer"}"#, "self.x"), "cel expression must evaluate to a bool"),
        (about(r#"{"type":"integer"}"#, "self.x == 'a'"), "found no matching overload for '_==_'"),
        (about(r#"{"type":"object"}"#, "self.x.y == 1"), "undefined field 'y'"),
        (
            about(
                r#"{"type":"array","items":{"type":"array","items":{"type":"string"}}}"#,
                "self.x.all(a, self.x.all(b, a == b))",
            ),
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
        (
            r#"{"type":"object","properties":{"x":{"type":"array","items":{"type":"array","items":{"type":"string"},
            "x-kubernetes-validations":[{"rule":"self.all(s, s == 'string constant')"}]}}}}"#
                .into(),
            "exceeds budget",
        ),
        (
            r#"{"type":"object","properties":{"x":{"type":"array","maxItems":5,"items":{"type":"integer",
            "x-kubernetes-validations":[{"rule":"self > oldSelf"}]}}}}"#
                .into(),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.openAPIV3Schema.properties[spec].properties[x]",
        ),
        (
            r#"{"type":"integer","x-kubernetes-validations":[{"rule":"self > 1","optionalOldSelf":true}]}"#.into(),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            r#"{"type":"integer","x-kubernetes-validations":[{"rule":"self > 1","messageExpression":"self"}]}"#.into(),
            "messageExpression must evaluate to a string",
        ),
        (
            r#"{"type":"integer","x-kubernetes-validations":[{"rule":"self > 1","fieldPath":".nope"}]}"#.into(),
            "fieldPath: Invalid value: \".nope\": must be a valid path",
        ),
    ] {
        let found = refusals(&schema).join("\n");
        assert!(found.contains(words), "{schema}\n{found}");
    }
    let large = r#"{"type":"object","properties":{"large":{"type":"array","maxItems":725,"items":{"type":"integer"}}},
        "x-kubernetes-validations":[{"rule":"self.large.all(x, self.large.all(y, y == x))"}]}"#;
    assert_eq!(refusals(large), [""; 0]);
}

#[test]
fn runaway_rules_are_stopped() {
    let large = r#"{"type":"object","properties":{"large":{"type":"array","maxItems":725,"items":{"type":"integer"}}},
        "x-kubernetes-validations":[{"rule":"self.large.all(x, self.large.all(y, y == x))"},{"rule":"false"}]}"#;
    let items = vec!["20"; 725].join(",");
    let found = faults(large, &format!(r#"{{"large":[{items}]}}"#), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("call cost exceeds limit"), "{found:?}");
}

#[test]
fn values_go_to_expressions_and_back() {
    let text = r#"{"a":[1,2.5,"x",null,true],"b":{"c":{}}}"#;
    let object = tree(text);
    assert_eq!(to_tree(&value(&object)), Ok(object.clone()));
    let env = cel::Env::new().with("object", cel::Type::Dyn);
    let program = cel::Program::compile(&env, "object.a[1] == 2.5 && size(object.b) == 1 && object.a[3] == null");
    let program = program.unwrap_or_else(|issues| panic!("{issues}"));
    let variables = [("object", value(&object))];
    assert!(matches!(program.evaluate(&variables[..], CALL_LIMIT).0, Ok(cel::Value::Bool(true))));
}
