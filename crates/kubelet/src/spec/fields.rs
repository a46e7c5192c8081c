//! What a pod can tell its containers of itself: `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::core::pod::Pod;
use api::core::pod::container::ResourceFieldSelector;

use super::{Error, NodeFacts, error};

/// The value of a field by its path; as file contents for volumes, as one line for variables.
pub fn field(pod: &Pod, node: &NodeFacts, ips: &[IpAddr], path: &str) -> Result<String, Error> {
    let meta = &pod.metadata;
    if let Some((outer, key)) = path.split_once("['").and_then(|(o, k)| Some((o, k.strip_suffix("']")?))) {
        return match outer {
            "metadata.annotations" => Ok(meta.annotations.get(key).cloned().unwrap_or_default()),
            "metadata.labels" => Ok(meta.labels.get(key).cloned().unwrap_or_default()),
            _ => Err(error(format!("fieldPath {path:?} does not support subscript"))),
        };
    }
    let all = |ips: &mut dyn Iterator<Item = String>| ips.collect::<Vec<_>>().join(",");
    Ok(match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.annotations" => lines(&meta.annotations),
        "metadata.labels" => lines(&meta.labels),
        "spec.nodeName" => node.name.to_string(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => node.ips.first().map(ToString::to_string).unwrap_or_default(),
        "status.hostIPs" => all(&mut node.ips.iter().map(ToString::to_string)),
        "status.podIP" => ips.first().map(ToString::to_string).unwrap_or_default(),
        "status.podIPs" => all(&mut ips.iter().map(ToString::to_string)),
        _ => return Err(error(format!("unsupported fieldPath: {path}"))),
    })
}

/// `key="value"` lines, as upstream writes them into files.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// A text in quotes with Go's escapes, which programs that read these files expect.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let named = match c {
            '"' => Some('"'),
            '\\' => Some('\\'),
            '\x07' => Some('a'),
            '\x08' => Some('b'),
            '\x0c' => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\x0b' => Some('v'),
            _ => None,
        };
        // Go shows combining marks, which Rust escapes.
        let mark = matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}');
        let shown = |c: char| mark || !c.escape_debug().to_string().starts_with("\\u{");
        match named {
            Some(letter) => out.extend(['\\', letter]),
            None if matches!(c, ' '..='~') => out.push(c),
            None if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            None if shown(c) => out.push(c),
            None if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            None => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// An amount that a container asked for, in units of the divisor, rounded up; the node's where it has no limit.
pub fn resource(pod: &Pod, own: &str, selector: &ResourceFieldSelector, node: &NodeFacts) -> Result<String, Error> {
    let name = if selector.container_name.is_empty() { own } else { &selector.container_name };
    let container = crate::pod::find(pod, name).ok_or_else(|| error(format!("container {name} not found")))?;
    let (sort, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| error(format!("unsupported container resource : {}", selector.resource)))?;
    let amount = match sort {
        "limits" => {
            let limit = container.resources.limits.get(resource).copied();
            limit.or_else(|| node.allocatable.get(resource).copied())
        }
        "requests" => container.resources.requests.get(resource).copied(),
        _ => return Err(error(format!("unsupported container resource : {}", selector.resource))),
    };
    let amount = amount.unwrap_or_default();
    let up = |amount: i64, unit: i64| (i128::from(amount) + i128::from(unit) - 1).div_euclid(i128::from(unit.max(1)));
    let divisor = selector.divisor;
    let value = match resource {
        "cpu" => up(amount.milli_value(), if divisor.is_zero_amount() { 1000 } else { divisor.milli_value() }),
        _ => up(amount.value(), if divisor.is_zero_amount() { 1 } else { divisor.value() }),
    };
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, pod};
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does() {
        let cases = [
            ("a b", r#""a b""#),
            ("d\"e\\f", r#""d\"e\\f""#),
            ("it's", r#""it's""#),
            ("1\n2\t3\r4", r#""1\n2\t3\r4""#),
            ("\0\x07\x08\x0b\x0c\x1b\x7f", r#""\x00\a\b\v\f\x1b\x7f""#),
            ("é世🦀e\u{301}", "\"é世🦀e\u{301}\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{a0}\u{200b}\u{e0001}", r#""\u00a0\u200b\U000e0001""#),
        ];
        for (text, wanted) in cases {
            assert_eq!(quoted(text), wanted);
        }
    }

    #[test]
    fn fields_and_amounts() {
        let pod = pod(r#"{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"a":"b","c":"d\"e"}},
            "spec":{"serviceAccountName":"sa","containers":[{"name":"a","resources":{"limits":{"cpu":"1500m"},
            "requests":{"memory":"33Mi"}}}]}}"#);
        let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let get = |path: &str| field(&pod, &node(), &ips, path).map_err(|e| e.0);
        assert_eq!(get("metadata.labels").unwrap(), "a=\"b\"\nc=\"d\\\"e\"");
        assert_eq!(get("metadata.labels['a']").unwrap(), "b");
        assert_eq!(get("status.podIPs").unwrap(), "10.0.0.1,fd00::1");
        assert_eq!(get("status.hostIP").unwrap(), "192.0.2.1");
        assert!(get("status.phase").is_err());
        let amount = |resource_name: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: apimachinery::Quantity::parse(divisor).unwrap(),
                ..Default::default()
            };
            resource(&pod, "a", &selector, &node()).map_err(|e| e.0)
        };
        assert_eq!(amount("limits.cpu", "0").unwrap(), "2");
        assert_eq!(amount("limits.cpu", "1m").unwrap(), "1500");
        assert_eq!(amount("requests.memory", "1Mi").unwrap(), "33");
        assert_eq!(amount("limits.memory", "0").unwrap(), (4i64 << 30).to_string());
        assert!(amount("memory", "0").is_err());
    }
}
