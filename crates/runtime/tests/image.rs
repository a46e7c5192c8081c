//! Images come in whole or not at all, unpack as their layers say, and leave nothing when removed.

mod images;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use images::{Entry, Layout, Packing, archive, file, folder, link, opened, pack, symlink};
use runtime::Error;
use runtime::image::ImageStore;
use serde_json::json;

struct Lab {
    folder: tempfile::TempDir,
    store: ImageStore,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&folder.path().join("images")).unwrap();
        Self { folder, store }
    }

    fn import(&self, archive: &[u8]) -> runtime::Result<Vec<runtime::image::Named>> {
        self.store.import(opened(self.folder.path(), archive), false)
    }

    fn top_layer(&self, name: &str) -> PathBuf {
        let image = self.store.find(name).unwrap().image;
        let chain = image.chain.last().unwrap();
        self.folder.path().join("images/layers").join(&chain.hex()[..20]).join("fs")
    }

    /// What a failed import or a removal leaves.
    fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for part in ["content/sha256", "content/ingest", "layers"] {
            let entries = fs::read_dir(self.folder.path().join("images").join(part)).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found
    }
}

fn two_layers(packing: Packing) -> Vec<u8> {
    let lower = archive(&[
        folder("etc"),
        file("etc/keep", b"kept"),
        file("etc/gone", b"gone"),
        folder("var"),
        file("var/old", b"old"),
        folder("usr"),
        folder("usr/lib"),
        symlink("lib", "usr/lib"),
        Entry { mode: 0o4755, owner: (1000, 1001), ..file("su", b"program") },
        link("su-link", "su"),
        Entry { xattrs: &[("user.note", b"hello"), ("trusted.overlay.opaque", b"y")], ..file("noted", b"x") },
        Entry { kind: tar::EntryType::Fifo, ..file("fifo", b"") },
    ]);
    let upper = archive(&[
        file("etc/.wh.gone", b""),
        file("etc/new", b"new"),
        file("var/.wh..wh..opq", b""),
        file("var/new", b"new"),
        file("lib/through-link", b"here"),
        link("etc/linked", "etc/keep"),
    ]);
    let mut layout = Layout::new();
    let image = layout.image(&[lower, upper], packing, json!({"Entrypoint": ["/su"], "User": "1000"}));
    layout.name(image, "example.com/two/layers:v1");
    layout.build()
}

#[test]
fn layers_unpack_with_owners_links_and_whiteouts() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let lab = Lab::new();
        let imported = lab.import(&two_layers(packing)).unwrap();
        assert_eq!(imported.len(), 1);
        assert_eq!(imported[0].tags, ["example.com/two/layers:v1"]);
        assert_eq!(imported[0].image.defaults.user, "1000");
        let upper = lab.top_layer("example.com/two/layers:v1");
        let chain = lab.store.find("example.com/two/layers:v1").unwrap().image.chain;
        let lower = lab.folder.path().join("images/layers").join(&chain[0].hex()[..20]).join("fs");
        let su = fs::metadata(lower.join("su")).unwrap();
        assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.nlink()), (0o4755, 1000, 1001, 2));
        assert_eq!(su.mtime(), 1_700_000_000);
        assert!(fs::metadata(lower.join("fifo")).unwrap().file_type().is_fifo());
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(lower.join("noted"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"hello");
        assert!(rustix::fs::getxattr(lower.join("noted"), "trusted.overlay.opaque", &mut value).is_err());
        // Overlayfs's own marks: a device 0:0 for a removed file.
        let whiteout = fs::symlink_metadata(upper.join("etc/gone")).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        assert!(fs::symlink_metadata(upper.join("var/old")).unwrap().rdev() == 0);
        assert_eq!(fs::read(upper.join("var/new")).unwrap(), b"new");
        // What was written through the lower layer's link is where the link leads.
        assert_eq!(fs::read(upper.join("usr/lib/through-link")).unwrap(), b"here");
        assert!(fs::symlink_metadata(upper.join("lib")).is_err());
        assert_eq!(fs::read(upper.join("etc/linked")).unwrap(), b"kept");
    }
}

