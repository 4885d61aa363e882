//! What was learned as a YAML file with its comments.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::place::Place;
use super::{Learned, Name, SNAPSHOT, Server, Uses};
use crate::baseline::{Expected, RedisAddress};
use crate::findings::Status;
use crate::findings::dependencies::redis_stands;
use crate::probe::redis::Reason;

const HEAD: &str = "\
# Learned from a host that was healthy then. What stands here was guessed from the units themselves:
# read it, correct it, and check it before it goes live.
#
#   baseline-exporter --config.file FILE --config.check
#   baseline-exporter check --config.file FILE
#   baseline-exporter learn --diff --config.file FILE      what has changed since
#
# A unit is written as its name, or as {name: ..., tier: ..., because: \"...\", start_within: ...}:
#   tier          1 pages, 2 opens a ticket, 3 shows on the dashboard only
#                 (1 under `running`, 2 elsewhere, where nothing is said)
#   because       why it stands so; shown wherever the unit turns up
#   start_within  how long a start may take before it counts as stuck (60s where nothing is said)
";

const WATCH: &str = "  # Watched with or without an expectation: what turns up under these names is seen, even when it \
     is\n  # new.\n";
const RUNNING: &str = "
  # Services that run, and enabled oneshots whose last run ended well. Each of these stopping is worth
  # a page, unless it has `tier: 2`.
";
const ACTIVE: &str = "
  # Targets, timers, sockets, paths and mounts that are active.
";
const ABSENT: &str = "
  # Named by other units, but not there. systemd passes over such a wish: tolerated here. What was
  # removed for good belongs under `retired`.
";
const DISABLED: &str = "
  # There, but neither enabled nor running. Say why, if you know.
";
const UNLISTED: &str = "
  # In no list, so nothing is expected of them but that they do not fail, loop or hang:
";
const TROUBLES: &str = "
  # In trouble when this was learned, so nothing is expected of them here:
";
const RETIRED: &str = "
  # Units that were removed for good: whatever unit file still names one is told of. No look at the
  # host shows which those are.
  #
  # retired:
  #   - NAME.service
  #
  # How often the unit table is compared with a fresh reading; changes arrive at once regardless.
  resync: 60s
";
const HOSTNAMES: &str = "
# Names in the environments of the units, with the addresses that they have now, no more and no fewer.
";
const CHANGING: &str = "# These have addresses of the internet, which may change from one look to the next. If yours are fixed,
# move them up:
";
const UNRESOLVED: &str = "# These hold a host that does not resolve now:
";
const REDIS: &str = "
# Redis servers that the environments name and that answer without a password. Where one is needed, put
# it into a file that only the exporter's user can read, and name that file in `password_file`.
";
const SILENT: &str = "# These were named, but could not be asked:
";
const WRITE_PATHS: &str = "
# What each service must be able to write, as seen from inside its own sandbox. What a unit declares by
# ReadWritePaths=, StateDirectory= and their like is looked at without standing here. No look at the
# host shows what a service writes besides.
";
const UNIT_FILES: &str = "
# The unit files that were last known good.
";
const NO_SNAPSHOT: &str = "# Keep them: baseline-exporter snapshot take";

/// The file.
pub fn baseline(learned: &Learned) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&format!(
        "\ndeployment: {}\n\nsystemd:\n",
        scalar(&learned.deployment)
    ));
    text.push_str(WATCH);
    text.push_str("  watch:\n");
    for pattern in &learned.patterns {
        text.push_str(&format!("    - {}\n", scalar(pattern)));
    }
    for (list, comment) in [
        (Expected::Running, RUNNING),
        (Expected::Active, ACTIVE),
        (Expected::Absent, ABSENT),
        (Expected::Disabled, DISABLED),
    ] {
        units(&mut text, learned, list, comment);
    }
    let unlisted = learned
        .units
        .iter()
        .filter_map(|(name, place)| match place {
            Place::Unlisted(why) => Some(format!("{name}: {why}")),
            _ => None,
        });
    let unlisted = unlisted.chain(learned.unlisted.iter().cloned());
    remarks(&mut text, "  ", UNLISTED, unlisted);
    let troubles = learned.troubles().map(ToOwned::to_owned);
    remarks(&mut text, "  ", TROUBLES, troubles);
    text.push_str(RETIRED);
    hostnames(&mut text, learned);
    redis(&mut text, learned);

    text.push_str(WRITE_PATHS);
    let declared = learned.declared.iter().map(|(unit, paths)| {
        let paths: BTreeSet<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        let paths: Vec<_> = paths.into_iter().collect();
        format!("{unit} declares {}", paths.join(", "))
    });
    remarks(&mut text, "", "#\n", declared);
    text.push_str("#\n# write_paths:\n#   - unit: NAME.service\n#     paths: [/var/log]\n");

    text.push_str(UNIT_FILES);
    if learned.has_snapshot {
        text.push_str(&format!("unit_files:\n  snapshot: {SNAPSHOT}\n"));
    } else {
        text.push_str(&format!(
            "{NO_SNAPSHOT} {SNAPSHOT} --config.file FILE\n#\n# unit_files:\n#   snapshot: {SNAPSHOT}\n"
        ));
    }
    text
}

