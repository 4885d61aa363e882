//! The incidents that the baseline was written after: what is told of each, and that the documented
//! fix cures it.

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

struct Host {
    machine: Machine,
}

impl Host {
    /// Gives a service another program, as a drop-in, and starts it anew.
    fn runs(&self, service: &str, program: &str, settings: &str) {
        self.machine.write_file(
            &format!("/etc/systemd/system/{service}.d/program.conf"),
            &format!("[Service]\nType=exec\nExecStart=\nExecStart={program}\n{settings}"),
        );
        self.restart(service);
    }

    /// As the runbook has it, after a fix.
    fn restart(&self, service: &str) {
        self.machine.systemctl(&["daemon-reload"]);
        self.machine
            .try_run(&["systemctl", "reset-failed", service]);
        self.machine.try_run(&["systemctl", "restart", service]);
    }

    /// Waits until the metrics name this and nothing else as the unit's cause, and gives what
    /// `check` says then.
    #[track_caller]
    fn blames(&self, exporter: &Server<'_>, service: &str, cause: &str, detail: &str) -> String {
        wait_for(
            &format!("{service} to be blamed on {cause}"),
            PATIENCE,
            || {
                let metrics = exporter.scrape();
                let of_unit = [("name", service)];
                let found = metrics.ones("baseline_unit_cause", &of_unit, "cause");
                let details = metrics.ones("baseline_unit_cause", &of_unit, "detail");
                let deviates = metrics.ones("baseline_unit_deviation", &of_unit, "deviation");
                if found == [cause] && details == [detail] && !deviates.is_empty() {
                    return Ok(());
                }
                Err(format!("{found:?} {details:?} {deviates:?}"))
            },
        );
        let check = self.machine.check(&[]);
        assert_eq!(check.status.code(), Some(1), "{check}");
        assert!(check.stdout.contains(&format!("\n{service} ")), "{check}");
        check.stdout
    }

    /// Waits until all is well again.
    #[track_caller]
    fn holds(&self, exporter: &Server<'_>) {
        wait_for("everything to hold", PATIENCE, || {
            let metrics = exporter.scrape();
            match not_holding(&metrics) {
                checks if checks.is_empty() => Ok(()),
                checks => Err(checks.join(" ")),
            }
        });
        let check = self.machine.check(&[]);
        assert_eq!(check.status.code(), Some(0), "{check}");
    }
}

fn not_holding(metrics: &Metrics) -> Vec<String> {
    ["violated", "unknown"]
        .iter()
        .flat_map(|status| metrics.ones("baseline_check", &[("status", status)], "check"))
        .collect()
}

