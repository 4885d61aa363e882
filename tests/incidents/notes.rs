//! The incidents of the day on which the baseline was written.

use crate::faults::{self, ENGINE, SNAPSHOT};
use crate::machine::{Machine, Systemd};
use crate::replay::{BASELINE, Page, REPOSITORY, Replay, deployment, page, ticket};

const PORTFOLIO: &str = "quantum-portfolio-intelligence.service";
const EXECUTION: &str = "quantum-execution.service";
const MONITOR: &str = "quantum-rl-monitor.service";
const CLM: &str = "quantum-clm.service";
const SAFETY: &str = "quantum-risk-safety.service";

const ALIAS: [(&str, &str); 2] = [("NAME", "quantum_redis"), ("ADDRESS", "127.0.0.1")];
const SANDBOX: &str = "User=qt\nProtectSystem=strict\nProtectHome=read-only";

/// The services as they were after the repairs, each with a program that truly tries.
fn sandboxed(machine: &Machine) {
    machine.program(PORTFOLIO, &format!("{SANDBOX}\nReadWritePaths={REPOSITORY}/logs {REPOSITORY}/runtime\nExecStart=writes {REPOSITORY}/logs {REPOSITORY}/runtime"));
    machine.program(
        EXECUTION,
        &format!(
            "{SANDBOX}\nReadWritePaths={REPOSITORY}/runtime\nExecStart=writes {REPOSITORY}/runtime"
        ),
    );
    machine.program(MONITOR, &format!("ProtectSystem=strict\nWorkingDirectory={REPOSITORY}\nReadWritePaths=/var/log\nExecStart=writes /var/log"));
}

#[test]
fn n1_a_unit_failed_and_its_file_is_gone_but_not_who_names_it() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let mut replay = Replay::start("N1 stale reference to a failed unit", &machine);
    replay.inject(faults::remove_a_unit_that_is_named);
    replay.pages(&[
        ticket("BaselineUnitFailed", "quantum-ai-engine", ""),
        ticket("BaselineReferenceClutter", "quantum-ai-engine", "").naming(&[
            "quantum-trader.target (Wants=)",
            "quantum-clm.service (After=)",
        ]),
    ]);
    replay.fix("stale-reference", &[("MISSING", ENGINE)]);
    replay.resolved();
}

#[test]
fn n2_the_alias_is_missing() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.program(PORTFOLIO, "ExecStart=asks-redis");
    let mut replay = Replay::start("N2 hosts alias missing", &machine);
    replay.inject(|machine| faults::lose_alias(machine, PORTFOLIO));
    replay.pages(&[unresolved()]);
    replay.fix("hosts-alias", &ALIAS);
    replay.resolved();
}

fn unresolved() -> Page {
    page(
        "BaselineHostnameUnresolved",
        "quantum_redis",
        "hostname quantum_redis: temporary",
    )
    .naming(&[PORTFOLIO])
}

#[test]
fn n2_the_alias_is_wrong() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    machine.program(PORTFOLIO, "ExecStart=asks-redis");
    let mut replay = Replay::start("N2 hosts alias wrong", &machine);
    replay.inject(|machine| {
        machine.sh("sed 's/.*quantum_redis/10.99.0.7 quantum_redis/' /etc/hosts >/etc/hosts.new; cp /etc/hosts.new /etc/hosts");
        machine.systemctl(&["restart", PORTFOLIO]);
    });
    replay.pages(&[page(
        "BaselineHostnameUnexpected",
        "quantum_redis",
        "hostname quantum_redis has a wrong address",
    )
    .naming(&[PORTFOLIO])]);
    replay.fix("hosts-alias", &ALIAS);
    replay.resolved();
}

#[test]
fn n8_the_alias_is_wiped_by_a_rebuild() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.program(PORTFOLIO, "ExecStart=asks-redis");
    machine.write_program("/usr/bin/cloud-init", b"#!/bin/sh\n");
    let mut replay = Replay::start("N8 alias wiped by a rebuild", &machine);
    let template = "/etc/cloud/templates/hosts.debian.tmpl";
    replay.inject(|machine| {
        machine.write_file(
            "/etc/cloud/cloud.cfg",
            "manage_etc_hosts: true\ncloud_init_modules: [update_etc_hosts]\n\
             system_info: {distro: debian}\n",
        );
        machine.write_file(template, "127.0.0.1 localhost\n");
    });
    let before = || ticket("BaselineHostnameNotPersistent", "quantum_redis", "");
    replay.pages(&[before()]);
    replay.inject(|machine| {
        machine.sh(&format!("cp {template} /etc/hosts"));
        machine.systemctl(&["restart", PORTFOLIO]);
    });
    replay.pages(&[before(), unresolved()]);
    replay.fix("hosts-alias-template", &ALIAS);
    replay.fix("hosts-alias", &ALIAS);
    replay.resolved();
}

#[test]
fn n3_a_service_may_not_write_its_own_directory() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    sandboxed(&machine);
    let mut replay = Replay::start("N3 write path outside of the sandbox", &machine);
    let runtime = format!("{REPOSITORY}/runtime");
    replay.inject(|machine| {
        machine.program(
            EXECUTION,
            &format!("{SANDBOX}\nReadWritePaths={REPOSITORY}/data\nExecStart=writes {runtime}"),
        );
    });
    replay.pages(&[page(
        "BaselineWritePathDenied",
        "quantum-execution",
        &format!("write path {runtime} read only"),
    )
    .naming(&[EXECUTION, &runtime])]);
    replay.fix(
        "read-write-paths",
        &[("UNIT", EXECUTION), ("DIR", &runtime)],
    );
    replay.resolved();
}

