//! The baseline: the YAML file that says what the deployment looks like when it is healthy.

mod sections;
mod units;

pub use sections::is_hostname;
pub use units::{START_WITHIN, is_unit_name, watch_pattern};

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::yaml::{self, Mistake, Mistakes, Node, Value};

/// The baseline that is used where no file is given.
const EMBEDDED: &str = include_str!("../deploy/baseline-quantum-trader.yml");

/// The source of that one.
const IN_THE_PROGRAM: &str = "embedded";

/// What mistakes call the file.
const NOUN: &str = "baseline";

/// A baseline that was read and found free of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The deployment's own name, label `deployment` of `baseline_info`.
    pub deployment: String,
    /// CRC-32 of the text, eight hexadecimal digits: tells one text from another.
    pub version: String,
    /// Where the text came from: `embedded`, or the path it was read from.
    pub source: String,
    /// What systemd should say.
    pub systemd: Systemd,
    /// Names that must resolve, in the file's order.
    pub hostnames: Vec<Hostname>,
    /// Redis servers that must answer, in the file's order.
    pub redis: Vec<RedisEndpoint>,
    /// What each service must be able to write, in the file's order.
    pub write_paths: Vec<WritePaths>,
    /// The unit files that were last known good; `None` where the file has no such section.
    pub unit_files: Option<UnitFiles>,
}

/// Section `systemd`: which units to watch, and how each should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// Units to watch without an expectation of their own, by glob pattern.
    pub watch: Vec<glob::Pattern>,
    /// Every unit that the baseline names, in the file's order, each name once.
    pub units: Vec<Unit>,
    /// Units that were removed for good: whatever still refers to them is a finding.
    pub retired: Vec<String>,
    /// How often the unit table is compared with a fresh reading.
    pub resync: Duration,
}

/// One unit that the baseline names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The unit's full name, with its suffix.
    pub name: String,
    /// How the unit should stand.
    pub expected: Expected,
    /// 1 pages, 2 opens a ticket, 3 shows on the dashboard only.
    pub tier: u8,
    /// Why it stands so, in the operator's own words; `None` where the file gives no reason.
    pub because: Option<String>,
    /// How long a start may take before it counts as stuck.
    pub start_within: Duration,
}

/// How a unit should stand, by the list that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// `running`: a service that runs (or a oneshot whose last run went well).
    Running,
    /// `active`: a target, timer, socket, path or mount that is active.
    Active,
    /// `absent`: no unit of this name exists, on purpose.
    Absent,
    /// `disabled`: it exists, is not enabled and does not run, on purpose.
    Disabled,
}

/// One entry of section `hostnames`: a name that must resolve as it does on the healthy host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The name; an underscore is accepted, as resolvers accept it.
    pub name: String,
    /// The addresses it must resolve to, no more and no fewer.
    pub addresses: Vec<IpAddr>,
    /// The service through whose own view of the host it is resolved; `None` means the exporter's.
    pub resolved_as: Option<String>,
    /// The units that use it; all of them where the file does not say.
    pub used_by: UsedBy,
}

/// One entry of section `redis`: a server that must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisEndpoint {
    /// Its name, label `endpoint`.
    pub name: String,
    /// Where it listens.
    pub address: RedisAddress,
    /// The user to log in as; `None` means Redis' own default user.
    pub user: Option<String>,
    /// The database that the services use.
    pub database: u32,
    /// The file with the password: an absolute path, or the bare name of a systemd credential;
    /// `None` means no password. The password itself is never kept here.
    pub password_file: Option<PathBuf>,
    /// The certificates, in PEM, that the server's must be signed by; `None` means the system's.
    /// Only for TLS.
    pub ca_file: Option<PathBuf>,
    /// Whether a key that expires may be written to see that writes work.
    pub write_canary: bool,
    /// The units that use it; all of them where the file does not say.
    pub used_by: UsedBy,
}

