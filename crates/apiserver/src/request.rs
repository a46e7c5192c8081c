//! What a request is about, read from method, path and query: the request info of authorization, audit and routing.

use std::borrow::Cow;

use apimachinery::SmolStr;
use http::Method;

/// The attributes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the lower-case method for
    /// paths that are no resource.
    pub verb: SmolStr,
    pub path: String,
    /// Whether the path names a resource.
    pub is_resource: bool,
    /// `api` or `apis`.
    pub prefix: SmolStr,
    pub group: SmolStr,
    pub version: SmolStr,
    pub namespace: SmolStr,
    pub resource: SmolStr,
    pub subresource: SmolStr,
    pub name: SmolStr,
    /// Path parts after the subresource (what a proxy passes on).
    pub rest: String,
    pub query: Vec<(String, String)>,
}

impl RequestInfo {
    /// Reads method, path and query. Every path is something; unknown ones are non-resource paths.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> RequestInfo {
        let mut info = RequestInfo {
            verb: method.as_str().to_ascii_lowercase().into(),
            path: path.to_string(),
            query: query.map(parse_query).unwrap_or_default(),
            ..RequestInfo::default()
        };
        // Escaped slashes part a path too. What follows a subresource stays as it is written: proxies pass it on. A
        // trailing slash matters to them only.
        let trimmed = path.trim_start_matches('/');
        let parts = split(trimmed);
        let mut rest: &[&str] = match parts.as_slice() {
            ["api", version, rest @ ..] if !version.is_empty() => {
                info.prefix = "api".into();
                info.version = (*version).into();
                rest
            }
            ["apis", group, version, rest @ ..] if !version.is_empty() => {
                info.prefix = "apis".into();
                info.group = decode(group).into();
                info.version = (*version).into();
                rest
            }
            _ => return info,
        };
        if rest.first().is_none_or(|r| r.is_empty()) {
            return info;
        }
        // The legacy form of watches: /api/v1/watch/namespaces/...
        let mut legacy_watch = false;
        if rest[0] == "watch" {
            legacy_watch = true;
            rest = &rest[1..];
            if rest.is_empty() {
                return info;
            }
        }
        if let ["namespaces", namespace, more @ ..] = rest
            && !namespace.is_empty()
        {
            info.namespace = decode(namespace).into();
            // `namespaces/x`, `namespaces/x/status` and `/finalize` are about the namespace itself.
            if !matches!(more, [] | [""] | ["status"] | ["finalize"]) {
                rest = more;
            }
        }
        info.is_resource = true;
        info.resource = decode(rest[0]).into();
        if let Some(name) = rest.get(1) {
            info.name = decode(name).into();
        }
        if let Some(subresource) = rest.get(2) {
            info.subresource = decode(subresource).into();
        }
        if rest.len() > 3 {
            let start = rest[3].as_ptr() as usize - trimmed.as_ptr() as usize;
            info.rest = trimmed[start..].to_string();
        }
        if info.resource == "namespaces" && !info.name.is_empty() {
            info.namespace = info.name.clone();
        }
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .into();
        if info.name.is_empty() && info.verb == "get" {
            info.verb = "list".into();
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".into();
        }
        let watching = legacy_watch || info.truth("watch");
        if watching && (info.verb == "list" || (legacy_watch && info.verb == "get")) {
            info.verb = "watch".into();
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.name_by_selector();
        }
        info
    }

    /// A list or watch of one object by field selector is authorized for that name.
    pub fn name_by_selector(&mut self) {
        let Some(selector) = self.param("fieldSelector").filter(|_| self.name.is_empty()) else { return };
        let Some(name) = selector.split(',').find_map(|term| term.strip_prefix("metadata.name=")) else { return };
        let name = name.strip_prefix('=').unwrap_or(name);
        if !name.is_empty() && !name.contains(['\\', '=', ',']) {
            self.name = name.into();
        }
    }

    /// The first value of a query parameter.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean of a request's options: anything but `0` and `false` means true, presence alone too.
    pub fn truth(&self, key: &str) -> bool {
        self.param(key).is_some_and(|text| text != "0" && !text.eq_ignore_ascii_case("false"))
    }

    /// A boolean query parameter as Go's ParseBool reads it, with presence alone meaning true.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.param(key), Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// The parts of a path between its slashes, written plainly or escaped.
fn split(path: &str) -> Vec<&str> {
    path.split('/').flat_map(|part| part.split("%2F").flat_map(|part| part.split("%2f"))).collect()
}

/// Percent-decodes one path part or query component; what is not UTF-8 is replaced.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| (b as char).to_digit(16);
        match (bytes[i], bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decode(&text.replace('+', " ")).into_owned();
            (plain(key), plain(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        RequestInfo::parse(&method, path, query)
    }

    #[test]
    fn paths_become_attributes() {
        // (method, uri, verb, group, version, namespace, resource, subresource, name)
        let cases = [
            (Method::GET, "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/a/pods/b", "get", "", "v1", "a", "pods", "", "b"),
            (Method::GET, "/api/v1/namespaces/a/pods?watch=true", "watch", "", "v1", "a", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/a", "get", "", "v1", "a", "namespaces", "", "a"),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "update", "", "v1", "a", "namespaces", "finalize", "a"),
            (
                Method::POST,
                "/apis/apps/v1/namespaces/a/deployments",
                "create",
                "apps",
                "v1",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch",
                "apps",
                "v1",
                "a",
                "deployments",
                "scale",
                "d",
            ),
            (Method::DELETE, "/api/v1/nodes", "deletecollection", "", "v1", "", "nodes", "", ""),
            (
                Method::GET,
                "/api/v1/pods?fieldSelector=metadata.name%3Dx&watch=1",
                "watch",
                "",
                "v1",
                "",
                "pods",
                "",
                "x",
            ),
            (Method::GET, "/api/v1/watch/namespaces/a/pods/p", "watch", "", "v1", "a", "pods", "", "p"),
        ];
        for (method, uri, verb, group, version, namespace, resource, subresource, name) in cases {
            let info = parse(method, uri);
            let got = (
                &*info.verb,
                &*info.group,
                &*info.version,
                &*info.namespace,
                &*info.resource,
                &*info.subresource,
                &*info.name,
            );
            assert_eq!(got, (verb, group, version, namespace, resource, subresource, name), "{uri}");
            assert!(info.is_resource);
        }
        let slash = parse(Method::GET, "/api/v1/namespaces/a/pods/b%2fproxy%2Fc%2Fd%20e/f");
        assert_eq!((&*slash.name, &*slash.subresource, &*slash.rest), ("b", "proxy", "c%2Fd%20e/f"));
        for uri in ["/", "/healthz", "/api", "/apis/apps", "/apis/apps/v1", "/openapi/v3"] {
            assert!(!parse(Method::GET, uri).is_resource, "{uri}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let info = parse(Method::GET, "/api/v1/pods?labelSelector=a+in+%28b%29&limit=5&dryRun=All");
        assert_eq!(info.param("labelSelector"), Some("a in (b)"));
        assert_eq!(info.param("limit"), Some("5"));
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
