//! Scheduling of a job's pods as a group.

use apimachinery::Api;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.TopologyConstraint")]
pub struct TopologyConstraint {
    #[api(1, required)]
    pub key: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupSchedulingPolicy")]
pub struct WorkloadPodGroupSchedulingPolicy {
    #[api(1, omitempty)]
    pub basic: Option<WorkloadPodGroupBasicSchedulingPolicy>,
    #[api(2, omitempty)]
    pub gang: Option<WorkloadPodGroupGangSchedulingPolicy>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupBasicSchedulingPolicy")]
pub struct WorkloadPodGroupBasicSchedulingPolicy {}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupGangSchedulingPolicy")]
pub struct WorkloadPodGroupGangSchedulingPolicy {
    #[api(1, omitempty)]
    pub min_count: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupSchedulingConstraints")]
pub struct WorkloadPodGroupSchedulingConstraints {
    #[api(1, omitempty, list = "atomic")]
    pub topology: Vec<TopologyConstraint>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupResourceClaim")]
pub struct WorkloadPodGroupResourceClaim {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub resource_claim_name: Option<String>,
    #[api(3, omitempty)]
    pub resource_claim_template_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupDisruptionMode")]
pub struct WorkloadPodGroupDisruptionMode {
    #[api(1, omitempty)]
    pub single: Option<WorkloadPodGroupSingleDisruptionMode>,
    #[api(2, omitempty)]
    pub all: Option<WorkloadPodGroupAllDisruptionMode>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupSingleDisruptionMode")]
pub struct WorkloadPodGroupSingleDisruptionMode {}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupAllDisruptionMode")]
pub struct WorkloadPodGroupAllDisruptionMode {}
