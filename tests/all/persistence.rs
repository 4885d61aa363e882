//! The files that keep the repairs, below deploy/cloud-init and deploy/drop-ins: each heals, and
//! heals again after a rebuild of the host.

use std::path::Path;

use crate::machine::{CACHE, Machine, Systemd, script};
use crate::server::Server;

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
