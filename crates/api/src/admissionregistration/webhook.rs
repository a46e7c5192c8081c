//! How a webhook is reached.

use apimachinery::{Api, Bytes};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.WebhookClientConfig")]
pub struct WebhookClientConfig {
    #[api(3, omitempty)]
    pub url: Option<String>,
    #[api(1, omitempty)]
    pub service: Option<ServiceReference>,
    #[api(2, omitempty)]
    pub ca_bundle: Bytes,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ServiceReference")]
pub struct ServiceReference {
    #[api(1, required)]
    pub namespace: String,
    #[api(2, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub path: Option<String>,
    #[api(4, omitempty)]
    pub port: Option<i32>,
}

impl WebhookClientConfig {
    pub(crate) fn set_defaults(&mut self) {
        if let Some(service) = &mut self.service {
            service.port.get_or_insert(443);
        }
    }
}
