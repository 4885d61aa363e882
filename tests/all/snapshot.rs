//! Snapshots of the unit files: taken, compared and restored under a real systemd.

use crate::machine::{Machine, Output, Systemd};

const BINARY: &str = "/usr/local/bin/snapshot-under-test";

const BASELINE: &str = "\
deployment: test
systemd:
  watch: [quantum-*.service, quantum-*.target, quantum-*.timer]
  active: [quantum-trader.target]
unit_files:
  snapshot: /root/golden
";

/// Everything in the unit directory: name, type, mode, owner, where it links to, and digests.
const EVERYTHING: &str = "cd /etc/systemd/system
find . -printf '%P %y %m %U:%G %l\\n' | sort; find . -type f | sort | xargs sha256sum";

/// One change of each kind.
const CHANGES: &str = "cd /etc/systemd/system
sed -i s/quantum-trader.target/multi-user.target/ quantum-clm.service
rm quantum-ceo-brain.service quantum-trader.target.wants/quantum-ceo-brain.service
ln -sf /dev/null quantum-execution.service
rm quantum-masked.service
printf '[Service]\\nExecStart=/bin/false\\n' >quantum-masked.service
chmod 666 quantum-rl-sizer.service
chown 1:1 quantum-rl-monitor.service
mkdir quantum-new.service.d
echo '[Service]' >quantum-new.service.d/new.conf
printf '[Service]\\nExecStart=/bin/true\\n' >quantum-new.service
rm -r quantum-risk-safety.service.d
ln -sf quantum-clm.service quantum-alias.service
";

