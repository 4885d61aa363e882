//! What a service's settings will put over the host's tree when it starts, in the order and with the
//! precedence that systemd gives them (systemd.exec(5)).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Reason;
use super::mountinfo::Mounts;
use super::tree::{Base, Kind, Layer, Owner, Stop, Tree, What};
use super::walk::locate;
use crate::systemd::settings::{DIRECTORIES, Settings};

/// One thing that a setting does to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The place, as the setting names it.
    pub at: PathBuf,
    /// What is done.
    pub act: Act,
    /// The place need not exist.
    may_be_missing: bool,
    /// It is a path of the host also where RootDirectory= is set.
    of_host: bool,
    /// The setting.
    pub setting: String,
}

/// What is done to a place. Of two acts on one place the earlier one of this list is done, and what
/// either makes read-only is so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Inaccessible,
    Bind {
        source: PathBuf,
        read_only: bool,
    },
    PrivateTmp,
    PrivateDev,
    ReadOnly,
    ReadWrite,
    /// One of StateDirectory= and its siblings, with its mode.
    Directory {
        source: PathBuf,
        mode: u32,
        configuration: bool,
    },
    Tmpfs {
        mode: u32,
        read_only: bool,
    },
    /// Left as it is by what is done above it.
    Spare,
}

impl Act {
    fn is_read_only(&self) -> bool {
        match self {
            Self::Inaccessible | Self::ReadOnly | Self::PrivateDev => true,
            Self::Bind { read_only, .. } | Self::Tmpfs { read_only, .. } => *read_only,
            Self::PrivateTmp | Self::ReadWrite | Self::Directory { .. } | Self::Spare => false,
        }
    }
}

/// Why the next start cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// It will fail, and why.
    StartFails(String),
    /// It cannot be told, and why.
    Unknown(String),
}

/// What the kernel has in /proc and /sys that ProtectKernelTunables= makes read-only.
const TUNABLES: [&str; 13] = [
    "/proc/acpi",
    "/proc/apm",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/latency_stats",
    "/proc/mttr",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_stats",
    "/sys",
];

/// What of the host's /dev is still there with PrivateDevices=.
const DEVICES: [&str; 11] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/hugepages",
    "/dev/log",
];

