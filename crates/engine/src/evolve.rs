//! Custom resources, whose definition may have changed since they were stored: brought into the present form when read.

use std::sync::Arc;

use apimachinery::selector::FieldSelector;
use apimachinery::{Kind, Status, Value, defaults, prune};

use crate::cache::{Change, Entry};
use crate::cx::Converter;
use crate::stored::Object;
use crate::watch::Notice;

/// A tree in another version of its resource. Of a kind that evolves, a tree may be of an older version than `from`, and
/// lack defaults and have members that its definition has and lacks now; they are filled in and dropped as upstream does
/// when it decodes from storage.
pub(crate) async fn convert(
    converter: &dyn Converter,
    mut tree: Value,
    from: &Kind,
    to: &Kind,
) -> Result<Value, Status> {
    if !from.evolves {
        return if from.same_form(to) { Ok(tree) } else { converter.convert(tree, from, to).await };
    }
    let is_of = |tree: &Value, kind: &Kind| {
        tree.get("apiVersion").and_then(Value::as_str) == Some(kind.group_version().to_string().as_str())
    };
    if !is_of(&tree, to) {
        if is_of(&tree, from) {
            defaults::set_defaults(&mut tree, &from.schema);
        }
        tree = converter.convert(tree, from, to).await?;
    }
    if to.prune {
        prune::prune(&mut tree, &to.schema);
    }
    defaults::set_defaults(&mut tree, &to.schema);
    Ok(tree)
}

/// The part of a field selector that can be judged only when an object is in the version that the client speaks.
pub(crate) struct LateFields {
    fields: FieldSelector,
    kind: Arc<Kind>,
    converter: Arc<dyn Converter>,
}

impl LateFields {
    /// Takes the late terms out of a selector; `None` when there are none. Names and namespaces never are.
    pub fn split(
        fields: &mut FieldSelector,
        stored: &Kind,
        kind: &Arc<Kind>,
        converter: &Arc<dyn Converter>,
    ) -> Option<LateFields> {
        // A resource with two shapes is stored in one of them: what only the other has a name for is looked up there.
        let named = |field: &str| stored.selectable.iter().any(|path| Kind::selectable_name(path) == field);
        let early =
            |field: &str| matches!(field, "metadata.name" | "metadata.namespace") || (!stored.evolves && named(field));
        let (early, late) = std::mem::take(&mut fields.terms).into_iter().partition(|term| early(&term.field));
        fields.terms = early;
        let late: Vec<_> = late;
        (!late.is_empty()).then(|| LateFields {
            fields: FieldSelector { terms: late },
            kind: kind.clone(),
            converter: converter.clone(),
        })
    }

    /// Whether an object is selected.
    pub async fn takes(&self, object: &Object) -> Result<bool, Status> {
        let tree = convert(&*self.converter, object.tree()?, &object.kind, &self.kind).await?;
        Ok(self.fields.matches_value(&tree))
    }

    async fn takes_entry(&self, entry: &Entry, stored: &Arc<Kind>) -> Result<bool, Status> {
        self.takes(&entry.object(stored)).await
    }

    /// How a notice that the other selectors let through looks when these fields count too.
    pub async fn see(&self, notice: Notice, stored: &Arc<Kind>) -> Result<Option<Notice>, Status> {
        let Notice::Object { change, entry, revision, event } = notice else { return Ok(Some(notice)) };
        let now = change != Change::Deleted && self.takes_entry(&entry, stored).await?;
        let old = match change {
            Change::Added => None,
            Change::Modified => event.as_ref().and_then(|event| event.old.clone()),
            Change::Deleted => Some(entry.clone()),
        };
        let before = match &old {
            Some(old) => self.takes_entry(old, stored).await?,
            None => false,
        };
        Ok(match (before, now) {
            (true, true) => Some(Notice::Object { change: Change::Modified, entry, revision, event }),
            (false, true) => Some(Notice::Object { change: Change::Added, entry, revision, event }),
            (true, false) => match change {
                Change::Deleted => Some(Notice::Object { change, entry, revision, event }),
                _ => old.map(|entry| Notice::Object { change: Change::Deleted, entry, revision, event: None }),
            },
            (false, false) => None,
        })
    }
}
