//! ValidatingAdmissionPolicy: refuses writes, or warns of them.

use std::sync::Arc;

use api::admissionregistration::expressions::Scope;
use apimachinery::expressions::BUDGET;
use apimachinery::status::Cause;
use apimachinery::{Kind, Status, Value};
use cel::{Program, Type, Value as Cel};
use engine::Attributes;

use super::{Policy, bound, handles, namespace, params};
use crate::admission::expressions::{Input, versioned};
use crate::admission::webhook::review;
use crate::admission::{Plugin, Step, World, forbidden};
use crate::tree::{list, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "ValidatingAdmissionPolicy",
    handles,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(validate(world, a))),
};

/// How long a computed message may be, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// An expression with its text.
struct Expression {
    text: String,
    program: Result<Program, String>,
}

struct Validation {
    expression: Expression,
    message: String,
    computed: Option<Expression>,
    reason: &'static str,
}

/// A policy, compiled.
pub(super) struct Rules {
    policy: Policy,
    validations: Vec<Validation>,
    /// Values for audit records: here only whether they can be computed matters.
    annotations: Vec<Expression>,
}

impl Rules {
    pub fn read(tree: &Value) -> Rules {
        let (policy, compiler, scope) = Policy::read(tree);
        let compile = |text: &str, scope, wanted: &[Type]| Expression {
            text: text.trim().to_string(),
            program: compiler.compile(text, scope, wanted),
        };
        let validations = list(tree, &["spec", "validations"]).iter().map(|validation| {
            let computed = Some(text(validation, &["messageExpression"])).filter(|text| !text.is_empty());
            Validation {
                expression: compile(text(validation, &["expression"]), scope, &[Type::Bool]),
                message: text(validation, &["message"]).trim().to_string(),
                computed: computed.map(|text| compile(text, Scope { authorizer: false, ..scope }, &[Type::String])),
                reason: match text(validation, &["reason"]) {
                    "Forbidden" => "Forbidden",
                    "Unauthorized" => "Unauthorized",
                    "RequestEntityTooLarge" => "RequestEntityTooLarge",
                    _ => "Invalid",
                },
            }
        });
        let validations = validations.collect();
        let annotations = list(tree, &["spec", "auditAnnotations"]).iter();
        let annotations = annotations
            .map(|a| compile(text(a, &["valueExpression"]).trim(), scope, &[Type::String, Type::Null]))
            .collect();
        Rules { policy, validations, annotations }
    }
}

/// One reason against a write.
struct Failure {
    message: String,
    reason: &'static str,
}

impl Failure {
    fn invalid(message: String) -> Failure {
        Failure { message, reason: "Invalid" }
    }
}

async fn validate(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let all = bound(world.policies.validating.get(), world.policies.validating_bindings.get());
    if all.is_empty() {
        return Ok(());
    }
    let a = &*a;
    // The first refusal is told.
    let mut denied: Option<(String, Failure)> = None;
    for ((name, rules), bindings) in &all {
        let policy = &rules.policy;
        let Some(kind) = policy.what.version(world, a).await? else { continue };
        for (binding_name, binding) in bindings {
            if binding.what.version(world, a).await?.is_none() {
                continue;
            }
            let who = format!("ValidatingAdmissionPolicy '{name}' with binding '{binding_name}'");
            let params = match params(world, a, policy, binding).await {
                Ok(params) => params,
                Err(why) => {
                    if policy.fails {
                        let why = Failure::invalid(format!("failed to configure binding: {why}"));
                        denied.get_or_insert((who, why));
                    }
                    continue;
                }
            };
            for param in &params {
                for failure in judge(world, a, rules, &kind, param.as_ref()).await? {
                    for action in &binding.actions {
                        match action.as_str() {
                            "Deny" if denied.is_none() => {
                                let Failure { message, reason } = &failure;
                                denied = Some((who.clone(), Failure { message: message.clone(), reason }));
                            }
                            "Warn" => a.cx.warn(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding_name}': {}",
                                failure.message
                            )),
                            "Audit" => {
                                tracing::info!(policy = %name, binding = %binding_name, message = failure.message, "validation failed");
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    match denied {
        Some((who, failure)) => Err(refusal(a, &who, &failure)),
        None => Ok(()),
    }
}

fn refusal(a: &Attributes<'_>, who: &str, failure: &Failure) -> Status {
    let message = format!("{who} denied request: {}", failure.message);
    let mut status = forbidden(a, &message);
    status.reason = failure.reason;
    status.code = match failure.reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { message, ..Cause::default() });
    }
    status
}

/// What a policy has against a write.
async fn judge(
    world: &World,
    a: &Attributes<'_>,
    rules: &Rules,
    kind: &Arc<Kind>,
    param: Option<&Value>,
) -> Result<Vec<Failure>, Status> {
    let objects = versioned(&*world.engine()?, a, kind).await?;
    let facts = review::facts(a, kind);
    let namespace = namespace(world, a).await?;
    let input = Input::new(world, a, &objects, &facts).with_params(param);
    let policy = &rules.policy;
    let fail = |why: String| if policy.fails { vec![Failure::invalid(why)] } else { Vec::new() };
    match policy.conditions.hold(&input.with_variables(&policy.variables)) {
        Ok(true) => {}
        Ok(false) => return Ok(Vec::new()),
        Err(why) => return Ok(fail(why)),
    }
    let input = input.with_namespace(namespace.as_ref()).with_variables(&policy.variables);
    let mut budget = BUDGET;
    let mut failures = Vec::new();
    for validation in &rules.validations {
        match evaluate(&input, &validation.expression, &mut budget) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                failures.push(Failure { message: message(&input, validation, &mut budget), reason: validation.reason })
            }
            Err(why) => failures.extend(fail(why)),
        }
        if budget == 0 {
            return Ok(failures);
        }
    }
    let mut budget = BUDGET;
    for annotation in &rules.annotations {
        if let Err(why) = evaluate(&input, annotation, &mut budget) {
            failures.extend(fail(why));
        }
    }
    Ok(failures)
}

fn evaluate<'a>(input: &Input<'a>, expression: &Expression, budget: &mut u64) -> Result<Cel<'a>, String> {
    match &expression.program {
        Ok(program) => input.evaluate(&expression.text, program, budget),
        Err(why) => Err(format!("compilation error: {why}")),
    }
}

/// The computed message if it is fit to be shown, or the declared one, or the expression.
fn message(input: &Input<'_>, validation: &Validation, budget: &mut u64) -> String {
    if let Some(computed) = &validation.computed {
        match evaluate(input, computed, budget) {
            Ok(Cel::String(text)) => {
                let text = text.trim();
                if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
                    return text.to_string();
                }
            }
            Ok(_) => {}
            Err(why) => tracing::debug!(why, "a message cannot be computed"),
        }
    }
    match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.expression.text),
        message => message.to_string(),
    }
}
