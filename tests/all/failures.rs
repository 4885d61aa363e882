//! What is told while systemd or its bus does not answer, and after.

use std::cell::Cell;

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const BASELINE: &str = "/etc/baseline.yml";
const CONFIG: &str = "--config.file=/etc/baseline.yml";
const LOOPING: (&str, &str) = ("name", "quantum-looping.service");

/// How long the scrapers here wait, in seconds.
const SCRAPE_TIMEOUT: &str = "5";

#[test]
fn outages_are_told_and_survived_on_252() {
    outages_are_told_and_survived(Systemd::V252);
}

#[test]
fn outages_are_told_and_survived_on_257() {
    outages_are_told_and_survived(Systemd::V257);
}

fn outages_are_told_and_survived(systemd: Systemd) {
    let Some(machine) = booted(systemd) else {
        return;
    };
    let scraper = Scraper::of(machine.exporter(&[CONFIG]));
    scraper.wait_until_counting();

    let bus = machine.dbus_pid();
    for pid in [bus, machine.pid1()] {
        machine.signal(pid, Signal::STOP);
        scraper.wait_until_unknown();
        could_not_tell(&machine);
        machine.signal(pid, Signal::CONT);
        scraper.wait_until_counting();
    }

    // Its socket starts it again as soon as somebody connects.
    machine.signal(bus, Signal::KILL);
    scraper.wait_until_reconnected(1.0);
    scraper.wait_until_counting();

    take_bus_away(&machine);
    scraper.wait_until_unknown();
    could_not_tell(&machine);
    bring_bus_back(&machine);
    scraper.wait_until_counting();
    assert_eq!(machine.check(&[CONFIG]).status.code(), Some(1), "it loops");
}

#[test]
fn another_baseline_is_read_once_on_252() {
    another_baseline_is_read_once(Systemd::V252);
}

#[test]
fn another_baseline_is_read_once_on_257() {
    another_baseline_is_read_once(Systemd::V257);
}

/// One that comes while systemd cannot be asked is read with all the rest, and not once more.
fn another_baseline_is_read_once(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.write_file(BASELINE, "deployment: test\nsystemd: {watch: ['*']}\n");
    let exporter = machine.exporter(&[CONFIG]);
    let sent = || {
        wait_for("the units to be known", PATIENCE, || {
            let metrics = exporter.scrape_within(SCRAPE_TIMEOUT);
            match metrics.at("baseline_exporter_bus_connected", &[]) {
                1.0 => Ok(metrics.at(
                    "baseline_exporter_bus_messages_total",
                    &[("direction", "sent")],
                )),
                _ => Err("they are not".to_owned()),
            }
        })
    };
    let reloads = || exporter.log().matches("reloaded").count();
    let reload = || {
        let before = reloads();
        machine.signal(machine.pid_of("baseline-exporter.service"), Signal::HUP);
        wait_for("the baseline to be read again", PATIENCE, || {
            (reloads() > before)
                .then_some(())
                .ok_or_else(|| exporter.log())
        });
    };
    let first = sent();
    reload();
    let second = sent();
    let one_reading = second - first;

    machine.signal(machine.pid1(), Signal::STOP);
    reload();
    wait_for("systemd to be missed", PATIENCE, || {
        let metrics = exporter.scrape_within(SCRAPE_TIMEOUT);
        let status = metrics.ones("baseline_check", &[("check", "bad_states")], "status");
        match &status[..] {
            [status] if status == "unknown" => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    });
    reload();
    machine.signal(machine.pid1(), Signal::CONT);
    sent();
    // Whatever is still read by then is read before this.
    reload();
    let readings = (sent() - second) / one_reading;
    assert!(
        (1.5..2.5).contains(&readings),
        "{readings} readings of {one_reading} messages"
    );
}

#[test]
fn root_asks_systemd_itself_while_the_bus_is_gone_on_252() {
    root_asks_systemd_itself_while_the_bus_is_gone(Systemd::V252);
}

#[test]
fn root_asks_systemd_itself_while_the_bus_is_gone_on_257() {
    root_asks_systemd_itself_while_the_bus_is_gone(Systemd::V257);
}

fn root_asks_systemd_itself_while_the_bus_is_gone(systemd: Systemd) {
    let Some(machine) = booted(systemd) else {
        return;
    };
    let scraper = Scraper::of(machine.exporter_as("root", &[CONFIG]).unwrap());
    scraper.wait_until_counting();

    take_bus_away(&machine);
    scraper.wait_until_reconnected(1.0);
    scraper.wait_until_counting();
    let check = machine.check(&[CONFIG]);
    assert_eq!(check.status.code(), Some(1), "it loops: {check}");

    machine.signal(machine.pid1(), Signal::STOP);
    scraper.wait_until_unknown();
    machine.signal(machine.pid1(), Signal::CONT);
    scraper.wait_until_counting();

    // systemd closes its private sockets then.
    machine.systemctl(&["daemon-reexec"]);
    scraper.wait_until_reconnected(2.0);
    scraper.wait_until_counting();
    bring_bus_back(&machine);
    scraper.wait_until_counting();
}

#[test]
fn nobody_sees_all_units_on_252() {
    nobody_sees_all_units(Systemd::V252);
}

#[test]
fn nobody_sees_all_units_on_257() {
    nobody_sees_all_units(Systemd::V257);
}

/// And a loop is counted on, whatever else happens to systemd and the bus.
fn nobody_sees_all_units(systemd: Systemd) {
    let Some(machine) = booted(systemd) else {
        return;
    };
    let scraper = Scraper::of(machine.exporter_as("nobody", &[CONFIG]).unwrap());
    scraper.wait_until_counting();
    let metrics = scraper.scrape();
    let steady = ("name", "quantum-steady.service");
    let active = ("state", "active");
    assert_eq!(metrics.at("systemd_unit_state", &[steady, active]), 1.0);
    assert_eq!(
        metrics.at(
            "baseline_check",
            &[("check", "running_units"), ("status", "holds")]
        ),
        1.0
    );

    for command in [
        &["daemon-reload"][..],
        &["daemon-reexec"],
        &["restart", "dbus.service"],
        &["restart", LOOPING.1],
    ] {
        machine.systemctl(command);
        scraper.wait_until_counting();
    }
}

/// A machine with a service that runs and one that ends and is restarted all the time.
fn booted(systemd: Systemd) -> Option<Machine> {
    let machine = Machine::boot(systemd)?;
    machine.write_file(
        BASELINE,
        "deployment: test\nsystemd: {running: [quantum-steady.service], watch: ['quantum-*.service']}\n",
    );
    machine.unit(
        "quantum-steady.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    machine.unit(
        LOOPING.1,
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Service]\nExecStart=/bin/sleep 0.1\nRestart=always\nRestartSec=100ms\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "quantum-steady.service", LOOPING.1]);
    Some(machine)
}

