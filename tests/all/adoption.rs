//! deploy/adoption.md, held against the exporters that it says how to leave.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::prometheus::{Generation, Prometheus};
use crate::server::Server;
use crate::stack::shorten;
use crate::wait::{PATIENCE, wait_for};
use crate::world::Behaviour;

const PAGE: &str = include_str!("../../deploy/adoption.md");
const RULES: &str = include_str!("../../rules/baseline.rules.yml");
const GOLDEN: &str = include_str!("../golden/metrics.txt");

/// What each expression of the page has to find: the old one, and the new one.
#[derive(Clone, Copy)]
struct Case {
    id: &'static str,
    by: By,
    old: &'static [&'static str],
    new: &'static [&'static str],
}

/// What of an answer is compared.
#[derive(Debug, Clone, Copy)]
enum By {
    /// The units of this test that it names.
    Unit,
    /// These units, and the value of each has to be the same in both.
    UnitAndValue,
    /// What these labels say, of the old one and of the new one.
    Labels(&'static str, &'static str),
    /// The value by state, the same in both.
    StateAndValue,
    /// The values alone.
    Value,
    /// Only that both give the same values.
    SameValue,
}

const fn same(id: &'static str, by: By, found: &'static [&'static str]) -> Case {
    Case {
        id,
        by,
        old: found,
        new: found,
    }
}

const FAILED: &[&str] = &["shop-backup.service", "shop-broken.service"];
const FAILED_ON_HOST: &[&str] = &[
    "other-broken.service",
    "shop-backup.service",
    "shop-broken.service",
];
const LOOPS: &[&str] = &["shop-loops.service"];
const SOCKET: &[&str] = &["shop-calls.socket"];
const TIMERS: &[&str] = &["shop-job.timer", "shop-later.timer"];

/// While units fail, loop, hang and are down, and Redis is up.
const UNITS: &[Case] = &[
    same("systemd-failed", By::Unit, FAILED),
    same("systemd-crash-looping", By::Unit, LOOPS),
    same(
        "systemd-inactive",
        By::Unit,
        &["shop-gone.service", "shop-stopped.service"],
    ),
    same("systemd-socket-refused", By::Unit, SOCKET),
    same("systemd-uptime", By::Unit, &["shop-web.service"]),
    same("failed", By::Unit, FAILED_ON_HOST),
    same("failed-watched", By::Unit, FAILED),
    same("crash-looping", By::Unit, LOOPS),
    Case {
        id: "down",
        by: By::Unit,
        old: &["shop-stopped.service"],
        new: &["shop-gone.service", "shop-stopped.service"],
    },
    same("missing", By::Unit, &["shop-gone.service"]),
    same("stuck", By::Unit, &["shop-starting.service"]),
    Case {
        id: "timer-overdue",
        by: By::Unit,
        old: &["shop-later.timer"],
        new: &[],
    },
    same("degraded", By::Value, &["0"]),
    same("blind", By::Value, &[]),
    same(
        "units",
        By::StateAndValue,
        &["activating", "active", "deactivating", "failed", "inactive"],
    ),
    same("active", By::SameValue, &[]),
    same("restarts", By::Unit, LOOPS),
    same(
        "start-time",
        By::UnitAndValue,
        &["shop-job.service", "shop-web.service"],
    ),
    same("last-trigger", By::UnitAndValue, TIMERS),
    same("connections", By::UnitAndValue, SOCKET),
    same("accepted", By::Unit, SOCKET),
    same("refused", By::Unit, SOCKET),
    same("redis-down", By::Value, &[]),
    same("redis-error", By::Value, &[]),
    same("redis-replica", By::Value, &[]),
    same("redis-clients", By::SameValue, &[]),
    same("redis-start", By::SameValue, &[]),
    same("line-failed", By::Unit, FAILED_ON_HOST),
    Case {
        id: "line-running",
        by: By::Value,
        old: &["2"],
        new: &["1"],
    },
    same(
        "line-bad",
        By::Unit,
        &[
            "shop-backup.service",
            "shop-broken.service",
            "shop-loops.service",
            "shop-starting.service",
        ],
    ),
    same("line-hostname", By::Value, &["1"]),
    same("line-redis", By::Value, &["1"]),
    same("history", By::Unit, FAILED_ON_HOST),
];

/// While Redis is a replica of nobody.
const REPLICA: &[Case] = &[
    Case {
        id: "redis-replica",
        by: By::Labels("instance", "endpoint"),
        old: &["127.0.0.1:9121"],
        new: &["shop"],
    },
    same("redis-down", By::Value, &[]),
];

/// While Redis is stopped, and the hosts file lost its name.
const REDIS_DOWN: &[Case] = &[
    Case {
        id: "redis-down",
        by: By::Labels("instance", "endpoint"),
        old: &["127.0.0.1:9121"],
        new: &["shop"],
    },
    Case {
        id: "redis-error",
        by: By::Labels("instance", "reason"),
        old: &["127.0.0.1:9121"],
        new: &["refused"],
    },
    same("line-redis", By::Value, &["0"]),
    same("line-hostname", By::Value, &["0"]),
];

/// While the bus is stopped.
const BLIND: &[Case] = &[Case {
    id: "blind",
    by: By::Labels("instance", "instance"),
    old: &["127.0.0.1:9991"],
    new: &["127.0.0.1:9990"],
}];

/// A fenced block of the page: the words after its opening fence, and its text.
struct Block {
    language: &'static str,
    words: Vec<&'static str>,
    text: &'static str,
}

impl Block {
    /// What stands behind `key=` in the opening line.
    fn word(&self, key: &str) -> Option<&'static str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn is(&self, key: &str, id: &str) -> bool {
        self.word(key) == Some(id)
    }
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = PAGE;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (opening, after) = after.split_once('\n').expect("a line after a fence");
        let (text, after) = after.split_once("\n```").expect("an end of the block");
        let mut words = opening.split_whitespace();
        let language = words.next().expect("a block says its language");
        blocks.push(Block {
            language,
            words: words.collect(),
            text,
        });
        rest = after;
    }
    blocks
}

