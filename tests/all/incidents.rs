//! The incidents that the baseline was written after, with programs that truly try: told before the
//! repair with unit, dependency and cause, and nothing left to tell after it.

use crate::machine::{Machine, Systemd};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

pub const PORTFOLIO: &str = "quantum-portfolio-intelligence.service";
pub const EXECUTION: &str = "quantum-execution.service";
pub const MONITOR: &str = "quantum-rl-monitor.service";
const CLM: &str = "quantum-clm.service";
const SAFETY: &str = "quantum-risk-safety.service";
const ENGINE: &str = "quantum-ai-engine.service";

const BASELINE: &str = "/etc/baseline.yml";
const TEMPLATE: &str = "/etc/cloud/templates/hosts.debian.tmpl";
pub const REPOSITORY: &str = "/home/qt/quantum_trader";

/// A unit that starts its program again and again.
pub const RESTARTS: &str = "Restart=always\nRestartSec=200ms\n[Unit]\nStartLimitIntervalSec=0\n\
    [Install]\nWantedBy=quantum-trader.target\n";

/// The deployment with the baseline that is built in, but for the snapshot: what is repaired here
/// is not as it was in there.
fn deployed(systemd: Systemd) -> Option<Machine> {
    let machine = Machine::boot(systemd)?;
    machine.world();
    let text = include_str!("../../deploy/baseline-quantum-trader.yml");
    let (text, _) = text.split_once("unit_files:").unwrap();
    // What reset-failed does to a count, systemd tells nobody: it shows at the next reading.
    machine.write_file(BASELINE, &text.replace("resync: 60s", "resync: 1s"));
    machine.programs();
    Some(machine)
}

/// The deployment with the baseline that is built in and a snapshot of what `change` made of it.
pub fn deployed_with_snapshot(systemd: Systemd, change: impl Fn(&Machine)) -> Option<Machine> {
    let machine = Machine::boot(systemd)?;
    machine.world();
    machine.programs();
    change(&machine);
    let text = include_str!("../../deploy/baseline-quantum-trader.yml");
    machine.write_file(BASELINE, &text.replace("resync: 60s", "resync: 1s"));
    machine.sh(
        "cp /etc/systemd/system/quantum-*.service /root/unit_backups_clean_20260107_final
        systemctl daemon-reload; systemctl restart 'quantum-*.service'",
    );
    Some(machine)
}

impl Machine {
    /// The same, with this section `systemd` and what follows it as its baseline.
    #[track_caller]
    fn exporter_with_all(&self, sections: &str) -> Server<'_> {
        let text = format!("deployment: test\nsystemd:\n  resync: 1s\n{sections}");
        self.write_file(BASELINE, &text);
        self.exporter_that_sees_all()
    }

    /// The exporter of a host whose administrator lets it see everything.
    #[track_caller]
    pub fn exporter_that_sees_all(&self) -> Server<'_> {
        self.exporter_as("root", &[&format!("--config.file={BASELINE}")])
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Puts a program into the place of a stand-in.
    #[track_caller]
    pub fn replace(&self, service: &str, program: &str) {
        self.unit(service, &format!("[Service]\n{program}\n{RESTARTS}"));
        self.systemctl(&["daemon-reload"]);
        self.systemctl(&["restart", service]);
    }

    /// Waits until everything is as the baseline has it.
    #[track_caller]
    fn holds(&self) {
        wait_for("everything to hold", PATIENCE, || {
            let check = self.check_same();
            if check.status.success() {
                Ok(())
            } else {
                Err(check.to_string())
            }
        });
    }

    /// A drop-in, and the restart that makes it count.
    #[track_caller]
    pub fn repair(&self, service: &str, drop_in: &str) {
        let path = format!("/etc/systemd/system/{service}.d/repair.conf");
        self.write_file(&path, drop_in);
        self.systemctl(&["daemon-reload"]);
        self.restart(service);
    }

    /// A restart by hand that ends a loop for everybody: of a unit that waits for its next automatic
    /// restart systemd would go on counting, and whoever looks for the first time would see a loop.
    #[track_caller]
    pub fn restart(&self, service: &str) {
        self.systemctl(&["restart", service]);
        self.systemctl(&["reset-failed", service]);
    }
}

