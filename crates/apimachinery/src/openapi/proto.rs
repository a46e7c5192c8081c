//! A version 2 document in protobuf, as `openapi.v2.Document` of gnostic, whose field numbers these are.
//!
//! Only what our documents say is written: no headers, no form data, no files.

use crate::codec::proto::{put_bytes, put_double, put_key, put_nested, put_varint};
use crate::json_text;
use crate::value::{Map, Value};

/// How a message is written: its members by name, and the field of what begins with `x-`.
struct Message {
    members: &'static [Member],
    extensions: u32,
}

/// A member's name, the field that it becomes, and the form of its value.
struct Member(&'static str, u32, Form);

enum Form {
    Text,
    Flag,
    Count,
    Number,
    /// Any value, as YAML.
    Any,
    Message(&'static Message),
    /// A message too: schemas hold schemas.
    Schema,
    /// One field of a message that has no more.
    Within(u32, &'static Form),
    /// A field that is repeated for each element of a list.
    Each(&'static Form),
    /// A message with a repeated field, for each member of a map one: its name and its value.
    Named(u32, &'static Form),
    /// What more members an object may have: a schema, or whether there may be any.
    Additional,
    /// By the place in which a parameter is sent.
    Parameter,
}

const TEXTS: Form = Form::Each(&Form::Text);
const PARAMETERS: Form = Form::Each(&Form::Parameter);
const OPERATION_FORM: Form = Form::Message(&OPERATION);

static DOCUMENT: Message = Message {
    members: &[
        Member("swagger", 1, Form::Text),
        Member("info", 2, Form::Message(&INFO)),
        Member("paths", 8, Form::Named(2, &Form::Message(&PATH))),
        Member("definitions", 9, Form::Named(1, &Form::Schema)),
        Member("security", 12, Form::Each(&Form::Named(1, &Form::Within(1, &TEXTS)))),
        Member("securityDefinitions", 13, Form::Named(1, &Form::Within(2, &Form::Message(&API_KEY)))),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { members: &[Member("title", 1, Form::Text), Member("version", 2, Form::Text)], extensions: 7 };

static API_KEY: Message = Message {
    members: &[
        Member("type", 1, Form::Text),
        Member("name", 2, Form::Text),
        Member("in", 3, Form::Text),
        Member("description", 4, Form::Text),
    ],
    extensions: 5,
};

static PATH: Message = Message {
    members: &[
        Member("get", 2, OPERATION_FORM),
        Member("put", 3, OPERATION_FORM),
        Member("post", 4, OPERATION_FORM),
        Member("delete", 5, OPERATION_FORM),
        Member("options", 6, OPERATION_FORM),
        Member("head", 7, OPERATION_FORM),
        Member("patch", 8, OPERATION_FORM),
        Member("parameters", 9, PARAMETERS),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        Member("tags", 1, TEXTS),
        Member("description", 3, Form::Text),
        Member("operationId", 5, Form::Text),
        Member("produces", 6, TEXTS),
        Member("consumes", 7, TEXTS),
        Member("parameters", 8, PARAMETERS),
        Member("responses", 9, Form::Named(1, &Form::Within(1, &Form::Message(&RESPONSE)))),
        Member("schemes", 10, TEXTS),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[Member("description", 1, Form::Text), Member("schema", 2, Form::Within(1, &Form::Schema))],
    extensions: 5,
};

static BODY_PARAMETER: Message = Message {
    members: &[
        Member("description", 1, Form::Text),
        Member("name", 2, Form::Text),
        Member("in", 3, Form::Text),
        Member("required", 4, Form::Flag),
        Member("schema", 5, Form::Schema),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    members: &[
        Member("required", 1, Form::Flag),
        Member("in", 2, Form::Text),
        Member("description", 3, Form::Text),
        Member("name", 4, Form::Text),
        Member("type", 6, Form::Text),
        Member("uniqueItems", 20, Form::Flag),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    members: &[
        Member("required", 1, Form::Flag),
        Member("in", 2, Form::Text),
        Member("description", 3, Form::Text),
        Member("name", 4, Form::Text),
        Member("type", 5, Form::Text),
        Member("uniqueItems", 19, Form::Flag),
    ],
    extensions: 22,
};

// The kinds of parameters that are no bodies lie one level deeper.
static IN_BODY: Form = Form::Within(1, &Form::Message(&BODY_PARAMETER));
static IN_PATH: Form = Form::Within(2, &Form::Within(4, &Form::Message(&PATH_PARAMETER)));
static IN_QUERY: Form = Form::Within(2, &Form::Within(3, &Form::Message(&QUERY_PARAMETER)));

static SCHEMA: Message = Message {
    members: &[
        Member("$ref", 1, Form::Text),
        Member("format", 2, Form::Text),
        Member("description", 4, Form::Text),
        Member("default", 5, Form::Any),
        Member("multipleOf", 6, Form::Number),
        Member("maximum", 7, Form::Number),
        Member("exclusiveMaximum", 8, Form::Flag),
        Member("minimum", 9, Form::Number),
        Member("exclusiveMinimum", 10, Form::Flag),
        Member("maxLength", 11, Form::Count),
        Member("minLength", 12, Form::Count),
        Member("pattern", 13, Form::Text),
        Member("maxItems", 14, Form::Count),
        Member("minItems", 15, Form::Count),
        Member("uniqueItems", 16, Form::Flag),
        Member("maxProperties", 17, Form::Count),
        Member("minProperties", 18, Form::Count),
        Member("required", 19, TEXTS),
        Member("enum", 20, Form::Each(&Form::Any)),
        Member("additionalProperties", 21, Form::Additional),
        Member("type", 22, Form::Within(1, &Form::Text)),
        Member("items", 23, Form::Within(1, &Form::Schema)),
        Member("properties", 25, Form::Named(1, &Form::Schema)),
    ],
    extensions: 31,
};

/// A version 2 document as protobuf.
pub(super) fn document(tree: &Map) -> Vec<u8> {
    let mut out = Vec::new();
    message(tree, &DOCUMENT, &mut out);
    out
}

fn message(map: &Map, of: &Message, out: &mut Vec<u8>) {
    for Member(name, field, form) in of.members {
        if let Some(value) = map.get(name) {
            put(value, *field, form, out);
        }
    }
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        named(name, value, of.extensions, &Form::Any, out);
    }
}

/// A pair of a name and a value.
fn named(name: &str, value: &Value, field: u32, form: &Form, out: &mut Vec<u8>) {
    nested(field, out, |out| {
        put_bytes(out, 1, name.as_bytes());
        put(value, 2, form, out);
    });
}

fn put(value: &Value, field: u32, form: &Form, out: &mut Vec<u8>) {
    match (form, value) {
        (Form::Text, Value::String(text)) => put_bytes(out, field, text.as_bytes()),
        (Form::Flag, Value::Bool(flag)) => number(u64::from(*flag), field, out),
        (Form::Count, Value::Int(count)) => number(*count as u64, field, out),
        (Form::Number, Value::Int(number)) => put_double(out, field, *number as f64),
        (Form::Number, Value::Float(number)) => put_double(out, field, *number),
        // Every JSON text is YAML.
        (Form::Any, value) => nested(field, out, |out| put_bytes(out, 2, json_text::write(value).as_bytes())),
        (Form::Message(of), Value::Map(map)) => nested(field, out, |out| message(map, of, out)),
        (Form::Schema, Value::Map(map)) => nested(field, out, |out| message(map, &SCHEMA, out)),
        (Form::Within(inner, form), value) => nested(field, out, |out| put(value, *inner, form, out)),
        (Form::Each(form), Value::List(items)) => items.iter().for_each(|item| put(item, field, form, out)),
        (Form::Named(inner, form), Value::Map(map)) => nested(field, out, |out| {
            map.iter().for_each(|(name, value)| named(name, value, *inner, form, out));
        }),
        (Form::Additional, Value::Bool(any)) => nested(field, out, |out| number(u64::from(*any), 2, out)),
        (Form::Additional, schema) => nested(field, out, |out| put(schema, 1, &Form::Schema, out)),
        (Form::Parameter, parameter) => nested(field, out, |out| {
            let form = match parameter.str_at(&["in"]) {
                Some("body") => &IN_BODY,
                Some("path") => &IN_PATH,
                _ => &IN_QUERY,
            };
            // The parameter and not a reference to one.
            put(parameter, 1, form, out);
        }),
        // A value that its own form does not fit says nothing.
        _ => {}
    }
}

fn number(value: u64, field: u32, out: &mut Vec<u8>) {
    put_key(out, field, 0);
    put_varint(out, value);
}

fn nested(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let written: Result<(), std::convert::Infallible> = put_nested(out, field, |out| {
        write(out);
        Ok(())
    });
    match written {
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every member of our documents that is written nowhere would be lost to clients of protobuf.
    fn check_known(value: &Value, form: &Form, place: &str) {
        match (form, value) {
            (Form::Message(of), Value::Map(map)) => {
                for (name, value) in map.iter().filter(|(name, _)| !name.starts_with("x-")) {
                    let member = of.members.iter().find(|member| member.0 == name);
                    let member = member.unwrap_or_else(|| panic!("{place}: {name} has no field"));
                    check_known(value, &member.2, &format!("{place}.{name}"));
                }
            }
            (Form::Schema, value) => check_known(value, &Form::Message(&SCHEMA), place),
            (Form::Within(_, form), value) => check_known(value, form, place),
            (Form::Each(form), Value::List(items)) => items.iter().for_each(|item| check_known(item, form, place)),
            (Form::Named(_, form), Value::Map(map)) => {
                map.iter().for_each(|(name, value)| check_known(value, form, &format!("{place}.{name}")));
            }
            (Form::Parameter, value) => {
                let of = match value.str_at(&["in"]) {
                    Some("body") => &BODY_PARAMETER,
                    Some("path") => &PATH_PARAMETER,
                    Some("query") => &QUERY_PARAMETER,
                    other => panic!("{place}: a parameter in {other:?}"),
                };
                check_known(value, &Form::Message(of), place);
            }
            (Form::Additional, Value::Map(_)) => check_known(value, &Form::Schema, place),
            (Form::Text, Value::String(_))
            | (Form::Flag | Form::Additional, Value::Bool(_))
            | (Form::Count, Value::Int(_))
            | (Form::Number, Value::Int(_) | Value::Float(_))
            | (Form::Any, _) => {}
            (_, value) => panic!("{place}: {} has another form", value.type_name()),
        }
    }

    /// What the first field of each number on a path holds, down to the last.
    fn at<'a>(mut bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let length = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
            let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
            *bytes = &bytes[length..];
            value
        }
        let (first, rest) = match path {
            [] => return Some(bytes),
            [first, rest @ ..] => (*first, rest),
        };
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let start = bytes;
            let length = match key & 7 {
                0 => {
                    varint(&mut bytes);
                    0
                }
                1 => 8,
                _ => varint(&mut bytes) as usize,
            };
            let content = if key & 7 == 0 { &start[..start.len() - bytes.len()] } else { &bytes[..length] };
            bytes = &bytes[length..];
            if key >> 3 == u64::from(first) {
                return at(content, rest);
            }
        }
        None
    }

    #[test]
    fn every_form_is_written() {
        let text = br##"{"swagger":"2.0","info":{"title":"t","version":"v"},
            "definitions":{"A":{"type":"object","required":["a"],"maximum":1.5,"exclusiveMaximum":true,"minLength":300,
                "properties":{"a":{"$ref":"#/definitions/B"}},"items":{"format":"f"},
                "additionalProperties":{"type":"integer"},"enum":["x",1],"x-k":[{"g":""}]}},
            "paths":{"/p":{"parameters":[{"in":"path","name":"n","required":true,"type":"string","uniqueItems":true}],
                "get":{"operationId":"o","consumes":["*/*"],"parameters":[{"in":"query","name":"q","type":"string"}],
                "responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/A"}}}},
                "put":{"parameters":[{"in":"body","name":"b","schema":{"$ref":"#/definitions/A"}}]}}},
            "security":[{"BearerToken":[]}],
            "securityDefinitions":{"BearerToken":{"type":"apiKey","name":"authorization","in":"header"}}}"##;
        let tree = crate::codec::json::parse(text).unwrap();
        check_known(&tree, &Form::Message(&DOCUMENT), "document");
        let bytes = document(tree.as_map().unwrap());
        let holds = |path: &[u32], what: &[u8]| assert_eq!(at(&bytes, path), Some(what), "{path:?}");
        holds(&[1], b"2.0");
        holds(&[2, 2], b"v");
        // A pair is a name (1) and a value (2).
        holds(&[9, 1, 1], b"A");
        holds(&[9, 1, 2, 7], &1.5f64.to_le_bytes());
        holds(&[9, 1, 2, 8], b"\x01");
        holds(&[9, 1, 2, 12], b"\xac\x02");
        holds(&[9, 1, 2, 19], b"a");
        holds(&[9, 1, 2, 20, 2], b"\"x\"");
        holds(&[9, 1, 2, 21, 1, 22, 1], b"integer");
        holds(&[9, 1, 2, 22, 1], b"object");
        holds(&[9, 1, 2, 23, 1, 2], b"f");
        holds(&[9, 1, 2, 25, 1, 1], b"a");
        holds(&[9, 1, 2, 25, 1, 2, 1], b"#/definitions/B");
        holds(&[9, 1, 2, 31, 1], b"x-k");
        holds(&[9, 1, 2, 31, 2, 2], b"[{\"g\":\"\"}]");
        holds(&[8, 2, 1], b"/p");
        holds(&[8, 2, 2, 9, 1, 2, 4, 4], b"n");
        holds(&[8, 2, 2, 2, 7], b"*/*");
        holds(&[8, 2, 2, 2, 8, 1, 2, 3, 4], b"q");
        holds(&[8, 2, 2, 2, 9, 1, 1], b"200");
        holds(&[8, 2, 2, 2, 9, 1, 2, 1, 2, 1, 1], b"#/definitions/A");
        holds(&[8, 2, 2, 3, 8, 1, 1, 5, 1], b"#/definitions/A");
        holds(&[12, 1, 1], b"BearerToken");
        holds(&[12, 1, 2], b"");
        holds(&[13, 1, 2, 2, 2], b"authorization");
    }
}
