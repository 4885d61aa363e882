//! References from unit files to units that are not there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::reader::{self, Entry};
use super::{Dangling, Effect, Why};
use crate::baseline::{Expected, Systemd};

/// Directives of `[Unit]` and of the units' own sections that name units.
const DIRECTIVES: [&str; 19] = [
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
    "Unit",
    "Service",
    "Sockets",
];

/// Directives of `[Install]`; unlike the others an empty assignment takes back the earlier ones.
const INSTALL: [&str; 4] = ["WantedBy", "RequiredBy", "UpheldBy", "Also"];

/// What the kernel or systemd itself makes units of: they need no file.
const WITHOUT_FILE: [&str; 6] = ["slice", "scope", "device", "mount", "swap", "automount"];

const WITH_FILE: [&str; 5] = ["service", "socket", "target", "timer", "path"];

/// How a file stood when it was read.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// Keeps what was read of files that have not changed since.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<PathBuf, Kept>>);

/// What a file said, and how it stood then.
type Kept = (Stamp, Arc<Vec<Entry>>);

/// Everything in the directories of unit files, read once.
struct Tree<'a> {
    /// Name and places of each unit file, template and alias; the first place wins.
    files: BTreeMap<String, Vec<PathBuf>>,
    /// The drop-ins below each `NAME.d`, the winning one of each file name, by file name.
    drop_ins: HashMap<String, BTreeMap<String, PathBuf>>,
    /// Links below `NAME.wants`, `.requires` and `.upholds`.
    links: Vec<(String, &'static str, String, PathBuf)>,
    cache: &'a Cache,
}

