//! What is wrong, worst first, each with its suspected cause and what to type. What fails for one
//! reason is one trouble, as it is one page of the alerts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::dependencies::{HostnameDeviation, hostname_deviation, in_force, tell_reference};
use super::{Deviation, Findings, Judged, Remark, Status, fix};
use crate::observation::Observation;
use crate::probe::unit_files::{Dangling, Effect};
use crate::probe::write_path::WritePath;

/// One thing that is wrong.
#[derive(Debug)]
pub struct Trouble<'a> {
    /// What is wrong, in a word or two.
    pub word: &'static str,
    /// What it is about: a unit, a name, an endpoint, `unit files`.
    pub subject: String,
    /// What was seen, in sentences; of units [`Judged::told`] says it.
    pub seen: Vec<String>,
    /// The units that are in it, first the one that others hang on, then the worst.
    pub units: Vec<&'a Judged>,
    /// Why, as far as can be suspected, in sentences.
    pub causes: Vec<String>,
    /// What to type, line by line.
    pub fix: Vec<String>,
    /// The anchor of its section of the runbook.
    pub section: String,
    /// 1 pages, 2 opens a ticket, 3 can wait.
    tier: u8,
}

/// Everything that is violated, worst first.
pub fn troubles<'a>(observation: &Observation, findings: &'a Findings) -> Vec<Trouble<'a>> {
    let violated: Vec<&Remark> = findings
        .remarks
        .iter()
        .filter(|remark| remark.status == Status::Violated)
        .collect();
    let mut troubles: Vec<Trouble<'a>> = by_reason(&findings.units)
        .into_iter()
        .map(|(reason, units)| of_units(observation, &violated, reason, units))
        .collect();
    let told: BTreeSet<String> = troubles
        .iter()
        .flat_map(|trouble| trouble.causes.iter().cloned())
        .collect();
    let untold: Vec<&Remark> = violated
        .into_iter()
        .filter(|remark| !told.contains(&remark.sentence))
        .collect();
    troubles.extend(
        untold
            .iter()
            .filter_map(|remark| of_dependency(observation, remark)),
    );
    troubles.extend(of_write_paths(observation, findings, &untold));
    troubles.extend(of_strangers(observation));
    troubles.extend(of_references(observation));
    troubles.extend(of_unit_files(observation, &untold));
    troubles.sort_by_key(|trouble| {
        let worst = trouble.units.iter().flat_map(|unit| unit.deviating()).min();
        (
            trouble.tier,
            worst.is_none(),
            worst,
            Reverse(trouble.units.len()),
        )
    });
    troubles
}

/// Why units are in trouble: a cause and its detail, or `unit` and a unit's own name.
type Reason<'a> = (&'static str, &'a str);

/// The cause of this unit that lies outside of it: whoever has the same is in the same trouble.
fn shared(judged: &Judged) -> Option<Reason<'_>> {
    let is_shared =
        |cause: &str| ["dependency", "hostname", "redis", "write_path"].contains(&cause);
    judged
        .causes
        .iter()
        .find(|(cause, detail)| is_shared(cause) && !detail.is_empty())
        .map(|(cause, detail)| (*cause, detail.as_str()))
}

/// The units that deviate, by the reason of their trouble.
fn by_reason(units: &[Judged]) -> BTreeMap<Reason<'_>, Vec<&Judged>> {
    let deviating: BTreeMap<&str, &Judged> = units
        .iter()
        .filter(|judged| !judged.holds())
        .map(|judged| (&*judged.unit.id, judged))
        .collect();
    let mut groups: BTreeMap<Reason<'_>, Vec<&Judged>> = BTreeMap::new();
    for judged in units.iter().filter(|judged| !judged.holds()) {
        let reason = match shared(judged) {
            // The root that it hangs on is in trouble itself: then for the same reason.
            Some(("dependency", root)) if deviating.contains_key(root) => {
                let root = deviating[root];
                shared(root).unwrap_or(("unit", &*root.unit.name))
            }
            Some(reason) => reason,
            None => ("unit", &*judged.unit.name),
        };
        groups.entry(reason).or_default().push(judged);
    }
    for units in groups.values_mut() {
        units.sort_by_key(|judged| (judged.dependency().is_some(), judged.deviating().min()));
    }
    groups
}

