//! NamespaceLifecycle: nothing is created where no namespace is or where one is ending; three namespaces stay.

use apimachinery::status::Cause;
use apimachinery::{GroupResource, Status};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::text;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "NamespaceLifecycle",
    handles,
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Nothing,
};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

fn handles(a: &Attributes<'_>) -> bool {
    match a.operation {
        Operation::Delete => is(a, "", "namespaces") && a.subresource.is_empty() && IMMORTAL.contains(&a.name),
        // To say whether the namespace exists would tell an access review's asker too much.
        Operation::Create => !a.namespace.is_empty() && !is(a, "authorization.k8s.io", "localsubjectaccessreviews"),
        Operation::Update | Operation::Connect => false,
    }
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if a.operation == Operation::Delete {
        return Err(Status::forbidden(&a.kind.group_resource(), a.name, "this namespace may not be deleted"));
    }
    let namespace = world.get("", "namespaces", "", a.namespace).await?;
    let Some(namespace) = namespace else {
        let resource = GroupResource { group: "".into(), resource: "namespaces".into() };
        return Err(Status::not_found(&resource, a.namespace));
    };
    check(a, text(&namespace, &["status", "phase"]))
}

fn check(a: &Attributes<'_>, phase: &str) -> Result<(), Status> {
    if phase != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", a.namespace);
    let mut status = forbidden(a, why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {} is being terminated", a.namespace),
        field: "metadata.namespace".into(),
    });
    Err(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn a_terminating_namespace_takes_nothing_new() {
        let object = tree(json!({"metadata": {"name": "web"}}));
        let mut write = Write::new(api::core::configmap::kind(), Operation::Create, object);
        let a = write.attributes();
        assert!(handles(&a));
        assert!(check(&a, "Active").is_ok());
        let status = check(&a, "Terminating").unwrap_err();
        assert_eq!(
            status.message,
            r#"configmaps "web" is forbidden: unable to create new content in namespace default because it is being terminated"#
        );
        assert_eq!(status.details.unwrap().causes[0].reason, "NamespaceTerminating");
    }

    #[test]
    fn only_three_namespaces_are_immortal() {
        for (name, wanted) in [("default", true), ("kube-public", true), ("kube-node-lease", false), ("a", false)] {
            let mut write = Write::new(api::core::namespace::kind(), Operation::Delete, Default::default());
            write.name = name;
            assert_eq!(handles(&write.attributes()), wanted, "{name}");
        }
    }
}
