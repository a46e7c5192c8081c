//! Rules of custom resource definitions: names, versions, conversion, columns, subresources.

use apimachinery::validation::{dns_subdomain, dns1035_label};
use apimachinery::{Api, Errors, Path, crd};

use crate::admissionregistration::webhook::{reachable, review_versions};
use crate::apiextensions::customresourcedefinition::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionVersion, CustomResourceSubresources,
};

pub(super) fn definition(errors: &mut Errors, crd: &CustomResourceDefinition) {
    let (metadata, path) = (Path::new("metadata"), Path::new("spec"));
    let spec = &crd.spec;
    let field = metadata.child("name");
    let name = crd.metadata.name.as_str();
    if name.is_empty() {
        errors.required(&field, "name or generateName is required");
    } else {
        for fault in dns_subdomain(name) {
            errors.invalid(&field, name, fault);
        }
        if name != format!("{}.{}", spec.names.plural, spec.group) {
            errors.invalid(&field, name, "must be spec.names.plural+\".\"+spec.group");
        }
    }
    let group = path.child("group");
    let faults = dns_subdomain(&spec.group);
    if spec.group.is_empty() {
        errors.required(&group, "");
    } else if !faults.is_empty() {
        errors.invalid(&group, spec.group.as_str(), faults.join(","));
    } else if !spec.group.contains('.') {
        errors.invalid(&group, spec.group.as_str(), "should be a domain with at least one dot");
    }
    enumeration(errors, &path.child("scope"), &spec.scope, &["Cluster", "Namespaced"]);
    let versions = path.child("versions");
    if spec.preserve_unknown_fields {
        let message =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, message);
    }
    for (i, version) in spec.versions.iter().enumerate() {
        self::version(errors, &versions.index(i), version);
    }
    let names_of = |i: usize| &spec.versions[i].name;
    if (0..spec.versions.len()).any(|i| (0..i).any(|j| names_of(i) == names_of(j))) {
        errors.invalid(&versions, spec.versions.to_value(), "must contain unique version names");
    }
    if spec.versions.iter().filter(|version| version.storage).count() != 1 {
        let message = "must have exactly one version marked as storage version";
        errors.invalid(&versions, spec.versions.to_value(), message);
    }
    let field = path.child("names");
    for (part, value) in [
        ("plural", &spec.names.plural),
        ("singular", &spec.names.singular),
        ("kind", &spec.names.kind),
        ("listKind", &spec.names.list_kind),
    ] {
        if value.is_empty() {
            errors.required(&field.child(part), "");
        }
    }
    names(errors, &field, &spec.names);
    if let Some(conversion) = &spec.conversion {
        self::conversion(errors, &path.child("conversion"), conversion);
    }
    stored_versions(errors, crd);
    approval(errors, crd);
}

/// The schemas, and the fields that selectors may name. A version whose schema an update leaves alone is not checked
/// again; what all versions share is checked once, and spoken of as a field of `spec`.
pub(super) fn schemas(errors: &mut Errors, new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) {
    let path = Path::new("spec");
    let list = path.child("versions");
    let versions = &new.spec.versions;
    let shared = versions.windows(2).all(|pair| pair[0].schema == pair[1].schema);
    let has_status = |version: &CustomResourceDefinitionVersion| {
        version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some())
    };
    for (i, version) in versions.iter().enumerate() {
        let before = old.and_then(|old| old.spec.versions.iter().find(|v| v.name == version.name));
        let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else { continue };
        let schema = schema.to_value();
        let place = list.index(i);
        if before.is_none_or(|b| b.schema != version.schema) {
            match (shared, i) {
                (true, 0) => {
                    crd::check_schema(&schema, versions.iter().any(has_status), &path.child("validation"), errors);
                }
                (true, _) => {}
                (false, _) => crd::check_schema(&schema, has_status(version), &place.child("schema"), errors),
            }
        }
        let fields = place.child("selectableFields");
        for (i, field) in version.selectable_fields.iter().enumerate().filter(|(_, f)| f.json_path.starts_with('.')) {
            if let Err(why) = crd::check_selectable(&field.json_path, &schema) {
                errors.invalid(&fields.index(i).child("jsonPath"), field.json_path.as_str(), why);
            }
        }
    }
}

fn enumeration(errors: &mut Errors, path: &Path<'_>, value: &str, accepted: &[&str]) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !accepted.contains(&value) {
        errors.not_supported(path, value, accepted);
    }
}

