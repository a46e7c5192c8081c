//! Drafts the Rust struct of one of upstream's types; pages are written by hand from there on.

use std::fmt::Write;

use anyhow::Context;

use super::ours::{FieldFacts, last};
use super::upstream::{Upstream, prefix};

/// A struct as our pages write it, without docs: those are ours to write.
pub fn draft(upstream: &Upstream, name: &str) -> anyhow::Result<String> {
    let (package, name) = name.rsplit_once('.').context("name the type as in apps/v1.Deployment")?;
    let go = upstream.go_type(package, name).with_context(|| format!("upstream has no {name} in {package}"))?;
    let definition = format!("{}.{name}", prefix(package));
    let atomic = if go.markers.iter().any(|m| m == "+structType=atomic") { ", atomic" } else { "" };
    let mut out = format!(
        "#[derive(Api, Clone, Debug, Default, PartialEq)]\n#[api(name = {definition:?}{atomic})]\npub struct {name} {{\n"
    );
    for field in &go.fields {
        let Some(facts) = upstream.field(package, &definition, field)? else { continue };
        let inline = facts.name.starts_with('[');
        let rust = snake(if inline { &field.go } else { &facts.name });
        writeln!(out, "    #[api({})]\n    pub {rust}: {},", attributes(&facts, &rust, inline), rust_type(&facts))?;
    }
    out.push_str("}\n");
    Ok(out)
}

fn attributes(facts: &FieldFacts, rust: &str, inline: bool) -> String {
    let mut words = vec![facts.tag.to_string()];
    if inline {
        words.push("inline".into());
    } else if camel(rust.trim_end_matches('_')) != facts.name {
        words.push(format!("json = {:?}", facts.name));
    }
    match facts.omit.as_str() {
        "empty" => words.push("omitempty".into()),
        "zero" => words.push("omitzero".into()),
        _ => {}
    }
    words.extend((facts.required == Some(true)).then(|| "required".to_string()));
    if !facts.default.is_empty() {
        words.push(format!("default = {:?}", facts.default));
    }
    if !facts.list.is_empty() {
        words.push(format!("list = {:?}", facts.list));
    }
    if !facts.keys.is_empty() {
        let keys: Vec<String> = facts.keys.iter().map(|key| format!("{key:?}")).collect();
        words.push(format!("keys({})", keys.join(", ")));
    }
    words.extend(facts.atomic.then(|| "atomic".to_string()));
    if let Some((strategy, key)) = facts.patch.split_once(' ') {
        words.push(format!("patch = {strategy:?}, merge_key = {key:?}"));
    } else if !facts.patch.is_empty() {
        words.push(format!("patch = {:?}", facts.patch));
    }
    words.join(", ")
}

fn rust_type(facts: &FieldFacts) -> String {
    fn of(shape: &str) -> String {
        if let Some(item) = shape.strip_prefix("[]") {
            return format!("Vec<{}>", of(item));
        }
        if let Some(value) = shape.strip_prefix("map ") {
            return format!("BTreeMap<String, {}>", of(value));
        }
        match shape {
            "bool" => "bool",
            "int32" => "i32",
            "int64" => "i64",
            "float64" => "f64",
            "string" => "String",
            "bytes" => "Bytes",
            "quantity" => "Quantity",
            "time" => "Time",
            "microtime" => "MicroTime",
            "duration" => "Duration",
            "intorstring" => "IntOrString",
            "any" => "RawExtension",
            definition => last(definition),
        }
        .into()
    }
    let inner = of(&facts.shape);
    if facts.pointer { format!("Option<{inner}>") } else { inner }
}

/// `podIPs` as `pod_ips`, `hostPID` as `host_pid`; a keyword gets an underscore.
fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().filter(|c| *c != '$').collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|j| chars[j]);
        let after = chars.get(i + 1);
        let plural = after == Some(&'s') && chars.get(i + 2).is_none_or(|c| c.is_uppercase());
        let begins = c.is_uppercase()
            && before.is_some_and(|b| !b.is_uppercase() || (after.is_some_and(|a| a.is_lowercase()) && !plural));
        if begins {
            out.push('_');
        }
        out.extend(if *c == '-' { '_'.to_lowercase() } else { c.to_lowercase() });
    }
    const KEYWORDS: [&str; 12] =
        ["type", "ref", "continue", "enum", "match", "static", "struct", "use", "where", "in", "for", "default_"];
    if KEYWORDS.contains(&out.as_str()) { out + "_" } else { out }
}

fn camel(rust: &str) -> String {
    let mut out = String::new();
    for (i, part) in rust.split('_').enumerate() {
        let mut chars = part.chars();
        match chars.next() {
            Some(first) if i > 0 => out.extend(first.to_uppercase()),
            Some(first) => out.push(first),
            None => {}
        }
        out.extend(chars);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snakes_and_back() {
        for (json, rust) in [
            ("podIP", "pod_ip"),
            ("podIPs", "pod_ips"),
            ("hostPID", "host_pid"),
            ("nodeName", "node_name"),
            ("type", "type_"),
        ] {
            assert_eq!(snake(json), rust);
        }
        assert_eq!(camel("node_name"), "nodeName");
    }
}
