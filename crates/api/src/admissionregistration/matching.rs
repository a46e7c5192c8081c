//! Rules that say which requests a webhook or policy sees.

use apimachinery::meta::LabelSelector;
use apimachinery::validation::{check, path_segment, qualified_name, require};
use apimachinery::{Api, Errors, Path, Value};

use crate::admissionregistration::expressions::check_conditions;
use crate::cells::{selector_text, str_of};
use crate::checks::{label_selector, maybe_one_of};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Rule")]
pub struct Rule {
    #[api(1, omitempty, list = "atomic")]
    pub api_groups: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub api_versions: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub resources: Vec<String>,
    #[api(4, omitempty, enumeration("*", "Cluster", "Namespaced"))]
    pub scope: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ParamKind", atomic)]
pub struct ParamKind {
    #[api(1, omitempty)]
    pub api_version: String,
    #[api(2, omitempty)]
    pub kind: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Variable", atomic)]
pub struct Variable {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ParamRef", atomic)]
pub struct ParamRef {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub namespace: String,
    #[api(3, omitempty)]
    pub selector: Option<LabelSelector>,
    #[api(4, omitempty)]
    pub parameter_not_found_action: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MatchResources", atomic)]
pub struct MatchResources {
    #[api(1, omitempty)]
    pub namespace_selector: Option<LabelSelector>,
    #[api(2, omitempty)]
    pub object_selector: Option<LabelSelector>,
    #[api(3, omitempty, list = "atomic")]
    pub resource_rules: Vec<NamedRuleWithOperations>,
    #[api(4, omitempty, list = "atomic")]
    pub exclude_resource_rules: Vec<NamedRuleWithOperations>,
    #[api(7, omitempty, enumeration("Equivalent", "Exact"))]
    pub match_policy: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", atomic)]
pub struct NamedRuleWithOperations {
    #[api(1, omitempty, list = "atomic")]
    pub resource_names: Vec<String>,
    #[api(2, inline)]
    pub rule_with_operations: RuleWithOperations,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.RuleWithOperations")]
pub struct RuleWithOperations {
    #[api(1, omitempty, list = "atomic")]
    pub operations: Vec<String>,
    #[api(2, inline)]
    pub rule: Rule,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MatchCondition")]
pub struct MatchCondition {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub expression: String,
}

impl Rule {
    pub(crate) fn set_defaults(&mut self) {
        self.scope.get_or_insert_with(|| "*".into());
    }
}

impl MatchResources {
    pub(crate) fn set_defaults(&mut self) {
        self.match_policy.get_or_insert_with(|| "Equivalent".into());
        self.namespace_selector.get_or_insert_default();
        self.object_selector.get_or_insert_default();
        for rule in self.resource_rules.iter_mut().chain(&mut self.exclude_resource_rules) {
            rule.rule_with_operations.rule.set_defaults();
        }
    }
}

/// Checks one rule: which operations on which resources.
pub(crate) fn rule_with_operations(errors: &mut Errors, path: &Path<'_>, rule: &RuleWithOperations) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations = path.child("operations");
    listed(errors, &operations, &rule.operations, "operations");
    for (i, operation) in rule.operations.iter().enumerate() {
        if !OPERATIONS.contains(&operation.as_str()) {
            errors.not_supported(&operations.index(i), operation.as_str(), &OPERATIONS);
        }
    }
    let rule = &rule.rule;
    listed(errors, &path.child("apiGroups"), &rule.api_groups, "API groups");
    let versions = path.child("apiVersions");
    listed(errors, &versions, &rule.api_versions, "API versions");
    let resources = path.child("resources");
    if rule.resources.is_empty() {
        errors.required(&resources, "");
    }
    for (field, values) in [(&versions, &rule.api_versions), (&resources, &rule.resources)] {
        for (i, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            errors.required(&field.index(i), "");
        }
    }
    let has = |wanted: &str| rule.resources.iter().any(|r| r == wanted);
    if rule.resources.len() > 1 && has("*/*") {
        let message = "if '*/*' is present, must not specify other resources";
        errors.invalid(&resources, rule.resources.to_value(), message);
    }
    if has("*") && rule.resources.iter().any(|r| r != "*" && !r.contains('/')) {
        let message = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(&resources, rule.resources.to_value(), message);
    }
    maybe_one_of(errors, &path.child("scope"), rule.scope.as_ref(), &["*", "Cluster", "Namespaced"]);
}

/// A list that is not empty and in which a star stands alone.
fn listed(errors: &mut Errors, path: &Path<'_>, values: &[String], what: &str) {
    if values.is_empty() {
        errors.required(path, "");
    }
    if values.len() > 1 && values.iter().any(|v| v == "*") {
        let shown: Vec<Value> = values.iter().map(|v| v.as_str().into()).collect();
        errors.invalid(path, shown, format!("if '*' is present, must not specify other {what}"));
    }
}

/// Names and expressions of match conditions; `params` says whether they may name parameters.
pub(crate) fn match_conditions(errors: &mut Errors, path: &Path<'_>, conditions: &[MatchCondition], params: bool) {
    if conditions.len() > 64 {
        errors.too_many(path, conditions.len(), 64);
    }
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        require(errors, &path.child("name"), &condition.name, qualified_name);
        if conditions[..i].iter().any(|other| other.name == condition.name) {
            errors.duplicate(&path.child("name"), condition.name.as_str());
        }
        if condition.expression.trim().is_empty() {
            errors.required(&path.child("expression"), "");
        }
    }
    check_conditions(errors, path, conditions, params);
}

/// Checks what a policy or binding matches.
pub(crate) fn match_resources(errors: &mut Errors, path: &Path<'_>, resources: &MatchResources) {
    maybe_one_of(errors, &path.child("matchPolicy"), resources.match_policy.as_ref(), &["Equivalent", "Exact"]);
    for (field, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        if let Some(selector) = selector {
            label_selector(errors, &path.child(field), selector);
        }
    }
    for (field, rules) in
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)]
    {
        let list = path.child(field);
        for (i, rule) in rules.iter().enumerate() {
            rule_with_operations(errors, &list.index(i), &rule.rule_with_operations);
        }
    }
}

/// Checks the parts that both sorts of policy have.
pub(crate) fn policy(
    errors: &mut Errors,
    path: &Path<'_>,
    kind: Option<&ParamKind>,
    constraints: Option<&MatchResources>,
    variables: &[Variable],
) {
    let field = path.child("matchConstraints");
    match constraints {
        None => errors.required(&field, ""),
        Some(constraints) => {
            if constraints.resource_rules.is_empty() {
                errors.required(&field.child("resourceRules"), "");
            }
            match_resources(errors, &field, constraints);
        }
    }
    if let Some(kind) = kind {
        let field = path.child("paramKind");
        if kind.api_version.is_empty() {
            errors.required(&field.child("apiVersion"), "");
        }
        if kind.kind.is_empty() {
            errors.required(&field.child("kind"), "");
        }
    }
    let list = path.child("variables");
    for (i, variable) in variables.iter().enumerate() {
        let path = list.index(i);
        let field = path.child("name");
        let name = variable.name.as_str();
        let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        if name.is_empty() {
            errors.required(&field, "name is not specified");
        } else if !letter(name.as_bytes()[0]) || !name.bytes().all(|b| letter(b) || b.is_ascii_digit()) {
            errors.invalid(&field, name, "name is not a valid CEL identifier");
        } else if variables[..i].iter().any(|other| other.name == name) {
            errors.duplicate(&field, name);
        }
        if variable.expression.trim().is_empty() {
            errors.required(&path.child("expression"), "expression is not specified");
        }
    }
}

/// Checks the parts that both sorts of binding have.
pub(crate) fn policy_binding(
    errors: &mut Errors,
    path: &Path<'_>,
    policy: &str,
    param: Option<&ParamRef>,
    resources: Option<&MatchResources>,
) {
    require(errors, &path.child("policyName"), policy, path_segment);
    if let Some(param) = param {
        let field = path.child("paramRef");
        match (param.name.is_empty(), &param.selector) {
            (true, None) => errors.required(&field, "one of name or selector must be specified"),
            (false, Some(_)) => {
                let message = "name and selector are mutually exclusive";
                errors.forbidden(&field.child("name"), message);
            }
            (true, Some(selector)) => label_selector(errors, &field.child("selector"), selector),
            (false, None) => check(errors, &field.child("name"), &param.name, path_segment),
        }
        let action = field.child("parameterNotFoundAction");
        match &param.parameter_not_found_action {
            None => errors.required(&action, ""),
            some => maybe_one_of(errors, &action, some.as_ref(), &["Allow", "Deny"]),
        }
    }
    if let Some(resources) = resources {
        match_resources(errors, &path.child("matchResources"), resources);
    }
}

/// The parameter kind of a policy as a cell.
pub(crate) fn param_kind(object: &Value) -> Value {
    match object.at(&["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", str_of(kind, &["apiVersion"]), str_of(kind, &["kind"])).into(),
        None => "<unset>".into(),
    }
}

/// The parameters of a binding as a cell.
pub(crate) fn param_ref(object: &Value) -> Value {
    let Some(param) = object.at(&["spec", "paramRef"]) else { return "<unset>".into() };
    match (str_of(param, &["namespace"]), str_of(param, &["name"]), param.get("selector")) {
        ("", "", Some(selector)) => selector_text(selector).into(),
        (_, "", _) => "<unset>".into(),
        ("", name, _) => format!("*/{name}").into(),
        (namespace, name, _) => format!("{namespace}/{name}").into(),
    }
}