#[test]
fn each_incident_is_told_with_its_cause_and_cured_by_its_fix() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world();
    let host = Host { machine };
    // The journal is for root and a group only.
    let exporter = host.machine.exporter_as("root", &[]).unwrap();
    host.holds(&exporter);

    // A name that only Docker resolved.
    let service = "quantum-portfolio-intelligence.service";
    host.machine.sh("sed -i /quantum_redis/d /etc/hosts");
    host.machine.write_file(
        "/opt/client.py",
        "import socket, time\nsocket.create_connection(('quantum_redis', 6379))\ntime.sleep(1e6)\n",
    );
    host.runs(service, "/usr/bin/python3 /opt/client.py", "");
    let check = host.blames(&exporter, service, "hostname", "quantum_redis");
    assert!(
        check.contains("violated: quantum_redis does not resolve"),
        "{check}"
    );
    assert!(check.contains("it wrote: socket.gaierror"), "{check}");
    host.machine
        .sh("echo '127.0.0.1 quantum_redis' >>/etc/hosts");
    host.restart(service);
    host.holds(&exporter);

    // Directories that the sandbox forbids.
    for (service, directory, sandbox) in [
        (
            "quantum-execution.service",
            "/home/qt/quantum_trader/runtime",
            "ProtectHome=read-only\nReadWritePaths=/var/log\n",
        ),
        (
            "quantum-rl-monitor.service",
            "/var/log",
            "ReadWritePaths=/home/qt/quantum_trader/runtime\n",
        ),
    ] {
        let program = format!("/bin/sh -ec 'echo x >{directory}/written; exec sleep infinity'");
        let sandbox = format!("ProtectSystem=strict\n{sandbox}");
        host.runs(service, &program, &sandbox);
        let check = host.blames(&exporter, service, "write_path", directory);
        assert!(check.contains("(read_only)"), "{check}");
        host.machine.write_file(
            &format!("/etc/systemd/system/{service}.d/write.conf"),
            &format!("[Service]\nReadWritePaths={directory}\n"),
        );
        host.restart(service);
        host.holds(&exporter);
    }

    // Redis itself.
    let service = "quantum-portfolio-intelligence.service";
    host.machine.systemctl(&["stop", "redis-server.service"]);
    host.restart(service);
    let check = host.blames(&exporter, service, "redis", "quantum");
    assert!(check.contains("nobody listens there"), "{check}");
    host.machine.systemctl(&["start", "redis-server.service"]);
    host.restart(service);
    host.holds(&exporter);

    // A module that is not on the path.
    let service = "quantum-risk-brain.service";
    host.machine
        .write_file("/opt/app/microservices/__init__.py", "");
    host.machine.write_file(
        "/opt/run.py",
        "import microservices, time\ntime.sleep(1e6)\n",
    );
    host.runs(service, "/usr/bin/python3 /opt/run.py", "");
    let check = host.blames(&exporter, service, "missing_module", "");
    assert!(
        check.contains("module microservices is not there"),
        "{check}"
    );
    host.machine.write_file(
        &format!("/etc/systemd/system/{service}.d/path.conf"),
        "[Service]\nEnvironment=PYTHONPATH=/opt/app\n",
    );
    host.restart(service);
    host.holds(&exporter);

    // A unit that is gone, failed, and still wished for.
    let target = "/etc/systemd/system/quantum-trader.target";
    host.machine.unit(
        "quantum-ai-engine.service",
        "[Service]\nExecStart=/bin/false\n",
    );
    host.machine.sh(&format!(
        "sed -i '/^Wants=/a Wants=quantum-ai-engine.service' {target}"
    ));
    host.machine.systemctl(&["daemon-reload"]);
    host.machine
        .try_run(&["systemctl", "start", "quantum-ai-engine.service"]);
    wait_for("the engine to fail", PATIENCE, || {
        match host
            .machine
            .property("quantum-ai-engine.service", "ActiveState")
            .as_str()
        {
            "failed" => Ok(()),
            state => Err(state.to_owned()),
        }
    });
    host.machine
        .sh("rm /etc/systemd/system/quantum-ai-engine.service; systemctl daemon-reload");
    wait_for("the reference to dangle", PATIENCE, || {
        let metrics = exporter.scrape();
        let labels = [("to", "quantum-ai-engine.service"), ("directive", "Wants")];
        let from = metrics.ones("baseline_reference_dangling", &labels, "from");
        let failed = metrics.value(
            "systemd_failed_unit",
            &[("name", "quantum-ai-engine.service")],
        );
        match (from.as_slice(), failed) {
            ([from], Some(_)) if from == "quantum-trader.target" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let grep = "grep -RIn quantum-ai-engine.service /etc/systemd/system";
    let found = host.machine.sh(grep);
    let check = host.machine.check(&[]);
    let place = found.split(":Wants").next().unwrap();
    assert!(
        check.stdout.contains(&format!("delete it from {place}")),
        "{check}"
    );
    host.machine.sh(&format!(
        "sed -i '/^Wants=quantum-ai-engine.service$/d' {target}"
    ));
    host.machine.systemctl(&["daemon-reload"]);
    host.machine
        .try_run(&["systemctl", "reset-failed", "quantum-ai-engine.service"]);
    host.holds(&exporter);
}
