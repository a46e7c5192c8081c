//! Named forms of text: names of objects, labels, dates.

use super::Decl;
use crate::opaque::Opaque;
use crate::time::{Timestamp, read_date};
use crate::value::{Error, Value};

/// A form that a text may have.
#[derive(Debug)]
pub struct Format {
    /// What `format.named` finds it by.
    pub name: &'static str,
    /// Tells what is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// How long a regular expression for it would be, for its cost.
    pub regex_size: u64,
}

static FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", check: |s| dns1123_label(s), regex_size: 30 },
    Format { name: "dns1123Subdomain", check: |s| dns1123_subdomain(s), regex_size: 60 },
    Format { name: "dns1035Label", check: |s| dns1035_label(s), regex_size: 30 },
    Format { name: "qualifiedName", check: qualified_name, regex_size: 60 },
    Format { name: "dns1123LabelPrefix", check: |s| dns1123_label(&without_dash(s)), regex_size: 30 },
    Format { name: "dns1123SubdomainPrefix", check: |s| dns1123_subdomain(&without_dash(s)), regex_size: 60 },
    Format { name: "dns1035LabelPrefix", check: |s| dns1035_label(&without_dash(s)), regex_size: 30 },
    Format { name: "labelValue", check: label_value, regex_size: 40 },
    Format { name: "uri", check: uri, regex_size: 1000 },
    Format { name: "uuid", check: |s| unless(is_uuid(s), "does not match the UUID format"), regex_size: 100 },
    Format { name: "byte", check: |s| unless(is_base64(s), "invalid base64"), regex_size: 80 },
    Format {
        name: "date",
        check: |s| unless(s.len() == 10 && read_date(s).is_some(), "invalid date"),
        regex_size: 150,
    },
    Format { name: "datetime", check: |s| unless(Timestamp::parse(s).is_some(), "invalid datetime"), regex_size: 150 },
];

macro_rules! constant {
    ($name:literal, $index:literal) => {
        Decl(
            concat!("format.", $name),
            |_| Ok(Value::Opaque(Opaque::Format(&FORMATS[$index]))),
            &[(concat!("format.", $name), "() kubernetes.NamedFormat")],
        )
    };
}

pub(crate) const TABLE: &[Decl] = &[
    constant!("dns1123Label", 0),
    constant!("dns1123Subdomain", 1),
    constant!("dns1035Label", 2),
    constant!("qualifiedName", 3),
    constant!("dns1123LabelPrefix", 4),
    constant!("dns1123SubdomainPrefix", 5),
    constant!("dns1035LabelPrefix", 6),
    constant!("labelValue", 7),
    constant!("uri", 8),
    constant!("uuid", 9),
    constant!("byte", 10),
    constant!("date", 11),
    constant!("datetime", 12),
    Decl("format.named", named, &[("format-named", "(string) optional<kubernetes.NamedFormat>")]),
    Decl("validate", validate, &[("format-validate", "kubernetes.NamedFormat.(string) optional<list<string>>")]),
];

fn unless(fine: bool, why: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![why.into()] }
}

/// The words for a text that does not fit a pattern.
fn pattern(why: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{why} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

fn too_long(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn is_label(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(fine) && !text.starts_with('-') && !text.ends_with('-')
}

fn dns1123_label(text: &str) -> Vec<String> {
    const WHY: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
    let mut why = Vec::new();
    if text.len() > 63 {
        why.push(too_long(63));
    }
    if !is_label(text) {
        why.push(match text.split('.').all(is_label) {
            true => "must not contain dots".into(),
            false => pattern(WHY, "[a-z0-9]([-a-z0-9]*[a-z0-9])?", &["my-name", "123-abc"]),
        });
    }
    why
}

fn dns1123_subdomain(text: &str) -> Vec<String> {
    const WHY: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    const FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    let mut why = Vec::new();
    if text.len() > 253 {
        why.push(too_long(253));
    }
    if !text.split('.').all(is_label) {
        why.push(pattern(WHY, FORM, &["example.com"]));
    }
    why
}

fn dns1035_label(text: &str) -> Vec<String> {
    const WHY: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    let mut why = Vec::new();
    if text.len() > 63 {
        why.push(too_long(63));
    }
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        why.push(pattern(WHY, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    why
}

/// A text that something will be appended to may end in a dash.
fn without_dash(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(front) if !front.is_empty() => format!("{front}a"),
        _ => text.into(),
    }
}

fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.bytes().all(fine) && ends(text.as_bytes().first()) && ends(text.as_bytes().last())
}

fn qualified_name(text: &str) -> Vec<String> {
    const WHY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut why = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                why.push("prefix part must be non-empty".into());
            } else {
                why.extend(dns1123_subdomain(prefix).into_iter().map(|w| format!("prefix part {w}")));
            }
            name
        }
        _ => {
            let form = pattern(&format!("a qualified name {WHY}"), FORM, EXAMPLES);
            return vec![format!("{form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    if name.is_empty() {
        why.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        why.push(format!("name part {}", too_long(63)));
    }
    if !is_name(name) {
        why.push(format!("name part {}", pattern(WHY, FORM, EXAMPLES)));
    }
    why
}

fn label_value(text: &str) -> Vec<String> {
    const WHY: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let mut why = Vec::new();
    if text.len() > 63 {
        why.push(too_long(63));
    }
    if !text.is_empty() && !is_name(text) {
        let form = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        why.push(pattern(WHY, form, &["MyValue", "my_value", "12345"]));
    }
    why
}

fn uri(text: &str) -> Vec<String> {
    super::url::Url::parse(text).err().into_iter().collect()
}

fn is_uuid(text: &str) -> bool {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let dashes = text.char_indices().filter(|(_, c)| *c == '-').map(|(at, _)| at);
    let placed = dashes.clone().next().is_none() || dashes.eq([8, 13, 18, 23]);
    placed && hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

fn named<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(name)] = args else { return Err(Error::no_such_overload()) };
    let found = FORMATS.iter().find(|f| f.name == name.as_str());
    Ok(found.map_or(Value::Optional(None), |f| Value::some(Value::Opaque(Opaque::Format(f)))))
}

fn validate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::Opaque(Opaque::Format(format)), Value::String(text)] = args else {
        return Err(Error::no_such_overload());
    };
    let why = (format.check)(text);
    if why.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(why.into_iter().map(|w| Value::String(w.into())))))
}
