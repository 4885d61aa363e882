//! What to type against a trouble: the commands that the line *fix* of an alert has.

use std::borrow::Cow;
use std::net::IpAddr;

use super::dependencies::HostnameDeviation;
use super::{Deviation, Judged};
use crate::baseline::Baseline;
use crate::probe::write_path::Reason;

/// A command of this program, with the file of the baseline that is in force.
pub fn own(command: &str, baseline: &Baseline) -> String {
    let file = baseline.file().map(quoted);
    let flag = file.map_or_else(String::new, |file| format!(" --config.file={file}"));
    format!("baseline-exporter {command}{flag}")
}

/// For a name that does not resolve to what it should.
pub fn hostname(name: &str, expected: &[IpAddr], deviation: HostnameDeviation) -> Vec<String> {
    match deviation {
        HostnameDeviation::Unresolved => expected
            .iter()
            .map(|address| format!("echo '{address} {name}' >>/etc/hosts"))
            .chain([
                format!("getent ahosts {name}"),
                "grep -rn manage_etc_hosts /etc/cloud   # true: also into /etc/cloud/templates/hosts.*.tmpl".to_owned(),
            ])
            .collect(),
        HostnameDeviation::Unexpected => vec![
            format!("getent ahosts {name}"),
            format!("grep -nw {name} /etc/hosts   # take the name out of the wrong lines"),
        ],
    }
}

/// For a Redis that does not answer, or answers and takes no writes.
pub fn redis(up: bool) -> Vec<String> {
    let lines = if up {
        [
            "redis-cli INFO replication; redis-cli INFO memory; redis-cli INFO persistence",
            "df -h /var/lib/redis   # room for its dump: then redis-cli BGSAVE",
        ]
    } else {
        [
            "systemctl status redis-server; journalctl -u redis-server -n 50",
            "redis-cli PING   # LOADING: wait; nothing: systemctl restart redis-server",
        ]
    };
    lines.map(str::to_owned).to_vec()
}

/// For a path that a unit cannot write, for this reason; the unit is to be restarted after it.
pub fn write_path(unit: &str, path: &str, reason: Reason) -> Vec<String> {
    let (unit, path) = (quoted(unit), quoted(path));
    match reason {
        Reason::ReadOnly => vec![
            format!("findmnt -T {path}   # ro? mount -o remount,rw it; else:"),
            format!("d=/etc/systemd/system/{unit}.d; mkdir -p $d"),
            format!("printf '[Service]\\nReadWritePaths=%s\\n' {path} >>$d/50-write-paths.conf"),
            "systemctl daemon-reload".to_owned(),
        ],
        Reason::Missing => vec![
            format!("systemctl show -p User {unit}"),
            format!("install -d -o USER {path}"),
        ],
        Reason::Immutable => vec![format!("chattr -i {path}")],
        Reason::NoSpace | Reason::NoInodes => vec![
            "df -h; df -i; du -xh --max-depth=2 MOUNT | sort -h | tail -n 20".to_owned(),
            "journalctl --vacuum-size=200M".to_owned(),
        ],
        _ => vec![
            format!("systemctl show -p User {unit}"),
            format!("namei -l {path}"),
            "# of its own: chown USER; shared, as /var/log: setfacl -m u:USER:rwx".to_owned(),
        ],
    }
}

/// For unit files that name a unit which is not there.
pub fn reference(to: &str) -> Vec<String> {
    vec![
        format!(
            "grep -rnwF {} /etc/systemd/system   # take the name out of these lists",
            in_quotes(to)
        ),
        format!(
            "systemctl daemon-reload; systemctl reset-failed {}",
            quoted(to)
        ),
    ]
}

/// For unit files that differ from the snapshot.
pub fn drift(baseline: &Baseline) -> Vec<String> {
    let restore = format!("snapshot restore {} --apply", snapshot(baseline));
    vec![
        own("snapshot diff", baseline),
        own(&restore, baseline),
        format!(
            "# or, if the change is meant: {}",
            own("snapshot take DIR", baseline)
        ),
    ]
}

/// Where the snapshot is.
fn snapshot(baseline: &Baseline) -> Cow<'_, str> {
    let files = baseline.unit_files.as_ref();
    let path = files.and_then(|files| files.snapshot.to_str());
    path.map_or(Cow::Borrowed("DIR"), quoted)
}

/// For a failed unit that the baseline does not know.
pub fn foreign(unit: &str) -> Vec<String> {
    let unit = quoted(unit);
    vec![
        format!("journalctl -u {unit} -n 50"),
        format!("systemctl restart {unit}   # or, if it is gone: systemctl reset-failed {unit}"),
    ]
}

