//! Scrapes cost no D-Bus message: what the bus itself saw while they went on.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};

const SCRAPES: u32 = 100;
const MONITOR: &str = "/run/monitor.json";

#[test]
fn no_message_is_sent_for_a_scrape_of_30_units() {
    no_message_is_sent_for_a_scrape(Systemd::V252, 30);
}

#[test]
fn no_message_is_sent_for_a_scrape_of_2000_units() {
    no_message_is_sent_for_a_scrape(Systemd::V257, 2000);
}

#[expect(
    clippy::print_stdout,
    reason = "shown by --nocapture, and where the test fails"
)]
fn no_message_is_sent_for_a_scrape(systemd: Systemd, units: usize) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.services(units, |_| {
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n".to_owned()
    });
    machine.write_file(
        "/etc/baseline.yml",
        "deployment: test\nsystemd: {watch: ['quantum-*.service'], resync: 1h}\n",
    );
    machine.sh(&format!(
        "systemd-run --quiet --service-type=exec --unit=monitor --property=StandardOutput=file:{MONITOR} \
         busctl monitor --json=short --match=\"type='method_call'\""
    ));
    let server = machine.exporter(&["--config.file=/etc/baseline.yml"]);
    // Two thousand are read for so long on a busy machine that a scrape would wait in vain.
    wait_for("the units to be known", PATIENCE, || {
        match server.get("/-/ready", &[]).status {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    });
    wait_for("all units", PATIENCE, || {
        let metrics = server.scrape();
        let seen = metrics.lines("systemd_unit_load_state").lines().count();
        let connected = metrics.at("baseline_exporter_bus_connected", &[]);
        if seen == units && connected == 1.0 {
            Ok(())
        } else {
            Err(format!("{seen} units, {}", server.log()))
        }
    });
    let name =
        machine.sh("busctl list --unique --no-legend | awk '$3 ~ /^baseline-export/ {print $1}'");

    // All calls so far, as the exporter counts them and as the bus does: but for the greeting,
    // which is part of connecting.
    let sent = || {
        server.scrape().at(
            "baseline_exporter_bus_messages_total",
            &[("direction", "sent")],
        )
    };
    let calls = || {
        wait_for("the same count on both sides", PATIENCE, || {
            // What the bus saw takes a while to read, and the exporter may ask for signs of life meanwhile.
            let before = sent();
            let calls = calls_of(&machine, name.trim_end());
            let seen = calls.iter().filter(|call| *call != "Hello").count();
            let sent = before..=sent();
            if sent.contains(&f64::from(u32::try_from(seen).unwrap())) {
                Ok(calls)
            } else {
                Err(format!("the exporter: {sent:?}, the bus: {seen}"))
            }
        })
    };
    // What comes while the bus's side is read counts already.
    let started = Instant::now();
    let before = calls();
    for _ in 0..SCRAPES {
        assert_eq!(server.get("/metrics", &[]).status, 200);
    }
    let after = calls();
    let elapsed = started.elapsed();

    // By the clock only: a sign of life after 2 s of silence, and a list of all units 5 s after
    // the last one if any unwatched unit changed.
    let new = &after[before.len()..];
    let count = |member: &str| new.iter().filter(|call| *call == member).count();
    let at_most = |each: Duration| usize::try_from(elapsed.as_secs() / each.as_secs()).unwrap() + 1;
    println!("{units} units, {SCRAPES} scrapes in {elapsed:?}: {new:?}");
    assert!(count("Ping") <= at_most(Duration::from_secs(2)), "{new:?}");
    assert!(
        count("ListUnits") <= at_most(Duration::from_secs(5)),
        "{new:?}"
    );
    assert!(count("Get") <= count("ListUnits"), "{new:?}");
    assert_eq!(
        count("Ping") + count("ListUnits") + count("Get"),
        new.len(),
        "{new:?}"
    );
}

/// The members that the connection of this name called.
fn calls_of(machine: &Machine, name: &str) -> Vec<String> {
    let text = machine.read_file(MONITOR);
    // The last line may be on its way.
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["sender"] == name)
        .filter_map(|message| Some(message["member"].as_str()?.to_owned()))
        .collect()
}
