//! Forms that names, labels, ports and paths must have, with the messages that clients know.
//!
//! Each form is a function from a text to the list of what is wrong with it; [`check`] turns the list into field errors.

use std::collections::BTreeMap;

use crate::field::{Errors, Path};

/// A form: what is wrong with a text, nothing when all is well.
pub type Form = fn(&str) -> Vec<String>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

/// Reports every fault of a text against its field.
pub fn check(errors: &mut Errors, path: &Path<'_>, value: &str, form: Form) {
    for fault in form(value) {
        errors.invalid(path, value, fault);
    }
}

/// Requires a text, then checks its form.
pub fn require(errors: &mut Errors, path: &Path<'_>, value: &str, form: Form) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        check(errors, path, value, form);
    }
}

/// What a name or generateName of a kind must look like; a generateName's last dash is not held against it.
pub fn check_name(errors: &mut Errors, name: &str, generate_name: &str, form: Form) {
    let metadata = Path::new("metadata");
    if !generate_name.is_empty() {
        for fault in form(&without_trailing_dash(generate_name)) {
            errors.invalid(&metadata.child("generateName"), generate_name, fault);
        }
    }
    if name.is_empty() {
        errors.required(&metadata.child("name"), "name or generateName is required");
    } else {
        check(errors, &metadata.child("name"), name, form);
    }
}

fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        // The random part that follows makes it a name again.
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_string(),
    }
}

fn too_long(length: usize) -> String {
    format!("must be no more than {length} characters")
}

fn too_many_bytes(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn pattern(message: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether the ends satisfy one test and everything another.
fn framed(value: &str, end: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match value.as_bytes() {
        [] => false,
        bytes => end(bytes[0]) && end(bytes[bytes.len() - 1]) && bytes.iter().all(|b| inner(*b)),
    }
}

fn is_label(value: &str) -> bool {
    framed(value, lower_alphanumeric, |b| lower_alphanumeric(b) || b == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// An RFC 1123 label of at most 63 characters.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            faults.push("must not contain dots".into());
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            faults.push(pattern(message, LABEL, &["my-name", "123-abc"]));
        }
    }
    faults
}

/// An RFC 1123 subdomain of at most 253 characters.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !is_subdomain(value) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        faults.push(pattern(message, SUBDOMAIN, &["example.com"]));
    }
    faults
}

/// A subdomain in which case does not matter.
pub fn dns_subdomain_caseless(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_many_bytes(253));
    }
    if !is_subdomain(&value.to_ascii_lowercase()) {
        let message = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        faults.push(pattern(message, SUBDOMAIN, &["Example.com"]));
    }
    faults
}

/// A subdomain, its length counted in bytes, as newer checks of upstream have it.
pub fn long_name(value: &str) -> Vec<String> {
    dns_subdomain(value).into_iter().map(|f| if f == too_long(253) { too_many_bytes(253) } else { f }).collect()
}

/// A label, its length counted in bytes, as newer checks of upstream have it.
pub fn short_name(value: &str) -> Vec<String> {
    dns_label(value).into_iter().map(|f| if f == too_long(63) { too_many_bytes(63) } else { f }).collect()
}

/// A subdomain whose labels may have underscores, as DNS search paths do.
pub fn dns_search(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    let label = |part: &str| {
        let part = part.strip_prefix('_').unwrap_or(part);
        framed(part, lower_alphanumeric, |b| lower_alphanumeric(b) || b == b'-' || b == b'_')
    };
    if !value.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let regex = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        faults.push(pattern(message, regex, &["example.com"]));
    }
    faults
}

/// A DNS-1035 label: begins with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        faults.push(pattern(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    faults
}

/// `*.` and a subdomain.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        faults.push(pattern(message, &format!("\\*\\.{SUBDOMAIN}"), &["*.example.com"]));
    }
    faults
}

/// A name that can be one segment of a URL path: RBAC names and the like.
pub fn path_segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    let banned = ["/", "%"].into_iter().filter(|part| value.contains(part));
    banned.map(|part| format!("may not contain '{part}'")).collect()
}

