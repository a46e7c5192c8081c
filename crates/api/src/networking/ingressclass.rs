//! IngressClass: names the controller that implements an ingress.

use crate::checks::{immutable, name};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label, dns_subdomain, path_segment, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{str_of, text};
use crate::served::served;

/// IngressClass: names the controller that implements an ingress.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressClass")]
pub struct IngressClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: IngressClassSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressClassSpec")]
pub struct IngressClassSpec {
    #[api(1, omitempty)]
    pub controller: String,
    #[api(2, omitempty)]
    pub parameters: Option<IngressClassParametersReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressClassParametersReference")]
pub struct IngressClassParametersReference {
    #[api(1, omitempty)]
    pub api_group: Option<String>,
    #[api(2, required)]
    pub kind: String,
    #[api(3, required)]
    pub name: String,
    #[api(4)]
    pub scope: Option<String>,
    #[api(5, omitempty)]
    pub namespace: Option<String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<IngressClass>("networking.k8s.io", "v1", "ingressclasses")
        .generation(Generation::OnSpec)
        .code_column("Name", "string", name_cell)
        .code_column("Controller", "string", |o, _| text(o, &["spec", "controller"]))
        .code_column("Parameters", "string", parameters_cell)
        .age()
        .example(r#"{"metadata":{"name":"public"},"spec":{"controller":"example.com/ingress"}}"#)
}

served!(IngressClass, "networking.k8s.io", "v1", "ingressclasses", false);

impl Rules for IngressClass {
    fn set_defaults(&mut self) {
        if let Some(parameters) = &mut self.spec.parameters {
            parameters.scope.get_or_insert_with(|| "Cluster".into());
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let field = spec.child("controller");
        let controller = self.spec.controller.as_str();
        if controller.is_empty() {
            errors.required(&field, "");
        } else if controller.len() > 250 {
            errors.too_long(&field, 250);
        }
        match controller.split_once('/') {
            _ if controller.is_empty() => {}
            Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
                check(errors, &field, domain, dns_subdomain);
            }
            _ => {
                let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.invalid(&field, controller, message);
            }
        }
        let Some(parameters) = &self.spec.parameters else { return };
        let path = spec.child("parameters");
        if let Some(group) = &parameters.api_group {
            check(errors, &path.child("apiGroup"), group, dns_subdomain);
        }
        require(errors, &path.child("kind"), &parameters.kind, path_segment);
        require(errors, &path.child("name"), &parameters.name, path_segment);
        let namespace = path.child("namespace");
        match (parameters.scope.as_deref(), &parameters.namespace) {
            (Some("Namespace"), None) => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
            (Some("Namespace"), Some(name)) => check(errors, &namespace, name, dns_label),
            (Some("Cluster"), Some(_)) => errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'"),
            (Some("Cluster"), None) => {}
            (None, _) => errors.required(&path.child("scope"), ""),
            (Some(other), _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("controller"), &self.spec.controller, &old.spec.controller);
    }
}

fn name_cell(object: &Value, _now: i64) -> Value {
    let name = str_of(object, &["metadata", "name"]);
    match object.str_at(&["metadata", "annotations", "ingressclass.kubernetes.io/is-default-class"]) {
        Some("true") => format!("{name} (default)").into(),
        _ => name.into(),
    }
}

fn parameters_cell(object: &Value, _now: i64) -> Value {
    let Some(parameters) = object.at(&["spec", "parameters"]) else { return "<none>".into() };
    let (kind, name) = (str_of(parameters, &["kind"]), str_of(parameters, &["name"]));
    match parameters.str_at(&["apiGroup"]) {
        Some(group) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}
