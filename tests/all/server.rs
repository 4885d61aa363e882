//! A program that answers HTTP inside a machine: the exporter, above all.

use std::fs;
use std::io::{Read, Write};

use rustix::process::Pid;
use serde_json::Value;

use crate::machine::{Machine, Output};
use crate::metrics::Metrics;
use crate::wait::{PATIENCE, wait_for};

const BINARY: &str = "/usr/local/bin/baseline-exporter";
const EXPORTER_PORT: u16 = 9990;
const DEFAULT_PORT: u16 = 20107;

/// A service that listens on the machine's loopback.
#[derive(Debug)]
pub struct Server<'m> {
    machine: &'m Machine,
    service: String,
    port: u16,
}

impl Machine {
    /// The exporter, running as `baseline-exporter.service` under a user of its own.
    #[track_caller]
    pub fn exporter(&self, args: &[&str]) -> Server<'_> {
        self.exporter_as("exporter", args)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// The exporter as it is started without any flag, on its default port.
    #[track_caller]
    pub fn exporter_by_default(&self) -> Server<'_> {
        self.install_exporter();
        let service = "baseline-exporter.service";
        let server = Server::start(self, service, "exporter", DEFAULT_PORT, &[BINARY]);
        server.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The exporter, running under `user`. The error says why it does not listen, with its log.
    pub fn exporter_as(&self, user: &str, args: &[&str]) -> Result<Server<'_>, String> {
        self.install_exporter();
        let listen = format!("--web.listen-address=127.0.0.1:{EXPORTER_PORT}");
        let argv = [&[BINARY, &listen], args].concat();
        Server::start(
            self,
            "baseline-exporter.service",
            user,
            EXPORTER_PORT,
            &argv,
        )
    }

    /// What `baseline-exporter check` says, run by root.
    pub fn check(&self, args: &[&str]) -> Output {
        self.install_exporter();
        self.try_run(&[&[BINARY, "check"], args].concat())
    }

    /// As [`check`](Self::check), run by a user whom only the system bus tells anything.
    pub fn check_as(&self, user: &str, args: &[&str]) -> Output {
        self.install_exporter();
        let user = ["--reuid", user, "--regid", user, "--clear-groups"];
        self.try_run(&[&["setpriv"], &user[..], &[BINARY, "check"], args].concat())
    }

    /// What `baseline-exporter learn` says, run by root.
    pub fn learn(&self, args: &[&str]) -> Output {
        self.install_exporter();
        self.try_run(&[&[BINARY, "learn"], args].concat())
    }

    /// Once: a program that runs cannot be written to.
    fn install_exporter(&self) {
        // Beside it first: a program that runs cannot be written to.
        let new = format!("{BINARY}.new");
        self.write_program(
            &new,
            &fs::read(env!("CARGO_BIN_EXE_baseline-exporter")).unwrap(),
        );
        self.run(&["mv", &new, BINARY]);
    }
}

impl<'m> Server<'m> {
    /// Runs `argv` as a service and waits until it listens on `port`.
    pub fn start(
        machine: &'m Machine,
        service: &str,
        user: &str,
        port: u16,
        argv: &[&str],
    ) -> Result<Self, String> {
        let server = Self {
            machine,
            service: service.to_owned(),
            port,
        };
        let command: Vec<_> = argv.iter().map(|arg| quoted(arg)).collect();
        let text = format!(
            "[Service]\nType=exec\nUser={user}\nExecStart={}\nStandardOutput=append:{log}\nStandardError=append:{log}\n",
            command.join(" "),
            log = server.log_path(),
        );
        machine.write_file(&format!("/run/systemd/system/{service}"), &text);
        machine.systemctl(&["daemon-reload"]);
        // A program that ends at once makes this fail or not, as the race goes: what became of the
        // service is asked below.
        machine.try_run(&["systemctl", "start", service]);
        wait_for(&format!("{service} to listen on {port}"), PATIENCE, || {
            if machine.connect(port).is_ok() {
                return Ok(Ok(()));
            }
            match machine.property(service, "ActiveState").as_str() {
                state @ ("failed" | "inactive") => Ok(Err(format!(
                    "{service} is {state} (exit status {}) and said:\n{}",
                    machine.property(service, "ExecMainStatus"),
                    server.log(),
                ))),
                state => Err(format!("{state}, its log: {}", server.log())),
            }
        })?;
        Ok(server)
    }