#[test]
fn n4_a_service_may_not_write_its_log() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    sandboxed(&machine);
    let mut replay = Replay::start("N4 /var/log outside of the sandbox", &machine);
    replay.inject(|machine| {
        machine.program(
            MONITOR,
            &format!(
                "ProtectSystem=strict\nWorkingDirectory={REPOSITORY}\nExecStart=writes /var/log"
            ),
        );
    });
    replay.pages(&[page(
        "BaselineWritePathDenied",
        "quantum-rl-monitor",
        "write path /var/log read only",
    )
    .naming(&[MONITOR, "/var/log"])]);
    replay.fix(
        "read-write-paths",
        &[("UNIT", MONITOR), ("DIR", "/var/log")],
    );
    replay.resolved();
}

#[test]
fn n4_a_working_directory_does_not_exist() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    sandboxed(&machine);
    let mut replay = Replay::start("N4 wrong WorkingDirectory=", &machine);
    replay.inject(|machine| {
        machine.program(MONITOR, &format!("ProtectSystem=strict\nWorkingDirectory={REPOSITORY}/services\nReadWritePaths=/var/log\nExecStart=writes /var/log"));
    });
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-rl-monitor",
        "working directory",
    )
    .naming(&["200/CHDIR"])]);
    replay.fix(
        "working-directory",
        &[("UNIT", MONITOR), ("DIR", REPOSITORY)],
    );
    replay.resolved();
}

#[test]
fn n5_a_log_directory_belongs_to_somebody_else() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    sandboxed(&machine);
    let mut replay = Replay::start("N5 directory of another owner", &machine);
    let logs = format!("{REPOSITORY}/logs");
    replay.inject(faults::give_logs_to_root);
    replay.pages(&[page(
        "BaselineWritePathDenied",
        "quantum-portfolio-intelligence",
        &format!("write path {logs} denied"),
    )
    .naming(&[PORTFOLIO, &logs])]);
    replay.fix(
        "ownership-directory",
        &[("UNIT", PORTFOLIO), ("DIR", &logs), ("USER_OF_UNIT", "qt")],
    );
    replay.resolved();
}

#[test]
fn n5_a_log_file_belongs_to_somebody_else() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    sandboxed(&machine);
    let mut replay = Replay::start("N5 file of another owner", &machine);
    let log = format!("{REPOSITORY}/logs/written.log");
    replay.knows("FILE", &log);
    replay.inject(|machine| {
        machine.sh(&format!("chown root:root {log}; chmod 600 {log}"));
    });
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-portfolio-intelligence",
        "permission denied",
    )]);
    replay.fix(
        "ownership-file",
        &[("UNIT", PORTFOLIO), ("FILE", &log), ("USER_OF_UNIT", "qt")],
    );
    replay.resolved();
}

#[test]
fn n6_the_models_are_on_a_read_only_file_system() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.sh("mkdir -p /app/models; mount --bind /app/models /app/models");
    machine.program(CLM, "ExecStart=writes /app/models");
    machine.expect_to_run(&[CLM]);
    machine.append_to_list(
        "write_paths",
        "{unit: quantum-clm.service, paths: [/app/models]}",
    );
    let mut replay = Replay::start("N6 read-only file system", &machine);
    replay.inject(|machine| {
        machine.sh("mount -o remount,bind,ro /app/models");
    });
    replay.pages(&[page(
        "BaselineWritePathDenied",
        "quantum-clm",
        "write path /app/models read only",
    )]);
    replay.fix("remount-writable", &[("UNIT", CLM), ("DIR", "/app/models")]);
    replay.resolved();
}

#[test]
fn n7_a_python_module_is_not_found() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    faults::run_a_module(&machine, SAFETY);
    machine.expect_to_run(&[SAFETY]);
    let mut replay = Replay::start("N7 missing Python module", &machine);
    replay.inject(|machine| faults::lose_python_path(machine, SAFETY));
    replay.pages(&[page(
        "BaselineUnitRestartLoop",
        "quantum-risk-safety",
        "missing module",
    )]);
    replay.fix("python-path", &[("UNIT", SAFETY), ("DIR", REPOSITORY)]);
    replay.resolved();
}

#[test]
fn n10_a_unit_file_is_not_the_golden_one() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.append_to_baseline(&format!("unit_files:\n  snapshot: {SNAPSHOT}\n"));
    machine.snapshot(&["take", SNAPSHOT]);
    let mut replay = Replay::start("N10 golden restore", &machine);
    replay.knows("SNAPSHOT", SNAPSHOT);
    replay.inject(faults::edit_a_unit_file);
    replay.pages(&[ticket("BaselineUnitFileDrift", "unit-files", "")
        .naming(&["quantum-ceo-brain.service (modified)"])]);
    replay.fix(
        "snapshot-restore",
        &[("SNAPSHOT", SNAPSHOT), ("CONFIG", BASELINE)],
    );
    replay.resolved();
}
