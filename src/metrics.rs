//! Every metric: name, type, labels and help text.

mod dependencies;
mod kept;
mod units;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use units::States;
use writer::Writer;

pub use kept::Kept;

use crate::findings::{Findings, Status, failed_units, judge};
use crate::observation::{Observation, Units};
use crate::probe::hostname::Hostname;
use crate::probe::write_path::WritePath;
use crate::systemd::unit::ACTIVE_STATES;
use crate::views::views;

/// The two texts that a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

/// SystemState as systemd documents it: each is a series, the current one is 1.
const MANAGER_STATES: [&str; 6] = [
    "initializing",
    "starting",
    "running",
    "degraded",
    "maintenance",
    "stopping",
];

/// The whole exposition of one observation. `tls_files` is whether the server's TLS files are used
/// as they are on disk, `None` if it has none; `kept` is what the last exposition left; `room` is how
/// long it was.
pub fn encode(
    observation: &Arc<Observation>,
    tls_files: Option<bool>,
    kept: &Kept,
    format: Format,
    room: usize,
) -> String {
    let mut registry = Registry::default();
    let findings = judge(observation);
    let texts = kept.texts(&findings.units);
    registry.register_collector(Box::new(Exposition {
        observation: observation.clone(),
        findings,
        tls_files,
    }));
    let mut out = String::with_capacity(room);
    let mut writer = Writer::new(&mut out, format, &texts);
    let written = text::encode(&mut writer, &registry);
    // Writing to a string cannot fail, and nothing here returns an error of its own.
    debug_assert!(written.is_ok());
    out
}

