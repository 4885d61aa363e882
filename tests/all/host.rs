//! The whole host: what fails outside the baseline, counts, timers and sockets.

use std::collections::BTreeMap;

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};

#[test]
fn the_host_beyond_the_baseline_is_told_on_252() {
    host(Systemd::V252);
}

#[test]
fn the_host_beyond_the_baseline_is_told_on_257() {
    host(Systemd::V257);
}

fn host(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.unit("stranger.service", "[Service]\nExecStart=/bin/false\n");
    machine.unit("idle.service", "[Service]\nExecStart=/bin/true\n");
    machine.unit("soon.timer", "[Timer]\nOnActiveSec=1h\nUnit=idle.service\n");
    machine.unit(
        "past.timer",
        "[Timer]\nOnActiveSec=0\nAccuracySec=1us\nUnit=idle.service\n",
    );
    machine.unit(
        "calls.socket",
        "[Socket]\nListenStream=127.0.0.1:7000\nAccept=yes\n",
    );
    machine.unit(
        "calls@.service",
        "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "soon.timer", "past.timer", "calls.socket"]);
    let exporter = machine.exporter_with("  active: [soon.timer, past.timer, calls.socket]\n");
    assert_eq!(machine.check_same().status.code(), Some(0));

    let of = |name| [("name", name)];
    exporter.shows("systemd_manager_state", &[("state", "running")], 1.0);
    let metrics = exporter.scrape();
    let now: f64 = machine.sh("date +%s").trim().parse().unwrap();
    let next = "systemd_timer_next_trigger_timestamp_seconds";
    let soon = metrics.at(next, &of("soon.timer"));
    assert!(
        (now + 3000.0..now + 4000.0).contains(&soon),
        "{soon}, now {now}"
    );
    assert_eq!(metrics.value(next, &of("past.timer")), None);
    let last = "systemd_timer_last_trigger_seconds";
    assert_eq!(metrics.at(last, &of("soon.timer")), 0.0);
    let past = metrics.at(last, &of("past.timer"));
    assert!(
        (now - 100.0..now + 1.0).contains(&past),
        "{past}, now {now}"
    );

    let accepted = "systemd_socket_accepted_connections_total";
    let current = "systemd_socket_current_connections";
    assert_eq!(metrics.at(accepted, &of("calls.socket")), 0.0);
    let call = machine.connect(7000).unwrap();
    exporter.shows(accepted, &of("calls.socket"), 1.0);
    exporter.shows(current, &of("calls.socket"), 1.0);
    drop(call);
    exporter.shows(current, &of("calls.socket"), 0.0);
    exporter.shows(accepted, &of("calls.socket"), 1.0);
    exporter.shows(
        "systemd_socket_refused_connections_total",
        &of("calls.socket"),
        0.0,
    );

    machine.try_run(&["systemctl", "start", "stranger.service"]);
    exporter.shows("systemd_failed_unit", &of("stranger.service"), 1.0);
    exporter.shows("systemd_manager_state", &[("state", "degraded")], 1.0);
    assert_eq!(machine.check_failed_units(), "1: stranger.service");
    counts_agree(&machine, &exporter);
    machine.systemctl(&["reset-failed", "stranger.service"]);
    exporter.until("no failed unit", |metrics| {
        let lines = metrics.lines("systemd_failed_unit");
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    });
    exporter.shows("systemd_manager_state", &[("state", "running")], 1.0);
}

fn counts_agree(machine: &Machine, exporter: &crate::server::Server<'_>) {
    wait_for("systemd_units to agree with systemctl", PATIENCE, || {
        let list = machine.systemctl(&["list-units", "--all", "--plain", "--no-legend"]);
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for line in list.lines() {
            *counts
                .entry(line.split_whitespace().nth(2).unwrap())
                .or_default() += 1.0;
        }
        let metrics = exporter.scrape();
        let differs = counts.iter().any(|(state, count)| {
            metrics.value("systemd_units", &[("state", state)]) != Some(*count)
        });
        if differs {
            Err(format!("{counts:?}\n{}", metrics.lines("systemd_units")))
        } else {
            Ok(())
        }
    });
}
