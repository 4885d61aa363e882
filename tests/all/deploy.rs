//! The samples below deploy/, as they are shipped.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::machine::{Machine, Systemd};
use crate::prometheus::{Generation, Prometheus};
use crate::server::Server;
use crate::stack::{self, TREE};
use crate::wait::{PATIENCE, wait_for};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_generation_reads_the_prometheus_samples() {
    for generation in Generation::ALL {
        for args in [
            &["prometheus.yml"][..],
            &["--agent", "prometheus-agent.yml"],
        ] {
            let checked = Command::new(generation.on_host("promtool"))
                .args(["check", "config", "--lint-fatal"])
                .args(args)
                .current_dir(Path::new(REPOSITORY).join("deploy/prometheus"))
                .output()
                .unwrap();
            assert!(checked.status.success(), "{generation:?}: {checked:?}");
        }
    }
}

#[test]
fn an_agent_sends_what_it_scrapes() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    stack::install(&machine, stack::every_second);
    let _exporter = machine.exporter_by_default();
    machine.write_file("/run/receiver.yml", "{}\n");
    for (generation, agent) in [
        (Generation::V242, "--enable-feature=agent"),
        (Generation::V3, "--agent"),
    ] {
        let receive = "--web.enable-remote-write-receiver";
        let receiver = Prometheus::start(&machine, generation, "/run/receiver.yml", &[receive]);
        let argv = [
            &generation.inside("prometheus"),
            agent,
            &format!("--config.file={TREE}/deploy/prometheus/prometheus-agent.yml"),
            "--web.listen-address=localhost:9089",
            "--storage.agent.path=/tmp/agent",
        ];
        let sender = Server::start(&machine, "agent.service", "root", 9089, &argv).unwrap();
        let query = "query?query=up%7Bjob%3D%22baseline-exporter%22%7D";
        let labels = wait_for("what the agent sends", PATIENCE, || {
            let result = receiver.get(query)["result"].clone();
            match result[0]["value"][1].as_str() {
                Some("1") => Ok(result[0]["metric"].clone()),
                _ => Err(format!("{result}, the agent's log: {}", sender.log())),
            }
        });
        assert_eq!(
            labels,
            json!({
                "__name__": "up",
                "job": "baseline-exporter",
                "instance": "trader-1",
                "cluster": "quantum-trader-vps",
                "environment": "production",
            })
        );
        assert_eq!(sender.complaints(), "", "{generation:?}");
        sender.stop();
        receiver.server.stop();
        machine.sh("rm -r /tmp/agent /tmp/prometheus");
    }
}
