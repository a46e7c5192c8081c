//! Kind: everything about a resource that is data, and Rules: the little that must be code.

use std::borrow::Cow;

use crate::field::Errors;
use crate::names::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
use crate::schema::{Api, Mismatch, StructRef, Text, Type};
use crate::value::Value;

/// One served version of one resource: names, shape, verbs, subresources, columns, hooks.
///
/// Built-ins make one with [`Kind::namespaced`] or [`Kind::cluster`] and the builder methods; a custom resource fills
/// in the same fields. Whatever differs between the two is a field here, never a test for "is custom".
#[derive(Clone, Debug)]
pub struct Kind {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub list_kind: Text,
    /// Plural, lower case: `pods`.
    pub resource: Text,
    pub singular: Text,
    pub short_names: Cow<'static, [Text]>,
    pub categories: Cow<'static, [Text]>,
    pub namespaced: bool,
    pub schema: StructRef,
    pub verbs: Verbs,
    pub storage: Storage,
    pub generation: Generation,
    /// Has a `status` subresource: status is dropped on create, kept on main writes, and alone changed on `/status`.
    pub status: bool,
    pub scale: Option<Scale>,
    /// Subresources besides `status` and `scale`.
    pub subresources: Cow<'static, [Subresource]>,
    pub columns: Vec<Column>,
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub selectable: Cow<'static, [Text]>,
    /// Objects of this kind are deleted in two steps with a grace period; says how long, given the object.
    pub grace: Option<fn(&Value) -> i64>,
    /// A deleted object stays while this says so, besides its finalizers (a namespace's `spec.finalizers`).
    pub held: Option<fn(&Value) -> bool>,
    /// Changes an object as its deletion begins (a namespace's phase).
    pub begin_delete: Option<fn(&mut Value)>,
    /// A finished delete answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// A write to `status` may change labels and annotations too.
    pub status_writes_metadata: bool,
    /// Seconds after its last write at which an object vanishes.
    pub ttl_seconds: Option<u64>,
    /// Members that no field names are pruned before storing (false only where a schema says otherwise).
    pub prune: bool,
    /// Its shape may change while objects are stored (custom resources): reads bring these into the present one.
    pub evolves: bool,
    /// Has a protobuf form.
    pub protobuf: bool,
    /// Updating an object that does not exist creates it.
    pub create_on_update: bool,
    /// An update must carry a resourceVersion.
    pub conditional_update: bool,
    pub hooks: Hooks,
    /// Rules of a custom resource that are expressions; a built-in has none.
    pub expressions: Option<std::sync::Arc<crate::expressions::Validator>>,
    /// A complete object as JSON, without apiVersion and kind: generic tests create it, patch it, watch it.
    pub example: &'static str,
    /// A sentence to warn clients with, for deprecated versions.
    pub deprecation_warning: Text,
}

/// What clients may do to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs(pub u16);

impl Verbs {
    pub const CREATE: Verbs = Verbs(1);
    pub const GET: Verbs = Verbs(2);
    pub const LIST: Verbs = Verbs(4);
    pub const WATCH: Verbs = Verbs(8);
    pub const UPDATE: Verbs = Verbs(16);
    pub const PATCH: Verbs = Verbs(32);
    pub const DELETE: Verbs = Verbs(64);
    pub const DELETE_COLLECTION: Verbs = Verbs(128);
    pub const ALL: Verbs = Verbs(255);

    pub const fn with(self, other: Verbs) -> Verbs {
        Verbs(self.0 | other.0)
    }

    pub const fn without(self, other: Verbs) -> Verbs {
        Verbs(self.0 & !other.0)
    }

    pub const fn has(self, other: Verbs) -> bool {
        self.0 & other.0 == other.0
    }

    /// The verbs as discovery lists them, in alphabetical order.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [(Verbs, &str); 8] = [
            (Verbs::CREATE, "create"),
            (Verbs::DELETE, "delete"),
            (Verbs::DELETE_COLLECTION, "deletecollection"),
            (Verbs::GET, "get"),
            (Verbs::LIST, "list"),
            (Verbs::PATCH, "patch"),
            (Verbs::UPDATE, "update"),
            (Verbs::WATCH, "watch"),
        ];
        NAMES.iter().filter(|(v, _)| self.has(*v)).map(|(_, n)| *n).collect()
    }
}

/// Where objects of a kind live.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// Under `/registry/<prefix>/...`. Kinds with the same prefix are versions of one resource; `storage` marks the
    /// one whose form is stored.
    Stored { prefix: Text, storage: bool },
    /// Answered by a handler and never stored (reviews).
    Virtual,
}

