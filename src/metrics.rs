//! Every metric: name, type, labels and help text.

mod classic;
mod dependencies;

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

use classic::Classic;

use crate::findings::{Findings, Status, failed_units, judge};
use crate::observation::{Observation, Observed, Units};
use crate::probe::hostname::Hostname;
use crate::probe::write_path::WritePath;
use crate::systemd::exit;
use crate::systemd::unit::{ACTIVE_STATES, Unit, micros_as_seconds};
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
/// as they are on disk, `None` if it has none; `room` is how long the last exposition was.
pub fn encode(
    observation: &Arc<Observation>,
    tls_files: Option<bool>,
    format: Format,
    room: usize,
) -> String {
    let mut registry = Registry::default();
    let findings = judge(observation);
    registry.register_collector(Box::new(Exposition {
        observation: observation.clone(),
        findings,
        tls_files,
    }));
    let mut out = String::with_capacity(room);
    let written = match format {
        Format::OpenMetrics => text::encode(&mut out, &registry),
        Format::Text => text::encode(&mut Classic::new(&mut out), &registry),
    };
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
            encode_states(&mut families, units)?;
            encode_times(&mut families, units)?;
            encode_counters(&mut families, units)?;
            encode_services(&mut families, units)?;
            encode_jobs(&mut families, units)?;
            encode_usage(&mut families, units)?;
            encode_timers_and_sockets(&mut families, units)?;
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
    })?;
    families.gauge("baseline_unit_expected", "1: what the baseline expects of the unit, and the tier of its alerts (1 pages, 2 opens a ticket, 3 shows on the dashboard)", |m| {
        for judged in &findings.units {
            let tier = ["1", "2", "3"][usize::from(judged.tier.clamp(1, 3) - 1)];
            let labels = [("name", &*judged.unit.name), ("expected", judged.expected), ("tier", tier)];
            gauge(m, &labels, 1)?;
        }
        Ok(())
    })?;
    families.gauge(
        "baseline_unit_starts_at_boot",
        "1 if the next boot starts the unit that should run or be active: its file is enabled, or another unit pulls it in (D-Bus: Unit.WantedBy, RequiredBy, BoundBy, UpheldBy, TriggeredBy)",
        |m| {
            for judged in findings.units.iter().filter(|judged| judged.should_be_up()) {
                if let Some(starts) = judged.unit.starts_at_boot() {
                    gauge(m, &[("name", &*judged.unit.name)], u32::from(starts))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_unit_deviation",
        "1 if the unit differs from what is expected of it in this way",
        |m| {
            for judged in &findings.units {
                for (deviation, is) in &judged.deviations {
                    let labels = [
                        ("name", &*judged.unit.name),
                        ("deviation", deviation.word()),
                    ];
                    gauge(m, &labels, u32::from(*is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_unit_cause",
        "1 for each suspected cause of a unit's deviation; detail is what it is about, if anything",
        |m| {
            for judged in &findings.units {
                for (cause, detail) in &judged.causes {
                    let labels = [
                        ("name", &*judged.unit.name),
                        ("cause", cause),
                        ("detail", detail),
                    ];
                    gauge(m, &labels, 1)?;
                }
            }
            Ok(())
        },
    )
}

fn encode_states(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.gauge(
        "systemd_unit_state",
        "1 for the current ActiveState, 0 for the others (D-Bus: Unit.ActiveState)",
        |m| {
            for unit in watched(units) {
                for (state, _, _) in unit.tallies(0) {
                    let labels = [
                        ("name", &*unit.name),
                        ("type", unit.suffix()),
                        ("state", state),
                    ];
                    gauge(m, &labels, u32::from(unit.active_state == state))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_unit_sub_state",
        "1: the current SubState; auto-restart is how a restart loop looks (D-Bus: Unit.SubState)",
        |m| {
            for unit in watched(units) {
                gauge(
                    m,
                    &[("name", &*unit.name), ("sub_state", &unit.sub_state)],
                    1,
                )?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_unit_load_state",
        "1: the current LoadState (D-Bus: Unit.LoadState)",
        |m| {
            for unit in watched(units) {
                gauge(
                    m,
                    &[("name", &*unit.name), ("load_state", &unit.load_state)],
                    1,
                )?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_unit_file_state",
        "1: the current enablement; none without a unit file (read from disk, as systemctl list-unit-files does)",
        |m| {
            for unit in watched(units) {
                if let Some(file_state) = &unit.file_state {
                    gauge(m, &[("name", &*unit.name), ("file_state", file_state)], 1)?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_unit_info",
        "1: Type= of a service or a mount (D-Bus: Service.Type, Mount.Type)",
        |m| {
            for unit in watched(units).filter(|unit| matches!(unit.suffix(), "service" | "mount")) {
                let (service, mount) = if unit.suffix() == "service" {
                    (&*unit.kind, "")
                } else {
                    ("", &*unit.kind)
                };
                let labels = [
                    ("name", &*unit.name),
                    ("type", unit.suffix()),
                    ("mount_type", mount),
                    ("service_type", service),
                ];
                gauge(m, &labels, 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge("systemd_unit_need_daemon_reload", "1 if the unit's file changed since systemd read it; noticed with the next comparison (D-Bus: Unit.NeedDaemonReload)", |m| {
        for unit in watched(units) {
            gauge(m, &[("name", &*unit.name)], u32::from(unit.need_daemon_reload))?;
        }
        Ok(())
    })
}

fn encode_times(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.gauge("systemd_unit_state_change_timestamp_seconds", "When the current state was entered, in seconds since the epoch; 0 if it never changed (D-Bus: Unit.StateChangeTimestamp)", |m| {
        for unit in watched(units) {
            let at = micros_as_seconds(unit.stamps.state_change.realtime);
            gauge(m, &[("name", &*unit.name)], at)?;
        }
        Ok(())
    })?;
    families.gauge("systemd_unit_start_time_seconds", "When the service became active, in seconds since the epoch; 0 while it is not (D-Bus: Unit.ActiveEnterTimestamp)", |m| {
        for unit in watched(units).filter(|unit| unit.suffix() == "service") {
            let active = unit.active_state == "active";
            let at = if active { unit.stamps.active_enter.realtime } else { 0 };
            let labels = [("name", &*unit.name), ("type", unit.suffix())];
            gauge(m, &labels, micros_as_seconds(at))?;
        }
        Ok(())
    })?;
    type Of = fn(&Unit) -> u64;
    let times: [(&str, &str, Of); 4] = [
        (
            "systemd_unit_active_enter_time_seconds",
            "When the unit last became active, in seconds since the epoch (D-Bus: Unit.ActiveEnterTimestamp)",
            |unit| unit.stamps.active_enter.realtime,
        ),
        (
            "systemd_unit_active_exit_time_seconds",
            "When the unit last ceased to be active, in seconds since the epoch (D-Bus: Unit.ActiveExitTimestamp)",
            |unit| unit.stamps.active_exit.realtime,
        ),
        (
            "systemd_unit_inactive_enter_time_seconds",
            "When the unit last became inactive or failed, in seconds since the epoch (D-Bus: Unit.InactiveEnterTimestamp)",
            |unit| unit.stamps.inactive_enter.realtime,
        ),
        (
            "systemd_unit_inactive_exit_time_seconds",
            "When the unit last left inactive or failed, in seconds since the epoch (D-Bus: Unit.InactiveExitTimestamp)",
            |unit| unit.stamps.inactive_exit.realtime,
        ),
    ];
    for (name, help, of) in times {
        families.gauge(name, help, |m| {
            for unit in watched(units) {
                let labels = [("name", &*unit.name), ("type", unit.suffix())];
                gauge(m, &labels, micros_as_seconds(of(unit)))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn encode_counters(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    let now = units.now.monotonic;
    families.counter("systemd_unit_state_seconds", "Time spent in each ActiveState since watching began, in seconds, from systemd's own time stamps", |m| {
        for unit in watched(units) {
            for (state, seconds, _) in unit.tallies(now) {
                counter(m, &[("name", &*unit.name), ("state", state)], seconds)?;
            }
        }
        Ok(())
    })?;
    families.counter(
        "systemd_unit_state_entries",
        "Times each ActiveState was entered since watching began",
        |m| {
            for unit in watched(units) {
                for (state, _, entries) in unit.tallies(now) {
                    counter(m, &[("name", &*unit.name), ("state", state)], entries)?;
                }
            }
            Ok(())
        },
    )?;
    families.counter(
        "systemd_unit_activations",
        "Starts seen since watching began, by hand and automatic ones (D-Bus: Unit.InvocationID)",
        |m| {
            for unit in watched(units) {
                counter(m, &[("name", &*unit.name)], unit.activations)?;
            }
            Ok(())
        },
    )
}

fn encode_services(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    let services = || watched(units).filter_map(|unit| Some((unit, unit.service.as_ref()?)));
    families.counter("systemd_service_restart", "Automatic restarts since the last start by hand, as systemd counts them (D-Bus: Service.NRestarts)", |m| {
        for (unit, service) in services() {
            counter(m, &[("name", &*unit.name)], u64::from(service.n_restarts))?;
        }
        Ok(())
    })?;
    families.counter(
        "systemd_service_auto_restarts",
        "Automatic restarts since watching began; a start by hand does not set it back",
        |m| {
            for (unit, service) in services() {
                counter(m, &[("name", &*unit.name)], service.auto_restarts)?;
            }
            Ok(())
        },
    )?;
    families.counter("systemd_service_failures", "Endings with a Result other than success since watching began; a start that ExecCondition= declined is none", |m| {
        for (unit, service) in services() {
            counter(m, &[("name", &*unit.name)], service.failures)?;
        }
        Ok(())
    })?;
    families.gauge(
        "systemd_service_last_result",
        "1: how the last run ended; success while it runs (D-Bus: Service.Result)",
        |m| {
            for (unit, service) in services() {
                gauge(m, &[("name", &*unit.name), ("result", &service.result)], 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge("systemd_service_last_exit", "1: how the main process last ended; none while it never did (D-Bus: Service.ExecMainCode, ExecMainStatus)", |m| {
        for (unit, service) in services() {
                if let Some((code, status)) = service.last_exit
                    && let Some(code_name) = exit::code_name(code)
                {
                    let status = exit::status_name(code, status);
                    let labels = [("name", &*unit.name), ("code", code_name), ("status", &status)];
                    gauge(m, &labels, 1)?;
                }
            }
            Ok(())
    })
}

/// When jobs last did their work.
fn encode_jobs(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.gauge("systemd_service_last_success_timestamp_seconds", "When a run of a service of Type=oneshot last ended with success, in seconds since the epoch; none while none is known (D-Bus: Unit.InactiveEnterTimestamp, ActiveEnterTimestamp with RemainAfterExit=)", |m| {
        for unit in watched(units) {
            if let Some(service) = &unit.service && service.last_success != 0 {
                gauge(m, &[("name", &*unit.name)], micros_as_seconds(service.last_success))?;
            }
        }
        Ok(())
    })
}

fn encode_usage(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.counter(
        "systemd_unit_cpu_seconds",
        "CPU time of the unit's cgroup since it was made, in seconds (cpu.stat)",
        |m| {
            for Observed { unit, usage } in &units.watched {
                if let Some(seconds) = usage.cpu_seconds {
                    counter(m, &[("name", &*unit.name)], seconds)?;
                }
            }
            Ok(())
        },
    )?;
    families.counter(
        "systemd_unit_oom_kills",
        "Processes of the unit's cgroup killed for lack of memory (memory.events)",
        |m| {
            for Observed { unit, usage } in &units.watched {
                if let Some(kills) = usage.oom_kills {
                    counter(m, &[("name", &*unit.name)], kills)?;
                }
            }
            Ok(())
        },
    )?;
    type Of = fn(&Observed) -> Option<u64>;
    let figures: [(&str, &str, Of); 4] = [
        (
            "systemd_unit_memory_bytes",
            "Memory of the unit's cgroup, in bytes (memory.current)",
            |observed| observed.usage.memory,
        ),
        (
            "systemd_unit_memory_max_bytes",
            "Its limit, in bytes; none if it has no limit (memory.max)",
            |observed| observed.usage.memory_max,
        ),
        (
            "systemd_unit_tasks_current",
            "Processes and threads of the unit's cgroup (pids.current)",
            |observed| observed.usage.tasks,
        ),
        (
            "systemd_unit_tasks_max",
            "Their limit; none if there is no limit (pids.max)",
            |observed| observed.usage.tasks_max,
        ),
    ];
    for (name, help, of) in figures {
        families.gauge(name, help, |m| {
            for observed in &units.watched {
                if let Some(figure) = of(observed) {
                    gauge(m, &[("name", &*observed.unit.name)], figure)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn encode_timers_and_sockets(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    let timers = || watched(units).filter_map(|unit| Some((unit, unit.timer?)));
    let sockets = || watched(units).filter_map(|unit| Some((unit, unit.socket?)));
    families.gauge("systemd_timer_last_trigger_seconds", "When the timer last elapsed, in seconds since the epoch; 0 if it never did (D-Bus: Timer.LastTriggerUSec)", |m| {
        for (unit, timer) in timers() {
            gauge(m, &[("name", &*unit.name)], micros_as_seconds(timer.last_trigger))?;
        }
        Ok(())
    })?;
    families.gauge("systemd_timer_next_trigger_timestamp_seconds", "When the timer will elapse next, in seconds since the epoch; none if it will not (D-Bus: Timer.NextElapseUSecRealtime, NextElapseUSecMonotonic)", |m| {
        for (unit, timer) in timers() {
            if let Some(next) = timer.next_trigger(units.now) {
                gauge(m, &[("name", &*unit.name)], micros_as_seconds(next))?;
            }
        }
        Ok(())
    })?;
    families.counter(
        "systemd_socket_accepted_connections",
        "Connections accepted (D-Bus: Socket.NAccepted)",
        |m| {
            for (unit, socket) in sockets() {
                counter(m, &[("name", &*unit.name)], u64::from(socket.n_accepted))?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "systemd_socket_current_connections",
        "Connections open now (D-Bus: Socket.NConnections)",
        |m| {
            for (unit, socket) in sockets() {
                gauge(m, &[("name", &*unit.name)], socket.n_connections)?;
            }
            Ok(())
        },
    )?;
    families.counter(
        "systemd_socket_refused_connections",
        "Connections refused (D-Bus: Socket.NRefused)",
        |m| {
            for (unit, socket) in sockets() {
                counter(m, &[("name", &*unit.name)], u64::from(socket.n_refused))?;
            }
            Ok(())
        },
    )
}

fn encode_host(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    families.gauge("systemd_units", "Units of the host that systemd holds in memory, watched or not, by ActiveState (D-Bus: ListUnits)", |m| {
        let mut counts = units.others.counts.clone();
        // An alias is watched beside its unit, and is no unit of its own.
        let mut counted = HashSet::new();
        for unit in watched(units).filter(|unit| unit.loaded && counted.insert(&unit.id)) {
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

fn watched(units: &Units) -> impl Iterator<Item = &Unit> {
    units.watched.iter().map(|observed| &*observed.unit)
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
    use crate::observation::{LastReload, Took};
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
        super::encode(observation, Some(true), format, room)
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
