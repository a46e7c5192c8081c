//! Questions about what somebody may do, answered by the host.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Value};

/// Who answers.
pub trait Authorizer: Send + Sync {
    /// Whether the user of the request, or the service account (namespace, name), may do this.
    fn authorize(&self, account: Option<(&str, &str)>, what: &Question<'_>) -> Decision;
}

/// What somebody wants to do.
#[derive(Debug)]
pub enum Question<'q> {
    Path { path: &'q str, verb: &'q str },
    Resource { check: &'q Resource, verb: &'q str },
}

/// A resource that a check is about; what is empty means any or none, as in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    pub group: SmolStr,
    pub resource: SmolStr,
    pub subresource: SmolStr,
    pub namespace: SmolStr,
    pub name: SmolStr,
    pub field_selector: SmolStr,
    pub label_selector: SmolStr,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why there was no answer; empty when there was one.
    pub error: String,
}

/// An authorizer and on whose behalf it is asked.
#[derive(Clone)]
pub struct Authority<'a> {
    authorizer: Arc<dyn Authorizer + 'a>,
    account: Option<(SmolStr, SmolStr)>,
}

impl<'a> Authority<'a> {
    /// Asks for the user of the request.
    pub fn new(authorizer: Arc<dyn Authorizer + 'a>) -> Authority<'a> {
        Authority { authorizer, account: None }
    }

    /// The check that `authorizer.requestResource` is.
    pub fn request_resource(&self, resource: Resource) -> Value<'a> {
        let check = ResourceCheck { authority: self.clone(), resource };
        Value::Opaque(Opaque::ResourceCheck(Arc::new(check)))
    }

    fn ask<'v>(&self, what: &Question<'_>) -> Value<'v> {
        let account = self.account.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
        Value::Opaque(Opaque::Decision(Arc::new(self.authorizer.authorize(account, what))))
    }
}

impl fmt::Debug for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", self.account)
    }
}

#[derive(Debug)]
pub struct PathCheck<'a> {
    authority: Authority<'a>,
    path: SmolStr,
}

#[derive(Debug)]
pub struct GroupCheck<'a> {
    authority: Authority<'a>,
    group: SmolStr,
}

#[derive(Debug)]
pub struct ResourceCheck<'a> {
    authority: Authority<'a>,
    resource: Resource,
}

macro_rules! refine {
    ($field:ident) => {
        |args| refined(args, |resource, value| resource.$field = value)
    };
}

const REFINED: &str = "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck";

pub(crate) const TABLE: &[Decl] = &[
    Decl(
        "path",
        path,
        &[("authorizer_path", "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck")],
    ),
    Decl(
        "group",
        group,
        &[("authorizer_group", "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck")],
    ),
    Decl(
        "serviceAccount",
        service_account,
        &[(
            "authorizer_serviceaccount",
            "kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer",
        )],
    ),
    Decl(
        "resource",
        resource,
        &[(
            "groupcheck_resource",
            "kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck",
        )],
    ),
    Decl("subresource", refine!(subresource), &[("resourcecheck_subresource", REFINED)]),
    Decl("namespace", refine!(namespace), &[("resourcecheck_namespace", REFINED)]),
    Decl("name", refine!(name), &[("resourcecheck_name", REFINED)]),
    Decl("fieldSelector", refine!(field_selector), &[("authorizer_fieldselector", REFINED)]),
    Decl("labelSelector", refine!(label_selector), &[("authorizer_labelselector", REFINED)]),
    Decl(
        "check",
        check,
        &[
            ("pathcheck_check", "kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision"),
            (
                "resourcecheck_check",
                "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
            ),
        ],
    ),
    Decl(
        "allowed",
        |args| decision(args, |d| Value::Bool(d.allowed)),
        &[("decision_allowed", "kubernetes.authorization.Decision.() bool")],
    ),
    Decl(
        "reason",
        |args| decision(args, |d| Value::String(d.reason.as_str().into())),
        &[("decision_reason", "kubernetes.authorization.Decision.() string")],
    ),
    Decl(
        "errored",
        |args| decision(args, |d| Value::Bool(!d.error.is_empty())),
        &[("decision_errored", "kubernetes.authorization.Decision.() bool")],
    ),
    Decl(
        "error",
        |args| decision(args, |d| Value::String(d.error.as_str().into())),
        &[("decision_error", "kubernetes.authorization.Decision.() string")],
    ),
];

fn path<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Authorizer(authority)), Value::String(path)] => {
            if path.trim().is_empty() {
                return Err(Error::new("path must not be empty"));
            }
            let check = PathCheck { authority: authority.clone(), path: path.clone() };
            Ok(Value::Opaque(Opaque::PathCheck(Arc::new(check))))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn group<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Authorizer(authority)), Value::String(group)] => {
            let check = GroupCheck { authority: authority.clone(), group: group.clone() };
            Ok(Value::Opaque(Opaque::GroupCheck(Arc::new(check))))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::Opaque(Opaque::Authorizer(authority)), Value::String(namespace), Value::String(name)] = args else {
        return Err(Error::no_such_overload());
    };
    let is_label = |part: &str| {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(fine) && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(Error::new("Invalid service account name"));
    }
    if namespace.len() > 63 || !is_label(namespace) {
        return Err(Error::new("Invalid service account namespace"));
    }
    let account = Some((namespace.clone(), name.clone()));
    Ok(Value::Opaque(Opaque::Authorizer(Authority { authorizer: authority.authorizer.clone(), account })))
}

fn resource<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::GroupCheck(group)), Value::String(resource)] => {
            if resource.trim().is_empty() {
                return Err(Error::new("resource must not be empty"));
            }
            let resource = Resource { group: group.group.clone(), resource: resource.clone(), ..Resource::default() };
            Ok(group.authority.request_resource(resource))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn refined<'a>(args: &[Value<'a>], set: fn(&mut Resource, SmolStr)) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::ResourceCheck(check)), Value::String(value)] => {
            let mut resource = check.resource.clone();
            set(&mut resource, value.clone());
            Ok(check.authority.request_resource(resource))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::PathCheck(check)), Value::String(verb)] => {
            Ok(check.authority.ask(&Question::Path { path: &check.path, verb }))
        }
        [Value::Opaque(Opaque::ResourceCheck(check)), Value::String(verb)] => {
            Ok(check.authority.ask(&Question::Resource { check: &check.resource, verb }))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn decision<'a>(args: &[Value<'a>], of: fn(&Decision) -> Value<'a>) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Decision(decision))] => Ok(of(decision)),
        _ => Err(Error::no_such_overload()),
    }
}