/// When `metadata.generation` grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind keeps none.
    None,
    /// 1 at creation, +1 when `spec` changes.
    OnSpec,
    /// 1 at creation, +1 when anything but metadata (and status, where it is a subresource) changes.
    OnContent,
}

/// The `scale` subresource: where the three numbers are.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub spec_replicas: Text,
    pub status_replicas: Text,
    /// Empty when the status has no selector.
    pub label_selector: Text,
}

/// A subresource with a behaviour of its own.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `binding`, `eviction`, `log`, `exec`, `ephemeralcontainers`, ...
    pub name: Text,
    pub verbs: Verbs,
    /// What its body is, where that differs from the kind: such as `("policy", "v1", "Eviction")`.
    pub body: Option<(Text, Text, Text)>,
    pub action: Action,
}

/// What a subresource does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// A write of the whole object in which only these paths may change.
    Fields(&'static [&'static str]),
    /// A handler of the API server's, found by resource and subresource name.
    Handler,
    /// A stream or a proxied request (exec, attach, portforward, log, proxy).
    Connect,
}

/// One column of `kubectl get`.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Text,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub ty: Text,
    pub format: Text,
    pub description: Text,
    /// Above 0 only `-o wide` shows it.
    pub priority: i32,
    pub cell: Cell,
}

/// Where a column's content comes from.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A JSONPath such as `.spec.replicas`.
    Path(Text),
    /// Code, where a path is not enough. The clock is seconds since 1970 and is used for ages.
    Code(fn(&Value, now: i64) -> Value),
}

/// What Rules may know besides the objects.
#[derive(Clone, Debug, Default)]
pub struct RulesCx<'a> {
    /// Seconds since 1970 and the nanoseconds of it.
    pub now: (i64, u32),
    /// Who writes: name, uid, groups and what else the authenticator said.
    pub user: &'a str,
    pub user_uid: &'a str,
    pub user_groups: &'a [smol_str::SmolStr],
    pub user_extra: &'a [(smol_str::SmolStr, Vec<smol_str::SmolStr>)],
    pub namespace: &'a str,
    /// The subresource written to; empty for the object itself.
    pub subresource: &'a str,
    pub dry_run: bool,
}

/// What a kind's schema cannot say. Every method has a default that does nothing.
///
/// Rules are pure: they see the object, the old object, the user and the clock, never other objects and no I/O.
/// What must look at other objects is an admission plugin or a reservation in the store's transaction.
pub trait Rules: Api {
    /// Computed defaults; constants are declared on the field. Called for every decoded object, also from storage.
    fn set_defaults(&mut self) {}

    /// Clears and derives fields before a create, after admission. The engine has already dropped the status.
    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {}

