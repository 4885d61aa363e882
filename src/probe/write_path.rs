//! Can this service write there, seen from inside its own sandbox?

mod access;
mod account;
mod mountinfo;
mod paths;
mod predicted;
mod process;
mod sandbox;
mod tree;
mod walk;

pub use self::paths::declared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use self::account::{Account, Numbers};
use self::mountinfo::Mounts;
use self::paths::Asked;
use self::process::Host;
use self::sandbox::Hindrance;
use super::{TARGET_TIMEOUT, Work, Workers};
use crate::baseline::WritePaths;
use crate::systemd::unit::Unit;

/// Where the exporter has another file system than the host (PID 1), as PrivateTmp= gives it one: at
/// this absolute path, or where it leads. What it finds there, or does not, says nothing of the host.
/// `None` if it has the host's.
///
/// # Errors
///
/// A list of mounts that cannot be read.
pub fn own_file_system_at(path: &Path) -> Result<Option<PathBuf>, String> {
    let own = process::mounts("/proc/self/mountinfo")?;
    let hosts = process::mounts_of_pid_1()?;
    let place = |mounts: &Mounts, path: &Path| {
        mounts.of(path).map(|mount| {
            let below = path.strip_prefix(&mount.point).unwrap_or(path);
            (mount.device.clone(), mount.root.join(below))
        })
    };
    let mut places = [path.to_owned(), leads_to(path, LINKS)].into_iter();
    Ok(places.find(|path| place(&own, path) != place(&hosts, path)))
}

/// How many links the kernel follows on the way to a file.
const LINKS: u8 = 40;

/// The path without links, which need not lead to anything.
fn leads_to(path: &Path, links: u8) -> PathBuf {
    if let Ok(there) = path.canonicalize() {
        return there;
    }
    if let (Ok(target), Some(directory)) = (path.read_link(), path.parent())
        && links > 0
    {
        return leads_to(&directory.join(target), links - 1);
    }
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) => leads_to(directory, links).join(name),
        _ => path.to_owned(),
    }
}

/// What one look saw of one path that one service has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritePath {
    /// The service.
    pub unit: Arc<str>,
    /// The path, as the baseline or the unit names it.
    pub path: PathBuf,
    /// True if the baseline names it, false if only the unit itself does.
    pub in_baseline: bool,
    /// As a running process of the unit finds it; `None` while the unit has none.
    pub now: Option<Verdict>,
    /// As its next start would find it, judged from the unit's settings.
    pub next_start: Verdict,
    /// What is free there, as the service's user may use it; `None` where that cannot be told.
    pub room: Option<Room>,
}

impl WritePath {
    /// What a process of the unit finds; `None` also while its latest one is only just starting,
    /// for then it may still be outside of its sandbox.
    pub fn process(&self) -> Option<&Verdict> {
        let now = self.now.as_ref();
        now.filter(|verdict| verdict.reason != Reason::Starting)
    }

    /// True if what counts now could be told.
    pub fn is_told(&self) -> bool {
        let verdict = self.process().unwrap_or(&self.next_start);
        verdict.reason.is_writable().is_some()
    }
}

/// Whether it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The answer in a word.
    pub reason: Reason,
    /// What was found where, for a person: the refusing component, its owner and mode, the mount,
    /// the setting. Empty for `ok`.
    pub sentence: String,
}

/// What is free on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Files that could still be made; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// The closed set of `baseline_write_path_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Ok,
    Denied,
    ReadOnly,
    Missing,
    NotDir,
    IsDir,
    Loop,
    Immutable,
    NoSpace,
    NoInodes,
    StartFails,
    Starting,
    Timeout,
    Unknown,
}

impl Reason {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::ReadOnly => "read_only",
            Self::Missing => "missing",
            Self::NotDir => "not_dir",
            Self::IsDir => "is_dir",
            Self::Loop => "loop",
            Self::Immutable => "immutable",
            Self::NoSpace => "no_space",
            Self::NoInodes => "no_inodes",
            Self::StartFails => "start_fails",
            Self::Starting => "starting",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }

    /// The answer to the question; `None` where there is none.
    pub fn is_writable(self) -> Option<bool> {
        match self {
            Self::Ok => Some(true),
            Self::Starting | Self::Timeout | Self::Unknown => None,
            _ => Some(false),
        }
    }
}

/// An answer, and what is free there; the error says why there is none.
type Told = Result<(Verdict, Option<Room>), String>;

