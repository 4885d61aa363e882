//! How the host stands against its baseline: a pure function of baseline and observation.

pub mod dependencies;
pub mod fix;
pub mod troubles;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use crate::baseline::{self, Expected};
use crate::journal::{Class, Clue};
use crate::observation::{Observation, Observed, Units};
use crate::systemd::exit;
use crate::systemd::unit::{Unit, is_failure};

/// Everything found, in the order in which it is told.
#[derive(Debug)]
pub struct Findings {
    /// The documented checks.
    pub checks: Vec<Check>,
    /// Each watched unit with what is expected of it; empty while the units are unknown.
    pub units: Vec<Judged>,
    /// Services that the baseline wants running: how many do, and how many should.
    pub running: (usize, usize),
    /// What is to be said besides, in the order of the checks.
    pub remarks: Vec<Remark>,
}

/// What is to be said of something that the units depend on, or of a unit that stands as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The check that it belongs to.
    pub check: &'static str,
    /// Violated, unknown, or a warning of what still holds.
    pub status: Status,
    /// What it is about: a hostname, an endpoint, a path, a unit.
    pub subject: String,
    /// For a person at night.
    pub sentence: String,
}

impl Findings {
    /// What it all comes to: the worst answer, a violation before an unknown.
    pub fn status(&self) -> Status {
        self.checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Unknown)
    }
}

/// One documented check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name in `baseline_check`.
    pub name: &'static str,
    /// The answer.
    pub status: Status,
    /// What the baseline wants, for a person.
    pub expected: String,
    /// What was seen, for a person; or why nothing was.
    pub seen: String,
    /// How many the baseline wants: units that run, names that resolve...; 0 where it wants none of
    /// something bad, `None` where the list of them could not be read.
    pub wanted: Option<usize>,
    /// How many of those were seen; `None` where nothing could be.
    pub found: Option<usize>,
}

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As the baseline says.
    Holds,
    /// It could not be told.
    Unknown,
    /// Not as the baseline says.
    Violated,
}

impl Status {
    /// All of them, in the order of their series.
    pub const ALL: [Self; 3] = [Self::Holds, Self::Violated, Self::Unknown];

    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
        }
    }
}

/// One watched unit against the baseline.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The unit.
    pub unit: Arc<Unit>,
    /// What is expected: the word of the baseline's list, or `watched`.
    pub expected: &'static str,
    /// 1 pages, 2 opens a ticket, 3 shows on the dashboard only.
    pub tier: u8,
    /// Why the baseline expects it, in the operator's words.
    pub because: Option<String>,
    /// Each deviation that could be, and whether it is.
    pub deviations: Vec<(Deviation, bool)>,
    /// What probably caused it: a word of a closed set, and what it is about.
    pub causes: Vec<(&'static str, String)>,
    /// What it wrote to the journal before it failed, if that tells anything.
    pub clue: Option<Clue>,
}

/// How a unit can differ from what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// It failed, and systemd does not try again.
    Failed,
    /// It is restarted again and again.
    Restarting,
    /// Its start takes longer than it may.
    ActivatingTooLong,
    /// It is not active though it should be.
    Stopped,
    /// It has no unit file though it should run.
    Missing,
    /// It cannot be started: its unit file is a mask.
    Masked,
    /// It exists though it should not.
    Present,
    /// It will be started at boot though it should not.
    Enabled,
    /// It runs though it should not.
    Running,
}

impl Deviation {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::ActivatingTooLong => "activating_too_long",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
            Self::Masked => "masked",
            Self::Present => "present",
            Self::Enabled => "enabled",
            Self::Running => "running",
        }
    }
}

impl Judged {
    /// The deviations that are.
    pub fn deviating(&self) -> impl Iterator<Item = Deviation> {
        self.deviations
            .iter()
            .filter(|(_, is)| *is)
            .map(|(deviation, _)| *deviation)
    }

    fn is(&self, wanted: Deviation) -> bool {
        self.deviating().any(|deviation| deviation == wanted)
    }

    /// The unit that it is blamed on, if it is on one.
    fn dependency(&self) -> Option<&str> {
        self.causes
            .iter()
            .find(|(cause, _)| *cause == "dependency")
            .map(|(_, detail)| detail.as_str())
    }

