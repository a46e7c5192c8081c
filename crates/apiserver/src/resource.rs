//! What a verb on a resource does.

use std::sync::Arc;

use apimachinery::{Kind, Status, Value, kind::Action, kind::Storage};
use bytes::Bytes;
use engine::decode::Encoding;
use engine::{Cx, Deleted, Patch, PatchType, Target, Validation, WriteOptions, Written, scale};
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};

use crate::options;
use crate::pipeline::Request;
use crate::respond::{self, Form, Presenter, Response};
use crate::routes;
use crate::server::ApiServer;

/// A request body may be this long.
pub const MAX_BODY: usize = 3 << 20;
/// How long a client whose body is refused may go on sending.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Answers a request for a resource.
pub async fn handle(server: &Arc<ApiServer>, cx: &Cx, request: Request) -> Result<Response, Status> {
    let info = &request.info;
    let kind = server.engine.catalog().kind(&info.group, &info.version, &info.resource);
    // The group without a name is that of the other prefix.
    let kind = kind.filter(|kind| (info.prefix == "api") == kind.group.is_empty() && routes::in_scope(kind, info));
    let Some(kind) = kind else { return routes::nowhere(server, &info.path) };
    routes::check(&kind, info, &request.parts.headers)?;
    routes::check_name(info)?;
    if !kind.deprecation_warning.is_empty() {
        cx.warn(kind.deprecation_warning.to_string());
    }
    let target = Target {
        namespace: if kind.namespaced { info.namespace.clone() } else { Default::default() },
        name: info.name.clone(),
        subresource: info.subresource.clone(),
        kind: kind.clone(),
    };
    if !info.subresource.is_empty() {
        return subresource(server, cx, request, target).await;
    }
    if is_virtual(&kind) {
        return crate::subresource::review(server, cx, request, target).await;
    }
    let form = Form::negotiate(&request.parts.headers, info, kind.protobuf)?;
    let presenter = Presenter { engine: &server.engine, kind: &kind, form, now: server.now() };
    match info.verb.as_str() {
        "get" => {
            options::get(info)?;
            presenter.object(200, &server.engine.get(cx, &target).await?).await
        }
        "list" => {
            // The name of a list comes from a field selector, for authorization alone; the selector filters.
            let target = Target { name: Default::default(), ..target };
            let page = server.engine.list(cx, &target, &options::list(info)?).await?;
            presenter.page(&page).await
        }
        "watch" => {
            let named = request.parts.uri.path().contains("/watch/");
            let target = Target { name: if named { target.name } else { Default::default() }, ..target };
            crate::watch::serve(server, cx, &target, info, form).await
        }
        "create" => {
            let options = options::write(info, &request.parts.headers, "CreateOptions")?;
            let tree = read_object(cx, request, &kind, options.validation).await?;
            let written = server.engine.create(cx, &target, tree, &options).await?;
            answer(&presenter, &written, &options).await
        }
        "update" => {
            let options = options::write(info, &request.parts.headers, "UpdateOptions")?;
            let tree = read_object(cx, request, &kind, options.validation).await?;
            let written = server.engine.update(cx, &target, tree, &options).await?;
            answer(&presenter, &written, &options).await
        }
        "patch" => {
            let (patch, options) = read_patch(cx, request, &kind).await?;
            let written = server.engine.patch(cx, &target, &patch, &options).await?;
            answer(&presenter, &written, &options).await
        }
        "delete" => {
            let info = info.clone();
            let body = read_delete_options(request).await?;
            let options = options::delete(&info, body.as_ref())?;
            match server.engine.delete(cx, &target, &options).await? {
                Deleted::Pending(object) => presenter.object(200, &object).await,
                Deleted::Gone(object) if kind.returns_deleted => presenter.object(200, &object).await,
                Deleted::Gone(object) => Ok(deleted(&kind, &object.tree()?, presenter.form)),
            }
        }
        "deletecollection" => {
            let info = info.clone();
            let body = read_delete_options(request).await?;
            let options = options::delete(&info, body.as_ref())?;
            let target = Target { name: Default::default(), ..target };
            let objects = server.engine.delete_collection(cx, &target, &options::list(&info)?, &options).await?;
            let page = engine::Page {
                objects,
                revision: server.engine.revision(),
                continue_token: String::new(),
                remaining: None,
            };
            presenter.page(&page).await
        }
        _ => Err(routes::method_not_allowed()),
    }
}

