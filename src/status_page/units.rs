//! The units on the page.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::html::Html;
use super::{MOST_CARDS, moment_of, more, span};
use crate::findings::troubles::in_words;
use crate::findings::{Deviation, Findings, Judged, ending};
use crate::observation::Observation;
use crate::systemd::unit::{Unit, is_failure};

/// What is known of the units of one trouble.
pub fn facts(html: &mut Html, observation: &Observation, units: &[&Judged]) {
    if let [judged] = units {
        let row = |html: &mut Html, label, text: &str| {
            html.markup("<div class=\"row facts\"><span class=\"label\">")
                .markup(label)
                .markup("</span><p>")
                .text(text)
                .markup("</p></div>\n");
        };
        if !judged.causes.is_empty() {
            row(html, "seen", &judged.told());
        }
        row(html, "state", &standing(observation, &judged.unit));
        row(html, "expected", &expectation(judged));
        return;
    }
    for judged in units.iter().take(MOST_CARDS) {
        html.markup("<div class=\"row\"><span class=\"label\">unit</span><p><b>")
            .text(&judged.unit.name)
            .markup("</b> ")
            .text(&judged.told())
            .markup("<br><span class=\"facts\">")
            .text(&standing(observation, &judged.unit))
            .markup("; expected ")
            .text(&expectation(judged))
            .markup("</span>");
        if let Some(clue) = &judged.clue {
            html.markup("<br><span class=\"facts\">it wrote <code>")
                .text(&clue.line)
                .markup("</code></span>");
        }
        html.markup("</p></div>\n");
    }
    if let Some(sentence) = more(units.len(), "check", observation) {
        html.markup("<div class=\"row\"><span class=\"label\">unit</span><p>")
            .text(&sentence)
            .markup("</p></div>\n");
    }
}

/// Its state, since when, and how often it was restarted lately.
fn standing(observation: &Observation, unit: &Unit) -> String {
    let mut text = state(unit);
    if let Some(since) = since(observation, unit) {
        text.push_str(&format!(" since {since}"));
    }
    if let Some(restarts) = restarts(observation, unit) {
        text.push_str(&format!("; {restarts}"));
    }
    text
}

/// What the baseline wants of it.
fn expectation(judged: &Judged) -> String {
    let because = judged.because.iter();
    let because: String = because.map(|why| format!(", because: {why}")).collect();
    format!("{}{because}; tier {}", judged.expected, judged.tier)
}

/// All watched units, those that deviate first, those that do not folded.
pub fn section(html: &mut Html, observation: &Observation, findings: &Findings) {
    html.markup("<h2>Units</h2>\n");
    if let Err(reason) = &observation.units {
        html.markup("<p>Unknown: ").text(reason).markup("</p>\n");
        return;
    }
    let mut groups: BTreeMap<(u8, &str), Vec<&Judged>> = BTreeMap::new();
    for judged in &findings.units {
        groups.entry(group(judged)).or_default().push(judged);
    }
    for ((_, title), units) in groups {
        let opened = if units.iter().any(|unit| !unit.holds()) {
            "<details open><summary>"
        } else {
            "<details><summary>"
        };
        html.markup(opened)
            .text(title)
            .markup(" <span class=\"count\">")
            .text(&units.len().to_string())
            .markup(
                "</span></summary>\n<table>\n<thead><tr><th scope=\"col\">Unit</th>\
                 <th scope=\"col\">State</th><th scope=\"col\">Since</th>\
                 <th scope=\"col\">Restarts</th><th scope=\"col\">Last exit</th></tr></thead>\n<tbody>\n",
            );
        for judged in units {
            row(html, observation, &judged.unit);
        }
        html.markup("</tbody>\n</table>\n</details>\n");
    }
}

/// The place of its group, and the group's title.
fn group(judged: &Judged) -> (u8, &'static str) {
    let Some(worst) = judged.deviating().min() else {
        return match judged.expected {
            "running" => (10, "running, as it should be"),
            "active" => (11, "active, as it should be"),
            "disabled" => (13, "disabled, as it should be"),
            "absent" => (14, "absent, as it should be"),
            _ => (12, "watched, and nothing is wrong"),
        };
    };
    let place = match worst {
        Deviation::Failed => 0,
        Deviation::Restarting => 1,
        Deviation::ActivatingTooLong => 2,
        Deviation::Stopped => 3,
        Deviation::Missing => 4,
        Deviation::Masked => 5,
        Deviation::Present => 6,
        Deviation::Enabled => 7,
        Deviation::Running => 8,
    };
    (place, in_words(worst))
}

fn row(html: &mut Html, observation: &Observation, unit: &Unit) {
    html.markup("<tr><th scope=\"row\">")
        .text(&unit.name)
        .markup("</th><td data-title=\"state\">")
        .text(&state(unit))
        .markup("</td><td data-title=\"since\">")
        .text(&since(observation, unit).unwrap_or_default())
        .markup("</td><td>")
        .text(&restarts(observation, unit).unwrap_or_default())
        .markup("</td><td data-title=\"last exit\">");
    if unit
        .service
        .as_ref()
        .is_some_and(|service| service.last_exit.is_some() || is_failure(&service.last_failure))
    {
        html.text(&ending(unit));
    }
    html.markup("</td></tr>\n");
}

/// As `systemctl status` has it: `active (running)`.
fn state(unit: &Unit) -> String {
    if unit.load_state == "loaded" || unit.loaded && unit.load_state != "not-found" {
        format!("{} ({})", unit.active_state, unit.sub_state)
    } else {
        format!(
            "{}, {} ({})",
            unit.load_state, unit.active_state, unit.sub_state
        )
    }
}

/// Since when it is in its state, and for how long; `None` where systemd tells of no change.
fn since(observation: &Observation, unit: &Unit) -> Option<String> {
    let now = observation.units.as_ref().ok()?.now.monotonic;
    let changed = unit.stamps.state_change;
    (changed.monotonic != 0).then(|| {
        let time = Duration::from_micros(now.saturating_sub(changed.monotonic));
        format!("{}, for {}", moment_of(changed.realtime), span(time))
    })
}

/// Its automatic restarts of the last hour, as far as they were seen; `None` where there are none.
fn restarts(observation: &Observation, unit: &Unit) -> Option<String> {
    let now = observation.units.as_ref().ok()?.now.monotonic;
    let count = unit.service.as_ref()?.restarts_in_the_last_hour(now);
    if count == 0 {
        return None;
    }
    let s = if count == 1 { "" } else { "s" };
    let seen_since = observation.process.started_seconds.and_then(|started| {
        let started = Duration::try_from_secs_f64(started).ok()?;
        observation.at.duration_since(UNIX_EPOCH + started).ok()
    });
    Some(match seen_since {
        Some(time) if time < Duration::from_secs(3600) => format!(
            "{count} restart{s} in the {} since the exporter was started",
            span(time)
        ),
        _ => format!("{count} restart{s} in the last hour"),
    })
}