impl Machine {
    /// The deployment, and what else a snapshot has to keep.
    fn world_to_keep(&self) {
        self.world();
        self.sh("cd /etc/systemd/system
ln -s /dev/null quantum-masked.service
ln -s quantum-risk-safety.service quantum-alias.service
mkdir quantum-risk-safety.service.d
printf '[Service]\\nEnvironment=A=b\\n' >quantum-risk-safety.service.d/a.conf
chmod 640 quantum-risk-safety.service.d/a.conf
printf '[Timer]\\nOnCalendar=yearly\\nUnit=quantum-clm.service\\n' >quantum-clm.timer
systemctl daemon-reload");
        self.write_file("/root/baseline.yml", BASELINE);
        let binary = std::fs::read(env!("CARGO_BIN_EXE_baseline-exporter")).unwrap();
        self.write_program(BINARY, &binary);
    }

    fn snapshot(&self, args: &[&str]) -> Output {
        let config = "--config.file=/root/baseline.yml";
        self.try_run(&[&[BINARY, config, "snapshot"], args].concat())
    }

    /// As [`snapshot`](Self::snapshot), with this exit status; gives what it printed.
    #[track_caller]
    fn snapshot_ends(&self, status: i32, args: &[&str]) -> String {
        let output = self.snapshot(args);
        assert_eq!(output.status.code(), Some(status), "{output}");
        output.stdout
    }

    /// Restores, which has to end as `check` does; gives what it printed.
    #[track_caller]
    fn restore(&self, args: &[&str]) -> String {
        let restored = self.snapshot(&[&["restore", "--apply"], args].concat());
        let check = self.check(&["--config.file=/root/baseline.yml"]);
        assert_eq!(restored.status.code(), check.status.code(), "{restored}");
        assert!(restored.stdout.contains("STATUS "), "{restored}");
        restored.stdout
    }

    /// The row of the check `unit_files`.
    #[track_caller]
    fn row(&self) -> String {
        let check = self.check(&["--config.file=/root/baseline.yml"]);
        let is_row = |line: &&str| line.split_whitespace().nth(1) == Some("unit_files");
        let row = check.stdout.lines().find(is_row);
        row.unwrap_or_else(|| panic!("no row: {check}")).to_owned()
    }
}

/// The directory that the restored files were backed up in.
#[track_caller]
fn backup(restored: &str) -> String {
    let line = restored
        .lines()
        .find_map(|line| line.strip_prefix("the files as they were are in "));
    line.unwrap_or_else(|| panic!("no backup: {restored}"))
        .to_owned()
}

#[test]
fn what_was_taken_comes_back_on_252() {
    comes_back(Systemd::V252);
}

#[test]
fn what_was_taken_comes_back_on_257() {
    comes_back(Systemd::V257);
}

fn comes_back(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.world_to_keep();
    machine.snapshot_ends(0, &["take", "/root/golden"]);
    machine.sh("cd /root/golden; sha256sum --quiet --strict --check SHA256SUMS");
    let manifest = machine.read_file("/root/golden/manifest.json");
    let version = match systemd {
        Systemd::V252 => "\"systemd\": \"252",
        Systemd::V257 => "\"systemd\": \"257",
    };
    assert!(manifest.contains(version), "{manifest}");
    machine.snapshot_ends(2, &["take", "/root/golden"]);
    assert_eq!(machine.snapshot_ends(0, &["diff"]), "");
    assert!(machine.row().starts_with("holds "), "{}", machine.row());
    let golden = machine.sh(EVERYTHING);

    // Nobody else may read the drop-in.
    let exporter = machine.exporter_as("root", &["--config.file=/root/baseline.yml"]);
    let exporter = exporter.unwrap_or_else(|why| panic!("{why}"));
    machine.sh(CHANGES);
    let differences = |drift: &str| {
        let labels = [("drift", drift)];
        let metrics = exporter.scrape();
        metrics
            .ones("baseline_unit_file_drift", &labels, "file")
            .join(" ")
    };
    // Neither mode nor owner change what systemd does.
    assert_eq!(
        differences("modified"),
        "quantum-alias.service quantum-clm.service quantum-execution.service \
         quantum-masked.service"
    );
    assert_eq!(
        differences("missing"),
        "quantum-ceo-brain.service quantum-risk-safety.service.d/a.conf \
         quantum-trader.target.wants/quantum-ceo-brain.service"
    );
    assert_eq!(
        differences("extra"),
        "quantum-new.service quantum-new.service.d/new.conf"
    );
    let changed = machine.sh(EVERYTHING);
    let diff = machine.snapshot_ends(1, &["diff"]);
    assert_eq!(
        diff.lines()
            .filter(|line| line.starts_with("--- ") || line.starts_with("+++ "))
            .collect::<Vec<_>>()
            .join("\n"),
        "\
--- snapshot/quantum-alias.service
+++ host/quantum-alias.service
--- snapshot/quantum-ceo-brain.service
+++ /dev/null
--- snapshot/quantum-clm.service
+++ host/quantum-clm.service
--- snapshot/quantum-execution.service
+++ host/quantum-execution.service
--- snapshot/quantum-masked.service
+++ host/quantum-masked.service
--- /dev/null
+++ host/quantum-new.service
--- /dev/null
+++ host/quantum-new.service.d/new.conf
--- snapshot/quantum-risk-safety.service.d/a.conf
+++ /dev/null
--- snapshot/quantum-rl-monitor.service
+++ host/quantum-rl-monitor.service
--- snapshot/quantum-rl-sizer.service
+++ host/quantum-rl-sizer.service
--- snapshot/quantum-trader.target.wants/quantum-ceo-brain.service
+++ /dev/null"
    );
    assert!(machine.row().starts_with("violated "), "{}", machine.row());

    let plan = machine.snapshot_ends(0, &["restore", "/root/golden", "--prune"]);
    assert!(
        plan.ends_with("nothing was changed: --apply does it\n"),
        "{plan}"
    );
    assert_eq!(machine.sh(EVERYTHING), changed);

    let restored = machine.restore(&["/root/golden", "--prune"]);
    assert_eq!(machine.sh(EVERYTHING), golden);
    assert_eq!(machine.snapshot_ends(0, &["diff", "/root/golden"]), "");
    assert!(machine.row().starts_with("holds "), "{}", machine.row());
    let load_state = |unit: &str| machine.property(unit, "LoadState");
    assert_eq!(load_state("quantum-masked.service"), "masked");
    assert_eq!(load_state("quantum-execution.service"), "loaded");
    assert_eq!(load_state("quantum-new.service"), "not-found");
    for unit in ["quantum-clm.service", "quantum-execution.service"] {
        assert_eq!(machine.property(unit, "NeedDaemonReload"), "no");
    }

    machine.restore(&[&backup(&restored), "--prune"]);
    assert_eq!(machine.sh(EVERYTHING), changed);
    assert_eq!(machine.snapshot_ends(1, &["diff"]), diff);
    assert_eq!(load_state("quantum-execution.service"), "masked");

    // Without --prune, what is new stays.
    machine.restore(&["/root/golden"]);
    let left = machine.snapshot_ends(1, &["diff"]);
    let left: Vec<_> = left
        .lines()
        .filter(|line| line.starts_with("+++"))
        .collect();
    assert_eq!(
        left,
        [
            "+++ host/quantum-new.service",
            "+++ host/quantum-new.service.d/new.conf"
        ]
    );
}

#[test]
fn copies_of_the_old_script_are_a_snapshot_too() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world_to_keep();
    // A mask becomes an empty file, as it is read through its link.
    machine.sh("mkdir /root/golden; cd /etc/systemd/system
rm quantum-alias.service
for file in quantum-*.service quantum-trader.target; do cat $file >/root/golden/$file; done
echo 20 files >/root/golden/METADATA");
    // No timer was ever copied, but drop-ins and links are not looked for.
    let timer = machine.snapshot_ends(1, &["diff"]);
    assert!(
        timer.starts_with("--- /dev/null\n+++ host/quantum-clm.timer\n@@ -0,0 +1,3 @@\n"),
        "{timer}"
    );
    machine.sh("rm /etc/systemd/system/quantum-clm.timer");
    assert_eq!(machine.snapshot_ends(0, &["diff"]), "");
    assert!(machine.row().starts_with("holds "), "{}", machine.row());

    machine.sh("cd /etc/systemd/system
rm quantum-masked.service quantum-clm.service; echo '[Service]' >quantum-masked.service
sed -i 's/$/\\r/' quantum-execution.service; echo '# x' >>quantum-rl-sizer.service");
    let row = machine.row();
    assert!(row.starts_with("violated "), "{row}");
    machine.restore(&["/root/golden"]);
    assert_eq!(machine.snapshot_ends(0, &["diff"]), "");
    assert_eq!(
        machine.property("quantum-masked.service", "LoadState"),
        "masked"
    );
    assert_eq!(
        machine.sh("find /etc/systemd/system/quantum-risk-safety.service.d -name '*.conf'"),
        "/etc/systemd/system/quantum-risk-safety.service.d/a.conf\n"
    );
}

#[test]
fn a_snapshot_that_cannot_be_read_is_unknown_and_never_a_difference() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world_to_keep();
    let refusal = |args: &[&str]| {
        let output = machine.snapshot(args);
        assert_eq!(output.status.code(), Some(2), "{output}");
        output.stderr
    };
    assert!(refusal(&["diff"]).contains("there is no snapshot /root/golden: take one with"));
    assert!(refusal(&["restore", "/root/none"]).contains("there is no snapshot /root/none"));
    assert!(machine.row().starts_with("unknown "), "{}", machine.row());

    machine.write_file(
        "/root/other.yml",
        "deployment: test\nsystemd: {active: [quantum-trader.target]}\n",
    );
    let unnamed = machine.try_run(&[BINARY, "--config.file=/root/other.yml", "snapshot", "diff"]);
    assert_eq!(unnamed.status.code(), Some(2), "{unnamed}");
    assert!(
        unnamed
            .stderr
            .contains("the baseline names no snapshot: give its directory"),
        "{unnamed}"
    );

    machine.snapshot_ends(0, &["take", "/root/golden"]);
    machine.sh("cp /root/baseline.yml /etc/baseline.yml; chmod 700 /root");
    let check = machine.check_as("65534", &["--config.file=/etc/baseline.yml"]);
    assert!(
        check
            .stdout
            .contains("reading the snapshot /root/golden: permission denied"),
        "{check}"
    );

    machine.sh("echo '# x' >>/root/golden/files/quantum-clm.service");
    assert!(refusal(&["diff"]).contains("/root/golden is damaged"));
    let before = machine.sh(EVERYTHING);
    assert!(refusal(&["restore", "/root/golden", "--apply"]).contains("is damaged"));
    assert_eq!(machine.sh(EVERYTHING), before);
}

#[test]
fn a_restore_that_fails_half_way_changes_nothing() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world_to_keep();
    machine.snapshot_ends(0, &["take", "/root/golden"]);
    machine.sh(CHANGES);
    let changed = machine.sh(EVERYTHING);
    let wants = "/etc/systemd/system/quantum-trader.target.wants";
    machine.sh(&format!(
        "mount --bind {wants} {wants}; mount -o remount,bind,ro {wants}"
    ));
    let failed = machine.snapshot(&["restore", "/root/golden", "--apply", "--prune"]);
    assert_eq!(failed.status.code(), Some(2), "{failed}");
    assert!(
        failed.stderr.contains("Read-only file system")
            && failed.stderr.contains("every file was put back as it was"),
        "{failed}"
    );
    machine.sh(&format!("umount {wants}"));
    assert_eq!(machine.sh(EVERYTHING), changed);

