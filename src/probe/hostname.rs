//! One name: what the services get for it, what the hosts file and DNS say, and whether a rebuild of
//! the host would keep it.

mod cloud_init;
mod dns;
mod hosts_file;
mod seen_by;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, getaddrinfo};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{TARGET_TIMEOUT, Workers};
use crate::baseline;
use crate::systemd::unit::Unit;

/// What one look saw of one name of the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The name.
    pub name: String,
    /// What must be found: these addresses, no more and no fewer, in any order.
    pub expected: Vec<IpAddr>,
    /// The service through whose view of the host the hosts file was read; `None`: the exporter's.
    pub resolved_as: Option<String>,
    /// Each resolver's answer, NSS, hosts file, DNS.
    pub lookups: Vec<Lookup>,
    /// Whether the name will still stand in the hosts file after the next boot or rebuild; the
    /// error says why that cannot be told.
    pub persistence: Result<Persistence, String>,
}

impl Hostname {
    /// True if every resolver could be asked, whatever it said.
    pub fn is_told(&self) -> bool {
        self.lookups.iter().all(|lookup| lookup.answer.is_ok())
    }
}

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// getaddrinfo(3), which asks what nsswitch.conf lists: what the services get.
    Nss,
    /// The hosts file alone.
    Hosts,
    /// The servers of resolv.conf alone.
    Dns,
}

impl Resolver {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nss => "nss",
            Self::Hosts => "hosts",
            Self::Dns => "dns",
        }
    }
}

/// One resolver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Who was asked.
    pub resolver: Resolver,
    /// The answer; `Err` where it could not be asked at all, with the reason for a person.
    pub answer: Result<Answer, String>,
    /// How long it took.
    pub took: Duration,
}

/// What a resolver says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, each once, sorted; never none.
    Addresses(Vec<IpAddr>),
    /// No address, and why; the text is for a person.
    Failure(Reason, String),
}

/// Why a name has no address: the closed set of `baseline_hostname_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no such name (NXDOMAIN, EAI_NONAME, no line in the file).
    NotFound,
    /// The resolver could not tell at the moment (EAI_AGAIN, SERVFAIL).
    Temporary,
    /// No answer in time.
    Timeout,
    /// The name exists but has no address (NODATA).
    NoData,
    /// The resolver refused to answer (REFUSED, EAI_FAIL).
    Refused,
    /// The name is none that this resolver accepts, or its answer made no sense.
    Invalid,
}

impl Reason {
    /// All of them, in the order of their series.
    pub const ALL: [Self; 6] = [
        Self::NotFound,
        Self::Temporary,
        Self::Timeout,
        Self::NoData,
        Self::Refused,
        Self::Invalid,
    ];

    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Temporary => "temporary",
            Self::Timeout => "timeout",
            Self::NoData => "no_data",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
        }
    }
}

/// Whether the name outlives the next boot or rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persistence {
    /// Yes, and why.
    Kept(String),
    /// No, and what is missing where.
    Lost(String),
}

/// Where the services' resolver finds the file.
const HOSTS_FILE: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The name of this host, as gethostname(2) gives it.
const NODENAME: &str = "/proc/sys/kernel/hostname";

/// SOCK_STREAM: one entry for each address, not one for each kind of socket.
const STREAM: i32 = 1;

