//! Any bytes as a process's mountinfo.
#![no_main]
#![allow(dead_code, reason = "only the reader is used")]

use std::path::Path;

#[path = "../../src/probe/write_path/mountinfo.rs"]
mod mountinfo;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let Some(mounts) = mountinfo::Mounts::parse(text) else {
        return;
    };
    let path = Path::new("/home/qt/with blank/x");
    if let Some(mount) = mounts.of(path) {
        for (seen, _) in mounts.sightings(&mount.device, path) {
            assert!(!seen.as_os_str().is_empty());
        }
    }
});
