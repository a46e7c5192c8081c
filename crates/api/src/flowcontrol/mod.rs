//! The flow control group: priority and fairness.

use apimachinery::Kind;

pub mod flowschema;
pub mod prioritylevelconfiguration;

pub use flowschema::{
    FlowDistinguisherMethod, FlowSchema, FlowSchemaCondition, FlowSchemaSpec, FlowSchemaStatus, GroupSubject,
    NonResourcePolicyRule, PolicyRulesWithSubjects, PriorityLevelConfigurationReference, ResourcePolicyRule,
    ServiceAccountSubject, Subject, UserSubject,
};
pub use prioritylevelconfiguration::{
    ExemptPriorityLevelConfiguration, LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationCondition, PriorityLevelConfigurationSpec, PriorityLevelConfigurationStatus,
    QueuingConfiguration,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![flowschema::kind(), prioritylevelconfiguration::kind()]
}
