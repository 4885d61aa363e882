//! One Redis: resolve, connect, TLS, auth, ping and role, each timed, each failure named.

mod error;
mod info;
mod tls;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use redis::{Cmd, InfoDict, RedisResult, Value, cmd, parse_redis_value_async};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::write_path::own_file_system_at;
use super::{TARGET_TIMEOUT, Workers};
use crate::baseline::{RedisAddress, RedisEndpoint};

/// INFO takes some 7 kB. More than this is not read: it may be made to take long to parse.
const LONGEST_ANSWER: u64 = 128 * 1024;

/// No password file is larger.
const LONGEST_PASSWORD: u64 = 4096;

/// Where the level shared-tmp shows the host's files.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev"];

/// How long the canary's key lives, seconds: the server removes it, as nobody else does.
const CANARY_SECONDS: u64 = 60;

/// What one look saw of one Redis of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// The baseline's name for it, label `endpoint`.
    pub name: String,
    /// Where it was sought, for a person: `127.0.0.1:6379` or a socket's path; never a secret.
    pub address: String,
    /// The phases that were begun, in order, and how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// Whether it answered PING with PONG; `None` where that cannot be told, as its socket lies where
    /// the exporter does not see the host's files (`failure` says so).
    pub up: Option<bool>,
    /// What is wrong with it, if anything: what kept PONG away, else what keeps writes away.
    pub failure: Option<Failure>,
    /// Whether it accepts writes, in the database of the services; `None` where that cannot be
    /// told (the server is down, or does not permit INFO or the canary; `failure` says which). A
    /// server that answers PING by saying that it takes none is not up, but `false` here.
    pub writable: Option<bool>,
    /// True if a key was really written (`write_canary`): `writable` is then not only judged from
    /// INFO.
    pub canary: bool,
    /// When the server was started, seconds since the epoch, by its own clock; `None` where INFO
    /// does not tell. Does not change while the server runs.
    pub started: Option<u64>,
    /// How many clients are connected, with the exporter's own connection; `None` where INFO does
    /// not tell.
    pub connected_clients: Option<u64>,
}

/// A step on the way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its host name to addresses, by getaddrinfo(3); not for addresses and sockets.
    Resolve,
    /// The TCP or unix connection.
    Connect,
    /// The CA file and the TLS handshake; only for `rediss`.
    Tls,
    /// The password file and AUTH; only where the baseline has a user or a password.
    Auth,
    /// PING.
    Ping,
    /// INFO: role and memory; SELECT of the services' database, where it is not 0; and the canary,
    /// where it is on.
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
    /// No answer in time, or only that a script keeps it busy.
    Timeout,
    /// The TLS handshake failed, or could not begin for lack of a CA.
    Tls,
    /// No password sent where one is needed, a wrong one, or a user without permission.
    Auth,
    /// It is still reading its data from disk.
    Loading,
    /// It is a replica that takes no writes (or, without its master, no reads either), or has fewer
    /// replicas than it needs to take them.
    ReadOnly,
    /// It cannot save to disk and takes no writes (MISCONF).
    Misconf,
    /// It has as many clients as it accepts.
    MaxClients,
    /// It has used up its memory and evicts nothing.
    OutOfMemory,
    /// What it answered is not Redis, or not to the point, or it hung up.
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

/// Asks the servers, all at once, each within [`TARGET_TIMEOUT`].
pub async fn probe(
    endpoints: &[RedisEndpoint],
    workers: &Workers,
    deadline: Instant,
) -> Vec<Redis> {
    let deadline = deadline.min(Instant::now() + TARGET_TIMEOUT);
    let targets = endpoints.iter().map(|endpoint| Target {
        endpoint,
        address: shown(&endpoint.address),
        workers,
        deadline,
    });
    join_all(targets.map(Target::look)).await
}

/// The address for a person.
fn shown(address: &RedisAddress) -> String {
    match address {
        RedisAddress::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        RedisAddress::Tcp { host, port, .. } => format!("{host}:{port}"),
        RedisAddress::Unix(path) => path.display().to_string(),
    }
}

fn failure<T>(reason: Reason, sentence: String) -> Result<T, Failure> {
    Err(Failure { reason, sentence })
}

/// The phases so far, and how long each took.
type Phases = Vec<(Phase, Duration)>;

/// One server, and how long there is to ask it.
struct Target<'a> {
    endpoint: &'a RedisEndpoint,
    address: String,
    workers: &'a Workers,
    deadline: Instant,
}

