//! Real servers in every state that has a reason, and listeners that are no Redis at all.
//!
//! Where redis-server or openssl is not installed, the tests that need it say so and pass, except
//! under CI=true, where they fail.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::time::sleep;

use super::*;
use crate::baseline::UsedBy;

/// Such as nothing else that is shown would hold.
const PASSWORD: &str = "Kolibri-Zwiebel-4711";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Long enough for an answer, short enough to wait for one that never comes.
fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(500)
}

fn endpoint(address: RedisAddress) -> RedisEndpoint {
    RedisEndpoint {
        name: "main".to_owned(),
        address,
        user: None,
        database: 0,
        password_file: None,
        ca_file: None,
        write_canary: false,
        used_by: UsedBy::default(),
    }
}

fn tcp(host: &str, port: u16, tls: bool) -> RedisEndpoint {
    endpoint(RedisAddress::Tcp {
        host: host.to_owned(),
        port,
        tls,
    })
}

async fn look_until(endpoint: &RedisEndpoint, deadline: Instant) -> Redis {
    let endpoints = [endpoint.clone()];
    let mut looks = probe(&endpoints, &Workers::default(), deadline).await;
    let redis = looks.pop().unwrap();
    assert!(looks.is_empty());
    let shown = format!("{redis:?}");
    assert!(!shown.contains(PASSWORD), "a password is shown in {shown}");
    if let Some(Failure { sentence, .. }) = &redis.failure {
        assert!(
            sentence.contains(&redis.address) && !sentence.contains('\n'),
            "{sentence}"
        );
    }
    redis
}

async fn look(endpoint: &RedisEndpoint) -> Redis {
    look_until(endpoint, soon()).await
}

/// Up, writable and the reason of the failure: what rules look at.
fn state(redis: &Redis) -> (bool, Option<bool>, Option<Reason>) {
    let reason = redis.failure.as_ref().map(|failure| failure.reason);
    (redis.up.unwrap(), redis.writable, reason)
}

fn phases(redis: &Redis) -> Vec<&'static str> {
    redis.phases.iter().map(|(phase, _)| phase.word()).collect()
}

fn sentence(redis: &Redis) -> &str {
    &redis.failure.as_ref().unwrap().sentence
}

const FINE: (bool, Option<bool>, Option<Reason>) = (true, Some(true), None);

/// What becomes of a test that needs a program which is not there.
fn skip<T>(program: &str, error: &io::Error) -> Option<T> {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "CI has to start {program}, but {error}"
    );
    eprintln!("SKIPPED: {program} could not be started: {error}");
    None
}

/// A redis-server of its own, in a directory that vanishes with it.
struct Server {
    child: Child,
    directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    /// Starts one with these lines in its configuration, and waits until it serves. `None` where
    /// none is installed.
    fn start(config: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, config, "eady to accept connections")
    }

    /// The same in a directory with data, and until it logs `line`.
    fn start_in(directory: TempDir, config: &str, line: &str) -> Option<Self> {
        let path = directory.path();
        let data = path.join("data");
        fs::create_dir_all(&data).unwrap();
        let config = format!(
            "port 0\nunixsocket {}\ndir {}\nsave \"\"\nenable-debug-command yes\n{config}\n",
            path.join("socket").display(),
            data.display(),
        );
        fs::write(path.join("redis.conf"), config).unwrap();
        let spawned = Command::new("redis-server")
            .arg(path.join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return skip("redis-server", &error),
        };
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let server = Self { child, directory };
        let mut read = String::new();
        while !read.contains(line) {
            assert!(log.read_line(&mut read).unwrap() > 0, "it ended:\n{read}");
        }
        // Whoever closed the pipe would end the server with its next line.
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Some(server)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn endpoint(&self) -> RedisEndpoint {
        endpoint(RedisAddress::Unix(self.path("socket")))
    }

    /// The endpoint with a password, in a file of that name.
    fn with_password(&self, file: &str, password: &str) -> RedisEndpoint {
        fs::write(self.path(file), password).unwrap();
        RedisEndpoint {
            password_file: Some(self.path(file)),
            ..self.endpoint()
        }
    }

    fn with_canary(&self) -> RedisEndpoint {
        RedisEndpoint {
            write_canary: true,
            ..self.endpoint()
        }
    }

    /// One command, its words parted by spaces, on a connection of its own.
    async fn run(&self, command: &str) -> RedisResult<Value> {
        let mut stream = UnixStream::connect(self.path("socket")).await.unwrap();
        let mut words = command.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        exchange(&mut stream, &command).await
    }

    async fn set(&self, setting: &str) {
        let answer = self.run(&format!("CONFIG SET {setting}")).await;
        assert_eq!(answer.unwrap(), Value::Okay, "{setting}");
    }

    async fn text(&self, command: &str) -> String {
        redis::from_redis_value(self.run(command).await.unwrap()).unwrap()
    }

    async fn wait_for_info(&self, line: &str) {
        while !self.text("INFO").await.contains(line) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_healthy_server_is_up_writable_and_started_once() {
    let port = free_port();
    let Some(server) = Server::start(&format!("port {port}\nbind 127.0.0.1")) else {
        return;
    };
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), FINE);
    assert!(!redis.canary);
    assert_eq!(phases(&redis), ["connect", "ping", "role"]);
    assert_eq!(redis.address, server.path("socket").display().to_string());

    let by_address = look(&tcp("127.0.0.1", port, false)).await;
    assert_eq!(state(&by_address), FINE);
    assert_eq!(by_address.address, format!("127.0.0.1:{port}"));
    assert_eq!(phases(&by_address), ["connect", "ping", "role"]);
    // Also where the name has an address on which nobody listens.
    let by_name = look(&tcp("localhost", port, false)).await;
    assert_eq!(state(&by_name), FINE);
    assert_eq!(phases(&by_name), ["resolve", "connect", "ping", "role"]);

    let info = InfoDict::new(&server.text("INFO").await);
    let uptime: u64 = info.get("uptime_in_seconds").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let started = redis.started.unwrap();
    assert!(started.abs_diff(now.as_secs() - uptime) <= 2, "{started}");
    server.run("DEBUG SLEEP 1.1").await.unwrap();
    assert_eq!(look(&server.endpoint()).await.started, Some(started));
}