/// Plural, singular, kind, list kind, short names and categories are DNS labels, kinds without regard to case.
pub(super) fn names(errors: &mut Errors, path: &Path<'_>, names: &CustomResourceDefinitionNames) {
    for (part, value) in [("plural", &names.plural), ("singular", &names.singular)] {
        let faults = dns1035_label(value);
        if !value.is_empty() && !faults.is_empty() {
            errors.invalid(&path.child(part), value.as_str(), faults.join(","));
        }
    }
    for (part, value) in [("kind", &names.kind), ("listKind", &names.list_kind)] {
        let faults = dns1035_label(&value.to_lowercase());
        if !value.is_empty() && !faults.is_empty() {
            let message = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            errors.invalid(&path.child(part), value.as_str(), message);
        }
    }
    if !names.kind.is_empty() && names.kind == names.list_kind {
        let message = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), names.list_kind.as_str(), message);
    }
    for (part, values) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        let list = path.child(part);
        for (i, value) in values.iter().enumerate() {
            let faults = dns1035_label(value);
            if !faults.is_empty() {
                errors.invalid(&list.index(i), value.as_str(), faults.join(","));
            }
        }
    }
}

fn version(errors: &mut Errors, path: &Path<'_>, version: &CustomResourceDefinitionVersion) {
    let faults = dns1035_label(&version.name);
    if !faults.is_empty() {
        errors.invalid(&path.child("name"), version.name.as_str(), faults.join(","));
    }
    let schema = path.child("schema");
    if version.schema.as_ref().is_none_or(|s| s.open_api_v3_schema.is_none()) {
        errors.required(&schema.child("openAPIV3Schema"), "");
    }
    if let Some(warning) = &version.deprecation_warning {
        let field = path.child("deprecationWarning");
        if !version.deprecated {
            let message = "can only be set for deprecated versions";
            errors.invalid(&field, warning.as_str(), message);
        }
        if warning.len() > 256 {
            errors.invalid(&field, warning.as_str(), "must be <= 256 characters long");
        }
        if warning.is_empty() {
            errors.invalid(&field, "", "must not be an empty string");
        }
        if warning.chars().any(char::is_control) {
            errors.invalid(&field, warning.as_str(), "must only contain printable UTF-8 characters");
        }
    }
    if let Some(subresources) = &version.subresources {
        self::subresources(errors, &path.child("subresources"), subresources);
    }
    let columns = path.child("additionalPrinterColumns");
    for (i, column) in version.additional_printer_columns.iter().enumerate() {
        self::column(errors, &columns.index(i), column);
    }
    let selectable = path.child("selectableFields");
    if version.selectable_fields.len() > 8 {
        errors.too_many(&selectable, version.selectable_fields.len(), 8);
    }
    for (i, field) in version.selectable_fields.iter().enumerate() {
        let path = selectable.index(i);
        simple_path(errors, &path.child("jsonPath"), &field.json_path);
        if version.selectable_fields[..i].contains(field) {
            errors.duplicate(&path.child("jsonPath"), field.json_path.as_str());
        }
    }
}

fn column(errors: &mut Errors, path: &Path<'_>, column: &CustomResourceColumnDefinition) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 9] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];
    if column.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let message = format!("must be one of {}", TYPES.join(","));
    if column.type_.is_empty() {
        errors.required(&path.child("type"), message);
    } else if !TYPES.contains(&column.type_.as_str()) {
        errors.invalid(&path.child("type"), column.type_.as_str(), message);
    }
    if !column.format.is_empty() && !FORMATS.contains(&column.format.as_str()) {
        let message = format!("must be one of {}", FORMATS.join(","));
        errors.invalid(&path.child("format"), column.format.as_str(), message);
    }
    simple_path(errors, &path.child("JSONPath"), &column.json_path);
}

/// A path that begins with a dot.
fn simple_path(errors: &mut Errors, path: &Path<'_>, value: &str) -> bool {
    if value.is_empty() {
        errors.required(path, "");
    } else if !value.starts_with('.') {
        errors.invalid(path, value, "must be a simple json path starting with .");
    } else {
        return true;
    }
    false
}