/// Every reference that leads nowhere, from the watched units, and from any unit to a retired one;
/// sorted. `unit_path` are the directories, of which the earlier ones win.
///
/// # Errors
///
/// A directory or file that cannot be read, where nothing was found in the others.
pub fn dangling(
    systemd: &Systemd,
    unit_path: &[String],
    cache: &Cache,
) -> Result<Vec<Dangling>, String> {
    let tree = Tree::read(unit_path, cache)?;
    let mut found = Vec::new();
    let mut unreadable = None;
    let named = systemd.units.iter().map(|unit| unit.name.clone());
    let mut units: Vec<String> = tree.files.keys().cloned().chain(named).collect();
    units.sort_unstable();
    units.dedup();
    for unit in &units {
        // Of a template nobody knows what its names will be, and an alias is told of by its own name.
        let watched = systemd.watches(unit) && template(unit).as_ref() != Some(unit);
        if tree.is_alias(unit) && systemd.unit(unit).is_none() {
            continue;
        }
        if !watched && systemd.retired.is_empty() {
            continue;
        }
        let mut look = |from: Reference<'_>| {
            if let Some((effect, why)) = tree.judge(systemd, &from, watched) {
                found.push(Dangling {
                    from: unit.clone(),
                    to: from.to,
                    directive: from.directive,
                    effect,
                    why,
                    file: from.file.to_owned(),
                    line: from.line,
                });
            }
        };
        if let Err(error) = tree.references(unit, &mut look) {
            unreadable.get_or_insert(error);
        }
    }
    for (from, directive, to, link) in &tree.links {
        let reference = Reference {
            to: to.clone(),
            directive,
            file: link,
            line: None,
        };
        if let Some((effect, why)) = tree.judge(systemd, &reference, systemd.watches(from)) {
            found.push(Dangling {
                from: from.clone(),
                to: to.clone(),
                directive,
                effect,
                why,
                file: link.clone(),
                line: None,
            });
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
    match unreadable {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// One unit named in a file or by a link.
struct Reference<'f> {
    to: String,
    directive: &'static str,
    file: &'f Path,
    line: Option<usize>,
}

impl<'a> Tree<'a> {
    fn read(unit_path: &[String], cache: &'a Cache) -> Result<Self, String> {
        let mut tree = Self {
            files: BTreeMap::new(),
            drop_ins: HashMap::new(),
            links: Vec::new(),
            cache,
        };
        let mut seen = Vec::new();
        for directory in unit_path {
            // `/lib` and `/usr/lib` may be one and the same.
            let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.into());
            if seen.contains(&real) {
                continue;
            }
            // What a program makes anew at each boot or start is nobody's to clean up.
            let made = directory.contains("/generator") || directory.ends_with("/transient");
            for path in list(Path::new(directory))? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                let name = name.to_owned();
                if let Some((unit, end)) = name.rsplit_once('.')
                    && path.is_dir()
                {
                    if !made {
                        tree.directory(unit, end, &path)?;
                    }
                } else if unit_type(&name).is_some() {
                    tree.files.entry(name).or_default().push(path);
                }
            }
            seen.push(real);
        }
        Ok(tree)
    }

    /// A directory beside the unit files: drop-ins or links.
    fn directory(&mut self, unit: &str, end: &str, path: &Path) -> Result<(), String> {
        let directive = match end {
            "wants" => "Wants",
            "requires" => "Requires",
            "upholds" => "Upholds",
            "d" => {
                let drop_ins = self.drop_ins.entry(unit.to_owned()).or_default();
                for file in list(path)? {
                    if let Some(name) = file.file_name().and_then(|name| name.to_str())
                        && name.ends_with(".conf")
                    {
                        drop_ins.entry(name.to_owned()).or_insert(file);
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for link in list(path)? {
            if let Some(to) = link.file_name().and_then(|name| name.to_str()) {
                let to = to.to_owned();
                self.links.push((unit.to_owned(), directive, to, link));
            }
        }
        Ok(())
    }

    /// Every unit that the files of this one name.
    fn references(&self, unit: &str, found: &mut impl FnMut(Reference<'_>)) -> Result<(), String> {
        // Drop-ins alone make no unit.
        let Some(main) = self.place(unit) else {
            return Ok(());
        };
        let mut files = vec![main];
        files.extend(self.drop_ins_of(unit));
        let mut install: Vec<(usize, &PathBuf, Entry)> = Vec::new();
        let mut activates = false;
        for file in files {
            for entry in self.entries(file)?.iter() {
                if entry.section == "Install" {
                    if let Some(which) = INSTALL.iter().position(|key| *key == entry.key) {
                        if entry.value.is_empty() {
                            install.retain(|(kept, ..)| *kept != which);
                        }
                        install.push((which, file, entry.clone()));
                    }
                } else if let Some(directive) = DIRECTIVES.iter().find(|key| **key == entry.key) {
                    activates |= matches!(*directive, "Unit" | "Service");
                    tell(unit, directive, file, entry, found);
                }
            }
        }
        for (which, file, entry) in &install {
            if let Some(directive) = INSTALL.get(*which) {
                tell(unit, directive, file, entry, found);
            }
        }
        // What a timer or path starts unless it says so itself.
        if let (Some(stem), false) = (activator(unit), activates) {
            found(Reference {
                to: format!("{stem}.service"),
                directive: "Unit",
                file: main,
                line: None,
            });
        }
        Ok(())
    }

    /// True if its file is a link to that of a unit of another name.
    fn is_alias(&self, unit: &str) -> bool {
        let target = self.place(unit).and_then(|path| fs::read_link(path).ok());
        let target = target.as_deref().and_then(Path::file_name);
        target
            .and_then(|name| name.to_str())
            .is_some_and(|name| name != unit && unit_type(name).is_some())
    }

    /// The file that a unit is made of: its own, or its template's.
    fn place(&self, unit: &str) -> Option<&PathBuf> {
        let of = |name: &str| self.files.get(name).and_then(|places| places.first());
        of(unit).or_else(|| of(&template(unit)?))
    }

    /// Drop-ins of a unit, of its template, of its name's prefixes and of its type, in systemd's
    /// order: by file name, the most specific directory's wins.
    fn drop_ins_of(&self, unit: &str) -> impl Iterator<Item = &PathBuf> {
        let mut names = vec![unit.to_owned()];
        names.extend(template(unit));
        if let Some((stem, end)) = unit.rsplit_once('.') {
            let dashes: Vec<usize> = stem.match_indices('-').map(|(at, _)| at).collect();
            let prefixes = dashes.into_iter().rev().filter_map(|at| stem.get(..=at));
            names.extend(prefixes.map(|prefix| format!("{prefix}.{end}")));
            names.push(end.to_owned());
        }
        let mut winning: BTreeMap<&str, &PathBuf> = BTreeMap::new();
        for name in names {
            for (file, path) in self.drop_ins.get(&name).into_iter().flatten() {
                winning.entry(file).or_insert(path);
            }
        }
        winning.into_values()
    }

    /// What a file says, from memory if it stands as it stood.
    fn entries(&self, path: &Path) -> Result<Arc<Vec<Entry>>, String> {
        let unreadable = |error| {
            format!(
                "reading {}: {error}; let the exporter's user read it",
                path.display()
            )
        };
        let stood = match fs::metadata(path) {
            Ok(stood) if stood.is_file() => stood,
            // A mask, or a link to nowhere.
            Ok(_) => return Ok(Arc::default()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(unreadable(error)),
        };
        let stamp = (
            stood.dev(),
            stood.ino(),
            stood.size(),
            stood.mtime(),
            stood.mtime_nsec(),
            stood.ctime(),
            stood.ctime_nsec(),
        );
        let cache = || self.cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, entries)) = cache().get(path)
            && *kept == stamp
        {
            return Ok(entries.clone());
        }
        let entries = Arc::new(reader::read(&fs::read(path).map_err(unreadable)?));
        cache().insert(path.to_owned(), (stamp, entries.clone()));
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
        let retired = systemd.retired.iter().any(|name| name == to);
        if !retired && !watched {
            return None;
        }
        let place = self.place(to);
        let state = match place.map(fs::metadata) {
            Some(Ok(stood)) if stood.is_file() && stood.size() > 0 => None,
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
        let needs = matches!(reference.directive, "Requires" | "Requisite" | "BindsTo");
        let effect = if needs && state.is_some() {
            Effect::Blocks
        } else {
            Effect::Clutter
        };
        Some((effect, why))
    }
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

/// The name without its suffix where a unit of this type starts the service of the same name.
fn activator(unit: &str) -> Option<&str> {
    let (stem, end) = unit.rsplit_once('.')?;
    matches!(end, "timer" | "path").then_some(stem)
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

/// What a directory holds, sorted; nothing if there is no such directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| {
        format!(
            "reading {}: {error}; let the exporter's user read it",
            directory.display()
        )
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

        fn look(&self, cache: &Cache) -> Result<Vec<String>, String> {
            let baseline = self.0.path().join("baseline.yml");
            let text = "deployment: t\nsystemd:\n  watch: ['w-*']\n  running: [main.service]\n  \
                        absent: [gone.service]\n  disabled: [off.service]\n  retired: [old.service]\n";
            fs::write(&baseline, text).unwrap();
            let systemd = Baseline::load(&baseline).unwrap().systemd;
            let unit_path = ["etc", "run/systemd/generator", "lib"]
                .map(|directory| self.0.path().join(directory).display().to_string());
            let found = dangling(&systemd, &unit_path, cache)?;
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
        host.link("/dev/null", "etc/w-t.target.requires/nope.service");
        assert_eq!(
            host.dangling(),
            [
                "main.service Requires empty.service blocks masked etc/main.service:3",
                "main.service Requires masked.service blocks masked etc/main.service:3",
                "main.service Wants no@x.service clutter no_file etc/main.service:2",
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
                "w-tick.timer Unit w-tick.service clutter no_file etc/w-tick.timer",
                "w-tock.timer Unit other.service clutter no_file etc/w-tock.timer:2",
                "w-x-y.service After prefix.service clutter no_file lib/w-x-.service.d/10.conf:2",
            ]
        );
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let host = Host::new(&[("etc/main.service", "[Unit]\nAfter=a.service\n")]);
        let cache = Cache::default();
        let first = host.look(&cache).unwrap();
        assert_eq!(first, host.look(&cache).unwrap());
        host.write("etc/main.service", "[Unit]\nAfter=b.service\n");
        assert_ne!(first, host.look(&cache).unwrap());
    }
}
