//! What happens to any host, and is repaired by the rest of the runbook.

use crate::machine::{Machine, Systemd};
use crate::replay::{BASELINE, Replay, deployment, page, ticket};
use crate::wait::{PATIENCE, wait_for};
use crate::world::Behaviour;

const BRAIN: &str = "quantum-ceo-brain.service";
const EXECUTION: &str = "quantum-execution.service";
const OPS: &str = "quantum-strategy-ops.service";
const PUBLISHER: &str = "quantum-market-publisher.service";
const RISK: &str = "quantum-risk-brain.service";
const SIZER: &str = "quantum-rl-sizer.service";
const STRATEGY: &str = "quantum-strategy-brain.service";
const TRAINER: &str = "quantum-rl-feedback-v2.service";

#[test]
fn units_are_treated_carelessly() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.expect_to_start_within_five_seconds(SIZER);
    machine.stand_in(SIZER, "[Service]\nType=notify\nTimeoutStartSec=infinity\nTimeoutStopSec=infinity\n[Install]\nWantedBy=quantum-trader.target\n");
    machine.unit(
        "quantum-backup.service",
        "[Service]\nType=oneshot\nExecStart=/bin/test -e /run/backup\n",
    );
    machine.write_file("/run/backup", "");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["restart", SIZER, "quantum-backup.service"]);
    let snapshot = "/root/snapshot";
    machine.append_to_baseline(&format!("unit_files:\n  snapshot: {snapshot}\n"));
    machine.snapshot(&["take", snapshot]);

    let mut replay = Replay::start("stuck, failed job, reload, disabled, drift", &machine);
    replay.knows("SNAPSHOT", snapshot);
    replay.inject(|machine| {
        machine.behave(SIZER, Behaviour::Hang);
        machine.systemctl(&["restart", "--no-block", SIZER]);
        machine.sh("rm /run/backup");
        machine.try_run(&["systemctl", "start", "quantum-backup.service"]);
        machine.systemctl(&["disable", "--quiet", RISK]);
        machine.sh(&format!(
            "sed -i s/RestartSec=2/RestartSec=4/ /etc/systemd/system/{BRAIN}"
        ));
    });
    replay.pages(&[
        page("BaselineUnitStuck", "quantum-rl-sizer", "").naming(&["activating"]),
        ticket("BaselineJobFailed", "quantum-backup", ""),
        ticket("BaselineUnitNotRestartable", "quantum-risk-brain", "").naming(&["disabled"]),
        ticket("BaselineDaemonReloadNeeded", "systemd", "").naming(&[BRAIN]),
        ticket("BaselineUnitFileDrift", "unit-files", "").naming(&[BRAIN]),
    ]);
    replay.repair(|machine| {
        machine.behave(SIZER, Behaviour::Run);
        machine.write_file("/run/backup", "");
    });
    replay.fix("kill-and-restart", &[("UNIT", SIZER)]);
    replay.fix("run-job", &[("UNIT", "quantum-backup.service")]);
    replay.fix("daemon-reload", &[]);
    replay.fix("enable-unit", &[("UNIT", RISK)]);
    // The longer pause was meant.
    replay.fix(
        "snapshot-take",
        &[("SNAPSHOT", snapshot), ("CONFIG", BASELINE)],
    );
    replay.resolved();
}

impl Machine {
    /// Gives a service that runs less time for its start.
    #[track_caller]
    fn expect_to_start_within_five_seconds(&self, service: &str) {
        let text = self.read_file(BASELINE);
        let item = format!("    - {service}\n");
        assert!(text.contains(&item));
        let shorter = format!("    - {{name: {service}, start_within: 5s}}\n");
        self.write_file(BASELINE, &text.replace(&item, &shorter));
    }
}

#[test]
fn redis_cannot_save() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let mut replay = Replay::start("Redis cannot save", &machine);
    replay.inject(|machine| {
        machine.sh("chown root:root /var/lib/redis; chmod 755 /var/lib/redis
            redis-cli SET last 1; redis-cli BGSAVE");
    });
    replay.pages(&[page(
        "BaselineRedisDown",
        "redis-quantum",
        "redis quantum: misconf",
    )]);
    replay.fix(
        "ownership-directory",
        &[
            ("UNIT", "redis-server.service"),
            ("DIR", "/var/lib/redis"),
            ("USER_OF_UNIT", "redis"),
        ],
    );
    replay.fix("redis-save", &[]);
    replay.resolved();
}

const DNSMASQ: &str = "/usr/sbin/dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null \
    --listen-address=127.0.0.1 --bind-interfaces --user=root --pid-file= --host-record=cache.test,127.0.0.9";

#[test]
fn redis_is_a_replica_a_name_is_overridden_and_a_snapshot_is_hidden() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    machine.write_file("/etc/nsswitch.conf", "hosts: files dns\n");
    machine.write_file("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    machine.unit(
        "names.service",
        &format!("[Service]\nExecStart={DNSMASQ}\n"),
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "names.service"]);
    wait_for("dnsmasq to answer", PATIENCE, || {
        let answer = machine.try_run(&["getent", "ahosts", "cache.test"]);
        let answers = answer.status.success();
        answers.then_some(()).ok_or_else(|| answer.to_string())
    });
    machine.append_to_list("hostnames", "{name: cache.test, addresses: [127.0.0.9]}");
    let snapshot = "/var/lib/snapshot";
    machine.append_to_baseline(&format!("unit_files:\n  snapshot: {snapshot}\n"));
    machine.snapshot(&["take", snapshot]);
    machine.sh(&format!("chmod 755 {snapshot}"));

    let name = "Redis a replica, name overridden, snapshot hidden";
    let mut replay = Replay::start_as("exporter", name, &machine);
    replay.inject(|machine| {
        machine.run(&["redis-cli", "-e", "REPLICAOF", "127.0.0.1", "6380"]);
        machine.sh(&format!(
            "echo 10.99.0.7 cache.test >>/etc/hosts; chmod 700 {snapshot}"
        ));
    });
    replay.pages(&[
        page(
            "BaselineRedisNotWritable",
            "redis-quantum",
            "redis quantum: read only",
        ),
        ticket(
            "BaselineHostnameUnexpected",
            "cache.test",
            "hostname cache.test has a wrong address",
        ),
        ticket("BaselineCheckUnknown", "baseline-exporter", "").naming(&["unit_files"]),
    ]);
    replay.fix("redis-promote", &[]);
    replay.fix("hosts-alias-remove", &[("NAME", "cache.test")]);
    replay.repair(|machine| {
        machine.sh(&format!("chmod 755 {snapshot}"));
    });
    replay.resolved();
}

