//! What the exporter does not see with the privilege that it has, and what would show it.

use std::collections::BTreeSet;

use crate::baseline::RedisAddress;
use crate::observation::Observation;

/// Something that takes more than the exporter's user may need to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// processes, journal, snapshot, unit_files or sockets.
    pub name: &'static str,
    /// What of it is not seen, for a person; `None` if all of it is that the baseline asks for.
    pub unseen: Option<String>,
    /// The drop-in of [`View::LEVELS`] that shows it to the exporter's service, if there is one.
    pub level: Option<&'static str>,
    /// What that gives, or what else helps.
    pub grant: &'static str,
}

impl View {
    /// Where the package installs the drop-ins.
    pub const LEVELS: &str = "/usr/share/baseline-exporter/levels";
}

/// The views that the baseline needs, as far as it can be told whether the exporter has them.
pub fn views(observation: &Observation) -> Vec<View> {
    [
        processes(observation),
        journal(observation),
        snapshot(observation),
        unit_files(observation),
        sockets(observation),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The processes of services, through which write paths and their hosts file are seen.
fn processes(observation: &Observation) -> Option<View> {
    let write_paths = observation.write_paths.as_ref().ok()?;
    let mut services = BTreeSet::new();
    let mut unseen = BTreeSet::new();
    for path in write_paths {
        services.insert(&*path.unit);
        let verdict = path.process().unwrap_or(&path.next_start);
        if !path.is_told() && names_ptrace(&verdict.sentence) {
            unseen.insert(&*path.unit);
        }
    }
    for hostname in &observation.hostnames {
        let Some(service) = hostname.resolved_as.as_deref() else {
            continue;
        };
        services.insert(service);
        let mut answers = hostname.lookups.iter().map(|lookup| &lookup.answer);
        if answers.any(|answer| matches!(answer, Err(why) if names_ptrace(why))) {
            unseen.insert(service);
        }
    }
    let names = || unseen.iter().copied().collect::<Vec<_>>().join(", ");
    (!services.is_empty()).then(|| View {
        name: "processes",
        unseen: (!unseen.is_empty()).then(|| format!("the processes of {}", names())),
        level: Some("ptrace.conf"),
        grant: "CAP_SYS_PTRACE",
    })
}

/// The probes end what they say of a process that they may not look through with what would let
/// them.
fn names_ptrace(sentence: &str) -> bool {
    sentence.contains("CAP_SYS_PTRACE")
}

fn journal(observation: &Observation) -> Option<View> {
    let is_readable = observation.journal_readable?;
    Some(View {
        name: "journal",
        unseen: (!is_readable).then(|| "the journal, which tells why a unit failed".to_owned()),
        level: Some("journal.conf"),
        grant: "the group systemd-journal",
    })
}

fn snapshot(observation: &Observation) -> Option<View> {
    let is_denied = match observation.unit_files.drift.as_ref()? {
        Ok(_) => false,
        Err(why) if is_of_snapshot(why) => true,
        // It may be readable, and it may not.
        Err(_) => return None,
    };
    Some(View {
        name: "snapshot",
        unseen: is_denied.then(|| "the golden snapshot".to_owned()),
        level: Some("snapshot-root.conf"),
        grant: "or name a copy that everybody may read",
    })
}

fn unit_files(observation: &Observation) -> Option<View> {
    let files = &observation.unit_files;
    let drift = files.drift.as_ref().and_then(|drift| drift.as_ref().err());
    let references = files.references.as_ref().err();
    let mut refusals = [references, drift].into_iter().flatten();
    let is_denied = refusals.any(|why| is_denied(why) && !is_of_snapshot(why));
    if !is_denied && references.is_some() {
        return None;
    }
    Some(View {
        name: "unit_files",
        unseen: is_denied.then(|| "unit files that not everybody may read".to_owned()),
        level: None,
        grant: "the permission to read them, or CAP_DAC_READ_SEARCH",
    })
}

/// The unix sockets of Redis servers.
fn sockets(observation: &Observation) -> Option<View> {
    let mut has_socket = false;
    let mut unseen = Vec::new();
    let (mut by_level, mut otherwise) = (false, false);
    for (endpoint, redis) in observation.baseline.redis.iter().zip(&observation.redis) {
        let RedisAddress::Unix(path) = &endpoint.address else {
            continue;
        };
        has_socket = true;
        if redis.up.is_none() {
            unseen.push(path.display().to_string());
            let failure = redis.failure.as_ref();
            let is_shared = failure.is_some_and(|failure| names_shared_tmp(&failure.sentence));
            by_level |= is_shared;
            otherwise |= !is_shared;
        }
    }
    has_socket.then(|| View {
        name: "sockets",
        unseen: (!unseen.is_empty()).then(|| format!("the sockets {}", unseen.join(", "))),
        level: by_level.then_some("shared-tmp.conf"),
        grant: match (by_level, otherwise) {
            (true, false) => "the host's /tmp, /var/tmp and /dev",
            (true, true) => {
                "the host's /tmp, /var/tmp and /dev; elsewhere no ProtectHome=, TemporaryFileSystem=, \
                 BindPaths= or ProtectProc= of its own"
            }
            (false, _) => {
                "the host's files there: no ProtectHome=, TemporaryFileSystem=, BindPaths= or \
                 ProtectProc= of its own"
            }
        },
    })
}

/// The probe says so of a socket that the level would show.
fn names_shared_tmp(sentence: &str) -> bool {
    sentence.contains("level shared-tmp")
}

/// True of what is said where the exporter's user may not read a file.
fn is_denied(why: &str) -> bool {
    why.to_lowercase().contains("permission denied")
}

fn is_of_snapshot(why: &str) -> bool {
    why.starts_with("reading the snapshot ") && is_denied(why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::baseline::Baseline;
    use crate::probe::redis::{self, Failure, Redis};
    use crate::probe::write_path::{Reason, Verdict, WritePath};
    use crate::report::tests::unknown;

    /// The views, each with whether it is seen.
    fn seen(observation: &Observation) -> Vec<(&'static str, bool)> {
        let views = views(observation).into_iter();
        views
            .map(|view| (view.name, view.unseen.is_none()))
            .collect()
    }

    fn write_path(unit: &str, reason: Reason, sentence: &str) -> WritePath {
        WritePath {
            unit: unit.into(),
            path: "/srv".into(),
            in_baseline: true,
            now: None,
            next_start: Verdict {
                reason,
                sentence: sentence.to_owned(),
            },
            room: None,
        }
    }

    #[test]
    fn what_nobody_answered_is_no_view() {
        assert_eq!(seen(&unknown()), []);
    }

    #[test]
    fn the_processes_that_may_not_be_looked_through_are_named() {
        let ok = write_path("a.service", Reason::Ok, "");
        let hidden = write_path(
            "b.service",
            Reason::Unknown,
            "why (or give it CAP_SYS_PTRACE)",
        );
        let other = write_path("c.service", Reason::Unknown, "NSS does not answer");
        let mut observation = unknown();
        observation.write_paths = Ok(vec![ok, other]);
        assert_eq!(seen(&observation), [("processes", true)]);
        let write_paths = observation.write_paths.as_mut().unwrap();
        write_paths.extend([hidden.clone(), hidden]);
        let views = views(&observation);
        assert_eq!(
            views[0].unseen.as_deref(),
            Some("the processes of b.service")
        );
        assert_eq!(views[0].level, Some("ptrace.conf"));
    }

    #[test]
    fn the_journal_is_seen_or_not() {
        let mut observation = unknown();
        for readable in [true, false] {
            observation.journal_readable = Some(readable);
            assert_eq!(seen(&observation), [("journal", readable)]);
        }
    }

    #[test]
    fn unit_files_and_their_snapshot_are_told_apart() {
        let mut observation = unknown();
        observation.unit_files.references = Ok(Vec::new());
        assert_eq!(seen(&observation), [("unit_files", true)]);
        for (why, expected) in [
            (
                "reading the snapshot /root/golden: permission denied, name a copy",
                &[("snapshot", false), ("unit_files", true)][..],
            ),
            (
                "reading /etc/systemd/system/a.service: permission denied, let",
                &[("unit_files", false)],
            ),
            ("there is no snapshot /root/golden", &[("unit_files", true)]),
        ] {
            observation.unit_files.drift = Some(Err(why.to_owned()));
            assert_eq!(seen(&observation), expected, "{why}");
        }
        observation.unit_files.references =
            Err("reading /etc/x: Permission denied (os error 13)".to_owned());
        assert_eq!(seen(&observation), [("unit_files", false)]);
    }

    #[test]
    fn a_socket_that_is_not_seen_is_told_with_the_level_that_shows_it() {
        let shared = "it has files of its own: run it without PrivateTmp= (level shared-tmp)";
        let other = "it has files of its own: run it without ProtectHome= and the like";
        let level = Some("shared-tmp.conf");
        for (sockets, unseen, level) in [
            (&[("/run/a", None)][..], None, None),
            (
                &[("/srv/a", Some(shared))],
                Some("the sockets /srv/a"),
                level,
            ),
            (&[("/tmp/a", Some(other))], Some("the sockets /tmp/a"), None),
            (
                &[
                    ("/home/a", Some(other)),
                    ("/tmp/a", Some(shared)),
                    ("/b", None),
                ],
                Some("the sockets /home/a, /tmp/a"),
                level,
            ),
        ] {
            let endpoints = sockets.iter().enumerate();
            let endpoints =
                endpoints.map(|(n, (path, _))| format!("- {{name: r{n}, url: 'unix://{path}'}}\n"));
            let text = format!(
                "deployment: a\nsystemd: {{running: [a.service]}}\nredis:\n{}",
                endpoints.collect::<String>()
            );
            let mut observation = unknown();
            observation.baseline = Arc::new(Baseline::parse(&text, "test").unwrap());
            let looks = sockets.iter().map(|(path, hidden)| Redis {
                name: "near".to_owned(),
                address: (*path).to_owned(),
                phases: Vec::new(),
                up: hidden.is_none().then_some(false),
                failure: hidden.map(|sentence| Failure {
                    reason: redis::Reason::Unreachable,
                    sentence: sentence.to_owned(),
                }),
                writable: None,
                canary: false,
                started: None,
                connected_clients: None,
            });
            observation.redis = looks.collect();
            let [view] = &views(&observation)[..] else {
                panic!("{text}");
            };
            assert_eq!((view.name, view.unseen.as_deref()), ("sockets", unseen));
            assert_eq!(view.level, level, "{text}");
        }
    }
}
