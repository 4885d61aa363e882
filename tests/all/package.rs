//! The Debian package on real machines: installed, given more rights, upgraded, removed and purged; and
//! the same by hand, as the README has it.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::sync::OnceLock;

use crate::machine::{CACHE, Machine, Systemd, script};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

/// The service of the package.
pub const SERVICE: &str = "baseline-exporter.service";
/// What listens instead of it, where somebody enables that.
const SOCKET: &str = "baseline-exporter.socket";
/// Where it listens.
pub const PORT: u16 = 20107;
/// Its baseline.
pub const BASELINE: &str = "/etc/baseline-exporter/baseline.yml";

const README: &str = include_str!("../../README.md");

/// What systemd-analyze may count at most, by level.
const EXPOSURE: f64 = 1.5;
const EXPOSURE_SHARED_TMP: f64 = 1.9;

#[test]
fn the_package_lives_and_goes_on_252() {
    life_of_a_package(Systemd::V252);
}

#[test]
fn the_package_lives_and_goes_on_257() {
    life_of_a_package(Systemd::V257);
}

fn life_of_a_package(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.world();
    machine.run(&["chmod", "700", "/root"]);
    let before = files(&machine);

    let exporter = machine.install_package();
    is_as_packaged(&machine, &exporter);
    tries_again_only_what_may_pass(&machine);
    let exposure = exposure(&machine);
    assert!(exposure <= EXPOSURE, "{exposure}");

    machine.level("shared-tmp");
    let shared_tmp = self::exposure(&machine);
    assert!(shared_tmp <= EXPOSURE_SHARED_TMP, "{shared_tmp}");
    all_hold_but(&Server::of(&machine, SERVICE, PORT), UNNAMED, &[]);
    machine.sh("rm /etc/systemd/system/baseline-exporter.service.d/shared-tmp.conf");

    deployment(&machine);

    // Not by println: a figure is of interest also where nothing fails.
    let mut stderr = io::stderr();
    writeln!(
        stderr,
        "\n{systemd:?}: exposure {exposure}, {shared_tmp} with shared-tmp"
    )
    .unwrap();

    by_socket(&machine);
    upgrade(&machine);
    remove(&machine);
    let left: Vec<_> = files(&machine).difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
    by_hand(&machine);
}

impl Machine {
    /// Installs the package as an administrator does, with nothing to be had from a network, and gives
    /// the exporter that it started.
    #[track_caller]
    pub fn install_package(&self) -> Server<'_> {
        package();
        // The host's own, where nothing is to be started, is none of the machine's.
        self.sh("rm -f /usr/sbin/policy-rc.d; mkdir -p /root/target; ln -s /mnt/package/old /root/target/debian");
        let install = readme("### By the package").replace("apt ", "apt-get --yes ");
        assert!(
            install.contains("apt-get --yes install ./target"),
            "{install}"
        );
        self.sh(&format!(
            "export DEBIAN_FRONTEND=noninteractive\ncd /root\n{install}"
        ));
        Server::of(self, SERVICE, PORT)
    }

    /// Gives the service the rights of one level, as the README has it.
    #[track_caller]
    pub fn level(&self, level: &str) {
        let commands = readme("### Levels");
        assert!(commands.contains("/ptrace.conf"), "{commands}");
        self.sh(&commands.replace("/ptrace.conf", &format!("/{level}.conf")));
    }
}

/// Makes the packages of the program under test, once.
fn package() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = env!("CARGO_BIN_EXE_baseline-exporter");
        script("package.sh", &[program, &format!("{CACHE}/package")]);
    });
}

/// The commands of a section of the README, without those that build.
#[track_caller]
fn readme(heading: &str) -> String {
    let (_, section) = README.split_once(&format!("\n{heading}\n")).expect(heading);
    let section = section.split("\n#").next().unwrap_or_default();
    let commands = section
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("cargo "));
    commands.map(|line| format!("{line}\n")).collect()
}

/// What lies where packages put things, without what dpkg and its hooks, and logind, write for themselves.
fn files(machine: &Machine) -> BTreeSet<String> {
    let found = machine.sh(
        "find /etc /usr /var/lib -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' \
        -not -path '/etc/*-' -not -path '/var/lib/PackageKit/*' -not -path '/var/lib/systemd/linger'",
    );
    found.lines().map(str::to_owned).collect()
}

/// The status of each check.
fn statuses(metrics: &Metrics) -> Vec<(String, String)> {
    let mut statuses = Vec::new();
    for status in ["holds", "violated", "unknown"] {
        let checks = metrics.ones("baseline_check", &[("status", status)], "check");
        statuses.extend(checks.into_iter().map(|check| (check, status.to_owned())));
    }
    statuses
}

