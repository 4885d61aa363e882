//! What the units depend on: names, Redis servers, write paths and unit files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Check, Judged, Remark, Status};
use crate::baseline::Expected;
use crate::observation::Observation;
use crate::probe::hostname::{Answer, Hostname, Lookup, Persistence, Resolver};
use crate::probe::redis::Redis;
use crate::probe::unit_files::{Dangling, Effect, Why};
use crate::probe::write_path::{Verdict, WritePath};

/// The checks of the dependencies, and what is to be said of each; `judged` is `None` while the
/// units are unknown.
pub fn judge(observation: &Observation, judged: Option<&[Judged]>) -> (Vec<Check>, Vec<Remark>) {
    let mut checks = Vec::new();
    let mut remarks = Vec::new();
    references(observation, &mut checks, &mut remarks);
    hostnames(&observation.hostnames, &mut checks, &mut remarks);
    redis(&observation.redis, &mut checks, &mut remarks);
    write_paths(observation, judged, &mut checks, &mut remarks);
    unit_files(observation, &mut checks, &mut remarks);
    (checks, remarks)
}

/// How one subject stands, with a word of it for a list.
type Standing = (Status, String);

/// The check over subjects that each have an answer.
fn check_of(name: &'static str, good: &str, standings: &[Standing]) -> Check {
    let status = standings.iter().map(|(status, _)| *status).max();
    let of = |wanted| {
        standings
            .iter()
            .filter(move |(status, _)| *status == wanted)
            .map(|(_, subject)| subject.as_str())
    };
    let mut seen = format!("{} {good}", of(Status::Holds).count());
    for (status, words) in [(Status::Violated, "not so"), (Status::Unknown, "unknown")] {
        let subjects: BTreeSet<_> = of(status).collect();
        if !subjects.is_empty() {
            let subjects: Vec<_> = subjects.into_iter().collect();
            seen.push_str(&format!(", {words}: {}", subjects.join(", ")));
        }
    }
    Check {
        name,
        status: status.unwrap_or(Status::Holds),
        expected: format!("{} {good}", standings.len()),
        seen,
    }
}

fn hostnames(hostnames: &[Hostname], checks: &mut Vec<Check>, remarks: &mut Vec<Remark>) {
    if hostnames.is_empty() {
        return;
    }
    let mut standings = Vec::new();
    for hostname in hostnames {
        let (status, sentence) = hostname_stands(hostname);
        standings.push((status, hostname.name.clone()));
        let remark = |status, sentence| Remark {
            check: "hostnames",
            status,
            subject: hostname.name.clone(),
            sentence,
        };
        remarks.extend(sentence.map(|sentence| remark(status, sentence)));
        if status == Status::Holds {
            remarks.extend(match &hostname.persistence {
                Ok(Persistence::Kept(_)) => None,
                Ok(Persistence::Lost(why)) => Some(remark(
                    Status::Holds,
                    format!(
                        "{} resolves now, but may not after a reboot or rebuild: {why}",
                        hostname.name
                    ),
                )),
                Err(why) => Some(remark(
                    Status::Holds,
                    format!(
                        "{} resolves now; whether a reboot or rebuild keeps that cannot be told: {why}",
                        hostname.name
                    ),
                )),
            });
        }
    }
    checks.push(check_of("hostnames", "as expected", &standings));
}

/// Whether the resolver found exactly what the baseline expects; `None` if it was not asked.
pub fn is_as_expected(hostname: &Hostname, lookup: &Lookup) -> Option<bool> {
    match &lookup.answer {
        Ok(Answer::Addresses(found)) => Some(same(found, &hostname.expected)),
        Ok(Answer::Failure(..)) => Some(false),
        Err(_) => None,
    }
}

fn same(found: &[IpAddr], expected: &[IpAddr]) -> bool {
    found.iter().collect::<BTreeSet<_>>() == expected.iter().collect::<BTreeSet<_>>()
}

