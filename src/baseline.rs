//! The baseline: the YAML file that says what the deployment looks like when it is healthy.

use std::time::Duration;

/// How long a start may take where the baseline does not say.
pub const START_WITHIN: Duration = Duration::from_secs(60);

/// A baseline that was read and found free of mistakes.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// The deployment's own name, label `deployment` of `baseline_info`.
    pub deployment: String,
    /// CRC-32 of the text, eight hexadecimal digits: tells one text from another.
    pub version: String,
    /// Where the text came from: `embedded`, or the path it was read from.
    pub source: String,
    /// What systemd should say.
    pub systemd: Systemd,
}

/// Section `systemd`: which units to watch, and how each should stand.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Units to watch without an expectation of their own, by glob pattern.
    pub watch: Vec<glob::Pattern>,
    /// Every unit that the baseline names, in the file's order, each name once.
    pub units: Vec<Unit>,
    /// Units that were removed for good: whatever still refers to them is a finding.
    pub retired: Vec<String>,
    /// How often the unit table is compared with a fresh reading.
    pub resync: Duration,
}

/// One unit that the baseline names.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The unit's full name, with its suffix.
    pub name: String,
    /// How the unit should stand.
    pub expected: Expected,
    /// 1 pages, 2 opens a ticket, 3 shows on the dashboard only.
    pub tier: u8,
    /// Why it stands so, in the operator's own words; `None` where the file gives no reason.
    pub because: Option<String>,
    /// How long a start may take before it counts as stuck.
    pub start_within: Duration,
}

/// How a unit should stand, by the list that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// `running`: a service that runs (or a oneshot whose last run went well).
    Running,
    /// `active`: a target, timer, socket, path or mount that is active.
    Active,
    /// `absent`: no unit of this name exists, on purpose.
    Absent,
    /// `disabled`: it exists, is not enabled and does not run, on purpose.
    Disabled,
}
