//! A container's environment: literal values with `$(NAME)`, and what comes from elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use api::core::pod::Pod;
use api::core::pod::container::{Container, EnvVarSource};

use super::{Error, NodeFacts, error, fields};

/// Where ConfigMaps and Secrets come from: contents by key, or `None` where there is no such object.
pub trait Objects {
    fn config_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
}

/// Replaces `$(NAME)` by its value; `$$` is one `$`, and what has no value stays.
pub fn expand(text: &str, values: &HashMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|r| r.find(')').map(|end| &r[..end]));
        match name {
            Some(name) => {
                match values.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&rest[..name.len() + 3]),
                }
                rest = &rest[name.len() + 3..];
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The whole environment. `services` are variables of services, which all others go before.
pub fn env(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    ips: &[IpAddr],
    services: Vec<(String, String)>,
    objects: &dyn Objects,
) -> Result<Vec<(String, String)>, Error> {
    let namespace = pod.metadata.namespace.as_str();
    let mut all: Vec<(String, String)> = Vec::new();
    let set = |all: &mut Vec<(String, String)>, name: &str, value: String| match all
        .iter_mut()
        .find(|(known, _)| known == name)
    {
        Some(known) => known.1 = value,
        None => all.push((name.to_owned(), value)),
    };
    for source in &container.env_from {
        let (found, optional, sort, name) = if let Some(map) = &source.config_map_ref {
            let name = &map.local_object_reference.name;
            (objects.config_map(namespace, name), map.optional, "configmap", name)
        } else if let Some(secret) = &source.secret_ref {
            let name = &secret.local_object_reference.name;
            (objects.secret(namespace, name), secret.optional, "secret", name)
        } else {
            continue;
        };
        match found {
            Some(data) => {
                for (key, value) in data {
                    set(&mut all, &format!("{}{key}", source.prefix), text(&value));
                }
            }
            None if optional == Some(true) => {}
            None => return Err(error(format!("{sort} {name:?} not found"))),
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            Some(source) => match from(pod, container, node, ips, source, objects)? {
                Some(value) => value,
                None => continue,
            },
            None => {
                // Those before it, and the services, can be named.
                let mut values: HashMap<&str, &str> = HashMap::new();
                values.extend(services.iter().map(|(k, v)| (k.as_str(), v.as_str())));
                values.extend(all.iter().map(|(k, v)| (k.as_str(), v.as_str())));
                expand(&variable.value, &values)
            }
        };
        set(&mut all, &variable.name, value);
    }
    for (name, value) in services {
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, value));
        }
    }
    Ok(all)
}

fn from(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    ips: &[IpAddr],
    source: &EnvVarSource,
    objects: &dyn Objects,
) -> Result<Option<String>, Error> {
    let namespace = pod.metadata.namespace.as_str();
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, node, ips, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return fields::resource(pod, &container.name, reference, node).map(Some);
    }
    let (found, key, optional, sort, title, name) = if let Some(r) = &source.config_map_key_ref {
        let name = &r.local_object_reference.name;
        (objects.config_map(namespace, name), &r.key, r.optional, "configmap", "ConfigMap", name)
    } else if let Some(r) = &source.secret_key_ref {
        let name = &r.local_object_reference.name;
        (objects.secret(namespace, name), &r.key, r.optional, "secret", "Secret", name)
    } else if source.file_key_ref.is_some() {
        return Err(error("variables from files (fileKeyRef) are not supported by this node"));
    } else {
        return Ok(Some(String::new()));
    };
    match found {
        Some(data) => match data.get(key) {
            Some(value) => Ok(Some(text(value))),
            None if optional == Some(true) => Ok(None),
            None => Err(error(format!("couldn't find key {key} in {title} {namespace}/{name}"))),
        },
        None if optional == Some(true) => Ok(None),
        None => Err(error(format!("{sort} {name:?} not found"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, pod};
    use super::*;

    struct Known;

    impl Objects for Known {
        fn config_map(&self, _: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            (name == "m").then(|| BTreeMap::from([("color".into(), b"blue".to_vec())]))
        }
        fn secret(&self, _: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            (name == "s").then(|| BTreeMap::from([("key".into(), b"hush".to_vec())]))
        }
    }

    #[test]
    fn references_are_replaced() {
        let values = HashMap::from([("A", "1"), ("B", "2")]);
        let cases = [
            ("$(A)-$(B)", "1-2"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(C)", "$(C)"),
            ("$(A", "$(A"),
            ("cost $5", "cost $5"),
            ("$", "$"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, &values), wanted, "{text}");
        }
    }

    fn told(container: &str) -> Result<String, String> {
        let pod =
            pod(&format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[{container}]}}}}"#));
        let services = vec![("WEB_SERVICE_HOST".to_owned(), "10.43.0.1".to_owned())];
        let all = env(&pod, &pod.spec.containers[0], &node(), &[], services, &Known).map_err(|e| e.0)?;
        Ok(all.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn all_sources() {
        let container = r#"{"name":"a","envFrom":[{"prefix":"P_","configMapRef":{"name":"m"}},
            {"secretRef":{"name":"none","optional":true}}],"env":[{"name":"X","value":"$(P_color) $(WEB_SERVICE_HOST)"},
            {"name":"K","valueFrom":{"secretKeyRef":{"name":"s","key":"key"}}},
            {"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
            {"name":"O","valueFrom":{"configMapKeyRef":{"name":"m","key":"none","optional":true}}}]}"#;
        assert_eq!(told(container).unwrap(), "P_color=blue X=blue 10.43.0.1 K=hush N=p WEB_SERVICE_HOST=10.43.0.1");
        let missing = r#"{"name":"a","env":[{"name":"K","valueFrom":{"secretKeyRef":{"name":"s","key":"no"}}}]}"#;
        assert_eq!(told(missing).unwrap_err(), "couldn't find key no in Secret n/s");
        let missing = r#"{"name":"a","envFrom":[{"configMapRef":{"name":"none"}}]}"#;
        assert_eq!(told(missing).unwrap_err(), "configmap \"none\" not found");
    }
}