/// Looks the names up, all at once. `units` are the watched ones, through whose processes the hosts
/// file is read where the baseline says so; NSS and DNS are asked as the exporter itself has them.
pub async fn probe(
    hostnames: &[baseline::Hostname],
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Vec<Hostname> {
    let deadline = deadline.min(Instant::now() + TARGET_TIMEOUT);
    join_all(
        hostnames
            .iter()
            .map(|hostname| look_up(hostname, units, workers, deadline)),
    )
    .await
}

async fn look_up(
    hostname: &baseline::Hostname,
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Hostname {
    let baseline::Hostname {
        name,
        addresses: expected,
        resolved_as,
        used_by: _,
    } = hostname;
    let by_service = async {
        match resolved_as {
            Some(service) => Some(timed(hosts_of(name, service, units, workers, deadline)).await),
            None => None,
        }
    };
    // All at once: a DNS server that is silent until the deadline takes no time from the others.
    let (nss, own, by_service, dns, rewriting) = tokio::join!(
        timed(nss(name, workers, deadline)),
        timed(hosts(name, workers, deadline)),
        by_service,
        timed(dns(name, workers, deadline)),
        rewriting(name, expected, workers, deadline),
    );
    let seen = Seen {
        own: &own.0,
        by_service: by_service.as_ref().map(|(answer, _)| answer),
        nss: &nss.0,
        dns: &dns.0,
    };
    let persistence = seen.persistence(hostname, rewriting);
    let lookup = |resolver, (answer, took)| Lookup {
        resolver,
        answer,
        took,
    };
    Hostname {
        name: name.clone(),
        expected: expected.clone(),
        resolved_as: resolved_as.clone(),
        lookups: vec![
            lookup(Resolver::Nss, nss),
            lookup(Resolver::Hosts, by_service.unwrap_or(own)),
            lookup(Resolver::Dns, dns),
        ],
        persistence,
    }
}

/// What was found of one name, to judge whether it lasts.
struct Seen<'a> {
    /// In the host's own hosts file.
    own: &'a Result<Answer, String>,
    /// In the hosts file that the service sees; `None` where the baseline names no service.
    by_service: Option<&'a Result<Answer, String>>,
    nss: &'a Result<Answer, String>,
    dns: &'a Result<Answer, String>,
}

impl Seen<'_> {
    /// `rewriting` is whether cloud-init would leave the name in the host's hosts file.
    fn persistence(
        &self,
        hostname: &baseline::Hostname,
        rewriting: Result<Persistence, String>,
    ) -> Result<Persistence, String> {
        let baseline::Hostname {
            name,
            addresses: expected,
            resolved_as,
            used_by: _,
        } = hostname;
        let found = |answer: &Result<Answer, String>| match answer {
            Ok(Answer::Addresses(found)) => expected.iter().all(|address| found.contains(address)),
            _ => false,
        };
        if found(self.own) {
            return rewriting;
        }
        if let Err(why) = self.own {
            return Err(why.clone());
        }
        if self.by_service.is_some_and(found) {
            let service = resolved_as.as_deref().unwrap_or_default();
            return Ok(Persistence::Kept(format!(
                "it stands in the hosts file that {service} sees, which is not the host's own"
            )));
        }
        if found(self.dns) && found(self.nss) {
            return Ok(Persistence::Kept("it comes from DNS".to_owned()));
        }
        if found(self.nss) {
            return Ok(Persistence::Kept(
                "it comes from a source of /etc/nsswitch.conf other than the hosts file".to_owned(),
            ));
        }
        let lacks = format!(
            "{HOSTS_FILE} lacks it: add {}",
            lines_of(name, expected).join(" and ")
        );
        // Who cannot tell now may give it at other times.
        let silent =
            [self.nss, self.dns]
                .into_iter()
                .find_map(|answer| match answer {
                    Err(why)
                    | Ok(Answer::Failure(
                        Reason::Temporary | Reason::Timeout | Reason::Refused,
                        why,
                    )) => Some(why),
                    Ok(_) => None,
                });
        match silent {
            None => Ok(Persistence::Lost(lacks)),
            Some(why) => Err(format!(
                "whether it comes from elsewhere cannot be told ({why}); if it does not, {lacks}"
            )),
        }
    }
}

/// The lines of a hosts file that give the name these addresses, in quotes for a sentence.
fn lines_of(name: &str, addresses: &[IpAddr]) -> Vec<String> {
    let line = |address: &IpAddr| format!("`{address} {name}`");
    addresses.iter().map(line).collect()
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = work.await;
    (result, started.elapsed())
}

/// getaddrinfo(3): it cannot be cancelled, so it has a thread that may be left behind.
async fn nss(name: &str, workers: &Workers, deadline: Instant) -> Result<Answer, String> {
    let asked = name.to_owned();
    let look_up = move || {
        let hints = AddrInfoHints {
            socktype: STREAM,
            ..AddrInfoHints::default()
        };
        match getaddrinfo(Some(&asked), None, Some(hints)) {
            Err(error) => nss_failure(error.error_num(), &io::Error::from(error)),
            Ok(found) => {
                let found = found.filter_map(Result::ok).map(|info| info.sockaddr.ip());
                some(found.collect()).unwrap_or_else(|| {
                    Answer::Failure(Reason::NoData, "getaddrinfo gives no address".to_owned())
                })
            }
        }
    };
    let answer = workers
        .run_one(&format!("getaddrinfo {name}"), deadline, look_up)
        .await;
    Ok(answer.unwrap_or_else(|| {
        Answer::Failure(
            Reason::Timeout,
            "getaddrinfo gave no answer in time".to_owned(),
        )
    }))
}

