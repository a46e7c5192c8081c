//! ResourceClaimTemplate: is a pattern for claims made for pods.

use crate::checks::{immutable, name};
use crate::resource::resourceclaim::claim_spec;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::resource::resourceclaim::ResourceClaimSpec;
use crate::served::served;

/// ResourceClaimTemplate: is a pattern for claims made for pods.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaimTemplate")]
pub struct ResourceClaimTemplate {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub spec: ResourceClaimTemplateSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaimTemplateSpec")]
pub struct ResourceClaimTemplateSpec {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub spec: ResourceClaimSpec,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ResourceClaimTemplate>("resource.k8s.io", "v1", "resourceclaimtemplates")
        .age()
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "gpu"}, "spec": {"spec": {"devices": {"requests": [{"name": "gpu",
            "exactly": {"deviceClassName": "gpu"}}]}}}}"#,
        )
}

served!(ResourceClaimTemplate, "resource.k8s.io", "v1", "resourceclaimtemplates", true);

impl Rules for ResourceClaimTemplate {
    fn set_defaults(&mut self) {
        for request in &mut self.spec.spec.devices.requests {
            request.set_defaults();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        claim_spec(errors, &spec.child("spec"), &self.spec.spec);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }
}
