//! How a baseline differs from the host as it stands, one line for each difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::place::Place;
use super::text::{learned_from, redis_name};
use super::{LOOK, Learned, addresses_of, asked, environment, gather, settled_look};
use crate::baseline::{Baseline, Expected, RedisAddress};
use crate::findings::dependencies::{hostname_stands, in_force, redis_stands};
use crate::findings::{self, Deviation, Findings, Judged, Status};
use crate::observation::{Host, Observation};
use crate::probe::Workers;
use crate::probe::hostname::{self, Resolver};
use crate::probe::redis::Redis;
use crate::probe::unit_files::Why;

/// What `learn --diff` found.
#[derive(Debug, Default)]
pub struct Differences {
    /// One line each: `+` for what the host has and the baseline lacks, `-` for what the baseline
    /// expects and the host lacks, `~` for what stands otherwise.
    pub lines: Vec<String>,
    /// What could not be told, a line each.
    pub unknown: Vec<String>,
}

/// Compares what `learn` would write with what the baseline says.
///
/// # Errors
///
/// A sentence that says what could not be told.
pub async fn diff(baseline: Baseline) -> Result<Differences, String> {
    let host = Host::watch(baseline);
    let observation = settled_look(&host).await;
    let findings = findings::judge(&observation);
    let learned = gather(&observation, &findings).await?;
    let mut differences = Differences::default();
    differences.units(&observation, &findings, &learned);
    differences.hostnames(&observation, &learned);
    differences.redis(&observation, &learned).await;
    differences.write_paths(&observation, &findings);
    let unreadable = learned.dependencies.unreadable.into_iter();
    differences
        .unknown
        .extend(unreadable.map(|why| format!("? {why}")));
    Ok(differences)
}

impl Differences {
    fn units(&mut self, observation: &Observation, findings: &Findings, learned: &Learned) {
        for list in [
            Expected::Running,
            Expected::Active,
            Expected::Absent,
            Expected::Disabled,
        ] {
            let mut lines = BTreeSet::new();
            for judged in &findings.units {
                if judged.expected == list.as_str() && !judged.holds() {
                    let (list, name) = (list.as_str(), &judged.unit.name);
                    lines.insert((
                        name.to_string(),
                        format!("- {list}: {name} ({})", stands(judged)),
                    ));
                }
            }
            for (name, place) in &learned.units {
                let (expected, why) = match place {
                    Place::Running(None) => (Expected::Running, "runs"),
                    Place::Running(Some(remark)) => (Expected::Running, *remark),
                    Place::Active => (Expected::Active, "is active"),
                    Place::Absent(because) => (Expected::Absent, because.as_str()),
                    Place::Disabled(because) => (Expected::Disabled, because.as_str()),
                    Place::Unlisted(_) | Place::Trouble(_) => continue,
                };
                if expected == list {
                    let list = list.as_str();
                    let line = format!("+ {list}: {name} ({why}, the baseline does not name it)");
                    lines.insert((name.clone(), line));
                }
            }
            self.lines.extend(lines.into_iter().map(|(_, line)| line));
        }
        for sentence in learned.troubles() {
            self.lines.push(format!("~ watch: {sentence}"));
        }
        let mut retired: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for reference in observation.unit_files.references.iter().flatten() {
            if reference.why == Why::Retired {
                let by = retired.entry(&reference.to).or_default();
                by.insert(&reference.from);
            }
        }
        for (name, by) in retired {
            let by: Vec<_> = by.into_iter().collect();
            self.lines
                .push(format!("~ retired: {name} (named by {})", by.join(", ")));
        }
    }

    fn hostnames(&mut self, observation: &Observation, learned: &Learned) {
        for hostname in &observation.hostnames {
            let name = &hostname.name;
            let (status, sentence) = hostname_stands(hostname);
            let sentence = sentence.unwrap_or_default();
            let found = addresses_of(hostname, Resolver::Nss);
            let mut expected = hostname.expected.clone();
            expected.sort_unstable();
            match status {
                Status::Holds => {}
                Status::Unknown => self
                    .unknown
                    .push(format!("? hostnames: {name} ({sentence})")),
                Status::Violated if !found.is_empty() && found != expected => {
                    let (found, expected) = (list(&found), list(&expected));
                    self.lines.push(format!(
                        "~ hostnames: {name} ({found} now, the baseline says {expected})"
                    ));
                }
                Status::Violated => self.lines.push(format!("~ hostnames: {name} ({sentence})")),
            }
        }
        let known = |name: &str| {
            let mut hostnames = observation.baseline.hostnames.iter();
            hostnames.any(|hostname| hostname.name.eq_ignore_ascii_case(name))
        };
        for (name, host) in &learned.dependencies.hosts {
            if !host.addresses.is_empty() && host.is_fixed && !known(name) {
                self.lines.push(format!(
                    "+ hostnames: {name} ({}, {}, the baseline does not name it)",
                    list(&host.addresses),
                    learned_from(&host.uses)
                ));
            }
        }
    }

