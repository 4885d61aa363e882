//! One cause, one page: what many services depend on breaks.

use crate::faults;
use crate::machine::Systemd;
use crate::replay::{REPOSITORY, Replay, deployment, page, ticket};
use crate::wait::{PATIENCE, wait_for};
use crate::world::RUNNING;

#[test]
fn redis_stops_and_all_its_clients_loop() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    for service in RUNNING {
        machine.program(service, "ExecStart=asks-redis\nRestartSec=2s");
    }
    let mut replay = Replay::start("Redis stops, 12 clients loop", &machine);
    replay.inject(faults::stop_redis);
    replay.pages(&[page(
        "BaselineRedisDown",
        "redis-quantum",
        "redis quantum: refused",
    )
    .naming(&RUNNING)]);
    replay.stays_so();
    replay.dashboard_shows(&[RUNNING[0], "restart loop", "BaselineRedisDown", "violated"]);
    replay.fix("redis-start", &[("REDIS", "redis-server.service")]);
    replay.resolved();
}

#[test]
fn a_redis_is_full() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let mut replay = Replay::start("Redis refuses writes", &machine);
    replay.inject(|machine| {
        machine.run(&["redis-cli", "CONFIG", "SET", "maxmemory", "100kb"]);
    });
    replay.pages(&[page(
        "BaselineRedisNotWritable",
        "redis-quantum",
        "redis quantum: out of memory",
    )]);
    replay.fix("redis-memory", &[("MAXMEMORY", "1gb")]);
    replay.resolved();
}

#[test]
fn l13_redis_was_restarted_and_a_client_did_not_notice() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    // Two that keep their connections, and do not look whether somebody is at the other end.
    let client = "quantum-position-monitor.service";
    machine.write_program(
        "/usr/local/bin/keeps-a-connection",
        b"#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/6379 || exit 1\nexec sleep infinity\n",
    );
    machine.program(client, "ExecStart=keeps-a-connection");
    let mut replay = Replay::start("L13 Redis younger than its clients", &machine);
    // What is usual has to be known: for four times as long as it then takes to fire.
    let query = "query?query=count_over_time(baseline_redis_connected_clients%5B6h%5D)";
    wait_for("some history", PATIENCE * 4, || {
        let samples = &replay.stack.prometheus.get(query)["result"][0]["value"][1];
        match samples.as_str().and_then(|count| count.parse().ok()) {
            Some(150..) => Ok(()),
            count => Err(format!("{count:?} samples")),
        }
    });
    replay.inject(|machine| {
        machine.systemctl(&["restart", "redis-server.service"]);
    });
    replay.pages(&[ticket("BaselineRedisClientsLost", "redis-quantum", "").naming(&[client])]);
    replay.fix("restart-units", &[("UNITS", &RUNNING.join(" "))]);
    replay.resolved();
}

#[test]
fn a_disk_is_full() {
    let Some(machine) = deployment(Systemd::V252) else {
        return;
    };
    let (logs, runtime) = (
        format!("{REPOSITORY}/logs"),
        format!("{REPOSITORY}/runtime"),
    );
    machine.sh(&format!("mount -t tmpfs -o size=1m tmpfs {REPOSITORY}; mkdir -p {logs} {runtime}; chown -R qt:qt {REPOSITORY}"));
    for service in [
        "quantum-portfolio-intelligence.service",
        "quantum-execution.service",
    ] {
        machine.program(service, &format!("User=qt\nExecStart=writes {runtime}"));
    }
    let mut replay = Replay::start("full disk", &machine);
    replay.inject(|machine| {
        machine.try_run(&["dd", "if=/dev/zero", &format!("of={logs}/core"), "bs=64k"]);
        machine.try_run(&["dd", "if=/dev/zero", &format!("of={logs}/core2"), "bs=1"]);
    });
    replay.pages(&[page("BaselineDiskFull", "disk", "disk full").naming(&[
        &runtime,
        &logs,
        "quantum-execution.service",
    ])]);
    replay.stays_so();
    replay.fix("free-journal", &[]);
    replay.fix("free-file", &[("FILE", &format!("{logs}/core"))]);
    replay.resolved();
}

#[test]
fn one_unit_fails_and_another_requires_it() {
    let Some(machine) = deployment(Systemd::V257) else {
        return;
    };
    let (brain, ops) = (
        "quantum-strategy-brain.service",
        "quantum-strategy-ops.service",
    );
    machine.program(
        ops,
        &format!("ExecStart=/bin/sleep infinity\n[Unit]\nBindsTo={brain}\nAfter={brain}"),
    );
    let mut replay = Replay::start("required unit failed", &machine);
    replay.inject(|machine| {
        machine.program(brain, "ExecStart=/bin/false\nRestart=no");
    });
    replay.pages(&[page("BaselineUnitFailed", "quantum-strategy-brain", "")]);
    replay.stays_so();
    replay.repair(|machine| machine.program(brain, "ExecStart=/bin/sleep infinity"));
    replay.fix("start-again", &[("UNIT", ops)]);
    replay.resolved();
}
