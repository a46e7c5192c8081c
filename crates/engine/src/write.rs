//! Create, update, patch: one path of named steps for every kind and every client.
//!
//! ```text
//! create:  check names → managed fields → mutating admission → system fields, generated name → generation, drop
//!          status, rules → structure, rules, metadata → validating admission → transaction
//! update:  read → make the new object → keep what this subresource may not change → managed fields →
//!          mutating admission → rules → generation → validation → validating admission → transaction, or again
//! ```

use std::sync::Arc;

use apimachinery::kind::{Action, Generation, Write};
use apimachinery::quote::quoted;
use apimachinery::{Errors, GroupKind, GroupResource, Kind, Path, SmolStr, Status, Value, apply, patch, validate};
use store::{Compare, Op, Txn};

use crate::Engine;
use crate::cx::{Attributes, Cx, Operation, Reservations};
use crate::metadata::{self, metadata_mut, text};
use crate::options::{Patch, PatchType, Target, WriteOptions};
use crate::stored::{Body, MAX_OBJECT, Object};

/// How often a generated name is made anew when it is taken.
const NAME_TRIES: usize = 8;
/// How often an unconditional update is tried against a newer object.
const UPDATE_TRIES: usize = 32;

/// How often a create is admitted anew when what admission reserved was taken meanwhile.
const RESERVATION_TRIES: usize = 64;
/// Why a create failed whose object is not there yet.
const TAKEN: &str = "a reservation was taken; please try again";

fn is_taken(status: &Status) -> bool {
    status.is_conflict() && status.message.ends_with(TAKEN)
}

/// What a write ended in.
pub struct Written {
    pub object: Object,
    pub created: bool,
}

