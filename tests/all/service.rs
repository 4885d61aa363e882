//! The exporter as a service of systemd's: when it is up, how its status reads, and its watchdog.

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
