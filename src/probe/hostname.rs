//! One name: what the services get for it, what the hosts file and DNS say, and whether a rebuild of
//! the host would keep it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Workers;
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
    /// Each resolver's answer, in the order of [`Resolver::ALL`].
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
    /// All of them, in the order of their series.
    pub const ALL: [Self; 3] = [Self::Nss, Self::Hosts, Self::Dns];

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

/// Looks the names up, all at once.
pub async fn probe(
    hostnames: &[baseline::Hostname],
    units: &[Arc<Unit>],
    workers: &Workers,
    deadline: Instant,
) -> Vec<Hostname> {
    let _ = (hostnames, units, workers, deadline);
    Vec::new()
}