    // systemd is told over its private socket where there is no bus.
    machine.sh("systemctl stop dbus.socket dbus.service");
    let restored = machine.snapshot(&["restore", "/root/golden", "--apply", "--prune"]);
    assert!(
        restored.stdout.contains("systemd has read the files"),
        "{restored}"
    );
    assert_eq!(
        machine.property("quantum-clm.service", "NeedDaemonReload"),
        "no"
    );
}

#[test]
fn a_restore_that_is_killed_is_finished_by_the_next_one() {
    let Some(machine) = Machine::boot(Systemd::V252) else {
        return;
    };
    machine.world_to_keep();
    machine.snapshot_ends(0, &["take", "/root/golden"]);
    let golden = machine.sh(EVERYTHING);
    let restore = format!(
        "{BINARY} --config.file=/root/baseline.yml snapshot restore /root/golden --apply --prune"
    );
    // The first ones of each are the backup's.
    let kills = [
        ("rename", 1, 1),
        ("symlink", 1, 3),
        ("unlink", 1, 1),
        ("fsync", 1, 7),
        ("fchmod", 1, 5),
    ];
    for (call, first, stride) in kills {
        let mut killed = 0;
        for number in (first..).step_by(stride) {
            machine.sh(CHANGES);
            let changed = machine.sh(EVERYTHING);
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let strace = format!("strace -f -o /dev/null -e trace={call} -e {inject} {restore}");
            let run = machine.try_run(&["bash", "-c", &strace]);
            assert!(!run.stderr.contains("strace:"), "{run}");
            let is_known = |line: &&str| golden.contains(*line) || changed.contains(*line);
            let now = machine.sh(EVERYTHING);
            let unknown: Vec<_> = now
                .lines()
                .filter(|line| !is_known(line) && !line.contains(".baseline-exporter.tmp"))
                .collect();
            assert_eq!(unknown, Vec::<&str>::new(), "{call} {number}: {run}");
            machine.restore(&["/root/golden", "--prune"]);
            assert_eq!(machine.sh(EVERYTHING), golden, "{call} {number}");
            if run.stdout.contains("STATUS ") {
                break;
            }
            killed += 1;
        }
        assert!(killed > 1, "{call} killed only {killed}");
    }
}
