//! Incidents that came later, of the same deployment.

use crate::faults;
use crate::machine::Systemd;
use crate::replay::{REPOSITORY, Replay, deployment, page, ticket};

const TRAINER: &str = "quantum-rl-feedback-v2.service";
const PUBLISHER: &str = "quantum-market-publisher.service";
const SIZER: &str = "quantum-rl-sizer.service";
const BRAIN: &str = "quantum-ceo-brain.service";
const RISK: &str = "quantum-risk-brain.service";
const OPS: &str = "quantum-strategy-ops.service";
const STRATEGY: &str = "quantum-strategy-brain.service";

/// Runs, as a program of the deployment does.
const RUNS: &str = "#!/bin/bash\nexec sleep infinity\n";

#[test]
fn l1_a_script_lost_its_execute_bit() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let script = "/usr/local/bin/trainer";
    machine.write_program(script, RUNS.as_bytes());
    machine.program(TRAINER, &format!("ExecStart={script}\nRestartSec=2s"));
    let mut replay = Replay::start("L1 no execute bit", &machine);
    replay.knows("FILE", script);
    replay.inject(|machine| faults::lose_execute_bit(machine, TRAINER, script));
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-rl-feedback-v2",
        "missing executable",
    )
    .naming(&["203/EXEC"])]);
    replay.fix("execute-bit", &[("UNIT", TRAINER), ("FILE", script)]);
    replay.resolved();
}

#[test]
fn l2_an_interpreter_is_gone() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    machine.sh("ln -s /bin/bash /usr/local/bin/interpreter");
    machine.write_program(
        "/usr/local/bin/publisher",
        b"#!/usr/local/bin/interpreter\nsleep infinity\n",
    );
    machine.program(
        PUBLISHER,
        "ExecStart=/usr/local/bin/publisher\nRestartSec=5s",
    );
    let mut replay = Replay::start("L2 interpreter gone", &machine);
    replay.knows("FILE", "/usr/local/bin/publisher");
    replay.inject(|machine| {
        machine.sh(&format!(
            "rm /usr/local/bin/interpreter; systemctl restart {PUBLISHER} || true"
        ));
    });
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-market-publisher",
        "missing executable",
    )
    .naming(&["203/EXEC"])]);
    replay.repair(|machine| {
        machine.sh("ln -s /bin/bash /usr/local/bin/interpreter");
    });
    replay.fix("start-again", &[("UNIT", PUBLISHER)]);
    replay.resolved();
}

// Given up within the shortened minute as within the shipped one: so a shorter RestartSec= than the
// second that it had.
#[test]
fn l3_a_program_broke_and_systemd_gave_it_up() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.write_program("/usr/local/bin/sizer", RUNS.as_bytes());
    machine.program(SIZER, "ExecStart=/usr/local/bin/sizer\nRestartSec=300ms\n[Unit]\nStartLimitIntervalSec=300\nStartLimitBurst=5");
    let mut replay = Replay::start("L3 given up", &machine);
    replay.inject(|machine| {
        machine.write_program(
            "/usr/local/bin/sizer.new",
            b"#!/bin/bash\nsleep 0.3\nexit 1\n",
        );
        machine.sh(&format!(
            "mv /usr/local/bin/sizer.new /usr/local/bin/sizer; systemctl kill {SIZER}"
        ));
    });
    replay.pages(&[page("BaselineUnitGivenUp", "quantum-rl-sizer", "").naming(&["exited with 1"])]);
    replay.repair(|machine| {
        machine.write_program("/usr/local/bin/sizer", RUNS.as_bytes());
    });
    replay.fix("start-again", &[("UNIT", SIZER)]);
    replay.resolved();
}

#[test]
fn l4_a_module_is_missing_every_ten_seconds() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let program =
        "ExecStart=/usr/bin/python3 -c 'import nope, time; time.sleep(1000000)'\nRestartSec=10s";
    machine.write_file(&format!("{REPOSITORY}/nope.py"), "");
    machine.program(
        BRAIN,
        &format!("{program}\nEnvironment=PYTHONPATH={REPOSITORY}"),
    );
    let mut replay = Replay::start("L4 missing module every 10 s", &machine);
    replay.inject(|machine| machine.program(BRAIN, program));
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-ceo-brain",
        "missing module",
    )]);
    // Stopped until the repair is there, it goes on counting as the loop that it was.
    replay.fix("stop-unit", &[("UNIT", BRAIN)]);
    replay.stays_so();
    replay.fix("python-path", &[("UNIT", BRAIN), ("DIR", REPOSITORY)]);
    replay.resolved();
}