fn of_units<'a>(
    observation: &Observation,
    violated: &[&Remark],
    (cause, detail): Reason<'_>,
    units: Vec<&'a Judged>,
) -> Trouble<'a> {
    let first = units[0];
    let ids: BTreeSet<&str> = units.iter().map(|judged| &*judged.unit.id).collect();
    // They are down because of one that is told of here, too.
    let (dependent, own): (Vec<&Judged>, Vec<&Judged>) = units
        .iter()
        .partition(|judged| judged.dependency().is_some_and(|root| ids.contains(root)));

    let mut causes: Vec<String> = Vec::new();
    let of_cause = violated.iter().filter(|remark| match cause {
        "hostname" => remark.check == "hostnames" && remark.subject == detail,
        "redis" => remark.check == "redis" && remark.subject == detail,
        "write_path" => own
            .iter()
            .any(|judged| remark.subject == subject_of(detail, &judged.unit.name)),
        _ => false,
    });
    let told = own.iter().flat_map(|judged| judged.told_causes());
    for sentence in told.chain(of_cause.map(|remark| remark.sentence.clone())) {
        if !causes.contains(&sentence) {
            causes.push(sentence);
        }
    }

    let mut lines = of_cause_lines(observation, (cause, detail), &own);
    match cause {
        "unit" => {
            let own_causes = first.causes.iter();
            lines.extend(
                own_causes.flat_map(|(cause, detail)| fix::cause(&first.unit.name, cause, detail)),
            );
            lines.extend(fix::unit(first, &observation.baseline));
        }
        // systemd starts those that loop again by itself.
        "hostname" | "redis" => {
            let gave_up: Vec<&Judged> = own
                .iter()
                .copied()
                .filter(|judged| !judged.is(Deviation::Restarting))
                .collect();
            lines.extend(fix::restart(&names(&gave_up)));
        }
        "dependency" => lines.extend(fix::start(&names(&own))),
        _ => lines.extend(fix::restart(&names(&own))),
    }
    lines.extend(fix::start(&names(&dependent)));

    Trouble {
        word: first.deviating().min().map_or("", in_words),
        subject: first.unit.name.to_string(),
        seen: Vec::new(),
        causes,
        fix: lines,
        section: section(observation, (cause, detail), first),
        tier: units.iter().map(|judged| judged.tier).min().unwrap_or(3),
        units,
    }
}

fn names<'a>(units: &[&'a Judged]) -> Vec<&'a str> {
    units.iter().map(|judged| &*judged.unit.name).collect()
}

/// What to type against what lies outside of the units.
fn of_cause_lines(
    observation: &Observation,
    (cause, detail): Reason<'_>,
    units: &[&Judged],
) -> Vec<String> {
    match cause {
        "hostname" => hostname_lines(observation, detail),
        "redis" => redis_lines(observation, detail),
        "write_path" => {
            let paths = observation.write_paths.iter().flatten();
            paths
                .filter(|path| {
                    let of_units = units.iter().any(|judged| judged.unit.name == path.unit);
                    of_units && in_force(path).reason.is_writable() == Some(false)
                })
                .flat_map(write_path_lines)
                .collect()
        }
        "dependency" => fix::cause("", cause, detail),
        _ => Vec::new(),
    }
}

fn hostname_lines(observation: &Observation, name: &str) -> Vec<String> {
    let mut hostnames = observation.hostnames.iter();
    let found = hostnames.find(|hostname| hostname.name == name);
    found.map_or_else(Vec::new, |hostname| {
        let deviation = hostname_deviation(hostname).ok().flatten();
        deviation.map_or_else(Vec::new, |deviation| {
            fix::hostname(name, &hostname.expected, deviation)
        })
    })
}

fn redis_lines(observation: &Observation, name: &str) -> Vec<String> {
    let mut endpoints = observation.redis.iter();
    let found = endpoints.find(|endpoint| endpoint.name == name);
    found.map_or_else(Vec::new, |endpoint| fix::redis(endpoint.up == Some(true)))
}