/// Judges all paths at once: those of the baseline, and those that the watched units declare.
pub async fn probe(
    write_paths: &[WritePaths],
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Vec<WritePath> {
    let asked = paths::asked(write_paths, units);
    if asked.is_empty() {
        return Vec::new();
    }
    let until = || deadline.min(Instant::now() + TARGET_TIMEOUT);
    let host = workers
        .run_one("the host's mounts", until(), Host::read)
        .await
        .unwrap_or_else(|| Err("reading the host's mounts took too long".to_owned()));
    let host = match host {
        Ok(host) => Arc::new(host),
        Err(why) => return asked.into_iter().map(|path| unknown(path, &why)).collect(),
    };
    let now = workers.run(asked.iter().map(|path| now(path, &host)).collect(), until());
    let next_start = async {
        let accounts = look_up(&asked, workers, until()).await;
        let work = asked.iter().map(|path| next_start(path, &host, &accounts));
        workers.run(work.collect(), until()).await
    };
    let (now, next_start) = tokio::join!(now, next_start);
    let told = now.into_iter().zip(next_start);
    asked
        .into_iter()
        .zip(told)
        .map(|(path, (now, next_start))| {
            let (mut now, room) = match now {
                Some(None) => (None, None),
                Some(Some(told)) => some(verdict(told)),
                None => some((timed_out(&path), None)),
            };
            let (next_start, room_then) = match next_start {
                Some(told) => verdict(told),
                None => (timed_out(&path), None),
            };
            if let Some(now) = &mut now
                && now.reason.is_writable() == Some(false)
                && next_start.reason == Reason::Ok
            {
                now.sentence
                    .push_str("; its next start would find it writable: restart it");
            }
            WritePath {
                unit: path.name,
                path: path.path,
                in_baseline: path.in_baseline,
                room: room.or(room_then),
                now,
                next_start,
            }
        })
        .collect()
}

fn now(asked: &Asked, host: &Arc<Host>) -> Work<Option<Told>> {
    let target = format!("write path {} {}", asked.name, asked.path.display());
    let (asked, host) = (asked.clone(), host.clone());
    Work::new(target, move || {
        let unit = asked.unit.as_ref()?;
        process::look(unit, &host, &asked.path, asked.want)
    })
}

/// What NSS says of each account, asked once for all services that have it; `None` where it did not
/// answer.
type Accounts = BTreeMap<Account, Option<Result<Numbers, Hindrance>>>;

async fn look_up(asked: &[Asked], workers: &Workers, deadline: Instant) -> Accounts {
    let settings = asked.iter().filter_map(Asked::settings);
    let mut accounts: Vec<Account> = settings.map(|settings| Account::of(&settings)).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let work = accounts.iter().cloned().map(|account| {
        let target = format!("account {account:?}");
        Work::new(target, move || account.look_up())
    });
    let found = workers.run(work.collect(), deadline).await;
    accounts.into_iter().zip(found).collect()
}

fn next_start(asked: &Asked, host: &Arc<Host>, accounts: &Accounts) -> Work<Told> {
    let target = format!(
        "write path {} {} at its next start",
        asked.name,
        asked.path.display()
    );
    let (asked, host) = (asked.clone(), host.clone());
    let account = asked.settings().map(|settings| Account::of(&settings));
    let numbers = account.and_then(|account| accounts.get(&account)).cloned();
    Work::new(target, move || {
        predicted::look(&asked, &host, numbers.flatten())
    })
}

fn some<A, B>((a, b): (A, B)) -> (Option<A>, B) {
    (Some(a), b)
}

fn verdict(told: Told) -> (Verdict, Option<Room>) {
    told.unwrap_or_else(|sentence| {
        let reason = Reason::Unknown;
        (Verdict { reason, sentence }, None)
    })
}

fn timed_out(asked: &Asked) -> Verdict {
    Verdict {
        reason: Reason::Timeout,
        sentence: format!(
            "looking at {} takes longer than {} s: a file system on the way does not answer",
            asked.path.display(),
            TARGET_TIMEOUT.as_secs()
        ),
    }
}

fn unknown(asked: Asked, why: &str) -> WritePath {
    let verdict = Verdict {
        reason: Reason::Unknown,
        sentence: why.to_owned(),
    };
    WritePath {
        unit: asked.name,
        path: asked.path,
        in_baseline: asked.in_baseline,
        now: None,
        next_start: verdict,
        room: None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("srv/app")).unwrap();
        std::fs::write(root.join("there"), "").unwrap();
        for (target, link) in [
            ("../../tmp/a.sock", "srv/app/a.sock"),
            ("a.sock", "srv/app/b.sock"),
            ("../away/dir", "srv/dir"),
            ("../there", "srv/there"),
            ("circle", "circle"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, end) in [
            ("srv/app/a.sock", "tmp/a.sock"),
            ("srv/app/b.sock", "tmp/a.sock"),
            ("srv/dir/a.sock", "away/dir/a.sock"),
            ("srv/app/none.sock", "srv/app/none.sock"),
            ("srv/there", "there"),
            ("circle", "circle"),
        ] {
            assert_eq!(leads_to(&root.join(path), LINKS), root.join(end), "{path}");
        }
    }
}
