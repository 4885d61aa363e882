//! Unit files as they lie on disk: systemd tells nobody when one changes, so their time stamps are
//! compared now and then.

use std::collections::HashMap;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::unit::{Unit, suffix};

/// The kernel's time stamps are of its last tick, and that much behind its clock at most.
const TICK: Duration = Duration::from_millis(100);

/// The directories that systemd reads, and how everything in them stood when last looked at.
#[derive(Debug)]
pub struct Sources {
    /// UnitPath of the manager.
    directories: Vec<String>,
    /// How the directories themselves stood.
    listing: Option<u64>,
    /// How the files of each unit that has any stood, by its name.
    units: HashMap<Arc<str>, u64>,
    /// When the last look began.
    looked_at: SystemTime,
}

/// What changed since the last look, or since this began before any.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files came or went; the first look does not know.
    pub directories: bool,
    /// Units whose file or drop-ins changed, by systemd's own names. Of a unit that was not there at
    /// the last look it is not known how they stood when systemd told of it: those that changed later
    /// than that look are among them.
    pub units: Vec<Arc<str>>,
}

/// How some paths stand.
struct Standing {
    /// Another number if any changed, came or went.
    fingerprint: u64,
    /// When the last of them changed; `None` if one is not there.
    changed_at: Option<SystemTime>,
}

impl Sources {
    /// The sources below these directories, of units that systemd tells of from now on.
    pub fn of(directories: Vec<String>) -> Self {
        Self {
            directories,
            listing: None,
            units: HashMap::new(),
            looked_at: SystemTime::now(),
        }
    }

    /// Looks at everything: a stat for each file, no file is read.
    pub fn look(&mut self, units: &[Arc<Unit>]) -> Changes {
        let mut changes = Changes::default();
        let last_look = std::mem::replace(&mut self.looked_at, SystemTime::now());
        let below = self.directories_below();
        let links = below
            .iter()
            .filter(|(name, _)| !name.ends_with(".d"))
            .flat_map(|(_, paths)| paths)
            .chain(&self.directories)
            // Every session that begins changes it, and systemd tells of what is made there.
            .filter(|path| !path.ends_with("/transient"));
        let mut links: Vec<&str> = links.map(String::as_str).collect();
        links.sort_unstable();
        let listing = standing(links.into_iter()).fingerprint;
        changes.directories = self.listing.is_some_and(|before| before != listing);
        self.listing = Some(listing);
        let mut stood = HashMap::with_capacity(units.len());
        for unit in units.iter().filter(|unit| unit.has_properties()) {
            let directories = drop_in_names(&unit.id)
                .into_iter()
                .flat_map(|name| below.get(&name).into_iter().flatten())
                .map(String::as_str);
            let files = unit.drop_in_paths.iter().map(String::as_str);
            let now = standing(
                [&*unit.fragment_path]
                    .into_iter()
                    .chain(files)
                    .chain(directories),
            );
            let is_changed = match self.units.get(&unit.name) {
                Some(before) => *before != now.fingerprint,
                None => now.changed_at.is_none_or(|at| at + TICK >= last_look),
            };
            if is_changed {
                changes.units.push(unit.id.clone());
            }
            stood.insert(unit.name.clone(), now.fingerprint);
        }
        self.units = stood;
        changes
    }

    /// The directories for drop-ins (`.d`) and for links (`.wants` and the like) that exist, by
    /// their name.
    fn directories_below(&self) -> HashMap<String, Vec<String>> {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for directory in &self.directories {
            // A directory of the search path need not exist.
            let Ok(entries) = std::fs::read_dir(directory) else {
                continue;
            };
            for entry in entries.flatten() {
                if let Ok(name) = entry.file_name().into_string()
                    && [".d", ".wants", ".requires", ".upholds"]
                        .iter()
                        .any(|end| name.ends_with(end))
                {
                    let path = format!("{directory}/{name}");
                    found.entry(name).or_default().push(path);
                }
            }
        }
        found
    }
}

