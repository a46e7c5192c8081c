//! MutatingAdmissionPolicy: changes objects on their way in by expressions.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

use crate::admissionregistration::matching::param_kind;
use crate::admissionregistration::matching::{MatchCondition, MatchResources, ParamKind, Variable};
use crate::cells::count;
use crate::served::served;

/// MutatingAdmissionPolicy: changes objects on their way in by expressions.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy")]
pub struct MutatingAdmissionPolicy {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: MutatingAdmissionPolicySpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec")]
pub struct MutatingAdmissionPolicySpec {
    #[api(1, omitempty)]
    pub param_kind: Option<ParamKind>,
    #[api(2, omitempty)]
    pub match_constraints: Option<MatchResources>,
    #[api(3, omitempty, list = "atomic")]
    pub variables: Vec<Variable>,
    #[api(4, omitempty, list = "atomic")]
    pub mutations: Vec<Mutation>,
    #[api(5, omitempty, enumeration("Fail", "Ignore"))]
    pub failure_policy: Option<String>,
    #[api(6, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub match_conditions: Vec<MatchCondition>,
    #[api(7, omitempty, enumeration("IfNeeded", "Never"))]
    pub reinvocation_policy: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Mutation")]
pub struct Mutation {
    #[api(2, required, enumeration("ApplyConfiguration", "JSONPatch"))]
    pub patch_type: String,
    #[api(3, omitempty)]
    pub apply_configuration: Option<ApplyConfiguration>,
    #[api(4, omitempty)]
    pub json_patch: Option<JSONPatch>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ApplyConfiguration")]
pub struct ApplyConfiguration {
    #[api(1, omitempty)]
    pub expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.JSONPatch")]
pub struct JSONPatch {
    #[api(1, omitempty)]
    pub expression: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<MutatingAdmissionPolicy>("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies")
        .category(&["api-extensions"])
        .generation(Generation::OnContent)
        .code_column("Mutations", "integer", |o, _| Value::Int(count(o, &["spec", "mutations"])))
        .code_column("ParamKind", "string", |o, _| param_kind(o))
        .age()
        .example(
            r#"{"metadata": {"name": "label"}, "spec": {"reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [{"operations": ["CREATE"],
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {\"seen\": \"yes\"}}}"}}]}}"#,
        )
}

served!(MutatingAdmissionPolicy, "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", false);

impl Rules for MutatingAdmissionPolicy {
    fn set_defaults(&mut self) {
        self.spec.failure_policy.get_or_insert_with(|| "Fail".into());
        if let Some(constraints) = &mut self.spec.match_constraints {
            constraints.set_defaults();
        }
    }
}
