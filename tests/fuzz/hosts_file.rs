//! Any bytes as a hosts file.
#![no_main]

#[path = "../../src/probe/hostname/hosts_file.rs"]
mod hosts_file;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let found = hosts_file::addresses(text, "quantum_redis");
    assert!(found.is_sorted(), "{found:?}");
    assert!(found.len() <= text.len());
});
