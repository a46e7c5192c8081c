//! JSONSchemaProps: the structural schema of a custom resource version.

use std::collections::BTreeMap;

use apimachinery::leaf::{SelfOrBool, SelfOrList, SelfOrTexts};
use apimachinery::{Api, Json};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation")]
pub struct CustomResourceValidation {
    #[api(1, json = "openAPIV3Schema", omitempty)]
    pub open_api_v3_schema: Option<Box<JSONSchemaProps>>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")]
pub struct JSONSchemaProps {
    #[api(1, omitempty)]
    pub id: String,
    #[api(2, json = "$schema", omitempty)]
    pub schema: String,
    #[api(3, json = "$ref", omitempty)]
    pub ref_: Option<String>,
    #[api(4, omitempty)]
    pub description: String,
    #[api(5, omitempty)]
    pub type_: String,
    #[api(6, omitempty)]
    pub format: String,
    #[api(7, omitempty)]
    pub title: String,
    #[api(8, omitempty)]
    pub default: Option<Json>,
    #[api(9, omitempty)]
    pub maximum: Option<f64>,
    #[api(10, omitempty)]
    pub exclusive_maximum: bool,
    #[api(11, omitempty)]
    pub minimum: Option<f64>,
    #[api(12, omitempty)]
    pub exclusive_minimum: bool,
    #[api(13, omitempty)]
    pub max_length: Option<i64>,
    #[api(14, omitempty)]
    pub min_length: Option<i64>,
    #[api(15, omitempty)]
    pub pattern: String,
    #[api(16, omitempty)]
    pub max_items: Option<i64>,
    #[api(17, omitempty)]
    pub min_items: Option<i64>,
    #[api(18, omitempty)]
    pub unique_items: bool,
    #[api(19, omitempty)]
    pub multiple_of: Option<f64>,
    #[api(20, omitempty, list = "atomic")]
    pub enum_: Vec<Json>,
    #[api(21, omitempty)]
    pub max_properties: Option<i64>,
    #[api(22, omitempty)]
    pub min_properties: Option<i64>,
    #[api(23, omitempty, list = "atomic")]
    pub required: Vec<String>,
    #[api(24, omitempty)]
    pub items: Option<SelfOrList>,
    #[api(25, omitempty, list = "atomic")]
    pub all_of: Vec<JSONSchemaProps>,
    #[api(26, omitempty, list = "atomic")]
    pub one_of: Vec<JSONSchemaProps>,
    #[api(27, omitempty, list = "atomic")]
    pub any_of: Vec<JSONSchemaProps>,
    #[api(28, omitempty)]
    pub not: Option<Box<JSONSchemaProps>>,
    #[api(29, omitempty)]
    pub properties: BTreeMap<String, JSONSchemaProps>,
    #[api(30, omitempty)]
    pub additional_properties: Option<SelfOrBool>,
    #[api(31, omitempty)]
    pub pattern_properties: BTreeMap<String, JSONSchemaProps>,
    #[api(32, omitempty)]
    pub dependencies: BTreeMap<String, SelfOrTexts>,
    #[api(33, omitempty)]
    pub additional_items: Option<SelfOrBool>,
    #[api(34, omitempty)]
    pub definitions: BTreeMap<String, JSONSchemaProps>,
    #[api(35, omitempty)]
    pub external_docs: Option<ExternalDocumentation>,
    #[api(36, omitempty)]
    pub example: Option<Json>,
    #[api(37, omitempty)]
    pub nullable: bool,
    #[api(38, json = "x-kubernetes-preserve-unknown-fields", omitempty)]
    pub x_kubernetes_preserve_unknown_fields: Option<bool>,
    #[api(39, json = "x-kubernetes-embedded-resource", omitempty)]
    pub x_kubernetes_embedded_resource: bool,
    #[api(40, json = "x-kubernetes-int-or-string", omitempty)]
    pub x_kubernetes_int_or_string: bool,
    #[api(41, json = "x-kubernetes-list-map-keys", omitempty, list = "atomic")]
    pub x_kubernetes_list_map_keys: Vec<String>,
    #[api(42, json = "x-kubernetes-list-type", omitempty)]
    pub x_kubernetes_list_type: Option<String>,
    #[api(43, json = "x-kubernetes-map-type", omitempty)]
    pub x_kubernetes_map_type: Option<String>,
    #[api(
        44,
        json = "x-kubernetes-validations",
        omitempty,
        list = "map",
        keys("rule"),
        patch = "merge",
        merge_key = "rule"
    )]
    pub x_kubernetes_validations: Vec<ValidationRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ValidationRule")]
pub struct ValidationRule {
    #[api(1, required)]
    pub rule: String,
    #[api(2, omitempty)]
    pub message: String,
    #[api(3, omitempty)]
    pub message_expression: String,
    #[api(
        4,
        omitempty,
        enumeration("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
    )]
    pub reason: Option<String>,
    #[api(5, omitempty)]
    pub field_path: String,
    #[api(6, omitempty)]
    pub optional_old_self: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ExternalDocumentation")]
pub struct ExternalDocumentation {
    #[api(1, omitempty)]
    pub description: String,
    #[api(2, omitempty)]
    pub url: String,
}