#[tokio::test]
async fn the_connected_clients_are_counted() {
    let Some(server) = Server::start("") else {
        return;
    };
    let counted = async || look(&server.endpoint()).await.connected_clients;
    assert_eq!(counted().await, Some(1), "the one that asks");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = UnixStream::connect(server.path("socket")).await.unwrap();
        exchange(&mut client, &cmd("PING")).await.unwrap();
        clients.push(client);
    }
    assert_eq!(counted().await, Some(4));
    drop(clients);
    server.wait_for_info("connected_clients:1\r\n").await;
    assert_eq!(counted().await, Some(1));
}

#[tokio::test]
async fn the_canary_is_written_in_the_services_database_and_expires() {
    let Some(server) = Server::start("") else {
        return;
    };
    let third = RedisEndpoint {
        database: 3,
        ..server.with_canary()
    };
    let redis = look(&third).await;
    assert_eq!((state(&redis), redis.canary), (FINE, true));
    let keyspace = server.text("INFO keyspace").await;
    assert!(
        keyspace.contains("db3:keys=1,expires=1") && !keyspace.contains("db0"),
        "{keyspace}"
    );
    let name = "baseline-exporter:canary:main";
    let keys = server
        .run("SWAPDB 0 3")
        .await
        .and(server.run("KEYS *").await);
    assert_eq!(
        keys.unwrap(),
        Value::Array(vec![Value::BulkString(name.into())])
    );
    let Value::Int(left) = server.run(&format!("TTL {name}")).await.unwrap() else {
        panic!("no TTL");
    };
    assert!((1..=60).contains(&left), "{left}");

    // It counts also without the canary: the services could not use it.
    let absent = RedisEndpoint {
        database: 99,
        ..server.endpoint()
    };
    let redis = look(&absent).await;
    assert_eq!(state(&redis), (true, Some(false), Some(Reason::Protocol)));
    assert!(redis.started.is_some());
    assert!(sentence(&redis).contains("it has no database 99"));
}

#[tokio::test]
async fn a_password_is_needed_and_read_anew_each_time() {
    let Some(server) = Server::start(&format!("requirepass {PASSWORD}")) else {
        return;
    };
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
    assert_eq!(phases(&redis), ["connect", "ping"]);
    assert!(sentence(&redis).contains("it asks for a password"));

    let wrong = server.with_password("password", "Kolibri-Zwiebel-4712");
    let redis = look(&wrong).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
    assert_eq!(phases(&redis), ["connect", "auth"]);
    assert!(sentence(&redis).contains("does not accept this user and password"));
    assert!(!sentence(&redis).contains("4712"));

    for text in [PASSWORD.to_owned(), format!("{PASSWORD}\n")] {
        fs::write(server.path("password"), text).unwrap();
        let redis = look(&wrong).await;
        assert_eq!(state(&redis), FINE);
        assert_eq!(phases(&redis), ["connect", "auth", "ping", "role"]);
    }
    let as_default = RedisEndpoint {
        user: Some("default".to_owned()),
        ..wrong.clone()
    };
    assert_eq!(state(&look(&as_default).await), FINE);

    // Two that share a file do not stand in each other's way.
    let both = [
        wrong,
        RedisEndpoint {
            name: "other".to_owned(),
            ..as_default
        },
    ];
    for redis in probe(&both, &Workers::default(), soon()).await {
        assert_eq!(state(&redis), FINE);
    }
}

