//! Whether cloud-init will rewrite the hosts file, and what it would put there.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Persistence;
use super::hosts_file::addresses;

/// The keys of a cloud-config that matter here.
#[derive(Debug, Default, Deserialize)]
struct CloudConfig {
    manage_etc_hosts: Option<Setting>,
    system_info: Option<SystemInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Setting {
    Switch(bool),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
struct SystemInfo {
    distro: Option<String>,
}

/// Whether `name`, which stands in the hosts file with these addresses, outlives the next boot.
/// `root` is the root of the file system.
///
/// # Errors
///
/// A configuration that is there but cannot be read or understood.
pub fn judge(root: &Path, name: &str, expected: &[IpAddr]) -> Result<Persistence, String> {
    let cloud = root.join("etc/cloud");
    if !exists(&cloud)? {
        return Ok(Persistence::Kept(
            "no cloud-init is installed that could rewrite /etc/hosts".to_owned(),
        ));
    }
    if exists(&cloud.join("cloud-init.disabled"))? {
        return Ok(Persistence::Kept("cloud-init is disabled".to_owned()));
    }
    let mut manages: Option<(Setting, PathBuf)> = None;
    let mut distro = None;
    let mut mentioned = Vec::new();
    for path in configurations(&cloud)? {
        let Some(text) = read(&path)? else { continue };
        let config = parse(&path, &text)?;
        distro = config
            .system_info
            .and_then(|system| system.distro)
            .or(distro);
        if let Some(setting) = config.manage_etc_hosts {
            manages = Some((setting, path.clone()));
        }
        if text.lines().any(|line| names(line, name)) {
            mentioned.push(shown(root, &path));
        }
    }
    // What the provider was given at the instance's making wins over the files.
    let instance = root.join("var/lib/cloud/instance/cloud-config.txt");
    match read(&instance) {
        Ok(None) => {}
        Ok(Some(text)) => {
            if let Some(setting) = parse(&instance, &text)?.manage_etc_hosts {
                manages = Some((setting, instance));
            }
        }
        Err(why) => return Err(why),
    }
    let Some((setting, set_in)) = manages else {
        return Ok(Persistence::Kept(
            "cloud-init leaves /etc/hosts alone (manage_etc_hosts is not set)".to_owned(),
        ));
    };
    let set_in = shown(root, &set_in);
    let rewrites = match &setting {
        Setting::Switch(on) => *on,
        Setting::Word(word) => matches!(&*word.to_lowercase(), "true" | "template" | "yes" | "on"),
    };
    if !rewrites {
        return Ok(Persistence::Kept(format!(
            "cloud-init keeps the lines of /etc/hosts (manage_etc_hosts in {set_in})"
        )));
    }
    let family = family(root, distro)?;
    let template = cloud.join(format!("templates/hosts.{family}.tmpl"));
    let Some(text) = read(&template)? else {
        return Err(format!(
            "cloud-init rewrites /etc/hosts at each boot (manage_etc_hosts in {set_in}), but its \
             template {} is not there",
            shown(root, &template)
        ));
    };
    let template = shown(root, &template);
    let kept = addresses(text.as_bytes(), name);
    if expected.iter().all(|address| kept.contains(address)) {
        return Ok(Persistence::Kept(format!(
            "cloud-init rewrites /etc/hosts from {template}, which names it, too"
        )));
    }
    let lines: Vec<_> = expected
        .iter()
        .map(|address| format!("`{address} {name}`"))
        .collect();
    let mentioned = if mentioned.is_empty() {
        String::new()
    } else {
        format!(
            "; {} mentions it, which does not help at a mere reboot",
            mentioned.join(", ")
        )
    };
    Ok(Persistence::Lost(format!(
        "cloud-init rewrites /etc/hosts at each boot (manage_etc_hosts in {set_in}) from {template}, \
         which lacks it: add {} there{mentioned}",
        lines.join(" and ")
    )))
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

/// The word in the template's file name: the family of the distribution, as cloud-init calls it.
fn family(root: &Path, distro: Option<String>) -> Result<String, String> {
    let distro = match distro {
        Some(distro) => distro,
        None => {
            let path = root.join("etc/os-release");
            let text = read(&path)?.unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("ID="));
            id.map(|id| id.trim_matches(['"', '\'']).to_owned())
                .ok_or_else(|| {
                    "which distribution this is stands neither in cloud-init's configuration nor \
                     in /etc/os-release"
                        .to_owned()
                })?
        }
    };
    Ok(match &*distro {
        "debian" | "ubuntu" | "raspberry-pi-os" => "debian".to_owned(),
        "almalinux" | "amazon" | "azurelinux" | "centos" | "cloudlinux" | "eurolinux"
        | "fedora" | "mariner" | "miraclelinux" | "openeuler" | "rhel" | "rocky" | "virtuozzo" => {
            "redhat".to_owned()
        }
        "opensuse"
        | "opensuse-leap"
        | "opensuse-microos"
        | "opensuse-tumbleweed"
        | "sle_hpc"
        | "sle-micro"
        | "sles" => "suse".to_owned(),
        _ => distro,
    })
}

fn exists(path: &Path) -> Result<bool, String> {
    path.try_exists()
        .map_err(|error| format!("looking for {}: {error}", path.display()))
}

/// The text; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!(
            "reading {}: {error}; let the exporter's user read it",
            path.display()
        )),
    }
}