/// Each address once, sorted; `None` if there is none.
fn some(mut addresses: Vec<IpAddr>) -> Option<Answer> {
    addresses.sort_unstable();
    addresses.dedup();
    (!addresses.is_empty()).then_some(Answer::Addresses(addresses))
}

/// What glibc's codes mean (netdb.h); `error` is its own text for them.
fn nss_failure(code: i32, error: &io::Error) -> Answer {
    let (reason, symbol, why) = match code {
        -2 => (Reason::NotFound, "EAI_NONAME", "no such name"),
        -3 => (
            Reason::Temporary,
            "EAI_AGAIN",
            "temporary failure in name resolution",
        ),
        -4 => (Reason::Refused, "EAI_FAIL", "a server refused for good"),
        -5 => (Reason::NoData, "EAI_NODATA", "the name has no address"),
        _ => {
            let symbol = match code {
                -10 => "EAI_MEMORY",
                -11 => "EAI_SYSTEM",
                _ => "getaddrinfo",
            };
            return Answer::Failure(Reason::Invalid, format!("{symbol} ({code}): {error}"));
        }
    };
    Answer::Failure(reason, format!("{symbol} ({code}): {why}"))
}

/// The hosts file of this host.
async fn hosts(name: &str, workers: &Workers, deadline: Instant) -> Result<Answer, String> {
    let text = read(HOSTS_FILE, workers, deadline).await?;
    Ok(named(name, &text))
}

