//! TLS: who gets in, which files are refused, and files that change while they are served.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::certificates::{Authority, curl};
use crate::exporter::{Exporter, run};

const SERVER: &str = "IP:127.0.0.1,DNS:localhost";

/// An exporter with these lines of `tls_server_config`, besides its certificate.
fn start(authority: &Authority, lines: &str) -> Exporter {
    let path = authority.write(
        "web.yml",
        &format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{lines}"),
    );
    Exporter::start(&["--web.config.file", &path])
}

/// What curl gets on `/-/healthy` if it trusts this CA.
fn ask(exporter: &Exporter, ca: &Authority, arguments: &[&str]) -> Result<u16, String> {
    let url = format!("https://{}/-/healthy", exporter.addresses[0]);
    let trust = ["--cacert", &ca.path("ca.crt"), &url];
    curl(&[&trust, arguments].concat()).map(|(status, ..)| status)
}

#[test]
fn clients_are_let_in_as_their_certificates_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", SERVER);
    for (authority, name, names) in [
        (&authority, "prometheus", "DNS:prometheus.test"),
        (&authority, "address", "IP:192.0.2.1"),
        (&authority, "uri", "URI:spiffe://test/prometheus"),
        (&authority, "wildcard", "DNS:*.test"),
        (&other, "stranger", "DNS:prometheus.test"),
    ] {
        authority.issue(name, names);
    }
    let allowed =
        "  client_allowed_sans: [prometheus.test, 192.0.2.1, 'spiffe://test/prometheus']\n";
    let verified = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let if_given = "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n";
    let any = "  client_auth_type: RequireAnyClientCert\n";
    let all = ["", "prometheus", "address", "uri", "wildcard", "stranger"];
    for (lines, welcome) in [
        (String::new(), &all[..]),
        ("  client_auth_type: RequestClientCert\n".to_owned(), &all),
        (any.to_owned(), &all[1..]),
        (if_given.to_owned(), &all[..5]),
        (verified.to_owned(), &all[1..5]),
        (format!("{verified}{allowed}"), &all[1..4]),
        (
            format!("{any}{allowed}"),
            &["prometheus", "address", "uri", "stranger"],
        ),
    ] {
        let exporter = start(&authority, &lines);
        for name in all {
            let owner = if name == "stranger" {
                &other
            } else {
                &authority
            };
            let certificate = owner.path(&format!("{name}.crt"));
            let key = owner.path(&format!("{name}.key"));
            let shown = ["--cert", &certificate, "--key", &key];
            let shown = if name.is_empty() { &[][..] } else { &shown };
            let answer = ask(&exporter, &authority, shown);
            if welcome.contains(&name) {
                assert_eq!(answer, Ok(200), "{lines}{name}");
            } else {
                assert!(answer.is_err(), "{lines}{name}: {answer:?}");
            }
        }
    }
}

#[test]
fn versions_are_kept_to_and_http_1_1_is_spoken() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    for (lines, welcome) in [
        ("", ["1.2", "1.3"].as_slice()),
        ("  min_version: TLS13\n", &["1.3"]),
        ("  max_version: TLS12\n", &["1.2"]),
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  curve_preferences: [CurveP384]\n",
            &["1.2", "1.3"],
        ),
    ] {
        let exporter = start(&authority, lines);
        for version in ["1.2", "1.3"] {
            let exactly = [&format!("--tlsv{version}"), "--tls-max", version];
            let answer = ask(&exporter, &authority, &exactly);
            assert_eq!(
                answer.is_ok(),
                welcome.contains(&version),
                "{lines}{answer:?}"
            );
        }
        let url = format!("https://{}/metrics", exporter.addresses[0]);
        let answer = curl(&["--http2", "--cacert", &authority.path("ca.crt"), &url]);
        let (status, version, body) = answer.unwrap();
        assert_eq!((status, version.as_str()), (200, "1.1"));
        assert!(body.contains("baseline_exporter_tls_files_last_reload_successful{} 1\n"));
    }
}