/// The bus daemon dies, and nobody finds the socket that would start it again.
fn take_bus_away(machine: &Machine) {
    machine.sh("mv /run/dbus/system_bus_socket /run/dbus/away");
    machine.signal(machine.dbus_pid(), Signal::KILL);
}

fn bring_bus_back(machine: &Machine) {
    machine.sh("mv /run/dbus/away /run/dbus/system_bus_socket");
}

#[track_caller]
fn could_not_tell(machine: &Machine) {
    let check = machine.check_as("exporter", &[CONFIG]);
    assert_eq!(check.status.code(), Some(2), "{check}");
}

/// Scrapes, and holds each scrape to what is promised for all.
struct Scraper<'m> {
    server: Server<'m>,
    restarts: Cell<f64>,
}

impl<'m> Scraper<'m> {
    fn of(server: Server<'m>) -> Self {
        Self {
            server,
            restarts: Cell::new(0.0),
        }
    }

    /// It is answered in time, and no counter went back.
    #[track_caller]
    fn scrape(&self) -> Metrics {
        let metrics = self.server.scrape_within(SCRAPE_TIMEOUT);
        let restarts = metrics.value("systemd_service_auto_restarts_total", &[LOOPING]);
        if let Some(restarts) = restarts {
            assert!(restarts >= self.restarts.get(), "{restarts} is less");
            self.restarts.set(restarts);
        }
        metrics
    }

    /// Waits until the units are known and a restart more than before was counted.
    #[track_caller]
    fn wait_until_counting(&self) {
        let before = self.restarts.get();
        wait_for("one restart more", PATIENCE, || {
            let metrics = self.scrape();
            let connected = metrics.at("baseline_exporter_bus_connected", &[]) == 1.0;
            if connected && self.restarts.get() > before {
                return Ok(());
            }
            Err(format!("connected: {connected}, {}", self.server.log()))
        });
    }

    #[track_caller]
    fn wait_until_reconnected(&self, times: f64) {
        wait_for("another connection", PATIENCE, || {
            let metrics = self.scrape();
            match metrics.at("baseline_exporter_bus_reconnects_total", &[]) {
                seen if seen >= times => Ok(()),
                seen => Err(seen.to_string()),
            }
        });
    }

    /// Waits until no unit is known, and looks at what is told instead.
    #[track_caller]
    fn wait_until_unknown(&self) {
        let metrics = wait_for("unknown units", PATIENCE, || {
            let metrics = self.scrape();
            let connected = metrics.at("baseline_exporter_bus_connected", &[]);
            if connected == 0.0 {
                Ok(metrics)
            } else {
                Err(metrics.lines("systemd_unit_state"))
            }
        });
        for family in ["systemd_unit_state", "systemd_service_auto_restarts_total"] {
            assert_eq!(metrics.lines(family), "");
        }
        for check in ["failed_units", "running_units"] {
            let unknown = [("check", check), ("status", "unknown")];
            assert_eq!(metrics.at("baseline_check", &unknown), 1.0);
        }
        assert_eq!(self.server.get("/-/healthy", &[]).status, 200);
    }
}
