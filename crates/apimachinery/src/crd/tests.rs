//! Definitions become kinds, and bad ones are refused in upstream's words.

use super::*;
use crate::codec::{json, normalize};
use crate::field::{Errors, Path};
use crate::{defaults, prune, validate};

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn crd(schema: &str) -> Value {
    tree(&format!(
        r#"{{"metadata":{{"name":"widgets.example.com"}},"spec":{{"group":"example.com","scope":"Namespaced",
        "names":{{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList"}},
        "versions":[{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{schema}}}}}]}},
        "status":{{"storedVersions":["v1"]}}}}"#
    ))
}

fn refusals(crd: &Value) -> Vec<String> {
    let mut errors = Errors::new();
    let versions = crd.at(&["spec", "versions"]).and_then(Value::as_list).unwrap_or_default();
    let schema = versions[0].at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_default();
    let spec = Path::new("spec");
    check_schema(&schema, false, &spec.child("validation"), &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

const SCHEMA: &str = r#"{"type":"object","properties":{
    "apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"type":"object"},
    "spec":{"type":"object","required":["size"],"properties":{
        "size":{"type":"integer","minimum":1,"maximum":5},
        "color":{"type":"string","enum":["red","green"],"default":"red"},
        "port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
        "note":{"type":"string","nullable":true,"default":"hello"},
        "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
        "any":{"x-kubernetes-preserve-unknown-fields":true},
        "labels":{"type":"object","additionalProperties":{"type":"string"}},
        "template":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},
        "parts":{"type":"array","maxItems":3,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
            "items":{"type":"object","required":["name"],"properties":{
                "name":{"type":"string","pattern":"^[a-z]+$"},"weight":{"type":"number","default":1}}}},
        "either":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},
            "oneOf":[{"required":["a"]},{"required":["b"]}]}}},
    "status":{"type":"object","properties":{"ready":{"type":"boolean"}}}}}"#;

fn widget() -> Kind {
    let crd = crd(SCHEMA);
    assert_eq!(refusals(&crd), [""; 0]);
    let mut definition = define(&crd).unwrap_or_else(|e| panic!("{e}"));
    definition.served.remove(0)
}

fn faults(kind: &Kind, new: &str, old: Option<&str>) -> Vec<String> {
    let mut errors = Errors::new();
    let old = old.map(tree);
    validate::structure(&tree(new), old.as_ref(), &kind.schema, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn names_and_columns_come_from_the_definition() {
    let kind = widget();
    assert_eq!((&*kind.resource, &*kind.singular, &*kind.list_kind), ("widgets", "widget", "WidgetList"));
    assert!(kind.namespaced && kind.conditional_update && !kind.protobuf && !kind.status);
    assert_eq!(kind.columns.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["Age"]);
}

#[test]
fn unknown_members_go_and_defaults_come() {
    let kind = widget();
    let mut object = tree(
        r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"n","creationTimestamp":null,"labels":{}},
        "spec":{"size":1,"bogus":1,"note":null,"free":{"x":{"y":1}},"any":[{"z":1}],"labels":{"k":"v"},
        "template":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{}},
        "parts":[{"name":"a","extra":true},{"name":"b","weight":2}]}}"#,
    );
    assert_eq!(normalize(&mut object, &kind.schema), Ok(()));
    assert_eq!(prune::unknown_fields(&object, &kind.schema), ["spec.bogus", "spec.parts[0].extra"]);
    prune::prune(&mut object, &kind.schema);
    defaults::set_defaults(&mut object, &kind.schema);
    assert_eq!(
        String::from_utf8_lossy(&json::encode(&object, &kind.schema)).trim_end(),
        r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"n"},"spec":{"any":[{"z":1}],"color":"red","free":{"x":{"y":1}},"labels":{"k":"v"},"note":null,"parts":[{"name":"a","weight":1},{"name":"b","weight":2}],"size":1,"template":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{}}}}"#
    );
}

