//! The golden snapshot: the watched units' files as they were last known good, beside the same
//! files as the host has them now.

pub mod diff;
pub mod restore;
pub mod take;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::Pattern;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::baseline::{Baseline, Systemd, UnitFiles};

/// Where an administrator's unit files stand; only those are kept and compared.
pub const UNIT_DIRECTORY: &str = "/etc/systemd/system";
/// The snapshot's own description, beside its files.
const MANIFEST: &str = "manifest.json";
/// The directory of a snapshot that holds the files, each at its path below the unit directory.
const FILES: &str = "files";
/// The only form of manifest so far.
const FORMAT: u32 = 1;
/// What a unit may be, by the end of its name.
const TYPES: [&str; 9] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
];
/// How the directories end that hold links to the units that another one pulls in.
const LINK_DIRECTORIES: [&str; 3] = [".wants", ".requires", ".upholds"];
/// No unit file is larger; refused before memory is spent on it.
const MOST_BYTES: u64 = 1024 * 1024;
/// Nor a manifest: this is enough for a hundred thousand files.
const MOST_MANIFEST_BYTES: u64 = 32 * 1024 * 1024;

/// Files by their paths below the unit directory.
pub type Files = BTreeMap<String, Entry>;

/// One file, or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub content: Content,
    /// Mode and owner; `None` for a snapshot without a manifest, which does not tell.
    pub attributes: Option<Attributes>,
}

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file, and its bytes.
    Text(Vec<u8>),
    /// A symbolic link, and where it points. One to /dev/null masks the unit.
    Link(PathBuf),
    /// A directory, a pipe, … where systemd would look for a file.
    Other,
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A snapshot that was read and found whole.
#[derive(Debug)]
pub struct Snapshot {
    /// What it holds.
    pub files: Files,
    /// SHA-256 over the names and contents of all of them, hexadecimal.
    pub digest: String,
    /// When it was taken, by its manifest; else by the time stamp of its directory.
    pub taken: Option<SystemTime>,
    /// False for a directory that holds unit files and nothing that describes them: such a one
    /// never had drop-ins, links and modes.
    pub has_manifest: bool,
}

/// `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// RFC 3339.
    taken: String,
    host: String,
    /// The version, as the distribution writes it; `None` if systemd could not be asked.
    systemd: Option<String>,
    deployment: String,
    directory: String,
    files: Vec<Described>,
}

/// One file, as the manifest describes it.
#[derive(Debug, Serialize, Deserialize)]
struct Described {
    /// Below the unit directory.
    path: String,
    /// Four octal digits.
    mode: String,
    uid: u32,
    gid: u32,
    /// Of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<PathBuf>,
}

/// One path, as the snapshot and as the host has it. At least one of them does.
#[derive(Debug)]
pub struct Pair {
    /// Below the unit directory.
    pub path: String,
    /// As it was last known good; `None`: it is not in the snapshot.
    pub golden: Option<Entry>,
    /// As it is; `None`: it is not there.
    pub host: Option<Entry>,
}

/// Which files of the unit directory belong to the baseline's units.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    systemd: &'a Systemd,
    ignore: &'a [Pattern],
}

impl<'a> Scope<'a> {
    /// The watched units' files, without those that `unit_files.ignore` leaves out.
    pub fn of(baseline: &'a Baseline) -> Self {
        Self::new(&baseline.systemd, baseline.unit_files.as_ref())
    }

    /// The same, from the two sections that tell.
    pub fn new(systemd: &'a Systemd, unit_files: Option<&'a UnitFiles>) -> Self {
        Self {
            systemd,
            ignore: unit_files.map_or(&[], |unit_files| &unit_files.ignore),
        }
    }

    fn ignores(&self, path: &str) -> bool {
        let name = file_name(path);
        self.ignore
            .iter()
            .any(|pattern| pattern.matches(path) || pattern.matches(name))
    }

    /// Whether this unit is watched, or is the template of a watched one.
    fn has(&self, unit: &str) -> bool {
        if !is_unit_name(unit) {
            return false;
        }
        let is_instance = |name: &str| match (name.split_once('@'), unit.split_once("@.")) {
            (Some((name, instance)), Some((template, kind))) => {
                name == template && suffix(instance) == kind
            }
            _ => false,
        };
        self.systemd.watches(unit) || self.names().any(is_instance)
    }

