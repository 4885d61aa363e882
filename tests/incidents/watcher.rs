//! Who watches goes down itself.

use std::time::Instant;

use crate::machine::{Machine, Systemd};
use crate::prometheus::Generation;
use crate::replay::{BASELINE, Replay, deployment, page, ticket};
use crate::stack::TREE;
use crate::wait::{PATIENCE, wait_for};

const BRAIN: &str = "quantum-ceo-brain.service";

#[test]
fn the_exporter_goes_down_while_a_unit_has_failed() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let mut replay = Replay::start("exporter down beside a failed unit", &machine);
    replay.inject(|machine| machine.program(BRAIN, "ExecStart=/bin/false\nRestart=no"));
    let failed = || page("BaselineUnitFailed", "quantum-ceo-brain", "");
    replay.pages(&[failed()]);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "baseline-exporter.service"]);
    });
    replay.pages(&[
        failed(),
        page("BaselineExporterDown", "baseline-exporter", "exporter down"),
    ]);
    // Nobody can tell that the unit is well again.
    replay.stays_so();
    replay.fix("exporter-restart", &[]);
    replay.repair(|machine| machine.program(BRAIN, "ExecStart=/bin/sleep infinity"));
    replay.resolved();
}

#[test]
fn the_bus_goes_down_and_the_baseline_has_a_mistake() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.write_file(
        "/run/systemd/system/baseline-exporter.service.d/reload.conf",
        "[Service]\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n",
    );
    let mut replay = Replay::start_as("exporter", "bus down", &machine);
    replay.inject(|machine| {
        machine.systemctl(&["stop", "dbus.socket", "dbus.service"]);
    });
    replay.pages(&[page(
        "BaselineExporterBlind",
        "baseline-exporter",
        "bus lost",
    )]);
    replay.fix("dbus-start", &[]);
    replay.all_is_well();
    let text = machine.read_file(BASELINE);
    replay.inject(|machine| {
        machine.append_to_baseline("hostname: []\n");
        machine.systemctl(&["reload", "baseline-exporter.service"]);
    });
    replay.pages(&[ticket("BaselineReloadFailed", "baseline-exporter", "")]);
    replay.repair(|machine| machine.write_file(BASELINE, &text));
    replay.fix("exporter-reload", &[]);
    replay.resolved();
}

impl Machine {
    /// Gives Prometheus and Alertmanager, once they run, the names and the places that Debian's
    /// packages give them.
    #[track_caller]
    fn as_packaged(&self) {
        let bin = Generation::V242.inside("");
        self.sh(&format!(
            "ln -s {bin}/promtool {bin}/amtool /usr/local/bin
            rm -rf /etc/prometheus; ln -s {TREE}/deploy/prometheus /etc/prometheus
            ln -s ../../rules ../alertmanager/alertmanager.yml ../alertmanager/baseline.tmpl {TREE}/deploy/prometheus
            cd /run/systemd/system
            ln -s prometheus-under-test.service prometheus.service
            ln -s alertmanager-under-test.service prometheus-alertmanager.service
            mkdir prometheus-under-test.service.d
            printf '[Service]\\nExecReload=/bin/kill -HUP $MAINPID\\n' >prometheus-under-test.service.d/reload.conf
            systemctl daemon-reload"
        ));
    }
}

#[test]
fn l19_alertmanager_cannot_be_reached() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let replay = Replay::start("L19 Alertmanager unreachable", &machine);
    machine.as_packaged();
    machine.systemctl(&["stop", "alertmanager-under-test.service"]);
    let stopped = Instant::now();
    wait_for(
        "Prometheus to know that nobody hears it",
        PATIENCE * 2,
        || replay.firing("BaselineAlertsUndelivered"),
    );
    // The dead man's switch is what tells of it.
    assert!(!replay.watchdog_came_since(stopped));
    for section in ["BaselineAlertsUndelivered", "BaselineWatchdog"] {
        replay.diagnose_section(section);
    }
    replay.fix("alertmanager-restart", &[]);
    wait_for("the watchdog to be back", PATIENCE, || {
        if replay.watchdog_came_since(stopped) {
            Ok(())
        } else {
            Err("silent".to_owned())
        }
    });
}

#[test]
fn a_target_is_lost_with_an_edit() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let mut replay = Replay::start("target lost", &machine);
    machine.as_packaged();
    let targets = "/etc/prometheus/targets/baseline-exporter.yml";
    replay.inject(|machine| {
        machine.sh(&format!("sed -i 's/^/#/' {targets}"));
    });
    replay.pages(&[
        ticket("BaselineExporterGone", "baseline-exporter", ""),
        page(
            "BaselineExporterAbsent",
            "baseline-exporter",
            "no exporter scraped",
        ),
    ]);
    replay.repair(|machine| {
        machine.sh(&format!("sed -i 's/^#//' {targets}"));
    });
    replay.fix("prometheus-reload", &[]);
    replay.resolved();
}

#[test]
fn a_host_is_scraped_twice() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let mut replay = Replay::start("host scraped twice", &machine);
    machine.as_packaged();
    let second = format!("{TREE}/deploy/prometheus/targets/second.yml");
    replay.inject(|machine| {
        machine.write_file(
            &second,
            "- targets: [localhost:20107]\n  labels: {cluster: second}\n",
        );
    });
    replay.pages(&[page("BaselineRulesFailing", "prometheus", "rules failing")]);
    replay.repair(|machine| {
        machine.sh(&format!("rm {second}"));
    });
    replay.fix("prometheus-reload", &[]);
    // Failures within five minutes are told of: too long to wait for, unlike the rules themselves.
    wait_for("all rules to be evaluated", PATIENCE, || {
        let rules = replay.stack.prometheus.get("rules").to_string();
        if rules.contains(r#""health":"err""#) {
            Err(rules)
        } else {
            Ok(())
        }
    });
}