impl Server<'_> {
    /// Waits until the unit is in this trouble for these reasons and no others: each a cause and
    /// its detail, in alphabetical order.
    #[track_caller]
    fn blames(&self, unit: &str, trouble: &str, causes: &[(&str, &str)]) {
        self.until(&format!("{unit} {trouble}: {causes:?}"), |metrics| {
            let of_unit = [("name", unit)];
            let deviations = metrics.ones("baseline_unit_deviation", &of_unit, "deviation");
            let found = metrics.ones("baseline_unit_cause", &of_unit, "cause");
            let wanted: Vec<_> = causes.iter().map(|(cause, _)| *cause).collect();
            let has_details = causes.iter().all(|(cause, detail)| {
                let labels = [of_unit[0], ("cause", cause), ("detail", detail)];
                metrics.value("baseline_unit_cause", &labels) == Some(1.0)
            });
            if deviations.iter().any(|deviation| deviation == trouble)
                && found == wanted
                && has_details
            {
                return Ok(());
            }
            Err(format!(
                "{deviations:?}\n{}",
                metrics.lines("baseline_unit_cause")
            ))
        });
    }

    /// The checks that do not hold are these, in alphabetical order.
    #[track_caller]
    fn violated(&self, checks: &[&str]) {
        self.until(&format!("{checks:?} to be violated"), |metrics| {
            let status = |status| metrics.ones("baseline_check", &[("status", status)], "check");
            let (violated, unknown) = (status("violated"), status("unknown"));
            if violated == checks && unknown.is_empty() {
                return Ok(());
            }
            Err(format!("violated {violated:?}, unknown {unknown:?}"))
        });
    }
}

#[test]
fn a_lost_alias_and_a_lost_redis_are_told_on_252() {
    a_lost_alias_and_a_lost_redis_are_told(Systemd::V252);
}

#[test]
fn a_lost_alias_and_a_lost_redis_are_told_on_257() {
    a_lost_alias_and_a_lost_redis_are_told(Systemd::V257);
}

fn a_lost_alias_and_a_lost_redis_are_told(systemd: Systemd) {
    let Some(machine) = deployed(systemd) else {
        return;
    };
    machine.replace(PORTFOLIO, "ExecStart=asks-redis");
    machine.holds();
    let exporter = machine.exporter_that_sees_all();
    let alias = [("hostname", "quantum_redis")];
    let resolves = |resolver| {
        exporter.scrape().at(
            "baseline_hostname_resolves",
            &[alias[0], ("resolver", resolver)],
        )
    };
    exporter.violated(&[]);
    assert_eq!((resolves("nss"), resolves("hosts")), (1.0, 1.0));

    // The alias was never made to last.
    machine.sh("sed '/quantum_redis/d' /etc/hosts >/etc/hosts.new; cp /etc/hosts.new /etc/hosts");
    machine.systemctl(&["restart", PORTFOLIO]);
    let cause = ("hostname", "quantum_redis");
    exporter.blames(PORTFOLIO, "restarting", &[cause]);
    assert_eq!((resolves("nss"), resolves("hosts")), (0.0, 0.0));
    exporter.violated(&["bad_states", "hostnames", "running_units"]);
    machine.check_says("quantum_redis does not resolve");
    machine.check_says("cause: hostname quantum_redis does not resolve as it should");
    exporter.shows("baseline_redis_up", &[("endpoint", "quantum")], 1.0);

    machine.sh("echo '127.0.0.1 quantum_redis' >>/etc/hosts");
    machine.restart(PORTFOLIO);
    machine.holds();
    exporter.violated(&[]);

    // Repaired on the host, but not where a rebuild takes its hosts file from.
    machine.write_program("/usr/bin/cloud-init", b"#!/bin/sh\n");
    machine.write_file(
        "/etc/cloud/cloud.cfg",
        "manage_etc_hosts: true\ncloud_init_modules: [update_etc_hosts]\n\
         system_info: {distro: debian}\n",
    );
    machine.write_file(TEMPLATE, "127.0.0.1 localhost\n");
    exporter.shows("baseline_hostname_persistent", &alias, 0.0);
    exporter.violated(&[]);
    machine.sh(&format!("cp {TEMPLATE} /etc/hosts"));
    machine.systemctl(&["restart", PORTFOLIO]);
    exporter.blames(PORTFOLIO, "restarting", &[cause]);

    machine.sh(&format!(
        "echo '127.0.0.1 quantum_redis' >>{TEMPLATE}; cp {TEMPLATE} /etc/hosts"
    ));
    machine.restart(PORTFOLIO);
    exporter.shows("baseline_hostname_persistent", &alias, 1.0);
    machine.holds();

    // The name is right, and nobody is there.
    machine.systemctl(&["stop", "redis-server.service"]);
    exporter.blames(PORTFOLIO, "restarting", &[("redis", "quantum")]);
    let failure = [("endpoint", "quantum"), ("reason", "refused")];
    exporter.shows("baseline_redis_failure", &failure, 1.0);
    exporter.violated(&["bad_states", "redis", "running_units"]);
    machine.check_says("redis quantum at 127.0.0.1:6379 does not answer PING with PONG");
    machine.systemctl(&["start", "redis-server.service"]);
    machine.restart(PORTFOLIO);
    machine.holds();
    exporter.violated(&[]);
}

