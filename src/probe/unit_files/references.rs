//! References from unit files to units that are not there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::reader::{self, Entry};
use super::stamps::{Stamp, Stamps};
use super::{Dangling, Effect, Why};
use crate::baseline::{Baseline, Expected, Systemd};

/// Directives of `[Unit]` that name units. An empty assignment takes nothing back.
const DIRECTIVES: [&str; 16] = [
    "Requires",
    "Requisite",
    "BindsTo",
    "Wants",
    "Upholds",
    "After",
    "Before",
    "PartOf",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "PropagatesReloadTo",
    "ReloadPropagatedFrom",
    "PropagatesStopTo",
    "StopPropagatedFrom",
    "JoinsNamespaceOf",
];

/// Directives of the types' own sections that name units.
const OF_TYPES: [(&str, &str); 4] = [
    ("Timer", "Unit"),
    ("Path", "Unit"),
    ("Socket", "Service"),
    ("Service", "Sockets"),
];

/// Directives of `[Install]`; unlike the others an empty assignment takes back the earlier ones.
const INSTALL: [&str; 4] = ["WantedBy", "RequiredBy", "UpheldBy", "Also"];

/// What the kernel or systemd itself makes units of: they need no file.
const WITHOUT_FILE: [&str; 6] = ["slice", "scope", "device", "mount", "swap", "automount"];

const WITH_FILE: [&str; 5] = ["service", "socket", "target", "timer", "path"];

/// What is known from the looks before.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What was read of files that have not changed since, by their paths.
    files: HashMap<OsString, Kept>,
    /// The last answer.
    last: Option<Last>,
}

/// What a file said, and how it stood then.
type Kept = (Stamp, Arc<Vec<Entry>>);

/// An answer, and all that it depends on.
#[derive(Debug)]
struct Last {
    baseline: Arc<Baseline>,
    unit_path: Arc<[String]>,
    stamps: Stamps,
    found: Vec<Dangling>,
}

/// How the directories beside the unit files end.
const DIRECTORIES: [&str; 4] = ["wants", "requires", "upholds", "d"];

/// Everything in the directories of unit files, read once.
struct Tree {
    /// The directories, without links, the earlier ones first.
    directories: Vec<PathBuf>,
    /// Name and place of each unit file, template and alias; the first place wins.
    files: BTreeMap<String, PathBuf>,
    /// The unit that an alias is another name of.
    alias_of: HashMap<String, String>,
    /// The drop-ins below each `NAME.d` and the number of their directory, the winning one of each
    /// file name, by file name.
    drop_ins: HashMap<String, BTreeMap<String, (usize, PathBuf)>>,
    /// Links below `NAME.wants`, `.requires` and `.upholds`: of NAME, the directive, to the unit.
    links: BTreeMap<(String, &'static str, String), PathBuf>,
    /// What could not be read beside the unit files.
    unreadable: Vec<String>,
    /// What was asked, and how it stood.
    stamps: Stamps,
    /// What was known of files before this look.
    before: HashMap<OsString, Kept>,
    /// The same of those that this look needed: what is gone is forgotten.
    after: RefCell<HashMap<OsString, Kept>>,
}

/// Every reference that leads nowhere, from the watched units, and from any unit to a retired one;
/// sorted. `unit_path` are the directories, of which the earlier ones win. While nothing changes on
/// disk, the last answer is given again. `now` is this host's clock.
///
/// # Errors
///
/// A directory or file that cannot be read, where nothing was found in the others.
pub fn dangling(
    baseline: &Arc<Baseline>,
    unit_path: &Arc<[String]>,
    cache: &Cache,
    now: SystemTime,
) -> Result<Vec<Dangling>, String> {
    let mut known = cache.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = &known.last
        && Arc::ptr_eq(&last.baseline, baseline)
        && last.unit_path == *unit_path
        && last.stamps.hold()
    {
        return Ok(last.found.clone());
    }
    let before = std::mem::take(&mut *known);
    let mut tree = Tree::new(before.files, now);
    let found = tree
        .read(unit_path)
        .and_then(|()| tree.dangling(&baseline.systemd));
    known.files = tree.after.into_inner();
    let found = found?;
    known.last = Some(Last {
        baseline: baseline.clone(),
        unit_path: unit_path.clone(),
        stamps: tree.stamps,
        found: found.clone(),
    });
    Ok(found)
}

/// One unit named in a file or by a link.
struct Reference<'f> {
    to: String,
    directive: &'static str,
    file: &'f Path,
    line: Option<usize>,
}

impl Reference<'_> {
    fn dangling(self, from: &str, (effect, why): (Effect, Why)) -> Dangling {
        Dangling {
            from: from.to_owned(),
            to: self.to,
            directive: self.directive,
            effect,
            why,
            file: self.file.to_owned(),
            line: self.line,
        }
    }
}

impl Tree {
    fn new(before: HashMap<OsString, Kept>, now: SystemTime) -> Self {
        Self {
            directories: Vec::new(),
            files: BTreeMap::new(),
            alias_of: HashMap::new(),
            drop_ins: HashMap::new(),
            links: BTreeMap::new(),
            unreadable: Vec::new(),
            stamps: Stamps::new(now),
            before,
            after: RefCell::default(),
        }
    }

