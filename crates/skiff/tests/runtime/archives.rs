//! Archives that are damaged or lie: each is refused with a sentence that says why, and nothing of it stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;

/// Feeds damaged archives to a running daemon by the command that people use.
pub async fn are_refused(mut lab: Lab) {
    lab.start().await;
    let there_and_gone = |lab: &Lab| {
        lab.import();
        let (good, said) = lab.image("remove", &[crate::lab::IMAGE]);
        assert!(good, "{said}");
    };
    there_and_gone(&lab);
    let before = lab.holds();
    let good = fs::read(lab.folder.join("busybox.tar")).unwrap();
    let packed = {
        let plain = lab.folder.join("busybox.tar");
        let output = Command::new("gzip").args(["-nc", plain.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let mut flipped = good.clone();
    // In the middle of the layer, which is nearly all there is.
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("empty", Vec::new(), &["no image"]),
        ("text", b"this is no archive at all".repeat(100), &["cannot read the archive"]),
        ("cut", good[..good.len() / 2].to_vec(), &["cannot read the archive"]),
        ("cut-gzip", packed[..packed.len() / 2].to_vec(), &["corrupt image: cannot read"]),
        ("flipped", flipped, &["corrupt image", "as the image says"]),
        ("other", archive(&lab.folder, "readme"), &["neither index.json nor manifest.json"]),
    ];
    for (name, bytes, reasons) in cases {
        let path = lab.folder.join(format!("{name}.tar"));
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        let (good, said) = lab.image("import", &[path]);
        assert!(!good, "{name} was taken: {said}");
        assert!(said.contains(path) && reasons.iter().all(|reason| said.contains(reason)), "{name}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{name}: {said}");
    }
    lab.holds_again(&before).await;
    // It goes on as if nothing had been.
    there_and_gone(&lab);
    lab.holds_again(&before).await;
    lab.stop();
}

/// An archive with one file.
fn archive(folder: &Path, name: &str) -> Vec<u8> {
    fs::write(folder.join(name), "hello").unwrap();
    let output = Command::new("tar").args(["-C", folder.to_str().unwrap(), "-cf", "-", name]).output().unwrap();
    assert!(output.status.success());
    fs::remove_file(folder.join(name)).unwrap();
    output.stdout
}