/// How a name stands: what its users get, and what the hosts file holds besides.
pub fn hostname_stands(hostname: &Hostname) -> (Status, Option<String>) {
    let name = &hostname.name;
    let expected = addresses(&hostname.expected);
    let lookup = |resolver| {
        let found = hostname
            .lookups
            .iter()
            .find(|lookup| lookup.resolver == resolver);
        found.map_or(Err("it was not looked up"), |lookup| {
            lookup.answer.as_ref().map_err(String::as_str)
        })
    };
    let (nss, hosts, dns) = (
        lookup(Resolver::Nss),
        lookup(Resolver::Hosts),
        lookup(Resolver::Dns),
    );
    let mut standing = (Status::Holds, None);
    let mut found = |status, sentence| {
        if standing.0 < status {
            standing = (status, Some(sentence));
        }
    };
    match nss {
        Ok(Answer::Addresses(got)) if same(got, &hostname.expected) => {}
        Ok(Answer::Addresses(got)) => found(
            Status::Violated,
            format!("{name} resolves to {}, not to {expected}", addresses(got)),
        ),
        Ok(Answer::Failure(_, why)) => found(
            Status::Violated,
            format!("{name} does not resolve ({why}): expected {expected}"),
        ),
        Err(why) => found(
            Status::Unknown,
            format!("{name} could not be looked up: {why}"),
        ),
    }
    let file = match &hostname.resolved_as {
        Some(unit) => format!("the hosts file that {unit} sees"),
        None => "the hosts file".to_owned(),
    };
    match hosts {
        Ok(Answer::Addresses(got)) if same(got, &hostname.expected) => {}
        Ok(Answer::Addresses(got)) => found(
            Status::Violated,
            format!(
                "{file} gives {name} the addresses {}, not only {expected}: delete the wrong lines",
                addresses(got)
            ),
        ),
        // The exporter's own look-up does not tell what a service with another file gets.
        Ok(Answer::Failure(..)) if hostname.resolved_as.is_some() => match dns {
            Ok(Answer::Addresses(got)) if same(got, &hostname.expected) => {}
            _ => found(
                Status::Violated,
                format!("{file} has no line for {name}, nor does DNS give it {expected}"),
            ),
        },
        Ok(Answer::Failure(..)) => {}
        Err(why) => found(
            Status::Unknown,
            format!("{file} could not be read for {name}: {why}"),
        ),
    }
    standing
}

fn addresses(list: &[IpAddr]) -> String {
    let list: Vec<_> = list.iter().map(ToString::to_string).collect();
    list.join(", ")
}

fn redis(endpoints: &[Redis], checks: &mut Vec<Check>, remarks: &mut Vec<Remark>) {
    if endpoints.is_empty() {
        return;
    }
    let mut standings = Vec::new();
    for endpoint in endpoints {
        let status = redis_stands(endpoint);
        standings.push((status, endpoint.name.clone()));
        if let Some(failure) = &endpoint.failure {
            remarks.push(Remark {
                check: "redis",
                status,
                subject: endpoint.name.clone(),
                sentence: format!(
                    "redis {} at {} {}: {}",
                    endpoint.name,
                    endpoint.address,
                    if endpoint.up {
                        "answers, but not all is well"
                    } else {
                        "does not answer PING with PONG"
                    },
                    failure.sentence
                ),
            });
        }
    }
    checks.push(check_of("redis", "answering", &standings));
}

/// How a Redis stands: it has to answer, and must not be known to refuse writes.
pub fn redis_stands(endpoint: &Redis) -> Status {
    if endpoint.up && endpoint.writable != Some(false) {
        Status::Holds
    } else {
        Status::Violated
    }
}

/// What counts now: the running process' view, or else what the next start would find.
pub fn in_force(write_path: &WritePath) -> &Verdict {
    write_path.process().unwrap_or(&write_path.next_start)
}

/// Whether the path matters: a unit that is kept down on purpose need not be able to write.
fn matters(write_path: &WritePath, judged: &Judged) -> bool {
    let kept_down = [Expected::Absent, Expected::Disabled]
        .iter()
        .any(|list| judged.expected == list.as_str());
    let needed = judged.expected == Expected::Running.as_str();
    write_path.process().is_some() || (!kept_down && (write_path.in_baseline || needed))
}

/// How a path stands that the unit has to write; `None` where it does not matter.
pub fn path_stands(write_path: &WritePath, judged: &Judged) -> Option<Status> {
    if !matters(write_path, judged) {
        return None;
    }
    match in_force(write_path).reason.is_writable() {
        Some(true) => Some(Status::Holds),
        Some(false) => Some(Status::Violated),
        // That a service is given a directory does not say that it needs it.
        None => write_path.in_baseline.then_some(Status::Unknown),
    }
}

fn write_paths(
    observation: &Observation,
    judged: Option<&[Judged]>,
    checks: &mut Vec<Check>,
    remarks: &mut Vec<Remark>,
) {
    let (paths, judged) = match (&observation.write_paths, judged) {
        (Ok(paths), Some(judged)) => (paths, judged),
        (Err(reason), _) => {
            let named = observation.baseline.write_paths.iter();
            let named: usize = named.map(|service| service.paths.len()).sum();
            checks.push(Check {
                name: "write_paths",
                status: Status::Unknown,
                expected: format!("{named} writable"),
                seen: reason.clone(),
            });
            return;
        }
        (Ok(_), None) => return,
    };
    let judged: BTreeMap<&str, &Judged> = judged
        .iter()
        .map(|judged| (&*judged.unit.name, judged))
        .collect();
    let mut standings = Vec::new();
    for path in paths {
        let Some(status) = judged
            .get(&*path.unit)
            .and_then(|judged| path_stands(path, judged))
        else {
            continue;
        };
        let subject = format!("{} of {}", path.path.display(), path.unit);
        standings.push((status, subject.clone()));
        remarks.extend(path_remark(path, status).map(|sentence| Remark {
            check: "write_paths",
            status,
            subject,
            sentence,
        }));
    }
    checks.push(check_of("write_paths", "writable", &standings));
}

