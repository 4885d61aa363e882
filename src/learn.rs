//! Writes a baseline from a host that is healthy now, and tells how one differs from the host.

mod diff;
mod environment;
mod place;
mod text;

pub use diff::{Differences, diff};

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::system::uname;

use self::environment::{Comments, Named, Uses};
use self::place::{Place, place};
use crate::baseline::{self, Baseline, RedisAddress, RedisEndpoint, Systemd, UsedBy};
use crate::findings::{self, Findings, Status};
use crate::observation::{Host, Observation};
use crate::probe::hostname::{self, Answer, Resolver};
use crate::probe::redis::{self, Redis};
use crate::probe::write_path::declared;
use crate::probe::{TARGET_TIMEOUT, Workers};
use crate::snapshot;
use crate::systemd::manager;
use crate::systemd::unit::suffix;

/// How long a look may take: nobody scrapes, and all units of a host are many.
const LOOK: Duration = Duration::from_secs(30);
/// How long a unit has to be up before it is learned from: one that crashes sooner shows by then.
const UP: Duration = Duration::from_secs(5);
/// Where the golden snapshot is sought.
const SNAPSHOT: &str = "/var/lib/baseline-exporter/golden";

/// What came of learning.
#[derive(Debug)]
pub enum Outcome {
    /// A baseline.
    Learned {
        /// The file's text.
        text: String,
        /// What was learned from, and what does not hold for all that, a sentence each.
        remarks: Vec<String>,
    },
    /// Units are in trouble, a sentence each.
    Refused(Vec<String>),
}

/// Everything that a baseline is written from.
#[derive(Debug)]
struct Learned {
    deployment: String,
    patterns: Vec<String>,
    /// The units of the patterns, and those that they name and that are not there.
    units: BTreeMap<String, Place>,
    /// Sentences on units that no list can hold.
    unlisted: Vec<String>,
    dependencies: Dependencies,
    /// What each unit itself declares that it writes.
    declared: BTreeMap<String, Vec<PathBuf>>,
    /// The directory of the golden snapshot is there.
    has_snapshot: bool,
}

/// What the units' environments name, and how it stands.
#[derive(Debug, Default)]
struct Dependencies {
    /// By name.
    hosts: BTreeMap<String, Name>,
    /// By URL.
    redis: BTreeMap<String, Server>,
    /// Sentences on what could not be read.
    unreadable: BTreeSet<String>,
}

/// A hostname that an environment names.
#[derive(Debug)]
struct Name {
    /// What the services get for it; empty if it does not resolve.
    addresses: Vec<IpAddr>,
    /// They will be the same tomorrow, as far as can be known: the hosts file gives them, or they are
    /// none of the internet's.
    is_fixed: bool,
    uses: Uses,
}

/// A Redis that an environment names.
#[derive(Debug)]
struct Server {
    address: RedisAddress,
    /// How it answered, asked without a password.
    answer: Redis,
    uses: Uses,
}

/// Learns from the units that match the patterns, without any from those that the administrator
/// installed. `force` learns from a host with units in trouble, too, and expects nothing of them.
///
/// # Errors
///
/// A sentence that says what could not be told.
pub async fn learn(patterns: &[glob::Pattern], force: bool) -> Result<Outcome, String> {
    let mut remarks = Vec::new();
    let mut watch = patterns.to_vec();
    if watch.is_empty() {
        let names = installed(Path::new(snapshot::UNIT_DIRECTORY))?;
        if names.is_empty() {
            return Err(format!(
                "{} holds no unit file of the administrator's: say by --match which units to learn \
                 from, such as --match 'shop-*'",
                snapshot::UNIT_DIRECTORY
            ));
        }
        remarks.push(format!(
            "learning from the units installed in {}: {}",
            snapshot::UNIT_DIRECTORY,
            names.join(", ")
        ));
        // What an installed template is called once it runs, nobody knows.
        let names = names.iter().map(|name| name.replace("@.", "@*."));
        watch = names
            .filter_map(|name| glob::Pattern::new(&name).ok())
            .collect();
    }
    watch.sort_unstable();
    watch.dedup();
    let baseline = Baseline {
        deployment: deployment(&watch),
        version: String::new(),
        source: "the host".to_owned(),
        systemd: Systemd {
            watch,
            units: Vec::new(),
            retired: Vec::new(),
            resync: Duration::from_secs(60),
        },
        hostnames: Vec::new(),
        redis: Vec::new(),
        write_paths: Vec::new(),
        unit_files: None,
    };

    let host = Host::watch(baseline);
    let observation = settled_look(&host).await;
    let findings = findings::judge(&observation);
    let learned = gather(&observation, &findings).await?;
    if learned.units.is_empty() {
        return Err(format!(
            "no unit matches {}: check the pattern with `systemctl list-units --all`",
            learned.patterns.join(", ")
        ));
    }
    let troubles: Vec<String> = learned.troubles().map(ToOwned::to_owned).collect();
    if !troubles.is_empty() && !force {
        return Ok(Outcome::Refused(troubles));
    }
    let text = text::baseline(&learned);
    let learned_again = Baseline::parse(&text, "learned").map_err(|mistakes| {
        format!("what was learned is no baseline, please report it: {mistakes}")
    })?;
    remarks.push(learned_again.summary());
    remarks.extend(learned.dependencies.unreadable);
    let host = Host::watch(learned_again);
    let observation = host.look(Instant::now() + LOOK).await;
    remarks.extend(not_holding(&findings::judge(&observation)));
    Ok(Outcome::Learned { text, remarks })
}

