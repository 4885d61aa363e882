//! Where in a baseline a unit belongs, as it stands now.

use std::collections::{BTreeMap, BTreeSet};

use crate::baseline::is_unit_name;
use crate::findings::{Judged, is_running};
use crate::probe::unit_files::{Dangling, Why};
use crate::systemd::manager::Details;
use crate::systemd::unit::{Unit, suffix};

/// A unit that systemd restarted twice or more since its last start by hand, the last time less than
/// so long ago, is in a loop as far as can be known; microseconds.
const LOOP_WINDOW: u64 = 15 * 60 * 1_000_000;
/// After a single automatic restart, how long a unit has to run before it counts as settled;
/// microseconds.
const SETTLED: u64 = 60 * 1_000_000;
/// How many of the units that name an absent one are told.
const NAMED_BY: usize = 3;

/// Where a unit belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `running`; with a remark, such as that it is a oneshot.
    Running(Option<&'static str>),
    /// `active`.
    Active,
    /// `absent`, and why.
    Absent(String),
    /// `disabled`, and why.
    Disabled(String),
    /// In no list, and why.
    Unlisted(String),
    /// It is in trouble: a sentence that begins with its name.
    Trouble(String),
}

/// Where a unit belongs that no list names. `None` for what comes and goes by itself and is not in
/// trouble: slices, scopes and devices, and the instance that a socket starts for one connection; and
/// for other names of a unit. `now` is monotonic microseconds.
pub fn place(judged: &Judged, details: &Details, now: u64) -> Option<Place> {
    let unit = &*judged.unit;
    if unit.name != unit.id {
        return None;
    }
    if matches!(unit.suffix(), "slice" | "scope" | "device")
        || is_connection(unit, details)
        || !is_unit_name(&unit.name)
    {
        // That it starts or stops just now is nothing: only what stays is trouble.
        return judged.sentence().map(Place::Trouble);
    }
    if let Some(sentence) = trouble(judged, now) {
        return Some(Place::Trouble(sentence));
    }
    let file_state = unit.file_state.as_deref().unwrap_or_default();
    let is_up = !unit.is_down();
    // Of an instance no file tells whether it is enabled, but that a target wants it.
    let is_wanted = details.pulled_in_by.iter().any(|by| !is_trigger(by));
    let is_enabled = file_state.starts_with("enabled") || (unit.name.contains('@') && is_wanted);
    let started_by = match &*details.pulled_in_by {
        [] => String::new(),
        units => format!(", started by {}", units.join(", ")),
    };
    Some(match &*unit.load_state {
        "not-found" if is_up => Place::Unlisted("runs, but has no unit file".to_owned()),
        "not-found" => Place::Absent("named by other units, has no unit file".to_owned()),
        "masked" if is_up => Place::Unlisted("runs, but is masked".to_owned()),
        "masked" if file_state == "masked-runtime" => {
            Place::Disabled("masked until the next boot".to_owned())
        }
        "masked" => Place::Disabled("masked".to_owned()),
        "loaded" if file_state == "transient" => {
            Place::Unlisted("made by a program, not by a unit file".to_owned())
        }
        "loaded" if is_up => match unit.suffix() {
            "service" => {
                let is_oneshot = unit.kind == "oneshot";
                let remark = is_oneshot.then_some("a oneshot whose last run ended well");
                if is_oneshot && unit.active_state != "active" {
                    Place::Unlisted(format!("a oneshot that works now{started_by}"))
                } else if !is_enabled && details.pulled_in_by.iter().any(|by| is_trigger(by)) {
                    Place::Unlisted(format!("runs now{started_by}"))
                } else {
                    Place::Running(remark)
                }
            }
            // Mounted by hand.
            "mount" | "swap" if unit.file_state.is_none() => {
                Place::Unlisted("has no unit file, so nothing brings it back".to_owned())
            }
            _ => Place::Active,
        },
        "loaded" if is_enabled && is_running(unit) => {
            Place::Running(Some("a oneshot whose last run ended well"))
        }
        "loaded" => {
            let skipped = if details.condition_failed {
                "; a condition of its unit file did not hold"
            } else {
                ""
            };
            if file_state == "disabled" && details.pulled_in_by.is_empty() {
                Place::Disabled(format!("disabled, and not running{skipped}"))
            } else {
                let stands = if file_state.is_empty() {
                    "has no unit file"
                } else {
                    file_state
                };
                Place::Unlisted(format!("{stands}, not running{started_by}{skipped}"))
            }
        }
        broken => Place::Unlisted(format!("systemd cannot load its unit file: {broken}")),
    })
}

/// Whether what this unit starts runs only now and then, when it says so.
fn is_trigger(by: &str) -> bool {
    matches!(suffix(by), "timer" | "path" | "socket")
}

/// Whether a socket started it for one connection. Such a socket is named as the template (and, with an
/// instance of its own, otherwise than this one): `a@b.socket` starts `a@b.service` for all of them.
/// systemd numbers the connections: `a@0-…`, where `Service=a@b.service` of `a.socket` is for all of
/// them, too.
fn is_connection(unit: &Unit, details: &Details) -> bool {
    let Some((template, instance)) = unit.name.split_once('@') else {
        return false;
    };
    let number = instance.split_once('-').map(|(number, _)| number);
    if number.is_none_or(|number| number.parse::<u32>().is_err()) {
        return false;
    }
    let stem = unit.name.strip_suffix(".service");
    let mut sockets = details
        .pulled_in_by
        .iter()
        .filter_map(|by| by.strip_suffix(".socket"));
    sockets.any(|socket| socket.split('@').next() == Some(template) && Some(socket) != stem)
}

