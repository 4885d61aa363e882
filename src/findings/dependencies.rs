//! What the units depend on: names, Redis servers, write paths and unit files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Check, Judged, Remark, Status, fix};
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
    let found = of(Status::Holds).count();
    let mut seen = format!("{found} {good}");
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
        wanted: Some(standings.len()),
        found: Some(found),
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

/// How a name can differ from what the baseline expects of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostnameDeviation {
    /// Its users get no address for it.
    Unresolved,
    /// There are addresses for it, but not exactly the expected ones.
    Unexpected,
}

impl HostnameDeviation {
    /// Both, in the order of their series.
    pub const ALL: [Self; 2] = [Self::Unresolved, Self::Unexpected];

    /// The word for it, in labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Unexpected => "unexpected",
        }
    }
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

/// How a name stands: what its users get, and what the hosts file holds besides. Of a name that is
/// resolved as a service, the service's hosts file decides, then DNS: what the exporter itself gets
/// says nothing of it.
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
    let file = match &hostname.resolved_as {
        Some(unit) => format!("the hosts file that {unit} sees"),
        None => "the hosts file".to_owned(),
    };
    let hosts = match lookup(Resolver::Hosts) {
        Ok(Answer::Addresses(found)) if same(found, &hostname.expected) => (Status::Holds, None),
        Ok(Answer::Addresses(found)) => (
            Status::Violated,
            Some(format!(
                "{file} gives {name} the addresses {}, not only {expected}: delete the wrong lines",
                addresses(found)
            )),
        ),
        Ok(Answer::Failure(..)) if hostname.resolved_as.is_none() => (Status::Holds, None),
        // No line of its own: then it gets what DNS says.
        Ok(Answer::Failure(..)) => match lookup(Resolver::Dns) {
            Ok(Answer::Addresses(found)) if same(found, &hostname.expected) => {
                (Status::Holds, None)
            }
            Ok(_) => (
                Status::Violated,
                Some(format!(
                    "{file} has no line for {name}, nor does DNS give it {expected}"
                )),
            ),
            Err(why) => (
                Status::Unknown,
                Some(format!(
                    "{file} has no line for {name}, and DNS could not be asked: {why}"
                )),
            ),
        },
        Err(why) => (
            Status::Unknown,
            Some(format!("{file} could not be read for {name}: {why}")),
        ),
    };
    if hostname.resolved_as.is_some() {
        return hosts;
    }
    let nss = match lookup(Resolver::Nss) {
        Ok(Answer::Addresses(found)) if same(found, &hostname.expected) => (Status::Holds, None),
        Ok(Answer::Addresses(found)) => (
            Status::Violated,
            Some(format!(
                "{name} resolves to {}, not to {expected}",
                addresses(found)
            )),
        ),
        Ok(Answer::Failure(_, why)) => (
            Status::Violated,
            Some(format!(
                "{name} does not resolve ({why}): expected {expected}"
            )),
        ),
        Err(why) => (
            Status::Unknown,
            Some(format!("{name} could not be looked up: {why}")),
        ),
    };
    if hosts.0 > nss.0 { hosts } else { nss }
}