/// For a cause that lies in the unit itself, or in another unit; empty for those whose fix is that of
/// what they name.
pub fn cause(unit: &str, cause: &str, detail: &str) -> Vec<String> {
    let unit = quoted(unit);
    let one = |line: String| vec![line];
    match cause {
        "dependency" => one(format!("systemctl start {}", quoted(detail))),
        "missing_executable" => one(format!(
            "systemctl cat {unit} | grep ^Exec   # chmod +x it, or put it back"
        )),
        "working_directory" => vec![
            format!("systemctl show {unit} -p WorkingDirectory -p ProtectHome"),
            format!("systemctl edit {unit}   # correct it"),
        ],
        "missing_file" => one(format!(
            "systemctl cat {unit} | grep ^EnvironmentFile   # put it back"
        )),
        "missing_module" => one(format!(
            "systemctl edit {unit}   # [Service] Environment=PYTHONPATH=DIR"
        )),
        "user" => one(format!(
            "systemctl cat {unit} | grep -E '^(User|Group)='   # make the account"
        )),
        "address_in_use" => one("ss -ltnp   # stop who has its address".to_owned()),
        "out_of_memory" => one(format!("systemctl show {unit} -p MemoryMax -p MemoryPeak")),
        "out_of_space" => one("df -h; df -i   # make room".to_owned()),
        "namespace" => one(format!(
            "systemctl show {unit} -p ReadWritePaths -p BindPaths   # make it"
        )),
        "permission_denied" => vec![
            format!("systemctl show {unit} -p User"),
            "namei -l PATH   # the journal names it; whose is it? chown USER PATH".to_owned(),
        ],
        "read_only" => one(format!(
            "systemctl edit {unit}   # [Service] ReadWritePaths=DIR"
        )),
        _ => Vec::new(),
    }
}

/// For a unit that deviates, after what its causes want.
pub fn unit(judged: &Judged, baseline: &Baseline) -> Vec<String> {
    let unit = quoted(&judged.unit.name);
    let is = |deviation| judged.is(deviation);
    let mut lines = Vec::new();
    if is(Deviation::Masked) {
        lines.push(format!("systemctl unmask {unit}"));
    }
    if is(Deviation::Missing) {
        let restore = format!("snapshot restore {} --apply", snapshot(baseline));
        lines.push(format!("{}   # its file is gone", own(&restore, baseline)));
    }
    if ["absent", "disabled"].contains(&judged.expected) {
        if judged.expected == "absent" && !is(Deviation::Present) && is(Deviation::Running) {
            lines.push(format!(
                "systemctl stop {unit}   # its file is gone, or masked"
            ));
        } else if is(Deviation::Present) || is(Deviation::Enabled) || is(Deviation::Running) {
            lines.push(format!("systemctl disable --now {unit}"));
        }
        if is(Deviation::Present) {
            lines.push(format!(
                "systemctl cat {unit}   # delete that file, then: systemctl daemon-reload"
            ));
        }
        if is(Deviation::Failed) {
            lines.extend([
                format!("journalctl -u {unit} -n 50"),
                format!("systemctl reset-failed {unit}"),
            ]);
        }
    } else if is(Deviation::Failed) || is(Deviation::Restarting) {
        lines.extend([
            format!("journalctl -u {unit} -n 50"),
            format!("systemctl reset-failed {unit}"),
            format!("systemctl restart {unit}"),
        ]);
    } else if is(Deviation::ActivatingTooLong) {
        lines.extend([
            format!("systemctl status {unit}"),
            format!("journalctl -u {unit} -n 50"),
            format!("systemctl kill -s KILL {unit}"),
            format!("systemctl reset-failed {unit}"),
            format!("systemctl restart {unit}"),
        ]);
    } else {
        lines.push(format!("systemctl start {unit}"));
    }
    lines
}

/// For units that are to be started anew once their cause is gone; nothing for none.
pub fn restart(units: &[&str]) -> Vec<String> {
    if units.is_empty() {
        return Vec::new();
    }
    let units = list(units);
    vec![
        format!("systemctl reset-failed {units}"),
        format!("systemctl restart {units}"),
    ]
}

/// For units that are down because of another one, once that is up; nothing for none.
pub fn start(units: &[&str]) -> Vec<String> {
    if units.is_empty() {
        return Vec::new();
    }
    vec![format!("systemctl start {}", list(units))]
}

fn list(units: &[&str]) -> String {
    let units: Vec<_> = units.iter().map(|unit| quoted(unit)).collect();
    units.join(" ")
}

/// A name or a path as a shell takes it for one word.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:@/+=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(in_quotes(word))
    }
}

