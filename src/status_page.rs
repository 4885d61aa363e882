//! The page that a person opens: the same findings as `check` tells, without a script, and nothing
//! loaded from elsewhere.

mod dependencies;
mod html;
mod units;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use self::html::Html;
use crate::findings::troubles::{Trouble, troubles};
use crate::findings::{Check, Findings, Status, fix, judge};
use crate::observation::{Observation, Took};
use crate::report::verdict;

const STYLE: &str = include_str!("status_page/style.css");

/// More troubles than these, and more of one trouble, are counted only: nobody reads so many, and the
/// page has to stay quick.
const MOST_CARDS: usize = 50;

/// A list of names that is longer, in bytes, is folded.
const LONG: usize = 240;

/// Where the page's links lead.
#[derive(Debug, Clone)]
pub struct Links {
    /// The path of the metrics.
    pub telemetry_path: String,
    /// The address of the runbook, without an anchor, as [`runbook_url`] let it pass.
    pub runbook: String,
}

/// Checks `--web.runbook-url`: the address as it is given, or what is wrong with it.
pub fn runbook_url(url: &str) -> Result<String, String> {
    let has_scheme = ["https://", "http://", "file:///"].iter().any(|scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    });
    if !has_scheme {
        return Err("it must start with https://, http:// or file:///".to_owned());
    }
    if !url
        .bytes()
        .all(|b| b.is_ascii_graphic() && !br#"#"<>\"#.contains(&b))
    {
        return Err("it must be an address without spaces, quotes or '#'".to_owned());
    }
    Ok(url.to_owned())
}

/// The Content-Security-Policy of the page: its own style and icon, and nothing else.
pub fn content_security_policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page. `room` is how many bytes of address space it is given at first.
pub fn page(observation: &Observation, links: &Links, room: usize) -> String {
    let findings = judge(observation);
    let troubles = troubles(observation, &findings);
    let mut html = Html::with_capacity(room);
    head(&mut html, observation, &findings);
    html.markup("<main>\n");
    if !troubles.is_empty() {
        html.markup("<h2>Wrong now, worst first</h2>\n");
    }
    for trouble in troubles.iter().take(MOST_CARDS) {
        card(&mut html, observation, trouble, links);
    }
    if let Some(sentence) = more(troubles.len(), "check", observation) {
        html.markup("<p>").text(&sentence).markup("</p>\n");
    }
    unseen(&mut html, &findings, links);
    warnings(&mut html, &findings);
    checks(&mut html, &findings.checks);
    units::section(&mut html, observation, &findings);
    dependencies::section(&mut html, observation, &findings);
    html.markup("</main>\n");
    foot(&mut html, observation, links);
    html.finish()
}

/// What to say of a list of which only the first are shown; `None` where that is all of it. `command`
/// tells the rest.
fn more(length: usize, command: &str, observation: &Observation) -> Option<String> {
    let more = length.checked_sub(MOST_CARDS).filter(|more| *more > 0)?;
    let command = fix::own(command, &observation.baseline);
    Some(format!("And {more} more: `{command}` tells them all."))
}

fn head(html: &mut Html, observation: &Observation, findings: &Findings) {
    let status = findings.status();
    let verdict = verdict(findings);
    let baseline = &observation.baseline;
    html.markup(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
    );
    html.markup(mark(status))
        .markup(" ")
        .text(&baseline.deployment)
        .markup(" on ")
        .text(&observation.host)
        .markup(": ")
        .text(&verdict)
        .markup("</title>\n<link rel=\"icon\" href=\"data:image/svg+xml,")
        .markup(icon(status))
        .markup("\">\n<style>")
        .markup(STYLE)
        .markup("</style>\n</head>\n<body>\n<header class=\"")
        .markup(status.word())
        .markup("\">\n<p class=\"of\">")
        .text(&baseline.deployment)
        .markup(" on ")
        .text(&observation.host)
        .markup("</p>\n<h1>")
        .markup(mark(status))
        .markup(" ")
        .text(&verdict)
        .markup("</h1>\n<p>Seen ")
        .text(&moment(observation.at))
        .markup(", in ")
        .text(&took(observation.took.all))
        .markup(". <a href=\"\">Look again</a></p>\n</header>\n");
}

