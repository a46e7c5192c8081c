//! ValidatingAdmissionPolicy: refuses objects by expressions.

use crate::admissionregistration::expressions::{Scope, check, check_variables};
use crate::admissionregistration::matching::{match_conditions, policy};
use crate::checks::{maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::{dns_subdomain, qualified_name, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};
use cel::Type;

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
        .conditional_update()
        .status_keeps_metadata()
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

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        policy(errors, &path, spec.param_kind.as_ref(), spec.match_constraints.as_ref(), &spec.variables);
        maybe_one_of(errors, &path.child("failurePolicy"), spec.failure_policy.as_ref(), &["Fail", "Ignore"]);
        match_conditions(errors, &path.child("matchConditions"), &spec.match_conditions, spec.param_kind.is_some());
        let scope = Scope { params: spec.param_kind.is_some(), authorizer: true, patches: false };
        let compiler = check_variables(errors, &path.child("variables"), &spec.variables, scope);
        let validations = path.child("validations");
        if spec.validations.is_empty() && spec.audit_annotations.is_empty() {
            let message = "validations or auditAnnotations must be specified";
            errors.required(&validations, message);
            errors.required(&path.child("auditAnnotations"), message);
        }
        for (i, validation) in spec.validations.iter().enumerate() {
            let path = validations.index(i);
            if validation.expression.trim().is_empty() {
                errors.required(&path.child("expression"), "expression is not specified");
            } else {
                let compiled = compiler.compile(&validation.expression, scope, &[Type::Bool]);
                check(errors, &path.child("expression"), &validation.expression, compiled);
            }
            let computed = validation.message_expression.as_str();
            if !computed.is_empty() && computed.trim().is_empty() {
                errors.invalid(&path.child("messageExpression"), computed, "must be non-empty if specified");
            } else if !computed.is_empty() {
                let compiled = compiler.compile(computed, Scope { authorizer: false, ..scope }, &[Type::String]);
                check(errors, &path.child("messageExpression"), computed, compiled);
            }
            let message = validation.message.trim();
            if !validation.message.is_empty() && message.is_empty() {
                errors.invalid(
                    &path.child("message"),
                    validation.message.as_str(),
                    "message must be non-empty if specified",
                );
            } else if message.contains('\n') {
                errors.invalid(
                    &path.child("message"),
                    validation.message.as_str(),
                    "message must not contain line breaks",
                );
            }
            maybe_one_of(
                errors,
                &path.child("reason"),
                validation.reason.as_ref(),
                &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"],
            );
        }
        let annotations = path.child("auditAnnotations");
        for (i, annotation) in spec.audit_annotations.iter().enumerate() {
            let path = annotations.index(i);
            require(errors, &path.child("key"), &annotation.key, qualified_name);
            let value = annotation.value_expression.trim();
            if value.is_empty() {
                errors.required(&path.child("valueExpression"), "valueExpression is not specified");
            } else {
                let compiled = compiler.compile(value, scope, &[Type::String, Type::Null]);
                check(errors, &path.child("valueExpression"), value, compiled);
            }
        }
    }
}
