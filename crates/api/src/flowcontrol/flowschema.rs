//! FlowSchema: sorts requests into flows and priority levels.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Time, Value};

use crate::cells::{items, number, str_of, text, text_or};
use crate::served::served;

/// FlowSchema: sorts requests into flows and priority levels.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.FlowSchema")]
pub struct FlowSchema {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: FlowSchemaSpec,
    #[api(3, omitempty)]
    pub status: FlowSchemaStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.FlowSchemaSpec")]
pub struct FlowSchemaSpec {
    #[api(1, required)]
    pub priority_level_configuration: PriorityLevelConfigurationReference,
    #[api(2)]
    pub matching_precedence: i32,
    #[api(3, omitempty)]
    pub distinguisher_method: Option<FlowDistinguisherMethod>,
    #[api(4, omitempty, list = "atomic")]
    pub rules: Vec<PolicyRulesWithSubjects>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.FlowDistinguisherMethod")]
pub struct FlowDistinguisherMethod {
    #[api(1, required)]
    pub type_: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationReference")]
pub struct PriorityLevelConfigurationReference {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.PolicyRulesWithSubjects")]
pub struct PolicyRulesWithSubjects {
    #[api(1, required, list = "atomic")]
    pub subjects: Vec<Subject>,
    #[api(2, omitempty, list = "atomic")]
    pub resource_rules: Vec<ResourcePolicyRule>,
    #[api(3, omitempty, list = "atomic")]
    pub non_resource_rules: Vec<NonResourcePolicyRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.Subject")]
pub struct Subject {
    #[api(1, required)]
    pub kind: String,
    #[api(2, omitempty)]
    pub user: Option<UserSubject>,
    #[api(3, omitempty)]
    pub group: Option<GroupSubject>,
    #[api(4, omitempty)]
    pub service_account: Option<ServiceAccountSubject>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.UserSubject")]
pub struct UserSubject {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.GroupSubject")]
pub struct GroupSubject {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.ServiceAccountSubject")]
pub struct ServiceAccountSubject {
    #[api(1, required)]
    pub namespace: String,
    #[api(2, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.ResourcePolicyRule")]
pub struct ResourcePolicyRule {
    #[api(1, required, list = "set")]
    pub verbs: Vec<String>,
    #[api(2, required, list = "set")]
    pub api_groups: Vec<String>,
    #[api(3, required, list = "set")]
    pub resources: Vec<String>,
    #[api(4, omitempty)]
    pub cluster_scope: bool,
    #[api(5, list = "set")]
    pub namespaces: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.NonResourcePolicyRule")]
pub struct NonResourcePolicyRule {
    #[api(1, required, list = "set")]
    pub verbs: Vec<String>,
    #[api(6, json = "nonResourceURLs", required, list = "set")]
    pub non_resource_urls: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.FlowSchemaStatus")]
pub struct FlowSchemaStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<FlowSchemaCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.flowcontrol.v1.FlowSchemaCondition")]
pub struct FlowSchemaCondition {
    #[api(1, omitempty, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<FlowSchema>("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")
        .status()
        .generation(Generation::OnSpec)
        .code_column("PriorityLevel", "string", |o, _| text(o, &["spec", "priorityLevelConfiguration", "name"]))
        .code_column("MatchingPrecedence", "string", |o, _| number(o, &["spec", "matchingPrecedence"]))
        .code_column("DistinguisherMethod", "string", |o, _| {
            text_or(o, &["spec", "distinguisherMethod", "type"], "<none>")
        })
        .age()
        .code_column("MissingPL", "string", missing_cell)
        .example(
            r#"{"metadata": {"name": "robots"}, "spec": {"priorityLevelConfiguration": {"name": "workload-low"},
            "matchingPrecedence": 5000, "distinguisherMethod": {"type": "ByUser"}, "rules": [{"subjects": [{"kind": "Group",
            "group": {"name": "system:serviceaccounts"}}], "resourceRules": [{"verbs": ["get"],
            "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}}"#,
        )
}

served!(FlowSchema, "flowcontrol.apiserver.k8s.io", "v1", "flowschemas", false);

impl Rules for FlowSchema {
    fn set_defaults(&mut self) {
        if self.spec.matching_precedence == 0 {
            self.spec.matching_precedence = 1000;
        }
    }
}

fn missing_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]);
    conditions.iter().find(|c| str_of(c, &["type"]) == "Dangling").map_or("?".into(), |c| text(c, &["status"]))
}