/// The three answers, for those who do not see colours.
fn mark(status: Status) -> &'static str {
    match status {
        Status::Holds => "✓",
        Status::Violated => "✕",
        Status::Unknown => "?",
    }
}

/// The same as the icon of the browser's tab.
fn icon(status: Status) -> &'static str {
    match status {
        Status::Holds => {
            "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='8' fill='%230b5c47'/%3E%3Cpath d='M4 8l3 3 5-6' stroke='white' stroke-width='2' fill='none'/%3E%3C/svg%3E"
        }
        Status::Violated => {
            "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' fill='%23a40e26'/%3E%3Cpath d='M4 4l8 8M12 4l-8 8' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
        }
        Status::Unknown => {
            "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M8 0l8 8-8 8-8-8z' fill='%237a4d00'/%3E%3Cpath d='M6 6a2 2 0 1 1 2 2.500v1M8 11v1.500' stroke='white' stroke-width='1.500' fill='none'/%3E%3C/svg%3E"
        }
    }
}

/// An answer in a word, with its mark.
fn word(html: &mut Html, status: Status) {
    html.markup("<span class=\"word ")
        .markup(status.word())
        .markup("\">")
        .markup(mark(status))
        .markup(" ")
        .markup(status.word())
        .markup("</span>");
}

fn card(html: &mut Html, observation: &Observation, trouble: &Trouble<'_>, links: &Links) {
    html.markup("<article class=\"trouble violated\">\n<h3><span class=\"word\">✕ ")
        .markup(trouble.word)
        .markup("</span> <span class=\"subject\">")
        .text(&trouble.subject);
    match trouble.units.len() {
        0 | 1 => {}
        2 => drop(html.markup(", and one more unit for the same reason")),
        count => {
            html.markup(", and ")
                .text(&(count - 1).to_string())
                .markup(" more units for the same reason");
        }
    }
    html.markup("</span></h3>\n");
    if let Some((first, more)) = trouble.causes.split_first() {
        html.markup("<div class=\"row\"><span class=\"label\">cause</span><p><b class=\"cause\">")
            .text(first)
            .markup("</b>");
        for sentence in more {
            html.markup("<br>").text(sentence);
        }
        html.markup("</p></div>\n");
    }
    for sentence in trouble.seen.iter().take(MOST_CARDS) {
        html.markup("<div class=\"row\"><span class=\"label\">seen</span><p>")
            .text(sentence)
            .markup("</p></div>\n");
    }
    let command = if trouble.section == "baselineunitfiledrift" {
        "snapshot diff"
    } else {
        "check"
    };
    if let Some(sentence) = more(trouble.seen.len(), command, observation) {
        html.markup("<div class=\"row\"><span class=\"label\">seen</span><p>")
            .text(&sentence)
            .markup("</p></div>\n");
    }
    if let [unit] = trouble.units[..]
        && trouble.causes.is_empty()
    {
        html.markup("<div class=\"row\"><span class=\"label\">cause</span><p class=\"cause\">not known; it ")
            .text(&unit.told())
            .markup("</p></div>\n");
    }
    if !trouble.fix.is_empty() {
        html.markup("<div class=\"row\"><span class=\"label\">fix</span><pre class=\"fix\">");
        for line in &trouble.fix {
            html.text(line).markup("\n");
        }
        html.markup("</pre></div>\n");
    }
    if let [unit] = trouble.units[..]
        && let Some(clue) = &unit.clue
    {
        html.markup("<div class=\"row\"><span class=\"label\">it wrote</span><p><code>")
            .text(&clue.line)
            .markup("</code></p></div>\n");
    }
    units::facts(html, observation, &trouble.units);
    html.markup("<div class=\"row facts\"><span class=\"label\">more</span><p>");
    runbook(html, links, &trouble.section);
    html.markup("</p></div>\n</article>\n");
}