#[test]
fn directories_that_cannot_be_written_are_told_on_252() {
    directories_that_cannot_be_written_are_told(Systemd::V252);
}

#[test]
fn directories_that_cannot_be_written_are_told_on_257() {
    directories_that_cannot_be_written_are_told(Systemd::V257);
}

fn directories_that_cannot_be_written_are_told(systemd: Systemd) {
    let Some(machine) = deployed(systemd) else {
        return;
    };
    let (logs, runtime) = (
        format!("{REPOSITORY}/logs"),
        format!("{REPOSITORY}/runtime"),
    );
    let exporter = machine.exporter_that_sees_all();
    exporter.violated(&[]);

    // Each is shut out in another way: by its own sandbox, by the owner, and before it even runs.
    let sandbox = "ProtectSystem=strict\nProtectHome=read-only";
    machine.replace(
        EXECUTION,
        &format!(
            "User=qt\n{sandbox}\nReadWritePaths={REPOSITORY}/data\nExecStart=writes {runtime}"
        ),
    );
    machine.sh(&format!("chown root {logs}"));
    machine.replace(
        PORTFOLIO,
        &format!(
            "User=qt\n{sandbox}\nReadWritePaths={logs} {runtime}\nExecStart=writes {logs} {runtime}"
        ),
    );
    machine.replace(
        MONITOR,
        &format!("{sandbox}\nWorkingDirectory={REPOSITORY}/services\nExecStart=writes /var/log"),
    );
    exporter.blames(EXECUTION, "restarting", &[("write_path", &runtime)]);
    exporter.blames(PORTFOLIO, "restarting", &[("write_path", &logs)]);
    exporter.blames(MONITOR, "restarting", &[("working_directory", "")]);
    let reason = |unit: &str, path: &str, reason: &str| {
        let labels = [("name", unit), ("path", path)];
        exporter.shows("baseline_write_path_writable", &labels, 0.0);
        let labels = [labels[0], labels[1], ("reason", reason)];
        exporter.shows("baseline_write_path_reason", &labels, 1.0);
    };
    reason(EXECUTION, &runtime, "read_only");
    reason(PORTFOLIO, &logs, "denied");
    machine.check_says(&format!("cause: it cannot write {runtime}"));
    machine.check_says("cause: WorkingDirectory= cannot be entered (200/CHDIR)");
    exporter.violated(&["bad_states", "running_units", "write_paths"]);

    // With the first obstacle gone, the next one shows.
    machine.repair(
        MONITOR,
        &format!("[Service]\nWorkingDirectory={REPOSITORY}\n"),
    );
    exporter.blames(MONITOR, "restarting", &[("write_path", "/var/log")]);
    reason(MONITOR, "/var/log", "read_only");

    machine.repair(EXECUTION, &format!("[Service]\nReadWritePaths={runtime}\n"));
    exporter.stands(EXECUTION, &[]);
    machine.sh(&format!("chown qt {logs}"));
    machine.restart(PORTFOLIO);
    exporter.stands(PORTFOLIO, &[]);
    machine.repair(
        MONITOR,
        &format!("[Service]\nWorkingDirectory={REPOSITORY}\nReadWritePaths=/var/log\n"),
    );
    machine.holds();
    exporter.violated(&[]);
    machine.sh(&format!(
        "test -s {runtime}/written.log; test -s {logs}/written.log; test -s /var/log/written.log"
    ));
}

#[test]
fn a_failed_unit_without_a_file_and_who_still_names_it_are_told_on_252() {
    a_failed_unit_without_a_file_is_told(Systemd::V252);
}

