//! What expressions of webhooks and policies may name, and how they are compiled: the same when they are created and
//! when they are evaluated.

use apimachinery::{Errors, Path, SmolStr};
pub use cel::Type;
use cel::types::{Fields, Struct};
use cel::{Env, Program};

use super::matching::{MatchCondition, Variable};

/// The variables of expressions.
pub mod variable {
    pub const OBJECT: &str = "object";
    pub const OLD_OBJECT: &str = "oldObject";
    pub const REQUEST: &str = "request";
    pub const NAMESPACE: &str = "namespaceObject";
    pub const PARAMS: &str = "params";
    pub const AUTHORIZER: &str = "authorizer";
    pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";
    pub const VARIABLES: &str = "variables";
}

/// Which variables there are beside the object, the old one, the request and the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub params: bool,
    pub authorizer: bool,
    /// Objects and patches can be made.
    pub patches: bool,
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    Type::object(name, fields.iter().map(|(name, ty)| (SmolStr::from(*name), ty.clone())))
}

/// The type of `request`.
pub fn request_type() -> Type {
    let texts = |name, keys: [&str; 3]| object(name, &keys.map(|key| (key, Type::String)));
    let kind = texts("kubernetes.GroupVersionKind", ["group", "version", "kind"]);
    let resource = texts("kubernetes.GroupVersionResource", ["group", "version", "resource"]);
    let extra = Type::map(Type::String, Type::list(Type::String));
    let user = object(
        "kubernetes.UserInfo",
        &[("username", Type::String), ("uid", Type::String), ("groups", Type::list(Type::String)), ("extra", extra)],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// The type of `namespaceObject`.
pub fn namespace_type() -> Type {
    let texts = || Type::map(Type::String, Type::String);
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", Type::String),
            ("type", Type::String),
            ("lastTransitionTime", Type::Timestamp),
            ("message", Type::String),
            ("reason", Type::String),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", Type::list(Type::String))]);
    let status =
        object("kubernetes.NamespaceStatus", &[("conditions", Type::list(condition)), ("phase", Type::String)]);
    object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
}

/// `Object`, `Object.spec` and so on, of which any field may be set, and `JSONPatch`.
fn made_type(name: &str) -> Option<Type> {
    if name == "JSONPatch" {
        let fields = [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)];
        return Some(object(name, &fields));
    }
    (name == "Object" || name.starts_with("Object.")).then(|| {
        let fields = Fields::Open(|_, _| Type::Dyn);
        Type::Struct(std::sync::Arc::new(Struct { name: name.into(), fields }))
    })
}

/// Compiles the expressions of one webhook or policy. Variables are added in their order, each seeing those before it.
pub struct Compiler {
    object: Type,
    params: Type,
    variables: Vec<(SmolStr, Type)>,
}

impl Default for Compiler {
    fn default() -> Self {
        Compiler { object: Type::Dyn, params: Type::Dyn, variables: Vec::new() }
    }
}

impl Compiler {
    /// A compiler that knows what objects and parameters look like.
    pub fn typed(object: Type, params: Type) -> Compiler {
        Compiler { object, params, variables: Vec::new() }
    }

    fn env(&self, scope: Scope, composed: bool) -> Env {
        let mut env = Env::new()
            .with(variable::OBJECT, self.object.clone())
            .with(variable::OLD_OBJECT, self.object.clone())
            .with(variable::REQUEST, request_type())
            .with(variable::NAMESPACE, namespace_type());
        if scope.params {
            env = env.with(variable::PARAMS, self.params.clone());
        }
        if scope.authorizer {
            env = env
                .with(variable::AUTHORIZER, Type::Opaque(cel::types::opaque::AUTHORIZER))
                .with(variable::REQUEST_RESOURCE, Type::Opaque(cel::types::opaque::RESOURCE_CHECK));
        }
        if scope.patches {
            env = env.with_types(made_type).with_json_patch();
        }
        if composed {
            env = env.with(variable::VARIABLES, Type::object("kubernetes.variables", self.variables.iter().cloned()));
        }
        env
    }

    /// Compiles an expression that must be of one of these types; none means any.
    ///
    /// # Errors
    /// Why not, in the words of upstream.
    pub fn compile(&self, text: &str, scope: Scope, wanted: &[Type]) -> Result<Program, String> {
        let composed = !self.variables.is_empty();
        let program = Program::compile(&self.env(scope, composed), text)
            .map_err(|issues| format!("compilation failed: {issues}"))?;
        let found = program.result();
        if wanted.is_empty() || wanted.contains(found) {
            return Ok(program);
        }
        let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            many => format!("must evaluate to one of [{}] but got {found}", many.join(" ")),
        })
    }

    /// Compiles a variable, which is known to later expressions from here on, whatever came of it.
    ///
    /// # Errors
    /// Why it does not compile.
    pub fn variable(&mut self, name: &str, text: &str, scope: Scope) -> Result<Program, String> {
        let compiled = self.compile(text, scope, &[]);
        let ty = compiled.as_ref().map_or(Type::Dyn, |program| program.result().clone());
        self.variables.push((name.into(), ty));
        compiled
    }
}