/// A browser opens no file from a page of the network: such an address is only shown.
fn runbook(html: &mut Html, links: &Links, section: &str) {
    let url = format!("{}#{section}", links.runbook);
    if url.starts_with("file:") {
        html.markup("<code>").text(&url).markup("</code>");
    } else {
        html.markup("<a href=\"")
            .text(&url)
            .markup("\">runbook, ")
            .text(section)
            .markup("</a>");
    }
}

/// What could not be told, and why; checks that have one reason together.
fn unseen(html: &mut Html, findings: &Findings, links: &Links) {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for check in &findings.checks {
        if check.status == Status::Unknown {
            reasons.entry(&check.seen).or_default().push(check.name);
        }
    }
    let remarks: Vec<_> = findings
        .remarks
        .iter()
        .filter(|remark| remark.status == Status::Unknown)
        .collect();
    if reasons.is_empty() && remarks.is_empty() {
        return;
    }
    html.markup(
        "<h2>Could not be seen</h2>\n<article class=\"trouble unknown\">\n\
         <h3><span class=\"word\">? unknown</span> This is not the same as healthy</h3>\n<ul>\n",
    );
    for (reason, checks) in reasons {
        html.markup("<li><b>")
            .text(reason)
            .markup("</b>: ")
            .text(&checks.join(", "))
            .markup("</li>\n");
    }
    for remark in remarks {
        html.markup("<li>").text(&remark.sentence).markup("</li>\n");
    }
    html.markup("</ul>\n<div class=\"row facts\"><span class=\"label\">more</span><p>");
    runbook(html, links, "baselinecheckunknown");
    html.markup("</p></div>\n</article>\n");
}

/// What holds, but may not for long.
fn warnings(html: &mut Html, findings: &Findings) {
    let mut warnings = findings
        .remarks
        .iter()
        .filter(|remark| remark.status == Status::Holds)
        .peekable();
    if warnings.peek().is_none() {
        return;
    }
    html.markup("<h2>Holds now, but may not last</h2>\n<ul>\n");
    for remark in warnings {
        html.markup("<li>").text(&remark.sentence).markup("</li>\n");
    }
    html.markup("</ul>\n");
}

fn checks(html: &mut Html, checks: &[Check]) {
    html.markup(
        "<h2>Checks</h2>\n<table>\n<thead><tr><th scope=\"col\">Status</th>\
         <th scope=\"col\">Check</th><th scope=\"col\">Expected</th>\
         <th scope=\"col\">Seen</th></tr></thead>\n<tbody>\n",
    );
    for check in checks {
        html.markup("<tr><td class=\"some\">");
        word(html, check.status);
        html.markup("</td><th scope=\"row\">")
            .text(check.name)
            .markup("</th><td data-title=\"expected\">")
            .text(&check.expected)
            .markup("</td><td data-title=\"seen\">");
        folded(html, &check.seen);
        html.markup("</td></tr>\n");
    }
    html.markup("</tbody>\n</table>\n");
}

/// A sentence whose list of names may be long.
fn folded(html: &mut Html, sentence: &str) {
    match sentence.split_once(": ") {
        Some((summary, list)) if sentence.len() > LONG => {
            html.markup("<details><summary>")
                .text(summary)
                .markup("</summary>")
                .text(list)
                .markup("</details>");
        }
        _ => drop(html.text(sentence)),
    }
}

fn foot(html: &mut Html, observation: &Observation, links: &Links) {
    let baseline = &observation.baseline;
    html.markup("<footer>\n<p><a href=\"")
        .text(&links.telemetry_path)
        .markup("\">metrics</a> · <a href=\"/-/healthy\">healthy</a> · <a href=\"/-/ready\">ready</a> · ");
    runbook(html, links, "runbook");
    html.markup(
        "</p>\n<p>For programs: this page with <code>Accept: application/json</code> is what <code>",
    )
    .text(&fix::own("check --output=json", baseline))
    .markup("</code> prints.</p>\n<p>baseline-exporter ")
    .markup(env!("CARGO_PKG_VERSION"))
    .markup(" (")
    .markup(env!("BASELINE_EXPORTER_REVISION"))
    .markup("); baseline: ")
    .text(&baseline.source)
    .markup(", version ")
    .text(&baseline.version);
    if let Ok(units) = &observation.units {
        html.markup("; systemd ")
            .text(&units.manager.version)
            .markup(", ")
            .text(&units.manager.state);
    }
    let Took {
        all: _,
        units,
        hostnames,
        redis,
        write_paths,
        unit_files,
    } = observation.took;
    html.markup("</p>\n<p>The look took: units ")
        .text(&took(units))
        .markup(", hostnames ")
        .text(&took(hostnames))
        .markup(", redis ")
        .text(&took(redis))
        .markup(", write paths ")
        .text(&took(write_paths))
        .markup(", unit files ")
        .text(&took(unit_files))
        .markup(". Connections to systemd lost since the exporter was started: ")
        .text(&observation.link.reconnects.to_string())
        .markup(".</p>\n</footer>\n</body>\n</html>\n");
}

