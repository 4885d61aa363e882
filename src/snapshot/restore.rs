//! Brings the files of a snapshot back: each is replaced in one step, and all of them or none.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use super::take::{About, sync, take};
use super::{Attributes, Content, Entry, Pair, Scope, Snapshot, host, read_entry};

/// What a file is called until it is whole. systemd reads no such name, and as one run follows
/// the other, one name a directory is enough.
const PARTIAL: &str = ".baseline-exporter.tmp";

/// What has to change so that the host has the files of the snapshot.
#[derive(Debug)]
pub struct Plan {
    /// First what goes, then what is written; both sorted.
    changes: Vec<Pair>,
    /// What only the host has, and keeps.
    kept: Vec<String>,
}

/// Keeps other restores out until it is dropped.
///
/// # Errors
///
/// A sentence, if another one runs.
pub fn lock(unit_directory: &Path) -> Result<File, String> {
    let shown = unit_directory.display();
    let directory =
        File::open(unit_directory).map_err(|error| format!("opening {shown}: {error}"))?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            "another `snapshot restore` is running: wait until it has ended".to_owned()
        } else {
            format!("locking {shown}: {error}")
        }
    })?;
    Ok(directory)
}

impl Plan {
    /// Compares. With `prune` what only the host has is to go.
    ///
    /// # Errors
    ///
    /// A sentence; also for what stands in the way and is nothing that may be replaced.
    pub fn make(
        snapshot: Snapshot,
        unit_directory: &Path,
        scope: Scope<'_>,
        prune: bool,
    ) -> Result<Self, String> {
        let mut plan = Self {
            changes: Vec::new(),
            kept: Vec::new(),
        };
        let mut written = Vec::new();
        for pair in snapshot.compare(unit_directory, scope)? {
            match (&pair.golden, &pair.host) {
                (Some(golden), Some(host)) if golden.is_exactly(host) => {}
                (Some(_), _) => written.push(pair),
                (None, _) if prune => plan.changes.push(pair),
                (None, _) => plan.kept.push(pair.path),
            }
        }
        plan.changes.append(&mut written);
        plan.refuse_obstacles(unit_directory)?;
        Ok(plan)
    }

    fn refuse_obstacles(&self, unit_directory: &Path) -> Result<(), String> {
        let removed: BTreeSet<&str> = self
            .changes
            .iter()
            .filter(|change| change.golden.is_none())
            .map(|change| change.path.as_str())
            .collect();
        for change in &self.changes {
            let path = unit_directory.join(&change.path);
            let is_other = |entry: &Entry| entry.content == Content::Other;
            if change.host.as_ref().is_some_and(is_other) {
                return Err(format!(
                    "{} is neither a file nor a link: move it out of the way first",
                    path.display()
                ));
            }
            // Through a link, the file would be written somewhere else.
            if let Some((parent, _)) = change.path.split_once('/')
                && change.golden.is_some()
                && !removed.contains(parent)
                && fs::symlink_metadata(unit_directory.join(parent))
                    .is_ok_and(|metadata| !metadata.is_dir())
            {
                return Err(format!(
                    "{} is no directory, which it is in the snapshot: move it out of the way \
                     first, or remove it with --prune",
                    unit_directory.join(parent).display()
                ));
            }
        }
        Ok(())
    }

