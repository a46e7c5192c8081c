//! Addresses of the web: absolute URLs or absolute paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use smol_str::SmolStr;

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Key, Map, Value};

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    /// Name and port, without a user.
    pub host: String,
    /// Still escaped.
    pub path: String,
    pub query: String,
}

pub(crate) const TABLE: &[Decl] = &[
    Decl("url", url, &[("string_to_url", "(string) kubernetes.URL")]),
    Decl("isURL", is_url, &[("is_url_string", "(string) bool")]),
    Decl("getScheme", |args| part(args, |u| u.scheme.clone()), &[("url_get_scheme", "kubernetes.URL.() string")]),
    Decl("getHost", |args| part(args, |u| u.host.clone()), &[("url_get_host", "kubernetes.URL.() string")]),
    Decl(
        "getHostname",
        |args| part(args, |u| u.split_host().0.to_string()),
        &[("url_get_hostname", "kubernetes.URL.() string")],
    ),
    Decl(
        "getPort",
        |args| part(args, |u| u.split_host().1.to_string()),
        &[("url_get_port", "kubernetes.URL.() string")],
    ),
    Decl(
        "getEscapedPath",
        |args| part(args, |u| u.path.clone()),
        &[("url_get_escaped_path", "kubernetes.URL.() string")],
    ),
    Decl("getQuery", query, &[("url_get_query", "kubernetes.URL.() map<string, list<string>>")]),
];

impl Url {
    /// Reads an absolute URL or an absolute path.
    pub fn parse(text: &str) -> Result<Url, String> {
        let fail = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.is_empty() {
            return fail("empty url");
        }
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return fail("net/url: invalid control character in URL");
        }
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(text.len());
        let (scheme, rest) = match text[end..].strip_prefix(':') {
            Some(_) if end == 0 => return fail("missing protocol scheme"),
            Some(rest) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => (text[..end].to_lowercase(), rest),
            _ => (String::new(), text),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            // `mailto:a@b` is a URL, `a/b` is none.
            return match scheme.is_empty() {
                true => fail("invalid URI for request"),
                false => Ok(Url { scheme, host: String::new(), path: String::new(), query: query.into() }),
            };
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
                if user.contains([' ', '<', '>', '"', '@', '/']) {
                    return fail("net/url: invalid userinfo");
                }
                (host, path)
            }
            _ => ("", rest),
        };
        check_host(host).map_err(|why| format!("parse {text:?}: {why}"))?;
        for (at, _) in path.match_indices('%') {
            if !path.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                let shown: String = path[at..].chars().take(3).collect();
                return fail(&format!("invalid URL escape {shown:?}"));
            }
        }
        let path = path.chars().map(escaped).collect();
        Ok(Url { scheme, host: host.into(), path, query: query.into() })
    }

    /// The name without brackets and the port.
    fn split_host(&self) -> (&str, &str) {
        let host = &self.host;
        let (name, port) = match host.rfind(':') {
            Some(at) if host[at + 1..].bytes().all(|b| b.is_ascii_digit()) => (&host[..at], &host[at + 1..]),
            _ => (host.as_str(), ""),
        };
        (name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name), port)
    }
}

/// A character of a path as it stands escaped.
fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() || "-_.~$&+,/:;=@%!'()*[]".contains(c) {
        return c.to_string();
    }
    c.to_string().bytes().map(|b| format!("%{b:02X}")).collect()
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((_, port)) => port,
            None => return Err("missing ']' in host".into()),
        },
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {port:?} after host"));
    }
    match host.chars().find(|c| matches!(c, ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => Ok(()),
    }
}

/// Undoes the escapes of a query.
fn unescape(text: &str) -> Option<SmolStr> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(SmolStr::from)
}

fn url<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => {
            let url = Url::parse(text)
                .map_err(|why| Error::new(format!("URL parse error during conversion from string: {why}")))?;
            Ok(Value::Opaque(Opaque::Url(Arc::new(url))))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn is_url<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
        _ => Err(Error::no_such_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(Value::String(of(url).into())),
        _ => Err(Error::no_such_overload()),
    }
}

fn query<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::Opaque(Opaque::Url(url))] = args else { return Err(Error::no_such_overload()) };
    let mut found: BTreeMap<Key, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
            found.entry(Key::String(key)).or_default().push(Value::String(value));
        }
    }
    Ok(Value::Map(Map::new(found.into_iter().map(|(key, values)| (key, Value::list(values))).collect())))
}