#[test]
fn a_removed_image_leaves_nothing_but_what_a_container_holds() {
    let lab = Lab::new();
    lab.import(&two_layers(Packing::Gzip)).unwrap();
    let image = lab.store.find("example.com/two/layers:v1").unwrap().image;
    lab.store.hold("container", &image.chain);
    let by_id = image.id.to_string();
    lab.store.remove(&by_id[..20]).unwrap();
    assert!(lab.store.list().is_empty());
    assert_eq!(lab.leftovers().len(), 2, "{:?}", lab.leftovers());
    lab.store.release("container").unwrap();
    assert_eq!(lab.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn images_are_found_again_by_the_next_daemon() {
    let lab = Lab::new();
    let id = lab.import(&two_layers(Packing::Zstd)).unwrap()[0].image.id.clone();
    let again = ImageStore::open(&lab.folder.path().join("images")).unwrap();
    let digest = again.find("example.com/two/layers:v1").unwrap().digests[0].clone();
    for name in ["example.com/two/layers:v1", &id.to_string(), &id.hex()[..12], &digest] {
        assert_eq!(again.find(name).map(|found| found.image.id), Some(id.clone()), "{name}");
    }
    assert!(again.find("example.com/two/layers:v2").is_none());
    assert!(again.usage().bytes > 0);
}

#[test]
fn docker_archives_come_in_whole_archives_compressed_too() {
    let layer = archive(&[folder("a"), file("a/b", b"c")]);
    let diff = images::sha256(&layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/a/b"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}"), format!("sha256:{diff}")]}});
    let config = config.to_string().into_bytes();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["app:1", "example.com/app:2"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let bytes = archive(&[
        file("config.json", &config),
        folder("one"),
        file("one/layer.tar", &layer),
        symlink("two/layer.tar", "../one/layer.tar"),
        file("manifest.json", &manifest.to_string().into_bytes()),
    ]);
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let lab = Lab::new();
        let imported = lab.import(&pack(&bytes, packing)).unwrap();
        assert_eq!(imported[0].tags, ["docker.io/library/app:1", "example.com/app:2"]);
        assert_eq!(imported[0].image.chain.len(), 2);
        assert!(lab.store.find("app:1").is_some());
    }
}

#[test]
fn an_index_gives_this_hosts_image() {
    let mut layout = Layout::new();
    let ours = layout.image(&[archive(&[file("ours", b"")])], Packing::Plain, json!({"User": "7"}));
    let mut theirs = layout.blob("application/vnd.oci.image.manifest.v1+json", b"{\"not\":\"here\"}".to_vec());
    theirs["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let mut ours = ours;
    ours["platform"] = json!({"os": "linux", "architecture": runtime::image::format::host_architecture()});
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [theirs, ours]});
    let index = layout.blob(kind, index.to_string().into_bytes());
    let digest = index["digest"].as_str().unwrap().to_owned();
    layout.name(index, "example.com/multi:1");
    let lab = Lab::new();
    let imported = lab.import(&layout.build()).unwrap();
    assert_eq!(imported[0].image.defaults.user, "7");
    assert_eq!(imported[0].digests, [format!("example.com/multi@{digest}")]);
}

