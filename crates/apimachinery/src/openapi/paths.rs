//! Paths and operations of a kind: what clients may call, with which parameters, and what comes back.

use super::Dialect;
use super::schema::Components;
use crate::kind::{Action, Kind, Verbs};
use crate::meta;
use crate::schema::{Api, StructRef, Type};
use crate::value::{Map, Value};

const QUERY_OF_LISTS: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "A watch may send BOOKMARK events, which carry nothing but a resourceVersion."),
    ("continue", "string", "The token with which a previous answer said how the list goes on."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    ("limit", "integer", "The most objects to answer with; more are fetched with the continue token."),
    ("resourceVersion", "string", "Restricts which version of the data the answer may come from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "A watch begins with the present state and ends that part with a bookmark."),
    ("timeoutSeconds", "integer", "How long the call may last."),
    ("watch", "boolean", "Watches for changes instead of listing."),
];

const DRY_RUN: (&str, &str, &str) = ("dryRun", "string", "All: everything is done but storing.");

const FIELD_MANAGER: (&str, &str, &str) = ("fieldManager", "string", "The name under which changed fields are owned.");

const FIELD_VALIDATION: (&str, &str, &str) =
    ("fieldValidation", "string", "What is done about unknown and duplicate fields: Ignore, Warn or Strict.");

const FORCE: (&str, &str, &str) = ("force", "boolean", "An apply takes fields that others own.");

const QUERY_OF_DELETES: &[(&str, &str, &str)] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to end; 0 deletes at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read, without its finalizers.",
    ),
    ("orphanDependents", "boolean", "Deprecated, use propagationPolicy: whether dependents stay."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Finds the schema of a subresource's body.
pub(super) type Bodies<'a> = &'a dyn Fn(&str, &str, &str) -> Option<StructRef>;

pub(super) struct Paths<'c, 'k> {
    pub(super) components: &'c mut Components,
    pub(super) bodies: Bodies<'k>,
    pub(super) paths: Map,
}

/// One operation before it is written in a dialect.
struct Operation<'a> {
    method: &'static str,
    id: String,
    action: &'static str,
    description: String,
    group_version_kind: (&'a str, &'a str, &'a str),
    query: Vec<(&'static str, &'static str, &'static str)>,
    /// Reference to the body's schema, and whether a body must come.
    body: Option<(Value, bool)>,
    /// Reference to the answer's schema and the codes that it comes with.
    answer: Option<Value>,
    codes: &'static [(&'static str, &'static str)],
}

const OK: &[(&str, &str)] = &[("200", "OK")];
const OK_OR_CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

impl Paths<'_, '_> {
    /// All paths of a kind. `object` and `list` are references to its schemas.
    pub(super) fn add(&mut self, kind: &Kind, object: &Value, list: &Value) {
        let root = root(kind);
        let plural = &kind.resource;
        let has = |verb| kind.verbs.has(verb);
        let gvk = (&*kind.group, &*kind.version, &*kind.kind);
        let name = &kind.kind;
        let scope = if kind.namespaced { "Namespaced" } else { "" };
        let id = |verb: &str, rest: String| format!("{verb}{}{rest}", id_prefix(kind));
        let status = self.meta::<meta::Status>();
        let delete_options = self.meta::<meta::DeleteOptions>();

        let collection = if kind.namespaced {
            format!("{root}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("{root}/{plural}")
        };
        let mut at_collection = Vec::new();
        if has(Verbs::LIST) {
            at_collection.push(Operation {
                method: "get",
                id: id("list", format!("{scope}{name}")),
                action: "list",
                description: format!("list or watch objects of kind {name}"),
                group_version_kind: gvk,
                query: QUERY_OF_LISTS.to_vec(),
                body: None,
                answer: Some(list.clone()),
                codes: OK,
            });
        }
        if has(Verbs::CREATE) {
            at_collection.push(Operation {
                method: "post",
                id: id("create", format!("{scope}{name}")),
                action: "post",
                description: format!("create a {name}"),
                group_version_kind: gvk,
                query: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
                body: Some((object.clone(), true)),
                answer: Some(object.clone()),
                codes: CREATED,
            });
        }
        if has(Verbs::DELETE_COLLECTION) {
            let lists = QUERY_OF_LISTS.iter().filter(|q| !matches!(q.0, "allowWatchBookmarks" | "watch"));
            at_collection.push(Operation {
                method: "delete",
                id: id("delete", format!("Collection{scope}{name}")),
                action: "deletecollection",
                description: format!("delete collection of {name}"),
                group_version_kind: gvk,
                query: QUERY_OF_DELETES.iter().chain(lists).copied().collect(),
                body: Some((delete_options.clone(), false)),
                answer: Some(status.clone()),
                codes: OK,
            });
        }
        self.path(kind, &collection, false, at_collection);

        if kind.namespaced && has(Verbs::LIST) {
            let everywhere = Operation {
                method: "get",
                id: id("list", format!("{name}ForAllNamespaces")),
                action: "list",
                description: format!("list or watch objects of kind {name}"),
                group_version_kind: gvk,
                query: QUERY_OF_LISTS.to_vec(),
                body: None,
                answer: Some(list.clone()),
                codes: OK,
            };
            self.path(kind, &format!("{root}/{plural}"), false, vec![everywhere]);
        }

        let item = format!("{collection}/{{name}}");
        let mut at_item = self.item_operations(kind, "", "the specified ", kind.verbs, gvk, object);
        if has(Verbs::DELETE) {
            at_item.push(Operation {
                method: "delete",
                id: id("delete", format!("{scope}{name}")),
                action: "delete",
                description: format!("delete a {name}"),
                group_version_kind: gvk,
                query: QUERY_OF_DELETES.to_vec(),
                body: Some((delete_options, false)),
                answer: Some(if kind.returns_deleted { object.clone() } else { status }),
                codes: DELETED,
            });
        }
        self.path(kind, &item, true, at_item);
        self.subresources(kind, &item, object);
    }

    fn subresources(&mut self, kind: &Kind, item: &str, object: &Value) {
        let write = Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH);
        let gvk = (&*kind.group, &*kind.version, &*kind.kind);
        let listed = |name: &str| kind.subresources.iter().any(|s| s.name == name);
        if kind.status && !listed("status") {
            let operations = self.item_operations(kind, "Status", "status of the specified ", write, gvk, object);
            self.path(kind, &format!("{item}/status"), true, operations);
        }
        if kind.scale.is_some() && !listed("scale") {
            let gvk = ("autoscaling", "v1", "Scale");
            let body = self.body(gvk).unwrap_or_else(|| object.clone());
            let operations = self.item_operations(kind, "Scale", "scale of the specified ", write, gvk, &body);
            self.path(kind, &format!("{item}/scale"), true, operations);
        }
        for sub in kind.subresources.iter() {
            let gvk = match &sub.body {
                Some((group, version, kind)) => (&**group, &**version, &**kind),
                None => gvk,
            };
            let camel = capitalised(&sub.name);
            let id = |verb: &str| {
                let scope = if kind.namespaced { "Namespaced" } else { "" };
                format!("{verb}{}{scope}{}{camel}", id_prefix(kind), kind.kind)
            };
            let path = format!("{item}/{}", sub.name);
            if matches!(sub.action, Action::Connect) {
                let methods = [
                    (Verbs::GET, "get", "Get"),
                    (Verbs::CREATE, "post", "Post"),
                    (Verbs::UPDATE, "put", "Put"),
                    (Verbs::DELETE, "delete", "Delete"),
                    (Verbs::PATCH, "patch", "Patch"),
                ];
                let operations =
                    methods.into_iter().filter(|(verb, ..)| sub.verbs.has(*verb)).map(|(_, method, word)| {
                        let connect =
                            id("connect").replacen(id_prefix(kind).as_str(), &format!("{}{word}", id_prefix(kind)), 1);
                        Operation {
                            method,
                            id: connect,
                            action: "connect",
                            description: format!(
                                "connect {} requests to {} of {}",
                                word.to_uppercase(),
                                sub.name,
                                kind.kind
                            ),
                            group_version_kind: gvk,
                            query: Vec::new(),
                            body: None,
                            answer: None,
                            codes: OK,
                        }
                    });
                let operations = operations.collect();
                self.path(kind, &path, true, operations);
                continue;
            }
            let body = match &sub.body {
                Some(_) => self.body(gvk).unwrap_or_else(|| object.clone()),
                None => object.clone(),
            };
            let words = format!("{} of the specified ", sub.name);
            let mut operations = self.item_operations(kind, &camel, &words, sub.verbs, gvk, &body);
            if sub.verbs.has(Verbs::CREATE) {
                operations.push(Operation {
                    method: "post",
                    id: id("create"),
                    action: "post",
                    description: format!("create {} of a {}", sub.name, kind.kind),
                    group_version_kind: gvk,
                    query: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
                    body: Some((body.clone(), true)),
                    answer: Some(body),
                    codes: CREATED,
                });
            }
            self.path(kind, &path, true, operations);
        }
    }

    /// Read, replace and patch.
    fn item_operations<'g>(
        &mut self,
        kind: &Kind,
        suffix: &str,
        words: &str,
        verbs: Verbs,
        gvk: (&'g str, &'g str, &'g str),
        body: &Value,
    ) -> Vec<Operation<'g>> {
        let scope = if kind.namespaced { "Namespaced" } else { "" };
        let name = &kind.kind;
        let id = |verb: &str| format!("{verb}{}{scope}{name}{suffix}", id_prefix(kind));
        let mut out = Vec::new();
        if verbs.has(Verbs::GET) {
            out.push(Operation {
                method: "get",
                id: id("read"),
                action: "get",
                description: format!("read {words}{name}"),
                group_version_kind: gvk,
                query: Vec::new(),
                body: None,
                answer: Some(body.clone()),
                codes: OK,
            });
        }
        if verbs.has(Verbs::UPDATE) {
            out.push(Operation {
                method: "put",
                id: id("replace"),
                action: "put",
                description: format!("replace {words}{name}"),
                group_version_kind: gvk,
                query: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
                body: Some((body.clone(), true)),
                answer: Some(body.clone()),
                codes: OK_OR_CREATED,
            });
        }
        if verbs.has(Verbs::PATCH) {
            let patch = self.patch();
            out.push(Operation {
                method: "patch",
                id: id("patch"),
                action: "patch",
                description: format!("partially update {words}{name}"),
                group_version_kind: gvk,
                query: vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
                body: Some((patch, true)),
                answer: Some(body.clone()),
                codes: OK_OR_CREATED,
            });
        }
        out
    }

    fn body(&mut self, (group, version, kind): (&str, &str, &str)) -> Option<Value> {
        let schema = (self.bodies)(group, version, kind)?;
        let name = schema.name.to_string();
        let reference = self.components.add(&schema);
        super::name_kind(self.components, &name, group, version, kind);
        Some(reference)
    }

    fn meta<T: Api>(&mut self) -> Value {
        match T::TYPE {
            Type::Struct(schema) => {
                let name = schema.name.to_string();
                let reference = self.components.add(&schema);
                let kind = name.rsplit('.').next().unwrap_or_default().to_string();
                super::name_kind(self.components, &name, "", "v1", &kind);
                reference
            }
            _ => Value::Null,
        }
    }

    fn patch(&mut self) -> Value {
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
        self.components.named.entry(name.into()).or_insert_with(|| {
            let mut map = Map::new();
            map.insert("description", "The body of a PATCH request.");
            map.insert("type", "object");
            Value::Map(map)
        });
        self.components.reference(name)
    }

    fn path(&mut self, kind: &Kind, path: &str, named: bool, operations: Vec<Operation<'_>>) {
        if operations.is_empty() {
            return;
        }
        let dialect = self.components.dialect;
        let mut shared = Vec::new();
        if named {
            shared.push(parameter(dialect, "name", "path", "string", &format!("name of the {}", kind.kind)));
        }
        if path.contains("{namespace}") {
            shared.push(parameter(dialect, "namespace", "path", "string", "the namespace of the object"));
        }
        shared.push(parameter(dialect, "pretty", "query", "string", "true: the answer is indented"));
        let mut item = Map::new();
        item.insert("parameters", shared);
        for operation in operations {
            item.insert(operation.method, write(dialect, kind, operation));
        }
        self.paths.insert(path, item);
    }
}

fn parameter(dialect: Dialect, name: &str, place: &str, ty: &str, description: &str) -> Value {
    let mut map = Map::new();
    map.insert("name", name);
    map.insert("in", place);
    map.insert("description", description);
    if place == "path" {
        map.insert("required", true);
    }
    match dialect {
        Dialect::V2 => {
            map.insert("type", ty);
            map.insert("uniqueItems", true);
        }
        Dialect::V3 => {
            let mut schema = Map::new();
            schema.insert("type", ty);
            schema.insert("uniqueItems", true);
            map.insert("schema", schema);
        }
    }
    Value::Map(map)
}

fn write(dialect: Dialect, kind: &Kind, operation: Operation<'_>) -> Value {
    let mut media = vec!["application/json", "application/yaml"];
    if kind.protobuf {
        media.push("application/vnd.kubernetes.protobuf");
    }
    if operation.action == "list" {
        media.push("application/json;stream=watch");
        if kind.protobuf {
            media.push("application/vnd.kubernetes.protobuf;stream=watch");
        }
    }
    let patches: Vec<&str> = PATCHES.iter().copied().filter(|p| kind.protobuf || !p.contains("strategic")).collect();
    let consumes = if operation.method == "patch" && operation.action == "patch" { patches } else { vec!["*/*"] };
    let texts = |texts: &[&str]| Value::List(texts.iter().map(|t| Value::from(*t)).collect());
    let content = |media: &[&str], schema: &Value| {
        let mut content = Map::new();
        for media in media {
            let mut entry = Map::new();
            entry.insert("schema", schema.clone());
            content.insert(*media, entry);
        }
        content
    };

    let mut map = Map::new();
    map.insert("operationId", operation.id);
    map.insert("description", operation.description);
    map.insert("tags", vec![Value::from(tag(kind))]);
    map.insert("x-kubernetes-action", operation.action);
    let (group, version, name) = operation.group_version_kind;
    map.insert("x-kubernetes-group-version-kind", super::gvk_value(group, version, name));
    let mut parameters: Vec<Value> =
        operation.query.iter().map(|(name, ty, doc)| parameter(dialect, name, "query", ty, doc)).collect();
    if let Some((schema, required)) = operation.body {
        let mut body = Map::new();
        if required {
            body.insert("required", true);
        }
        match dialect {
            Dialect::V2 => {
                body.insert("name", "body");
                body.insert("in", "body");
                body.insert("schema", schema);
                parameters.insert(0, Value::Map(body));
            }
            Dialect::V3 => {
                body.insert("content", content(&consumes, &schema));
                map.insert("requestBody", body);
            }
        }
    }
    if !parameters.is_empty() {
        map.insert("parameters", parameters);
    }
    let mut responses = Map::new();
    for (code, words) in operation.codes {
        let mut response = Map::new();
        response.insert("description", *words);
        if let Some(schema) = &operation.answer {
            match dialect {
                Dialect::V2 => response.insert("schema", schema.clone()),
                Dialect::V3 => response.insert("content", content(&media, schema)),
            };
        }
        responses.insert(*code, response);
    }
    let mut unauthorized = Map::new();
    unauthorized.insert("description", "Unauthorized");
    responses.insert("401", unauthorized);
    map.insert("responses", responses);
    if dialect == Dialect::V2 {
        map.insert("consumes", texts(&consumes));
        map.insert("produces", texts(&media));
        map.insert("schemes", texts(&["https"]));
    }
    Value::Map(map)
}

/// `/api/v1` or `/apis/<group>/<version>`.
fn root(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    }
}

/// Capitalises what follows anything that is no letter or digit, and drops that.
pub(super) fn camel(text: &str, first: bool) -> String {
    let mut upper = first;
    let mut out = String::new();
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}

fn capitalised(text: &str) -> String {
    camel(text, true)
}

fn group_name(kind: &Kind) -> &str {
    if kind.group.is_empty() { "core" } else { kind.group.trim_end_matches(".k8s.io") }
}

/// `AppsV1`, between the verb and the rest of an operation's id.
fn id_prefix(kind: &Kind) -> String {
    format!("{}{}", camel(group_name(kind), true), camel(&kind.version, true))
}

/// `apps_v1`.
fn tag(kind: &Kind) -> String {
    format!("{}_{}", camel(group_name(kind), false), camel(&kind.version, false))
}
