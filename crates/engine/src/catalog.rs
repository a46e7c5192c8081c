//! The table of kinds: built-ins at start, custom resources at run time, in the same map.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::kind::Storage;
use apimachinery::{GroupResource, Kind, SmolStr};
use parking_lot::RwLock;

/// All served versions of one resource.
#[derive(Debug)]
pub struct Resource {
    pub group_resource: GroupResource,
    /// Served versions, the preferred first.
    pub versions: Vec<Arc<Kind>>,
    /// The version whose form is stored; absent for virtual resources.
    pub storage: Option<Arc<Kind>>,
    /// Objects live under `/registry/<prefix>/`.
    pub prefix: SmolStr,
}

impl Resource {
    /// Puts the versions of one resource together.
    ///
    /// # Errors
    /// A sentence that names what does not fit: no version, several storage versions, or several prefixes.
    pub fn new(versions: Vec<Kind>) -> Result<Resource, String> {
        let versions: Vec<Arc<Kind>> = versions.into_iter().map(Arc::new).collect();
        let first = versions.first().ok_or("a resource needs a version")?;
        let group_resource = first.group_resource();
        let mut storage = None;
        let mut prefix = SmolStr::default();
        for kind in &versions {
            if kind.group_resource() != group_resource {
                return Err(format!("{} is not a version of {group_resource}", kind.group_resource()));
            }
            if let Storage::Stored { prefix: p, storage: stores } = &kind.storage {
                if !prefix.is_empty() && prefix != **p {
                    return Err(format!("{group_resource} has two storage prefixes"));
                }
                prefix = SmolStr::new(p);
                if *stores && storage.replace(kind.clone()).is_some() {
                    return Err(format!("{group_resource} has two storage versions"));
                }
            }
        }
        Ok(Resource { group_resource, versions, storage, prefix })
    }

    /// Puts many kinds together into resources. A resource of which no version is stored shares the objects of the one
    /// with the same storage prefix: two groups may show the same objects.
    ///
    /// # Errors
    /// As [`Resource::new`], or when nothing is stored under a prefix.
    pub fn group(kinds: Vec<Kind>) -> Result<Vec<Resource>, String> {
        let mut grouped: BTreeMap<GroupResource, Vec<Kind>> = BTreeMap::new();
        for kind in kinds {
            grouped.entry(kind.group_resource()).or_default().push(kind);
        }
        let mut resources = grouped.into_values().map(Resource::new).collect::<Result<Vec<_>, _>>()?;
        let stored: BTreeMap<SmolStr, Arc<Kind>> =
            resources.iter().filter_map(|r| Some((r.prefix.clone(), r.storage.clone()?))).collect();
        for resource in resources.iter_mut().filter(|r| r.storage.is_none() && !r.prefix.is_empty()) {
            let shared = stored.get(&resource.prefix);
            let none = || format!("no version of {} is stored", resource.group_resource);
            resource.storage = Some(shared.cloned().ok_or_else(none)?);
        }
        Ok(resources)
    }

    pub fn version(&self, version: &str) -> Option<&Arc<Kind>> {
        self.versions.iter().find(|k| k.version == version)
    }

    pub fn preferred(&self) -> &Arc<Kind> {
        // `new` refuses an empty list.
        &self.versions[0]
    }
}

type Table = BTreeMap<GroupResource, Arc<Resource>>;

/// The kinds served now. Readers take a snapshot; one writer at a time swaps it.
#[derive(Default)]
pub struct Catalog {
    table: RwLock<Arc<Table>>,
}

impl Catalog {
    /// Adds a resource, or replaces the one of the same name when `replace` says so.
    ///
    /// # Errors
    /// A sentence when the name, or another resource's kind, is taken: a clash is refused here, so it cannot race.
    pub fn insert(&self, resource: Resource, replace: bool) -> Result<Arc<Resource>, String> {
        let resource = Arc::new(resource);
        let mut table = self.table.write();
        if !replace && table.contains_key(&resource.group_resource) {
            return Err(format!("{} is served already", resource.group_resource));
        }
        let mut next = Table::clone(&table);
        next.insert(resource.group_resource.clone(), resource.clone());
        *table = Arc::new(next);
        Ok(resource)
    }

    /// Adds many at once, with one swap.
    pub fn insert_all(&self, resources: Vec<Resource>) -> Result<(), String> {
        let mut table = self.table.write();
        let mut next = Table::clone(&table);
        for resource in resources {
            if let Some(old) = next.insert(resource.group_resource.clone(), Arc::new(resource)) {
                return Err(format!("{} is served already", old.group_resource));
            }
        }
        *table = Arc::new(next);
        Ok(())
    }

    pub fn remove(&self, name: &GroupResource) -> Option<Arc<Resource>> {
        let mut table = self.table.write();
        let mut next = Table::clone(&table);
        let removed = next.remove(name);
        *table = Arc::new(next);
        removed
    }

    pub fn get(&self, group: &str, resource: &str) -> Option<Arc<Resource>> {
        let name = GroupResource { group: group.into(), resource: resource.into() };
        self.table.read().get(&name).cloned()
    }

    /// The kind of one served version.
    pub fn kind(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Kind>> {
        self.get(group, resource)?.version(version).cloned()
    }

    /// The resource whose kind has this name.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Kind>> {
        let table = self.table.read().clone();
        table
            .values()
            .filter(|r| r.group_resource.group == group)
            .flat_map(|r| &r.versions)
            .find(|k| k.version == version && k.kind == kind)
            .cloned()
    }

    /// Everything served now, by group and resource name.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.table.read().values().cloned().collect()
    }
}
