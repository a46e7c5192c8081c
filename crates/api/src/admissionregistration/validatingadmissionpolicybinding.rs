//! ValidatingAdmissionPolicyBinding: puts a validating admission policy to work.

use crate::admissionregistration::matching::policy_binding;
use crate::checks::name;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::admissionregistration::matching::param_ref;
use crate::admissionregistration::matching::{MatchResources, ParamRef};
use crate::cells::text;
use crate::served::served;

/// ValidatingAdmissionPolicyBinding: puts a validating admission policy to work.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding")]
pub struct ValidatingAdmissionPolicyBinding {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: ValidatingAdmissionPolicyBindingSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec")]
pub struct ValidatingAdmissionPolicyBindingSpec {
    #[api(1, omitempty, required)]
    pub policy_name: String,
    #[api(2, omitempty)]
    pub param_ref: Option<ParamRef>,
    #[api(3, omitempty)]
    pub match_resources: Option<MatchResources>,
    #[api(4, omitempty, required, list = "set")]
    pub validation_actions: Vec<String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<ValidatingAdmissionPolicyBinding>(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
    )
    .category(&["api-extensions"])
    .generation(Generation::OnContent)
    .code_column("PolicyName", "string", |o, _| text(o, &["spec", "policyName"]))
    .code_column("ParamRef", "string", |o, _| param_ref(o))
    .age()
    .conditional_update()
    .example(r#"{"metadata":{"name":"small"},"spec":{"policyName":"small","validationActions":["Deny"]}}"#)
}

served!(
    ValidatingAdmissionPolicyBinding,
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    false
);

impl Rules for ValidatingAdmissionPolicyBinding {
    fn set_defaults(&mut self) {
        if let Some(resources) = &mut self.spec.match_resources {
            resources.set_defaults();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        policy_binding(errors, &path, &spec.policy_name, spec.param_ref.as_ref(), spec.match_resources.as_ref());
        let actions = path.child("validationActions");
        if spec.validation_actions.is_empty() {
            errors.required(&actions, "at least one validation action is required");
        }
        for (i, action) in spec.validation_actions.iter().enumerate() {
            if !matches!(action.as_str(), "Audit" | "Deny" | "Warn") {
                errors.not_supported(&actions.index(i), action.as_str(), &["Audit", "Deny", "Warn"]);
            }
            if spec.validation_actions[..i].contains(action) {
                errors.duplicate(&actions.index(i), action.as_str());
            }
        }
        let has = |wanted: &str| spec.validation_actions.iter().any(|action| action == wanted);
        if has("Deny") && has("Warn") {
            let shown = apimachinery::Api::to_value(&spec.validation_actions);
            errors.invalid(&actions, shown, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
    }
}
