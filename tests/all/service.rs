//! The exporter as a service of systemd's: when it is up, how its status reads, and its watchdog.

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const EXPORTER: &str = "baseline-exporter.service";

const BASELINE: &str = "/etc/baseline.yml";

const WEB: &str =
    "[Service]\nExecStart=sleep infinity\nRestart=always\nRestartSec=100ms\nLimitCORE=0\n";

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
        // After the time of the look, such as 2026-01-07T12:03:11Z.
        let (time, line) = status.split_once(": ").unwrap_or_default();
        if time.len() == 20 && time.ends_with('Z') && line.starts_with(wanted) {
            Ok(())
        } else {
            Err(status)
        }
    });
}

/// Of web.service one automatic restart was seen, or is about to be. The baseline is as it was
/// when this ends.
#[track_caller]
fn reload_keeps_what_was_counted(machine: &Machine, exporter: &Server<'_>) {
    let auto_restarts = "systemd_service_auto_restarts_total";
    let web = [("name", "web.service")];
    exporter.shows(auto_restarts, &web, 1.0);
    let active = [("name", "web.service"), ("state", "active")];
    let seconds = |metrics: &Metrics| metrics.at("systemd_unit_state_seconds_total", &active);
    let successful = "baseline_exporter_config_last_reload_successful";
    let version = |metrics: &Metrics| metrics.ones("baseline_info", &[], "version");
    // The first word that tells this outcome.
    let reload = |is_done: &dyn Fn(&Metrics) -> bool| {
        machine.systemctl(&["reload", EXPORTER]);
        let metrics = exporter.until("the reload", |metrics| {
            if is_done(metrics) {
                Ok(metrics.clone())
            } else {
                Err(metrics.lines("baseline_info") + &metrics.lines(successful))
            }
        });
        // With Type=notify, systemctl waits for the end of kill only.
        machine.wait_until_active(&[EXPORTER]);
        metrics
    };

    for name in ["new.service", "shop-a.service"] {
        machine.unit(name, WEB);
        machine.systemctl(&["daemon-reload"]);
        machine.systemctl(&["start", name]);
        machine.systemctl(&["kill", "--signal=KILL", name]);
        wait_for("its restart", PATIENCE, || {
            let show = ["NRestarts", "SubState"].map(|it| machine.property(name, it));
            if show == ["1", "running"] {
                Ok(())
            } else {
                Err(format!("{show:?}"))
            }
        });
    }
    let text = machine.read_file(BASELINE);
    let more = "  running: [new.service, web.service]\n  watch: ['shop-*']\n";
    let before = exporter.scrape();
    machine.write_file(
        BASELINE,
        &format!("deployment: test\nsystemd:\n  resync: 1s\n{more}"),
    );
    // The new ones are known at once, and nothing of theirs was seen happen.
    let after = reload(&|metrics| version(metrics) != version(&before));
    assert_eq!(after.at(auto_restarts, &web), 1.0);
    assert!(seconds(&after) >= seconds(&before));
    for name in ["new.service", "shop-a.service"] {
        let of = [("name", name)];
        assert_eq!(after.at("systemd_service_restart_total", &of), 1.0);
        assert_eq!(after.at(auto_restarts, &of), 0.0);
        assert_eq!(after.at("systemd_service_failures_total", &of), 0.0);
        let running = [("name", name), ("sub_state", "running")];
        assert_eq!(after.at("systemd_unit_sub_state", &running), 1.0);
    }
    let corrections = "baseline_exporter_resync_corrections_total";
    assert_eq!(after.at(corrections, &[]), 0.0);
    assert_eq!(after.at("baseline_exporter_bus_reconnects_total", &[]), 0.0);

    machine.write_file(BASELINE, &format!("{text}runing: []\n"));
    let refused = reload(&|metrics| metrics.at(successful, &[]) == 0.0);
    assert_eq!(version(&refused), version(&after));
    let status = machine.property(EXPORTER, "StatusText");
    assert!(status.contains("could not be read again"), "{status}");

    machine.write_file(BASELINE, &text);
    let back = reload(&|metrics| metrics.at(successful, &[]) == 1.0);
    assert_eq!(version(&back), version(&before));
    assert_eq!(back.at(auto_restarts, &web), 1.0);
    assert!(seconds(&back) >= seconds(&after));
    for name in ["new.service", "shop-a.service"] {
        assert_eq!(back.value(auto_restarts, &[("name", name)]), None);
    }
}

#[test]
fn systemd_is_told_how_it_goes_on_252() {
    systemd_is_told_how_it_goes(Systemd::V252);
}

#[test]
fn systemd_is_told_how_it_goes_on_257() {
    systemd_is_told_how_it_goes(Systemd::V257);
}

fn systemd_is_told_how_it_goes(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.unit("web.service", WEB);
    notify(&machine, "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "web.service"]);
    let exporter = machine.exporter_with("  running: [web.service]\n");
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
    machine.systemctl(&["kill", "--signal=KILL", "web.service"]);
    reload_keeps_what_was_counted(&machine, &exporter);

    // It starts where there is no bus, too, and says so.
    machine.systemctl(&["stop", EXPORTER, "dbus.socket", "dbus.service"]);
    machine.systemctl(&["start", EXPORTER]);
    assert_eq!(machine.property(EXPORTER, "ActiveState"), "active");
    assert_eq!(exporter.get("/-/ready", &[]).status, 503);
    status_is(&machine, "1 of 5 checks hold, unknown: failed_units");
    let status = machine.property(EXPORTER, "StatusText");
    assert!(status.contains("; the units cannot be told: "), "{status}");
    // A reload needs none either.
    let text = machine.read_file(BASELINE);
    machine.write_file(
        BASELINE,
        &text.replace("deployment: ", "deployment: without-bus-"),
    );
    machine.systemctl(&["reload", EXPORTER]);
    exporter.until("the reload", |metrics| {
        let deployment = metrics.ones("baseline_info", &[], "deployment").join("");
        if deployment.starts_with("without-bus-") {
            Ok(())
        } else {
            Err(deployment)
        }
    });
    machine.wait_until_active(&[EXPORTER]);
    machine.systemctl(&["start", "dbus.socket"]);
    exporter.shows("baseline_exporter_bus_connected", &[], 1.0);
    status_is(&machine, "5 of 5 checks hold");
}

#[test]
fn systemd_restarts_an_exporter_that_hangs() {
    let Some(machine) = Machine::boot(Systemd::V257) else {
        return;
    };
    machine.unit("web.service", WEB);
    machine.unit("broken.service", "[Service]\nExecStart=false\n");
    // The later of the two Type= counts.
    notify(
        &machine,
        "Type=notify-reload\nWatchdogSec=5s\nRestart=always\nLimitCORE=0\n",
    );
    let exporter = machine.exporter_with("  running: [web.service, broken.service]\n");
    machine.systemctl(&["start", EXPORTER, "web.service"]);
    machine.try_run(&["systemctl", "start", "broken.service"]);
    machine.systemctl(&["kill", "--signal=KILL", "web.service"]);
    let web = [("name", "web.service")];
    exporter.shows("systemd_service_restart_total", &web, 1.0);
    exporter.shows("systemd_service_auto_restarts_total", &web, 1.0);
    exporter.stands("broken.service", &["failed"]);
    exporter.stands("web.service", &[]);
    reload_keeps_what_was_counted(&machine, &exporter);
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
