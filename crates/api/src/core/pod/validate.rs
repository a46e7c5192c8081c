//! Rules of pod specs, in pods and in templates.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{self, check, dns_label, dns_search, dns_subdomain, in_range, qualified_name};
use apimachinery::{Errors, Path};

use crate::checks::{ip, label_selector, maybe_one_of, one_of};
use crate::core::nodeselector::{NodeSelector, NodeSelectorTerm, Toleration};
use crate::core::pod::affinity::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};
use crate::core::pod::security::PodSecurityContext;
use crate::core::pod::spec::{PodDNSConfig, PodSpec, PodTemplateSpec, TopologySpreadConstraint};
use crate::core::pod::validate_container::{containers, seccomp};
use crate::core::pod::validate_volumes::volumes;
use crate::core::volumes::Volume;

/// What the checks of a spec know about its surroundings.
pub(crate) struct Surroundings<'a> {
    /// The pod's metadata; absent for a template.
    pub metadata: Option<&'a ObjectMeta>,
}

/// Checks a pod template.
pub(crate) fn pod_template(errors: &mut Errors, path: &Path<'_>, template: &PodTemplateSpec) {
    validation::labels(errors, &path.child("labels"), &template.metadata.labels);
    validation::annotations(errors, &path.child("annotations"), &template.metadata.annotations);
    let spec = path.child("spec");
    pod_spec(errors, &spec, &template.spec, &Surroundings { metadata: None });
    if !template.spec.ephemeral_containers.is_empty() {
        errors.forbidden(&spec.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// Checks a pod spec.
pub(crate) fn pod_spec(errors: &mut Errors, path: &Path<'_>, spec: &PodSpec, around: &Surroundings<'_>) {
    let grace = spec.termination_grace_period_seconds;
    if grace.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes(errors, &path.child("volumes"), &spec.volumes, around.metadata);
    claims(errors, path, spec);
    containers(errors, path, spec, &volumes);
    one_of(errors, &path.child("restartPolicy"), &spec.restart_policy, &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(errors, &path.child("dnsPolicy"), &spec.dns_policy, &policies);
    validation::labels(errors, &path.child("nodeSelector"), &spec.node_selector);
    if let Some(security) = &spec.security_context {
        security_context(errors, &path.child("securityContext"), security);
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    if let Some(a) = &spec.affinity {
        affinity(errors, &path.child("affinity"), a);
    }
    dns_config(errors, &path.child("dnsConfig"), spec.dns_config.as_ref(), &spec.dns_policy);
    for (i, gate) in spec.readiness_gates.iter().enumerate() {
        let gates = path.child("readinessGates");
        check(errors, &gates.index(i).child("conditionType"), &gate.condition_type, qualified_name);
    }
    let gates = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.scheduling_gates.iter().enumerate() {
        check(errors, &gates.index(i), &gate.name, qualified_name);
        if !seen.insert(&gate.name) {
            errors.duplicate(&gates.index(i), gate.name.as_str());
        }
    }
    spread(errors, &path.child("topologySpreadConstraints"), &spec.topology_spread_constraints);
    host_users(errors, path, spec);
    if !spec.service_account_name.is_empty() {
        check(errors, &path.child("serviceAccountName"), &spec.service_account_name, dns_subdomain);
    }
    if !spec.node_name.is_empty() {
        check(errors, &path.child("nodeName"), &spec.node_name, dns_subdomain);
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && let Some(fault) = in_range(seconds, 1, i64::from(i32::MAX))
    {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, fault);
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if !value.is_empty() {
            check(errors, &path.child(field), value, dns_label);
        }
    }
    if let Some(name) = &spec.hostname_override {
        hostname_override(errors, path, spec, name);
    }
    tolerations(errors, &path.child("tolerations"), &spec.tolerations);
    for (i, alias) in spec.host_aliases.iter().enumerate() {
        let aliases = path.child("hostAliases");
        let path = aliases.index(i);
        ip(errors, &path.child("ip"), &alias.ip);
        for (j, hostname) in alias.hostnames.iter().enumerate() {
            check(errors, &path.child("hostnames").index(j), hostname, dns_subdomain);
        }
    }
    if !spec.priority_class_name.is_empty() {
        check(errors, &path.child("priorityClassName"), &spec.priority_class_name, dns_subdomain);
    }
    if let Some(class) = &spec.runtime_class_name {
        check(errors, &path.child("runtimeClassName"), class, dns_subdomain);
    }
    if let Some(policy) = &spec.preemption_policy {
        one_of(errors, &path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    for (resource, quantity) in &spec.overhead {
        let overhead = path.child("overhead");
        crate::quantities::container_resource_name(errors, &overhead.key(resource), resource);
        crate::quantities::resource_value(errors, &overhead.key(resource), resource, quantity);
    }
    if let Some(os) = &spec.os {
        let path = path.child("os");
        if os.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !matches!(os.name.as_str(), "linux" | "windows") {
            errors.not_supported(&path, os.name.as_str(), &["linux", "windows"]);
        }
    }
}

fn hostname_override(errors: &mut Errors, path: &Path<'_>, spec: &PodSpec, name: &str) {
    let field = path.child("hostnameOverride");
    check(errors, &field, name, dns_subdomain);
    if name.len() > 64 {
        errors.too_long(&field, 64);
    }
    if spec.host_network {
        errors.forbidden(&field, "may not be specified when hostNetwork is true");
    }
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(&path.child("setHostnameAsFQDN"), "may not be specified when hostnameOverride is true");
    }
}

fn host_users(errors: &mut Errors, path: &Path<'_>, spec: &PodSpec) {
    if spec.host_users != Some(false) {
        return;
    }
    for (field, set) in [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)] {
        if set {
            errors.forbidden(&path.child(field), "when `hostUsers` is false");
        }
    }
}

fn claims(errors: &mut Errors, path: &Path<'_>, spec: &PodSpec) {
    let list = path.child("resourceClaims");
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.resource_claims.iter().enumerate() {
        let path = list.index(i);
        validation::require(errors, &path.child("name"), &claim.name, dns_label);
        if !claim.name.is_empty() && !seen.insert(&claim.name) {
            errors.duplicate(&path.child("name"), claim.name.as_str());
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => errors.invalid(
                &path,
                claim.name.as_str(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (None, None) => errors.invalid(
                &path,
                claim.name.as_str(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            (Some(name), None) => check(errors, &path.child("resourceClaimName"), name, dns_subdomain),
            (None, Some(name)) => check(errors, &path.child("resourceClaimTemplateName"), name, dns_subdomain),
        }
    }
}

fn security_context(errors: &mut Errors, path: &Path<'_>, security: &PodSecurityContext) {
    let ids =
        [("fsGroup", security.fs_group), ("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)];
    for (field, id) in ids {
        if let Some(id) = id {
            user_id(errors, &path.child(field), id);
        }
    }
    for (i, group) in security.supplemental_groups.iter().enumerate() {
        user_id(errors, &path.child("supplementalGroups").index(i), *group);
    }
    let sysctls = path.child("sysctls");
    let mut seen = BTreeSet::new();
    for (i, sysctl) in security.sysctls.iter().enumerate() {
        let path = sysctls.index(i);
        let path = path.child("name");
        if sysctl.name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(&sysctl.name) {
            let regex = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(
                &path,
                sysctl.name.as_str(),
                format!("must have at most 253 characters and match regex {regex}"),
            );
        } else if !seen.insert(&sysctl.name) {
            errors.duplicate(&path, sysctl.name.as_str());
        }
    }
    let change = security.fs_group_change_policy.as_ref();
    maybe_one_of(errors, &path.child("fsGroupChangePolicy"), change, &["Always", "OnRootMismatch"]);
    let groups = security.supplemental_groups_policy.as_ref();
    maybe_one_of(errors, &path.child("supplementalGroupsPolicy"), groups, &["Merge", "Strict"]);
    let selinux = security.se_linux_change_policy.as_ref();
    maybe_one_of(errors, &path.child("seLinuxChangePolicy"), selinux, &["Recursive", "MountOption"]);
    if let Some(profile) = &security.seccomp_profile {
        seccomp(errors, &path.child("seccompProfile"), profile);
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            !bytes.is_empty()
                && edge(bytes[0])
                && edge(bytes[bytes.len() - 1])
                && bytes.iter().all(|b| edge(*b) || matches!(b, b'-' | b'_'))
        })
}

/// A user or group number.
pub(crate) fn user_id(errors: &mut Errors, path: &Path<'_>, id: i64) {
    if let Some(fault) = in_range(id, 0, i64::from(i32::MAX)) {
        errors.invalid(path, id, fault);
    }
}

fn dns_config(errors: &mut Errors, path: &Path<'_>, config: Option<&PodDNSConfig>, policy: &str) {
    let Some(config) = config else {
        if policy == "None" {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let (nameservers, searches) = (path.child("nameservers"), path.child("searches"));
    if policy == "None" && config.nameservers.is_empty() {
        errors.required(&nameservers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        return;
    }
    let list = |items: &[String]| items.iter().map(|s| s.as_str().into()).collect::<Vec<apimachinery::Value>>();
    if config.nameservers.len() > 3 {
        errors.invalid(&nameservers, list(&config.nameservers), "must not have more than 3 nameservers");
    }
    for (i, server) in config.nameservers.iter().enumerate() {
        ip(errors, &nameservers.index(i), server);
    }
    if config.searches.len() > 32 {
        errors.invalid(&searches, list(&config.searches), "must not have more than 32 search paths");
    }
    if config.searches.join(" ").len() > 2048 {
        let message = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&searches, list(&config.searches), message);
    }
    for (i, search) in config.searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        check(errors, &searches.index(i), search.strip_suffix('.').unwrap_or(search), dns_search);
    }
    for (i, option) in config.options.iter().enumerate() {
        if option.name.is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

pub(crate) fn tolerations(errors: &mut Errors, path: &Path<'_>, tolerations: &[Toleration]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let (operator, effect) = (path.child("operator"), path.child("effect"));
        if !toleration.key.is_empty() {
            check(errors, &path.child("key"), &toleration.key, qualified_name);
        } else if toleration.operator != "Exists" {
            errors.invalid(
                &operator,
                toleration.operator.as_str(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.toleration_seconds.is_some() && toleration.effect != "NoExecute" {
            let message = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&effect, toleration.effect.as_str(), message);
        }
        match toleration.operator.as_str() {
            "Equal" | "" => {
                let faults = validation::label_value(&toleration.value);
                if !faults.is_empty() {
                    errors.invalid(&operator, toleration.value.as_str(), faults.join(";"));
                }
            }
            "Exists" if !toleration.value.is_empty() => {
                let message = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&operator, toleration.value.as_str(), message);
            }
            "Exists" => {}
            other => errors.not_supported(&operator, other, &["Equal", "Exists"]),
        }
        if !toleration.effect.is_empty() {
            one_of(errors, &effect, &toleration.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }
}

fn affinity(errors: &mut Errors, path: &Path<'_>, affinity: &Affinity) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            node_selector(errors, &path.child(REQUIRED), selector);
        }
        for (i, term) in node.preferred_during_scheduling_ignored_during_execution.iter().enumerate() {
            let terms = path.child(PREFERRED);
            let path = terms.index(i);
            weight(errors, &path, term.weight);
            node_selector_term(errors, &path.child("preference"), &term.preference, false);
        }
    }
    let mut pods = |field: &str, required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]| {
        let path = path.child(field);
        for (i, term) in required.iter().enumerate() {
            pod_affinity_term(errors, &path.child(REQUIRED).index(i), term);
        }
        for (i, weighted) in preferred.iter().enumerate() {
            let terms = path.child(PREFERRED);
            let path = terms.index(i);
            weight(errors, &path, weighted.weight);
            pod_affinity_term(errors, &path.child("podAffinityTerm"), &weighted.pod_affinity_term);
        }
    };
    if let Some(a) = &affinity.pod_affinity {
        let preferred = &a.preferred_during_scheduling_ignored_during_execution;
        pods("podAffinity", &a.required_during_scheduling_ignored_during_execution, preferred);
    }
    if let Some(a) = &affinity.pod_anti_affinity {
        let preferred = &a.preferred_during_scheduling_ignored_during_execution;
        pods("podAntiAffinity", &a.required_during_scheduling_ignored_during_execution, preferred);
    }
}

fn weight(errors: &mut Errors, path: &Path<'_>, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn pod_affinity_term(errors: &mut Errors, path: &Path<'_>, term: &PodAffinityTerm) {
    for (field, selector) in [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            label_selector(errors, &path.child(field), selector);
        }
    }
    for namespace in &term.namespaces {
        check(errors, &path.child("namespace"), namespace, dns_label);
    }
    match_label_keys(errors, path, &term.match_label_keys, &term.mismatch_label_keys, term.label_selector.as_ref());
    let key = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&key, "can not be empty");
    }
    check(errors, &key, &term.topology_key, qualified_name);
}

fn match_label_keys(
    errors: &mut Errors,
    path: &Path<'_>,
    matching: &[String],
    mismatching: &[String],
    selector: Option<&LabelSelector>,
) {
    for (field, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)] {
        let path = path.child(field);
        if !keys.is_empty() && selector.is_none() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
        }
        for (i, key) in keys.iter().enumerate() {
            check(errors, &path.index(i), key, qualified_name);
        }
    }
    for (i, key) in matching.iter().enumerate() {
        if mismatching.contains(key) {
            errors.invalid(
                &path.child("matchLabelKeys").index(i),
                key.as_str(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
}

/// Checks a selector of nodes.
pub(crate) fn node_selector(errors: &mut Errors, path: &Path<'_>, selector: &NodeSelector) {
    let terms = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errors, &terms.index(i), term, true);
    }
}

fn node_selector_term(errors: &mut Errors, path: &Path<'_>, term: &NodeSelectorTerm, check_values: bool) {
    for (i, requirement) in term.match_expressions.iter().enumerate() {
        let expressions = path.child("matchExpressions");
        let path = expressions.index(i);
        let values = path.child("values");
        match requirement.operator.as_str() {
            "In" | "NotIn" if requirement.values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !requirement.values.is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if requirement.values.len() != 1 => {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        check(errors, &path.child("key"), &requirement.key, qualified_name);
        if check_values {
            for (j, value) in requirement.values.iter().enumerate() {
                check(errors, &values.index(j), value, validation::label_value);
            }
        }
    }
    for (i, requirement) in term.match_fields.iter().enumerate() {
        let fields = path.child("matchFields");
        let path = fields.index(i);
        if !matches!(requirement.operator.as_str(), "In" | "NotIn") {
            errors.invalid(&path.child("operator"), requirement.operator.as_str(), "not a valid selector operator");
        } else if requirement.values.len() != 1 {
            let message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), message);
        }
        if requirement.key != "metadata.name" {
            errors.invalid(&path.child("key"), requirement.key.as_str(), "not a valid field selector key");
        }
        for (j, value) in requirement.values.iter().enumerate() {
            check(errors, &path.child("values").index(j), value, dns_subdomain);
        }
    }
}

fn spread(errors: &mut Errors, path: &Path<'_>, constraints: &[TopologySpreadConstraint]) {
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        validation::positive(errors, &path.child("maxSkew"), i64::from(constraint.max_skew));
        let key = path.child("topologyKey");
        if constraint.topology_key.is_empty() {
            errors.required(&key, "can not be empty");
        }
        let when = path.child("whenUnsatisfiable");
        let modes = ["DoNotSchedule", "ScheduleAnyway"];
        if !modes.contains(&constraint.when_unsatisfiable.as_str()) {
            errors.not_supported(&when, constraint.when_unsatisfiable.as_str(), &modes);
        }
        let again = |c: &TopologySpreadConstraint| {
            c.topology_key == constraint.topology_key && c.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[i + 1..].iter().any(again) {
            let pair = format!("{{{}, {}}}", constraint.topology_key, constraint.when_unsatisfiable);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, "must be greater than zero");
            }
            if constraint.when_unsatisfiable != "DoNotSchedule" {
                let message = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    constraint.when_unsatisfiable
                );
                errors.invalid(&path, domains, message);
            }
        }
        let policies = ["Honor", "Ignore"];
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            maybe_one_of(errors, &path.child(field), policy.as_ref(), &policies);
        }
        match_label_keys(errors, &path, &constraint.match_label_keys, &[], constraint.label_selector.as_ref());
        if let Some(selector) = &constraint.label_selector {
            label_selector(errors, &path.child("labelSelector"), selector);
        }
    }
}

/// A pod without a service account has no token to project.
pub(crate) fn no_tokens(errors: &mut Errors, path: &Path<'_>, volumes: &[Volume]) {
    for (i, volume) in volumes.iter().enumerate() {
        let Some(projected) = &volume.volume_source.projected else { continue };
        let volume_path = path.index(i);
        let field = volume_path.child("projected");
        let sources = field.child("sources");
        for (j, _) in projected.sources.iter().enumerate().filter(|(_, s)| s.service_account_token.is_some()) {
            let message = "must not be specified when serviceAccountName is not set";
            errors.forbidden(&sources.index(j).child("serviceAccountToken"), message);
        }
    }
}

/// Annotations that mean something to pods.
pub(crate) fn pod_annotations(errors: &mut Errors, annotations: &BTreeMap<String, String>, spec: &PodSpec) {
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = annotations.get(MIRROR)
        && spec.node_name.is_empty()
    {
        errors.invalid(&path.key(MIRROR), value.as_str(), "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(value) = annotations.get(COST)
        && (value.parse::<i32>().is_err() || value.starts_with('+') || (value.len() > 1 && value.starts_with('0')))
    {
        errors.invalid(&path.key(COST), value.as_str(), "must be a 32bit integer");
    }
}
