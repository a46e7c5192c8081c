//! Expressions of webhooks and policies over one write: what their variables are worth, and what they may cost.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use api::admissionregistration::expressions::{Compiler, Scope, namespace_type, request_type, variable};
use apimachinery::expressions::{CALL_LIMIT, MATCH_BUDGET, of_type, value};
use apimachinery::{Kind, SmolStr, Status, Value};
use cel::library::authz::{Authority, Authorizer as Asked, Decision as Answer, Question, Resource};
use cel::{HostMap, Map, Opaque, Program, Type, Value as Cel};
use engine::{Attributes, Engine, User};
use parking_lot::Mutex;

use super::World;
use crate::authz::{Authorizer, Decision, service_account_user};
use crate::request::RequestInfo;
use crate::tree::text;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

static REQUEST: LazyLock<Type> = LazyLock::new(request_type);
static NAMESPACE: LazyLock<Type> = LazyLock::new(namespace_type);

/// The objects of a write in the version that a webhook or policy is about.
pub struct Versioned<'a> {
    object: Tree<'a>,
    old: Tree<'a>,
}

impl Versioned<'_> {
    /// The new object; null when it is deleted.
    pub fn object(&self) -> &Value {
        self.object.get()
    }
}

/// Borrowed where no conversion was needed.
enum Tree<'a> {
    As(&'a Value),
    Made(Value),
}

impl Tree<'_> {
    fn get(&self) -> &Value {
        match self {
            Tree::As(tree) => tree,
            Tree::Made(tree) => tree,
        }
    }
}

/// Converts what must be converted.
pub async fn versioned<'a>(engine: &Engine, a: &'a Attributes<'_>, kind: &Arc<Kind>) -> Result<Versioned<'a>, Status> {
    let convert = async |tree: Option<&'a Value>| match tree.filter(|t| !t.is_null()) {
        None => Ok(Tree::As(&Value::Null)),
        Some(tree) if kind.version == a.kind.version => Ok(Tree::As(tree)),
        Some(tree) => engine.convert_shared(Arc::new(tree.clone()), a.kind, kind).await.map(Tree::Made),
    };
    Ok(Versioned { object: convert(Some(&*a.object)).await?, old: convert(a.old).await? })
}

/// What the variables of one evaluation are.
pub struct Input<'a> {
    object: &'a Value,
    old: &'a Value,
    request: &'a Value,
    namespace: Option<&'a Value>,
    params: Option<&'a Value>,
    authority: Authority<'a>,
    target: Resource,
    /// The policy's own variables.
    composed: Option<Arc<Composed<'a>>>,
}

/// A policy's variables: each is computed when it is first named.
struct Composed<'a> {
    programs: &'a [Variable],
    /// Without the composed variables.
    outer: Input<'a>,
    values: Mutex<HashMap<SmolStr, Result<Cel<'a>, cel::Error>>>,
    /// What they have cost since this was last asked.
    cost: Mutex<u64>,
}

/// A variable of a policy, compiled.
pub struct Variable {
    name: SmolStr,
    program: Result<Program, String>,
    /// Its value may hold all variables, and so itself: kept, it would never be let go of.
    holds_all: bool,
}

impl Variable {
    /// A variable after those before it.
    pub fn new(name: &str, program: Result<Program, String>, before: &[Variable]) -> Variable {
        let holds_all = program.as_ref().is_ok_and(|program| {
            let some = before.iter().any(|v| v.holds_all);
            program.uses_whole(variable::VARIABLES) || (some && program.mentions(variable::VARIABLES))
        });
        Variable { name: name.into(), program, holds_all }
    }
}

/// Asks our authorizer on behalf of a user.
struct Ask<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
}

impl Asked for Ask<'_> {
    fn authorize(&self, account: Option<(&str, &str)>, what: &Question<'_>) -> Answer {
        let info = match what {
            Question::Path { path, verb } => {
                RequestInfo { verb: (*verb).into(), path: (*path).into(), ..RequestInfo::default() }
            }
            Question::Resource { check, verb } => RequestInfo {
                verb: (*verb).into(),
                is_resource: true,
                prefix: if check.group.is_empty() { "api".into() } else { "apis".into() },
                group: check.group.clone(),
                version: "*".into(),
                namespace: check.namespace.clone(),
                resource: check.resource.clone(),
                subresource: check.subresource.clone(),
                name: check.name.clone(),
                ..RequestInfo::default()
            },
        };
        let decision = match account {
            Some((namespace, name)) => self.authorizer.decide(&service_account_user(namespace, name, ""), &info),
            None => self.authorizer.decide(self.user, &info),
        };
        match decision {
            Decision::Allow => Answer { allowed: true, ..Answer::default() },
            Decision::Deny(reason) => Answer { allowed: false, reason, error: String::new() },
        }
    }
}

