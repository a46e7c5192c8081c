//! DefaultStorageClass and DefaultIngressClass: who names no class gets the default one, the newest if there are several.

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, is};
use crate::tree::{annotation, set, text};

pub(crate) const STORAGE: Plugin = Plugin {
    name: "DefaultStorageClass",
    handles: |a| creates(a, "", "persistentvolumeclaims"),
    mutate: Step::Later(|world, a| Box::pin(storage(world, a))),
    validate: Step::Nothing,
};

pub(crate) const INGRESS: Plugin = Plugin {
    name: "DefaultIngressClass",
    handles: |a| creates(a, "networking.k8s.io", "ingresses"),
    mutate: Step::Later(|world, a| Box::pin(ingress(world, a))),
    validate: Step::Nothing,
};

const STORAGE_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const INGRESS_DEFAULT: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

fn creates(a: &Attributes<'_>, group: &str, resource: &str) -> bool {
    is(a, group, resource) && a.subresource.is_empty() && a.operation == Operation::Create
}

async fn storage(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    // The empty class is a wish too: for a volume without one.
    let named = annotation(a.object, "volume.beta.kubernetes.io/storage-class").is_some()
        || a.object.str_at(&["spec", "storageClassName"]).is_some();
    if !named && let Some(name) = default(&world.list("storage.k8s.io", "storageclasses", "").await?, &STORAGE_DEFAULT)
    {
        set(a.object, &["spec", "storageClassName"], name);
    }
    Ok(())
}

async fn ingress(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let named = annotation(a.object, "kubernetes.io/ingress.class").is_some()
        || a.object.str_at(&["spec", "ingressClassName"]).is_some();
    if !named
        && let Some(name) = default(&world.list("networking.k8s.io", "ingressclasses", "").await?, &INGRESS_DEFAULT)
    {
        set(a.object, &["spec", "ingressClassName"], name);
    }
    Ok(())
}

fn default(classes: &[Value], marks: &[&str]) -> Option<String> {
    let marked = |c: &&Value| marks.iter().any(|mark| annotation(c, mark) == Some("true"));
    // Times in one form compare as text.
    let order = |c: &&Value| {
        let name = text(c, &["metadata", "name"]).to_string();
        (std::cmp::Reverse(text(c, &["metadata", "creationTimestamp"]).to_string()), name)
    };
    classes.iter().filter(marked).min_by_key(order).map(|c| text(c, &["metadata", "name"]).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn the_newest_default_wins() {
        let class = |name: &str, time: &str, default: &str| {
            tree(json!({"metadata": {
                "name": name, "creationTimestamp": time, "annotations": {STORAGE_DEFAULT[0]: default},
            }}))
        };
        let classes = [
            class("old", "2024-01-01T00:00:00Z", "true"),
            class("b", "2025-01-01T00:00:00Z", "true"),
            class("a", "2025-01-01T00:00:00Z", "true"),
            class("newest", "2026-01-01T00:00:00Z", "false"),
        ];
        assert_eq!(default(&classes, &STORAGE_DEFAULT).as_deref(), Some("a"));
        assert_eq!(default(&classes[3..], &STORAGE_DEFAULT), None);
    }
}
