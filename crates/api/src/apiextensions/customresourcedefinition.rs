//! CustomResourceDefinition: adds a kind to the API.

mod validate;

use crate::checks::immutable;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::apiextensions::jsonschema::CustomResourceValidation;
use crate::served::served;

/// CustomResourceDefinition: adds a kind to the API.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition")]
pub struct CustomResourceDefinition {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: CustomResourceDefinitionSpec,
    #[api(3, omitempty)]
    pub status: CustomResourceDefinitionStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec")]
pub struct CustomResourceDefinitionSpec {
    #[api(1, required)]
    pub group: String,
    #[api(3, required)]
    pub names: CustomResourceDefinitionNames,
    #[api(4, required)]
    pub scope: String,
    #[api(7, required, list = "atomic")]
    pub versions: Vec<CustomResourceDefinitionVersion>,
    #[api(9, omitempty)]
    pub conversion: Option<CustomResourceConversion>,
    #[api(10, omitempty)]
    pub preserve_unknown_fields: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceConversion")]
pub struct CustomResourceConversion {
    #[api(1, required)]
    pub strategy: String,
    #[api(2, omitempty)]
    pub webhook: Option<WebhookConversion>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.WebhookConversion")]
pub struct WebhookConversion {
    #[api(2, omitempty)]
    pub client_config: Option<WebhookClientConfig>,
    #[api(3, required, list = "atomic")]
    pub conversion_review_versions: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.WebhookClientConfig")]
pub struct WebhookClientConfig {
    #[api(3, omitempty)]
    pub url: Option<String>,
    #[api(1, omitempty)]
    pub service: Option<ServiceReference>,
    #[api(2, omitempty)]
    pub ca_bundle: Bytes,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ServiceReference")]
pub struct ServiceReference {
    #[api(1, required)]
    pub namespace: String,
    #[api(2, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub path: Option<String>,
    #[api(4, omitempty)]
    pub port: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion")]
pub struct CustomResourceDefinitionVersion {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub served: bool,
    #[api(3, required)]
    pub storage: bool,
    #[api(7, omitempty)]
    pub deprecated: bool,
    #[api(8, omitempty)]
    pub deprecation_warning: Option<String>,
    #[api(4, omitempty)]
    pub schema: Option<CustomResourceValidation>,
    #[api(5, omitempty)]
    pub subresources: Option<CustomResourceSubresources>,
    #[api(6, omitempty, list = "atomic")]
    pub additional_printer_columns: Vec<CustomResourceColumnDefinition>,
    #[api(9, omitempty, list = "atomic")]
    pub selectable_fields: Vec<SelectableField>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.SelectableField")]
pub struct SelectableField {
    #[api(1, required)]
    pub json_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceColumnDefinition")]
pub struct CustomResourceColumnDefinition {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub type_: String,
    #[api(3, omitempty)]
    pub format: String,
    #[api(4, omitempty)]
    pub description: String,
    #[api(5, omitempty)]
    pub priority: i32,
    #[api(6, required)]
    pub json_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionNames")]
pub struct CustomResourceDefinitionNames {
    #[api(1, required)]
    pub plural: String,
    #[api(2, omitempty)]
    pub singular: String,
    #[api(3, omitempty, list = "atomic")]
    pub short_names: Vec<String>,
    #[api(4, required)]
    pub kind: String,
    #[api(5, omitempty)]
    pub list_kind: String,
    #[api(6, omitempty, list = "atomic")]
    pub categories: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionCondition")]
pub struct CustomResourceDefinitionCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
    #[api(6, omitempty)]
    pub observed_generation: i64,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus")]
pub struct CustomResourceDefinitionStatus {
    #[api(1, list = "map", keys("type"))]
    pub conditions: Vec<CustomResourceDefinitionCondition>,
    #[api(2)]
    pub accepted_names: CustomResourceDefinitionNames,
    #[api(3, list = "atomic")]
    pub stored_versions: Vec<String>,
    #[api(4, omitempty)]
    pub observed_generation: i64,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresources")]
pub struct CustomResourceSubresources {
    #[api(1, omitempty)]
    pub status: Option<CustomResourceSubresourceStatus>,
    #[api(2, omitempty)]
    pub scale: Option<CustomResourceSubresourceScale>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus")]
pub struct CustomResourceSubresourceStatus {}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceScale")]
pub struct CustomResourceSubresourceScale {
    #[api(1, required)]
    pub spec_replicas_path: String,
    #[api(2, required)]
    pub status_replicas_path: String,
    #[api(3, omitempty)]
    pub label_selector_path: Option<String>,
}

/// A deleted definition stays until its instances are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Adds the finalizer and says in a condition what will happen.
fn begin_delete(definition: &mut Value) {
    let Ok(mut object) = CustomResourceDefinition::from_value(definition) else { return };
    let finalizers = &mut object.metadata.finalizers;
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
    }
    let since = object.metadata.deletion_timestamp.unwrap_or_default();
    let conditions = &mut object.status.conditions;
    conditions.retain(|c| c.type_ != "Terminating");
    conditions.push(CustomResourceDefinitionCondition {
        type_: "Terminating".into(),
        status: "True".into(),
        last_transition_time: since,
        reason: "InstanceDeletionPending".into(),
        message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".into(),
        ..CustomResourceDefinitionCondition::default()
    });
    let mut new = object.to_value();
    if let (Value::Map(new), Value::Map(old)) = (&mut new, &mut *definition) {
        for key in ["apiVersion", "kind"] {
            if let Some(value) = old.remove(key) {
                new.insert(key, value);
            }
        }
    }
    *definition = new;
}

pub fn kind() -> Kind {
    let mut kind = served_kind();
    kind.begin_delete = Some(begin_delete);
    kind
}

fn served_kind() -> Kind {
    Kind::cluster::<CustomResourceDefinition>("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .category(&["api-extensions"])
        .stored_under("apiextensions.k8s.io/customresourcedefinitions")
        .status()
        .generation(Generation::OnSpec)
        .created_at()
        .conditional_update()
        .example(
            r#"{"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "scope": "Namespaced", "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"size": {"type": "integer", "minimum": 1}}}}}}}]}}"#,
        )
}

served!(CustomResourceDefinition, "apiextensions.k8s.io", "v1", "customresourcedefinitions", false);

impl Rules for CustomResourceDefinition {
    fn set_defaults(&mut self) {
        let names = &mut self.spec.names;
        if names.singular.is_empty() {
            names.singular = names.kind.to_lowercase();
        }
        if names.list_kind.is_empty() && !names.kind.is_empty() {
            names.list_kind = format!("{}List", names.kind);
        }
        let conversion = self.spec.conversion.get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".into(),
            ..CustomResourceConversion::default()
        });
        if let Some(service) =
            conversion.webhook.as_mut().and_then(|w| w.client_config.as_mut()).and_then(|c| c.service.as_mut())
        {
            service.port.get_or_insert(443);
        }
        if self.status.stored_versions.is_empty()
            && let Some(version) = self.spec.versions.iter().find(|v| v.storage)
        {
            self.status.stored_versions.push(version.name.clone());
        }
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.status = CustomResourceDefinitionStatus::default();
        self.remember_storage_version();
    }

    fn prepare_update(&mut self, _old: &Self, cx: &RulesCx<'_>) {
        if cx.subresource.is_empty() {
            self.remember_storage_version();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        validate::definition(errors, self);
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        validate::schemas(errors, self, None);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        let names = spec.child("names");
        validate::schemas(errors, self, Some(old));
        let established = old.status.conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
        if established {
            immutable(errors, &spec.child("scope"), &self.spec.scope, &old.spec.scope);
            immutable(errors, &names.child("kind"), &self.spec.names.kind, &old.spec.names.kind);
        }
        immutable(errors, &spec.child("group"), &self.spec.group, &old.spec.group);
        immutable(errors, &names.child("plural"), &self.spec.names.plural, &old.spec.names.plural);
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let status = Path::new("status");
        validate::names(errors, &status.child("acceptedNames"), &self.status.accepted_names);
    }
}

impl CustomResourceDefinition {
    /// Objects may be stored in every version that ever was the storage version.
    fn remember_storage_version(&mut self) {
        if let Some(version) = self.spec.versions.iter().find(|version| version.storage)
            && !self.status.stored_versions.contains(&version.name)
        {
            self.status.stored_versions.push(version.name.clone());
        }
    }
}
