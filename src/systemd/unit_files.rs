//! Which unit files exist, and whether they are enabled, as `systemctl list-unit-files` has it.
//!
//! Read from disk: systemd's own answer searches every directory anew for each unit, which at two
//! thousand units keeps PID 1 busy for ten seconds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::unit::suffix;

/// The types a unit file can be of.
const SUFFIXES: [&str; 9] = [
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

/// UnitFileState by unit name, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    states: HashMap<String, Cow<'static, str>>,
}

/// What the directories link to.
#[derive(Debug, Default)]
struct Links {
    /// Names below a `.wants/`, `.requires/` or `.upholds/` directory, or aliased.
    enabled: HashSet<String>,
    /// The same, for this boot only.
    enabled_runtime: HashSet<String>,
}

impl UnitFiles {
    /// Reads these directories, of which the earlier ones win (UnitPath of the manager). Files of
    /// other names than `wanted` are not opened.
    ///
    /// # Errors
    ///
    /// A directory that is there but cannot be read: what it holds cannot be told then.
    pub fn read(directories: &[String], wanted: impl Fn(&str) -> bool) -> io::Result<Self> {
        let mut links = Links::default();
        let mut found: HashMap<String, PathBuf> = HashMap::new();
        let mut seen_any = false;
        for directory in directories {
            let entries = match fs::read_dir(directory) {
                Ok(entries) => entries,
                // Most hosts lack some of the directories.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{directory}: {error}"),
                    ));
                }
            };
            seen_any = true;
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if [".wants", ".requires", ".upholds"]
                    .iter()
                    .any(|end| name.ends_with(end))
                {
                    links.collect(directory, &entry.path())?;
                } else if SUFFIXES.contains(&suffix(&name)) {
                    links.alias(directory, &name, &entry.path());
                    found.entry(name).or_insert_with(|| entry.path());
                }
            }
        }
        if !seen_any {
            return Err(io::Error::new(
                ErrorKind::NotFound,
                "no directory for unit files is there",
            ));
        }
        let states = found
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, path)| {
                let state = links.state(&name, &path, directories);
                (name, state)
            })
            .collect();
        Ok(Self { states })
    }

    /// The state of this unit's file; that of its template where it is an instance. `None` if
    /// there is none.
    pub fn state(&self, name: &str) -> Option<&Cow<'static, str>> {
        self.states
            .get(name)
            .or_else(|| self.states.get(&template(name)?))
    }

    /// True if there is a file of this very name.
    pub fn has(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }

    /// Every name that is no template's, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .states
            .keys()
            .map(String::as_str)
            .filter(|name| !name.contains("@."))
            .collect();
        names.sort_unstable();
        names
    }

    /// These files, for tests of what follows from them.
    #[cfg(test)]
    pub fn of(states: &[(&str, &'static str)]) -> Self {
        let states = states
            .iter()
            .map(|(name, state)| ((*name).to_owned(), (*state).into()));
        Self {
            states: states.collect(),
        }
    }
}

impl Links {
    /// Takes over what stands below one `.wants/` directory. Only those that an administrator
    /// writes to enable anything; what comes with a package stands below /usr.
    fn collect(&mut self, directory: &str, path: &Path) -> io::Result<()> {
        let Some(enabled) = self.of(directory) else {
            return Ok(());
        };
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                enabled.insert(name);
            }
        }
        Ok(())
    }

    /// An alias enables the unit that it points to.
    fn alias(&mut self, directory: &str, name: &str, path: &Path) {
        if let Some(target) = link_name(path)
            && target != name
            && let Some(enabled) = self.of(directory)
        {
            enabled.insert(target);
        }
    }

    /// The set that this directory's links belong to; `None` for one that enables nothing.
    fn of(&mut self, directory: &str) -> Option<&mut HashSet<String>> {
        match directory {
            "/etc/systemd/system" => Some(&mut self.enabled),
            "/run/systemd/system" => Some(&mut self.enabled_runtime),
            _ => None,
        }
    }

    fn state(&self, name: &str, path: &Path, directories: &[String]) -> Cow<'static, str> {
        let is_runtime = path.starts_with("/run");
        let here = path
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let is_link = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_symlink());
        let state = if is_masked(path) {
            if is_runtime {
                "masked-runtime"
            } else {
                "masked"
            }
        } else if here == Some("transient") {
            "transient"
        } else if here.is_some_and(|here| here.starts_with("generator")) {
            "generated"
        } else if is_link && link_name(path).is_some_and(|target| target != name) {
            "alias"
        } else if self.enabled.contains(name) {
            "enabled"
        } else if self.enabled_runtime.contains(name) {
            "enabled-runtime"
        } else if is_link && !points_into(path, directories) {
            if is_runtime {
                "linked-runtime"
            } else {
                "linked"
            }
        } else {
            match fs::read_to_string(path) {
                Ok(text) => install_state(&text),
                Err(_) => "bad",
            }
        };
        Cow::Borrowed(state)
    }
}

