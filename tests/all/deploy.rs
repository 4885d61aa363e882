//! The samples below deploy/, as they are shipped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::alertmanager::{Alertmanager, install_default_templates};
use crate::machine::{Machine, Systemd};
use crate::prometheus::{Generation, Prometheus};
use crate::server::Server;
use crate::stack::{self, Stack, TREE, WEBHOOK_PORT};
use crate::wait::{PATIENCE, wait_for};
use crate::webhook::Webhook;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const BROKEN: &str = "quantum-execution.service";

/// Longer than any alert's `for`, and then some scrapes, evaluations and group intervals.
const SHIPPED_DURATIONS: Duration = Duration::from_secs(240);

/// All three at once: most of the time they wait for the next scrape, evaluation or notification.
#[test]
fn the_shipped_files_page() {
    std::thread::scope(|scope| {
        for generation in Generation::ALL {
            scope.spawn(move || page_with_the_shipped_files(generation));
        }
    });
}

#[expect(
    clippy::print_stdout,
    reason = "shown by --nocapture, and where the test fails"
)]
fn page_with_the_shipped_files(generation: Generation) {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world();
    let _exporter = machine.exporter_by_default();
    let stack = Stack::as_shipped(&machine, generation);
    break_unit(&machine);
    let broken = Instant::now();

    wait_for("both targets to be up", PATIENCE, || {
        let targets = stack.prometheus.get("targets?state=active");
        let targets = targets["activeTargets"].as_array().unwrap();
        let up = targets.iter().filter(|target| target["health"] == "up");
        if up.count() == 2 {
            Ok(())
        } else {
            Err(format!("{targets:?}"))
        }
    });
    wait_for("the page", SHIPPED_DURATIONS, || {
        match firing_pages(&stack) {
            0 => Err(format!("{:?}", stack.webhook.received())),
            _ => Ok(()),
        }
    });
    let seconds = stack.pages()[0].at.duration_since(broken).as_secs();
    println!("{generation:?}: paged {seconds} s after the unit failed");
    assert_eq!(stack.prometheus.server.complaints(), "");
    assert_eq!(stack.alertmanager.server.complaints(), "");
}

/// Neither restart pages once more, and neither loses the resolved notice.
#[test]
fn restarts_of_prometheus_and_alertmanager_page_nobody() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world();
    let _exporter = machine.exporter_by_default();
    let stack = Stack::shortened(&machine, Generation::V253, 60);
    break_unit(&machine);
    wait_for("the page", PATIENCE, || match firing_pages(&stack) {
        0 => Err(format!("{:?}", stack.webhook.received())),
        _ => Ok(()),
    });
    let before = firing_pages(&stack);
    wait_for("the dead man's signal", PATIENCE, || {
        let received = stack.webhook.received();
        let signal = received.iter().any(|came| came.path == "/watchdog");
        if signal {
            Ok(())
        } else {
            Err(format!("{received:?}"))
        }
    });

    stack.alertmanager.server.restart();
    stack.prometheus.server.restart();
    wait_for("the alert to be there again", PATIENCE, || {
        let alerts = stack.alertmanager.alerts();
        let found = alerts.iter().any(|alert| alert["labels"]["name"] == BROKEN);
        if found {
            Ok(())
        } else {
            Err(format!("{alerts:?}"))
        }
    });
    machine.systemctl(&["start", BROKEN]);
    wait_for("the resolved notice", PATIENCE, || {
        let pages = stack.pages();
        let resolved = pages.iter().any(|page| page.body["status"] == "resolved");
        if resolved {
            Ok(())
        } else {
            Err(format!("{pages:?}"))
        }
    });
    assert_eq!(firing_pages(&stack), before, "{:?}", stack.pages());
}

/// How many notifications said that the broken unit's alert fires.
fn firing_pages(stack: &Stack<'_>) -> usize {
    let pages = stack.pages();
    let of_unit = pages.iter().filter(|page| {
        let mut alerts = page.alerts().iter();
        alerts.any(|alert| alert["labels"]["name"] == BROKEN && alert["status"] == "firing")
    });
    of_unit.count()
}

