//! Kubeconfig files: written for people and tools, read by components that are given one.

use crate::file::{self, Durability};
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Longest file that is read, and how deep it may nest.
const MAX_SIZE: usize = 4 << 20;
const MAX_DEPTH: usize = 32;

/// Data given in the file, or the path of a file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The bytes themselves.
    Data(Vec<u8>),
    /// A path, already joined to the folder of the kubeconfig.
    File(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(d) => write!(f, "Data({} bytes)", d.len()),
            Self::File(p) => write!(f, "File({})", p.display()),
        }
    }
}

impl Source {
    /// The bytes, read now.
    pub fn load(&self) -> Result<Vec<u8>> {
        match self {
            Self::Data(data) => Ok(data.clone()),
            Self::File(path) => std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source }),
        }
    }
}

/// The server of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Base URL.
    pub server: String,
    /// PEM of the authorities that vouch for it.
    pub certificate_authority: Option<Source>,
    /// Name to verify instead of the URL's.
    pub tls_server_name: Option<String>,
    /// Whether its certificate is not verified at all.
    pub insecure_skip_tls_verify: bool,
    /// Proxy to reach it.
    pub proxy_url: Option<String>,
}

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct User {
    /// PEM of the certificate chain.
    pub client_certificate: Option<Source>,
    /// PEM of the key.
    pub client_key: Option<Source>,
    /// Bearer token.
    pub token: Option<String>,
    /// File that holds the bearer token and is read again as it changes; it wins over `token`.
    pub token_file: Option<PathBuf>,
    /// Basic authentication, for what still takes it.
    pub username: Option<String>,
    /// Password that goes with the user name.
    pub password: Option<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("client_certificate", &self.client_certificate)
            .field("token", &self.token.is_some())
            .field("token_file", &self.token_file)
            .finish_non_exhaustive()
    }
}

/// One context of a kubeconfig with what it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Name of the context.
    pub context: String,
    /// Its cluster.
    pub cluster: Cluster,
    /// Its user.
    pub user: User,
    /// Namespace used when none is named.
    pub namespace: Option<String>,
}

impl Kubeconfig {
    /// A context of that name for a server, without credentials yet.
    pub fn new(context: &str, server: &str) -> Self {
        let cluster = Cluster { server: server.into(), ..Cluster::default() };
        Self { context: context.into(), cluster, ..Self::default() }
    }

    /// The YAML text, with one cluster, user and context of the same name.
    pub fn to_yaml(&self) -> String {
        let name = quote(&self.context);
        let mut out = String::from("apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n");
        let mut line = |indent: &str, key: &str, value: &str| {
            let _ = writeln!(out, "{indent}{key}: {value}");
        };
        let c = &self.cluster;
        source(&mut line, "certificate-authority", &c.certificate_authority);
        if c.insecure_skip_tls_verify {
            line("    ", "insecure-skip-tls-verify", "true");
        }
        optional(&mut line, "proxy-url", &c.proxy_url);
        line("    ", "server", &quote(&c.server));
        optional(&mut line, "tls-server-name", &c.tls_server_name);
        line("  ", "name", &name);
        line("", "contexts", "");
        line("- ", "context", "");
        line("    ", "cluster", &name);
        optional(&mut line, "namespace", &self.namespace);
        line("    ", "user", &name);
        line("  ", "name", &name);
        line("", "current-context", &name);
        line("", "preferences", "{}");
        line("", "users", "");
        line("- ", "name", &name);
        let u = &self.user;
        line("  ", "user", if *u == User::default() { "{}" } else { "" });
        source(&mut line, "client-certificate", &u.client_certificate);
        source(&mut line, "client-key", &u.client_key);
        optional(&mut line, "password", &u.password);
        optional(&mut line, "token", &u.token);
        optional(&mut line, "tokenFile", &u.token_file.as_ref().map(|p| p.display().to_string()));
        optional(&mut line, "username", &u.username);
        out.lines().fold(String::with_capacity(out.len()), |mut text, l| {
            text.push_str(l.trim_end());
            text.push('\n');
            text
        })
    }

    /// Writes the file, readable by its owner alone.
    pub fn write(&self, path: &Path) -> Result<()> {
        file::write_private(path, self.to_yaml().as_bytes(), Durability::Synced)
    }

    /// Reads a file; `context` chooses one instead of its current context.
    pub fn read(path: &Path, context: Option<&str>) -> Result<Self> {
        let text = file::read(path)?
            .ok_or_else(|| Error::File { path: path.into(), source: std::io::ErrorKind::NotFound.into() })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")), context)
    }

