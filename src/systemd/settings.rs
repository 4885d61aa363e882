//! The settings of a service that decide where it can write, as systemd holds them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use zbus::wire::Variant;

/// CAP_DAC_OVERRIDE, as a bit of systemd's capability sets.
pub const DAC_OVERRIDE: u64 = 1 << 1;
/// CAP_DAC_READ_SEARCH, as a bit of systemd's capability sets.
pub const DAC_READ_SEARCH: u64 = 1 << 2;

/// The settings of one service (org.freedesktop.systemd1.Service; systemd.exec(5) tells what each
/// means). They hold for its next start: a running process may have been started with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// User=; empty for root. With DynamicUser= it is the name that the user will get.
    pub user: String,
    /// Group=; empty for the user's own.
    pub group: String,
    /// SupplementaryGroups=.
    pub supplementary_groups: Vec<String>,
    /// DynamicUser=; what it implies stands in the other settings already.
    pub dynamic_user: bool,
    /// CapabilityBoundingSet=, no more of it than [`DAC_OVERRIDE`] and [`DAC_READ_SEARCH`].
    pub bounding_set: u64,
    /// AmbientCapabilities=, no more of it than the same two.
    pub ambient: u64,
    /// True if every ExecStart= has the `+` that takes it out of the sandbox.
    pub unconfined: bool,
    /// True if every ExecStart= has the `!` that leaves it root, or the `+`.
    pub stays_root: bool,
    /// ProtectSystem=: no, yes, full or strict.
    pub protect_system: String,
    /// ProtectHome=: no, yes, read-only or tmpfs.
    pub protect_home: String,
    /// PrivateTmp=.
    pub private_tmp: bool,
    /// PrivateDevices=.
    pub private_devices: bool,
    /// PrivateUsers=.
    pub private_users: bool,
    /// ProtectKernelTunables=.
    pub protect_kernel_tunables: bool,
    /// ProtectControlGroups=.
    pub protect_control_groups: bool,
    /// ReadWritePaths=, with the `-` and `+` that stand before a path.
    pub read_write_paths: Vec<String>,
    /// ReadOnlyPaths=, in the same way.
    pub read_only_paths: Vec<String>,
    /// InaccessiblePaths=, in the same way.
    pub inaccessible_paths: Vec<String>,
    /// BindPaths= and BindReadOnlyPaths=.
    pub binds: Vec<Bind>,
    /// TemporaryFileSystem=: where, and its mount options.
    pub temporary_file_systems: Vec<(String, String)>,
    /// RootDirectory=; empty for the host's own root.
    pub root_directory: String,
    /// RootImage=; empty for none.
    pub root_image: String,
    /// WorkingDirectory=, with the `!` or `-` that says that it need not exist.
    pub working_directory: String,
    /// RuntimeDirectory=, StateDirectory=, CacheDirectory=, LogsDirectory= and
    /// ConfigurationDirectory=.
    pub directories: [Directories; 5],
}

/// One of BindPaths= or BindReadOnlyPaths=.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What is shown…
    pub source: String,
    /// …and where.
    pub destination: String,
    /// The source need not exist.
    pub may_be_missing: bool,
    /// BindReadOnlyPaths=.
    pub read_only: bool,
}

/// The directories of one kind that systemd makes for the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Their names, below the place for this kind.
    pub names: Vec<String>,
    /// Their mode.
    pub mode: u32,
}

/// The kinds of [`Settings::directories`], in their order: the setting, and the place.
pub const DIRECTORIES: [(&str, &str); 5] = [
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];

impl Default for Settings {
    /// What a service has that sets none of them.
    fn default() -> Self {
        Self {
            user: String::new(),
            group: String::new(),
            supplementary_groups: Vec::new(),
            dynamic_user: false,
            bounding_set: DAC_OVERRIDE | DAC_READ_SEARCH,
            ambient: 0,
            unconfined: false,
            stays_root: false,
            protect_system: "no".to_owned(),
            protect_home: "no".to_owned(),
            private_tmp: false,
            private_devices: false,
            private_users: false,
            protect_kernel_tunables: false,
            protect_control_groups: false,
            read_write_paths: Vec::new(),
            read_only_paths: Vec::new(),
            inaccessible_paths: Vec::new(),
            binds: Vec::new(),
            temporary_file_systems: Vec::new(),
            root_directory: String::new(),
            root_image: String::new(),
            working_directory: String::new(),
            directories: std::array::from_fn(|_| Directories {
                names: Vec::new(),
                mode: 0o755,
            }),
        }
    }
}

