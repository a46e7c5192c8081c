//! Admission policies in expressions: which apply to a write, with which parameters.
//!
//! A policy says what, a binding says where: only a policy that a binding names has an effect. Both are compiled as
//! they are heard of, not while a write waits.

mod mutating;
mod validating;

use std::sync::{Arc, OnceLock};

use api::admissionregistration::expressions::{Compiler, Scope};
use apimachinery::selector::LabelSelector;
use apimachinery::{GroupVersionResource, Kind, SmolStr, Status, Value};
use client::{Client, Informer, Scope as All};
use engine::{Attributes, ListOptions, Operation, Target};

use super::World;
use super::expressions::{Conditions, Variable};
use super::webhook::matching::{Rule, labels_match, selector};
use super::webhook::namespace_matches;
use crate::tree::{list, strings, text};

pub(crate) use mutating::PLUGIN as MUTATING;
pub(crate) use validating::PLUGIN as VALIDATING;

const GROUP: &str = "admissionregistration.k8s.io";

/// What configures admission is not judged by it: a broken policy could not be repaired.
fn handles(a: &Attributes<'_>) -> bool {
    a.kind.group != GROUP
        && a.operation != Operation::Connect
        && matches!(a.kind.storage, apimachinery::kind::Storage::Stored { .. })
}

/// The parts that both sorts of policy have.
struct Policy {
    what: Matching,
    /// apiVersion and kind of parameters.
    params: Option<(SmolStr, SmolStr)>,
    variables: Vec<Variable>,
    conditions: Conditions,
    /// What goes wrong refuses the write.
    fails: bool,
}

impl Policy {
    /// Reads a policy; the compiler knows its variables afterwards.
    fn read(tree: &Value) -> (Policy, Compiler, Scope) {
        let spec = tree.get("spec").unwrap_or(&Value::Null);
        let params = spec.get("paramKind").filter(|p| !p.is_null());
        let scope = Scope { params: params.is_some(), authorizer: true, patches: false };
        let mut compiler = Compiler::default();
        let mut variables = Vec::new();
        for variable in list(spec, &["variables"]) {
            let name = text(variable, &["name"]);
            let program = compiler.variable(name, text(variable, &["expression"]), scope);
            variables.push(Variable::new(name, program, &variables));
        }
        let policy = Policy {
            what: Matching::read(spec.get("matchConstraints")),
            params: params.map(|p| (text(p, &["apiVersion"]).into(), text(p, &["kind"]).into())),
            variables,
            conditions: Conditions::read(list(spec, &["matchConditions"]), &compiler, scope),
            fails: text(spec, &["failurePolicy"]) != "Ignore",
        };
        (policy, compiler, scope)
    }
}

/// Where a policy has an effect.
struct Binding {
    policy: SmolStr,
    what: Matching,
    param: Option<ParamRef>,
    /// Only of validating policies: `Deny`, `Warn`, `Audit`.
    actions: Vec<SmolStr>,
}

/// Which objects are a binding's parameters.
struct ParamRef {
    name: SmolStr,
    namespace: SmolStr,
    selector: Option<LabelSelector>,
    /// A binding without parameters refuses.
    deny_missing: bool,
}

impl Binding {
    fn read(tree: &Value) -> Binding {
        let spec = tree.get("spec").unwrap_or(&Value::Null);
        let param = spec.get("paramRef").filter(|p| !p.is_null()).map(|param| ParamRef {
            name: text(param, &["name"]).into(),
            namespace: text(param, &["namespace"]).into(),
            selector: param
                .get("selector")
                .filter(|s| !s.is_null())
                .map(|s| LabelSelector::from_value(Some(s)).unwrap_or_else(|_| LabelSelector::nothing())),
            deny_missing: text(param, &["parameterNotFoundAction"]) == "Deny",
        });
        Binding {
            policy: text(spec, &["policyName"]).into(),
            what: Matching::read(spec.get("matchResources")),
            param,
            actions: strings(spec, &["validationActions"]).into_iter().map(SmolStr::from).collect(),
        }
    }
}

/// `MatchResources`.
#[derive(Default)]
struct Matching {
    rules: Vec<(Rule, Vec<SmolStr>)>,
    excluded: Vec<(Rule, Vec<SmolStr>)>,
    equivalent: bool,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
}

impl Matching {
    fn read(tree: Option<&Value>) -> Matching {
        let Some(tree) = tree.filter(|t| !t.is_null()) else { return Matching::default() };
        let rules = |key| {
            let names = |rule| strings(rule, &["resourceNames"]).into_iter().map(SmolStr::from).collect();
            list(tree, &[key]).iter().map(|rule| (Rule::read(rule), names(rule))).collect()
        };
        Matching {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            equivalent: text(tree, &["matchPolicy"]) != "Exact",
            namespaces: selector(tree.get("namespaceSelector")),
            objects: selector(tree.get("objectSelector")),
        }
    }

    /// The version of the object that a rule is about.
    fn by_rules(
        &self,
        rules: &[(Rule, Vec<SmolStr>)],
        a: &Attributes<'_>,
        versions: &[Arc<Kind>],
    ) -> Option<Arc<Kind>> {
        let about = |kind: &Kind| {
            rules.iter().any(|(rule, names)| {
                rule.matches(a, kind) && (names.is_empty() || names.iter().any(|name| name == a.name))
            })
        };
        if about(a.kind) {
            return Some(a.kind.clone());
        }
        let other = || versions.iter().find(|kind| about(kind)).cloned();
        if self.equivalent { other() } else { None }
    }

