//! The harness itself: machines boot, worlds are healthy, and nothing stays behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::prometheus::{Generation, Prometheus};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};
use crate::world::{ABSENT, Behaviour, DISABLED, RUNNING};

#[test]
fn systemd_252_boots() {
    boots(Systemd::V252, "systemd 252 ");
}

#[test]
fn systemd_257_boots() {
    boots(Systemd::V257, "systemd 257 ");
}

fn boots(systemd: Systemd, version: &str) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let printed = machine.run(&["systemctl", "--version"]);
    assert!(printed.starts_with(version), "{printed}");
    assert_eq!(
        machine.sh("cat /proc/1/comm; ls /etc/systemd/system"),
        "systemd\n"
    );

    machine.write_file("/etc/beside/file", "text\n");
    machine.sh("ln -s /etc/beside/file /etc/link");
    assert_eq!(
        machine.read_file("/etc/link"),
        "text\n",
        "links are followed as inside"
    );

    // More at once than journald would keep with its own limits.
    machine.sh("seq 20000 | systemd-cat --identifier=counted");
    wait_for("20000 messages", PATIENCE, || {
        match machine.journal(&["--identifier=counted"]).lines().count() {
            20000 => Ok(()),
            count => Err(format!("{count} messages")),
        }
    });
}

#[test]
fn the_world_is_healthy_on_252() {
    world_is_healthy(Systemd::V252);
}

#[test]
fn the_world_is_healthy_on_257() {
    world_is_healthy(Systemd::V257);
}

fn world_is_healthy(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.world();
    let list = |args: &str| machine.sh(&format!("systemctl list-units {args} --plain --no-legend"));
    assert_eq!(list("--failed"), "");
    assert_eq!(
        list("--state=running 'quantum*.service'").lines().count(),
        RUNNING.len()
    );
    let not_found = list("--all --state=not-found 'quantum*.service'");
    assert_eq!(not_found.lines().count(), ABSENT.len(), "{not_found}");
    for service in RUNNING {
        assert_eq!(machine.property(service, "UnitFileState"), "enabled");
    }
    for service in DISABLED {
        assert_eq!(machine.property(service, "UnitFileState"), "disabled");
        assert_eq!(machine.property(service, "SubState"), "dead");
    }
}

#[test]
fn stand_ins_misbehave_on_252() {
    stand_ins_misbehave(Systemd::V252);
}

#[test]
fn stand_ins_misbehave_on_257() {
    stand_ins_misbehave(Systemd::V257);
}

fn stand_ins_misbehave(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let shows = |property: &str, wanted: &str| {
        wait_for(&format!("{property}={wanted}"), PATIENCE, || {
            let value = machine.property("a.service", property);
            if value == wanted { Ok(()) } else { Err(value) }
        });
    };
    machine.stand_in(
        "a.service",
        "Restart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "a.service"]);

    let after = Duration::from_millis(50);
    machine.behave(
        "a.service",
        Behaviour::Crash {
            signal: "SEGV",
            after,
        },
    );
    wait_for("three restarts", PATIENCE, || {
        let restarts = machine.property("a.service", "NRestarts");
        if restarts.parse::<u32>().unwrap() >= 3 {
            Ok(())
        } else {
            Err(restarts)
        }
    });
    machine.behave("a.service", Behaviour::Exit { status: 7, after });
    shows("ExecMainStatus", "7");
    machine.behave("a.service", Behaviour::Run);
    machine.wait_until_active(&["a.service"]);
    assert_eq!(machine.property("a.service", "Result"), "success");

    machine.stand_in(
        "a.service",
        "Type=notify\nTimeoutStopSec=300ms\nTimeoutStartSec=300ms\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["restart", "a.service"]);
    machine.behave("a.service", Behaviour::Deaf);
    machine.systemctl(&["stop", "a.service"]);
    shows("Result", "timeout");
    machine.behave("a.service", Behaviour::Hang);
    machine.systemctl(&["start", "--no-block", "a.service"]);
    shows("SubState", "start");
    shows("ActiveState", "failed");
    assert_eq!(machine.property("a.service", "Result"), "timeout");
}

#[test]
fn many_services_run() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    let names = machine.services(250, |_| {
        "[Service]\nExecStart=/bin/sleep infinity\n".to_owned()
    });
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    machine.wait_until_active(&names);
}

#[test]
fn signals_reach_the_bus_and_the_manager() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    for pid in [machine.dbus_pid(), machine.pid1()] {
        let state = |wanted: &str| {
            wait_for(&format!("state {wanted}"), PATIENCE, || {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                if status.contains(&format!("State:\t{wanted}")) {
                    Ok(())
                } else {
                    Err(status)
                }
            });
        };
        machine.signal(pid, Signal::STOP);
        state("T");
        machine.signal(pid, Signal::CONT);
        state("S");
    }
    assert_eq!(machine.systemctl(&["is-system-running"]), "running\n");
}

