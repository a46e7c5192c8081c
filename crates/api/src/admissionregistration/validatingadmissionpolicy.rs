//! ValidatingAdmissionPolicy: refuses objects by expressions.

use apimachinery::kind::Generation;
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::{Api, Kind, Rules, Value};

use crate::admissionregistration::matching::param_kind;
use crate::admissionregistration::matching::{MatchCondition, MatchResources, ParamKind, Variable};
use crate::cells::count;
use crate::served::served;

/// ValidatingAdmissionPolicy: refuses objects by expressions.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy")]
pub struct ValidatingAdmissionPolicy {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ValidatingAdmissionPolicySpec,
    #[api(3, omitempty)]
    pub status: ValidatingAdmissionPolicyStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus")]
pub struct ValidatingAdmissionPolicyStatus {
    #[api(1, omitempty)]
    pub observed_generation: i64,
    #[api(2, omitempty)]
    pub type_checking: Option<TypeChecking>,
    #[api(3, omitempty, list = "map", keys("type"))]
    pub conditions: Vec<Condition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.TypeChecking")]
pub struct TypeChecking {
    #[api(1, omitempty, list = "atomic")]
    pub expression_warnings: Vec<ExpressionWarning>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ExpressionWarning")]
pub struct ExpressionWarning {
    #[api(2, required)]
    pub field_ref: String,
    #[api(3, required)]
    pub warning: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec")]
pub struct ValidatingAdmissionPolicySpec {
    #[api(1, omitempty)]
    pub param_kind: Option<ParamKind>,
    #[api(2, omitempty)]
    pub match_constraints: Option<MatchResources>,
    #[api(3, omitempty, list = "atomic")]
    pub validations: Vec<Validation>,
    #[api(4, omitempty, enumeration("Fail", "Ignore"))]
    pub failure_policy: Option<String>,
    #[api(5, omitempty, list = "atomic")]
    pub audit_annotations: Vec<AuditAnnotation>,
    #[api(6, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub match_conditions: Vec<MatchCondition>,
    #[api(7, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub variables: Vec<Variable>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Validation")]
pub struct Validation {
    #[api(1, required)]
    pub expression: String,
    #[api(2, omitempty)]
    pub message: String,
    #[api(3, omitempty)]
    pub reason: Option<String>,
    #[api(4, omitempty)]
    pub message_expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.AuditAnnotation")]
pub struct AuditAnnotation {
    #[api(1, required)]
    pub key: String,
    #[api(2, required)]
    pub value_expression: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<ValidatingAdmissionPolicy>("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
        .category(&["api-extensions"])
        .status()
        .generation(Generation::OnSpec)
        .code_column("Validations", "integer", |o, _| Value::Int(count(o, &["spec", "validations"])))
        .code_column("ParamKind", "string", |o, _| param_kind(o))
        .age()
        .example(
            r#"{"metadata": {"name": "small"}, "spec": {"matchConstraints": {"resourceRules": [{"operations": ["CREATE",
            "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
            "validations": [{"expression": "object.spec.replicas <= 5"}]}}"#,
        )
}

served!(ValidatingAdmissionPolicy, "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", false);

impl Rules for ValidatingAdmissionPolicy {
    fn set_defaults(&mut self) {
        self.spec.failure_policy.get_or_insert_with(|| "Fail".into());
        if let Some(constraints) = &mut self.spec.match_constraints {
            constraints.set_defaults();
        }
    }
}