/// How what the users of a name get for it differs from what they should: `Ok(None)` if it does not;
/// `Err` if that cannot be told.
pub fn hostname_deviation(hostname: &Hostname) -> Result<Option<HostnameDeviation>, ()> {
    // A service has its own hosts file, then DNS; of NSS only the exporter's is known.
    let asked: &[Resolver] = match &hostname.resolved_as {
        Some(_) => &[Resolver::Hosts, Resolver::Dns],
        None => &[Resolver::Nss],
    };
    let resolves = |lookup: &Lookup| {
        asked.contains(&lookup.resolver) && matches!(lookup.answer, Ok(Answer::Addresses(_)))
    };
    match hostname_stands(hostname).0 {
        Status::Holds => Ok(None),
        Status::Unknown => Err(()),
        Status::Violated if hostname.lookups.iter().any(resolves) => {
            Ok(Some(HostnameDeviation::Unexpected))
        }
        Status::Violated => Ok(Some(HostnameDeviation::Unresolved)),
    }
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
                    match endpoint.up {
                        Some(true) => "answers, but not all is well",
                        Some(false) => "does not answer PING with PONG",
                        None => "cannot be asked",
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
    match endpoint.up {
        Some(true) if endpoint.writable != Some(false) => Status::Holds,
        Some(_) => Status::Violated,
        None => Status::Unknown,
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
                wanted: Some(named),
                found: None,
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
    let dangling = observation.unit_files.references.as_ref();
    let check = |status, seen| Check {
        name: "references",
        status,
        expected: "none dangling".to_owned(),
        seen,
        wanted: Some(0),
        found: dangling.ok().map(Vec::len),
    };
    checks.push(match dangling {
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

/// What is wrong with a reference, and what to do.
pub fn tell_reference(edge: &Dangling) -> String {
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
            wanted: None,
            found: None,
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
                    sentence: format!(
                        "unit files differ from the snapshot; `{}` shows how",
                        fix::own("snapshot diff", &observation.baseline)
                    ),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::probe::hostname::Reason;
    use crate::probe::write_path;
    use crate::systemd::unit::Unit;

    type Told<'a> = Result<&'a [&'a str], &'a str>;

    /// What each resolver says of a name that should be 127.0.0.1; no address is a failure.
    fn hostname(as_service: bool, nss: Told<'_>, hosts: Told<'_>, dns: Told<'_>) -> Stands {
        let lookup = |resolver, told: Told<'_>| Lookup {
            resolver,
            took: Duration::ZERO,
            answer: match told {
                Ok([]) => Ok(Answer::Failure(Reason::NotFound, "no such name".to_owned())),
                Ok(found) => Ok(Answer::Addresses(
                    found.iter().map(|ip| ip.parse().unwrap()).collect(),
                )),
                Err(why) => Err(why.to_owned()),
            },
        };
        let hostname = Hostname {
            name: "alias".to_owned(),
            expected: vec!["127.0.0.1".parse().unwrap()],
            resolved_as: as_service.then(|| "a.service".to_owned()),
            lookups: vec![
                lookup(Resolver::Nss, nss),
                lookup(Resolver::Hosts, hosts),
                lookup(Resolver::Dns, dns),
            ],
            persistence: Ok(Persistence::Kept(String::new())),
        };
        let (status, sentence) = hostname_stands(&hostname);
        assert_eq!(status == Status::Holds, sentence.is_none(), "{sentence:?}");
        let deviation = hostname_deviation(&hostname);
        assert_eq!(deviation.is_err(), status == Status::Unknown);
        assert_eq!(deviation == Ok(None), status == Status::Holds);
        if deviation == Ok(Some(HostnameDeviation::Unresolved)) {
            Stands::Unresolved
        } else {
            match status {
                Status::Holds => Stands::Holds,
                Status::Unknown => Stands::Unknown,
                Status::Violated => Stands::Unexpected,
            }
        }
    }

    /// A name's status together with its deviation.
    #[derive(Debug, PartialEq, Eq)]
    enum Stands {
        Holds,
        Unresolved,
        Unexpected,
        Unknown,
    }

    const RIGHT: Told<'_> = Ok(&["127.0.0.1"]);
    const WRONG: Told<'_> = Ok(&["10.0.0.5"]);
    const BOTH: Told<'_> = Ok(&["10.0.0.5", "127.0.0.1"]);
    const NONE: Told<'_> = Ok(&[]);
    const UNTOLD: Told<'_> = Err("not permitted");

    #[test]
    fn a_name_stands_by_what_the_services_get_and_by_the_hosts_file() {
        let of = |nss, hosts, dns| hostname(false, nss, hosts, dns);
        assert_eq!(of(RIGHT, RIGHT, NONE), Stands::Holds);
        assert_eq!(of(RIGHT, NONE, RIGHT), Stands::Holds, "from DNS");
        assert_eq!(of(RIGHT, RIGHT, UNTOLD), Stands::Holds);
        assert_eq!(of(RIGHT, BOTH, NONE), Stands::Unexpected);
        assert_eq!(of(WRONG, NONE, WRONG), Stands::Unexpected);
        assert_eq!(of(NONE, NONE, NONE), Stands::Unresolved);
        assert_eq!(of(UNTOLD, RIGHT, RIGHT), Stands::Unknown);
        assert_eq!(of(RIGHT, UNTOLD, RIGHT), Stands::Unknown);
        assert_eq!(of(NONE, UNTOLD, NONE), Stands::Unresolved);
    }

    #[test]
    fn a_name_of_a_service_stands_by_what_that_service_sees() {
        let of = |nss, hosts, dns| hostname(true, nss, hosts, dns);
        assert_eq!(of(WRONG, RIGHT, NONE), Stands::Holds);
        assert_eq!(of(NONE, NONE, RIGHT), Stands::Holds);
        assert_eq!(of(RIGHT, NONE, NONE), Stands::Unresolved);
        assert_eq!(of(RIGHT, BOTH, RIGHT), Stands::Unexpected);
        assert_eq!(of(RIGHT, UNTOLD, RIGHT), Stands::Unknown);
        assert_eq!(of(RIGHT, NONE, UNTOLD), Stands::Unknown);
    }

    #[test]
    fn a_redis_must_answer_and_not_be_known_to_refuse_writes() {
        let of = |up, writable| {
            redis_stands(&Redis {
                name: "r".to_owned(),
                address: String::new(),
                phases: Vec::new(),
                up,
                failure: None,
                writable,
                canary: false,
                started: None,
                connected_clients: None,
            })
        };
        assert_eq!(of(Some(true), Some(true)), Status::Holds);
        assert_eq!(of(Some(true), None), Status::Holds);
        assert_eq!(of(Some(true), Some(false)), Status::Violated);
        assert_eq!(of(Some(false), None), Status::Violated);
        assert_eq!(of(None, None), Status::Unknown);
    }

    #[test]
    fn a_path_counts_where_its_unit_runs_or_should() {
        use write_path::Reason::{Denied, Ok, ReadOnly, Starting, Unknown};
        let of = |expected, in_baseline, now: Option<write_path::Reason>, next| {
            let verdict = |reason| Verdict {
                reason,
                sentence: String::new(),
            };
            let path = WritePath {
                unit: "a.service".into(),
                path: "/x".into(),
                in_baseline,
                now: now.map(verdict),
                next_start: verdict(next),
                room: None,
            };
            let judged = Judged {
                unit: Arc::new(Unit::new("a.service", 0)),
                expected,
                tier: 1,
                because: None,
                deviations: Vec::new(),
                causes: Vec::new(),
                clue: None,
            };
            path_stands(&path, &judged)
        };
        assert_eq!(of("running", true, Some(Ok), Denied), Some(Status::Holds));
        assert_eq!(
            of("running", true, Some(ReadOnly), Ok),
            Some(Status::Violated)
        );
        assert_eq!(of("running", false, None, Denied), Some(Status::Violated));
        assert_eq!(
            of("running", true, Some(Unknown), Ok),
            Some(Status::Unknown)
        );
        assert_eq!(of("running", false, Some(Unknown), Ok), None);
        // A process that is only just starting may still be outside of its sandbox.
        assert_eq!(
            of("running", true, Some(Starting), Denied),
            Some(Status::Violated)
        );
        assert_eq!(of("disabled", true, None, Denied), None);
        assert_eq!(
            of("disabled", true, Some(Denied), Ok),
            Some(Status::Violated)
        );
        assert_eq!(of("watched", false, None, Denied), None);
    }
}
