//! Who can write where, on a real systemd: units that try it themselves, and three exporters that
//! say beforehand what comes of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};

use crate::machine::{CACHE, Machine, Systemd};
use crate::metrics::Metrics;
use crate::package;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};
use crate::write_path_cases::{CASES, Case, PREAMBLE, SETUPS};

#[test]
fn what_units_can_write_is_told_on_252() {
    all_cases(Systemd::V252);
}

#[test]
fn what_units_can_write_is_told_on_257() {
    all_cases(Systemd::V257);
}

/// Writes when it gets SIGUSR1, and says what the shell said to that.
const WRITER: &str = r#"#!/bin/sh
case $1 in dir) target=$2/written-$$ ;; *) target=$2 ;; esac
trap 'if said=$( { echo x >>"$target"; } 2>&1 ); then echo "found ok"; else echo "found $said"; fi' USR1
sleep infinity &
while :; do wait; done
"#;

const BASELINE: &str = "/etc/write-paths.yml";

/// As the sample unit file of the exporter has it.
const HARDENING: &str = "[Service]
ProtectSystem=strict
ProtectHome=read-only
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @debug process_vm_readv process_vm_writev process_madvise kcmp
";

fn all_cases(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let missing = missing_tools(&machine);
    // The machine shares this host's kernel, and with it its sysctls.
    let level = fs::read_to_string("/proc/sys/fs/protected_regular").unwrap();
    let is_protected = level.trim() != "0";
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(|case| systemd == Systemd::V257 || !case.only_257)
        .filter(|case| {
            case.protected_regular
                .is_none_or(|is_on| is_on == is_protected)
        })
        .collect();
    let of_this_host = cases.len();
    let cases: Vec<&Case> = cases
        .into_iter()
        .filter(|case| !missing.iter().any(|tool| case.setup.contains(tool)))
        .collect();
    if !missing.is_empty() {
        // Not by eprintln: the test runner would keep that to itself.
        let left_out = of_this_host - cases.len();
        let mut stderr = io::stderr();
        writeln!(
            stderr,
            "\nLEFT OUT {left_out} cases of write paths: this host cannot set up {missing:?}"
        )
        .unwrap();
    }
    set_up(&machine, &cases);
    let exporters = exporters(&machine, &cases);
    change(&machine, &cases);
    let said = exporters
        .each_ref()
        .map(|exporter| settled(exporter, &cases));
    let said_packaged = packaged(&machine, &cases);
    let found = write(&machine, &cases);
    restart(&machine, &cases);
    let found_then = write(&machine, &cases);

    let mut report = String::new();
    let mut unexpected = 0;
    for (index, (setup, said)) in SETUPS.iter().zip(&said).enumerate() {
        let mut now = Score::default();
        let mut then = Score::default();
        for case in &cases {
            let (reason, next) = &said[case.number];
            let found_now = &found[case.number];
            now.count(case, found_now, case.truth, reason, case.now[index]);
            let found_then = &found_then[case.number];
            then.count(case, found_then, case.truth_then, next, case.next[index]);
        }
        for (what, score) in [("now", now), ("next start", then)] {
            let Score {
                right,
                unknown,
                wrong,
                remarks,
                unexpected: surprises,
            } = score;
            writeln!(
                report,
                "{systemd:?}, {setup}, {what}: {right} right, {unknown} unknown, {wrong} wrong\n{remarks}"
            )
            .unwrap();
            unexpected += surprises;
            // A quota of the table: whoever changes what is expected sees what it does to the whole.
            let blind = if index == 0 { 4 } else { 0 };
            let misled = if systemd == Systemd::V257 { 2 } else { 1 };
            assert!(unknown <= blind && wrong <= misled, "{report}");
        }
    }
    for ((level, most_unknown), said) in PACKAGED.iter().zip(&said_packaged) {
        let mut now = Score::default();
        for case in &cases {
            let (reason, _) = &said[case.number];
            now.count(case, &found[case.number], case.truth, reason, reason);
        }
        writeln!(
            report,
            "{systemd:?}, package, {level}, now: {} right, {} unknown, {} wrong\n{}",
            now.right, now.unknown, now.wrong, now.remarks
        )
        .unwrap();
        let misled = if systemd == Systemd::V257 { 2 } else { 1 };
        assert!(
            now.unknown <= *most_unknown && now.wrong <= misled,
            "{report}"
        );
    }
    // Not by println: a table is of interest also where nothing fails.
    let mut stderr = io::stderr();
    writeln!(stderr, "\n{report}").unwrap();
    assert_eq!(unexpected, 0, "{report}");
}