#[tokio::test]
async fn a_password_where_none_is_set_is_refused_as_it_is_to_the_services() {
    let Some(server) = Server::start("user nobody on nopass +@all ~*") else {
        return;
    };
    let redis = look(&server.with_password("password", PASSWORD)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
    assert!(sentence(&redis).contains("it has no password set"));
    let nobody = RedisEndpoint {
        user: Some("nobody".to_owned()),
        ..server.endpoint()
    };
    assert_eq!(state(&look(&nobody).await), FINE);

    // A server without AUTH repeats what it was sent.
    let Some(server) = Server::start("rename-command AUTH \"\"") else {
        return;
    };
    let redis = look(&server.with_password("password", PASSWORD)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
}

#[tokio::test]
async fn a_user_without_a_permission_is_told_which() {
    let users = [
        ("deaf", "+info"),
        ("shy", "+ping"),
        ("reader", "+ping +info"),
        ("writer", "+ping +set ~baseline-exporter:canary:*"),
        ("stuck", "+ping +info +set ~baseline-exporter:canary:*"),
    ];
    let users = users.map(|(user, rules)| format!("user {user} on >{PASSWORD} -@all {rules}"));
    let Some(server) = Server::start(&users.join("\n")) else {
        return;
    };
    let endpoint = server.with_password("password", PASSWORD);
    let user = async |user: &str, database, write_canary| {
        let endpoint = RedisEndpoint {
            user: Some(user.to_owned()),
            database,
            write_canary,
            ..endpoint.clone()
        };
        look(&endpoint).await
    };

    let deaf = user("deaf", 0, false).await;
    assert_eq!(state(&deaf), (false, None, Some(Reason::Auth)));
    assert!(sentence(&deaf).contains("ACL SETUSER deaf +ping"));
    let shy = user("shy", 0, false).await;
    assert_eq!(state(&shy), (true, None, Some(Reason::Auth)));
    assert!(sentence(&shy).contains("ACL SETUSER shy +info"));
    assert_eq!((shy.started, shy.connected_clients), (None, None));
    assert_eq!(state(&user("reader", 0, false).await), FINE);
    let reader = user("reader", 0, true).await;
    assert_eq!(state(&reader), (true, None, Some(Reason::Auth)));
    assert!(
        sentence(&reader).contains("ACL SETUSER reader +set ~baseline-exporter:canary:*"),
        "{reader:?}"
    );
    let writer = user("writer", 0, true).await;
    assert_eq!((state(&writer), writer.canary), (FINE, true));
    let stuck = user("stuck", 1, true).await;
    assert_eq!(state(&stuck), (true, None, Some(Reason::Auth)));
    assert!(sentence(&stuck).contains("ACL SETUSER stuck +select"));
}

#[tokio::test]
async fn a_replica_takes_no_writes_unless_it_is_told_to() {
    let config = format!("replicaof 127.0.0.1 {}", free_port());
    let Some(server) = Server::start(&config) else {
        return;
    };
    let replica = (true, Some(false), Some(Reason::ReadOnly));
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), replica);
    assert!(
        sentence(&redis).contains("it is a replica of 127.0.0.1:")
            && sentence(&redis).contains("which it cannot reach"),
        "{redis:?}"
    );
    let redis = look(&server.with_canary()).await;
    assert_eq!((state(&redis), redis.canary), (replica, false));

    server.set("replica-serve-stale-data no").await;
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), (false, Some(false), Some(Reason::ReadOnly)));
    assert!(sentence(&redis).contains("replica-serve-stale-data"));

    server.set("replica-serve-stale-data yes").await;
    server.set("replica-read-only no").await;
    assert_eq!(state(&look(&server.endpoint()).await), FINE);
    assert_eq!(state(&look(&server.with_canary()).await), FINE);
}

#[tokio::test]
async fn a_master_without_the_replicas_it_needs_takes_no_writes() {
    let Some(server) = Server::start("min-replicas-to-write 1") else {
        return;
    };
    let refuses = (true, Some(false), Some(Reason::ReadOnly));
    for endpoint in [server.endpoint(), server.with_canary()] {
        let redis = look(&endpoint).await;
        assert_eq!(state(&redis), refuses);
        assert!(sentence(&redis).contains("min-replicas-to-write"));
    }
}

#[tokio::test]
async fn full_memory_keeps_writes_away_only_where_nothing_is_evicted() {
    let Some(server) = Server::start("") else {
        return;
    };
    let value = "x".repeat(4 * 1024 * 1024);
    server.run(&format!("SET large {value}")).await.unwrap();
    server.set("maxmemory 2mb").await;
    // The second policy evicts keys that expire, but there are none.
    for policy in ["noeviction", "volatile-lru"] {
        server.set(&format!("maxmemory-policy {policy}")).await;
        for endpoint in [server.endpoint(), server.with_canary()] {
            let redis = look(&endpoint).await;
            assert_eq!(
                state(&redis),
                (true, Some(false), Some(Reason::OutOfMemory))
            );
        }
    }
    server.set("maxmemory 100mb").await;
    assert_eq!(state(&look(&server.endpoint()).await), FINE);
    server.set("maxmemory-policy allkeys-lru").await;
    server.set("maxmemory 2mb").await;
    assert_eq!(state(&look(&server.with_canary()).await), FINE);
}

