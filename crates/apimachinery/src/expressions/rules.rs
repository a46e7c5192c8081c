//! `x-kubernetes-validations` of custom resources: compiled once, evaluated on every write.

use std::sync::Arc;

use cel::{Env, Error, Program, Value as Cel};

use super::declare::{Decl, declare, object};
use super::names::escape;
use super::typed::{object as object_value, typed};
use super::{BUDGET, CALL_LIMIT};
use crate::field::{ErrorKind, Errors, FieldError, Path};
use crate::schema::{CelRule, ListType, Node, Struct, StructRef, Text, Type};
use crate::value::Value;

/// How long a computed message may be, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A compiled rule.
#[derive(Debug)]
pub struct Compiled {
    pub rule: CelRule,
    /// The program, or why there is none.
    pub program: Result<Program, String>,
    pub message: Option<Result<Program, String>>,
    /// Names `oldSelf`: compares with what was.
    pub transition: bool,
    /// What it costs at most.
    pub cost: u64,
    pub message_cost: u64,
    /// The field that a failure names, below the value; `None` when the rule names one that is not there.
    pub field: Option<String>,
}

/// Compiles one rule about a value.
pub fn compile(rule: &CelRule, decl: &Decl, node: &Node) -> Compiled {
    let optional = rule.optional_old_self == Some(true);
    let old = if optional { cel::Type::optional(decl.ty.clone()) } else { decl.ty.clone() };
    let env = Env::new().with("self", decl.ty.clone()).with("oldSelf", old);
    let program = match Program::compile(&env, &rule.rule) {
        Err(issues) => Err(format!("compilation failed: {issues}")),
        Ok(program) if *program.result() != cel::Type::Bool => Err("cel expression must evaluate to a bool".into()),
        Ok(program) => Ok(program),
    };
    let message = (program.is_ok() && !rule.message_expression.is_empty()).then(|| {
        match Program::compile(&env, &rule.message_expression) {
            Err(issues) => Err(format!("messageExpression compilation failed: {issues}")),
            Ok(program) if *program.result() != cel::Type::String => {
                Err("messageExpression must evaluate to a string".into())
            }
            Ok(program) => Ok(program),
        }
    });
    let cost_of = |program: &Program| program.estimate(decl).max;
    Compiled {
        rule: rule.clone(),
        transition: program.as_ref().is_ok_and(|p| p.mentions("oldSelf")),
        cost: program.as_ref().map_or(0, cost_of),
        message_cost: message.as_ref().and_then(|m| m.as_ref().ok()).map_or(0, cost_of),
        program,
        message,
        field: field_path(rule.field_path.trim(), node),
    }
}

/// A path such as `.spec['some-field'].x` as messages write it: `spec.some-field.x`; map keys stay in brackets.
fn field_path(path: &str, node: &Node) -> Option<String> {
    let (mut out, mut rest, mut node) = (String::new(), path, node.clone());
    while !rest.is_empty() {
        let name;
        (name, rest) = match rest.strip_prefix("['") {
            Some(quoted) => {
                let (name, after) = quoted.split_once("']")?;
                (name.replace("\\'", "'"), after)
            }
            None => {
                let plain = rest.strip_prefix('.')?;
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                (plain[..end].to_string(), &plain[end..])
            }
        };
        let next = match &node.ty {
            Type::Struct(shape) => {
                let field = shape.fields.iter().find(|f| f.name == name)?;
                out.push_str(if out.is_empty() { "" } else { "." });
                out.push_str(&name);
                field.node.clone()
            }
            Type::Map(item) => {
                out.push_str(&format!("[{name}]"));
                (**item).clone()
            }
            _ => return None,
        };
        node = next;
    }
    Some(out)
}

/// The rules of a schema, at their places.
#[derive(Debug)]
pub struct Validator {
    rules: Vec<Compiled>,
    node: Node,
    /// Has a type and a name whatever its schema says.
    resource: bool,
    properties: Vec<(Text, Validator)>,
    /// Of list items or map values.
    inner: Option<Box<Validator>>,
}

