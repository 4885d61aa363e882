//! Who watches goes down itself.

use std::time::Instant;

use crate::machine::Systemd;
use crate::replay::{Replay, deployment, page};
use crate::wait::{PATIENCE, wait_for};

const BRAIN: &str = "quantum-ceo-brain.service";

#[test]
fn the_exporter_goes_down_while_a_unit_has_failed() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let mut replay = Replay::start("exporter down beside a failed unit", &machine);
    replay.inject(|machine| machine.program(BRAIN, "ExecStart=/bin/false\nRestart=no"));
    let failed = || page("BaselineUnitFailed", "quantum-ceo-brain", "");
    replay.pages(&[failed()]);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "baseline-exporter.service"]);
    });
    replay.pages(&[
        failed(),
        page("BaselineExporterDown", "baseline-exporter", "exporter down"),
    ]);
    // Nobody can tell that the unit is well again.
    replay.stays_so();
    replay.fix("exporter-restart", &[]);
    replay.repair(|machine| machine.program(BRAIN, "ExecStart=/bin/sleep infinity"));
    replay.resolved();
}

#[test]
fn the_bus_goes_down() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let mut replay = Replay::start_as("exporter", "bus down", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "dbus.socket", "dbus.service"]);
    });
    replay.pages(&[page(
        "BaselineExporterBlind",
        "baseline-exporter",
        "bus lost",
    )]);
    replay.fix("dbus-start", &[]);
    replay.resolved();
}

#[test]
fn l19_alertmanager_cannot_be_reached() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let replay = Replay::start("L19 Alertmanager unreachable", &machine);
    machine.systemctl(&["stop", "alertmanager-under-test.service"]);
    let stopped = Instant::now();
    wait_for(
        "Prometheus to know that nobody hears it",
        PATIENCE * 2,
        || replay.firing("BaselineAlertsUndelivered"),
    );
    // The dead man's switch is what tells of it.
    assert!(!replay.watchdog_came_since(stopped));
    machine.systemctl(&["start", "alertmanager-under-test.service"]);
    wait_for("the watchdog to be back", PATIENCE, || {
        if replay.watchdog_came_since(stopped) {
            Ok(())
        } else {
            Err("silent".to_owned())
        }
    });
}