impl Target<'_> {
    async fn look(self) -> Redis {
        let mut redis = Redis {
            name: self.endpoint.name.clone(),
            address: self.address.clone(),
            phases: Vec::new(),
            up: Some(false),
            failure: None,
            writable: None,
            canary: false,
            started: None,
            connected_clients: None,
        };
        let mut phases = Vec::new();
        redis.failure = self.ask_all(&mut phases, &mut redis).await.err();
        redis.phases = phases;
        redis
    }

    async fn ask_all(&self, phases: &mut Phases, redis: &mut Redis) -> Result<(), Failure> {
        let (host, port, tls) = match &self.endpoint.address {
            RedisAddress::Unix(path) => {
                let connect = self.connect_unix(path);
                let stream = match self.step(phases, Phase::Connect, connect).await {
                    Ok(stream) => stream,
                    Err(failure) => {
                        let hidden = self.hidden(path).await;
                        if hidden.is_some() {
                            redis.up = None;
                        }
                        return Err(hidden.unwrap_or(failure));
                    }
                };
                return self.talk(stream, phases, redis).await;
            }
            RedisAddress::Tcp { host, port, tls } => (host, *port, *tls),
        };
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let resolve = self.resolve(host, port);
                self.step(phases, Phase::Resolve, resolve).await?
            }
        };
        let connect = self.connect(&addresses);
        let stream = self.step(phases, Phase::Connect, connect).await?;
        if tls {
            let handshake = tls::handshake(self, host, stream);
            let stream = self.step(phases, Phase::Tls, handshake).await?;
            self.talk(stream, phases, redis).await
        } else {
            self.talk(stream, phases, redis).await
        }
    }

    /// Does the work of one phase within the deadline, and notes how long it took either way.
    async fn step<T>(
        &self,
        phases: &mut Phases,
        phase: Phase,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let result = timeout_at(self.deadline, work).await;
        phases.push((phase, begun.elapsed()));
        result.unwrap_or_else(|_| failure(Reason::Timeout, self.overdue(phase)))
    }

    /// What it means that a phase took too long.
    fn overdue(&self, phase: Phase) -> String {
        let address = &self.address;
        let blocked = "it is stopped, overloaded or blocked by a slow command, look at its log";
        match phase {
            Phase::Resolve => format!(
                "looking up the host of {address}: no answer in time: check the name servers in \
                 /etc/resolv.conf"
            ),
            Phase::Connect => format!(
                "connecting to {address}: no answer in time: check that the host is up and no \
                 firewall drops the packets"
            ),
            Phase::Tls => format!(
                "the TLS handshake with {address}: no answer in time: a port without TLS keeps \
                 silent like this, check whether `url` must begin with redis://"
            ),
            Phase::Auth => {
                format!("AUTH to {address}: connected, but no answer in time: {blocked}")
            }
            Phase::Ping => {
                format!("PING to {address}: connected, but no answer in time: {blocked}")
            }
            Phase::Role if self.endpoint.write_canary => format!(
                "INFO and the canary's SET to {address}: it answered PING, but not these in time: \
                 writes are paused (CLIENT PAUSE, a failover), or {blocked}"
            ),
            Phase::Role => {
                format!("INFO to {address}: it answered PING, but not this in time: {blocked}")
            }
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = (host.to_owned(), port);
        let look_up = move || name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let work = format!("resolve {host} for redis");
        match self.workers.run_one(&work, self.deadline, look_up).await {
            Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Some(looked_up) => {
                let why = match looked_up {
                    Ok(_) => "it has no address".to_owned(),
                    Err(error) => error.to_string(),
                };
                // The standard library puts before it what is said here already.
                let (_, why) = why.rsplit_once(": ").unwrap_or(("", &why));
                let sentence = format!(
                    "looking up the host of {}: {why}: give it an address in /etc/hosts or DNS",
                    self.address
                );
                failure(Reason::Resolve, sentence)
            }
            None => failure(Reason::Timeout, self.overdue(Phase::Resolve)),
        }
    }

    /// Connects to the first address that lets it, in the resolver's order. Each may take its share
    /// of the time that is left, so that one that keeps silent does not hide the next.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
        let mut first_error = None;
        for (tried, address) in addresses.iter().enumerate() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let until = Instant::now() + left / untried;
            let error = match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => io::Error::from(ErrorKind::TimedOut),
            };
            first_error.get_or_insert(error);
        }
        // The resolver puts first what it thinks can be reached.
        self.not_connected(&first_error.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
    }

    async fn connect_unix(&self, path: &Path) -> Result<UnixStream, Failure> {
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(stream),
            Err(error) => self.not_connected(&error),
        }
    }

    /// Why it says nothing of a server that there is no way to its socket; `None` if it does.
    async fn hidden(&self, path: &Path) -> Option<Failure> {
        let asked = path.to_owned();
        let look = move || own_file_system_at(&asked);
        let work = format!("mounts at {}", path.display());
        let looked = self.workers.run_one(&work, self.deadline, look).await;
        let why = match looked.unwrap_or_else(|| Err("no answer in time".to_owned())) {
            Ok(None) => return None,
            Ok(Some(place)) => {
                let remedy = if SHARED.iter().any(|shared| place.starts_with(shared)) {
                    "PrivateTmp= and PrivateDevices= (level shared-tmp)"
                } else {
                    "ProtectHome=, TemporaryFileSystem=, BindPaths= and the like"
                };
                format!(
                    "the exporter has files of its own at {}, not the host's: run it without {remedy}",
                    place.display()
                )
            }
            Err(why) => format!("whether the exporter sees the host's files there: {why}"),
        };
        Some(Failure {
            reason: Reason::Unreachable,
            sentence: format!("connecting to {}: {why}", self.address),
        })
    }

    fn not_connected<T>(&self, error: &io::Error) -> Result<T, Failure> {
        let address = &self.address;
        let (reason, why) = match error.kind() {
            ErrorKind::ConnectionRefused => (
                Reason::Refused,
                "nobody listens there: start redis, or correct `url`".to_owned(),
            ),
            ErrorKind::NotFound => (
                Reason::Refused,
                "there is no such socket: start redis, or correct `url`".to_owned(),
            ),
            ErrorKind::TimedOut => return failure(Reason::Timeout, self.overdue(Phase::Connect)),
            // Only a unix socket says so: its queue of new connections is full.
            ErrorKind::WouldBlock => (
                Reason::Timeout,
                "it takes no new connections: it is stopped or overloaded, look at its log"
                    .to_owned(),
            ),
            ErrorKind::PermissionDenied => (
                Reason::Unreachable,
                "permission denied: let the exporter's user write to the socket (`unixsocketperm`) \
                 or through the firewall"
                    .to_owned(),
            ),
            _ => (
                Reason::Unreachable,
                format!("{error}: check the address, the routes and the firewall"),
            ),
        };
        failure(reason, format!("connecting to {address}: {why}"))
    }

    /// What is said over the connection, whatever it is made of.
    async fn talk<S>(
        &self,
        mut stream: S,
        phases: &mut Phases,
        redis: &mut Redis,
    ) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.endpoint.user.is_some() || self.endpoint.password_file.is_some() {
            let log_in = self.log_in(&mut stream);
            self.step(phases, Phase::Auth, log_in).await?;
        }
        let ping = self.ping(&mut stream);
        let pong = self.step(phases, Phase::Ping, ping).await;
        if let Err(Failure { reason, .. }) = &pong {
            let refuses_writes = matches!(reason, Reason::Misconf | Reason::ReadOnly);
            redis.writable = refuses_writes.then_some(false);
        }
        pong?;
        redis.up = Some(true);
        let role = self.role(&mut stream, redis);
        self.step(phases, Phase::Role, role).await
    }

    async fn log_in<S>(&self, stream: &mut S) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let password = match &self.endpoint.password_file {
            Some(file) => self.password(file.clone()).await?,
            // As clients do for a user that needs no password.
            None => Vec::new(),
        };
        let mut command = cmd("AUTH");
        if let Some(user) = &self.endpoint.user {
            command.arg(user);
        }
        command.arg(password);
        self.ask_for_ok(stream, "AUTH", &command).await
    }

    /// Read at each look, so that a new password is used at once.
    async fn password(&self, file: PathBuf) -> Result<Vec<u8>, Failure> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let work = format!("password of redis in {}", file.display());
        let read = move || read_password(&file, credentials.as_deref());
        let why = match self.workers.run_one(&work, self.deadline, read).await {
            Some(Ok(password)) => return Ok(password),
            Some(Err(why)) => why,
            None => "no answer in time: check its file system".to_owned(),
        };
        // Not its path: the password itself may stand in its place by mistake.
        let address = &self.address;
        let sentence = format!("reading `password_file` to log in to {address}: {why}");
        failure(Reason::Auth, sentence)
    }

    async fn ping<S>(&self, stream: &mut S) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.ask(stream, "PING", &cmd("PING")).await? {
            Value::SimpleString(answer) if answer == "PONG" => Ok(()),
            _ => self.beside_the_point("PING"),
        }
    }

    /// What it says of itself, and whether the services can write.
    async fn role<S>(&self, stream: &mut S, redis: &mut Redis) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // All its usual sections at once: servers before Redis 7 take one name or none.
        let (writable, doubt) = match self.ask(stream, "INFO", &cmd("INFO")).await {
            Ok(Value::BulkString(text)) => {
                let info = InfoDict::new(&String::from_utf8_lossy(&text));
                redis.started = info::started(&info);
                redis.connected_clients = info::connected_clients(&info);
                info::writable(&info, &self.address)
            }
            Ok(_) => return self.beside_the_point("INFO"),
            // What it does not permit here, the canary may still tell.
            Err(failure) if failure.reason == Reason::Auth => (None, Some(failure)),
            Err(failure) => return Err(failure),
        };
        let canary = self.endpoint.write_canary;
        // Where no answer comes now, it stays so: the services would not get one either.
        redis.writable = Some(false);
        if let Err(failure) = self.try_writing(stream, canary).await {
            if failure.reason == Reason::Auth {
                redis.writable = None;
            }
            return Err(failure);
        }
        if canary {
            redis.writable = Some(true);
            redis.canary = true;
            return Ok(());
        }
        redis.writable = writable;
        doubt.map_or(Ok(()), Err)
    }

    /// Goes to the services' database and, with the canary, writes a key there.
    async fn try_writing<S>(&self, stream: &mut S, canary: bool) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let database = self.endpoint.database;
        if database != 0 {
            let select = cmd("SELECT").arg(database).take();
            self.ask_for_ok(stream, "SELECT", &select).await?;
        }
        if !canary {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // One command: a key that could stay for ever never exists.
        let set = cmd("SET")
            .arg(format!("baseline-exporter:canary:{}", self.endpoint.name))
            .arg(now.unwrap_or_default().as_secs())
            .arg("EX")
            .arg(CANARY_SECONDS)
            .take();
        self.ask_for_ok(stream, "SET", &set).await
    }

    async fn ask_for_ok<S>(&self, stream: &mut S, name: &str, command: &Cmd) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.ask(stream, name, command).await? {
            Value::Okay => Ok(()),
            _ => self.beside_the_point(name),
        }
    }

    /// One command and its answer; an error of the server is a failure.
    async fn ask<S>(&self, stream: &mut S, name: &str, command: &Cmd) -> Result<Value, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        exchange(stream, command)
            .await
            .map_err(|error| error::failure(&error, name, self.endpoint, &self.address))
    }

    fn beside_the_point<T>(&self, command: &str) -> Result<T, Failure> {
        let address = &self.address;
        let sentence = format!(
            "{command} to {address}: the answer is not one that redis gives: check what listens \
             there"
        );
        failure(Reason::Protocol, sentence)
    }
}