/// The one block of the page that says `key=id`.
#[track_caller]
fn block(key: &str, id: &str) -> Block {
    let mut found = blocks().into_iter().filter(|block| block.is(key, id));
    let block = found
        .next()
        .unwrap_or_else(|| panic!("no block {key}={id} in deploy/adoption.md"));
    assert!(found.next().is_none(), "two blocks {key}={id}");
    block
}

/// One metric of another exporter, as a table of the page has it.
#[derive(Debug)]
struct Row {
    name: &'static str,
    kind: &'static str,
    labels: BTreeSet<&'static str>,
    here: &'static str,
}

impl Row {
    /// Name and labels of what takes its place.
    fn here(&self) -> Option<(&'static str, BTreeSet<&'static str>)> {
        match self.here {
            "same" => Some((self.name, self.labels.clone())),
            "none" => None,
            other => {
                let (name, labels) = other.trim_matches('`').split_once('{').expect(other);
                Some((name, list(labels.trim_end_matches('}'))))
            }
        }
    }
}

fn list(text: &'static str) -> BTreeSet<&'static str> {
    text.split(", ").filter(|it| !it.is_empty()).collect()
}

/// The rows of the table in one section of the page.
fn table(section: &str) -> Vec<Row> {
    let (_, text) = PAGE
        .split_once(&format!("\n## {section}\n"))
        .expect(section);
    let (text, _) = text.split_once("\n## ").expect("a section after it");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, names, kind, labels, here, _, _] = cells[..] else {
            panic!("not five columns: {line}");
        };
        names.split(", ").map(move |name| Row {
            name: name.trim_matches('`'),
            kind,
            labels: list(labels),
            here,
        })
    })
    .collect()
}

/// A family of an exposition: its type, and the label sets of its samples.
type Family = (String, BTreeSet<BTreeSet<String>>);

fn families(text: &str) -> BTreeMap<String, Family> {
    let metrics = Metrics::parse(text);
    let kinds = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), (kind.to_owned(), metrics.label_sets(name))))
    });
    kinds.collect()
}

fn owned(labels: &BTreeSet<&str>) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// Holds that what the page says is here is here: name, labels, and where it is the same the type.
#[track_caller]
fn hold_ours(rows: &[Row], exposition: &str) {
    let ours = families(exposition);
    // Where the host keeps the controller of tasks to itself, a machine has none to show.
    let golden = families(GOLDEN);
    for row in rows {
        let Some((name, labels)) = row.here() else {
            assert!(
                !ours.contains_key(row.name),
                "{row:?}: there is such a metric"
            );
            continue;
        };
        let (kind, seen) = ours
            .get(name)
            .filter(|(_, seen)| !seen.is_empty())
            .or_else(|| golden.get(name).filter(|_| name.contains("_tasks_")))
            .unwrap_or_else(|| panic!("{row:?}: there is no {name}"));
        assert!(seen.contains(&owned(&labels)), "{row:?}: {seen:?}");
        if row.here == "same" {
            assert_eq!(kind, row.kind, "{row:?}");
        }
    }
}