impl Learned {
    /// What is wrong with the units that are in trouble.
    fn troubles(&self) -> impl Iterator<Item = &str> {
        self.units.values().filter_map(|place| match place {
            Place::Trouble(sentence) => Some(sentence.as_str()),
            _ => None,
        })
    }
}

/// Looks once; and once more if a service was started so lately that it may still crash.
async fn settled_look(host: &Host) -> Observation {
    let observation = host.look(Instant::now() + LOOK).await;
    let Ok(units) = &observation.units else {
        return observation;
    };
    let up = units.watched.iter().map(|observed| &observed.unit);
    let up = up.filter(|unit| unit.service.is_some() && !unit.is_down());
    let Some(latest) = up.map(|unit| place::started(unit)).max() else {
        return observation;
    };
    let since = Duration::from_micros(units.now.monotonic.saturating_sub(latest));
    let Some(wait) = UP.checked_sub(since) else {
        return observation;
    };
    tokio::time::sleep(wait).await;
    host.look(Instant::now() + LOOK).await
}

/// Everything that a baseline of the observed patterns is written from.
async fn gather(observation: &Observation, findings: &Findings) -> Result<Learned, String> {
    let seen = observation.units.as_ref().map_err(Clone::clone)?;
    let now = seen.now;
    let systemd = &observation.baseline.systemd;
    let dangling = observation.unit_files.references.as_ref();
    let dangling = dangling.map_err(Clone::clone)?;
    let loaded = |judged: &&findings::Judged| judged.unit.load_state == "loaded";
    let (loaded, unloaded): (Vec<_>, Vec<_>) = findings.units.iter().partition(loaded);
    let ids: Vec<&str> = loaded.iter().map(|judged| &*judged.unit.id).collect();
    let details = manager::details(&ids).await?;

    let mut units = BTreeMap::new();
    let mut declared_by = BTreeMap::new();
    let mut environments = Vec::new();
    let unloaded = unloaded
        .into_iter()
        .map(|judged| (judged, manager::Details::default()));
    for (judged, details) in loaded.into_iter().zip(details).chain(unloaded) {
        let unit = &judged.unit;
        let name = unit.name.to_string();
        let place = match systemd.unit(&unit.name) {
            Some(_) => None,
            None => place(judged, &details, now.monotonic),
        };
        let named = systemd.unit(&unit.name).map(|unit| unit.expected);
        let is_kept_down = matches!(place, Some(Place::Disabled(_) | Place::Absent(_)))
            || matches!(
                named,
                Some(baseline::Expected::Disabled | baseline::Expected::Absent)
            );
        if (place.is_some() || named.is_some()) && !is_kept_down {
            let settings = unit.service.as_ref().and_then(|s| s.settings.as_ref());
            let paths = settings
                .map(|settings| declared(settings))
                .unwrap_or_default();
            if !paths.is_empty() {
                declared_by.insert(name.clone(), paths);
            }
            environments.push((name.clone(), details));
        }
        units.extend(place.map(|place| (name, place)));
    }
    let mut unlisted = place::add_missing(&mut units, dangling);
    units.retain(|name, _| systemd.unit(name).is_none());
    unlisted.sort_unstable();
    let comments = Comments::of(&seen.manager.version);
    Ok(Learned {
        deployment: observation.baseline.deployment.clone(),
        patterns: systemd.watch.iter().map(ToString::to_string).collect(),
        units,
        unlisted,
        dependencies: Dependencies::of(environments, comments).await?,
        declared: declared_by,
        has_snapshot: Path::new(SNAPSHOT).is_dir(),
    })
}

