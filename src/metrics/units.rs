//! The metrics of the watched units.

use std::fmt;

use super::{Families, counter, gauge};
use crate::findings::Judged;
use crate::observation::{Observed, Units};
use crate::systemd::exit;
use crate::systemd::unit::{Unit, micros_as_seconds};

/// What is told of units and stays as it is until the unit, or what is found of it, changes; but of
/// the time in each state, see [`state_seconds`].
pub fn encode(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    encode_findings(families, units)?;
    encode_states(families, units)?;
    encode_times(families, units)?;
    encode_counters(families, units)?;
    encode_services(families, units)?;
    encode_jobs(families, units)?;
    encode_timers_and_sockets(families, units)
}

fn each(units: &[Judged]) -> impl Iterator<Item = &Unit> {
    units.iter().map(|judged| &*judged.unit)
}

fn encode_findings(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    families.gauge("baseline_unit_expected", "1: what the baseline expects of the unit, and the tier of its alerts (1 pages, 2 opens a ticket, 3 shows on the dashboard)", |m| {
        for judged in units {
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
            for judged in units.iter().filter(|judged| judged.should_be_up()) {
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
            for judged in units {
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
            for judged in units {
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

fn encode_states(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    families.gauge(
        "systemd_unit_state",
        "1 for the current ActiveState, 0 for the others (D-Bus: Unit.ActiveState)",
        |m| {
            for unit in each(units) {
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
            for unit in each(units) {
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
            for unit in each(units) {
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
            for unit in each(units) {
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
            for unit in each(units).filter(|unit| matches!(unit.suffix(), "service" | "mount")) {
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
        for unit in each(units) {
            gauge(m, &[("name", &*unit.name)], u32::from(unit.need_daemon_reload))?;
        }
        Ok(())
    })
}

fn encode_times(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    families.gauge("systemd_unit_state_change_timestamp_seconds", "When the current state was entered, in seconds since the epoch; 0 if it never changed (D-Bus: Unit.StateChangeTimestamp)", |m| {
        for unit in each(units) {
            let at = micros_as_seconds(unit.stamps.state_change.realtime);
            gauge(m, &[("name", &*unit.name)], at)?;
        }
        Ok(())
    })?;
    families.gauge("systemd_unit_start_time_seconds", "When the service became active, in seconds since the epoch; 0 while it is not (D-Bus: Unit.ActiveEnterTimestamp)", |m| {
        for unit in each(units).filter(|unit| unit.suffix() == "service") {
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
            for unit in each(units) {
                let labels = [("name", &*unit.name), ("type", unit.suffix())];
                gauge(m, &labels, micros_as_seconds(of(unit)))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn encode_counters(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    families.counter(
        "systemd_unit_state_entries",
        "Times each ActiveState was entered since watching began",
        |m| {
            for unit in each(units) {
                for (state, _, entries) in unit.tallies(0) {
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
            for unit in each(units) {
                counter(m, &[("name", &*unit.name)], unit.activations)?;
            }
            Ok(())
        },
    )
}

fn encode_services(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    let services = || each(units).filter_map(|unit| Some((unit, unit.service.as_ref()?)));
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
fn encode_jobs(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    families.gauge("systemd_service_last_success_timestamp_seconds", "When a run of a service of Type=oneshot last ended with success, in seconds since the epoch; none while none is known (D-Bus: Unit.InactiveEnterTimestamp, ActiveEnterTimestamp with RemainAfterExit=)", |m| {
        for unit in each(units) {
            if let Some(service) = &unit.service && service.last_success != 0 {
                gauge(m, &[("name", &*unit.name)], micros_as_seconds(service.last_success))?;
            }
        }
        Ok(())
    })
}

fn encode_timers_and_sockets(families: &mut Families<'_>, units: &[Judged]) -> fmt::Result {
    let timers = || each(units).filter_map(|unit| Some((unit, unit.timer?)));
    let sockets = || each(units).filter_map(|unit| Some((unit, unit.socket?)));
    families.gauge("systemd_timer_last_trigger_seconds", "When the timer last elapsed, in seconds since the epoch; 0 if it never did (D-Bus: Timer.LastTriggerUSec)", |m| {
        for (unit, timer) in timers() {
            gauge(m, &[("name", &*unit.name)], micros_as_seconds(timer.last_trigger))?;
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

/// Which of the states of a unit are told of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum States {
    /// The one that it is in: its time runs.
    Current,
    /// All others.
    Past,
}

/// The time in each state, in two parts of which only the smaller moves.
pub fn state_seconds(
    families: &mut Families<'_>,
    units: &[Judged],
    which: States,
    now: u64,
) -> fmt::Result {
    families.counter("systemd_unit_state_seconds", "Time spent in each ActiveState since watching began, in seconds, from systemd's own time stamps", |m| {
        for unit in each(units) {
            for (state, seconds, _) in unit.tallies(now) {
                if (unit.active_state == state) == (which == States::Current) {
                    counter(m, &[("name", &*unit.name), ("state", state)], seconds)?;
                }
            }
        }
        Ok(())
    })
}

/// What moves without the unit: what it uses, and when its timer elapses next.
pub fn moving(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    encode_usage(families, units)?;
    encode_next_triggers(families, units)
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

fn encode_next_triggers(families: &mut Families<'_>, units: &Units) -> fmt::Result {
    let timers = || {
        units
            .watched
            .iter()
            .filter_map(|Observed { unit, .. }| Some((unit, unit.timer?)))
    };
    families.gauge("systemd_timer_next_trigger_timestamp_seconds", "When the timer will elapse next, in seconds since the epoch; none if it will not (D-Bus: Timer.NextElapseUSecRealtime, NextElapseUSecMonotonic)", |m| {
        for (unit, timer) in timers() {
            if let Some(next) = timer.next_trigger(units.now) {
                gauge(m, &[("name", &*unit.name)], micros_as_seconds(next))?;
            }
        }
        Ok(())
    })
}