/// A moment for a person: `2026-01-07 12:03:11 UTC`.
fn moment(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// The same, of microseconds since the epoch.
fn moment_of(micros: u64) -> String {
    moment(UNIX_EPOCH + Duration::from_micros(micros))
}

/// How long, for a person: `3 h 12 min`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// How long something took that is quick: `0.3 ms`.
fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Baseline;
    use crate::observation::Observed;
    use crate::systemd::cgroup::Usage;
    use crate::systemd::table::Table;

    fn links() -> Links {
        Links {
            telemetry_path: "/metrics".to_owned(),
            runbook: "https://example.org/runbook".to_owned(),
        }
    }

    fn page_of(observation: &Observation) -> String {
        page(observation, &links(), 0)
    }

    #[test]
    fn what_cannot_be_told_is_unknown_with_its_reason() {
        let page = page_of(&crate::report::tests::unknown());
        assert!(
            page.contains("<h1>? 8 of 8 checks could not be made</h1>"),
            "{page}"
        );
        assert!(page.contains("<b>systemd does not answer</b>: failed_units, "));
        assert!(!page.contains("✓"), "{page}");
    }

    #[test]
    fn the_same_observation_makes_the_same_bytes() {
        let observation = crate::metrics::tests::observation();
        let page = page_of(&observation);
        assert_eq!(page, page_of(&observation));
        for sentence in judge(&observation)
            .remarks
            .iter()
            .map(|remark| &remark.sentence)
        {
            let mut html = Html::with_capacity(0);
            html.text(sentence);
            let told = sentence.starts_with("unit files differ") || page.contains(&html.finish());
            assert!(told, "{sentence}");
        }
    }

    #[test]
    fn no_text_of_others_is_obeyed() {
        const HOSTILE: &str = "<i>&lt;\"'\u{1b}\u{202e}</i>";
        let hostile = || HOSTILE.to_owned();
        let observation = crate::metrics::tests::observation();
        let mut observation = std::sync::Arc::into_inner(observation).unwrap();
        observation.host = hostile();
        for hostname in &mut observation.hostnames {
            hostname.name = hostile();
            hostname.persistence = Err(hostile());
            hostname.lookups[0].answer = Err(hostile());
        }
        for endpoint in &mut observation.redis {
            (endpoint.name, endpoint.address) = (hostile(), hostile());
        }
        for path in observation.write_paths.iter_mut().flatten() {
            path.path = HOSTILE.into();
            path.next_start.sentence = hostile();
        }
        for edge in observation.unit_files.references.iter_mut().flatten() {
            (edge.from, edge.to, edge.file) = (hostile(), hostile(), HOSTILE.into());
        }
        if let Some(Ok(drift)) = &mut observation.unit_files.drift {
            drift
                .files
                .iter_mut()
                .for_each(|(file, _)| *file = hostile());
        }
        observation.units.as_mut().unwrap().others.failed = [hostile()].into();
        let page = page_of(&observation);
        assert!(
            page.matches("&lt;i&gt;&amp;lt;&quot;&#39;").count() > 10,
            "{page}"
        );
        assert!(!page.contains("<i>"), "{page}");
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");

        observation.units = Err(hostile());
        assert!(!page_of(&observation).contains("<i>"));
    }

    #[test]
    fn two_thousand_broken_units_are_still_a_page() {
        let names: Vec<String> = (0..2000)
            .map(|number| format!("quantum-of-the-deployment-{number:04}.service"))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let running = names.join(", ");
        let text = format!("deployment: many\nsystemd:\n  running: [{running}]\n");
        std::fs::write(file.path(), text).unwrap();
        let observation = crate::metrics::tests::observation();
        let mut observation = std::sync::Arc::into_inner(observation).unwrap();
        observation.baseline = std::sync::Arc::new(Baseline::load(file.path()).unwrap());
        let mut table = Table::new(names.iter().map(String::as_str), Vec::new(), 0);
        let units = observation.units.as_mut().unwrap();
        let usage = Usage::default();
        let shown = table.show(units.now.monotonic).into_iter();
        units.watched = shown.map(|unit| Observed { unit, usage }).collect();
        let page = page_of(&observation);
        assert!(page.contains("<h1>✕ "), "{page}");
        let command = format!(
            "baseline-exporter check --config.file={}",
            file.path().display()
        );
        let told = format!("more: `{command}` tells them all.</p>");
        assert!(page.contains("<p>And 19") && page.contains(&told));
        for name in names {
            assert!(page.contains(&name), "{name}");
        }
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
    }

    #[test]
    fn what_a_long_list_leaves_out_is_counted() {
        let observation = crate::metrics::tests::observation();
        let mut observation = std::sync::Arc::into_inner(observation).unwrap();
        let Some(Ok(drift)) = &mut observation.unit_files.drift else {
            panic!("no snapshot");
        };
        let (_, difference) = drift.files.iter().find(|(_, it)| it.is_some()).unwrap();
        let difference = *difference;
        let file = |number| (format!("/etc/systemd/system/{number}.service"), difference);
        drift.files = (0..57).map(file).collect();
        let edges = observation.unit_files.references.as_mut().unwrap();
        let edge = edges[0].clone();
        edges.extend(std::iter::repeat_n(edge, 60));
        let page = page_of(&observation);
        for (count, command) in [("And 7 ", "snapshot diff"), ("", "check")] {
            let command = format!("baseline-exporter {command} --config.file=golden.yml");
            let told = format!("{count}more: `{command}` tells them all.");
            assert!(page.contains(&told), "{told}");
        }
    }

    #[test]
    fn the_command_that_prints_this_for_programs_names_the_baseline() {
        let page = page_of(&crate::metrics::tests::observation());
        let command = "baseline-exporter check --output=json --config.file=golden.yml";
        assert!(page.contains(&format!("<code>{command}</code>")), "{page}");
    }

    #[test]
    fn the_policy_permits_the_style_as_it_is_sent() {
        let page = page_of(&crate::report::tests::unknown());
        let (_, rest) = page.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(style));
        assert!(content_security_policy().contains(&format!("'sha256-{hash}'")));
        assert!(!page.contains(" style="));
    }

    #[test]
    fn a_runbook_is_linked_where_a_browser_can_open_it() {
        let mut links = links();
        let observation = crate::metrics::tests::observation();
        let anchor = "<a href=\"https://example.org/runbook#";
        assert!(page(&observation, &links, 0).contains(anchor));
        links.runbook = "file:///usr/share/runbook.md".to_owned();
        let page = page(&observation, &links, 0);
        assert!(page.contains("<code>file:///usr/share/runbook.md#"));
        assert!(!page.contains("href=\"file:"));
    }

    #[test]
    fn a_runbook_is_no_script() {
        for url in [
            "https://a/b?c=d",
            "http://a",
            "file:///usr/share/runbook.md",
        ] {
            assert_eq!(runbook_url(url).unwrap(), url);
        }
        for url in [
            "",
            "javascript:alert(1)",
            "runbook.md",
            "https://",
            "https://a/#b",
            "https://a b",
        ] {
            runbook_url(url).unwrap_err();
        }
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(moment_of(1_767_787_391_000_000), "2026-01-07 12:03:11 UTC");
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (11_520, "3 h 12 min"),
            (186_400, "2 d 3 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        for (micros, text) in [(300, "0.3 ms"), (12_300, "12 ms"), (1_540_000, "1.5 s")] {
            assert_eq!(took(Duration::from_micros(micros)), text);
        }
    }
}
