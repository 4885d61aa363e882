//! A baseline learned from a healthy host: what it holds, what it keeps to itself, and how it differs
//! from the host later.

use std::collections::BTreeMap;

use crate::healthy::fed;
use crate::machine::{Machine, Output, Systemd};
use crate::wait::{PATIENCE, wait_for};

const LEARNED: &str = "/etc/learned.yml";
const FILE: &str = "--config.file=/etc/learned.yml";

/// The units of a shop, one of each kind.
const UNITS: [(&str, &str); 17] = [
    (
        "shop.target",
        "[Unit]\nWants=shop-ghost.service shop-stay.service\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "shop-web.service",
        "[Unit]\nAfter=shop-ghost.service shop-elsewhere.service\n\
         [Service]\nUser=nobody\nExecStart=/bin/sleep infinity\nReadWritePaths=/shop/written\n\
         Environment=\"DB_URL=postgres://planted:planted@db_host:5432/planted?key=planted\" \
         'API_HOST_TOKEN=planted' SECRET_HOST=planted DB_PASSWORD=planted\n\
         Environment=HOOK_URL=https://user:planted/planted@planted/x \"GREETING=planted host\"\n\
         Environment=CACHE_HOST=planted LOST_HOST=planted-and-unknown\n\
         EnvironmentFile=/etc/shop.env\nEnvironmentFile=-/etc/missing.env\n\
         [Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-a\\x2db.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-dynamic.service",
        "[Service]\nDynamicUser=yes\nStateDirectory=shop-dynamic\nExecStart=/bin/sleep infinity\n\
         Environment=REDIS_URL=redis://:planted@cache:6379/3\n\
         [Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-pool@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-prepare.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-stay.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    ),
    (
        "shop-job.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    ),
    (
        "shop-job.timer",
        "[Timer]\nOnActiveSec=1h\n[Install]\nWantedBy=timers.target\n",
    ),
    (
        "shop-calls.socket",
        "[Socket]\nListenStream=127.0.0.1:7000\nAccept=yes\n[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "shop-calls@.service",
        "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n",
    ),
    ("shop-drop.path", "[Path]\nPathExists=/shop/dropped\n"),
    ("shop-drop.service", "[Service]\nExecStart=/bin/true\n"),
    (
        "shop-data.mount",
        "[Mount]\nWhat=tmpfs\nWhere=/shop/data\nType=tmpfs\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "shop-off.service",
        "[Service]\nExecStart=/bin/true\nEnvironment=OFF_HOST=planted\n\
         [Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-skipped.service",
        "[Unit]\nConditionPathExists=/none\n[Service]\nExecStart=/bin/true\n\
         [Install]\nWantedBy=shop.target\n",
    ),
    (
        "shop-cannot.service",
        "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=shop.target\n",
    ),
];

/// Every way to write a value, so that each is learned only if it is read as systemd reads it.
const ENVIRONMENT: &str = "# QUOTED_HOST=planted\n; QUOTED_HOST=planted\nno assignment\n\
    # to be continued, some say \\\nAFTER_HOST=planted-and-unknown\n\
    CACHE_HOST  =  'cache'  \nQUOTED_HOST=\"data\"\"base\"\nREDIS_HOST=ca\\\nche\n\
    REDIS_PORT=\"63\\\n79\"\nFREE_TEXT=\"planted \\\"planted\\\"\"\n";

const CHANGED: [&str; 5] = [
    "+ running: shop-new.service (runs, the baseline does not name it)",
    "- running: shop-web.service (does not run)",
    "- absent: shop-ghost.service (exists now)",
    "~ hostnames: db_host (127.0.0.9 now, the baseline says 127.0.0.8)",
    "~ redis: cache:6379 (redis://cache:6380 now, the baseline says redis://cache:6379)",
];

impl Machine {
    #[track_caller]
    fn shop(&self) {
        for (name, text) in UNITS {
            self.unit(name, text);
        }
        self.write_file("/etc/shop.env", ENVIRONMENT);
        self.sh("mkdir -p /shop/written /shop/data
            chown nobody /shop/written
            ln -s /dev/null /etc/systemd/system/shop-masked.service
            cat >>/etc/hosts <<'END'
127.0.0.1 cache
127.0.0.1 planted
127.0.0.7 database
127.0.0.8 db_host
END
            systemctl daemon-reload
            systemctl enable --quiet shop.target shop-web.service 'shop-a\\x2db.service' \\
                shop-dynamic.service shop-pool@1.service shop-prepare.service shop-job.timer \\
                shop-calls.socket shop-data.mount shop-skipped.service
            systemctl start redis-server.service shop.target shop-job.timer shop-calls.socket \\
                shop-drop.path shop-data.mount shop-pool@2.service");
        self.wait_until_active(&["shop-web.service", "shop-dynamic.service", "redis-server"]);
        wait_for("shop-prepare.service to be done", PATIENCE, || {
            match self
                .property("shop-prepare.service", "ExecMainCode")
                .as_str()
            {
                "1" => Ok(()),
                code => Err(code.to_owned()),
            }
        });
    }
}

/// What `learn` wrote, which planted no secret anywhere.
#[track_caller]
fn text_of(learned: &Output) -> &str {
    assert_eq!(learned.status.code(), Some(0), "{learned}");
    for said in [&learned.stdout, &learned.stderr] {
        assert!(!said.contains("planted"), "{learned}");
    }
    &learned.stdout
}

/// The names in the lists of section `systemd`, and what stands after each in its entry.
fn lists(text: &str) -> BTreeMap<&str, BTreeMap<String, String>> {
    let mut lists: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    let mut list = "";
    let mut name = String::new();
    let systemd = text.split_once("\nsystemd:\n").unwrap().1;
    for line in systemd.split("\n\n#").next().unwrap().lines() {
        if let Some(key) = line.strip_prefix("  ").and_then(|l| l.strip_suffix(':')) {
            list = key;
        } else if let Some(entry) = line.strip_prefix("    - ") {
            let entry = entry.trim_start_matches("name: ");
            let (unit, remark) = entry.split_once("  # ").unwrap_or((entry, ""));
            name = unit.to_owned();
            let names = lists.entry(list).or_default();
            names.insert(name.clone(), remark.to_owned());
        } else if let Some(because) = line.strip_prefix("      because: ") {
            let names = lists.get_mut(list).unwrap();
            names.insert(name.clone(), because.trim_matches('"').to_owned());
        }
    }
    lists
}

#[test]
fn a_learned_baseline_holds_on_252() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.shop();
    let text = round_trip(&machine);
    holds_all_kinds(&machine, &text);
    without_a_pattern(&machine);
    five_changes_are_five_lines(&machine);
    trouble_is_not_learned(&machine);
    without_a_bus(&machine);
}

#[test]
fn a_learned_baseline_holds_on_257() {
    let Some(machine) = Machine::boot(Systemd::V257) else {
        return;
    };
    machine.shop();
    let text = round_trip(&machine);
    holds_all_kinds(&machine, &text);
}

/// What was learned holds, in the words of every command.
fn round_trip(machine: &Machine) -> String {
    let call = machine.connect(7000).unwrap();
    wait_for("a connection to be served", PATIENCE, || {
        let connections = machine.property("shop-calls.socket", "NConnections");
        (connections == "1").then_some(()).ok_or(connections)
    });
    let learned = machine.learn(&["--match=shop*"]);
    let text = text_of(&learned).to_owned();
    assert_eq!(
        learned.stderr.lines().next(),
        Some(
            "learned: deployment shop, 7 running, 5 active, 2 absent, 3 disabled, 1 watch pattern, \
             0 retired, 3 hostnames, 1 redis endpoint, 0 write paths"
        ),
        "{learned}"
    );
    drop(call);
    wait_for("the connection to end", PATIENCE, || {
        let connections = machine.property("shop-calls.socket", "NConnections");
        (connections == "0").then_some(()).ok_or(connections)
    });
    let again = machine.learn(&["--match=shop*"]);
    assert_eq!(text_of(&again), text, "the connection left no trace");

    machine.write_file(LEARNED, &text);
    let rules = "{extends: default, rules: {line-length: disable, document-start: disable}}";
    assert_eq!(fed("yamllint", &["--strict", "-d", rules, "-"], &text), "");
    let check = machine.check(&[FILE, "--config.check"]);
    assert_eq!(check.status.code(), Some(0), "{check}");
    let check = machine.check(&[FILE]);
    assert_eq!(check.status.code(), Some(0), "{check}");
    let diff = machine.learn(&["--diff", FILE]);
    assert_eq!(diff.status.code(), Some(0), "{diff}");
    assert_eq!(diff.stdout, "", "{diff}");
    text
}

fn holds_all_kinds(machine: &Machine, text: &str) {
    let lists = lists(text);
    let names = |list: &str| lists[list].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        names("running"),
        [
            "shop-a\\x2db.service",
            "shop-dynamic.service",
            "shop-pool@1.service",
            "shop-pool@2.service",
            "shop-prepare.service",
            "shop-stay.service",
            "shop-web.service",
        ]
    );
    assert_eq!(
        names("active"),
        [
            "shop-calls.socket",
            "shop-data.mount",
            "shop-drop.path",
            "shop-job.timer",
            "shop.target",
        ]
    );
    assert_eq!(
        names("absent"),
        ["shop-elsewhere.service", "shop-ghost.service"]
    );
    assert_eq!(
        lists["absent"]["shop-ghost.service"],
        "named by shop-web.service (After), shop.target (Wants), has no unit file"
    );
    let disabled: Vec<_> = lists["disabled"]
        .iter()
        .map(|(name, why)| (name.as_str(), why.as_str()))
        .collect();
    assert_eq!(
        disabled,
        [
            ("shop-cannot.service", "disabled, and not running"),
            ("shop-masked.service", "masked"),
            ("shop-off.service", "disabled, and not running"),
        ]
    );
    for said in [
        "\ndeployment: shop\n",
        "    - shop-prepare.service  # a oneshot whose last run ended well\n",
        "  #   shop-drop.service: static, not running, started by shop-drop.path\n",
        "  #   shop-job.service: static, not running, started by shop-job.timer\n",
        "  #   shop-skipped.service: enabled, not running, started by shop.target; a condition of its \
         unit file did not hold\n",
        "  # from CACHE_HOST, REDIS_HOST, REDIS_URL of shop-dynamic.service, shop-web.service\n\
         \x20 - name: cache\n    addresses: [127.0.0.1]\n\
         \x20   used_by: [shop-dynamic.service, shop-web.service]\n",
        "  # from QUOTED_HOST of shop-web.service\n  - name: database\n    addresses: [127.0.0.7]\n",
        "  # from DB_URL of shop-web.service\n  - name: db_host\n    addresses: [127.0.0.8]\n",
        "LOST_HOST of shop-web.service\n",
        "  - name: cache:6379\n    url: redis://cache:6379\n",
        "#   shop-dynamic.service declares /var/lib/shop-dynamic\n",
        "#   shop-web.service declares /shop/written\n",
    ] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
    // What learn read of the file is what systemd made of it.
    let pid = machine.property("shop-web.service", "MainPID");
    let environment = machine.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ"));
    for assignment in [
        "CACHE_HOST=cache",
        "QUOTED_HOST=database",
        "REDIS_HOST=cache",
        "REDIS_PORT=6379",
        "DB_URL=postgres://planted:planted@db_host:5432/planted?key=planted",
    ] {
        assert!(
            environment.lines().any(|line| line == assignment),
            "{assignment} is not in\n{environment}"
        );
    }
    assert_eq!(
        text.contains("AFTER_HOST"),
        environment.contains("AFTER_HOST"),
        "{text}\n{environment}"
    );
}

/// The administrator's own units are those of the shop.
fn without_a_pattern(machine: &Machine) {
    let learned = machine.learn(&[]);
    let text = text_of(&learned);
    let first = learned.stderr.lines().next().unwrap();
    let mut wanted: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
    let taken = first.split_once(": ").expect("the units taken").1;
    let mut taken: Vec<&str> = taken.split(", ").collect();
    taken.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(taken, wanted, "{first}");
    assert!(text.contains("\ndeployment: shop\n"), "{text}");
    assert!(text.contains("    - shop-pool@*.service\n"), "{text}");
    assert!(text.contains("    - shop-pool@1.service\n"), "{text}");
}

fn five_changes_are_five_lines(machine: &Machine) {
    machine.unit("shop-ghost.service", "[Service]\nExecStart=/bin/true\n");
    machine.unit(
        "shop-new.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    machine.sh("systemctl daemon-reload
        systemctl stop shop-web.service redis-server.service
        systemctl start shop-new.service
        sed -i s/127.0.0.8/127.0.0.9/ /etc/hosts
        echo REDIS_PORT=6380 >>/etc/shop.env
        sed -i 's/cache:6379/cache:6380/' /etc/systemd/system/shop-dynamic.service
        systemctl daemon-reload
        systemd-run --quiet --unit=moved redis-server --port 6380 --save ''");
    wait_for("the other Redis to answer", PATIENCE, || {
        let pong = machine.try_run(&["redis-cli", "-p", "6380", "PING"]);
        if pong.stdout == "PONG\n" {
            Ok(())
        } else {
            Err(pong.to_string())
        }
    });
    let diff = machine.learn(&["--diff", FILE]);
    assert_eq!(diff.status.code(), Some(1), "{diff}");
    assert_eq!(diff.stdout.lines().collect::<Vec<_>>(), CHANGED, "{diff}");
    assert!(!diff.stderr.contains("planted"), "{diff}");
}

fn trouble_is_not_learned(machine: &Machine) {
    machine.unit("shop-bad.service", "[Service]\nExecStart=/bin/false\n");
    machine.unit(
        "shop-loop.service",
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Service]\nExecStart=/bin/sleep 0.5\nRestart=always\nRestartSec=100ms\n",
    );
    machine.unit(
        "shop-fails.socket",
        "[Socket]\nListenStream=127.0.0.1:7001\nAccept=yes\n",
    );
    machine.unit("shop-fails@.service", "[Service]\nExecStart=/bin/false\n");
    machine.systemctl(&["daemon-reload"]);
    machine.try_run(&[
        "systemctl",
        "start",
        "shop-bad.service",
        "shop-loop.service",
        "shop-fails.socket",
    ]);
    drop(machine.connect(7001).unwrap());
    wait_for("the connection to fail", PATIENCE, || {
        let failed = machine.systemctl(&["list-units", "--failed", "shop-fails@*"]);
        if failed.contains("shop-fails@") {
            Ok(())
        } else {
            Err(failed)
        }
    });
    wait_for("a loop", PATIENCE, || {
        let restarts = machine.property("shop-loop.service", "NRestarts");
        if restarts.parse::<u32>().unwrap() >= 2 {
            Ok(())
        } else {
            Err(restarts)
        }
    });
    let refused = machine.learn(&["--match=shop*"]);
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    assert_eq!(refused.stdout, "", "{refused}");
    let said: Vec<_> = refused.stderr.lines().collect();
    assert_eq!(said.len(), 4, "{refused}");
    assert!(
        said[0].starts_with("shop-bad.service failed (result exit-code"),
        "{refused}"
    );
    assert!(
        said[1].starts_with("shop-fails@0-127.0.0.1:7001-") && said[1].contains(" failed ("),
        "{refused}"
    );
    assert!(
        said[2].starts_with("shop-loop.service restarts again and again"),
        "{refused}"
    );
    assert!(said[3].starts_with("nothing was learned: "), "{refused}");

    let forced = machine.learn(&["--match=shop*", "--force"]);
    let text = text_of(&forced);
    for said in [
        "\n  #   shop-bad.service failed (result exit-code",
        "\n  #   shop-fails@0-127.0.0.1:7001-",
        "\n  #   shop-loop.service restarts again and again",
    ] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
    for (list, names) in lists(text) {
        for name in ["shop-bad.service", "shop-loop.service"] {
            assert!(!names.contains_key(name), "{name} is in {list}");
        }
    }
    machine.write_file(LEARNED, text);
    let check = machine.check(&[FILE, "--config.check"]);
    assert_eq!(check.status.code(), Some(0), "{check}");
}

fn without_a_bus(machine: &Machine) {
    for args in [&["learn", "--match=shop*"][..], &["learn", "--diff", FILE]] {
        let without = [
            "env",
            "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/none",
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "baseline-exporter",
        ];
        let told = machine.try_run(&[&without, args].concat());
        assert_eq!(told.status.code(), Some(2), "{told}");
        assert_eq!(told.stdout, "", "{told}");
        assert!(told.stderr.contains("cannot reach systemd"), "{told}");
    }
    let nothing = machine.learn(&["--match=nothing-*"]);
    assert_eq!(nothing.status.code(), Some(2), "{nothing}");
    assert!(
        nothing.stderr.contains("no unit matches nothing-*"),
        "{nothing}"
    );
}
