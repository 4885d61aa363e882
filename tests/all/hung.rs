//! Everything that can hang does, at once: the rest is told right, in time, and nothing piles up.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use rustix::process::Signal;

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const BASELINE: &str = "
deployment: hung
systemd:
  running: [writes.service]
hostnames:
  - {name: black.hole, addresses: [127.0.0.1]}
  - {name: quantum_redis, addresses: [127.0.0.1]}
redis:
  - {name: hung, url: \"redis://127.0.0.1:7777/0\"}
  - {name: well, url: \"redis://127.0.0.1:6379/0\"}
write_paths:
  - {unit: writes.service, paths: [/hung/here, /var/log]}
";

/// A file system whose daemon never answers the first request.
const HUNG_MOUNT: &str = "\
[Service]
Type=notify
NotifyAccess=all
ExecStart=bash -euc 'mknod /dev/fuse c 10 229; mkdir -p /hung; exec 3<>/dev/fuse; \
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other none /hung; systemd-notify --ready; exec sleep infinity'
";

/// Scrapes after which the exporter must need no more than after ten: a thousand on request.
fn scrapes() -> usize {
    std::env::var("SCRAPES").map_or(20, |count| count.parse().expect("SCRAPES is a number"))
}

#[test]
fn what_hangs_harms_nothing_else() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.write_file("/etc/baseline.yml", BASELINE);
    machine.unit("writes.service", "[Service]\nExecStart=sleep infinity\n");
    machine.unit("hung.service", HUNG_MOUNT);
    machine.write_file("/etc/nsswitch.conf", "hosts: files dns\n");
    machine.write_file("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    machine.sh("echo '127.0.0.1 quantum_redis' >>/etc/hosts");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&[
        "start",
        "redis-server.service",
        "writes.service",
        "hung.service",
    ]);
    let _dns = machine
        .in_network(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)))
        .unwrap();
    let _redis = machine
        .in_network(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 7777)))
        .unwrap();
    let exporter = machine
        .exporter_as("root", &["--config.file=/etc/baseline.yml"])
        .unwrap();
    wait_for("the units to be known", PATIENCE, || {
        let metrics = scrape(&exporter);
        match metrics.at("baseline_exporter_bus_connected", &[]) {
            1.0 => Ok(()),
            other => Err(other.to_string()),
        }
    });

    let metrics = scrape(&exporter);
    dependencies_are_told(&metrics);
    let path = |path| [("name", "writes.service"), ("path", path)];
    let writable = |at| metrics.value("baseline_write_path_writable", &path(at));
    assert_eq!(
        (writable("/hung/here"), writable("/var/log")),
        (None, Some(1.0))
    );
    let reason = metrics.ones("baseline_write_path_reason", &path("/hung/here"), "reason");
    assert_eq!(reason, ["timeout"]);
    assert_eq!(status(&metrics, "write_paths"), "unknown");
    assert_eq!(status(&metrics, "running_units"), "holds");

    // The bus, too: of the units nothing is known then, and all else is.
    let bus = machine.dbus_pid();
    machine.signal(bus, Signal::STOP);
    wait_for("the bus to be missed", PATIENCE, || {
        let metrics = scrape(&exporter);
        dependencies_are_told(&metrics);
        match status(&metrics, "running_units").as_str() {
            "unknown" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    assert_eq!(status(&scrape(&exporter), "write_paths"), "unknown");
    for _ in 0..10 {
        scrape(&exporter);
    }
    let early = needs(&machine);
    for _ in 0..scrapes() {
        dependencies_are_told(&scrape(&exporter));
    }
    // Threads and sockets of the look-up that hangs come and go with it; what would pile up stays.
    // Each thread beside the first has memory of its own for what it allocates: that is bounded by
    // the number of threads, not by that of the scrapes.
    wait_for("the exporter to need what it needed", PATIENCE, || {
        let (threads, descriptors, kilobytes) = needs(&machine);
        if threads <= early.0 && descriptors <= early.1 && kilobytes <= early.2 + 2048 {
            return Ok(());
        }
        Err(format!(
            "{threads} threads, {descriptors} descriptors, {kilobytes} kB; after ten scrapes {early:?}"
        ))
    });

    machine.signal(bus, Signal::CONT);
    wait_for("the units to be known again", PATIENCE, || {
        match status(&scrape(&exporter), "running_units").as_str() {
            "holds" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

/// As [`HUNG_MOUNT`], where unit files are looked for, but in the exporter's own mounts only: systemd
/// itself would hang with it.
const HUNG_UNIT_FILES: &str = "\
[Service]
Type=notify
NotifyAccess=all
ExecStart=nsenter --target PID --mount bash -euc 'mknod /dev/fuse c 10 229; exec 3<>/dev/fuse; \
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other none /usr/local/lib/systemd/system; \
systemd-notify --ready; exec sleep infinity'
";

/// However often systemd is connected to anew.
#[test]
fn unit_files_that_hang_are_looked_at_but_once() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.write_file(
        "/etc/baseline.yml",
        "deployment: hung\nsystemd: {watch: ['hangs-*']}\n",
    );
    machine.write_file(
        "/run/systemd/system/baseline-exporter.service.d/mounts.conf",
        "[Service]\nPrivateMounts=yes\n",
    );
    machine.sh("mkdir -p /usr/local/lib/systemd/system");
    let exporter = machine
        .exporter_as("root", &["--config.file=/etc/baseline.yml"])
        .unwrap();
    let connected = |reconnects: f64| {
        wait_for("the units to be known", PATIENCE, || {
            let metrics = scrape(&exporter);
            let at = |name| metrics.at(name, &[]);
            let link = (
                at("baseline_exporter_bus_connected"),
                at("baseline_exporter_bus_reconnects_total"),
            );
            (link == (1.0, reconnects))
                .then_some(())
                .ok_or_else(|| format!("{link:?}"))
        });
    };
    connected(0.0);
    let pid = machine.property("baseline-exporter.service", "MainPID");
    machine.unit("hung.service", &HUNG_UNIT_FILES.replace("PID", &pid));
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "hung.service"]);

    let anew = |reconnects| {
        machine.systemctl(&["restart", "dbus.service"]);
        connected(reconnects);
        hung_threads(&machine)
    };
    let first = anew(1.0);
    assert!(first > 0, "nothing hangs");
    let later: Vec<_> = [2.0, 3.0, 4.0].map(anew).into();
    assert_eq!(later, [first; 3]);
    machine.systemctl(&["stop", "hung.service"]);
    wait_for("nothing to hang", PATIENCE, || {
        match hung_threads(&machine) {
            0 => Ok(()),
            hung => Err(hung.to_string()),
        }
    });
}

/// The exporter's threads that wait for a file system.
fn hung_threads(machine: &Machine) -> usize {
    let pid = machine.pid_of("baseline-exporter.service");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let waits_for = threads.filter_map(|thread| {
        // It may have ended.
        std::fs::read_to_string(thread.ok()?.path().join("wchan")).ok()
    });
    waits_for
        .filter(|place| place.contains("fuse") || place.contains("request_wait_answer"))
        .count()
}

/// By a scraper with little patience.
#[track_caller]
fn scrape(exporter: &Server<'_>) -> Metrics {
    let patience = [("X-Prometheus-Scrape-Timeout-Seconds", "2")];
    Metrics::parse(&exporter.get("/metrics", &patience).text())
}

#[track_caller]
fn dependencies_are_told(metrics: &Metrics) {
    let resolves = |hostname| {
        let labels = [("hostname", hostname), ("resolver", "nss")];
        metrics.at("baseline_hostname_resolves", &labels)
    };
    assert_eq!(
        (resolves("black.hole"), resolves("quantum_redis")),
        (0.0, 1.0)
    );
    let black_hole = [("hostname", "black.hole"), ("resolver", "dns")];
    let reason = metrics.ones("baseline_hostname_failure", &black_hole, "reason");
    assert_eq!(reason, ["timeout"]);
    let up = |endpoint| metrics.at("baseline_redis_up", &[("endpoint", endpoint)]);
    assert_eq!((up("hung"), up("well")), (0.0, 1.0));
    let reason = metrics.ones("baseline_redis_failure", &[("endpoint", "hung")], "reason");
    assert_eq!(reason, ["timeout"]);
}

fn status(metrics: &Metrics, check: &str) -> String {
    metrics
        .ones("baseline_check", &[("check", check)], "status")
        .join(" ")
}

/// Threads, open descriptors and resident kilobytes of the exporter.
fn needs(machine: &Machine) -> (u64, u64, u64) {
    let pid = machine.pid_of("baseline-exporter.service");
    let proc = format!("/proc/{pid}");
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap().split_whitespace().next().unwrap();
        number.parse::<u64>().unwrap()
    };
    let descriptors = std::fs::read_dir(format!("{proc}/fd")).unwrap().count();
    (
        field("Threads:"),
        u64::try_from(descriptors).unwrap(),
        field("VmRSS:"),
    )
}
