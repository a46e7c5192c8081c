//! The files of volumes that are made of objects: ConfigMaps, Secrets, the pod's own fields, tokens.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::volumes::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeSource};

use super::certificates::Certificates;
use super::objects::Watched;
use super::tokens::Tokens;
use super::{Entry, bundles};
use crate::spec::env::Objects;
use crate::spec::{NodeFacts, fields};

/// The plugin's name in paths, and whether its files are kept in memory.
pub fn plugin(source: &VolumeSource) -> Option<(&'static str, bool)> {
    if source.config_map.is_some() {
        Some(("configmap", false))
    } else if source.secret.is_some() {
        Some(("secret", true))
    } else if source.projected.is_some() {
        Some(("projected", true))
    } else if source.downward_api.is_some() {
        Some(("downward-api", false))
    } else {
        None
    }
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(0o644)).unwrap_or(0o644)
}

/// Files out of an object's keys: all of them, or those that are asked for under other paths.
fn keys(
    data: Option<BTreeMap<String, Vec<u8>>>,
    items: &[KeyToPath],
    default: Option<i32>,
    optional: bool,
    missing: String,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    let Some(data) = data else {
        return if optional { Ok(()) } else { Err(format!("{missing} not found")) };
    };
    if items.is_empty() {
        for (key, contents) in data {
            put(entries, Entry { path: key, contents, mode: mode(None, default), owner: None });
        }
        return Ok(());
    }
    for item in items {
        match data.get(&item.key) {
            Some(contents) => put(
                entries,
                Entry {
                    path: item.path.clone(),
                    contents: contents.clone(),
                    mode: mode(item.mode, default),
                    owner: item.user.and_then(|u| u32::try_from(u).ok()),
                },
            ),
            None if optional => {}
            None => return Err(format!("references non-existent {} key: {}", missing_sort(&missing), item.key)),
        }
    }
    Ok(())
}

fn missing_sort(missing: &str) -> &str {
    if missing.starts_with("configmap") { "config" } else { "secret" }
}

/// Of two files of one path the later one stays.
fn put(entries: &mut Vec<Entry>, entry: Entry) {
    entries.retain(|known| known.path != entry.path);
    entries.push(entry);
}

fn downward(
    pod: &Pod,
    node: &NodeFacts,
    ips: &[IpAddr],
    items: &[DownwardAPIVolumeFile],
    default: Option<i32>,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    for item in items {
        let text = if let Some(reference) = &item.field_ref {
            fields::field(pod, node, ips, &reference.field_path)
        } else if let Some(reference) = &item.resource_field_ref {
            fields::resource(pod, "", reference, node)
        } else {
            continue;
        };
        let contents = text.map_err(|e| e.to_string())?.into_bytes();
        put(entries, Entry { path: item.path.clone(), contents, mode: mode(item.mode, default), owner: None });
    }
    Ok(())
}

