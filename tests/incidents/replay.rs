//! One incident from its beginning to its end: injected, paged, repaired, resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use serde_json::Value;

use crate::machine::{CACHE, Machine, Output, Systemd};
use crate::pages;
use crate::prometheus::Generation;
use crate::runbook;
use crate::server::Server;
use crate::stack::Stack;
use crate::wait::wait_for;
use crate::webhook::Notification;

/// The exporter's baseline on the machine: the shipped one but for the snapshot, which an incident
/// that edits unit files would differ from, and some of the shipped time-outs.
pub const BASELINE: &str = "/etc/baseline.yml";

/// Where the deployment's programs live and write.
pub const REPOSITORY: &str = "/home/qt/quantum_trader";

/// Shipped durations are divided by this: a scrape each second instead of each fifteen.
pub const FACTOR: u64 = 15;

/// Longer than any of the shortened durations in a row, on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

const RULES: &str = include_str!("../../rules/baseline.rules.yml");

/// Of a page or a ticket, what is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    alert: String,
    service: String,
    severity: String,
    /// What the suspected cause has to begin with; empty: nothing is suspected.
    cause: String,
    /// What the description has to name besides.
    names: Vec<String>,
}

/// What is expected of somebody's pager.
pub fn page(alert: &str, service: &str, cause: &str) -> Page {
    expected(alert, service, "critical", cause)
}

/// What is expected to wait until the morning.
pub fn ticket(alert: &str, service: &str, cause: &str) -> Page {
    expected(alert, service, "warning", cause)
}

fn expected(alert: &str, service: &str, severity: &str, cause: &str) -> Page {
    Page {
        alert: alert.to_owned(),
        service: service.to_owned(),
        severity: severity.to_owned(),
        cause: cause.to_owned(),
        names: Vec::new(),
    }
}

impl Page {
    /// With these words in its description.
    pub fn naming(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn is(&self, alert: &Value) -> bool {
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default();
        let annotation = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
        self.alert == label("alertname")
            && self.service == label("service")
            && self.severity == label("severity")
            && annotation("cause").starts_with(&self.cause)
            && self.cause.is_empty() == annotation("cause").is_empty()
            && self
                .names
                .iter()
                .all(|name| annotation("description").contains(name))
    }
}

/// The deployment in good health, on a machine; `None` where none can be booted.
pub fn deployment(systemd: Systemd) -> Option<Machine> {
    let machine = Machine::boot(systemd)?;
    machine.world();
    let shipped = include_str!("../../deploy/baseline-quantum-trader.yml");
    let (shipped, _) = shipped.split_once("unit_files:").unwrap();
    machine.write_file(BASELINE, &shipped.replace("resync: 60s", "resync: 3s"));
    machine.programs();
    Some(machine)
}

impl Machine {
    /// Puts a program into the place of a stand-in and starts it.
    #[track_caller]
    pub fn program(&self, service: &str, text: &str) {
        self.unit(
            service,
            &format!(
                "[Service]\nRestart=always\nRestartSec=200ms\n{text}\n\
                 [Unit]\n{limit}[Install]\nWantedBy=quantum-trader.target\n",
                limit = if text.contains("StartLimit") {
                    ""
                } else {
                    "StartLimitIntervalSec=0\n"
                },
            ),
        );
        self.systemctl(&["daemon-reload"]);
        self.systemctl(&["enable", "--quiet", service]);
        // That it fails is what some are made for.
        self.try_run(&["systemctl", "restart", service]);
    }

    /// `baseline-exporter snapshot` with these arguments, which has to succeed.
    #[track_caller]
    pub fn snapshot(&self, args: &[&str]) {
        let config = format!("--config.file={BASELINE}");
        let output = self.check(&[&config]);
        assert!(output.status.code().is_some(), "{output}");
        self.run(
            &[
                &["/usr/local/bin/baseline-exporter", &config, "snapshot"],
                args,
            ]
            .concat(),
        );
    }

    /// Adds sections to the baseline.
    #[track_caller]
    pub fn append_to_baseline(&self, sections: &str) {
        let text = self.read_file(BASELINE);
        self.write_file(BASELINE, &format!("{text}{sections}"));
    }

