//! MutatingAdmissionPolicyBinding: puts a mutating admission policy to work.

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

/// MutatingAdmissionPolicyBinding: puts a mutating admission policy to work.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding")]
pub struct MutatingAdmissionPolicyBinding {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: MutatingAdmissionPolicyBindingSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBindingSpec")]
pub struct MutatingAdmissionPolicyBindingSpec {
    #[api(1, omitempty)]
    pub policy_name: String,
    #[api(2, omitempty)]
    pub param_ref: Option<ParamRef>,
    #[api(3, omitempty)]
    pub match_resources: Option<MatchResources>,
}

pub fn kind() -> Kind {
    Kind::cluster::<MutatingAdmissionPolicyBinding>(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicybindings",
    )
    .category(&["api-extensions"])
    .generation(Generation::OnContent)
    .code_column("PolicyName", "string", |o, _| text(o, &["spec", "policyName"]))
    .code_column("ParamRef", "string", |o, _| param_ref(o))
    .age()
    .conditional_update()
    .example(r#"{"metadata":{"name":"label"},"spec":{"policyName":"label"}}"#)
}

served!(MutatingAdmissionPolicyBinding, "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings", false);

impl Rules for MutatingAdmissionPolicyBinding {
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
    }
}
