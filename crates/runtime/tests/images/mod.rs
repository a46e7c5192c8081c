//! Builds small images out of the host's static busybox, and broken ones to be refused.

#![allow(dead_code)]

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A file of an archive.
pub struct Entry<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u64, u64),
    pub data: &'a [u8],
    pub xattrs: &'a [(&'a str, &'a [u8])],
    pub device: (u32, u32),
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            path: "",
            kind: tar::EntryType::Regular,
            link: "",
            mode: 0o644,
            owner: (0, 0),
            data: b"",
            xattrs: &[],
            device: (0, 0),
        }
    }
}

/// A folder.
pub fn folder(path: &str) -> Entry<'_> {
    Entry { path, kind: tar::EntryType::Directory, mode: 0o755, ..Entry::default() }
}

/// A regular file.
pub fn file<'a>(path: &'a str, data: &'a [u8]) -> Entry<'a> {
    Entry { path, data, ..Entry::default() }
}

/// A symbolic link.
pub fn symlink<'a>(path: &'a str, link: &'a str) -> Entry<'a> {
    Entry { path, link, kind: tar::EntryType::Symlink, mode: 0o777, ..Entry::default() }
}

/// A hard link.
pub fn link<'a>(path: &'a str, link: &'a str) -> Entry<'a> {
    Entry { path, link, kind: tar::EntryType::Link, ..Entry::default() }
}

/// A tar archive. Paths are written as they are, also those that a well-behaved writer would refuse.
pub fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        if !entry.xattrs.is_empty() {
            let keys: Vec<(String, &[u8])> =
                entry.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
            builder.append_pax_extensions(keys.iter().map(|(name, value)| (name.as_str(), *value))).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        let raw = header.as_mut_bytes();
        raw[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        raw[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(entry.data.len() as u64);
        if matches!(entry.kind, tar::EntryType::Char | tar::EntryType::Block) {
            header.set_device_major(entry.device.0).unwrap();
            header.set_device_minor(entry.device.1).unwrap();
        }
        header.set_cksum();
        builder.append(&header, entry.data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a layer's blob is packed.
#[derive(Clone, Copy)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// An image layout in the making.
pub struct Layout {
    pub blobs: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn new() -> Self {
        Self { blobs: Vec::new(), manifests: Vec::new() }
    }

    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()});
        self.blobs.push((digest, bytes));
        descriptor
    }

    /// Adds an image of plain layers; gives its manifest's descriptor.
    pub fn image(&mut self, layers: &[Vec<u8>], packing: Packing, config: Value) -> Value {
        let diffs: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(kind, pack(layer, packing))).collect();
        let config = json!({"architecture": runtime::image::format::host_architecture(), "os": "linux",
            "config": config, "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers});
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes())
    }

    /// Names a manifest or index in the layout.
    pub fn name(&mut self, mut descriptor: Value, name: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
    }

    /// The archive.
    pub fn build(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests}).to_string().into_bytes();
        let paths: Vec<String> = self.blobs.iter().map(|(digest, _)| format!("blobs/sha256/{digest}")).collect();
        let mut entries = vec![file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)];
        for (path, (_, bytes)) in paths.iter().zip(&self.blobs) {
            entries.push(file(path, bytes));
        }
        entries.push(file("index.json", &index));
        archive(&entries)
    }
}

/// The files of a busybox with its applets as links, and users.
pub fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("tests need busybox-static");
    let applets = [
        "sh", "echo", "cat", "sleep", "true", "false", "ls", "id", "env", "kill", "dd", "mount", "ip", "nc", "touch",
        "hostname", "stat", "head", "yes", "wc", "stty", "ps", "mkdir", "grep", "httpd", "test", "pwd", "rm", "tail",
    ];
    let paths: Vec<String> = applets.iter().map(|applet| format!("bin/{applet}")).collect();
    let mut entries = vec![folder("bin"), folder("etc"), folder("root"), folder("proc"), folder("sys"), folder("dev")];
    entries.push(Entry { mode: 0o1777, ..folder("tmp") });
    entries.push(Entry { mode: 0o755, ..file("bin/busybox", &busybox) });
    entries.extend(paths.iter().map(|path| link(path, "bin/busybox")));
    entries.push(file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"));
    entries.push(file("etc/group", b"root:x:0:\nalice:x:1000:\nextra:x:50000:alice\n"));
    archive(&entries)
}

/// An archive with a busybox image under a name.
pub fn busybox(name: &str) -> Vec<u8> {
    let mut layout = Layout::new();
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]});
    let image = layout.image(&[busybox_layer()], Packing::Plain, config);
    layout.name(image, name);
    layout.build()
}

/// Writes bytes to a file and opens it.
pub fn opened(folder: &Path, bytes: &[u8]) -> std::fs::File {
    let path = folder.join(format!("archive-{}", &sha256(bytes)[..12]));
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::open(path).unwrap()
}