/// What is passed down while an object is validated.
struct Walk<'w> {
    budget: i64,
    errors: &'w mut Errors,
    /// Failures about what did not change.
    warnings: &'w mut Vec<String>,
}

/// Nothing more is evaluated.
struct Stop;

/// What is known of the value before the write.
#[derive(Clone, Copy)]
struct Before<'a> {
    /// The same value, when the two can be told to be the same.
    old: Option<&'a Value>,
    /// Whether the nearest value above that can be compared is unchanged.
    unchanged: bool,
}

/// What an evaluation found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub errors: Errors,
    /// Failures of rules about values that the write leaves as they were.
    pub warnings: Vec<String>,
}

impl Validator {
    /// The rules of a resource, `root` being those of the whole; `None` when it has none.
    pub fn of(shape: &Arc<Struct>, root: &[CelRule]) -> Option<Validator> {
        let decl = object(shape, true, "self");
        let properties = below(shape, &decl, true);
        let node = Node::of(Type::Struct(StructRef::Shared(shape.clone())));
        let rules: Vec<Compiled> = root.iter().map(|rule| compile(rule, &decl, &node)).collect();
        let some = !rules.is_empty() || !properties.is_empty();
        some.then_some(Validator { rules, node, resource: true, properties, inner: None })
    }

    fn of_node(node: &Node, decl: &Decl) -> Option<Validator> {
        let facets = node.facets();
        let branches = facets.junctors.iter().flat_map(|j| &j.all_of).flat_map(|n| n.facets().rules.iter());
        let rules: Vec<Compiled> = facets.rules.iter().chain(branches).map(|rule| compile(rule, decl, node)).collect();
        let (mut properties, mut inner, mut resource) = (Vec::new(), None, false);
        match &node.ty {
            Type::Struct(shape) => {
                resource = shape.embedded_resource;
                properties = below(shape, decl, resource);
            }
            Type::List(item) | Type::Map(item) => {
                inner = decl.inner().and_then(|decl| Validator::of_node(item, decl)).map(Box::new);
            }
            _ => {}
        }
        (!rules.is_empty() || !properties.is_empty() || inner.is_some()).then(|| Validator {
            rules,
            node: node.clone(),
            resource,
            properties,
            inner,
        })
    }

