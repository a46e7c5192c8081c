//! PriorityClass: maps a name to a pod priority.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

use crate::cells::{flag, number, text};
use crate::served::served;

/// PriorityClass: maps a name to a pod priority.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.scheduling.v1.PriorityClass")]
pub struct PriorityClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub value: i32,
    #[api(3, omitempty)]
    pub global_default: bool,
    #[api(4, omitempty)]
    pub description: String,
    #[api(5, omitempty, enumeration("Never", "PreemptLowerPriority"))]
    pub preemption_policy: Option<String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<PriorityClass>("scheduling.k8s.io", "v1", "priorityclasses")
        .short(&["pc"])
        .generation(Generation::OnContent)
        .code_column("Value", "integer", |o, _| number(o, &["value"]))
        .code_column("Global-Default", "boolean", |o, _| flag(o, &["globalDefault"], false))
        .age()
        .wide_code_column("PreemptionPolicy", "string", |o, _| text(o, &["preemptionPolicy"]))
        .example(r#"{"metadata":{"name":"high"},"value":1000,"description":"for what must run first"}"#)
}

served!(PriorityClass, "scheduling.k8s.io", "v1", "priorityclasses", false);

impl Rules for PriorityClass {
    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".into());
    }
}