#[test]
fn l5_a_program_ends_at_once_and_well() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let mut replay = Replay::start("L5 ended with success", &machine);
    replay.inject(|machine| machine.program(STRATEGY, "ExecStart=/bin/true\nRestart=on-failure"));
    replay.pages(&[page("BaselineUnitDown", "quantum-strategy-brain", "").naming(&["stopped"])]);
    replay.repair(|machine| {
        machine.unit(STRATEGY, "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n[Install]\nWantedBy=quantum-trader.target\n");
        machine.systemctl(&["daemon-reload"]);
    });
    replay.fix("start-again", &[("UNIT", STRATEGY)]);
    replay.resolved();
}

#[test]
fn l6_protect_home_hides_the_working_directory() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let program = format!("User=qt\nWorkingDirectory={REPOSITORY}\nExecStart=/bin/sleep infinity");
    machine.program(RISK, &program);
    let mut replay = Replay::start("L6 ProtectHome= hides the directory", &machine);
    replay.inject(|machine| machine.program(RISK, &format!("{program}\nProtectHome=yes")));
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-risk-brain",
        "working directory",
    )
    .naming(&["200/CHDIR"])]);
    replay.fix("protect-home", &[("UNIT", RISK)]);
    replay.fix("restart-unit", &[("UNIT", RISK)]);
    replay.resolved();
}

#[test]
fn l7_an_environment_file_is_missing() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    machine.write_file("/etc/quantum/ops.env", "MODE=live\n");
    machine.write_file("/root/ops.env", "MODE=live\n");
    machine.program(OPS, "EnvironmentFile=/etc/quantum/ops.env\nExecStart=/bin/sleep infinity\nRestartSec=300ms\n[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=5");
    let mut replay = Replay::start("L7 EnvironmentFile= missing", &machine);
    replay.inject(|machine| {
        machine.sh(&format!("rm /etc/quantum/ops.env; systemctl kill {OPS}"));
    });
    replay.pages(&[page(
        "BaselineUnitGivenUp",
        "quantum-strategy-ops",
        "missing file",
    )]);
    replay.fix(
        "restore-file",
        &[
            ("UNIT", OPS),
            ("FILE", "/etc/quantum/ops.env"),
            ("SAVED", "/root/ops.env"),
        ],
    );
    replay.resolved();
}

#[test]
fn l8_two_services_want_one_port() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let serves = "ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1";
    machine.program(BRAIN, &format!("{serves} 8001"));
    machine.program(OPS, &format!("{serves} 8002"));
    let mut replay = Replay::start("L8 address in use", &machine);
    replay.inject(|machine| machine.program(OPS, &format!("{serves} 8001")));
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-strategy-ops",
        "address in use",
    )]);
    replay.repair(|machine| machine.program(OPS, &format!("{serves} 8002")));
    replay.resolved();
}

#[test]
fn l9_a_path_unit_gave_up() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let (path, job) = (
        "quantum-emergency-stop.path",
        "quantum-emergency-stop.service",
    );
    machine.unit(
        path,
        "[Path]\nPathExists=/run/emergency\n[Install]\nWantedBy=quantum-trader.target\n",
    );
    machine.unit(job, "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    machine.append_to_list("active", &format!("{{name: {path}, tier: 1}}"));
    machine.sh(&format!(
        "systemctl daemon-reload; systemctl enable --quiet --now {path}"
    ));
    let mut replay = Replay::start("L9 path unit gave up", &machine);
    replay.inject(|machine| machine.write_file("/run/emergency", ""));
    replay.pages(&[
        page("BaselineUnitFailed", "quantum-emergency-stop", "").naming(&[path]),
        ticket("BaselineJobFailed", "quantum-emergency-stop", "start limit").naming(&[job]),
    ]);
    replay.repair(|machine| {
        machine.sh("rm /run/emergency");
    });
    replay.fix("reset-failed", &[("UNIT", job)]);
    replay.fix("start-again", &[("UNIT", path)]);
    replay.resolved();
}

#[test]
fn l10_a_job_fails_every_time() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let job = "quantum-report.service";
    machine.unit(
        job,
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.5; exec test -e /run/report'\n",
    );
    machine.unit("quantum-report.timer", "[Timer]\nOnActiveSec=1s\nOnUnitActiveSec=2s\nOnUnitInactiveSec=2s\nAccuracySec=100ms\n[Install]\nWantedBy=quantum-trader.target\n");
    machine.write_file("/run/report", "");
    machine.sh("systemctl daemon-reload; systemctl enable --quiet --now quantum-report.timer");
    let mut replay = Replay::start("L10 a timer's job fails each time", &machine);
    replay.inject(|machine| {
        machine.sh("rm /run/report");
    });
    replay
        .pages(&[ticket("BaselineJobFailed", "quantum-report", "").naming(&["it last succeeded"])]);
    replay.stays_so();
    replay.repair(|machine| machine.write_file("/run/report", ""));
    replay.resolved();
}

