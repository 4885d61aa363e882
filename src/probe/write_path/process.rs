//! A running process of a unit: who it is, and the tree as it sees it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::access::{Identity, Namespace};
use super::account::named;
use super::mountinfo::Mounts;
use super::sandbox::{hint, rules};
use super::tree::{Base, Tree};
use super::walk::{Want, Writer, judge};
use super::{Reason, Room, Verdict};
use crate::systemd::settings::Settings;
use crate::systemd::unit::Unit;

/// systemd makes a sandbox in a twentieth of a second; a process this old is through with it, also
/// where its name does not tell, in clock ticks of a hundredth of a second.
const GROWN_UP: u64 = 200;
/// A process that still is root by then is so because it wants to be.
const ROOT_BY_CHOICE: u64 = 3000;

/// What the exporter knows of the host for all its looks at processes.
#[derive(Debug)]
pub struct Host {
    /// The exporter's own mounts.
    own: Arc<Mounts>,
    /// /proc/self/uid_map and gid_map.
    own_ids: [Vec<u8>; 2],
    /// PID 1's mounts, which are the host's; or why they cannot be told.
    of_pid_1: Result<Arc<Mounts>, String>,
}

impl Host {
    /// Reads what is needed; the error says why nothing can be told.
    pub fn read() -> Result<Self, String> {
        let own_ids = [
            read_file("/proc/self/uid_map")?,
            read_file("/proc/self/gid_map")?,
        ];
        let is_hosts = match (read_file("/proc/1/uid_map"), read_file("/proc/1/gid_map")) {
            (Ok(uids), Ok(gids)) => [uids, gids] == own_ids,
            _ => own_ids
                .iter()
                .all(|ids| ranges(ids) == Some(vec![(0, u64::from(u32::MAX))])),
        };
        if !is_hosts {
            return Err(
                "the exporter runs in a user namespace of its own, where files seem to belong to others: run it without PrivateUsers=".to_owned(),
            );
        }
        Ok(Self {
            own: Arc::new(mounts("/proc/self/mountinfo")?),
            own_ids,
            of_pid_1: mounts_of_pid_1().map(Arc::new),
        })
    }

    /// The host's tree, as PID 1 has it, and its mounts.
    pub fn tree(&self) -> Result<(Base, Arc<Mounts>), String> {
        let mounts = self.of_pid_1.clone()?;
        let base = match openat(CWD, "/proc/1/root", ROOT, Mode::empty()) {
            Ok(root) => Base::Root(root),
            Err(_) => Base::Mapped(self.own.clone()),
        };
        Ok((base, mounts))
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("reading {path} failed: {error}"))
}

/// The mounts in a mountinfo file of /proc.
pub fn mounts(path: &str) -> Result<Mounts, String> {
    Mounts::parse(&read_file(path)?).ok_or_else(|| format!("{path} cannot be understood"))
}

/// PID 1's mounts, which are the host's; the error says what shows them.
pub fn mounts_of_pid_1() -> Result<Mounts, String> {
    mounts("/proc/1/mountinfo")
        .map_err(|why| format!("{why} (run the exporter without ProtectProc= and ProcSubset=)"))
}

/// What helps where only the lists of mounts are there to go by; the end of a sentence.
pub const WITH_PTRACE: &str = " (or give it CAP_SYS_PTRACE)";

const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a process of the unit would find at `path`; `None` if none runs. The error says why it
/// cannot be told.
pub fn look(
    unit: &Unit,
    host: &Host,
    path: &Path,
    want: Want,
) -> Option<Result<(Verdict, Option<Room>), String>> {
    let process = match Process::find(unit, host)? {
        Ok(process) => process,
        Err(why) => return Some(Err(why)),
    };
    // If it ended while it was looked at, there is none any more.
    process.judge(unit, host, path, want).ok()
}

/// The process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended;

/// One process, held by its directory in /proc: another one with the same number is not mistaken for
/// it, whatever becomes of it.
struct Process {
    dir: OwnedFd,
    status: Status,
}

/// What /proc/PID/status and /proc/PID/stat say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Status {
    /// Its name; in brackets while it is not yet the service's program.
    comm: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    /// When it was started, clock ticks since boot.
    started: u64,
}