fn is_virtual(kind: &Kind) -> bool {
    kind.storage == Storage::Virtual
}

/// A write's answer: 201 for what was created.
async fn answer(presenter: &Presenter<'_>, written: &Written, options: &WriteOptions) -> Result<Response, Status> {
    let code = if written.created { 201 } else { 200 };
    if options.dry_run && written.created {
        // A created object that is not stored has no revision to say.
        let mut tree = presenter.engine.tree(&written.object, presenter.kind).await?;
        if let Some(metadata) = tree.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Value::as_map_mut) {
            metadata.remove("resourceVersion");
        }
        return presenter.tree(code, tree);
    }
    presenter.object(code, &written.object).await
}

/// The Status that ends a successful delete.
fn deleted(kind: &Kind, object: &Value, form: Form) -> Response {
    let mut status = Status::new(200, "", "");
    let text = |key: &str| object.str_at(&["metadata", key]).unwrap_or_default().to_string();
    status.details = Some(Box::new(apimachinery::status::Details {
        name: text("name"),
        group: kind.group.to_string(),
        kind: kind.resource.to_string(),
        uid: text("uid"),
        ..Default::default()
    }));
    respond::error(&status, Form { view: respond::View::Whole, ..form })
}

/// Writes and reads of `status`, `scale` and the subresources that a kind declares.
async fn subresource(server: &Arc<ApiServer>, cx: &Cx, request: Request, target: Target) -> Result<Response, Status> {
    let kind = target.kind.clone();
    let verb = request.info.verb.clone();
    let declared = kind.subresources.iter().find(|s| s.name == target.subresource.as_str());
    let is_status = target.subresource == "status" && kind.status;
    if is_status || matches!(declared.map(|d| d.action), Some(Action::Fields(_))) {
        let form = Form::negotiate(&request.parts.headers, &request.info, kind.protobuf)?;
        let presenter = Presenter { engine: &server.engine, kind: &kind, form, now: server.now() };
        return match verb.as_str() {
            "get" => presenter.object(200, &server.engine.get(cx, &target).await?).await,
            "update" => {
                let options = options::write(&request.info, &request.parts.headers, "UpdateOptions")?;
                let tree = read_object(cx, request, &kind, options.validation).await?;
                answer(&presenter, &server.engine.update(cx, &target, tree, &options).await?, &options).await
            }
            "patch" => {
                let (patch, options) = read_patch(cx, request, &kind).await?;
                answer(&presenter, &server.engine.patch(cx, &target, &patch, &options).await?, &options).await
            }
            _ => Err(routes::method_not_allowed()),
        };
    }
    if target.subresource == "scale"
        && let Some(paths) = kind.scale.clone()
    {
        return scaled(server, cx, request, target, &paths).await;
    }
    match declared {
        Some(_) => crate::subresource::handle(server, cx, request, target).await,
        None => routes::nowhere(server, &request.info.path),
    }
}