/// All that the settings do, in no order.
pub fn rules(settings: &Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    // A command with + is taken out of all of it.
    if settings.unconfined {
        return rules;
    }
    let lists = [
        ("ReadWritePaths", Act::ReadWrite, &settings.read_write_paths),
        ("ReadOnlyPaths", Act::ReadOnly, &settings.read_only_paths),
        (
            "InaccessiblePaths",
            Act::Inaccessible,
            &settings.inaccessible_paths,
        ),
    ];
    for (setting, act, paths) in lists {
        rules.extend(paths.iter().map(|path| {
            let listed = Listed::new(path);
            Rule {
                at: listed.path,
                act: act.clone(),
                may_be_missing: listed.may_be_missing,
                of_host: !listed.below_root,
                setting: format!("{setting}={path}"),
            }
        }));
    }
    for bind in &settings.binds {
        let name = if bind.read_only {
            "BindReadOnlyPaths"
        } else {
            "BindPaths"
        };
        rules.push(Rule {
            at: clean(&bind.destination),
            act: Act::Bind {
                source: clean(&bind.source),
                read_only: bind.read_only,
            },
            may_be_missing: bind.may_be_missing,
            of_host: false,
            setting: format!("{name}={}:{}", bind.source, bind.destination),
        });
    }
    let mut add = |at: &str, act: Act, setting: &str| {
        rules.push(Rule {
            at: PathBuf::from(at),
            act,
            may_be_missing: true,
            of_host: false,
            setting: setting.to_owned(),
        });
    };
    for (at, options) in &settings.temporary_file_systems {
        let options = || options.split(',');
        let mode = options().find_map(|option| option.strip_prefix("mode="));
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let act = Act::Tmpfs {
            mode: mode.unwrap_or(0o755),
            read_only: options().any(|option| option == "ro"),
        };
        add(at, act, &format!("TemporaryFileSystem={at}"));
    }
    if settings.private_tmp {
        for at in ["/tmp", "/var/tmp"] {
            add(at, Act::PrivateTmp, "PrivateTmp=yes");
        }
    }
    if settings.private_devices {
        add("/dev", Act::PrivateDev, "PrivateDevices=yes");
        for device in DEVICES {
            let act = Act::Bind {
                source: PathBuf::from(device),
                read_only: false,
            };
            add(device, act, "PrivateDevices=yes");
        }
    }
    if settings.protect_kernel_tunables {
        for at in TUNABLES {
            add(at, Act::ReadOnly, "ProtectKernelTunables=yes");
        }
    }
    if settings.protect_control_groups {
        add("/sys/fs/cgroup", Act::ReadOnly, "ProtectControlGroups=yes");
    }
    let home = match settings.protect_home.as_str() {
        "yes" => Some(Act::Inaccessible),
        "read-only" => Some(Act::ReadOnly),
        "tmpfs" => Some(Act::Tmpfs {
            mode: 0o755,
            read_only: true,
        }),
        _ => None,
    };
    let homes = ["/home", "/root", "/run/user"];
    if let Some(act) = home {
        for at in homes {
            let setting = format!("ProtectHome={}", settings.protect_home);
            add(at, act.clone(), &setting);
        }
    }
    let system: &[&str] = match settings.protect_system.as_str() {
        "strict" => &["/"],
        "full" => &["/usr", "/boot", "/efi", "/etc"],
        "yes" => &["/usr", "/boot", "/efi"],
        _ => &[],
    };
    let setting = format!("ProtectSystem={}", settings.protect_system);
    for at in system {
        add(at, Act::ReadOnly, &setting);
    }
    if settings.protect_system == "strict" {
        for at in ["/proc", "/sys", "/dev"].iter().chain(&homes) {
            add(at, Act::Spare, &setting);
        }
    }
    rules.extend(directories(settings));
    rules
}

/// The rules for the directories that systemd makes.
fn directories(settings: &Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    for ((setting, place), directories) in DIRECTORIES.iter().zip(&settings.directories) {
        let is_private = settings.dynamic_user
            && matches!(
                *setting,
                "StateDirectory" | "CacheDirectory" | "LogsDirectory"
            );
        for name in &directories.names {
            // systemd 257 tells the flags and the link's name behind a colon.
            let name = name.split(':').next().unwrap_or(name);
            let public = Path::new(place).join(name);
            let private = Path::new(place).join("private").join(name);
            let source = if is_private { &private } else { &public };
            let mut add = |at: &Path| {
                rules.push(Rule {
                    at: at.to_owned(),
                    act: Act::Directory {
                        source: source.clone(),
                        mode: directories.mode,
                        configuration: *setting == "ConfigurationDirectory",
                    },
                    may_be_missing: true,
                    of_host: false,
                    setting: format!("{setting}={name}"),
                });
            };
            add(&public);
            if is_private {
                add(&private);
            }
        }
    }
    rules
}

/// A path of ReadWritePaths= or one of its siblings, without what stands before it.
pub struct Listed {
    /// The path alone.
    pub path: PathBuf,
    /// It had the `-`.
    pub may_be_missing: bool,
    /// It had the `+`: it lies below RootDirectory=.
    pub below_root: bool,
}

impl Listed {
    /// Takes the entry of such a list apart.
    pub fn new(entry: &str) -> Self {
        let path = entry.trim_start_matches(['-', '+']);
        let prefix = entry.strip_suffix(path).unwrap_or("");
        Self {
            path: clean(path),
            may_be_missing: prefix.contains('-'),
            below_root: prefix.contains('+'),
        }
    }
}