/// How often an exporter was right.
#[derive(Debug, Default)]
struct Score {
    right: usize,
    unknown: usize,
    wrong: usize,
    /// Every case that was not right for the right reason.
    remarks: String,
    /// Cases in which the unit or the exporter did otherwise than the table has it.
    unexpected: usize,
}

impl Score {
    fn count(&mut self, case: &Case, found: &str, truth: &str, said: &str, expected: &str) {
        match said {
            // Nothing to be right or wrong about.
            _ if found == "dead" && said == "start_fails" => self.right += 1,
            "unknown" | "timeout" | "starting" => self.unknown += 1,
            _ if (said == "ok") == (found == "ok") => self.right += 1,
            _ => self.wrong += 1,
        }
        let is_expected = found == truth && said == expected;
        if !is_expected {
            self.unexpected += 1;
        }
        if !is_expected || said != found {
            let flag = if is_expected { "" } else { "  UNEXPECTED: " };
            writeln!(
                self.remarks,
                "  {flag}{} {}: found {found}, said {said} (expected {truth} and {expected})",
                case.number, case.what
            )
            .unwrap();
        }
    }
}

/// What setups need that not every host has: loop devices with ext4, and chattr.
fn missing_tools(machine: &Machine) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let images = Command::new("sh")
        .args(["-euc", IMAGES, "sh", CACHE])
        .output()
        .unwrap();
    let mounts = machine.try_run(&["bash", "-euc", LOOP]);
    if !images.status.success() || !mounts.status.success() {
        missing.push("ext4 ");
    }
    if Command::new("chattr").arg("-V").output().is_err() {
        missing.push("attribute ");
    }
    missing
}

/// Makes the two file systems below the cache, which machines see at /mnt.
const IMAGES: &str = "\
cd \"$1\"
exec 9>ext4.lock; flock 9
[ -e ext4-full.img ] || { truncate -s 2M new.img; mkfs.ext4 -q -m 10 -O ^has_journal new.img; mv new.img ext4-full.img; }
[ -e ext4-inodes.img ] || { truncate -s 2M new.img; mkfs.ext4 -q -N 16 -O ^has_journal new.img; mv new.img ext4-inodes.img; }
";

const LOOP: &str = "\
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
for n in {0..15}; do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done
cp /mnt/ext4-full.img /run/try.img; mkdir /run/try; mount -o loop /run/try.img /run/try; umount /run/try
";