/// The runbook's commands that ask the exporter, each up to its first pipe.
fn runbook_commands() -> Vec<&'static str> {
    let lines = include_str!("../../rules/runbook.md").lines();
    let asks = lines.filter(|line| line.starts_with("curl ") && !line.contains(":9090"));
    asks.map(|line| line.split(" | ").next().unwrap()).collect()
}

#[test]
fn the_runbook_asks_by_tls_and_with_a_password_where_it_is_told_to() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
    let exporter = start(
        &authority,
        &format!("basic_auth_users: {{alice: {hash}}}\n"),
    );
    let (ca, address) = (authority.path("ca.crt"), &exporter.addresses[0]);
    let ask = |command: &str, user: &str| {
        Command::new("bash")
            .args(["-euc", command])
            .env(
                "EXPORTER",
                format!("--cacert {ca} {user} https://{address}"),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let commands = runbook_commands();
    assert!(commands.len() > 3, "{commands:?}");
    for command in commands {
        let answer = ask(command, "--user alice:secret");
        let told = String::from_utf8_lossy(&answer.stdout);
        assert!(
            told.contains("baseline_exporter_build_info{"),
            "{command}: {answer:?}"
        );
        // Nothing is printed where all is well: a refusal has to look otherwise.
        let answer = ask(command, "");
        let complaint = String::from_utf8_lossy(&answer.stderr);
        assert!(complaint.contains("401"), "{command}: {answer:?}");
    }
}

#[test]
fn files_that_change_are_used_by_the_next_handshake() {
    let (old, new) = (Authority::new(), Authority::new());
    for authority in [&old, &new] {
        authority.issue("server", SERVER);
        authority.issue("client", "DNS:client");
    }
    let client_ca = old.path("client-ca.crt");
    fs::copy(old.path("ca.crt"), &client_ca).unwrap();
    let exporter = start(
        &old,
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client-ca.crt\n",
    );
    let metrics = |server: &Authority, client: &Authority| {
        let (certificate, key) = (client.path("client.crt"), client.path("client.key"));
        let url = format!("https://{}/metrics", exporter.addresses[0]);
        let trust = ["--cacert", &server.path("ca.crt")];
        let show = ["--cert", &certificate, "--key", &key, &url];
        curl(&[&trust, &show[..]].concat()).map(|(.., body)| body)
    };
    let successful =
        |value| format!("baseline_exporter_tls_files_last_reload_successful{{}} {value}\n");
    metrics(&old, &old).unwrap();
    metrics(&new, &old).unwrap_err();

    old.take_over("server", &new, "server");
    metrics(&new, &old).unwrap();
    metrics(&old, &old).unwrap_err();

    let other_key = fs::read_to_string(old.path("ca.key")).unwrap();
    for (file, bad) in [("server.crt", "nothing"), ("server.key", &other_key)] {
        let good = fs::read_to_string(old.path(file)).unwrap();
        old.write(file, bad);
        for _ in 0..2 {
            let told = metrics(&new, &old).unwrap();
            assert!(told.contains(&successful(0)));
        }
        let line = exporter.log_line("cannot be used");
        assert!(line.contains(&old.path(file)), "{line}");
        old.write(file, &good);
        assert!(metrics(&new, &old).unwrap().contains(&successful(1)));
        let next = exporter.log_line("the TLS files changed");
        assert!(next.contains("are in use"), "told once: {next}");
    }

    metrics(&new, &new).unwrap_err();
    fs::copy(new.path("ca.crt"), &client_ca).unwrap();
    metrics(&new, &new).unwrap();
    metrics(&new, &old).unwrap_err();
}

/// One connection by TLS, kept open between its requests.
struct Kept {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Kept {
    fn connect(exporter: &Exporter) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &exporter.addresses[0]])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// The body of the answer; `None` where the connection is closed without one.
    fn get(&mut self, path: &str) -> Option<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(request.as_bytes()).unwrap();
        let mut length = None;
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = Some(value.trim().parse().unwrap());
            }
            if line.trim().is_empty() {
                let mut body = vec![0; length.unwrap()];
                self.answers.read_exact(&mut body).unwrap();
                return Some(String::from_utf8(body).unwrap());
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn files_that_change_are_told_on_a_connection_that_is_kept() {
    let (old, new) = (Authority::new(), Authority::new());
    for authority in [&old, &new] {
        authority.issue("server", SERVER);
    }
    let exporter = start(&old, "");
    let mut scraper = Kept::connect(&exporter);
    let mut is_current = |value| {
        let told = scraper.get("/metrics").unwrap();
        let line = format!("baseline_exporter_tls_files_last_reload_successful{{}} {value}\n");
        assert!(told.contains(&line), "{value}");
    };
    is_current(1);
    let good = fs::read_to_string(old.path("server.crt")).unwrap();
    old.write("server.crt", "nothing");
    is_current(0);
    is_current(0);
    old.write("server.crt", &good);
    is_current(1);

    // As where descriptors run out: the files change, and cannot be opened for a while.
    let pid = Some(Pid::from_child(&exporter.child));
    let none = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Nofile)
    };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    old.take_over("server", &new, "server");
    is_current(0);
    prlimit(pid, Resource::Nofile, before).unwrap();
    is_current(1);
    assert_eq!(ask(&exporter, &new, &[]), Ok(200));
    assert!(ask(&exporter, &old, &[]).is_err());
}

