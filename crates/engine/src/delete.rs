//! Delete and deletecollection: preconditions, grace periods, finalizers, propagation.

use apimachinery::{SmolStr, Status, Value};
use store::{Compare, Op, Txn};

use crate::Engine;
use crate::cx::{Attributes, Cx, Operation, Reservations};
use crate::metadata::{self, metadata_mut, text};
use crate::options::{DeleteOptions, ListOptions, Propagation, Target};
use crate::stored::{Body, Object};

/// How often a delete is tried against a newer object.
const DELETE_TRIES: usize = 32;
/// Objects deleted at the same time by deletecollection.
const PAGE: usize = 500;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// How a delete ended.
pub enum Deleted {
    /// It is gone; the object is its last state.
    Gone(Object),
    /// It stays until finalizers or its grace period let it go.
    Pending(Object),
}

impl Engine {
    /// Deletes an object, or begins to.
    pub async fn delete(&self, cx: &Cx, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
        let kind = &target.kind;
        for _ in 0..DELETE_TRIES {
            let (current, key) = self.current(target).await?;
            let current = current.ok_or_else(|| Status::not_found(&kind.group_resource(), &target.name))?;
            let old = self.tree(&current, kind).await?;
            metadata::check_preconditions(kind, &target.name, &old, &options.preconditions)?;
            let released = self.admit_delete(cx, target, &old, options).await?;

            let mut new = old.clone();
            let wanted = wanted_finalizers(&old, options);
            if let Some(finalizers) = &wanted {
                metadata::set_finalizers(&mut new, finalizers.clone());
            }
            let grace = self.grace(target, &old, options);
            let deleting = metadata::is_deleting(&old);
            let now = self.clock.now().0;
            match (deleting, kind.grace.is_some()) {
                (true, true) => {
                    let running = grace_of(&old);
                    // A grace period that runs may only be shortened.
                    if grace >= running && wanted.is_none() && (running > 0 || !self.nothing_holds(kind, &new)) {
                        return Ok(Deleted::Pending(current));
                    }
                    if grace < running {
                        set_deleting(&mut new, now + grace, grace);
                    }
                }
                (true, false) => {
                    if wanted.is_none() && !self.nothing_holds(kind, &new) {
                        return Ok(Deleted::Pending(current));
                    }
                }
                (false, _) => {
                    set_deleting(&mut new, now + grace, grace);
                    if let Some(generation) = metadata::metadata(&new).get("generation").and_then(Value::as_i64)
                        && generation > 0
                    {
                        metadata_mut(&mut new).insert("generation", generation + 1);
                    }
                    if let Some(begin) = kind.begin_delete {
                        begin(&mut new);
                    }
                }
            }
            let gone = self.nothing_holds(kind, &new);
            let (resource, _) = self.resource_cache(target)?;
            let stored = current.kind.clone();
            let compare = Compare::mod_revision(key.clone(), current.revision);
            if gone {
                if options.dry_run {
                    return Ok(Deleted::Gone(current));
                }
                let mut txn = Txn::new().when(compare).then(Op::delete(key));
                // What the object held becomes free together with its end, and not before.
                txn.compares.extend(released.compares);
                txn.success.extend(released.operations);
                let answer = self.store.txn(txn).await.map_err(crate::store_error)?;
                if answer.succeeded {
                    return Ok(Deleted::Gone(Object::new(stored, answer.revision, current.body().clone())));
                }
                continue;
            }
            let body = Body::encode(&self.convert(new, kind, &stored).await?, &stored);
            if options.dry_run {
                return Ok(Deleted::Pending(Object::new(stored, current.revision, body)));
            }
            let value = body.store(&key, &resource.prefix, &*self.sealer)?;
            let answer =
                self.store.txn(Txn::new().when(compare).then(Op::put(key, value))).await.map_err(crate::store_error)?;
            if answer.succeeded {
                return Ok(Deleted::Pending(Object::new(stored, answer.revision, body)));
            }
        }
        Err(Status::conflict(&kind.group_resource(), &target.name, "too many writers at once; please try again"))
    }

