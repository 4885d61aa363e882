//! The exporter as a service of systemd's: when it is up, how its status reads, and its watchdog.

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};

const EXPORTER: &str = "baseline-exporter.service";

const BASELINE: &str = "
deployment: served
systemd:
  running: [web.service]
";

/// What makes the exporter a service that tells how it goes.
fn notify(machine: &Machine, more: &str) {
    machine.write_file(
        &format!("/run/systemd/system/{EXPORTER}.d/notify.conf"),
        &format!("[Service]\nType=notify\n{more}"),
    );
}

#[track_caller]
fn status_is(machine: &Machine, wanted: &str) {
    wait_for(&format!("the status {wanted:?}"), PATIENCE, || {
        let status = machine.property(EXPORTER, "StatusText");
        if status.starts_with(wanted) {
            Ok(())
        } else {
            Err(status)
        }
    });
}

#[test]
fn systemd_is_told_how_it_goes() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.write_file("/etc/baseline.yml", BASELINE);
    machine.unit("web.service", "[Service]\nExecStart=sleep infinity\n");
    notify(&machine, "");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "web.service"]);
    let exporter = machine.exporter(&["--config.file=/etc/baseline.yml"]);
    machine.systemctl(&["start", EXPORTER]);
    assert_eq!(
        exporter.get("/-/ready", &[]).status,
        200,
        "it is up once the units are known"
    );
    // Nobody scraped: that is the one look at the start.
    status_is(&machine, "5 of 5 checks hold");
    machine.systemctl(&["stop", "web.service"]);
    exporter.shows(
        "baseline_unit_deviation",
        &[("name", "web.service"), ("deviation", "stopped")],
        1.0,
    );
    status_is(&machine, "4 of 5 checks hold, violated: running_units");
    machine.systemctl(&["start", "web.service"]);

    // It starts where there is no bus, too, and says so.
    machine.systemctl(&["stop", EXPORTER, "dbus.socket", "dbus.service"]);
    machine.systemctl(&["start", EXPORTER]);
    assert_eq!(machine.property(EXPORTER, "ActiveState"), "active");
    assert_eq!(exporter.get("/-/ready", &[]).status, 503);
    status_is(&machine, "1 of 5 checks hold, unknown: failed_units");
    let status = machine.property(EXPORTER, "StatusText");
    assert!(status.contains("; the units cannot be told: "), "{status}");
    machine.systemctl(&["start", "dbus.socket"]);
    exporter.shows("baseline_exporter_bus_connected", &[], 1.0);
    status_is(&machine, "5 of 5 checks hold");
}

#[test]
fn systemd_restarts_an_exporter_that_hangs() {
    let Some(machine) = Machine::boot(Systemd::V257) else {
        return;
    };
    machine.unit(
        "web.service",
        "[Service]\nExecStart=sleep infinity\nRestart=always\nRestartSec=100ms\n",
    );
    machine.unit("broken.service", "[Service]\nExecStart=false\n");
    notify(&machine, "WatchdogSec=5s\nRestart=always\nLimitCORE=0\n");
    let exporter = machine.exporter_with("  running: [web.service, broken.service]\n");
    machine.systemctl(&["start", EXPORTER, "web.service"]);
    machine.try_run(&["systemctl", "start", "broken.service"]);
    machine.systemctl(&["kill", "--signal=KILL", "web.service"]);
    let web = [("name", "web.service")];
    exporter.shows("systemd_service_restart_total", &web, 1.0);
    exporter.shows("systemd_service_auto_restarts_total", &web, 1.0);
    exporter.stands("broken.service", &["failed"]);
    exporter.stands("web.service", &[]);
    let before = exporter.scrape();

    machine.signal(exporter.pid(), Signal::STOP);
    wait_for("another exporter", PATIENCE, || {
        let show = ["NRestarts", "Result", "ActiveState"].map(|it| machine.property(EXPORTER, it));
        if show == ["1", "success", "active"] {
            Ok(())
        } else {
            Err(format!("{show:?}"))
        }
    });
    // The first word of the new one: what systemd knows is as it was, what it counts itself begins.
    let after = exporter.scrape();
    for family in [
        "baseline_check",
        "baseline_unit_deviation",
        "baseline_unit_cause",
        "systemd_unit_state",
        "systemd_unit_state_change_timestamp_seconds",
        "systemd_service_restart_total",
        "systemd_service_last_result",
        "systemd_failed_unit",
    ] {
        assert_eq!(after.lines(family), before.lines(family));
    }
    // Of a service that runs again, systemd does not tell how its last run ended.
    let broken = [
        ("name", "broken.service"),
        ("code", "exited"),
        ("status", "1"),
    ];
    assert_eq!(after.at("systemd_service_last_exit", &broken), 1.0);
    for family in [
        "systemd_service_auto_restarts_total",
        "systemd_service_failures_total",
        "systemd_unit_activations_total",
    ] {
        for name in ["web.service", "broken.service"] {
            assert_eq!(after.at(family, &[("name", name)]), 0.0, "{family} {name}");
        }
    }
    assert!(
        machine
            .journal(&["--unit", EXPORTER])
            .contains("Watchdog timeout")
    );
}
