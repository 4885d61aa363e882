//! The report of `check`.

use serde_json::json;

use crate::command_line::Output;
use crate::findings::{Findings, Status, judge};
use crate::observation::Observation;

/// The report as it is printed, last newline included, and what it comes to.
pub fn report(observation: &Observation, output: Output) -> (String, Status) {
    let findings = judge(observation);
    let text = match output {
        Output::Text => text(&findings),
        Output::Json => json(&findings),
    };
    let violated = findings.units.iter().any(|unit| !unit.holds());
    let checks = findings.checks.iter().map(|check| check.status).max();
    let status = match checks {
        _ if violated => Status::Violated,
        Some(status) => status,
        None => Status::Unknown,
    };
    (text, status)
}

fn text(findings: &Findings) -> String {
    let checks = findings.checks.iter().map(|check| {
        format!(
            "{:8}  {}: {} (expected {})\n",
            check.status.word(),
            check.name,
            check.seen,
            check.expected
        )
    });
    let units = findings.units.iter().filter_map(|unit| {
        let because = unit.because.as_deref();
        let because = because.map_or_else(String::new, |why| format!(" ({why})"));
        Some(format!("{}{because}\n", unit.sentence()?))
    });
    checks.chain(units).collect()
}

fn json(findings: &Findings) -> String {
    let checks: Vec<_> = findings
        .checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "status": check.status.word(),
                "expected": check.expected,
                "seen": check.seen,
            })
        })
        .collect();
    let units: Vec<_> = findings
        .units
        .iter()
        .filter_map(|unit| Some(json!({"unit": &*unit.unit.id, "finding": unit.sentence()?})))
        .collect();
    format!("{:#}\n", json!({"checks": checks, "units": units}))
}
