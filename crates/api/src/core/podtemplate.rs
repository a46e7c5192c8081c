//! PodTemplate: stores a pod template.

use crate::checks::name;
use crate::core::pod::defaults::pod_template_defaults;
use crate::core::pod::validate::pod_template;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::cells::{joined, labels};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// PodTemplate: stores a pod template.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodTemplate")]
pub struct PodTemplate {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub template: PodTemplateSpec,
}

pub fn kind() -> Kind {
    Kind::namespaced::<PodTemplate>("", "v1", "podtemplates")
        .generation(Generation::OnContent)
        .code_column("Containers", "string", |o, _| joined(o, &["template", "spec", "containers"], "name"))
        .code_column("Images", "string", |o, _| joined(o, &["template", "spec", "containers"], "image"))
        .code_column("Pod Labels", "string", |o, _| labels(o, &["template", "metadata", "labels"]))
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "web"}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example/web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]}}}"#,
        )
}

served!(PodTemplate, "", "v1", "podtemplates", true);

impl Rules for PodTemplate {
    fn set_defaults(&mut self) {
        pod_template_defaults(&mut self.template);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        pod_template(errors, &Path::new("template"), &self.template);
    }
}
