//! The admission registration group: webhooks and policies.

use apimachinery::Kind;

pub mod expressions;
pub mod matching;
pub mod mutatingadmissionpolicy;
pub mod mutatingadmissionpolicybinding;
pub mod mutatingwebhookconfiguration;
pub mod validatingadmissionpolicy;
pub mod validatingadmissionpolicybinding;
pub mod validatingwebhookconfiguration;
pub mod webhook;

pub use matching::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, Rule, RuleWithOperations, Variable,
};
pub use mutatingadmissionpolicy::{
    ApplyConfiguration, JSONPatch, MutatingAdmissionPolicy, MutatingAdmissionPolicySpec, Mutation,
};
pub use mutatingadmissionpolicybinding::{MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec};
pub use mutatingwebhookconfiguration::{MutatingWebhook, MutatingWebhookConfiguration};
pub use validatingadmissionpolicy::{
    AuditAnnotation, ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
    ValidatingAdmissionPolicyStatus, Validation,
};
pub use validatingadmissionpolicybinding::{ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec};
pub use validatingwebhookconfiguration::{ValidatingWebhook, ValidatingWebhookConfiguration};
pub use webhook::{ServiceReference, WebhookClientConfig};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![
        mutatingadmissionpolicy::kind(),
        mutatingadmissionpolicybinding::kind(),
        mutatingwebhookconfiguration::kind(),
        validatingadmissionpolicy::kind(),
        validatingadmissionpolicybinding::kind(),
        validatingwebhookconfiguration::kind(),
    ]
}