    async fn redis(&mut self, observation: &Observation, learned: &Learned) {
        let named = &observation.baseline.redis;
        let places = Places::of(
            named.iter().map(|endpoint| &endpoint.address).chain(
                learned
                    .dependencies
                    .redis
                    .values()
                    .map(|server| &server.address),
            ),
        )
        .await;
        // One that the baseline names by another name of the same server is no other server.
        let new = learned.dependencies.redis.iter().filter(|(_, server)| {
            let is_same = |address: &RedisAddress| places.are_one(address, &server.address);
            server.answers() && !named.iter().any(|endpoint| is_same(&endpoint.address))
        });
        let mut new: Vec<_> = new.collect();
        let gone: Vec<_> = named
            .iter()
            .zip(&observation.redis)
            .filter(|(_, redis)| redis_stands(redis) == Status::Violated)
            .collect();
        for redis in &observation.redis {
            if redis_stands(redis) == Status::Unknown {
                let (name, why) = (&redis.name, why_not(redis));
                self.unknown.push(format!("? redis: {name} ({why})"));
            }
        }
        if let ([(endpoint, _)], [(url, server)]) = (&*gone, &*new)
            && (endpoint.name == redis_name(url, &server.address)
                || places.have_one_host(&endpoint.address, &server.address))
        {
            self.lines.push(format!(
                "~ redis: {} ({url} now, the baseline says {})",
                endpoint.name,
                environment::url(&endpoint.address)
            ));
            new.clear();
        } else {
            for (endpoint, redis) in gone {
                let (name, why) = (&endpoint.name, why_not(redis));
                self.lines.push(format!("- redis: {name} ({why})"));
            }
        }
        for (url, server) in new {
            let from = learned_from(&server.uses);
            self.lines.push(format!(
                "+ redis: {url} ({from}, the baseline does not name it)"
            ));
        }
    }

    /// Those that the baseline lists, of units that stand as it says: what a unit that does not runs
    /// into is told of the unit.
    fn write_paths(&mut self, observation: &Observation, findings: &Findings) {
        let paths = match &observation.write_paths {
            Ok(paths) => paths,
            Err(why) => return self.unknown.push(format!("? write_paths: {why}")),
        };
        for path in paths.iter().filter(|path| path.in_baseline) {
            let mut units = findings.units.iter();
            if !units.any(|judged| judged.unit.name == path.unit && judged.holds()) {
                continue;
            }
            let verdict = in_force(path);
            let told = format!(
                "write_paths: {} of {} ({})",
                path.path.display(),
                path.unit,
                verdict.sentence
            );
            match verdict.reason.is_writable() {
                Some(true) => {}
                Some(false) => self.lines.push(format!("- {told}")),
                None => self.unknown.push(format!("? {told}")),
            }
        }
    }
}

/// How a unit stands that does not stand as the baseline says.
fn stands(judged: &Judged) -> String {
    let told: Vec<&str> = judged
        .deviating()
        .map(|deviation| match deviation {
            Deviation::Failed => "failed",
            Deviation::Restarting => "restarts again and again",
            Deviation::ActivatingTooLong => "is stuck in its start",
            Deviation::Stopped if judged.unit.suffix() == "service" => "does not run",
            Deviation::Stopped => "is not active",
            Deviation::Missing => "has no unit file",
            Deviation::Masked => "is masked",
            Deviation::Present => "exists now",
            Deviation::Enabled => "is enabled now",
            Deviation::Running => "runs now",
        })
        .collect();
    told.join(", ")
}

fn why_not(redis: &Redis) -> &str {
    let failure = redis.failure.as_ref();
    failure.map_or("does not answer", |failure| &failure.sentence)
}