#[tokio::test]
async fn a_server_that_could_not_save_says_so_to_ping() {
    let Some(server) = Server::start("save 3600 1000000") else {
        return;
    };
    server.run("SET key value").await.unwrap();
    fs::remove_dir_all(server.path("data")).unwrap();
    server.run("BGSAVE").await.unwrap();
    server.wait_for_info("rdb_last_bgsave_status:err").await;
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), (false, Some(false), Some(Reason::Misconf)));
    assert_eq!(phases(&redis), ["connect", "ping"]);

    // The last save is as bad as before, but writes are taken: the answer to PING tells.
    server.set("stop-writes-on-bgsave-error no").await;
    assert_eq!(state(&look(&server.endpoint()).await), FINE);
    assert_eq!(state(&look(&server.with_canary()).await), FINE);
}

#[tokio::test]
async fn a_server_that_cannot_write_its_append_only_file_says_so_to_ping() {
    let directory = tempfile::tempdir().unwrap();
    let append_only = directory.path().join("data/appendonlydir");
    fs::create_dir_all(&append_only).unwrap();
    let log = append_only.join("appendonly.aof.1.incr.aof");
    std::os::unix::fs::symlink("/dev/full", log).unwrap();
    let ready = "eady to accept connections";
    let Some(server) = Server::start_in(directory, "appendonly yes", ready) else {
        return;
    };
    server.run("SET key value").await.unwrap();
    server.wait_for_info("aof_last_write_status:err").await;
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), (false, Some(false), Some(Reason::Misconf)));
}

#[tokio::test]
async fn a_full_server_says_so_and_is_not_called_broken() {
    let port = free_port();
    let config = format!("maxclients 1\nport {port}\nbind 127.0.0.1");
    let Some(server) = Server::start(&config) else {
        return;
    };
    let mut first = UnixStream::connect(server.path("socket")).await.unwrap();
    exchange(&mut first, &cmd("PING")).await.unwrap();
    for endpoint in [server.endpoint(), tcp("127.0.0.1", port, false)] {
        for _ in 0..20 {
            let redis = look(&endpoint).await;
            assert_eq!(
                state(&redis),
                (false, None, Some(Reason::MaxClients)),
                "{redis:?}"
            );
        }
    }
    // The exporter leaves no connection behind that would fill it.
    exchange(&mut first, cmd("CONFIG").arg(&["SET", "maxclients", "3"]))
        .await
        .unwrap();
    for _ in 0..100 {
        let redis = look(&server.endpoint()).await;
        assert!(
            matches!(state(&redis), FINE | (_, _, Some(Reason::MaxClients))),
            "{redis:?}"
        );
    }
    server.wait_for_info("connected_clients:2\r\n").await;
}

#[tokio::test]
async fn a_server_that_reads_its_data_is_loading() {
    let Some(server) = Server::start("") else {
        return;
    };
    server.run("DEBUG POPULATE 10000").await.unwrap();
    server.run("SAVE").await.unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("data")).unwrap();
    let dump = "data/dump.rdb";
    fs::copy(server.path(dump), data.path().join(dump)).unwrap();

    // Some 50 s for all, with a look at its clients each 0.2 s.
    let slow = "key-load-delay 5000\nloading-process-events-interval-bytes 1024";
    let server = Server::start_in(data, slow, "Loading RDB").unwrap();
    let redis = look(&server.endpoint()).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Loading)));
}

#[tokio::test]
async fn paused_writes_are_seen_by_the_canary_alone() {
    let Some(server) = Server::start("") else {
        return;
    };
    server.run("CLIENT PAUSE 60000 WRITE").await.unwrap();
    assert_eq!(state(&look(&server.endpoint()).await), FINE);
    let redis = look_until(&server.with_canary(), shortly()).await;
    assert_eq!(state(&redis), (true, Some(false), Some(Reason::Timeout)));
    assert_eq!(phases(&redis), ["connect", "ping", "role"]);
    assert!(redis.started.is_some() && !redis.canary);
    assert!(sentence(&redis).contains("CLIENT PAUSE"));
}

#[tokio::test]
async fn a_script_that_does_not_end_keeps_it_busy() {
    let Some(server) = Server::start("busy-reply-threshold 1") else {
        return;
    };
    let mut stream = UnixStream::connect(server.path("socket")).await.unwrap();
    let script = cmd("EVAL").arg("while true do end").arg(0).take();
    stream
        .write_all(&script.get_packed_command())
        .await
        .unwrap();
    // Until the script runs, it answers as usual.
    let redis = loop {
        let redis = look(&server.endpoint()).await;
        if redis.failure.is_some() {
            break redis;
        }
    };
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
    assert!(sentence(&redis).contains("SCRIPT KILL"), "{redis:?}");
}

/// Runs openssl in a directory; `None` where it is not installed.
fn openssl(directory: &Path, arguments: &str) -> Option<()> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return skip("openssl", &error),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}:\n{said}");
    Some(())
}

