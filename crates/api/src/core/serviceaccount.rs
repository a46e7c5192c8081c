//! ServiceAccount: is an identity for processes in pods.

use crate::checks::name;
use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Rules, RulesCx};

use crate::core::references::{LocalObjectReference, ObjectReference};
use crate::served::served;

/// ServiceAccount: is an identity for processes in pods.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServiceAccount")]
pub struct ServiceAccount {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub secrets: Vec<ObjectReference>,
    #[api(3, omitempty, list = "atomic")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    #[api(4, omitempty)]
    pub automount_service_account_token: Option<bool>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ServiceAccount>("", "v1", "serviceaccounts")
        .short(&["sa"])
        .subresource_of("token", Verbs::CREATE, Action::Handler, ("authentication.k8s.io", "v1", "TokenRequest"))
        .age()
        .returns_deleted()
        .example(r#"{"metadata":{"name":"robot"},"imagePullSecrets":[{"name":"registry"}]}"#)
}

served!(ServiceAccount, "", "v1", "serviceaccounts", true);

impl Rules for ServiceAccount {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
    }
}
