//! Who may do what: the masters group, the node authorizer, RBAC.

pub mod node;
pub mod rbac;

use apimachinery::SmolStr;
use client::Client;
use engine::User;

use crate::request::RequestInfo;

/// Members may do everything; not even RBAC can take that away, so that a broken policy can be mended.
pub const MASTERS: &str = "system:masters";

/// An answer of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// With what RBAC could not resolve, if anything; shown to the user.
    Deny(String),
}

/// The chain of authorizers: the first that allows decides, none refuses for the others.
pub struct Authorizer {
    node: std::sync::OnceLock<node::Node>,
    rbac: std::sync::OnceLock<rbac::Rbac>,
}

impl Default for Authorizer {
    fn default() -> Self {
        Authorizer::new()
    }
}

impl Authorizer {
    /// An authorizer that knows only the masters until [`Authorizer::start`].
    pub fn new() -> Authorizer {
        Authorizer { node: Default::default(), rbac: Default::default() }
    }

    /// Starts to follow roles, bindings and what nodes may see. `client` must act as a member of the masters, since
    /// its own requests pass here too.
    pub async fn start(&self, client: &Client) {
        let rbac = self.rbac.get_or_init(|| rbac::Rbac::start(client));
        let node = self.node.get_or_init(|| node::Node::start(client));
        rbac.synced().await;
        node.synced().await;
    }

    pub async fn authorize(&self, user: &User, info: &RequestInfo) -> Decision {
        self.decide(user, info)
    }

    /// The same where nothing can wait: everything that decides is in memory.
    pub fn decide(&self, user: &User, info: &RequestInfo) -> Decision {
        if user.groups.iter().any(|g| g == MASTERS) {
            return Decision::Allow;
        }
        if let Some(node) = self.node.get()
            && node.allows(user, info)
        {
            return Decision::Allow;
        }
        match self.rbac.get() {
            Some(rbac) => match rbac.authorize(user, info) {
                Ok(()) => Decision::Allow,
                Err(why) => Decision::Deny(why),
            },
            None => Decision::Deny(String::new()),
        }
    }

    /// The rules that RBAC gives a user in a namespace: for self-subject reviews and escalation checks.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<std::sync::Arc<rbac::Rule>> {
        self.rbac.get().map(|r| r.rules_for(user, namespace)).unwrap_or_default()
    }
}

/// The user that a service account acts as.
pub fn service_account_user(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}").into(),
        uid: uid.into(),
        groups: vec![
            SmolStr::new_static("system:serviceaccounts"),
            format!("system:serviceaccounts:{namespace}").into(),
            SmolStr::new_static("system:authenticated"),
        ],
        extra: Vec::new(),
    }
}