#[test]
fn a_server_inside_answers() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.write_file("/run/www/metrics", "up{job=\"a\"} 1\nup{job=\"b\"} 0\n");
    let argv = [
        "python3",
        "-u",
        "-m",
        "http.server",
        "--bind=127.0.0.1",
        "--directory=/run/www",
        "8000",
    ];
    let server = Server::start(&machine, "www.service", "exporter", 8000, &argv).unwrap();

    let response = server.get(
        "/metrics",
        &[("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")],
    );
    assert_eq!(response.status, 304, "{response:?}");
    assert_eq!(
        server.get("/nothing", &[]).header("content-type"),
        Some("text/html;charset=utf-8")
    );
    assert_eq!(server.scrape().at("up", &[("job", "a")]), 1.0);
    assert!(
        server.log().contains("\"GET /metrics HTTP/1.1\" 200"),
        "{}",
        server.log()
    );

    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    assert!(status.contains("\nUid:\t5990\t"), "{status}");
}

#[test]
fn prometheus_2_42_scrapes_inside() {
    prometheus_scrapes(Systemd::V252, Generation::V242, "version=2.42.");
}

#[test]
fn prometheus_2_53_scrapes_inside() {
    prometheus_scrapes(Systemd::V252, Generation::V253, "version=2.53.");
}

#[test]
fn prometheus_3_scrapes_inside() {
    prometheus_scrapes(Systemd::V257, Generation::V3, "version=3.");
}

fn prometheus_scrapes(systemd: Systemd, generation: Generation, logged: &str) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let prometheus = Prometheus::run(&machine, generation, "127.0.0.1:9090");
    let target = prometheus.target();
    assert_eq!(target["health"], "up", "{target}");
    assert_eq!(target["lastError"], "", "{target}");
    assert_eq!(prometheus.server.complaints(), "");
    let log = prometheus.server.log();
    assert!(
        log.replace("version=\"(version=", "version=")
            .contains(logged),
        "{log}"
    );
}

/// A test process that is killed in the middle leaves no process, no mount and no cgroup.
#[test]
fn a_killed_test_leaves_nothing() {
    const ROLE: &str = "MACHINE_TO_BE_KILLED";
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    if std::env::var_os(ROLE).is_some() {
        println!(
            "\ncgroup {}\npid {}",
            machine.cgroup().display(),
            machine.pid1()
        );
        // For ever: the process that started this one holds the other end.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    drop(machine);

    let mut test = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "harness::a_killed_test_leaves_nothing",
            "--nocapture",
        ])
        .env(ROLE, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let mut said = |key: &str| {
        let found = lines.find_map(|line| line.unwrap().strip_prefix(key).map(str::to_owned));
        found.expect("the other test says where its machine is")
    };
    let cgroup = said("cgroup ");
    let pid = said("pid ");
    let namespaces = ["pid", "mnt", "net", "cgroup"].map(|kind| {
        (
            kind,
            fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap(),
        )
    });
    let inhabitants = || {
        let pids = fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let inside = pids.filter(|pid| {
            let is = |(kind, namespace): &(&str, _)| {
                fs::read_link(pid.join("ns").join(kind)).is_ok_and(|link| link == *namespace)
            };
            namespaces.iter().any(is)
        });
        inside.count()
    };
    assert!(
        inhabitants() > 2,
        "systemd, journald and the bus are there before"
    );

    test.kill().unwrap();
    test.wait().unwrap();
    // A namespace without a process has no mounts, and none were made outside.
    wait_for("the machine to be gone", PATIENCE, || {
        match (inhabitants(), fs::exists(&cgroup).unwrap()) {
            (0, false) => Ok(()),
            left => Err(format!("(processes, cgroup): {left:?}")),
        }
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = cgroup.rsplit('/').next().unwrap();
    assert!(!mounts.contains(name), "{mounts}");
}

#[test]
fn an_exporter_that_ends_is_reported_with_its_log() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    let why = machine
        .exporter_as("root", &["--no-such-flag"])
        .unwrap_err();
    assert!(why.contains("baseline-exporter.service is "), "{why}");
}