/// The type of an `Object{}`.
pub fn object_type() -> Type {
    made_type("Object").unwrap_or(Type::Dyn)
}

/// The type of a list of patches.
pub fn patches_type() -> Type {
    Type::list(made_type("JSONPatch").unwrap_or(Type::Dyn))
}

/// Reports an expression that does not compile.
pub(crate) fn check(errors: &mut Errors, path: &Path<'_>, text: &str, compiled: Result<Program, String>) {
    if let Err(why) = compiled {
        errors.invalid(path, text, why);
    }
}

/// Compiles match conditions.
pub(crate) fn check_conditions(errors: &mut Errors, path: &Path<'_>, conditions: &[MatchCondition], params: bool) {
    let scope = Scope { params, authorizer: true, patches: false };
    let compiler = Compiler::default();
    for (i, condition) in conditions.iter().enumerate() {
        let text = condition.expression.trim();
        if !text.is_empty() {
            let compiled = compiler.compile(text, scope, &[Type::Bool]);
            check(errors, &path.index(i).child("expression"), text, compiled);
        }
    }
}

/// Compiles the variables of a policy.
pub(crate) fn check_variables(errors: &mut Errors, path: &Path<'_>, variables: &[Variable], scope: Scope) -> Compiler {
    let mut compiler = Compiler::default();
    for (i, variable) in variables.iter().enumerate() {
        if !variable.expression.trim().is_empty() {
            let compiled = compiler.variable(&variable.name, &variable.expression, scope);
            check(errors, &path.index(i).child("expression"), &variable.expression, compiled);
        }
    }
    compiler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_see_what_their_place_gives_them() {
        let all = Scope { params: true, authorizer: true, patches: true };
        let mut compiler = Compiler::default();
        for (text, scope, fine) in [
            ("object.metadata.name != 'skip-me' && oldObject == null", Scope::default(), true),
            ("request.userInfo.username == 'x' && request.operation == 'CREATE'", Scope::default(), true),
            ("namespaceObject.metadata.labels['a'] == 'b'", Scope::default(), true),
            ("request.nope == 1", Scope::default(), false),
            ("params.x == 1", Scope::default(), false),
            ("params.x == 1", all, true),
            ("authorizer.group('apps').resource('deployments').check('get').allowed()", all, true),
            ("authorizer.requestResource.check('custom').allowed()", all, true),
            ("authorizer.requestResource.check('custom').allowed()", Scope::default(), false),
            ("variables.x == 1", all, false),
            ("object.spec.replicas", Scope::default(), false),
            ("'a'", Scope::default(), false),
        ] {
            assert_eq!(compiler.compile(text, scope, &[Type::Bool]).is_ok(), fine, "{text}");
        }
        assert!(compiler.variable("x", "object.spec.replicas * 2", all).is_ok());
        assert!(compiler.variable("y", "variables.x > 1", all).is_ok());
        assert!(compiler.compile("variables.y", all, &[Type::Bool]).is_ok());
        assert!(compiler.compile("variables.z", all, &[Type::Bool]).is_err_and(|e| e.contains("undefined field 'z'")));
        let made = "Object{spec: Object.spec{replicas: 3, labels: {'a': 'b'}}}";
        assert!(compiler.compile(made, all, &[object_type()]).is_ok());
        let patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]";
        assert!(compiler.compile(patch, all, &[patches_type()]).is_ok());
        let wrong = compiler.compile("1", all, &[Type::Bool]).err();
        assert_eq!(wrong.as_deref(), Some("must evaluate to bool but got int"));
        let bad = compiler.compile("... [] bad expression", all, &[Type::Bool]).err().unwrap_or_default();
        assert!(
            bad.starts_with("compilation failed: ERROR: <input>:1:2: Syntax error: mismatched input '.' expecting"),
            "{bad}"
        );
    }
}