impl Settings {
    /// Those of a service that sets none, held once for all.
    pub fn plain() -> Arc<Self> {
        static PLAIN: LazyLock<Arc<Settings>> = LazyLock::new(Arc::default);
        PLAIN.clone()
    }

    /// The settings in a whole reading of a service; `None` in what is not one, such as a signal,
    /// which never tells them.
    pub(super) fn read(all: &HashMap<&str, Variant<'_>>) -> Option<Arc<Self>> {
        let text = |key: &str| match all.get(key) {
            Some(Variant::Str(text)) => text.as_str().to_owned(),
            _ => String::new(),
        };
        let flag = |key: &str| matches!(all.get(key), Some(Variant::Bool(true)));
        let bits = |key: &str| match all.get(key) {
            Some(Variant::U64(bits)) => bits & (DAC_OVERRIDE | DAC_READ_SEARCH),
            _ => 0,
        };
        if !all.contains_key("ProtectSystem") {
            return None;
        }
        let texts = |key: &str| items(all.get(key)).filter_map(as_text).collect();
        let binds = [("BindPaths", false), ("BindReadOnlyPaths", true)];
        let binds = binds.iter().flat_map(|(key, read_only)| {
            items(all.get(*key)).filter_map(|item| match fields(item) {
                [source, destination, Variant::Bool(may_be_missing), ..] => Some(Bind {
                    source: as_text(source)?,
                    destination: as_text(destination)?,
                    may_be_missing: *may_be_missing,
                    read_only: *read_only,
                }),
                _ => None,
            })
        });
        let temporary =
            items(all.get("TemporaryFileSystem")).filter_map(|item| match fields(item) {
                [place, options] => Some((as_text(place)?, as_text(options)?)),
                _ => None,
            });
        // Of each command: path, arguments, flags, and how it last ran.
        let flags: Vec<Vec<String>> = items(all.get("ExecStartEx"))
            .map(|command| items(fields(command).get(2)).filter_map(as_text).collect())
            .collect();
        let all_have = |wanted: &[&str]| {
            !flags.is_empty()
                && flags
                    .iter()
                    .all(|flags| flags.iter().any(|flag| wanted.contains(&flag.as_str())))
        };
        let settings = Self {
            user: text("User"),
            group: text("Group"),
            supplementary_groups: texts("SupplementaryGroups"),
            dynamic_user: flag("DynamicUser"),
            bounding_set: bits("CapabilityBoundingSet"),
            ambient: bits("AmbientCapabilities"),
            unconfined: all_have(&["privileged"]),
            stays_root: all_have(&["privileged", "no-setuid"]),
            protect_system: text("ProtectSystem"),
            protect_home: text("ProtectHome"),
            private_tmp: flag("PrivateTmp"),
            private_devices: flag("PrivateDevices"),
            private_users: flag("PrivateUsers"),
            protect_kernel_tunables: flag("ProtectKernelTunables"),
            protect_control_groups: flag("ProtectControlGroups"),
            read_write_paths: texts("ReadWritePaths"),
            read_only_paths: texts("ReadOnlyPaths"),
            inaccessible_paths: texts("InaccessiblePaths"),
            binds: binds.collect(),
            temporary_file_systems: temporary.collect(),
            root_directory: text("RootDirectory"),
            root_image: text("RootImage"),
            working_directory: text("WorkingDirectory"),
            directories: DIRECTORIES.map(|(setting, _)| Directories {
                names: texts(setting),
                mode: match all.get(format!("{setting}Mode").as_str()) {
                    Some(Variant::U32(mode)) => *mode,
                    _ => 0o755,
                },
            }),
        };
        let plain = Self::plain();
        Some(if settings == *plain {
            plain
        } else {
            Arc::new(settings)
        })
    }
}

