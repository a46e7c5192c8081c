//! Names of images: registry, repository, tag and digest, as clients write them and in full.

use std::fmt;

use crate::image::content::Digest;
use crate::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 512;

/// An image's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host and port of the registry.
    pub registry: String,
    /// Path inside the registry.
    pub repository: String,
    /// The tag, if the name has one.
    pub tag: Option<String>,
    /// The digest, if the name has one.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a name; adds the default registry, and the tag `latest` when neither tag nor digest is given.
    pub fn parse(name: &str) -> Result<Self> {
        let bad = |why: &str| Error::Invalid(format!("{name:?} is not an image name: {why}"));
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(bad("it is empty or too long"));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (name, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            let rest = tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            if !first || !rest || tag.len() > 128 {
                return Err(bad("the tag is malformed"));
            }
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (host.to_owned(), rest.to_owned())
            }
            Some(_) => (DEFAULT_REGISTRY.to_owned(), path.to_owned()),
            None => (DEFAULT_REGISTRY.to_owned(), format!("library/{path}")),
        };
        let part_ok = |part: &str| {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().next().is_some_and(good)
                && part.bytes().last().is_some_and(good)
                && part.bytes().all(|b| good(b) || matches!(b, b'.' | b'_' | b'-'))
        };
        if !repository.split('/').all(part_ok) {
            return Err(bad("the repository is malformed (lower-case letters, digits and separators)"));
        }
        let host_ok = registry.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && registry.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        if !host_ok {
            return Err(bad("the registry is malformed"));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { registry };
        let tag = match (&digest, tag) {
            (None, None) => Some("latest".to_owned()),
            (_, tag) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// Registry and repository.
    pub fn repository_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name by tag, if it has one.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.repository_name()))
    }

    /// The name by a digest.
    pub fn digested(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.repository_name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_full() {
        for (short, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.37", "docker.io/library/busybox:1.37"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app:x", "localhost/app:x"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ] {
            assert_eq!(Reference::parse(short).unwrap().to_string(), full);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let parsed = Reference::parse(&format!("quay.io/x/y@{digest}")).unwrap();
        assert_eq!((parsed.tag, parsed.digest.unwrap().to_string()), (None, digest));
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in ["", "A", "a//b", "a:", "a@sha256:12", "../x", "x/../y", "a b", "reg.io/-x", "a:b\n"] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
