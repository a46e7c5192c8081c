//! Field paths and the errors that validation gathers (never returns at the first).

use std::fmt::{self, Write};

use crate::json_text;
use crate::quote::quoted;
use crate::value::Value;

/// The way to a field, written as Kubernetes writes it: `spec.containers[0].ports[name=http]`.
///
/// A path borrows its parent, so building one costs nothing until an error needs its text.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A path that starts at a field.
    pub fn new(field: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Field(field) }
    }

    pub fn child(&'a self, field: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(field) }
    }

    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn write(path: &Path<'_>, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
            let began = match path.parent {
                Some(parent) => write(parent, f)?,
                None => false,
            };
            match path.step {
                Step::Root => return Ok(began),
                // What a rule about the whole object names.
                Step::Field("") => f.write_str("[]")?,
                Step::Field(name) => {
                    if began {
                        f.write_char('.')?;
                    }
                    f.write_str(name)?;
                }
                Step::Index(i) => write!(f, "[{i}]")?,
                Step::Key(k) => write!(f, "[{k}]")?,
            }
            Ok(true)
        }
        write(self, f).map(|_| ())
    }
}

/// What is wrong with a field: the reasons of `StatusCause` and the words of the API conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl ErrorKind {
    /// The `reason` of a StatusCause.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::TooFew => "FieldValueTooFew",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// The words that open the error's message.
    pub fn words(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::TooFew => "Too few",
            ErrorKind::Internal => "Internal error",
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorKind,
    pub field: String,
    /// The offending value, where the message shows it.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    /// The message without the field: `Invalid value: "x": must be ...`.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_string();
        if let Some(value) = &self.value {
            text.push_str(": ");
            show(value, &mut text);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Writes a value as messages show it: scalars as Go prints them, anything else as compact JSON.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => {
            let _ = write!(out, "{b}");
        }
        Value::Int(i) => {
            let _ = write!(out, "{i}");
        }
        Value::Float(x) => {
            let _ = write!(out, "{x}");
        }
        Value::String(s) => {
            let _ = write!(out, "{}", quoted(s));
        }
        Value::List(_) | Value::Map(_) => out.push_str(&json_text::write(value)),
    }
}

/// The errors gathered so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    list: Vec<FieldError>,
}

impl Errors {
    pub fn new() -> Self {
        Errors::default()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.list.iter()
    }

    pub fn push(&mut self, error: FieldError) {
        self.list.push(error);
    }

    pub fn append(&mut self, other: Errors) {
        self.list.extend(other.list);
    }

    fn add(&mut self, kind: ErrorKind, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) {
        self.list.push(FieldError { kind, field: path.to_string(), value, detail: detail.into() });
    }

    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(ErrorKind::Required, path, None, detail);
    }

    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(ErrorKind::Invalid, path, Some(value.into()), detail);
    }

    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(ErrorKind::TypeInvalid, path, Some(value.into()), detail);
    }

    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(ErrorKind::Forbidden, path, None, detail);
    }

    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(ErrorKind::Duplicate, path, Some(value.into()), "");
    }

    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(ErrorKind::NotFound, path, Some(value.into()), "");
    }

    /// `Unsupported value: "x": supported values: "a", "b"`, the values in the given order.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|s| quoted(s).to_string()).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        self.add(ErrorKind::NotSupported, path, Some(value.into()), detail);
    }

    /// The same with the values in the order given, as a schema lists them.
    pub fn not_listed(&mut self, path: &Path<'_>, value: impl Into<Value>, listed: &[&str]) {
        let quoted: Vec<String> = listed.iter().map(|s| quoted(s).to_string()).collect();
        self.add(ErrorKind::NotSupported, path, Some(value.into()), format!("supported values: {}", quoted.join(", ")));
    }

    pub fn too_long(&mut self, path: &Path<'_>, max: usize) {
        let noun = if max == 1 { "byte" } else { "bytes" };
        self.add(ErrorKind::TooLong, path, None, format!("may not be more than {max} {noun}"));
    }

    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max: usize) {
        let noun = if max == 1 { "item" } else { "items" };
        self.add(ErrorKind::TooMany, path, Some(Value::Int(actual as i64)), format!("must have at most {max} {noun}"));
    }

    pub fn internal(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(ErrorKind::Internal, path, None, detail);
    }
}

impl IntoIterator for Errors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_messages_read_as_upstream_writes_them() {
        let root = Path::new("spec");
        let containers = root.child("containers");
        let first = containers.index(0);
        let mut errors = Errors::new();
        errors.invalid(&first.child("name"), "A_b", "must be lower case");
        errors.not_supported(&Path::new("type"), "x", &["a", "b"]);
        errors.required(&containers, "");
        errors.too_long(&Path::new(""), 1);
        errors.invalid(&Path::new("data"), "a\u{1}", "no");
        errors.invalid(&Path::new("data"), vec![Value::from("\u{1}<")], "no");
        let text: Vec<String> = errors.iter().map(|e| e.to_string()).collect();
        assert_eq!(
            text,
            [
                r#"spec.containers[0].name: Invalid value: "A_b": must be lower case"#,
                r#"type: Unsupported value: "x": supported values: "a", "b""#,
                "spec.containers: Required value",
                "[]: Too long: may not be more than 1 byte",
                r#"data: Invalid value: "a\x01": no"#,
                r#"data: Invalid value: ["\u0001<"]: no"#.replace('<', "\\u003c").as_str(),
            ]
        );
    }
}
