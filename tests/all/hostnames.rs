//! Names against a real resolver: hosts files of every kind, and a DNS server for each answer.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use crate::machine::{Machine, Systemd};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const BASELINE: &str = "
deployment: names
systemd:
  running: [sees.service]
hostnames:
  - {name: quantum_redis, addresses: [127.0.0.1]}
  - {name: seen, addresses: [10.1.1.1], as: sees.service}
  - {name: right.test, addresses: [127.0.0.7, 127.0.0.8]}
  - {name: alike.test, addresses: [127.0.0.9], as: sees.service}
  - {name: wrong.test, addresses: [127.0.0.7]}
  - {name: nowhere.test, addresses: [127.0.0.7]}
  - {name: text.test, addresses: [127.0.0.7]}
  - {name: refused.other, addresses: [127.0.0.7]}
";

/// Addresses in any order, a name that does not exist, one without an address; all else is refused.
const DNSMASQ: &str = "\
dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --listen-address=127.0.0.1 \
--bind-interfaces --user=root --pid-file= --host-record=right.test,127.0.0.8 --host-record=right.test,127.0.0.7 \
--host-record=wrong.test,10.9.9.9 --host-record=alike.test,127.0.0.9 --address=/nowhere.test/ --local=/text.test/ --txt-record=text.test,hello";

struct Names<'m> {
    machine: &'m Machine,
    exporter: Server<'m>,
}

impl Names<'_> {
    fn scrape(&self) -> Metrics {
        self.exporter.scrape()
    }

    /// Writes the hosts file and asserts how the alias stands then.
    #[track_caller]
    fn alias(&self, hosts: &str, resolves: bool, as_expected: bool) {
        self.machine.write_file("/etc/hosts", hosts);
        let metrics = self.scrape();
        let value = |metric| {
            let labels = [("hostname", "quantum_redis"), ("resolver", "hosts")];
            metrics.at(metric, &labels) == 1.0
        };
        let seen = (
            value("baseline_hostname_resolves"),
            value("baseline_hostname_as_expected"),
        );
        assert_eq!(seen, (resolves, as_expected), "{hosts:?}");
        // What the services get is what getent says.
        let labels = [("hostname", "quantum_redis"), ("resolver", "nss")];
        let getent = self.machine.try_run(&["getent", "ahosts", "quantum_redis"]);
        assert_eq!(
            metrics.at("baseline_hostname_resolves", &labels) == 1.0,
            getent.status.success(),
            "{hosts:?}: {getent}"
        );
        assert_eq!(getent.status.success(), resolves, "{hosts:?}: {getent}");
        let given: BTreeSet<_> = getent
            .stdout
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            given == BTreeSet::from(["127.0.0.1"]),
            as_expected,
            "{hosts:?}: {getent}"
        );
    }

    /// Why each resolver has no address for the name.
    #[track_caller]
    fn reasons(&self, name: &str) -> [String; 2] {
        let metrics = self.scrape();
        ["nss", "dns"].map(|resolver| {
            let labels = [("hostname", name), ("resolver", resolver)];
            metrics
                .ones("baseline_hostname_failure", &labels, "reason")
                .join(" ")
        })
    }
}

