//! StorageObjectInUseProtection and PersistentVolumeClaimResize: volumes are not pulled from under their users, and only
//! grow where their class says so.

use api::quota::amounts;
use apimachinery::{Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::{annotation, flag, list_mut, strings, text};

pub(crate) const PROTECTION: Plugin = Plugin {
    name: "StorageObjectInUseProtection",
    handles: |a| a.operation == Operation::Create && a.subresource.is_empty() && finalizer(a).is_some(),
    mutate: Step::Now(protect),
    validate: Step::Nothing,
};

pub(crate) const RESIZE: Plugin = Plugin {
    name: "PersistentVolumeClaimResize",
    handles: |a| is(a, "", "persistentvolumeclaims") && a.subresource.is_empty() && a.operation == Operation::Update,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(check_resize(world, a))),
};

fn finalizer(a: &Attributes<'_>) -> Option<&'static str> {
    match (a.kind.group.as_ref(), a.kind.resource.as_ref()) {
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

fn protect(_: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if let Some(finalizer) = finalizer(a)
        && !strings(a.object, &["metadata", "finalizers"]).contains(&finalizer)
        && let Some(finalizers) = list_mut(a.object, &["metadata", "finalizers"])
    {
        finalizers.push(finalizer.into());
    }
    Ok(())
}

fn class(claim: &Value) -> &str {
    annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| text(claim, &["spec", "storageClassName"]))
}

fn grows(new: &Value, old: &Value) -> bool {
    let size = |claim: &Value| amounts(claim.at(&["spec", "resources", "requests"])).remove("storage");
    match (size(new), size(old)) {
        (Some(new), Some(old)) => new > old,
        (Some(_), None) => true,
        _ => false,
    }
}

async fn check_resize(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let Some(old) = a.old.filter(|old| grows(a.object, old)) else { return Ok(()) };
    if text(old, &["status", "phase"]) != "Bound" {
        return Err(forbidden(a, "Only bound persistent volume claims can be expanded"));
    }
    let name = class(a.object);
    let allowed = !name.is_empty()
        && name == class(old)
        && world
            .get("storage.k8s.io", "storageclasses", "", name)
            .await?
            .is_some_and(|class| flag(&class, &["allowVolumeExpansion"]));
    if !allowed {
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        return Err(forbidden(a, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn new_claims_are_protected_once() {
        let kind = api::core::persistentvolumeclaim::kind();
        let mut write = Write::new(kind, Operation::Create, tree(json!({"metadata": {"finalizers": ["x"]}})));
        assert!((PROTECTION.handles)(&write.attributes()));
        let world = World::new(Default::default());
        protect(&world, &mut write.attributes()).unwrap();
        protect(&world, &mut write.attributes()).unwrap();
        assert_eq!(strings(&write.object, &["metadata", "finalizers"]), ["x", "kubernetes.io/pvc-protection"]);
    }

    #[test]
    fn growth_is_a_larger_request() {
        let claim = |size: &str| tree(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        assert!(grows(&claim("2Gi"), &claim("1Gi")));
        assert!(!grows(&claim("1024Mi"), &claim("1Gi")));
        assert!(!grows(&claim("1Mi"), &claim("1Gi")));
    }
}
