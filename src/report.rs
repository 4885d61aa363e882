//! The report of `check`.

use std::sync::Arc;

use crate::command_line::Output;
use crate::observation::Observation;

/// The three answers, and the exit status of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Could not tell, whole or in part: 2.
    Unknown,
}

/// The report as it is printed, colours and last newline included, and what it comes to.
pub fn report(observation: &Arc<Observation>, output: Output) -> (String, Verdict) {
    let text = match output {
        Output::Text => format!("{}: could not tell\n", observation.baseline.deployment),
        Output::Json => "{}\n".to_owned(),
    };
    (text, Verdict::Unknown)
}
