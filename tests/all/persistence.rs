//! The files that keep the repairs, below deploy/cloud-init and deploy/drop-ins: each heals, and
//! heals again after a rebuild of the host.

use std::fs;
use std::path::Path;

use crate::machine::{CACHE, Machine, Systemd, script};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const HOSTS_ALIAS: &str = include_str!("../../deploy/cloud-init/hosts-alias.cfg");
const RUNBOOK: &str = include_str!("../../rules/runbook.md");
const CONFIGURATION: &str = "/etc/cloud/cloud.cfg.d/90-hosts-alias.cfg";
const TEMPLATE: &str = "/etc/cloud/templates/hosts.debian.tmpl";

/// How the sample reaches the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// The provider has it.
    AsUserData,
    /// It lies on the disk that the image of the rebuild is made of.
    AsFile,
}

/// A machine whose provider is a directory on it, and an exporter that may read everything.
struct Instance<'m> {
    machine: &'m Machine,
    exporter: Server<'m>,
    /// What the image says of manage_etc_hosts.
    setting: &'static str,
}

impl Instance<'_> {
    /// A new system from the image: with the sample if the image has it.
    #[track_caller]
    fn build(&self, identifier: &str, given: Option<Given>) {
        let machine = self.machine;
        machine.sh("rm -rf /etc/cloud /var/lib/cloud
            cp -a /mnt/cloud-init-*/etc/cloud /etc
            printf '127.0.0.1 localhost\\n10.1.2.3 own' >/etc/hosts");
        // What is left out of the modules makes accounts, grows file systems and the like.
        machine.write_file(
            "/etc/cloud/cloud.cfg.d/10-image.cfg",
            &format!(
                "manage_etc_hosts: {}\ndatasource_list: [NoCloud]\nnetwork: {{config: disabled}}\n\
                 cloud_init_modules: [bootcmd, write-files, update_etc_hosts]\n",
                self.setting
            ),
        );
        if given == Some(Given::AsFile) {
            machine.write_file(CONFIGURATION, HOSTS_ALIAS);
        }
        let user_data = match given {
            Some(Given::AsUserData) => HOSTS_ALIAS,
            Some(Given::AsFile) | None => "#cloud-config\n{}\n",
        };
        let provider = "/var/lib/cloud/seed/nocloud";
        machine.write_file(&format!("{provider}/user-data"), user_data);
        machine.write_file(
            &format!("{provider}/meta-data"),
            &format!("instance-id: {identifier}\nlocal-hostname: trader\n"),
        );
    }

    /// The stage of each boot in which cloud-init runs bootcmd and writes the hosts file.
    #[track_caller]
    fn boot(&self) {
        self.machine.sh("rm -rf /run/cloud-init; cloud-init init");
        let log = self.machine.read_file("/var/log/cloud-init.log");
        assert!(
            !log.contains("WARNING") && !log.contains("Traceback"),
            "{log}"
        );
    }

    /// The line of the alias stands once in the hosts file and wherever that is written from, with
    /// all that stood there before, and the exporter finds the alias right and made to last.
    #[track_caller]
    fn healed(&self) {
        let machine = self.machine;
        // Of the blanks between words, cloud-init makes tabs.
        let hosts = machine.read_file("/etc/hosts").replace('\t', " ");
        let template = machine.read_file(TEMPLATE);
        for (text, before) in [
            (&hosts, "127.0.0.1 localhost\n"),
            (&template, "ff02::2 ip6-allrouters\n"),
        ] {
            assert_eq!(
                text.matches("127.0.0.1 quantum_redis\n").count(),
                1,
                "{text}"
            );
            assert!(text.contains(before), "{text}");
        }
        assert!(template.starts_with("## template:jinja\n"), "{template}");
        let keeps = if self.setting == "true" {
            "127.0.1.1 trader trader\n"
        } else {
            "10.1.2.3 own\n"
        };
        assert!(hosts.contains(keeps), "{hosts}");
        let check = machine.check(&[]);
        assert_eq!(check.status.code(), Some(0), "{check}");
        self.lasts();
    }

    #[track_caller]
    fn lasts(&self) {
        let name = [("hostname", "quantum_redis")];
        let metrics = self.exporter.scrape();
        assert_eq!(metrics.at("baseline_hostname_persistent", &name), 1.0);
    }
}

