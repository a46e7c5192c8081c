//! Get and list.

use std::sync::Arc;

use apimachinery::selector::FieldSelector;
use apimachinery::{Kind, SmolStr, Status, Value};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::Engine;
use crate::cache::{Cache, Entry};
use crate::catalog::Resource;
use crate::cx::Cx;
use crate::evolve::{self, LateFields};
use crate::options::{ListOptions, ResourceVersionMatch, Target};
use crate::stored::{Body, Object};

/// How long a read waits for a revision that this server has not seen yet.
const FRESH_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// One page of a list.
pub struct Page {
    /// In the storage version.
    pub objects: Vec<Object>,
    pub revision: i64,
    /// Empty on the last page.
    pub continue_token: String,
    pub remaining: Option<i64>,
}

/// Where a list goes on: the revision of its first page and the last key given.
#[derive(serde::Serialize)]
struct Continue {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: i64,
    start: String,
}

impl Continue {
    fn encode(revision: i64, start: &str) -> String {
        let token = Continue { version: "meta.k8s.io/v1".into(), revision, start: start.into() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Continue, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            bad(&format!(": illegal base64 data at input byte {at}"))
        })?;
        let tree = apimachinery::codec::json::parse(&bytes).map_err(|error| bad(&format!(": {error}")))?;
        let version = tree.str_at(&["v"]).unwrap_or_default();
        if version != "meta.k8s.io/v1" {
            return Err(bad(&format!(": server does not recognize this encoded version {version}")));
        }
        let revision = tree.get("rv").and_then(Value::as_i64).unwrap_or(0);
        if revision == 0 {
            return Err(bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        let start = tree.str_at(&["start"]).unwrap_or_default();
        if start.is_empty() {
            return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A key that leads elsewhere is none of ours.
        if start.trim_start_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad(&format!(": {start}")));
        }
        Ok(Continue { version: version.into(), revision, start: start.into() })
    }
}

/// A field selector may only name fields that the kind lists.
pub(crate) fn check_fields(fields: &FieldSelector, kind: &Kind) -> Result<(), Status> {
    fields.check(kind).map_err(|error| Status::bad_request(error.to_string()))
}

impl Engine {
    /// The resource of a target and its cache.
    pub(crate) fn resource_cache(&self, target: &Target) -> Result<(Arc<Resource>, Arc<Cache>), Status> {
        let kind = &target.kind;
        let resource = self
            .catalog
            .get(&kind.group, &kind.resource)
            .ok_or_else(|| Status::not_found(&kind.group_resource(), &target.name))?;
        let cache = self.feed.cache(&resource.prefix);
        Ok((resource, cache))
    }

    /// Waits until lists and watches show everything that was acknowledged before this call.
    pub(crate) async fn caught_up(&self) -> Result<(), Status> {
        let revision = self.store.read_revision().await.map_err(crate::store_error)?;
        self.wait_for(revision).await
    }

