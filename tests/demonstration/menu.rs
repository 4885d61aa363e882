//! What can be broken, and the blocks of the runbook that mend it.

use crate::faults::{self, ENGINE, SNAPSHOT};
use crate::machine::Machine;
use crate::replay::{BASELINE, REPOSITORY};

const PUBLISHER: &str = "quantum-market-publisher.service";
const POSITIONS: &str = "quantum-position-monitor.service";
const BRAIN: &str = "quantum-risk-brain.service";
const PORTFOLIO: &str = "quantum-portfolio-intelligence.service";
const TRAINER: &str = "quantum-rl-feedback-v2.service";
const SIZER: &str = "quantum-rl-sizer.service";
const OPS: &str = "quantum-strategy-ops.service";

const TRAINER_PROGRAM: &str = "/usr/local/bin/trainer";

/// A block of the runbook and its parameters.
pub type Block = (&'static str, &'static [(&'static str, &'static str)]);

/// Something that can be broken.
pub struct Fault {
    pub name: &'static str,
    /// What becomes of the host.
    pub what: &'static str,
    /// What tells of it: a page or a ticket.
    pub tells: &'static str,
    pub inject: fn(&Machine),
    /// The blocks of the runbook that mend it, each with what it asks for.
    pub fix: &'static [Block],
}

// Loops end by themselves with what Redis or its name does. But `check` looks only once, and would
// take a service that was restarted often for one that loops, until it has run for five minutes.
pub const FAULTS: [Fault; 8] = [
    Fault {
        name: "hostname",
        what: "the hosts file lost the alias quantum_redis, and quantum-market-publisher was restarted",
        tells: "page",
        inject: |machine| faults::lose_alias(machine, PUBLISHER),
        fix: &[
            (
                "hosts-alias",
                &[("NAME", "quantum_redis"), ("ADDRESS", "127.0.0.1")],
            ),
            ("restart-units", &[("UNITS", PUBLISHER)]),
        ],
    },
    Fault {
        name: "redis",
        what: "Redis stopped, and three services that need it loop",
        tells: "page",
        inject: faults::stop_redis,
        fix: &[
            ("redis-start", &[("REDIS", "redis-server.service")]),
            (
                "restart-units",
                &[(
                    "UNITS",
                    "quantum-market-publisher quantum-position-monitor quantum-risk-brain",
                )],
            ),
        ],
    },
    Fault {
        name: "write-path",
        what: "the logs of quantum-portfolio-intelligence belong to root",
        tells: "page",
        inject: faults::give_logs_to_root,
        fix: &[(
            "ownership-directory",
            &[
                ("UNIT", PORTFOLIO),
                ("DIR", "/home/qt/quantum_trader/logs"),
                ("USER_OF_UNIT", "qt"),
            ],
        )],
    },
    Fault {
        name: "loop",
        what: "the program of quantum-rl-feedback-v2 lost its execute bit, and is restarted again and again",
        tells: "page",
        inject: |machine| faults::lose_execute_bit(machine, TRAINER, TRAINER_PROGRAM),
        fix: &[(
            "execute-bit",
            &[("UNIT", TRAINER), ("FILE", TRAINER_PROGRAM)],
        )],
    },
    Fault {
        name: "stop",
        what: "somebody stopped quantum-strategy-ops",
        tells: "page",
        inject: |machine| faults::stop(machine, OPS),
        fix: &[("start-unit", &[("UNIT", OPS)])],
    },
    Fault {
        name: "reference",
        what: "quantum-ai-engine failed and its file was removed, but two units still name it",
        tells: "ticket",
        inject: faults::remove_a_unit_that_is_named,
        fix: &[("stale-reference", &[("MISSING", ENGINE)])],
    },
    Fault {
        name: "drift",
        what: "somebody edited the unit file of quantum-ceo-brain",
        tells: "ticket",
        inject: faults::edit_a_unit_file,
        fix: &[(
            "snapshot-restore",
            &[("SNAPSHOT", SNAPSHOT), ("CONFIG", BASELINE)],
        )],
    },
    Fault {
        name: "module",
        what: "the drop-in with the PYTHONPATH of quantum-rl-sizer is gone",
        tells: "page",
        inject: |machine| faults::lose_python_path(machine, SIZER),
        fix: &[("python-path", &[("UNIT", SIZER), ("DIR", REPOSITORY)])],
    },
];

impl Fault {
    pub fn named(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| fault.name == name)
    }
}

/// Gives those services that will break a program that truly does what breaks, and takes the golden
/// snapshot of the result.
pub fn prepare(machine: &Machine) {
    for service in [PUBLISHER, POSITIONS, BRAIN] {
        machine.program(service, "ExecStart=asks-redis\nRestartSec=2s");
    }
    let logs = format!("{REPOSITORY}/logs");
    machine.program(PORTFOLIO, &format!("User=qt\nExecStart=writes {logs}"));
    machine.write_program(TRAINER_PROGRAM, b"#!/bin/bash\nexec sleep infinity\n");
    machine.program(
        TRAINER,
        &format!("ExecStart={TRAINER_PROGRAM}\nRestartSec=2s"),
    );
    faults::run_a_module(machine, SIZER);
    machine.append_to_baseline(&format!("unit_files:\n  snapshot: {SNAPSHOT}\n"));
    machine.snapshot(&["take", SNAPSHOT]);
}

/// The commands.
pub fn text() -> String {
    let faults: String = FAULTS
        .iter()
        .map(|fault| format!("  {:<11} {}\n", fault.name, fault.what))
        .collect();
    format!(
        "From a second terminal:\n\n  \
         tests/demo break FAULT   and a page or a ticket appears here within a minute\n  \
         tests/demo fix FAULT     does what the runbook says, and prints it\n  \
         tests/demo check         what `baseline-exporter check` says on the machine\n\n\
         FAULT is one of\n\n{faults}\nCtrl-C ends the demo and leaves nothing behind."
    )
}