impl Dependencies {
    /// Reads the environments, and asks for what they name.
    async fn of(
        environments: Vec<(String, manager::Details)>,
        comments: Comments,
    ) -> Result<Self, String> {
        let workers = Workers::default();
        let deadline = tokio::time::Instant::now() + LOOK;
        let read = move || {
            let mut named = Named::default();
            for (unit, details) in &environments {
                named.add(unit, details, comments);
            }
            named
        };
        let until = deadline.min(tokio::time::Instant::now() + TARGET_TIMEOUT);
        let named = workers.run_one("environment files", until, read).await;
        let named = named.ok_or("reading the units' environment files took too long")?;

        let names: Vec<_> = named.hosts.keys().map(|name| asked(name)).collect();
        let (addresses, servers): (Vec<RedisAddress>, Vec<Uses>) =
            named.redis.into_values().unzip();
        let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
        let (names, answers) = tokio::join!(
            hostname::probe(&names, &[], &workers, deadline),
            redis::probe(&endpoints, &workers, deadline),
        );
        let hosts = names.iter().zip(named.hosts).map(|(found, (name, uses))| {
            let addresses = addresses_of(found, Resolver::Nss);
            let is_fixed = addresses.iter().all(is_private)
                || addresses_of(found, Resolver::Hosts) == addresses;
            let name_of_it = Name {
                addresses,
                is_fixed,
                uses,
            };
            (name, name_of_it)
        });
        let redis = addresses.into_iter().zip(answers).zip(servers);
        let redis = redis.map(|((address, answer), uses)| {
            let url = environment::url(&address);
            let server = Server {
                address,
                answer,
                uses,
            };
            (url, server)
        });
        Ok(Self {
            hosts: hosts.collect(),
            redis: redis.collect(),
            unreadable: named.unreadable,
        })
    }
}

/// A name to be looked up, of which nothing is known yet.
fn asked(name: &str) -> baseline::Hostname {
    baseline::Hostname {
        name: name.to_owned(),
        addresses: Vec::new(),
        resolved_as: None,
        used_by: UsedBy::default(),
    }
}

/// A server to be asked, of which no more than its address is known.
fn endpoint(address: &RedisAddress) -> RedisEndpoint {
    RedisEndpoint {
        name: environment::url(address),
        address: address.clone(),
        user: None,
        database: 0,
        password_file: None,
        ca_file: None,
        write_canary: false,
        used_by: UsedBy::default(),
    }
}

/// What a resolver gives for a name; empty if nothing.
fn addresses_of(found: &hostname::Hostname, resolver: Resolver) -> Vec<IpAddr> {
    let mut lookups = found.lookups.iter();
    match lookups.find(|lookup| lookup.resolver == resolver) {
        Some(hostname::Lookup {
            answer: Ok(Answer::Addresses(addresses)),
            ..
        }) => addresses.clone(),
        _ => Vec::new(),
    }
}

/// Whether an address is none of the internet's, where names change theirs from one look to the next.
fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// What does not hold of a baseline that was only just learned, or may not hold for long.
fn not_holding(findings: &Findings) -> Vec<String> {
    let units = findings.units.iter().filter_map(findings::Judged::sentence);
    let remarks = findings.remarks.iter().map(|remark| match remark.status {
        Status::Holds => format!("warning: {}", remark.sentence),
        status => format!("{}: {}", status.word(), remark.sentence),
    });
    let mut told: Vec<String> = units
        .map(|sentence| format!("violated: {sentence}"))
        .chain(remarks)
        .collect();
    for check in &findings.checks {
        if check.name == "failed_units" && check.status != Status::Holds {
            told.push(format!(
                "{}: failed units, {}",
                check.status.word(),
                check.seen
            ));
        }
    }
    told
}