/// Nothing where a restart of the unit is all that it takes.
fn write_path_lines(path: &WritePath) -> Vec<String> {
    if path.process().is_some() && path.next_start.reason.is_writable() == Some(true) {
        return Vec::new();
    }
    let shown = path.path.display().to_string();
    fix::write_path(&path.unit, &shown, in_force(path).reason)
}

/// How a remark on a path names it.
fn subject_of(path: &str, unit: &str) -> String {
    format!("{path} of {unit}")
}

/// A name or a Redis that no unit is in trouble for.
fn of_dependency<'a>(observation: &Observation, remark: &Remark) -> Option<Trouble<'a>> {
    let subject = remark.subject.as_str();
    let (word, cause, fix) = match remark.check {
        "hostnames" => {
            let word = match hostname_standing(observation, subject) {
                Some(HostnameDeviation::Unresolved) => "does not resolve",
                _ => "has a wrong address",
            };
            (word, "hostname", hostname_lines(observation, subject))
        }
        "redis" => {
            let word = if redis_is_up(observation, subject) {
                "refuses writes"
            } else {
                "does not answer"
            };
            (word, "redis", redis_lines(observation, subject))
        }
        _ => return None,
    };
    Some(Trouble {
        word,
        subject: subject.to_owned(),
        seen: vec![remark.sentence.clone()],
        units: Vec::new(),
        causes: Vec::new(),
        fix,
        section: section_of_shared(observation, (cause, subject)).to_owned(),
        tier: 1,
    })
}

/// Units that are up, but cannot write.
fn of_write_paths<'a>(
    observation: &Observation,
    findings: &Findings,
    untold: &[&Remark],
) -> Vec<Trouble<'a>> {
    let mut by_unit: BTreeMap<&str, Vec<(&WritePath, &Remark)>> = BTreeMap::new();
    for path in observation.write_paths.iter().flatten() {
        let subject = subject_of(&path.path.display().to_string(), &path.unit);
        let of_path =
            |remark: &&&Remark| remark.check == "write_paths" && remark.subject == subject;
        if let Some(remark) = untold.iter().find(of_path) {
            by_unit.entry(&path.unit).or_default().push((path, remark));
        }
    }
    let of_unit = |(unit, paths): (&str, Vec<(&WritePath, &Remark)>)| {
        let lines = paths.iter().flat_map(|(path, _)| write_path_lines(path));
        let judged = findings
            .units
            .iter()
            .find(|judged| &*judged.unit.name == unit);
        Trouble {
            word: "cannot write",
            subject: unit.to_owned(),
            seen: paths
                .iter()
                .map(|(_, remark)| remark.sentence.clone())
                .collect(),
            units: Vec::new(),
            causes: Vec::new(),
            fix: lines.chain(fix::restart(&[unit])).collect(),
            section: "baselinewritepathdenied".to_owned(),
            tier: judged.map_or(1, |judged| judged.tier),
        }
    };
    by_unit.into_iter().map(of_unit).collect()
}

/// Units that failed and that the baseline does not know.
fn of_strangers<'a>(observation: &Observation) -> Vec<Trouble<'a>> {
    let failed = observation
        .units
        .iter()
        .flat_map(|units| &units.others.failed);
    failed
        .map(|unit| Trouble {
            word: in_words(Deviation::Failed),
            subject: unit.clone(),
            seen: vec![format!(
                "{unit}, which the baseline does not name, has failed"
            )],
            units: Vec::new(),
            causes: Vec::new(),
            fix: fix::foreign(unit),
            section: "baselineforeignunitfailed".to_owned(),
            tier: 2,
        })
        .collect()
}

