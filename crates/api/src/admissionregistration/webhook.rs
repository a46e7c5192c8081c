//! How a webhook is reached.

use apimachinery::validation::{check, dns_subdomain, dns1035_label, port_number};
use apimachinery::{Api, Bytes, Errors, Path};

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

/// The name of a webhook: a domain of three parts or more.
pub(crate) fn webhook_name(errors: &mut Errors, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let faults = dns_subdomain(name);
    if !faults.is_empty() {
        errors.invalid(path, name, faults.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

/// Versions of AdmissionReview that a webhook reads, one of ours among them.
pub(crate) fn review_versions(errors: &mut Errors, path: &Path<'_>, versions: &[String]) {
    if versions.is_empty() {
        errors.required(path, "must specify one of v1, v1beta1");
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.invalid(&path.index(i), version.as_str(), "duplicate version");
        }
        check(errors, &path.index(i), version, dns1035_label);
    }
    if !versions.iter().any(|v| matches!(v.as_str(), "v1" | "v1beta1")) {
        let shown: Vec<apimachinery::Value> = versions.iter().map(|v| v.as_str().into()).collect();
        errors.invalid(path, shown, "must include at least one of v1, v1beta1");
    }
}

/// Exactly one way to reach a webhook.
pub(crate) fn client_config(errors: &mut Errors, path: &Path<'_>, config: &WebhookClientConfig) {
    let service = config.service.as_ref().map(|s| (s.name.as_str(), s.namespace.as_str(), s.path.as_deref(), s.port));
    reachable(errors, path, config.url.as_deref(), service);
}

/// A URL, or a service by name, namespace, path and port; not both.
pub(crate) fn reachable(
    errors: &mut Errors,
    path: &Path<'_>,
    url: Option<&str>,
    service: Option<(&str, &str, Option<&str>, Option<i32>)>,
) {
    match (url, service) {
        (None, None) | (Some(_), Some(_)) => errors.required(path, "exactly one of url or service is required"),
        (Some(url), None) => webhook_url(errors, &path.child("url"), url),
        (None, Some((name, namespace, url_path, port))) => {
            let field = path.child("service");
            if name.is_empty() {
                errors.required(&field.child("name"), "service name is required");
            }
            if namespace.is_empty() {
                errors.required(&field.child("namespace"), "service namespace is required");
            }
            if let Some(fault) = port_number(i64::from(port.unwrap_or(443))) {
                let message = format!("port is not valid: {fault}");
                errors.invalid(&field.child("port"), port.unwrap_or(443), message);
            }
            if let Some(url_path) = url_path.filter(|p| !matches!(*p, "" | "/")) {
                let field = field.child("path");
                if !url_path.starts_with('/') {
                    errors.invalid(&field, url_path, "must start with a '/'");
                }
                let steps = url_path.trim_start_matches('/').trim_end_matches('/');
                for (i, step) in steps.split('/').enumerate() {
                    if step.is_empty() {
                        errors.invalid(&field, url_path, format!("segment[{i}] may not be empty"));
                    }
                    for fault in dns_subdomain(step).into_iter().filter(|_| !step.is_empty()) {
                        errors.invalid(&field, url_path, format!("segment[{i}]: {fault}"));
                    }
                }
            }
        }
    }
}

fn webhook_url(errors: &mut Errors, path: &Path<'_>, url: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
        let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        if authority.is_empty() {
            errors.invalid(path, authority, format!("host must be specified{FORM}"));
        }
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.is_empty() {
        errors.invalid(path, authority, format!("host must be specified{FORM}"));
    }
    for (found, message) in [
        (authority.contains('@'), "user information is not permitted in the URL"),
        (rest.contains('#'), "fragments are not permitted in the URL"),
        (rest.contains('?'), "query parameters are not permitted in the URL"),
    ] {
        if found {
            errors.invalid(path, url, message);
        }
    }
}