/// A link to /dev/null, or an empty file.
fn is_masked(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"))
        || fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// The name that a link points to; `None` if it is no link.
fn link_name(path: &Path) -> Option<String> {
    fs::read_link(path)
        .ok()?
        .file_name()?
        .to_str()
        .map(str::to_owned)
}

fn points_into(path: &Path, directories: &[String]) -> bool {
    fs::canonicalize(path).is_ok_and(|target| {
        target.parent().is_some_and(|parent| {
            directories
                .iter()
                .any(|directory| fs::canonicalize(directory).is_ok_and(|other| other == parent))
        })
    })
}

/// What a unit can be that nothing enables, by its section `[Install]`.
fn install_state(text: &str) -> &'static str {
    let mut in_install = false;
    let mut has_also = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_install = line == "[Install]";
        } else if in_install && let Some((key, value)) = line.split_once('=') {
            match key.trim() {
                "WantedBy" | "RequiredBy" | "UpheldBy" | "Alias" if !value.trim().is_empty() => {
                    return "disabled";
                }
                "Also" => has_also = true,
                _ => {}
            }
        }
    }
    if has_also { "indirect" } else { "static" }
}

/// The template of an instance: `a@.service` of `a@b.service`.
fn template(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_section_decides_what_nothing_enables() {
        assert_eq!(install_state("[Service]\nExecStart=/bin/true\n"), "static");
        assert_eq!(
            install_state("[Unit]\n[Install]\nWantedBy=multi-user.target\n"),
            "disabled"
        );
        assert_eq!(
            install_state("[Install]\r\nAlias = b.service\r\n"),
            "disabled"
        );
        assert_eq!(install_state("[Install]\nAlso=b.socket\n"), "indirect");
        assert_eq!(
            install_state("[Unit]\nWantedBy=here-it-means-nothing.target\n"),
            "static"
        );
        assert_eq!(
            install_state("# [Install]\n#WantedBy=a.target\n[Install]\n;Alias=b\n"),
            "static"
        );
    }

    #[test]
    fn an_instance_lives_from_its_template() {
        let files = UnitFiles::of(&[("a@.service", "static"), ("b.service", "enabled")]);
        assert_eq!(
            files.state("a@1.service").map(|state| &**state),
            Some("static")
        );
        assert_eq!(
            files.state("b.service").map(|state| &**state),
            Some("enabled")
        );
        assert_eq!(files.state("c.service"), None);
        assert_eq!(files.names(), ["b.service"]);
    }

    #[test]
    fn files_masks_and_links_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let first = root.path().join("first");
        let second = root.path().join("second");
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        let install = "[Install]\nWantedBy=a.target\n";
        fs::write(first.join("plain.service"), install).unwrap();
        fs::write(first.join("empty.service"), "").unwrap();
        fs::write(second.join("masked.service"), install).unwrap();
        std::os::unix::fs::symlink("/dev/null", first.join("masked.service")).unwrap();
        std::os::unix::fs::symlink("plain.service", first.join("other.service")).unwrap();
        std::os::unix::fs::symlink("/elsewhere/linked.service", first.join("linked.service"))
            .unwrap();
        fs::write(first.join("not-a-unit.conf"), "").unwrap();
        let directories: Vec<String> = [&first, &second, &root.path().join("missing")]
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect();
        let files = UnitFiles::read(&directories, |_| true).unwrap();
        let state = |name: &str| files.state(name).map(|state| &**state);
        assert_eq!(state("plain.service"), Some("disabled"));
        assert_eq!(state("empty.service"), Some("masked"));
        assert_eq!(state("masked.service"), Some("masked"));
        assert_eq!(state("other.service"), Some("alias"));
        assert_eq!(state("linked.service"), Some("linked"));
        assert_eq!(state("not-a-unit.conf"), None);
        assert!(UnitFiles::read(&["/missing".to_owned()], |_| true).is_err());
    }
}