fn subresources(errors: &mut Errors, path: &Path<'_>, subresources: &CustomResourceSubresources) {
    let Some(scale) = &subresources.scale else { return };
    for (field, value, root) in [
        ("scale.specReplicasPath", &scale.spec_replicas_path, ".spec"),
        ("scale.statusReplicasPath", &scale.status_replicas_path, ".status"),
    ] {
        let path = path.child(field);
        if simple_path(errors, &path, value) && !value.starts_with(&format!("{root}.")) {
            errors.invalid(&path, value.as_str(), format!("should be a json path under {root}"));
        }
    }
    if let Some(selector) = scale.label_selector_path.as_ref().filter(|s| !s.is_empty()) {
        let path = path.child("scale.labelSelectorPath");
        let rooted = selector.starts_with(".spec.") || selector.starts_with(".status.");
        if simple_path(errors, &path, selector) && !rooted {
            errors.invalid(&path, selector.as_str(), "should be a json path under either .spec or .status");
        }
    }
}

fn conversion(errors: &mut Errors, path: &Path<'_>, conversion: &CustomResourceConversion) {
    enumeration(errors, &path.child("strategy"), &conversion.strategy, &["None", "Webhook"]);
    let webhook = path.child("webhook");
    if conversion.strategy != "Webhook" {
        if conversion.webhook.is_some() {
            errors.forbidden(&webhook, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    let client = webhook.child("clientConfig");
    let Some(hook) = &conversion.webhook else {
        errors.required(&client, "required when strategy is set to Webhook");
        return;
    };
    match &hook.client_config {
        None => errors.required(&client, "required when strategy is set to Webhook"),
        Some(config) => {
            let service =
                config.service.as_ref().map(|s| (s.name.as_str(), s.namespace.as_str(), s.path.as_deref(), s.port));
            reachable(errors, &client, config.url.as_deref(), service);
        }
    }
    review_versions(errors, &webhook.child("conversionReviewVersions"), &hook.conversion_review_versions);
}

fn stored_versions(errors: &mut Errors, crd: &CustomResourceDefinition) {
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let stored = &crd.status.stored_versions;
    if stored.is_empty() {
        errors.invalid(&path, stored.to_value(), "must have at least one stored version");
        return;
    }
    for version in crd.spec.versions.iter().filter(|version| version.storage) {
        if !stored.contains(&version.name) {
            let message = format!("must have the storage version {}", version.name);
            errors.invalid(&path, stored.to_value(), message);
        }
    }
    for (i, name) in stored.iter().enumerate() {
        if !crd.spec.versions.iter().any(|version| version.name == *name) {
            let message = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&path.index(i), name.as_str(), message);
        }
    }
}

/// Groups of the community need a link to their approval.
fn approval(errors: &mut Errors, crd: &CustomResourceDefinition) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = crd.spec.group.as_str();
    let protected = ["k8s.io", "kubernetes.io"];
    if !protected.iter().any(|p| group == *p || group.ends_with(&format!(".{p}"))) {
        return;
    }
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let field = annotations.key(ANNOTATION);
    match crd.metadata.annotations.get(ANNOTATION).map(String::as_str) {
        None | Some("") => {
            let message = format!(
                "protected groups must have approval annotation {ANNOTATION:?}, see https://github.com/kubernetes/enhancements/pull/1111"
            );
            errors.required(&field, message);
        }
        Some(value)
            if value.starts_with("unapproved") || value.starts_with("https://") || value.starts_with("http://") => {}
        Some(value) => {
            let message = format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
            );
            errors.invalid(&field, value, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::apiextensions::customresourcedefinition::kind;
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn names_and_versions_agree() {
        refuses(
            &kind(),
            &[("metadata.name", "\"gadgets.example.com\"")],
            &["metadata.name: Invalid value: \"gadgets.example.com\": must be spec.names.plural+\".\"+spec.group"],
        );
        refuses(
            &kind(),
            &[("spec.versions.0.schema", "null")],
            &["spec.versions[0].schema.openAPIV3Schema: Required value"],
        );
    }

    #[test]
    fn schemas_are_structural() {
        refuses(
            &kind(),
            &[("spec.versions.0.schema.openAPIV3Schema.properties.spec.properties.size.type", "\"\"")],
            &[
                "spec.validation.openAPIV3Schema.properties[spec].properties[size].type: Required value: must not be empty for specified object fields",
            ],
        );
        refuses(
            &kind(),
            &[("spec.versions.0.selectableFields", "[{\"jsonPath\": \".spec.colour\"}]")],
            &[
                "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.colour\": is an invalid path: does not refer to a valid field",
            ],
        );
    }

    #[test]
    fn the_plural_stays() {
        refuses_update(
            &kind(),
            &[("spec.names.plural", "\"gadgets\""), ("metadata.name", "\"gadgets.example.com\"")],
            &["spec.names.plural: Invalid value: \"gadgets\": field is immutable"],
        );
    }
}