impl Process {
    /// The unit's main process, else the one that prepares or cleans up, else any other of it.
    /// `None` if none is left.
    fn find(unit: &Unit, host: &Host) -> Option<Result<Self, String>> {
        let service = unit.service.as_ref()?;
        let members = members(unit, host);
        let known = [service.main_pid, service.control_pid];
        let known = known.into_iter().filter(|pid| *pid != 0);
        let mut hidden = None;
        for pid in known.chain(members.iter().copied()) {
            match Self::open(pid, unit) {
                Ok(Some(process)) => return Some(Ok(process)),
                // The number may be that of a process that ended just now.
                Ok(None) if members.contains(&pid) => {
                    hidden = Some(format!(
                        "process {pid} of {} is hidden from the exporter: run it without ProtectProc= and ProcSubset=, and mount /proc without hidepid=",
                        unit.name
                    ));
                }
                Ok(None) => {}
                Err(error) => {
                    hidden = Some(format!(
                        "looking at process {pid} of {} failed: {error}",
                        unit.name
                    ));
                }
            }
        }
        hidden.map(Err)
    }

    /// `None` if there is no such process, or it is not of this unit.
    fn open(pid: u32, unit: &Unit) -> Result<Option<Self>, Errno> {
        let dir = match openat(CWD, format!("/proc/{pid}"), ROOT, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = |name: &str| match read(&dir, name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(cgroup) = read("cgroup")? else {
            return Ok(None);
        };
        if !is_of(&String::from_utf8_lossy(&cgroup), &unit.id) {
            return Ok(None);
        }
        let (Some(status), Some(stat)) = (read("status")?, read("stat")?) else {
            return Ok(None);
        };
        let status = Status::parse(
            &String::from_utf8_lossy(&status),
            &String::from_utf8_lossy(&stat),
        );
        Ok(status.map(|status| Self { dir, status }))
    }

    fn judge(
        &self,
        unit: &Unit,
        host: &Host,
        path: &Path,
        want: Want,
    ) -> Result<Result<(Verdict, Option<Room>), String>, Ended> {
        let service = unit.service.as_ref().ok_or(Ended)?;
        let settings = service.settings.clone().unwrap_or_else(Settings::plain);
        if self
            .status
            .is_starting(&settings, &service.programs, uptime())
        {
            return Ok(Ok((starting(unit), None)));
        }
        let identity = match self.identity(host)? {
            Ok(identity) => identity,
            Err(why) => return Ok(Err(why)),
        };
        let uid = identity.uid;
        let writer = Writer {
            name: named(&settings.user, uid),
            identity,
        };
        let tree = match self.tree(unit, host)? {
            Ok(tree) => tree,
            Err(why) => return Ok(Err(why)),
        };
        let mut told = judge(&tree, &writer, path, want);
        // It may have become another one meanwhile: what was found is of neither.
        let now = self.read("stat").and_then(|stat| {
            let status = self.read("status")?;
            Ok(Status::parse(
                &String::from_utf8_lossy(&status),
                &String::from_utf8_lossy(&stat),
            ))
        });
        match now {
            Err(Errno::NOENT | Errno::SRCH) | Ok(None) => return Err(Ended),
            Ok(Some(now)) if now == self.status => {}
            _ => return Ok(Ok((starting(unit), None))),
        }
        if let Ok((verdict, _)) = &mut told
            && let Some(hint) = hint(&rules(&settings), path, verdict.reason)
        {
            verdict.sentence = format!("{} ({hint})", verdict.sentence);
        }
        if let (Err(why), Base::Mapped(_)) = (&mut told, &tree.base) {
            why.push_str(WITH_PTRACE);
        }
        Ok(told)
    }

    /// The exporter may look through its root directory, or it has its mounts, which tell as much
    /// of whatever the exporter sees itself.
    fn tree(&self, unit: &Unit, host: &Host) -> Result<Result<Tree, String>, Ended> {
        let base = match openat(&self.dir, "root", ROOT, Mode::empty()) {
            Ok(root) => Base::Root(root),
            Err(Errno::NOENT | Errno::SRCH) => return Err(Ended),
            Err(_) => Base::Mapped(host.own.clone()),
        };
        let mounts = match self.read("mountinfo") {
            Ok(mounts) => Mounts::parse(&mounts),
            // INVAL: it has ended, but nobody asked for its exit status yet.
            Err(Errno::NOENT | Errno::SRCH | Errno::INVAL) => return Err(Ended),
            Err(_) => None,
        };
        let mounts = match (mounts, &base) {
            (Some(mounts), _) => mounts,
            // Only needed for names.
            (None, Base::Root(_)) => Mounts::default(),
            (None, Base::Mapped(_)) => {
                return Ok(Err(format!(
                    "neither the root directory nor the mounts of {} can be read: give the exporter CAP_SYS_PTRACE, or run it as the service's user",
                    unit.name
                )));
            }
        };
        Ok(Ok(Tree {
            base,
            mounts: Arc::new(mounts),
            root: PathBuf::from("/"),
            layers: Vec::new(),
        }))
    }

    fn identity(&self, host: &Host) -> Result<Result<Identity, String>, Ended> {
        let mut maps = Vec::new();
        for name in ["uid_map", "gid_map"] {
            match self.read(name) {
                Ok(map) => maps.push(map),
                Err(Errno::NOENT | Errno::SRCH) => return Err(Ended),
                Err(error) => {
                    return Ok(Err(format!(
                        "reading {name} of the process failed: {error}"
                    )));
                }
            }
        }
        let namespace = match &maps[..] {
            [uids, gids] if *uids != host.own_ids[0] || *gids != host.own_ids[1] => {
                match (ranges(uids), ranges(gids)) {
                    (Some(uids), Some(gids)) => Some(Namespace { uids, gids }),
                    _ => {
                        let why = "the process's user namespace cannot be understood";
                        return Ok(Err(why.to_owned()));
                    }
                }
            }
            _ => None,
        };
        let Status {
            uid,
            gid,
            groups,
            capabilities,
            ..
        } = &self.status;
        Ok(Ok(Identity {
            uid: *uid,
            gid: *gid,
            groups: groups.clone(),
            overrides: capabilities & crate::systemd::settings::DAC_OVERRIDE != 0,
            searches: capabilities & crate::systemd::settings::DAC_READ_SEARCH != 0,
            namespace,
        }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        read(&self.dir, name)
    }
}

fn starting(unit: &Unit) -> Verdict {
    Verdict {
        reason: Reason::Starting,
        sentence: format!("{} has only just been started", unit.name),
    }
}

impl Status {
    /// `None` for a process that has ended, and for text that is neither file.
    fn parse(status: &str, stat: &str) -> Option<Self> {
        let field = |key: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        };
        if matches!(field("State")?.trim().chars().next()?, 'Z' | 'X') {
            return None;
        }
        // Real, effective, saved, and that for files.
        let fourth = |key| field(key)?.split_whitespace().nth(3)?.parse().ok();
        // The name may hold anything, brackets too.
        let (_, after) = stat.rsplit_once(')')?;
        Some(Self {
            comm: field("Name")?.trim().to_owned(),
            uid: fourth("Uid")?,
            gid: fourth("Gid")?,
            groups: field("Groups")?
                .split_whitespace()
                .map(|gid| gid.parse().ok())
                .collect::<Option<_>>()?,
            capabilities: u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?,
            started: after.split_whitespace().nth(19)?.parse().ok()?,
        })
    }

    /// True while its sandbox may not be complete, `uptime` being now. In that time it is root on the
    /// host's own tree, and has the name of systemd's, of a descriptor, or one in brackets. It is
    /// complete when the service's program runs.
    fn is_starting(&self, settings: &Settings, programs: &[String], uptime: u64) -> bool {
        let age = uptime.saturating_sub(self.started);
        let is_of_another = !settings.stays_root
            && !matches!(settings.user.as_str(), "" | "root" | "0")
            && self.uid == 0;
        let is_program = self.comm != "systemd" && programs.contains(&self.comm);
        (age < GROWN_UP && !is_program)
            || self.comm.starts_with('(')
            || (is_of_another && age < ROOT_BY_CHOICE)
    }
}

/// Hundredths of a second since boot; zero, by which everything is young, where that is unknown.
fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split_whitespace().next().unwrap_or_default();
    first.replace('.', "").parse().unwrap_or(0)
}

/// True if a /proc/PID/cgroup says that the process is of this unit, or of a cgroup below it.
fn is_of(cgroup: &str, id: &str) -> bool {
    cgroup.lines().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        path.split('/').any(|part| part == id)
    })
}