/// Lets a unit of the world fail for good.
fn break_unit(machine: &Machine) {
    machine.write_file(
        &format!("/run/systemd/system/{BROKEN}.d/once.conf"),
        "[Service]\nRestart=no\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["kill", "--signal=SEGV", BROKEN]);
    wait_for("the unit to fail", PATIENCE, || {
        match machine.property(BROKEN, "ActiveState").as_str() {
            "failed" => Ok(()),
            state => Err(state.to_owned()),
        }
    });
}

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
                "scraped_by": "agent",
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

#[test]
fn alerts_go_where_they_should() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    stack::install(&machine, str::to_owned);
    let config = format!("{TREE}/deploy/alertmanager/alertmanager.yml");
    let mut routes = routes_of_the_rules();
    routes.push(("ticket", "component=trading severity=critical".to_owned()));
    routes.push(("ticket", "alertname=Watchdog".to_owned()));
    for generation in Generation::ALL {
        install_default_templates(&machine, generation);
        let amtool = generation.inside("amtool");
        let checked = machine.run(&[&amtool, "check-config", &config]);
        assert!(checked.contains("1 templates"), "{checked}");
        // In one go, as there are many; what the shell prints says which of them failed.
        let mut tests = "set -x\n".to_owned();
        for (receiver, labels) in &routes {
            tests += &format!(
                "{amtool} config routes test --config.file={config} \
                 --verify.receivers={receiver} {labels}\n"
            );
        }
        machine.sh(&tests);
    }
}

/// Who has to hear of each alert of the rules, with each severity that it can have.
fn routes_of_the_rules() -> Vec<(&'static str, String)> {
    let rules = include_str!("../../rules/baseline.rules.yml");
    let rules: Value = serde_saphyr::from_str(rules).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|it| it["rules"].as_array().unwrap());
    let mut routes = Vec::new();
    for rule in rules.filter(|rule| rule["alert"].is_string()) {
        let [alert, component, severities] = [
            &rule["alert"],
            &rule["labels"]["component"],
            // Or a template, which has those of all tiers in it.
            &rule["labels"]["severity"],
        ]
        .map(|it| it.as_str().unwrap());
        for (severity, receiver) in [
            ("critical", "pager"),
            ("warning", "ticket"),
            ("info", "nobody"),
        ] {
            if severities.contains(severity) {
                let receiver = match alert {
                    "BaselineWatchdog" => "dead-mans-switch",
                    _ => receiver,
                };
                let labels = format!("alertname={alert} component={component} severity={severity}");
                routes.push((receiver, labels));
            }
        }
    }
    routes
}

#[test]
fn alerts_are_inhibited_on_0_25() {
    alerts_are_inhibited(Generation::V242);
}

#[test]
fn alerts_are_inhibited_on_0_28() {
    alerts_are_inhibited(Generation::V253);
}

#[test]
fn alerts_are_inhibited_on_0_33() {
    alerts_are_inhibited(Generation::V3);
}

/// Alerts that are sent at once, and whether one of them inhibits this one. They are of the
/// component baseline where nothing else is said.
const INHIBITED: [(&str, bool); 34] = [
    // The exporter is down; there is no label cluster on either side.
    (
        "alertname=BaselineExporterDown severity=critical instance=a",
        false,
    ),
    (
        "alertname=BaselineExporterGone severity=critical instance=a",
        false,
    ),
    (
        "alertname=BaselineExporterBlind severity=critical instance=a",
        true,
    ),
    (
        "alertname=BaselineExporterBlind severity=critical instance=aa",
        false,
    ),
    (
        "alertname=BaselineExporterBlind severity=critical instance=a cluster=1",
        false,
    ),
    ("alertname=BaselineWatchdog severity=info instance=a", false),
    ("alertname=Unit severity=critical instance=a name=x", true),
    ("alertname=Disk severity=warning instance=a", true),
    (
        "alertname=Unit severity=critical instance=aaa name=x",
        false,
    ),
    ("alertname=Unit severity=critical name=x", false),
    (
        "alertname=Foreign severity=critical instance=a component=trading",
        false,
    ),
    // It is blind; other clusters have hosts of the same name.
    (
        "alertname=BaselineExporterBlind severity=critical instance=b cluster=1",
        false,
    ),
    (
        "alertname=Unit severity=critical instance=b cluster=1 name=x",
        true,
    ),
    (
        "alertname=Unit severity=critical instance=b cluster=2 name=x",
        false,
    ),
    // No bus is needed for this one.
    (
        "alertname=Redis severity=critical instance=b cluster=1 endpoint=q",
        false,
    ),
    ("alertname=Unit severity=critical instance=b name=x", false),
    ("alertname=Unit severity=critical cluster=1 name=x", false),
    // Nobody knows which host these are about: they silence no other alert without an instance.
    ("alertname=BaselineExporterDown severity=critical", false),
    ("alertname=BaselineExporterBlind severity=critical", false),
    ("alertname=BaselineExporterAbsent severity=critical", false),
    ("alertname=Unit severity=critical name=y", false),
    // A unit that somebody is paged for.
    ("alertname=Unit severity=critical instance=e name=x", false),
    ("alertname=Loop severity=critical instance=e name=x", false),
    ("alertname=Drift severity=warning instance=e name=x", true),
    ("alertname=Reload severity=info instance=e name=x", true),
    ("alertname=Drift severity=warning instance=e name=y", false),
    (
        "alertname=Drift severity=warning instance=e cluster=1 name=x",
        false,
    ),
    (
        "alertname=Foreign severity=warning instance=e name=x component=trading",
        false,
    ),
    (
        "alertname=Foreign severity=critical instance=e name=y component=trading",
        false,
    ),
    // Without a name, or without an instance, it may be about any unit.
    ("alertname=Redis severity=critical instance=f", false),
    ("alertname=Disk severity=warning instance=f", false),
    ("alertname=Drift severity=warning name=x", false),
    ("alertname=Drift severity=warning name=z", false),
    ("alertname=Disk severity=warning", false),
];

