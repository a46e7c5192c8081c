//! MutatingAdmissionPolicy: changes objects on their way in by expressions.

use crate::admissionregistration::expressions::{Scope, check, check_variables, object_type, patches_type};
use crate::admissionregistration::matching::{match_conditions, policy};
use crate::checks::{maybe_one_of, name, one_of};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

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
        .conditional_update()
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

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        policy(errors, &path, spec.param_kind.as_ref(), spec.match_constraints.as_ref(), &spec.variables);
        maybe_one_of(errors, &path.child("failurePolicy"), spec.failure_policy.as_ref(), &["Fail", "Ignore"]);
        match_conditions(errors, &path.child("matchConditions"), &spec.match_conditions, spec.param_kind.is_some());
        let scope = Scope { params: spec.param_kind.is_some(), authorizer: true, patches: false };
        let compiler = check_variables(errors, &path.child("variables"), &spec.variables, scope);
        one_of(errors, &path.child("reinvocationPolicy"), &spec.reinvocation_policy, &["IfNeeded", "Never"]);
        let mutations = path.child("mutations");
        if spec.mutations.is_empty() {
            errors.required(&mutations, "mutations must contain at least one item");
        }
        for (i, mutation) in spec.mutations.iter().enumerate() {
            let path = mutations.index(i);
            let (field, expression, other) = match mutation.patch_type.as_str() {
                "ApplyConfiguration" => {
                    let expression = mutation.apply_configuration.as_ref().map(|c| c.expression.as_str());
                    ("applyConfiguration", expression, mutation.json_patch.is_some().then_some("jsonPatch"))
                }
                "JSONPatch" => {
                    let expression = mutation.json_patch.as_ref().map(|p| p.expression.as_str());
                    ("jsonPatch", expression, mutation.apply_configuration.is_some().then_some("applyConfiguration"))
                }
                other => {
                    one_of(errors, &path.child("patchType"), other, &["ApplyConfiguration", "JSONPatch"]);
                    continue;
                }
            };
            match expression.map(str::trim) {
                None => {
                    let message = format!("must be specified when patchType is {}", mutation.patch_type);
                    errors.required(&path.child(field), message);
                }
                Some("") => errors.required(&path.child(field).child("expression"), "expression is not specified"),
                Some(expression) => {
                    let wanted = if field == "jsonPatch" { patches_type() } else { object_type() };
                    let compiled = compiler.compile(expression, Scope { patches: true, ..scope }, &[wanted]);
                    check(errors, &path.child(field).child("expression"), expression, compiled);
                }
            }
            if let Some(other) = other {
                let message = format!("must not be specified when patchType is {}", mutation.patch_type);
                errors.invalid(&path.child(other), "{}", message);
            }
        }
    }
}
