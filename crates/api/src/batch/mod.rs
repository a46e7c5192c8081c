//! The batch group: jobs.

use apimachinery::Kind;

pub mod cronjob;
pub mod job;
pub mod podgroup;

pub use cronjob::{CronJob, CronJobSpec, CronJobStatus};
pub use job::{
    Job, JobCondition, JobSchedulingConfiguration, JobSpec, JobStatus, JobTemplateSpec, PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    SuccessPolicy, SuccessPolicyRule, UncountedTerminatedPods,
};
pub use podgroup::{
    TopologyConstraint, WorkloadPodGroupAllDisruptionMode, WorkloadPodGroupBasicSchedulingPolicy,
    WorkloadPodGroupDisruptionMode, WorkloadPodGroupGangSchedulingPolicy, WorkloadPodGroupResourceClaim,
    WorkloadPodGroupSchedulingConstraints, WorkloadPodGroupSchedulingPolicy, WorkloadPodGroupSingleDisruptionMode,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![cronjob::kind(), job::kind()]
}