/// What the deployment may be called: what the patterns have in common, else as the host.
fn deployment(patterns: &[glob::Pattern]) -> String {
    let mut common: Option<&str> = None;
    for pattern in patterns {
        let text = pattern.as_str();
        let end = text.find(['*', '?', '[']).unwrap_or(text.len());
        let fixed = text.get(..end).unwrap_or_default();
        let fixed = match fixed.rsplit_once('.') {
            Some((stem, _)) if end == text.len() => stem,
            _ => fixed,
        };
        common = Some(common.map_or(fixed, |common| shared(common, fixed)));
    }
    let common = common.unwrap_or_default();
    let name = common.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        return uname().nodename().to_string_lossy().into_owned();
    }
    name.to_owned()
}

/// What two names begin with, in whole words.
fn shared<'t>(one: &'t str, other: &str) -> &'t str {
    const BETWEEN: [char; 4] = ['-', '_', '.', '@'];
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
    let same = one.get(..same.count()).unwrap_or_default();
    let ends = |name: &str| {
        let rest = name.get(same.len()..).unwrap_or_default();
        rest.is_empty() || rest.starts_with(BETWEEN)
    };
    if ends(one) && ends(other) {
        return same;
    }
    same.rfind(BETWEEN)
        .and_then(|end| same.get(..end))
        .unwrap_or_default()
}

/// The names of the unit files that the administrator put into this directory: files, and links that
/// lead to where packages do not.
fn installed(directory: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("reading {}: {error}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let is_unit = matches!(
            suffix(&name),
            "service" | "target" | "timer" | "socket" | "path" | "mount" | "automount" | "swap"
        );
        // A link to nowhere has no end.
        let Ok(file) = fs::canonicalize(entry.path()) else {
            continue;
        };
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        // An alias leads to its neighbour, and what a package brings below /usr.
        let is_of_package = is_link
            && (file.starts_with("/usr/lib")
                || file.starts_with("/lib")
                || fs::canonicalize(directory).is_ok_and(|here| file.starts_with(here)));
        // An empty file and a link to /dev/null are masks.
        let has_text = fs::metadata(&file).is_ok_and(|file| file.is_file() && file.len() > 0);
        if is_unit && has_text && !is_of_package {
            names.insert(name);
        }
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_deployment_is_what_the_patterns_have_in_common() {
        let of = |patterns: &[&str]| {
            let patterns = patterns
                .iter()
                .map(|text| glob::Pattern::new(text).unwrap());
            deployment(&patterns.collect::<Vec<_>>())
        };
        let host = uname().nodename().to_string_lossy().into_owned();
        assert_eq!(of(&["quantum*"]), "quantum");
        assert_eq!(of(&["quantum-*.service", "quantum-*.timer"]), "quantum");
        assert_eq!(of(&["shop.service"]), "shop");
        assert_eq!(of(&["shop-web.service", "shop-worker.service"]), "shop");
        assert_eq!(
            of(&["shop-a-b.timer", "shop-a.service", "shop.target"]),
            "shop"
        );
        assert_eq!(of(&["*"]), host);
        assert_eq!(of(&["web.service", "worker.service"]), host);
        assert_eq!(of(&[]), host);
    }

    #[test]
    fn an_address_of_the_internet_is_not_private() {
        for (address, private) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("fd00::1", true),
            ("::1", true),
            ("1.1.1.1", false),
            ("2606:4700::1111", false),
        ] {
            assert_eq!(is_private(&address.parse().unwrap()), private, "{address}");
        }
    }

    #[test]
    fn what_packages_bring_is_not_installed_by_the_administrator() {
        let root = tempfile::tempdir().unwrap();
        let (units, elsewhere) = (root.path().join("units"), root.path().join("app"));
        fs::create_dir_all(units.join("a.target.wants")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        for file in ["a.service", "a@.service", "a.timer", "notes.txt"] {
            fs::write(units.join(file), "[Unit]\n").unwrap();
        }
        fs::write(units.join("empty.service"), "").unwrap();
        fs::write(elsewhere.join("b.service"), "[Unit]\n").unwrap();
        for (name, target) in [
            ("b.service", elsewhere.join("b.service")),
            ("alias.service", units.join("a.service")),
            ("masked.service", "/dev/null".into()),
            ("gone.service", elsewhere.join("gone.service")),
            ("package.service", "/usr/lib/os-release".into()),
        ] {
            symlink(target, units.join(name)).unwrap();
        }
        assert_eq!(
            installed(&units).unwrap(),
            ["a.service", "a.timer", "a@.service", "b.service"]
        );
        assert_eq!(installed(&units.join("none")).unwrap(), [""; 0]);
    }
}