impl<'a> Input<'a> {
    pub fn new(world: &'a World, a: &'a Attributes<'_>, objects: &'a Versioned<'_>, request: &'a Value) -> Input<'a> {
        let ask = Ask { authorizer: &world.authorizer, user: &a.cx.user };
        Input {
            object: objects.object.get(),
            old: objects.old.get(),
            request,
            namespace: None,
            params: None,
            authority: Authority::new(Arc::new(ask)),
            target: Resource {
                group: SmolStr::new(&a.kind.group),
                resource: SmolStr::new(&a.kind.resource),
                subresource: a.subresource.into(),
                namespace: a.namespace.into(),
                name: a.name.into(),
                ..Resource::default()
            },
            composed: None,
        }
    }

    /// The same with parameters.
    pub fn with_params<'b>(&self, params: Option<&'b Value>) -> Input<'b>
    where
        'a: 'b,
    {
        Input { params, ..self.alone() }
    }

    /// The same with the namespace of the request.
    pub fn with_namespace<'b>(&self, namespace: Option<&'b Value>) -> Input<'b>
    where
        'a: 'b,
    {
        Input { namespace, ..self.alone() }
    }

    /// The same about an object that was changed.
    pub fn with_object<'b>(&self, object: &'b Value) -> Input<'b>
    where
        'a: 'b,
    {
        Input { object, ..self.alone() }
    }

    /// The same with the variables of a policy.
    pub fn with_variables<'b>(&self, programs: &'b [Variable]) -> Input<'b>
    where
        'a: 'b,
    {
        let outer = self.alone();
        let composed = Composed { programs, outer, values: Mutex::default(), cost: Mutex::default() };
        Input { composed: Some(Arc::new(composed)), ..self.alone() }
    }

    /// The same without variables of a policy.
    fn alone<'b>(&self) -> Input<'b>
    where
        'a: 'b,
    {
        Input {
            object: self.object,
            old: self.old,
            request: self.request,
            namespace: self.namespace,
            params: self.params,
            authority: self.authority.clone(),
            target: self.target.clone(),
            composed: None,
        }
    }

    fn get(&self, name: &str) -> Option<Cel<'a>> {
        Some(match name {
            variable::OBJECT => value(self.object),
            variable::OLD_OBJECT => value(self.old),
            variable::REQUEST => of_type(self.request, &REQUEST),
            variable::NAMESPACE => self.namespace.map_or(Cel::Null, |tree| of_type(tree, &NAMESPACE)),
            variable::PARAMS => self.params.map_or(Cel::Null, value),
            variable::AUTHORIZER => Cel::Opaque(Opaque::Authorizer(self.authority.clone())),
            variable::REQUEST_RESOURCE => self.authority.request_resource(self.target.clone()),
            variable::VARIABLES => {
                let composed = self.composed.clone()?;
                Cel::Map(Map::Host(Arc::new(Named(composed))))
            }
            _ => return None,
        })
    }

    /// Evaluates an expression and takes what it cost from the budget.
    ///
    /// # Errors
    /// Why there is no value; the budget is empty when it did not suffice.
    pub fn evaluate(&self, text: &str, program: &Program, budget: &mut u64) -> Result<Cel<'a>, String> {
        let (result, cost) = program.evaluate(&|name: &str| self.get(name), CALL_LIMIT);
        let composed = self.composed.as_ref().map_or(0, |c| std::mem::take(&mut *c.cost.lock()));
        let cost = cost.saturating_add(composed);
        if cost > *budget {
            *budget = 0;
            return Err(OUT_OF_BUDGET.into());
        }
        *budget -= cost;
        result.map_err(|error| format!("expression '{text}' resulted in error: {error}"))
    }
}

/// `variables` as a map.
struct Named<'a>(Arc<Composed<'a>>);

impl<'a> HostMap<'a> for Named<'a> {
    fn get(&self, key: &str) -> Result<Option<Cel<'a>>, cel::Error> {
        let composed = &self.0;
        if let Some(found) = composed.values.lock().get(key) {
            return found.clone().map(Some);
        }
        let Some(found) = composed.programs.iter().find(|v| v.name == key) else { return Ok(None) };
        let program = match &found.program {
            Ok(program) => program,
            Err(why) => return Err(cel::Error::new(format!("composited variable {key:?} fails to compile: {why}"))),
        };
        let get = |name: &str| match name {
            variable::VARIABLES => Some(Cel::Map(Map::Host(Arc::new(Named(composed.clone()))))),
            name => composed.outer.get(name),
        };
        let (result, cost) = program.evaluate(&get, CALL_LIMIT);
        *composed.cost.lock() += cost;
        let result = result.map_err(|e| cel::Error::new(format!("composited variable {key:?} fails to evaluate: {e}")));
        if !found.holds_all {
            composed.values.lock().insert(key.into(), result.clone());
        }
        result.map(Some)
    }

    fn keys(&self) -> Vec<SmolStr> {
        self.0.programs.iter().map(|v| v.name.clone()).collect()
    }

    fn type_name(&self) -> Option<SmolStr> {
        Some("kubernetes.variables".into())
    }
}