/// Two CAs, and the first one's certificates for one key: good, expired and for another host.
fn certificates(directory: &Path) -> Option<()> {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ca", "other-ca"] {
        openssl(
            directory,
            &format!("req -x509 {new} -keyout {ca}.key -out {ca}.pem -subj /CN={ca}"),
        )?;
    }
    openssl(
        directory,
        &format!("req {new} -keyout key.pem -out request.pem -subj /CN=redis"),
    )?;
    for (name, days, hosts) in [
        ("good", 2, "IP:127.0.0.1,DNS:localhost"),
        ("expired", -1, "IP:127.0.0.1"),
        ("elsewhere", 2, "DNS:redis.example"),
    ] {
        let extensions = format!("subjectAltName={hosts}\n");
        fs::write(directory.join("extensions"), extensions).unwrap();
        openssl(
            directory,
            &format!(
                "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
                 -extfile extensions -out {name}.pem"
            ),
        )?;
    }
    Some(())
}

#[tokio::test]
async fn tls_is_spoken_and_what_is_wrong_with_a_certificate_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    if certificates(directory.path()).is_none() {
        return;
    }
    let port = free_port();
    let config = format!(
        "tls-port {port}\nbind 127.0.0.1\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
         tls-ca-cert-file {}\nrequirepass {PASSWORD}",
        file("good.pem").display(),
        file("key.pem").display(),
        file("ca.pem").display(),
    );
    let Some(server) = Server::start(&config) else {
        return;
    };
    let with_password = server.with_password("password", PASSWORD);
    let by = |host: &str, ca: &str| RedisEndpoint {
        ca_file: Some(file(ca)),
        password_file: with_password.password_file.clone(),
        write_canary: true,
        ..tcp(host, port, true)
    };
    let good = look(&by("127.0.0.1", "ca.pem")).await;
    assert_eq!((state(&good), good.canary), (FINE, true), "{good:?}");
    assert_eq!(phases(&good), ["connect", "tls", "auth", "ping", "role"]);
    assert_eq!(state(&look(&by("localhost", "ca.pem")).await), FINE);

    let mut cases = vec![
        (by("127.0.0.1", "other-ca.pem"), "not signed by any CA"),
        (by("127.0.0.1", "none.pem"), "no such file"),
        (by("127.0.0.1", "key.pem"), "holds no certificate"),
    ];
    let system = RedisEndpoint {
        ca_file: None,
        ..by("127.0.0.1", "ca.pem")
    };
    cases.push((system, "/etc/ssl/certs/ca-certificates.crt"));
    for (endpoint, why) in cases {
        let redis = look(&endpoint).await;
        assert_eq!(state(&redis), (false, None, Some(Reason::Tls)));
        assert!(sentence(&redis).contains(why), "{redis:?}");
        assert_eq!(phases(&redis), ["connect", "tls"]);
    }
    let admin = async |setting: &str| {
        let mut stream = UnixStream::connect(server.path("socket")).await.unwrap();
        let log_in = cmd("AUTH").arg(PASSWORD).take();
        exchange(&mut stream, &log_in).await.unwrap();
        let mut set = cmd("CONFIG");
        set.arg("SET").arg(setting.split(' ').collect::<Vec<_>>());
        exchange(&mut stream, &set).await.unwrap();
    };
    for (certificate, why) in [
        ("expired.pem", "has expired"),
        ("elsewhere.pem", "is not for 127.0.0.1"),
    ] {
        admin(&format!("tls-cert-file {}", file(certificate).display())).await;
        let redis = look(&by("127.0.0.1", "ca.pem")).await;
        assert_eq!(state(&redis), (false, None, Some(Reason::Tls)));
        assert!(sentence(&redis).contains(why), "{redis:?}");
    }
    // A client certificate is asked for only after the client thinks that all is well.
    admin(&format!("tls-cert-file {}", file("good.pem").display())).await;
    admin("tls-auth-clients yes").await;
    let redis = look(&by("127.0.0.1", "ca.pem")).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Tls)), "{redis:?}");
    assert!(sentence(&redis).contains("tls-auth-clients"), "{redis:?}");

    // Spoken to without TLS it hangs up, or sends an alert.
    let redis = look(&tcp("127.0.0.1", port, false)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Protocol)));
    assert!(sentence(&redis).contains("rediss://"), "{redis:?}");
}