/// Which of the watched units use a hostname or a Redis, so that its trouble can be theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsedBy(Option<Vec<glob::Pattern>>);

impl UsedBy {
    /// Whether this unit is one of them.
    pub fn covers(&self, unit: &str) -> bool {
        let Self(patterns) = self;
        let Some(patterns) = patterns else {
            return true;
        };
        patterns.iter().any(|pattern| pattern.matches(unit))
    }
}

/// Where a Redis server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// `redis://host:port`, or `rediss://host:port` with TLS.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port, 6379 where the URL gives none.
        port: u16,
        /// True for `rediss`.
        tls: bool,
    },
    /// `unix:///path`.
    Unix(PathBuf),
}

/// One entry of section `write_paths`: what one service must be able to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritePaths {
    /// The service's full name.
    pub unit: String,
    /// Absolute paths without `..`, each once: directories, and files that have to be there.
    pub paths: Vec<PathBuf>,
    /// Files that the service makes if they are not there, such as a log.
    pub files: Vec<PathBuf>,
}

/// Section `unit_files`: the unit files that were last known good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFiles {
    /// The directory that holds a copy of each.
    pub snapshot: PathBuf,
    /// File names that may differ from it.
    pub ignore: Vec<glob::Pattern>,
}

impl Baseline {
    /// The baseline of this file, as [`load`](Self::load) reads it; without one, that which is
    /// compiled in.
    pub fn of(file: Option<&Path>) -> Result<Self, Mistakes> {
        match file {
            Some(path) => Self::load(path),
            None => Ok(Self::embedded()),
        }
    }

    /// Reads the file at `path`, or says everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let source = path.display().to_string();
        let text = match yaml::read(path, NOUN) {
            Ok(text) => text,
            Err(mistake) => {
                return Err(Mistakes {
                    source,
                    found: vec![mistake],
                });
            }
        };
        Self::parse(&text, &source)
    }

    /// The baseline that is compiled in.
    pub fn embedded() -> Self {
        match Self::parse(EMBEDDED, IN_THE_PROGRAM) {
            Ok(baseline) => baseline,
            // A test parses the same text, so a build that passed its tests cannot get here.
            Err(mistakes) => unreachable!("the embedded baseline has mistakes: {mistakes}"),
        }
    }

    /// The file that it was read from; `None` for the one that is compiled in.
    pub fn file(&self) -> Option<&str> {
        (self.source != IN_THE_PROGRAM).then_some(&*self.source)
    }

    /// Reads this text, or says everything that is wrong with it. `source` is what it is called.
    pub fn parse(text: &str, source: &str) -> Result<Self, Mistakes> {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let version = format!("{:08x}", crc.sum());

        let found = match yaml::parse(text, NOUN) {
            Err(mistake) => vec![mistake],
            Ok(Node {
                value: Value::Null, ..
            }) => vec![Mistake::of_file(
                "the baseline is empty: it needs at least `deployment` and `systemd`",
            )],
            Ok(root) => match sections::baseline(&root, version, source) {
                Ok(baseline) => return Ok(baseline),
                Err(found) => found,
            },
        };
        Err(Mistakes {
            source: source.to_owned(),
            found,
        })
    }

    /// One line of what the baseline asks for, to see at a glance that it is the right file.
    pub fn summary(&self) -> String {
        let count = |expected| {
            self.systemd
                .units
                .iter()
                .filter(|unit| unit.expected == expected)
                .count()
        };
        let write_paths = self
            .write_paths
            .iter()
            .map(|service| service.paths.len() + service.files.len())
            .sum();
        let mut summary = format!(
            "{}: deployment {}, {} running, {} active, {} absent, {} disabled",
            self.source,
            self.deployment,
            count(Expected::Running),
            count(Expected::Active),
            count(Expected::Absent),
            count(Expected::Disabled),
        );
        for (number, one, many) in [
            (self.systemd.watch.len(), "watch pattern", "watch patterns"),
            (self.systemd.retired.len(), "retired", "retired"),
            (self.hostnames.len(), "hostname", "hostnames"),
            (self.redis.len(), "redis endpoint", "redis endpoints"),
            (write_paths, "write path", "write paths"),
        ] {
            let noun = if number == 1 { one } else { many };
            summary.push_str(&format!(", {number} {noun}"));
        }
        if let Some(unit_files) = &self.unit_files {
            summary.push_str(&format!(", snapshot {}", unit_files.snapshot.display()));
        }
        summary
    }
}

