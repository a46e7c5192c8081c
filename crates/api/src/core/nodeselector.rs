//! Selectors of nodes and topologies, taints and tolerations.

use apimachinery::{Api, Time};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSelector", atomic)]
pub struct NodeSelector {
    #[api(1, required, list = "atomic")]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSelectorTerm", atomic)]
pub struct NodeSelectorTerm {
    #[api(1, omitempty, list = "atomic")]
    pub match_expressions: Vec<NodeSelectorRequirement>,
    #[api(2, omitempty, list = "atomic")]
    pub match_fields: Vec<NodeSelectorRequirement>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSelectorRequirement")]
pub struct NodeSelectorRequirement {
    #[api(1, required)]
    pub key: String,
    #[api(2, required, enumeration("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"))]
    pub operator: String,
    #[api(3, omitempty, list = "atomic")]
    pub values: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TopologySelectorTerm", atomic)]
pub struct TopologySelectorTerm {
    #[api(1, omitempty, list = "atomic")]
    pub match_label_expressions: Vec<TopologySelectorLabelRequirement>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TopologySelectorLabelRequirement")]
pub struct TopologySelectorLabelRequirement {
    #[api(1, required)]
    pub key: String,
    #[api(2, required, list = "atomic")]
    pub values: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Taint")]
pub struct Taint {
    #[api(1, required)]
    pub key: String,
    #[api(2, omitempty)]
    pub value: String,
    #[api(3, required, enumeration("NoExecute", "NoSchedule", "PreferNoSchedule"))]
    pub effect: String,
    #[api(4, omitempty)]
    pub time_added: Option<Time>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Toleration")]
pub struct Toleration {
    #[api(1, omitempty)]
    pub key: String,
    #[api(2, omitempty, enumeration("Equal", "Exists", "Gt", "Lt"))]
    pub operator: String,
    #[api(3, omitempty)]
    pub value: String,
    #[api(4, omitempty, enumeration("NoExecute", "NoSchedule", "PreferNoSchedule"))]
    pub effect: String,
    #[api(5, omitempty)]
    pub toleration_seconds: Option<i64>,
}