/// Where systemd looks for drop-ins of this unit: `a-b.service.d`, `a-.service.d`, `service.d`.
fn drop_in_names(id: &str) -> Vec<String> {
    let suffix = suffix(id);
    let stem = id
        .strip_suffix(suffix)
        .and_then(|stem| stem.strip_suffix('.'))
        .unwrap_or(id);
    let prefixes = stem
        .match_indices('-')
        .filter_map(|(dash, _)| stem.get(..=dash));
    prefixes
        .chain([stem])
        .map(|prefix| format!("{prefix}.{suffix}.d"))
        .chain([format!("{suffix}.d")])
        .collect()
}

/// How these paths stand; empty ones are none.
fn standing<'a>(paths: impl Iterator<Item = &'a str>) -> Standing {
    let mut hasher = DefaultHasher::new();
    let mut changed_at = Some(UNIX_EPOCH);
    for path in paths.filter(|path| !path.is_empty()) {
        path.hash(&mut hasher);
        let file = std::fs::metadata(Path::new(path)).ok();
        let stood = file
            .as_ref()
            .map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()));
        stood.hash(&mut hasher);
        changed_at = changed_at
            .zip(file.as_ref().and_then(change_time))
            .map(|(one, other)| one.max(other));
    }
    Standing {
        fingerprint: hasher.finish(),
        changed_at,
    }
}

/// When the file itself changed, of which no program can say otherwise (st_ctime).
fn change_time(file: &Metadata) -> Option<SystemTime> {
    let since = Duration::new(
        file.ctime().try_into().ok()?,
        file.ctime_nsec().try_into().ok()?,
    );
    UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_of_every_prefix_are_looked_for() {
        assert_eq!(
            drop_in_names("quantum-rl-sizer.service"),
            [
                "quantum-.service.d",
                "quantum-rl-.service.d",
                "quantum-rl-sizer.service.d",
                "service.d"
            ]
        );
    }

    #[test]
    fn a_file_that_came_changed_or_went_changes_the_fingerprint() {
        let fingerprint = |path: &str| standing([path].into_iter()).fingerprint;
        let directory = tempfile::tempdir().unwrap();
        let path = directory
            .path()
            .join("a.service")
            .to_str()
            .unwrap()
            .to_owned();
        let missing = fingerprint(&path);
        std::fs::write(&path, "[Service]\n").unwrap();
        let empty = fingerprint(&path);
        std::fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
        let full = fingerprint(&path);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(missing, empty);
        assert_ne!(empty, full);
        assert_eq!(missing, fingerprint(&path));
    }

    #[test]
    fn a_unit_that_is_watched_by_another_name_is_told_by_systemds_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.service");
        std::fs::write(&file, "[Service]\n").unwrap();
        let mut unit = Unit::new("alias.service", 0);
        unit.id = "a.service".into();
        unit.loaded = true;
        unit.fragment_path = file.to_str().unwrap().into();
        let units = [Arc::new(unit)];
        let mut sources = Sources::of(Vec::new());
        sources.look(&units);
        std::fs::write(&file, "[Service]\nExecStart=/bin/true\n").unwrap();
        assert_eq!(sources.look(&units).units, [Arc::from("a.service")]);
        assert!(sources.look(&units).units.is_empty());
    }

    #[test]
    fn of_a_unit_that_is_new_it_tells_whether_its_files_are_newer_than_the_last_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let file = directory.path().join("a.service");
        std::fs::write(&file, "[Service]\n").unwrap();
        let unit = |fragment_path: &Path| {
            let mut unit = Unit::new("a.service", 0);
            unit.loaded = true;
            unit.fragment_path = fragment_path.to_str().unwrap().into();
            [Arc::new(unit)]
        };
        let changes = |looked_at, fragment_path: &Path| {
            let mut sources = Sources::of(vec![path.clone()]);
            sources.looked_at = looked_at;
            let changes = sources.look(&unit(fragment_path));
            assert!(sources.look(&unit(fragment_path)).units.is_empty());
            !changes.units.is_empty()
        };
        let now = SystemTime::now();
        assert!(changes(now - Duration::from_secs(3600), &file));
        assert!(!changes(now + Duration::from_secs(3600), &file));
        assert!(changes(
            now + Duration::from_secs(3600),
            &directory.path().join("gone")
        ));
    }
}
