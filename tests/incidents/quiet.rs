//! The quiet day: everything that happens to a healthy host, and wakes nobody.
//!
//! But for a clock that steps: there is no namespace for the time of day, and neither the exporter nor
//! Prometheus asks the C library for it, where something preloaded could give another one.

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::replay::{Replay, deployment};
use crate::wait::{PATIENCE, wait_for};
use crate::world::RUNNING;

#[test]
fn a_quiet_day_on_252() {
    quiet(Systemd::V252, "quiet day, systemd 252");
}

#[test]
fn a_quiet_day_on_257() {
    quiet(Systemd::V257, "quiet day, systemd 257");
}

fn quiet(systemd: Systemd, name: &'static str) {
    let Some(machine) = deployment(systemd) else {
        return;
    };
    // Clients of Redis that connect again when it is gone for a moment.
    machine.write_program(
        "/usr/local/bin/reconnects",
        b"#!/bin/bash\nwhile :; do\n  if exec 3<>/dev/tcp/quantum_redis/6379; then\n    while printf 'PING\\r\\n' >&3 && read -r -t 5 answer <&3; do sleep 0.2; done\n  fi\n  sleep 0.2\ndone 2>/dev/null\n",
    );
    for service in [
        "quantum-execution.service",
        "quantum-position-monitor.service",
    ] {
        machine.program(service, "ExecStart=reconnects");
    }
    machine.unit(
        "quantum-report.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    machine.unit("quantum-report.timer", "[Timer]\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n[Install]\nWantedBy=quantum-trader.target\n");
    machine.unit(
        "stranger.service",
        "[Service]\nType=oneshot\nExecStart=/bin/test -e /run/stranger\n",
    );
    machine.sh("systemctl daemon-reload; systemctl enable --quiet --now quantum-report.timer");

    // A sixth of what is usual, as the alerts wait a fifteenth.
    machine.write_file(
        "/run/systemd/system/baseline-exporter.service.d/watchdog.conf",
        "[Service]\nType=notify\nWatchdogSec=5s\nRestart=always\nLimitCORE=0\n",
    );

    let mut replay = Replay::start(name, &machine);
    for event in [
        restart_one_by_one,
        restart_everything_at_once,
        reload_and_reexecute,
        upgrade_redis,
        one_crash,
        a_stranger_fails_and_heals,
        start_and_stop_jobs,
        the_exporter_hangs,
    ] {
        replay.inject(event);
        replay.all_is_well();
    }
    for server in [
        &replay.exporter,
        &replay.stack.prometheus.server,
        &replay.stack.alertmanager.server,
    ] {
        server.restart();
        replay.all_is_well();
    }
    replay.stays_so();
    replay.resolved();
}

fn restart_one_by_one(machine: &Machine) {
    for service in RUNNING {
        machine.systemctl(&["restart", service]);
    }
}

fn restart_everything_at_once(machine: &Machine) {
    machine.systemctl(&[
        "restart",
        "quantum-*.service",
        "quantum-*.target",
        "quantum-*.timer",
    ]);
}

fn reload_and_reexecute(machine: &Machine) {
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["daemon-reexec"]);
    machine.systemctl(&["daemon-reload"]);
}

/// As its package does it: stopped, replaced, started.
fn upgrade_redis(machine: &Machine) {
    machine.systemctl(&["stop", "redis-server.service"]);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "redis-server.service"]);
}

/// A service dies once, and is back with its first restart.
fn one_crash(machine: &Machine) {
    machine.systemctl(&["kill", "--signal=KILL", "quantum-ceo-brain.service"]);
    machine.wait_until_active(&["quantum-ceo-brain.service"]);
}

fn a_stranger_fails_and_heals(machine: &Machine) {
    machine.try_run(&["systemctl", "start", "stranger.service"]);
    machine.write_file("/run/stranger", "");
    machine.systemctl(&["start", "stranger.service"]);
    machine.sh("rm /run/stranger");
}

fn start_and_stop_jobs(machine: &Machine) {
    for _ in 0..3 {
        machine.run(&["systemd-run", "--wait", "--quiet", "--collect", "/bin/true"]);
        machine.systemctl(&["start", "quantum-report.service"]);
    }
}

/// Nobody answers Prometheus until systemd's watchdog has killed it and another one is up.
fn the_exporter_hangs(machine: &Machine) {
    let exporter = "baseline-exporter.service";
    let restarts = machine.property(exporter, "NRestarts");
    machine.signal(machine.pid_of(exporter), Signal::STOP);
    wait_for("another exporter", PATIENCE, || {
        let show = ["NRestarts", "ActiveState"].map(|it| machine.property(exporter, it));
        if show[0] != restarts && show[1] == "active" {
            Ok(())
        } else {
            Err(format!("{show:?}"))
        }
    });
}
