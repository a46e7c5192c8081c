//! Group, version, kind and resource names.

use smol_str::SmolStr;
use std::fmt;

/// An API group and version; the core group is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    pub group: SmolStr,
    pub version: SmolStr,
}

impl GroupVersion {
    pub fn new(group: impl Into<SmolStr>, version: impl Into<SmolStr>) -> Self {
        GroupVersion { group: group.into(), version: version.into() }
    }

    /// Reads `v1` or `apps/v1`; `None` for more than one slash.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => Some(GroupVersion::new("", text)),
            Some((_, v)) if v.contains('/') => None,
            Some((g, v)) => Some(GroupVersion::new(g, v)),
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.version) } else { write!(f, "{}/{}", self.group, self.version) }
    }
}

/// What an object says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: SmolStr,
    pub version: SmolStr,
    pub kind: SmolStr,
}

/// Where objects of a kind are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: SmolStr,
    pub version: SmolStr,
    pub resource: SmolStr,
}

/// A kind without its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    pub group: SmolStr,
    pub kind: SmolStr,
}

/// A resource without its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: SmolStr,
    pub resource: SmolStr,
}

impl GroupVersionResource {
    pub fn new(group: impl Into<SmolStr>, version: impl Into<SmolStr>, resource: impl Into<SmolStr>) -> Self {
        GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() }
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}
