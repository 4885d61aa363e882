//! One name: what the services get for it, what the hosts file and DNS say, and whether a rebuild of
//! the host would keep it.

mod cloud_init;
mod dns;
mod hosts_file;

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

/// SOCK_STREAM: one entry for each address, not one for each kind of socket.
const STREAM: i32 = 1;

/// Looks the names up, all at once. `units` are the watched ones, through whose processes the hosts
/// file is read where the baseline says so.
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
    let process = resolved_as
        .as_deref()
        .map(|service| main_process(service, units));
    let (nss, hosts, dns) = tokio::join!(
        timed(nss(name, workers, deadline)),
        timed(hosts(name, process, workers, deadline)),
        timed(dns(name, workers, deadline)),
    );
    let found = |answer: &Result<Answer, String>| match answer {
        Ok(Answer::Addresses(found)) => expected.iter().all(|address| found.contains(address)),
        _ => false,
    };
    let persistence = if found(&hosts.0) {
        let (asked, addresses) = (name.clone(), expected.clone());
        let judge = move || cloud_init::judge(Path::new("/"), &asked, &addresses);
        let target = format!("cloud-init's configuration for {name}");
        let judged = workers.run_one(&target, deadline, judge).await;
        judged.unwrap_or_else(|| Err("reading cloud-init's configuration took too long".to_owned()))
    } else if let Err(why) = &hosts.0 {
        Err(why.clone())
    } else if found(&dns.0) {
        Ok(Persistence::Kept("DNS gives it".to_owned()))
    } else {
        let lines: Vec<_> = expected
            .iter()
            .map(|address| format!("`{address} {name}`"))
            .collect();
        Ok(Persistence::Lost(format!(
            "{HOSTS_FILE} lacks it: add {}",
            lines.join(" and ")
        )))
    };
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
            lookup(Resolver::Hosts, hosts),
            lookup(Resolver::Dns, dns),
        ],
        persistence,
    }
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
            Err(error) => nss_failure(error.error_num()),
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

/// What glibc's codes mean (netdb.h).
fn nss_failure(code: i32) -> Answer {
    let (reason, symbol, why) = match code {
        -2 => (Reason::NotFound, "EAI_NONAME", "no such name"),
        -3 => (
            Reason::Temporary,
            "EAI_AGAIN",
            "temporary failure in name resolution",
        ),
        -4 => (Reason::Refused, "EAI_FAIL", "a server refused for good"),
        -5 => (Reason::NoData, "EAI_NODATA", "the name has no address"),
        _ => (Reason::Invalid, "getaddrinfo", "failed"),
    };
    Answer::Failure(reason, format!("{symbol} ({code}): {why}"))
}

/// The hosts file of this host, or of the process of a service.
async fn hosts(
    name: &str,
    process: Option<Result<u32, String>>,
    workers: &Workers,
    deadline: Instant,
) -> Result<Answer, String> {
    let path = match process {
        None => HOSTS_FILE.to_owned(),
        Some(process) => format!("/proc/{}/root{HOSTS_FILE}", process?),
    };
    let text = match read(&path, workers, deadline).await? {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && path != HOSTS_FILE => {
            return Err(format!(
                "reading {path}: {error}; run the exporter as that service's user, or grant it \
                 CAP_SYS_PTRACE"
            ));
        }
        Err(error) => return Err(format!("reading {path}: {error}")),
    };
    Ok(some(hosts_file::addresses(&text, name)).unwrap_or_else(|| {
        Answer::Failure(
            Reason::NotFound,
            format!("no line of {HOSTS_FILE} names it"),
        )
    }))
}

async fn dns(name: &str, workers: &Workers, deadline: Instant) -> Result<Answer, String> {
    let text = match read(RESOLV_CONF, workers, deadline).await? {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("reading {RESOLV_CONF}: {error}")),
    };
    Ok(dns::look_up(name, &String::from_utf8_lossy(&text), deadline).await)
}

/// A file's content, or why it cannot be read; the outer error is that it took too long.
async fn read(
    path: &str,
    workers: &Workers,
    deadline: Instant,
) -> Result<io::Result<Vec<u8>>, String> {
    let file = path.to_owned();
    let read = workers
        .run_one(path, deadline, move || fs::read(file))
        .await;
    read.ok_or_else(|| format!("reading {path} took too long"))
}

/// The main process of a running service.
fn main_process(service: &str, units: &[Arc<Unit>]) -> Result<u32, String> {
    let unit = units.iter().find(|unit| &*unit.name == service);
    let service_of = unit.and_then(|unit| unit.service.as_ref());
    match service_of.map(|service| service.main_pid) {
        Some(pid) if pid != 0 => Ok(pid),
        _ => Err(format!(
            "{service} has no process whose view of the host could be taken"
        )),
    }
}