    /// Whether drop-ins for `owner` change a watched unit: its own, those of all units of which
    /// the names begin alike (`quantum-.service.d`), those of all units of its type (`service.d`).
    fn has_drop_ins(&self, owner: &str) -> bool {
        if self.has(owner) {
            return true;
        }
        if TYPES.contains(&owner) {
            let patterns = self.systemd.watch.iter().map(Pattern::as_str);
            return self
                .names()
                .chain(patterns)
                .any(|name| suffix(name) == owner);
        }
        owner.rsplit_once('.').is_some_and(|(prefix, kind)| {
            prefix.ends_with('-')
                && self
                    .names()
                    .any(|name| name.starts_with(prefix) && suffix(name) == kind)
        })
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.systemd.units.iter().map(|unit| unit.name.as_str())
    }

    /// Whether a file or link that stands at the top of the unit directory counts.
    fn has_file(&self, name: &str, content: &Content) -> bool {
        // The name of a directory that is a link.
        let owner = |ends: &[&str]| ends.iter().find_map(|end| name.strip_suffix(end));
        match content {
            Content::Link(target) => {
                let target = target.file_name().and_then(|name| name.to_str());
                let is_alias = is_unit_name(name) && target.is_some_and(|unit| self.has(unit));
                self.has(name)
                    || is_alias
                    || owner(&[".d"]).is_some_and(|owner| self.has_drop_ins(owner))
                    || owner(&LINK_DIRECTORIES).is_some_and(|owner| self.has(owner))
            }
            Content::Text(_) | Content::Other => self.has(name),
        }
    }
}

impl Snapshot {
    /// Reads the snapshot in this directory: one with a manifest, or one that is nothing but
    /// copies of unit files.
    ///
    /// # Errors
    ///
    /// A sentence; also for a snapshot that is not what its manifest says.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let unreadable = |error: &io::Error| unreadable_snapshot(directory, error);
        let changed = fs::metadata(directory).and_then(|directory| directory.modified());
        let changed = changed.map_err(|error| unreadable(&error))?;
        let manifest = directory.join(MANIFEST);
        let (files, taken, has_manifest) = match read_file(&manifest, MOST_MANIFEST_BYTES) {
            Ok(text) => {
                let (files, taken) = described(directory, &text)?;
                (files, taken, true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (bare(directory)?, Some(changed), false)
            }
            Err(error) => return Err(unreadable(&error)),
        };
        // With a manifest it holds none because there was none.
        if files.is_empty() && !has_manifest {
            return Err(format!(
                "the snapshot {} holds no unit file: name the directory that `baseline-exporter \
                 snapshot take` wrote, or one with copies of the unit files",
                directory.display()
            ));
        }
        Ok(Self {
            digest: digest(&files),
            files,
            taken,
            has_manifest,
        })
    }

    /// Each path of the snapshot and each that only the host has, sorted.
    ///
    /// # Errors
    ///
    /// A sentence that names the file or directory of the host that cannot be read.
    pub fn compare(self, unit_directory: &Path, scope: Scope<'_>) -> Result<Vec<Pair>, String> {
        let mut host = host(unit_directory, scope)?;
        let mut pairs = Vec::new();
        for (path, golden) in self.files {
            if scope.ignores(&path) {
                continue;
            }
            let found = match host.remove(&path) {
                Some(entry) => Some(entry),
                // Not of a watched unit any more, or not there.
                None => read_entry(&unit_directory.join(&path))
                    .map_err(|error| unreadable_file(&unit_directory.join(&path), &error))?,
            };
            pairs.push(Pair {
                path,
                golden: Some(golden),
                host: found,
            });
        }
        let could_hold = |path: &str| self.has_manifest || is_unit_file(path, scope);
        let extra = host.into_iter().filter(|(path, _)| could_hold(path));
        pairs.extend(extra.map(|(path, entry)| Pair {
            path,
            golden: None,
            host: Some(entry),
        }));
        pairs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(pairs)
    }
}

/// Whether this is the file of a watched unit itself: no drop-in, no link to it.
fn is_unit_file(path: &str, scope: Scope<'_>) -> bool {
    !path.contains('/') && scope.has(path)
}

