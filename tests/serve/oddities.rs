//! What no honest client sends: it is refused or ignored, and the next honest scrape is answered.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::certificates::{Authority, curl};
use crate::exporter::{Client, Exporter};

/// What comes back on a connection on which this is sent, up to its end.
fn reply(exporter: &Exporter, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&exporter.addresses[0]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    // A connection that was reset cannot be shut down any more.
    stream.shutdown(Shutdown::Write).unwrap_or_default();
    let mut back = Vec::new();
    let mut part = [0; 4096];
    // A reset ends it too; what came before it counts.
    while let Ok(read) = stream.read(&mut part) {
        if read == 0 {
            break;
        }
        back.extend_from_slice(part.get(..read).unwrap());
    }
    String::from_utf8_lossy(&back).into_owned()
}

#[test]
fn nothing_is_smuggled_behind_a_request() {
    let exporter = Exporter::start(&[]);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = hidden.len();
    let chunk = format!("{length:x}");
    for (name, head, body) in [
        (
            "two lengths",
            "Content-Length: 0\r\nContent-Length: 5\r\n".to_owned(),
            hidden.to_owned(),
        ),
        (
            "length and chunks",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "chunk extension",
            "Transfer-Encoding: chunked\r\n".into(),
            format!("{chunk};a=b\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        (
            "chunk of a huge size",
            "Transfer-Encoding: chunked\r\n".into(),
            format!("fffffffffffffffff\r\n{hidden}"),
        ),
        (
            "unknown coding",
            "Transfer-Encoding: chunked, identity\r\n".into(),
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "body",
            format!("Content-Length: {length}\r\n"),
            hidden.to_owned(),
        ),
        (
            "endless body",
            "Content-Length: 99999999999\r\n".into(),
            hidden.to_owned(),
        ),
        (
            "signed length",
            "Content-Length: +5\r\n".into(),
            hidden.to_owned(),
        ),
        (
            "folded header",
            format!("A: b\r\n Content-Length: {length}\r\n"),
            hidden.to_owned(),
        ),
        (
            "blank before the colon",
            "Content-Length : 5\r\n".into(),
            hidden.to_owned(),
        ),
        ("NUL in a name", "A\0b: c\r\n".into(), hidden.to_owned()),
        ("NUL in a value", "A: b\0c\r\n".into(), hidden.to_owned()),
        ("no colon", "Ab\r\n".into(), hidden.to_owned()),
    ] {
        let text = format!("GET /-/healthy HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}");
        let reply = reply(&exporter, text.as_bytes());
        assert!(reply.matches("HTTP/1.1 ").count() <= 1, "{name}: {reply}");
        assert!(!reply.contains("nothing is here"), "{name}: {reply}");
        assert_eq!(exporter.get("/metrics", &[]).status, 200, "{name}");
    }
}

#[test]
fn what_is_nearly_a_request_is_no_trouble() {
    let exporter = Exporter::start(&[]);
    for (bytes, status) in [
        // The HTTP/2 preface.
        (
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
            None,
        ),
        (b"GET /-/healthy\r\n\r\n", Some("400")),
        (b"GET /-/healthy HTTP/1.1\nHost: x\n\n", Some("200")),
        (
            b"GET http://x/-/healthy HTTP/1.1\r\nHost: x\r\n\r\n",
            Some("200"),
        ),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", Some("404")),
        (
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            Some("404"),
        ),
        (b"GET /-/healthy HTTP/9.9\r\n\r\n", Some("400")),
        (b"\r\n\r\n\r\n", None),
        (b"\0\0\0\0\r\n\r\n", Some("400")),
        (b"", None),
    ] {
        let reply = reply(&exporter, bytes);
        let shown = String::from_utf8_lossy(bytes);
        match status {
            Some(status) => {
                let start = format!("HTTP/1.1 {status} ");
                assert!(reply.starts_with(&start), "{shown:?}: {reply}");
            }
            None => assert_eq!(reply, "", "{shown:?}"),
        }
        assert_eq!(exporter.get("/metrics", &[]).status, 200, "{shown:?}");
    }
}

#[test]
fn requests_in_one_piece_are_answered_in_their_order() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let paths = ["/-/healthy", "/nothing", "/-/ready", "/-/healthy"];
    client.write(paths.map(request).concat().as_bytes());
    let answers = paths.map(|_| client.receive(false).status);
    assert_eq!(answers, [200, 404, 503, 200]);
}

#[test]
fn a_port_that_speaks_tls_survives_all_who_do_not() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let path = authority.write(
        "web.yml",
        "tls_server_config: {cert_file: server.crt, key_file: server.key}\n",
    );
    let exporter = Exporter::start(&["--web.config.file", &path]);
    let url = format!("https://{}/metrics", exporter.addresses[0]);
    let (ca, trust) = (authority.path("ca.crt"), "--cacert");
    let scrape = || curl(&[trust, &ca, &url]).map(|(status, ..)| status);
    assert_eq!(scrape(), Ok(200));

    let plain = exporter.get("/metrics", &[]);
    assert_eq!(plain.status, 400);
    let text = "this port speaks TLS: use https:// instead of http://\n";
    assert_eq!(plain.text(), text);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    assert!(reply(&exporter, long.as_bytes()).ends_with(text));

    // Records that are none, that are cut short, and that never end.
    for bytes in [
        &b"\x16\x03\x01\xff\xff"[..],
        b"\x16\x03\x01\0\x05hello",
        b"\x80\x2e\x01\x03\x01",
        b"\x17\x03\x03\0\x01x",
        b"\0",
        b"",
    ] {
        let reply = reply(&exporter, bytes);
        assert!(!reply.contains("HTTP"), "{reply}");
    }
    assert_eq!(scrape(), Ok(200));

    // More who never finish their handshakes than there is room for.
    let mut crowd: Vec<Client> = Vec::new();
    for number in 0..600 {
        let mut client = exporter.connect();
        if number % 2 == 0 {
            client.write(b"\x16\x03\x01\x02\0\x01");
        }
        crowd.push(client);
        if number % 300 == 0 {
            assert_eq!(scrape(), Ok(200));
        }
    }
    assert_eq!(scrape(), Ok(200));
    assert!(crowd[0].is_closed(), "the oldest made room");
}
