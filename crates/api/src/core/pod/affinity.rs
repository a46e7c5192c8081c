//! Affinity: where a pod wants to be placed.

use apimachinery::Api;
use apimachinery::meta::LabelSelector;

use crate::core::nodeselector::{NodeSelector, NodeSelectorTerm};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Affinity")]
pub struct Affinity {
    #[api(1, omitempty)]
    pub node_affinity: Option<NodeAffinity>,
    #[api(2, omitempty)]
    pub pod_affinity: Option<PodAffinity>,
    #[api(3, omitempty)]
    pub pod_anti_affinity: Option<PodAntiAffinity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodAffinity")]
pub struct PodAffinity {
    #[api(1, omitempty, list = "atomic")]
    pub required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    #[api(2, omitempty, list = "atomic")]
    pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodAntiAffinity")]
pub struct PodAntiAffinity {
    #[api(1, omitempty, list = "atomic")]
    pub required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    #[api(2, omitempty, list = "atomic")]
    pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.WeightedPodAffinityTerm")]
pub struct WeightedPodAffinityTerm {
    #[api(1, required)]
    pub weight: i32,
    #[api(2, required)]
    pub pod_affinity_term: PodAffinityTerm,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodAffinityTerm")]
pub struct PodAffinityTerm {
    #[api(1, omitempty)]
    pub label_selector: Option<LabelSelector>,
    #[api(2, omitempty, list = "atomic")]
    pub namespaces: Vec<String>,
    #[api(3, required)]
    pub topology_key: String,
    #[api(4, omitempty)]
    pub namespace_selector: Option<LabelSelector>,
    #[api(5, omitempty, list = "atomic")]
    pub match_label_keys: Vec<String>,
    #[api(6, omitempty, list = "atomic")]
    pub mismatch_label_keys: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeAffinity")]
pub struct NodeAffinity {
    #[api(1, omitempty)]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    #[api(2, omitempty, list = "atomic")]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredSchedulingTerm>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PreferredSchedulingTerm")]
pub struct PreferredSchedulingTerm {
    #[api(1, required)]
    pub weight: i32,
    #[api(2, required)]
    pub preference: NodeSelectorTerm,
}
