//! Whether cloud-init will rewrite the hosts file, and what it would put there.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::hosts_file::addresses;
use super::{Persistence, lines_of};

/// Where the program may stand; without it the configuration is a leftover.
const PROGRAMS: [&str; 2] = ["usr/bin/cloud-init", "usr/local/bin/cloud-init"];

/// What the instance was given when it was made, by the provider and by its owner; the later ones
/// win, and all win over the files below /etc/cloud.
const INSTANCE: [&str; 3] = [
    "var/lib/cloud/instance/vendor-cloud-config.txt",
    "var/lib/cloud/instance/vendor2-cloud-config.txt",
    "var/lib/cloud/instance/cloud-config.txt",
];

/// What to do about a file that may not be read.
const GRANT: &str = "let the exporter's user read it or give it CAP_DAC_READ_SEARCH";

/// The sample whose command adds a name to the template at each boot, before the hosts file is
/// written from it.
const HOSTS_ALIAS: &str = include_str!("../../../deploy/cloud-init/hosts-alias.cfg");

/// The keys of a cloud-config that matter here.
#[derive(Debug, Default, Deserialize)]
struct CloudConfig {
    manage_etc_hosts: Option<Setting>,
    bootcmd: Option<Commands>,
    cloud_init_modules: Option<Modules>,
    cloud_config_modules: Option<Modules>,
    cloud_final_modules: Option<Modules>,
    system_info: Option<SystemInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Setting {
    Switch(bool),
    Number(i64),
    Word(String),
}

impl Setting {
    /// True if /etc/hosts is written anew at each boot; `localhost` only adds a line for the
    /// host's own name.
    fn rewrites(&self) -> bool {
        match self {
            Self::Switch(on) => *on,
            Self::Number(number) => *number == 1,
            Self::Word(word) => {
                let word = word.trim().to_lowercase();
                matches!(&*word, "true" | "1" | "on" | "yes" | "template")
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Commands {
    List(Vec<Command>),
    /// What cloud-init complains about.
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Words(Vec<String>),
    Other(IgnoredAny),
}

impl Commands {
    /// The commands that are written as lists of words.
    fn words(&self) -> impl Iterator<Item = &[String]> {
        let list = match self {
            Self::List(list) => list.as_slice(),
            Self::Other(_) => &[],
        };
        list.iter().filter_map(|command| match command {
            Command::Words(words) => Some(words.as_slice()),
            Command::Other(_) => None,
        })
    }

    /// True if there is the command of the sample for each of these lines of the hosts file.
    fn add(&self, name: &str, expected: &[IpAddr]) -> bool {
        let sample = parse("the sample", HOSTS_ALIAS).unwrap_or_default().bootcmd;
        let Some([program @ .., _, _]) = sample.as_ref().and_then(|sample| sample.words().next())
        else {
            return false;
        };
        expected.iter().all(|address| {
            self.words().any(|words| {
                let [before @ .., its_address, its_name] = words else {
                    return false;
                };
                before == program && its_name == name && its_address.parse() == Ok(*address)
            })
        })
    }
}

/// What cloud-init runs at each boot in one of its stages, in this order.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Modules {
    List(Vec<Module>),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Module {
    Name(String),
    /// With how often it runs, and its arguments.
    List(Vec<Word>),
    Table {
        name: String,
    },
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Other(IgnoredAny),
}

impl Modules {
    /// Where in the list this module is.
    fn place(&self, name: &str) -> Option<usize> {
        match self {
            Self::List(list) => list.iter().position(|module| module.is(name)),
            Self::Other(_) => None,
        }
    }
}

impl Module {
    /// cloud-init takes `update-etc-hosts` and `cc_update_etc_hosts` for update_etc_hosts.
    fn is(&self, name: &str) -> bool {
        let given = match self {
            Self::Name(given) | Self::Table { name: given } => given,
            Self::List(words) => match words.first() {
                Some(Word::Text(given)) => given,
                _ => return false,
            },
            Self::Other(_) => return false,
        };
        let given = given.trim().replace('-', "_");
        given.strip_prefix("cc_").unwrap_or(&given) == name
    }
}

#[derive(Debug, Default, Deserialize)]
struct SystemInfo {
    distro: Option<String>,
}

/// What the last file that sets a key says of it, which is what counts.
#[derive(Debug)]
struct Last<T> {
    /// That, and the file; `None` if no file sets it.
    said: Option<(T, String)>,
    /// Files that may not be read and would win over it.
    hidden: Vec<String>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            said: None,
            hidden: Vec::new(),
        }
    }
}

impl<T> Last<T> {
    fn take(&mut self, said: Option<T>, file: &str) {
        if let Some(said) = said {
            self.said = Some((said, file.to_owned()));
            self.hidden.clear();
        }
    }
}

/// All the configuration that can be read, merged.
#[derive(Debug, Default)]
struct Merged {
    /// manage_etc_hosts.
    manages: Last<Setting>,
    distro: Option<String>,
    /// Whether bootcmd adds the name as the sample does.
    adds: Last<bool>,
    /// The modules of the three stages. Where no file lists any, none runs.
    modules: [Last<Modules>; 3],
    /// Files that mention the name.
    mentions: Vec<String>,
}

impl Merged {
    fn read(root: &Path, name: &str, expected: &[IpAddr], read: Reader) -> Result<Self, String> {
        let mut merged = Self::default();
        let files = configurations(&root.join("etc/cloud"))?;
        let files = files
            .into_iter()
            .chain(INSTANCE.map(|path| root.join(path)));
        for path in files {
            let shown = shown(root, &path);
            let text = match read(&path) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    merged.manages.hidden.push(shown.clone());
                    merged.adds.hidden.push(shown.clone());
                    for stage in &mut merged.modules {
                        stage.hidden.push(shown.clone());
                    }
                    continue;
                }
                Err(error) => return Err(format!("reading {shown}: {error}")),
            };
            let config = parse(&shown, &text)?;
            let distro = config.system_info.and_then(|system| system.distro);
            merged.distro = distro.or(merged.distro);
            if text.lines().any(|line| names(line, name)) {
                merged.mentions.push(shown.clone());
            }
            let adds = config.bootcmd.map(|commands| commands.add(name, expected));
            merged.adds.take(adds, &shown);
            merged.manages.take(config.manage_etc_hosts, &shown);
            let stages = [
                config.cloud_init_modules,
                config.cloud_config_modules,
                config.cloud_final_modules,
            ];
            for (stage, modules) in merged.modules.iter_mut().zip(stages) {
                stage.take(modules, &shown);
            }
        }
        Ok(merged)
    }