    /// Adds one item to a list of the baseline.
    #[track_caller]
    pub fn append_to_list(&self, list: &str, item: &str) {
        let text = self.read_file(BASELINE);
        let head = format!("{list}:\n");
        let (before, after) = text.split_once(&head).expect(list);
        let indent = if before.ends_with("  ") { "    " } else { "  " };
        self.write_file(
            BASELINE,
            &format!("{before}{head}{indent}- {item}\n{after}"),
        );
    }

    /// Moves services from the list of what is disabled on purpose to that of what runs.
    #[track_caller]
    pub fn expect_to_run(&self, services: &[&str]) {
        let text = self.read_file(BASELINE);
        let mut moved = text.clone();
        for service in services {
            let item = format!("    - name: {service}\n");
            let (before, after) = moved.split_once(&item).expect(service);
            let (_because, after) = after.split_once('\n').unwrap();
            moved = format!("{before}{after}");
        }
        self.write_file(BASELINE, &moved);
        for service in services {
            self.append_to_list("running", service);
        }
    }
}

/// What was seen, and beside it what `check` says once this is shown.
struct Seen<'r, 'm> {
    text: String,
    replay: &'r Replay<'m>,
}

impl fmt::Display for Seen<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.text, self.replay.check())
    }
}

/// An incident under way.
pub struct Replay<'m> {
    name: &'static str,
    machine: &'m Machine,
    pub stack: Stack<'m>,
    pub exporter: Server<'m>,
    injected: Instant,
    expected: Vec<Page>,
    /// How long each of `expected` took, in shipped durations.
    seconds: Vec<u64>,
    /// What the alerts said, and what else the person on call knows: the runbook's parameters.
    parameters: BTreeMap<String, String>,
}

impl<'m> Replay<'m> {
    /// Starts the exporter and who listens to it, and waits until there is nothing to tell.
    #[track_caller]
    pub fn start(name: &'static str, machine: &'m Machine) -> Self {
        Self::start_as("root", name, machine)
    }

