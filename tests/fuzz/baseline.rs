//! Any bytes as a baseline.
#![no_main]
#![allow(dead_code, reason = "only the reader is used")]

#[path = "../../src"]
mod src {
    pub mod baseline;
    pub mod yaml;
}
use src::yaml;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let path = std::env::temp_dir().join(format!("baseline-fuzz-{}.yml", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file can be written");
    match src::baseline::Baseline::load(&path) {
        Ok(baseline) => assert!(!baseline.summary().is_empty()),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