    /// True if the other is the same unit in the same state, and was found to be the same.
    pub fn is_told_like(&self, other: &Self) -> bool {
        let Self {
            unit,
            expected,
            tier,
            because,
            deviations,
            causes,
            clue,
        } = self;
        Arc::ptr_eq(unit, &other.unit)
            && *expected == other.expected
            && *tier == other.tier
            && *because == other.because
            && *deviations == other.deviations
            && *causes == other.causes
            && *clue == other.clue
    }

    /// True if the baseline wants it running or active.
    pub fn should_be_up(&self) -> bool {
        [Expected::Running, Expected::Active]
            .iter()
            .any(|list| self.expected == list.as_str())
    }

    /// True if it stands as the baseline says.
    pub fn holds(&self) -> bool {
        self.deviating().next().is_none()
    }

    /// True if it tried to run and does not, for which its dependencies may be to blame. Who was
    /// stopped and ended well was stopped by somebody.
    fn is_in_trouble(&self) -> bool {
        [
            Deviation::Failed,
            Deviation::Restarting,
            Deviation::ActivatingTooLong,
        ]
        .into_iter()
        .any(|deviation| self.is(deviation))
    }

    /// What is wrong with it, in one sentence for a person at night; `None` if nothing is.
    pub fn sentence(&self) -> Option<String> {
        if self.holds() {
            return None;
        }
        let mut sentence = format!("{} {}", self.unit.name, self.told());
        for cause in self.told_causes() {
            sentence.push_str(&format!("; cause: {cause}"));
        }
        Some(sentence)
    }

    /// The deviations, as the end of a sentence that begins with its name; empty if there are none.
    pub fn told(&self) -> String {
        let told: Vec<String> = self
            .deviating()
            .map(|deviation| self.tell(deviation))
            .collect();
        told.join(", and ")
    }

    /// Each suspected cause, for a person at night.
    pub fn told_causes(&self) -> impl Iterator<Item = String> {
        self.causes
            .iter()
            .map(|(cause, detail)| tell_cause(cause, self.detail(cause, detail)))
    }

    /// What the cause is about: a word of the baseline, else what the journal names.
    fn detail<'a>(&'a self, cause: &str, detail: &'a str) -> &'a str {
        match &self.clue {
            Some(clue) if detail.is_empty() && clue.class.word() == cause => {
                clue.detail.as_deref().unwrap_or_default()
            }
            _ => detail,
        }
    }

    fn tell(&self, deviation: Deviation) -> String {
        let unit = &self.unit;
        match deviation {
            Deviation::Failed => {
                let gave_up = unit
                    .service
                    .as_ref()
                    .is_some_and(|service| !matches!(&*service.restart, "" | "no"));
                let gone = if unit.load_state == "not-found" {
                    ", and its unit file is gone"
                } else {
                    ""
                };
                if gave_up {
                    format!(
                        "failed and systemd gave up restarting it ({}){gone}",
                        ending(unit)
                    )
                } else {
                    format!("failed ({}){gone}", ending(unit))
                }
            }
            Deviation::Restarting => {
                let restarts = unit
                    .service
                    .as_ref()
                    .map_or(0, |service| service.n_restarts);
                format!(
                    "restarts again and again ({restarts} automatic restarts since it was last \
                     started by hand, now {}; {})",
                    unit.sub_state,
                    ending(unit)
                )
            }
            Deviation::ActivatingTooLong => {
                format!("is stuck in its start ({})", unit.sub_state)
            }
            Deviation::Stopped => match &unit.missing_requirement {
                Some((name, state)) => format!(
                    "is {} ({name}, which it requires, is {state})",
                    unit.active_state
                ),
                None if unit.job_result.as_deref() == Some("dependency") => {
                    format!(
                        "is {} (its start was refused: a unit it requires did not start)",
                        unit.active_state
                    )
                }
                None => format!("is {} ({})", unit.active_state, ending(unit)),
            },
            Deviation::Missing if unit.is_down() => "has no unit file".to_owned(),
            Deviation::Missing => {
                "runs, but its unit file is gone: it cannot be started again".to_owned()
            }
            Deviation::Masked if unit.is_down() => "is masked".to_owned(),
            Deviation::Masked => "runs, but is masked: it cannot be started again".to_owned(),
            Deviation::Present => match &unit.file_state {
                Some(state) => format!("exists ({state}) though it should be absent"),
                None => format!(
                    "is known to systemd ({}) though it should be absent",
                    unit.load_state
                ),
            },
            Deviation::Enabled => {
                format!(
                    "is {} though it should not start at boot",
                    unit.file_state.as_deref().unwrap_or("enabled")
                )
            }
            Deviation::Running => format!("is {} though it should not run", unit.active_state),
        }
    }
}

