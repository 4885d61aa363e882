//! Unix sockets, and sockets that systemd passes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::certificates::curl;
use crate::exporter::{Exporter, command, run};

fn ask(socket: &Path) -> Result<u16, String> {
    let socket = socket.to_str().unwrap();
    let answer = curl(&["--unix-socket", socket, "http://localhost/-/healthy"]);
    answer.map(|(status, ..)| status)
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x.sock");
    let listen = format!("--web.listen-address=unix:{}", socket.display());
    let start = || Exporter::spawn(command(&[&listen, "--web.listen-address=127.0.0.1:0"]), 2);

    let mut killed = start();
    assert_eq!(killed.addresses[0], format!("unix:{}", socket.display()));
    assert_eq!(ask(&socket), Ok(200));
    killed.child.kill().unwrap();
    killed.wait();
    assert!(socket.exists(), "nobody was left to remove it");

    let mut exporter = start();
    assert_eq!(ask(&socket), Ok(200), "a stale socket is replaced");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let (output, _, stderr) = run(&[&listen]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("another instance listens on it"),
        "{stderr}"
    );
    assert_eq!(ask(&socket), Ok(200), "one that is in use stays");

    exporter.signal(Signal::TERM);
    assert_eq!(exporter.wait().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn what_is_no_socket_stays_and_mistakes_are_sentences() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let long = directory.path().join("x".repeat(200));
    for (path, part) in [
        (file.clone(), "it is no socket"),
        (directory.path().join("none/x.sock"), "make the directory"),
        (long, "longer than the 107 bytes"),
    ] {
        let listen = format!("--web.listen-address=unix:{}", path.display());
        let (output, _, stderr) = run(&[&listen]);
        assert_eq!(output.status.code(), Some(1));
        let start = format!(
            "baseline-exporter: cannot listen on unix:{}: ",
            path.display()
        );
        assert!(stderr.starts_with(&start), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn sockets_of_systemd_are_served_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x.sock");
    // A port that is free: the kernel does not give it to the next one who asks for any.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut activate = Command::new("systemd-socket-activate");
    activate
        .args([
            "--listen",
            &port.to_string(),
            "--listen",
            socket.to_str().unwrap(),
        ])
        .args([
            "--setenv",
            "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus",
        ])
        .args([
            env!("CARGO_BIN_EXE_baseline-exporter"),
            "--web.systemd-socket",
        ]);
    let mut exporter = Exporter::spawn(activate, 0);
    exporter.log_line(&format!("Listening on {}", socket.display()));

    // It is started by whoever comes first, who is answered.
    assert_eq!(ask(&socket), Ok(200));
    let url = format!("http://{port}/-/healthy");
    assert_eq!(curl(&[&url]).unwrap().0, 200);
    exporter.log_line(&format!("address={port}"));
    exporter.log_line(&format!("address=unix:{}", socket.display()));
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.wait().code(), Some(0));
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}

#[test]
fn without_a_passed_socket_there_is_a_sentence() {
    let (output, _, stderr) = run(&["--web.systemd-socket"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.starts_with("baseline-exporter: systemd passed no socket"),
        "{stderr}"
    );
    let both = ["--web.systemd-socket", "--web.listen-address=127.0.0.1:0"];
    let (output, _, stderr) = run(&both);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}
