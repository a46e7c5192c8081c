//! References from one object to another.

use apimachinery::Api;

/// SerializedReference: is a reference with a type of its own.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SerializedReference")]
pub struct SerializedReference {
    #[api(1, omitempty)]
    pub reference: ObjectReference,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TypedObjectReference")]
pub struct TypedObjectReference {
    #[api(1)]
    pub api_group: Option<String>,
    #[api(2, required)]
    pub kind: String,
    #[api(3, required)]
    pub name: String,
    #[api(4, omitempty)]
    pub namespace: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecretReference", atomic)]
pub struct SecretReference {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub namespace: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ObjectReference", atomic)]
pub struct ObjectReference {
    #[api(1, omitempty)]
    pub kind: String,
    #[api(2, omitempty)]
    pub namespace: String,
    #[api(3, omitempty)]
    pub name: String,
    #[api(4, omitempty)]
    pub uid: String,
    #[api(5, omitempty)]
    pub api_version: String,
    #[api(6, omitempty)]
    pub resource_version: String,
    #[api(7, omitempty)]
    pub field_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LocalObjectReference", atomic)]
pub struct LocalObjectReference {
    #[api(1, omitempty, default = "\"\"")]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TypedLocalObjectReference", atomic)]
pub struct TypedLocalObjectReference {
    #[api(1)]
    pub api_group: Option<String>,
    #[api(2, required)]
    pub kind: String,
    #[api(3, required)]
    pub name: String,
}
