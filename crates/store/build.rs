//! Makes RocksDB's C++ runtime come out of its archive, as everything in a static binary must.
//!
//! RocksDB's build asks for `stdc++` as a shared library. Behind a hint to the linker that shared ones are welcome,
//! that silently gives a dynamic file, or one whose thread-local storage cannot be linked. A folder that holds the
//! archive alone, searched before the system's, settles it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let wanted = std::env::var_os("CARGO_FEATURE_ROCKSDB").is_some()
        && std::env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.split(',').any(|f| f == "crt-static"));
    if !wanted {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let answer =
        Command::new("c++").arg("-print-file-name=libstdc++.a").output().expect("a C++ compiler, as RocksDB needs");
    let archive = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    assert!(Path::new(&archive).is_absolute(), "libstdc++.a is missing: install the compiler's static C++ runtime");
    let link = out.join("libstdc++.a");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&archive, &link).expect("a link in OUT_DIR");
    println!("cargo:rustc-link-search=native={}", out.display());
}