#[test]
fn every_hosts_file_and_every_answer_of_dns_is_told_apart() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.write_file("/etc/baseline.yml", BASELINE);
    machine.write_file("/etc/other-hosts", "10.1.1.1 seen\n");
    machine.unit(
        "sees.service",
        "[Service]\nExecStart=sleep infinity\nBindReadOnlyPaths=/etc/other-hosts:/etc/hosts\n",
    );
    machine.write_file("/etc/nsswitch.conf", "hosts: files dns\n");
    machine.write_file(
        "/etc/resolv.conf",
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    );
    machine.write_file(
        "/run/systemd/system/names.service",
        &format!("[Service]\nExecStart={DNSMASQ}\n"),
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "sees.service", "names.service"]);
    wait_for("dnsmasq to answer", PATIENCE, || {
        let answer = machine.try_run(&["getent", "ahosts", "right.test"]);
        answer
            .status
            .success()
            .then_some(())
            .ok_or_else(|| answer.to_string())
    });
    let names = Names {
        machine: &machine,
        exporter: machine
            .exporter_as("root", &["--config.file=/etc/baseline.yml"])
            .unwrap(),
    };

    for hosts in [
        "127.0.0.1 quantum_redis",
        "127.0.0.1\tlocalhost\tquantum_redis\tother # alias\n",
        "127.0.0.1 Quantum_Redis\r\n",
        "no address\n127.0.0.1 a b c quantum_redis\n",
        "127.0.0.1 other\rquantum_redis\n",
        "\u{b}127.0.0.1\u{b}quantum_redis\u{c}\n",
        "127.0.0.1 quantum_redis\0rest\n",
        "127.0.0.1 quantum_redis\nfe80::1%lo quantum_redis\n",
    ] {
        names.alias(hosts, true, true);
    }
    names.alias(
        "127.0.0.1 quantum_redis\n10.0.0.5 quantum_redis\n",
        true,
        false,
    );
    names.alias("10.0.0.5 quantum_redis\n", true, false);
    names.alias("::1 quantum_redis\n", true, false);
    names.alias(
        "127.0.0.1 quantum_redis\n::ffff:127.0.0.1 quantum_redis\n",
        true,
        false,
    );
    for hosts in [
        "",
        "127.0.0.1 localhost # quantum_redis\n",
        "127.0.0.1 quantum_redis.\n",
        "#127.0.0.1 quantum_redis\n",
        "127.0.0.1 other\0 quantum_redis\n",
        "127.0.0.01 quantum_redis\n",
        "fe80::1%lo quantum_redis\n",
        "\u{feff}127.0.0.1 quantum_redis\n",
    ] {
        names.alias(hosts, false, false);
    }

    // Through the eyes of the service, whose hosts file is another one.
    let metrics = names.scrape();
    let of = |name, resolver| {
        let labels = [("hostname", name), ("resolver", resolver)];
        metrics.at("baseline_hostname_as_expected", &labels)
    };
    assert_eq!((of("seen", "hosts"), of("seen", "nss")), (1.0, 0.0));
    assert_eq!(
        (of("right.test", "nss"), of("right.test", "dns")),
        (1.0, 1.0)
    );
    assert_eq!(
        (of("wrong.test", "nss"), of("wrong.test", "dns")),
        (0.0, 0.0)
    );
    assert_eq!(names.reasons("right.test"), ["", ""]);
    assert_eq!(names.reasons("nowhere.test"), ["not_found", "not_found"]);
    assert_eq!(names.reasons("text.test")[1], "no_data");
    assert_eq!(names.reasons("refused.other")[1], "refused");

    // What a service sees is unknown to who may not look through its eyes, and while it has none.
    let args = ["--config.file=/etc/baseline.yml"];
    let check = machine.check_as("exporter", &args);
    let unknown = "the hosts file that sees.service sees could not be read for alike.test";
    assert!(check.stdout.contains(unknown), "{check}");
    assert!(check.stdout.contains("CAP_SYS_PTRACE"), "{check}");
    machine.systemctl(&["stop", "sees.service"]);
    wait_for("the service to be known to be gone", PATIENCE, || {
        let labels = [("hostname", "seen"), ("resolver", "hosts")];
        match names.scrape().value("baseline_hostname_resolves", &labels) {
            None => Ok(()),
            Some(value) => Err(value.to_string()),
        }
    });
    let check = machine.check(&args);
    assert!(check.stdout.contains(unknown), "{check}");
    assert!(
        check.stdout.contains("sees.service has no process"),
        "{check}"
    );

    // Nobody listens, then somebody who cannot tell, and then somebody who never answers.
    machine.systemctl(&["stop", "names.service"]);
    assert_eq!(names.reasons("right.test")[0], "temporary");
    failing_server(&machine);
    machine.write_file("/etc/resolv.conf", "nameserver 127.0.0.53\n");
    assert_eq!(names.reasons("right.test"), ["temporary", "temporary"]);
    let _silent = silent_server(&machine);
    machine.write_file(
        "/etc/resolv.conf",
        "nameserver 127.0.0.1\noptions timeout:30\n",
    );
    assert_eq!(names.reasons("right.test"), ["timeout", "timeout"]);

    // The silence of DNS takes nothing from what the hosts file tells.
    machine.write_file("/etc/hosts", "127.0.0.1 quantum_redis\n");
    let metrics = names.scrape();
    let persistent = |name| metrics.value("baseline_hostname_persistent", &[("hostname", name)]);
    assert_eq!(persistent("quantum_redis"), Some(1.0));
    assert_eq!(persistent("right.test"), None);

    let check = machine.check(&args);
    assert_eq!(check.status.code(), Some(1), "{check}");
    assert!(
        check
            .stdout
            .contains("right.test does not resolve (getaddrinfo gave no answer in time)"),
        "{check}"
    );
}

