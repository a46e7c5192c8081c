//! IngressClass: names the controller that implements an ingress.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

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