    /// The version in which a write is judged; `None` when it is not.
    async fn version(&self, world: &World, a: &Attributes<'_>) -> Result<Option<Arc<Kind>>, Status> {
        let engine = world.engine()?;
        let resource = engine.catalog().get(&a.kind.group, &a.kind.resource);
        let versions = resource.map(|r| r.versions.clone()).unwrap_or_default();
        if self.by_rules(&self.excluded, a, &versions).is_some() {
            return Ok(None);
        }
        let kind = match self.rules.is_empty() {
            true => Some(a.kind.clone()),
            false => self.by_rules(&self.rules, a, &versions),
        };
        let Some(kind) = kind else { return Ok(None) };
        if let Some(selector) = &self.objects {
            let new = Some(&*a.object).filter(|o| !o.is_null());
            if !labels_match(selector, new) && !labels_match(selector, a.old) {
                return Ok(None);
            }
        }
        match &self.namespaces {
            Some(selector) if !namespace_matches(world, a, selector).await? => Ok(None),
            _ => Ok(Some(kind)),
        }
    }
}

/// A policy with its parts of one sort.
type Named<P> = (SmolStr, Arc<P>);

/// The live policies and bindings.
#[derive(Default)]
pub(crate) struct Policies {
    validating: OnceLock<Informer<validating::Rules>>,
    validating_bindings: OnceLock<Informer<Binding>>,
    mutating: OnceLock<Informer<mutating::Rules>>,
    mutating_bindings: OnceLock<Informer<Binding>>,
}

impl Policies {
    pub(super) async fn start(&self, client: &Client) {
        let resource = |name| GroupVersionResource::new(GROUP, "v1", name);
        let bindings = |name| Informer::start(client, resource(name), All::default(), |tree| Some(Binding::read(tree)));
        let validating = self.validating.get_or_init(|| {
            let resource = resource("validatingadmissionpolicies");
            Informer::start(client, resource, All::default(), |tree| Some(validating::Rules::read(tree)))
        });
        let mutating = self.mutating.get_or_init(|| {
            let resource = resource("mutatingadmissionpolicies");
            Informer::start(client, resource, All::default(), |tree| Some(mutating::Rules::read(tree)))
        });
        let first = self.validating_bindings.get_or_init(|| bindings("validatingadmissionpolicybindings"));
        let second = self.mutating_bindings.get_or_init(|| bindings("mutatingadmissionpolicybindings"));
        validating.synced().await;
        mutating.synced().await;
        first.synced().await;
        second.synced().await;
    }
}

/// Each policy that has bindings, with them, in the order of names.
fn bound<P: Send + Sync + 'static>(
    policies: Option<&Informer<P>>,
    bindings: Option<&Informer<Binding>>,
) -> Vec<(Named<P>, Vec<Named<Binding>>)> {
    let (Some(policies), Some(bindings)) = (policies, bindings) else { return Vec::new() };
    if policies.is_empty() || bindings.is_empty() {
        return Vec::new();
    }
    let sorted = |mut all: Vec<(client::Key, Arc<Binding>)>| {
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(key, binding)| (key.name, binding)).collect()
    };
    let mut all = policies.all();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.into_iter()
        .map(|(key, policy)| {
            let own = sorted(bindings.filter(|_, binding| binding.policy == key.name));
            ((key.name, policy), own)
        })
        .filter(|(_, bindings): &(_, Vec<_>)| !bindings.is_empty())
        .collect()
}

/// The parameters with which a policy is evaluated for a binding: once each, or once without.
///
/// # Errors
/// What is wrong with the policy or the binding.
async fn params(
    world: &World,
    a: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
) -> Result<Vec<Option<Value>>, String> {
    let (Some((api_version, kind)), Some(wanted)) = (&policy.params, &binding.param) else { return Ok(vec![None]) };
    let engine = world.engine().map_err(|s| s.message)?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = engine
        .catalog()
        .by_kind(group, version, kind)
        .ok_or_else(|| format!("paramKind kind `{api_version}, Kind={kind}` not known"))?;
    let namespace = match (kind.namespaced, wanted.namespace.as_str(), a.namespace) {
        (true, "", "") => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "", own) => own,
        (true, given, _) => given,
        (false, "", _) => "",
        (false, ..) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
    };
    let target = |name: &str| Target {
        kind: kind.clone(),
        namespace: namespace.into(),
        name: name.into(),
        subresource: SmolStr::default(),
    };
    let mut found = Vec::new();
    if !wanted.name.is_empty() {
        let target = target(&wanted.name);
        match engine.get(world.cx(), &target).await {
            Ok(object) => found.push(engine.tree(&object, &kind).await.map_err(|s| s.message)?),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.message),
        }
    } else if let Some(selector) = &wanted.selector {
        let page = engine.list(world.cx(), &target(""), &ListOptions::default()).await.map_err(|s| s.message)?;
        for object in &page.objects {
            let tree = engine.tree(object, &kind).await.map_err(|s| s.message)?;
            if labels_match(selector, Some(&tree)) || selector.is_everything() {
                found.push(tree);
            }
        }
    }
    if found.is_empty() && wanted.deny_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found.into_iter().map(Some).collect())
}

/// The namespace that a write happens in; a namespace itself is in none.
async fn namespace(world: &World, a: &Attributes<'_>) -> Result<Option<Value>, Status> {
    if a.namespace.is_empty() || super::is(a, "", "namespaces") {
        return Ok(None);
    }
    world.get("", "namespaces", "", a.namespace).await
}