/// Match conditions, compiled.
pub struct Conditions(Vec<(String, Result<Program, String>)>);

impl Conditions {
    pub fn read(conditions: &[Value], compiler: &Compiler, scope: Scope) -> Conditions {
        let compiled = conditions.iter().map(|condition| {
            let expression = text(condition, &["expression"]);
            (expression.to_string(), compiler.compile(expression, scope, &[Type::Bool]))
        });
        Conditions(compiled.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold.
    ///
    /// # Errors
    /// What went wrong, unless one does not hold anyway.
    pub fn hold(&self, input: &Input<'_>) -> Result<bool, String> {
        let mut budget = MATCH_BUDGET;
        let mut errors = Vec::new();
        for (text, program) in &self.0 {
            let result = match program {
                Ok(program) => input.evaluate(text, program, &mut budget),
                Err(why) => Err(format!("compilation error: {why}")),
            };
            match result {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(why) if budget == 0 => return Err(why),
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::admission::webhook::review;
    use crate::tree::tree;
    use engine::Operation;
    use serde_json::json;

    fn conditions(expressions: &[&str]) -> Conditions {
        let trees: Vec<Value> = expressions.iter().map(|e| tree(json!({"name": "c", "expression": e}))).collect();
        let scope = Scope { params: false, authorizer: true, patches: false };
        Conditions::read(&trees, &Compiler::default(), scope)
    }

    /// Evaluates about a pod that is being created by `alice`.
    fn about_a_pod<R>(act: impl FnOnce(&Input<'_>) -> R) -> R {
        let world = World::new(Arc::new(Authorizer::new()));
        let object = tree(json!({"metadata": {"name": "skip-me", "labels": {"a": "b"}}, "spec": {"n": 3}}));
        let mut write = Write::new(api::core::pod::kind(), Operation::Create, object);
        let user = User { name: "alice".into(), groups: vec!["system:masters".into()], ..User::default() };
        write.cx = engine::Cx::new(Arc::new(user));
        let attributes = write.attributes();
        let facts = review::facts(&attributes, attributes.kind);
        let objects = Versioned { object: Tree::As(&*attributes.object), old: Tree::As(&Value::Null) };
        act(&Input::new(&world, &attributes, &objects, &facts))
    }

    #[test]
    fn conditions_see_the_request() {
        for (expressions, holds) in [
            (&["object.metadata.name != 'skip-me'"][..], Some(false)),
            (&["object.metadata.labels.a == 'b'", "request.userInfo.username == 'alice'"], Some(true)),
            (
                &["request.operation == 'CREATE' && oldObject == null && request.resource.resource == 'pods'"],
                Some(true),
            ),
            (&["namespaceObject == null && request.dryRun == false"], Some(true)),
            (&["authorizer.group('').resource('pods').namespace('x').check('create').allowed()"], Some(true)),
            (&["authorizer.serviceAccount('a', 'b').path('/x').check('get').allowed()"], Some(false)),
            (&["authorizer.requestResource.check('create').allowed()"], Some(true)),
            (&["object.nope == 1"], None),
            // One that does not hold decides, whatever else goes wrong.
            (&["object.nope == 1", "false"], Some(false)),
            (&["nope("], None),
        ] {
            let found = about_a_pod(|input| conditions(expressions).hold(input));
            assert_eq!(found.as_ref().ok().copied(), holds, "{expressions:?}: {found:?}");
        }
    }

    #[test]
    fn variables_are_computed_once_and_paid_for() {
        let scope = Scope { params: false, authorizer: true, patches: false };
        let mut compiler = Compiler::default();
        let mut variables: Vec<Variable> = Vec::new();
        for (name, text) in [
            ("n", "object.spec.n"),
            ("twice", "variables.n * 2"),
            ("broken", "object.spec.nope"),
            ("own", "variables"),
            ("again", "variables.own"),
        ] {
            let program = compiler.variable(name, text, scope);
            variables.push(Variable::new(name, program, &variables));
        }
        assert!(variables.iter().map(|v| v.holds_all).eq([false, false, false, true, true]));
        about_a_pod(|input| {
            let input = input.with_variables(&variables);
            let mut budget = 1000;
            let mut run = |text: &str| {
                let program = compiler.compile(text, scope, &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
                input.evaluate(text, &program, &mut budget)
            };
            assert!(matches!(run("variables.twice + variables.twice"), Ok(Cel::Int(12))));
            assert!(run("variables.broken").is_err_and(|e| e.contains("no such key: nope")));
            assert!(matches!(run("variables.own.n == 3"), Ok(Cel::Bool(true))));
            assert!(budget < 1000);
            let mut none = 1;
            let program = compiler.compile("variables.n == 3", scope, &[]).unwrap_or_else(|e| panic!("{e}"));
            let refused = input.evaluate("variables.n == 3", &program, &mut none);
            assert_eq!(refused.err().as_deref(), Some(OUT_OF_BUDGET));
        });
    }
}
