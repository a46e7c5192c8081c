//! Custom resources: a definition becomes one [`Kind`] per version, and is checked before it may.
//!
//! # Why
//! A custom resource is served by exactly the code that serves built-ins, so everything its definition says is
//! turned into the data that code reads: a [`Struct`] from the schema, columns, paths, names. Nothing else of the
//! definition is needed afterwards, apart from how versions are converted.

mod document;
mod rules;
mod schema;
mod structural;

use std::sync::Arc;

pub use rules::{check_schema, check_selectable};
pub use schema::structural_schema;

pub(crate) use schema::{node, rule};

use crate::discovery::version_order;
use crate::expressions::Validator;
use crate::kind::{Cell, Column, Generation, Hooks, Kind, Scale, Storage, Verbs};
use crate::schema::{StructRef, Text};
use crate::value::Value;
pub(crate) use document::Document;

/// What a definition makes the server serve.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Served versions, the preferred first.
    pub served: Vec<Kind>,
    /// The version whose form is stored; it may be one that is not served.
    pub storage: Kind,
    pub conversion: Conversion,
}

/// How an object gets from one version to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` changes.
    None,
    /// A webhook is asked; its `webhook` object as the definition has it.
    Webhook(Value),
}

/// Turns a definition into kinds. Names are those that the server accepted, where it has.
///
/// # Errors
/// A sentence, when a check of the definition would have refused it.
pub fn define(crd: &Value) -> Result<Definition, String> {
    let spec = Document::of(crd.get("spec"));
    let accepted = Document::of(crd.at(&["status", "acceptedNames"]));
    let names = if accepted.text("kind").is_empty() { spec.object("names") } else { accepted };
    if spec.text("group").is_empty() || names.text("plural").is_empty() || names.text("kind").is_empty() {
        return Err("a definition needs a group, a plural name and a kind".into());
    }
    let (mut served, mut storage) = (Vec::new(), None);
    for version in spec.documents("versions") {
        let kind = version_kind(&spec, &names, &version)?;
        if version.flag("storage") {
            storage = Some(kind.clone());
        }
        if version.flag("served") {
            served.push(kind);
        }
    }
    served.sort_by(|a, b| version_order(&a.version, &b.version));
    let conversion = spec.object("conversion");
    Ok(Definition {
        served,
        storage: storage.ok_or("a definition needs a storage version")?,
        conversion: match conversion.text("strategy") {
            "Webhook" => Conversion::Webhook(conversion.value("webhook").cloned().unwrap_or_default()),
            _ => Conversion::None,
        },
    })
}

fn texts(document: &Document<'_>, key: &str) -> Vec<Text> {
    document.list(key).iter().filter_map(Value::as_str).map(|s| Text::from(s.to_string())).collect()
}

fn version_kind(spec: &Document<'_>, names: &Document<'_>, version: &Document<'_>) -> Result<Kind, String> {
    let owned = |text: &str| Text::from(text.to_string());
    let (group, plural, kind) = (spec.text("group"), names.text("plural"), names.text("kind"));
    let name = version.text("name");
    let schema = version.object("schema").object("openAPIV3Schema");
    let shape = Arc::new(structural_schema(version.object("schema").value("openAPIV3Schema"))?);
    let rules: Vec<_> = schema.documents("x-kubernetes-validations").map(|r| rule(&r)).collect();
    let validator = Validator::of(&shape, &rules);
    let subresources = version.object("subresources");
    let scale = subresources.value("scale").map(|scale| {
        let scale = Document::of(Some(scale));
        Scale {
            spec_replicas: owned(scale.text("specReplicasPath")),
            status_replicas: owned(scale.text("statusReplicasPath")),
            label_selector: owned(scale.text("labelSelectorPath")),
        }
    });
    let deprecation_warning = match (version.flag("deprecated"), version.text("deprecationWarning")) {
        (false, _) => Text::from(""),
        (true, "") => Text::from(format!("{group}/{name} {kind} is deprecated")),
        (true, text) => owned(text),
    };
    let list_kind = match names.text("listKind") {
        "" => Text::from(format!("{kind}List")),
        text => owned(text),
    };
    let singular = match names.text("singular") {
        "" => Text::from(kind.to_lowercase()),
        text => owned(text),
    };
    Ok(Kind {
        group: owned(group),
        version: owned(name),
        kind: owned(kind),
        list_kind,
        resource: owned(plural),
        singular,
        short_names: texts(names, "shortNames").into(),
        categories: texts(names, "categories").into(),
        namespaced: spec.text("scope") == "Namespaced",
        schema: StructRef::Shared(shape),
        verbs: Verbs::ALL,
        storage: Storage::Stored { prefix: format!("{group}/{plural}").into(), storage: version.flag("storage") },
        generation: Generation::OnContent,
        status: subresources.value("status").is_some(),
        scale,
        subresources: Vec::new().into(),
        columns: columns(version),
        selectable: version
            .documents("selectableFields")
            .map(|f| owned(f.text("jsonPath").trim_start_matches('.')))
            .collect(),
        grace: None,
        held: None,
        begin_delete: None,
        returns_deleted: false,
        status_writes_metadata: false,
        ttl_seconds: None,
        prune: !spec.flag("preserveUnknownFields"),
        evolves: true,
        protobuf: false,
        create_on_update: false,
        conditional_update: true,
        hooks: Hooks::NONE,
        expressions: validator.map(Arc::new),
        example: "",
        deprecation_warning,
    })
}

/// The columns that a version declares, or its age.
fn columns(version: &Document<'_>) -> Vec<Column> {
    let declared: Vec<Column> = version
        .documents("additionalPrinterColumns")
        .map(|column| Column {
            name: column.text("name").to_string().into(),
            ty: column.text("type").to_string().into(),
            format: column.text("format").to_string().into(),
            description: column.text("description").to_string().into(),
            priority: column.integer("priority").and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
            cell: Cell::Path(column.text("jsonPath").to_string().into()),
        })
        .collect();
    if !declared.is_empty() {
        return declared;
    }
    vec![Column {
        name: "Age".into(),
        ty: "date".into(),
        format: "".into(),
        description: "When the object was created.".into(),
        priority: 0,
        cell: Cell::Path(".metadata.creationTimestamp".into()),
    }]
}

#[cfg(test)]
mod tests;