impl Entry {
    /// Whether systemd takes both for the same: line ends and trailing blanks do not count, nor
    /// how a unit is masked.
    pub fn means(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            _ if self.is_mask() && other.is_mask() => true,
            (Content::Text(one), Content::Text(other)) => plain(one) == plain(other),
            (one, other) => one == other,
        }
    }

    /// Whether the host's file is exactly this one of the snapshot, as far as the snapshot tells.
    pub fn is_exactly(&self, host: &Self) -> bool {
        match (self.attributes, host.attributes) {
            // Without a manifest an empty file stands for a mask of either kind.
            (None, _) if self.is_mask() && host.is_mask() => true,
            (Some(golden), Some(attributes)) if matches!(self.content, Content::Text(_)) => {
                golden == attributes && self.content == host.content
            }
            // The mode of a link means nothing.
            _ => self.content == host.content,
        }
    }

    /// An empty file masks a unit as a link to /dev/null does.
    pub fn is_mask(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_empty(),
            Content::Link(target) => target == Path::new("/dev/null"),
            Content::Other => false,
        }
    }
}

/// The text without what systemd does not notice.
fn plain(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let trimmed = line.trim_ascii_end();
            // A backslash continues the line only where nothing follows it.
            if trimmed.ends_with(b"\\") {
                line
            } else {
                trimmed
            }
        })
        .collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// The files of the watched units, as the host has them.
///
/// # Errors
///
/// A sentence that names the file or directory that cannot be read.
pub fn host(unit_directory: &Path, scope: Scope<'_>) -> Result<Files, String> {
    let mut files = Files::new();
    for name in names(unit_directory)? {
        // systemd loads no unit of such a name.
        let Ok(name) = name.into_string() else {
            continue;
        };
        let path = unit_directory.join(&name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Gone since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable_file(&path, &error)),
        };
        if metadata.is_dir() && !scope.has(&name) {
            host_directory(&path, &name, scope, &mut files)?;
        } else if metadata.is_symlink() || scope.has(&name) {
            let entry = read_entry(&path).map_err(|error| unreadable_file(&path, &error))?;
            let entry = entry.filter(|entry| scope.has_file(&name, &entry.content));
            files.extend(entry.map(|entry| (name, entry)));
        }
    }
    files.retain(|path, _| !scope.ignores(path));
    Ok(files)
}

/// What a directory of drop-ins or of links holds of the watched units.
fn host_directory(
    directory: &Path,
    name: &str,
    scope: Scope<'_>,
    files: &mut Files,
) -> Result<(), String> {
    let links_of = LINK_DIRECTORIES
        .iter()
        .find_map(|end| name.strip_suffix(end));
    let counts: Box<dyn Fn(&str) -> bool + '_> = match (name.strip_suffix(".d"), links_of) {
        (Some(owner), _) if scope.has_drop_ins(owner) => {
            Box::new(|file: &str| suffix(file) == "conf")
        }
        (_, Some(owner)) if scope.has(owner) => Box::new(is_unit_name),
        (_, Some(_)) => Box::new(|file: &str| scope.has(file)),
        _ => return Ok(()),
    };
    for file in names(directory)? {
        let path = directory.join(&file);
        let Ok(file) = file.into_string() else {
            return Err(format!(
                "{} has a name that is not UTF-8 text: rename it",
                path.display()
            ));
        };
        if counts(&file) {
            let entry = read_entry(&path).map_err(|error| unreadable_file(&path, &error))?;
            files.extend(entry.map(|entry| (format!("{name}/{file}"), entry)));
        }
    }
    Ok(())
}

/// The names in a directory; none where it does not exist.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    entries
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect()
        })
        .map_err(|error| unreadable_file(directory, &error))
}

/// What stands at this path; `None` if nothing does.
fn read_entry(path: &Path) -> io::Result<Option<Entry>> {
    let gone =
        |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let read = fs::symlink_metadata(path).and_then(|metadata| {
        let content = if metadata.is_symlink() {
            Content::Link(fs::read_link(path)?)
        } else if metadata.is_file() {
            Content::Text(read_file(path, MOST_BYTES)?)
        } else {
            Content::Other
        };
        let attributes = Attributes {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        };
        Ok(Entry {
            content,
            attributes: Some(attributes),
        })
    });
    match read {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a regular file that is small enough. Waits for no pipe and follows no link.
fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let mebibytes = most / (1024 * 1024);
        return Err(io::Error::other(format!(
            "it is larger than {mebibytes} MiB, which nothing of a unit is"
        )));
    }
    Ok(bytes)
}

