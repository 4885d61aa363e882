//! The command blocks of the runbook, run as they are written there.

use std::collections::BTreeMap;

use crate::machine::Machine;

const RUNBOOK: &str = include_str!("../../rules/runbook.md");
const RULES: &str = include_str!("../../rules/baseline.rules.yml");

/// What shells and programs say of a command that is written wrongly. That it ends with an error may
/// be its answer.
const MISTAKES: [&str; 6] = [
    "unbound variable",
    "command not found",
    "invalid option",
    "unrecognized option",
    "unexpected argument",
    "syntax error",
];

/// The fixes of the runbook, by their identifiers: what stands in each block `sh fix=IDENTIFIER`.
pub fn fixes() -> BTreeMap<&'static str, &'static str> {
    let mut fixes = BTreeMap::new();
    for block in RUNBOOK.split("\n```sh fix=").skip(1) {
        let (identifier, rest) = block.split_once('\n').expect("a line after the fence");
        let (commands, _) = rest.split_once("\n```").expect("an end of the block");
        let before = fixes.insert(identifier.trim(), commands);
        assert_eq!(before, None, "two blocks are called {identifier}");
    }
    fixes
}

/// The sections of the runbook: their texts by their headlines.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let sections = RUNBOOK.split("\n##").skip(1);
    sections
        .map(|section| {
            let (headline, text) = section.split_once('\n').expect("a line after a headline");
            (headline.trim_start_matches('#').trim(), text)
        })
        .collect()
}

/// The headline of the section about what a page names as cause, such as `dependency x.service`.
pub fn section_of_cause(cause: &str) -> Option<String> {
    let about = |headline: &str| {
        let rest = cause.strip_prefix(headline.strip_prefix("Cause: ")?)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| headline.to_owned())
    };
    sections().into_keys().find_map(about)
}

impl Machine {
    /// Does what the runbook says, with these parameters.
    #[track_caller]
    pub fn fix(&self, identifier: &str, parameters: &[(&str, &str)]) {
        let fixes = fixes();
        let commands = fixes
            .get(identifier)
            .unwrap_or_else(|| panic!("no block {identifier} in the runbook: {:?}", fixes.keys()));
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut argv = vec!["env"];
        argv.extend(parameters.iter().map(String::as_str));
        argv.extend(["bash", "-euo", "pipefail", "-c", commands]);
        self.run(&argv);
    }

    /// Runs the commands that only look of one section of the runbook, as somebody types them.
    #[track_caller]
    pub fn diagnose(&self, section: &str, parameters: &BTreeMap<String, String>) {
        let sections = sections();
        let text = sections
            .get(section)
            .unwrap_or_else(|| panic!("no section {section} in the runbook"));
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for block in text.split("\n```sh read-only\n").skip(1) {
            let (commands, _) = block.split_once("\n```").expect("an end of the block");
            let mut argv = vec!["env"];
            argv.extend(parameters.iter().map(String::as_str));
            argv.extend(["bash", "-u", "-c", commands]);
            let output = self.try_run(&argv);
            let right = !matches!(output.status.code(), None | Some(124 | 126 | 127))
                && !MISTAKES.iter().any(|it| output.stderr.contains(it));
            assert!(right, "{section}: {output}");
        }
    }
}

/// The incidents' sources without the blanks that formatting puts there.
fn incidents() -> String {
    [
        include_str!("notes.rs"),
        include_str!("later.rs"),
        include_str!("dependencies.rs"),
        include_str!("others.rs"),
        include_str!("watcher.rs"),
    ]
    .concat()
    .split_whitespace()
    .collect()
}

#[test]
fn every_fix_repairs_an_incident() {
    let incidents = incidents();
    let unused: Vec<_> = fixes()
        .into_keys()
        .filter(|identifier| !incidents.contains(&format!(".fix(\"{identifier}\"")))
        .collect();
    assert!(unused.is_empty(), "no incident is repaired by {unused:?}");
}

#[test]
fn every_alert_comes_of_an_incident() {
    let cannot_come = [
        // A trend of hours.
        "BaselineDiskFilling",
        // A signal that systemd sends and the bus loses: a bug, or a host that stands still.
        "BaselineSignalsMissed",
        // More than five seconds a scrape; one that is made every second has but one.
        "BaselineScrapeSlow",
        // On the dashboard only.
        "BaselineRunningCountOff",
        // Comes in every replay, before it begins.
        "BaselineWatchdog",
    ];
    let incidents = incidents();
    let comes = |alert: &str| {
        ["page", "ticket", ".firing"]
            .iter()
            .any(|how| incidents.contains(&format!("{how}(\"{alert}\"")))
    };
    let alerts = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        assert_ne!(
            comes(alert),
            cannot_come.contains(&alert),
            "{alert} has to come of an incident, or stand on the list with a reason"
        );
    }
}

#[test]
fn every_cause_of_the_runbook_is_that_of_an_incident() {
    let incidents = incidents();
    for (headline, text) in sections() {
        let Some(cause) = headline.strip_prefix("Cause: ") else {
            continue;
        };
        // The others send on to the section of an alert.
        if text.contains("```sh read-only") {
            let cause: String = cause.split_whitespace().collect();
            let named = [format!("\"{cause}"), format!(",{cause}\"")];
            let comes = named.iter().any(|it| incidents.contains(it));
            assert!(comes, "no incident has the cause {cause}");
        }
    }
}

#[test]
fn a_cause_has_a_section_of_the_runbook() {
    let section = |cause| section_of_cause(cause).unwrap_or_default();
    assert_eq!(section("dependency quantum-a.service"), "Cause: dependency");
    assert_eq!(section("missing file"), "Cause: missing file");
    assert_eq!(section("missing files"), "");
}