fn path_remark(path: &WritePath, status: Status) -> Option<String> {
    let (unit, shown) = (&path.unit, path.path.display());
    let now = in_force(path);
    let next = &path.next_start;
    let sentence = match (status, path.process().is_some(), next.reason.is_writable()) {
        (Status::Violated, true, Some(true)) => format!(
            "{unit} cannot write {shown} ({}): {}; a restart of the unit would cure it",
            now.reason.word(),
            now.sentence
        ),
        (Status::Violated, true, _) => format!(
            "{unit} cannot write {shown} ({}): {}",
            now.reason.word(),
            now.sentence
        ),
        (Status::Violated, false, _) => format!(
            "{unit} could not write {shown} if it were started ({}): {}",
            now.reason.word(),
            now.sentence
        ),
        (Status::Unknown, ..) => format!(
            "whether {unit} can write {shown} cannot be told ({}): {}",
            now.reason.word(),
            now.sentence
        ),
        (Status::Holds, true, Some(false)) => format!(
            "{unit} can write {shown}, but after its next start it could not ({}): {}",
            next.reason.word(),
            next.sentence
        ),
        (Status::Holds, ..) => return None,
    };
    Some(sentence)
}

fn references(observation: &Observation, checks: &mut Vec<Check>, remarks: &mut Vec<Remark>) {
    let check = |status, seen| Check {
        name: "references",
        status,
        expected: "none dangling".to_owned(),
        seen,
    };
    checks.push(match &observation.unit_files.references {
        Err(reason) => check(Status::Unknown, reason.clone()),
        Ok(dangling) if dangling.is_empty() => check(Status::Holds, "none dangling".to_owned()),
        Ok(dangling) => {
            let to: BTreeSet<_> = dangling.iter().map(|edge| edge.to.as_str()).collect();
            let to: Vec<_> = to.into_iter().collect();
            check(
                Status::Violated,
                format!("{} dangling, to: {}", dangling.len(), to.join(", ")),
            )
        }
    });
    for edge in observation.unit_files.references.iter().flatten() {
        remarks.push(Remark {
            check: "references",
            status: Status::Violated,
            subject: edge.from.clone(),
            sentence: tell_reference(edge),
        });
    }
}

fn tell_reference(edge: &Dangling) -> String {
    let why = match edge.why {
        Why::NoFile => "has no unit file",
        Why::Masked => "is masked",
        Why::Retired => "is retired",
    };
    let effect = match edge.effect {
        Effect::Blocks => "it cannot start",
        Effect::Clutter => "systemd skips it",
    };
    let place = match edge.line {
        Some(line) => format!("{}:{line}", edge.file.display()),
        None => edge.file.display().to_string(),
    };
    format!(
        "{} names {} in {}=, which {why}: {effect}; delete it from {place}",
        edge.from, edge.to, edge.directive
    )
}

fn unit_files(observation: &Observation, checks: &mut Vec<Check>, remarks: &mut Vec<Remark>) {
    let Some(drift) = &observation.unit_files.drift else {
        return;
    };
    let expected = "as in the snapshot".to_owned();
    match drift {
        Err(reason) => checks.push(Check {
            name: "unit_files",
            status: Status::Unknown,
            expected,
            seen: reason.clone(),
        }),
        Ok(drift) => {
            let standings: Vec<Standing> = drift
                .files
                .iter()
                .map(|(file, difference)| match difference {
                    None => (Status::Holds, file.clone()),
                    Some(difference) => {
                        (Status::Violated, format!("{file} ({})", difference.word()))
                    }
                })
                .collect();
            let differs = standings.iter().any(|(status, _)| *status != Status::Holds);
            checks.push(Check {
                expected,
                ..check_of("unit_files", "as in the snapshot", &standings)
            });
            if differs {
                remarks.push(Remark {
                    check: "unit_files",
                    status: Status::Violated,
                    subject: "unit files".to_owned(),
                    sentence: "unit files differ from the snapshot; `baseline-exporter snapshot diff` shows how"
                        .to_owned(),
                });
            }
        }
    }
}

/// Which of the unit's dependencies are violated now: cause and what it is about.
pub fn causes(observation: &Observation, judged: &Judged) -> Vec<(&'static str, String)> {
    let name = &*judged.unit.name;
    let baseline = &observation.baseline;
    let mut causes = Vec::new();
    for (hostname, found) in baseline.hostnames.iter().zip(&observation.hostnames) {
        if hostname.used_by.covers(name) && hostname_stands(found).0 == Status::Violated {
            causes.push(("hostname", found.name.clone()));
        }
    }
    for (endpoint, found) in baseline.redis.iter().zip(&observation.redis) {
        if endpoint.used_by.covers(name) && redis_stands(found) == Status::Violated {
            causes.push(("redis", found.name.clone()));
        }
    }
    for path in observation.write_paths.iter().flatten() {
        if *path.unit == *name && in_force(path).reason.is_writable() == Some(false) {
            causes.push(("write_path", path.path.display().to_string()));
        }
    }
    causes
}