fn in_quotes(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::findings::tests::judged_as;

    /// The lines of the alerts' annotations with X for whatever they name, without their conditions.
    fn lines_of_the_alerts() -> BTreeSet<String> {
        let mut plain = String::new();
        let mut rest = include_str!("../../rules/baseline.rules.yml");
        while let Some((before, after)) = rest.split_once("{{") {
            plain.push_str(before);
            let (template, after) = after.split_once("}}").unwrap();
            let template = template.trim_matches(['-', ' ']);
            let is_name = template == "." || template == "$unit";
            if is_name || template.starts_with(".Labels.") || template.starts_with("$labels.") {
                plain.push('X');
            }
            rest = after;
        }
        plain.push_str(rest);
        let lines = plain.lines().map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("fix: ").unwrap_or(line);
            // With a path, and DIR without one.
            line.replace("=XDIR", "=DIR")
        });
        lines.collect()
    }

    #[test]
    fn each_line_is_one_of_the_alerts() {
        let mut lines = Vec::new();
        for deviation in HostnameDeviation::ALL {
            lines.extend(hostname("X", &[], deviation));
        }
        let address = "127.0.0.1".parse().unwrap();
        let line = &hostname("X", &[address], HostnameDeviation::Unresolved)[0];
        lines.push(line.replace("127.0.0.1", "X"));
        lines.extend([true, false].into_iter().flat_map(redis));
        for reason in [
            Reason::ReadOnly,
            Reason::Missing,
            Reason::Immutable,
            Reason::NoSpace,
            Reason::Denied,
        ] {
            lines.extend(write_path("X", "X", reason));
        }
        lines.extend(reference("X"));
        let baseline = |source: &str, more: &str| {
            let text = format!("deployment: a\nsystemd: {{running: [a.service]}}\n{more}");
            Baseline::parse(&text, source).unwrap()
        };
        let drift = drift(&baseline("X", "unit_files: {snapshot: /X}\n"));
        lines.extend(drift.iter().map(|line| line.replace("/X", "X")));
        lines.extend(foreign("X"));
        let causes = crate::findings::tests::all_causes();
        assert!(causes.len() > 15, "{causes:?}");
        lines.extend(causes.iter().flat_map(|word| cause("X", word, "X")));
        for (expected, deviations) in [
            ("absent", vec![Deviation::Present]),
            ("absent", vec![Deviation::Running]),
            ("absent", vec![Deviation::Failed]),
            ("disabled", vec![Deviation::Enabled]),
            ("disabled", vec![Deviation::Missing]),
            ("running", vec![Deviation::Failed]),
            ("watched", vec![Deviation::Restarting]),
            ("running", vec![Deviation::ActivatingTooLong]),
            ("running", vec![Deviation::Masked, Deviation::Missing]),
            ("active", vec![Deviation::Stopped]),
        ] {
            lines.extend(unit(
                &judged_as("X", expected, &deviations),
                &baseline("X", ""),
            ));
        }
        for lines_of in [restart(&["X"]), start(&["X"])] {
            lines.extend(lines_of);
        }
        let alerts = lines_of_the_alerts();
        assert!(lines.len() > 40);
        for line in lines {
            assert!(alerts.contains(&line), "no alert says {line:?}");
        }
    }

    #[test]
    fn nothing_is_typed_that_systemd_would_refuse() {
        use Deviation::{ActivatingTooLong, Enabled, Failed, Masked, Missing, Present, Running};
        let text = "deployment: a\nsystemd: {running: [a.service]}\n";
        let baseline = Baseline::parse(text, "embedded").unwrap();
        let restore = "baseline-exporter snapshot restore DIR --apply   # its file is gone";
        let disable = "systemctl disable --now X";
        let read = "journalctl -u X -n 50";
        let reset = "systemctl reset-failed X";
        for (expected, deviations, lines) in [
            // Without a file there is nothing to disable, and nothing to start.
            ("absent", vec![Failed], vec![read, reset]),
            (
                "absent",
                vec![Running],
                vec!["systemctl stop X   # its file is gone, or masked"],
            ),
            (
                "absent",
                vec![Failed, Present],
                vec![
                    disable,
                    "systemctl cat X   # delete that file, then: systemctl daemon-reload",
                    read,
                    reset,
                ],
            ),
            ("disabled", vec![Missing], vec![restore]),
            ("disabled", vec![Missing, Running], vec![restore, disable]),
            ("disabled", vec![Failed], vec![read, reset]),
            ("disabled", vec![Enabled], vec![disable]),
            (
                "running",
                vec![Failed, Missing],
                vec![restore, read, reset, "systemctl restart X"],
            ),
            (
                "running",
                vec![ActivatingTooLong, Masked],
                vec![
                    "systemctl unmask X",
                    "systemctl status X",
                    read,
                    "systemctl kill -s KILL X",
                    reset,
                    "systemctl restart X",
                ],
            ),
        ] {
            let fix = unit(&judged_as("X", expected, &deviations), &baseline);
            assert_eq!(fix, lines, "{expected} {deviations:?}");
        }
    }

    #[test]
    fn what_a_shell_would_obey_is_quoted() {
        assert_eq!(quoted("a@b.service"), "a@b.service");
        assert_eq!(quoted(r"a\x2db.service"), r"'a\x2db.service'");
        assert_eq!(quoted("/a b/$(c)'"), r"'/a b/$(c)'\'''");
        assert_eq!(quoted(""), "''");
    }
}