#[test]
fn directories_and_sandboxes_change_under_running_services() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let (missing, immutable, moved, forbidden) = (
        "/srv/missing",
        "/srv/immutable",
        "/srv/moved",
        "/srv/forbidden",
    );
    machine.sh("install -d -o qt /srv/missing /srv/immutable /srv/moved /srv/forbidden");
    let strict = "User=qt\nProtectSystem=strict\nExecStart=/bin/sleep infinity";
    machine.program(BRAIN, "User=qt\nExecStart=/bin/sleep infinity");
    machine.program(RISK, "User=qt\nExecStart=/bin/sleep infinity");
    machine.program(OPS, &format!("{strict}\nReadWritePaths={moved}"));
    machine.program(STRATEGY, &format!("{strict}\nReadWritePaths={forbidden}"));
    for (unit, path) in [
        (BRAIN, missing),
        (RISK, immutable),
        (OPS, moved),
        (STRATEGY, forbidden),
    ] {
        machine.append_to_list("write_paths", &format!("{{unit: {unit}, paths: [{path}]}}"));
    }
    let mut replay = Replay::start("write paths change under running services", &machine);
    replay.inject(|machine| {
        machine.sh(&format!(
            "rmdir {missing}
            chattr +i {immutable}
            mv {moved} {moved}.old; install -d -o qt {moved}
            sed -i /ReadWritePaths=/d /etc/systemd/system/{STRATEGY}; systemctl daemon-reload"
        ));
    });
    replay.pages(&[
        page(
            "BaselineWritePathDenied",
            "quantum-ceo-brain",
            "write path /srv/missing missing",
        ),
        page(
            "BaselineWritePathDenied",
            "quantum-risk-brain",
            "write path /srv/immutable immutable",
        ),
        page(
            "BaselineWritePathNeedsRestart",
            "quantum-strategy-ops",
            "write path /srv/moved read only",
        ),
        ticket("BaselineWritePathNextStart", "quantum-strategy-brain", "")
            .naming(&["/srv/forbidden (read only)"]),
    ]);
    replay.fix(
        "missing-directory",
        &[("UNIT", BRAIN), ("DIR", missing), ("USER_OF_UNIT", "qt")],
    );
    replay.fix("immutable", &[("DIR", immutable)]);
    replay.fix("reload-and-restart", &[("UNIT", OPS)]);
    replay.fix(
        "read-write-paths",
        &[("UNIT", STRATEGY), ("DIR", forbidden)],
    );
    replay.resolved();
}

#[test]
fn programs_miss_what_they_need() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let python =
        |program: &str| format!("ExecStart=/usr/bin/python3 -c \"{program}\"\nRestartSec=2s");
    machine.sh(
        "useradd --system --user-group --shell /usr/sbin/nologin trader; install -d /srv/models",
    );
    machine.program(TRAINER, "User=trader\nExecStart=/bin/sleep infinity");
    machine.program(
        PUBLISHER,
        "BindPaths=/srv/models\nExecStart=/bin/sleep infinity",
    );
    let mut replay = Replay::start("account, mount, memory, descriptors, server gone", &machine);
    replay.inject(|machine| {
        machine.sh(&format!(
            "sed -i /^trader:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow; systemctl kill {TRAINER}
            rmdir /srv/models; systemctl kill {PUBLISHER}"
        ));
        machine.program(
            BRAIN,
            &format!("LimitAS=256M\n{}", python("import time; held = bytearray(1000000000); time.sleep(1000000)")),
        );
        machine.program(
            RISK,
            &format!("LimitNOFILE=16\n{}", python("import time; held = [open('/dev/null') for _ in range(32)]; time.sleep(1000000)")),
        );
        machine.program(
            EXECUTION,
            &python("import socket, time; held = socket.create_connection(('127.0.0.1', 7001)); time.sleep(1000000)"),
        );
    });
    let loops = |service, cause| page("BaselineUnitRestartLoop", service, cause);
    replay.pages(&[
        loops("quantum-rl-feedback-v2", "user").naming(&["217/USER"]),
        loops("quantum-market-publisher", "namespace").naming(&["226/NAMESPACE"]),
        loops("quantum-ceo-brain", "out of memory"),
        loops("quantum-risk-brain", "too many files"),
        loops("quantum-execution", "connection refused"),
    ]);
    replay.fix(
        "make-user",
        &[("UNIT", TRAINER), ("USER_OF_UNIT", "trader")],
    );
    replay.fix(
        "missing-directory",
        &[
            ("UNIT", PUBLISHER),
            ("DIR", "/srv/models"),
            ("USER_OF_UNIT", "root"),
        ],
    );
    for unit in [BRAIN, RISK, EXECUTION] {
        replay.repair(|machine| machine.program(unit, "ExecStart=/bin/sleep infinity"));
        replay.fix("restart-unit", &[("UNIT", unit)]);
    }
    replay.resolved();
}
