//! MutatingWebhookConfiguration: registers webhooks that change objects on their way in.

use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Rules, Value};

use crate::admissionregistration::matching::{MatchCondition, RuleWithOperations};
use crate::admissionregistration::webhook::WebhookClientConfig;
use crate::cells::count;
use crate::served::served;

/// MutatingWebhookConfiguration: registers webhooks that change objects on their way in.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration")]
pub struct MutatingWebhookConfiguration {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub webhooks: Vec<MutatingWebhook>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingWebhook")]
pub struct MutatingWebhook {
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
    #[api(11, omitempty)]
    pub object_selector: Option<LabelSelector>,
    #[api(6, required, enumeration("None", "NoneOnDryRun", "Some", "Unknown"))]
    pub side_effects: Option<String>,
    #[api(7, omitempty)]
    pub timeout_seconds: Option<i32>,
    #[api(8, required, list = "atomic")]
    pub admission_review_versions: Vec<String>,
    #[api(10, omitempty, enumeration("IfNeeded", "Never"))]
    pub reinvocation_policy: Option<String>,
    #[api(12, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub match_conditions: Vec<MatchCondition>,
}

pub fn kind() -> Kind {
    Kind::cluster::<MutatingWebhookConfiguration>("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
        .category(&["api-extensions"])
        .generation(Generation::OnContent)
        .code_column("Webhooks", "integer", |o, _| Value::Int(count(o, &["webhooks"])))
        .age()
        .example(
            r#"{"metadata": {"name": "hooks"}, "webhooks": [{"name": "check.example.com",
            "clientConfig": {"url": "https://hooks.example.com/check"}, "rules": [{"operations": ["CREATE"],
            "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]}]}"#,
        )
}

served!(MutatingWebhookConfiguration, "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", false);

impl Rules for MutatingWebhookConfiguration {
    fn set_defaults(&mut self) {
        for webhook in &mut self.webhooks {
            webhook.client_config.set_defaults();
            webhook.rules.iter_mut().for_each(|rule| rule.rule.set_defaults());
            webhook.failure_policy.get_or_insert_with(|| "Fail".into());
            webhook.match_policy.get_or_insert_with(|| "Equivalent".into());
            webhook.namespace_selector.get_or_insert_default();
            webhook.object_selector.get_or_insert_default();
            webhook.timeout_seconds.get_or_insert(10);
            webhook.reinvocation_policy.get_or_insert_with(|| "Never".into());
        }
    }
}