/// How the unit's last run ended, in short.
pub fn ending(unit: &Unit) -> String {
    if unit.load_state != "loaded" {
        return unit.load_state.to_string();
    }
    let Some(service) = &unit.service else {
        return unit.sub_state.to_string();
    };
    let exit = service.last_exit.map(|(code, status)| {
        let code_name = exit::code_name(code).unwrap_or("ended with");
        format!(
            "main process {code_name} {}",
            exit::status_name(code, status)
        )
    });
    let result = match (&*service.result, &*service.last_failure) {
        (result, _) if is_failure(result) => Some(result),
        (_, failure) if !unit.is_down() && is_failure(failure) => Some(failure),
        _ => None,
    };
    match (result, exit) {
        (None, None) => "it was not started".to_owned(),
        (None, Some(exit)) => format!("it ended well, {exit}"),
        (Some(result), None) => format!("result {result}"),
        (Some(result), Some(exit)) => format!("result {result}, {exit}"),
    }
}

fn tell_cause(cause: &str, detail: &str) -> String {
    let told = match cause {
        // It may be up again: what it took down stays down.
        "dependency" => format!("it depends on {detail}, which is not active or was stopped"),
        "missing_executable" => {
            "the program of ExecStart= cannot be run (203/EXEC): missing, or not executable"
                .to_owned()
        }
        "working_directory" => "WorkingDirectory= cannot be entered (200/CHDIR)".to_owned(),
        "user" => "User= or Group= does not exist (217/USER)".to_owned(),
        "namespace" => {
            "the sandbox cannot be set up (226/NAMESPACE): a path it names is missing".to_owned()
        }
        "out_of_memory" => "the kernel killed it for lack of memory".to_owned(),
        "missing_file" => {
            "a file it cannot start without is missing (EnvironmentFile=, a resource)".to_owned()
        }
        "start_limit" => "it was started too often in too short a time".to_owned(),
        "hostname" => format!("hostname {detail} does not resolve as it should"),
        "redis" => format!("redis {detail} does not answer as it should"),
        "write_path" => format!("it cannot write {detail}"),
        "missing_module" => format!("module {detail} is not there"),
        "read_only" => format!("it writes to a read-only file system {detail}"),
        "permission_denied" => format!("it is not permitted to open {detail}"),
        "address_in_use" => format!("another program has its address {detail}"),
        "out_of_space" => format!("a file system is full {detail}"),
        "too_many_files" => "it has too many files open".to_owned(),
        "connection_refused" => format!("nobody listens where it connects to {detail}"),
        other => other.to_owned(),
    };
    // Where there is no detail, its place is empty.
    told.replace("  ", " ").trim_end().to_owned()
}

/// Compares.
pub fn judge(observation: &Observation) -> Findings {
    let baseline = &observation.baseline.systemd;
    let should_run = baseline
        .units
        .iter()
        .filter(|unit| unit.expected == Expected::Running)
        .count();
    let mut findings = match &observation.units {
        Ok(units) => judge_units(observation, units, should_run),
        Err(reason) => Findings {
            checks: CHECKS
                .iter()
                .filter(|check| check.concerns(baseline))
                .map(|check| Check {
                    name: check.name,
                    status: Status::Unknown,
                    expected: check.expected(baseline),
                    seen: reason.clone(),
                    wanted: Some(check.wanted(baseline)),
                    found: None,
                })
                .collect(),
            units: Vec::new(),
            running: (0, should_run),
            remarks: Vec::new(),
        },
    };
    let judged = observation.units.is_ok().then_some(&*findings.units);
    let (checks, remarks) = dependencies::judge(observation, judged);
    findings.checks.extend(checks);
    findings.remarks.extend(remarks);
    findings
}