#[tokio::test]
async fn a_port_without_tls_never_answers_a_handshake() {
    let port = free_port();
    let Some(_server) = Server::start(&format!("port {port}\nbind 127.0.0.1")) else {
        return;
    };
    let redis = look_until(&tcp("127.0.0.1", port, true), shortly()).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
    assert_eq!(phases(&redis), ["connect", "tls"]);
    assert!(sentence(&redis).contains("redis://"));
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Serves each connection as `serve` does; ends with the test's runtime.
async fn listener<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// Reads a request for each answer, and hangs up after the last.
async fn answers(answers: Vec<Vec<u8>>) -> RedisEndpoint {
    let port = listener(move |mut stream| {
        let answers = answers.clone();
        async move {
            for answer in answers {
                let mut request = [0; 1024];
                if matches!(stream.read(&mut request).await, Ok(0) | Err(_))
                    || stream.write_all(&answer).await.is_err()
                {
                    return;
                }
            }
        }
    })
    .await;
    tcp("127.0.0.1", port, false)
}

#[tokio::test]
async fn what_is_no_redis_is_a_failure_of_the_protocol() {
    let down = (false, None, Some(Reason::Protocol));
    let lines: Vec<u8> = b":1\r\n".repeat(1024 * 1024);
    for answer in [
        b"".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
        b"220 mail.example ESMTP\r\n".to_vec(),
        b"\x00\xff\xfe\r\n\r\n".to_vec(),
        b"+PON".to_vec(),
        b"+PANG\r\n".to_vec(),
        b"+\xff\r\n".to_vec(),
        b"$4\r\nPONG".to_vec(),
        b"$-1\r\n".to_vec(),
        b"-\r\n".to_vec(),
        b"-WHAT happened\r\n".to_vec(),
        b"$9223372036854775807\r\nPONG\r\n".to_vec(),
        b"*9223372036854775807\r\n".to_vec(),
        b"%9223372036854775807\r\n".to_vec(),
        b"%-1\r\n".to_vec(),
        b"*1\r\n".repeat(10_000),
        [b"*9223372036854775807\r\n".to_vec(), lines].concat(),
    ] {
        let redis = look(&answers(vec![answer.clone()]).await).await;
        let shown: String = answer.iter().take(40).map(|byte| *byte as char).collect();
        assert_eq!(state(&redis), down, "{shown:?}: {redis:?}");
        assert_eq!(phases(&redis), ["connect", "ping"]);
    }
    let floods = listener(
        async |mut stream| {
            while stream.write_all(&[b'+'; 65536]).await.is_ok() {}
        },
    )
    .await;
    assert_eq!(state(&look(&tcp("127.0.0.1", floods, false)).await), down);
    let closes = listener(async |stream| drop(stream)).await;
    let redis = look(&tcp("127.0.0.1", closes, false)).await;
    assert_eq!(state(&redis), down);
    let redis = look(&tcp("127.0.0.1", closes, true)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Tls)));
    let http = answers(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]).await;
    let RedisAddress::Tcp { port, .. } = http.address else {
        unreachable!();
    };
    let redis = look(&tcp("127.0.0.1", port, true)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Tls)));
}

#[tokio::test]
async fn an_odd_answer_after_pong_leaves_it_up() {
    let pong = || b"+PONG\r\n".to_vec();
    let info = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
    let unknown = (true, None, Some(Reason::Protocol));
    for answer in [b"".to_vec(), b"+OK\r\n".to_vec(), b"$100\r\nrole:".to_vec()] {
        let redis = look(&answers(vec![pong(), answer]).await).await;
        assert_eq!(state(&redis), unknown);
        assert_eq!(phases(&redis), ["connect", "ping", "role"]);
    }
    for text in [
        "",
        "role:sentinel\r\n",
        "role\r\n:\r\n::::\r\nrole:\r\n",
        "server_time_usec:-1\r\nuptime_in_seconds:99999999999999999999\r\n",
        "server_time_usec:1000000\r\nuptime_in_seconds:5\r\n",
    ] {
        let redis = look(&answers(vec![pong(), info(text)]).await).await;
        assert_eq!((state(&redis), redis.started), (unknown, None), "{text}");
    }
    // An old server tells less.
    let redis = look(&answers(vec![pong(), info("role:master\n")]).await).await;
    assert_eq!((state(&redis), redis.started), (FINE, None));
    let with_canary = RedisEndpoint {
        write_canary: true,
        ..answers(vec![
            pong(),
            info("role:master\n"),
            b"-MOVED 1 127.0.0.1:1\r\n".to_vec(),
        ])
        .await
    };
    assert_eq!(
        state(&look(&with_canary).await),
        (true, Some(false), Some(Reason::Protocol))
    );
}