/// Unit files that name what is not there, by what they name.
fn of_references<'a>(observation: &Observation) -> Vec<Trouble<'a>> {
    let mut by_target: BTreeMap<&str, Vec<&Dangling>> = BTreeMap::new();
    for edge in observation.unit_files.references.iter().flatten() {
        by_target.entry(&edge.to).or_default().push(edge);
    }
    by_target
        .into_iter()
        .map(|(to, edges)| {
            let blocks = edges.iter().any(|edge| edge.effect == Effect::Blocks);
            Trouble {
                word: "named, but not there",
                subject: to.to_owned(),
                seen: edges.iter().map(|edge| tell_reference(edge)).collect(),
                units: Vec::new(),
                causes: Vec::new(),
                fix: fix::reference(to),
                section: if blocks {
                    "baselinereferenceblocking".to_owned()
                } else {
                    "baselinereferenceclutter".to_owned()
                },
                tier: if blocks { 2 } else { 3 },
            }
        })
        .collect()
}

/// Unit files that differ from the snapshot.
fn of_unit_files<'a>(observation: &Observation, untold: &[&Remark]) -> Option<Trouble<'a>> {
    let remark = untold.iter().find(|remark| remark.check == "unit_files")?;
    let Some(Ok(drift)) = &observation.unit_files.drift else {
        return None;
    };
    let files = drift
        .files
        .iter()
        .filter_map(|(file, difference)| Some(format!("{file}: {}", difference.as_ref()?.word())));
    Some(Trouble {
        word: "differ from the snapshot",
        subject: remark.subject.clone(),
        seen: files.collect(),
        units: Vec::new(),
        causes: Vec::new(),
        fix: fix::drift(&observation.baseline),
        section: "baselineunitfiledrift".to_owned(),
        tier: 3,
    })
}

fn hostname_standing(observation: &Observation, name: &str) -> Option<HostnameDeviation> {
    let mut hostnames = observation.hostnames.iter();
    hostname_deviation(hostnames.find(|hostname| hostname.name == name)?)
        .ok()
        .flatten()
}

fn redis_is_up(observation: &Observation, name: &str) -> bool {
    let mut endpoints = observation.redis.iter();
    endpoints.any(|endpoint| endpoint.name == name && endpoint.up == Some(true))
}

