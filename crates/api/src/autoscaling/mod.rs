//! The autoscaling group.

use apimachinery::Kind;

pub mod horizontalpodautoscaler;
pub mod scale;
pub mod v1;

pub use horizontalpodautoscaler::{
    ContainerResourceMetricSource, ContainerResourceMetricStatus, CrossVersionObjectReference, ExternalMetricSource,
    ExternalMetricStatus, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricIdentifier,
    MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus,
    PodsMetricSource, PodsMetricStatus, ResourceMetricSource, ResourceMetricStatus,
};
pub use scale::{Scale, ScaleSpec, ScaleStatus};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![horizontalpodautoscaler::kind(), v1::kind()]
}