impl Systemd {
    /// The unit of this name, where the baseline names it.
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }

    /// Whether the unit is watched: named, or matched by a pattern.
    pub fn watches(&self, name: &str) -> bool {
        self.unit(name).is_some() || self.watch.iter().any(|pattern| pattern.matches(name))
    }
}

impl Expected {
    /// The list of the baseline, and the word of label `expected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Active => "active",
            Self::Absent => "absent",
            Self::Disabled => "disabled",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = "deployment: test\nsystemd: {running: [a.service]}\n";

    fn parse(text: &str) -> Baseline {
        Baseline::parse(text, "test.yml").unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// What `Baseline::load` says of a file with these bytes.
    fn refusal(bytes: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("case.yml");
        std::fs::write(&path, bytes).unwrap();
        shown(directory.path(), &Baseline::load(&path).unwrap_err())
    }

    /// The mistakes as they read where the directory is the working directory.
    fn shown(directory: &Path, mistakes: &Mistakes) -> String {
        mistakes
            .to_string()
            .replace(&format!("{}/", directory.display()), "")
    }

    #[test]
    fn the_embedded_baseline_is_the_host_as_it_was_repaired() {
        let baseline = Baseline::embedded();
        assert_eq!(
            baseline.summary(),
            "embedded: deployment quantum-trader, 12 running, 1 active, 13 absent, 2 disabled, \
             3 watch patterns, 1 retired, 1 hostname, 1 redis endpoint, 4 write paths, \
             snapshot /root/unit_backups_clean_20260107_final"
        );
        let clm = baseline.systemd.unit("quantum-clm.service").unwrap();
        assert_eq!(
            clm.because.as_deref(),
            Some("writes /app/models, a read-only file system")
        );
        let pil = baseline.systemd.unit("quantum-pil.service").unwrap();
        assert!(
            pil.because
                .as_deref()
                .unwrap()
                .contains("tolerated since 2026-01-07")
        );
        assert_eq!(baseline.systemd.retired, ["quantum-ai-engine.service"]);
        for unit in &baseline.systemd.units {
            assert!(
                baseline
                    .systemd
                    .watch
                    .iter()
                    .any(|pattern| pattern.matches(&unit.name))
            );
        }
    }

    #[test]
    fn what_the_file_leaves_out_has_its_default() {
        let baseline = parse(MINIMAL);
        assert_eq!(
            baseline.systemd,
            Systemd {
                watch: vec![],
                units: vec![Unit {
                    name: "a.service".to_owned(),
                    expected: Expected::Running,
                    tier: 1,
                    because: None,
                    start_within: Duration::from_secs(60),
                }],
                retired: vec![],
                resync: Duration::from_secs(60),
            }
        );
        assert_eq!(
            (
                baseline.hostnames,
                baseline.redis,
                baseline.write_paths,
                baseline.unit_files
            ),
            (vec![], vec![], vec![], None)
        );
    }

    #[test]
    fn every_key_is_read() {
        let baseline = parse(
            r#"
deployment: test
systemd:
  watch: ["a-*.service", "b?.time[r]", "c-*"]
  disabled: [{name: "d@1.service", because: 'not yet'}]
  running: [{name: 'a\x2d1.service', tier: 3, because: later, start_within: 1m 30s}]
  active: [x.target, y.service]
  resync: 5m
hostnames: [{name: Redis_1.local, addresses: [127.0.0.1, "::1"], as: y.service, used_by: ["a-*", y.service]}]
redis:
  - {name: plain, url: redis://localhost}
  - {name: user, url: "rediss://app@[::1]:6380/3", password_file: /run/secret, ca_file: /ca.pem, write_canary: true}
  - {name: socket, url: "unix:///run/redis.sock", password_file: redis-password}
write_paths: [{unit: y.service, paths: [/var/log/, /tmp], files: [/var/log/y.log]}]
unit_files: {snapshot: /root/backup, ignore: ["*.bak"]}
"#,
        );
        let names: Vec<_> = baseline
            .systemd
            .units
            .iter()
            .map(|unit| unit.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["d@1.service", r"a\x2d1.service", "x.target", "y.service"]
        );
        let unit = baseline.systemd.unit(r"a\x2d1.service").unwrap();
        assert_eq!((unit.tier, unit.start_within), (3, Duration::from_secs(90)));
        assert_eq!(baseline.systemd.resync, Duration::from_secs(300));
        assert_eq!(
            baseline.hostnames.first().unwrap().resolved_as.as_deref(),
            Some("y.service")
        );
        let used_by = &baseline.hostnames.first().unwrap().used_by;
        let covers = ["a-1.service", "y.service", "z.service"].map(|unit| used_by.covers(unit));
        assert_eq!(covers, [true, true, false]);
        assert!(baseline.redis.first().unwrap().used_by.covers("z.service"));
        let tcp = |host: &str, port, tls| RedisAddress::Tcp {
            host: host.to_owned(),
            port,
            tls,
        };
        let plain = RedisEndpoint {
            name: "plain".to_owned(),
            address: tcp("localhost", 6379, false),
            user: None,
            database: 0,
            password_file: None,
            ca_file: None,
            write_canary: false,
            used_by: UsedBy::default(),
        };
        let user = RedisEndpoint {
            name: "user".to_owned(),
            address: tcp("::1", 6380, true),
            user: Some("app".to_owned()),
            database: 3,
            password_file: Some("/run/secret".into()),
            ca_file: Some("/ca.pem".into()),
            write_canary: true,
            used_by: UsedBy::default(),
        };
        let socket = RedisEndpoint {
            name: "socket".to_owned(),
            address: RedisAddress::Unix("/run/redis.sock".into()),
            password_file: Some("redis-password".into()),
            ..plain.clone()
        };
        assert_eq!(baseline.redis, [plain, user, socket]);
        assert_eq!(
            baseline.write_paths.first().unwrap().paths,
            ["/var/log", "/tmp"].map(PathBuf::from)
        );
        assert_eq!(
            baseline.write_paths.first().unwrap().files,
            [PathBuf::from("/var/log/y.log")]
        );
        assert_eq!(
            baseline.unit_files.unwrap().ignore,
            [glob::Pattern::new("*.bak").unwrap()]
        );
    }

    #[test]
    fn another_text_has_another_version() {
        let version = parse(MINIMAL).version;
        assert_eq!(version.len(), 8);
        assert_eq!(version, parse(MINIMAL).version);
        assert_ne!(
            version,
            parse(&MINIMAL.replace("a.service", "b.service")).version
        );
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_are_no_mistake() {
        parse(&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n")));
    }

    /// `UPDATE_GOLDEN=1 cargo test` writes the texts anew; read the difference before committing.
    #[test]
    fn every_mistake_reads_as_the_golden_text_says() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/baseline");
        let mut cases: Vec<PathBuf> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
            .collect();
        cases.sort();
        assert!(!cases.is_empty(), "no cases in {}", directory.display());
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        for case in cases {
            let Err(mistakes) = Baseline::load(&case) else {
                panic!("{} holds a mistake that nobody noticed", case.display());
            };
            let text = format!("{}\n", shown(&directory, &mistakes));
            let golden = case.with_extension("txt");
            if update {
                std::fs::write(&golden, &text).unwrap();
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(text, expected, "{}", golden.display());
            assert!(
                !text.contains("hunter2"),
                "{} shows a password",
                golden.display()
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let load = |path: &Path| shown(directory.path(), &Baseline::load(path).unwrap_err());
        assert_eq!(
            load(&directory.path().join("missing.yml")),
            "missing.yml: reading the baseline: no such file, check the path"
        );
        assert!(
            load(directory.path())
                .ends_with(": reading the baseline: this is a directory, name the file in it")
        );
    }

    #[test]
    fn a_file_that_holds_no_baseline_is_one_sentence() {
        let empty = "case.yml: the baseline is empty: it needs at least `deployment` and `systemd`";
        assert_eq!(refusal(b""), empty);
        assert_eq!(refusal(b"\n---\n"), empty);
        assert_eq!(
            refusal(&b"nonsense: [\n".repeat(900_000)),
            "case.yml: larger than 1 MiB, which no baseline is: \
             check that the path names the right file"
        );
        assert_eq!(
            refusal(b"deployment: test\nsystemd: {running: [\xff.service]}\n"),
            "case.yml: not UTF-8 text, first at byte 37 on line 2: \
             save it as UTF-8, or check that the path names the right file"
        );
        assert_eq!(
            refusal(&b"deployment: test\n".repeat(20_000))
                .lines()
                .count(),
            20_000
        );
    }

    #[test]
    fn a_mistyped_key_is_not_called_missing_too() {
        assert_eq!(
            refusal(b"deploymnt: test\nsystemd: {runing: [a.service]}\n"),
            "case.yml:1:1: the baseline has no key `deploymnt`: did you mean `deployment`?\n\
             case.yml:2:11: `systemd` has no key `runing`: did you mean `running`?"
        );
    }

    #[test]
    fn deep_nesting_is_one_sentence() {
        let deep =
            "nested more than 32 levels deep: five are enough for any, look for a stray bracket";
        let flow = refusal(&b"[".repeat(100_000));
        assert!(
            flow.starts_with("case.yml:1:") && flow.ends_with(deep),
            "{flow}"
        );
        let block: String = (0..200)
            .map(|level| format!("{}a:\n", " ".repeat(level)))
            .collect();
        let block = refusal(block.as_bytes());
        assert!(block.ends_with(deep), "{block}");
    }

    #[test]
    fn aliases_that_multiply_each_other_are_one_sentence() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let refusal = refusal(bomb.as_bytes());
        assert!(
            refusal.ends_with(
                ": more than 50000 values or 2097152 bytes of text once aliases are written out: \
                 this is no baseline, or its aliases multiply each other"
            ),
            "{refusal}"
        );
    }

    proptest! {
        // A case that fails becomes a test with a name, not a line in a file of seeds.
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let read = Baseline::parse(&text, "test.yml");
            prop_assert!(read.is_err());
        }

        #[test]
        fn no_yaml_makes_the_reader_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "deployment", "systemd", "running", "active", "retired", "watch", "resync",
                    "hostnames", "redis", "url", "name", "addresses", "write_paths", "paths", "files",
                    "unit", "unit_files", "ignore", "tier", "because", "start_within",
                    "a.service", "b@.service", "@.service", "redis://:x@[::1]:1/2", "unix://",
                    "/tmp/..", "127.0.0.1", "5s", "-1", "1e999", "null", "~", "\"\"", "**", "[a",
                    ": ", ":\n  ", ":\n    ", "\n", "\n  - ", "\n    - ", "[", "]", "{", "}", ", ",
                    "&x ", "*x", "<<", "---\n", "|\n", "!!str ", "\t", "'", "é",
                ]),
                0..60,
            )
        ) {
            let text = words.concat();
            for text in [text.clone(), format!("{MINIMAL}{text}")] {
                if let Err(mistakes) = Baseline::parse(&text, "test.yml") {
                    prop_assert!(!mistakes.to_string().is_empty());
                }
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(refusal(&bytes).starts_with("case.yml:"));
        }
    }
}
