//! ServiceAccount: every pod acts as an account that exists, and finds its token under a well-known path.

use std::time::Duration;

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};
use serde_json::json;

use super::{Plugin, Step, World, display_name, forbidden, is, pod};
use crate::tree::{annotation, list, list_mut, set, text, tree};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "ServiceAccount",
    handles,
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Later(|world, a| Box::pin(check(world, a))),
};

const DEFAULT: &str = "default";
const VOLUME: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Tokens last an hour plus a margin for clients that are slow to read the new one.
const TOKEN_SECONDS: i64 = 3607;
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// The default account is made by a controller just after its namespace: how often and how long it is waited for.
const DEFAULT_TRIES: u32 = 10;
const DEFAULT_WAIT: Duration = Duration::from_millis(150);

fn handles(a: &Attributes<'_>) -> bool {
    let create = a.operation == Operation::Create && a.subresource.is_empty();
    let debug = a.operation == Operation::Update && a.subresource == "ephemeralcontainers";
    is(a, "", "pods") && (create || debug)
}

async fn account(world: &World, a: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let tries = if name == DEFAULT { DEFAULT_TRIES } else { 1 };
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(DEFAULT_WAIT).await;
        }
        if let Some(account) = world.get("", "serviceaccounts", a.namespace, name).await? {
            return Ok(account);
        }
    }
    Err(forbidden(
        a,
        format!("error looking up service account {}/{name}: serviceaccount {name:?} not found", a.namespace),
    ))
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if a.operation != Operation::Create || pod::is_mirror(a.object) {
        // A mirror pod must stay what its node made it.
        return Ok(());
    }
    if text(a.object, &["spec", "serviceAccountName"]).is_empty() {
        set(a.object, &["spec", "serviceAccountName"], DEFAULT);
        set(a.object, &["spec", "serviceAccount"], DEFAULT);
    }
    let name = text(a.object, &["spec", "serviceAccountName"]).to_string();
    let account = account(world, a, &name).await?;
    if automounts(&account, a.object) {
        mount_token(a.object);
    }
    let pull = list(&account, &["imagePullSecrets"]);
    if list(a.object, &["spec", "imagePullSecrets"]).is_empty() && !pull.is_empty() {
        set(a.object, &["spec", "imagePullSecrets"], pull.to_vec());
    }
    Ok(())
}

async fn check(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if a.operation == Operation::Create && pod::is_mirror(a.object) {
        return check_mirror(a);
    }
    let name = text(a.object, &["spec", "serviceAccountName"]).to_string();
    if name.is_empty() {
        let (namespace, pod) = (a.namespace, display_name(a));
        return Err(forbidden(a, format!("no service account specified for pod {namespace}/{pod}")));
    }
    let account = account(world, a, &name).await?;
    if matches!(annotation(&account, ENFORCE_MOUNTABLE), Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        let ephemeral = a.operation == Operation::Update;
        limit_secrets(&account, a.object, ephemeral).map_err(|why| forbidden(a, why))?;
    }
    Ok(())
}