fn section_of_shared(observation: &Observation, (cause, detail): Reason<'_>) -> &'static str {
    match cause {
        "hostname" => match hostname_standing(observation, detail) {
            Some(HostnameDeviation::Unexpected) => "baselinehostnameunexpected",
            _ => "baselinehostnameunresolved",
        },
        "redis" if redis_is_up(observation, detail) => "baselineredisnotwritable",
        "redis" => "baselineredisdown",
        "write_path" => "baselinewritepathdenied",
        _ => "cause-dependency",
    }
}

fn section(observation: &Observation, reason: Reason<'_>, first: &Judged) -> String {
    if reason.0 != "unit" {
        return section_of_shared(observation, reason).to_owned();
    }
    if let Some((cause, _)) = first.causes.first() {
        return format!("cause-{}", cause.replace('_', "-"));
    }
    let of_deviation = match (first.expected, first.deviating().min()) {
        ("absent", _) => "baselineabsentunitappeared",
        ("disabled", _) => "baselinedisabledunitchanged",
        (_, Some(Deviation::Restarting)) => "baselineunitrestartloop",
        (_, Some(Deviation::ActivatingTooLong)) => "baselineunitstuck",
        (_, Some(Deviation::Stopped | Deviation::Missing | Deviation::Masked)) => {
            if first.unit.suffix() == "service" {
                "baselineunitdown"
            } else {
                "baselineunitinactive"
            }
        }
        _ => "baselineunitfailed",
    };
    of_deviation.to_owned()
}

/// The deviation in a word or two, for a person.
pub fn in_words(deviation: Deviation) -> &'static str {
    match deviation {
        Deviation::Failed => "failed",
        Deviation::Restarting => "restarts again and again",
        Deviation::ActivatingTooLong => "stuck in its start",
        Deviation::Stopped => "stopped",
        Deviation::Missing => "has no unit file",
        Deviation::Masked => "masked",
        Deviation::Present => "exists, though it should not",
        Deviation::Enabled => "enabled, though it should not be",
        Deviation::Running => "runs, though it should not",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::judge;
    use crate::findings::tests::{all_causes, judged_as};

    const ALL: [Deviation; 9] = [
        Deviation::Failed,
        Deviation::Restarting,
        Deviation::ActivatingTooLong,
        Deviation::Stopped,
        Deviation::Missing,
        Deviation::Masked,
        Deviation::Present,
        Deviation::Enabled,
        Deviation::Running,
    ];

    /// The anchors of the runbook's headings, as GitHub and most others make them.
    fn anchors() -> BTreeSet<String> {
        include_str!("../../rules/runbook.md")
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .map(|title| title.to_lowercase().replace(": ", "-").replace(' ', "-"))
            .collect()
    }

    #[test]
    fn every_section_is_in_the_runbook() {
        let observation = crate::metrics::tests::observation();
        let mut sections: BTreeSet<String> = BTreeSet::new();
        for expected in ["running", "active", "absent", "disabled", "watched"] {
            for deviation in ALL {
                for name in ["a.service", "a.timer"] {
                    let mut judged = judged_as(name, expected, &[deviation]);
                    sections.insert(section(&observation, ("unit", name), &judged));
                    for cause in all_causes() {
                        judged.causes = vec![(cause, String::new())];
                        sections.insert(section(&observation, ("unit", name), &judged));
                    }
                }
            }
        }
        for reason in [
            ("hostname", "db_alias"),
            ("hostname", "no such"),
            ("redis", "cache"),
            ("redis", "no such"),
            ("write_path", "/x"),
            ("dependency", "a.target"),
        ] {
            sections.insert(section_of_shared(&observation, reason).to_owned());
        }
        let findings = judge(&observation);
        let of_all = troubles(&observation, &findings);
        assert!(of_all.len() > 3, "{of_all:#?}");
        sections.extend(of_all.into_iter().map(|trouble| trouble.section));
        assert!(sections.len() > 25, "{sections:?}");
        let anchors = anchors();
        for section in sections {
            assert!(
                anchors.contains(&section),
                "{section} is not in {anchors:?}"
            );
        }
    }

    fn deviating(name: &str, deviation: Deviation, causes: &[(&'static str, &str)]) -> Judged {
        let mut judged = judged_as(name, "running", &[deviation]);
        judged.causes = causes
            .iter()
            .map(|(cause, detail)| (*cause, (*detail).to_owned()))
            .collect();
        judged
    }

    #[test]
    fn what_fails_for_one_reason_is_one_trouble() {
        let mut observation = crate::report::tests::unknown();
        observation.unit_files.references = Ok(Vec::new());
        let redis = ("redis", "main");
        let findings = Findings {
            checks: Vec::new(),
            running: (0, 0),
            remarks: vec![Remark {
                check: "redis",
                status: Status::Violated,
                subject: "main".to_owned(),
                sentence: "redis main does not answer".to_owned(),
            }],
            units: vec![
                deviating(
                    "c.service",
                    Deviation::Stopped,
                    &[("dependency", "b.service")],
                ),
                deviating("a.service", Deviation::Restarting, &[redis]),
                deviating("b.service", Deviation::Failed, &[redis]),
                deviating("alone.service", Deviation::Stopped, &[]),
                deviating(
                    "d.service",
                    Deviation::Stopped,
                    &[("dependency", "x.target")],
                ),
                judged_as("well.service", "running", &[]),
            ],
        };
        let troubles = troubles(&observation, &findings);
        let told: Vec<Vec<&str>> = troubles
            .iter()
            .map(|trouble| trouble.units.iter().map(|unit| &*unit.unit.name).collect())
            .collect();
        assert_eq!(
            told,
            [
                vec!["b.service", "a.service", "c.service"],
                vec!["d.service"],
                vec!["alone.service"],
            ]
        );
        assert_eq!(
            troubles[0].causes,
            [
                "redis main does not answer as it should",
                "redis main does not answer"
            ]
        );
        // The loop ends by itself, what depends on it has to be started.
        assert_eq!(
            troubles[0].fix,
            [
                "systemctl reset-failed b.service",
                "systemctl restart b.service",
                "systemctl start c.service"
            ]
        );
        assert_eq!(
            troubles[1].fix,
            ["systemctl start x.target", "systemctl start d.service"]
        );
    }
}
