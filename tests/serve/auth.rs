//! Passwords: who is asked, who gets in, and how often one may guess. Headers and the rate limit.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use crate::certificates::curl;
use crate::exporter::{Client, Exporter};

/// An exporter that knows alice, whose password is "secret"; at the lowest cost, for the time that
/// tests take.
fn start(more: &str, flags: &[&str]) -> (TempDir, Exporter) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
    let text = format!("basic_auth_users: {{alice: {hash}}}\n{more}");
    std::fs::write(&path, text).unwrap();
    let file = format!("--web.config.file={}", path.display());
    let exporter = Exporter::start(&[&[file.as_str()], flags].concat());
    (directory, exporter)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

#[test]
fn nothing_is_answered_without_the_right_password() {
    let (_directory, mut exporter) = start("", &["--log.level=debug"]);
    let mut client = exporter.connect();
    let paths = ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing"];
    for path in paths {
        let wrong = [
            basic("alice:wrong"),
            basic("bob:secret"),
            "Bearer x".to_owned(),
        ];
        let mut answers = vec![client.ask("GET", path, &[])];
        if path == "/" {
            for header in &wrong {
                answers.push(client.ask("GET", path, &[("Authorization", header)]));
            }
        }
        for answer in answers {
            assert_eq!(answer.status, 401, "{path}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
            assert!(!answer.text().contains("quantum"), "{}", answer.text());
        }
        let head = client.ask("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (401, 0));
        let right = client.ask("GET", path, &[("authorization", &basic("alice:secret"))]);
        assert_ne!(right.status, 401, "{path}");
    }
    exporter.child.kill().unwrap();
    exporter.wait();
    for line in exporter.log.iter() {
        for secret in ["secret", "wrong", &basic("alice:secret")] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn health_may_be_told_without_a_password() {
    let (_directory, exporter) = start("", &["--web.health-without-credentials"]);
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    assert_eq!(exporter.get("/-/ready", &[]).status, 503, "no bus");
    for path in ["/", "/metrics", "/-/healthy/", "//-/healthy"] {
        assert_eq!(exporter.get(path, &[]).status, 401, "{path}");
    }
}

#[test]
fn who_guesses_has_to_wait_but_not_for_long_and_others_have_not() {
    let (_directory, exporter) = start("", &[]);
    let mut scraper = exporter.connect();
    let mut scrape = || {
        let header = basic("alice:secret");
        scraper.ask("GET", "/-/healthy", &[("Authorization", &header)])
    };
    assert_eq!(scrape().status, 200);
    let mut guesser = exporter.connect();
    let mut guess = |credentials: &str| {
        let header = basic(credentials);
        guesser.ask("GET", "/-/healthy", &[("Authorization", &header)])
    };
    let mut guesses = 0;
    let refused = loop {
        let answer = guess("alice:wrong");
        if answer.status != 401 {
            break answer;
        }
        guesses += 1;
        assert!(guesses < 1000);
    };
    assert!(guesses >= 10, "{guesses}");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));

    let url = format!("http://{}/-/healthy", exporter.addresses[0]);
    let elsewhere = ["--interface", "127.0.0.2", "--user", "alice:secret", &url];
    assert_eq!(curl(&elsewhere).unwrap().0, 200);

    assert_eq!(scrape().status, 200, "its connection is known");

    // The right password waits too, but asking does not make it longer.
    let start = Instant::now();
    while guess("alice:secret").status == 429 {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(guess("alice:secret").status, 200);
}

#[test]
fn those_who_come_at_once_are_judged_each() {
    let (_directory, exporter) = start("", &[]);
    let credentials = |number| basic(["alice:secret", "alice:wrong", "bob:secret"][number % 3]);
    let mut clients: Vec<Client> = (0..9).map(|_| exporter.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let header = credentials(number);
        client.send("GET", "/-/healthy", &[("Authorization", &header)]);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = if number % 3 == 0 { 200 } else { 401 };
        assert_eq!(client.receive(false).status, expected, "{number}");
    }
}

#[test]
fn headers_are_added_and_the_rate_is_that_of_those_who_may_pass() {
    let more = "http_server_config: {headers: {X-Frame-Options: deny}}\n\
                rate_limit: {interval: 1h, burst: 2}\n";
    let (_directory, exporter) = start(more, &["--web.health-without-credentials"]);
    let ask = |path, credentials: &str, expected| {
        let header = basic(credentials);
        let answer = exporter.get(path, &[("Authorization", &header)]);
        assert_eq!(answer.status, expected, "{path} {credentials}");
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("retry-after").is_some(), expected == 429);
    };
    // Strangers do not use up what is for the scraper.
    for _ in 0..3 {
        ask("/nothing", "alice:wrong", 401);
        ask("/nothing", "bob:secret", 401);
        ask("/-/healthy", "", 200);
    }
    for expected in [404, 404, 429, 429] {
        ask("/nothing", "alice:secret", expected);
    }
    ask("/nothing", "alice:wrong", 401);
    ask("/-/healthy", "", 200);
}

#[test]
fn without_passwords_the_rate_is_that_of_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    std::fs::write(&path, "rate_limit: {interval: 1h, burst: 2}\n").unwrap();
    let exporter = Exporter::start(&[&format!("--web.config.file={}", path.display())]);
    for expected in [200, 200, 429] {
        assert_eq!(exporter.get("/-/healthy", &[]).status, expected);
    }
}