/// How many checks the baselines have: that of the package, and that of the deployment.
const UNNAMED: usize = 4;
const DEPLOYMENT: usize = 11;

/// Waits until there are so many checks, and every one holds but for these.
#[track_caller]
fn all_hold_but(exporter: &Server<'_>, checks: usize, but: &[(&str, &str)]) {
    exporter.until(&format!("all to hold but {but:?}"), |metrics| {
        let statuses = statuses(metrics);
        let others: Vec<_> = statuses
            .iter()
            .filter(|(_, status)| status != "holds")
            .map(|(check, status)| (check.as_str(), status.as_str()))
            .collect();
        if statuses.len() == checks && others == but {
            Ok(())
        } else {
            Err(format!("{statuses:?}"))
        }
    });
}

/// What systemd-analyze makes of the service.
#[track_caller]
fn exposure(machine: &Machine) -> f64 {
    let text = machine.run(&["systemd-analyze", "security", "--no-pager", SERVICE]);
    let (_, level) = text
        .rsplit_once("exposure level for baseline-exporter.service: ")
        .expect(&text);
    level.split(' ').next().unwrap().parse().expect(&text)
}

/// Installed and nothing more: it runs, it is enabled, and it is honest about a host that it knows nothing of.
fn is_as_packaged(machine: &Machine, exporter: &Server<'_>) {
    assert_eq!(machine.systemctl(&["is-active", SERVICE]), "active\n");
    assert_eq!(machine.systemctl(&["is-enabled", SERVICE]), "enabled\n");
    let verify = machine.try_run(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        SERVICE,
        "baseline-exporter.socket",
    ]);
    assert!(
        verify.status.success() && verify.stderr.is_empty(),
        "{verify}"
    );
    all_hold_but(exporter, UNNAMED, &[]);
    let metrics = exporter.scrape();
    let source = [("deployment", "unnamed")];
    assert_eq!(
        metrics.value("baseline_units_running_expected", &[]),
        Some(0.0)
    );
    assert_eq!(
        metrics.ones("baseline_info", &source, "deployment"),
        ["unnamed"]
    );

    let status = machine.sh(&format!(
        "cat /proc/$(systemctl show --value --property=MainPID {SERVICE})/status"
    ));
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    links_lead_somewhere(machine);
    machine.sh("gzip --test /usr/share/man/man1/baseline-exporter.1.gz
        bash -n /usr/share/bash-completion/completions/baseline-exporter
        test -f /usr/share/zsh/vendor-completions/_baseline-exporter
        test -f /usr/share/fish/vendor_completions.d/baseline-exporter.fish
        test -f /usr/share/doc/baseline-exporter/runbook.md
        runuser -u baseline-exporter -- test ! -w /var/lib/baseline-exporter
        systemd-analyze --quiet cat-config tmpfiles.d | grep -q /var/lib/baseline-exporter");
}

/// A file that is not there may be there later; a mistake in it waits for a person.
fn tries_again_only_what_may_pass(machine: &Machine) {
    let waits = |status: &str, substate: &str| {
        wait_for(&format!("{substate} after {status}"), PATIENCE, || {
            let show = ["ExecMainStatus", "SubState"].map(|it| machine.property(SERVICE, it));
            if show == [status, substate] {
                Ok(())
            } else {
                Err(format!("{show:?}"))
            }
        });
    };
    machine.sh(&format!("mv {BASELINE} {BASELINE}.away"));
    machine.try_run(&["systemctl", "restart", SERVICE]);
    waits("1", "auto-restart");
    machine.sh(&format!("mv {BASELINE}.away {BASELINE}"));
    waits("0", "running");

    let text = machine.read_file(BASELINE);
    machine.write_file(BASELINE, &format!("{text}\nruning: []\n"));
    machine.try_run(&["systemctl", "restart", SERVICE]);
    waits("2", "failed");
    machine.write_file(BASELINE, &text);
    machine.systemctl(&["start", SERVICE]);
}

/// What the texts of the package link to is in it, at the place that the link names.
fn links_lead_somewhere(machine: &Machine) {
    let documents = "/usr/share/doc/baseline-exporter";
    let texts = machine.sh(&format!("find {documents} -name '*.md'"));
    let mut links = 0;
    for path in texts.lines() {
        let directory = machine.run(&["dirname", machine.run(&["realpath", path]).trim_end()]);
        let text = machine.read_file(path);
        let markdown = text.split("](").skip(1);
        let markdown = markdown.filter_map(|rest| Some(rest.split_once(')')?.0));
        let html = text.split("<img src=\"").skip(1);
        let html = html.filter_map(|rest| Some(rest.split_once('"')?.0));
        for link in markdown.chain(html) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains(':') {
                continue;
            }
            let target = format!("{}/{file}", directory.trim_end());
            let found = machine.try_run(&["test", "-e", &target]);
            assert!(found.status.success(), "{path}: {link}");
            links += 1;
        }
    }
    assert!(links > 0, "{texts}");
}