    /// Evaluates all rules after the structure was checked: on an object that lacks what rules take for granted, they
    /// would only add to the confusion.
    pub fn check(&self, object: &Value, old: Option<&Value>, errors: &mut Errors, warnings: &mut Vec<String>) {
        let blocks = |kind| {
            matches!(
                kind,
                ErrorKind::NotSupported
                    | ErrorKind::Required
                    | ErrorKind::TooLong
                    | ErrorKind::TooMany
                    | ErrorKind::TypeInvalid
            )
        };
        if errors.iter().any(|error| blocks(error.kind)) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing \
                          errors to complete validation";
            let value = Some(Value::Null);
            errors.push(FieldError { kind: ErrorKind::Invalid, field: "<nil>".into(), value, detail: detail.into() });
            return;
        }
        let outcome = self.evaluate(object, old);
        errors.append(outcome.errors);
        warnings.extend(outcome.warnings);
    }

    /// Evaluates all rules on an object, and on what it was before an update.
    pub fn evaluate(&self, object: &Value, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut walk = Walk {
            budget: i64::try_from(BUDGET).unwrap_or(i64::MAX),
            errors: &mut outcome.errors,
            warnings: &mut outcome.warnings,
        };
        let before = Before { old, unchanged: false };
        let _ = self.walk(object, before, &Path::ROOT, &mut walk);
        outcome
    }

    fn walk(&self, value: &Value, before: Before<'_>, path: &Path<'_>, walk: &mut Walk<'_>) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        let unchanged = match before.old {
            Some(old) => old == value,
            None => before.unchanged,
        };
        self.rules_at(value, before.old.filter(|o| !o.is_null()), unchanged, path, walk)?;
        match value {
            Value::Map(map) => {
                for (name, validator) in &self.properties {
                    if let Some(child) = map.get(name) {
                        let old = before.old.and_then(|o| o.get(name));
                        validator.walk(child, Before { old, unchanged }, &path.child(name), walk)?;
                    }
                }
                if let Some(inner) = &self.inner {
                    for (key, child) in map.iter() {
                        let old = before.old.and_then(|o| o.get(key));
                        inner.walk(child, Before { old, unchanged }, &path.key(key), walk)?;
                    }
                }
            }
            Value::List(items) => {
                let Some(inner) = &self.inner else { return Ok(()) };
                for (i, item) in items.iter().enumerate() {
                    let old = before.old.and_then(|old| self.same_item(item, old));
                    inner.walk(item, Before { old, unchanged }, &path.index(i), walk)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The item of the old list with the same keys; lists without keys cannot be compared item by item.
    fn same_item<'a>(&self, item: &Value, old: &'a Value) -> Option<&'a Value> {
        let facets = self.node.facets();
        if facets.list_type != Some(ListType::Map) {
            return None;
        }
        let same = |other: &&Value| facets.list_map_keys.iter().all(|key| item.get(key) == other.get(key));
        old.as_list()?.iter().find(same)
    }

    fn value<'a>(&'a self, tree: &'a Value) -> Cel<'a> {
        match (&self.node.ty, tree) {
            (Type::Struct(shape), Value::Map(map)) => object_value(map, shape, self.resource),
            _ => typed(tree, &self.node),
        }
    }

    /// What messages call the type of the value.
    fn type_word(&self) -> &'static str {
        match self.node.ty {
            Type::Bool => "boolean",
            Type::Int32 | Type::Int64 => "integer",
            Type::Double => "number",
            Type::String => "string",
            Type::List(_) => "array",
            Type::Map(_) | Type::Struct(_) => "object",
            _ => "",
        }
    }

    fn rules_at(
        &self,
        tree: &Value,
        old: Option<&Value>,
        unchanged: bool,
        path: &Path<'_>,
        walk: &mut Walk<'_>,
    ) -> Result<(), Stop> {
        for compiled in &self.rules {
            let rule = &compiled.rule;
            let invalid = |detail: String| {
                let value = Some(Value::from(self.type_word()));
                FieldError { kind: ErrorKind::Invalid, field: field_text(path), value, detail }
            };
            if walk.budget <= 0 {
                walk.errors.push(invalid(OUT_OF_BUDGET.into()));
                return Err(Stop);
            }
            let program = match &compiled.program {
                Ok(program) => program,
                Err(why) => {
                    walk.errors.push(invalid(format!("rule compile error: {why}")));
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            // Transition rules need something to compare with.
            if compiled.transition && old.is_none() && !optional {
                continue;
            }
            let variables = |name: &str| match name {
                "self" => Some(self.value(tree)),
                "oldSelf" if optional => Some(Cel::Optional(old.map(|old| Arc::new(self.value(old))))),
                "oldSelf" => old.map(|old| self.value(old)),
                _ => None,
            };
            let (result, cost) = program.evaluate(&variables, CALL_LIMIT);
            let words = rule_words(rule);
            match result {
                Err(Error { exhausted: true, message }) => {
                    let why = format!(
                        "'{message}': no further validation rules will be run due to call cost exceeds limit for rule: {words}"
                    );
                    walk.errors.push(invalid(why));
                    return Err(Stop);
                }
                _ if i64::try_from(cost).unwrap_or(i64::MAX) > walk.budget => {
                    walk.errors.push(invalid(OUT_OF_BUDGET.into()));
                    return Err(Stop);
                }
                _ => walk.budget -= cost as i64,
            }
            match result {
                Ok(Cel::Bool(true)) => {}
                Err(Error { message, .. }) if message.starts_with("no such overload") => {
                    let why = "call arguments did not match a supported operator, function or macro signature for rule";
                    walk.errors.push(invalid(format!("'{message}': {why}: {words}")));
                }
                Err(Error { message, .. }) => walk.errors.push(invalid(format!("{message} evaluating rule: {words}"))),
                Ok(_) => {
                    let detail = match self.message(compiled, &variables, walk) {
                        Ok(Some(message)) => message,
                        Ok(None) if rule.message.trim().is_empty() => format!("failed rule: {words}"),
                        Ok(None) => rule.message.trim().to_string(),
                        Err(why) => {
                            walk.errors.push(invalid(why));
                            return Err(Stop);
                        }
                    };
                    let error = failure(compiled, tree, &field_text(path), detail);
                    if unchanged && !compiled.transition {
                        walk.warnings.push(error.to_string());
                    } else {
                        walk.errors.push(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// The computed message, if there is one and it is fit to be shown.
    fn message<'a>(
        &self,
        compiled: &Compiled,
        variables: &impl cel::Variables<'a>,
        walk: &mut Walk<'_>,
    ) -> Result<Option<String>, String> {
        let Some(Ok(program)) = &compiled.message else { return Ok(None) };
        let (result, cost) = program.evaluate(variables, CALL_LIMIT);
        if let Err(Error { exhausted: true, .. }) = &result {
            let why = "no further validation rules will be run due to call cost exceeds limit for messageExpression";
            return Err(format!("{why}: {:?}", compiled.rule.message_expression));
        }
        if i64::try_from(cost).unwrap_or(i64::MAX) > walk.budget {
            let why = "messageExpression evaluation failed due to running out of cost budget";
            return Err(format!("{why}, no further validation rules will be run"));
        }
        walk.budget -= cost as i64;
        let Ok(Cel::String(text)) = result else { return Ok(None) };
        let text = text.trim();
        let fine = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        Ok(fine.then(|| text.to_string()))
    }
}

fn below(shape: &Struct, decl: &Decl, resource: bool) -> Vec<(Text, Validator)> {
    let typing = |name: &str| resource && matches!(name, "apiVersion" | "kind" | "metadata");
    let fields = shape.fields.iter().filter(|f| !typing(&f.name));
    fields
        .filter_map(|field| {
            let validator = match escape(&field.name) {
                Some(escaped) => Validator::of_node(&field.node, decl.field(&escaped)?),
                // A name that cannot be written: rules above do not see the field, but it may have rules itself.
                None => Validator::of_node(&field.node, &declare(&field.node, "self")?),
            };
            Some((field.name.clone(), validator?))
        })
        .collect()
}

fn field_text(path: &Path<'_>) -> String {
    match path.to_string() {
        text if text.is_empty() => "<nil>".into(),
        text => text,
    }
}

fn rule_words(rule: &CelRule) -> &str {
    match rule.message.trim() {
        "" => rule.rule.trim(),
        message => message,
    }
}

/// The error that a rule's failure is.
fn failure(compiled: &Compiled, tree: &Value, field: &str, detail: String) -> FieldError {
    let field = match compiled.field.as_deref().unwrap_or_default() {
        "" => field.to_string(),
        below if field == "<nil>" => below.to_string(),
        below if below.starts_with('[') => format!("{field}{below}"),
        below => format!("{field}.{below}"),
    };
    let kind = match &*compiled.rule.reason {
        "FieldValueForbidden" => ErrorKind::Forbidden,
        "FieldValueRequired" => ErrorKind::Required,
        "FieldValueDuplicate" => ErrorKind::Duplicate,
        _ => ErrorKind::Invalid,
    };
    let shown = !matches!(kind, ErrorKind::Forbidden | ErrorKind::Required);
    // Large values are not repeated.
    let value = (shown && !matches!(tree, Value::Map(_) | Value::List(_))).then(|| tree.clone());
    let detail = if kind == ErrorKind::Duplicate { String::new() } else { detail };
    FieldError { kind, field, value, detail }
}
