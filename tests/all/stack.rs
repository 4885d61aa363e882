//! The files of this repository, for a machine.

use std::fs;
use std::path::Path;

use crate::machine::Machine;

/// Where the machine has `deploy/` and `rules/`.
pub const TREE: &str = "/srv/baseline-exporter";

/// Copies `deploy/` and `rules/` into the machine, each YAML file as `change` makes it.
#[track_caller]
pub fn install(machine: &Machine, change: impl Fn(&str) -> String) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![repository.join("deploy"), repository.join("rules")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let mut text = fs::read_to_string(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "yml") {
                text = change(&text);
            }
            let inside = path.strip_prefix(repository).unwrap().to_str().unwrap();
            machine.write_file(&format!("{TREE}/{inside}"), &text);
        }
    }
}

/// A Prometheus configuration that scrapes and evaluates every second.
pub fn every_second(text: &str) -> String {
    let keys = ["scrape_interval", "scrape_timeout", "evaluation_interval"];
    with_durations(text, &keys, |_| 1000)
}

/// The text with the durations of these keys changed, in milliseconds.
fn with_durations(text: &str, keys: &[&str], change: impl Fn(u64) -> u64) -> String {
    let changed = |line: &str| {
        let (key, value) = line.split_once(": ")?;
        if !keys.contains(&key.trim_start_matches([' ', '-'])) {
            return None;
        }
        let value = value.split_once(" #").map_or(value, |(value, _)| value);
        let duration = milliseconds(value.trim().trim_matches(['"', '\'']))?;
        Some(format!("{key}: {}ms", change(duration)))
    };
    text.lines()
        .map(|line| changed(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

/// A duration as Prometheus writes it, such as `1h30m`.
fn milliseconds(text: &str) -> Option<u64> {
    let mut sum = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "" if text == "0" => 0,
            _ => return None,
        };
        sum += number.parse::<u64>().ok()? * unit;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[test]
fn only_scrapes_and_evaluations_are_every_second() {
    assert_eq!(
        every_second("  scrape_interval: 15s\n  scrape_timeout: 10s\n  interval: 15s\n"),
        "  scrape_interval: 1000ms\n  scrape_timeout: 1000ms\n  interval: 15s\n"
    );
}