fn alerts_are_inhibited(generation: Generation) {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    let (webhook, alertmanager) = only_alertmanager(&machine, generation);
    // Labels that are the alert's alone play no part in the inhibition.
    let alert = |labels: &str| {
        let mut all = json!({"id": labels, "component": "baseline", "service": labels});
        for label in labels.split(' ') {
            let (name, value) = label.split_once('=').unwrap();
            all[name] = value.into();
        }
        json!({ "labels": all })
    };
    let alerts: Vec<_> = INHIBITED.iter().map(|(labels, _)| alert(labels)).collect();
    alertmanager.post(&alerts);

    let expected: BTreeSet<_> = INHIBITED
        .iter()
        .filter(|(_, inhibited)| *inhibited)
        .map(|(labels, _)| (*labels).to_owned())
        .collect();
    wait_for("the alerts to be inhibited", PATIENCE, || {
        let alerts = alertmanager.alerts();
        let inhibited: BTreeSet<_> = alerts
            .iter()
            .filter(|alert| alert["status"]["inhibitedBy"] != json!([]))
            .map(id)
            .collect();
        let differ: Vec<_> = inhibited.symmetric_difference(&expected).collect();
        if differ.is_empty() {
            Ok(())
        } else {
            Err(format!("{differ:#?}"))
        }
    });

    // What is sent later than these, and goes the same ways, arrives later.
    let last = [
        "alertname=LastPage severity=critical",
        "alertname=LastTicket severity=warning",
    ];
    alertmanager.post(&last.map(alert));
    let told = INHIBITED
        .iter()
        .filter(|(_, inhibited)| !*inhibited)
        .map(|(labels, _)| *labels);
    let mut expected: BTreeSet<_> = told.chain(last).map(addressed).collect();
    let arrive = |expected: &BTreeSet<String>| {
        wait_for("these notifications and no others", PATIENCE, || {
            let received = webhook.received();
            let arrived: BTreeSet<_> = received
                .iter()
                .flat_map(|came| {
                    came.alerts()
                        .iter()
                        .map(|alert| format!("{} {}", came.path, id(alert)))
                })
                .collect();
            let differ: Vec<_> = arrived.symmetric_difference(expected).collect();
            if differ.is_empty() {
                Ok(())
            } else {
                Err(format!("{differ:#?}"))
            }
        });
    };
    arrive(&expected);

    // When the exporter can see again, what it saw before is told.
    let (blind, held) = (INHIBITED[11].0, INHIBITED[12].0);
    let mut resolved = alert(blind);
    resolved["endsAt"] = "2026-01-07T12:00:00Z".into();
    resolved["startsAt"] = "2026-01-07T11:00:00Z".into();
    alertmanager.post(&[resolved]);
    expected.insert(addressed(held));
    arrive(&expected);
    assert_eq!(alertmanager.server.complaints(), "");
}

fn id(alert: &Value) -> String {
    alert["labels"]["id"].as_str().unwrap().to_owned()
}

/// An alert's labels behind the path that it has to arrive at.
fn addressed(labels: &str) -> String {
    let path = if labels.contains("BaselineWatchdog") {
        "/watchdog"
    } else if labels.contains("severity=critical") && !labels.contains("component=") {
        "/critical"
    } else {
        "/warning"
    };
    format!("{path} {labels}")
}

/// An Alertmanager with the shipped file that waits for nothing longer than a second, and what it
/// notifies.
fn only_alertmanager(machine: &Machine, generation: Generation) -> (Webhook, Alertmanager<'_>) {
    stack::install(machine, |text| stack::shorten(text, 1_000_000));
    let webhook = Webhook::listen(machine, WEBHOOK_PORT);
    let config = format!("{TREE}/deploy/alertmanager/alertmanager.yml");
    let alertmanager = Alertmanager::start(machine, generation, &config);
    (webhook, alertmanager)
}