    /// Deletes every object that matches; answers with what was there.
    pub async fn delete_collection(
        &self,
        cx: &Cx,
        target: &Target,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Object>, Status> {
        let page = self.list(cx, target, &ListOptions { limit: 0, ..list.clone() }).await?;
        let mut deleted = Vec::with_capacity(page.objects.len().min(PAGE));
        for object in page.objects {
            let tree = object.tree()?;
            let one = Target {
                name: SmolStr::new(text(&tree, "name")),
                namespace: SmolStr::new(text(&tree, "namespace")),
                ..target.clone()
            };
            match self.delete(cx, &one, options).await {
                Ok(_) => deleted.push(object),
                // Someone else was faster, which is what was wanted.
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok(deleted)
    }

    fn grace(&self, target: &Target, old: &Value, options: &DeleteOptions) -> i64 {
        let Some(default) = target.kind.grace else { return 0 };
        let own = default(old);
        // The kind says less than 0 when nothing runs that could end gracefully; then a wish for more means nothing.
        match options.grace_period_seconds {
            _ if own < 0 => 0,
            Some(seconds) => seconds.max(0),
            None => own,
        }
    }

    /// Asks admission; answers with what becomes free when the object is gone.
    async fn admit_delete(
        &self,
        cx: &Cx,
        target: &Target,
        old: &Value,
        options: &DeleteOptions,
    ) -> Result<Reservations, Status> {
        let mut object = Value::Null;
        let mut reservations = Reservations::default();
        let mut attributes = Attributes {
            cx,
            operation: Operation::Delete,
            kind: &target.kind,
            namespace: &target.namespace,
            name: &target.name,
            subresource: &target.subresource,
            object: &mut object,
            old: Some(old),
            options: &options.tree,
            dry_run: options.dry_run,
            reservations: &mut reservations,
        };
        self.admission.mutate(&mut attributes).await?;
        self.admission.validate(&mut attributes).await?;
        Ok(reservations)
    }
}

fn grace_of(tree: &Value) -> i64 {
    metadata::metadata(tree).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0)
}

fn set_deleting(tree: &mut Value, at: i64, grace: i64) {
    let metadata = metadata_mut(tree);
    metadata.insert("deletionTimestamp", apimachinery::time::rfc3339(at));
    metadata.insert("deletionGracePeriodSeconds", grace);
}

/// The finalizers that the propagation policy asks for, when they differ from those there are.
fn wanted_finalizers(old: &Value, options: &DeleteOptions) -> Option<Vec<SmolStr>> {
    let present = metadata::finalizers(old);
    let (orphan, foreground) = match options.propagation {
        // Without a wish, what an earlier delete asked for stays.
        None => (present.contains(&ORPHAN), present.contains(&FOREGROUND)),
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
    };
    let mut wanted: Vec<SmolStr> =
        present.iter().filter(|f| **f != ORPHAN && **f != FOREGROUND).map(SmolStr::new).collect();
    if orphan {
        wanted.push(SmolStr::new_static(ORPHAN));
    }
    if foreground {
        wanted.push(SmolStr::new_static(FOREGROUND));
    }
    let same = wanted.len() == present.len() && wanted.iter().all(|f| present.contains(&f.as_str()));
    (!same).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::Map;

    fn with_finalizers(names: &[&str]) -> Value {
        let mut tree = Value::Map(Map::new());
        metadata::set_finalizers(&mut tree, names.iter().map(SmolStr::new).collect());
        tree
    }

    #[test]
    fn propagation_sets_its_finalizer_and_removes_the_other() {
        let options = |p| DeleteOptions { propagation: p, ..DeleteOptions::default() };
        let old = with_finalizers(&["a", ORPHAN]);
        assert_eq!(wanted_finalizers(&old, &options(None)), None);
        assert_eq!(
            wanted_finalizers(&old, &options(Some(Propagation::Foreground))),
            Some(vec!["a".into(), FOREGROUND.into()])
        );
        assert_eq!(wanted_finalizers(&old, &options(Some(Propagation::Background))), Some(vec!["a".into()]));
        assert_eq!(wanted_finalizers(&with_finalizers(&[]), &options(None)), None);
    }
}