/// What keeps a unit from being learned from, as a sentence that begins with its name.
fn trouble(judged: &Judged, now: u64) -> Option<String> {
    let unit = &*judged.unit;
    if let Some(sentence) = judged.sentence() {
        return Some(sentence);
    }
    let name = &unit.name;
    let Some(service) = unit.service.as_ref().filter(|_| !unit.is_down()) else {
        return matches!(&*unit.active_state, "deactivating" | "maintenance")
            .then(|| format!("{name} is {}", unit.active_state));
    };
    let ago = now.saturating_sub(started(unit));
    let restarts = service.n_restarts;
    match &*unit.active_state {
        "deactivating" => Some(format!("{name} is stopping")),
        "activating" if unit.kind != "oneshot" => Some(format!(
            "{name} is still starting ({}): learn again when it runs",
            unit.sub_state
        )),
        _ if restarts >= 2 && ago < LOOP_WINDOW => Some(format!(
            "{name} restarts again and again ({restarts} automatic restarts since it was last \
             started by hand, the last one {} ago)",
            humantime::format_duration(std::time::Duration::from_secs(ago / 1_000_000))
        )),
        _ if restarts == 1 && ago < SETTLED => Some(format!(
            "{name} has not settled: systemd restarted it {} s ago, learn again when it has run for \
             a minute",
            ago / 1_000_000
        )),
        _ => None,
    }
}

/// When a unit that is up was last started, monotonic microseconds.
pub fn started(unit: &Unit) -> u64 {
    let stamps = &unit.stamps;
    let up = stamps.active_enter.monotonic;
    up.max(stamps.inactive_exit.monotonic)
}

/// Adds the units that others name and that are not there, and returns those that no list can hold
/// with the sentence why.
pub fn add_missing(units: &mut BTreeMap<String, Place>, dangling: &[Dangling]) -> Vec<String> {
    let mut missing: BTreeMap<(&str, bool), BTreeSet<(&str, &str)>> = BTreeMap::new();
    for reference in dangling {
        let is_masked = match reference.why {
            Why::NoFile => false,
            Why::Masked => true,
            // The baseline's own word, and no unit's place.
            Why::Retired => continue,
        };
        let by = missing.entry((&reference.to, is_masked)).or_default();
        by.insert((&reference.from, reference.directive));
    }
    let mut unlisted = Vec::new();
    for ((name, is_masked), by) in missing {
        let mut because = by
            .iter()
            .take(NAMED_BY)
            .map(|(from, directive)| format!("{from} ({directive})"))
            .collect::<Vec<_>>()
            .join(", ");
        if by.len() > NAMED_BY {
            because.push_str(&format!(" and {} more", by.len() - NAMED_BY));
        }
        if !is_unit_name(name) {
            unlisted.push(format!("{name} is named by {because}, and is not there"));
            continue;
        }
        // What stands there already is known better, unless it is just this.
        if !matches!(units.get(name), None | Some(Place::Absent(_))) {
            continue;
        }
        let place = if is_masked {
            Place::Disabled(format!("masked; named by {because}"))
        } else {
            Place::Absent(format!("named by {because}, has no unit file"))
        };
        units.insert(name.to_owned(), place);
    }
    unlisted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Deviation;
    use crate::findings::tests::judged_as;

    fn placed(name: &str, deviations: &[Deviation], pulled_in_by: &[&str]) -> Option<Place> {
        let details = Details {
            pulled_in_by: pulled_in_by.iter().map(ToString::to_string).collect(),
            ..Details::default()
        };
        place(&judged_as(name, "watched", deviations), &details, 0)
    }

    #[test]
    fn only_what_a_socket_starts_for_one_connection_comes_and_goes() {
        let placed = |name, socket| placed(name, &[], &[socket]);
        for (name, socket) in [
            ("calls@0-7000.service", "calls.socket"),
            ("calls@0-7000.service", "calls@7000.socket"),
        ] {
            assert_eq!(placed(name, socket), None, "{name} by {socket}");
        }
        for (name, socket) in [
            ("web.service", "web.socket"),
            ("gunicorn@app.service", "gunicorn@app.socket"),
            ("gunicorn@app.service", "front.socket"),
            // By Service=, for all of them.
            ("gunicorn@app.service", "gunicorn.socket"),
            ("gunicorn@2.service", "gunicorn.socket"),
        ] {
            let runs_now = Place::Unlisted(format!("runs now, started by {socket}"));
            assert_eq!(placed(name, socket), Some(runs_now), "{name} by {socket}");
        }
    }

    #[test]
    fn an_instance_is_enabled_by_what_wants_it_and_by_no_trigger() {
        let placed = |by: &[&str]| placed("backup@home.service", &[], by);
        for by in ["backup@home.timer", "backup@home.path"] {
            let runs_now = Place::Unlisted(format!("runs now, started by {by}"));
            assert_eq!(placed(&[by]), Some(runs_now));
        }
        let wanted = ["backup@home.timer", "multi-user.target"];
        assert_eq!(placed(&wanted), Some(Place::Running(None)));
        assert_eq!(placed(&["web.service"]), Some(Place::Running(None)));
    }

    #[test]
    fn what_failed_is_in_trouble_even_if_it_comes_and_goes() {
        for (name, by) in [
            ("calls@0-7000.service", &["calls.socket"][..]),
            ("session-1.scope", &[]),
        ] {
            assert_eq!(placed(name, &[], by), None, "{name}");
            match placed(name, &[Deviation::Failed], by) {
                Some(Place::Trouble(sentence)) => assert!(sentence.starts_with(name), "{sentence}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        // It is told once, under its own name.
        let mut alias = judged_as("alias.service", "watched", &[Deviation::Failed]);
        std::sync::Arc::make_mut(&mut alias.unit).id = "web.service".into();
        assert_eq!(place(&alias, &Details::default(), 0), None);
    }
}
