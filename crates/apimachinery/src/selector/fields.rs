//! Field selectors: `metadata.name=x,status.phase!=Running`, matched on fields that a kind lets select.

use std::fmt;

use smol_str::SmolStr;

use super::SelectorError;
use crate::kind::Kind;
use crate::quote::quoted;
use crate::value::Value;

/// Terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

/// One comparison of one field with one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    pub field: SmolStr,
    pub equal: bool,
    pub value: SmolStr,
}

impl FieldSelector {
    /// Reads the query string's form; a backslash escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let Some((field, equal, value)) = split_term(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            let value = unescape(value)?;
            // A term about nothing says nothing.
            if !(field.is_empty() && value.is_empty()) {
                terms.push(FieldTerm { field: field.into(), equal, value: value.into() });
            }
        }
        Ok(FieldSelector { terms })
    }

    /// Refuses fields that the kind does not let select.
    pub fn check(&self, kind: &Kind) -> Result<(), SelectorError> {
        for term in &self.terms {
            let known = term.field == "metadata.name"
                || (term.field == "metadata.namespace" && kind.namespaced)
                || kind.selectable.iter().any(|path| crate::Kind::selectable_name(path) == term.field);
            if !known {
                let field = &term.field;
                // Kinds without selectable fields of their own say which they have.
                return Err(SelectorError(if kind.selectable.is_empty() && kind.protobuf {
                    format!(
                        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                        quoted(field)
                    )
                } else {
                    format!("field label not supported: {field}")
                }));
            }
        }
        Ok(())
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Demands that a field has a value, besides what is demanded already.
    pub fn require(&mut self, field: &str, value: &str) {
        self.terms.push(FieldTerm { field: field.into(), equal: true, value: value.into() });
    }

    /// The value that one field must have, when the selector demands exactly one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether an object is selected.
    pub fn matches_value(&self, object: &Value) -> bool {
        self.terms.iter().all(|t| (field_text(object, &t.field) == t.value) == t.equal)
    }

    /// Whether an object whose fields are found by `look_up` is selected; an absent field is the empty text.
    pub fn matches<'a>(&self, look_up: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (look_up(&t.field).unwrap_or_default() == t.value) == t.equal)
    }
}

/// The text of a field as selectors compare it; absent is empty, booleans and integers are their JSON.
pub fn field_text(object: &Value, field: &str) -> String {
    let found = field.trim_start_matches('.').split('.').try_fold(object, |value, key| value.get(key));
    match found {
        Some(Value::String(s)) => s.to_string(),
        Some(Value::Bool(b)) => b.to_string(),
        Some(Value::Int(i)) => i.to_string(),
        _ => String::new(),
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[i..].strip_prefix(operator) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let bad = |sequence: &str| SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}"));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(bad(&format!("\\{c}"))),
                None => return Err(bad("\\")),
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_matched() {
        let object = crate::json_text::read(r#"{"metadata":{"name":"a"},"spec":{"x":"b,c","on":true}}"#).unwrap();
        for (text, expected) in [
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("metadata.name==a,spec.x=b\\,c", true),
            ("spec.missing=", true),
            ("spec.on=true", true),
            ("", true),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches_value(&object), expected, "{text}");
        }
    }

    #[test]
    fn errors_speak_as_upstream_does() {
        for (text, expected) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