    /// Parses the text; relative paths in it start at `base`.
    pub fn parse(text: &str, base: &Path, context: Option<&str>) -> Result<Self> {
        let root = parse_yaml(text)?;
        let current = text_of(&root, "current-context")?;
        let name = context.map(str::to_owned).or(current).filter(|c| !c.is_empty());
        let name = name.ok_or_else(|| Error::Kubeconfig("it names no current-context".into()))?;
        let context = find(&root, "contexts", &name, "context")?;
        let needed = |key: &str| {
            text_of(context, key)?.ok_or_else(|| Error::Kubeconfig(format!("context {name:?} names no {key}")))
        };
        let cluster = find(&root, "clusters", &needed("cluster")?, "cluster")?;
        let user = match text_of(context, "user")? {
            Some(user) if !user.is_empty() => find(&root, "users", &user, "user")?,
            _ => &Value::Null,
        };
        for unsupported in ["exec", "auth-provider"] {
            if user.get(unsupported).is_some_and(|v| !v.is_null()) {
                return Err(Error::Kubeconfig(format!("its user needs {unsupported:?}, which is not supported")));
            }
        }
        let server = text_of(cluster, "server")?.filter(|s| !s.is_empty());
        Ok(Self {
            cluster: Cluster {
                server: server.ok_or_else(|| Error::Kubeconfig("its cluster names no server".into()))?,
                certificate_authority: source_of(cluster, "certificate-authority", base)?,
                tls_server_name: text_of(cluster, "tls-server-name")?,
                insecure_skip_tls_verify: cluster.get("insecure-skip-tls-verify") == Some(&Value::Bool(true)),
                proxy_url: text_of(cluster, "proxy-url")?,
            },
            user: User {
                client_certificate: source_of(user, "client-certificate", base)?,
                client_key: source_of(user, "client-key", base)?,
                token: text_of(user, "token")?.filter(|t| !t.is_empty()),
                token_file: text_of(user, "tokenFile")?.filter(|t| !t.is_empty()).map(|p| base.join(p)),
                username: text_of(user, "username")?,
                password: text_of(user, "password")?,
            },
            namespace: text_of(context, "namespace")?,
            context: name,
        })
    }
}

/// A JSON string is a YAML string.
fn quote(s: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':' | b'@');
    // Plain only if it starts like a word and could not be read as anything but text.
    let word = s.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && !s.ends_with(':');
    let special = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if word && s.bytes().all(plain) && !special.contains(&s.to_ascii_lowercase().as_str()) {
        s.to_owned()
    } else {
        Value::String(s.to_owned()).to_string()
    }
}

fn optional(line: &mut impl FnMut(&str, &str, &str), key: &str, value: &Option<String>) {
    if let Some(value) = value {
        line("    ", key, &quote(value));
    }
}

fn source(line: &mut impl FnMut(&str, &str, &str), key: &str, value: &Option<Source>) {
    match value {
        Some(Source::Data(data)) => line("    ", &format!("{key}-data"), &B64.encode(data)),
        Some(Source::File(path)) => line("    ", key, &quote(&path.display().to_string())),
        None => {}
    }
}

/// The entry of that name in a list of named entries.
fn find<'a>(root: &'a Value, list: &str, name: &str, body: &str) -> Result<&'a Value> {
    let entries = root.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .find(|e| e.get("name").and_then(Value::as_str) == Some(name))
        .map(|e| e.get(body).unwrap_or(&Value::Null))
        .ok_or_else(|| Error::Kubeconfig(format!("{list} holds no entry named {name:?}")))
}

fn text_of(value: &Value, key: &str) -> Result<Option<String>> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(_) => Err(Error::Kubeconfig(format!("{key} must be text"))),
    }
}

/// `KEY-data` wins over `KEY`, as in upstream.
fn source_of(value: &Value, key: &str, base: &Path) -> Result<Option<Source>> {
    if let Some(data) = text_of(value, &format!("{key}-data"))?.filter(|d| !d.is_empty()) {
        let packed: String = data.split_whitespace().collect();
        let data = B64.decode(packed).map_err(|_| Error::Kubeconfig(format!("{key}-data is not base64")))?;
        return Ok(Some(Source::Data(data)));
    }
    Ok(text_of(value, key)?.filter(|p| !p.is_empty()).map(|p| Source::File(base.join(p))))
}