/// Imports an image with one layer of these entries, which must be refused and leave nothing.
#[track_caller]
fn refused(entries: &[Entry<'_>]) -> Error {
    let mut layout = Layout::new();
    let image = layout.image(&[archive(entries)], Packing::Gzip, json!({}));
    layout.name(image, "example.com/bad:1");
    refused_archive(&layout.build())
}

#[track_caller]
fn refused_archive(bytes: &[u8]) -> Error {
    let lab = Lab::new();
    let error = lab.import(bytes).unwrap_err();
    assert!(lab.store.list().is_empty());
    assert_eq!(lab.leftovers(), Vec::<PathBuf>::new());
    error
}

#[test]
fn what_leads_out_of_the_image_is_refused() {
    refused(&[file("../escape", b"x")]);
    refused(&[file("a/../../escape", b"x")]);
    refused(&[link("passwd", "../../../../etc/passwd")]);
    // What is absolute begins at the image's root, and through links of the image as well: the host's file is not there.
    refused(&[link("passwd", "/etc/passwd")]);
    refused(&[symlink("up", "../../../../../../etc"), link("passwd", "up/passwd")]);
    refused(&[symlink("etc", "/etc"), link("passwd", "etc/passwd")]);
    refused(&[link("root", "/")]);
    // To overlayfs this would be a removed file.
    for kind in [tar::EntryType::Char, tar::EntryType::Block] {
        refused(&[Entry { kind, ..file("whiteout", b"") }]);
    }
    // A link out of the root is only a name: what is written through it stays inside.
    let lab = Lab::new();
    let target = lab.folder.path().join("outside");
    fs::create_dir(&target).unwrap();
    let mut layout = Layout::new();
    let path = target.to_str().unwrap();
    let layer =
        archive(&[symlink("out", path), file("out/file", b"x"), symlink("up", "../../.."), file("up/file2", b"x")]);
    let image = layout.image(&[layer], Packing::Plain, json!({}));
    layout.name(image, "example.com/links:1");
    lab.import(&layout.build()).ok();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    assert!(!Path::new("/file2").exists() && !lab.folder.path().join("file2").exists());
}

#[test]
fn damaged_archives_are_refused() {
    let good = two_layers(Packing::Gzip);
    assert!(matches!(
        refused_archive(b"no archive at all, but long enough to look at"),
        Error::Corrupt(_) | Error::Invalid(_)
    ));
    refused_archive(&good[..good.len() / 2]);
    // A blob that is not what its name says.
    let mut layout = Layout::new();
    let image = layout.image(&[archive(&[file("a", b"b")])], Packing::Plain, json!({}));
    layout.name(image, "example.com/bad:1");
    let index = layout.blobs.iter().position(|(_, bytes)| bytes.starts_with(b"{")).unwrap();
    layout.blobs[index].1.push(b' ');
    assert!(matches!(refused_archive(&layout.build()), Error::Corrupt(_)));
    // A layer that unpacks to something else than the configuration promises.
    let mut layout = Layout::new();
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", archive(&[file("a", b"b")]));
    let config = json!({"os": "linux", "rootfs": {"diff_ids": [format!("sha256:{}", "0".repeat(64))]}});
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string().into_bytes();
    let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest);
    layout.name(manifest, "example.com/bad:1");
    assert!(matches!(refused_archive(&layout.build()), Error::Corrupt(_)));
    // A compressed layer that ends too early, though its digest is the one promised.
    let plain = archive(&[file("a", &[7; 100_000])]);
    for (packing, kind) in [(Packing::Gzip, "tar+gzip"), (Packing::Zstd, "tar+zstd"), (Packing::Plain, "tar")] {
        let whole = pack(&plain, packing);
        for length in [4, whole.len() / 2, whole.len() - 5] {
            let mut layout = Layout::new();
            let kind = format!("application/vnd.oci.image.layer.v1.{kind}");
            let layer = layout.blob(&kind, whole[..length].to_vec());
            let config = json!({"os": "linux", "rootfs": {"diff_ids": [format!("sha256:{}", images::sha256(&plain))]}});
            let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string().into_bytes();
            let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest);
            layout.name(manifest, "example.com/bad:1");
            assert!(matches!(refused_archive(&layout.build()), Error::Corrupt(_)));
        }
    }
    // The whole archive, compressed and cut.
    for packing in [Packing::Gzip, Packing::Zstd] {
        let whole = pack(&good, packing);
        for length in [3, 30, whole.len() / 2, whole.len() - 20] {
            assert!(matches!(refused_archive(&whole[..length]), Error::Corrupt(_) | Error::Invalid(_)));
        }
    }
    // Nothing that says which image it is.
    refused_archive(&archive(&[file("readme", b"hello")]));
    refused_archive(&archive(&[file("../index.json", b"{}")]));
}

#[test]
fn set_user_id_bits_survive_a_change_of_owner() {
    let lab = Lab::new();
    let mut layout = Layout::new();
    let layer = archive(&[Entry { mode: 0o6711, owner: (5, 6), ..file("program", b"x") }]);
    let image = layout.image(&[layer], Packing::Plain, json!({}));
    layout.name(image, "example.com/setuid:1");
    lab.import(&layout.build()).unwrap();
    let meta = fs::metadata(lab.top_layer("example.com/setuid:1").join("program")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o6711, 5, 6));
}
