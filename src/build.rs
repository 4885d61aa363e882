//! Build script: what `--version` says of where the program came from.

use std::process::Command;
use std::time::{Duration, SystemTime};

fn main() {
    for (name, value) in [
        ("REVISION", revision()),
        ("BUILD_DATE", build_date()),
        ("TARGET", std::env::var("TARGET").unwrap_or_default()),
    ] {
        println!("cargo::rustc-env=BASELINE_EXPORTER_{name}={value}");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=BASELINE_EXPORTER_REVISION");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
}

/// The revision that the packager names, else the one that is checked out, else `unknown`.
fn revision() -> String {
    if let Ok(named) = std::env::var("BASELINE_EXPORTER_REVISION")
        && !named.trim().is_empty()
    {
        return named.trim().to_owned();
    }
    // A source archive that was unpacked inside somebody else's repository is not of that one.
    if git(&["ls-files", "--error-unmatch", "Cargo.toml"]).is_none() {
        return "unknown".to_owned();
    }
    // The log of HEAD grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// What git prints; `None` where there is no git, no repository or no such thing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// `SOURCE_DATE_EPOCH` for builds that must come out alike, else now; RFC 3339, UTC.
fn build_date() -> String {
    let moment = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.trim().parse().ok())
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .unwrap_or_else(SystemTime::now);
    humantime::format_rfc3339_seconds(moment).to_string()
}