/// One list of section `systemd`; nothing where it would be empty.
fn units(text: &mut String, learned: &Learned, list: Expected, comment: &str) {
    let entries = learned.units.iter().filter_map(|(name, place)| {
        let name = scalar(name);
        let (expected, entry) = match place {
            Place::Running(None) => (Expected::Running, format!("    - {name}\n")),
            Place::Running(Some(remark)) => {
                (Expected::Running, format!("    - {name}  # {remark}\n"))
            }
            Place::Active => (Expected::Active, format!("    - {name}\n")),
            Place::Absent(because) => (Expected::Absent, explained(&name, because)),
            Place::Disabled(because) => (Expected::Disabled, explained(&name, because)),
            Place::Unlisted(_) | Place::Trouble(_) => return None,
        };
        (expected == list).then_some(entry)
    });
    let entries: String = entries.collect();
    if !entries.is_empty() {
        text.push_str(&format!("{comment}  {}:\n{entries}", list.as_str()));
    }
}

fn explained(name: &str, because: &str) -> String {
    let because = scalar(because);
    format!("    - name: {name}\n      because: {because}\n")
}

/// A comment of one line for each remark; nothing where there is none.
fn remarks(text: &mut String, indent: &str, comment: &str, remarks: impl Iterator<Item = String>) {
    let mut remarks = remarks.peekable();
    if remarks.peek().is_some() {
        text.push_str(comment);
    }
    for remark in remarks {
        text.push_str(&format!("{indent}#   {}\n", one_line(&remark)));
    }
}

fn hostnames(text: &mut String, learned: &Learned) {
    text.push_str(HOSTNAMES);
    let hosts = &learned.dependencies.hosts;
    let entries = |fixed: bool, mark: &str| -> String {
        let hosts = hosts.iter().filter(|(_, name)| name.is_expected(fixed));
        hosts
            .map(|(name, host)| {
                let addresses: Vec<_> = host.addresses.iter().map(address).collect();
                format!(
                    "{mark}  # {}\n{mark}  - name: {}\n{mark}    addresses: [{}]\n{}",
                    learned_from(&host.uses),
                    scalar(name),
                    addresses.join(", "),
                    used_by(&host.uses, mark),
                )
            })
            .collect()
    };
    let (fixed, changing) = (entries(true, ""), entries(false, "#"));
    if fixed.is_empty() {
        text.push_str("#\n# hostnames:\n#   - name: NAME\n#     addresses: [127.0.0.1]\n");
    } else {
        text.push_str("hostnames:\n");
        text.push_str(&fixed);
    }
    if !changing.is_empty() {
        text.push_str("#\n");
        text.push_str(CHANGING);
        text.push_str(&changing);
    }
    // Not what they hold: a value that is no name after all may be a secret.
    let unresolved = hosts.values().filter(|name| name.addresses.is_empty());
    let unresolved = unresolved.map(|name| learned_from(&name.uses));
    remarks(text, "", &format!("#\n{UNRESOLVED}"), unresolved);
}

impl Name {
    /// Whether it resolves, and to addresses that are fixed, or not.
    fn is_expected(&self, fixed: bool) -> bool {
        !self.addresses.is_empty() && self.is_fixed == fixed
    }
}

