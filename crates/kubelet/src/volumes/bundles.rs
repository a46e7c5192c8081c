//! Certificates of ClusterTrustBundles, as files of projected volumes.

use std::collections::BTreeSet;

use api::certificates::clustertrustbundle::ClusterTrustBundle;
use api::core::volumes::ClusterTrustBundleProjection;
use apimachinery::meta::LabelSelector;
use client::{Client, Query};

/// The certificates that a source asks for; empty where there are none and none are needed.
pub async fn pem(client: &Client, source: &ClusterTrustBundleProjection) -> Result<String, String> {
    let optional = source.optional == Some(true);
    if let Some(name) = source.name.as_deref().filter(|n| !n.is_empty()) {
        return match client.try_get::<ClusterTrustBundle>("", name).await.map_err(|s| s.to_string())? {
            Some(bundle) => Ok(join([bundle.spec.trust_bundle.as_str()])),
            // What may be missing is an empty file, as upstream has it.
            None if optional => Ok(String::new()),
            None => Err(format!("clustertrustbundle {name:?} not found")),
        };
    }
    let signer = source.signer_name.as_deref().unwrap_or_default();
    // Without a selector nothing is chosen; an empty one chooses all.
    let Some(selector) = &source.label_selector else {
        return if optional {
            Ok(String::new())
        } else {
            Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".into())
        };
    };
    let query = Query {
        field_selector: format!("spec.signerName={signer}"),
        label_selector: selector_text(selector),
        ..Query::default()
    };
    let found = client.list::<ClusterTrustBundle>("", query).await.map_err(|s| s.to_string())?.items;
    if found.is_empty() {
        return if optional {
            Ok(String::new())
        } else {
            Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".into())
        };
    }
    Ok(join(found.iter().map(|b| b.spec.trust_bundle.as_str())))
}

/// All certificates of some bundles, each once, without what stands between them.
fn join<'a>(bundles: impl IntoIterator<Item = &'a str>) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut all = BTreeSet::new();
    for bundle in bundles {
        let mut rest = bundle;
        while let Some(start) = rest.find(BEGIN) {
            let Some(length) = rest[start..].find(END) else { break };
            all.insert(rest[start..start + length + END.len()].to_owned());
            rest = &rest[start + length + END.len()..];
        }
    }
    all.into_iter().map(|certificate| certificate + "\n").collect()
}

/// A selector in the form of a query.
fn selector_text(selector: &LabelSelector) -> String {
    let mut terms: Vec<String> = selector.match_labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    for expression in &selector.match_expressions {
        let (key, values) = (&expression.key, expression.values.join(","));
        terms.push(match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_stand_alone_and_once() {
        let one = "text\n-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n";
        let two = "-----BEGIN CERTIFICATE-----\nBB\n-----END CERTIFICATE-----\n";
        let both = join([one, two, one]);
        assert_eq!(both.matches("BEGIN").count(), 2);
        assert!(!both.contains("text"));
    }

    #[test]
    fn selectors_have_a_text() {
        let mut selector = LabelSelector::default();
        selector.match_labels.insert("a".into(), "b".into());
        assert_eq!(selector_text(&selector), "a=b");
        assert_eq!(selector_text(&LabelSelector::default()), "");
    }
}
