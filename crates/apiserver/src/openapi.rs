//! `/openapi/v3` and `/openapi/v2`, built when first asked for and again when the kinds change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apimachinery::{Kind, Status, openapi};
use bytes::Bytes;
use http::header::ACCEPT;
use parking_lot::Mutex;

use crate::pipeline::{self, Request};
use crate::respond::{self, Response};
use crate::server::ApiServer;

const JSON: &str = "application/json";
/// A version 2 document as a message; clients also ask for it by an older name, which is no media type.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const OLD_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Built documents by path, valid for one set of kinds.
#[derive(Default)]
pub struct Cache {
    built: Mutex<Built>,
}

#[derive(Default)]
struct Built {
    /// What the documents were built from.
    kinds: Vec<Arc<Kind>>,
    documents: HashMap<String, (Bytes, u64)>,
}

impl Cache {
    /// The document at a path, made by `make` when it is not there or its kinds have changed.
    fn document(&self, path: &str, kinds: &[Arc<Kind>], make: impl FnOnce() -> Option<Bytes>) -> Option<(Bytes, u64)> {
        let mut built = self.built.lock();
        let same = built.kinds.len() == kinds.len() && built.kinds.iter().zip(kinds).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            built.documents.clear();
            built.kinds = kinds.to_vec();
        }
        if let Some(document) = built.documents.get(path) {
            return Some(document.clone());
        }
        let bytes = make()?;
        let document = (bytes.clone(), respond::fingerprint(&bytes));
        built.documents.insert(path.to_string(), document.clone());
        Some(document)
    }
}

/// The form of a document that a client likes best of those it accepts.
fn form(accept: &str, has_protobuf: bool) -> Option<&'static str> {
    let mut clauses: Vec<(f32, &str)> = Vec::new();
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        clauses.push((weight, media));
    }
    // Of equal ones, the first.
    clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    clauses.into_iter().filter(|(weight, _)| *weight > 0.0).find_map(|(_, media)| match media {
        JSON | "*/*" | "application/*" => Some(JSON),
        PROTOBUF | OLD_PROTOBUF if has_protobuf => Some(PROTOBUF),
        _ => None,
    })
}

/// Answers a path below `/openapi`.
pub fn handle(server: &Arc<ApiServer>, request: &Request) -> Result<Response, Status> {
    if !matches!(request.parts.method, http::Method::GET | http::Method::HEAD) {
        return Ok(pipeline::page_not_found());
    }
    let kinds = server.served_kinds();
    let path = request.info.path.trim_end_matches('/');
    let accept = request.parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let Some(form) = form(accept, path == "/openapi/v2") else {
        let served = format!("OpenAPI documents are served as {JSON}, and that of version 2 as {PROTOBUF}");
        return Err(Status::new(406, "NotAcceptable", served));
    };
    let bodies =
        |group: &str, version: &str, kind: &str| server.body_kind(group, version, kind).map(|k| k.schema.clone());
    let document = match path {
        "/openapi/v2" if form == PROTOBUF => {
            let make = || Some(openapi::v2_proto(kinds.iter().map(|k| &**k), &bodies).into());
            server.openapi.document("/openapi/v2 in protobuf", &kinds, make)
        }
        "/openapi/v2" => {
            server.openapi.document(path, &kinds, || Some(openapi::v2(kinds.iter().map(|k| &**k), &bodies).into()))
        }
        "/openapi/v3" => server.openapi.document(path, &kinds, || Some(root(&kinds))),
        _ => {
            let place = path.strip_prefix("/openapi/v3/").unwrap_or_default();
            let (group, version) = match place.split('/').collect::<Vec<_>>().as_slice() {
                ["api", version] => (String::new(), version.to_string()),
                ["apis", group, version] => (group.to_string(), version.to_string()),
                _ => return Ok(pipeline::page_not_found()),
            };
            let of: Vec<&Kind> =
                kinds.iter().map(|k| &**k).filter(|k| k.group == group && k.version == version).collect();
            if of.is_empty() {
                return Ok(pipeline::page_not_found());
            }
            server.openapi.document(path, &kinds, || Some(openapi::v3(of, &bodies).into()))
        }
    };
    let Some((bytes, hash)) = document else { return Ok(pipeline::page_not_found()) };
    Ok(respond::tagged(&request.parts.headers, form, bytes, hash))
}

/// The index of the documents. Clients cache a document under the hash that stands here, so that must change with the
/// kinds of its group, and only then.
fn root(kinds: &[Arc<Kind>]) -> Bytes {
    let mut documents: BTreeMap<String, String> = BTreeMap::new();
    for kind in kinds {
        let prefix = if kind.group.is_empty() { "api" } else { "apis" };
        let text = documents.entry(format!("{prefix}/{}", kind.group_version())).or_default();
        text.push_str(&format!("{:p};", Arc::as_ptr(kind)));
    }
    let hashed: Vec<(String, String)> =
        documents.into_iter().map(|(path, text)| (path, openapi::hash(text.as_bytes()))).collect();
    openapi::v3_root(hashed.iter().map(|(path, hash)| (path.as_str(), hash.as_str()))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_form_that_they_like_best() {
        assert_eq!(form("*/*", true), Some(JSON));
        assert_eq!(form(OLD_PROTOBUF, true), Some(PROTOBUF));
        assert_eq!(form(&format!("{PROTOBUF};q=0.5, application/json;q=0.4"), true), Some(PROTOBUF));
        assert_eq!(form(&format!("application/json, {PROTOBUF}"), true), Some(JSON));
        assert_eq!(form(&format!("text/html, {PROTOBUF}, application/json;q=0.1"), false), Some(JSON));
        assert_eq!(form(PROTOBUF, false), None);
        assert_eq!(form("application/json;q=0", true), None);
    }
}
