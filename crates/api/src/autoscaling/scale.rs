//! Scale: is the number of replicas of any workload, asked for and present.

use apimachinery::Api;
use apimachinery::meta::ObjectMeta;

/// Scale: is the number of replicas of any workload, asked for and present.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.Scale")]
pub struct Scale {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ScaleSpec,
    #[api(3, omitempty)]
    pub status: ScaleStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.ScaleSpec")]
pub struct ScaleSpec {
    #[api(1, omitempty, default = "0")]
    pub replicas: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.autoscaling.v1.ScaleStatus")]
pub struct ScaleStatus {
    #[api(1, required)]
    pub replicas: i32,
    #[api(2, omitempty)]
    pub selector: String,
}