#[test]
fn a_page_says_what_is_broken() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    for generation in Generation::ALL {
        let (webhook, alertmanager) = only_alertmanager(&machine, generation);
        let render = |body: &Value| stack::render(&machine, generation, body);
        // Sends these alerts and renders the next notification that holds as many.
        let page = |alerts: &[Value]| {
            let before = webhook.received().len();
            alertmanager.post(alerts);
            wait_for("the notification", PATIENCE, || {
                let received = webhook.received();
                let mut new = received[before..].iter();
                match new.find(|came| came.alerts().len() == alerts.len()) {
                    Some(came) => Ok(render(&came.body)),
                    None => Err(format!("{received:?}")),
                }
            })
        };
        let labels = |alertname: &str, name: &str| {
            json!({
                "alertname": alertname,
                "cluster": "quantum-trader-vps",
                "component": "baseline",
                "instance": "trader-1",
                "name": format!("{name}.service"),
                "service": name,
                "severity": "critical",
            })
        };
        let mut failed = json!({
            "labels": labels("BaselineUnitFailed", "quantum-execution"),
            "annotations": {
                "summary": "A unit that has to run has failed.",
                "description": "Its main process exited with status 1.\n",
                "cause": "hostname quantum_redis does not resolve",
                "fix": "echo '127.0.0.1 quantum_redis' >>/etc/hosts\nsystemctl restart quantum-execution\n",
                "runbook_url": "https://example.org/runbook#baselineunitfailed",
            },
            "startsAt": "2026-01-07T12:03:59+01:00",
        });
        let alone = page(&[failed.clone()]);
        assert_eq!(alone, ALONE, "{generation:?}");

        failed["endsAt"] = "2026-01-07T12:15:00+01:00".into();
        assert_eq!(page(&[failed]), RESOLVED, "{generation:?}");

        let mut several = vec![
            json!({
                "labels": labels("BaselineUnitLoops", "quantum-ceo-brain"),
                "annotations": {
                    "summary": "A unit restarts again and again.",
                    "fix": "journalctl --unit=quantum-ceo-brain\nsystemctl restart quantum-ceo-brain",
                },
                "startsAt": "2026-01-07T11:00:00Z",
            }),
            json!({
                "labels": labels("BaselineUnitStuck", "quantum-ceo-brain"),
                "annotations": {"cause": "redis is down", "runbook_url": "https://example.org/stuck"},
                "startsAt": "2026-01-07T11:05:00Z",
            }),
        ];
        assert_eq!(page(&several), SEVERAL, "{generation:?}");

        several[0]["endsAt"] = "2026-01-07T11:10:00Z".into();
        several.extend((0..6).map(
            |number| json!({"labels": labels(&format!("Another{number}"), "quantum-ceo-brain")}),
        ));
        let many = page(&several);
        assert_eq!(many.matches("\n* ").count(), 5, "{generation:?}: {many}");
        assert!(
            many.contains("\n7 alerts, the first 5 of them:\n\n* "),
            "{generation:?}: {many}"
        );
        assert!(many.ends_with(ONE_RESOLVED), "{generation:?}: {many}");

        let bare = json!({
            "labels": {"component": "baseline", "severity": "critical"},
            "startsAt": "2026-01-07T11:00:00Z",
        });
        assert_eq!(page(&[bare]), BARE, "{generation:?}");
        assert_eq!(alertmanager.server.complaints(), "", "{generation:?}");
        alertmanager.server.stop();
        machine.sh("rm -r /tmp/alertmanager");
    }
}

const ALONE: &str = "\
CRITICAL quantum-execution.service on trader-1: A unit that has to run has failed.
---
quantum-execution.service on trader-1 (quantum-trader-vps)
A unit that has to run has failed.
Its main process exited with status 1.

cause: hostname quantum_redis does not resolve
since: 2026-01-07 11:03 UTC

fix:
  echo '127.0.0.1 quantum_redis' >>/etc/hosts
  systemctl restart quantum-execution

https://example.org/runbook#baselineunitfailed
---
";

const RESOLVED: &str = "\
RESOLVED quantum-execution.service on trader-1: A unit that has to run has failed.
---
RESOLVED quantum-execution.service on trader-1
  A unit that has to run has failed.
  2026-01-07 11:03 UTC to 2026-01-07 11:15 UTC
---
";

const SEVERAL: &str = "\
CRITICAL quantum-ceo-brain.service on trader-1: A unit restarts again and again. (1 of 2 alerts)
---
2 alerts:

* quantum-ceo-brain.service on trader-1
  A unit restarts again and again.
  since: 2026-01-07 11:00 UTC
    journalctl --unit=quantum-ceo-brain
    systemctl restart quantum-ceo-brain

* quantum-ceo-brain.service on trader-1
  BaselineUnitStuck
  cause: redis is down
  since: 2026-01-07 11:05 UTC
  https://example.org/stuck
---
";

const ONE_RESOLVED: &str = "

RESOLVED quantum-ceo-brain.service on trader-1
  A unit restarts again and again.
  2026-01-07 11:00 UTC to 2026-01-07 11:10 UTC
---
";

const BARE: &str = "\
CRITICAL an alert without a name
---
an alert without a name

since: 2026-01-07 11:00 UTC
---
";