/// Without `.`, doubled and trailing slashes.
fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

/// Which setting is likely to be behind a verdict, as the end of its sentence. It goes by the names
/// alone and does not look where links lead.
pub fn hint(rules: &[Rule], path: &Path, reason: Reason) -> Option<String> {
    let around = || rules.iter().filter(|rule| path.starts_with(&rule.at));
    let depth = |rule: &&Rule| rule.at.components().count();
    // Nothing below it has any effect.
    let hidden = around().filter(|rule| rule.act == Act::Inaccessible);
    if let Some(rule) = hidden.min_by_key(depth) {
        return matches!(reason, Reason::Denied | Reason::Missing).then(|| {
            let (setting, at) = (&rule.setting, rule.at.display());
            format!("{setting} hides {at}, and no other setting opens anything below it")
        });
    }
    let deepest = around().map(|rule| depth(&rule)).max()?;
    let mut in_force = around().filter(|rule| depth(rule) == deepest);
    match reason {
        Reason::ReadOnly => {
            in_force
                .find(|rule| rule.act.is_read_only())
                .map(|rule| match &rule.setting {
                    setting if rule.at == path => setting.clone(),
                    setting => format!("{setting}, and ReadWritePaths= does not name it"),
                })
        }
        Reason::Denied | Reason::Missing => in_force
            .find(|rule| matches!(rule.act, Act::Tmpfs { .. } | Act::PrivateTmp))
            .map(|rule| {
                let (setting, at) = (&rule.setting, rule.at.display());
                format!("{setting} puts an empty {at} before it")
            }),
        _ => None,
    }
}

