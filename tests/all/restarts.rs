//! No restart is lost: the exporter's counts against systemd's journal, unit by unit.
//!
//! RESTARTS=10000 asks for more of them than the usual thousand, and scrapes every 15 seconds then.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

/// "Scheduled restart job", in systemd's catalogue of messages.
const SCHEDULED_RESTART: &str = "MESSAGE_ID=5eb03494b6584870a536b337290809b3";

/// How the units end, between every 10 ms and every 5 s: what they run, and more of their unit files.
/// Every restart follows 10 ms after the end, unless it says otherwise.
const ENDINGS: [(&str, &str); 10] = [
    ("/bin/true", "Restart=always\n"),
    ("/bin/true", "Restart=always\nRestartSec=0\n"),
    ("/bin/false", "Restart=on-failure\nType=oneshot\n"),
    ("/bin/sh -c 'kill -KILL $$$$'", "Restart=on-failure\n"),
    ("/no/such/program", "Restart=always\n"),
    ("/bin/sleep 0.05", "Restart=always\n"),
    ("/bin/sh -c 'sleep 0.1; exit 3'", "Restart=on-failure\n"),
    ("/bin/sleep 0.2", "Restart=always\nRestartSec=300ms\n"),
    ("/bin/true", "Restart=always\nRestartSec=1\n"),
    ("/bin/sleep 1", "Restart=always\nRestartSec=4\n"),
];

#[test]
fn no_restart_is_lost_on_252() {
    no_restart_is_lost(Systemd::V252);
}

#[test]
fn no_restart_is_lost_on_257() {
    no_restart_is_lost(Systemd::V257);
}

#[expect(
    clippy::print_stdout,
    reason = "shown by --nocapture, and where the test fails"
)]
fn no_restart_is_lost(systemd: Systemd) {
    let wanted: u32 = std::env::var("RESTARTS").map_or(1000, |text| text.parse().unwrap());
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.write_file(
        "/etc/baseline.yml",
        "deployment: test\nsystemd: {watch: ['quantum-*.service']}\n",
    );
    let unit = |number: usize| {
        let (program, more) = ENDINGS[number];
        format!(
            "[Unit]\nStartLimitIntervalSec=0\n\
             [Service]\nLimitCORE=0\nExecStart={program}\nRestartSec=10ms\n{more}"
        )
    };
    let names: Vec<_> = (0..ENDINGS.len())
        .map(|number| format!("quantum-{number:04}.service"))
        .collect();
    for (number, name) in names.iter().enumerate() {
        machine.unit(name, &unit(number));
    }
    machine.systemctl(&["daemon-reload"]);
    let start = |names: &[String]| {
        for name in names {
            machine.systemctl(&["start", "--no-block", name]);
        }
    };

    // Some are in their loops when the exporter comes, some begin under its eyes.
    let (before, after) = names.split_at(ENDINGS.len() / 2);
    start(before);
    let server = machine.exporter(&["--config.file=/etc/baseline.yml"]);
    wait_for("the units to be known", PATIENCE, || {
        match server.get("/-/ready", &[]).status {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    });
    // What systemd had counted by the first reading is not the exporter's to count.
    let first = Counts::of(&server.scrape());
    let earlier = |name: &str| first.of_systemd[name] - first.own[name];
    start(after);

    // The rarer the scrapes, the more happens between two of them.
    let apart = Duration::from_secs(15) * wanted.min(10_000) / 10_000;
    let scraped = Cell::new(Instant::now());
    let until = |share: f64| {
        let wanted = f64::from(wanted) * share;
        wait_for("restarts", Duration::from_secs(1800), || {
            if scraped.get().elapsed() < apart {
                return Err("no scrape is due".to_owned());
            }
            scraped.set(Instant::now());
            let own = Counts::of(&server.scrape_within("10")).own;
            let total: f64 = own.values().sum();
            let each = share < 1.0 || own.values().all(|restarts| *restarts > 0.0);
            if total >= wanted && each {
                Ok(())
            } else {
                Err(format!("{total} of {wanted}: {own:?}"))
            }
        });
    };
    until(0.2);
    machine.systemctl(&["daemon-reload"]);
    until(0.4);
    machine.systemctl(&["daemon-reexec"]);
    until(0.6);
    machine.systemctl(&["restart", "dbus.service"]);
    until(0.8);
    machine.systemctl(&["restart", "--no-block", &names[7]]);
    until(1.0);
    machine.systemctl(&["stop", "quantum-*.service"]);

    let journal: BTreeMap<_, _> = names
        .iter()
        .map(|name| (name.as_str(), scheduled_restarts(&machine, name)))
        .collect();
    let differs = |counts: &Counts, name: &str| {
        let differs = counts.own[name] - (journal[name] - earlier(name));
        (differs != 0.0).then_some(differs)
    };
    let last = last_counts(&server, |counts| {
        names.iter().all(|name| differs(counts, name).is_none())
    });

    println!("{systemd:?}\nunit                  journal  earlier  exporter  difference");
    for name in &names {
        println!(
            "{name:20} {:>8} {:>8} {:>9} {:>11}",
            journal[name.as_str()],
            earlier(name),
            last.own[name],
            differs(&last, name).unwrap_or(0.0),
        );
    }
    let sum = |counts: &BTreeMap<String, f64>| counts.values().sum::<f64>();
    println!(
        "sum {:>25} {:>18}; resync corrections: {}, reconnects: {}",
        journal.values().sum::<f64>(),
        sum(&last.own),
        last.corrections,
        last.reconnects,
    );
    println!("{}", server.log());
    for name in &names {
        assert_eq!(differs(&last, name), None, "{name}, restarts missed");
    }
}

/// What the last signals leave behind: as counted once it is as `wanted`, or when nothing more
/// is to be expected.
fn last_counts(server: &Server<'_>, wanted: impl Fn(&Counts) -> bool) -> Counts {
    wait_for("the units to be at rest", PATIENCE, || {
        let metrics = server.scrape();
        let counts = Counts::of(&metrics);
        let moving = metrics.lines("systemd_unit_state");
        let moving: Vec<_> = moving
            .lines()
            .filter(|line| line.ends_with(" 1"))
            .filter(|line| !line.contains("state=\"inactive\"") && !line.contains("\"failed\""))
            .collect();
        if wanted(&counts) || moving.is_empty() {
            Ok(counts)
        } else {
            Err(moving.join("\n"))
        }
    })
}

fn scheduled_restarts(machine: &Machine, name: &str) -> f64 {
    let messages = machine.journal(&[SCHEDULED_RESTART, &format!("UNIT={name}")]);
    f64::from(u32::try_from(messages.lines().count()).unwrap())
}

/// What one scrape says of restarts.
struct Counts {
    /// The exporter's own counters.
    own: BTreeMap<String, f64>,
    /// NRestarts.
    of_systemd: BTreeMap<String, f64>,
    corrections: f64,
    reconnects: f64,
}

impl Counts {
    fn of(metrics: &Metrics) -> Self {
        Self {
            own: metrics.by_label("systemd_service_auto_restarts_total", "name"),
            of_systemd: metrics.by_label("systemd_service_restart_total", "name"),
            corrections: metrics.at("baseline_exporter_resync_corrections_total", &[]),
            reconnects: metrics.at("baseline_exporter_bus_reconnects_total", &[]),
        }
    }
}
