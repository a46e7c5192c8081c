//! The API extensions group: custom resource definitions.

use apimachinery::Kind;

pub mod conversionreview;
pub mod customresourcedefinition;
pub mod jsonschema;

pub use conversionreview::{ConversionRequest, ConversionResponse, ConversionReview};
pub use customresourcedefinition::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
    CustomResourceDefinitionCondition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionStatus, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
    CustomResourceSubresourceStatus, CustomResourceSubresources, SelectableField, ServiceReference,
    WebhookClientConfig, WebhookConversion,
};
pub use jsonschema::{CustomResourceValidation, ExternalDocumentation, JSONSchemaProps, ValidationRule};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![customresourcedefinition::kind()]
}
