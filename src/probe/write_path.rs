//! Can this service write there, seen from inside its own sandbox?

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::Workers;
use crate::baseline::WritePaths;
use crate::systemd::unit::Unit;

/// What one look saw of one path that one service has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritePath {
    /// The service.
    pub unit: Arc<str>,
    /// The path, as the baseline or the unit names it.
    pub path: PathBuf,
    /// True if the baseline names it, false if only the unit itself does.
    pub in_baseline: bool,
    /// As a running process of the unit finds it; `None` while the unit has none.
    pub now: Option<Verdict>,
    /// As its next start would find it, judged from the unit's settings.
    pub next_start: Verdict,
    /// What is free there, as the service's user may use it; `None` where that cannot be told.
    pub room: Option<Room>,
}

impl WritePath {
    /// True if what counts now could be told.
    pub fn is_told(&self) -> bool {
        let verdict = self.now.as_ref().unwrap_or(&self.next_start);
        verdict.reason.is_writable().is_some()
    }
}

/// Whether it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The answer in a word.
    pub reason: Reason,
    /// What was found where, for a person: the refusing component, its owner and mode, the mount,
    /// the setting. Empty for `ok`.
    pub sentence: String,
}

/// What is free on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Files that could still be made; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// The closed set of `baseline_write_path_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Ok,
    Denied,
    ReadOnly,
    Missing,
    NotDir,
    IsDir,
    Loop,
    Immutable,
    NoSpace,
    NoInodes,
    StartFails,
    Starting,
    Timeout,
    Unknown,
}

impl Reason {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::ReadOnly => "read_only",
            Self::Missing => "missing",
            Self::NotDir => "not_dir",
            Self::IsDir => "is_dir",
            Self::Loop => "loop",
            Self::Immutable => "immutable",
            Self::NoSpace => "no_space",
            Self::NoInodes => "no_inodes",
            Self::StartFails => "start_fails",
            Self::Starting => "starting",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }

    /// The answer to the question; `None` where there is none.
    pub fn is_writable(self) -> Option<bool> {
        match self {
            Self::Ok => Some(true),
            Self::Starting | Self::Timeout | Self::Unknown => None,
            _ => Some(false),
        }
    }
}

/// Judges all paths at once: those of the baseline, and those that the watched units declare.
pub async fn probe(
    write_paths: &[WritePaths],
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Vec<WritePath> {
    let _ = (write_paths, units, workers, deadline);
    Vec::new()
}