/// One observation as a collector of its own: no series outlives it.
#[derive(Debug)]
struct Exposition {
    observation: Arc<Observation>,
    findings: Findings,
    tls_files: Option<bool>,
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Observation {
            at: _,
            host: _,
            baseline,
            units,
            hostnames,
            redis,
            write_paths,
            unit_files,
            clues: _,
            journal_readable: _,
            took,
            link,
            last_reload,
            process,
        } = &*self.observation;
        let probes = [
            ("units", took.units, units.is_ok()),
            (
                "hostnames",
                took.hostnames,
                hostnames.iter().all(Hostname::is_told),
            ),
            // A server that cannot be reached is an answer, too; one that cannot be told about is none.
            (
                "redis",
                took.redis,
                redis.len() == baseline.redis.len() && redis.iter().all(|r| r.up.is_some()),
            ),
            (
                "write_paths",
                took.write_paths,
                write_paths
                    .as_ref()
                    .is_ok_and(|paths| paths.iter().all(WritePath::is_told)),
            ),
            ("unit_files", took.unit_files, unit_files.is_told()),
        ];
        let mut families = Families(encoder);
        families.gauge(
            "baseline_info",
            "The baseline in force: where its text came from, and the CRC-32 of that text",
            |m| {
                let labels = [
                    ("deployment", baseline.deployment.as_str()),
                    ("version", &baseline.version),
                    ("source", &baseline.source),
                ];
                gauge(m, &labels, 1)
            },
        )?;
        encode_findings(&mut families, &self.findings, units.is_ok())?;
        if let Ok(units) = units {
            // Their texts come from what is kept.
            units::encode(&mut families, &[])?;
            let (judged, now) = (&self.findings.units, units.now.monotonic);
            units::state_seconds(&mut families, judged, States::Current, now)?;
            units::moving(&mut families, units)?;
            encode_host(&mut families, units)?;
        }
        dependencies::encode(&mut families, &self.observation)?;
        families.gauge(
            "baseline_exporter_build_info",
            "The exporter that answers",
            |m| {
                let labels = [
                    ("version", env!("CARGO_PKG_VERSION")),
                    ("revision", env!("BASELINE_EXPORTER_REVISION")),
                    ("target", env!("BASELINE_EXPORTER_TARGET")),
                ];
                gauge(m, &labels, 1)
            },
        )?;
        families.gauge(
            "baseline_exporter_bus_connected",
            "1 while systemd is connected, was read in full and answers",
            |m| gauge(m, &NONE, u32::from(link.connected)),
        )?;
        if let Some(in_use) = self.tls_files {
            families.gauge(
                "baseline_exporter_tls_files_last_reload_successful",
                "1 if certificate, key and client CA are used as the files are now, 0 while older ones stay in use because these cannot be used; none without TLS",
                |m| gauge(m, &NONE, u32::from(in_use)),
            )?;
        }
        families.counter(
            "baseline_exporter_bus_reconnects",
            "Connections to systemd that were lost",
            |m| counter(m, &NONE, link.reconnects),
        )?;
        families.counter(
            "baseline_exporter_bus_messages",
            "D-Bus messages; no scrape adds to them, a ping every two seconds at most does while anybody scrapes",
            |m| {
                counter(m, &[("direction", "sent")], link.sent)?;
                counter(m, &[("direction", "received")], link.received)
            },
        )?;
        families.counter(
            "baseline_exporter_resyncs",
            "Comparisons of the unit table with a fresh list",
            |m| counter(m, &NONE, link.resyncs),
        )?;
        families.counter(
            "baseline_exporter_resync_corrections",
            "Changes found by comparing that no signal had told of",
            |m| counter(m, &NONE, link.corrections),
        )?;
        families.gauge(
            "baseline_exporter_config_last_reload_successful",
            "1 if the baseline and the web configuration could be read when they were last read, at the start or again; 0: those before are in force",
            |m| gauge(m, &NONE, u32::from(last_reload.successful)),
        )?;
        families.gauge(
            "baseline_exporter_config_last_reload_success_timestamp_seconds",
            "When the baseline and the web configuration in force were read, in seconds since the epoch",
            // A clock before 1970 tells no time.
            |m| match last_reload.success_at.duration_since(UNIX_EPOCH) {
                Ok(since) => gauge(m, &NONE, since.as_secs()),
                Err(_) => Ok(()),
            },
        )?;
        families.gauge(
            "baseline_exporter_probe_duration_seconds",
            "How long looking took",
            |m| {
                for (probe, took, _) in &probes {
                    gauge(m, &[("probe", *probe)], took.as_secs_f64())?;
                }
                Ok(())
            },
        )?;
        families.gauge(
            "baseline_exporter_probe_success",
            "1 if looking gave an answer, whatever it was",
            |m| {
                for (probe, _, success) in &probes {
                    gauge(m, &[("probe", *probe)], u32::from(*success))?;
                }
                Ok(())
            },
        )?;
        families.gauge(
            "baseline_exporter_view",
            "1 if the exporter may see all that the baseline asks for of this, 0 if its user lacks the permission for some of it",
            |m| {
                for view in views(&self.observation) {
                    gauge(m, &[("view", view.name)], u32::from(view.unseen.is_none()))?;
                }
                Ok(())
            },
        )?;
        if let Some(seconds) = process.cpu_seconds {
            families.counter(
                "process_cpu_seconds",
                "User and system CPU time of the exporter, in seconds (/proc/self/stat)",
                |m| counter(m, &NONE, seconds),
            )?;
        }
        if let Some(bytes) = process.resident_bytes {
            families.gauge(
                "process_resident_memory_bytes",
                "Resident memory of the exporter, in bytes (/proc/self/statm)",
                |m| gauge(m, &NONE, bytes),
            )?;
        }
        if let Some(descriptors) = process.open_descriptors {
            families.gauge(
                "process_open_fds",
                "Open file descriptors of the exporter (/proc/self/fd)",
                |m| gauge(m, &NONE, u64::try_from(descriptors).unwrap_or(u64::MAX)),
            )?;
        }
        if let Some(seconds) = process.started_seconds {
            families.gauge(
                "process_start_time_seconds",
                "When the exporter was started, in seconds since the epoch (/proc/self/stat)",
                |m| gauge(m, &NONE, seconds),
            )?;
        }
        Ok(())
    }
}

