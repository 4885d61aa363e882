//! What a unit uses, straight from its cgroup's files: no D-Bus, no work for systemd.

use std::borrow::Cow;
use std::collections::HashMap;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// More than any of the files here holds.
const LONGEST: usize = 2048;

/// Use and limits of one unit's cgroup. `None` where the controller is not there, the limit is not
/// set, or nothing of the unit runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of the cgroup since it was made, seconds (cpu.stat, cpuacct.usage).
    pub cpu_seconds: Option<f64>,
    /// Memory in use, bytes (memory.current, memory.usage_in_bytes).
    pub memory: Option<u64>,
    /// The limit of that, bytes (memory.max, memory.limit_in_bytes).
    pub memory_max: Option<u64>,
    /// Processes and threads (pids.current).
    pub tasks: Option<u64>,
    /// The limit of these (pids.max).
    pub tasks_max: Option<u64>,
    /// Processes killed for lack of memory (memory.events, memory.oom_control).
    pub oom_kills: Option<u64>,
}

/// Where the host has its cgroup controllers mounted.
#[derive(Debug, Clone, Default)]
pub struct Hierarchies {
    unified: Option<String>,
    /// Controllers of the unified hierarchy: where they are missing at the top, no unit has them.
    controllers: Vec<String>,
    cpu: Option<String>,
    memory: Option<String>,
    pids: Option<String>,
}

impl Hierarchies {
    /// Reads the mounts of this process. A host has cgroup v2, or v1, or some of each.
    pub fn mounted() -> Self {
        // Without the list there are no cgroups to read, as on a host that has none.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut found = Self::from_mounts(&mounts);
        if let Some(unified) = &found.unified {
            let controllers = std::fs::read_to_string(format!("{unified}/cgroup.controllers"));
            found.controllers = controllers
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
        }
        found
    }

    fn from_mounts(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = place.split(' ').nth(4) else {
                continue;
            };
            let mut kind = kind.split(' ');
            let (type_, options) = (kind.next().unwrap_or(""), kind.nth(1).unwrap_or(""));
            let slot = |slot: &mut Option<String>| {
                slot.get_or_insert_with(|| mount_point.to_owned());
            };
            if type_ == "cgroup2" {
                slot(&mut found.unified);
            } else if type_ == "cgroup" {
                for controller in options.split(',') {
                    match controller {
                        "cpuacct" => slot(&mut found.cpu),
                        "memory" => slot(&mut found.memory),
                        "pids" => slot(&mut found.pids),
                        _ => {}
                    }
                }
            }
        }
        found
    }

    /// What the cgroup of this path, as systemd names it, uses now. `slices` are those of the same
    /// look.
    pub fn usage<'h>(&'h self, control_group: &str, slices: &mut Slices<'h>) -> Usage {
        let mut usage = Usage::default();
        if control_group.is_empty() {
            return usage;
        }
        if let Some(group) = slices.open(self.unified.as_deref(), control_group) {
            usage.cpu_seconds = group
                .read("cpu.stat")
                .and_then(|text| keyed(&text, "usage_usec").map(super::unit::micros_as_seconds));
            let has = |controller: &str| self.controllers.iter().any(|name| name == controller);
            if has("memory")
                && let Some(text) = group.read("memory.current")
            {
                usage.memory = number(&text);
                usage.memory_max = group.read("memory.max").and_then(|text| number(&text));
                usage.oom_kills = group
                    .read("memory.events")
                    .and_then(|text| keyed(&text, "oom_kill"));
            }
            if has("pids")
                && let Some(text) = group.read("pids.current")
            {
                usage.tasks = number(&text);
                usage.tasks_max = group.read("pids.max").and_then(|text| number(&text));
            }
        }
        if let Some(group) = slices.open(self.cpu.as_deref(), control_group) {
            // Units that need no v1 controller have a cgroup in the unified hierarchy only.
            let nanos = group.read("cpuacct.usage").and_then(|text| number(&text));
            let seconds = nanos.map(|nanos| super::unit::micros_as_seconds(nanos / 1000));
            usage.cpu_seconds = seconds.or(usage.cpu_seconds);
        }
        if let Some(group) = slices.open(self.memory.as_deref(), control_group) {
            usage.memory = group
                .read("memory.usage_in_bytes")
                .and_then(|text| number(&text));
            // v1 writes "no limit" as the largest multiple of a page.
            usage.memory_max = group
                .read("memory.limit_in_bytes")
                .and_then(|text| number(&text))
                .filter(|limit| *limit < 1 << 62);
            usage.oom_kills = group
                .read("memory.oom_control")
                .and_then(|text| keyed(&text, "oom_kill"));
        }
        if let Some(group) = slices.open(self.pids.as_deref(), control_group) {
            usage.tasks = group.read("pids.current").and_then(|text| number(&text));
            usage.tasks_max = group.read("pids.max").and_then(|text| number(&text));
        }
        usage
    }
}