/// Holds that another exporter serves what the page says it does.
#[track_caller]
fn hold_theirs(rows: &[Row], exposition: &str, not_here: &[&str]) {
    let theirs = families(exposition);
    for row in rows {
        let Some((kind, seen)) = theirs.get(row.name) else {
            assert!(not_here.contains(&row.name), "{row:?}: not served");
            continue;
        };
        assert_eq!(kind, row.kind, "{row:?}");
        assert!(seen.contains(&owned(&row.labels)), "{row:?}: {seen:?}");
    }
}

/// What Prometheus answers.
fn ask(prometheus: &Prometheus<'_>, expression: &str) -> Vec<(Value, f64)> {
    let mut query = String::new();
    for byte in expression.bytes() {
        query.push_str(&format!("%{byte:02X}"));
    }
    let data = prometheus.get(&format!("query?query={query}"));
    let samples = data["result"].as_array().expect("a vector");
    samples
        .iter()
        .map(|sample| {
            let value = sample["value"][1].as_str().expect("a value");
            (sample["metric"].clone(), value.parse().expect(value))
        })
        .collect()
}

/// What of an answer is compared, with the values where these count.
fn found(answer: &[(Value, f64)], by: By, label: &str) -> BTreeMap<String, Option<f64>> {
    let ours = |name: &str| name.starts_with("shop-") || name.starts_with("other-");
    answer
        .iter()
        .filter_map(|(labels, value)| match by {
            By::Value | By::SameValue => Some((value.to_string(), None)),
            By::StateAndValue => Some((labels["state"].as_str()?.to_owned(), Some(*value))),
            By::Labels(..) => Some((labels[label].as_str()?.to_owned(), None)),
            By::Unit | By::UnitAndValue => {
                let name = labels["name"].as_str().filter(|name| ours(name))?;
                let value = matches!(by, By::UnitAndValue).then_some(*value);
                Some((name.to_owned(), value))
            }
        })
        .collect()
}

/// What a line of the health check printed, as if Prometheus had answered.
fn printed(machine: &Machine, line: &str, by: By) -> Vec<(Value, f64)> {
    // With no line found, grep's status is 1.
    let text = machine.try_run(&["bash", "-uc", line]).stdout;
    match by {
        By::Value => vec![(Value::Null, text.trim().parse().expect(&text))],
        _ => {
            let units = text.lines().filter_map(|l| l.split_whitespace().next());
            units
                .map(|unit| (serde_json::json!({ "name": unit }), 1.0))
                .collect()
        }
    }
}