#[test]
fn objects_are_refused_in_upstreams_words() {
    let kind = widget();
    let good = r#"{"spec":{"size":2,"port":"http","parts":[{"name":"a"}],"either":{"a":""}}}"#;
    assert_eq!(faults(&kind, good, None), [""; 0]);
    let bad = r#"{"spec":{"color":"blue","port":true,"parts":[{"name":"A"},{"name":"b"},{"name":"b"},{}],
        "labels":{"k":1},"either":{"a":"","b":""}}}"#;
    assert_eq!(
        faults(&kind, bad, None),
        [
            r#"spec.color: Unsupported value: "blue": supported values: "red", "green""#,
            r#"<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            r#"spec.labels.k: Invalid value: "integer": spec.labels.k in body must be of type string: "integer""#,
            r#"spec.parts[0].name: Invalid value: "A": spec.parts[0].name in body should match '^[a-z]+$'"#,
            r#"spec.parts[3].name: Required value"#,
            r#"spec.parts: Too many: 4: must have at most 3 items"#,
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
            r#"<nil>: Invalid value: "": "spec.port" must validate at least one schema (anyOf)"#,
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer: "boolean""#,
            r#"spec.size: Required value"#,
            r#"spec.parts[2]: Duplicate value: {"name":"b"}"#,
        ]
    );
    let low = r#"{"spec":{"size":0}}"#;
    let why = "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1";
    assert_eq!(faults(&kind, low, None), [why]);
    // What was wrong before may stay as it was.
    assert_eq!(faults(&kind, r#"{"spec":{"size":0,"color":"green"}}"#, Some(low)), [""; 0]);
    assert_eq!(faults(&kind, low, Some(good)), [why]);
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    let unknown = r#"{"type":"object","properties":{"a":{"type":"object","default":{"b":1},"properties":{}}}}"#;
    let why = r#"spec.validation.openAPIV3Schema.properties[a].default: Invalid value: {"b":1}: must not have unknown fields"#;
    assert_eq!(refusals(&crd(unknown)), [why]);
    for (schema, why) in [
        (r#"{"properties":{}}"#, "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"),
        (
            r#"{"type":"string"}"#,
            r#"spec.validation.openAPIV3Schema.type: Invalid value: "string": must be object at the root"#,
        ),
        (
            r#"{"type":"object","properties":{"a":{}}}"#,
            "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"array"}}}"#,
            "spec.validation.openAPIV3Schema.properties[a].items: Required value: must be specified",
        ),
        (
            r#"{"type":"object","oneOf":[{"properties":{"b":{"minimum":1}}}]}"#,
            "spec.validation.openAPIV3Schema.properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.oneOf[0].properties[b]",
        ),
        (
            r#"{"type":"object","properties":{"metadata":{"type":"object","properties":{"labels":{"type":"object"}}}}}"#,
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"integer","default":"x"}}}"#,
            r#"spec.validation.openAPIV3Schema.properties[a].default: Invalid value: "string":  in body must be of type integer: "string""#,
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"object"},"x-kubernetes-list-type":"map"}}}"#,
            "spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"string","$ref":"x"}}}"#,
            "spec.validation.openAPIV3Schema.properties[a].$ref: Forbidden: $ref is not supported",
        ),
    ] {
        assert_eq!(refusals(&crd(schema)), [why], "{schema}");
    }
}

#[test]
fn selectors_may_name_scalars() {
    let schema = tree(SCHEMA);
    assert_eq!(check_selectable(".spec.color", &schema), Ok(()));
    assert!(check_selectable(".spec.colour", &schema).is_err_and(|e| e.starts_with("is an invalid path")));
    assert!(check_selectable(".spec.parts", &schema).is_err_and(|e| e.starts_with("must point to a field")));
}

#[test]
fn rules_are_carried() {
    let schema = r#"{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[
        {"rule":"self.a > 1","message":"too small"}],"properties":{"a":{"type":"integer"}}}}}"#;
    let crd = crd(schema);
    assert_eq!(refusals(&crd), [""; 0]);
    let kind = define(&crd).unwrap_or_else(|e| panic!("{e}")).storage;
    let spec = kind.schema.fields.iter().find(|f| f.name == "spec").map(|f| f.node.facets().rules.to_vec());
    assert_eq!(spec.unwrap_or_default()[0].message, "too small");
}