    fn dangling(&self, systemd: &Systemd) -> Result<Vec<Dangling>, String> {
        let mut found = Vec::new();
        let mut unreadable = self.unreadable.clone();
        for ((from, directive, to), link) in &self.links {
            let reference = Reference {
                to: to.clone(),
                directive,
                file: link,
                line: None,
            };
            if let Some(verdict) = self.judge(systemd, &reference, systemd.watches(from)) {
                found.push(reference.dangling(from, verdict));
            }
        }

        // Instances have no file to be found by, only whoever refers to them.
        let is_watched_instance =
            |name: &str| is_instance(name) && systemd.watches(name) && self.place(name).is_some();
        let linked = self.links.keys().map(|(_, _, to)| to.clone());
        let named = systemd.units.iter().map(|unit| unit.name.clone());
        let mut units: BTreeSet<String> = self.files.keys().cloned().chain(named).collect();
        units.extend(linked.filter(|name| is_watched_instance(name)));
        let mut looked_at = units.clone();
        let mut applied = HashSet::new();
        while let Some(unit) = units.pop_first() {
            // An alias is told of by its own name.
            if self.alias_of.contains_key(&unit) && systemd.unit(&unit).is_none() {
                continue;
            }
            // Of a template nobody knows what its names will be.
            let watched = systemd.watches(&unit) && template(&unit).as_ref() != Some(&unit);
            if !watched && systemd.retired.is_empty() {
                continue;
            }
            let files = self.files_of(&unit);
            applied.extend(files.iter().map(|file| file.as_os_str()));
            let look = &mut |reference: Reference<'_>| {
                if is_watched_instance(&reference.to) && looked_at.insert(reference.to.clone()) {
                    units.insert(reference.to.clone());
                }
                if let Some(verdict) = self.judge(systemd, &reference, watched) {
                    found.push(reference.dangling(&unit, verdict));
                }
            };
            unreadable.extend(self.references(&unit, &files, look).err());
        }

