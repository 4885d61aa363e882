//! The report of `check`: a table for a person, or JSON for a program.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::command_line::Output;
use crate::findings::{Findings, Judged, Status, fix, judge};
use crate::observation::Observation;
use crate::views::{self, views};

/// The report as it is printed, last newline included, and what it comes to. The text carries
/// colours: whoever prints it to anything but a terminal takes them out.
pub fn report(observation: &Observation, output: Output) -> (String, Status) {
    let findings = judge(observation);
    let text = match output {
        Output::Text => text(observation, &findings),
        Output::Json => json(observation, &findings),
    };
    (text, findings.status())
}

fn text(observation: &Observation, findings: &Findings) -> String {
    let baseline = &observation.baseline;
    let mut text = format!(
        "{}: {} (baseline: {}, version {})\n\n",
        baseline.deployment,
        verdict(findings),
        baseline.source,
        baseline.version
    );
    let width = |of: fn(&crate::findings::Check) -> &str, title: &str| {
        findings
            .checks
            .iter()
            .map(|check| of(check).chars().count())
            .max()
            .max(Some(title.len()))
    };
    let name_width = width(|check| check.name, "CHECK").unwrap_or(0);
    let expected_width = width(|check| &check.expected, "EXPECTED").unwrap_or(0);
    text.push_str(&format!(
        "STATUS    {:name_width$}  {:expected_width$}  SEEN\n",
        "CHECK", "EXPECTED"
    ));
    for check in &findings.checks {
        let style = style(check.status);
        text.push_str(&format!(
            "{style}{:8}{style:#}  {:name_width$}  {:expected_width$}  {}\n",
            check.status.word(),
            check.name,
            check.expected,
            check.seen
        ));
    }
    for (judged, sentence) in deviating(findings) {
        text.push_str(&format!("\n{sentence}\n    expected: {}", judged.expected));
        if let Some(because) = &judged.because {
            text.push_str(&format!(", because: {because}"));
        }
        text.push_str(&format!(
            "; tier {}\n    look at:  journalctl --unit={} --lines=50\n",
            judged.tier,
            fix::quoted(&judged.unit.name)
        ));
        if let Some(clue) = &judged.clue {
            text.push_str(&format!("    it wrote: {}\n", clue.line));
        }
    }
    for (number, remark) in findings.remarks.iter().enumerate() {
        let word = match remark.status {
            Status::Violated => "violated",
            Status::Unknown => "unknown",
            Status::Holds => "warning",
        };
        let gap = if number == 0 { "\n" } else { "" };
        text.push_str(&format!("{gap}{word}: {}\n", remark.sentence));
    }
    let unseen = views(observation)
        .into_iter()
        .filter_map(|view| Some((view.unseen.clone()?, view)));
    for (number, (unseen, view)) in unseen.enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        let grant = view.grant;
        let grant = match view.level {
            Some(level) => format!("{}/{level} ({grant})", views::View::LEVELS),
            None => grant.to_owned(),
        };
        text.push_str(&format!("{gap}not seen from here: {unseen}; add {grant}\n"));
    }
    text
}

/// What all the checks come to, in a few words.
pub fn verdict(findings: &Findings) -> String {
    let all = findings.checks.len();
    let count = |status| {
        findings
            .checks
            .iter()
            .filter(|check| check.status == status)
            .count()
    };
    match (count(Status::Violated), count(Status::Unknown)) {
        (0, 0) => format!("all {all} checks hold"),
        (violated, 0) => format!("{violated} of {all} checks violated"),
        (0, unknown) => format!("{unknown} of {all} checks could not be made"),
        (violated, unknown) => {
            format!("{violated} of {all} checks violated, {unknown} could not be made")
        }
    }
}

fn style(status: Status) -> Style {
    let colour = match status {
        Status::Holds => AnsiColor::Green,
        Status::Violated => AnsiColor::Red,
        Status::Unknown => AnsiColor::Yellow,
    };
    Style::new().bold().fg_color(Some(colour.into()))
}

fn deviating(findings: &Findings) -> impl Iterator<Item = (&Judged, String)> {
    findings
        .units
        .iter()
        .filter_map(|judged| Some((judged, judged.sentence()?)))
}

/// The shape of `--output json`. A field that changes its meaning or goes raises `version`; new
/// fields may come without.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    deployment: &'a str,
    baseline: Source<'a>,
    status: &'static str,
    checks: Vec<Check<'a>>,
    units: Vec<Unit<'a>>,
    remarks: Vec<Remark<'a>>,
    views: Vec<View>,
}

#[derive(Serialize)]
struct Source<'a> {
    source: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'static str,
    status: &'static str,
    expected: &'a str,
    seen: &'a str,
}

/// A unit that deviates; those that do not are left out.
#[derive(Serialize)]
struct Unit<'a> {
    name: &'a str,
    expected: &'static str,
    tier: u8,
    because: Option<&'a str>,
    deviations: Vec<&'static str>,
    causes: Vec<Cause<'a>>,
    wrote: Option<&'a str>,
    sentence: String,
}

/// What is to be said of the dependencies, and of units that stand as they should.
#[derive(Serialize)]
struct Remark<'a> {
    check: &'static str,
    status: &'static str,
    subject: &'a str,
    sentence: &'a str,
}

