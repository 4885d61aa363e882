//! Prometheus, Alertmanager and a receiver of pages, with the files of this repository.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::alertmanager::Alertmanager;
use crate::machine::Machine;
use crate::prometheus::{Generation, Prometheus};
use crate::webhook::{Notification, Webhook};

/// Where the machine has `deploy/` and `rules/`.
pub const TREE: &str = "/srv/baseline-exporter";

/// Where the shipped Alertmanager configuration sends its notifications.
pub const WEBHOOK_PORT: u16 = 20108;

/// The three, running. Each can be restarted by its own `server`.
#[derive(Debug)]
pub struct Stack<'m> {
    pub webhook: Webhook,
    pub alertmanager: Alertmanager<'m>,
    pub prometheus: Prometheus<'m>,
}

impl<'m> Stack<'m> {
    /// Starts the shipped files as they are.
    #[track_caller]
    pub fn as_shipped(machine: &'m Machine, generation: Generation) -> Self {
        install(machine, str::to_owned);
        Self::start(machine, generation, &[])
    }

    /// Starts the shipped files with every duration that delays a page divided by `factor`, and a
    /// scrape and an evaluation every second. No expression is changed.
    #[track_caller]
    pub fn shortened(machine: &'m Machine, generation: Generation, factor: u64) -> Self {
        install(machine, |text| every_second(&shorten(text, factor)));
        // Prometheus's own defaults, one minute and ten.
        let resend = shortened(60_000, factor);
        let grace = shortened(600_000, factor);
        let flags = [
            format!("--rules.alert.resend-delay={resend}ms"),
            format!("--rules.alert.for-grace-period={grace}ms"),
        ];
        Self::start(machine, generation, &[&flags[0], &flags[1]])
    }

    #[track_caller]
    fn start(machine: &'m Machine, generation: Generation, flags: &[&str]) -> Self {
        let config = |of: &str| format!("{TREE}/deploy/{of}/{of}.yml");
        Self {
            webhook: Webhook::listen(machine, WEBHOOK_PORT),
            alertmanager: Alertmanager::start(machine, generation, &config("alertmanager")),
            prometheus: Prometheus::start(machine, generation, &config("prometheus"), flags),
        }
    }

    /// What came for the person on call so far, resolved notices included.
    pub fn pages(&self) -> Vec<Notification> {
        let mut notifications = self.webhook.received();
        notifications.retain(|notification| notification.path == "/critical");
        notifications
    }
}

/// What the shipped template makes of a notification: its title, a line of `---`, and its text.
#[track_caller]
pub fn render(machine: &Machine, generation: Generation, body: &Value) -> String {
    machine.write_file("/run/notification.json", &body.to_string());
    machine.run(&[
        &generation.inside("amtool"),
        "template",
        "render",
        &format!("--template.glob={TREE}/deploy/alertmanager/baseline.tmpl"),
        "--template.data=/run/notification.json",
        "--template.text={{ template \"baseline.title\" . }}\n---\n{{ template \"baseline.page\" . }}---\n",
    ])
}

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
            // What is no text is a picture, which nothing in the machine reads.
            let Ok(mut text) = String::from_utf8(fs::read(&path).unwrap()) else {
                continue;
            };
            if path.extension().is_some_and(|extension| extension == "yml") {
                text = change(&text);
            }
            let inside = path.strip_prefix(repository).unwrap().to_str().unwrap();
            machine.write_file(&format!("{TREE}/{inside}"), &text);
        }
    }
}

/// Rules or an Alertmanager configuration with the durations that delay a page divided by `factor`:
/// `for`, `keep_firing_for`, and how often a group is evaluated, notified of and repeated. None that
/// is not zero becomes shorter than a second. Understands keys that stand on lines of their own.
pub fn shorten(text: &str, factor: u64) -> String {
    let keys = [
        "for",
        "keep_firing_for",
        "interval",
        "group_wait",
        "group_interval",
        "repeat_interval",
    ];
    with_durations(text, &keys, |duration| shortened(duration, factor))
}

/// A Prometheus configuration that scrapes and evaluates every second.
pub fn every_second(text: &str) -> String {
    let keys = ["scrape_interval", "scrape_timeout", "evaluation_interval"];
    with_durations(text, &keys, |_| 1000)
}

fn shortened(milliseconds: u64, factor: u64) -> u64 {
    match milliseconds {
        0 => 0,
        _ => (milliseconds / factor).max(1000),
    }
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
fn only_durations_that_delay_a_page_are_shortened() {
    let rules = "\
groups:
  - name: units
    interval: 1m # a comment
    rules:
      - alert: A
        expr: |
          rate(x_total[5m]) > 0 # for: 5m
        for: 1h30m
        keep_firing_for: \"90s\"
      - for: 30s
        expr: max_over_time(x[10m:1m])
";
    let shortened = "\
groups:
  - name: units
    interval: 1000ms
    rules:
      - alert: A
        expr: |
          rate(x_total[5m]) > 0 # for: 5m
        for: 90000ms
        keep_firing_for: 1500ms
      - for: 1000ms
        expr: max_over_time(x[10m:1m])
";
    assert_eq!(shorten(rules, 60), shortened);
    assert_eq!(every_second(rules), rules);

    let route = "  group_wait: 0s\n  group_interval: 5m\n  repeat_interval: 1d\n# group_wait: 1m\n";
    assert_eq!(
        shorten(route, 20),
        "  group_wait: 0ms\n  group_interval: 15000ms\n  repeat_interval: 4320000ms\n# group_wait: 1m\n"
    );
    assert_eq!(
        every_second("  scrape_interval: 15s\n  scrape_timeout: 10s\n  interval: 15s\n"),
        "  scrape_interval: 1000ms\n  scrape_timeout: 1000ms\n  interval: 15s\n"
    );
}