fn parse(path: &Path, text: &str) -> Result<CloudConfig, String> {
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
        format!(
            "{}{place} is no cloud-config that can be understood",
            path.display()
        )
    })
}

fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", below.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(files: &[(&str, &str)]) -> Result<Persistence, String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        judge(
            root.path(),
            "quantum_redis",
            &["127.0.0.1".parse().unwrap()],
        )
    }

    #[track_caller]
    fn kept(files: &[(&str, &str)], why: &str) {
        match judged(files) {
            Ok(Persistence::Kept(sentence)) => assert!(sentence.contains(why), "{sentence}"),
            other => panic!("{other:?}"),
        }
    }

    const CFG: &str = "etc/cloud/cloud.cfg";
    const TEMPLATE: &str = "etc/cloud/templates/hosts.debian.tmpl";
    const REWRITES: (&str, &str) = (
        CFG,
        "manage_etc_hosts: true\nsystem_info:\n  distro: ubuntu\nusers: [default]\n",
    );

    #[test]
    fn what_nobody_rewrites_is_kept() {
        kept(&[], "no cloud-init");
        kept(&[(CFG, "users: []\n")], "not set");
        kept(
            &[(CFG, "manage_etc_hosts: false\n")],
            "/etc/cloud/cloud.cfg",
        );
        kept(&[(CFG, "manage_etc_hosts: localhost\n")], "keeps the lines");
        kept(&[(CFG, "# nothing\n")], "not set");
        kept(
            &[REWRITES, ("etc/cloud/cloud-init.disabled", "")],
            "disabled",
        );
    }

    #[test]
    fn a_template_must_name_it() {
        let with = |text| judged(&[REWRITES, (TEMPLATE, text)]);
        let held = "## template: jinja\n127.0.1.1 {{fqdn}}\n127.0.0.1 quantum_redis\n";
        assert!(matches!(with(held), Ok(Persistence::Kept(_))));
        for text in [
            "127.0.0.1 localhost\n",
            "# 127.0.0.1 quantum_redis\n",
            "10.0.0.1 quantum_redis\n",
        ] {
            let Ok(Persistence::Lost(why)) = with(text) else {
                panic!("{text}");
            };
            assert!(
                why.contains("/etc/cloud/templates/hosts.debian.tmpl"),
                "{why}"
            );
            assert!(why.contains("add `127.0.0.1 quantum_redis` there"), "{why}");
        }
        assert!(judged(&[REWRITES]).unwrap_err().contains("is not there"));
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
        let release = ("etc/os-release", "NAME=x\nID=\"debian\"\n");
        let template = (TEMPLATE, "127.0.0.1 localhost\n");
        kept(&[lower, upper, ignored], "90-b.cfg");
        assert!(matches!(
            judged(&[lower, release, template]),
            Ok(Persistence::Lost(_))
        ));
        let instance = (
            "var/lib/cloud/instance/cloud-config.txt",
            "#cloud-config\nmanage_etc_hosts: true\n",
        );
        assert!(matches!(
            judged(&[upper, release, template, instance]),
            Ok(Persistence::Lost(_))
        ));
    }

    #[test]
    fn user_data_that_mentions_it_is_told_of() {
        let data = (
            "etc/cloud/cloud.cfg.d/99-alias.cfg",
            "runcmd:\n  - echo '127.0.0.1 quantum_redis' >>/etc/hosts\n",
        );
        let Ok(Persistence::Lost(why)) = judged(&[REWRITES, data, (TEMPLATE, "")]) else {
            panic!();
        };
        assert!(
            why.contains("/etc/cloud/cloud.cfg.d/99-alias.cfg mentions it"),
            "{why}"
        );
    }

    #[test]
    fn what_cannot_be_understood_is_unknown() {
        let why = judged(&[(CFG, "manage_etc_hosts: [true\nsecret: hush\n")]).unwrap_err();
        assert!(why.contains("cloud.cfg"), "{why}");
        assert!(!why.contains("hush"), "{why}");
    }
}