#[test]
fn a_connection_from_before_other_rules_is_not_answered() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    authority.issue("client", "DNS:client");
    let tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    let asks = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let path = authority.write("web.yml", "");
    let exporter = Exporter::start(&["--web.config.file", &path]);
    let reload = |text: &str| {
        authority.write("web.yml", text);
        exporter.signal(Signal::HUP);
        exporter.log_line("msg=reloaded");
    };
    let mut plain = exporter.connect();
    assert_eq!(plain.ask("GET", "/-/healthy", &[]).status, 200);

    reload(tls);
    plain.send("GET", "/-/healthy", &[]);
    assert!(plain.is_closed(), "no plain HTTP where TLS is asked for");
    let mut without_certificate = Kept::connect(&exporter);
    let answer = without_certificate.get("/-/healthy");
    assert_eq!(answer.as_deref(), Some("healthy\n"));

    reload(&format!("{tls}{asks}"));
    assert_eq!(without_certificate.get("/-/healthy"), None);
    let (certificate, key) = (authority.path("client.crt"), authority.path("client.key"));
    let shown = ["--cert", &certificate, "--key", &key];
    assert_eq!(ask(&exporter, &authority, &shown), Ok(200));
}

#[test]
fn a_file_that_cannot_be_used_is_a_sentence_with_its_place() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    authority.issue("other", SERVER);
    let encrypted = authority.path("encrypted.key");
    let key = authority.path("server.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-aes128", "-passout", "pass:x", "-in", &key]);
    assert!(
        openssl
            .args(["-out", &encrypted])
            .status()
            .unwrap()
            .success()
    );
    let text = fs::read_to_string(&key).unwrap();
    authority.write("cut.key", text.get(..text.len() / 2).unwrap());
    authority.write("empty.crt", "");
    for (certificate, key, place, part) in [
        ("server.crt", "none.key", "3:13", "no such file"),
        (
            "server.crt",
            "encrypted.key",
            "3:13",
            "the private key is encrypted",
        ),
        (
            "server.crt",
            "other.key",
            "3:13",
            "this is not the key of the certificate",
        ),
        ("server.crt", "cut.key", "3:13", "it is no valid PEM"),
        (
            "server.crt",
            "ca.crt",
            "3:13",
            "there is no private key in it",
        ),
        (
            "server.key",
            "server.key",
            "2:14",
            "there is no certificate in it",
        ),
        (
            "empty.crt",
            "server.key",
            "2:14",
            "there is no certificate in it",
        ),
        (".", "server.key", "2:14", "this is a directory"),
    ] {
        let path = authority.write(
            "web.yml",
            &format!("tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n"),
        );
        let address = "--web.listen-address=127.0.0.1:0";
        // It may be there at the next try.
        let served = if part == "no such file" { 1 } else { 2 };
        for (arguments, status) in [(&["--config.check"][..], 2), (&[address], served)] {
            let all = [arguments, &["--web.config.file", &path]].concat();
            let (output, stdout, stderr) = run(&all);
            assert_eq!(output.status.code(), Some(status), "{stderr}");
            assert_eq!(stdout, "");
            assert!(stderr.starts_with(&format!("{path}:{place}: ")), "{stderr}");
            assert!(stderr.contains(part), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
}

#[test]
fn certificate_and_key_may_stand_in_the_file_itself() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let indented = |file: &str| {
        let text = fs::read_to_string(authority.path(file)).unwrap();
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        indented("server.crt"),
        indented("server.key")
    );
    let path = authority.write("web.yml", &text);
    let (_, stdout, stderr) = run(&["--config.check", "--web.config.file", &path]);
    assert!(
        stdout.ends_with(&format!("{path}: TLS (NoClientCert), no passwords\n")),
        "{stdout}{stderr}"
    );
    let exporter = Exporter::start(&["--web.config.file", &path]);
    assert_eq!(ask(&exporter, &authority, &[]), Ok(200));
}

#[test]
fn mistakes_of_baseline_and_web_configuration_are_told_together() {
    let authority = Authority::new();
    let web = authority.write("web.yml", "tls: {}\n");
    let baseline = authority.write("baseline.yml", "deployment: x\n");
    let files = ["--web.config.file", &web, "--config.file", &baseline];
    let (output, _, stderr) = run(&[&["--config.check"], &files[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains(&format!("{web}:1:1: ")), "{stderr}");
    assert!(stderr.contains(&format!("{baseline}:1:1: ")), "{stderr}");
}

/// A Prometheus, killed at the end of its test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// With the example that is shipped.
#[test]
fn prometheus_scrapes_with_certificate_and_password() {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    authority.issue("prometheus", "DNS:prometheus.example.org");
    let example = include_str!("../../deploy/web-config.yml");
    let example = example.replace("# client", "client");
    let path = authority.write("web-config.yml", &example);
    let exporter = Exporter::start(&["--web.config.file", &path, "--log.level=debug"]);
    let target = &exporter.addresses[0];
    assert!(ask(&exporter, &authority, &[]).is_err(), "no certificate");

    let config = authority.write(
        "prometheus.yml",
        &format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: test\n  \
               scheme: https\n  \
               tls_config: {{ca_file: ca.crt, cert_file: prometheus.crt, key_file: prometheus.key}}\n  \
               basic_auth: {{username: prometheus, password: change me}}\n  \
               static_configs: [{{targets: ['{target}']}}]\n"
        ),
    );
    let cache = env!("CARGO_TARGET_TMPDIR");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/prometheus.sh");
    let generations = Command::new(script).arg(cache).output().unwrap();
    let generations = String::from_utf8(generations.stdout).unwrap();
    let mut child = Command::new(format!("{}/bookworm/prometheus", generations.trim_end()))
        .arg(format!("--config.file={config}"))
        .arg(format!("--storage.tsdb.path={}", authority.path("data")))
        .arg("--web.listen-address=127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let prometheus = Prometheus(child);
    let mut lines = log.lines().map(Result::unwrap);
    let line = lines
        .find(|line| line.contains("msg=\"Listening on\""))
        .unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    // It goes on to write, and must find a reader.
    let rest = std::thread::spawn(move || lines.count());

    exporter.log_line("path=/metrics status=200");
    let url = format!("http://{address}/api/v1/targets?state=active");
    let start = Instant::now();
    loop {
        let (status, _, body) = curl(&[&url]).unwrap();
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        let target = &told["data"]["activeTargets"][0];
        if status == 200 && target["health"] == "up" {
            assert_eq!(target["lastError"], "");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{body}");
    }
    drop(prometheus);
    rest.join().unwrap();
}
