//! The pages of the notes' incidents as texts: kept in rules/pages.md, and compared with what came.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::machine::{CACHE, Machine};
use crate::prometheus::Generation;
use crate::stack::TREE;
use crate::webhook::Notification;

const COLLECTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/pages.md");

/// What fits on the screen of a phone that is held sideways.
const LINES: usize = 22;
const COLUMNS: usize = 100;

/// Renders these notifications of an incident, and compares them with its section of the collection,
/// if it has one. `UPDATE_GOLDEN=1` writes the section anew.
#[track_caller]
pub fn compare(machine: &Machine, incident: &str, notifications: &[&Notification]) {
    let Some((headline, mut section)) = section(&fs::read_to_string(COLLECTION).unwrap(), incident)
    else {
        return;
    };
    let mut came = String::new();
    for notification in notifications {
        let text = render(machine, notification);
        assert_fits(&text);
        came.push_str(&format!("\n```text\n{text}```\n"));
    }
    let directory = Path::new(CACHE).join("incidents/pages");
    fs::create_dir_all(&directory).unwrap();
    let name = incident.replace(['/', ' '], "-");
    fs::write(directory.join(format!("{name}.txt")), &came).unwrap();

    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let text = fs::read_to_string(COLLECTION).unwrap();
        let (_, now) = self::section(&text, incident).unwrap();
        let old = format!("{headline}{now}");
        fs::write(
            COLLECTION,
            text.replacen(&old, &format!("{headline}{came}"), 1),
        )
        .unwrap();
        section = came.clone();
    }
    assert_eq!(came, section, "UPDATE_GOLDEN=1 rewrites rules/pages.md");
}

/// The headline of an incident with its line's end, and what stands below it.
fn section(text: &str, incident: &str) -> Option<(String, String)> {
    let headline = format!("## {incident}\n");
    let (_, after) = text.split_once(&headline)?;
    let section = after
        .split_once("\n## ")
        .map_or(after, |(section, _)| section);
    Some((headline, section.to_owned()))
}

/// The text of a page, as of one day.
#[track_caller]
fn render(machine: &Machine, notification: &Notification) -> String {
    let mut body = notification.body.clone();
    for alert in body["alerts"].as_array_mut().into_iter().flatten() {
        alert["startsAt"] = "2026-01-07T12:03:59Z".into();
        let description = &mut alert["annotations"]["description"];
        *description = as_often(description.as_str().unwrap_or_default()).into();
    }
    let data = "/run/page.json";
    machine.write_file(data, &body.to_string());
    let text = machine.run(&[
        &Generation::V242.inside("amtool"),
        "template",
        "render",
        &format!("--template.glob={TREE}/deploy/alertmanager/baseline.tmpl"),
        &format!("--template.data={data}"),
        "--template.text={{ template \"baseline.page\" . }}",
    ]);
    text.trim_end().to_owned() + "\n"
}

/// The description with always the same count of restarts.
fn as_often(description: &str) -> String {
    match description.split_once(" times since it was") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{before}17 times since it was{after}")
        }
        None => description.to_owned(),
    }
}

/// A page has its place on one screen, and what matters is above.
#[track_caller]
fn assert_fits(text: &str) {
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() <= LINES, "too long:\n{text}");
    let wide = lines.iter().find(|line| line.chars().count() > COLUMNS);
    assert_eq!(wide, None, "too wide:\n{text}");
    // Of several alerts it is enough that all are on the screen.
    if text.contains(" alerts:\n") {
        return;
    }
    let fix = lines.iter().rposition(|line| line.starts_with("  "));
    assert!(
        fix.is_some_and(|last| last < 16),
        "the fix stands too low:\n{text}"
    );
}