/// Where an update's new object comes from.
pub(crate) enum Source<'a> {
    /// A whole object, as the client sent it.
    Replace(&'a Value),
    Patch(&'a Patch),
    /// A change made by the server itself.
    Edit(&'a (dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync)),
}

impl Engine {
    /// Creates an object.
    pub async fn create(
        &self,
        cx: &Cx,
        target: &Target,
        tree: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut tree = tree;
        self.check_identity(target, &mut tree)?;
        if !text(&tree, "resourceVersion").is_empty() {
            return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        self.own_fields(None, &mut tree, target, options);
        let asked = tree.clone();
        let mut tries = 0;
        loop {
            tries += 1;
            let mut tree = asked.clone();
            match self.create_admitted(cx, target, &mut tree, options).await {
                // Someone else took the address or the quota that admission chose: it chooses again.
                Err(status) if is_taken(&status) && tries < RESERVATION_TRIES => {
                    // Many creates at once book on the same quota: those that lose step back a little.
                    tokio::time::sleep(std::time::Duration::from_millis(tries.min(20) as u64)).await;
                }
                result => return result,
            }
        }
    }

    async fn create_admitted(
        &self,
        cx: &Cx,
        target: &Target,
        tree: &mut Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut name = SmolStr::new(text(tree, "name"));
        let base = SmolStr::new(text(tree, "generateName"));
        let mut reservations = Reservations::default();
        self.admit(cx, target, &name, Operation::Create, tree, None, options, &mut reservations).await?;
        name = SmolStr::new(text(tree, "name"));

        let generated = name.is_empty() && !base.is_empty();
        let mut tries = 0;
        loop {
            tries += 1;
            let mut object = tree.clone();
            if generated {
                name = metadata::generate_name(&base).into();
                metadata_mut(&mut object).insert("name", name.clone());
            }
            let named = Target { name: name.clone(), ..target.clone() };
            match self.create_named(cx, &named, object, options, reservations.clone()).await {
                Err(status) if generated && status.is_already_exists() && tries < NAME_TRIES => continue,
                Err(status) if generated && status.is_already_exists() => {
                    let mut status = status;
                    status.message = format!(
                        "{} {name:?} already exists, the server was not able to generate a unique name for the object",
                        target.kind.group_resource()
                    );
                    return Err(status);
                }
                result => return result,
            }
        }
    }

    async fn create_named(
        &self,
        cx: &Cx,
        target: &Target,
        mut tree: Value,
        options: &WriteOptions,
        mut reservations: Reservations,
    ) -> Result<Written, Status> {
        let kind = &target.kind;
        let now = self.clock.now();
        {
            let metadata = metadata_mut(&mut tree);
            for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
                metadata.remove(key);
            }
            metadata.insert("uid", uuid::Uuid::new_v4().to_string());
            metadata.insert("creationTimestamp", apimachinery::time::rfc3339(now.0));
            if kind.generation == Generation::None {
                // A generation that a client sends to a kind that keeps none stays, as upstream.
            } else {
                metadata.insert("generation", 1i64);
            }
        }
        if kind.status
            && let Some(map) = tree.as_map_mut()
        {
            map.remove("status");
        }
        self.check(cx, target, &mut tree, None)?;
        self.admit_validate(cx, target, Operation::Create, &mut tree, None, options, &mut reservations).await?;

        let (resource, _) = self.resource_cache(target)?;
        let key = Engine::key(&resource, target);
        let stored = resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource is not stored"))?;
        let body = self.encode(tree, kind, &stored).await?;
        if options.dry_run {
            if self.store.get(&key).await.map_err(crate::store_error)?.is_some() {
                return Err(Status::already_exists(&kind.group_resource(), &target.name));
            }
            return Ok(Written { object: Object::new(stored, 0, body), created: true });
        }
        let value = body.store(&key, &resource.prefix, &*self.sealer)?;
        let mut txn = Txn::new().when(Compare::absent(key.clone())).then(Op::put(key, value));
        txn.compares.extend(reservations.compares);
        txn.success.extend(reservations.operations);
        let answer = self.store.txn(txn).await.map_err(crate::store_error)?;
        if !answer.succeeded {
            let (current, _) = self.current(target).await?;
            return Err(match current {
                Some(_) => Status::already_exists(&kind.group_resource(), &target.name),
                // The object is not there, so a reservation was taken meanwhile.
                None => Status::conflict(&kind.group_resource(), &target.name, TAKEN),
            });
        }
        Ok(Written { object: Object::new(stored, answer.revision, body), created: true })
    }

    /// Replaces an object, or its subresource.
    pub async fn update(
        &self,
        cx: &Cx,
        target: &Target,
        tree: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut tree = tree;
        self.check_identity(target, &mut tree)?;
        let name = text(&tree, "name");
        if name.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                target.name
            )));
        } else if name != target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        self.write(cx, target, Source::Replace(&tree), options).await
    }

    /// Patches an object, or its subresource; a server-side apply may create it.
    pub async fn patch(
        &self,
        cx: &Cx,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.write(cx, target, Source::Patch(patch), options).await
    }

    /// Changes an object with code, retrying until the change meets no other writer.
    pub async fn edit(
        &self,
        cx: &Cx,
        target: &Target,
        options: &WriteOptions,
        change: &(dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync),
    ) -> Result<Written, Status> {
        self.write(cx, target, Source::Edit(change), options).await
    }

    async fn write(
        &self,
        cx: &Cx,
        target: &Target,
        source: Source<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let kind = &target.kind;
        for _ in 0..UPDATE_TRIES {
            let (current, key) = self.current(target).await?;
            let Some(current) = current else {
                return self.write_absent(cx, target, source, options).await;
            };
            let old = self.tree(&current, kind).await?;
            let mut new = self.make(cx, target, &source, &old, options)?;
            // A patch that names another uid breaks a rule; an update that does is meant for another object.
            let uid = SmolStr::new(text(&new, "uid"));
            let patched = matches!(&source, Source::Patch(_)) && !uid.is_empty() && uid != text(&old, "uid");
            if patched {
                metadata::keep(&mut new, &old, &["uid"]);
            }
            self.check_update(target, &mut new, &old)?;
            if patched {
                metadata_mut(&mut new).insert("uid", uid);
            }
            self.keep_unwritable(target, &mut new, &old);
            let applied = matches!(&source, Source::Patch(p) if p.kind == PatchType::Apply);
            if !applied {
                self.own_fields(Some(&old), &mut new, target, options);
            }
            let mut reservations = Reservations::default();
            self.admit(cx, target, &target.name, Operation::Update, &mut new, Some(&old), options, &mut reservations)
                .await?;
            self.check(cx, target, &mut new, Some(&old))?;
            let declared = kind.subresources.iter().find(|s| s.name == target.subresource.as_str()).map(|s| s.action);
            // Some subresources are a part of the spec.
            let of_spec =
                matches!(declared, Some(Action::Fields(paths)) if paths.iter().any(|p| p.starts_with("spec")));
            if target.subresource.is_empty() || of_spec || kind.generation == Generation::OnContent {
                metadata::bump_generation(kind, &mut new, &old);
            } else {
                metadata::keep(&mut new, &old, &["generation"]);
            }
            self.admit_validate(cx, target, Operation::Update, &mut new, Some(&old), options, &mut reservations)
                .await?;

            let ended = metadata::is_deleting(&new) && self.nothing_holds(kind, &new);
            apply::ignore_new_times(&old, &mut new);
            let (resource, _) = self.resource_cache(target)?;
            let stored = current.kind.clone();
            let body = self.encode(new, kind, &stored).await?;
            if !ended && body.same(current.body()) {
                return Ok(Written { object: current, created: false });
            }
            if options.dry_run {
                return Ok(Written { object: Object::new(stored, current.revision, body), created: false });
            }
            let op = if ended {
                Op::delete(key.clone())
            } else {
                Op::put(key.clone(), body.store(&key, &resource.prefix, &*self.sealer)?)
            };
            let mut txn = Txn::new().when(Compare::mod_revision(key, current.revision)).then(op);
            txn.compares.append(&mut reservations.compares);
            txn.success.append(&mut reservations.operations);
            let answer = self.store.txn(txn).await.map_err(crate::store_error)?;
            if answer.succeeded {
                return Ok(Written { object: Object::new(stored, answer.revision, body), created: false });
            }
            // Another writer was faster, here or at what admission reserved: look again. A conditional write then
            // finds that its revision is gone.
        }
        Err(Status::conflict(&kind.group_resource(), &target.name, "too many writers at once; please try again"))
    }

    /// An update of something that is not there.
    async fn write_absent(
        &self,
        cx: &Cx,
        target: &Target,
        source: Source<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let kind = &target.kind;
        let missing = || Status::not_found(&kind.group_resource(), &target.name);
        if !target.subresource.is_empty() {
            return Err(missing());
        }
        match source {
            Source::Replace(tree) if kind.create_on_update => {
                if !text(tree, "uid").is_empty() {
                    return Err(self.uid_conflict(target, text(tree, "uid"), ""));
                }
                self.create(cx, target, tree.clone(), options).await
            }
            Source::Patch(patch) if patch.kind == PatchType::Apply => {
                let mut applied = patch.body.clone();
                self.check_identity(target, &mut applied)?;
                if !text(&applied, "uid").is_empty() {
                    return Err(self.uid_conflict(target, text(&applied, "uid"), ""));
                }
                let mut object =
                    self.as_manager(target, options, |cx| apply::apply(None, applied, cx, options.force))?;
                metadata_mut(&mut object).insert("name", target.name.clone());
                self.default(kind, &mut object)?;
                let mut reservations = Reservations::default();
                self.admit(cx, target, &target.name, Operation::Create, &mut object, None, options, &mut reservations)
                    .await?;
                self.create_named(cx, target, object, options, reservations).await
            }
            _ => Err(missing()),
        }
    }

    /// Makes the new object out of the old one and what the client sent.
    fn make(
        &self,
        cx: &Cx,
        target: &Target,
        source: &Source<'_>,
        old: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let kind = &target.kind;
        let mut new = match source {
            Source::Replace(tree) => (*tree).clone(),
            Source::Edit(change) => {
                let mut new = old.clone();
                change(&mut new)?;
                new
            }
            Source::Patch(p) => match p.kind {
                PatchType::Json => patch::json::apply(old.clone(), &p.body)?,
                PatchType::Merge => patch::merge::apply(old.clone(), p.body.clone()),
                PatchType::Strategic => patch::strategic::apply(old.clone(), p.body.clone(), &kind.schema)?,
                PatchType::Apply => {
                    self.as_manager(target, options, |cx| apply::apply(Some(old), p.body.clone(), cx, options.force))?
                }
            },
        };
        if matches!(source, Source::Patch(_)) {
            let settled = crate::decode::settle(cx, kind, &mut new, options.validation);
            let applies = matches!(source, Source::Patch(p) if p.kind == PatchType::Apply);
            settled.map_err(|status| if applies { status } else { unfit(kind, &new, status) })?;
            let name = text(&new, "name");
            if name != target.name {
                return Err(Status::bad_request(format!(
                    "the name of the object ({name}) does not match the name on the URL ({})",
                    target.name
                )));
            }
        }
        Ok(new)
    }

    /// Computed and constant defaults.
    pub(crate) fn default(&self, kind: &Kind, tree: &mut Value) -> Result<(), Status> {
        crate::decode::set_defaults(kind, tree)
    }

    /// Namespace and type must be those of the request.
    fn check_identity(&self, target: &Target, tree: &mut Value) -> Result<(), Status> {
        let namespace = text(tree, "namespace");
        if target.kind.namespaced {
            if namespace.is_empty() {
                metadata_mut(tree).insert("namespace", target.namespace.clone());
            } else if namespace != target.namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        } else if !namespace.is_empty() {
            metadata_mut(tree).remove("namespace");
        }
        Ok(())
    }

    /// Checks revision and uid, and carries over what no client may change.
    fn check_update(&self, target: &Target, new: &mut Value, old: &Value) -> Result<(), Status> {
        let version = SmolStr::new(text(new, "resourceVersion"));
        if version.is_empty() || version == "0" {
            if target.kind.conditional_update {
                let mut errors = Errors::new();
                let root = Path::new("metadata");
                errors.invalid(&root.child("resourceVersion"), 0i64, "must be specified for an update");
                // Upstream names the resource where the kind is meant.
                let GroupResource { group, resource } = target.kind.group_resource();
                return Err(Status::invalid(&GroupKind { group, kind: resource }, &target.name, &errors));
            }
        } else if version != text(old, "resourceVersion") {
            if version.parse::<u64>().is_err() {
                return Err(Status::bad_request(format!("invalid resource version {}", quoted(&version))));
            }
            return Err(self.modified(target));
        }
        let uid = text(new, "uid");
        if !uid.is_empty() && uid != text(old, "uid") {
            return Err(self.uid_conflict(target, uid, text(old, "uid")));
        }
        const SYSTEM: &[&str] = &[
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
            "resourceVersion",
        ];
        metadata::keep(new, old, SYSTEM);
        Ok(())
    }

    fn modified(&self, target: &Target) -> Status {
        Status::conflict(
            &target.kind.group_resource(),
            &target.name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    fn uid_conflict(&self, target: &Target, wanted: &str, found: &str) -> Status {
        Status::conflict(
            &target.kind.group_resource(),
            &target.name,
            format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"),
        )
    }

    /// Undoes what this subresource may not change.
    fn keep_unwritable(&self, target: &Target, new: &mut Value, old: &Value) {
        let kind = &target.kind;
        match target.subresource.as_str() {
            "" => {
                if kind.status {
                    metadata::keep_member(new, old, "status");
                }
            }
            "status" => {
                let status = new.get("status").cloned();
                let managed = metadata::metadata(new).get("managedFields").cloned();
                let mut kept = old.clone();
                if kind.status_writes_metadata {
                    let metadata = new.get("metadata").cloned();
                    if let (Some(map), Some(metadata)) = (kept.as_map_mut(), metadata) {
                        map.insert("metadata", metadata);
                    }
                    metadata::keep(&mut kept, old, &["finalizers", "ownerReferences"]);
                } else if let Some(managed) = managed {
                    metadata_mut(&mut kept).insert("managedFields", managed);
                }
                if let Some(map) = kept.as_map_mut() {
                    match status {
                        Some(status) => {
                            map.insert("status", status);
                        }
                        None => {
                            map.remove("status");
                        }
                    }
                }
                *new = kept;
            }
            name => {
                let Some(Action::Fields(paths)) = kind.subresources.iter().find(|s| s.name == name).map(|s| s.action)
                else {
                    return;
                };
                let mut kept = old.clone();
                for path in paths {
                    copy_path(&mut kept, new, path);
                }
                if let Some(managed) = metadata::metadata(new).get("managedFields") {
                    metadata_mut(&mut kept).insert("managedFields", managed.clone());
                }
                *new = kept;
            }
        }
    }

    /// Calls `act` with who writes, when, and what this write may own.
    fn as_manager<R>(
        &self,
        target: &Target,
        options: &WriteOptions,
        act: impl FnOnce(&apply::ManagerCx<'_>) -> R,
    ) -> R {
        let kind = &target.kind;
        let now = apimachinery::time::rfc3339(self.clock.now().0);
        let reset = match (target.subresource.as_str(), kind.status) {
            ("", true) => apply::Set::of_fields(&[&["status"]]),
            ("status", _) => apply::Set::of_fields(&[&["spec"]]),
            _ => apply::Set::default(),
        };
        act(&apply::ManagerCx {
            manager: &options.field_manager,
            subresource: &target.subresource,
            api_version: &kind.group_version().to_string(),
            kind: &kind.kind,
            now: &now,
            schema: &kind.schema,
            reset_fields: &reset,
            versions: &[],
        })
    }

    /// Records who owns the fields that a write other than apply has changed.
    fn own_fields(&self, old: Option<&Value>, new: &mut Value, target: &Target, options: &WriteOptions) {
        self.as_manager(target, options, |cx| apply::update(old, new, cx));
    }

    #[allow(clippy::too_many_arguments)]
    async fn admit(
        &self,
        cx: &Cx,
        target: &Target,
        name: &str,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: &WriteOptions,
        reservations: &mut Reservations,
    ) -> Result<(), Status> {
        let before = object.clone();
        let mut attributes = Attributes {
            cx,
            operation,
            kind: &target.kind,
            namespace: &target.namespace,
            name,
            subresource: &target.subresource,
            object,
            old,
            options: &options.tree,
            dry_run: options.dry_run,
            reservations,
        };
        self.admission.mutate(&mut attributes).await?;
        if *attributes.object != before {
            crate::decode::settle(cx, &target.kind, attributes.object, crate::Validation::Ignore)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    async fn admit_validate(
        &self,
        cx: &Cx,
        target: &Target,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: &WriteOptions,
        reservations: &mut Reservations,
    ) -> Result<(), Status> {
        let mut attributes = Attributes {
            cx,
            operation,
            kind: &target.kind,
            namespace: &target.namespace,
            name: &target.name,
            subresource: &target.subresource,
            object,
            old,
            options: &options.tree,
            dry_run: options.dry_run,
            reservations,
        };
        self.admission.validate(&mut attributes).await
    }

    /// The kind's own preparation, then structure, rules and metadata; gathers warnings.
    fn check(&self, cx: &Cx, target: &Target, tree: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let kind = &target.kind;
        let mut errors = Errors::new();
        let mut warnings = Vec::new();
        let rules = target.rules(cx, self.clock.now());
        if let Some(write) = kind.hooks.write {
            let what = match old {
                None => Write::Create,
                Some(old) if target.subresource == "status" => Write::Status(old),
                Some(old) => Write::Update(old),
            };
            write(tree, what, &rules, &mut errors, &mut warnings).map_err(|m| Status::bad_request(m.to_string()))?;
        }
        validate::metadata(tree, old, kind, &mut errors);
        validate::structure(tree, old, &kind.schema, &mut errors);
        if let Some(rules) = &kind.expressions {
            rules.check(tree, old, &mut errors, &mut warnings);
        }
        for text in warnings {
            cx.warn(text);
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&kind.group_kind(), &target.name, &errors));
        }
        Ok(())
    }

    /// The bytes to store: converted to the storage version, within the size limit.
    async fn encode(&self, tree: Value, kind: &Arc<Kind>, stored: &Arc<Kind>) -> Result<Body, Status> {
        let tree = self.convert(tree, kind, stored).await?;
        let body = Body::encode(&tree, stored);
        if body.len() > MAX_OBJECT {
            return Err(Status::new(
                413,
                "RequestEntityTooLarge",
                format!("the object is {} bytes large; at most {MAX_OBJECT} are stored", body.len()),
            ));
        }
        Ok(body)
    }

    /// Whether a deleted object may go: no finalizer holds it, no grace period runs.
    pub(crate) fn nothing_holds(&self, kind: &Kind, tree: &Value) -> bool {
        let grace = metadata::metadata(tree).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        metadata::finalizers(tree).is_empty() && grace == 0 && !kind.held.is_some_and(|held| held(tree))
    }

    /// A reservation that creates a further object in the transaction that carries a write. The object gets its system
    /// fields and defaults, but passes no admission and no validation: it is the server's own.
    pub async fn reserve(&self, target: &Target, mut tree: Value, into: &mut Reservations) -> Result<(), Status> {
        let metadata = metadata_mut(&mut tree);
        metadata.insert("name", target.name.clone());
        if target.kind.namespaced {
            metadata.insert("namespace", target.namespace.clone());
        }
        metadata.insert("uid", uuid::Uuid::new_v4().to_string());
        metadata.insert("creationTimestamp", apimachinery::time::rfc3339(self.clock.now().0));
        if target.kind.generation != Generation::None {
            metadata.insert("generation", 1i64);
        }
        self.default(&target.kind, &mut tree)?;
        let (resource, _) = self.resource_cache(target)?;
        let key = Engine::key(&resource, target);
        let stored = resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource is not stored"))?;
        let value = self.encode(tree, &target.kind, &stored).await?.store(&key, &resource.prefix, &*self.sealer)?;
        into.compares.push(Compare::absent(key.clone()));
        into.operations.push(Op::put(key, value));
        Ok(())
    }

    /// A reservation that replaces an object which must still be as it was read.
    pub async fn reserve_update(
        &self,
        target: &Target,
        tree: Value,
        revision: i64,
        into: &mut Reservations,
    ) -> Result<(), Status> {
        let (resource, _) = self.resource_cache(target)?;
        let key = Engine::key(&resource, target);
        let stored = resource.storage.clone().ok_or_else(|| Status::internal("a virtual resource is not stored"))?;
        let value = self.encode(tree, &target.kind, &stored).await?.store(&key, &resource.prefix, &*self.sealer)?;
        into.compares.push(Compare::mod_revision(key.clone(), revision));
        into.operations.push(Op::put(key, value));
        Ok(())
    }

    /// A reservation that deletes an object of the server's own, if it is there.
    pub fn release(&self, target: &Target, into: &mut Reservations) -> Result<(), Status> {
        let (resource, _) = self.resource_cache(target)?;
        into.operations.push(Op::delete(Engine::key(&resource, target)));
        Ok(())
    }
}

/// Copies the value at a dotted path from `from` into `to`, or removes it there.
fn copy_path(to: &mut Value, from: &Value, path: &str) {
    let keys: Vec<&str> = path.split('.').collect();
    let Some((last, parents)) = keys.split_last() else { return };
    let value = from.at(&keys).cloned();
    let mut place = to;
    for key in parents {
        let Some(map) = place.as_map_mut() else { return };
        place = map.get_or_insert_with(key, || Value::Map(Default::default()));
    }
    let Some(map) = place.as_map_mut() else { return };
    match value {
        Some(value) => {
            map.insert(*last, value);
        }
        None => {
            map.remove(last);
        }
    }
}

/// What a patch made, when it is no object of its kind: the patch is to blame, with all that it made.
fn unfit(kind: &Kind, made: &Value, status: Status) -> Status {
    if status.code != 400 {
        return status;
    }
    let handled = format!("cannot be handled as a {}: ", kind.kind);
    let why = status.message.split_once(&handled).map_or(status.message.as_str(), |(_, why)| why);
    let mut errors = apimachinery::Errors::new();
    let text = String::from_utf8_lossy(&apimachinery::codec::json::encode_free(made)).into_owned();
    errors.invalid(&apimachinery::Path::new("patch"), text, why);
    Status::invalid(&apimachinery::GroupKind::default(), "", &errors)
}