    /// Waits for a revision to be shown; 504 when it does not come.
    pub(crate) async fn wait_for(&self, revision: i64) -> Result<(), Status> {
        let mut published = self.feed.published();
        let wait = published.wait_for(|r| *r >= revision);
        match tokio::time::timeout(FRESH_WITHIN, wait).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Status::service_unavailable("the server is shutting down")),
            Err(_) => {
                let current = self.revision();
                let mut status = Status::new(
                    504,
                    "Timeout",
                    format!("Timeout: Too large resource version: {revision}, current: {current}"),
                );
                status.details = Some(Box::new(apimachinery::status::Details {
                    retry_after_seconds: 1,
                    causes: vec![apimachinery::status::Cause {
                        reason: "ResourceVersionTooLarge".into(),
                        message: "Too large resource version".into(),
                        ..Default::default()
                    }],
                    ..Default::default()
                }));
                Err(status)
            }
        }
    }

    /// The newest committed object, in its storage version.
    pub async fn get(&self, _cx: &Cx, target: &Target) -> Result<Object, Status> {
        let (object, key) = self.current(target).await?;
        let object = object.ok_or_else(|| Status::not_found(&target.kind.group_resource(), &target.name))?;
        // The cache may be behind; when it is not, its entry keeps the forms that were asked for before.
        let (resource, cache) = self.resource_cache(target)?;
        let below = &key["/registry/".len() + resource.prefix.len() + 1..];
        let entry = std::str::from_utf8(below).ok().and_then(|below| cache.get(below));
        Ok(match entry {
            Some(entry) if entry.revision == object.revision => entry.object(&object.kind),
            _ => object,
        })
    }

    /// The key of a target's object in the store.
    pub(crate) fn key(resource: &Resource, target: &Target) -> Bytes {
        let mut key = format!("/registry/{}/", resource.prefix);
        if target.kind.namespaced {
            key.push_str(&target.namespace);
            key.push('/');
        }
        key.push_str(&target.name);
        Bytes::from(key)
    }

    /// The stored object of a target, if it exists, and its key.
    pub(crate) async fn current(&self, target: &Target) -> Result<(Option<Object>, Bytes), Status> {
        let (resource, _) = self.resource_cache(target)?;
        let key = Engine::key(&resource, target);
        let stored = resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource has no objects"))?;
        let object = match self.store.get(&key).await.map_err(crate::store_error)? {
            Some(kv) => {
                let body = Body::open(&key, &kv.value, &*self.sealer)?;
                Some(Object::new(stored, kv.mod_revision, body))
            }
            None => None,
        };
        Ok((object, key))
    }

    /// The tree of an object in the version that the client speaks, with resourceVersion.
    pub async fn tree(&self, object: &Object, kind: &Kind) -> Result<Value, Status> {
        self.convert(object.tree()?, &object.kind, kind).await
    }

    /// A tree in another version of its resource.
    pub(crate) async fn convert(&self, tree: Value, from: &Kind, to: &Kind) -> Result<Value, Status> {
        evolve::convert(&*self.converter, tree, from, to).await
    }

    /// Lists a resource, one page.
    pub async fn list(&self, _cx: &Cx, target: &Target, options: &ListOptions) -> Result<Page, Status> {
        let (resource, cache) = self.resource_cache(target)?;
        let stored = resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource cannot be listed"))?;
        let mut fields = options.fields.clone();
        check_fields(&fields, &target.kind)?;
        if !target.name.is_empty() {
            fields.require("metadata.name", &target.name);
        }
        let late = LateFields::split(&mut fields, &stored, &target.kind, &self.converter);
        if let Some(late) = late {
            return self.list_late(target, options, fields, &late).await;
        }
        let takes = |entry: &Entry| entry.matches(&options.labels, &fields, &stored);
        if !options.continue_token.is_empty() {
            if options.resource_version.is_some_and(|r| r != 0) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Continue::decode(&options.continue_token)?;
            if token.revision > 0 && token.revision != self.revision() {
                return self
                    .list_at(&resource, &stored, target, token.revision, Some(&token.start), options, &fields)
                    .await;
            }
            if token.revision > 0 {
                // Nothing has happened since: the cache is that revision.
            } else {
                self.caught_up().await?;
            }
            return Ok(self.page(&cache, &stored, target, Some(&token.start), options, takes));
        }
        match (options.resource_version, options.version_match) {
            (Some(revision), Some(ResourceVersionMatch::Exact)) if revision > 0 => {
                self.wait_for(revision).await?;
                return self.list_at(&resource, &stored, target, revision, None, options, &fields).await;
            }
            // A limit with an exact-looking revision and no match is served from the newest, as "not older than".
            (Some(revision), _) => self.wait_for(revision).await?,
            (None, _) => self.caught_up().await?,
        }
        Ok(self.page(&cache, &stored, target, None, options, takes))
    }

    /// A page whose field selector can be judged only when objects are in the version that the client speaks: all that
    /// the other selectors take are read, and as many as the page may hold are given.
    async fn list_late(
        &self,
        target: &Target,
        options: &ListOptions,
        fields: FieldSelector,
        late: &LateFields,
    ) -> Result<Page, Status> {
        let wide = ListOptions { fields, limit: 0, ..options.clone() };
        let mut page = Box::pin(self.list(&Cx::default(), target, &wide)).await?;
        let mut found = Vec::new();
        let mut last = None;
        for object in page.objects {
            if !late.takes(&object).await? {
                continue;
            }
            if options.limit > 0 && found.len() >= options.limit {
                let tree = last.as_ref().map(Object::tree).transpose()?.unwrap_or_default();
                let part = |name| tree.str_at(&["metadata", name]).unwrap_or_default();
                let below = match part("namespace") {
                    "" => part("name").to_string(),
                    namespace => format!("{namespace}/{}", part("name")),
                };
                page.continue_token = Continue::encode(page.revision, &below);
                break;
            }
            last = Some(object.clone());
            found.push(object);
        }
        page.objects = found;
        page.remaining = None;
        Ok(page)
    }

    /// A page out of the cache.
    fn page(
        &self,
        cache: &Cache,
        stored: &Arc<Kind>,
        target: &Target,
        after: Option<&str>,
        options: &ListOptions,
        takes: impl Fn(&Entry) -> bool,
    ) -> Page {
        // Read first: entries may be newer than the revision said, never older, and a watch from it misses nothing.
        let revision = self.revision();
        let (entries, more) = cache.list(&target.namespace, after, options.limit, takes);
        let continue_token = match (more, entries.last()) {
            (1.., Some(last)) => Continue::encode(revision, &last.key),
            _ => String::new(),
        };
        let selective = !options.labels.is_everything() || !options.fields.is_everything();
        Page {
            objects: entries.iter().map(|e| e.object(stored)).collect(),
            revision,
            remaining: (more > 0 && !selective).then_some(more as i64),
            continue_token,
        }
    }

    /// A page at an older revision, out of the store.
    async fn list_at(
        &self,
        resource: &Resource,
        stored: &Arc<Kind>,
        target: &Target,
        revision: i64,
        after: Option<&str>,
        options: &ListOptions,
        fields: &FieldSelector,
    ) -> Result<Page, Status> {
        let prefix = format!("/registry/{}/", resource.prefix);
        let scope = if target.namespace.is_empty() { prefix.clone() } else { format!("{prefix}{}/", target.namespace) };
        let start = match after {
            // The first key after it: the same key with a zero byte.
            Some(key) => Bytes::from(format!("{prefix}{key}\0")),
            None => Bytes::from(scope.clone()),
        };
        let result = self
            .store
            .range(store::RangeRequest::between(start, store::prefix_end(scope.as_bytes())).at(revision))
            .await;
        let range = match result {
            Ok(range) => range,
            Err(error) if error.is_compacted() => {
                return Err(self.compacted_page(after, revision));
            }
            Err(error) => return Err(crate::store_error(error)),
        };
        let mut objects = Vec::new();
        let mut last = SmolStr::default();
        let mut more = 0i64;
        for kv in range.kvs {
            let body = Body::open(&kv.key, &kv.value, &*self.sealer)?;
            let below = std::str::from_utf8(&kv.key[prefix.len()..]).unwrap_or_default();
            let entry = Entry::new(SmolStr::new(below), kv.mod_revision, body)?;
            if !entry.matches(&options.labels, fields, stored) {
                continue;
            }
            if options.limit > 0 && objects.len() >= options.limit {
                more += 1;
                continue;
            }
            last = entry.key.clone();
            objects.push(entry.object(stored));
        }
        let continue_token = if more > 0 { Continue::encode(revision, &last) } else { String::new() };
        let selective = !options.labels.is_everything() || !fields.is_everything();
        Ok(Page { objects, revision, continue_token, remaining: (more > 0 && !selective).then_some(more) })
    }

    /// 410 for a page whose revision is gone, with a token that goes on inconsistently.
    fn compacted_page(&self, after: Option<&str>, revision: i64) -> Status {
        match after {
            None => Status::expired(format!("The resourceVersion for the provided list is too old: {revision}.")),
            Some(start) => {
                let mut status = Status::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a \
                     new list without the continue parameter, or use the continue token in this response to retrieve \
                     the remainder of the results. Continuing with the provided token results in an inconsistent list \
                     - objects that were created, modified, or deleted between the time the first chunk was returned \
                     and now may show up in the list.",
                );
                status.continue_token = Some(Continue::encode(-1, start));
                status
            }
        }
    }
}

impl Engine {
    /// How many objects each stored resource has.
    pub fn counts(&self) -> Vec<(String, usize)> {
        let stored = self.catalog.all().into_iter().filter(|r| r.storage.is_some());
        stored.map(|r| (r.group_resource.to_string(), self.feed.cache(&r.prefix).len())).collect()
    }

    /// A shared tree in another version of its resource; the same tree when there is nothing to convert.
    pub async fn convert_shared(&self, tree: Arc<Value>, from: &Kind, to: &Kind) -> Result<Value, Status> {
        let tree = Arc::try_unwrap(tree).unwrap_or_else(|shared| Value::clone(&shared));
        self.convert(tree, from, to).await
    }
}
