//! Unit files as they lie on disk: systemd tells nobody when one changes, so their time stamps are
//! compared now and then.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::unit::{Unit, suffix};

/// The directories that systemd reads, and how everything in them stood when last looked at.
#[derive(Debug, Default)]
pub struct Sources {
    /// UnitPath of the manager.
    directories: Vec<String>,
    /// How the directories themselves stood.
    listing: Option<u64>,
    /// How the files of each loaded unit stood, by its name.
    units: HashMap<Arc<str>, u64>,
}

/// What changed since the last look; the first look finds nothing.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files came or went.
    pub directories: bool,
    /// Loaded units whose file or drop-ins changed.
    pub units: Vec<Arc<str>>,
}

impl Sources {
    /// The sources below these directories.
    pub fn of(directories: Vec<String>) -> Self {
        Self {
            directories,
            listing: None,
            units: HashMap::new(),
        }
    }

    /// Looks at everything: a stat for each file, no file is read.
    pub fn look(&mut self, units: &[Arc<Unit>]) -> Changes {
        let mut changes = Changes::default();
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
        let listing = fingerprint(links.into_iter());
        changes.directories = self.listing.is_some_and(|before| before != listing);
        self.listing = Some(listing);
        let mut stood = HashMap::with_capacity(units.len());
        for unit in units.iter().filter(|unit| unit.loaded) {
            let directories = drop_in_names(&unit.id)
                .into_iter()
                .flat_map(|name| below.get(&name).into_iter().flatten())
                .map(String::as_str);
            let files = unit.drop_in_paths.iter().map(String::as_str);
            let now = fingerprint(
                [&*unit.fragment_path]
                    .into_iter()
                    .chain(files)
                    .chain(directories),
            );
            if self
                .units
                .get(&unit.name)
                .is_some_and(|before| *before != now)
            {
                changes.units.push(unit.name.clone());
            }
            stood.insert(unit.name.clone(), now);
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

/// One number for how these paths stand: another one if any changed, came or went.
fn fingerprint<'a>(paths: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths.filter(|path| !path.is_empty()) {
        path.hash(&mut hasher);
        let stood = std::fs::metadata(Path::new(path))
            .map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
            .ok();
        stood.hash(&mut hasher);
    }
    hasher.finish()
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory
            .path()
            .join("a.service")
            .to_str()
            .unwrap()
            .to_owned();
        let missing = fingerprint([path.as_str()].into_iter());
        std::fs::write(&path, "[Service]\n").unwrap();
        let empty = fingerprint([path.as_str()].into_iter());
        std::fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
        let full = fingerprint([path.as_str()].into_iter());
        std::fs::remove_file(&path).unwrap();
        assert_ne!(missing, empty);
        assert_ne!(empty, full);
        assert_eq!(missing, fingerprint([path.as_str()].into_iter()));
    }
}
