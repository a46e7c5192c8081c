//! The API for components in this process: no TLS, no HTTP, no copies of bytes, but the same authorization and
//! admission as for anyone else.

use std::sync::Arc;

use apimachinery::kind::Verbs;
use apimachinery::{Map, Status, Value};
use bytes::Bytes;
use client::backend::BoxFuture;
use client::{Backend, Body, EventKind, PatchKind, Query, Request, Served, Verb, WatchEvent, WatchStream};
use engine::{
    Change, Cx, Deleted, ListOptions, Notice, Object, Patch, PatchType, Target, User, Validation, WatchOptions,
    WriteOptions, scale,
};

use crate::pipeline;
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// The in-process backend of one identity.
pub struct Local {
    server: Arc<ApiServer>,
    user: Arc<User>,
}

impl Local {
    /// A backend that acts as a user, whose permissions are those that RBAC gives the user.
    pub fn new(server: Arc<ApiServer>, name: &str, groups: &[&str]) -> Local {
        let mut groups: Vec<apimachinery::SmolStr> = groups.iter().map(|g| (*g).into()).collect();
        groups.push("system:authenticated".into());
        Local { server, user: Arc::new(User { name: name.into(), groups, ..User::default() }) }
    }

    fn info(request: &Request, verb: &str) -> RequestInfo {
        let mut info = RequestInfo {
            verb: verb.into(),
            is_resource: true,
            prefix: if request.resource.group.is_empty() { "api".into() } else { "apis".into() },
            group: request.resource.group.clone(),
            version: request.resource.version.clone(),
            namespace: request.namespace.clone(),
            resource: request.resource.resource.clone(),
            subresource: request.subresource.clone(),
            name: request.name.clone(),
            ..RequestInfo::default()
        };
        let fields = request.query.field_selector.as_str();
        if matches!(verb, "list" | "watch" | "deletecollection") && !fields.is_empty() {
            info.query.push(("fieldSelector".into(), fields.into()));
            info.name_by_selector();
        }
        info
    }

    async fn target(&self, request: &Request, verb: &str) -> Result<Target, Status> {
        let info = Local::info(request, verb);
        pipeline::authorize(&self.server, &self.user, &info).await?;
        let r = &request.resource;
        let kind = self
            .server
            .engine
            .catalog()
            .kind(&r.group, &r.version, &r.resource)
            .ok_or_else(|| Status::new(404, "NotFound", "the server could not find the requested resource"))?;
        Ok(Target {
            namespace: if kind.namespaced { request.namespace.clone() } else { Default::default() },
            name: request.name.clone(),
            subresource: request.subresource.clone(),
            kind,
        })
    }

    async fn wire(&self, object: &Object, target: &Target) -> Result<Bytes, Status> {
        if object.kind.reads_as(&target.kind) {
            return Ok(object.json());
        }
        let tree = self.server.engine.tree(object, &target.kind).await?;
        Ok(apimachinery::codec::json::encode(&tree, &target.kind.schema))
    }

    async fn call(&self, request: Request) -> Result<Bytes, Status> {
        let verb = match request.verb {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        };
        let target = self.target(&request, verb).await?;
        if target.subresource.is_empty() && !target.kind.verbs.names().contains(&verb) {
            return Err(Status::method_not_supported(&target.kind.group_resource(), verb));
        }
        let cx = Cx::new(self.user.clone());
        let engine = &self.server.engine;
        let options = WriteOptions {
            field_manager: request.query.field_manager.as_str().into(),
            dry_run: request.query.dry_run,
            validation: Validation::Ignore,
            force: request.query.force,
            tree: Value::Map(Map::new()),
        };
        if request.subresource == "scale"
            && let Some(paths) = target.kind.scale.clone()
        {
            return self.scale(&cx, request, target, &paths, &options).await;
        }
        let handled = target.kind.storage == apimachinery::kind::Storage::Virtual
            || target.kind.subresources.iter().any(|s| {
                s.name == target.subresource.as_str() && !matches!(s.action, apimachinery::kind::Action::Fields(_))
            });
        if handled {
            let body = match request.body {
                Body::Object(tree) => tree,
                _ => Value::Null,
            };
            let answer = crate::subresource::post(&self.server, &cx, &target, body, &options).await?;
            return Ok(apimachinery::codec::json::encode_free(&answer));
        }
        match (request.verb, request.body) {
            (Verb::Get, _) => self.wire(&engine.get(&cx, &target).await?, &target).await,
            (Verb::List, _) => {
                let page = engine.list(&cx, &target, &list_options(&request.query)?).await?;
                self.list_wire(&page, &target).await
            }
            (Verb::Create, Body::Object(tree)) => {
                let mut tree = tree;
                engine::decode::settle(&cx, &target.kind, &mut tree, Validation::Ignore)?;
                let target = Target { name: Default::default(), ..target };
                let written = engine.create(&cx, &target, tree, &options).await?;
                self.wire(&written.object, &target).await
            }
            (Verb::Update, Body::Object(tree)) => {
                let mut tree = tree;
                engine::decode::settle(&cx, &target.kind, &mut tree, Validation::Ignore)?;
                let written = engine.update(&cx, &target, tree, &options).await?;
                self.wire(&written.object, &target).await
            }
            (Verb::Patch, Body::Patch(kind, body)) => {
                let kind = match kind {
                    PatchKind::Json => PatchType::Json,
                    PatchKind::Merge => PatchType::Merge,
                    PatchKind::Strategic => PatchType::Strategic,
                    PatchKind::Apply => PatchType::Apply,
                };
                let written = engine.patch(&cx, &target, &Patch { kind, body }, &options).await?;
                self.wire(&written.object, &target).await
            }
            (Verb::Delete, body) => {
                let tree = if let Body::Object(tree) = body { Some(tree) } else { None };
                let options = crate::options::delete(&RequestInfo::default(), tree.as_ref())?;
                match engine.delete(&cx, &target, &options).await? {
                    Deleted::Gone(object) | Deleted::Pending(object) => self.wire(&object, &target).await,
                }
            }
            (Verb::DeleteCollection, body) => {
                let tree = if let Body::Object(tree) = body { Some(tree) } else { None };
                let options = crate::options::delete(&RequestInfo::default(), tree.as_ref())?;
                engine.delete_collection(&cx, &target, &list_options(&request.query)?, &options).await?;
                Ok(Bytes::from_static(b"{}"))
            }
            _ => Err(Status::bad_request("the request has no body")),
        }
    }

