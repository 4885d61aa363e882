//! Any bytes as a unit file.
#![no_main]

#[path = "../../src/probe/unit_files/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r' | 0)).count();
    for entry in reader::read(text) {
        assert!((1..=lines).contains(&entry.line));
        for word in reader::words(&entry.value) {
            assert!(word.len() <= entry.value.len());
        }
    }
});