#[test]
fn the_runbook_shows_the_sample() {
    let (_, commands) = HOSTS_ALIAS.split_once("\nbootcmd:").unwrap();
    let shown = format!("#cloud-config\nbootcmd:{commands}```\n");
    assert!(RUNBOOK.contains(&shown), "not in the runbook: {shown}");
}

#[test]
fn the_alias_outlives_boots_and_rebuilds() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world();
    let tree = script("cloud-init.sh", &[CACHE]);
    let tree = Path::new(tree.trim_end()).file_name().unwrap();
    let tree = format!("/mnt/{}", tree.display());
    machine.sh(&format!("cp -a {tree}/usr /"));
    machine.write_file("/root/hosts-alias.cfg", HOSTS_ALIAS);
    machine.sh("cloud-init schema --config-file /root/hosts-alias.cfg");
    let exporter = machine
        .exporter_as("root", &[])
        .unwrap_or_else(|why| panic!("{why}"));

    let mut instance = Instance {
        machine: &machine,
        exporter,
        setting: "true",
    };
    instance.build("bare", None);
    instance.boot();
    let check = machine.check(&[]);
    assert_eq!(check.status.code(), Some(1), "{check}");
    for (setting, given) in [
        ("true", Given::AsUserData),
        ("false", Given::AsUserData),
        ("localhost", Given::AsUserData),
        ("false", Given::AsFile),
        ("true", Given::AsFile),
    ] {
        instance.setting = setting;
        instance.build(&format!("{setting}-{given:?}"), Some(given));
        instance.boot();
        instance.healed();
        // Once more, and it has nothing to add.
        if setting != "localhost" {
            instance.boot();
            instance.healed();
        }
    }
    // Until the next boot nothing but the sample keeps it.
    machine.sh(&format!("cp {tree}{TEMPLATE} {TEMPLATE}"));
    instance.lasts();
}

const REPOSITORY: &str = "/home/qt/quantum_trader";
const BASELINE: &str = "/etc/baseline.yml";

/// A drop-in below deploy/drop-ins.
struct DropIn {
    unit: String,
    name: String,
    text: String,
}

impl DropIn {
    /// All of them.
    fn shipped() -> Vec<Self> {
        let files = |directory: &Path| {
            let entries = fs::read_dir(directory).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            paths
        };
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut shipped = Vec::new();
        for directory in files(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/deploy/drop-ins"
        ))) {
            let unit = name(&directory).strip_suffix(".d").unwrap().to_owned();
            shipped.extend(files(&directory).into_iter().map(|path| Self {
                unit: unit.clone(),
                name: name(&path),
                text: fs::read_to_string(&path).unwrap(),
            }));
        }
        shipped
    }

    /// Where it goes.
    fn path(&self) -> String {
        format!("/etc/systemd/system/{}.d/{}", self.unit, self.name)
    }

    /// Does what its comment says.
    #[track_caller]
    fn apply(&self, machine: &Machine) {
        machine.write_file(&format!("/root/{}", self.name), &self.text);
        let lines = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("#   "));
        let commands = lines.collect::<Vec<_>>().join("\n");
        machine.sh(&format!("cd /root\n{commands}"));
        assert_eq!(machine.read_file(&self.path()), self.text, "by {commands}");
    }
}

/// The deployment with a baseline that has all the services running.
#[track_caller]
fn deployment(machine: &Machine) {
    machine.world();
    machine.programs();
    let text = include_str!("../../deploy/baseline-quantum-trader.yml");
    let (before, rest) = text
        .split_once("  # Must exist, but neither be enabled nor run.")
        .unwrap();
    let (_, rest) = rest.split_once("  # Removed for good.").unwrap();
    let (rest, _) = rest.split_once("unit_files:").unwrap();
    let before = before.replace(
        "\n  running:\n",
        "\n  running:\n    - quantum-clm.service\n    - quantum-risk-safety.service\n",
    );
    machine.write_file(
        BASELINE,
        &format!("{before}  #{rest}\n  - {{unit: quantum-clm.service, paths: [/app/models]}}\n"),
    );
    machine.sh(&format!(
        "mkdir -p {REPOSITORY}/microservices
        touch {REPOSITORY}/microservices/__init__.py
        printf 'import time\nwhile True: time.sleep(60)\n' >{REPOSITORY}/microservices/risk_safety.py"
    ));
}