/// What the cases' setups call, beside their own preamble. The last two only note what has to be done
/// with tools that not every machine has.
const TOOLS: &str = "\
ext4() { mkdir \"$1\"; cp \"/mnt/ext4-$2.img\" \"/run${1##*/}.img\"; mount -o loop \"/run${1##*/}.img\" \"$1\"; chmod 0777 \"$1\"; }
fill() { setpriv --reuid 1000 --regid 1000 --clear-groups dd if=/dev/zero of=\"$1/fill\" bs=1k 2>/dev/null || true; }
use_inodes() { for n in {1..64}; do touch \"$1/$n\" 2>/dev/null || break; done; }
attribute() { echo \"$1 $2\" >>/run/attributes; }
acl() { echo \"$*\" >>/run/lists; }
: >/run/attributes; : >/run/lists
";

/// Writes and starts all units.
fn set_up(machine: &Machine, cases: &[&Case]) {
    machine.write_program("/usr/local/bin/writer", WRITER.as_bytes());
    machine.sh("
        echo 'qt:x:1000:1000::/home/qt:/bin/sh' >>/etc/passwd
        echo 'other:x:1001:1001::/:/bin/sh' >>/etc/passwd
        printf 'qt:x:1000:\\nother:x:1001:\\nteam:x:1100:\\ncrew:x:1101:qt\\n' >>/etc/group
        mkdir -p /home/qt /app /run/found; chown qt:qt /home/qt");
    let mut script = format!("{PREAMBLE}{TOOLS}");
    for case in cases {
        writeln!(script, "{}", case.fill(case.setup)).unwrap();
        machine.unit(&case.unit(), &unit_file(case));
    }
    machine.sh(&script);
    let inside = |path: &str| format!("/proc/{}/root{path}", machine.pid1());
    for line in machine.read_file("/run/attributes").lines() {
        let (attribute, path) = line.split_once(' ').unwrap();
        let mut chattr = Command::new("chattr");
        let status = chattr.args([attribute, &inside(path)]).status().unwrap();
        assert!(status.success(), "{line}");
    }
    for line in machine.read_file("/run/lists").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let rights = |index: usize| fields[index].parse().unwrap();
        let list = access_control_list(rights(1), rights(2), rights(3));
        let flags = XattrFlags::empty();
        setxattr(inside(fields[0]), "system.posix_acl_access", &list, flags).unwrap();
    }
    machine.systemctl(&["daemon-reload"]);
    start(machine, "start", cases);
}

/// For user 1000, the group class and the mask; the owner may do everything, all others read.
fn access_control_list(user: u16, others: u16, mask: u16) -> Vec<u8> {
    let entries = [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, user, 1000),
        (0x04, 5, u32::MAX),
        (0x10, mask, u32::MAX),
        (0x20, others, u32::MAX),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn unit_file(case: &Case) -> String {
    let kind = if case.is_file { "file" } else { "dir" };
    // systemd opens the output itself, before it makes the sandbox.
    case.fill(&format!(
        "[Service]\nExecStart=/usr/local/bin/writer {kind} {}\n\
         StandardOutput=append:/run/found/@\n{}\n",
        case.path, case.service
    ))
}

fn start(machine: &Machine, verb: &str, cases: &[&Case]) {
    let units: Vec<String> = cases.iter().map(|case| case.unit()).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    // Some cannot be started, which is what their case is about.
    machine.try_run(&[&["systemctl", verb], &units[..]].concat());
}

/// What happens while the units run, each in a shell of its own: a change of a mount must not depend
/// on another's.
fn change(machine: &Machine, cases: &[&Case]) {
    let mut script = PREAMBLE.to_owned();
    for case in cases.iter().filter(|case| !case.after.is_empty()) {
        writeln!(script, "{}", case.fill(case.after)).unwrap();
    }
    machine.sh(&script);
}

fn restart(machine: &Machine, cases: &[&Case]) {
    start(machine, "restart", cases);
}

/// One exporter for each of the [`SETUPS`].
fn exporters<'m>(machine: &'m Machine, cases: &[&Case]) -> [Server<'m>; 3] {
    let mut baseline =
        "deployment: test\nsystemd:\n  resync: 1s\n  watch: [\"case-*.service\"]\nwrite_paths:\n"
            .to_owned();
    for case in cases {
        let key = if case.is_file { "files" } else { "paths" };
        let (unit, path) = (case.unit(), case.fill(case.path));
        writeln!(baseline, "  - {{unit: {unit}, {key}: [\"{path}\"]}}").unwrap();
    }
    machine.write_file(BASELINE, &baseline);
    let config = format!("--config.file={BASELINE}");
    let root = machine.exporter_as("root", &[&config]).unwrap();
    let hardened = |name: &str, port: u16, capabilities: &str| {
        let text = format!(
            "{HARDENING}CapabilityBoundingSet={capabilities}\nAmbientCapabilities={capabilities}\n"
        );
        machine.write_file(&format!("/run/systemd/system/{name}.d/a.conf"), &text);
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let argv = ["/usr/local/bin/baseline-exporter", &listen, &config];
        Server::start(machine, name, "qt", port, &argv).unwrap()
    };
    [
        hardened("exporter-of-qt.service", 9991, ""),
        hardened("exporter-with-ptrace.service", 9992, "CAP_SYS_PTRACE"),
        root,
    ]
}

/// The levels of the packaged exporter, and how many cases each may be blind for: its user is nobody else's.
const PACKAGED: [(&str, usize); 3] = [("default", 25), ("ptrace", 1), ("shared-tmp", 18)];

/// What the exporter of the package says at each of its levels, from the sandbox that it comes with.
fn packaged<'c>(machine: &Machine, cases: &[&'c Case]) -> [BTreeMap<&'c str, (String, String)>; 3] {
    // The service that set it up has its name.
    machine.systemctl(&["stop", package::SERVICE]);
    machine.sh("rm /run/systemd/system/baseline-exporter.service");
    machine.install_package();
    machine.write_file(package::BASELINE, &machine.read_file(BASELINE));
    machine.systemctl(&["restart", package::SERVICE]);
    let exporter = Server::of(machine, package::SERVICE, package::PORT);
    let default = settled(&exporter, cases);
    let with = |level| {
        machine.level(level);
        settled(&Server::of(machine, package::SERVICE, package::PORT), cases)
    };
    let ptrace = with("ptrace");
    machine.sh("rm /etc/systemd/system/baseline-exporter.service.d/ptrace.conf");
    [default, ptrace, with("shared-tmp")]
}

/// What an exporter says of each case, now and for the next start, once no unit is just starting and
/// the unit files are known as they are.
fn settled<'c>(exporter: &Server<'_>, cases: &[&'c Case]) -> BTreeMap<&'c str, (String, String)> {
    wait_for("the exporter to know all cases", PATIENCE, || {
        let metrics = exporter.scrape();
        let mut said = BTreeMap::new();
        for case in cases {
            let words = |metric: &str, label: &str| {
                let words = of_case(&metrics, case, metric, label);
                match &words[..] {
                    [word] => Ok(word.clone()),
                    _ => Err(format!("{} {metric}: {words:?}", case.number)),
                }
            };
            let now = words("baseline_write_path_reason", "reason")?;
            let next = words("baseline_write_path_next_start_reason", "reason")?;
            let vantage = words("baseline_write_path_vantage", "vantage")?;
            let expected = if case.truth == "dead" {
                "predicted"
            } else {
                "process"
            };
            if now == "starting" || vantage != expected {
                return Err(format!("{} {now} by {vantage}", case.number));
            }
            if case.number == "097" && next != "ok" {
                return Err(format!("097 {next} at its next start"));
            }
            said.insert(case.number, (now, next));
        }
        Ok(said)
    })
}

fn of_case(metrics: &Metrics, case: &Case, metric: &str, label: &str) -> Vec<String> {
    let path = case.fill(case.path);
    let path = path.trim_end_matches('/');
    metrics.ones(metric, &[("name", &case.unit()), ("path", path)], label)
}

/// Has every unit write, and gives what each found; `dead` for those that do not run.
fn write<'c>(machine: &Machine, cases: &[&'c Case]) -> BTreeMap<&'c str, String> {
    let units: Vec<String> = cases.iter().map(|case| case.unit()).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let states = machine.try_run(&[&["systemctl", "is-active"], &units[..]].concat());
    let states = cases.iter().zip(states.stdout.lines());
    let running: Vec<&Case> = states
        .filter(|(_, state)| *state == "active")
        .map(|(case, _)| *case)
        .collect();
    machine.sh("for file in /run/found/*; do : >\"$file\"; done");
    let units: Vec<String> = running.iter().map(|case| case.unit()).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let kill = ["systemctl", "kill", "--kill-whom=main", "--signal=USR1"];
    machine.run(&[&kill, &units[..]].concat());
    let answers = wait_for("every unit to have written", PATIENCE, || {
        let text = machine.sh("cd /run/found; grep -H '' * || true");
        let answers: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once(":found "))
            .map(|(number, said)| (number.to_owned(), said.to_owned()))
            .collect();
        let missing: Vec<_> = running
            .iter()
            .filter(|case| !answers.contains_key(case.number))
            .map(|case| case.number)
            .collect();
        if missing.is_empty() {
            Ok(answers)
        } else {
            Err(format!("no word of {missing:?}"))
        }
    });
    cases
        .iter()
        .map(|case| {
            let found = answers.get(case.number).map_or("dead", |said| word(said));
            (case.number, found.to_owned())
        })
        .collect()
}

/// The exporter's word for what the shell says.
fn word(said: &str) -> &str {
    let words = [
        ("Permission denied", "denied"),
        ("Read-only file system", "read_only"),
        ("nonexistent", "missing"),
        ("No such file or directory", "missing"),
        ("Not a directory", "not_dir"),
        ("Is a directory", "is_dir"),
        ("Too many levels of symbolic links", "loop"),
        ("Operation not permitted", "immutable"),
        ("No space left on device", "no_space"),
        // What the shell's echo says to that.
        ("I/O error", "no_space"),
    ];
    let found = words.iter().find(|(text, _)| said.contains(text));
    found.map_or(said, |(_, word)| word)
}