    /// In which stage, and where in its list, this module runs.
    fn place(&self, module: &str) -> Option<(usize, usize)> {
        let mut stages = self.modules.iter().enumerate();
        stages.find_map(|(stage, modules)| {
            let (modules, _) = modules.said.as_ref()?;
            Some((stage, modules.place(module)?))
        })
    }

    /// Files that may not be read and could list other modules.
    fn hidden_from_modules(&self) -> &[String] {
        longest(self.modules.iter().map(|stage| &*stage.hidden))
    }
}

/// The files of all these lists of hidden ones. Each has those that come after some file: the longest
/// holds the others.
fn longest<'f>(hidden: impl IntoIterator<Item = &'f [String]>) -> &'f [String] {
    let hidden = hidden.into_iter();
    hidden.max_by_key(|files| files.len()).unwrap_or_default()
}

/// Whether `name`, which stands in the hosts file with these addresses, outlives the next boot.
/// `root` is the root of the file system.
///
/// # Errors
///
/// A configuration that is there but cannot be read or understood, where that matters.
pub fn judge(root: &Path, name: &str, expected: &[IpAddr]) -> Result<Persistence, String> {
    judge_by(root, name, expected, read)
}

/// Reads a file; `None` if there is no such file.
type Reader = fn(&Path) -> io::Result<Option<String>>;

