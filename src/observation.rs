//! One look at the host: everything that metrics, the page and the report are made of.

use std::time::Instant;

/// What one look saw. Never changed after; same observation, same bytes.
#[derive(Debug)]
pub struct Observation {}

/// The host as it can be looked at.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Looks at everything at once; what did not answer by `deadline` is unknown in the result.
    pub async fn look(&self, deadline: Instant) -> Observation {
        let _ = deadline;
        Observation {}
    }

    /// True once the first full reading of the units is in.
    pub fn ready(&self) -> bool {
        false
    }
}
