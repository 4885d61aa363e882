//! Services that start again and again, and those that systemd gave up.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};
use crate::world::Behaviour;

const BASELINE: &str = "  \
  running:
    - nine-in-ten.service
    - never-failed.service
    - gave-up.service
    - gave-up-cleanly.service
";

#[test]
fn a_loop_is_seen_and_so_is_giving_up_on_252() {
    loops(Systemd::V252);
}

#[test]
fn a_loop_is_seen_and_so_is_giving_up_on_257() {
    loops(Systemd::V257);
}

fn loops(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let at_once = Duration::ZERO;
    let units = [
        ("nine-in-ten.service", "100ms", 0, 1, Duration::from_secs(2)),
        ("never-failed.service", "2s", 0, 1, at_once),
        ("gave-up.service", "50ms", 60, 1, at_once),
        ("gave-up-cleanly.service", "50ms", 60, 0, at_once),
    ];
    for (name, restart_after, limit, status, after) in units {
        machine.stand_in(
            name,
            &format!(
                "Restart=always\nRestartSec={restart_after}\n\
                 [Unit]\nStartLimitIntervalSec={limit}\nStartLimitBurst=3\n"
            ),
        );
        machine.behave(name, Behaviour::Exit { status, after });
    }
    machine.systemctl(&["daemon-reload"]);
    let exporter = machine.exporter_with(BASELINE);
    for (name, ..) in units {
        exporter.stands(name, &["stopped"]);
        machine.systemctl(&["start", "--no-block", name]);
    }

    for name in ["nine-in-ten.service", "never-failed.service"] {
        let of_unit = [("name", name)];
        exporter.until(&format!("{name} to be restarted twice"), |metrics| {
            let restarts = metrics.at("systemd_service_auto_restarts_total", &of_unit);
            let failures = metrics.at("systemd_service_failures_total", &of_unit);
            if restarts >= 2.0 && failures >= restarts {
                Ok(())
            } else {
                Err(format!("{restarts} restarts, {failures} failures"))
            }
        });
        exporter.stands(name, &["restarting"]);
        exporter.shows(
            "systemd_service_last_exit",
            &[("name", name), ("code", "exited"), ("status", "1")],
            1.0,
        );
        let failed = [("name", name), ("state", "failed")];
        assert_eq!(exporter.scrape().at("systemd_unit_state", &failed), 0.0);
        machine.check_says(&format!("{name} restarts again and again"));
    }
    exporter.until("the loop while it runs", |metrics| {
        let of_unit = [("name", "nine-in-ten.service")];
        let state = metrics.ones("systemd_unit_sub_state", &of_unit, "sub_state");
        if state != ["running"] {
            return Err(format!("{state:?}"));
        }
        let deviations = metrics.ones("baseline_unit_deviation", &of_unit, "deviation");
        assert_eq!(deviations, ["restarting"]);
        Ok(())
    });

    // This one heals; that it did shows a while later.
    machine.behave("never-failed.service", Behaviour::Run);

    for (name, result) in [
        ("gave-up.service", "exit-code"),
        ("gave-up-cleanly.service", "start-limit-hit"),
    ] {
        exporter.stands(name, &["failed"]);
        let labels = [("name", name), ("result", result)];
        exporter.shows("systemd_service_last_result", &labels, 1.0);
        let of_unit = [("name", name)];
        let metrics = exporter.scrape();
        let restarts = metrics.at("systemd_service_auto_restarts_total", &of_unit);
        assert!((2.0..=3.0).contains(&restarts), "{name}: {restarts}");
        assert_eq!(
            metrics.ones("systemd_failed_unit", &of_unit, "name"),
            [name]
        );
        machine.check_says(&format!(
            "{name} failed and systemd gave up restarting it (result {result}"
        ));
    }
    let metrics = exporter.scrape();
    let cause = [
        ("name", "gave-up-cleanly.service"),
        ("cause", "start_limit"),
    ];
    assert_eq!(metrics.at("baseline_unit_cause", &cause), 1.0);

    // A restart by hand sets systemd's own count back, not ours, and ends the loop.
    let name = "nine-in-ten.service";
    let restarts = || {
        exporter
            .scrape()
            .at("systemd_service_auto_restarts_total", &[("name", name)])
    };
    let before = restarts();
    machine.behave(name, Behaviour::Run);
    machine.systemctl(&["restart", name]);
    exporter.shows("systemd_service_restart_total", &[("name", name)], 0.0);
    exporter.stands(name, &[]);
    assert!(restarts() >= before);
    wait_for("check to be content with it", PATIENCE, || {
        let check = machine.check_same().stdout;
        if check.contains(&format!("{name} restarts")) {
            Err(check)
        } else {
            Ok(())
        }
    });
    let healed = [("name", "never-failed.service")];
    exporter.stands("never-failed.service", &[]);
    assert!(
        exporter
            .scrape()
            .at("systemd_service_restart_total", &healed)
            >= 2.0
    );
}

#[test]
#[ignore = "takes a quarter of an hour: cargo test --test all five_minutes -- --ignored"]
fn a_loop_of_five_minutes_is_seen_on_252() {
    loop_of_five_minutes(Systemd::V252);
}

#[test]
#[ignore = "takes a quarter of an hour: cargo test --test all five_minutes -- --ignored"]
fn a_loop_of_five_minutes_is_seen_on_257() {
    loop_of_five_minutes(Systemd::V257);
}

fn loop_of_five_minutes(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let name = "five-minutes.service";
    machine.stand_in(name, "Restart=always\nRestartSec=1s\n");
    let after = Duration::from_secs(300);
    machine.behave(name, Behaviour::Exit { status: 1, after });
    machine.systemctl(&["daemon-reload"]);
    let exporter = machine.exporter_with(&format!("  running: [{name}]\n"));
    machine.systemctl(&["start", name]);
    exporter.stands(name, &[]);

    // What each scrape of a quarter of an hour says, one a second.
    let of_unit = [("name", name)];
    let scraped = Cell::new(Instant::now());
    let until_restarts = |wanted: f64, deviations: &[&str]| {
        wait_for(&format!("restart {wanted}"), 2 * after, || {
            if scraped.get().elapsed() < Duration::from_secs(1) {
                return Err("no scrape is due".to_owned());
            }
            scraped.set(Instant::now());
            let metrics = exporter.scrape();
            let restarts = metrics.at("systemd_service_auto_restarts_total", &of_unit);
            if restarts >= wanted {
                return Ok(());
            }
            let states = metrics.ones("systemd_unit_sub_state", &of_unit, "sub_state");
            let seen = metrics.ones("baseline_unit_deviation", &of_unit, "deviation");
            // Between two runs it waits to be restarted, loop or not.
            if states == ["running"] {
                assert_eq!(seen, deviations, "after {restarts} restarts");
            }
            Err(format!("{restarts} restarts, {states:?}, {seen:?}"))
        });
    };
    until_restarts(1.0, &[]);
    // One restart is no loop; from the second on it is one, also while it runs.
    until_restarts(2.0, &[]);
    until_restarts(3.0, &["restarting"]);
    exporter.stands(name, &["restarting"]);
    machine.check_says(&format!(
        "{name} restarts again and again (3 automatic restarts"
    ));
    machine.systemctl(&["restart", name]);
    exporter.stands(name, &[]);
}