/// The files that the manifest describes, and when they were copied.
fn described(directory: &Path, text: &[u8]) -> Result<(Files, Option<SystemTime>), String> {
    let damaged = |what: String| {
        format!(
            "the snapshot {} is damaged: {what}; take a new one, or use another copy",
            directory.display()
        )
    };
    let manifest: Manifest = serde_json::from_slice(text)
        .map_err(|error| damaged(format!("its {MANIFEST} cannot be read: {error}")))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "the snapshot {} is of format {}, and only format {FORMAT} is known: use the \
             baseline-exporter that took it",
            directory.display(),
            manifest.format
        ));
    }
    let mut files = Files::new();
    for file in manifest.files {
        let path = file.path;
        if !is_path(&path) {
            return Err(damaged(format!("{path:?} is no path of a unit's file")));
        }
        let mode = u32::from_str_radix(&file.mode, 8).ok();
        let Some(mode) = mode.filter(|mode| *mode <= 0o7777) else {
            return Err(damaged(format!("{path} has the mode {:?}", file.mode)));
        };
        let copy = directory.join(FILES).join(&path);
        let entry = read_entry(&copy).map_err(|error| unreadable_snapshot(&copy, &error))?;
        let is_as_described = match entry.as_ref().map(|entry| &entry.content) {
            None => return Err(damaged(format!("{} is missing", copy.display()))),
            Some(Content::Text(text)) => file.sha256.as_ref() == Some(&sha256(text)),
            Some(Content::Link(target)) => file.link.as_ref() == Some(target),
            Some(Content::Other) => false,
        };
        if !is_as_described {
            return Err(damaged(format!(
                "{} is not what its {MANIFEST} says",
                copy.display()
            )));
        }
        files.extend(entry.map(|entry| {
            let attributes = Attributes {
                mode,
                uid: file.uid,
                gid: file.gid,
            };
            let content = entry.content;
            let attributes = Some(attributes);
            (
                path,
                Entry {
                    content,
                    attributes,
                },
            )
        }));
    }
    let taken = humantime::parse_rfc3339(&manifest.taken)
        .map_err(|_| damaged(format!("it was taken at {:?}", manifest.taken)))?;
    Ok((files, Some(taken)))
}

/// The unit files of a directory that holds nothing but copies, as the scripts of old made it: no
/// links, so that each mask is an empty file, and nothing of modes and owners.
fn bare(directory: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    for name in names(directory)? {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !is_unit_name(&name) {
            continue;
        }
        let path = directory.join(&name);
        let entry = read_entry(&path).map_err(|error| unreadable_snapshot(&path, &error))?;
        if let Some(mut entry) = entry.filter(|entry| entry.content != Content::Other) {
            if entry.is_mask() {
                entry.content = Content::Link("/dev/null".into());
            }
            entry.attributes = None;
            files.insert(name, entry);
        }
    }
    Ok(files)
}

/// Whether this is a path that a snapshot may have: a name, or a directory's name and a name.
fn is_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.len() <= 2
        && parts
            .iter()
            .all(|part| !part.is_empty() && *part != "." && *part != ".." && !part.contains('\0'))
}

fn is_unit_name(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(prefix, kind)| !prefix.is_empty() && TYPES.contains(&kind))
}

/// The part of a name after its last dot.
fn suffix(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, suffix)| suffix)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// SHA-256, hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One digest for all of it: of the list of paths with the digest of each file, or the target.
fn digest(files: &Files) -> String {
    let mut list = Vec::new();
    for (path, entry) in files {
        let content = match &entry.content {
            Content::Text(text) => sha256(text),
            Content::Link(target) => format!("-> {}", target.display()),
            Content::Other => String::new(),
        };
        list.extend_from_slice(format!("{content}  {path}\n").as_bytes());
    }
    sha256(&list)
}

/// Why something of the snapshot cannot be read, and what helps.
fn unreadable_snapshot(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no snapshot {path}: take one with `baseline-exporter snapshot take {path}` \
             while all is well, with the exporter's --config.file if it has one, or name another \
             one in `unit_files.snapshot`"
        ),
        ErrorKind::NotADirectory => {
            format!("the snapshot {path} is not a directory: name the one that holds the files")
        }
        ErrorKind::PermissionDenied => format!(
            "reading the snapshot {path}: permission denied, name a copy in \
             `unit_files.snapshot` that the exporter's user can read, or give the exporter \
             CAP_DAC_READ_SEARCH"
        ),
        _ => format!("reading the snapshot {path}: {error}"),
    }
}