fn redis(text: &mut String, learned: &Learned) {
    text.push_str(REDIS);
    let servers = &learned.dependencies.redis;
    let entries: String = servers
        .iter()
        .filter(|(_, server)| server.answers())
        .map(|(url, server)| entry(url, server, "", ""))
        .collect();
    if entries.is_empty() {
        text.push_str("#\n# redis:\n#   - name: NAME\n#     url: redis://127.0.0.1:6379/0\n");
    } else {
        text.push_str("redis:\n");
        text.push_str(&entries);
    }
    // One that answered so far is no secret; of the others no more is said than who names them.
    let needs: String = servers
        .iter()
        .filter_map(|(url, server)| {
            let lacks = match server.answer.failure.as_ref()?.reason {
                Reason::Auth => "password_file: /etc/baseline-exporter/redis-password",
                Reason::Tls => "ca_file: /etc/ssl/certs/ca-certificates.crt",
                _ => return None,
            };
            Some(entry(url, server, "#", &format!("#    {lacks}\n")))
        })
        .collect();
    if !needs.is_empty() {
        text.push_str("#\n# These ask for a password, or for a certificate of their own:\n");
        text.push_str(&needs);
    }
    let silent = servers.values().filter_map(|server| {
        let reason = server.answer.failure.as_ref()?.reason;
        let is_told = server.answers() || matches!(reason, Reason::Auth | Reason::Tls);
        (!is_told).then(|| format!("{} ({})", learned_from(&server.uses), reason.word()))
    });
    remarks(text, "", &format!("#\n{SILENT}"), silent);
}

impl Server {
    /// Whether the check of a baseline that names it would hold.
    pub fn answers(&self) -> bool {
        redis_stands(&self.answer) == Status::Holds
    }
}

/// What a Redis is called that has no name yet.
pub fn redis_name(url: &str, address: &RedisAddress) -> String {
    match address {
        RedisAddress::Tcp { tls: false, .. } => url.trim_start_matches("redis://").to_owned(),
        RedisAddress::Tcp { .. } => format!("{} by TLS", url.trim_start_matches("rediss://")),
        RedisAddress::Unix(path) => path.display().to_string(),
    }
}

fn entry(url: &str, server: &Server, mark: &str, more: &str) -> String {
    let name = redis_name(url, &server.address);
    format!(
        "{mark}  # {}\n{mark}  - name: {}\n{mark}    url: {}\n{more}{}",
        learned_from(&server.uses),
        scalar(&name),
        scalar(url),
        used_by(&server.uses, mark),
    )
}

/// From which variables of which units.
pub fn learned_from(uses: &Uses) -> String {
    let variables: BTreeSet<&str> = uses.values().flatten().map(String::as_str).collect();
    let variables: Vec<_> = variables.into_iter().collect();
    let units: Vec<_> = uses.keys().map(String::as_str).collect();
    one_line(&format!(
        "from {} of {}",
        variables.join(", "),
        units.join(", ")
    ))
}

fn used_by(uses: &Uses, mark: &str) -> String {
    let units: Vec<_> = uses.keys().map(|unit| scalar(unit)).collect();
    format!("{mark}    used_by: [{}]\n", units.join(", "))
}

fn address(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"{address}\""),
    }
}

/// Fit for a comment: a line break would end it.
fn one_line(text: &str) -> String {
    text.replace(|c: char| is_break(c) || c.is_control(), " ")
}