/// The unit files with their faults, as a rebuild brings them back; `models` is what is wrong for
/// the one that writes these.
#[track_caller]
fn faulty(machine: &Machine, models: &str) {
    let programs = [
        (
            "quantum-execution.service",
            format!(
                "User=qt\nProtectSystem=strict\nProtectHome=yes\nExecStart=writes {REPOSITORY}/runtime"
            ),
        ),
        (
            "quantum-portfolio-intelligence.service",
            format!(
                "User=qt\nProtectSystem=strict\nProtectHome=tmpfs\nExecStart=writes {REPOSITORY}/logs {REPOSITORY}/runtime"
            ),
        ),
        (
            "quantum-rl-monitor.service",
            format!(
                "ProtectSystem=strict\nWorkingDirectory={REPOSITORY}/services\nExecStart=writes /var/log"
            ),
        ),
        (
            "quantum-risk-safety.service",
            "User=qt\nExecStart=/usr/bin/python3 -m microservices.risk_safety".to_owned(),
        ),
        (
            "quantum-clm.service",
            format!("User=qt\n{models}\nExecStart=writes /app/models"),
        ),
    ];
    let units = programs.each_ref().map(|(unit, _)| *unit);
    for (unit, program) in programs {
        machine.unit(
            unit,
            &format!("[Service]\n{program}\nRestart=always\nRestartSec=200ms\n[Unit]\nStartLimitIntervalSec=0\n[Install]\nWantedBy=quantum-trader.target\n"),
        );
    }
    machine.systemctl(&[&["enable", "--quiet"], &units[..]].concat());
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&[&["restart"], &units[..]].concat());
}

/// Everything is as the baseline has it, and each of the programs has written where it has to.
#[track_caller]
fn works(machine: &Machine) {
    wait_for("everything to hold", PATIENCE, || {
        let check = machine.check_same();
        if check.status.success() {
            Ok(())
        } else {
            Err(check.to_string())
        }
    });
    machine.sh(&format!(
        "test -s {REPOSITORY}/runtime/written.log
        test -s {REPOSITORY}/logs/written.log
        test -s /var/log/written.log
        test -s /var/lib/quantum-clm/models/written.log"
    ));
}

#[test]
fn the_runbook_names_the_drop_ins() {
    for drop_in in DropIn::shipped() {
        assert!(RUNBOOK.contains(&drop_in.name), "{}", drop_in.name);
    }
}

#[test]
fn drop_ins_heal_and_outlive_a_rebuild() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    deployment(&machine);
    // The image of the models, as it was mounted.
    machine.sh("mkdir -p /app/models; mount --bind /app/models /app/models
        mount -o remount,bind,ro /app/models");
    faulty(&machine, "");
    for fault in [
        "quantum-execution.service restarts again and again",
        "quantum-portfolio-intelligence.service restarts again and again",
        "WorkingDirectory= cannot be entered (200/CHDIR)",
        "No module named 'microservices'",
        "/app/models/written.log: Read-only file system",
    ] {
        machine.check_says(fault);
    }
    let drop_ins = DropIn::shipped();
    for drop_in in &drop_ins {
        drop_in.apply(&machine);
    }
    works(&machine);
    let kept: Vec<_> = drop_ins
        .iter()
        .map(|drop_in| (drop_in.path(), machine.read_file(&drop_in.path())))
        .collect();
    drop(machine);

    let Some(rebuilt) = Machine::boot(Systemd::V252) else {
        return;
    };
    deployment(&rebuilt);
    for (path, text) in kept {
        rebuilt.write_file(&path, &text);
    }
    faulty(&rebuilt, "ProtectSystem=strict");
    works(&rebuilt);
}