async fn exchange<S>(stream: &mut S, command: &Cmd) -> RedisResult<Value>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = async {
        stream.write_all(&command.get_packed_command()).await?;
        stream.flush().await
    };
    let sent = sent.await;
    // A server that is full or protected says so unasked and hangs up. Its words count for more
    // than that it could not be asked any more.
    let mut answer = stream.take(LONGEST_ANSWER);
    let answer = parse_redis_value_async(&mut Default::default(), &mut answer).await;
    match (sent, answer) {
        (Err(error), Err(_)) => Err(error.into()),
        (_, answer) => answer?.extract_error(),
    }
}

/// The password in the file: all of it but one line end. A bare name is a systemd credential's.
/// The error never shows what is in it.
fn read_password(file: &Path, credentials: Option<&Path>) -> Result<Vec<u8>, String> {
    let path = match credentials {
        _ if file.is_absolute() => file.to_path_buf(),
        Some(directory) => directory.join(file),
        None => {
            let why = "it is the name of a credential, but $CREDENTIALS_DIRECTORY is not set: run \
                       the exporter as a service with LoadCredential=, or write an absolute path";
            return Err(why.to_owned());
        }
    };
    let mut password = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_end(&mut password))
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "no such file: create it, or correct the path".to_owned(),
            ErrorKind::PermissionDenied => {
                "permission denied: let the exporter's user read it".to_owned()
            }
            ErrorKind::IsADirectory => "it is a directory: name the file in it".to_owned(),
            _ => format!("{error}"),
        })?;
    if password.len() as u64 > LONGEST_PASSWORD {
        return Err(
            "it is larger than 4 KiB, which no password is: name the right file".to_owned(),
        );
    }
    if password.last() == Some(&b'\n') {
        password.pop();
    }
    if password.is_empty() {
        return Err("it is empty: write the password into it".to_owned());
    }
    Ok(password)
}
