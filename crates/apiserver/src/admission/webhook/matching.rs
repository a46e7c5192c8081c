//! Which writes a webhook is asked about.

use std::sync::Arc;

use apimachinery::selector::LabelSelector;
use apimachinery::{Kind, Value};
use engine::Attributes;

use crate::tree::{strings, text};

/// The conditions of one webhook.
pub struct Match {
    pub rules: Vec<Rule>,
    /// A rule about one version of a resource means the others too.
    pub equivalent: bool,
    /// Absent: everything.
    pub namespaces: Option<LabelSelector>,
    pub objects: Option<LabelSelector>,
}

/// One rule of a webhook.
#[derive(Debug, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

/// A selector that selects something less than everything; one that cannot be read selects nothing.
pub fn selector(tree: Option<&Value>) -> Option<LabelSelector> {
    let tree = tree.filter(|t| t.as_map().is_some_and(|m| !m.is_empty()))?;
    let selector = LabelSelector::from_value(Some(tree)).unwrap_or_else(|_| LabelSelector::nothing());
    (!selector.is_everything()).then_some(selector)
}

pub fn labels_match(selector: &LabelSelector, object: Option<&Value>) -> bool {
    object.is_some_and(|o| selector.matches_value(o.at(&["metadata", "labels"])))
}

impl Rule {
    pub fn read(tree: &Value) -> Rule {
        let list = |key| strings(tree, &[key]).into_iter().map(str::to_string).collect();
        Rule {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            scope: text(tree, &["scope"]).into(),
        }
    }

    /// Whether the rule is about a write to an object of this version.
    pub fn matches(&self, a: &Attributes<'_>, kind: &Kind) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|x| x == "*" || x == wanted);
        let in_scope = match self.scope.as_str() {
            "Namespaced" => kind.namespaced,
            "Cluster" => !kind.namespaced,
            _ => true,
        };
        in_scope
            && has(&self.operations, a.operation.word())
            && has(&self.groups, &kind.group)
            && has(&self.versions, &kind.version)
            && self.resources.iter().any(|pattern| {
                let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
                let sub = subresource == "*" || subresource == a.subresource;
                (resource == "*" || resource == kind.resource) && sub
            })
    }
}

impl Match {
    /// The version in which the webhook is asked; `None` when no rule is about the write.
    pub fn version(&self, a: &Attributes<'_>, versions: &[Arc<Kind>]) -> Option<Arc<Kind>> {
        if self.rules.iter().any(|r| r.matches(a, a.kind)) {
            return Some(a.kind.clone());
        }
        if !self.equivalent {
            return None;
        }
        versions.iter().find(|kind| self.rules.iter().any(|r| r.matches(a, kind))).cloned()
    }

    /// Whether the labels of the new or the old object are selected.
    pub fn objects_match(&self, a: &Attributes<'_>) -> bool {
        let Some(selector) = &self.objects else { return true };
        let new = Some(&*a.object).filter(|o| !o.is_null());
        labels_match(selector, new) || labels_match(selector, a.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use engine::Operation;
    use serde_json::json;

    fn rule(groups: &[&str], versions: &[&str], resources: &[&str], scope: &str) -> Match {
        let rule = json!({
            "operations": ["CREATE"], "apiGroups": groups, "apiVersions": versions, "resources": resources,
            "scope": scope,
        });
        let rules = vec![Rule::read(&tree(rule))];
        Match { rules, equivalent: true, namespaces: None, objects: None }
    }

    #[test]
    fn rules_choose_by_resource_and_scope() {
        // (rule, subresource, asked)
        let cases = [
            (rule(&[""], &["v1"], &["pods"], "*"), "", true),
            (rule(&[""], &["v1"], &["pods"], "*"), "status", false),
            (rule(&["*"], &["*"], &["*/*"], ""), "status", true),
            (rule(&["*"], &["*"], &["*"], ""), "status", false),
            (rule(&["*"], &["*"], &["pods/*"], ""), "exec", true),
            (rule(&["*"], &["*"], &["*"], "Cluster"), "", false),
            (rule(&["apps"], &["*"], &["*"], ""), "", false),
        ];
        for (what, subresource, wanted) in cases {
            let mut write = Write::new(api::core::pod::kind(), Operation::Create, Value::Null);
            write.subresource = subresource;
            let asked = what.version(&write.attributes(), &[]).is_some();
            assert_eq!(asked, wanted, "{:?} {subresource:?}", what.rules);
        }
    }

    #[test]
    fn other_versions_are_equivalent() {
        let kinds: Vec<Arc<Kind>> =
            [api::autoscaling::v1::kind(), api::autoscaling::horizontalpodautoscaler::kind()].map(Arc::new).to_vec();
        let mut what = rule(&["autoscaling"], &["v2"], &["horizontalpodautoscalers"], "");
        let mut write = Write::new(api::autoscaling::v1::kind(), Operation::Create, Value::Null);
        assert_eq!(what.version(&write.attributes(), &kinds).unwrap().version, "v2");
        what.equivalent = false;
        assert!(what.version(&write.attributes(), &kinds).is_none());
    }

    #[test]
    fn selectors_look_at_new_and_old() {
        let mut what = rule(&["*"], &["*"], &["*"], "");
        what.objects = selector(Some(&tree(json!({"matchLabels": {"a": "b"}}))));
        let mut write = Write::new(api::core::pod::kind(), Operation::Update, tree(json!({"metadata": {}})));
        assert!(!what.objects_match(&write.attributes()));
        write.old = Some(tree(json!({"metadata": {"labels": {"a": "b"}}})));
        assert!(what.objects_match(&write.attributes()));
        assert!(selector(Some(&tree(json!({})))).is_none());
    }
}
