//! Flags, their mistakes, and what is printed.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use crate::exporter::{Client, Exporter, command, run};

#[test]
fn the_metrics_move_with_their_flag() {
    let exporter = Exporter::start(&["--web.telemetry-path=/here"]);
    assert_eq!(exporter.get("/here", &[]).status, 200);
    let gone = exporter.get("/metrics", &[]);
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("/here"));
}

#[test]
fn two_addresses_are_two_listeners() {
    let exporter = Exporter::spawn(
        command(&[
            "serve",
            "--web.listen-address=127.0.0.1:0",
            "--web.listen-address=127.0.0.2:0",
        ]),
        2,
    );
    for address in &exporter.addresses {
        let answer = Client::connect(address).ask("GET", "/-/healthy", &[]);
        assert_eq!(answer.status, 200, "{address}");
    }
    assert!(exporter.addresses[1].starts_with("127.0.0.2:"));
}

#[test]
fn a_port_alone_is_every_address() {
    let exporter = Exporter::spawn(command(&["--web.listen-address=:0"]), 1);
    let (_, port) = exporter.addresses[0].rsplit_once(':').unwrap();
    let answer = Client::connect(&format!("127.0.0.1:{port}")).ask("GET", "/-/healthy", &[]);
    assert_eq!(answer.status, 200);
}

#[test]
fn a_port_in_use_is_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (output, _, stderr) = run(&["--web.listen-address", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("baseline-exporter: cannot listen on {address}: ")));
    assert!(stderr.contains("--web.listen-address"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn the_first_line_says_what_runs() {
    let mut command = command(&["--web.listen-address=127.0.0.1:0", "--log.format=json"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let second: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(first["level"], "info");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["baseline"], "embedded");
    assert_eq!(first["deployment"], "quantum-trader");
    assert_eq!(second["msg"], "listening");
}

#[test]
fn mistakes_on_the_command_line_are_told_with_the_way_out() {
    for (arguments, part) in [
        (&["--web.listen-address=9100"][..], "there is no port"),
        (&["--web.telemetry-path=metrics"], "it must start with '/'"),
        (&["--web.telemetry-path=/"], "this path is taken"),
        (&["--web.telemetry-path=/-/ready"], "this path is taken"),
        (&["--web.max-requests=many"], "--web.max-requests"),
        (&["--log.level=loud"], "debug, info, warn, error"),
        (&["--log.format=xml"], "logfmt, json"),
        (&["check", "--output=xml"], "text, json"),
        (&["chekc"], "check"),
        (&["--config.fil=x"], "--config.file"),
    ] {
        let (output, stdout, stderr) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout, "");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_read_may_be_there_later() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let missing = format!("{}/missing.yml", directory.path().display());
    let no_baseline = write("baseline.yml", "deployment: shop\nruning: []\n");
    let no_web = write("web.yml", "rate_limits: {}\n");
    let tls = "tls_server_config: {cert_file: missing.crt, key_file: missing.key}\n";
    let no_certificate = write("tls.yml", tls);
    let both = write("both.yml", &format!("{tls}rate_limits: {{}}\n"));
    for (flag, path, status) in [
        ("--config.file", &missing, 1),
        ("--config.file", &no_baseline, 2),
        ("--config.file", &directory.path().display().to_string(), 2),
        ("--web.config.file", &missing, 1),
        ("--web.config.file", &no_certificate, 1),
        ("--web.config.file", &no_web, 2),
        ("--web.config.file", &both, 2),
    ] {
        let flag = format!("{flag}={path}");
        let (output, _, serving) = run(&["--web.listen-address=127.0.0.1:0", &flag]);
        assert_eq!(output.status.code(), Some(status), "{serving}");
        let (output, _, checking) = run(&["--config.check", &flag]);
        assert_eq!(output.status.code(), Some(2), "{checking}");
        assert_eq!(serving, checking);
    }
}

#[test]
fn the_baseline_alone_can_be_checked() {
    let (output, stdout, stderr) = run(&["--config.check"]);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("embedded: deployment quantum-trader"));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("baseline.yml");
    std::fs::write(&path, "deployment: x\nsystmd: {}\n").unwrap();
    let path = path.to_str().unwrap();
    for arguments in [
        &["--config.check", "--config.file", path][..],
        &["check", "--config.file", path],
        &["--web.listen-address=127.0.0.1:0", "--config.file", path],
    ] {
        let (output, stdout, stderr) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout, "");
        assert!(stderr.starts_with(path), "{stderr}");
        assert!(stderr.contains("systmd"), "{stderr}");
    }
}

#[test]
fn help_and_version_are_for_people() {
    let (output, help, _) = run(&["-h"]);
    assert_eq!(output.status.code(), Some(0));
    for part in [
        "Commands (without one: serve):",
        "Baseline:\n",
        "Web:\n",
        "Log:\n",
        "Examples:\n",
        "[default: :20107]",
        "--web.config.file",
        "--web.systemd-socket",
        "--web.health-without-credentials",
        "[default: /metrics]",
        "[default: 40]",
        "[default: logfmt]",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    let (output, version, _) = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let first = format!("baseline-exporter {}\n", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&first), "{version}");
    for part in ["revision: ", "build date: ", "target: "] {
        assert!(version.contains(part), "{version}");
    }
}

#[test]
fn a_reader_that_goes_away_has_seen_enough() {
    for arguments in [&["-h"][..], &["--config.check"], &["check"]] {
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stderr, b"", "{arguments:?}");
        assert!(output.status.code().is_some(), "{arguments:?}");
    }
}

#[test]
fn learn_refuses_what_it_cannot_mean() {
    for (arguments, part) in [
        (&["learn", "--match=a/b*"][..], "holds `/`"),
        (&["learn", "--match=shop"], "did you mean `shop.service`?"),
        (&["learn", "--match=[a*"], "no glob pattern, character 1"),
        (&["learn", "--diff", "--force"], "cannot be used with"),
        (&["learn", "--diff", "--match=a*"], "cannot be used with"),
    ] {
        let (output, stdout, stderr) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    }
    let (output, help, _) = run(&["learn", "-h"]);
    assert_eq!(output.status.code(), Some(0));
    for part in ["--match <PATTERN>", "--force", "--diff", "Exit status: 0"] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
}