    /// As [`start`](Self::start), with the exporter running under `user`.
    #[track_caller]
    pub fn start_as(user: &str, name: &'static str, machine: &'m Machine) -> Self {
        let config = format!("--config.file={BASELINE}");
        // Where the shipped configuration looks for it.
        let listen = "--web.listen-address=127.0.0.1:20107";
        let exporter = machine
            .exporter_as(user, &[&config, listen])
            .unwrap_or_else(|why| panic!("{why}"));
        let stack = Stack::shortened(machine, Generation::V242, FACTOR);
        let replay = Self {
            name,
            machine,
            stack,
            exporter,
            injected: Instant::now(),
            expected: Vec::new(),
            seconds: Vec::new(),
            parameters: [("CONFIG", BASELINE), ("REDIS", "redis-server.service")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        wait_for("the watchdog, and nothing else", PATIENCE, || {
            let received = replay.stack.webhook.received();
            let watched = received
                .iter()
                .any(|notification| notification.path == "/watchdog");
            let quiet = replay.alerts().is_empty();
            let told = replay.stack.prometheus.get("query?query=sum(baseline_check%7Bstatus%3D%22holds%22%7D)%20%3D%3D%20count(baseline_check%7Bstatus%3D%22holds%22%7D)");
            if watched && quiet && told["result"].as_array().is_some_and(|all| !all.is_empty()) {
                Ok(())
            } else {
                Err(replay.seen(format!("watched: {watched}, alerts: {:?}", replay.alerts())))
            }
        });
        replay
    }

    /// The alerts that Prometheus has, pending ones too, but for those that only show.
    fn alerts(&self) -> Vec<Value> {
        let alerts = self.stack.prometheus.get("alerts");
        let mut alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        alerts.retain(|alert| alert["labels"]["severity"] != "info");
        alerts
    }

    /// `check` as the exporter would, with the program that is there already.
    fn look(&self) -> Output {
        let config = format!("--config.file={BASELINE}");
        self.machine
            .try_run(&["baseline-exporter", "check", &config])
    }

    fn check(&self) -> String {
        self.look().to_string()
    }

    /// What is awaited still, for who reads of a failure.
    fn seen(&self, text: String) -> Seen<'_, 'm> {
        Seen { text, replay: self }
    }

    /// Breaks the host.
    pub fn inject(&mut self, cause: impl FnOnce(&Machine)) {
        self.injected = Instant::now();
        cause(self.machine);
    }

    /// Waits until all of these have come, and fails should another one have.
    #[track_caller]
    pub fn pages(&mut self, pages: &[Page]) {
        let new: Vec<_> = pages
            .iter()
            .filter(|page| !self.expected.contains(page))
            .cloned()
            .collect();
        self.expected.extend(new.iter().cloned());
        wait_for(&format!("{}: {pages:#?}", self.name), PATIENCE, || {
            let told = self.told();
            self.only_expected(&told);
            let missing: Vec<_> = pages
                .iter()
                .filter(|page| !told.iter().any(|(_, alert)| page.is(alert)))
                .collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(self.seen(format!(
                    "missing {missing:#?}\ncame {told:#?}\n{:#?}",
                    self.alerts()
                )))
            }
        });
        for page in &new {
            let (at, alert) = self
                .told()
                .into_iter()
                .find(|(_, alert)| page.is(alert))
                .unwrap();
            let took = at.saturating_duration_since(self.injected);
            self.seconds.push(as_shipped(
                took,
                alert["labels"]["alertname"].as_str().unwrap(),
                alert["labels"]["severity"].as_str().unwrap(),
            ));
            self.diagnose(&alert);
        }
    }

    /// What no page tells, but the person on call finds out: a parameter of the runbook.
    pub fn knows(&mut self, name: &str, value: &str) {
        self.parameters.insert(name.to_owned(), value.to_owned());
    }

    /// Looks where the runbook says to look for this alert and the causes that it names.
    #[track_caller]
    fn diagnose(&mut self, alert: &Value) {
        let label = |name: &str| alert["labels"][name].as_str();
        let annotation = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
        let causes: Vec<_> = annotation("cause").split(", ").collect();
        let path = annotation("description")
            .split(' ')
            .find(|word| word.starts_with('/'));
        let dependency = causes.iter().find_map(|it| it.strip_prefix("dependency "));
        let told = [
            ("UNIT", label("name")),
            ("TARGET", dependency.or_else(|| label("name"))),
            ("NAME", label("hostname")),
            ("MISSING", label("to")),
            ("DIR", path),
        ];
        for (name, value) in told {
            if let Some(value) = value {
                self.knows(name, value);
            }
        }
        let mut sections = vec![label("alertname").unwrap().to_owned()];
        if label("name").is_some() {
            sections.extend(["Before you type".to_owned(), "Units".to_owned()]);
            sections.extend(
                causes
                    .iter()
                    .filter_map(|cause| runbook::section_of_cause(cause)),
            );
        }
        for section in sections {
            self.machine.diagnose(&section, &self.parameters);
        }
    }

    /// Looks where the runbook says to look for an alert that need not have come.
    #[track_caller]
    pub fn diagnose_section(&self, section: &str) {
        self.machine.diagnose(section, &self.parameters);
    }

    /// Waits for as long as an alert could take to change its mind: nothing more may come, and
    /// nothing go.
    #[track_caller]
    pub fn stays_so(&self) {
        let start = Instant::now();
        let rounds = |at: Instant| at.elapsed() > shortened(keep_firing_for()) * 2;
        wait_for("some rounds without a change", PATIENCE, || {
            self.only_expected(&self.told());
            assert_eq!(
                self.resolved_notices(),
                0,
                "{:#?}",
                self.stack.webhook.received()
            );
            if rounds(start) {
                Ok(())
            } else {
                Err("waiting".to_owned())
            }
        });
    }

    /// Draws the dashboard of the deployment from what Prometheus has by now, which has to show these
    /// words. The picture is left in the directory `pictures` below cargo's for tests' files, and with
    /// `UPDATE_PICTURES=1` it becomes the README's.
    #[track_caller]
    pub fn dashboard_shows(&self, words: &[&str]) {
        let pictures = Path::new(CACHE).join("pictures");
        fs::create_dir_all(&pictures).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let [page, picture] =
            ["html", "png"].map(|kind| pictures.join(format!("dashboard.{kind}")));
        for output in [&page, &picture] {
            let drawn = Command::new("nsenter")
                .arg(format!("--net=/proc/{}/ns/net", self.machine.pid1()))
                .arg("--")
                .arg(root.join("tests/grafana/preview.py"))
                .arg("http://127.0.0.1:9090")
                .arg(root.join("grafana/dashboards/deployment.json"))
                .arg(output)
                .args(["--range=240", "--scrape=1", "--height=800"])
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .output()
                .expect("nsenter starts");
            let complaint = String::from_utf8_lossy(&drawn.stderr);
            assert!(drawn.status.success(), "{complaint}");
        }
        let shown = fs::read_to_string(page).unwrap();
        for word in words {
            assert!(shown.contains(word), "no {word} in {shown}");
        }
        if std::env::var_os("UPDATE_PICTURES").is_some() {
            fs::copy(picture, root.join("deploy/pictures/dashboard.png")).unwrap();
        }
    }

    /// Does what the runbook says.
    #[track_caller]
    pub fn fix(&self, identifier: &str, parameters: &[(&str, &str)]) {
        self.machine.fix(identifier, parameters);
    }

    /// Does what no runbook can say, such as to correct a program.
    #[track_caller]
    pub fn repair(&self, how: impl FnOnce(&Machine)) {
        how(self.machine);
    }

    /// Waits until everything is resolved and was said to be, and compares all that ever came.
    #[track_caller]
    pub fn resolved(&self) {
        wait_for(&format!("{}: resolved", self.name), PATIENCE, || {
            self.only_expected(&self.told());
            let notices = self.resolved_notices();
            let left = self.alerts();
            if notices >= self.expected.len() && left.is_empty() {
                Ok(())
            } else {
                Err(self.seen(format!("{notices} resolved notices, left {left:#?}")))
            }
        });
        let told = self.told();
        self.only_expected(&told);
        self.keep_pages();
        // One that was resolved and came anew counts twice: it begins anew.
        let came: BTreeSet<_> = told
            .iter()
            .map(|(_, alert)| {
                let label = |name: &str| alert["labels"][name].to_string();
                let identity = ["alertname", "service", "name"].map(label);
                (identity, alert["startsAt"].to_string())
            })
            .collect();
        assert_eq!(came.len(), self.expected.len(), "{told:#?}");
        let query = "query?query=sum(prometheus_rule_evaluation_failures_total)";
        let failures = self.stack.prometheus.get(query);
        assert_eq!(
            failures["result"][0]["value"][1],
            "0",
            "rules could not be evaluated: {}",
            self.stack.prometheus.server.log()
        );
        self.report(came.len());
    }

    /// Waits until Prometheus has no alert left, and all checks hold; nothing may have come.
    #[track_caller]
    pub fn all_is_well(&self) {
        wait_for(&format!("{}: all to be well", self.name), PATIENCE, || {
            self.only_expected(&self.told());
            let alerts = self.alerts();
            if alerts.is_empty() && self.look().status.success() {
                Ok(())
            } else {
                Err(self.seen(format!("{alerts:#?}")))
            }
        });
    }

    /// Whether an alert fires in Prometheus, delivered or not.
    pub fn firing(&self, alert: &str) -> Result<(), String> {
        let alerts = self.alerts();
        let fires =
            |found: &&Value| found["labels"]["alertname"] == alert && found["state"] == "firing";
        if alerts.iter().any(|found| fires(&found)) {
            Ok(())
        } else {
            Err(format!("{alerts:#?}"))
        }
    }

    /// Whether the signal of the dead man's switch came after this moment.
    pub fn watchdog_came_since(&self, moment: Instant) -> bool {
        let received = self.stack.webhook.received();
        received
            .iter()
            .any(|notification| notification.path == "/watchdog" && notification.at > moment)
    }

    /// Each firing alert that came with a page or a ticket, and when.
    fn told(&self) -> Vec<(Instant, Value)> {
        let told = |notification: Notification| {
            let alerts = notification.alerts().to_vec();
            alerts
                .into_iter()
                .map(move |alert| (notification.at, alert))
        };
        let received = self.stack.webhook.received();
        let mut all: Vec<_> = received
            .into_iter()
            .filter(|notification| notification.path != "/watchdog")
            .flat_map(told)
            .collect();
        all.retain(|(_, alert)| alert["status"] == "firing");
        all
    }

    /// How many of the expected were said to be over.
    fn resolved_notices(&self) -> usize {
        let received = self.stack.webhook.received();
        let resolved: BTreeSet<_> = received
            .iter()
            .filter(|notification| notification.path != "/watchdog")
            .flat_map(Notification::alerts)
            .filter(|alert| alert["status"] == "resolved")
            .map(|alert| {
                (
                    alert["labels"]["alertname"].to_string(),
                    alert["labels"]["service"].to_string(),
                )
            })
            .collect();
        resolved.len()
    }

    #[track_caller]
    fn only_expected(&self, told: &[(Instant, Value)]) {
        for (_, alert) in told {
            assert!(
                self.expected.iter().any(|page| page.is(alert)),
                "{}: nobody expects {alert:#}\nbut {:#?}\n{}",
                self.name,
                self.expected,
                self.check()
            );
        }
    }

    /// Compares the pages of an incident that the collection of pages has with those that came.
    #[track_caller]
    fn keep_pages(&self) {
        let received = self.stack.webhook.received();
        let first_with = |page: &Page| {
            received.iter().find(|notification| {
                let mut alerts = notification.alerts().iter();
                alerts.any(|alert| alert["status"] == "firing" && page.is(alert))
            })
        };
        let notifications: Vec<_> = self.expected.iter().filter_map(first_with).collect();
        pages::compare(self.machine, self.name, &notifications);
    }

    /// One line of the table: incident, pages expected and seen, seconds to page, cause, resolved.
    fn report(&self, came: usize) {
        let directory = Path::new(CACHE).join("incidents");
        fs::create_dir_all(&directory).unwrap();
        let alerts: Vec<_> = self
            .expected
            .iter()
            .map(|page| page.alert.trim_start_matches("Baseline"))
            .collect();
        let causes: Vec<_> = self
            .expected
            .iter()
            .map(|page| page.cause.as_str())
            .filter(|cause| !cause.is_empty())
            .collect();
        let seconds: Vec<_> = self.seconds.iter().map(ToString::to_string).collect();
        let line = format!(
            "| {} | {} {} | {came} | {} | {} | yes |\n",
            self.name,
            self.expected.len(),
            alerts.join(", "),
            seconds.join(", "),
            causes.join(", "),
        );
        let file = self.name.replace(['/', ' '], "-") + ".md";
        fs::write(directory.join(file), line).unwrap();
    }
}

/// The shortened form of a shipped duration.
fn shortened(shipped: Duration) -> Duration {
    shipped / u32::try_from(FACTOR).unwrap()
}

/// How long a page that took so long here takes with the shipped durations: what the rule and the
/// route wait is known from their files, and what is left is one scrape and one evaluation, of 15 s
/// each at most instead of one.
fn as_shipped(took: Duration, alert: &str, severity: &str) -> u64 {
    // As deploy/alertmanager/alertmanager.yml has it.
    let group_wait = if severity == "critical" { 10 } else { 60 };
    let waits = duration_of(alert, "for") + Duration::from_secs(group_wait);
    let left = took.saturating_sub(shortened(waits));
    (left + waits + Duration::from_secs(28)).as_secs()
}

fn keep_firing_for() -> Duration {
    duration_of("BaselineUnitFailed", "keep_firing_for")
}

/// A duration of a rule, as shipped.
fn duration_of(alert: &str, key: &str) -> Duration {
    let (_, rule) = RULES
        .split_once(&format!("- alert: {alert}\n"))
        .expect(alert);
    let (_, value) = rule.split_once(&format!("        {key}: ")).expect(key);
    let value = value.lines().next().unwrap();
    humantime::parse_duration(value).expect(value)
}