#[test]
fn a_failed_unit_without_a_file_and_who_still_names_it_are_told_on_257() {
    a_failed_unit_without_a_file_is_told(Systemd::V257);
}

fn a_failed_unit_without_a_file_is_told(systemd: Systemd) {
    let Some(machine) = deployed(systemd) else {
        return;
    };
    let exporter = machine.exporter_that_sees_all();
    exporter.violated(&[]);
    let target = "/etc/systemd/system/quantum-trader.target";
    let clm = format!("/etc/systemd/system/{CLM}");
    machine.sh(&format!(
        "echo Wants={ENGINE} >>{target}
        sed -i '1a After={ENGINE}' {clm}"
    ));
    machine.unit(ENGINE, "[Service]\nExecStart=/bin/false\n");
    machine.systemctl(&["daemon-reload"]);
    machine.try_run(&["systemctl", "start", ENGINE]);
    exporter.stands(ENGINE, &["failed"]);
    machine.sh(&format!(
        "rm /etc/systemd/system/{ENGINE}; systemctl daemon-reload"
    ));

    exporter.shows("systemd_failed_unit", &[("name", ENGINE)], 1.0);
    let loaded = [("name", ENGINE), ("load_state", "not-found")];
    exporter.shows("systemd_unit_load_state", &loaded, 1.0);
    for (from, directive) in [("quantum-trader.target", "Wants"), (CLM, "After")] {
        let edge = [("from", from), ("to", ENGINE), ("directive", directive)];
        exporter.shows("baseline_reference_dangling", &edge, 1.0);
        machine.check_says(&format!("{from} names {ENGINE} in {directive}="));
    }
    exporter.violated(&["bad_states", "failed_units", "references"]);
    machine.check_says(&format!("{ENGINE} failed"));

    machine.sh(&format!(
        "sed -i '/^Wants={ENGINE}$/d' {target}; sed -i '/^After={ENGINE}$/d' {clm}
        systemctl daemon-reload; systemctl reset-failed {ENGINE}"
    ));
    machine.holds();
    exporter.violated(&[]);
    assert_eq!(exporter.scrape().lines("baseline_reference_dangling"), "");
}

#[test]
fn a_read_only_file_system_and_a_missing_module_are_told_on_252() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.unit("quantum-trader.target", "[Unit]\nDescription=Trader\n");
    // The image of the models, as it was mounted.
    machine.sh("mkdir -p /app/models; mount --bind /app/models /app/models
        mount -o remount,bind,ro /app/models");
    machine.programs();
    for (name, program) in [
        (CLM, "writes /app/models"),
        (SAFETY, "/usr/bin/python3 -m microservices.risk_safety"),
    ] {
        machine.unit(name, &format!("[Service]\nExecStart={program}\n{RESTARTS}"));
    }
    machine.systemctl(&["daemon-reload"]);
    let by_design = format!("  disabled: [{CLM}, {SAFETY}]\n");
    machine.write_file(
        BASELINE,
        &format!("deployment: test\nsystemd:\n{by_design}"),
    );
    machine.holds();

    let exporter = machine.exporter_with_all(&format!(
        "  running: [{CLM}, {SAFETY}]\nwrite_paths: [{{unit: {CLM}, paths: [/app/models]}}]\n"
    ));
    machine.systemctl(&["start", CLM, SAFETY]);
    exporter.blames(CLM, "restarting", &[("write_path", "/app/models")]);
    exporter.blames(SAFETY, "restarting", &[("missing_module", "")]);
    machine.check_says(
        "it wrote: /usr/local/bin/writes: line 2: /app/models/written.log: Read-only file system",
    );
    machine.check_says("ModuleNotFoundError: No module named 'microservices'");
    exporter.violated(&["bad_states", "running_units", "write_paths"]);

    machine.sh("umount /app/models");
    machine.restart(CLM);
    let package = format!("{REPOSITORY}/microservices");
    machine.write_file(&format!("{package}/__init__.py"), "");
    machine.write_file(
        &format!("{package}/risk_safety.py"),
        "import time\nwhile True: time.sleep(60)\n",
    );
    machine.repair(
        SAFETY,
        &format!("[Service]\nEnvironment=PYTHONPATH={REPOSITORY}\n"),
    );
    machine.holds();
    exporter.violated(&[]);
}