    /// True if the host has all files of the snapshot as they are there, and none has to go.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// One line for each change, and for each file that is kept though the snapshot lacks it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let path = &change.path;
            text.push_str(&match change.golden.as_ref().map(|entry| &entry.content) {
                None => format!("remove  {path}\n"),
                Some(Content::Link(target)) => format!("link    {path} -> {}\n", target.display()),
                Some(_) => format!("write   {path}\n"),
            });
        }
        for path in &self.kept {
            text.push_str(&format!(
                "keep    {path}, which is not in the snapshot (--prune removes it)\n"
            ));
        }
        text
    }

    /// Takes a snapshot of the files as they are, beside the one that is restored, and gives
    /// its directory.
    ///
    /// # Errors
    ///
    /// A sentence. Nothing was changed then.
    pub fn back_up(
        &self,
        unit_directory: &Path,
        scope: Scope<'_>,
        snapshot: &Path,
        about: &About,
    ) -> Result<PathBuf, String> {
        let mut files = host(unit_directory, scope)?;
        let replaced = self
            .changes
            .iter()
            .filter_map(|change| Some((change.path.clone(), change.host.clone()?)));
        files.extend(replaced);
        // What cannot be copied is not touched either: it would be no change, but an obstacle.
        files.retain(|_, entry| entry.content != Content::Other);
        // With links and dots resolved it has a name, and a parent.
        let snapshot = fs::canonicalize(snapshot)
            .map_err(|error| format!("looking for {}: {error}", snapshot.display()))?;
        let time = humantime::format_rfc3339_seconds(SystemTime::now())
            .to_string()
            .replace(['-', ':'], "");
        let mut name = snapshot.file_name().unwrap_or_default().to_owned();
        name.push(format!(".before-{time}"));
        let mut backup = snapshot.with_file_name(&name);
        // A second one in the same second.
        for number in 2..100 {
            if fs::symlink_metadata(&backup).is_err() {
                break;
            }
            let mut name = name.clone();
            name.push(format!("-{number}"));
            backup = snapshot.with_file_name(name);
        }
        take(&files, &backup, about).map_err(|reason| {
            format!("nothing was changed, as the files cannot be backed up first: {reason}")
        })?;
        Ok(backup)
    }

    /// Makes the changes. If one fails, those before it are taken back.
    ///
    /// # Errors
    ///
    /// A sentence that says how the files stand now.
    pub fn apply(&self, unit_directory: &Path, backup: &Path) -> Result<(), String> {
        self.apply_by_step(unit_directory, backup, &mut || Ok(()))
    }

    /// The same, with `step` called whenever something was changed on disk: what it refuses, fails.
    fn apply_by_step(
        &self,
        unit_directory: &Path,
        backup: &Path,
        step: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), String> {
        sweep(unit_directory).map_err(|error| format!("nothing was changed: {error}"))?;
        for (number, change) in self.changes.iter().enumerate() {
            let path = &change.path;
            let golden = change.golden.as_ref();
            let attributes = golden
                .and_then(|golden| golden.attributes)
                .or_else(|| attributes_of_text(change.host.as_ref()?));
            if let Err(error) = put(unit_directory, path, golden, attributes, step) {
                // The one that failed may have been changed already.
                let changed = self.changes.get(..=number).unwrap_or_default();
                return Err(format!(
                    "restoring {}: {error}; {}",
                    unit_directory.join(path).display(),
                    roll_back(unit_directory, changed, backup)
                ));
            }
        }
        Ok(())
    }
}

/// Puts back what was there before these changes, and tells how that went.
fn roll_back(unit_directory: &Path, changes: &[Pair], backup: &Path) -> String {
    // First, as a directory goes only once it is empty.
    let mut failures: Vec<String> = sweep(unit_directory).err().into_iter().collect();
    for change in changes.iter().rev() {
        let host = change.host.as_ref();
        let is_unchanged = || {
            let path = unit_directory.join(&change.path);
            host.is_some() && read_entry(&path).is_ok_and(|entry| entry.as_ref() == host)
        };
        // Where it could not be written, it most likely cannot be written back either.
        if is_unchanged() {
            continue;
        }
        let attributes = host.and_then(|host| host.attributes);
        let put = put(unit_directory, &change.path, host, attributes, &mut || {
            Ok(())
        });
        if let Err(error) = put {
            failures.push(format!("{}: {error}", change.path));
        }
    }
    if failures.is_empty() {
        return "every file was put back as it was".to_owned();
    }
    let backup = backup.display();
    format!(
        "putting the files back failed as well ({}): once that is put right, run \
         `baseline-exporter snapshot restore {backup} --apply --prune`, with the same --config.file \
         as now",
        failures.join("; ")
    )
}

fn attributes_of_text(entry: &Entry) -> Option<Attributes> {
    match entry.content {
        Content::Text(_) => entry.attributes,
        Content::Link(_) | Content::Other => None,
    }
}