/// Why a file of the host cannot be read, and what helps.
fn unreadable_file(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    if error.kind() == ErrorKind::PermissionDenied {
        return format!(
            "reading {path}: permission denied, let the exporter's user read it, or give the \
             exporter CAP_DAC_READ_SEARCH"
        );
    }
    format!("reading {path}: {error}")
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::take::{About, take};
    use super::*;
    use crate::baseline::{Expected, Unit};

    /// A unit directory, and a directory of unit files beside it that may be its snapshot.
    #[derive(Debug)]
    pub struct Host {
        pub directory: TempDir,
        pub systemd: Systemd,
        pub unit_files: UnitFiles,
    }

    impl Host {
        /// Watches `quantum-*.service`, `quantum-trader.target` and `redis@main.service`.
        pub fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            for below in ["host", "snapshot"] {
                fs::create_dir(directory.path().join(below)).unwrap();
            }
            let units = ["quantum-trader.target", "redis@main.service"].map(|name| Unit {
                name: name.to_owned(),
                expected: Expected::Active,
                tier: 1,
                because: None,
                start_within: Duration::from_secs(60),
            });
            Self {
                systemd: Systemd {
                    watch: vec![Pattern::new("quantum-*.service").unwrap()],
                    units: units.to_vec(),
                    retired: vec![],
                    resync: Duration::from_secs(60),
                },
                unit_files: UnitFiles {
                    snapshot: directory.path().join("snapshot"),
                    ignore: vec![],
                },
                directory,
            }
        }

        pub fn units(&self) -> PathBuf {
            self.directory.path().join("host")
        }

        pub fn scope(&self) -> Scope<'_> {
            Scope::new(&self.systemd, Some(&self.unit_files))
        }

        /// A path below the directory of both, with the directories above it.
        pub fn path(&self, path: &str) -> PathBuf {
            let path = self.directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        pub fn write(&self, path: &str, text: &str) {
            fs::write(self.path(path), text).unwrap();
        }

        pub fn link(&self, target: &str, path: &str) {
            symlink(target, self.path(path)).unwrap();
        }

        pub fn remove(&self, path: &str) {
            fs::remove_file(self.path(path)).unwrap();
        }

        pub fn set_mode(&self, path: &str, mode: u32) {
            fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        }

        pub fn files(&self) -> Files {
            host(&self.units(), self.scope()).unwrap()
        }

        /// Takes a snapshot of the watched units' files, and gives its directory.
        pub fn take(&self, name: &str) -> PathBuf {
            let directory = self.directory.path().join(name);
            take(&self.files(), &directory, &about()).unwrap();
            directory
        }

        /// Everything below the unit directory; directories, too, with their slash.
        pub fn everything(&self) -> BTreeMap<String, Option<Entry>> {
            let mut found = BTreeMap::new();
            let mut directories = vec![self.units()];
            while let Some(directory) = directories.pop() {
                for entry in fs::read_dir(directory).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.strip_prefix(self.units()).unwrap();
                    let name = name.to_str().unwrap().to_owned();
                    if path.is_dir() && !path.is_symlink() {
                        found.insert(format!("{name}/"), None);
                        directories.push(path);
                    } else {
                        found.insert(name, read_entry(&path).unwrap());
                    }
                }
            }
            found
        }
    }

    pub fn about() -> About {
        About {
            deployment: "test".to_owned(),
            systemd: Some("252".to_owned()),
        }
    }

    fn paths(files: &Files) -> Vec<&str> {
        files.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_files_of_watched_units_count_and_no_others() {
        let host = Host::new();
        let counted = [
            "aliased.service",
            "multi-user.target.wants/quantum-a.service",
            "multi-user.target.wants/redis@main.service",
            "quantum-.service.d/all.conf",
            "quantum-a.service",
            "quantum-a.service.d/more.conf",
            "quantum-b.service",
            "quantum-b.service.d",
            "quantum-trader.target",
            "quantum-trader.target.requires/postgresql.service",
            "quantum-trader.target.wants/quantum-a.service",
            "redis@.service",
            "redis@main.service.d/more.conf",
            "service.d/all.conf",
        ];
        let passed_over = [
            "ssh.service",
            "ssh.service.d/more.conf",
            "multi-user.target.wants/ssh.service",
            "quantum-a.service.d/more.conf.bak",
            "quantum-a.service~",
            "quantum-a.conf",
            "quantum-x.timer",
            "redis@.socket",
            "redis@other.service",
            "socket.d/all.conf",
            ".quantum-a.service.swp",
            "quantum-trader.target.wants/README",
            "a.directory/quantum-a.service",
        ];
        for path in counted.into_iter().chain(passed_over) {
            let target = match path {
                "aliased.service" => "/lib/systemd/system/quantum-a.service",
                "quantum-b.service" => "/dev/null",
                "quantum-b.service.d" => "quantum-a.service.d",
                path if path.contains(".wants/") => "../quantum-a.service",
                _ => {
                    host.write(&format!("host/{path}"), "text\n");
                    continue;
                }
            };
            host.link(target, &format!("host/{path}"));
        }
        host.link("/x/ssh.service", "host/sshd.service");
        assert_eq!(paths(&host.files()), counted);
    }

    #[test]
    fn drop_ins_by_prefix_count_for_units_that_are_named() {
        let mut host = Host::new();
        host.systemd.watch.clear();
        for (directory, _) in [
            ("quantum-.target.d", true),
            ("quantum-.service.d", false),
            ("quant-.target.d", false),
            ("target.d", true),
        ] {
            host.write(&format!("host/{directory}/a.conf"), "text\n");
        }
        assert_eq!(
            paths(&host.files()),
            ["quantum-.target.d/a.conf", "target.d/a.conf"]
        );
    }

    #[test]
    fn a_host_without_a_unit_directory_has_no_files() {
        let host = Host::new();
        fs::remove_dir(host.units()).unwrap();
        assert!(host.files().is_empty());
    }

    #[test]
    fn what_was_taken_is_read_again() {
        let host = Host::new();
        host.write("host/quantum-a.service", "[Service]\n");
        host.write(r"host/quantum-\x2d.service", "[Service]\r\n");
        host.write("host/quantum-a.service.d/more.conf", "\u{e9}\n");
        host.write("host/quantum-empty.service", "");
        host.link("/dev/null", "host/quantum-b.service");
        host.link("../x", "host/quantum-trader.target.wants/quantum-a.service");
        host.set_mode("host/quantum-a.service", 0o640);
        let directory = host.take("taken");
        let snapshot = Snapshot::read(&directory).unwrap();
        assert_eq!(snapshot.files, host.files());
        assert!(snapshot.has_manifest);
        assert!(snapshot.taken.unwrap().elapsed().unwrap() < Duration::from_secs(3600));

        let sums = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(sums.status.success(), "{sums:?}");
        let sums = fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
        assert_eq!(sums.lines().count(), 4);
    }

    #[test]
    fn nothing_is_written_over() {
        let host = Host::new();
        host.write("host/quantum-a.service", "[Service]\n");
        host.write("used/file", "");
        let take = |name: &str| take(&host.files(), &host.path(name), &about());
        let refusal = take("used").unwrap_err();
        assert!(
            refusal.ends_with(
                "/used is not empty: a snapshot is never written over, name a new directory"
            ),
            "{refusal}"
        );
        fs::create_dir(host.path("empty")).unwrap();
        take("empty").unwrap();
        take("empty").unwrap_err();
        let mut left: Vec<_> = names(host.directory.path()).unwrap();
        left.sort();
        assert_eq!(left, ["empty", "host", "snapshot", "used"]);
    }

    #[test]
    fn a_take_that_fails_leaves_nothing() {
        let host = Host::new();
        fs::create_dir(host.path("host/quantum-a.service")).unwrap();
        let taken = take(&host.files(), &host.path("taken"), &about());
        assert_eq!(
            taken.unwrap_err(),
            "/etc/systemd/system/quantum-a.service is neither a file nor a link: \
             put that right first"
        );
        assert_eq!(names(host.directory.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let host = Host::new();
        host.write("host/quantum-a.service", "[Service]\n");
        host.link("/dev/null", "host/quantum-b.service");
        let damaged = |name: &str, damage: &dyn Fn(&Path)| {
            let directory = host.take(name);
            damage(&directory);
            let refusal = Snapshot::read(&directory).unwrap_err();
            refusal.replace(&format!("{}", directory.display()), "DIR")
        };
        let end = "; take a new one, or use another copy";
        let text = damaged("text", &|at| {
            fs::write(at.join("files/quantum-a.service"), "[Unit]\n").unwrap();
        });
        let is_not = "is not what its manifest.json says";
        assert_eq!(
            text,
            format!("the snapshot DIR is damaged: DIR/files/quantum-a.service {is_not}{end}")
        );
        let link = damaged("link", &|at| {
            let path = at.join("files/quantum-b.service");
            fs::remove_file(&path).unwrap();
            symlink("/dev/zero", path).unwrap();
        });
        assert_eq!(
            link,
            format!("the snapshot DIR is damaged: DIR/files/quantum-b.service {is_not}{end}")
        );
        let missing = damaged("missing", &|at| {
            fs::remove_file(at.join("files/quantum-a.service")).unwrap();
        });
        assert_eq!(
            missing,
            format!("the snapshot DIR is damaged: DIR/files/quantum-a.service is missing{end}")
        );
        let replace = |at: &Path, from: &str, to: &str| {
            let path = at.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(path, text.replace(from, to)).unwrap();
        };
        let outside = damaged("outside", &|at| {
            replace(at, "quantum-a.service", "../quantum-a.service");
        });
        assert!(outside.contains("is no path of a unit's file"), "{outside}");
        let newer = damaged("newer", &|at| replace(at, "\"format\": 1", "\"format\": 2"));
        assert_eq!(
            newer,
            "the snapshot DIR is of format 2, and only format 1 is known: use the \
             baseline-exporter that took it"
        );
        let mode = damaged("mode", &|at| replace(at, "\"0644\"", "\"10000\""));
        assert!(
            mode.contains("quantum-a.service has the mode \"10000\""),
            "{mode}"
        );
    }

    #[test]
    fn many_units_and_a_large_file_are_no_trouble() {
        let host = Host::new();
        for number in 0..5000 {
            host.write(&format!("host/quantum-{number}.service"), "[Service]\n");
        }
        let directory = host.take("taken");
        assert_eq!(Snapshot::read(&directory).unwrap().files, host.files());

        let most = usize::try_from(MOST_BYTES).unwrap();
        host.write("host/quantum-0.service", &"#".repeat(most));
        host.files();
        host.write("host/quantum-0.service", &"#".repeat(most + 1));
        let refusal = super::host(&host.units(), host.scope()).unwrap_err();
        assert!(
            refusal.ends_with(": it is larger than 1 MiB, which nothing of a unit is"),
            "{refusal}"
        );
    }

    #[test]
    fn no_path_leads_out_of_the_unit_directory() {
        for path in ["a.service", "a.service.d/b.conf"] {
            assert!(is_path(path), "{path}");
        }
        for path in [
            "", "/a", "a/", "../a", "a/..", ".", "a/b/c", "a/../b", "a\0",
        ] {
            assert!(!is_path(path), "{path:?}");
        }
    }

    #[test]
    fn what_a_manifest_adds_to_the_comparison() {
        let host = Host::new();
        host.write("host/quantum-a.service", "[Service]\n");
        host.link("/dev/null", "host/quantum-b.service");
        let snapshot = host.take("taken");
        host.write("host/quantum-a.service.d/more.conf", "[Service]\n");
        host.link("/x/quantum-a.service", "host/alias.service");
        host.remove("host/quantum-b.service");
        host.write("host/quantum-b.service", "");
        let pairs = Snapshot::read(&snapshot)
            .unwrap()
            .compare(&host.units(), host.scope())
            .unwrap();
        let extra = |pair: &&Pair| pair.golden.is_none();
        let extra: Vec<_> = pairs.iter().filter(extra).map(|pair| &pair.path).collect();
        assert_eq!(extra, ["alias.service", "quantum-a.service.d/more.conf"]);
        let mask = pairs.iter().find(|pair| pair.path == "quantum-b.service");
        let Some(Pair {
            golden: Some(golden),
            host: Some(host),
            ..
        }) = mask
        else {
            panic!("{mask:?}");
        };
        assert!(golden.means(host));
        assert!(!golden.is_exactly(host));
    }
}
