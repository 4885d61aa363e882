//! Which paths of which services are looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sandbox::Listed;
use super::walk::Want;
use crate::baseline::WritePaths;
use crate::systemd::settings::{DIRECTORIES, Settings};
use crate::systemd::unit::Unit;

/// One path of one service.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The service's name, as the baseline or systemd has it.
    pub name: Arc<str>,
    /// The service; `None` if it is not watched.
    pub unit: Option<Arc<Unit>>,
    /// The path.
    pub path: PathBuf,
    /// What is to be written there.
    pub want: Want,
    /// The baseline names it.
    pub in_baseline: bool,
}

impl Asked {
    /// The service's settings, if they are known.
    pub fn settings(&self) -> Option<Arc<Settings>> {
        self.unit.as_ref()?.service.as_ref()?.settings.clone()
    }

    /// Why they are not.
    pub fn why_no_settings(&self) -> String {
        let name = &self.name;
        match &self.unit {
            Some(unit) if unit.load_state != "loaded" => format!(
                "systemd has no settings of {name} to judge from: its unit file is {}",
                unit.load_state
            ),
            Some(_) => format!("systemd has not told the settings of {name} yet"),
            None => format!("{name} is not watched: list it in section `systemd` of the baseline"),
        }
    }
}

/// All of them, by service and path, each once.
pub fn asked(write_paths: &[WritePaths], units: &[Arc<Unit>]) -> Vec<Asked> {
    let mut all: BTreeMap<(Arc<str>, PathBuf), Asked> = BTreeMap::new();
    let mut add = |asked: Asked| {
        let key = (asked.name.clone(), asked.path.clone());
        all.entry(key).or_insert(asked);
    };
    for WritePaths { unit, paths, files } in write_paths {
        let found = units.iter().find(|known| *known.name == **unit);
        let name: Arc<str> = found.map_or_else(|| unit.as_str().into(), |unit| unit.name.clone());
        let paths = paths.iter().map(|path| (path, Want::Existing));
        for (path, want) in paths.chain(files.iter().map(|path| (path, Want::File))) {
            add(Asked {
                name: name.clone(),
                unit: found.cloned(),
                path: path.clone(),
                want,
                in_baseline: true,
            });
        }
    }
    for unit in units {
        let settings = unit.service.as_ref().and_then(|s| s.settings.as_ref());
        // Settings of a unit file that is gone are nobody's any more.
        let Some(settings) = settings.filter(|_| unit.load_state == "loaded") else {
            continue;
        };
        for path in declared(settings) {
            add(Asked {
                name: unit.name.clone(),
                unit: Some(unit.clone()),
                path,
                want: Want::Existing,
                in_baseline: false,
            });
        }
    }
    all.into_values().collect()
}

/// What the settings say that the service writes: what is listed as writable and has to exist, and
/// the directories that systemd makes for its data.
pub fn declared(settings: &Settings) -> Vec<PathBuf> {
    let has_root = !matches!(settings.root_directory.as_str(), "" | "/");
    let listed = settings.read_write_paths.iter();
    let listed = listed.map(|entry| Listed::new(entry)).filter(|listed| {
        // Below its own root the service does not see the host's paths.
        !listed.may_be_missing && (listed.below_root || !has_root)
    });
    let mut paths: Vec<_> = listed.map(|listed| listed.path).collect();
    for ((setting, place), directories) in DIRECTORIES.iter().zip(&settings.directories) {
        // A configuration is read.
        if *setting == "ConfigurationDirectory" {
            continue;
        }
        let names = directories.names.iter();
        paths.extend(names.map(|name| Path::new(place).join(name)));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, settings: Settings) -> Arc<Unit> {
        let mut unit = Unit::new(name, 0);
        unit.load_state = "loaded".into();
        unit.service.as_mut().unwrap().settings = Some(Arc::new(settings));
        Arc::new(unit)
    }

    #[test]
    fn what_a_unit_declares_is_looked_at_beside_the_baseline() {
        let mut settings = Settings {
            read_write_paths: ["/b/", "-/perhaps", "+/inside"].map(str::to_owned).into(),
            ..Settings::default()
        };
        let [runtime, state, _, _, configuration] = &mut settings.directories;
        runtime.names = vec!["app".to_owned()];
        state.names = vec!["a/b".to_owned()];
        configuration.names = vec!["app".to_owned()];
        let units = [
            unit("b.service", settings),
            unit("a.service", Settings::default()),
        ];
        let named = WritePaths {
            unit: "b.service".to_owned(),
            paths: vec!["/b".into()],
            files: vec!["/log".into()],
        };
        let absent = WritePaths {
            unit: "absent.service".to_owned(),
            paths: vec!["/x".into()],
            files: vec![],
        };
        let all = asked(&[named, absent], &units);
        let all: Vec<_> = all
            .iter()
            .map(|asked| {
                let path = asked.path.to_str().unwrap();
                (&*asked.name, path, asked.want, asked.in_baseline)
            })
            .collect();
        assert_eq!(
            all,
            [
                ("absent.service", "/x", Want::Existing, true),
                ("b.service", "/b", Want::Existing, true),
                ("b.service", "/inside", Want::Existing, false),
                ("b.service", "/log", Want::File, true),
                ("b.service", "/run/app", Want::Existing, false),
                ("b.service", "/var/lib/a/b", Want::Existing, false),
            ]
        );
    }

    #[test]
    fn with_a_root_of_its_own_only_paths_below_it_are_its() {
        let settings = Settings {
            root_directory: "/srv/root".to_owned(),
            read_write_paths: ["/host", "+/inside"].map(str::to_owned).into(),
            ..Settings::default()
        };
        assert_eq!(declared(&settings), [PathBuf::from("/inside")]);
    }
}
