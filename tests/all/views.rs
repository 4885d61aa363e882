//! What the exporter does not see without privilege, and that it is told with what would show it.

use serde_json::Value;

use crate::machine::{Machine, Systemd};

/// What the packaged unit keeps from the exporter, and the level that gives it back.
const PRIVATE: &str = "[Service]\nPrivateTmp=yes\nPrivateDevices=yes\n";
const SHARED_TMP: &str = include_str!("../../deploy/systemd/levels/shared-tmp.conf");

const BASELINE: &str = "/etc/views.yml";
const ARGS: [&str; 2] = ["--config.file=/etc/views.yml", "--output=json"];

#[test]
fn each_view_is_told_with_what_shows_it_on_252() {
    each_view_is_told_with_what_shows_it(Systemd::V252);
}

#[test]
fn each_view_is_told_with_what_shows_it_on_257() {
    each_view_is_told_with_what_shows_it(Systemd::V257);
}

fn each_view_is_told_with_what_shows_it(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.write_file(
        BASELINE,
        "deployment: test
systemd: {running: [sees.service]}
hostnames: [{name: localhost, addresses: [127.0.0.1], as: sees.service}]
unit_files: {snapshot: /root/golden}
",
    );
    machine.unit("sees.service", "[Service]\nExecStart=sleep infinity\n");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "sees.service"]);
    let exporter = machine.exporter(&ARGS[..1]);
    machine.sh(
        "baseline-exporter snapshot take --config.file=/etc/views.yml /root/golden
        chmod 700 /root",
    );

    for (view, value) in [
        ("processes", 0.0),
        ("journal", 0.0),
        ("snapshot", 0.0),
        ("unit_files", 1.0),
    ] {
        exporter.shows("baseline_exporter_view", &[("view", view)], value);
    }
    let check = machine.check_as("exporter", &ARGS[..1]);
    assert_eq!(check.status.code(), Some(2), "{check}");
    for line in [
        "not seen from here: the processes of sees.service; add /usr/share/baseline-exporter/levels/ptrace.conf (CAP_SYS_PTRACE)\n",
        "not seen from here: the journal, which tells why a unit failed; add /usr/share/baseline-exporter/levels/journal.conf",
        "not seen from here: the golden snapshot; add /usr/share/baseline-exporter/levels/snapshot-root.conf",
    ] {
        assert!(check.stdout.contains(line), "{check}");
    }
    let root = machine.check(&ARGS[..1]);
    assert!(!root.stdout.contains("not seen from here"), "{root}");
    let root = machine.check(&ARGS);
    let root: Value = serde_json::from_str(&root.stdout).expect("a JSON report");
    let views = root["views"].as_array().unwrap();
    let seen = views.iter().filter(|view| view["seen"] == true);
    let seen: Vec<_> = seen.map(|view| &view["view"]).collect();
    assert_eq!(seen, ["processes", "journal", "snapshot", "unit_files"]);

    machine.write_file(
        "/run/systemd/system/baseline-exporter.service.d/levels.conf",
        "[Service]\nAmbientCapabilities=CAP_SYS_PTRACE\nSupplementaryGroups=systemd-journal\n",
    );
    machine.sh("chmod 600 /etc/systemd/system/sees.service; chmod 755 /root");
    exporter.stop();
    let exporter = machine.exporter(&ARGS[..1]);
    for (view, value) in [("processes", 1.0), ("journal", 1.0), ("unit_files", 0.0)] {
        exporter.shows("baseline_exporter_view", &[("view", view)], value);
    }
}

#[test]
fn a_redis_socket_below_a_private_tmp_is_unknown_on_252() {
    a_redis_socket_below_a_private_tmp_is_unknown(Systemd::V252);
}

#[test]
fn a_redis_socket_below_a_private_tmp_is_unknown_on_257() {
    a_redis_socket_below_a_private_tmp_is_unknown(Systemd::V257);
}

fn a_redis_socket_below_a_private_tmp_is_unknown(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.write_file(
        BASELINE,
        "deployment: test\nsystemd: {running: [near.service]}\nredis:\n\
         - {name: near, url: 'unix:///tmp/redis.sock'}\n\
         - {name: linked, url: 'unix:///srv/app/redis.sock'}\n",
    );
    machine.sh("mkdir -p /srv/app; ln -s ../../tmp/redis.sock /srv/app/redis.sock");
    machine.unit(
        "near.service",
        "[Service]\nExecStart=redis-server --port 0 --unixsocket /tmp/redis.sock \
         --unixsocketperm 777 --save ''\n",
    );
    let private = "/run/systemd/system/baseline-exporter.service.d/private.conf";
    machine.write_file(private, PRIVATE);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "near.service"]);
    let near = [("endpoint", "near")];
    let status = |status| [("check", "redis"), ("status", status)];
    let view = [("view", "sockets")];

    let exporter = machine.exporter(&ARGS[..1]);
    exporter.shows("baseline_check", &status("unknown"), 1.0);
    let metrics = exporter.scrape();
    assert_eq!(metrics.at("baseline_exporter_view", &view), 0.0);
    for fact in ["baseline_redis_up", "baseline_redis_failure"] {
        assert_eq!(metrics.lines(fact), "");
    }
    let probe = [("probe", "redis")];
    assert_eq!(metrics.at("baseline_exporter_probe_success", &probe), 0.0);
    exporter.stop();

    let level = "/run/systemd/system/baseline-exporter.service.d/shared-tmp.conf";
    machine.write_file(level, SHARED_TMP);
    let exporter = machine.exporter(&ARGS[..1]);
    exporter.shows("baseline_check", &status("holds"), 1.0);
    exporter.shows("baseline_redis_up", &near, 1.0);
    exporter.shows("baseline_exporter_view", &view, 1.0);
    machine.systemctl(&["stop", "near.service"]);
    exporter.shows("baseline_check", &status("violated"), 1.0);
    exporter.shows("baseline_redis_up", &near, 0.0);
}