/// What takes more than a user may need to have.
#[derive(Serialize)]
struct View {
    view: &'static str,
    seen: bool,
    unseen: Option<String>,
    level: Option<&'static str>,
    grant: &'static str,
}

#[derive(Serialize)]
struct Cause<'a> {
    cause: &'static str,
    detail: &'a str,
}

fn json(observation: &Observation, findings: &Findings) -> String {
    let baseline = &observation.baseline;
    let report = Report {
        version: 1,
        deployment: &baseline.deployment,
        baseline: Source {
            source: &baseline.source,
            version: &baseline.version,
        },
        status: findings.status().word(),
        checks: findings
            .checks
            .iter()
            .map(|check| Check {
                name: check.name,
                status: check.status.word(),
                expected: &check.expected,
                seen: &check.seen,
            })
            .collect(),
        units: deviating(findings)
            .map(|(judged, sentence)| Unit {
                name: &judged.unit.name,
                expected: judged.expected,
                tier: judged.tier,
                because: judged.because.as_deref(),
                deviations: judged
                    .deviating()
                    .map(crate::findings::Deviation::word)
                    .collect(),
                causes: judged
                    .causes
                    .iter()
                    .map(|(cause, detail)| Cause { cause, detail })
                    .collect(),
                wrote: judged.clue.as_ref().map(|clue| clue.line.as_str()),
                sentence,
            })
            .collect(),
        remarks: findings
            .remarks
            .iter()
            .map(|remark| Remark {
                check: remark.check,
                status: remark.status.word(),
                subject: &remark.subject,
                sentence: &remark.sentence,
            })
            .collect(),
        views: views(observation)
            .into_iter()
            .map(|view| View {
                view: view.name,
                seen: view.unseen.is_none(),
                unseen: view.unseen,
                level: view.level,
                grant: view.grant,
            })
            .collect(),
    };
    // Text and numbers only: there is nothing in it that JSON cannot say.
    let mut json = serde_json::to_string_pretty(&report).unwrap_or_default();
    json.push('\n');
    json
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::baseline::Baseline;
    use crate::observation::{LastReload, Took};
    use crate::probe::unit_files::UnitFiles;
    use crate::process::Process;
    use crate::systemd::Link;

    /// What a look finds where nothing answers.
    pub fn unknown() -> Observation {
        Observation {
            at: std::time::SystemTime::UNIX_EPOCH,
            host: "host".to_owned(),
            baseline: Arc::new(Baseline::embedded()),
            units: Err("systemd does not answer".to_owned()),
            hostnames: Vec::new(),
            redis: Vec::new(),
            write_paths: Err("systemd does not answer".to_owned()),
            unit_files: UnitFiles {
                references: Err("the unit files do not answer".to_owned()),
                drift: None,
            },
            clues: std::collections::HashMap::new(),
            journal_readable: None,
            took: Took::default(),
            link: Link {
                connected: false,
                reconnects: 0,
                sent: 0,
                received: 0,
                resyncs: 0,
                corrections: 0,
            },
            last_reload: LastReload {
                number: 0,
                successful: true,
                success_at: std::time::UNIX_EPOCH,
            },
            process: Process::default(),
        }
    }

    #[test]
    fn what_cannot_be_told_is_unknown_with_its_reason() {
        let (text, status) = report(&unknown(), Output::Text);
        assert_eq!(status, Status::Unknown);
        assert!(text.starts_with(
            "quantum-trader: 8 of 8 checks could not be made (baseline: embedded, version "
        ));
        assert_eq!(text.matches("systemd does not answer").count(), 7, "{text}");
        assert!(!text.contains("holds"), "{text}");
    }

    #[test]
    fn what_is_not_seen_is_told_with_what_shows_it() {
        let observation = Observation {
            journal_readable: Some(false),
            ..unknown()
        };
        let (text, _) = report(&observation, Output::Text);
        assert!(
            text.ends_with(
                "\n\nnot seen from here: the journal, which tells why a unit failed; add \
                 /usr/share/baseline-exporter/levels/journal.conf (the group systemd-journal)\n"
            ),
            "{text}"
        );
        let (json, _) = report(&observation, Output::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let view = &json["views"][0];
        assert_eq!(view["view"], "journal");
        assert_eq!(view["seen"], false);
        assert_eq!(view["level"], "journal.conf");
    }

    #[test]
    fn a_command_with_an_odd_name_can_be_typed() {
        let observation = crate::metrics::tests::observation();
        let mut observation = Arc::into_inner(observation).unwrap();
        let units = observation.units.as_mut().unwrap();
        let mut watched = units.watched.iter_mut().map(|observed| &mut observed.unit);
        let odd = watched.find(|unit| unit.name.starts_with("odd-")).unwrap();
        Arc::make_mut(odd).active_state = "failed".into();
        let (text, _) = report(&observation, Output::Text);
        let command = "journalctl --unit='odd-\\x2dname\".service' --lines=50";
        assert!(text.contains(command), "{text}");
    }

    #[test]
    fn the_json_has_its_documented_fields() {
        let (json, _) = report(&unknown(), Output::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["status"], "unknown");
        assert_eq!(json["baseline"]["source"], "embedded");
        assert_eq!(json["checks"][1]["name"], "running_units");
        assert_eq!(json["checks"][1]["expected"], "12 running");
        assert_eq!(json["units"], serde_json::json!([]));
        assert_eq!(json["views"], serde_json::json!([]));
    }
}