/// The slice of the last cgroup in each hierarchy, by mount point. Most units of a host are in the
/// same one, and the way to it is the longer part of the way to them.
#[derive(Debug, Default)]
pub struct Slices<'h>(HashMap<&'h str, (String, OwnedFd)>);

impl<'h> Slices<'h> {
    fn open<'s>(
        &'s mut self,
        mount_point: Option<&'h str>,
        control_group: &'s str,
    ) -> Option<Group<'s>> {
        let mount_point = mount_point?;
        let (slice, name) = control_group.rsplit_once('/')?;
        let known = self.0.get(mount_point);
        if known.is_none_or(|(known, _)| known != slice) {
            let path = format!("{mount_point}{slice}");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(CWD, path, flags, Mode::empty()).ok()?;
            self.0.insert(mount_point, (slice.to_owned(), directory));
        }
        let (_, slice) = self.0.get(mount_point)?;
        Some(Group { slice, name })
    }
}

/// One cgroup's directory, within its slice.
struct Group<'s> {
    slice: &'s OwnedFd,
    /// Empty for the root slice.
    name: &'s str,
}

impl Group<'_> {
    /// The text of one of its files; `None` where the controller is not there, and as soon as nothing
    /// of the unit runs.
    fn read(&self, file: &str) -> Option<String> {
        let path = match self.name {
            "" => Cow::Borrowed(file),
            name => Cow::Owned(format!("{name}/{file}")),
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(self.slice, &*path, flags, Mode::empty()).ok()?;
        // The kernel gives such a file in one piece; asking for its size or its end is work.
        let mut text = vec![0; LONGEST];
        let length = rustix::io::read(&file, &mut text).ok()?;
        text.truncate(length);
        String::from_utf8(text).ok()
    }
}

/// A number alone; "max", which is no limit, is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind a key at the start of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_kinds_of_hierarchies() {
        let found = Hierarchies::from_mounts(
            "30 23 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
             31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             33 23 0:29 / /proc rw - proc proc rw\n",
        );
        assert_eq!(found.unified.as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(found.cpu.as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found.memory.as_deref(), Some("/sys/fs/cgroup/memory"));
        assert_eq!(found.pids, None);
    }

    #[test]
    fn reads_what_is_there_and_leaves_out_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/a.service");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cpu.stat"), "usage_usec 2500000\nuser_usec 1\n").unwrap();
        std::fs::write(group.join("memory.current"), "4096\n").unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        std::fs::write(group.join("memory.events"), "low 0\noom 1\noom_kill 3\n").unwrap();
        let unified = Some(root.path().to_str().unwrap().to_owned());
        let hierarchies = Hierarchies {
            unified,
            controllers: vec!["memory".to_owned(), "pids".to_owned()],
            ..Hierarchies::default()
        };
        std::fs::write(root.path().join("cpu.stat"), "usage_usec 7000000\n").unwrap();
        let mut slices = Slices::default();
        let mut usage = |group| hierarchies.usage(group, &mut slices);
        assert_eq!(
            usage("/system.slice/a.service"),
            Usage {
                cpu_seconds: Some(2.5),
                memory: Some(4096),
                oom_kills: Some(3),
                ..Usage::default()
            }
        );
        for none in ["/system.slice/gone.service", "/gone.slice/a.service", ""] {
            assert_eq!(usage(none), Usage::default(), "{none}");
        }
        assert_eq!(usage("/").cpu_seconds, Some(7.0));
        assert_eq!(usage("/system.slice/a.service").cpu_seconds, Some(2.5));
        assert_eq!(usage("/a.service"), Usage::default());
    }

    #[test]
    fn a_unit_may_be_in_one_hierarchy_only() {
        let root = tempfile::tempdir().unwrap();
        let unified = root.path().join("unified");
        let cpu = root.path().join("cpu");
        std::fs::create_dir_all(unified.join("system.slice/a.service")).unwrap();
        std::fs::create_dir_all(cpu.join("system.slice/b.service")).unwrap();
        let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).unwrap();
        write(
            unified.join("system.slice/a.service/cpu.stat"),
            "usage_usec 1000000\n",
        );
        write(
            cpu.join("system.slice/b.service/cpuacct.usage"),
            "2000000000\n",
        );
        let mounted = |path: &std::path::Path| Some(path.to_str().unwrap().to_owned());
        let hierarchies = Hierarchies {
            unified: mounted(&unified),
            cpu: mounted(&cpu),
            ..Hierarchies::default()
        };
        let mut slices = Slices::default();
        for (unit, seconds) in [("a", 1.0), ("b", 2.0)] {
            let group = format!("/system.slice/{unit}.service");
            let usage = hierarchies.usage(&group, &mut slices);
            assert_eq!(usage.cpu_seconds, Some(seconds), "{unit}");
        }
    }
}
