//! The APIServices of the groups that this server serves itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::{SmolStr, Status};
use engine::{Cx, Target, User, Validation, WriteOptions};
use serde_json::json;

use super::{GROUP, availability};
use crate::server::ApiServer;
use crate::tree::tree;

/// How groups are ordered, the largest number first; others get 1000, as custom resources do.
const PRIORITIES: [(&str, i64); 21] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
    ("storagemigration.k8s.io", 15_800),
];

/// Registers every built-in group version that is not registered yet.
pub(super) async fn register(server: &Arc<ApiServer>) {
    let served: BTreeSet<(String, String)> = server
        .served_kinds()
        .iter()
        .filter(|k| k.protobuf && k.group != GROUP)
        .map(|k| (k.group.to_string(), k.version.to_string()))
        .collect();
    for (group, version) in served {
        if let Err(status) = register_one(server, &group, &version).await {
            tracing::warn!(group, version, %status, "an API group could not be registered");
        }
    }
}

async fn register_one(server: &ApiServer, group: &str, version: &str) -> Result<(), Status> {
    let user = User {
        name: SmolStr::new_static("system:apiserver"),
        groups: vec![SmolStr::new_static(crate::authz::MASTERS)],
        ..User::default()
    };
    let cx = Cx::new(Arc::new(user));
    let name = format!("{version}.{group}");
    let kind = server.engine.catalog().kind(GROUP, "v1", "apiservices");
    let kind = kind.ok_or_else(|| Status::internal("APIServices are not served"))?;
    let target = Target { kind, namespace: "".into(), name: "".into(), subresource: "".into() };
    let priority = PRIORITIES.iter().find(|(g, _)| *g == group).map_or(1000, |(_, p)| *p);
    let number: i64 = version.trim_start_matches('v').parse().unwrap_or(1);
    let mut object = tree(json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name, "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": priority,
            "versionPriority": number * 15,
        },
    }));
    engine::decode::settle(&cx, &target.kind, &mut object, Validation::Ignore)?;
    match server.engine.create(&cx, &target, object, &WriteOptions::default()).await {
        Ok(_) => {}
        Err(status) if status.is_already_exists() => {}
        Err(status) => return Err(status),
    }
    let verdict = (true, "Local", "Local APIServices are always available".to_string());
    availability::write(server, &cx, &name, &verdict).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_group_has_its_place() {
        for kind in api::kinds() {
            assert!(kind.group == GROUP || PRIORITIES.iter().any(|(g, _)| *g == kind.group), "{}", kind.group);
        }
    }
}
