//! ValidatingAdmissionPolicyBinding: puts a validating admission policy to work.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

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
}
