//! The healthy host, with the baseline that is built in.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::prometheus::{Generation, Prometheus};
use crate::world::{ABSENT, DISABLED, RUNNING};

#[test]
fn the_healthy_host_holds_on_252() {
    healthy(Systemd::V252);
}

#[test]
fn the_healthy_host_holds_on_257() {
    healthy(Systemd::V257);
}

fn healthy(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.world();
    let loaded = || machine.systemctl(&["list-units", "--all", "--plain", "--no-legend"]);
    let exporter = machine.exporter(&[]);
    let first = exporter.scrape();
    every_unit_has_its_series(&first);

    let check = machine.check(&[]);
    assert_eq!(check.status.code(), Some(0), "{check}");
    assert!(!check.stdout.contains("violated"), "{check}");
    assert!(!check.stdout.contains("unknown"), "{check}");
    assert!(!check.stdout.contains("warning"), "{check}");

    for generation in Generation::ALL {
        let prometheus = Prometheus::run(&machine, generation, "127.0.0.1:9990");
        let target = prometheus.target();
        assert_eq!(target["health"], "up", "{target}");
        assert_eq!(target["lastError"], "", "{target}");
        assert_eq!(prometheus.server.complaints(), "");
        prometheus.server.stop();
    }

    let text = exporter.get("/metrics", &[("Accept", "text/plain; version=0.0.4")]);
    let text = text.text();
    for generation in Generation::ALL {
        let promtool = fed(
            &generation.on_host("promtool"),
            &["check", "metrics"],
            &text,
        );
        assert_eq!(
            promtool, "",
            "promtool of {generation:?} has something to say"
        );
    }
    let accept = "application/openmetrics-text; version=1.0.0";
    let open = exporter.get("/metrics", &[("Accept", accept)]).text();
    let python = concat!(env!("CARGO_TARGET_TMPDIR"), "/../venv/bin/python");
    let parsed = fed(python, &["-c", PARSER], &open);
    assert_eq!(parsed, "read\n");
    let (text, open) = (Metrics::parse(&text), Metrics::parse(&open));
    assert_eq!(text.series(), open.series());
    for name in STEADY {
        assert_eq!(text.lines(name), open.lines(name));
    }

    let last = exporter.scrape();
    every_unit_has_its_series(&last);
    assert_eq!(
        last.at("baseline_exporter_resync_corrections_total", &[]),
        0.0
    );
    let diff = machine.learn(&["--diff"]);
    assert_eq!(diff.status.code(), Some(0), "{diff}");
    assert_eq!(diff.stdout, "", "{diff}");
    // The target's wishes are in memory as not-found; asking for the disabled ones keeps none there.
    let listed = loaded();
    for name in DISABLED {
        assert!(!listed.contains(name), "{listed}");
    }
}

/// Families whose values do not move while nothing happens.
const STEADY: [&str; 6] = [
    "baseline_check",
    "baseline_unit_deviation",
    "baseline_unit_expected",
    "systemd_unit_state",
    "systemd_unit_load_state",
    "systemd_unit_state_entries_total",
];

const PARSER: &str = "\
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
list(text_string_to_metric_families(sys.stdin.read()))
print('read')
";

#[track_caller]
fn every_unit_has_its_series(metrics: &Metrics) {
    let lists = [
        ("running", &RUNNING[..], "active", "loaded"),
        ("disabled", &DISABLED[..], "inactive", "loaded"),
        ("absent", &ABSENT[..], "inactive", "not-found"),
        ("active", &["quantum-trader.target"][..], "active", "loaded"),
    ];
    for (expected, names, state, load_state) in lists {
        for name in names {
            let of_unit = [("name", *name)];
            let starts_at_boot = matches!(expected, "running" | "active").then_some(1.0);
            assert_eq!(
                metrics.value("baseline_unit_starts_at_boot", &of_unit),
                starts_at_boot,
                "{name}"
            );
            let ones = |metric, label| metrics.ones(metric, &of_unit, label);
            assert_eq!(
                ones("baseline_unit_expected", "expected"),
                [expected],
                "{name}"
            );
            assert_eq!(ones("systemd_unit_state", "state"), [state], "{name}");
            assert_eq!(
                ones("systemd_unit_load_state", "load_state"),
                [load_state],
                "{name}"
            );
            assert!(
                ones("baseline_unit_deviation", "deviation").is_empty(),
                "{name}"
            );
            assert!(
                metrics
                    .value(
                        "baseline_unit_deviation",
                        &[of_unit[0], ("deviation", "failed")]
                    )
                    .is_some(),
                "{name}"
            );
        }
    }
    let holding = metrics.ones("baseline_check", &[("status", "holds")], "check");
    let checks = [
        "absent_units",
        "active_units",
        "bad_states",
        "disabled_units",
        "failed_units",
        "running_units",
    ];
    for check in checks {
        assert!(
            holding.iter().any(|name| name == check),
            "{check}: {holding:?}"
        );
    }
    let status = metrics.ones("baseline_check", &[("status", "violated")], "check");
    assert!(status.is_empty(), "{status:?}");
    assert_eq!(metrics.at("baseline_units_running", &[]), 12.0);
    assert_eq!(metrics.at("baseline_units_running_expected", &[]), 12.0);
}

/// All that a program of the host prints when it is fed this text; it has to succeed.
#[track_caller]
pub fn fed(program: &str, args: &[&str], text: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(program);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{program}: {said}");
    said
}
