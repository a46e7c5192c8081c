//! Which IP families a service has: inferred where the client leaves it open, refused where it does not fit.

use std::net::IpAddr;

use api::core::service::Service;
use apimachinery::{Errors, Path, Value};

use super::networks::{Family, Networks};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
const NONE: &str = "None";

fn texts(items: &[String]) -> Value {
    Value::List(items.iter().map(|t| t.as_str().into()).collect())
}

/// A service that prefers two stacks keeps what it has when the cluster's families change.
fn unchanged_preference(new: &Service, old: &Service) -> bool {
    let prefers = |s: &Service, open: bool| s.spec.ip_family_policy.as_deref().map_or(open, |p| p == PREFER);
    new.spec.type_ == old.spec.type_
        && new.spec.type_ != "ExternalName"
        && prefers(new, false)
        && prefers(old, true)
        && new.spec.cluster_ips == old.spec.cluster_ips
        && new.spec.ip_families == old.spec.ip_families
}

/// Fills in policy and families. Answers whether addresses may have to be found.
pub fn settle(service: &mut Service, old: Option<&Service>, networks: &Networks, errors: &mut Errors) -> bool {
    if service.spec.type_ == "ExternalName" || old.is_some_and(|old| unchanged_preference(service, old)) {
        return false;
    }
    let selectorless = service.spec.cluster_ip == NONE && service.spec.selector.is_empty();
    if service.spec.ip_family_policy.is_none() {
        let before = old.and_then(|o| o.spec.ip_family_policy.clone());
        let open = if selectorless { REQUIRE } else { SINGLE };
        service.spec.ip_family_policy = Some(before.unwrap_or_else(|| open.into()));
    }
    check_fields(service, errors);
    if !errors.is_empty() {
        return false;
    }
    let policy = service.spec.ip_family_policy.clone().unwrap_or_default();
    let single = policy == SINGLE;
    let spec_path = Path::new("spec");
    let (policy_path, ips_path) = (spec_path.child("ipFamilyPolicy"), spec_path.child("clusterIPs"));
    let families_path = spec_path.child("ipFamilies");
    let spec = &mut service.spec;
    if let Some(old) = old {
        let old = &old.spec;
        if single {
            // To ask for one stack is to give the second address back.
            if spec.cluster_ips == old.cluster_ips {
                spec.cluster_ips.truncate(1);
            }
            if spec.ip_families == old.ip_families {
                spec.ip_families.truncate(1);
            }
        } else {
            let reduced = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
            for (less, what) in [
                (reduced(&spec.cluster_ips, &old.cluster_ips), "cluster IP"),
                (reduced(&spec.ip_families, &old.ip_families), "IP family"),
            ] {
                if less {
                    let why = format!("must be 'SingleStack' to release the secondary {what}");
                    errors.invalid(&policy_path, policy.as_str(), why);
                }
            }
        }
    }
    if single {
        for (two, what) in [(spec.cluster_ips.len() == 2, "cluster IPs"), (spec.ip_families.len() == 2, "IP families")]
        {
            if two {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.invalid(&policy_path, policy.as_str(), why);
            }
        }
    }
    for (i, ip) in spec.cluster_ips.clone().iter().enumerate() {
        let Ok(address) = ip.parse::<IpAddr>() else { break };
        if i >= spec.ip_families.len() {
            let family = Family::of(address);
            if networks.families.contains(&family) {
                spec.ip_families.push(family.name().into());
            } else {
                let why = format!("{} is not configured on this cluster", family.name());
                errors.invalid(&ips_path.index(i), texts(&spec.cluster_ips), why);
            }
        }
    }
    if !errors.is_empty() {
        return false;
    }
    let default = networks.families.first().copied().unwrap_or(Family::V4);
    let add_other = |families: &mut Vec<String>| {
        if let Some(first) = families.first().and_then(|f| Family::of_name(f)) {
            families.push(first.other().name().into());
        }
    };
    if selectorless {
        // Nobody knows which endpoints will be put there, so both families are fine on any cluster.
        if spec.ip_families.is_empty() {
            spec.ip_families.push(default.name().into());
        }
        if spec.ip_families.len() < 2 && !single {
            add_other(&mut spec.ip_families);
        }
        return true;
    }
    if policy == REQUIRE && networks.families.len() < 2 {
        errors.invalid(&policy_path, policy.as_str(), "this cluster is not configured for dual-stack services");
    }
    for (i, name) in spec.ip_families.iter().enumerate() {
        if !Family::of_name(name).is_some_and(|f| networks.families.contains(&f)) {
            errors.invalid(&families_path.index(i), name.as_str(), "not configured on this cluster");
        }
    }
    if !errors.is_empty() {
        return false;
    }
    if spec.ip_families.is_empty() {
        spec.ip_families.push(default.name().into());
    }
    if !single && spec.ip_families.len() == 1 && networks.families.len() == 2 {
        add_other(&mut spec.ip_families);
    }
    true
}