/// The processes of the unit's own cgroup.
fn members(unit: &Unit, host: &Host) -> Vec<u32> {
    if unit.is_down() || unit.control_group.is_empty() {
        return Vec::new();
    }
    let Some(mount) = host.own.point_of_kind("cgroup2") else {
        return Vec::new();
    };
    let path = format!("{}{}/cgroup.procs", mount.display(), unit.control_group);
    // It is gone when the last process is.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// What a uid_map or gid_map covers, by the exporter's numbers: the first, and how many.
fn ranges(map: &[u8]) -> Option<Vec<(u64, u64)>> {
    let text = std::str::from_utf8(map).ok()?;
    text.lines()
        .map(|line| {
            let mut fields = line
                .split_whitespace()
                .map(|field| field.parse::<u64>().ok());
            let (_inside, outside, count) = (fields.next()??, fields.next()??, fields.next()??);
            Some((outside, count))
        })
        .collect()
}

fn read(dir: &OwnedFd, name: &str) -> Result<Vec<u8>, Errno> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file)
        .read_to_end(&mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tnode (x) y\nUmask:\t0022\nState:\tS (sleeping)\nUid:\t1\t2\t3\t1000\n\
                          Gid:\t1\t2\t3\t1001\nGroups:\t50 51 \nCapEff:\t0000000000000006\n";
    const STAT: &str = "7 (node (x) y) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 4711 1 2 3";

    #[test]
    fn the_status_is_taken_apart() {
        let status = Status::parse(STATUS, STAT).unwrap();
        assert_eq!(
            status,
            Status {
                comm: "node (x) y".to_owned(),
                uid: 1000,
                gid: 1001,
                groups: vec![50, 51],
                capabilities: 6,
                started: 4711,
            }
        );
        let dead = STATUS.replace("S (sleeping)", "Z (zombie)");
        assert_eq!(Status::parse(&dead, STAT), None);
        assert_eq!(Status::parse("", ""), None);
        assert_eq!(Status::parse(STATUS, "7 (x"), None);
    }

    #[test]
    fn a_process_is_starting_until_it_is_the_services_own() {
        let status = Status::parse(STATUS, STAT).unwrap();
        let settings = Settings {
            user: "qt".to_owned(),
            ..Settings::default()
        };
        let is_starting =
            |status: &Status, age: u64| status.is_starting(&settings, &[], 4711 + age);
        assert!(is_starting(&status, 199));
        assert!(!is_starting(&status, 200));
        assert!(status.is_starting(&settings, &[], 0));
        let programs = ["node (x) y", "systemd"].map(str::to_owned);
        assert!(!status.is_starting(&settings, &programs, 4711));
        let systemd = Status {
            comm: "systemd".to_owned(),
            ..status.clone()
        };
        assert!(systemd.is_starting(&settings, &programs, 4711));
        let not_yet = Status {
            comm: "(sh)".to_owned(),
            ..status.clone()
        };
        assert!(is_starting(&not_yet, 100_000));
        let root = Status {
            uid: 0,
            ..status.clone()
        };
        assert!(is_starting(&root, 2999));
        assert!(!is_starting(&root, 3000));
        let plus = Settings {
            stays_root: true,
            ..settings.clone()
        };
        assert!(!root.is_starting(&plus, &[], 4711 + 200));
    }

    #[test]
    fn a_process_is_known_by_its_cgroup() {
        assert!(is_of("0::/system.slice/a.service\n", "a.service"));
        assert!(is_of(
            "1:name=systemd:/system.slice/a.service/sub\n0::/\n",
            "a.service"
        ));
        assert!(!is_of("0::/system.slice/aa.service\n", "a.service"));
        assert!(!is_of("", "a.service"));
    }

    #[test]
    fn id_maps_cover_ranges() {
        assert_eq!(
            ranges(b"         0          0          1\n      1000       1000          1\n"),
            Some(vec![(0, 1), (1000, 1)])
        );
        assert_eq!(ranges(b"0 0\n"), None);
    }
}