fn check_mirror(a: &Attributes<'_>) -> Result<(), Status> {
    if !text(a.object, &["spec", "serviceAccountName"]).is_empty() {
        return Err(forbidden(a, "a mirror pod may not reference service accounts"));
    }
    if !pod::secrets(a.object).is_empty() {
        return Err(forbidden(a, "a mirror pod may not reference secrets"));
    }
    let tokens = list(a.object, &["spec", "volumes"])
        .iter()
        .flat_map(|v| list(v, &["projected", "sources"]))
        .any(|s| s.get("serviceAccountToken").is_some());
    if tokens {
        return Err(forbidden(a, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// The pod's wish, else the account's, else yes.
fn automounts(account: &Value, pod: &Value) -> bool {
    let wish = |tree: &Value, path: &[&str]| tree.at(path).and_then(Value::as_bool);
    wish(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| wish(account, &["automountServiceAccountToken"]))
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = list(pod, &["spec", "volumes"])
        .iter()
        .map(|v| text(v, &["name"]))
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_string);
    let has_volume = existing.is_some();
    let name = existing.unwrap_or_else(|| engine::generate_name(VOLUME));
    let mount = tree(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
    let mut mounted = false;
    for key in ["initContainers", "containers"] {
        if list(pod, &["spec", key]).is_empty() {
            continue;
        }
        for container in list_mut(pod, &["spec", key]).into_iter().flatten() {
            // What a container mounts there itself stays.
            if list(container, &["volumeMounts"]).iter().any(|m| text(m, &["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            if let Some(mounts) = list_mut(container, &["volumeMounts"]) {
                mounts.push(mount.clone());
                mounted = true;
            }
        }
    }
    if mounted
        && !has_volume
        && let Some(volumes) = list_mut(pod, &["spec", "volumes"])
    {
        volumes.push(token_volume(&name));
    }
}

/// Token, the cluster's CA and the namespace, in one volume.
fn token_volume(name: &str) -> Value {
    tree(json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    }))
}

/// An account may say that its pods use no other Secrets than those it lists.
fn limit_secrets(account: &Value, pod: &Value, ephemeral: bool) -> Result<(), String> {
    let named = |key| -> Vec<&str> { list(account, &[key]).iter().map(|s| text(s, &["name"])).collect() };
    let (mountable, pullable) = (named("secrets"), named("imagePullSecrets"));
    let owner = text(account, &["metadata", "name"]);
    let tail = format!("is not allowed because service account {owner} does not reference that secret");
    let lists: &[(&str, &str)] = if ephemeral {
        &[("ephemeralContainers", "ephemeral container")]
    } else {
        &[("initContainers", "init container"), ("containers", "container")]
    };
    if !ephemeral {
        for volume in list(pod, &["spec", "volumes"]) {
            if let Some(secret) = volume.str_at(&["secret", "secretName"])
                && !mountable.contains(&secret)
            {
                return Err(format!("volume with secret.secretName=\"{secret}\" {tail}"));
            }
        }
    }
    for (key, what) in lists {
        for container in list(pod, &["spec", key]) {
            let name = text(container, &["name"]);
            for env in list(container, &["env"]) {
                if let Some(secret) = env.str_at(&["valueFrom", "secretKeyRef", "name"])
                    && !mountable.contains(&secret)
                {
                    let variable = text(env, &["name"]);
                    return Err(format!(
                        "{what} {name} with envVar {variable} referencing secret.secretName=\"{secret}\" {tail}"
                    ));
                }
            }
            for from in list(container, &["envFrom"]) {
                if let Some(secret) = from.str_at(&["secretRef", "name"])
                    && !mountable.contains(&secret)
                {
                    return Err(format!(
                        "{what} {name} with envFrom referencing secret.secretName=\"{secret}\" {tail}"
                    ));
                }
            }
        }
    }
    if !ephemeral {
        for (i, secret) in list(pod, &["spec", "imagePullSecrets"]).iter().enumerate() {
            let name = text(secret, &["name"]);
            if !pullable.contains(&name) {
                return Err(format!(
                    "imagePullSecrets[{i}].name=\"{name}\" is not allowed because service account {owner} does not reference that imagePullSecret"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_once() {
        let mut pod = tree(json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}],
        }}));
        mount_token(&mut pod);
        let volume = text(&list(&pod, &["spec", "volumes"])[0], &["name"]).to_string();
        assert!(volume.starts_with(VOLUME) && volume.len() == VOLUME.len() + 5, "{volume}");
        let containers = list(&pod, &["spec", "containers"]);
        assert_eq!(text(&list(&containers[0], &["volumeMounts"])[0], &["name"]), volume);
        assert_eq!(text(&list(&containers[1], &["volumeMounts"])[0], &["name"]), "own");
        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before, "a second time changes nothing");
    }

    #[test]
    fn who_decides_about_mounting() {
        let cases = [
            (json!({}), json!({}), true),
            (json!({"automountServiceAccountToken": false}), json!({}), false),
            (
                json!({"automountServiceAccountToken": false}),
                json!({"spec": {"automountServiceAccountToken": true}}),
                true,
            ),
            (json!({}), json!({"spec": {"automountServiceAccountToken": false}}), false),
        ];
        for (account, pod, wanted) in cases {
            assert_eq!(automounts(&tree(account.clone()), &tree(pod.clone())), wanted, "{account} {pod}");
        }
    }

    #[test]
    fn secrets_can_be_limited_to_those_listed() {
        let account = tree(json!({"metadata": {"name": "sa"}, "secrets": [{"name": "ok"}]}));
        let fine = tree(json!({"spec": {"volumes": [{"secret": {"secretName": "ok"}}]}}));
        assert_eq!(limit_secrets(&account, &fine, false), Ok(()));
        let bad = tree(json!({"spec": {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "no"}}]}]}}));
        assert_eq!(
            limit_secrets(&account, &bad, false).unwrap_err(),
            "container c with envFrom referencing secret.secretName=\"no\" is not allowed because service account sa does not reference that secret"
        );
    }
}
