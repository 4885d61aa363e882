//! What failing units say in the journal, and to whom it is told.

use crate::machine::{Machine, Systemd};

const BASELINE: &str = "  resync: 1s\n  running: [port.service, hostile.service, once.service]\n";

#[test]
fn the_journal_tells_causes_on_252() {
    the_journal_tells_causes(Systemd::V252);
}

#[test]
fn the_journal_tells_causes_on_257() {
    the_journal_tells_causes(Systemd::V257);
}

fn the_journal_tells_causes(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let text = format!("deployment: test\nsystemd:\n{BASELINE}");
    machine.write_file("/etc/baseline.yml", &text);
    let config = "--config.file=/etc/baseline.yml";
    machine.write_program(
        "/usr/local/bin/says",
        b"#!/bin/sh\nprintf \"$1\" >&2\nsleep 0.1\nexit 1\n",
    );
    let says = |name: &str, text: &str, more: &str| {
        machine.unit(
            name,
            &format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=says '{text}'\n{more}"),
        );
    };
    let restarts = "Restart=always\nRestartSec=500ms\n";
    says(
        "port.service",
        "Traceback\\\\nOSError: [Errno 98] Address already in use\\\\n",
        restarts,
    );
    // Colours, a byte that is no text, a password, and no end of the line.
    says(
        "hostile.service",
        r"\\033[31mredis://u:hunter2@h:6379 \\377 connection refused",
        restarts,
    );
    says("once.service", "fatal: out of memory\\\\n", "");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "port.service", "hostile.service", "once.service"]);

    let exporter = machine.exporter_as("root", &[config]).unwrap();
    let causes = [
        ("port.service", "address_in_use"),
        ("hostile.service", "redis"),
        ("once.service", "out_of_memory"),
    ];
    for (name, cause) in causes {
        let labels = [("name", name), ("cause", cause), ("detail", "")];
        exporter.shows("baseline_unit_cause", &labels, 1.0);
    }
    machine.check_says("it wrote: OSError: [Errno 98] Address already in use");
    machine.check_says("it wrote: redis://***@h:6379 \u{fffd} connection refused");
    let log = exporter.log();
    assert!(
        !log.contains("hunter2") && !log.contains("journal"),
        "{log}"
    );

    // What it wrote once is not what keeps it from running now.
    says("once.service", "quiet now\\\\n", "");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["restart", "once.service"]);
    exporter.stands("once.service", &["failed"]);
    let check = machine.check(&[config]);
    assert!(check.stdout.contains("once.service failed"), "{check}");
    assert!(!check.stdout.contains("out of memory"), "{check}");

    // Without permission to read it, everything else is as before.
    let check = machine.check_as("exporter", &[config]);
    assert_eq!(check.status.code(), Some(1), "{check}");
    assert!(
        check.stdout.contains("port.service restarts again"),
        "{check}"
    );
    assert!(!check.stdout.contains("it wrote"), "{check}");
}