    /// A service that something else started, once it listens on `port`.
    #[track_caller]
    pub fn of(machine: &'m Machine, service: &str, port: u16) -> Self {
        wait_for(&format!("{service} to listen on {port}"), PATIENCE, || {
            let refused = machine.connect(port).err();
            refused.map_or(Ok(()), |error| {
                let status = machine.try_run(&["systemctl", "status", service]);
                Err(format!("{error}; {status}"))
            })
        });
        Self {
            machine,
            service: service.to_owned(),
            port,
        }
    }

    /// The answer to one GET request.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", path, headers, "")
    }

    /// The answer to one POST request whose body is JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        let body = body.to_string();
        let length = body.len().to_string();
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", &length),
        ];
        self.request("POST", path, &headers, &body)
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let port = self.port;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("Connection: close\r\n\r\n");
        request.push_str(body);

        let stream = self.machine.connect(self.port);
        let mut stream = stream.unwrap_or_else(|error| panic!("{error}, its log: {}", self.log()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a whole answer");
        Response::parse(&answer)
    }

    /// What /metrics says in Prometheus's text format.
    #[track_caller]
    pub fn scrape(&self) -> Metrics {
        let response = self.get("/metrics", &[("Accept", "text/plain; version=0.0.4")]);
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// As [`scrape`](Self::scrape), by a scraper that says how long it waits. The exporter answers
    /// something other than 200 when that is over.
    #[track_caller]
    pub fn scrape_within(&self, seconds: &str) -> Metrics {
        let timeout = ("X-Prometheus-Scrape-Timeout-Seconds", seconds);
        let response = self.get("/metrics", &[timeout]);
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// Waits until a Prometheus or an Alertmanager says that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_for(&format!("{} to be ready", self.service), PATIENCE, || {
            // It may be on its way to listen.
            self.machine
                .connect(self.port)
                .map_err(|error| format!("{error}, its log: {}", self.log()))?;
            match self.get("/-/ready", &[]).status {
                200 => Ok(()),
                status => Err(format!("{status}, its log: {}", self.log())),
            }
        });
    }

    /// What it logged at level warn or worse.
    #[track_caller]
    pub fn complaints(&self) -> String {
        let levels = ["level=warn", "level=error", "level=WARN", "level=ERROR"];
        let log = self.log();
        let lines = log
            .lines()
            .filter(|line| levels.iter().any(|level| line.contains(level)));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Stops it and removes its log, so that the next of its name has a log of its own.
    #[track_caller]
    pub fn stop(self) {
        self.machine.systemctl(&["stop", &self.service]);
        self.machine.run(&["rm", &self.log_path()]);
    }

    /// Restarts a Prometheus or an Alertmanager, and waits until it is ready again.
    #[track_caller]
    pub fn restart(&self) {
        self.machine.systemctl(&["restart", &self.service]);
        self.wait_until_ready();
    }

    /// The server's process, by the host's number.
    #[track_caller]
    pub fn pid(&self) -> Pid {
        self.machine.pid_of(&self.service)
    }

    /// All that it wrote to stdout and stderr since it was first started.
    #[track_caller]
    pub fn log(&self) -> String {
        self.machine.read_file(&self.log_path())
    }

    fn log_path(&self) -> String {
        format!("/run/{}.log", self.service)
    }
}

/// One argument of ExecStart=, as systemd's own quoting wants it.
fn quoted(arg: &str) -> String {
    let escaped = arg
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    format!("\"{escaped}\"")
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    #[track_caller]
    fn parse(answer: &[u8]) -> Self {
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("an end of the headers");
        let head = std::str::from_utf8(&answer[..end]).expect("headers are text");
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .expect("a status line");
        let headers = lines
            .map(|line| line.split_once(':').expect("a colon in each header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = answer[end + 4..].to_vec();
        let mut response = Self {
            status: status.parse().unwrap(),
            headers,
            body,
        };
        match response.header("transfer-encoding") {
            None => {}
            Some("chunked") => response.body = unchunked(&response.body),
            Some(other) => panic!("a transfer coding that is not understood here: {other}"),
        }
        response
    }

    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body, which has to be UTF-8.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }
}

/// The body that these chunks make up.
#[track_caller]
fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a line with the length of a chunk");
        let length = std::str::from_utf8(&chunks[..end]).expect("a length is text");
        let length = usize::from_str_radix(length, 16).expect("a length is hexadecimal");
        if length == 0 {
            return body;
        }
        let start = end + 2;
        body.extend_from_slice(&chunks[start..start + length]);
        chunks = &chunks[start + length + 2..];
    }
}

#[test]
fn chunks_make_a_body() {
    assert_eq!(
        unchunked(b"4\r\nfour\r\nB\r\n and\r\n more\r\n0\r\n\r\n"),
        b"four and\r\n more"
    );
    assert_eq!(unchunked(b"0\r\n\r\n"), b"");
}