/// Makes one path hold this entry, or nothing. Whoever looks, or pulls the plug, finds the old
/// one or the new one.
fn put(
    unit_directory: &Path,
    path: &str,
    entry: Option<&Entry>,
    attributes: Option<Attributes>,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let to = unit_directory.join(path);
    let below = path
        .split_once('/')
        .map(|(name, _)| unit_directory.join(name));
    let directory = below.as_deref().unwrap_or(unit_directory);
    let Some(entry) = entry else {
        return remove(&to, directory, below.is_some(), step);
    };
    if let Some(below) = &below {
        match fs::create_dir(below) {
            Ok(()) => {
                fs::set_permissions(below, Permissions::from_mode(0o755))?;
                sync(unit_directory)?;
                step()?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let partial = directory.join(PARTIAL);
    remove_if_there(&partial)?;
    match &entry.content {
        Content::Text(text) => write(&partial, text, attributes, step)?,
        Content::Link(target) => {
            symlink(target, &partial)?;
            if let Some(Attributes { uid, gid, .. }) = attributes {
                lchown(&partial, Some(uid), Some(gid))?;
            }
        }
        // Refused before anything was changed.
        Content::Other => return Err(io::Error::other("it is neither a file nor a link")),
    }
    step()?;
    fs::rename(&partial, &to)?;
    step()?;
    sync(directory)?;
    step()
}

fn write(
    partial: &Path,
    text: &[u8],
    attributes: Option<Attributes>,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)?;
    step()?;
    file.write_all(text)?;
    step()?;
    if let Some(Attributes { uid, gid, .. }) = attributes {
        fchown(&file, Some(uid), Some(gid))?;
    }
    // After the owner, as a change of owner may take bits away.
    let mode = attributes.map_or(0o644, |attributes| attributes.mode);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Removes a file, and the directory of drop-ins or links that is empty without it.
fn remove(
    path: &Path,
    directory: &Path,
    is_below: bool,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    remove_if_there(path)?;
    step()?;
    if is_below {
        match fs::remove_dir(directory) {
            Ok(()) => return step(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Not empty; and an empty one that has to stay means nothing.
            Err(_) => {}
        }
    }
    sync(directory)?;
    step()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    // On a read-only file system, removing what is not there would fail for another reason.
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => fs::remove_file(path),
    }
}

/// Removes what a restore that was killed has left.
fn sweep(unit_directory: &Path) -> Result<(), String> {
    let swept = || {
        remove_if_there(&unit_directory.join(PARTIAL))?;
        for entry in fs::read_dir(unit_directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_if_there(&entry.path().join(PARTIAL))?;
            }
        }
        Ok(())
    };
    swept().map_err(|error: io::Error| {
        format!(
            "removing {PARTIAL} below {}: {error}",
            unit_directory.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::snapshot::tests::{Host, about};

    type Everything = BTreeMap<String, Option<Entry>>;

    /// A snapshot, and a host that differs from it in every way.
    fn differing() -> (Host, Everything) {
        let host = Host::new();
        for name in ["changed", "gone", "masked", "mode", "same"] {
            let path = format!("host/quantum-{name}.service");
            host.write(&path, &format!("[Unit]\nDescription={name}\n"));
        }
        host.set_mode("host/quantum-mode.service", 0o600);
        host.write("host/quantum-gone.service.d/more.conf", "[Service]\n");
        host.link("/dev/null", "host/quantum-unmasked.service");
        host.link("/x/a", "host/quantum-trader.target");
        host.link(
            "/x/quantum-same.service",
            "host/quantum-trader.target.wants/quantum-same.service",
        );
        host.write("host/ssh.service", "[Unit]\n");
        host.take("taken");
        let golden = host.everything();

        host.write("host/quantum-changed.service", "[Unit]\r\n");
        host.remove("host/quantum-gone.service");
        host.remove("host/quantum-gone.service.d/more.conf");
        fs::remove_dir(host.path("host/quantum-gone.service.d")).unwrap();
        host.remove("host/quantum-masked.service");
        host.link("/dev/null", "host/quantum-masked.service");
        host.set_mode("host/quantum-mode.service", 0o666);
        host.remove("host/quantum-unmasked.service");
        host.write("host/quantum-unmasked.service", "[Unit]\n");
        host.remove("host/quantum-trader.target");
        host.link("/x/b", "host/quantum-trader.target");
        host.remove("host/quantum-trader.target.wants/quantum-same.service");
        host.link(
            "/x/quantum-new.service",
            "host/quantum-trader.target.wants/quantum-new.service",
        );
        host.write("host/quantum-new.service", "[Unit]\n");
        host.write("host/quantum-same.service.d/new.conf", "[Unit]\n");
        (host, golden)
    }

    #[track_caller]
    fn plan(host: &Host, snapshot: &Path, prune: bool) -> Plan {
        let snapshot = Snapshot::read(snapshot).unwrap();
        Plan::make(snapshot, &host.units(), host.scope(), prune).unwrap()
    }

    #[track_caller]
    fn back_up(host: &Host, plan: &Plan) -> PathBuf {
        plan.back_up(&host.units(), host.scope(), &host.path("taken"), &about())
            .unwrap()
    }

    #[track_caller]
    fn restore(host: &Host, snapshot: &Path, prune: bool) -> PathBuf {
        let plan = plan(host, snapshot, prune);
        let backup = back_up(host, &plan);
        plan.apply(&host.units(), &backup).unwrap();
        backup
    }

    #[test]
    fn the_plan_tells_all_and_does_nothing() {
        let (host, _) = differing();
        let before = host.everything();
        assert_eq!(
            plan(&host, &host.path("taken"), false).text(),
            "\
write   quantum-changed.service
write   quantum-gone.service
write   quantum-gone.service.d/more.conf
write   quantum-masked.service
write   quantum-mode.service
link    quantum-trader.target -> /x/a
link    quantum-trader.target.wants/quantum-same.service -> /x/quantum-same.service
link    quantum-unmasked.service -> /dev/null
keep    quantum-new.service, which is not in the snapshot (--prune removes it)
keep    quantum-same.service.d/new.conf, which is not in the snapshot (--prune removes it)
keep    quantum-trader.target.wants/quantum-new.service, which is not in the snapshot (--prune removes it)
"
        );
        assert!(
            plan(&host, &host.path("taken"), true)
                .text()
                .starts_with("remove  quantum-new.service\n")
        );
        assert_eq!(host.everything(), before);
    }

    #[test]
    fn everything_comes_back_and_the_backup_undoes_it() {
        let (host, golden) = differing();
        let before = host.everything();
        let backup = restore(&host, &host.path("taken"), true);
        assert_eq!(host.everything(), golden);
        assert!(plan(&host, &host.path("taken"), true).is_empty());

        restore(&host, &backup, true);
        assert_eq!(host.everything(), before);
    }

    #[test]
    fn what_only_the_host_has_stays_unless_it_is_pruned() {
        let (host, golden) = differing();
        restore(&host, &host.path("taken"), false);
        let now = host.everything();
        for (path, entry) in &golden {
            assert_eq!(now.get(path), Some(entry), "{path}");
        }
        let more: Vec<_> = now
            .keys()
            .filter(|path| !golden.contains_key(*path))
            .collect();
        assert_eq!(
            more,
            [
                "quantum-new.service",
                "quantum-same.service.d/",
                "quantum-same.service.d/new.conf",
                "quantum-trader.target.wants/quantum-new.service",
            ]
        );
    }

    #[test]
    fn copies_without_a_manifest_come_back_too() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Unit]\n");
        host.write("snapshot/quantum-b.service", "");
        host.write("snapshot/quantum-c.service", "[Unit]\n");
        host.write("host/quantum-a.service", "[Service]\n");
        host.set_mode("host/quantum-a.service", 0o600);
        host.write("host/quantum-b.service", "[Service]\n");
        let snapshot = host.path("snapshot");
        let plan = plan(&host, &snapshot, true);
        plan.apply(&host.units(), &snapshot).unwrap();
        let entry = |name: &str| {
            let entry = read_entry(&host.units().join(name)).unwrap();
            let entry = entry.unwrap();
            (entry.content, entry.attributes.unwrap().mode)
        };
        let text = || Content::Text(b"[Unit]\n".to_vec());
        assert_eq!(entry("quantum-a.service"), (text(), 0o600));
        assert_eq!(
            entry("quantum-b.service").0,
            Content::Link("/dev/null".into())
        );
        assert_eq!(entry("quantum-c.service"), (text(), 0o644));
    }

    /// Runs until `step` has been called `count` times; true if that was not the end of it.
    fn killed_after(host: &Host, plan: &Plan, backup: &Path, count: usize) -> bool {
        let mut calls = 0;
        let mut step = || {
            calls += 1;
            // Nothing is put back: what a kill leaves is what was there at this moment.
            assert!(calls <= count, "killed on purpose");
            Ok(())
        };
        let mut run = || plan.apply_by_step(&host.units(), backup, &mut step);
        let run = || drop(run());
        catch_unwind(AssertUnwindSafe(run)).is_err()
    }

    #[test]
    fn killed_at_any_step_each_file_is_old_or_new_and_nothing_is_lost() {
        let mut count = 0;
        loop {
            let (host, golden) = differing();
            let before = host.everything();
            let first = plan(&host, &host.path("taken"), true);
            let backup = back_up(&host, &first);
            if !killed_after(&host, &first, &backup, count) {
                break;
            }
            let is_file = |(path, _): &(String, Option<Entry>)| {
                !path.ends_with('/') && !path.ends_with(PARTIAL)
            };
            let left: Everything = host.everything().into_iter().filter(is_file).collect();
            let paths = before.keys().chain(golden.keys()).chain(left.keys());
            for path in paths.filter(|path| !path.ends_with('/')) {
                let now = left.get(path);
                assert!(
                    now == before.get(path) || now == golden.get(path),
                    "{path} after step {count}: {now:?}"
                );
            }
            // One way on, or the other.
            let (snapshot, wanted) = if count % 2 == 0 {
                (host.path("taken"), golden)
            } else {
                (backup, before)
            };
            restore(&host, &snapshot, true);
            // A directory without files may stay: it means nothing.
            let files = |everything: Everything| -> Everything {
                let is_file = |(path, _): &(String, Option<Entry>)| !path.ends_with('/');
                everything.into_iter().filter(is_file).collect()
            };
            assert_eq!(
                files(host.everything()),
                files(wanted),
                "after step {count}"
            );
            count += 1;
        }
        assert!(count > 40, "only {count} steps");
    }

    #[test]
    fn a_failure_at_any_step_leaves_everything_as_it_was() {
        let mut count = 0;
        loop {
            let (host, golden) = differing();
            let before = host.everything();
            let plan = plan(&host, &host.path("taken"), true);
            let mut calls = 0;
            let mut step = || {
                calls += 1;
                if calls > count {
                    return Err(io::Error::other("full"));
                }
                Ok(())
            };
            match plan.apply_by_step(&host.units(), Path::new("backup"), &mut step) {
                Ok(()) => {
                    assert_eq!(host.everything(), golden);
                    break;
                }
                Err(reason) => {
                    assert!(
                        reason.ends_with(": full; every file was put back as it was"),
                        "{reason}"
                    );
                    assert_eq!(host.everything(), before, "after step {count}");
                }
            }
            count += 1;
        }
        assert!(count > 40, "only {count} steps");
    }

    #[test]
    fn a_failure_to_put_back_names_the_way_on() {
        let (host, _) = differing();
        let plan = plan(&host, &host.path("taken"), true);
        let units = host.units();
        let moved = host.path("moved");
        let mut step = || fs::rename(&units, &moved).and_then(|()| fs::write(&units, ""));
        let reason = plan
            .apply_by_step(&units, Path::new("/b"), &mut step)
            .unwrap_err();
        assert!(
            reason.ends_with(
                "): once that is put right, run \
                 `baseline-exporter snapshot restore /b --apply --prune`, with the same --config.file \
                 as now"
            ),
            "{reason}"
        );
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_what_is_no_file() {
        let host = Host::new();
        host.write("host/quantum-a.service.d/more.conf", "[Unit]\n");
        host.take("taken");
        fs::remove_dir_all(host.path("host/quantum-a.service.d")).unwrap();
        fs::create_dir(host.path("elsewhere")).unwrap();
        let elsewhere = host.path("elsewhere");
        host.link(elsewhere.to_str().unwrap(), "host/quantum-a.service.d");
        let make = |prune| {
            let snapshot = Snapshot::read(&host.path("taken")).unwrap();
            Plan::make(snapshot, &host.units(), host.scope(), prune)
        };
        let refusal = make(false).unwrap_err();
        assert!(refusal.contains("is no directory, which it is in the snapshot"));
        make(true)
            .unwrap()
            .apply(&host.units(), Path::new("backup"))
            .unwrap();
        assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
        assert!(host.units().join("quantum-a.service.d").is_dir());

        host.remove("host/quantum-a.service.d/more.conf");
        fs::create_dir(host.path("host/quantum-a.service.d/more.conf")).unwrap();
        let refusal = make(false).unwrap_err();
        assert!(
            refusal.contains("is neither a file nor a link"),
            "{refusal}"
        );
    }

    #[test]
    fn one_restore_at_a_time() {
        let host = Host::new();
        let first = lock(&host.units()).unwrap();
        assert_eq!(
            lock(&host.units()).unwrap_err(),
            "another `snapshot restore` is running: wait until it has ended"
        );
        drop(first);
        lock(&host.units()).unwrap();
    }
}
