//! LimitRange: bounds and defaults what one pod, container or claim may ask for.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Quantity, Rules};

use crate::served::served;

/// LimitRange: bounds and defaults what one pod, container or claim may ask for.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRange")]
pub struct LimitRange {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: LimitRangeSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRangeItem")]
pub struct LimitRangeItem {
    #[api(1, required)]
    pub type_: String,
    #[api(2, omitempty)]
    pub max: BTreeMap<String, Quantity>,
    #[api(3, omitempty)]
    pub min: BTreeMap<String, Quantity>,
    #[api(4, omitempty)]
    pub default: BTreeMap<String, Quantity>,
    #[api(5, omitempty)]
    pub default_request: BTreeMap<String, Quantity>,
    #[api(6, omitempty)]
    pub max_limit_request_ratio: BTreeMap<String, Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LimitRangeSpec")]
pub struct LimitRangeSpec {
    #[api(1, required, list = "atomic")]
    pub limits: Vec<LimitRangeItem>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<LimitRange>("", "v1", "limitranges").short(&["limits"]).column(
        "Created At",
        "date",
        ".metadata.creationTimestamp",
    )
        .example(
            r#"{"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container",
            "max": {"cpu": "2"}, "min": {"cpu": "10m"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}]}}"#,
        )
}

served!(LimitRange, "", "v1", "limitranges", true);

impl Rules for LimitRange {
    fn set_defaults(&mut self) {
        for item in self.spec.limits.iter_mut().filter(|item| item.type_ == "Container") {
            fill(&mut item.default, &item.max);
            fill(&mut item.default_request, &item.default);
            fill(&mut item.default_request, &item.min);
        }
    }
}

/// Copies the quantities whose resource is not yet there.
fn fill(target: &mut BTreeMap<String, Quantity>, source: &BTreeMap<String, Quantity>) {
    for (resource, quantity) in source {
        target.entry(resource.clone()).or_insert_with(|| quantity.clone());
    }
}