#[test]
fn l11_a_timer_dies_with_the_service_that_it_requires() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    for (name, requires) in [
        ("quantum-kept", ""),
        ("quantum-lost", "Requires=quantum-lost.service\n"),
    ] {
        machine.unit(
            &format!("{name}.service"),
            "[Service]\nExecStart=/bin/sleep infinity\n",
        );
        machine.unit(&format!("{name}.timer"), &format!("[Unit]\n{requires}[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=quantum-trader.target\n"));
    }
    machine.sh("systemctl daemon-reload; systemctl enable --quiet --now quantum-kept.timer quantum-lost.timer; systemctl start quantum-kept quantum-lost");
    let mut replay = Replay::start("L11 timer dead with its service", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "quantum-kept.service", "quantum-lost.service"]);
    });
    replay.pages(&[ticket(
        "BaselineUnitInactive",
        "quantum-lost",
        "dependency quantum-lost.service",
    )
    .naming(&["quantum-lost.timer"])]);
    replay.fix("start-unit", &[("UNIT", "quantum-lost.timer")]);
    replay.resolved();
}

#[test]
fn l12_a_target_takes_its_services_down() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    for unit in [BRAIN, RISK, OPS] {
        machine.program(
            unit,
            "ExecStart=/bin/sleep infinity\n[Unit]\nPartOf=quantum-trader.target",
        );
    }
    let mut replay = Replay::start("L12 stopped target", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "quantum-trader.target"]);
    });
    replay.pages(
        &[page("BaselineUnitInactive", "quantum-trader", "").naming(&[
            "quantum-trader.target",
            BRAIN,
            RISK,
            OPS,
        ])],
    );
    replay.fix(
        "start-together",
        &[
            ("TARGET", "quantum-trader.target"),
            ("UNITS", &[BRAIN, RISK, OPS].join(" ")),
        ],
    );
    replay.resolved();
}

#[test]
fn l12_a_service_did_not_come_back_with_its_target() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.program(
        BRAIN,
        "ExecStart=/bin/sleep infinity\n[Unit]\nPartOf=quantum-trader.target",
    );
    // It starts at boot, but not with its target.
    machine.sh(&format!(
        "sed -i s/WantedBy=.*/WantedBy=multi-user.target/ /etc/systemd/system/{BRAIN}
        systemctl --quiet reenable {BRAIN}"
    ));
    let mut replay = Replay::start("L12 not back with its target", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "quantum-trader.target"]);
        machine.systemctl(&["start", "quantum-trader.target"]);
    });
    replay.pages(&[page(
        "BaselineUnitDown",
        "quantum-ceo-brain",
        "dependency quantum-trader.target",
    )]);
    replay.fix("start-unit", &[("UNIT", BRAIN)]);
    replay.resolved();
}

#[test]
fn l14_somebody_elses_unit_failed() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.unit(
        "logrotate-local.service",
        "[Service]\nType=oneshot\nExecStart=/bin/test -e /run/rotate\n",
    );
    machine.systemctl(&["daemon-reload"]);
    let mut replay = Replay::start("L14 unit outside the baseline failed", &machine);
    replay.inject(|machine| {
        machine.try_run(&["systemctl", "start", "logrotate-local.service"]);
    });
    replay.pages(&[ticket("BaselineForeignUnitFailed", "logrotate-local", "")
        .naming(&["logrotate-local.service"])]);
    replay.repair(|machine| machine.write_file("/run/rotate", ""));
    replay.fix("start-again", &[("UNIT", "logrotate-local.service")]);
    replay.resolved();
}