fn judge_by(
    root: &Path,
    name: &str,
    expected: &[IpAddr],
    read: Reader,
) -> Result<Persistence, String> {
    let cloud = root.join("etc/cloud");
    let mut installed = false;
    for program in PROGRAMS {
        installed |= exists(&root.join(program))?;
    }
    if !installed || !exists(&cloud)? {
        return Ok(Persistence::Kept(
            "no cloud-init is installed that could rewrite /etc/hosts".to_owned(),
        ));
    }
    if exists(&cloud.join("cloud-init.disabled"))? {
        return Ok(Persistence::Kept("cloud-init is disabled".to_owned()));
    }
    let merged = Merged::read(root, name, expected, read)?;
    let rewriting = merged.place("update_etc_hosts");
    let rewritten_by = match &merged.manages.said {
        Some((setting, file)) if setting.rewrites() => Some(file),
        _ => None,
    };
    let left = if rewritten_by.is_none() && merged.manages.hidden.is_empty() {
        Some(match &merged.manages.said {
            None => "manage_etc_hosts is not set".to_owned(),
            Some((_, file)) => format!("manage_etc_hosts in {file} keeps the other lines"),
        })
    } else if rewriting.is_none() && merged.hidden_from_modules().is_empty() {
        Some("its modules do not include update_etc_hosts".to_owned())
    } else {
        None
    };
    if let Some(why) = left {
        let rebuild = match merged.mentions.as_slice() {
            [] => "nothing in its configuration would bring it to a new instance".to_owned(),
            files => format!("for a new instance see {}", files.join(", ")),
        };
        return Ok(Persistence::Kept(format!(
            "cloud-init leaves it in /etc/hosts: {why}; {rebuild}"
        )));
    }
    let template = template(root, merged.distro.as_deref(), read)?;
    let text = read(&template);
    let template = shown(root, &template);
    let text = text.map_err(|error| format!("reading {template}: {error}; {GRANT}"))?;
    let given = text.map(|text| addresses(&without_comments(&text), name));
    let is_held = given
        .as_ref()
        .is_some_and(|given| expected.iter().all(|address| given.contains(address)));
    // Then it does not matter what a hidden file says.
    if is_held {
        return Ok(Persistence::Kept(format!(
            "{template}, from which cloud-init would rewrite /etc/hosts, names it, too"
        )));
    }
    let bootcmd = merged.place("bootcmd");
    // As in every cloud.cfg that is shipped.
    let in_time = bootcmd.is_some_and(|bootcmd| rewriting.is_none_or(|place| bootcmd < place));
    if let Some((true, file)) = &merged.adds.said
        && in_time
        && given.is_some()
    {
        let hidden = longest([&*merged.adds.hidden, merged.hidden_from_modules()]);
        if hidden.is_empty() {
            return Ok(Persistence::Kept(format!(
                "bootcmd in {file} adds it to {template} before cloud-init would rewrite /etc/hosts"
            )));
        }
        return Err(format!(
            "bootcmd in {file} would add it to {template} before cloud-init rewrites /etc/hosts, but \
             another bootcmd or another order (cloud_init_modules) may be set in {}: {GRANT}",
            hidden.join(", ")
        ));
    }
    let (Some(file), Some(_)) = (rewritten_by, rewriting) else {
        let hidden = longest([&*merged.manages.hidden, merged.hidden_from_modules()]);
        return Err(format!(
            "whether cloud-init rewrites /etc/hosts at each boot may be set in {}: {GRANT}",
            hidden.join(", ")
        ));
    };
    let rewrites =
        format!("cloud-init rewrites /etc/hosts at each boot (manage_etc_hosts in {file})");
    if given.is_none() {
        return Err(format!(
            "{rewrites}, but its template {template} is not there"
        ));
    }
    let mentions = if merged.mentions.is_empty() {
        String::new()
    } else {
        format!(
            "; {} mentions it: whether that comes in time cannot be told",
            merged.mentions.join(", ")
        )
    };
    let add = format!(
        "add {} there{mentions}",
        lines_of(name, expected).join(" and ")
    );
    let hidden = longest([
        &*merged.manages.hidden,
        &merged.adds.hidden,
        merged.hidden_from_modules(),
    ]);
    if hidden.is_empty() {
        return Ok(Persistence::Lost(format!(
            "{rewrites} from {template}, which lacks it: {add}"
        )));
    }
    Err(format!(
        "{rewrites} from {template}, which lacks it, unless {} says otherwise ({GRANT}): {add}",
        hidden.join(", ")
    ))
}

