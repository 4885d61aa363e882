//! What the units depend on, on the page: names, Redis servers, paths.

use std::collections::HashMap;

use super::html::Html;
use super::{took, word};
use crate::findings::dependencies::{hostname_stands, in_force, path_stands, redis_stands};
use crate::findings::{Findings, Judged, Status};
use crate::observation::Observation;
use crate::probe::hostname::{Answer, Hostname, Persistence, Resolver};
use crate::probe::redis::Redis;
use crate::probe::write_path::WritePath;

/// Everything that was probed, with its phases and reasons.
pub fn section(html: &mut Html, observation: &Observation, findings: &Findings) {
    hostnames(html, &observation.hostnames);
    redis(html, &observation.redis);
    write_paths(html, observation, findings);
}

fn hostnames(html: &mut Html, hostnames: &[Hostname]) {
    if hostnames.is_empty() {
        return;
    }
    html.markup(
        "<h2>Hostnames</h2>\n<table>\n<thead><tr><th scope=\"col\">Status</th>\
         <th scope=\"col\">Name</th><th scope=\"col\">Expected</th>\
         <th scope=\"col\">Services get</th><th scope=\"col\">Hosts file</th>\
         <th scope=\"col\">DNS</th><th scope=\"col\">After a reboot</th></tr></thead>\n<tbody>\n",
    );
    for hostname in hostnames {
        let expected: Vec<_> = hostname.expected.iter().map(ToString::to_string).collect();
        html.markup("<tr><td class=\"some\">");
        word(html, hostname_stands(hostname).0);
        html.markup("</td><th scope=\"row\">").text(&hostname.name);
        if let Some(unit) = &hostname.resolved_as {
            html.markup(", as ").text(unit).markup(" sees it");
        }
        html.markup("</th><td data-title=\"expected\">")
            .text(&expected.join(", "))
            .markup("</td><td data-title=\"services get\">");
        lookup(html, hostname, Resolver::Nss);
        html.markup("</td><td data-title=\"hosts file\">");
        lookup(html, hostname, Resolver::Hosts);
        html.markup("</td><td data-title=\"DNS\">");
        lookup(html, hostname, Resolver::Dns);
        html.markup("</td><td data-title=\"after a reboot\">");
        match &hostname.persistence {
            Ok(Persistence::Kept(why)) => html.markup("kept: ").text(why),
            Ok(Persistence::Lost(why)) => html.markup("lost: ").text(why),
            Err(why) => html.markup("unknown: ").text(why),
        };
        html.markup("</td></tr>\n");
    }
    html.markup("</tbody>\n</table>\n");
}

/// What this resolver says; nothing where it was not asked.
fn lookup(html: &mut Html, hostname: &Hostname, resolver: Resolver) {
    let mut lookups = hostname.lookups.iter();
    let Some(lookup) = lookups.find(|lookup| lookup.resolver == resolver) else {
        return;
    };
    match &lookup.answer {
        Ok(Answer::Addresses(found)) => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            html.text(&found.join(", "))
        }
        Ok(Answer::Failure(_, why)) => html.text(why),
        Err(why) => html.markup("unknown: ").text(why),
    };
    html.text(&format!(" ({})", took(lookup.took)));
}

fn redis(html: &mut Html, endpoints: &[Redis]) {
    if endpoints.is_empty() {
        return;
    }
    html.markup(
        "<h2>Redis</h2>\n<table>\n<thead><tr><th scope=\"col\">Status</th>\
         <th scope=\"col\">Name</th><th scope=\"col\">Address</th>\
         <th scope=\"col\">Phases</th><th scope=\"col\">Takes writes</th>\
         <th scope=\"col\">What is wrong</th></tr></thead>\n<tbody>\n",
    );
    for endpoint in endpoints {
        let phases: Vec<_> = endpoint
            .phases
            .iter()
            .map(|(phase, time)| format!("{} {}", phase.word(), took(*time)))
            .collect();
        html.markup("<tr><td class=\"some\">");
        word(html, redis_stands(endpoint));
        html.markup("</td><th scope=\"row\">")
            .text(&endpoint.name)
            .markup("</th><td data-title=\"address\">")
            .text(&endpoint.address)
            .markup("</td><td data-title=\"phases\">")
            .text(&phases.join(", "))
            .markup("</td><td data-title=\"takes writes\">")
            .markup(match endpoint.writable {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            })
            .markup("</td><td>");
        if let Some(failure) = &endpoint.failure {
            html.text(failure.reason.word())
                .markup(": ")
                .text(&failure.sentence);
        }
        html.markup("</td></tr>\n");
    }
    html.markup("</tbody>\n</table>\n");
}

fn write_paths(html: &mut Html, observation: &Observation, findings: &Findings) {
    let judged: HashMap<&str, &Judged> = findings
        .units
        .iter()
        .map(|judged| (&*judged.unit.name, judged))
        .collect();
    let paths: Vec<(&WritePath, Status)> = observation
        .write_paths
        .iter()
        .flatten()
        .filter_map(|path| Some((path, path_stands(path, judged.get(&*path.unit)?)?)))
        .collect();
    if paths.is_empty() {
        return;
    }
    html.markup("<h2>Write paths</h2>\n");
    let (well, bad): (Vec<_>, Vec<_>) = paths
        .into_iter()
        .partition(|(_, status)| *status == Status::Holds);
    if !bad.is_empty() {
        path_table(html, &bad);
    }
    if !well.is_empty() {
        html.markup("<details><summary>writable <span class=\"count\">")
            .text(&well.len().to_string())
            .markup("</span></summary>\n");
        path_table(html, &well);
        html.markup("</details>\n");
    }
}

fn path_table(html: &mut Html, paths: &[(&WritePath, Status)]) {
    html.markup(
        "<table>\n<thead><tr><th scope=\"col\">Status</th><th scope=\"col\">Path</th>\
         <th scope=\"col\">Unit</th><th scope=\"col\">As found by</th>\
         <th scope=\"col\">Free</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n",
    );
    for (path, status) in paths {
        html.markup("<tr><td class=\"some\">");
        word(html, *status);
        html.markup("</td><th scope=\"row\">")
            .text(&path.path.display().to_string())
            .markup("</th><td data-title=\"unit\">")
            .text(&path.unit)
            .markup("</td><td data-title=\"as found by\">")
            .markup(if path.process().is_some() {
                "its process"
            } else {
                "its settings, as it does not run"
            })
            .markup("</td><td data-title=\"free\">");
        if let Some(room) = path.room {
            html.text(&size(room.bytes));
        }
        let verdict = in_force(path);
        html.markup("</td><td>");
        if *status != Status::Holds {
            html.text(verdict.reason.word())
                .markup(": ")
                .text(&verdict.sentence);
        }
        html.markup("</td></tr>\n");
    }
    html.markup("</tbody>\n</table>\n");
}

/// Bytes, for a person.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = bytes;
    let mut unit = 0;
    while rest >= 10 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}
