//! Bytes to object: strictness, normalisation, pruning, defaults.

use apimachinery::quote::quoted;
use apimachinery::{Kind, Status, Value, codec, defaults, prune};

use crate::cx::Cx;
use crate::options::Validation;

/// The encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// Reads a body as an object of `kind`.
///
/// The tree that comes out is what the rest of the engine works on: known fields only (where the kind prunes), values
/// in canonical form, defaults filled in, apiVersion and kind those of `kind`.
pub fn decode(cx: &Cx, kind: &Kind, encoding: Encoding, bytes: &[u8], validation: Validation) -> Result<Value, Status> {
    let mut problems = Vec::new();
    let mut tree = match encoding {
        Encoding::Json => {
            let read = codec::json::parse_strict(bytes, &kind.schema, &mut problems);
            read.map_err(|e| unrecognized(kind, format!("couldn't get version/kind; json parse error: {e}"), bytes))?
        }
        Encoding::Yaml => {
            let read = codec::yaml::parse_strict(bytes, &kind.schema, &mut problems);
            read.map_err(|e| unrecognized(kind, e, bytes))?
        }
        Encoding::Protobuf if kind.protobuf => {
            if bytes == codec::proto::MAGIC {
                return Err(unrecognized(kind, "empty body", bytes));
            }
            codec::proto::decode_object(bytes, &kind.schema).map_err(|e| malformed(kind, e))?
        }
        Encoding::Protobuf => {
            return Err(Status::new(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            ));
        }
    };
    // `null` is an object of which nothing is said.
    if tree.is_null() {
        tree = Value::Map(apimachinery::Map::new());
    }
    check_type(kind, &mut tree, bytes)?;
    finish(cx, kind, &mut tree, validation, problems)?;
    Ok(tree)
}

/// Brings a tree that a patch or a webhook made into the form that [`decode`] gives.
pub fn settle(cx: &Cx, kind: &Kind, tree: &mut Value, validation: Validation) -> Result<(), Status> {
    check_type(kind, tree, b"")?;
    finish(cx, kind, tree, validation, Vec::new())
}

fn finish(
    cx: &Cx,
    kind: &Kind,
    tree: &mut Value,
    validation: Validation,
    mut problems: Vec<String>,
) -> Result<(), Status> {
    // Types are checked and values brought into canonical form before anything looks at them.
    codec::normalize(tree, &kind.schema).map_err(|e| malformed(kind, e))?;
    let unknown = prune::unknown_fields(tree, &kind.schema);
    for path in unknown {
        // Those that the parser met stand already where it met them.
        let problem = format!("unknown field {}", quoted(&path));
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if kind.prune {
        prune::prune(tree, &kind.schema);
    }
    match validation {
        Validation::Strict if !problems.is_empty() => {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                problems.join(", ")
            )));
        }
        Validation::Warn => {
            for problem in problems {
                cx.warn(problem);
            }
        }
        _ => {}
    }
    set_defaults(kind, tree)
}

/// Constant defaults of the schema, then those that the kind computes.
pub fn set_defaults(kind: &Kind, tree: &mut Value) -> Result<(), Status> {
    defaults::set_defaults(tree, &kind.schema);
    if let Some(hook) = kind.hooks.set_defaults {
        hook(tree).map_err(|m| malformed(kind, m))?;
    }
    Ok(())
}

fn malformed(kind: &Kind, why: impl std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        kind.kind, kind.version, kind.kind
    ))
}

/// What is so broken that it does not even say what it is.
fn unrecognized(kind: &Kind, why: impl std::fmt::Display, bytes: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({})",
        kind.kind,
        summary(bytes)
    ))
}

/// The start of a body, as text where it looks like JSON.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    if bytes.is_empty() {
        return "<empty>".into();
    }
    let start = &bytes[..bytes.len().min(SHOWN)];
    let mut text = match bytes[0] {
        b'{' => String::from_utf8_lossy(start).into_owned(),
        _ => start.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if bytes.len() > SHOWN {
        text.push_str(" ...");
    }
    text
}

/// The object must be of the kind that the URL names; absent type fields are filled in.
fn check_type(kind: &Kind, tree: &mut Value, bytes: &[u8]) -> Result<(), Status> {
    let wrong = |what: &Value, place: &str| {
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go {place}",
            what.type_name()
        );
        unrecognized(kind, why, bytes)
    };
    let Value::Map(map) = tree else {
        return Err(wrong(tree, "value of type struct"));
    };
    let wanted = kind.group_version().to_string();
    for (key, wanted) in [("apiVersion", wanted.as_str()), ("kind", &*kind.kind)] {
        match map.get(key) {
            None | Some(Value::Null) => {
                map.insert(key, wanted);
            }
            Some(Value::String(found)) if found.is_empty() => {
                map.insert(key, wanted);
            }
            Some(Value::String(found)) if found == wanted => {}
            Some(Value::String(found)) if key == "apiVersion" => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({found}) does not match the expected API version ({wanted})"
                )));
            }
            Some(Value::String(found)) => {
                return Err(Status::bad_request(format!(
                    "{found} in version {:?} cannot be handled as a {wanted}: the kind in the data does not match the expected kind",
                    kind.version
                )));
            }
            Some(other) => return Err(wrong(other, &format!("struct field .{key} of type string"))),
        }
    }
    Ok(())
}
