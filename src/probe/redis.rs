//! One Redis: resolve, connect, TLS, auth, ping and role, each timed, each failure named.

use std::time::Duration;

use tokio::time::Instant;

use super::Workers;
use crate::baseline::RedisEndpoint;

/// What one look saw of one Redis of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// The baseline's name for it, label `endpoint`.
    pub name: String,
    /// Where it was sought, for a person: `127.0.0.1:6379` or a socket's path; never a secret.
    pub address: String,
    /// The phases that were begun, in order, and how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// True if it answered PING with PONG.
    pub up: bool,
    /// What is wrong with it, if anything: what kept PONG away, else what keeps writes away.
    pub failure: Option<Failure>,
    /// Whether it accepts writes; `None` where that cannot be told (INFO is not permitted, or
    /// the server is down).
    pub writable: Option<bool>,
    /// Whether a key was really written (`write_canary`), and not only judged from INFO.
    pub canary: bool,
    /// When the server was started, seconds since the epoch, by its own clock; `None` where INFO
    /// does not tell. Does not change while the server runs.
    pub started: Option<u64>,
}

/// A step on the way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its host name to addresses, by getaddrinfo(3); not for addresses and sockets.
    Resolve,
    /// The TCP or unix connection.
    Connect,
    /// The TLS handshake; only for `rediss`.
    Tls,
    /// AUTH; only where a password is known.
    Auth,
    /// PING.
    Ping,
    /// INFO: role, persistence and memory; and the canary, where it is on.
    Role,
}

impl Phase {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Ping => "ping",
            Self::Role => "role",
        }
    }
}

/// What is wrong, and where it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The word for it.
    pub reason: Reason,
    /// What happened, for a person: what was tried, why it failed, what to do. Never a secret.
    pub sentence: String,
}

/// The closed set of `baseline_redis_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its host name has no address.
    Resolve,
    /// Nobody listens there (or the socket does not exist).
    Refused,
    /// There is no way there, or no permission to connect.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// No password sent where one is needed, a wrong one, or a user without permission.
    Auth,
    /// It is still reading its data from disk.
    Loading,
    /// It is a replica that takes no writes.
    ReadOnly,
    /// It cannot save to disk and takes no writes (MISCONF).
    Misconf,
    /// It has as many clients as it accepts.
    MaxClients,
    /// It has used up its memory and evicts nothing.
    OutOfMemory,
    /// What it answered is not Redis, or it hung up.
    Protocol,
}

impl Reason {
    /// All of them, in the order of their series.
    pub const ALL: [Self; 12] = [
        Self::Resolve,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::Auth,
        Self::Loading,
        Self::ReadOnly,
        Self::Misconf,
        Self::MaxClients,
        Self::OutOfMemory,
        Self::Protocol,
    ];

    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::Misconf => "misconf",
            Self::MaxClients => "max_clients",
            Self::OutOfMemory => "out_of_memory",
            Self::Protocol => "protocol",
        }
    }
}

/// Asks the servers, all at once.
pub async fn probe(
    endpoints: &[RedisEndpoint],
    workers: &Workers,
    deadline: Instant,
) -> Vec<Redis> {
    let _ = (endpoints, workers, deadline);
    Vec::new()
}
