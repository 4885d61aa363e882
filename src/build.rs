//! Build script: which revision the program is built from, and for which target.

fn main() {
    println!("cargo::rustc-env=BASELINE_EXPORTER_REVISION=unknown");
    println!(
        "cargo::rustc-env=BASELINE_EXPORTER_TARGET={}",
        std::env::var("TARGET").unwrap_or_default()
    );
}
