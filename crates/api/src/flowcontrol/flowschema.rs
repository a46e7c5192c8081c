//! FlowSchema: sorts requests into flows and priority levels.

use crate::checks::name;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

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

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        let field = path.child("matchingPrecedence");
        let precedence = spec.matching_precedence;
        if precedence <= 0 {
            errors.invalid(&field, precedence, "must be a positive value");
        }
        if precedence > 10_000 {
            errors.invalid(&field, precedence, "must not be greater than 10000");
        }
        if precedence == 1 && self.metadata.name != "exempt" {
            errors.invalid(&field, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
        }
        if let Some(method) = &spec.distinguisher_method {
            let field = path.child("distinguisherMethod");
            if !matches!(method.type_.as_str(), "ByNamespace" | "ByUser") {
                let mut shown = apimachinery::Map::new();
                shown.insert("Type", method.type_.as_str());
                errors.not_supported(&field.child("type"), shown, &["ByNamespace", "ByUser"]);
            }
        }
        let level = path.child("priorityLevelConfiguration");
        let level_name = &spec.priority_level_configuration.name;
        if level_name.is_empty() {
            errors.required(&level.child("name"), "must reference a priority level");
        } else {
            check(errors, &level.child("name"), level_name, dns_subdomain);
        }
        let rules = path.child("rules");
        for (i, rule) in spec.rules.iter().enumerate() {
            subjects_and_rules(errors, &rules.index(i), rule);
        }
    }
}

fn subjects_and_rules(errors: &mut Errors, path: &Path<'_>, rule: &PolicyRulesWithSubjects) {
    let subjects = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        self::subject(errors, &subjects.index(i), subject);
    }
    if rule.resource_rules.is_empty() && rule.non_resource_rules.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let list = path.child("resourceRules");
    for (i, rule) in rule.resource_rules.iter().enumerate() {
        let path = list.index(i);
        verbs(errors, &path.child("verbs"), &rule.verbs, &RESOURCE_VERBS);
        let missing = "resource rules must supply at least one api group";
        stars(errors, &path.child("apiGroups"), &rule.api_groups, missing, "api groups");
        let missing = "resource rules must supply at least one resource";
        stars(errors, &path.child("resources"), &rule.resources, missing, "resources");
        let namespaces = path.child("namespaces");
        if rule.namespaces.is_empty() {
            if !rule.cluster_scope {
                let message = "resource rules that are not cluster scoped must supply at least one namespace";
                errors.required(&namespaces, message);
            }
        } else {
            stars(errors, &namespaces, &rule.namespaces, "", "namespaces");
            for (j, namespace) in rule.namespaces.iter().enumerate().filter(|(_, n)| *n != "*") {
                for fault in dns_label(namespace) {
                    let message = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
                    errors.invalid(&namespaces.index(j), namespace.as_str(), message);
                }
            }
        }
    }
    let list = path.child("nonResourceRules");
    for (i, rule) in rule.non_resource_rules.iter().enumerate() {
        let path = list.index(i);
        verbs(errors, &path.child("verbs"), &rule.verbs, &PATH_VERBS);
        let urls = path.child("nonResourceURLs");
        let missing = "nonResourceURLs must contain at least one value";
        stars(errors, &urls, &rule.non_resource_urls, missing, "nonResourceURLs");
        for (j, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            if !url.starts_with('/') {
                errors.invalid(&urls.index(j), url.as_str(), "must start with slash");
            }
        }
    }
}

const RESOURCE_VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PATH_VERBS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

fn verbs(errors: &mut Errors, path: &Path<'_>, verbs: &[String], known: &[&str]) {
    stars(errors, path, verbs, "verbs must contain at least one value", "verbs");
    let star = verbs.iter().any(|verb| verb == "*");
    if !star && verbs.iter().any(|verb| !known.contains(&verb.as_str())) {
        errors.not_supported(path, Value::List(verbs.iter().map(|v| v.as_str().into()).collect()), known);
    }
}

/// A list that is not empty and in which a star stands alone.
fn stars(errors: &mut Errors, path: &Path<'_>, values: &[String], missing: &str, what: &str) {
    if values.is_empty() {
        errors.required(path, missing);
    } else if values.len() > 1 && values.iter().any(|v| v == "*") {
        let shown: Vec<Value> = values.iter().map(|v| v.as_str().into()).collect();
        errors.invalid(path, shown, format!("if '*' is present, must not specify other {what}"));
    }
}

fn subject(errors: &mut Errors, path: &Path<'_>, subject: &Subject) {
    let set = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !set.iter().any(|(kind, ..)| *kind == subject.kind) {
        errors.not_supported(&path.child("kind"), subject.kind.as_str(), &["Group", "ServiceAccount", "User"]);
        return;
    }
    for (kind, field, set) in set {
        if kind != subject.kind && set {
            errors.forbidden(&path.child(field), format!("{field} is forbidden when subject kind is not '{kind}'"));
        } else if kind == subject.kind && !set {
            errors.required(&path.child(field), format!("{field} is required when subject kind is '{kind}'"));
        }
    }
    let names = [
        ("user", subject.user.as_ref().map(|user| &user.name)),
        ("group", subject.group.as_ref().map(|group| &group.name)),
        ("serviceAccount", subject.service_account.as_ref().map(|account| &account.name)),
    ];
    for (field, name) in names {
        if name.is_some_and(|name| name.is_empty()) {
            errors.required(&path.child(field).child("name"), "");
        }
    }
}

fn missing_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]);
    conditions.iter().find(|c| str_of(c, &["type"]) == "Dangling").map_or("?".into(), |c| text(c, &["status"]))
}