fn judge_units(observation: &Observation, units: &Units, should_run: usize) -> Findings {
    let baseline = &observation.baseline.systemd;
    let named: HashMap<&str, &baseline::Unit> = baseline
        .units
        .iter()
        .map(|unit| (unit.name.as_str(), unit))
        .collect();
    let mut judged: Vec<Judged> = units
        .watched
        .iter()
        .map(|observed| {
            judge_unit(
                observed,
                named.get(&*observed.unit.name).copied(),
                units.now.monotonic,
            )
        })
        .collect();
    blame_the_whole(&mut judged);
    name_the_roots(&mut judged);
    for judged in judged.iter_mut().filter(|judged| judged.is_in_trouble()) {
        add_causes(observation, judged);
    }
    let run = judged
        .iter()
        .filter(|judged| judged.expected == "running" && is_running(&judged.unit))
        .count();
    let checks = CHECKS
        .iter()
        .filter(|check| check.concerns(baseline))
        .map(|check| check.run(baseline, units, &judged))
        .collect();
    Findings {
        checks,
        remarks: judged.iter().filter_map(lost_at_boot).collect(),
        units: judged,
        running: (run, should_run),
    }
}

/// One of the documented checks, and how it is made.
struct Documented {
    name: &'static str,
    /// The list whose units it is about; `None`: all units.
    about: Option<Expected>,
}

const CHECKS: [Documented; 6] = [
    Documented {
        name: "failed_units",
        about: None,
    },
    Documented {
        name: "running_units",
        about: Some(Expected::Running),
    },
    Documented {
        name: "active_units",
        about: Some(Expected::Active),
    },
    Documented {
        name: "bad_states",
        about: None,
    },
    Documented {
        name: "absent_units",
        about: Some(Expected::Absent),
    },
    Documented {
        name: "disabled_units",
        about: Some(Expected::Disabled),
    },
];

impl Documented {
    /// A check about a list that the baseline does not have is not made.
    fn concerns(&self, baseline: &baseline::Systemd) -> bool {
        self.about
            .is_none_or(|list| baseline.units.iter().any(|unit| unit.expected == list))
    }

    fn wanted(&self, baseline: &baseline::Systemd) -> usize {
        let units = baseline.units.iter();
        units
            .filter(|unit| self.about == Some(unit.expected))
            .count()
    }

    fn expected(&self, baseline: &baseline::Systemd) -> String {
        match self.about {
            None => "none".to_owned(),
            Some(list) => format!("{} {}", self.wanted(baseline), list.as_str()),
        }
    }

    fn run(&self, baseline: &baseline::Systemd, units: &Units, judged: &[Judged]) -> Check {
        let of_list = |list: Expected| {
            judged
                .iter()
                .filter(move |judged| judged.expected == list.as_str())
        };
        let mut bad: Vec<&str> = match (self.name, self.about) {
            ("failed_units", _) => failed_units(units).collect(),
            (_, Some(list)) => of_list(list)
                .filter(|judged| !judged.holds())
                .map(|judged| &*judged.unit.name)
                .collect(),
            // Whatever is wrong with a unit that no list names shows here, too.
            _ => judged
                .iter()
                .filter(|judged| {
                    judged.is(Deviation::Failed)
                        || judged.is(Deviation::Restarting)
                        || judged.is(Deviation::ActivatingTooLong)
                        || (judged.expected == "watched" && !judged.holds())
                })
                .map(|judged| &*judged.unit.name)
                .collect(),
        };
        bad.sort_unstable();
        let found = match self.about {
            None => bad.len(),
            Some(list) => of_list(list).count() - bad.len(),
        };
        let seen = match (self.about, bad.is_empty()) {
            (None, true) => "none".to_owned(),
            (None, false) => format!("{found}: {}", bad.join(", ")),
            (Some(list), true) => format!("{found} {}", list.as_str()),
            (Some(list), false) => {
                format!("{found} {}, not so: {}", list.as_str(), bad.join(", "))
            }
        };
        let status = if bad.is_empty() {
            Status::Holds
        } else {
            Status::Violated
        };
        Check {
            name: self.name,
            status,
            expected: self.expected(baseline),
            seen,
            wanted: Some(self.wanted(baseline)),
            found: Some(found),
        }
    }
}