/// The hosts file that a service sees.
async fn hosts_of(
    name: &str,
    service: &str,
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Result<Answer, String> {
    let unit = units.iter().find(|unit| &*unit.name == service);
    let Some(unit) = unit.cloned() else {
        return Err(seen_by::none_runs(service));
    };
    let target = format!("{HOSTS_FILE} of {service}");
    let work = move || seen_by::read(&unit, HOSTS_FILE);
    let text = workers.run_one(&target, deadline, work).await;
    let text =
        text.unwrap_or_else(|| Err(format!("reading {HOSTS_FILE} as {service} took too long")))?;
    Ok(named(name, &text))
}

/// What a hosts file of this content says of the name.
fn named(name: &str, text: &[u8]) -> Answer {
    some(hosts_file::addresses(text, name)).unwrap_or_else(|| {
        Answer::Failure(
            Reason::NotFound,
            format!("no line of {HOSTS_FILE} names it"),
        )
    })
}

async fn dns(name: &str, workers: &Workers, deadline: Instant) -> Result<Answer, String> {
    // Read each time: it changes with the network.
    let text = read(RESOLV_CONF, workers, deadline).await?;
    let nodename = read(NODENAME, workers, deadline).await?;
    let settings = dns::Settings::parse(
        &String::from_utf8_lossy(&text),
        &String::from_utf8_lossy(&nodename),
    );
    Ok(dns::look_up(name, &settings, deadline).await)
}

/// A file's content, empty if there is no such file; or why it cannot be read.
async fn read(path: &'static str, workers: &Workers, deadline: Instant) -> Result<Vec<u8>, String> {
    let read = workers
        .run_one(path, deadline, move || fs::read(path))
        .await;
    match read {
        Some(Ok(content)) => Ok(content),
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Some(Err(error)) => Err(format!("reading {path}: {error}")),
        None => Err(format!("reading {path} took too long")),
    }
}

/// Whether cloud-init would leave the name in the hosts file.
async fn rewriting(
    name: &str,
    expected: &[IpAddr],
    workers: &Workers,
    deadline: Instant,
) -> Result<Persistence, String> {
    let (asked, addresses) = (name.to_owned(), expected.to_vec());
    let judge = move || cloud_init::judge(Path::new("/"), &asked, &addresses);
    let target = format!("cloud-init's configuration for {name}");
    let judged = workers.run_one(&target, deadline, judge).await;
    judged.unwrap_or_else(|| Err("reading cloud-init's configuration took too long".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::UsedBy;

    fn given(address: &str) -> Result<Answer, String> {
        Ok(Answer::Addresses(vec![address.parse().unwrap()]))
    }

    fn failed(reason: Reason) -> Result<Answer, String> {
        Ok(Answer::Failure(reason, "for a reason".to_owned()))
    }

    fn lasts(
        own: &Result<Answer, String>,
        by_service: Option<&Result<Answer, String>>,
        nss: &Result<Answer, String>,
        dns: &Result<Answer, String>,
    ) -> Result<Persistence, String> {
        let hostname = baseline::Hostname {
            name: "alias".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            resolved_as: by_service.map(|_| "a.service".to_owned()),
            used_by: UsedBy::default(),
        };
        let seen = Seen {
            own,
            by_service,
            nss,
            dns,
        };
        seen.persistence(&hostname, Err("cloud-init was asked".to_owned()))
    }

    #[test]
    fn cloud_init_matters_only_to_what_stands_in_the_hosts_own_file() {
        let (right, wrong) = (given("127.0.0.1"), given("10.0.0.1"));
        let none = failed(Reason::NotFound);
        let asked = Err("cloud-init was asked".to_owned());
        assert_eq!(lasts(&right, None, &right, &none), asked);
        let silent = failed(Reason::Timeout);
        assert_eq!(lasts(&right, Some(&right), &none, &silent), asked);
        let kept = |sentence: &str| Ok(Persistence::Kept(sentence.to_owned()));
        assert_eq!(
            lasts(&none, Some(&right), &none, &none),
            kept("it stands in the hosts file that a.service sees, which is not the host's own")
        );
        assert_eq!(
            lasts(&none, None, &right, &right),
            kept("it comes from DNS")
        );
        assert_eq!(
            lasts(&wrong, None, &right, &none),
            kept("it comes from a source of /etc/nsswitch.conf other than the hosts file")
        );
        let lost = Ok(Persistence::Lost(
            "/etc/hosts lacks it: add `127.0.0.1 alias`".to_owned(),
        ));
        assert_eq!(lasts(&none, None, &none, &none), lost);
        assert_eq!(lasts(&wrong, Some(&wrong), &wrong, &wrong), lost);
        // The services do not ask DNS then.
        assert_eq!(lasts(&none, None, &none, &right), lost);
    }

    #[test]
    fn what_cannot_be_told_is_not_called_lost() {
        let none = failed(Reason::NotFound);
        let unreadable = Err("reading /etc/hosts: denied".to_owned());
        assert_eq!(
            lasts(&unreadable, None, &none, &none),
            Err("reading /etc/hosts: denied".to_owned())
        );
        for untold in [
            failed(Reason::Timeout),
            failed(Reason::Temporary),
            failed(Reason::Refused),
            Err("for a reason".to_owned()),
        ] {
            for (nss, dns) in [(&none, &untold), (&untold, &none)] {
                assert_eq!(
                    lasts(&none, None, nss, dns).unwrap_err(),
                    "whether it comes from elsewhere cannot be told (for a reason); if it does \
                     not, /etc/hosts lacks it: add `127.0.0.1 alias`"
                );
            }
        }
    }

    #[test]
    fn getaddrinfos_codes_are_told_apart() {
        let error = io::Error::other("odd");
        let told = |code| match nss_failure(code, &error) {
            Answer::Failure(reason, why) => (reason, why),
            Answer::Addresses(_) => panic!(),
        };
        assert_eq!(
            [-2, -3, -4, -5].map(|code| told(code).0),
            [
                Reason::NotFound,
                Reason::Temporary,
                Reason::Refused,
                Reason::NoData
            ]
        );
        let sentence = "EAI_AGAIN (-3): temporary failure in name resolution";
        assert_eq!(told(-3).1, sentence);
        let invalid = |text: &str| (Reason::Invalid, text.to_owned());
        assert_eq!(told(-11), invalid("EAI_SYSTEM (-11): odd"));
        assert_eq!(told(-12), invalid("getaddrinfo (-12): odd"));
    }

    #[tokio::test]
    async fn a_service_without_a_process_is_unknown_not_without_the_name() {
        let name = baseline::Hostname {
            name: "localhost".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            resolved_as: Some("gone.service".to_owned()),
            used_by: UsedBy::default(),
        };
        let soon = Instant::now() + Duration::from_secs(30);
        let found = probe(&[name], &[], &Workers::default(), soon).await;
        let hosts = found.first().unwrap().lookups.get(1).unwrap();
        assert_eq!(hosts.resolver, Resolver::Hosts);
        let why = hosts.answer.as_ref().unwrap_err();
        assert!(why.starts_with("gone.service has no process"), "{why}");
    }
}