/// The names that the main commands of a service have as processes; `None` in what tells of none,
/// such as a signal.
pub(super) fn programs(all: &HashMap<&str, Variant<'_>>) -> Option<Box<[String]>> {
    let commands = all.get("ExecStart")?;
    let paths = items(Some(commands)).filter_map(|command| as_text(fields(command).first()?));
    let names = paths.map(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        // The kernel keeps no more of it.
        String::from_utf8_lossy(name.as_bytes().get(..15).unwrap_or(name.as_bytes())).into_owned()
    });
    Some(names.collect())
}

pub(super) fn items<'v, 'a>(
    value: Option<&'v Variant<'a>>,
) -> impl Iterator<Item = &'v Variant<'a>> {
    let items = match value {
        Some(Variant::Array(array)) => array.inner(),
        _ => &[],
    };
    items.iter()
}

pub(super) fn fields<'v, 'a>(value: &'v Variant<'a>) -> &'v [Variant<'a>] {
    match value {
        Variant::Structure(structure) => structure.fields(),
        _ => &[],
    }
}

pub(super) fn as_text(value: &Variant<'_>) -> Option<String> {
    match value {
        Variant::Str(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all: Vec<(&'static str, Variant<'static>)>) -> Option<Arc<Settings>> {
        Settings::read(&all.into_iter().collect())
    }

    #[test]
    fn plain_settings_are_held_once() {
        let plain = || {
            vec![
                ("ProtectSystem", Variant::new("no")),
                ("ProtectHome", Variant::new("no")),
                ("CapabilityBoundingSet", Variant::new(u64::MAX)),
                ("StateDirectoryMode", Variant::new(0o755_u32)),
            ]
        };
        assert!(Arc::ptr_eq(&read(plain()).unwrap(), &Settings::plain()));
        let mut other = plain();
        other.push(("PrivateTmp", Variant::new(true)));
        assert!(read(other).unwrap().private_tmp);
    }

    #[test]
    fn programs_are_known_by_as_much_of_their_name_as_the_kernel_keeps() {
        let commands = vec![
            ("/bin/sh", vec!["sh"]),
            ("/opt/a-program-of-a-long-name", vec![]),
        ];
        let all = HashMap::from([("ExecStart", Variant::new(commands))]);
        assert_eq!(*programs(&all).unwrap(), ["sh", "a-program-of-a-"]);
        assert_eq!(programs(&HashMap::new()), None);
    }

    #[test]
    fn a_signal_tells_no_settings() {
        assert_eq!(read(vec![("MainPID", Variant::new(1_u32))]), None);
    }

    #[test]
    fn lists_of_structures_are_taken_apart() {
        let command = |flags: Vec<&'static str>| {
            let times = (0_u64, 0_u64, 0_u64, 0_u64);
            let (a, b, c, d) = times;
            (
                "/bin/x",
                vec!["/bin/x"],
                flags,
                a,
                b,
                c,
                d,
                0_u32,
                0_i32,
                0_i32,
            )
        };
        let settings = read(vec![
            ("ProtectSystem", Variant::new("strict")),
            (
                "BindReadOnlyPaths",
                Variant::new(vec![("/a", "/b", true, 16384_u64)]),
            ),
            (
                "TemporaryFileSystem",
                Variant::new(vec![("/opt", "mode=1777")]),
            ),
            ("StateDirectory", Variant::new(vec!["x", "y/z"])),
            ("StateDirectoryMode", Variant::new(0o700_u32)),
            (
                "ExecStartEx",
                Variant::new(vec![
                    command(vec!["privileged"]),
                    command(vec!["ignore-failure", "no-setuid"]),
                ]),
            ),
        ])
        .unwrap();
        assert_eq!(
            settings.binds,
            [Bind {
                source: "/a".to_owned(),
                destination: "/b".to_owned(),
                may_be_missing: true,
                read_only: true
            }]
        );
        assert_eq!(
            settings.temporary_file_systems,
            [("/opt".to_owned(), "mode=1777".to_owned())]
        );
        let [_, state, ..] = &settings.directories;
        assert_eq!((state.names.len(), state.mode), (2, 0o700));
        assert!(!settings.unconfined && settings.stays_root);
        assert_eq!(settings.bounding_set, 0);
    }
}