/// The names of all failed units of the host, watched or not; each once, whatever its aliases.
pub fn failed_units(units: &Units) -> impl Iterator<Item = &str> {
    let watched = units.watched.iter().map(|observed| &observed.unit);
    watched
        .filter(|unit| unit.active_state == "failed")
        .map(|unit| &*unit.id)
        .chain(units.others.failed.iter().map(String::as_str))
        .collect::<BTreeSet<_>>()
        .into_iter()
}

fn judge_unit(observed: &Observed, named: Option<&baseline::Unit>, now: u64) -> Judged {
    let unit = &observed.unit;
    let expected = named.map(|named| named.expected);
    let start_within = named.map_or(baseline::START_WITHIN, |named| named.start_within);
    let failed = unit.active_state == "failed";
    let missing = unit.load_state == "not-found"
        || (unit.file_sought && unit.file_state.is_none() && !unit.fragment_path.is_empty());
    let masked = unit.load_state == "masked"
        || matches!(
            unit.file_state.as_deref(),
            Some("masked" | "masked-runtime")
        );
    let enabled = matches!(
        unit.file_state.as_deref(),
        Some("enabled" | "enabled-runtime")
    );
    let troubles = [
        (Deviation::Failed, failed),
        (Deviation::Restarting, unit.is_looping(now)),
        (
            Deviation::ActivatingTooLong,
            is_stuck(unit, start_within, now),
        ),
    ];
    // Whatever is neither up, nor on its way up, nor told of as failed: deactivating, too.
    let stopped = !is_running(unit) && !failed && unit.active_state != "activating";
    let deviations: Vec<(Deviation, bool)> = match expected {
        Some(Expected::Running | Expected::Active) => troubles
            .into_iter()
            .chain([
                (Deviation::Stopped, stopped && !missing && !masked),
                (Deviation::Missing, missing),
                (Deviation::Masked, masked),
            ])
            .collect(),
        Some(Expected::Absent) => vec![
            (Deviation::Failed, failed),
            // A mask keeps a unit away for good: that is absence too.
            (
                Deviation::Present,
                !masked && (unit.file_state.is_some() || !missing),
            ),
            (Deviation::Enabled, enabled),
            (Deviation::Running, !unit.is_down()),
        ],
        Some(Expected::Disabled) => vec![
            (Deviation::Failed, failed),
            (Deviation::Missing, missing),
            (Deviation::Enabled, enabled),
            (Deviation::Running, !unit.is_down()),
        ],
        // Of a unit that nothing is expected of, trouble is told; and that what starts others at
        // boot does not stand ready.
        None => troubles
            .into_iter()
            .chain(
                matches!(unit.suffix(), "timer" | "target" | "socket" | "path")
                    .then_some((Deviation::Stopped, enabled && stopped)),
            )
            .collect(),
    };
    let mut judged = Judged {
        unit: unit.clone(),
        expected: expected.map_or("watched", Expected::as_str),
        tier: named.map_or(2, |named| named.tier),
        because: named.and_then(|named| named.because.clone()),
        deviations,
        causes: Vec::new(),
        clue: None,
    };
    if !judged.holds() {
        judged.causes = causes(unit);
    }
    judged
}

/// The warning that a unit is up, but the next boot does not start it.
fn lost_at_boot(judged: &Judged) -> Option<Remark> {
    let unit = &judged.unit;
    if !judged.should_be_up() || !judged.holds() || unit.starts_at_boot() != Some(false) {
        return None;
    }
    let name = &unit.name;
    let (check, stands) = if judged.expected == Expected::Running.as_str() {
        ("running_units", "runs")
    } else {
        ("active_units", "is active")
    };
    let why = match unit.file_state.as_deref().unwrap_or_default() {
        _ if unit.has_passing_file() => {
            "its unit file lies below /run; move it to /etc/systemd/system".to_owned()
        }
        "enabled-runtime" => {
            format!("it is enabled for this boot only; systemctl enable {name}")
        }
        "disabled" => {
            format!("it is disabled, and no unit pulls it in; systemctl enable {name}")
        }
        state => format!(
            "its unit file is {state}, and no unit pulls it in; give it a section [Install], then \
             systemctl enable {name}"
        ),
    };
    Some(Remark {
        check,
        status: Status::Holds,
        subject: name.to_string(),
        sentence: format!("{name} {stands} now, but would not come back after a reboot: {why}"),
    })
}