/// Waits until the old and the new expression of a case find what they have to.
#[track_caller]
fn hold(machine: &Machine, prometheus: &Prometheus<'_>, case: &Case) {
    let blocks = blocks();
    let with = |key| blocks.iter().find(|block| block.is(key, case.id));
    let new = with("new")
        .or_else(|| with("same"))
        .unwrap_or_else(|| panic!("no expression {} on the page", case.id));
    let (old_label, new_label) = match case.by {
        By::Labels(old, new) => (old, new),
        _ => ("name", "name"),
    };
    let expected = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let keys = |found: &BTreeMap<String, Option<f64>>| -> BTreeSet<String> {
        found.keys().cloned().collect()
    };
    let what = format!("{} to be as the page says", case.id);
    wait_for(&what, PATIENCE, || {
        let new = found(&ask(prometheus, new.text), case.by, new_label);
        let old = with("old").map_or_else(
            || new.clone(),
            |block| {
                let answer = match block.language {
                    "sh" => printed(machine, block.text, case.by),
                    _ => ask(prometheus, block.text),
                };
                found(&answer, case.by, old_label)
            },
        );
        let as_expected = keys(&old) == expected(case.old) && keys(&new) == expected(case.new);
        let right = match case.by {
            By::SameValue => !new.is_empty() && old == new,
            By::UnitAndValue | By::StateAndValue => as_expected && old == new,
            By::Unit | By::Labels(..) | By::Value => as_expected,
        };
        if right {
            Ok(())
        } else {
            Err(format!("old {old:?}, new {new:?}"))
        }
    });
    if let Some(alerts) = new.word("alert").filter(|_| !case.new.is_empty()) {
        let alerts = alerts.replace(',', "|");
        let firing = format!("ALERTS{{alertname=~\"{alerts}\", alertstate=\"firing\"}}");
        wait_for(&format!("the alerts of {}", case.id), PATIENCE, || {
            let seen = ask(prometheus, &firing);
            let named = keys(&found(&seen, case.by, new_label));
            if named == expected(case.new) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
    }
}

const CONFIG: &str = "\
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/run/*.rules.yml]
scrape_configs:
  - {job_name: baseline-exporter, static_configs: [{targets: ['127.0.0.1:9990']}]}
  - {job_name: node, scrape_interval: 2s, scrape_timeout: 2s, static_configs: [{targets: ['127.0.0.1:9991']}]}
  - {job_name: redis, static_configs: [{targets: ['127.0.0.1:9121']}]}
  - {job_name: systemd-as-it-was, metrics_path: /metrics.txt, static_configs: [{targets: ['127.0.0.1:9558']}]}
  - job_name: systemd
    metrics_path: /metrics.txt
    static_configs: [{targets: ['127.0.0.1:9558']}]
";

const BASELINE: &str = "\
deployment: shop
systemd:
  watch: ['shop-*']
  resync: 1s
  running:
    - shop-web.service
    - shop-stopped.service
    - shop-gone.service
    - shop-broken.service
    - {name: shop-starting.service, start_within: 1s}
hostnames:
  - {name: shop_redis, addresses: [127.0.0.1]}
redis:
  - {name: shop, url: 'redis://127.0.0.1:6379/0'}
";

/// Units in every state that the page speaks of.
fn shop(machine: &Machine) {
    machine.stand_in("shop-web.service", "");
    // Stays in systemd's memory, and so in the old exporter, because of the target that wants it.
    machine.stand_in(
        "shop-stopped.service",
        "[Install]\nWantedBy=machine.target\n",
    );
    machine.stand_in(
        "shop-loops.service",
        "Restart=always\nRestartSec=300ms\n[Unit]\nStartLimitIntervalSec=0\n",
    );
    let after = std::time::Duration::from_millis(300);
    machine.behave("shop-loops.service", Behaviour::Exit { status: 1, after });
    machine.stand_in(
        "shop-starting.service",
        "Type=notify\nTimeoutStartSec=infinity\n",
    );
    machine.behave("shop-starting.service", Behaviour::Hang);
    let exits = |program: &str| format!("[Service]\nExecStart={program}\n");
    machine.unit("shop-broken.service", &exits("/bin/false"));
    machine.unit("other-broken.service", &exits("/bin/false"));
    machine.unit(
        "shop-backup.service",
        "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    );
    machine.unit(
        "shop-job.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    machine.unit(
        "shop-job.timer",
        "[Timer]\nOnActiveSec=0\nAccuracySec=1us\n",
    );
    machine.unit(
        "shop-later.timer",
        "[Timer]\nOnActiveSec=1d\nUnit=shop-job.service\n",
    );
    machine.unit(
        "shop-calls.socket",
        "[Socket]\nListenStream=127.0.0.1:7000\nAccept=yes\nMaxConnections=1\n",
    );
    machine.unit(
        "shop-calls@.service",
        "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n",
    );
    machine.sh("echo '127.0.0.1 shop_redis' >>/etc/hosts");
    machine.systemctl(&["enable", "--quiet", "shop-stopped.service"]);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&[
        "start",
        "redis-server.service",
        "shop-web.service",
        "shop-job.timer",
        "shop-later.timer",
        "shop-calls.socket",
    ]);
    machine.systemctl(&[
        "start",
        "--no-block",
        "shop-loops.service",
        "shop-starting.service",
        "shop-broken.service",
        "other-broken.service",
        "shop-backup.service",
    ]);
}

#[test]
fn what_the_page_says_holds_beside_the_other_exporters() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    shop(&machine);
    let node = [
        "/usr/bin/prometheus-node-exporter",
        "--web.listen-address=127.0.0.1:9991",
        "--collector.disable-defaults",
        "--collector.systemd",
        "--collector.systemd.enable-restarts-metrics",
        "--collector.systemd.enable-start-time-metrics",
        "--collector.systemd.enable-task-metrics",
    ];
    let node = Server::start(&machine, "node.service", "exporter", 9991, &node).unwrap();
    let redis = [
        "/usr/bin/prometheus-redis-exporter",
        "--web.listen-address=127.0.0.1:9121",
        "--ping-on-connect",
    ];
    let redis = Server::start(&machine, "redis.service", "exporter", 9121, &redis).unwrap();
    machine.write_file("/etc/baseline.yml", BASELINE);
    let exporter = machine.exporter(&["--config.file=/etc/baseline.yml"]);
    // Stands where systemd_exporter would; it has nothing to serve yet.
    let files = [
        "python3",
        "-m",
        "http.server",
        "--bind=127.0.0.1",
        "--directory=/run/systemd-exporter",
        "9558",
    ];
    machine.sh("mkdir /run/systemd-exporter");
    let _files = Server::start(&machine, "files.service", "exporter", 9558, &files).unwrap();

    machine.write_file("/run/baseline.rules.yml", &shorten(RULES, 60));
    let relabel = block("job", "systemd_exporter")
        .text
        .replace('\n', "\n    ");
    machine.write_file("/run/prometheus.yml", &format!("{CONFIG}    {relabel}\n"));
    let prometheus = Prometheus::start(
        &machine,
        Generation::V242,
        "/run/prometheus.yml",
        &["--rules.alert.for-grace-period=1s"],
    );

    // An increase is one over what was seen before.
    let socket = "systemd_socket_refused_connections_total";
    wait_for("both to have seen the socket", PATIENCE, || {
        match ask(
            &prometheus,
            &format!("{socket} and on (name) node_{socket}"),
        )[..]
        {
            [] => Err(prometheus.get("targets").to_string()),
            _ => Ok(()),
        }
    });
    // One connection is served for as long as it is open, the next one is refused.
    let _served = machine.connect(7000).unwrap();
    drop(machine.connect(7000).unwrap());

    let holds = |cases: &[Case]| {
        for case in cases {
            hold(&machine, &prometheus, case);
        }
    };
    holds(UNITS);
    let own = exporter.get("/metrics", &[]).text();
    hold_ours(&table("From systemd_exporter"), &own);
    let rows = table("From node_exporter's systemd collector");
    hold_ours(&rows, &own);
    let theirs = node.get("/metrics", &[]).text();
    let no_controller = [
        "node_systemd_unit_tasks_current",
        "node_systemd_unit_tasks_max",
    ];
    let newer = "node_systemd_virtualization_info";
    hold_theirs(&rows, &theirs, &[&no_controller[..], &[newer]].concat());
    for family in families(&theirs)
        .keys()
        .filter(|family| family.starts_with("node_systemd_"))
    {
        assert!(
            rows.iter().any(|row| row.name == family),
            "{family} is not on the page"
        );
    }
    let rows = table("From redis_exporter");
    hold_ours(&rows, &own);
    hold_theirs(&rows, &redis.get("/metrics", &[]).text(), &[]);

    stands_beside_systemd_exporter(&machine, &prometheus, &own);

    machine.run(&["redis-cli", "REPLICAOF", "127.0.0.1", "1"]);
    holds(REPLICA);
    machine.systemctl(&["stop", "redis-server.service"]);
    machine.sh("sed -i /shop_redis/d /etc/hosts");
    holds(REDIS_DOWN);
    bridges(&machine, &prometheus);
    machine.systemctl(&["stop", "dbus.socket", "dbus.service"]);
    holds(BLIND);
    assert_eq!(prometheus.server.complaints(), "");
}

/// Holds that the old names are recorded from the new series.
#[track_caller]
fn bridges(machine: &Machine, prometheus: &Prometheus<'_>) {
    let bridge = block("rules", "bridge").text;
    machine.write_file("/run/bridge.rules.yml", bridge);
    machine.signal(prometheus.server.pid(), Signal::HUP);
    let names = bridge
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "));
    // Without `type`, as the page says.
    let labels = |answer: &[(Value, f64)]| -> Option<BTreeSet<String>> {
        let labels = answer.first()?.0.as_object()?.keys();
        Some(labels.filter(|label| *label != "type").cloned().collect())
    };
    for name in names {
        let old = labels(&ask(prometheus, &format!("{name}{{job=~\"node|redis\"}}")));
        let recorded = format!("{name}{{job=\"baseline-exporter\"}}");
        wait_for(&format!("{recorded} to be recorded"), PATIENCE, || {
            let new = labels(&ask(prometheus, &recorded));
            match (&old, &new) {
                (Some(old), Some(new)) if old.is_subset(new) => Ok(()),
                _ => Err(format!("labels of the old {old:?}, of the new {new:?}")),
            }
        });
    }
    let failed = "node_systemd_unit_state{job=\"baseline-exporter\", state=\"failed\"} == 1";
    let failed = found(&ask(prometheus, failed), By::Unit, "name");
    assert_eq!(failed.keys().collect::<Vec<_>>(), FAILED);
}

/// Serves what systemd_exporter would, and holds that no rule takes it for this exporter's, and that
/// the page's relabelling leaves of it what only it has.
#[track_caller]
fn stands_beside_systemd_exporter(machine: &Machine, prometheus: &Prometheus<'_>, own: &str) {
    let rows = table("From systemd_exporter");
    let own = Metrics::parse(own);
    let mut text = "systemd_boot_time_seconds{stage=\"Finish\"} 1\n".to_owned();
    for row in &rows {
        if row.here().is_some_and(|(name, _)| name == row.name) {
            text.push_str(&own.lines(row.name));
        }
    }
    machine.write_file("/run/systemd-exporter/metrics.txt", &text);
    let names = |job: &str| -> BTreeSet<String> {
        let answer = ask(
            prometheus,
            &format!("{{job=\"{job}\", __name__=~\"systemd_.+\"}}"),
        );
        let names = answer
            .iter()
            .filter_map(|(labels, _)| labels["__name__"].as_str());
        names.map(str::to_owned).collect()
    };
    let served = Metrics::parse(&text).names();
    wait_for("what systemd_exporter serves", PATIENCE, || {
        let seen = (names("systemd-as-it-was"), names("systemd"));
        if seen
            == (
                served.clone(),
                BTreeSet::from(["systemd_boot_time_seconds".to_owned()]),
            )
        {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    wait_for("rules to have been evaluated with it", PATIENCE, || {
        let scrapes = "count_over_time(systemd_boot_time_seconds{job=\"systemd\"}[1m]) > 3";
        match ask(prometheus, scrapes)[..] {
            [] => Err("three scrapes or fewer".to_owned()),
            _ => Ok(()),
        }
    });
    let made_of_it = "{job=~\"systemd.*\", __name__!~\"systemd_.+|up|scrape_.+\"}";
    assert_eq!(ask(prometheus, made_of_it), []);
}

#[test]
fn every_expression_is_held_by_a_case() {
    let cases: Vec<_> = [UNITS, REPLICA, REDIS_DOWN, BLIND].concat();
    for block in blocks() {
        let Some(id) = ["old", "new", "same"]
            .iter()
            .find_map(|key| block.word(key))
        else {
            continue;
        };
        let Some(case) = cases.iter().find(|case| case.id == id) else {
            panic!("no case holds {id}");
        };
        if block.word("new").is_some() {
            let differs = block.words.contains(&"differs");
            assert_eq!(differs, case.old != case.new, "{id}");
        }
    }
}

#[test]
fn every_promtool_reads_every_expression() {
    let mut rules = "groups:\n  - name: page\n    rules:\n".to_owned();
    let blocks = blocks();
    for block in blocks.iter().filter(|block| block.language == "promql") {
        let text = block.text.replace('\n', "\n          ");
        let word = block.words[0];
        rules.push_str(&format!(
            "      - record: page:expression\n        expr: |\n          {text}\n        labels: {{word: {word}}}\n"
        ));
    }
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.yml");
    let bridge = directory.path().join("bridge.yml");
    std::fs::write(&page, rules).unwrap();
    std::fs::write(&bridge, block("rules", "bridge").text).unwrap();
    for generation in Generation::ALL {
        let checked = Command::new(generation.on_host("promtool"))
            .args(["check", "rules", "--lint-fatal"])
            .args([&page, &bridge])
            .output()
            .unwrap();
        assert!(checked.status.success(), "{generation:?}: {checked:?}");
    }
}

#[test]
fn the_page_names_alerts_and_checks_that_there_are() {
    let alerts = PAGE.split(|c: char| !c.is_ascii_alphanumeric());
    for alert in alerts.filter(|word| word.starts_with("Baseline")) {
        assert!(
            RULES.contains(&format!("- alert: {alert}\n")),
            "there is no alert {alert}"
        );
    }
    let checks = Metrics::parse(GOLDEN).by_label("baseline_check", "check");
    let (_, lines) = PAGE.split_once("\n## From a health check").unwrap();
    for check in checks.keys() {
        let named = format!("`{check}`");
        assert!(
            lines.contains(&named),
            "no line of the health check is {check}"
        );
    }
}
