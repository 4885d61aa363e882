//! What was broken, as functions: for the incidents, and for the demo.

use crate::machine::Machine;
use crate::replay::REPOSITORY;

/// The unit that is removed while others still name it.
pub const ENGINE: &str = "quantum-ai-engine.service";

/// The golden snapshot that an edited unit file is compared with.
pub const SNAPSHOT: &str = "/root/snapshot";

/// The hosts file loses the alias, and a service that connects by it is started anew.
pub fn lose_alias(machine: &Machine, service: &str) {
    machine.sh("sed '/quantum_redis/d' /etc/hosts >/etc/hosts.new; cp /etc/hosts.new /etc/hosts");
    machine.systemctl(&["restart", service]);
}

/// Redis stops.
pub fn stop_redis(machine: &Machine) {
    stop(machine, "redis-server.service");
}

/// The directory of the logs comes to belong to root, and the log is gone.
pub fn give_logs_to_root(machine: &Machine) {
    let logs = format!("{REPOSITORY}/logs");
    machine.sh(&format!("rm {logs}/written.log; chown root:root {logs}"));
}

/// The program of a service loses its execute bit, and the service ends.
pub fn lose_execute_bit(machine: &Machine, service: &str, program: &str) {
    machine.sh(&format!("chmod 0664 {program}; systemctl kill {service}"));
}

/// Somebody stops a service by hand.
pub fn stop(machine: &Machine, service: &str) {
    machine.systemctl(&["stop", service]);
}

/// A unit fails, and its file is removed, but not from those that name it.
pub fn remove_a_unit_that_is_named(machine: &Machine) {
    machine.sh(&format!(
        "echo Wants={ENGINE} >>/etc/systemd/system/quantum-trader.target
        sed -i '1a After={ENGINE}' /etc/systemd/system/quantum-clm.service"
    ));
    machine.unit(ENGINE, "[Service]\nExecStart=/bin/false\n");
    machine.systemctl(&["daemon-reload"]);
    machine.try_run(&["systemctl", "start", ENGINE]);
    machine.sh(&format!(
        "rm /etc/systemd/system/{ENGINE}; systemctl daemon-reload"
    ));
}

/// Somebody edits a unit file.
pub fn edit_a_unit_file(machine: &Machine) {
    machine.sh("sed -i s/RestartSec=2/RestartSec=3/ /etc/systemd/system/quantum-ceo-brain.service; systemctl daemon-reload");
}

/// A service that runs a Python module of the deployment, which only the runbook's drop-in finds.
pub fn run_a_module(machine: &Machine, service: &str) {
    let module = format!("{REPOSITORY}/microservices");
    machine.write_file(&format!("{module}/__init__.py"), "");
    machine.write_file(
        &format!("{module}/service.py"),
        "import time\nwhile True: time.sleep(60)\n",
    );
    machine.program(
        service,
        "ExecStart=/usr/bin/python3 -m microservices.service",
    );
    machine.fix("python-path", &[("UNIT", service), ("DIR", REPOSITORY)]);
}

/// The drop-in that names the module's directory is lost.
pub fn lose_python_path(machine: &Machine, service: &str) {
    machine.sh(&format!(
        "rm /etc/systemd/system/{service}.d/50-python-path.conf
        systemctl daemon-reload
        systemctl restart {service}"
    ));
}