/// cloud.cfg and then its drop-ins, in the order in which the later ones win.
fn configurations(cloud: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = cloud.join("cloud.cfg.d");
    let unreadable = |error| format!("reading {}: {error}", directory.display());
    let mut drop_ins = Vec::new();
    match fs::read_dir(&directory) {
        Ok(entries) => {
            for entry in entries {
                drop_ins.push(entry.map_err(unreadable)?.path());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    drop_ins.retain(|path| path.extension().is_some_and(|end| end == "cfg"));
    drop_ins.sort_unstable();
    drop_ins.insert(0, cloud.join("cloud.cfg"));
    Ok(drop_ins)
}

/// True if this word stands on the line, outside a comment.
fn names(line: &str, name: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default();
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    line.split(|c| !of_name(c)).any(|word| word == name)
}

/// The file that /etc/hosts would be written from: named for the family of the distribution.
fn template(root: &Path, distro: Option<&str>, read: Reader) -> Result<PathBuf, String> {
    let family = match distro {
        Some(distro) => family(distro).unwrap_or(distro).to_owned(),
        None => family_of_release(root, read)?,
    };
    Ok(root.join(format!("etc/cloud/templates/hosts.{family}.tmpl")))
}

/// The family by os-release(5): of the distribution, else of one that it is like.
fn family_of_release(root: &Path, read: Reader) -> Result<String, String> {
    let text = read(&root.join("etc/os-release"))
        .map_err(|error| format!("reading /etc/os-release: {error}"))?
        .unwrap_or_default();
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.map(|value| value.trim_matches(['"', '\'']))
    };
    let id = value("ID=").ok_or(
        "which distribution this is stands neither in cloud-init's configuration nor in \
         /etc/os-release",
    )?;
    let like = value("ID_LIKE=").unwrap_or_default();
    let mut names = [id].into_iter().chain(like.split_whitespace());
    Ok(names.find_map(family).unwrap_or(id).to_owned())
}

/// The family of a distribution, as cloud-init calls both; `None` of one that is its own.
fn family(distro: &str) -> Option<&'static str> {
    Some(match distro {
        "debian" | "ubuntu" | "raspberry-pi-os" => "debian",
        "almalinux" | "amazon" | "centos" | "cloudlinux" | "eurolinux" | "fedora"
        | "miraclelinux" | "openmandriva" | "rhel" | "rocky" | "virtuozzo" => "redhat",
        "opensuse"
        | "opensuse-leap"
        | "opensuse-microos"
        | "opensuse-tumbleweed"
        | "sle_hpc"
        | "sle-micro"
        | "sles"
        | "suse" => "suse",
        // As os-release writes it.
        "openEuler" => "openeuler",
        _ => return None,
    })
}

/// The template without what its engine takes for comments.
fn without_comments(text: &str) -> Vec<u8> {
    if !text.starts_with("## template:") {
        return text.into();
    }
    let mut parts = text.split("{#");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once("#}").map_or("", |(_, after)| after));
    }
    kept.into()
}

fn exists(path: &Path) -> Result<bool, String> {
    path.try_exists()
        .map_err(|error| format!("looking for {}: {error}", path.display()))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(shown: &str, text: &str) -> Result<CloudConfig, String> {
    if text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    }) {
        return Ok(CloudConfig::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        // Only where it is: the text may hold secrets.
        let place = error
            .location()
            .map_or_else(String::new, |at| format!(", line {}", at.line()));
        format!("{shown}{place} is no cloud-config that can be understood")
    })
}

fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", below.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CFG: &str = "etc/cloud/cloud.cfg";
    const TEMPLATE: &str = "etc/cloud/templates/hosts.debian.tmpl";
    const VENDOR: &str = "var/lib/cloud/instance/vendor-cloud-config.txt";
    const USER: &str = "var/lib/cloud/instance/cloud-config.txt";
    const REWRITES: (&str, &str) = (
        CFG,
        "manage_etc_hosts: true\nsystem_info:\n  distro: ubuntu\nusers: [default]\n",
    );
    /// What counts unless a later file says otherwise.
    const MODULES: (&str, &str) = (
        "etc/cloud/cloud.cfg.d/00-modules.cfg",
        "cloud_init_modules: [bootcmd, update_etc_hosts]\ncloud_config_modules: [locale]\n\
         cloud_final_modules: [phone-home]\n",
    );
    const HOLDS: (&str, &str) = (TEMPLATE, "127.0.0.1 quantum_redis\n");
    const LACKS: (&str, &str) = (TEMPLATE, "127.0.0.1 localhost\n");
    const DEBIAN: (&str, &str) = ("etc/os-release", "NAME=x\nID=\"debian\"\n");

    /// A tree with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn judged_by(files: &[(&str, &str)], read: Reader) -> Result<Persistence, String> {
        let root = tree(&[&[("usr/bin/cloud-init", ""), MODULES], files].concat());
        let expected = ["127.0.0.1".parse().unwrap()];
        judge_by(root.path(), "quantum_redis", &expected, read)
    }

    fn judged(files: &[(&str, &str)]) -> Result<Persistence, String> {
        judged_by(files, read)
    }

    /// As a user who is denied what root alone may read: root, who runs tests, is not.
    fn judged_as_a_user(files: &[(&str, &str)]) -> Result<Persistence, String> {
        judged_by(files, |path| match read(path)? {
            Some(text) if text.contains("for root only") => Err(ErrorKind::PermissionDenied.into()),
            text => Ok(text),
        })
    }

    #[track_caller]
    fn kept(judged: Result<Persistence, String>, why: &str) {
        match judged {
            Ok(Persistence::Kept(sentence)) => assert!(sentence.contains(why), "{sentence}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn lost(judged: Result<Persistence, String>, why: &str) {
        match judged {
            Ok(Persistence::Lost(sentence)) => assert!(sentence.contains(why), "{sentence}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn unknown(judged: Result<Persistence, String>, why: &str) {
        let sentence = judged.unwrap_err();
        assert!(sentence.contains(why), "{sentence}");
    }

    #[test]
    fn what_nobody_rewrites_is_kept() {
        let expected = ["127.0.0.1".parse().unwrap()];
        let bare = tree(&[("usr/bin/cloud-init", "")]);
        kept(
            judge(bare.path(), "quantum_redis", &expected),
            "no cloud-init",
        );
        kept(judged(&[(CFG, "users: []\n")]), "not set");
        kept(judged(&[(CFG, "# nothing\n")]), "not set");
        kept(
            judged(&[REWRITES, LACKS, ("etc/cloud/cloud-init.disabled", "")]),
            "disabled",
        );
        // Removed, but not purged.
        let leftover = tree(&[REWRITES, LACKS]);
        kept(
            judge(leftover.path(), "quantum_redis", &expected),
            "no cloud-init",
        );
    }

    #[test]
    fn the_setting_is_understood_as_cloud_init_does() {
        for value in ["true", "yes", "on", "1", "'1'", "'True'", "template"] {
            let setting = format!("manage_etc_hosts: {value}\n");
            let judged = judged(&[(CFG, &setting), DEBIAN, LACKS]);
            lost(judged, "manage_etc_hosts in /etc/cloud/cloud.cfg");
        }
        for value in ["false", "no", "off", "0", "localhost", "'False'", "2"] {
            let setting = format!("manage_etc_hosts: {value}\n");
            let judged = judged(&[(CFG, &setting), DEBIAN, LACKS]);
            kept(judged, "/etc/cloud/cloud.cfg keeps the other lines");
        }
    }

    #[test]
    fn a_template_must_name_it() {
        let with = |text| judged(&[REWRITES, (TEMPLATE, text)]);
        let held = "## template:jinja\n{# how it works -#}\n127.0.1.1 {{fqdn}}\n\
                    127.0.0.1 quantum_redis\n";
        kept(with(held), "names it, too");
        kept(with("{#\n127.0.0.1 quantum_redis\n"), "names it, too");
        for text in [
            "127.0.0.1 localhost\n",
            "# 127.0.0.1 quantum_redis\n",
            "10.0.0.1 quantum_redis\n",
            "## template:jinja\n{#\n127.0.0.1 quantum_redis\n-#}\n127.0.0.1 localhost\n",
            "## template:jinja\n{# never closed\n127.0.0.1 quantum_redis\n",
        ] {
            lost(with(text), "/etc/cloud/templates/hosts.debian.tmpl");
            lost(with(text), "add `127.0.0.1 quantum_redis` there");
        }
        unknown(judged(&[REWRITES]), "is not there");
    }

    #[test]
    fn the_template_is_that_of_the_distributions_family() {
        for (release, family) in [
            ("ID=ubuntu\nID_LIKE=debian\n", "debian"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "debian"),
            ("ID=\"ol\"\nID_LIKE=\"fedora\"\n", "redhat"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "redhat"),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "suse"),
            ("ID=azurelinux\n", "azurelinux"),
            ("ID=\"openEuler\"\n", "openeuler"),
            ("ID=arch\n", "arch"),
        ] {
            let template = format!("etc/cloud/templates/hosts.{family}.tmpl");
            let files = [
                (CFG, "manage_etc_hosts: true\n"),
                ("etc/os-release", release),
                (template.as_str(), "127.0.0.1 quantum_redis\n"),
            ];
            kept(judged(&files), &template);
        }
        for distro in ["azurelinux", "mariner", "openeuler", "photon"] {
            assert_eq!(family(distro), None, "has a template of its own");
        }
        let nowhere = [(CFG, "manage_etc_hosts: true\n")];
        unknown(judged(&nowhere), "which distribution this is");
    }

    #[test]
    fn the_later_file_wins_and_the_instance_over_all() {
        let lower = (
            "etc/cloud/cloud.cfg.d/10-a.cfg",
            "manage_etc_hosts: 'true'\n",
        );
        let upper = (
            "etc/cloud/cloud.cfg.d/90-b.cfg",
            "manage_etc_hosts: false\n",
        );
        let ignored = (
            "etc/cloud/cloud.cfg.d/99-c.cfg.bak",
            "manage_etc_hosts: true\n",
        );
        let on = "#cloud-config\nmanage_etc_hosts: true\n";
        let off = "#cloud-config\nmanage_etc_hosts: false\n";
        kept(judged(&[lower, upper, ignored]), "90-b.cfg");
        lost(judged(&[lower, DEBIAN, LACKS]), "10-a.cfg");
        lost(judged(&[upper, DEBIAN, LACKS, (VENDOR, on)]), VENDOR);
        lost(judged(&[upper, DEBIAN, LACKS, (USER, on)]), USER);
        kept(judged(&[DEBIAN, LACKS, (VENDOR, on), (USER, off)]), USER);
    }

    #[test]
    fn what_may_not_be_read_is_told_of_where_it_could_matter() {
        let hidden = (USER, "# for root only\n");
        let judged = judged_as_a_user;
        let sets = |value| (CFG, value);
        unknown(
            judged(&[sets("users: []\n"), hidden, DEBIAN, LACKS]),
            "may be set in /var/lib/cloud/instance/cloud-config.txt: let the exporter's user",
        );
        unknown(
            judged(&[REWRITES, hidden, LACKS]),
            "which lacks it, unless /var/lib/cloud/instance/cloud-config.txt says otherwise (let the \
             exporter's user read it or give it CAP_DAC_READ_SEARCH): add `127.0.0.1 quantum_redis` there",
        );
        let off = sets("manage_etc_hosts: false\n");
        unknown(
            judged(&[off, hidden, DEBIAN, LACKS]),
            "may be set in /var/lib/cloud/instance/cloud-config.txt: let the exporter's user",
        );
        // What may not be read could also add the name before, or list other modules.
        let earlier = ("etc/cloud/cloud.cfg.d/10-installer.cfg", hidden.1);
        let sure = "manage_etc_hosts: true\nbootcmd: [echo]\n";
        let otherwise = "10-installer.cfg says otherwise";
        for (given, listed) in [
            ("manage_etc_hosts: true\n", MODULES.1),
            (sure, "locale: C\n"),
        ] {
            let listed = ("etc/cloud/cloud.cfg.d/20-b.cfg", listed);
            let files = [DEBIAN, LACKS, earlier, listed, (USER, given)];
            unknown(judged(&files), otherwise);
        }
        let listed = ("etc/cloud/cloud.cfg.d/20-b.cfg", MODULES.1);
        lost(
            judged(&[DEBIAN, LACKS, earlier, listed, (USER, sure)]),
            "manage_etc_hosts in /var/lib/cloud/instance/cloud-config.txt",
        );
        // With the name in the template it is kept whatever the file says.
        kept(judged(&[off, hidden, DEBIAN, HOLDS]), "names it, too");
        kept(
            judged(&[sets("users: []\n"), hidden, DEBIAN, HOLDS]),
            "names it, too",
        );
        // What a later file sets, an earlier one cannot change.
        let early = ("etc/cloud/cloud.cfg.d/10-installer.cfg", hidden.1);
        let late = (
            "etc/cloud/cloud.cfg.d/20-b.cfg",
            "manage_etc_hosts: localhost\n",
        );
        kept(
            judged(&[early, late, DEBIAN, LACKS]),
            "20-b.cfg keeps the other lines; nothing",
        );
        unknown(
            judged(&[REWRITES, (TEMPLATE, hidden.1)]),
            "reading /etc/cloud/templates/hosts.debian.tmpl",
        );
    }

    #[test]
    fn user_data_that_mentions_it_is_told_of() {
        let file = "/etc/cloud/cloud.cfg.d/99-alias.cfg";
        let data = (
            "etc/cloud/cloud.cfg.d/99-alias.cfg",
            "runcmd:\n  - echo '127.0.0.1 quantum_redis' >>/etc/hosts\n",
        );
        lost(
            judged(&[REWRITES, data, LACKS]),
            &format!("{file} mentions it"),
        );
        kept(judged(&[data]), &format!("for a new instance see {file}"));
    }

    #[test]
    fn the_shipped_bootcmd_comes_before_the_rewriting() {
        const FILE: &str = "etc/cloud/cloud.cfg.d/90-hosts-alias.cfg";
        let shipped = (FILE, HOSTS_ALIAS);
        kept(
            judged(&[REWRITES, LACKS, shipped]),
            &format!("/{FILE} adds"),
        );
        kept(judged(&[REWRITES, LACKS, (USER, HOSTS_ALIAS)]), USER);
        unknown(judged(&[REWRITES, shipped]), "is not there");
        for (changed, to) in [
            ("- 127.0.0.1\n", "- 127.0.0.2\n"),
            ("- quantum_redis\n", "- other\n"),
            ("&& continue", "|| continue"),
            ("- -euc\n", "- -nc\n"),
            ("bootcmd:", "runcmd:"),
        ] {
            let text = HOSTS_ALIAS.replacen(changed, to, 1);
            assert_ne!(text, HOSTS_ALIAS);
            lost(
                judged(&[REWRITES, LACKS, (FILE, &text)]),
                "add `127.0.0.1 quantum_redis` there",
            );
        }
        let among_others =
            HOSTS_ALIAS.replacen("bootcmd:\n", "bootcmd:\n  - echo\n  - [sleep, 1]\n", 1);
        kept(judged(&[REWRITES, LACKS, (FILE, &among_others)]), FILE);
        // The other list takes its place, whatever is in it.
        for others in [
            "bootcmd: [echo]\n",
            "bootcmd: echo\n",
            "bootcmd: {a: [1, b]}\n",
        ] {
            lost(
                judged(&[REWRITES, LACKS, shipped, (USER, others)]),
                "whether that comes in time",
            );
        }
        let hidden = (USER, "# for root only\n");
        unknown(
            judged_as_a_user(&[REWRITES, LACKS, shipped, hidden]),
            "may be set in /var/lib/cloud/instance/cloud-config.txt: let the exporter's user",
        );
    }

    #[test]
    fn the_shipped_bootcmd_helps_only_where_it_runs_before_the_rewriting() {
        let shipped = ("etc/cloud/cloud.cfg.d/90-hosts-alias.cfg", HOSTS_ALIAS);
        let with = |modules: &str| {
            let modules = format!("cloud_init_modules: {modules}\n");
            judged(&[REWRITES, LACKS, (MODULES.0, &modules), shipped])
        };
        for modules in [
            "[migrator, bootcmd, write-files, update_etc_hosts]",
            "[bootcmd, update-etc-hosts]",
            "[[bootcmd, always], [cc_update_etc_hosts, always, {a: 1}]]",
            "[{name: bootcmd}, {name: update_etc_hosts, frequency: always}]",
            "[bootcmd]\ncloud_config_modules: [update_etc_hosts]",
        ] {
            kept(with(modules), "90-hosts-alias.cfg adds it");
        }
        for modules in [
            "[migrator, update_etc_hosts, bootcmd]",
            "[update-etc-hosts, [bootcmd, always]]",
            "[update_etc_hosts]",
            "[update_etc_hosts]\ncloud_config_modules: [bootcmd]",
        ] {
            lost(
                with(modules),
                "90-hosts-alias.cfg mentions it: whether that comes in time",
            );
        }
        // A file that may not be read could give another order.
        let hidden = ("etc/cloud/cloud.cfg.d/50-x.cfg", "# for root only\n");
        unknown(
            judged_as_a_user(&[REWRITES, LACKS, hidden, shipped]),
            "(cloud_init_modules) may be set in /etc/cloud/cloud.cfg.d/50-x.cfg",
        );
    }

    #[test]
    fn without_the_module_nothing_is_rewritten() {
        let hidden = ("etc/cloud/cloud.cfg.d/90-own.cfg", "# for root only\n");
        for modules in [
            "cloud_init_modules: [bootcmd, ssh]\n",
            "cloud_init_modules: []\ncloud_final_modules: [[], {}, 1, phone-home]\n",
            "locale: C\n",
        ] {
            let files = [REWRITES, LACKS, (MODULES.0, modules)];
            kept(
                judged(&files),
                "its modules do not include update_etc_hosts; nothing in its configuration",
            );
            // A file that may not be read could list it.
            unknown(
                judged_as_a_user(&[&files[..], &[hidden]].concat()),
                "may be set in /etc/cloud/cloud.cfg.d/90-own.cfg",
            );
        }
        for modules in [
            "cloud_config_modules: [update-etc-hosts]\n",
            "cloud_final_modules: [[update_etc_hosts, always]]\n",
        ] {
            lost(
                judged(&[REWRITES, LACKS, (MODULES.0, modules)]),
                "rewrites /etc/hosts at each boot",
            );
        }
    }

    #[test]
    fn what_cannot_be_understood_is_unknown() {
        let why = judged(&[(CFG, "manage_etc_hosts: [true\nsecret: hush\n")]).unwrap_err();
        assert!(why.starts_with("/etc/cloud/cloud.cfg"), "{why}");
        assert!(!why.contains("hush"), "{why}");
    }
}