#[test]
fn l15_units_run_that_should_not_and_others_do_not() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    machine.unit(
        "quantum-nightly.timer",
        "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=quantum-trader.target\n",
    );
    machine.unit(
        "quantum-nightly.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    machine.sh("systemctl daemon-reload; systemctl enable --quiet --now quantum-nightly.timer");
    let mut replay = Replay::start("L15 disabled but running, enabled but dead", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["start", "quantum-clm.service"]);
        machine.unit(
            "quantum-pil.service",
            "[Service]\nExecStart=/bin/sleep infinity\n",
        );
        machine.sh("systemctl daemon-reload; systemctl stop quantum-nightly.timer");
    });
    replay.pages(&[
        ticket("BaselineDisabledUnitChanged", "quantum-clm", "").naming(&["running"]),
        ticket("BaselineAbsentUnitAppeared", "quantum-pil", "").naming(&["present"]),
        ticket("BaselineUnitInactive", "quantum-nightly", ""),
    ]);
    replay.fix("disable-unit", &[("UNIT", "quantum-clm.service")]);
    replay.fix("remove-unit", &[("UNIT", "quantum-pil.service")]);
    replay.fix("start-unit", &[("UNIT", "quantum-nightly.timer")]);
    replay.resolved();
}

#[test]
fn l15_a_running_service_is_masked() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.sh(&format!(
        "cp /etc/systemd/system/{BRAIN} /usr/lib/systemd/system/"
    ));
    let mut replay = Replay::start("L15 runs, but is masked", &machine);
    replay.inject(|machine| {
        // A mask without a name: a file of no bytes.
        machine.sh(&format!(
            ": >/etc/systemd/system/{BRAIN}; systemctl daemon-reload"
        ));
    });
    replay.pages(&[ticket(
        "BaselineUnitNotRestartable",
        "quantum-ceo-brain",
        "",
    )]);
    replay.fix("unmask", &[("UNIT", BRAIN)]);
    replay.resolved();
}

#[test]
fn l16_units_that_are_gone_are_still_named() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    // Its alias redis.service is a link that enabling it makes.
    machine.systemctl(&["enable", "--quiet", "redis-server.service"]);
    let mut replay = Replay::start("L16 references to removed units", &machine);
    replay.inject(|machine| {
        machine.sh("cd /etc/systemd/system
            sed -i '1a # After=quantum-ghost.service is long gone\\nWants=redis.service \\\\\\n  quantum-ghost.service \\\\\\n  quantum-execution.service' quantum-ceo-brain.service
            sed -i '1a Requires=quantum-ghost.service' quantum-risk-safety.service
            systemctl daemon-reload");
    });
    replay.pages(&[
        ticket("BaselineReferenceBlocking", "quantum-ghost", "").naming(&[
            "quantum-risk-safety.service (Requires=)",
            "quantum-ceo-brain.service (Wants=)",
        ]),
    ]);
    replay.fix("stale-reference", &[("MISSING", "quantum-ghost.service")]);
    replay.resolved();
}

#[test]
fn l17_a_name_of_the_containers_is_left() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    machine.append_to_list("hostnames", "{name: ai-engine, addresses: [127.0.0.1]}");
    machine.sh("echo '127.0.0.1 ai-engine' >>/etc/hosts");
    let mut replay = Replay::start("L17 alias twice, another one lost", &machine);
    replay.inject(|machine| {
        machine.sh("sed '/ai-engine/d' /etc/hosts >/etc/hosts.new; cp /etc/hosts.new /etc/hosts; echo '10.99.0.7 quantum_redis' >>/etc/hosts");
    });
    replay.pages(&[
        page(
            "BaselineHostnameUnresolved",
            "ai-engine",
            "hostname ai-engine",
        ),
        ticket(
            "BaselineHostnameUnexpected",
            "quantum_redis",
            "hostname quantum_redis has a wrong address",
        ),
    ]);
    replay.fix(
        "hosts-alias",
        &[("NAME", "ai-engine"), ("ADDRESS", "127.0.0.1")],
    );
    replay.fix(
        "hosts-alias",
        &[("NAME", "quantum_redis"), ("ADDRESS", "127.0.0.1")],
    );
    replay.resolved();
}

#[test]
fn l18_a_relative_path_is_in_somebody_elses_directory() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let directory = format!("{REPOSITORY}/data");
    machine.program(
        RISK,
        &format!("User=qt\nWorkingDirectory={directory}\nExecStart=writes ."),
    );
    machine.append_to_list(
        "write_paths",
        &format!("{{unit: {RISK}, paths: [{directory}]}}"),
    );
    let mut replay = Replay::start("L18 relative path, another owner", &machine);
    replay.inject(|machine| {
        machine.sh(&format!(
            "rm {directory}/written.log; chown root:root {directory}"
        ));
    });
    replay.pages(&[page(
        "BaselineWritePathDenied",
        "quantum-risk-brain",
        &format!("write path {directory} denied"),
    )]);
    replay.fix(
        "ownership-directory",
        &[("UNIT", RISK), ("DIR", &directory), ("USER_OF_UNIT", "qt")],
    );
    replay.resolved();
}
