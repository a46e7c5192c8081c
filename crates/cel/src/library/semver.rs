//! Semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Value};

/// A version; what stands behind `+` has no part in comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pre: Vec<String>,
}

pub(crate) const TABLE: &[Decl] = &[
    Decl(
        "semver",
        semver,
        &[
            ("string_to_semver", "(string) kubernetes.Semver"),
            ("string_bool_to_semver", "(string, bool) kubernetes.Semver"),
        ],
    ),
    Decl(
        "isSemver",
        is_semver,
        &[("is_semver_string", "(string) bool"), ("is_semver_string_bool", "(string, bool) bool")],
    ),
    Decl("major", |args| part(args, |v| v.major), &[("semver_major", "kubernetes.Semver.() int")]),
    Decl("minor", |args| part(args, |v| v.minor), &[("semver_minor", "kubernetes.Semver.() int")]),
    Decl("patch", |args| part(args, |v| v.patch), &[("semver_patch", "kubernetes.Semver.() int")]),
];

fn number(text: &str, what: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{what} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("{what} number {text:?} is out of range"))
}

fn identifiers(text: &str, what: &str) -> Result<Vec<String>, String> {
    let fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.split('.').map(|p| if fine(p) { Ok(p.to_string()) } else { Err(format!("invalid {what} {p:?}")) }).collect()
}

impl Semver {
    /// Reads `1.2.3-rc.1+build`.
    pub fn parse(text: &str) -> Result<Semver, String> {
        if text.is_empty() {
            return Err("version string empty".into());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("no Major.Minor.Patch elements found".into());
        };
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(r, b)| (r, Some(b)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(p, pre)| (p, Some(pre)));
        let pre = match pre {
            Some(pre) => identifiers(pre, "prerelease version")?,
            None => Vec::new(),
        };
        if let Some(zero) = pre.iter().find(|p| p.len() > 1 && p.starts_with('0') && p.parse::<u64>().is_ok()) {
            return Err(format!("numeric PreRelease version must not contain leading zeroes {zero:?}"));
        }
        if let Some(build) = build {
            identifiers(build, "build metadata")?;
        }
        Ok(Semver {
            major: number(major, "major")?,
            minor: number(minor, "minor")?,
            patch: number(patch, "patch")?,
            pre,
        })
    }

    /// Reads what people write: with `v` in front, short, with leading zeros.
    pub fn parse_tolerant(text: &str) -> Result<Semver, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_string).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let trimmed = part.trim_start_matches('0');
                let digit = trimmed.starts_with(|c: char| c.is_ascii_digit());
                *part = if digit { trimmed.to_string() } else { format!("0{trimmed}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".into());
            }
            parts.resize(3, "0".into());
        }
        Semver::parse(&parts.join("."))
    }

    pub(crate) fn order(&self, other: &Semver) -> Ordering {
        let numbers = |v: &Semver| (v.major, v.minor, v.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre);
                let first = pairs.map(|(a, b)| identifier_order(a, b)).find(|o| o.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

fn identifier_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

fn read(args: &[Value<'_>]) -> Result<Result<Semver, String>, Error> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(Semver::parse_tolerant(text)),
        _ => Err(Error::no_such_overload()),
    }
}

fn semver<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let version = read(args)?.map_err(Error::new)?;
    Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
}

fn is_semver<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn part<'a>(args: &[Value<'a>], of: fn(&Semver) -> u64) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => Ok(Value::Int(of(version) as i64)),
        _ => Err(Error::no_such_overload()),
    }
}
