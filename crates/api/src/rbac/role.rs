//! Role: is a set of permissions in one namespace.

use crate::checks::name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::path_segment;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::served::served;

/// Role: is a set of permissions in one namespace.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.Role")]
pub struct Role {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, list = "atomic")]
    pub rules: Vec<PolicyRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.PolicyRule")]
pub struct PolicyRule {
    #[api(1, required, list = "atomic")]
    pub verbs: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub api_groups: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub resources: Vec<String>,
    #[api(4, omitempty, list = "atomic")]
    pub resource_names: Vec<String>,
    #[api(5, json = "nonResourceURLs", omitempty, list = "atomic")]
    pub non_resource_urls: Vec<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Role>("rbac.authorization.k8s.io", "v1", "roles")
        .created_at()
        .create_on_update()
        .example(r#"{"metadata":{"name":"reader"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#)
}

served!(Role, "rbac.authorization.k8s.io", "v1", "roles", true);

impl Rules for Role {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        let rules = Path::new("rules");
        for (i, rule) in self.rules.iter().enumerate() {
            policy_rule(errors, &rules.index(i), rule, true);
        }
    }
}

/// Checks one rule of a role.
pub(crate) fn policy_rule(errors: &mut Errors, path: &Path<'_>, rule: &PolicyRule, namespaced: bool) {
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "");
    }
    if !rule.non_resource_urls.is_empty() {
        let field = path.child("nonResourceURLs");
        let shown = apimachinery::Api::to_value(&rule.non_resource_urls);
        if namespaced {
            errors.invalid(&field, shown.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if !rule.api_groups.is_empty() || !rule.resources.is_empty() || !rule.resource_names.is_empty() {
            errors.invalid(&field, shown, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if rule.api_groups.is_empty() {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if rule.resources.is_empty() {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn rules_say_what_on_what() {
        refuses(
            &super::kind(),
            &[("rules", r#"[{"resources":["pods"]}]"#)],
            &[
                "rules[0].verbs: Required value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            ],
        );
        refuses(&super::kind(), &[("metadata.name", "\"system:a\"")], &[]);
    }
}