    async fn scale(
        &self,
        cx: &Cx,
        request: Request,
        target: Target,
        paths: &apimachinery::kind::Scale,
        options: &WriteOptions,
    ) -> Result<Bytes, Status> {
        let engine = &self.server.engine;
        let object = match (request.verb, request.body) {
            (Verb::Get, _) => engine.get(cx, &target).await?,
            (Verb::Update, Body::Object(wanted)) => {
                let edit = paths.clone();
                let main = Target { subresource: Default::default(), ..target.clone() };
                let change = move |object: &mut Value| scale::set(object, &edit, &wanted);
                engine.edit(cx, &main, options, &change).await?.object
            }
            _ => return Err(Status::bad_request("a scale is read or updated")),
        };
        let view = scale::view(&engine.tree(&object, &target.kind).await?, paths);
        Ok(apimachinery::codec::json::encode_free(&view))
    }

    async fn list_wire(&self, page: &engine::Page, target: &Target) -> Result<Bytes, Status> {
        let mut out = Vec::new();
        out.extend_from_slice(
            format!(
                r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}","continue":"{}"}},"items":["#,
                target.kind.list_kind,
                target.kind.group_version(),
                page.revision,
                page.continue_token
            )
            .as_bytes(),
        );
        for (i, object) in page.objects.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&self.wire(object, target).await?);
        }
        out.extend_from_slice(b"]}");
        Ok(out.into())
    }

    async fn open_watch(&self, request: Request) -> Result<WatchStream, Status> {
        let target = self.target(&request, "watch").await?;
        let cx = Cx::new(self.user.clone());
        let query = &request.query;
        let revision = match query.resource_version.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Status::bad_request(format!("invalid resource version {text:?}")))?),
        };
        let list = list_options(&Query { resource_version: String::new(), ..query.clone() })?;
        let options = WatchOptions {
            labels: list.labels,
            fields: list.fields,
            resource_version: revision,
            send_initial_events: Some(revision.is_none()),
            bookmarks: true,
        };
        let watch = self.server.engine.watch(&cx, &target, options).await?;
        let state = (watch, self.server.clone(), target);
        Ok(Box::pin(futures::stream::unfold(state, |(mut watch, server, target)| async move {
            let notice = watch.next().await?;
            let event = event(&server, &target, &watch, notice).await;
            Some((event, (watch, server, target)))
        })))
    }
}

async fn event(
    server: &ApiServer,
    target: &Target,
    watch: &engine::Watch,
    notice: Notice,
) -> Result<WatchEvent, Status> {
    match notice {
        Notice::Bookmark { revision, ends_initial_events } => {
            let annotations =
                if ends_initial_events { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
            let object = format!(r#"{{"metadata":{{"resourceVersion":"{revision}"{annotations}}}}}"#);
            Ok(WatchEvent { kind: EventKind::Bookmark, object: object.into() })
        }
        Notice::Object { change, entry, revision, .. } => {
            let object = Object::new(watch.stored.clone(), revision, entry.body.clone());
            let json = if watch.stored.reads_as(&target.kind) {
                object.json()
            } else {
                let tree = server.engine.tree(&object, &target.kind).await?;
                apimachinery::codec::json::encode(&tree, &target.kind.schema)
            };
            let kind = match change {
                Change::Added => EventKind::Added,
                Change::Modified => EventKind::Modified,
                Change::Deleted => EventKind::Deleted,
            };
            Ok(WatchEvent { kind, object: json })
        }
    }
}

fn list_options(query: &Query) -> Result<ListOptions, Status> {
    let mut info = RequestInfo::default();
    for (key, value) in [
        ("labelSelector", &query.label_selector),
        ("fieldSelector", &query.field_selector),
        ("resourceVersion", &query.resource_version),
        ("resourceVersionMatch", &query.resource_version_match),
        ("continue", &query.continue_token),
    ] {
        if !value.is_empty() {
            info.query.push((key.into(), value.clone()));
        }
    }
    if query.limit > 0 {
        info.query.push(("limit".into(), query.limit.to_string()));
    }
    crate::options::list(&info)
}

impl Backend for Local {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(self.call(request))
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(self.open_watch(request))
    }

    fn resources(&self) -> BoxFuture<'_, Result<Vec<Served>, Status>> {
        Box::pin(async move {
            let all = self.server.engine.catalog().all();
            let served = all.iter().map(|resource| {
                let kind = resource.preferred();
                let can = |verbs: Verbs| kind.verbs.has(verbs);
                Served {
                    resource: kind.gvr(),
                    kind: kind.kind.as_ref().into(),
                    namespaced: kind.namespaced,
                    collectable: can(Verbs::LIST.with(Verbs::WATCH).with(Verbs::DELETE)),
                    in_collections: can(Verbs::DELETE_COLLECTION),
                }
            });
            Ok(served.collect())
        })
    }
}