/// True of a unit that is up, and of a oneshot that did its work.
pub fn is_running(unit: &Unit) -> bool {
    matches!(&*unit.active_state, "active" | "reloading" | "refreshing") || ended_well(unit)
}

/// A oneshot that did its work: being inactive is how it looks.
fn ended_well(unit: &Unit) -> bool {
    unit.kind == "oneshot"
        && unit.active_state == "inactive"
        && unit.service.as_ref().is_some_and(|service| {
            service.last_exit.is_some()
                && !service.remain_after_exit
                && !is_failure(&service.result)
        })
}

/// A oneshot is activating for as long as it works, so it is never stuck by that. The time counts
/// from its latest step, for a wait for a restart is part of activating, too.
fn is_stuck(unit: &Unit, start_within: Duration, now: u64) -> bool {
    let limit = u64::try_from(start_within.as_micros()).unwrap_or(u64::MAX);
    let since = unit.stamps.state_change.monotonic;
    unit.active_state == "activating"
        && unit.kind != "oneshot"
        && !unit.sub_state.contains("auto-restart")
        && since != 0
        && now.saturating_sub(since) > limit
}

/// What systemd itself tells of the cause.
fn causes(unit: &Unit) -> Vec<(&'static str, String)> {
    let mut causes = Vec::new();
    // One that failed was started: by then what it requires was there, if only as a oneshot that had
    // done its work.
    if let Some((name, _)) = &unit.missing_requirement
        && unit.active_state != "failed"
    {
        causes.push(("dependency", name.clone()));
    }
    let Some(service) = &unit.service else {
        return causes;
    };
    let by_status = match service.last_exit {
        Some((1, 200)) => Some("working_directory"),
        Some((1, 203)) => Some("missing_executable"),
        Some((1, 217)) => Some("user"),
        Some((1, 226)) => Some("namespace"),
        _ => None,
    };
    let by_result = match &*service.last_failure {
        "oom-kill" => Some("out_of_memory"),
        "resources" => Some("missing_file"),
        "start-limit-hit" => Some("start_limit"),
        _ => None,
    };
    causes.extend(by_status.or(by_result).map(|cause| (cause, String::new())));
    causes
}

/// Blames what a stopped unit is part of, where that is down or ended with it.
fn blame_the_whole(judged: &mut [Judged]) {
    /// How far apart the two may have ended, microseconds.
    const AS_ONE: u64 = 2_000_000;
    let watched: HashMap<Arc<str>, Arc<Unit>> = judged
        .iter()
        .map(|judged| (judged.unit.id.clone(), judged.unit.clone()))
        .collect();
    for judged in judged
        .iter_mut()
        .filter(|judged| judged.is(Deviation::Stopped) && judged.dependency().is_none())
    {
        let Unit { started, ended, .. } = *judged.unit;
        let took_it_down = |whole: &&String| {
            watched.get(whole.as_str()).is_some_and(|whole| {
                let both_ended = ended != 0 && whole.ended != 0;
                let as_one = ended.abs_diff(whole.ended) <= AS_ONE && started <= whole.ended;
                whole.is_down() || (both_ended && as_one)
            })
        };
        let whole = judged.unit.part_of.iter().find(took_it_down).cloned();
        judged
            .causes
            .extend(whole.map(|whole| ("dependency", whole)));
    }
}

