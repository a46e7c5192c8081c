//! The facts of the schemas compiled into the `api` crate.

use std::collections::BTreeMap;

use apimachinery::schema::{Api, ListType, Literal, Omit, Struct, Type};
use apimachinery::{Field, Node};

/// What must agree about one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldFacts {
    /// The JSON name; the Go name in brackets for an inlined struct.
    pub name: String,
    pub shape: String,
    pub tag: u32,
    pub pointer: bool,
    pub omit: String,
    /// `None` where upstream does not say.
    pub required: Option<bool>,
    pub default: String,
    pub list: String,
    pub keys: Vec<String>,
    pub atomic: bool,
    pub patch: String,
}

impl FieldFacts {
    /// What differs, as `fact ours, upstream theirs`.
    pub fn differences(&self, theirs: &FieldFacts) -> String {
        let pairs = [
            ("shape", self.shape.clone(), theirs.shape.clone()),
            ("tag", self.tag.to_string(), theirs.tag.to_string()),
            ("pointer", self.pointer.to_string(), theirs.pointer.to_string()),
            ("omit", self.omit.clone(), theirs.omit.clone()),
            ("required", format!("{:?}", self.required), format!("{:?}", theirs.required.or(self.required))),
            ("default", self.default.clone(), theirs.default.clone()),
            ("list", self.list.clone(), theirs.list.clone()),
            ("keys", self.keys.join(","), theirs.keys.join(",")),
            ("atomic", self.atomic.to_string(), theirs.atomic.to_string()),
            ("patch", self.patch.clone(), theirs.patch.clone()),
        ];
        let differing = pairs.iter().filter(|(_, ours, theirs)| ours != theirs);
        differing
            .map(|(fact, ours, theirs)| format!("{fact} {ours:?}, upstream {theirs:?}"))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Every struct that a kind or another served body reaches.
pub struct Ours {
    pub structs: BTreeMap<String, Vec<FieldFacts>>,
    documented: Documented,
}

/// How much is documented.
#[derive(Clone, Copy, Default)]
pub struct Documented {
    pub structs_with_docs: usize,
    pub fields: usize,
    pub fields_with_docs: usize,
}

impl Ours {
    pub fn read() -> Ours {
        let mut ours = Ours { structs: BTreeMap::new(), documented: Documented::default() };
        for kind in api::kinds() {
            ours.visit(&kind.schema);
        }
        // Bodies that are no resources of their own.
        for ty in [
            api::admission::AdmissionReview::TYPE,
            api::apiextensions::ConversionReview::TYPE,
            api::apiextensions::JSONSchemaProps::TYPE,
            api::authentication::TokenRequest::TYPE,
            api::autoscaling::Scale::TYPE,
            api::policy::Eviction::TYPE,
            api::core::NodeProxyOptions::TYPE,
            api::core::PodAttachOptions::TYPE,
            api::core::PodExecOptions::TYPE,
            api::core::PodLogOptions::TYPE,
            api::core::PodPortForwardOptions::TYPE,
            api::core::PodProxyOptions::TYPE,
            api::core::ServiceProxyOptions::TYPE,
            api::core::SerializedReference::TYPE,
        ] {
            ours.visit_type(&ty);
        }
        ours
    }

    pub fn documented(&self) -> Documented {
        self.documented
    }

    fn visit(&mut self, schema: &Struct) {
        if self.structs.contains_key(&*schema.name) {
            return;
        }
        self.structs.insert(schema.name.to_string(), Vec::new());
        self.documented.structs_with_docs += usize::from(!schema.doc.is_empty());
        let fields = schema.fields.iter().map(|field| self.field(field)).collect();
        self.structs.insert(schema.name.to_string(), fields);
    }

    fn visit_type(&mut self, ty: &Type) {
        match ty {
            Type::Struct(inner) => self.visit(inner),
            Type::List(node) | Type::Map(node) => self.visit_type(&node.ty),
            _ => {}
        }
    }

    fn field(&mut self, field: &Field) -> FieldFacts {
        self.visit_type(&field.node.ty);
        self.documented.fields += 1;
        let facets = field.node.facets();
        self.documented.fields_with_docs += usize::from(!facets.doc.is_empty());
        let shape = shape(&field.node);
        let name = if field.is_inline() { format!("[{}]", last(&shape)) } else { field.name.to_string() };
        let list = match facets.list_type {
            None => "",
            Some(ListType::Atomic) => "atomic",
            Some(ListType::Set) => "set",
            Some(ListType::Map) => "map",
        };
        let mut patch: Vec<&str> = Vec::new();
        patch.extend(field.patch.merge.then_some("merge"));
        patch.extend(field.patch.retain_keys.then_some("retainKeys"));
        FieldFacts {
            name,
            shape,
            tag: field.tag,
            pointer: field.pointer,
            omit: match field.omit {
                Omit::Never => "never",
                Omit::Empty => "empty",
                Omit::Zero => "zero",
            }
            .into(),
            required: Some(field.required),
            default: match &facets.default {
                Some(Literal::Json(json)) => json.to_string(),
                _ => String::new(),
            },
            list: list.into(),
            keys: facets.list_map_keys.iter().map(|k| k.to_string()).collect(),
            atomic: facets.atomic,
            patch: format!("{} {}", patch.join(","), field.patch.merge_key).trim().into(),
        }
    }
}

/// The last part of a definition name.
pub fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A type as text.
fn shape(node: &Node) -> String {
    match &node.ty {
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "float64".into(),
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Quantity => "quantity".into(),
        Type::Time => "time".into(),
        Type::MicroTime => "microtime".into(),
        Type::Duration => "duration".into(),
        Type::IntOrString => "intorstring".into(),
        Type::Any(_) => "any".into(),
        Type::List(item) => format!("[]{}", shape(item)),
        Type::Map(value) => format!("map {}", shape(value)),
        Type::Struct(inner) => inner.name.to_string(),
    }
}
