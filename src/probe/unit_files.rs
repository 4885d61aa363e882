//! The unit files on disk: references to units that are not there, and differences to the golden
//! snapshot.

mod drift;
mod reader;
mod references;
mod stamps;

pub use drift::{Difference, Drift};
pub use references::Cache;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{TARGET_TIMEOUT, Workers};
use crate::baseline::Baseline;

/// What one look saw of the unit files.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitFiles {
    /// References to units that are not there, sorted; the error says why they cannot be told.
    pub references: Result<Vec<Dangling>, String>,
    /// Against the golden snapshot; `None` where the baseline names none.
    pub drift: Option<Result<Drift, String>>,
}

impl UnitFiles {
    /// True if all of it could be read.
    pub fn is_told(&self) -> bool {
        self.references.is_ok() && !matches!(self.drift, Some(Err(_)))
    }
}

/// A reference to a unit that has no unit file, is masked, or is retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dangling {
    /// The unit that refers.
    pub from: String,
    /// The unit that is not there.
    pub to: String,
    /// The directive: Wants, After, …; WantedBy and RequiredBy for links.
    pub directive: &'static str,
    /// What it does.
    pub effect: Effect,
    /// Why the other counts as not there.
    pub why: Why,
    /// The file (or link) with the reference.
    pub file: PathBuf,
    /// Its line, from 1; `None` for a link.
    pub line: Option<usize>,
}

/// What a dangling reference does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The unit that refers cannot start: it requires the other (Requires, Requisite, BindsTo), or is
    /// a timer, path or socket that has nothing to start.
    Blocks,
    /// systemd skips it: it only misleads whoever reads it.
    Clutter,
}

impl Effect {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Clutter => "clutter",
        }
    }
}

/// Why a unit counts as not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    NoFile,
    Masked,
    Retired,
}

/// Reads what has changed, and compares. `unit_path` is the manager's search path, the earlier
/// directories win.
pub async fn probe(
    baseline: &Arc<Baseline>,
    unit_path: &Arc<[String]>,
    cache: &Arc<Cache>,
    workers: &Workers,
    deadline: Instant,
) -> UnitFiles {
    let look = {
        let (baseline, unit_path, cache) = (baseline.clone(), unit_path.clone(), cache.clone());
        move || references::dangling(&baseline, &unit_path, &cache, SystemTime::now())
    };
    let until = deadline.min(Instant::now() + TARGET_TIMEOUT);
    let (references, drift) = tokio::join!(
        workers.run_one("references in unit files", until, look),
        drift::probe(baseline, workers, deadline),
    );
    UnitFiles {
        references: references
            .unwrap_or_else(|| Err("reading the unit files took too long".to_owned())),
        drift,
    }
}
