//! Environment variables that name the services of a pod's namespace.

use api::core::pod::Pod;
use apimachinery::Value;
use client::Informer;
use smol_str::SmolStr;

/// What variables need of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    address: SmolStr,
    /// Name, protocol, number.
    ports: Vec<(SmolStr, SmolStr, i64)>,
}

impl Ports {
    /// Takes them out of a service; headless ones have none.
    pub fn read(tree: &Value) -> Option<Ports> {
        let address = tree.str_at(&["spec", "clusterIP"]).filter(|ip| !ip.is_empty() && *ip != "None")?;
        let ports = tree.at(&["spec", "ports"]).and_then(Value::as_list).unwrap_or_default();
        let text = |port: &Value, key: &str| SmolStr::from(port.str_at(&[key]).unwrap_or_default());
        Some(Ports {
            address: address.into(),
            ports: ports
                .iter()
                .map(|p| (text(p, "name"), text(p, "protocol"), p.get("port").and_then(Value::as_i64).unwrap_or(0)))
                .collect(),
        })
    }
}

/// The variables for a pod: of the API's own service always, of its namespace's services if the pod wants links.
pub fn variables(services: &Informer<Ports>, pod: &Pod) -> Vec<(String, String)> {
    const MASTER: (&str, &str) = ("default", "kubernetes");
    let links = pod.spec.enable_service_links.unwrap_or(true);
    let mut found = services.filter(|key, _| {
        (key.namespace.as_str(), key.name.as_str()) == MASTER
            || (links && key.namespace == pod.metadata.namespace.as_str())
    });
    // A service of the pod's own namespace goes before the API's of the same name.
    found.sort_by(|a, b| {
        let own = |key: &client::Key| key.namespace == pod.metadata.namespace.as_str();
        (own(&a.0), &a.0.name).cmp(&(own(&b.0), &b.0.name))
    });
    found.iter().flat_map(|(key, ports)| of_service(&key.name, ports)).collect()
}

fn of_service(name: &str, service: &Ports) -> Vec<(String, String)> {
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(name);
    let Some(first) = service.ports.first() else { return Vec::new() };
    let mut all = vec![
        (format!("{prefix}_SERVICE_HOST"), service.address.to_string()),
        (format!("{prefix}_SERVICE_PORT"), first.2.to_string()),
    ];
    for (port, _, number) in service.ports.iter().filter(|(port, ..)| !port.is_empty()) {
        all.push((format!("{prefix}_SERVICE_PORT_{}", upper(port)), number.to_string()));
    }
    let host =
        if service.address.contains(':') { format!("[{}]", service.address) } else { service.address.to_string() };
    for (i, (_, protocol, number)) in service.ports.iter().enumerate() {
        let protocol = if protocol.is_empty() { "TCP" } else { protocol.as_str() };
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{number}");
        if i == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let base = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.push((base.clone(), url));
        all.push((format!("{base}_PROTO"), lower));
        all.push((format!("{base}_PORT"), number.to_string()));
        all.push((format!("{base}_ADDR"), service.address.to_string()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_variables() {
        let text = r#"{"spec":{"clusterIP":"10.43.0.7","ports":[{"name":"http-x","port":80,"protocol":"TCP"}]}}"#;
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        let all = of_service("my-web", &Ports::read(&tree).unwrap());
        let text: Vec<String> = all.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "MY_WEB_SERVICE_HOST=10.43.0.7",
                "MY_WEB_SERVICE_PORT=80",
                "MY_WEB_SERVICE_PORT_HTTP_X=80",
                "MY_WEB_PORT=tcp://10.43.0.7:80",
                "MY_WEB_PORT_80_TCP=tcp://10.43.0.7:80",
                "MY_WEB_PORT_80_TCP_PROTO=tcp",
                "MY_WEB_PORT_80_TCP_PORT=80",
                "MY_WEB_PORT_80_TCP_ADDR=10.43.0.7",
            ]
        );
        let headless = apimachinery::codec::json::parse(br#"{"spec":{"clusterIP":"None"}}"#).unwrap();
        assert_eq!(Ports::read(&headless), None);
    }
}
