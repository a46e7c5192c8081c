//! RuntimeClass: names a container runtime handler.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Quantity, Rules};

use crate::cells::text;
use crate::core::nodeselector::Toleration;
use crate::served::served;

/// RuntimeClass: names a container runtime handler.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.node.v1.RuntimeClass")]
pub struct RuntimeClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub handler: String,
    #[api(3, omitempty)]
    pub overhead: Option<Overhead>,
    #[api(4, omitempty)]
    pub scheduling: Option<Scheduling>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.node.v1.Overhead")]
pub struct Overhead {
    #[api(1, omitempty)]
    pub pod_fixed: BTreeMap<String, Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.node.v1.Scheduling")]
pub struct Scheduling {
    #[api(1, omitempty, atomic)]
    pub node_selector: BTreeMap<String, String>,
    #[api(2, omitempty, list = "atomic")]
    pub tolerations: Vec<Toleration>,
}

pub fn kind() -> Kind {
    Kind::cluster::<RuntimeClass>("node.k8s.io", "v1", "runtimeclasses")
        .code_column("Handler", "string", |o, _| text(o, &["handler"]))
        .age()
        .example(r#"{"metadata":{"name":"sandboxed"},"handler":"sandboxed","overhead":{"podFixed":{"memory":"64Mi"}}}"#)
}

served!(RuntimeClass, "node.k8s.io", "v1", "runtimeclasses", false);

impl Rules for RuntimeClass {}