/// The tree as the service will find it when it is started next. `host` reaches the host's files,
/// `mounts` are those of PID 1, `owner` is whom systemd gives the directories to that it makes.
pub fn tree(
    settings: &Settings,
    host: Base,
    mounts: Arc<Mounts>,
    owner: (u32, u32),
) -> Result<Tree, Hindrance> {
    let mut tree = Tree {
        base: host,
        mounts,
        root: PathBuf::from("/"),
        layers: Vec::new(),
    };
    let fails = |setting: &str, path: &Path| {
        Hindrance::StartFails(format!(
            "the service will not start: {setting}, but {} does not exist (226/NAMESPACE)",
            path.display()
        ))
    };
    let rules = rules(settings);
    // What is shared from the host is a path of the host's, not of RootDirectory=.
    let mut shown = Vec::with_capacity(rules.len());
    for rule in &rules {
        shown.push(match &rule.act {
            Act::Bind { source, .. } => match locate(&tree, source) {
                Ok(source) => Some(What::Of(source.path)),
                Err(Stop::Missing) if rule.may_be_missing => None,
                Err(Stop::Missing) => return Err(fails(&rule.setting, source)),
                Err(Stop::Unknown(why)) => return Err(Hindrance::Unknown(why)),
            },
            // It may be below a directory that the exporter may not enter, which does not matter.
            Act::Directory { source, .. } => Some(What::Of(
                locate(&tree, source).map_or_else(|_| source.clone(), |node| node.path),
            )),
            Act::PrivateTmp => Some(What::Empty(Some(rule.at.clone()))),
            Act::PrivateDev | Act::Tmpfs { .. } => Some(What::Empty(None)),
            Act::Inaccessible | Act::ReadOnly | Act::ReadWrite | Act::Spare => Some(What::Same),
        });
    }
    if !settings.unconfined && !settings.root_image.is_empty() {
        return Err(Hindrance::Unknown(format!(
            "RootImage={} is not mounted before the service starts",
            settings.root_image
        )));
    }
    let has_root = !settings.unconfined && !matches!(settings.root_directory.as_str(), "" | "/");
    if has_root {
        let root = Path::new(&settings.root_directory);
        tree.root = match locate(&tree, root) {
            Ok(node) => node.path,
            Err(Stop::Missing) => {
                let setting = format!("RootDirectory={}", settings.root_directory);
                return Err(fails(&setting, root));
            }
            Err(Stop::Unknown(why)) => return Err(Hindrance::Unknown(why)),
        };
    }
    let mut layers = Vec::with_capacity(rules.len());
    for (rule, what) in rules.iter().zip(shown) {
        let Some(what) = what else {
            continue;
        };
        // Without the + it means the host's path, which is nothing to a service that sees only
        // what is below its own root.
        let at = if has_root && rule.of_host {
            match rule.at.strip_prefix(&settings.root_directory) {
                Ok(below) => Path::new("/").join(below),
                Err(_) => continue,
            }
        } else {
            rule.at.clone()
        };
        let is_made = matches!(rule.act, Act::Directory { .. }) && settings.dynamic_user;
        // A link at the place leads on, unless it is systemd's own.
        let (at, is_dir) = if is_made {
            (at, true)
        } else {
            match locate(&tree, &at) {
                Ok(node) => (node.path, node.kind == Kind::Dir),
                Err(Stop::Missing) if what == What::Same && rule.may_be_missing => continue,
                Err(Stop::Missing) if rule.act == Act::Inaccessible => {
                    return Err(fails(&rule.setting, &rule.at));
                }
                // It may lie below another layer; what cannot be told of it shows in the end.
                Err(_) => (at, true),
            }
        };
        let (what, given) = match &rule.act {
            Act::Inaccessible => (What::Nothing { is_dir }, None),
            Act::Directory {
                mode,
                configuration,
                source,
            } => {
                let given = Owner {
                    uid: owner.0,
                    gid: owner.1,
                    mode: *mode,
                };
                // A configuration directory that is there keeps its owner.
                let is_kept = *configuration && locate(&tree, source).is_ok();
                (what, (!is_kept).then_some(given))
            }
            Act::Tmpfs { mode, .. } => (what, Some(root_owns(*mode))),
            Act::PrivateTmp => (what, Some(root_owns(0o1777))),
            _ => (what, None),
        };
        let layer = Layer {
            at,
            what,
            read_only: rule.act.is_read_only(),
            owner: given,
            setting: rule.setting.clone(),
        };
        layers.push((layer, rule));
    }
    layers.sort_by(|(a, of_a), (b, of_b)| (&a.at, &of_a.act).cmp(&(&b.at, &of_b.act)));
    let mut hidden: Option<PathBuf> = None;
    let mut needed = Vec::new();
    for (layer, rule) in layers {
        if hidden
            .as_ref()
            .is_some_and(|hidden| layer.at.starts_with(hidden) && layer.at != *hidden)
        {
            continue;
        }
        if rule.act == Act::Inaccessible {
            hidden = Some(layer.at.clone());
        }
        if !rule.may_be_missing && layer.what == What::Same {
            needed.push((layer.at.clone(), rule));
        }
        match tree.layers.last_mut() {
            Some(last) if last.at == layer.at => {
                if layer.read_only && !last.read_only {
                    last.setting.clone_from(&layer.setting);
                }
                last.read_only |= layer.read_only;
                // A directory that is made is made, whatever else is done to it.
                if last.what == What::Same && matches!(rule.act, Act::Directory { .. }) {
                    (last.what, last.owner) = (layer.what, layer.owner);
                }
            }
            _ => tree.layers.push(layer),
        }
    }
    for (at, rule) in needed {
        match locate(&tree, &at) {
            Ok(_) => {}
            Err(Stop::Missing) => return Err(fails(&rule.setting, &rule.at)),
            Err(Stop::Unknown(why)) => return Err(Hindrance::Unknown(why)),
        }
    }
    Ok(tree)
}

fn root_owns(mode: u32) -> Owner {
    Owner {
        uid: 0,
        gid: 0,
        mode,
    }
}