/// What YAML, or the YAML of old, ends a line at.
fn is_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The text as a YAML scalar: as it is where nothing else can be meant by it, else in quotes.
fn scalar(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '*')
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '/' | '\\' | '*')
        })
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || is_break(c) || c == '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use crate::probe::redis::{Failure, Redis};

    use super::super::Dependencies;
    use super::*;
    use crate::baseline::Baseline;

    fn learned(units: BTreeMap<String, Place>) -> Learned {
        Learned {
            deployment: "shop".to_owned(),
            patterns: vec!["shop*".to_owned()],
            units,
            unlisted: Vec::new(),
            dependencies: Dependencies::default(),
            declared: BTreeMap::new(),
            has_snapshot: false,
        }
    }

    fn read_back(learned: &Learned) -> Baseline {
        let text = baseline(learned);
        Baseline::parse(&text, "learned").unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            deployment in "[^\\p{C}\\p{Z}]([^\\p{Cc}]{0,20}[^\\p{C}\\p{Z}])?",
            pattern in "[a-zA-Z0-9:_.\\\\@*?-]{1,12}\\*",
            units in prop::collection::btree_map(
                "[a-zA-Z0-9:_\\\\-][a-zA-Z0-9:_.\\\\-]{0,12}(@[a-z0-9\\\\:.-]{1,5})?\\.service",
                "[^\\p{C}\\p{Z}]([^\\p{Cc}]{0,20}[^\\p{C}\\p{Z}])?",
                0..8,
            ),
            remark in any::<String>(),
        ) {
            let mut learned = learned(BTreeMap::new());
            learned.deployment = deployment;
            prop_assume!(glob::Pattern::new(&pattern).is_ok());
            learned.patterns = vec![pattern];
            learned.unlisted = vec![remark];
            for (number, (name, because)) in units.iter().enumerate() {
                let place = match number % 4 {
                    0 => Place::Running(None),
                    1 => Place::Running(Some("a oneshot")),
                    2 => Place::Absent(because.clone()),
                    _ => Place::Disabled(because.clone()),
                };
                learned.units.insert(name.clone(), place);
            }
            let read = read_back(&learned);
            prop_assert_eq!(&read.deployment, &learned.deployment);
            let watch: Vec<_> = read.systemd.watch.iter().map(|p| p.as_str()).collect();
            prop_assert_eq!(watch, learned.patterns.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(read.systemd.units.len(), learned.units.len());
            for (name, place) in &learned.units {
                let unit = read.systemd.unit(name).unwrap();
                let (expected, because) = match place {
                    Place::Absent(because) => (Expected::Absent, Some(because.as_str())),
                    Place::Disabled(because) => (Expected::Disabled, Some(because.as_str())),
                    _ => (Expected::Running, None),
                };
                prop_assert_eq!(unit.expected, expected);
                prop_assert_eq!(unit.because.as_deref(), because);
            }
        }
    }

    fn uses() -> Uses {
        let variables = BTreeSet::from(["A_HOST".to_owned()]);
        Uses::from([("a.service".to_owned(), variables)])
    }

    #[test]
    fn a_name_is_expected_only_where_its_addresses_will_stay() {
        let mut learned = learned(BTreeMap::new());
        let host = |addresses: &[&str], is_fixed| Name {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            is_fixed,
            uses: uses(),
        };
        learned.dependencies.hosts = BTreeMap::from([
            ("fixed".to_owned(), host(&["10.0.0.1", "fd00::1"], true)),
            ("api.example".to_owned(), host(&["1.1.1.1"], false)),
            ("planted".to_owned(), host(&[], true)),
        ]);
        let [fixed] = read_back(&learned).hostnames.try_into().unwrap();
        assert_eq!(fixed.name, "fixed");
        assert_eq!(fixed.addresses.len(), 2);
        assert!(fixed.used_by.covers("a.service") && !fixed.used_by.covers("b.service"));
        let text = baseline(&learned);
        assert!(text.contains("#  - name: api.example\n"), "{text}");
        assert!(text.contains("#   from A_HOST of a.service\n"), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }

    #[test]
    fn a_redis_is_expected_only_where_it_answers() {
        let mut learned = learned(BTreeMap::new());
        let server = |host: &str, reason: Option<Reason>| {
            let address = RedisAddress::Tcp {
                host: host.to_owned(),
                port: 6379,
                tls: host == "tls",
            };
            let answer = Redis {
                name: host.to_owned(),
                address: host.to_owned(),
                phases: Vec::new(),
                up: Some(reason.is_none()),
                failure: reason.map(|reason| Failure {
                    reason,
                    sentence: String::new(),
                }),
                writable: None,
                canary: false,
                started: None,
                connected_clients: None,
            };
            let uses = uses();
            let url = super::super::environment::url(&address);
            (
                url,
                Server {
                    address,
                    answer,
                    uses,
                },
            )
        };
        learned.dependencies.redis = BTreeMap::from([
            server("open", None),
            server("::1", None),
            server("locked", Some(Reason::Auth)),
            server("tls", Some(Reason::Tls)),
            server("planted", Some(Reason::Refused)),
        ]);
        let read = read_back(&learned);
        let names: Vec<_> = read.redis.iter().map(|redis| redis.name.as_str()).collect();
        assert_eq!(names, ["[::1]:6379", "open:6379"]);
        let text = baseline(&learned);
        for said in [
            "#    url: redis://locked:6379\n#    password_file: /etc/baseline-exporter/redis-password\n",
            "#    url: rediss://tls:6379\n#    ca_file: ",
            "#   from A_HOST of a.service (refused)\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        assert!(!text.contains("planted"), "{text}");
    }

    #[test]
    fn words_that_yaml_takes_for_something_else_are_quoted() {
        for text in [
            "true",
            "No",
            "null",
            "~",
            "1.5",
            "-",
            "- a",
            "a: b",
            "a #b",
            "*",
            "&a",
            "!a",
            "",
            "a:",
            "[a]",
            "{a}",
            "a,b",
            "%a",
            "@a",
            "`a`",
            "0x1f",
            ".inf",
            "a\tb",
            "a\u{2028}b",
        ] {
            assert!(scalar(text).starts_with('"'), "{text:?}");
        }
        for text in [
            "a.service",
            "a-*.service",
            "a\\x2db@1.service",
            "redis://a:1",
            "/var/lib",
        ] {
            assert_eq!(scalar(text), text);
        }
    }
}