/// YAML (or JSON) into a tree; scalars are text, but for plain `true`, `false` and `null`. Aliases are refused.
fn parse_yaml(text: &str) -> Result<Value> {
    let wrong = |what: &str| Error::Kubeconfig(what.to_owned());
    if text.len() > MAX_SIZE {
        return Err(wrong("it is larger than 4 MiB"));
    }
    enum Open {
        List(Vec<Value>),
        Map(Map<String, Value>, Option<String>),
    }
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| Error::Kubeconfig(e.to_string()))?;
        let value = match event {
            Event::Scalar(s, style, _, _) => match (style, s.as_ref()) {
                (ScalarStyle::Plain, "true") => Value::Bool(true),
                (ScalarStyle::Plain, "false") => Value::Bool(false),
                (ScalarStyle::Plain, "" | "~" | "null") => Value::Null,
                _ => Value::String(s.into_owned()),
            },
            Event::SequenceStart(..) | Event::MappingStart(..) if stack.len() >= MAX_DEPTH => {
                return Err(wrong("it nests too deeply"));
            }
            Event::SequenceStart(..) => {
                stack.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err(wrong("it is not YAML")),
            },
            Event::Alias(_) => return Err(wrong("YAML aliases are not supported")),
            Event::DocumentStart(_) if root.is_some() => return Err(wrong("it holds several documents")),
            _ => continue,
        };
        match stack.last_mut() {
            None => root = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(k) => {
                    if map.insert(k.clone(), value).is_some() {
                        return Err(Error::Kubeconfig(format!("the key {k:?} appears twice")));
                    }
                }
                None => match value {
                    Value::String(k) => *key = Some(k),
                    _ => return Err(wrong("a key must be text")),
                },
            },
        }
    }
    root.filter(Value::is_object).ok_or_else(|| wrong("it is not a YAML mapping"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_read_back() {
        let mut config = Kubeconfig::new("skiff", "https://[::1]:6443");
        config.cluster.certificate_authority = Some(Source::Data(b"ca".to_vec()));
        config.user.client_certificate = Some(Source::Data(b"cert".to_vec()));
        config.user.client_key = Some(Source::File("/k.pem".into()));
        config.user.token = Some("12345".into());
        config.namespace = Some("yes".into());
        let text = config.to_yaml();
        assert!(text.starts_with(
            "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    certificate-authority-data: Y2E=\n"
        ));
        assert_eq!(Kubeconfig::parse(&text, Path::new("/"), None).unwrap(), config);
        let bare = Kubeconfig::new("a", "https://h");
        assert_eq!(Kubeconfig::parse(&bare.to_yaml(), Path::new("/"), None).unwrap(), bare);
        assert!(!format!("{config:?}").contains("12345"));
    }

    #[test]
    fn a_context_is_chosen_and_paths_are_relative_to_the_file() {
        let text = r#"
{"apiVersion": "v1", "kind": "Config", "current-context": "b", "contexts": [
  {"name": "a", "context": {"cluster": "c", "user": "u"}},
  {"name": "b", "context": {"cluster": "d", "user": "", "namespace": "n"}}],
 "clusters": [{"name": "c", "cluster": {"server": "https://c", "certificate-authority": "ca.crt"}},
  {"name": "d", "cluster": {"server": "https://d", "insecure-skip-tls-verify": true}}],
 "users": [{"name": "u", "user": {"tokenFile": "t", "client-key-data": ""}}]}"#;
        let a = Kubeconfig::parse(text, Path::new("/etc/x"), Some("a")).unwrap();
        assert_eq!(a.cluster.certificate_authority, Some(Source::File("/etc/x/ca.crt".into())));
        assert_eq!(a.user.token_file, Some("/etc/x/t".into()));
        let b = Kubeconfig::parse(text, Path::new("/"), None).unwrap();
        assert!(b.cluster.insecure_skip_tls_verify && b.namespace.as_deref() == Some("n"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason() {
        let deep = "[".repeat(100);
        let exec = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: s}}]\nusers: [{name: u, user: {exec: {command: x}}}]";
        for (text, why) in [
            ("", "not a YAML mapping"),
            ("- a", "not a YAML mapping"),
            ("a: 1\na: 2", "twice"),
            ("a: &x 1\nb: *x", "aliases"),
            (&deep, "nests"),
            ("current-context: x", "no entry named"),
            ("kind: Config", "no current-context"),
            (exec, "exec"),
        ] {
            let e = Kubeconfig::parse(text, Path::new("/"), None).unwrap_err().to_string();
            assert!(e.contains(why), "{text:?}: {e}");
        }
    }
}