/// What must hold before families can be inferred.
fn check_fields(service: &Service, errors: &mut Errors) {
    let spec = &service.spec;
    let root = Path::new("spec");
    let (ips, families) = (root.child("clusterIPs"), root.child("ipFamilies"));
    match (spec.cluster_ip.as_str(), spec.cluster_ips.first()) {
        ("", Some(_)) => {
            errors.invalid(&ips, texts(&spec.cluster_ips), "must be empty when `clusterIP` is not specified");
        }
        (one, Some(first)) if one != first => {
            errors.invalid(&ips, texts(&spec.cluster_ips), "first value must match `clusterIP`");
        }
        ("", None) | (_, Some(_)) => {}
        (_, None) => errors.required(&ips, ""),
    }
    for (i, family) in spec.ip_families.iter().enumerate() {
        if Family::of_name(family).is_none() {
            errors.not_supported(&families.index(i), family.as_str(), &["IPv4", "IPv6"]);
        }
        if spec.ip_families[..i].contains(family) {
            errors.duplicate(&families.index(i), family.as_str());
        }
    }
    if let Some(policy) = &spec.ip_family_policy
        && ![SINGLE, PREFER, REQUIRE].contains(&policy.as_str())
    {
        errors.not_supported(&root.child("ipFamilyPolicy"), policy.as_str(), &[PREFER, REQUIRE, SINGLE]);
    }
    let mut broken = false;
    for (i, ip) in spec.cluster_ips.iter().enumerate() {
        if i == 0 && ip == NONE {
            if spec.cluster_ips.len() > 1 {
                broken = true;
                errors.invalid(&ips, texts(&spec.cluster_ips), "'None' must be the first and only value");
            }
        } else if ip.parse::<IpAddr>().is_err() {
            broken = true;
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(&ips.index(i), ip.as_str(), why);
        }
    }
    if spec.cluster_ips.len() > 2 {
        errors.invalid(&ips, texts(&spec.cluster_ips), "may only hold up to 2 values");
    }
    if broken {
        return;
    }
    let parsed: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if parsed.len() > 1 && parsed.iter().all(|ip| Family::of(*ip) == Family::of(parsed[0])) {
        errors.invalid(&ips, texts(&spec.cluster_ips), "may specify no more than one IP for each IP family");
    }
    for (i, (ip, family)) in parsed.iter().zip(&spec.ip_families).enumerate() {
        if let Some(family) = Family::of_name(family)
            && family != Family::of(*ip)
        {
            let why = format!("expected an {} value as indicated by `ipFamilies[{i}]`", family.name());
            errors.invalid(&ips.index(i), spec.cluster_ips[i].as_str(), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use apimachinery::Api;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        Service::from_value(&tree(json!({"spec": spec}))).unwrap()
    }

    fn networks(cidrs: &[&str]) -> Networks {
        Networks::read(&[tree(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}))])
    }

    #[test]
    fn families_of_new_services() {
        let one: &[&str] = &["10.0.0.0/24"];
        let two: &[&str] = &["10.0.0.0/24", "fd00::/112"];
        let six: &[&str] = &["fd00::/112", "10.0.0.0/24"];
        // (networks, spec, policy and families, or the start of the error)
        let cases = [
            (one, json!({}), Ok((SINGLE, vec!["IPv4"]))),
            (six, json!({}), Ok((SINGLE, vec!["IPv6"]))),
            (two, json!({"ipFamilyPolicy": PREFER}), Ok((PREFER, vec!["IPv4", "IPv6"]))),
            (one, json!({"ipFamilyPolicy": PREFER}), Ok((PREFER, vec!["IPv4"]))),
            (
                one,
                json!({"ipFamilyPolicy": REQUIRE}),
                Err("spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not"),
            ),
            (two, json!({"ipFamilies": ["IPv6"]}), Ok((SINGLE, vec!["IPv6"]))),
            (one, json!({"ipFamilies": ["IPv6"]}), Err("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured")),
            (two, json!({"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"]}), Ok((SINGLE, vec!["IPv6"]))),
            (one, json!({"clusterIP": "None", "clusterIPs": ["None"]}), Ok((REQUIRE, vec!["IPv4", "IPv6"]))),
            (
                one,
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
                Ok((SINGLE, vec!["IPv4"])),
            ),
            (two, json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": SINGLE}), Err("spec.ipFamilyPolicy")),
            (two, json!({"clusterIPs": ["10.0.0.1"]}), Err("spec.clusterIPs: Invalid value")),
        ];
        for (cidrs, spec, wanted) in cases {
            let mut new = service(spec.clone());
            let mut errors = Errors::new();
            settle(&mut new, None, &networks(cidrs), &mut errors);
            match wanted {
                Ok((policy, families)) => {
                    assert!(errors.is_empty(), "{spec}: {:?}", errors.iter().next());
                    assert_eq!(new.spec.ip_family_policy.as_deref(), Some(policy), "{spec}");
                    assert_eq!(new.spec.ip_families, families, "{spec}");
                }
                Err(start) => {
                    let text = errors.iter().next().expect("an error").to_string();
                    assert!(text.starts_with(start), "{text}");
                }
            }
        }
    }

    #[test]
    fn stacks_are_added_and_given_back() {
        let networks = networks(&["10.0.0.0/24", "fd00::/112"]);
        let one = json!({
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": SINGLE,
        });
        let mut new = service(one.clone());
        new.spec.ip_family_policy = Some(REQUIRE.into());
        assert!(settle(&mut new, Some(&service(one)), &networks, &mut Errors::new()));
        assert_eq!(new.spec.ip_families, ["IPv4", "IPv6"]);

        let two = json!({
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": REQUIRE,
        });
        let mut back = service(two.clone());
        back.spec.ip_family_policy = Some(SINGLE.into());
        assert!(settle(&mut back, Some(&service(two.clone())), &networks, &mut Errors::new()));
        assert_eq!((back.spec.cluster_ips.len(), back.spec.ip_families.len()), (1, 1));
        let mut wrong = service(two.clone());
        wrong.spec.cluster_ips.truncate(1);
        let mut errors = Errors::new();
        settle(&mut wrong, Some(&service(two)), &networks, &mut errors);
        assert!(errors.iter().next().unwrap().to_string().contains("must be 'SingleStack' to release"));
    }
}
