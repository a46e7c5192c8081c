//! The client that components hold: typed calls over any backend.

use std::sync::Arc;

use apimachinery::resource::Resource;
use apimachinery::{Api, GroupVersionResource, Map, SmolStr, Status, Value};
use bytes::Bytes;

use crate::backend::{Backend, Body, PatchKind, Query, Request, Verb, WatchStream};

/// A handle to the API under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    backend: Arc<dyn Backend>,
    /// The field manager of this client's writes.
    manager: SmolStr,
}

/// A list with the revision it was read at.
#[derive(Clone, Debug)]
pub struct List<T> {
    pub items: Vec<T>,
    pub resource_version: String,
    pub continue_token: String,
}

/// Reads a typed object out of its JSON.
pub fn decode<T: Api>(json: &[u8]) -> Result<T, Status> {
    let tree = tree(json)?;
    T::from_value(&tree).map_err(Status::internal)
}

fn tree(json: &[u8]) -> Result<Value, Status> {
    apimachinery::codec::json::parse(json).map_err(Status::internal)
}

/// A typed object as a tree with apiVersion and kind.
pub fn encode<T: Resource>(object: &T) -> Value {
    let mut value = object.to_value();
    if let Value::Map(map) = &mut value {
        map.insert("apiVersion", T::api_version());
        map.insert("kind", T::KIND);
    }
    value
}

impl Client {
    pub fn new(backend: Arc<dyn Backend>, manager: impl Into<SmolStr>) -> Client {
        Client { backend, manager: manager.into() }
    }

    /// The same backend with another field manager.
    pub fn with_manager(&self, manager: impl Into<SmolStr>) -> Client {
        Client { backend: self.backend.clone(), manager: manager.into() }
    }

    /// Sends a request as it is, filling in the field manager when it names none.
    pub async fn send(&self, mut request: Request) -> Result<Bytes, Status> {
        if request.query.field_manager.is_empty() {
            request.query.field_manager = self.manager.to_string();
        }
        self.backend.send(request).await
    }

    /// Sends a request and reads the answer as a tree.
    pub async fn send_tree(&self, request: Request) -> Result<Value, Status> {
        tree(&self.send(request).await?)
    }

    /// What the API serves now, custom resources included.
    pub async fn resources(&self) -> Result<Vec<crate::backend::Served>, Status> {
        self.backend.resources().await
    }

    pub async fn watch(&self, request: Request) -> Result<WatchStream, Status> {
        self.backend.watch(request).await
    }

    fn request<T: Resource>(verb: Verb, namespace: &str, name: &str) -> Request {
        Request {
            verb,
            resource: T::resource(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: SmolStr::default(),
            query: Query::default(),
            body: Body::None,
        }
    }

    pub async fn get<T: Resource>(&self, namespace: &str, name: &str) -> Result<T, Status> {
        decode(&self.send(Self::request::<T>(Verb::Get, namespace, name)).await?)
    }

    /// [`Client::get`] with `None` for 404.
    pub async fn try_get<T: Resource>(&self, namespace: &str, name: &str) -> Result<Option<T>, Status> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Lists objects of a namespace, or of all with an empty one.
    pub async fn list<T: Resource>(&self, namespace: &str, query: Query) -> Result<List<T>, Status> {
        let mut request = Self::request::<T>(Verb::List, namespace, "");
        request.query = query;
        let list = self.send_tree(request).await?;
        let items = list
            .get("items")
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .map(|item| T::from_value(item).map_err(Status::internal))
            .collect::<Result<_, _>>()?;
        let text = |key| list.str_at(&["metadata", key]).unwrap_or_default().to_string();
        Ok(List { items, resource_version: text("resourceVersion"), continue_token: text("continue") })
    }

    /// Creates in the namespace that the object names.
    pub async fn create<T: Resource>(&self, object: &T) -> Result<T, Status> {
        let mut request = Self::request::<T>(Verb::Create, &object.meta().namespace, "");
        request.body = Body::Object(encode(object));
        decode(&self.send(request).await?)
    }

    /// Replaces an object; its resourceVersion makes the write conditional.
    pub async fn update<T: Resource>(&self, object: &T) -> Result<T, Status> {
        self.update_subresource(object, "").await
    }

    pub async fn update_status<T: Resource>(&self, object: &T) -> Result<T, Status> {
        self.update_subresource(object, "status").await
    }

    pub async fn update_subresource<T: Resource>(&self, object: &T, subresource: &str) -> Result<T, Status> {
        let meta = object.meta();
        let mut request = Self::request::<T>(Verb::Update, &meta.namespace, &meta.name);
        request.subresource = subresource.into();
        request.body = Body::Object(encode(object));
        decode(&self.send(request).await?)
    }

    pub async fn patch<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: PatchKind,
        patch: Value,
    ) -> Result<T, Status> {
        let mut request = Self::request::<T>(Verb::Patch, namespace, name);
        request.subresource = subresource.into();
        request.query.force = kind == PatchKind::Apply;
        request.body = Body::Patch(kind, patch);
        decode(&self.send(request).await?)
    }

    /// Deletes with the kind's own grace period and propagation; 404 is an error like any other.
    pub async fn delete<T: Resource>(&self, namespace: &str, name: &str) -> Result<(), Status> {
        self.delete_with::<T>(namespace, name, Value::Null).await
    }

    /// Deletes with `metav1.DeleteOptions` given as a tree (without apiVersion and kind).
    pub async fn delete_with<T: Resource>(&self, namespace: &str, name: &str, options: Value) -> Result<(), Status> {
        self.delete_resource(&T::resource(), namespace, name, options).await
    }

    /// [`Client::delete_with`] for a resource that is only known at run time.
    pub async fn delete_resource(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        options: Value,
    ) -> Result<(), Status> {
        let body = match options {
            Value::Map(mut map) => {
                map.insert("apiVersion", "v1");
                map.insert("kind", "DeleteOptions");
                Body::Object(Value::Map(map))
            }
            _ => Body::None,
        };
        let request = Request {
            verb: Verb::Delete,
            resource: resource.clone(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: SmolStr::default(),
            query: Query::default(),
            body,
        };
        self.send(request).await.map(|_| ())
    }

    /// Posts a body to a subresource (binding, eviction, token) and answers with what came back as a tree.
    pub async fn create_subresource<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: Value,
    ) -> Result<Value, Status> {
        let mut request = Self::request::<T>(Verb::Create, namespace, name);
        request.subresource = subresource.into();
        request.body = Body::Object(body);
        self.send_tree(request).await
    }

    /// `DeleteOptions` that only delete the object with this uid.
    pub fn only_uid(uid: &str) -> Value {
        let mut preconditions = Map::new();
        preconditions.insert("uid", uid);
        let mut options = Map::new();
        options.insert("preconditions", preconditions);
        Value::Map(options)
    }
}