/// The files of a volume.
pub async fn entries(
    pod: &Arc<Pod>,
    volume: &Volume,
    node: &NodeFacts,
    ips: &[IpAddr],
    objects: &Watched,
    tokens: &Arc<Tokens>,
    certificates: &Certificates,
) -> Result<Vec<Entry>, String> {
    let namespace = pod.metadata.namespace.as_str();
    let source = &volume.volume_source;
    let mut all = Vec::new();
    if let Some(map) = &source.config_map {
        let name = &map.local_object_reference.name;
        let data = objects.config_map(namespace, name);
        let optional = map.optional == Some(true);
        keys(data, &map.items, map.default_mode, optional, format!("configmap {name:?}"), &mut all)?;
    } else if let Some(secret) = &source.secret {
        let name = &secret.secret_name;
        let data = objects.secret(namespace, name);
        let optional = secret.optional == Some(true);
        keys(data, &secret.items, secret.default_mode, optional, format!("secret {name:?}"), &mut all)?;
    } else if let Some(own) = &source.downward_api {
        downward(pod, node, ips, &own.items, own.default_mode, &mut all)?;
    } else if let Some(projected) = &source.projected {
        let mut missing = None;
        for (index, part) in projected.sources.iter().enumerate() {
            let default = projected.default_mode;
            if let Some(map) = &part.config_map {
                let name = &map.local_object_reference.name;
                let data = objects.config_map(namespace, name);
                let optional = map.optional == Some(true);
                keys(data, &map.items, default, optional, format!("configmap {name:?}"), &mut all)?;
            } else if let Some(secret) = &part.secret {
                let name = &secret.local_object_reference.name;
                let data = objects.secret(namespace, name);
                let optional = secret.optional == Some(true);
                keys(data, &secret.items, default, optional, format!("secret {name:?}"), &mut all)?;
            } else if let Some(own) = &part.downward_api {
                downward(pod, node, ips, &own.items, default, &mut all)?;
            } else if let Some(token) = &part.service_account_token {
                let contents = tokens.get(pod, token).await?.into_bytes();
                let (mode, owner) = token_access(pod, mode(None, default));
                put(&mut all, Entry { path: token.path.clone(), contents, mode, owner });
            } else if let Some(bundle) = &part.cluster_trust_bundle {
                let mode = mode(None, default);
                let contents = bundles::pem(tokens.client(), bundle).await?.into_bytes();
                put(&mut all, Entry { path: bundle.path.clone(), contents, mode, owner: None });
            } else if let Some(wanted) = &part.pod_certificate {
                // All that are needed are asked for at once, not one after the other.
                let bundle = match certificates.get(pod, &volume.name, index, wanted).await {
                    Ok(bundle) => bundle,
                    Err(why) => {
                        missing.get_or_insert(why);
                        continue;
                    }
                };
                let (mode, owner) = match wanted.user.or(projected.default_user) {
                    Some(user) => (0o600, u32::try_from(user).ok()),
                    None => token_access(pod, mode(None, default)),
                };
                let both = format!("{}{}", bundle.key, bundle.chain);
                let files = [
                    (&wanted.credential_bundle_path, both),
                    (&wanted.key_path, bundle.key),
                    (&wanted.certificate_chain_path, bundle.chain),
                ];
                for (path, contents) in files.into_iter().filter(|(path, _)| !path.is_empty()) {
                    put(&mut all, Entry { path: path.clone(), contents: contents.into_bytes(), mode, owner });
                }
            } else {
                return Err("this source of a projected volume is not supported by this node".to_owned());
            }
        }
        if let Some(why) = missing {
            return Err(why);
        }
    }
    Ok(all)
}

/// Who may read a token: its only user where all containers have one, else as the volume says.
fn token_access(pod: &Pod, default: u32) -> (u32, Option<u32>) {
    let outer = pod.spec.security_context.as_ref();
    if outer.is_some_and(|s| s.fs_group.is_some()) {
        return (0o600, None);
    }
    let own = |c: &api::core::pod::container::Container| {
        c.security_context.as_ref().and_then(|s| s.run_as_user).or(outer.and_then(|s| s.run_as_user))
    };
    let mut users = pod.spec.init_containers.iter().chain(&pod.spec.containers).map(own);
    let first = users.next().flatten();
    match first {
        Some(user) if users.all(|other| other == first) => (0o600, u32::try_from(user).ok()),
        _ => (default, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::pod;

    #[test]
    fn keys_become_files() {
        let data = || Some(BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]));
        let mut all = Vec::new();
        keys(data(), &[], Some(0o400), false, "configmap \"m\"".into(), &mut all).unwrap();
        assert_eq!(all.iter().map(|e| (e.path.as_str(), e.mode)).collect::<Vec<_>>(), [("a", 0o400), ("b", 0o400)]);
        let item = |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o600), user: None };
        let mut all = Vec::new();
        keys(data(), &[item("b")], None, false, "secret \"m\"".into(), &mut all).unwrap();
        assert_eq!((all[0].path.as_str(), all[0].contents.as_slice(), all[0].mode), ("x/y", &b"2"[..], 0o600));
        let missing = keys(data(), &[item("c")], None, false, "secret \"m\"".into(), &mut all);
        assert_eq!(missing.unwrap_err(), "references non-existent secret key: c");
        assert!(keys(None, &[], None, true, "secret \"m\"".into(), &mut all).is_ok());
        let missing = keys(None, &[], None, false, "secret \"m\"".into(), &mut all);
        assert_eq!(missing.unwrap_err(), "secret \"m\" not found");
    }

    #[test]
    fn a_token_is_its_users() {
        let access = |spec: &str| token_access(&pod(&format!(r#"{{"spec":{spec}}}"#)), 0o644);
        assert_eq!(access(r#"{"containers":[{"name":"a"}]}"#), (0o644, None));
        let one = r#"{"securityContext":{"runAsUser":7},"containers":[{"name":"a"},{"name":"b"}]}"#;
        assert_eq!(access(one), (0o600, Some(7)));
        let two = r#"{"securityContext":{"runAsUser":7},"containers":[{"name":"a"},
            {"name":"b","securityContext":{"runAsUser":8}}]}"#;
        assert_eq!(access(two), (0o644, None));
        assert_eq!(access(r#"{"securityContext":{"fsGroup":1},"containers":[{"name":"a"}]}"#), (0o600, None));
    }
}
