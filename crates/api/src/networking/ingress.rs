//! Ingress: routes HTTP from outside to services.

use crate::checks::{name, parse_ip};
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{
    check, dns_label, dns_subdomain, path_segment, port_name, port_number, require, wildcard_subdomain,
};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{count, items, str_of, text_or};
use crate::core::references::TypedLocalObjectReference;
use crate::core::service::load_balancer;
use crate::served::served;

/// Ingress: routes HTTP from outside to services.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.Ingress")]
pub struct Ingress {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: IngressSpec,
    #[api(3, omitempty)]
    pub status: IngressStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressSpec")]
pub struct IngressSpec {
    #[api(4, omitempty)]
    pub ingress_class_name: Option<String>,
    #[api(1, omitempty)]
    pub default_backend: Option<IngressBackend>,
    #[api(2, omitempty, list = "atomic")]
    pub tls: Vec<IngressTLS>,
    #[api(3, omitempty, list = "atomic")]
    pub rules: Vec<IngressRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressTLS")]
pub struct IngressTLS {
    #[api(1, omitempty, list = "atomic")]
    pub hosts: Vec<String>,
    #[api(2, omitempty)]
    pub secret_name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressStatus")]
pub struct IngressStatus {
    #[api(1, omitempty)]
    pub load_balancer: IngressLoadBalancerStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressLoadBalancerStatus")]
pub struct IngressLoadBalancerStatus {
    #[api(1, omitempty, list = "atomic")]
    pub ingress: Vec<IngressLoadBalancerIngress>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressLoadBalancerIngress")]
pub struct IngressLoadBalancerIngress {
    #[api(1, omitempty)]
    pub ip: String,
    #[api(2, omitempty)]
    pub hostname: String,
    #[api(4, omitempty, list = "atomic")]
    pub ports: Vec<IngressPortStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressPortStatus")]
pub struct IngressPortStatus {
    #[api(1, required)]
    pub port: i32,
    #[api(2, required, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(3, omitempty)]
    pub error: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressRule")]
pub struct IngressRule {
    #[api(1, omitempty)]
    pub host: String,
    #[api(2, inline)]
    pub ingress_rule_value: IngressRuleValue,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressRuleValue")]
pub struct IngressRuleValue {
    #[api(1, omitempty)]
    pub http: Option<HTTPIngressRuleValue>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.HTTPIngressRuleValue")]
pub struct HTTPIngressRuleValue {
    #[api(1, required, list = "atomic")]
    pub paths: Vec<HTTPIngressPath>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.HTTPIngressPath")]
pub struct HTTPIngressPath {
    #[api(1, omitempty)]
    pub path: String,
    #[api(3, required, enumeration("Exact", "ImplementationSpecific", "Prefix"))]
    pub path_type: Option<String>,
    #[api(2, required)]
    pub backend: IngressBackend,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressBackend")]
pub struct IngressBackend {
    #[api(4, omitempty)]
    pub service: Option<IngressServiceBackend>,
    #[api(3, omitempty)]
    pub resource: Option<TypedLocalObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressServiceBackend")]
pub struct IngressServiceBackend {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub port: ServiceBackendPort,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ServiceBackendPort", atomic)]
pub struct ServiceBackendPort {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub number: i32,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Ingress>("networking.k8s.io", "v1", "ingresses")
        .short(&["ing"])
        .stored_under("ingress")
        .status()
        .generation(Generation::OnSpec)
        .code_column("Class", "string", |o, _| text_or(o, &["spec", "ingressClassName"], "<none>"))
        .code_column("Hosts", "string", hosts_cell)
        .code_column("Address", "string", |o, _| load_balancer(o).into())
        .code_column("Ports", "string", |o, _| if count(o, &["spec", "tls"]) > 0 { "80, 443" } else { "80" }.into())
        .age()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"ingressClassName": "public", "rules": [{"host": "web.example.com",
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web",
            "port": {"number": 80}}}}]}}]}}"#,
        )
}

served!(Ingress, "networking.k8s.io", "v1", "ingresses", true);

impl Rules for Ingress {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        if spec.rules.is_empty() && spec.default_backend.is_none() {
            let message = "either `defaultBackend` or `rules` must be specified";
            errors.invalid(&path, Value::List(Vec::new()), message);
        }
        if let Some(default) = &spec.default_backend {
            backend(errors, &path.child("defaultBackend"), default);
        }
        let rules = path.child("rules");
        for (i, rule) in spec.rules.iter().enumerate() {
            let path = rules.index(i);
            if !rule.host.is_empty() {
                let field = path.child("host");
                if parse_ip(&rule.host).is_some() {
                    errors.invalid(&field, rule.host.as_str(), "must be a DNS name, not an IP address");
                }
                host(errors, &field, &rule.host);
            }
            let Some(http) = &rule.ingress_rule_value.http else { continue };
            let http_field = path.child("http");
            let paths = http_field.child("paths");
            if http.paths.is_empty() {
                errors.required(&paths, "");
            }
            for (j, item) in http.paths.iter().enumerate() {
                http_path(errors, &paths.index(j), item);
            }
        }
        let tls = path.child("tls");
        for (i, entry) in spec.tls.iter().enumerate() {
            let path = tls.index(i);
            let hosts = path.child("hosts");
            for (j, name) in entry.hosts.iter().enumerate() {
                host(errors, &hosts.index(j), name);
            }
            if !entry.secret_name.is_empty() {
                check(errors, &path.child("secretName"), &entry.secret_name, dns_subdomain);
            }
        }
        if let Some(class) = &spec.ingress_class_name {
            check(errors, &path.child("ingressClassName"), class, dns_subdomain);
        }
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        const CLASS: &str = "kubernetes.io/ingress.class";
        if let Some(class) = self.metadata.annotations.get(CLASS)
            && let Some(field) = &self.spec.ingress_class_name
            && class != field
        {
            let metadata = Path::new("metadata");
            let message = "ingressClass annotation and spec.ingressClassName must match";
            errors.invalid(&metadata.child("annotations").child(CLASS), class.as_str(), message);
        }
    }
}

fn host(errors: &mut Errors, path: &Path<'_>, value: &str) {
    let form = if value.contains('*') { wildcard_subdomain } else { dns_subdomain };
    check(errors, path, value, form);
}

fn http_path(errors: &mut Errors, path: &Path<'_>, item: &HTTPIngressPath) {
    let field = path.child("path");
    match item.path_type.as_deref() {
        None => {
            errors.required(&path.child("pathType"), "pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            if !item.path.starts_with('/') {
                errors.invalid(&field, item.path.as_str(), "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| item.path.contains(part)) {
                errors.invalid(&field, item.path.as_str(), format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| item.path.ends_with(end)) {
                errors.invalid(&field, item.path.as_str(), format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !item.path.is_empty() && !item.path.starts_with('/') {
                errors.invalid(&field, item.path.as_str(), "must be an absolute path");
            }
        }
        Some(other) => {
            errors.not_supported(&path.child("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]);
        }
    }
    backend(errors, &path.child("backend"), &item.backend);
}

fn backend(errors: &mut Errors, path: &Path<'_>, backend: &IngressBackend) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
        (Some(resource), None) => {
            let path = path.child("resource");
            if let Some(group) = &resource.api_group {
                check(errors, &path.child("apiGroup"), group, dns_subdomain);
            }
            require(errors, &path.child("kind"), &resource.kind, path_segment);
            require(errors, &path.child("name"), &resource.name, path_segment);
        }
        (None, Some(service)) => {
            let field = path.child("service");
            require(errors, &field.child("name"), &service.name, dns_label);
            let port = field.child("port");
            match (service.port.name.as_str(), service.port.number) {
                ("", 0) => errors.required(path, "port name or number is required"),
                ("", number) => {
                    if let Some(fault) = port_number(i64::from(number)) {
                        errors.invalid(&port.child("number"), number, fault);
                    }
                }
                (name, 0) => check(errors, &port.child("name"), name, port_name),
                _ => errors.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn hosts_cell(object: &Value, _now: i64) -> Value {
    let rules = items(object, &["spec", "rules"]);
    let hosts: Vec<&str> = rules.iter().map(|r| str_of(r, &["host"])).filter(|h| !h.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        1..=3 => hosts.join(",").into(),
        _ => format!("{} + {} more...", hosts[..3].join(","), rules.len() - 3).into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn paths_and_backends_are_sound() {
        let paths = "spec.rules.0.http.paths.0";
        refuses(
            &super::kind(),
            &[(&format!("{paths}.path"), "\"a//b\"")],
            &[
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
            ],
        );
        refuses(
            &super::kind(),
            &[(&format!("{paths}.backend"), "{}")],
            &["spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required"],
        );
    }
}
