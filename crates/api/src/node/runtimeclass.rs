//! RuntimeClass: names a container runtime handler.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use crate::core::pod::validate::tolerations;
use crate::quantities::{container_resource_name, resource_value};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, labels, require, short_name};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx};

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
        .create_on_update()
        .conditional_update()
        .example(r#"{"metadata":{"name":"sandboxed"},"handler":"sandboxed","overhead":{"podFixed":{"memory":"64Mi"}}}"#)
}

served!(RuntimeClass, "node.k8s.io", "v1", "runtimeclasses", false);

impl Rules for RuntimeClass {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        require(errors, &Path::new("handler"), &self.handler, short_name);
        if let Some(overhead) = &self.overhead {
            let path = Path::new("overhead");
            let fixed = path.child("podFixed");
            for (resource, quantity) in &overhead.pod_fixed {
                container_resource_name(errors, &fixed.key(resource), resource);
                resource_value(errors, &fixed.key(resource), resource, quantity);
            }
        }
        if let Some(scheduling) = &self.scheduling {
            let path = Path::new("scheduling");
            labels(errors, &path.child("nodeSelector"), &scheduling.node_selector);
            tolerations(errors, &path.child("tolerations"), &scheduling.tolerations);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("handler"), &self.handler, &old.handler);
    }
}
