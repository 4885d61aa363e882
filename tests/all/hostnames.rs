//! Names against a real resolver: hosts files of every kind, and a DNS server for each answer.

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
  - {name: wrong.test, addresses: [127.0.0.7]}
  - {name: nowhere.test, addresses: [127.0.0.7]}
  - {name: text.test, addresses: [127.0.0.7]}
  - {name: refused.other, addresses: [127.0.0.7]}
";

/// Addresses in any order, a name that does not exist, one without an address; all else is refused.
const DNSMASQ: &str = "\
dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --listen-address=127.0.0.1 \
--bind-interfaces --user=root --pid-file= --host-record=right.test,127.0.0.8 --host-record=right.test,127.0.0.7 \
--host-record=wrong.test,10.9.9.9 --address=/nowhere.test/ --local=/text.test/ --txt-record=text.test,hello";

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
    for hosts in [
        "",
        "127.0.0.1 localhost # quantum_redis\n",
        "127.0.0.1 quantum_redis.\n",
        "#127.0.0.1 quantum_redis\n",
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

    // Nobody listens, and then somebody who never answers.
    machine.systemctl(&["stop", "names.service"]);
    assert_eq!(names.reasons("right.test")[0], "temporary");
    let _silent = silent_server(&machine);
    machine.write_file(
        "/etc/resolv.conf",
        "nameserver 127.0.0.1\noptions timeout:30\n",
    );
    assert_eq!(names.reasons("right.test"), ["timeout", "timeout"]);

    let check = machine.check(&["--config.file=/etc/baseline.yml"]);
    assert_eq!(check.status.code(), Some(1), "{check}");
    assert!(
        check
            .stdout
            .contains("right.test does not resolve (getaddrinfo gave no answer in time)"),
        "{check}"
    );
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

    machine.write_file(
        "/etc/cloud/cloud.cfg",
        "manage_etc_hosts: true\nsystem_info: {distro: debian}\n",
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
}