/// Where the unit that another one depends on is down for a dependency of its own, names the one
/// that all hang on. Of units that depend on each other in a circle the first by name has no
/// dependency to blame: whoever keeps silent about dependents must not keep silent about them all.
fn name_the_roots(judged: &mut [Judged]) {
    let mut depends_on: BTreeMap<String, String> = judged
        .iter()
        .filter_map(|judged| Some((judged.unit.id.to_string(), judged.dependency()?.to_owned())))
        .collect();
    let ids: Vec<String> = depends_on.keys().cloned().collect();
    for id in &ids {
        let chain = successors(Some(id), |id| depends_on.get(*id)).skip(1);
        if chain.take(ids.len()).any(|other| other == id) {
            depends_on.remove(id);
        }
    }
    for judged in judged {
        let is_dependency = |(cause, _): &(&str, String)| *cause == "dependency";
        let Some(place) = judged.causes.iter().position(is_dependency) else {
            continue;
        };
        let next = depends_on.get(&*judged.unit.id);
        match successors(next, |id| depends_on.get(*id)).last() {
            Some(root) => judged.causes[place].1.clone_from(root),
            None => drop(judged.causes.remove(place)),
        }
    }
}

/// Adds what its dependencies tell. Where systemd itself could not so much as start the program, no
/// server or name is to blame.
fn add_causes(observation: &Observation, judged: &mut Judged) {
    const BEFORE_THE_PROGRAM: [&str; 6] = [
        "working_directory",
        "missing_executable",
        "user",
        "namespace",
        "missing_file",
        "dependency",
    ];
    let explained = judged
        .causes
        .iter()
        .any(|(cause, _)| BEFORE_THE_PROGRAM.contains(cause));
    judged.clue = observation.clues.get(&judged.unit.name).cloned();
    if explained {
        return;
    }
    let mut suspects = dependencies::causes(observation, judged);
    // Its own word narrows it down.
    if let Some(clue) = &judged.clue {
        let subject = match clue.class {
            Class::Hostname => "hostname",
            Class::Redis | Class::ConnectionRefused => "redis",
            Class::PermissionDenied | Class::ReadOnly | Class::OutOfSpace => "write_path",
            _ => "",
        };
        suspects.retain(|(cause, _)| *cause == subject);
        if suspects.is_empty() {
            suspects.push((clue.class.word(), String::new()));
        }
    }
    judged.causes.extend(suspects);
}