fn list(addresses: &[IpAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(" and ")
}

/// The addresses behind the hosts of Redis servers.
struct Places(BTreeMap<String, Vec<IpAddr>>);

impl Places {
    async fn of(addresses: impl Iterator<Item = &RedisAddress>) -> Self {
        let hosts: BTreeSet<&str> = addresses
            .filter_map(|address| match address {
                RedisAddress::Tcp { host, .. } => Some(host.as_str()),
                RedisAddress::Unix(_) => None,
            })
            .collect();
        let (addresses, names): (Vec<&str>, Vec<&str>) = hosts
            .into_iter()
            .partition(|host| host.parse::<IpAddr>().is_ok());
        let names: Vec<_> = names.into_iter().map(asked).collect();
        let deadline = (Instant::now() + LOOK).into();
        let found = hostname::probe(&names, &[], &Workers::default(), deadline).await;
        let found = found
            .iter()
            .map(|found| (found.name.clone(), addresses_of(found, Resolver::Nss)));
        let addresses = addresses
            .into_iter()
            .filter_map(|host| Some((host.to_owned(), vec![host.parse().ok()?])));
        Self(addresses.chain(found).collect())
    }

    /// Whether two addresses lead to one server.
    fn are_one(&self, one: &RedisAddress, other: &RedisAddress) -> bool {
        let (
            RedisAddress::Tcp { host, port, tls },
            RedisAddress::Tcp {
                host: other_host,
                port: other_port,
                tls: other_tls,
            },
        ) = (one, other)
        else {
            return one == other;
        };
        (port, tls) == (other_port, other_tls) && self.is_one_host(host, other_host)
    }

    /// Whether two addresses lead to one host.
    fn have_one_host(&self, one: &RedisAddress, other: &RedisAddress) -> bool {
        match (one, other) {
            (RedisAddress::Tcp { host, .. }, RedisAddress::Tcp { host: other, .. }) => {
                self.is_one_host(host, other)
            }
            _ => false,
        }
    }

    fn is_one_host(&self, one: &str, other: &str) -> bool {
        let of = |host: &str| self.0.get(host).map(Vec::as_slice).unwrap_or_default();
        one == other || of(one).iter().any(|address| of(other).contains(address))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::environment::Uses;
    use super::super::{Dependencies, Server, endpoint};
    use super::*;
    use crate::baseline::RedisEndpoint;
    use crate::probe::redis::{Failure, Reason};
    use crate::report::tests::unknown;

    #[test]
    fn two_names_of_one_server_are_one_server() {
        let address = |host: &str, port, tls| RedisAddress::Tcp {
            host: host.to_owned(),
            port,
            tls,
        };
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let places = Places(BTreeMap::from([
            ("127.0.0.1".to_owned(), vec![loopback]),
            ("cache".to_owned(), vec![loopback]),
            ("gone".to_owned(), Vec::new()),
        ]));
        let cache = address("cache", 6379, false);
        for (other, one) in [
            (address("127.0.0.1", 6379, false), true),
            (address("127.0.0.1", 6380, false), false),
            (address("127.0.0.1", 6379, true), false),
            (address("gone", 6379, false), false),
            (RedisAddress::Unix("/run/redis.sock".into()), false),
        ] {
            assert_eq!(places.are_one(&cache, &other), one, "{other:?}");
        }
        let gone = address("gone", 1, false);
        assert!(places.are_one(&gone, &gone));
    }

    /// A server that answers, or that nobody answers for.
    fn answer(name: &str, failure: Option<&str>) -> Redis {
        Redis {
            name: name.to_owned(),
            address: name.to_owned(),
            phases: Vec::new(),
            up: Some(failure.is_none()),
            failure: failure.map(|sentence| Failure {
                reason: Reason::Refused,
                sentence: sentence.to_owned(),
            }),
            writable: None,
            canary: false,
            started: None,
            connected_clients: None,
        }
    }

    /// What is told where the baseline's one Redis does not answer and another one does.
    async fn told(name: &str, url: (&str, u16), new: (&str, u16)) -> Vec<String> {
        let address = |(host, port): (&str, u16)| RedisAddress::Tcp {
            host: host.to_owned(),
            port,
            tls: false,
        };
        let mut observation = unknown();
        let mut baseline = Baseline::embedded();
        let named = RedisEndpoint {
            name: name.to_owned(),
            ..endpoint(&address(url))
        };
        baseline.redis = vec![named];
        observation.baseline = Arc::new(baseline);
        observation.redis = vec![answer(name, Some("nobody listens"))];
        let server = Server {
            address: address(new),
            answer: answer("new", None),
            uses: Uses::from([(
                "a.service".to_owned(),
                BTreeSet::from(["A_HOST".to_owned()]),
            )]),
        };
        let mut learned = Learned {
            deployment: String::new(),
            patterns: Vec::new(),
            units: BTreeMap::new(),
            unlisted: Vec::new(),
            dependencies: Dependencies::default(),
            declared: BTreeMap::new(),
            has_snapshot: false,
        };
        let new = environment::url(&server.address);
        learned.dependencies.redis = BTreeMap::from([(new, server)]);
        let mut differences = Differences::default();
        differences.redis(&observation, &learned).await;
        differences.lines
    }

    #[tokio::test]
    async fn a_redis_that_moved_is_one_change_and_two_servers_are_two() {
        for (name, url, new) in [
            ("main", ("127.0.0.1", 6379), ("127.0.0.1", 6380)),
            ("10.0.0.2:6379", ("10.0.0.1", 6379), ("10.0.0.2", 6379)),
        ] {
            let lines = told(name, url, new).await;
            let [line] = &lines[..] else {
                panic!("{lines:?}");
            };
            assert!(line.starts_with(&format!("~ redis: {name} ")), "{line}");
        }
        let lines = told("queue", ("10.0.0.1", 6379), ("10.0.0.2", 6379)).await;
        assert_eq!(
            lines,
            [
                "- redis: queue (nobody listens)",
                "+ redis: redis://10.0.0.2:6379 (from A_HOST of a.service, the baseline does not \
                 name it)",
            ]
        );
    }
}