#[tokio::test]
async fn protected_mode_is_told_unasked() {
    let port = listener(async |mut stream| {
        stream
            .write_all(b"-DENIED Redis is running in protected mode\r\n")
            .await
            .unwrap();
    })
    .await;
    let redis = look(&tcp("127.0.0.1", port, false)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
    assert!(sentence(&redis).contains("protected mode"), "{redis:?}");
}

#[tokio::test]
async fn silence_and_trickles_end_with_the_deadline() {
    let silent = listener(async |stream| {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let trickle = listener(async |mut stream| {
        while stream.write_all(b"+").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (port, tls, phase) in [
        (silent, false, "ping"),
        (silent, true, "tls"),
        (trickle, false, "ping"),
    ] {
        let redis = look_until(&tcp("127.0.0.1", port, tls), shortly()).await;
        assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
        assert_eq!(phases(&redis), ["connect", phase]);
    }
    // Its own time-out, where the look has all the time in the world.
    let tomorrow = Instant::now() + Duration::from_secs(86_400);
    let redis = look_until(&tcp("127.0.0.1", silent, false), tomorrow).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
    // Time that is up before anything was begun.
    let redis = look_until(&tcp("127.0.0.1", silent, false), Instant::now()).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
}

#[tokio::test]
async fn who_cannot_be_connected_to_is_refused_or_unreachable() {
    let refused = (false, None, Some(Reason::Refused));
    let redis = look(&tcp("127.0.0.1", free_port(), false)).await;
    assert_eq!((state(&redis), phases(&redis)), (refused, vec!["connect"]));
    let redis = look(&tcp("::1", free_port(), false)).await;
    assert!(redis.address.starts_with("[::1]:"), "{}", redis.address);

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let unix = endpoint(RedisAddress::Unix(socket.clone()));
    assert_eq!(state(&look(&unix).await), refused);
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(state(&look(&unix).await), refused);

    let unreachable = (false, None, Some(Reason::Unreachable));
    // No route leads to all hosts at once, at least not for TCP.
    let redis = look(&tcp("224.0.0.1", 6379, false)).await;
    assert_eq!(state(&redis), unreachable, "{redis:?}");
    let long = directory.path().join("x".repeat(200));
    let redis = look(&endpoint(RedisAddress::Unix(long))).await;
    assert_eq!(state(&redis), unreachable);

    // What root cannot run into.
    let target = Target {
        endpoint: &unix,
        address: shown(&unix.address),
        workers: &Workers::default(),
        deadline: soon(),
    };
    for (kind, reason) in [
        (ErrorKind::PermissionDenied, Reason::Unreachable),
        (ErrorKind::NetworkUnreachable, Reason::Unreachable),
        (ErrorKind::HostUnreachable, Reason::Unreachable),
        (ErrorKind::TimedOut, Reason::Timeout),
    ] {
        let failure = target.not_connected::<()>(&kind.into()).unwrap_err();
        assert_eq!(failure.reason, reason, "{kind}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_not_resolved() {
    // Longer than DNS allows, so that no server is asked.
    let redis = look(&tcp(&"a".repeat(80), 6379, false)).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Resolve)));
    assert_eq!(phases(&redis), ["resolve"]);
}

/// A socket whose queue of new connections is full, what fills it, and where it listens.
async fn full_listener() -> (OwnedFd, Vec<TcpStream>, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let address = rustix::net::getsockname(socket.as_fd()).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout_at(shortly(), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (socket, queued, address)
}

#[tokio::test]
async fn an_address_that_keeps_silent_does_not_hide_the_next() {
    let (_socket, _queued, silent) = full_listener().await;
    let open = listener(async |_| {}).await;
    let refused = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let open = SocketAddr::from((Ipv4Addr::LOCALHOST, open));
    let endpoint = tcp("localhost", 6379, false);
    let connect = async |addresses: &[SocketAddr]| {
        let target = Target {
            endpoint: &endpoint,
            address: shown(&endpoint.address),
            workers: &Workers::default(),
            deadline: Instant::now() + TARGET_TIMEOUT,
        };
        let result = timeout_at(target.deadline, target.connect(addresses)).await;
        result
            .expect("each has its share of the time")
            .map(|stream| stream.peer_addr().unwrap())
            .map_err(|failure| failure.reason)
    };
    assert_eq!(connect(&[refused, silent, open]).await, Ok(open));
    assert_eq!(connect(&[silent, refused]).await, Err(Reason::Timeout));
    assert_eq!(connect(&[refused, silent]).await, Err(Reason::Refused));
    assert_eq!(connect(&[]).await, Err(Reason::Unreachable));

    let SocketAddr::V4(silent) = silent else {
        unreachable!();
    };
    let redis = look_until(&tcp("127.0.0.1", silent.port(), false), shortly()).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
    assert_eq!(phases(&redis), ["connect"]);
}

#[tokio::test]
async fn a_unix_socket_whose_queue_is_full_is_a_time_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        queued.push(stream);
    }
    let redis = look(&endpoint(RedisAddress::Unix(path))).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Timeout)));
}

#[tokio::test]
async fn a_socket_that_may_be_hidden_says_nothing_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = endpoint(RedisAddress::Unix(directory.path().join("none")));
    let workers = Workers::default();
    // A look at the mounts that does not come back.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let work = format!("mounts at {}", shown(&endpoint.address));
    let hung = workers.run_one(&work, shortly(), move || wait.recv().is_err());
    assert_eq!(hung.await, None);
    let looks = probe(std::slice::from_ref(&endpoint), &workers, shortly()).await;
    let [redis] = &looks[..] else {
        panic!("{looks:?}")
    };
    assert_eq!((redis.up, redis.writable), (None, None), "{redis:?}");
    drop(release);
    let looks = probe(&[endpoint], &workers, soon()).await;
    assert_eq!(looks[0].up, Some(false), "{looks:?}");
}