    /// Clears and derives fields before an update. The engine has already kept status or spec as the subresource says.
    fn prepare_update(&mut self, _old: &Self, _cx: &RulesCx<'_>) {}

    /// Checks the whole object, for create and update alike.
    fn validate(&self, _cx: &RulesCx<'_>, _errors: &mut Errors) {}

    /// Checks what only a new object must satisfy; [`Rules::validate`] has run.
    fn validate_create(&self, _cx: &RulesCx<'_>, _errors: &mut Errors) {}

    /// Checks what an update of the object itself may change; [`Rules::validate`] has run.
    fn validate_update(&self, _old: &Self, _cx: &RulesCx<'_>, _errors: &mut Errors) {}

    /// Checks an update of the status subresource; replaces the two above there.
    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, _errors: &mut Errors) {}

    /// Sentences for the `Warning` header.
    fn warnings(&self, _old: Option<&Self>, _cx: &RulesCx<'_>, _out: &mut Vec<String>) {}
}

/// What is being written, as the hooks see it.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    Create,
    /// With the object as stored before.
    Update(&'a Value),
    /// A write to `status`, with the object as stored before.
    Status(&'a Value),
}

/// [`Rules`] of one type, erased to plain functions over trees.
#[derive(Clone, Copy)]
pub struct Hooks {
    pub set_defaults: Option<fn(&mut Value) -> Result<(), Mismatch>>,
    /// Runs prepare, validate and warnings of one write on one decoded struct, and writes the prepared object back.
    pub write: Option<HookWrite>,
}

/// The signature of [`Hooks::write`].
pub type HookWrite = fn(&mut Value, Write<'_>, &RulesCx<'_>, &mut Errors, &mut Vec<String>) -> Result<(), Mismatch>;

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.write.is_some() { "Hooks(rules)" } else { "Hooks(none)" })
    }
}

impl Hooks {
    pub const NONE: Hooks = Hooks { set_defaults: None, write: None };

    pub const fn of<T: Rules>() -> Hooks {
        Hooks { set_defaults: Some(set_defaults::<T>), write: Some(write::<T>) }
    }
}

/// `to_value` has no apiVersion and kind; they are put back from the tree that was read.
fn keep_type(value: &mut Value, mut new: Value) {
    if let (Value::Map(old), Value::Map(new)) = (&mut *value, &mut new) {
        for key in ["apiVersion", "kind"] {
            if let Some(v) = old.remove(key) {
                new.insert(key, v);
            }
        }
    }
    *value = new;
}

fn set_defaults<T: Rules>(value: &mut Value) -> Result<(), Mismatch> {
    let mut object = T::from_value(value)?;
    object.set_defaults();
    keep_type(value, object.to_value());
    Ok(())
}

fn write<T: Rules>(
    value: &mut Value,
    write: Write<'_>,
    cx: &RulesCx<'_>,
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) -> Result<(), Mismatch> {
    let mut new = T::from_value(value)?;
    let old = match write {
        Write::Create => None,
        Write::Update(old) | Write::Status(old) => Some(T::from_value(old)?),
    };
    match &old {
        None => new.prepare_create(cx),
        Some(old) => new.prepare_update(old, cx),
    }
    match (&old, write) {
        (Some(old), Write::Status(_)) => new.validate_status_update(old, cx, errors),
        (Some(old), _) => {
            new.validate(cx, errors);
            new.validate_update(old, cx, errors);
        }
        (None, _) => {
            new.validate(cx, errors);
            new.validate_create(cx, errors);
        }
    }
    new.warnings(old.as_ref(), cx, warnings);
    keep_type(value, new.to_value());
    Ok(())
}

impl Kind {
    /// Whether objects of the other kind have the form of this one: nothing is to be converted.
    pub fn same_form(&self, other: &Kind) -> bool {
        self.group == other.group && self.version == other.version
    }

    /// Whether stored bytes of this kind are what a client of the other one reads, as they are.
    pub fn reads_as(&self, other: &Kind) -> bool {
        !self.evolves && self.same_form(other)
    }

    /// A namespaced built-in whose kind name is the last part of its schema's name.
    pub fn namespaced<T: Rules>(group: &'static str, version: &'static str, resource: &'static str) -> Kind {
        Kind::builtin::<T>(group, version, resource, true)
    }

    /// A cluster-scoped built-in.
    pub fn cluster<T: Rules>(group: &'static str, version: &'static str, resource: &'static str) -> Kind {
        Kind::builtin::<T>(group, version, resource, false)
    }

    fn builtin<T: Rules>(group: &'static str, version: &'static str, resource: &'static str, namespaced: bool) -> Kind {
        let Type::Struct(schema) = T::TYPE else { panic!("a kind is a struct") };
        let name = match &schema.name {
            Cow::Borrowed(name) => *name,
            Cow::Owned(_) => panic!("a built-in's name is static"),
        };
        let kind = name.rsplit('.').next().unwrap_or(name);
        Kind {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            resource: resource.into(),
            singular: kind.to_ascii_lowercase().into(),
            short_names: Cow::Borrowed(&[]),
            categories: Cow::Borrowed(&[]),
            namespaced,
            schema,
            verbs: Verbs::ALL,
            storage: Storage::Stored { prefix: resource.into(), storage: true },
            generation: Generation::None,
            status: false,
            scale: None,
            subresources: Cow::Borrowed(&[]),
            columns: Vec::new(),
            selectable: Cow::Borrowed(&[]),
            grace: None,
            held: None,
            begin_delete: None,
            returns_deleted: false,
            status_writes_metadata: true,
            ttl_seconds: None,
            prune: true,
            evolves: false,
            protobuf: true,
            create_on_update: false,
            conditional_update: false,
            hooks: Hooks::of::<T>(),
            expressions: None,
            example: "",
            deprecation_warning: "".into(),
        }
    }

    pub fn short(mut self, names: &[&'static str]) -> Kind {
        self.short_names = names.iter().map(|n| Text::from(*n)).collect();
        self
    }

    pub fn category(mut self, names: &[&'static str]) -> Kind {
        self.categories = names.iter().map(|n| Text::from(*n)).collect();
        self
    }

    pub fn verbs(mut self, verbs: Verbs) -> Kind {
        self.verbs = verbs;
        self
    }

    /// Stores under another prefix than the resource name (`/registry/services/specs`, `/registry/minions`).
    pub fn stored_under(mut self, prefix: &'static str) -> Kind {
        self.storage = Storage::Stored { prefix: prefix.into(), storage: true };
        self
    }

    /// A served version that is converted to the stored one.
    pub fn converted(mut self) -> Kind {
        if let Storage::Stored { storage, .. } = &mut self.storage {
            *storage = false;
        }
        self
    }

    pub fn virtual_(mut self) -> Kind {
        self.storage = Storage::Virtual;
        self
    }

    pub fn status(mut self) -> Kind {
        self.status = true;
        self
    }

    pub fn generation(mut self, generation: Generation) -> Kind {
        self.generation = generation;
        self
    }

    pub fn scale(mut self, spec: &'static str, status: &'static str, selector: &'static str) -> Kind {
        self.scale =
            Some(Scale { spec_replicas: spec.into(), status_replicas: status.into(), label_selector: selector.into() });
        self
    }

    pub fn subresource(mut self, name: &'static str, verbs: Verbs, action: Action) -> Kind {
        self.subresources.to_mut().push(Subresource { name: name.into(), verbs, body: None, action });
        self
    }

    /// A subresource whose body is of another kind.
    pub fn subresource_of(
        mut self,
        name: &'static str,
        verbs: Verbs,
        action: Action,
        body: (&'static str, &'static str, &'static str),
    ) -> Kind {
        let body = Some((body.0.into(), body.1.into(), body.2.into()));
        self.subresources.to_mut().push(Subresource { name: name.into(), verbs, body, action });
        self
    }

    /// The name by which a selectable field is asked for: what stands before `=`, or its path.
    pub fn selectable_name(field: &str) -> &str {
        field.split('=').next().unwrap_or_default().trim_start_matches('.')
    }

    /// Where the value of a selectable field is: what stands after `=`, the first of several first.
    pub fn selectable_paths(field: &str) -> impl Iterator<Item = &str> + Clone {
        field.rsplit('=').next().unwrap_or_default().split('|')
    }

    pub fn selectable(mut self, paths: &[&'static str]) -> Kind {
        self.selectable = paths.iter().map(|p| Text::from(*p)).collect();
        self
    }

    pub fn grace(mut self, seconds: fn(&Value) -> i64) -> Kind {
        self.grace = Some(seconds);
        self
    }

    /// Objects vanish this many seconds after their last write.
    pub fn ttl(mut self, seconds: u64) -> Kind {
        self.ttl_seconds = Some(seconds);
        self
    }

    /// Warns every client of this version with a sentence.
    pub fn deprecated(mut self, warning: &'static str) -> Kind {
        self.deprecation_warning = warning.into();
        self
    }

    /// An update of an object that does not exist creates it.
    pub fn create_on_update(mut self) -> Kind {
        self.create_on_update = true;
        self
    }

    /// Updates must carry a resourceVersion.
    pub fn conditional_update(mut self) -> Kind {
        self.conditional_update = true;
        self
    }

    /// A finished delete answers with the object.
    pub fn returns_deleted(mut self) -> Kind {
        self.returns_deleted = true;
        self
    }

    /// A write to `status` leaves labels and annotations alone.
    pub fn status_keeps_metadata(mut self) -> Kind {
        self.status_writes_metadata = false;
        self
    }

    /// What holds a deleted object besides finalizers, and what its deletion begins with.
    pub fn held(mut self, held: fn(&Value) -> bool, begin_delete: fn(&mut Value)) -> Kind {
        self.held = Some(held);
        self.begin_delete = Some(begin_delete);
        self
    }

    pub fn column(self, name: &'static str, ty: &'static str, path: &'static str) -> Kind {
        self.column_full(name, ty, 0, Cell::Path(path.into()))
    }

    pub fn code_column(self, name: &'static str, ty: &'static str, cell: fn(&Value, i64) -> Value) -> Kind {
        self.column_full(name, ty, 0, Cell::Code(cell))
    }

    pub fn wide_code_column(self, name: &'static str, ty: &'static str, cell: fn(&Value, i64) -> Value) -> Kind {
        self.column_full(name, ty, 1, Cell::Code(cell))
    }

    /// The age since creation, in kubectl's short form.
    pub fn age(self) -> Kind {
        self.column_full("Age", "string", 0, Cell::Code(crate::table::age_cell))
    }

    /// The time of creation, which kinds show that have no columns of their own.
    pub fn created_at(self) -> Kind {
        self.column_full("Created At", "date", 0, Cell::Code(crate::table::created_cell))
    }

    fn column_full(mut self, name: &'static str, ty: &'static str, priority: i32, cell: Cell) -> Kind {
        self.columns.push(Column {
            name: name.into(),
            ty: ty.into(),
            format: "".into(),
            description: "".into(),
            priority,
            cell,
        });
        self
    }

    pub fn example(mut self, json: &'static str) -> Kind {
        self.example = json;
        self
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&*self.group, &*self.version)
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: (&*self.group).into(), version: (&*self.version).into(), kind: (&*self.kind).into() }
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(&*self.group, &*self.version, &*self.resource)
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind { group: (&*self.group).into(), kind: (&*self.kind).into() }
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: (&*self.group).into(), resource: (&*self.resource).into() }
    }
}