/// The deployment's own baseline: what the default level cannot tell is unknown, and each level tells its part.
fn deployment(machine: &Machine) {
    machine.sh(&format!(
        "cp /usr/share/doc/baseline-exporter/deploy/baseline-quantum-trader.yml {BASELINE}
        systemctl reload {SERVICE}"
    ));
    let exporter = &Server::of(machine, SERVICE, PORT);
    all_hold_but(exporter, DEPLOYMENT, &[("unit_files", "unknown")]);
    machine.level("snapshot-root");
    let exporter = &Server::of(machine, SERVICE, PORT);
    all_hold_but(exporter, DEPLOYMENT, &[]);

    machine.write_program(
        "/usr/local/bin/says",
        b"#!/bin/sh\necho 'OSError: [Errno 98] Address already in use' >&2\nexit 1\n",
    );
    machine.unit(
        "quantum-says.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/local/bin/says\nRestart=always\nRestartSec=500ms\n",
    );
    // Of another user, who has a directory that nobody else sees from outside.
    machine.unit(
        "quantum-own.service",
        "[Service]\nDynamicUser=yes\nStateDirectory=quantum-own\nExecStart=/bin/sleep infinity\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "quantum-says.service", "quantum-own.service"]);
    let cause = [
        ("name", "quantum-says.service"),
        ("cause", "address_in_use"),
        ("detail", ""),
    ];
    let own = |reason| {
        let of = [
            ("name", "quantum-own.service"),
            ("path", "/var/lib/quantum-own"),
        ];
        [&of[..], &[("reason", reason)]].concat()
    };
    exporter.stands("quantum-says.service", &["restarting"]);
    exporter.shows("baseline_write_path_reason", &own("unknown"), 1.0);
    assert_eq!(exporter.scrape().value("baseline_unit_cause", &cause), None);

    machine.level("journal");
    let exporter = &Server::of(machine, SERVICE, PORT);
    exporter.shows("baseline_unit_cause", &cause, 1.0);
    machine.level("ptrace");
    let exporter = &Server::of(machine, SERVICE, PORT);
    exporter.shows("baseline_write_path_reason", &own("ok"), 1.0);
    assert!(
        exposure(machine) > EXPOSURE,
        "more rights count as more exposure"
    );
    machine.sh("rm /etc/systemd/system/baseline-exporter.service.d/{ptrace,journal}.conf");
    machine.systemctl(&["stop", "quantum-says.service", "quantum-own.service"]);
    machine.sh("systemctl clean --what=state quantum-own.service
        rm /etc/systemd/system/quantum-{says,own}.service /usr/local/bin/says");
    machine.systemctl(&["daemon-reload"]);
}

const SOCKET_UNIT: &str = include_str!("../../deploy/systemd/baseline-exporter.socket");

/// What the comments of the socket unit say: the line of the flags, and the commands.
fn socket_steps() -> (String, String) {
    let unit = SOCKET_UNIT;
    let (use_it, _) = unit.split_once("# A service that").expect(unit);
    let mut steps = use_it
        .lines()
        .filter_map(|line| line.strip_prefix("#     "));
    let arguments = steps.next().expect(unit);
    (
        format!("{arguments}\n"),
        steps.collect::<Vec<_>>().join("\n"),
    )
}

/// By the comments of the socket unit: systemd listens, the first scrape starts the exporter, and none is refused
/// while it is away.
fn by_socket(machine: &Machine) {
    let defaults = "/etc/default/baseline-exporter";
    let before = machine.read_file(defaults);
    let (arguments, commands) = socket_steps();
    machine.write_file(defaults, &arguments);
    machine.sh(&commands);
    assert_eq!(machine.property(SERVICE, "ActiveState"), "inactive");
    let exporter = Server::of(machine, SERVICE, PORT);
    all_hold_but(&exporter, DEPLOYMENT, &[]);
    assert_eq!(machine.property(SERVICE, "TriggeredBy"), SOCKET);
    machine.systemctl(&["restart", "--no-block", SERVICE]);
    exporter.scrape();
    mended_behind_the_socket(machine);

    machine.write_file(defaults, &before);
    machine.systemctl(&["disable", "--quiet", "--now", SOCKET]);
    machine.systemctl(&["restart", SERVICE]);
    Server::of(machine, SERVICE, PORT).scrape();
}

/// After a mistake in the baseline, with which systemd started the service in vain, it comes back by the commands
/// that the comments of the socket unit end with, whether systemd has given up or not.
fn mended_behind_the_socket(machine: &Machine) {
    let baseline = machine.read_file(BASELINE);
    machine.write_file(BASELINE, "deployment: [\n");
    machine.systemctl(&["stop", SERVICE]);
    let waits = machine.connect(PORT).unwrap();
    wait_for("the start to fail", PATIENCE, || {
        match machine.property(SERVICE, "Result") {
            result if result == "exit-code" => Ok(()),
            result => Err(result),
        }
    });
    drop(waits);
    machine.write_file(BASELINE, &baseline);
    let (_, mend) = SOCKET_UNIT.split_once("The mistake mended:").unwrap();
    let commands: Vec<_> = mend
        .lines()
        .filter_map(|line| line.strip_prefix("#     "))
        .collect();
    machine.sh(&commands.join("\n"));
    all_hold_but(&Server::of(machine, SERVICE, PORT), DEPLOYMENT, &[]);
    assert_eq!(machine.property(SOCKET, "ActiveState"), "active");
}

/// A later version: it is the new program that runs, and the administrator's files are as they were.
fn upgrade(machine: &Machine) {
    let started = machine.property(SERVICE, "ExecMainStartTimestampMonotonic");
    let baseline = machine.read_file(BASELINE);
    machine.sh("export DEBIAN_FRONTEND=noninteractive
        apt-get --yes -o Dpkg::Options::=--force-confold install /mnt/package/new/*.deb");
    assert_eq!(machine.read_file(BASELINE), baseline);
    assert!(
        machine
            .read_file(&format!("{BASELINE}.dpkg-dist"))
            .ends_with("# Of a later version.\n")
    );
    assert_ne!(
        machine.property(SERVICE, "ExecMainStartTimestampMonotonic"),
        started
    );
    assert_eq!(machine.systemctl(&["is-active", SERVICE]), "active\n");
    all_hold_but(&Server::of(machine, SERVICE, PORT), DEPLOYMENT, &[]);
}

/// Removed, it is stopped and its settings stay; purged, all of it is gone but for the user.
fn remove(machine: &Machine) {
    machine.sh(
        "mkdir -p /root/checkout/target/release /var/lib/baseline-exporter/golden
        cp /usr/bin/baseline-exporter /root/checkout/target/release
        apt-get --yes remove baseline-exporter",
    );
    wait_for("the exporter to be gone", PATIENCE, || {
        match machine.connect(PORT) {
            Ok(_) => Err("it listens".to_owned()),
            Err(_) => Ok(()),
        }
    });
    assert!(
        machine
            .read_file(BASELINE)
            .contains("deployment: quantum-trader")
    );
    let status = machine.try_run(&["systemctl", "start", SERVICE]);
    assert!(!status.status.success(), "{status}");

    come_back_by_socket(machine);
    machine.sh("apt-get --yes purge baseline-exporter");
    let left = machine.try_run(&["dpkg", "-L", "baseline-exporter"]);
    assert!(!left.status.success(), "{left}");
    machine.run(&["getent", "passwd", "baseline-exporter"]);
}

/// Installed again after a removal, a socket that somebody had enabled listens as before; removed once more, it
/// is left enabled for the purge.
fn come_back_by_socket(machine: &Machine) {
    let install = "export DEBIAN_FRONTEND=noninteractive
        apt-get --yes -o Dpkg::Options::=--force-confold install /mnt/package/new/*.deb";
    machine.sh(install);
    assert_eq!(machine.property(SOCKET, "UnitFileState"), "disabled");
    let defaults = "/etc/default/baseline-exporter";
    let before = machine.read_file(defaults);
    let (arguments, commands) = socket_steps();
    machine.write_file(defaults, &arguments);
    machine.sh(&commands);
    machine.sh("apt-get --yes remove baseline-exporter");

    machine.sh(install);
    assert_eq!(machine.property(SOCKET, "UnitFileState"), "enabled");
    assert_eq!(machine.property(SOCKET, "ActiveState"), "active");
    all_hold_but(&Server::of(machine, SERVICE, PORT), DEPLOYMENT, &[]);

    machine.write_file(defaults, &before);
    machine.sh("apt-get --yes remove baseline-exporter");
}

/// From a checkout, by the commands of the README.
fn by_hand(machine: &Machine) {
    for file in [
        "deploy/debian/baseline.yml",
        "deploy/systemd/sysusers.conf",
        "deploy/systemd/tmpfiles.conf",
        "deploy/systemd/baseline-exporter.service",
    ] {
        let text =
            std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        machine.write_file(&format!("/root/checkout/{file}"), &text);
    }
    machine.sh("sed -i /^baseline-exporter:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow");
    machine.sh(&format!("cd /root/checkout\n{}", readme("### By hand")));
    machine.sh("test -d /var/lib/baseline-exporter");
    all_hold_but(&Server::of(machine, SERVICE, PORT), UNNAMED, &[]);
}