#[tokio::test]
async fn all_are_asked_at_once_and_come_in_the_order_of_the_baseline() {
    let all_there = Arc::new(Barrier::new(10));
    let port = listener(move |mut stream| {
        let all_there = all_there.clone();
        async move {
            all_there.wait().await;
            stream.write_all(b"+PONG\r\n").await.unwrap();
        }
    })
    .await;
    let endpoints: Vec<_> = (0..10)
        .map(|number| RedisEndpoint {
            name: number.to_string(),
            ..tcp("localhost", port, false)
        })
        .collect();
    let looks = probe(&endpoints, &Workers::default(), soon()).await;
    for (redis, endpoint) in looks.iter().zip(&endpoints) {
        assert_eq!(
            (&redis.name, redis.up),
            (&endpoint.name, Some(true)),
            "{redis:?}"
        );
    }
    assert_eq!(looks.len(), 10);
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_get_it_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    for prefix in ["-", "-ERR ", "-WRONGPASS ", "-NOPERM ", "+", "$20\r\n", ""] {
        let echo = format!("{prefix}{PASSWORD}\r\n").into_bytes();
        let ok = b"+OK\r\n".to_vec();
        let pong = b"+PONG\r\n".to_vec();
        for script in [
            vec![echo.clone()],
            vec![ok.clone(), echo.clone()],
            vec![ok, pong, echo],
        ] {
            let endpoint = RedisEndpoint {
                password_file: Some(file.clone()),
                write_canary: true,
                ..answers(script).await
            };
            // That it is not shown is asserted of each look.
            assert!(look(&endpoint).await.failure.is_some());
        }
    }
}

#[test]
fn a_password_file_is_read_whole_but_for_one_line_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let credentials = Some(path);
    let read = |bytes: &[u8]| {
        fs::write(path.join("password"), bytes).unwrap();
        let result = read_password(&path.join("password"), None);
        let credential = read_password(Path::new("password"), credentials);
        assert_eq!(result, credential);
        result
    };
    for (bytes, password) in [
        (&b"a"[..], &b"a"[..]),
        (b"a\n", b"a"),
        (b"a\n\n", b"a\n"),
        (b" a \n", b" a "),
        (b"\xff\x00\n", b"\xff\x00"),
        (&[b'x'; 4096], &[b'x'; 4096]),
    ] {
        assert_eq!(read(bytes).unwrap(), password);
    }
    for (bytes, why) in [
        (&b""[..], "it is empty"),
        (b"\n", "it is empty"),
        (&[b'x'; 4097], "larger than 4 KiB"),
    ] {
        assert!(read(bytes).unwrap_err().contains(why));
    }
    let refusal = |file: &Path, credentials| read_password(file, credentials).unwrap_err();
    assert!(refusal(&path.join("none"), None).contains("no such file"));
    assert!(refusal(Path::new("none"), credentials).contains("no such file"));
    assert!(refusal(path, None).contains("is a directory"));
    assert!(refusal(Path::new("password"), None).contains("$CREDENTIALS_DIRECTORY"));
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_not_sent() {
    let pong = || b"+PONG\r\n".to_vec();
    let endpoint = RedisEndpoint {
        password_file: Some(PathBuf::from("/nowhere").join(PASSWORD)),
        ..answers(vec![pong(), pong()]).await
    };
    let redis = look(&endpoint).await;
    assert_eq!(state(&redis), (false, None, Some(Reason::Auth)));
    assert!(sentence(&redis).contains("no such file"));
}

/// Set where a test runs as the only one of its process.
const ALONE: &str = "BASELINE_EXPORTER_TEST_ALONE";

#[test]
fn a_thousand_looks_leave_nothing_behind() {
    if std::env::var_os(ALONE).is_some() {
        return look_a_thousand_times();
    }
    // Other tests open files too, so that only a process of its own can count them.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "probe::redis::tests::a_thousand_looks_leave_nothing_behind",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{complained}"
    );
}

fn look_a_thousand_times() {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let Some(server) = Server::start("") else {
        return;
    };
    runtime.block_on(async {
        let endpoints = [
            server.with_canary(),
            RedisEndpoint {
                name: "wrong password".to_owned(),
                ..server.with_password("password", PASSWORD)
            },
            RedisEndpoint {
                name: "refused".to_owned(),
                ..tcp("localhost", free_port(), false)
            },
            RedisEndpoint {
                name: "missing".to_owned(),
                ..endpoint(RedisAddress::Unix(server.path("none")))
            },
        ];
        let workers = Workers::default();
        let mut before = None;
        for _ in 0..1000 {
            let looks = probe(&endpoints, &workers, soon()).await;
            assert!(looks.first().is_some_and(|redis| redis.canary), "{looks:?}");
            // A deadline that cuts every phase off somewhere.
            probe(
                &endpoints,
                &workers,
                Instant::now() + Duration::from_micros(300),
            )
            .await;
            before.get_or_insert_with(|| count("fd"));
        }
        // Threads end a moment after the work that they were started for.
        let deadline = soon();
        while (count("fd") > before.unwrap() || count("task") > 3) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(
            count("fd") <= before.unwrap(),
            "{} descriptors",
            count("fd")
        );
        // This one, the test harness' and the one that reads the server's log.
        assert!(count("task") <= 3, "{} threads", count("task"));
        server.wait_for_info("connected_clients:1\r\n").await;
    });
}
