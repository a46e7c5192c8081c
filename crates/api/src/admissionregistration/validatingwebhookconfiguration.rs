//! ValidatingWebhookConfiguration: registers webhooks that refuse objects.

use crate::admissionregistration::matching::{match_conditions, rule_with_operations};
use crate::admissionregistration::webhook::{client_config, review_versions, webhook_name};
use crate::checks::{label_selector, maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::admissionregistration::matching::{MatchCondition, RuleWithOperations};
use crate::admissionregistration::webhook::WebhookClientConfig;
use crate::cells::count;
use crate::served::served;

/// ValidatingWebhookConfiguration: registers webhooks that refuse objects.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration")]
pub struct ValidatingWebhookConfiguration {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub webhooks: Vec<ValidatingWebhook>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingWebhook")]
pub struct ValidatingWebhook {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub client_config: WebhookClientConfig,
    #[api(3, omitempty, list = "atomic")]
    pub rules: Vec<RuleWithOperations>,
    #[api(4, omitempty, enumeration("Fail", "Ignore"))]
    pub failure_policy: Option<String>,
    #[api(9, omitempty, enumeration("Equivalent", "Exact"))]
    pub match_policy: Option<String>,
    #[api(5, omitempty)]
    pub namespace_selector: Option<LabelSelector>,
    #[api(10, omitempty)]
    pub object_selector: Option<LabelSelector>,
    #[api(6, required, enumeration("None", "NoneOnDryRun", "Some", "Unknown"))]
    pub side_effects: Option<String>,
    #[api(7, omitempty)]
    pub timeout_seconds: Option<i32>,
    #[api(8, required, list = "atomic")]
    pub admission_review_versions: Vec<String>,
    #[api(11, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub match_conditions: Vec<MatchCondition>,
}

pub fn kind() -> Kind {
    Kind::cluster::<ValidatingWebhookConfiguration>(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
    )
    .category(&["api-extensions"])
    .generation(Generation::OnContent)
    .code_column("Webhooks", "integer", |o, _| Value::Int(count(o, &["webhooks"])))
    .age()
    .conditional_update()
    .example(
        r#"{"metadata": {"name": "hooks"}, "webhooks": [{"name": "check.example.com",
            "clientConfig": {"url": "https://hooks.example.com/check"}, "rules": [{"operations": ["CREATE"],
            "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]}]}"#,
    )
}

served!(ValidatingWebhookConfiguration, "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", false);

impl Rules for ValidatingWebhookConfiguration {
    fn set_defaults(&mut self) {
        for webhook in &mut self.webhooks {
            webhook.client_config.set_defaults();
            webhook.rules.iter_mut().for_each(|rule| rule.rule.set_defaults());
            webhook.failure_policy.get_or_insert_with(|| "Fail".into());
            webhook.match_policy.get_or_insert_with(|| "Equivalent".into());
            webhook.namespace_selector.get_or_insert_default();
            webhook.object_selector.get_or_insert_default();
            webhook.timeout_seconds.get_or_insert(10);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let list = Path::new("webhooks");
        for (i, hook) in self.webhooks.iter().enumerate() {
            let path = list.index(i);
            webhook_name(errors, &path.child("name"), &hook.name);
            if self.webhooks[..i].iter().any(|other| other.name == hook.name) {
                errors.duplicate(&path.child("name"), hook.name.as_str());
            }
            review_versions(errors, &path.child("admissionReviewVersions"), &hook.admission_review_versions);
            let rules = path.child("rules");
            for (j, rule) in hook.rules.iter().enumerate() {
                rule_with_operations(errors, &rules.index(j), rule);
            }
            maybe_one_of(errors, &path.child("failurePolicy"), hook.failure_policy.as_ref(), &["Fail", "Ignore"]);
            maybe_one_of(errors, &path.child("matchPolicy"), hook.match_policy.as_ref(), &["Equivalent", "Exact"]);
            let effects = path.child("sideEffects");
            match &hook.side_effects {
                None => errors.required(&effects, "must specify one of None, NoneOnDryRun"),
                some => maybe_one_of(errors, &effects, some.as_ref(), &["None", "NoneOnDryRun"]),
            }
            if let Some(seconds) = hook.timeout_seconds.filter(|seconds| !(1..=30).contains(seconds)) {
                let message = "the timeout value must be between 1 and 30 seconds";
                errors.invalid(&path.child("timeoutSeconds"), seconds, message);
            }
            for (field, selector) in
                [("namespaceSelector", &hook.namespace_selector), ("objectSelector", &hook.object_selector)]
            {
                if let Some(selector) = selector {
                    label_selector(errors, &path.child(field), selector);
                }
            }
            client_config(errors, &path.child("clientConfig"), &hook.client_config);
            match_conditions(errors, &path.child("matchConditions"), &hook.match_conditions, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn hooks_are_reachable_and_known() {
        let kind = super::kind();
        refuses(
            &kind,
            &[("webhooks.0.clientConfig", "{}"), ("webhooks.0.name", "\"short\"")],
            &[
                "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ],
        );
    }
}
