//! `/openapi/v3` and `/openapi/v2`, built when first asked for and again when the kinds change.

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::{Kind, Status, openapi};
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use parking_lot::Mutex;

use crate::discovery::fingerprint;
use crate::pipeline::{self, Request};
use crate::respond::{self, Response};
use crate::server::ApiServer;

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
        let document = (bytes.clone(), fingerprint(&bytes));
        built.documents.insert(path.to_string(), document.clone());
        Some(document)
    }
}

/// Answers a path below `/openapi`.
pub fn handle(server: &Arc<ApiServer>, request: &Request) -> Result<Response, Status> {
    if !matches!(request.parts.method, http::Method::GET | http::Method::HEAD) {
        return Ok(pipeline::page_not_found());
    }
    let kinds = server.served_kinds();
    let path = request.info.path.trim_end_matches('/');
    let accept = request.parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let json = accept.split(',').any(|c| {
        let media = c.split(';').next().unwrap_or_default().trim();
        matches!(media, "application/json" | "*/*" | "application/*")
    });
    if !json {
        return Err(Status::new(406, "NotAcceptable", "OpenAPI documents are served as application/json"));
    }
    let document = match path {
        "/openapi/v2" => server.openapi.document(path, &kinds, || Some(openapi::v2(&kinds))),
        "/openapi/v3" => server.openapi.document(path, &kinds, || {
            // Clients cache a group's document under this hash, so it must change with the kinds of the group.
            Some(openapi::v3_root(&kinds, |group_version| {
                let of_group = kinds.iter().filter(|k| k.group_version().to_string() == group_version);
                let text: String = of_group.map(|k| format!("{:p};", Arc::as_ptr(k))).collect();
                format!("{:016X}", fingerprint(text.as_bytes()))
            }))
        }),
        _ => {
            let group_version = path.strip_prefix("/openapi/v3/").unwrap_or_default();
            let group_version = group_version.strip_prefix("apis/").or_else(|| group_version.strip_prefix("api/"));
            let Some(group_version) = group_version else { return Ok(pipeline::page_not_found()) };
            server.openapi.document(path, &kinds, || openapi::v3(&kinds, group_version))
        }
    };
    let Some((bytes, hash)) = document else { return Ok(pipeline::page_not_found()) };
    let tag = format!("\"{hash:016X}\"");
    let known = request.parts.headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = if known {
        respond::respond(304, "application/json", respond::full(""))
    } else {
        respond::respond(200, "application/json", respond::full(bytes))
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}