fn encode_findings(families: &mut Families<'_>, findings: &Findings, known: bool) -> fmt::Result {
    families.gauge(
        "baseline_check",
        "The documented checks: 1 for the answer, 0 for the two others",
        |m| {
            for check in &findings.checks {
                for status in Status::ALL {
                    let labels = [("check", check.name), ("status", status.word())];
                    gauge(m, &labels, u32::from(check.status == status))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_check_expected",
        "How many the check wants: units that run, names that resolve, files as in the snapshot; 0 where it wants nothing of a kind",
        |m| {
            for check in &findings.checks {
                if let Some(wanted) = check.wanted {
                    gauge(m, &[("check", check.name)], u64::try_from(wanted).unwrap_or(u64::MAX))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_check_seen",
        "How many of these were seen; no series where nothing could be seen",
        |m| {
            for check in &findings.checks {
                if let Some(found) = check.found {
                    gauge(
                        m,
                        &[("check", check.name)],
                        u64::try_from(found).unwrap_or(u64::MAX),
                    )?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_units_running_expected",
        "Services that the baseline wants running",
        |m| {
            gauge(
                m,
                &NONE,
                u64::try_from(findings.running.1).unwrap_or(u64::MAX),
            )
        },
    )?;
    if !known {
        return Ok(());
    }
    families.gauge("baseline_units_running", "Of the services that the baseline wants running, those that run (a oneshot that ended well does)", |m| {
        gauge(m, &NONE, u64::try_from(findings.running.0).unwrap_or(u64::MAX))
    })
}

fn encode_host(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.gauge("systemd_units", "Units of the host that systemd holds in memory, watched or not, by ActiveState (D-Bus: ListUnits)", |m| {
        let mut counts = units.others.counts.clone();
        // An alias is watched beside its unit, and is no unit of its own.
        let mut counted = HashSet::new();
        for unit in units.watched.iter().map(|observed| &observed.unit).filter(|unit| unit.loaded && counted.insert(&unit.id)) {
            *counts.entry(unit.active_state.clone()).or_default() += 1;
        }
        for state in ACTIVE_STATES {
            counts.entry(state.into()).or_default();
        }
        for (state, count) in &counts {
            gauge(m, &[("state", &**state)], u64::try_from(*count).unwrap_or(u64::MAX))?;
        }
        Ok(())
    })?;
    families.gauge(
        "systemd_failed_unit",
        "1 for each failed unit of the host, watched or not (D-Bus: ListUnits)",
        |m| {
            for name in failed_units(units) {
                gauge(m, &[("name", name)], 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_manager_state",
        "1 for the state of the whole host, 0 for the others (D-Bus: Manager.SystemState)",
        |m| {
            let state = units.manager.state.as_str();
            for known in MANAGER_STATES {
                gauge(m, &[("state", known)], u32::from(known == state))?;
            }
            if MANAGER_STATES.contains(&state) {
                Ok(())
            } else {
                gauge(m, &[("state", state)], 1)
            }
        },
    )?;
    families.gauge(
        "systemd_version_info",
        "1: the version of systemd (D-Bus: Manager.Version)",
        |m| gauge(m, &[("version", units.manager.version.as_str())], 1),
    )
}

/// One family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        series: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        series(
            &mut self
                .0
                .encode_descriptor(name, help, None, MetricType::Gauge)?,
        )
    }

    /// The name goes without `_total`: the encoder adds it.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        series: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        series(
            &mut self
                .0
                .encode_descriptor(name, help, None, MetricType::Counter)?,
        )
    }
}

const NONE: [(&str, &str); 0] = [];

fn gauge(
    m: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: impl EncodeGaugeValue + Copy,
) -> fmt::Result {
    m.encode_family(labels)?.encode_gauge(&value)
}

fn counter(
    m: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: impl EncodeCounterValue + Copy,
) -> fmt::Result {
    m.encode_family(labels)?
        .encode_counter::<NoLabelSet, _, f64>(&value, None)
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::baseline::Baseline;
    use crate::observation::{LastReload, Observed, Took};
    use crate::probe::hostname::{self, Answer, Lookup, Persistence, Resolver};
    use crate::probe::redis::{self, Failure, Phase, Redis};
    use crate::probe::unit_files::{self, Dangling, Difference, Drift, Effect, Why};
    use crate::probe::write_path::{self, Room, Verdict};
    use crate::process::Process;
    use crate::systemd::cgroup::Usage;
    use crate::systemd::table::Table;
    use crate::systemd::unit::{Properties, Row, Stamp, Stamps};
    use crate::systemd::unit_files::UnitFiles;
    use crate::systemd::{Link, Manager};

    const BASELINE: &str = "
deployment: golden
systemd:
  watch: [\"odd-*\"]
  running: [runs.service, {name: loops.service, tier: 2}, nightly.service]
  active: [nightly.timer, calls.socket]
  absent: [gone.service]
  disabled: [off.service]
hostnames:
  - {name: db_alias, addresses: [127.0.0.1]}
redis:
  - {name: cache, url: \"redis://127.0.0.1:6379/0\"}
  - {name: queue, url: \"redis://queue:6379/0\", used_by: [runs.service]}
write_paths:
  - {unit: runs.service, paths: [/var/lib/runs]}
unit_files: {snapshot: /var/lib/snapshot}
";

    fn stamp(seconds: u64) -> Stamp {
        Stamp {
            realtime: (1_700_000_000 + seconds) * 1_000_000,
            monotonic: seconds * 1_000_000,
        }
    }

    /// A name that NSS and the hosts file know, with one address too many, and DNS could not be asked.
    fn hostnames() -> Vec<Hostname> {
        let addresses = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        let lookup = |resolver, answer| Lookup {
            resolver,
            answer,
            took: Duration::from_micros(250),
        };
        let not_found = Answer::Failure(hostname::Reason::NotFound, "no such name".to_owned());
        vec![Hostname {
            name: "db_alias".to_owned(),
            expected: addresses(&["127.0.0.1"]),
            resolved_as: None,
            lookups: vec![
                lookup(
                    Resolver::Nss,
                    Ok(Answer::Addresses(addresses(&["127.0.0.1"]))),
                ),
                lookup(
                    Resolver::Hosts,
                    Ok(Answer::Addresses(addresses(&["10.0.0.5", "127.0.0.1"]))),
                ),
                lookup(Resolver::Dns, Ok(not_found)),
            ],
            persistence: Ok(Persistence::Lost("its template has no line".to_owned())),
        }]
    }

    /// One that is well, and one that nobody can reach.
    fn redis() -> Vec<Redis> {
        let millis = Duration::from_millis;
        vec![
            Redis {
                name: "cache".to_owned(),
                address: "127.0.0.1:6379".to_owned(),
                phases: vec![
                    (Phase::Connect, millis(1)),
                    (Phase::Ping, millis(2)),
                    (Phase::Role, millis(3)),
                ],
                up: Some(true),
                failure: None,
                writable: Some(true),
                canary: false,
                started: Some(1_700_000_000),
                connected_clients: Some(13),
            },
            Redis {
                name: "queue".to_owned(),
                address: "queue:6379".to_owned(),
                phases: vec![(Phase::Resolve, millis(4))],
                up: Some(false),
                failure: Some(Failure {
                    reason: redis::Reason::Resolve,
                    sentence: "queue has no address".to_owned(),
                }),
                writable: None,
                canary: false,
                started: None,
                connected_clients: None,
            },
        ]
    }

    /// One that is denied now and would not be after a restart; one that cannot be told.
    fn write_paths() -> Vec<WritePath> {
        let verdict = |reason, sentence: &str| Verdict {
            reason,
            sentence: sentence.to_owned(),
        };
        let ok = verdict(write_path::Reason::Ok, "");
        vec![
            WritePath {
                unit: "loops.service".into(),
                path: "/run/loops".into(),
                in_baseline: false,
                now: None,
                next_start: verdict(write_path::Reason::Unknown, "search_refused"),
                room: None,
            },
            WritePath {
                unit: "runs.service".into(),
                path: "/var/lib/runs".into(),
                in_baseline: true,
                now: Some(verdict(
                    write_path::Reason::ReadOnly,
                    "/var/lib is read-only",
                )),
                next_start: ok,
                room: Some(Room {
                    bytes: 1 << 30,
                    inodes: Some(1000),
                }),
            },
        ]
    }

    /// A reference to nowhere; one file of each difference and one of none.
    fn unit_files() -> unit_files::UnitFiles {
        let file = |name: &str, difference| (name.to_owned(), difference);
        unit_files::UnitFiles {
            references: Ok(vec![Dangling {
                from: "runs.service".to_owned(),
                to: "ghost.service".to_owned(),
                directive: "Wants",
                effect: Effect::Clutter,
                why: Why::NoFile,
                file: "/etc/systemd/system/runs.service".into(),
                line: Some(3),
            }]),
            drift: Some(Ok(Drift {
                digest: "00ff".to_owned(),
                taken: Some(UNIX_EPOCH + Duration::from_secs(1_600_000_000)),
                files: vec![
                    file("loops.service", Some(Difference::Modified)),
                    file("new.service", Some(Difference::Extra)),
                    file("off.service", Some(Difference::Missing)),
                    file("runs.service", None),
                ],
            })),
        }
    }

    /// A host with a unit of every kind, three minutes after watching began.
    /// What a look finds where much is wrong.
    pub fn observation() -> Arc<Observation> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("golden.yml");
        std::fs::write(&file, BASELINE).unwrap();
        let mut baseline = Baseline::load(&file).unwrap();
        baseline.source = "golden.yml".to_owned();
        let names = baseline.systemd.units.iter().map(|unit| unit.name.as_str());
        let began = stamp(100).monotonic;
        let mut table = Table::new(names, baseline.systemd.watch.clone(), began);
        let row = |name: &str, active: &'static str, sub: &'static str| Row {
            name: name.to_owned(),
            load_state: "loaded".into(),
            active_state: active.into(),
            sub_state: sub.into(),
        };
        table.list(
            &[
                row("runs.service", "active", "running"),
                row("loops.service", "active", "running"),
                row("nightly.timer", "active", "waiting"),
                row("nightly.service", "inactive", "dead"),
                row("calls.socket", "active", "listening"),
                row("odd-\\x2dname\".service", "maintenance", "cleaning"),
                row("stranger.service", "failed", "failed"),
                row("stranger.mount", "active", "mounted"),
            ],
            began,
        );
        table.files(
            &UnitFiles::of(&[
                ("runs.service", "enabled"),
                ("loops.service", "enabled"),
                ("nightly.timer", "enabled"),
                ("nightly.service", "static"),
                ("calls.socket", "static"),
                ("off.service", "disabled"),
            ]),
            began,
        );
        let started = Stamps {
            state_change: stamp(50),
            inactive_exit: stamp(50),
            active_enter: stamp(50),
            ..Stamps::default()
        };
        let service = Properties {
            active_state: Some("active".into()),
            sub_state: Some("running".into()),
            stamps: Some(started),
            invocation: Some(1),
            kind: Some("simple".into()),
            restart: Some("always".into()),
            n_restarts: Some(0),
            result: Some("success".into()),
            ..Properties::default()
        };
        table.reply("runs.service", &service, true, began);
        table.reply("loops.service", &service, true, began);
        let timer = Properties {
            last_trigger: Some(stamp(90).realtime),
            next_elapse_realtime: Some(stamp(900).realtime),
            next_elapse_monotonic: Some(u64::MAX),
            ..Properties::default()
        };
        table.reply("nightly.timer", &timer, true, began);
        let job = Properties {
            active_state: Some("inactive".into()),
            sub_state: Some("dead".into()),
            stamps: Some(Stamps {
                state_change: stamp(91),
                inactive_exit: stamp(90),
                inactive_enter: stamp(91),
                ..Stamps::default()
            }),
            invocation: Some(2),
            kind: Some("oneshot".into()),
            restart: Some("no".into()),
            exec_main_code: Some(1),
            exec_main_status: Some(0),
            pulled_in: Some(true),
            ..service.clone()
        };
        table.reply("nightly.service", &job, true, began);
        let socket = Properties {
            n_accepted: Some(5),
            n_connections: Some(2),
            n_refused: Some(1),
            pulled_in: Some(false),
            ..Properties::default()
        };
        table.reply("calls.socket", &socket, true, began);
        table.settle();
        let failing = Properties {
            active_state: Some("activating".into()),
            sub_state: Some("auto-restart".into()),
            stamps: Some(Stamps {
                state_change: stamp(160),
                inactive_exit: stamp(160),
                active_exit: stamp(159),
                inactive_enter: stamp(159),
                ..started
            }),
            n_restarts: Some(3),
            result: Some("exit-code".into()),
            exec_main_code: Some(1),
            exec_main_status: Some(203),
            ..Properties::default()
        };
        table.signal("loops.service", &failing, stamp(160).monotonic);
        let usage = Usage {
            cpu_seconds: Some(12.5),
            memory: Some(4096),
            memory_max: Some(1 << 20),
            tasks: Some(2),
            tasks_max: Some(100),
            oom_kills: Some(0),
        };
        let now = stamp(280);
        let watched = table.show(now.monotonic).into_iter().map(|unit| {
            let usage = if &*unit.name == "runs.service" {
                usage
            } else {
                Usage::default()
            };
            Observed { unit, usage }
        });
        Arc::new(Observation {
            at: UNIX_EPOCH + Duration::from_micros(now.realtime),
            host: "vps".to_owned(),
            units: Ok(Units {
                watched: watched.collect(),
                others: table.others().clone(),
                manager: Manager {
                    state: "degraded".to_owned(),
                    version: "252".to_owned(),
                    ..Manager::default()
                },
                now,
            }),
            hostnames: hostnames(),
            redis: redis(),
            write_paths: Ok(write_paths()),
            unit_files: unit_files(),
            clues: std::collections::HashMap::new(),
            journal_readable: Some(false),
            took: Took {
                all: Duration::from_millis(5),
                units: Duration::from_micros(1500),
                hostnames: Duration::from_millis(3),
                redis: Duration::from_millis(2),
                write_paths: Duration::from_millis(1),
                unit_files: Duration::from_millis(4),
            },
            baseline: Arc::new(baseline),
            link: Link {
                connected: true,
                reconnects: 1,
                sent: 20,
                received: 300,
                resyncs: 4,
                corrections: 0,
            },
            last_reload: LastReload {
                number: 3,
                successful: false,
                success_at: UNIX_EPOCH + Duration::from_secs(1_700_000_100),
            },
            process: Process {
                cpu_seconds: Some(0.25),
                resident_bytes: Some(8 << 20),
                open_descriptors: Some(12),
                started_seconds: Some(1.7e9),
            },
        })
    }

    /// Without what differs from build to build.
    fn stable(text: &str) -> String {
        text.lines()
            .filter(|line| !line.starts_with("baseline_exporter_build_info{"))
            .flat_map(|line| [line, "\n"])
            .collect()
    }

    /// As a server with TLS tells it.
    fn encode(observation: &Arc<Observation>, format: Format, room: usize) -> String {
        super::encode(observation, Some(true), &Kept::default(), format, room)
    }

    #[test]
    fn the_exposition_is_the_golden_text() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
        let text = stable(&encode(&observation(), Format::Text, 0));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(path).unwrap();
        for (line, (seen, golden)) in text.lines().zip(golden.lines()).enumerate() {
            assert_eq!(
                seen,
                golden,
                "line {}; UPDATE_GOLDEN=1 rewrites {path}",
                line + 1
            );
        }
        assert_eq!(text.len(), golden.len());
    }

    #[test]
    fn both_formats_hold_the_same_samples() {
        let observation = observation();
        let samples = |format| {
            let text = encode(&observation, format, 0);
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(samples(Format::OpenMetrics), samples(Format::Text));
        assert!(encode(&observation, Format::OpenMetrics, 0).ends_with("# EOF\n"));
    }

    #[test]
    fn no_family_and_no_series_is_written_twice() {
        let text = encode(&observation(), Format::Text, 0);
        let mut seen = HashSet::new();
        for line in text.lines() {
            let key = if line.starts_with("# TYPE") {
                line
            } else if line.starts_with('#') {
                continue;
            } else {
                line.rsplit_once(' ').unwrap().0
            };
            assert!(seen.insert(key), "{key}");
        }
    }

    #[test]
    fn help_texts_need_no_escaping() {
        for line in encode(&observation(), Format::OpenMetrics, 0).lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(!help.contains(['\\', '"']), "{help}");
                assert!(!help.ends_with('.'), "{help}");
            }
        }
    }

    #[test]
    fn units_that_cannot_be_told_have_no_series() {
        let mut observation = Arc::into_inner(observation()).unwrap();
        observation.units = Err("systemd does not answer".to_owned());
        observation.write_paths = Err("systemd does not answer".to_owned());
        observation.link.connected = false;
        let text = encode(&Arc::new(observation), Format::Text, 0);
        assert!(!text.contains("systemd_unit_state"), "{text}");
        for family in ["expected", "deviation", "cause"] {
            let family = format!("baseline_unit_{family}");
            assert!(!text.contains(&family), "{text}");
        }
        assert!(!text.contains("baseline_write_path_"), "{text}");
        assert!(text.contains("baseline_redis_up{"), "{text}");
        assert!(!text.contains("baseline_units_running{"), "{text}");
        for check in [
            "failed_units",
            "running_units",
            "absent_units",
            "disabled_units",
            "write_paths",
        ] {
            let series = format!("baseline_check{{check=\"{check}\",status=\"unknown\"}} 1\n");
            assert!(text.contains(&series), "{text}");
            let seen = format!("baseline_check_seen{{check=\"{check}\"}}");
            assert!(!text.contains(&seen), "{text}");
        }
        assert!(text.contains("baseline_exporter_probe_success{probe=\"units\"} 0\n"));
        assert!(text.contains("baseline_exporter_bus_connected{} 0\n"));
    }

    #[test]
    fn the_readme_lists_every_family() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        for line in encode(&observation(), Format::Text, 0).lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                let row = readme
                    .lines()
                    .find(|line| line.starts_with(&format!("| `{name}` |")));
                let row = row.unwrap_or_else(|| panic!("README.md has no row for {name}"));
                assert!(row.contains(kind), "{row} is a {kind}");
            }
        }
    }
}
