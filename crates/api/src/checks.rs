//! Checks that the rules of several kinds share.

use apimachinery::meta::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use apimachinery::validation::{self, Form, IMMUTABLE, check, label_value, qualified_name};
use apimachinery::{Api, Errors, IntOrString, Path};

/// Checks the name of a kind whose names have a form.
pub(crate) fn name(errors: &mut Errors, metadata: &ObjectMeta, form: Form) {
    validation::check_name(errors, &metadata.name, &metadata.generate_name, form);
}

/// Reports a changed field that may be set but once.
pub(crate) fn immutable<T: Api + PartialEq>(errors: &mut Errors, path: &Path<'_>, new: &T, old: &T) {
    if new != old {
        errors.invalid(path, new.to_value(), IMMUTABLE);
    }
}

/// Requires one of some words.
pub(crate) fn one_of(errors: &mut Errors, path: &Path<'_>, value: &str, words: &[&str]) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !words.contains(&value) {
        errors.not_supported(path, value, words);
    }
}

/// Checks a text that may be absent against some words.
pub(crate) fn maybe_one_of(errors: &mut Errors, path: &Path<'_>, value: Option<&String>, words: &[&str]) {
    if let Some(value) = value
        && !words.contains(&value.as_str())
    {
        errors.not_supported(path, value.as_str(), words);
    }
}

/// Checks a label selector.
pub(crate) fn label_selector(errors: &mut Errors, path: &Path<'_>, selector: &LabelSelector) {
    validation::labels(errors, &path.child("matchLabels"), &selector.match_labels);
    let expressions = path.child("matchExpressions");
    for (i, requirement) in selector.match_expressions.iter().enumerate() {
        selector_requirement(errors, &expressions.index(i), requirement);
    }
}

fn selector_requirement(errors: &mut Errors, path: &Path<'_>, requirement: &LabelSelectorRequirement) {
    let values = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if requirement.values.is_empty() => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !requirement.values.is_empty() => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    check(errors, &path.child("key"), &requirement.key, qualified_name);
    for (i, value) in requirement.values.iter().enumerate() {
        check(errors, &values.index(i), value, label_value);
    }
}

/// Whether a selector is that of nothing.
pub(crate) fn selects_nothing(selector: &LabelSelector) -> bool {
    selector.match_labels.is_empty() && selector.match_expressions.is_empty()
}

/// Whether labels satisfy a selector.
pub(crate) fn matches(selector: &LabelSelector, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let expressions = selector.match_expressions.iter().all(|e| {
        let value = labels.get(&e.key);
        let held = value.is_some_and(|v| e.values.contains(v));
        match e.operator.as_str() {
            "In" => held,
            "NotIn" => !held,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    expressions && selector.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// A count or a percentage, not below zero.
pub(crate) fn count_or_percent(errors: &mut Errors, path: &Path<'_>, value: &IntOrString) {
    match value {
        IntOrString::Int(i) => validation::nonnegative(errors, path, i64::from(*i)),
        IntOrString::String(text) => check(errors, path, text, validation::percent),
    }
}

/// Reports a percentage above 100.
pub(crate) fn at_most_all(errors: &mut Errors, path: &Path<'_>, value: &IntOrString) {
    if percentage(value).is_some_and(|p| p > 100) {
        errors.invalid(path, value.to_value(), "must not be greater than 100%");
    }
}

fn percentage(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) => text.strip_suffix('%')?.parse().ok(),
        IntOrString::Int(_) => None,
    }
}

/// The number in a count or percentage; 0 for what is neither.
pub(crate) fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(i) => i64::from(*i),
        IntOrString::String(_) => percentage(value).unwrap_or(0),
    }
}

/// Requires an IP address of either family.
pub(crate) fn ip(errors: &mut Errors, path: &Path<'_>, value: &str) {
    if parse_ip(value).is_none() {
        errors.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// An IP address; octets with leading zeros are read as decimal, as they always were.
pub(crate) fn parse_ip(value: &str) -> Option<std::net::IpAddr> {
    if let Ok(ip) = value.parse() {
        return Some(ip);
    }
    let octets: Vec<u8> = value
        .split('.')
        .map(|part| if part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None })
        .collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(octets.into())
}

/// Requires an address range such as `10.0.0.0/8`.
pub(crate) fn cidr(errors: &mut Errors, path: &Path<'_>, value: &str) -> Option<(std::net::IpAddr, u8)> {
    let parsed = value.split_once('/').and_then(|(ip, bits)| {
        let ip = parse_ip(ip)?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
    });
    if parsed.is_none() {
        errors.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
    parsed
}

/// A relative path that does not climb.
pub(crate) fn descending_path(errors: &mut Errors, path: &Path<'_>, value: &str) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(errors, path, value);
}

/// A path without `..` among its parts.
pub(crate) fn no_backsteps(errors: &mut Errors, path: &Path<'_>, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// A descending path that does not begin like the names which volumes use for themselves.
pub(crate) fn volume_file(errors: &mut Errors, path: &Path<'_>, value: &str) {
    descending_path(errors, path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}