/// Reads and writes of the `scale` view.
async fn scaled(
    server: &Arc<ApiServer>,
    cx: &Cx,
    request: Request,
    target: Target,
    paths: &apimachinery::kind::Scale,
) -> Result<Response, Status> {
    let scale_kind = server
        .body_kind("autoscaling", "v1", "Scale")
        .ok_or_else(|| Status::internal("the Scale kind is not known"))?;
    let form = Form::negotiate(&request.parts.headers, &request.info, true)?;
    let presenter = Presenter { engine: &server.engine, kind: &scale_kind, form, now: server.now() };
    let current = server.engine.get(cx, &target).await?;
    let view = scale::view(&server.engine.tree(&current, &target.kind).await?, paths);
    let (wanted, options) = if request.info.verb == "get" {
        return presenter.tree(200, view);
    } else if request.info.verb == "update" {
        let options = options::write(&request.info, &request.parts.headers, "UpdateOptions")?;
        (read_object(cx, request, &scale_kind, options.validation).await?, options)
    } else if request.info.verb != "patch" {
        return Err(routes::method_not_allowed());
    } else {
        let (patch, options) = read_patch(cx, request, &scale_kind).await?;
        let mut patched = match patch.kind {
            PatchType::Json => apimachinery::patch::json::apply(view.clone(), &patch.body)?,
            PatchType::Strategic => {
                apimachinery::patch::strategic::apply(view.clone(), patch.body.clone(), &scale_kind.schema)?
            }
            // A Scale has no lists, so applying it is merging it.
            PatchType::Merge | PatchType::Apply => apimachinery::patch::merge::apply(view.clone(), patch.body.clone()),
        };
        engine::decode::settle(cx, &scale_kind, &mut patched, options.validation)?;
        // A patch that names no revision is for whatever is there when it is written.
        if patch.kind != PatchType::Json
            && patch.body.at(&["metadata", "resourceVersion"]).is_none()
            && let Some(metadata) = patched.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Value::as_map_mut)
        {
            metadata.remove("resourceVersion");
        }
        (patched, options)
    };
    if wanted.at(&["spec", "replicas"]).and_then(Value::as_i64).is_some_and(|n| n < 0) {
        let mut errors = apimachinery::Errors::new();
        let spec = apimachinery::Path::new("spec");
        errors.invalid(
            &spec.child("replicas"),
            wanted.at(&["spec", "replicas"]).cloned().unwrap_or_default(),
            "must be greater than or equal to 0",
        );
        return Err(Status::invalid(&scale_kind.group_kind(), &target.name, &errors));
    }
    let version = wanted.str_at(&["metadata", "resourceVersion"]).unwrap_or_default().to_string();
    let (paths, resource, name) = (paths.clone(), target.kind.group_resource(), target.name.clone());
    let edit_paths = paths.clone();
    let change = move |object: &mut Value| {
        let current = object.str_at(&["metadata", "resourceVersion"]).unwrap_or_default();
        if !version.is_empty() && version != current {
            return Err(Status::conflict(
                &resource,
                &name,
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        scale::set(object, &edit_paths, &wanted)
    };
    // Managed fields belong to the scale subresource, the write is one of the object itself.
    let target = Target { subresource: Default::default(), ..target };
    let written = server.engine.edit(cx, &target, &options, &change).await?;
    presenter.tree(200, scale::view(&server.engine.tree(&written.object, &target.kind).await?, &paths))
}

/// The whole body, up to the limit.
pub async fn read_body(body: hyper::body::Incoming) -> Result<Bytes, Status> {
    let too_large =
        || Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {MAX_BODY}"));
    // What says beforehand that it is too long need not be read.
    if hyper::body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
        return Err(drained(body, too_large()).await);
    }
    let mut body = body;
    match Limited::new(&mut body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(drained(body, too_large()).await),
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// Takes a little more of a body that is refused: a client that still sends when its connection is closed may lose the
/// answer that says why.
async fn drained(body: hyper::body::Incoming, refusal: Status) -> Status {
    let rest = Limited::new(body, 2 * MAX_BODY);
    let ending = async move {
        let mut rest = std::pin::pin!(rest);
        while let Some(Ok(_)) = rest.frame().await {}
    };
    let _ = tokio::time::timeout(DRAIN, ending).await;
    refusal
}

/// The encoding that a `Content-Type` names; JSON when it names none.
pub fn encoding(headers: &http::HeaderMap) -> Result<Encoding, Status> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if content_type.is_empty() {
        return Ok(Encoding::Json);
    }
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" | "*/*" => Ok(Encoding::Json),
        "application/yaml" | "text/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Status::new(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Reads a body as an object of a kind.
pub async fn read_object(cx: &Cx, request: Request, kind: &Kind, validation: Validation) -> Result<Value, Status> {
    let encoding = encoding(&request.parts.headers)?;
    let bytes = read_body(request.body).await?;
    engine::decode::decode(cx, kind, encoding, &bytes, validation)
}

/// Reads a body as a patch, and its options.
async fn read_patch(cx: &Cx, request: Request, kind: &Kind) -> Result<(Patch, WriteOptions), Status> {
    let header = request.parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = header.split(';').next().unwrap_or_default().trim().to_string();
    let patch_type = match media.as_str() {
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" if kind.protobuf => PatchType::Strategic,
        "application/apply-patch+yaml" => PatchType::Apply,
        _ => {
            let accepted = if kind.protobuf {
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
            } else {
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            };
            return Err(Status::new(
                415,
                "UnsupportedMediaType",
                format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
            ));
        }
    };
    let options = options::patch(&request.info, &request.parts.headers, patch_type == PatchType::Apply)?;
    let bytes = read_body(request.body).await?;
    let mut problems = Vec::new();
    let body = if patch_type == PatchType::Apply {
        apimachinery::codec::yaml::parse_reporting(&bytes, &mut problems)
            .map_err(|e| Status::bad_request(format!("error encoding patch: {e}")))?
    } else {
        apimachinery::codec::json::parse_reporting(&bytes, &mut problems)
            .map_err(|_| Status::bad_request("invalid JSON patch"))?
    };
    let misfit = match (patch_type, &body) {
        (PatchType::Json, body) if body.as_list().is_none() => Some("[]handlers.jsonPatchOp"),
        (PatchType::Merge | PatchType::Strategic, body) if !body.is_map() => Some("map[string]interface {}"),
        _ => None,
    };
    if let Some(wanted) = misfit {
        let found = body.type_name();
        let before = if patch_type == PatchType::Strategic { "" } else { "error decoding patch: " };
        return Err(Status::bad_request(format!(
            "{before}json: cannot unmarshal {found} into Go value of type {wanted}"
        )));
    }
    match (options.validation, patch_type) {
        _ if problems.is_empty() => {}
        (Validation::Ignore, _) => {}
        (Validation::Warn, _) => problems.into_iter().for_each(|problem| cx.warn(problem)),
        (Validation::Strict, PatchType::Apply) => {
            return Err(Status::bad_request(format!("error strict decoding patch: {}", problems.join(", "))));
        }
        (Validation::Strict, _) => {
            let mut errors = apimachinery::Errors::new();
            let why = format!("strict decoding error: {}", problems.join(", "));
            errors.invalid(&apimachinery::Path::new("patch"), String::from_utf8_lossy(&bytes).into_owned(), why);
            return Err(Status::invalid(&apimachinery::GroupKind::default(), "", &errors));
        }
    }
    Ok((Patch { kind: patch_type, body }, options))
}

/// Reads the body of a delete as DeleteOptions, in any encoding; `None` when there is none.
async fn read_delete_options(request: Request) -> Result<Option<Value>, Status> {
    let headers = request.parts.headers;
    let bytes = read_body(request.body).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let schema = apimachinery::codec::delete_options_schema();
    let mut tree = match encoding(&headers)? {
        Encoding::Json => apimachinery::codec::json::parse(&bytes).map_err(|e| Status::bad_request(e.to_string()))?,
        Encoding::Yaml => apimachinery::codec::yaml::parse_reporting(&bytes, &mut Vec::new())
            .map_err(|e| Status::bad_request(e.to_string()))?,
        Encoding::Protobuf => {
            apimachinery::codec::proto::decode_object(&bytes, schema).map_err(|e| Status::bad_request(e.to_string()))?
        }
    };
    if !tree.is_map() && !tree.is_null() {
        return Err(Status::bad_request("the body of a delete must be DeleteOptions"));
    }
    if let Some(kind) = tree.str_at(&["kind"])
        && kind != "DeleteOptions"
    {
        return Err(Status::bad_request(format!("expected DeleteOptions, got {kind}")));
    }
    apimachinery::codec::normalize(&mut tree, schema).map_err(|e| Status::bad_request(e.to_string()))?;
    Ok(Some(tree))
}