/// A label key, finalizer or other qualified name: an optional subdomain, a slash, a name.
pub fn qualified_name(value: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut faults = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".into());
            } else {
                faults.extend(bytes_worded(dns_subdomain(prefix)).into_iter().map(|f| format!("prefix part {f}")));
            }
            name
        }
        _ => {
            let message = pattern(&format!("a valid label key {MESSAGE}"), REGEX, &EXAMPLES);
            return vec![format!(
                "{message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_many_bytes(63)));
    }
    if !is_label_text(name) {
        faults.push(pattern(&format!("name part {MESSAGE}"), REGEX, &EXAMPLES));
    }
    faults
}

/// Upstream counts bytes in the prefix of a label key and characters in names.
fn bytes_worded(faults: Vec<String>) -> Vec<String> {
    faults.into_iter().map(|f| if f == too_long(253) { too_many_bytes(253) } else { f }).collect()
}

fn is_label_text(value: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    framed(value, alphanumeric, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A label value: empty, or at most 63 characters.
pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_many_bytes(63));
    }
    if !value.is_empty() && !is_label_text(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        faults.push(pattern(message, "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", &["MyValue", "my_value", "12345"]));
    }
    faults
}

/// A port name: at most 15 characters with a letter among them.
pub fn port_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 15 {
        faults.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|b| lower_alphanumeric(b) || b == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable: printable, without `=`.
pub fn env_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.is_empty() {
        faults.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b'=') {
        faults.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    faults
}

/// A key of a ConfigMap or Secret: usable as a file name.
pub fn config_key(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(pattern(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." | ".." => faults.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => faults.push("must not start with '..'".into()),
        _ => {}
    }
    faults
}

/// What is wrong with a port number.
pub fn port_number(value: i64) -> Option<String> {
    in_range(value, 1, 65_535)
}

/// What is wrong with a number that must lie between two others.
pub fn in_range(value: i64, low: i64, high: i64) -> Option<String> {
    if (low..=high).contains(&value) { None } else { Some(format!("must be between {low} and {high}, inclusive")) }
}

/// Reports a number below zero.
pub fn nonnegative(errors: &mut Errors, path: &Path<'_>, value: i64) {
    if value < 0 {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
}

/// Reports a number that is not above zero.
pub fn positive(errors: &mut Errors, path: &Path<'_>, value: i64) {
    if value <= 0 {
        errors.invalid(path, value, "must be greater than zero");
    }
}

/// Checks the keys and values of labels.
pub fn labels(errors: &mut Errors, path: &Path<'_>, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        check(errors, path, key, qualified_name);
        check(errors, path, value, label_value);
    }
}

/// The bytes that all annotations of an object may have together.
pub const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// Checks the keys of annotations and their size in sum.
pub fn annotations(errors: &mut Errors, path: &Path<'_>, annotations: &BTreeMap<String, String>) {
    let mut size = 0;
    for (key, value) in annotations {
        // Keys differ from label keys in that case is ignored.
        for fault in qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key.as_str(), fault);
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT);
    }
}

/// What an update of an immutable field is answered with.
pub const IMMUTABLE: &str = "field is immutable";

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(form: Form, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(form(text), Vec::<String>::new(), "{text:?} is good");
        }
        for text in bad {
            assert_ne!(form(text), Vec::<String>::new(), "{text:?} is bad");
        }
    }

    #[test]
    fn names_have_their_forms() {
        let long = "a".repeat(64);
        valid(dns_label, &["a", "a-1", "0"], &["", "A", "-a", "a-", "a.b", "a_b", &long]);
        valid(dns_subdomain, &["a", "a.b", "1.2.3"], &["", "a..b", ".a", "a.", "A.b"]);
        valid(dns1035_label, &["a", "a-1"], &["", "1a", "a.b"]);
        valid(wildcard_subdomain, &["*.a.b"], &["*", "*.", "a.*", "**.a"]);
        valid(qualified_name, &["a", "A_b.c", "x.io/a"], &["", "/a", "a/", "a/b/c", "_a", "X.io/a"]);
        valid(label_value, &["", "a", "A_b"], &["-", "a/b", &long]);
        valid(port_name, &["http", "p-1"], &["", "1", "a--b", "-a", "abcdefghijklmnop", "A"]);
        valid(percent, &["1%", "100%"], &["", "%", "1", "a%", "-1%"]);
        valid(env_name, &["A", "a.b-c", "1 x"], &["", "a=b", "é"]);
        valid(config_key, &["a.b", ".a", "A_"], &["", ".", "..", "..a", "a/b"]);
        valid(path_segment, &["system:node", "a b"], &[".", "..", "a/b", "a%b"]);
    }

    #[test]
    fn messages_are_those_that_clients_know() {
        assert_eq!(
            dns_label("A")[0],
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn a_generated_name_may_end_in_a_dash() {
        let mut errors = Errors::new();
        check_name(&mut errors, "web-x1", "web-", dns_subdomain);
        assert!(errors.is_empty());
        check_name(&mut errors, "", "", dns_subdomain);
        let text: Vec<String> = errors.iter().map(|e| e.to_string()).collect();
        assert_eq!(text, ["metadata.name: Required value: name or generateName is required"]);
    }
}