        // Drop-ins of units that have no file, or not yet: who wants a unit gone, wants it gone here too.
        for (unit, drop_ins) in &self.drop_ins {
            for (_, file) in drop_ins.values() {
                if systemd.retired.is_empty() || applied.contains(file.as_os_str()) {
                    continue;
                }
                let look = &mut |reference: Reference<'_>| {
                    if let Some(verdict) = self.judge(systemd, &reference, false) {
                        found.push(reference.dangling(unit, verdict));
                    }
                };
                unreadable.extend(self.references(unit, &[file], look).err());
            }
        }

        found.sort_by(|a, b| {
            (&a.from, &a.to, a.directive, &a.file, a.line).cmp(&(
                &b.from,
                &b.to,
                b.directive,
                &b.file,
                b.line,
            ))
        });
        match unreadable.into_iter().next() {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    fn read(&mut self, unit_path: &[String]) -> Result<(), String> {
        // Names of unit files that are links, so that nothing else is asked where it leads.
        let mut links = Vec::new();
        for directory in unit_path {
            // `/lib` and `/usr/lib` may be one and the same, until somebody parts them.
            drop(self.stamps.stat(Path::new(directory)));
            let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.into());
            if self.directories.contains(&real) {
                continue;
            }
            self.directories.push(real);
            for (path, kind) in self.list(Path::new(directory))? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                let name = name.to_owned();
                let Some((unit, end)) = name.rsplit_once('.') else {
                    continue;
                };
                if unit_type(&name).is_some() && !kind.is_dir() {
                    if kind.is_symlink() && !self.files.contains_key(&name) {
                        links.push(name.clone());
                    }
                    self.files.entry(name).or_insert(path);
                } else if DIRECTORIES.contains(&end)
                    && (kind.is_dir() || (kind.is_symlink() && self.is_directory(&path)))
                    && !is_made(&path)
                    && let Err(error) = self.directory(unit, end, &path)
                {
                    self.unreadable.push(error);
                }
            }
        }
        let links_below = std::mem::take(&mut self.links).into_iter();
        self.links = links_below
            .filter(|(_, link)| !self.is_taken_back(link))
            .collect();
        for name in links {
            let alias = self
                .files
                .get(&name)
                .and_then(|path| self.alias(&name, path));
            self.alias_of.extend(alias.map(|other| (name, other)));
        }
        Ok(())
    }

    /// A directory beside the unit files: drop-ins or links.
    fn directory(&mut self, unit: &str, end: &str, path: &Path) -> Result<(), String> {
        let directive = match end {
            "wants" => "Wants",
            "requires" => "Requires",
            "upholds" => "Upholds",
            "d" => {
                let rank = self.directories.len();
                let files = self.list(path)?;
                let drop_ins = self.drop_ins.entry(unit.to_owned()).or_default();
                for (file, _) in files {
                    if let Some(name) = file.file_name().and_then(|name| name.to_str())
                        && name.ends_with(".conf")
                    {
                        drop_ins.entry(name.to_owned()).or_insert((rank, file));
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for (link, _) in self.list(path)? {
            if let Some(to) = link.file_name().and_then(|name| name.to_str()) {
                let key = (unit.to_owned(), directive, to.to_owned());
                self.links.entry(key).or_insert(link);
            }
        }
        Ok(())
    }

    /// The unit that this file makes another name of: it is a link within the directories. One that
    /// leads elsewhere is a unit of its own, whatever the file there is called.
    fn alias(&self, name: &str, path: &Path) -> Option<String> {
        let target = fs::read_link(path).ok()?;
        let other = target.file_name()?.to_str()?;
        let is_other = other != name && Some(other) != template(name).as_deref();
        if !is_other || unit_type(other).is_none() {
            return None;
        }
        let parent = target.parent()?;
        if parent.as_os_str().is_empty() {
            return Some(other.to_owned());
        }
        let directory = path.parent()?.join(parent);
        self.stamps.stat(&directory).ok()?;
        let directory = fs::canonicalize(directory).ok()?;
        self.directories
            .contains(&directory)
            .then(|| other.to_owned())
    }

    /// The unit behind an alias, or behind an alias of an alias.
    fn real_name<'n>(&'n self, name: &'n str) -> &'n str {
        let next = |name: &&'n str| self.alias_of.get(*name).map(String::as_str);
        // Links may lead in a circle.
        std::iter::successors(Some(name), next)
            .take(9)
            .last()
            .unwrap_or(name)
    }

    /// The files that one unit is made of: its own, then its drop-ins.
    fn files_of(&self, unit: &str) -> Vec<&PathBuf> {
        let Some(main) = self.place(unit) else {
            return Vec::new();
        };
        // What a program makes anew at each boot or start is nobody's to clean up.
        let main = Some(main).filter(|main| !is_made(main));
        main.into_iter().chain(self.drop_ins_of(unit)).collect()
    }

    /// Every unit that these files of a unit name.
    fn references(
        &self,
        unit: &str,
        files: &[&PathBuf],
        found: &mut impl FnMut(Reference<'_>),
    ) -> Result<(), String> {
        let mut install: Vec<(usize, &PathBuf, Entry)> = Vec::new();
        let mut activates = false;
        let mut accepts = false;
        let mut error = None;
        for file in files {
            let entries = match self.entries(file) {
                Ok(entries) => entries,
                Err(unreadable) => {
                    error.get_or_insert(unreadable);
                    continue;
                }
            };
            for entry in entries.iter() {
                let is = |key: &&&str| **key == entry.key;
                let is_own =
                    |(section, key): &&(&str, &str)| *section == entry.section && *key == entry.key;
                if entry.section == "Install" {
                    if let Some(which) = INSTALL.iter().position(|key| *key == entry.key) {
                        if entry.value.is_empty() {
                            install.retain(|(kept, ..)| *kept != which);
                        }
                        install.push((which, file, entry.clone()));
                    }
                } else if entry.section == "Unit" {
                    if let Some(directive) = DIRECTIVES.iter().find(is) {
                        tell(unit, directive, file, entry, found);
                    }
                } else if let Some((_, directive)) = OF_TYPES.iter().find(is_own) {
                    activates |= matches!(*directive, "Unit" | "Service");
                    tell(unit, directive, file, entry, found);
                } else if entry.section == "Socket" && entry.key == "Accept" {
                    accepts = ["1", "yes", "y", "true", "t", "on"]
                        .contains(&&*entry.value.to_ascii_lowercase());
                }
            }
        }
        for (which, file, entry) in &install {
            if let Some(directive) = INSTALL.get(*which) {
                tell(unit, directive, file, entry, found);
            }
        }
        // What a timer, path or socket starts unless it says so itself. Unknown where not all of it
        // could be read, or where it is not for anyone to edit.
        if let (Some((stem, end)), Some(main), false, None) =
            (unit.rsplit_once('.'), self.place(unit), activates, &error)
            && files.contains(&main)
            && template(unit).as_deref() != Some(unit)
            && !self.is_mask(main)
        {
            let (to, directive) = match end {
                "timer" | "path" => (format!("{stem}.service"), "Unit"),
                "socket" if accepts => (format!("{stem}@.service"), "Service"),
                "socket" => (format!("{stem}.service"), "Service"),
                _ => return Ok(()),
            };
            found(Reference {
                to,
                directive,
                file: main,
                line: None,
            });
        }
        error.map_or(Ok(()), Err)
    }

    /// The file that a unit is made of: its own, or its template's.
    fn place(&self, unit: &str) -> Option<&PathBuf> {
        self.files
            .get(unit)
            .or_else(|| self.files.get(&template(unit)?))
    }

    /// Drop-ins of a unit, of its other names, of its template, of its name's prefixes and of its
    /// type, in systemd's order: by file name, of which that in the earliest directory wins, there
    /// that of the most specific name, and those of the type come last.
    fn drop_ins_of(&self, unit: &str) -> impl Iterator<Item = &PathBuf> {
        let other = |name: &&String| self.real_name(name) == unit && **name != unit;
        let others = self.alias_of.keys().filter(other);
        let mut winning = BTreeMap::new();
        for (nth, name) in [unit]
            .into_iter()
            .chain(others.map(String::as_str))
            .enumerate()
        {
            for (specific, name) in drop_in_names(name).iter().enumerate() {
                for (file, (rank, path)) in self.drop_ins.get(name).into_iter().flatten() {
                    // The type's own name has no dot.
                    let place = (!name.contains('.'), nth, rank, specific);
                    let best = winning.entry(file).or_insert((place, path));
                    if place < best.0 {
                        *best = (place, path);
                    }
                }
            }
        }
        winning.into_values().map(|(_, path)| path)
    }

    /// What a file says, from memory if it stands as it stood.
    fn entries(&self, path: &Path) -> Result<Arc<Vec<Entry>>, String> {
        let unreadable = |error| {
            self.stamps.unread(&error);
            format!(
                "reading {}: {error}; let the exporter's user read it",
                path.display()
            )
        };
        let stood = match self.stamps.stat(path) {
            Ok(stood) if stood.is_file() => stood,
            // A mask, or a link to nowhere.
            Ok(_) => return Ok(Arc::default()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(unreadable(error)),
        };
        let stamp = Stamp::of(&stood);
        let entries = match self.before.get(path.as_os_str()) {
            Some((kept, entries)) if *kept == stamp => entries.clone(),
            _ => Arc::new(reader::read(&fs::read(path).map_err(unreadable)?)),
        };
        if self.stamps.is_settled(stamp) {
            let kept = (stamp, entries.clone());
            self.after.borrow_mut().insert(path.into(), kept);
        }
        Ok(entries)
    }

    /// Whether the reference leads nowhere, what that does, and why; `None` if it is well.
    fn judge(
        &self,
        systemd: &Systemd,
        reference: &Reference<'_>,
        watched: bool,
    ) -> Option<(Effect, Why)> {
        let to = &*reference.to;
        let retired = self.is_retired(systemd, to);
        if !retired && !watched {
            return None;
        }
        let place = self.place(to);
        let state = match place.map(|place| self.stamps.stat(place)) {
            Some(Ok(stood)) if stood.is_file() && stood.len() > 0 => None,
            // An empty file and a link to /dev/null are masks.
            Some(Ok(_)) => Some(Why::Masked),
            Some(Err(_)) | None => Some(Why::NoFile),
        };
        let why = if retired { Why::Retired } else { state? };
        if !retired {
            let unit = systemd.unit(to).map(|unit| unit.expected);
            let tolerated = match why {
                Why::Masked => matches!(unit, Some(Expected::Absent | Expected::Disabled)),
                _ => unit == Some(Expected::Absent),
            };
            let end = unit_type(to)?;
            if tolerated || WITHOUT_FILE.contains(&end) {
                return None;
            }
        }
        let needs = match reference.directive {
            // systemd passes over a link that leads to a mask.
            "Requires" => reference.line.is_some() || state != Some(Why::Masked),
            "Requisite" | "BindsTo" | "Unit" => true,
            // A socket that starts an instance for each connection misses it only then.
            "Service" => template(to).as_deref() != Some(to),
            _ => false,
        };
        let effect = if needs && state.is_some() {
            Effect::Blocks
        } else {
            Effect::Clutter
        };
        Some((effect, why))
    }

    /// Whether a link below `.wants` leads to /dev/null, or is an empty file: this is how an
    /// administrator takes back one that a package brings.
    fn is_taken_back(&self, link: &Path) -> bool {
        match fs::read_link(link) {
            Ok(target) => target == Path::new("/dev/null"),
            Err(_) => self.is_mask(link),
        }
    }

    /// An empty file, or a link to /dev/null.
    fn is_mask(&self, path: &Path) -> bool {
        self.stamps
            .stat(path)
            .is_ok_and(|stood| !stood.is_file() || stood.len() == 0)
    }

    /// Links followed.
    fn is_directory(&self, path: &Path) -> bool {
        self.stamps.stat(path).is_ok_and(|stood| stood.is_dir())
    }

    /// What a directory holds, and of which kind that is, links not followed; sorted; nothing if there is no such directory.
    fn list(&self, directory: &Path) -> Result<Vec<(PathBuf, FileType)>, String> {
        let unreadable = |error| {
            self.stamps.unread(&error);
            format!(
                "reading {}: {error}; let the exporter's user read it",
                directory.display()
            )
        };
        let stood = self.stamps.stat(directory);
        let entries = match stood.and_then(|_| fs::read_dir(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                // It went away meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            paths.push((entry.path(), kind));
        }
        paths.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(paths)
    }

    /// Whether a unit is retired by this name, by the one that it is an alias of, or as an instance
    /// of a retired template.
    fn is_retired(&self, systemd: &Systemd, name: &str) -> bool {
        let real = self.real_name(name);
        let names = [Some(real.to_owned()), template(real), template(name)];
        let is = |retired: &String| retired == name || names.iter().flatten().any(|n| n == retired);
        systemd.retired.iter().any(is)
    }
}

/// The names of the drop-in directories of a unit, without their `.d`, the most specific first:
/// `a-b.service`, `a-.service` and `service`.
fn drop_in_names(unit: &str) -> Vec<String> {
    let mut names = Vec::new();
    let own = (template(unit).as_deref() != Some(unit)).then(|| template(unit));
    for name in [Some(unit.to_owned()), own.flatten()].into_iter().flatten() {
        let stem = name.split_once('@').or_else(|| name.rsplit_once('.'));
        let stem = stem.map_or("", |(stem, _)| stem);
        let rest = name.get(stem.len()..).unwrap_or_default();
        let dashes = stem.match_indices('-').map(|(at, _)| at).rev();
        let prefixes = dashes.filter_map(|at| stem.get(..=at));
        let prefixes: Vec<String> = prefixes
            .filter(|prefix| *prefix != stem)
            .map(|prefix| format!("{prefix}{rest}"))
            .collect();
        names.push(name);
        names.extend(prefixes);
    }
    names.extend(unit_type(unit).map(str::to_owned));
    names
}

/// Whether this stands in a directory that programs fill anew at each boot or start.
fn is_made(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path).to_string_lossy();
    directory.contains("/generator") || directory.ends_with("/transient")
}

/// An instance of a template: `a@b.service`.
fn is_instance(name: &str) -> bool {
    template(name).is_some_and(|template| template != name)
}

/// Each unit that one assignment names.
fn tell(
    unit: &str,
    directive: &'static str,
    file: &Path,
    entry: &Entry,
    found: &mut impl FnMut(Reference<'_>),
) {
    for word in reader::words(&entry.value) {
        // A specifier of the host is none that a unit's name is made of.
        let Some(to) = expand(&word, unit) else {
            continue;
        };
        if unit_type(&to).is_some() {
            found(Reference {
                to,
                directive,
                file,
                line: Some(entry.line),
            });
        }
    }
}

/// The word with its specifiers (systemd.unit(5)) replaced; `None` if it has others than those of
/// the unit's own name.
fn expand(word: &str, unit: &str) -> Option<String> {
    let (stem, _) = unit.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut expanded = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match chars.next()? {
            '%' => expanded.push('%'),
            'n' => expanded.push_str(unit),
            'N' => expanded.push_str(stem),
            'p' | 'P' => expanded.push_str(prefix),
            'i' | 'I' => expanded.push_str(instance),
            'j' | 'J' => expanded.push_str(prefix.rsplit('-').next()?),
            _ => return None,
        }
    }
    Some(expanded)
}

/// The type that a unit's name ends in; `None` if it is no unit's name.
fn unit_type(name: &str) -> Option<&str> {
    let (stem, end) = name.rsplit_once('.')?;
    let is_one = WITH_FILE.contains(&end) || WITHOUT_FILE.contains(&end);
    (is_one && !stem.is_empty()).then_some(end)
}

/// The template that an instance is made of.
fn template(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (_, end) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{end}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, UNIX_EPOCH};

    use tempfile::TempDir;

    use super::*;
    use crate::baseline::Baseline;

    /// A search path of three directories: `etc`, `run/systemd/generator` and `lib`.
    struct Host(TempDir);

    impl Host {
        fn new(files: &[(&str, &str)]) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                host.write(path, text);
            }
            host
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn link(&self, target: &str, path: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        /// Each finding as `from directive to effect why file:line`.
        fn dangling(&self) -> Vec<String> {
            self.look(&Cache::default()).unwrap()
        }

        /// A look, long after everything changed.
        fn look(&self, cache: &Cache) -> Result<Vec<String>, String> {
            self.look_at(SystemTime::now() + Duration::from_secs(3600), cache)
        }

        fn look_at(&self, now: SystemTime, cache: &Cache) -> Result<Vec<String>, String> {
            let text = "deployment: t\nsystemd:\n  watch: ['w-*']\n  running: [main.service]\n  \
                        absent: [gone.service]\n  disabled: [off.service]\n  retired: [old.service]\n";
            let baseline = Arc::new(Baseline::parse(text, "test").unwrap());
            self.look_with(&baseline, now, cache)
        }

        fn look_with(
            &self,
            baseline: &Arc<Baseline>,
            now: SystemTime,
            cache: &Cache,
        ) -> Result<Vec<String>, String> {
            let unit_path = ["etc", "run/systemd/generator", "lib"]
                .map(|directory| self.0.path().join(directory).display().to_string());
            let found = dangling(baseline, &Arc::from(unit_path), cache, now)?;
            let tell = |edge: Dangling| {
                let file = edge
                    .file
                    .strip_prefix(self.0.path())
                    .unwrap()
                    .display()
                    .to_string();
                let line = edge
                    .line
                    .map_or_else(String::new, |line| format!(":{line}"));
                let why = match edge.why {
                    Why::NoFile => "no_file",
                    Why::Masked => "masked",
                    Why::Retired => "retired",
                };
                let effect = edge.effect.word();
                format!(
                    "{} {} {} {effect} {why} {file}{line}",
                    edge.from, edge.directive, edge.to
                )
            };
            Ok(found.into_iter().map(tell).collect())
        }
    }

    #[test]
    fn what_leads_nowhere_is_told_with_its_place_and_effect() {
        let host = Host::new(&[
            (
                "etc/main.service",
                "[Unit]\n# Wants=comment.service\nDescription=see text.service\nRequires=need.service\n\
                 Wants=here.service a.service \\\n  b.service\nAfter=gone.service network.target\n\
                 [Install]\nWantedBy=no.target\nWantedBy=\nWantedBy=here.target\n",
            ),
            ("lib/here.service", "[Unit]\nWants=unwatched.service\n"),
            ("lib/network.target", "[Unit]\n"),
            ("run/systemd/generator/here.target", "[Unit]\n"),
        ]);
        assert_eq!(
            host.dangling(),
            [
                "main.service Wants a.service clutter no_file etc/main.service:5",
                "main.service Wants b.service clutter no_file etc/main.service:5",
                "main.service Requires need.service blocks no_file etc/main.service:4",
            ]
        );
    }

    #[test]
    fn a_retired_unit_must_be_named_nowhere() {
        let host = Host::new(&[
            ("lib/other.service", "[Unit]\nAfter=old.service\n"),
            ("lib/old.service", "[Service]\n"),
            (
                "etc/main.service.d/x.conf",
                "[Unit]\nRequires=old.service\n",
            ),
            ("etc/main.service", "[Service]\n"),
        ]);
        host.link(
            "/nowhere/old.service",
            "etc/multi-user.target.wants/old.service",
        );
        assert_eq!(
            host.dangling(),
            [
                "main.service Requires old.service clutter retired etc/main.service.d/x.conf:2",
                "multi-user.target Wants old.service clutter retired etc/multi-user.target.wants/old.service",
                "other.service After old.service clutter retired lib/other.service:2",
            ]
        );
    }

    #[test]
    fn masks_instances_aliases_and_specifiers_are_understood() {
        let host = Host::new(&[
            (
                "etc/w-a@.service",
                "[Unit]\nAfter=w-%i.service missing-%i.service host-%H.service\n",
            ),
            (
                "etc/main.service",
                "[Unit]\nWants=w-a@1.service t@x.service no@x.service alias.service\n\
              Requires=masked.service empty.service off.service\nAfter=-.mount x.slice dev-sda.device\n",
            ),
            ("etc/w-1.service", "[Unit]\n"),
            ("etc/empty.service", ""),
            ("lib/t@.service", "[Service]\n"),
            ("lib/real.service", "[Service]\n"),
        ]);
        host.link("/dev/null", "etc/masked.service");
        host.link("/dev/null", "etc/off.service");
        host.link("real.service", "lib/alias.service");
        host.link("../w-a@.service", "etc/w-t.target.wants/w-a@2.service");
        host.link("../nope.service", "etc/w-t.target.requires/nope.service");
        host.link("/dev/null", "etc/w-t.target.requires/back.service");
        host.link("../back.service", "lib/w-t.target.requires/back.service");
        assert_eq!(
            host.dangling(),
            [
                "main.service Requires empty.service blocks masked etc/main.service:3",
                "main.service Requires masked.service blocks masked etc/main.service:3",
                "main.service Wants no@x.service clutter no_file etc/main.service:2",
                "w-a@1.service After missing-1.service clutter no_file etc/w-a@.service:2",
                "w-a@2.service After missing-2.service clutter no_file etc/w-a@.service:2",
                "w-a@2.service After w-2.service clutter no_file etc/w-a@.service:2",
                "w-t.target Requires nope.service blocks no_file etc/w-t.target.requires/nope.service",
            ]
        );
    }

    #[test]
    fn timers_and_drop_ins_of_every_kind_are_read() {
        let host = Host::new(&[
            ("etc/w-tick.timer", "[Timer]\nOnBootSec=1\n"),
            ("etc/w-tock.timer", "[Timer]\nUnit=other.service\n"),
            ("etc/w-x-y.service", "[Service]\n"),
            (
                "lib/w-x-.service.d/10.conf",
                "[Unit]\nAfter=prefix.service\n",
            ),
            ("lib/service.d/10.conf", "[Unit]\nAfter=type.service\n"),
            ("lib/service.d/20.conf", "[Unit]\nAfter=type20.service\n"),
            ("etc/service.d/20.conf", "[Unit]\n"),
        ]);
        assert_eq!(
            host.dangling(),
            [
                "w-tick.timer Unit w-tick.service blocks no_file etc/w-tick.timer",
                "w-tock.timer Unit other.service blocks no_file etc/w-tock.timer:2",
                "w-x-y.service After prefix.service clutter no_file lib/w-x-.service.d/10.conf:2",
            ]
        );
    }

    #[test]
    fn only_sections_that_systemd_reads_count() {
        let host = Host::new(&[(
            "etc/main.service",
            "After=a.service\n[X-Own]\nAfter=b.service\n[Service]\nAfter=c.service\nUnit=d.service\n\
             Sockets=e.socket\n[Unit]\nAfter=f.service\nAfter=\n",
        )]);
        assert_eq!(
            host.dangling(),
            [
                "main.service Sockets e.socket clutter no_file etc/main.service:7",
                "main.service After f.service clutter no_file etc/main.service:9",
            ]
        );
    }

    #[test]
    fn sockets_start_the_service_of_their_name() {
        let host = Host::new(&[
            ("etc/w-a.socket", "[Socket]\nListenStream=/a\n"),
            ("etc/w-b.socket", "[Socket]\nAccept=Yes\n"),
            ("etc/w-c.socket", "[Socket]\nService=no.service\n"),
            ("etc/w-d.socket", "[Socket]\nAccept=no\n"),
            ("etc/w-d.service", "[Service]\n"),
            ("etc/w-e.socket", ""),
        ]);
        assert_eq!(
            host.dangling(),
            [
                "w-a.socket Service w-a.service blocks no_file etc/w-a.socket",
                "w-b.socket Service w-b@.service clutter no_file etc/w-b.socket",
                "w-c.socket Service no.service blocks no_file etc/w-c.socket:2",
            ]
        );
    }

    #[test]
    fn a_retired_unit_is_known_by_its_aliases_and_from_drop_ins_without_a_unit() {
        let host = Host::new(&[
            ("etc/old.service", "[Service]\n"),
            ("etc/other.service", "[Unit]\nAfter=nick.service\n"),
            ("etc/none.service.d/x.conf", "[Unit]\nAfter=old.service\n"),
        ]);
        host.link("old.service", "etc/nick.service");
        assert_eq!(
            host.dangling(),
            [
                "none.service After old.service clutter retired etc/none.service.d/x.conf:2",
                "other.service After nick.service clutter retired etc/other.service:2",
            ]
        );
    }

    #[test]
    fn a_link_within_the_directories_is_an_alias_and_one_out_of_them_a_unit() {
        let host = Host::new(&[
            ("opt/other.service", "[Unit]\nAfter=a.service\n"),
            ("lib/w-real.service", "[Service]\n"),
            ("etc/w-nick.service.d/x.conf", "[Unit]\nAfter=b.service\n"),
        ]);
        host.link("../opt/other.service", "etc/w-linked.service");
        host.link("../lib/w-real.service", "etc/w-nick.service");
        host.link("w-round.service", "etc/w-circle.service");
        host.link("w-circle.service", "etc/w-round.service");
        assert_eq!(
            host.dangling(),
            [
                "w-linked.service After a.service clutter no_file etc/w-linked.service:2",
                "w-real.service After b.service clutter no_file etc/w-nick.service.d/x.conf:2",
            ]
        );
    }

    #[test]
    fn what_programs_make_is_not_read_but_its_drop_ins_are() {
        let host = Host::new(&[
            (
                "run/systemd/generator/w-made.service",
                "[Unit]\nAfter=a.service old.service\n",
            ),
            ("etc/w-made.service.d/x.conf", "[Unit]\nAfter=b.service\n"),
        ]);
        assert_eq!(
            host.dangling(),
            ["w-made.service After b.service clutter no_file etc/w-made.service.d/x.conf:2"]
        );
    }

    #[test]
    fn drop_ins_are_looked_for_below_these_names() {
        assert_eq!(
            drop_in_names("a-b-c.service"),
            ["a-b-c.service", "a-b-.service", "a-.service", "service"]
        );
        assert_eq!(
            drop_in_names("a-b@c-d.service"),
            [
                "a-b@c-d.service",
                "a-@c-d.service",
                "a-b@.service",
                "a-@.service",
                "service"
            ]
        );
        assert_eq!(drop_in_names("a-.service"), ["a-.service", "service"]);
        assert_eq!(drop_in_names("-.mount"), ["-.mount", "mount"]);
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let host = Host::new(&[
            ("etc/main.service", "[Unit]\nAfter=a.service\n"),
            ("etc/w-x.service/is-a-directory", ""),
        ]);
        // Not even root can follow a link to itself.
        host.link("w-loop.service", "etc/w-loop.service");
        assert_eq!(host.dangling().len(), 1);
        host.write("etc/main.service", "[Unit]\n");
        let error = host.look(&Cache::default()).unwrap_err();
        assert!(error.contains("etc/w-loop.service"), "{error}");
    }

    fn known(cache: &Cache) -> usize {
        cache.0.lock().unwrap().files.len()
    }

    #[test]
    fn a_file_that_is_gone_is_forgotten() {
        let host = Host::new(&[
            ("etc/main.service", "[Unit]\n"),
            ("etc/w-a.service", "[Unit]\n"),
        ]);
        let cache = Cache::default();
        host.look(&cache).unwrap();
        assert_eq!(known(&cache), 2);
        fs::remove_file(host.0.path().join("etc/w-a.service")).unwrap();
        host.look(&cache).unwrap();
        assert_eq!(known(&cache), 1);
    }

    #[test]
    fn what_has_only_just_changed_is_read_again() {
        let host = Host::new(&[("etc/main.service", "[Unit]\nAfter=a.service\n")]);
        let (now, cache) = (SystemTime::now(), Cache::default());
        host.look_at(now, &cache).unwrap();
        assert_eq!(known(&cache), 0);
        let later = now + Duration::from_secs(4);
        host.look_at(later, &cache).unwrap();
        assert_eq!(known(&cache), 1);
        // A clock that was set back proves nothing either.
        host.look_at(UNIX_EPOCH, &cache).unwrap();
        assert_eq!(known(&cache), 0);
    }

    /// Every change from here on has another time stamp than those before.
    fn tick(host: &Host) {
        let stamp = || {
            host.write("scratch", "");
            let scratch = fs::metadata(host.0.path().join("scratch")).unwrap();
            Stamp::of(&scratch)
        };
        let first = stamp();
        while stamp() == first {}
    }

    #[test]
    fn whatever_changes_is_seen_and_nothing_is_read_twice() {
        let host = Host::new(&[
            ("etc/main.service", "[Unit]\nAfter=a.service\n"),
            ("etc/w-x.service", "[Unit]\nAfter=main.service\n"),
            ("lib/b.service", "[Unit]\n"),
            ("elsewhere/c.service", "[Unit]\n"),
            ("elsewhere/more.d/a.conf", "[Unit]\nAfter=d.service\n"),
        ]);
        let path = |path: &str| host.0.path().join(path);
        let cache = Cache::default();
        let text = "deployment: t\nsystemd: {watch: ['w-*'], running: [main.service]}\n";
        let baseline = Arc::new(Baseline::parse(text, "test").unwrap());
        let now = SystemTime::now() + Duration::from_secs(3600);
        let fresh = || host.look_with(&baseline, now, &Cache::default());
        let changes: [&dyn Fn(); 12] = [
            &|| host.write("etc/main.service", "[Unit]\nAfter=b.service z.service\n"),
            // As long as before.
            &|| host.write("etc/main.service", "[Unit]\nAfter=b.service y.service\n"),
            &|| host.write("etc/y.service", "[Unit]\n"),
            &|| host.write("etc/y.service", ""),
            &|| fs::remove_file(path("etc/y.service")).unwrap(),
            &|| host.link("../elsewhere/c.service", "etc/y.service"),
            &|| fs::remove_file(path("elsewhere/c.service")).unwrap(),
            &|| host.write("lib/main.service.d/z.conf", "[Unit]\nWants=w.service\n"),
            &|| host.write("etc/main.service.d/z.conf", ""),
            &|| {
                host.link(
                    "../nowhere.service",
                    "etc/main.service.wants/nowhere.service",
                );
            },
            &|| host.link("../elsewhere/more.d", "etc/w-x.service.d"),
            &|| fs::rename(path("elsewhere/more.d/a.conf"), path("elsewhere/more.d/a")).unwrap(),
        ];
        let mut seen = vec![host.look_with(&baseline, now, &cache)];
        for (number, change) in changes.iter().enumerate() {
            tick(&host);
            change();
            let found = host.look_with(&baseline, now, &cache);
            assert_eq!(found, fresh(), "change {number}");
            assert_ne!(Some(&found), seen.last(), "change {number}");
            seen.push(found);
            let answer = || {
                let known = cache.0.lock().unwrap();
                known.last.as_ref().map(|last| Arc::as_ptr(&last.unit_path))
            };
            let before = answer();
            host.look_with(&baseline, now, &cache).unwrap();
            assert_eq!(answer(), before, "change {number}: read twice");
        }
        // Another baseline looks for others.
        let text = "deployment: t\nsystemd: {running: [w-x.service]}\n";
        let other = Arc::new(Baseline::parse(text, "test").unwrap());
        let found = host.look_with(&other, now, &cache);
        assert_ne!(Some(&found), seen.last());
    }
    #[test]
    fn a_directory_that_stops_being_a_link_is_seen() {
        let host = Host::new(&[("etc/main.service", "[Unit]\nAfter=a.service\n")]);
        host.link("etc", "lib");
        let cache = Cache::default();
        assert_eq!(host.look(&cache).unwrap().len(), 1);
        let baseline = cache
            .0
            .lock()
            .unwrap()
            .last
            .as_ref()
            .unwrap()
            .baseline
            .clone();
        let look = || {
            let now = SystemTime::now() + Duration::from_secs(3600);
            host.look_with(&baseline, now, &cache).unwrap()
        };
        tick(&host);
        fs::remove_file(host.0.path().join("lib")).unwrap();
        host.write("lib/a.service", "[Unit]\n");
        assert_eq!(look(), [""; 0]);
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let host = Host::new(&[("etc/main.service", "[Unit]\nAfter=a.service\n")]);
        // A file, but reading it is an input/output error.
        host.link("/proc/self/mem", "etc/w-x.service");
        let cache = Cache::default();
        assert_eq!(host.look(&cache).unwrap().len(), 1);
        let known = cache.0.lock().unwrap();
        assert!(!known.last.as_ref().unwrap().stamps.hold());
    }
}