/// Answers each question on the machine's 127.0.0.53 with SERVFAIL, until the test ends.
fn failing_server(machine: &Machine) {
    let bind = || UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 53), 53));
    let socket = machine.in_network(bind).unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 1024];
        while let Ok((length, client)) = socket.recv_from(&mut message) {
            // The header's flags: an answer, by one who asks others, SERVFAIL.
            message[2] |= 0x80;
            message[3] = 0x82;
            socket.send_to(&message[..length], client).unwrap();
        }
    });
}

/// Takes what is sent to the machine's DNS port, and says nothing.
fn silent_server(machine: &Machine) -> UdpSocket {
    machine
        .in_network(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)))
        .unwrap()
}

#[test]
fn an_alias_that_cloud_init_would_wipe_is_told_of() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world();
    let exporter = machine.exporter(&[]);
    let persistent = || {
        exporter.scrape().at(
            "baseline_hostname_persistent",
            &[("hostname", "quantum_redis")],
        )
    };
    assert_eq!(persistent(), 1.0);

    machine.write_program("/usr/bin/cloud-init", b"#!/bin/sh\n");
    machine.write_file(
        "/etc/cloud/cloud.cfg",
        "manage_etc_hosts: true\ncloud_init_modules: [update_etc_hosts]\n\
         system_info: {distro: debian}\n",
    );
    let template = "/etc/cloud/templates/hosts.debian.tmpl";
    machine.write_file(template, "## template:jinja\n127.0.0.1 localhost\n");
    assert_eq!(persistent(), 0.0);
    let check = machine.check(&[]);
    assert!(
        check.stdout.contains("add `127.0.0.1 quantum_redis` there"),
        "{check}"
    );
    assert!(!check.stdout.contains("violated  hostnames"), "{check}");

    // The next boot, as cloud-init would do it.
    machine.sh(&format!("grep -v '^##' {template} >/etc/hosts"));
    let metrics = exporter.scrape();
    let check = [("check", "hostnames"), ("status", "violated")];
    assert_eq!(metrics.at("baseline_check", &check), 1.0);

    machine.sh(&format!(
        "echo '127.0.0.1 quantum_redis' | tee -a {template} >>/etc/hosts"
    ));
    let metrics = exporter.scrape();
    assert_eq!(metrics.at("baseline_check", &check), 0.0);
    assert_eq!(persistent(), 1.0);

    // What the provider was given is for root's eyes only, and could set it again.
    machine.write_file(
        "/etc/cloud/cloud.cfg",
        "cloud_init_modules: [update_etc_hosts]\nsystem_info: {distro: debian}\n",
    );
    let given = "/var/lib/cloud/instance/vendor-cloud-config.txt";
    machine.write_file(given, "#cloud-config\nmanage_etc_hosts: true\n");
    machine.run(&["chmod", "600", given]);
    assert_eq!(persistent(), 1.0);
    machine.write_file(template, "127.0.0.1 localhost\n");
    let metrics = exporter.scrape();
    let name = [("hostname", "quantum_redis")];
    assert_eq!(metrics.value("baseline_hostname_persistent", &name), None);
    machine.run(&["chmod", "644", given]);
    assert_eq!(persistent(), 0.0);
}