#[cfg(test)]
pub mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::systemd::cgroup::Usage;

    const MINUTE: u64 = 60_000_000;

    fn running() -> Unit {
        let mut unit = Unit::new("a.service", 0);
        unit.load_state = Cow::Borrowed("loaded");
        unit.active_state = Cow::Borrowed("active");
        unit.sub_state = Cow::Borrowed("running");
        unit
    }

    fn judged(unit: &Unit) -> Judged {
        let named = baseline::Unit {
            name: "a.service".to_owned(),
            expected: Expected::Running,
            tier: 1,
            because: None,
            start_within: baseline::START_WITHIN,
        };
        let (unit, usage) = (Arc::new(unit.clone()), Usage::default());
        judge_unit(&Observed { unit, usage }, Some(&named), MINUTE)
    }

    /// A unit of which this is expected, and how it deviates.
    pub fn judged_as(name: &str, expected: &'static str, deviations: &[Deviation]) -> Judged {
        let mut unit = running();
        unit.name = name.into();
        unit.id = name.into();
        Judged {
            expected,
            deviations: deviations.iter().map(|is| (*is, true)).collect(),
            ..judged(&unit)
        }
    }

    /// Every word that a cause may be.
    pub fn all_causes() -> Vec<&'static str> {
        "hostname redis write_path dependency read_only permission_denied out_of_space \
         out_of_memory too_many_files connection_refused address_in_use missing_module \
         missing_file missing_executable working_directory user namespace start_limit"
            .split_whitespace()
            .collect()
    }

    #[test]
    fn a_service_on_its_way_down_does_not_run() {
        let mut unit = running();
        assert!(judged(&unit).holds());
        unit.active_state = Cow::Borrowed("deactivating");
        assert!(judged(&unit).is(Deviation::Stopped));
    }

    #[test]
    fn a_oneshot_holds_when_it_ended_well_unless_it_should_have_stayed_active() {
        let mut unit = running();
        unit.active_state = Cow::Borrowed("inactive");
        unit.kind = Cow::Borrowed("oneshot");
        let service = unit.service.as_mut().unwrap();
        service.last_exit = Some((1, 0));
        assert!(judged(&unit).holds());
        unit.service.as_mut().unwrap().remain_after_exit = true;
        assert!(judged(&unit).is(Deviation::Stopped));
    }

    #[test]
    fn a_file_that_nobody_could_look_for_is_not_missing() {
        let mut unit = running();
        unit.fragment_path = "/etc/systemd/system/a.service".into();
        unit.file_sought = false;
        assert!(judged(&unit).holds());
        unit.file_sought = true;
        assert!(judged(&unit).is(Deviation::Missing));
    }

    /// A stopped unit that ceased to be active at this second; it is part of and requires these.
    fn stopped(name: &str, at: u64, part_of: &[&str], missing: Option<&str>) -> Judged {
        let mut unit = running();
        unit.name = name.into();
        unit.id = name.into();
        unit.active_state = Cow::Borrowed("inactive");
        unit.ended = at * 1_000_000;
        unit.part_of = part_of.iter().map(|name| (*name).to_owned()).collect();
        unit.missing_requirement = missing.map(|name| (name.to_owned(), "inactive".to_owned()));
        judged(&unit)
    }

    fn dependencies(judged: &mut [Judged]) -> Vec<Option<&str>> {
        blame_the_whole(judged);
        name_the_roots(judged);
        judged.iter().map(Judged::dependency).collect()
    }

    #[test]
    fn a_stop_is_blamed_on_what_the_unit_is_part_of() {
        let part = |at| stopped("part.service", at, &["other.target", "whole.target"], None);
        let whole = |state: &'static str, at| {
            let mut unit = (*stopped("whole.target", at, &[], None).unit).clone();
            unit.active_state = Cow::Borrowed(state);
            judged(&unit)
        };
        let of = |part: Judged, whole: Judged| {
            let mut judged = [part, whole];
            let [part, whole] = *dependencies(&mut judged) else {
                unreachable!();
            };
            assert_eq!(whole, None);
            part.map(str::to_owned)
        };
        let blamed = Some("whole.target".to_owned());
        assert_eq!(of(part(100), whole("inactive", 50)), blamed, "it is down");
        assert_eq!(of(part(0), whole("failed", 0)), blamed);
        assert_eq!(of(part(100), whole("active", 99)), blamed, "up again");
        assert_eq!(of(part(100), whole("active", 102)), blamed);
        assert_eq!(of(part(100), whole("active", 97)), None);
        assert_eq!(of(part(100), whole("active", 0)), None);
        assert_eq!(of(part(0), whole("active", 1)), None);
        let mut started_since = (*part(100).unit).clone();
        started_since.started = 99_500_000;
        assert_eq!(of(judged(&started_since), whole("active", 99)), None);
        let apart = stopped("part.service", 100, &["other.target"], None);
        assert_eq!(of(apart, whole("inactive", 100)), None);
    }

    #[test]
    fn a_unit_that_failed_was_not_kept_from_starting() {
        let mut unit = (*stopped("a.service", 9, &[], Some("setup.service")).unit).clone();
        assert_eq!(judged(&unit).dependency(), Some("setup.service"));
        unit.active_state = Cow::Borrowed("failed");
        assert_eq!(judged(&unit).dependency(), None);
    }

    #[test]
    fn the_root_of_a_chain_is_named_and_a_circle_has_one() {
        let mut chain = [
            stopped("a.service", 9, &[], Some("b.service")),
            stopped("b.service", 9, &["c.target"], None),
            stopped("c.target", 9, &[], Some("d.service")),
        ];
        assert_eq!(dependencies(&mut chain), [Some("d.service"); 3]);
        let mut circle = [
            stopped("before.service", 9, &[], Some("c.service")),
            stopped("c.service", 9, &[], Some("b.service")),
            stopped("b.service", 9, &[], Some("d.service")),
            stopped("d.service", 9, &[], Some("c.service")),
            stopped("self.service", 9, &[], Some("self.service")),
        ];
        let root = Some("b.service");
        assert_eq!(dependencies(&mut circle), [root, root, None, root, None]);
    }
}
