//! An exporter that a test starts, and a client that talks to it over a plain socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baseline-exporter"));
    command
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> (Output, String, String) {
    let output = command(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stdout, stderr)
}

/// A system bus that takes connections and says nothing: looks wait for it.
pub struct SilentBus {
    _directory: tempfile::TempDir,
    listener: UnixListener,
    pub address: String,
}

impl SilentBus {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        Self {
            listener: UnixListener::bind(&path).unwrap(),
            address: format!("unix:path={}", path.display()),
            _directory: directory,
        }
    }

    /// Hangs up, so that looks end.
    pub fn hang_up(self) {
        drop(self.listener);
    }
}

/// A running exporter, killed at the end of its test.
pub struct Exporter {
    pub child: Child,
    pub addresses: Vec<String>,
    pub log: Receiver<String>,
}

impl Exporter {
    pub fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["--web.listen-address=127.0.0.1:0"];
        all.extend(arguments);
        Self::spawn(command(&all), 1)
    }

    pub fn start_on(bus: &SilentBus) -> Self {
        let mut command = command(&["--web.listen-address=127.0.0.1:0"]);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
        Self::spawn(command, 1)
    }

    pub fn spawn(mut command: Command, listeners: usize) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut exporter = Self {
            child,
            addresses: Vec::new(),
            log,
        };
        while exporter.addresses.len() < listeners {
            let line = exporter.log_line("msg=listening");
            let (_, address) = line.split_once("address=").unwrap();
            exporter.addresses.push(address.to_owned());
        }
        exporter
    }

    /// The next log line that contains `part`.
    pub fn log_line(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.addresses[0])
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect().ask("GET", path, headers)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// One connection to an exporter.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case: names and a colon, then the value as it came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.write(request.as_bytes());
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers);
        self.receive(method == "HEAD")
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn receive(&mut self, head_only: bool) -> Answer {
        let line = self.line();
        let status = line.split(' ').nth(1).unwrap_or_default().parse().unwrap();
        let mut answer = Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let header = (name.to_ascii_lowercase(), value.to_owned());
            answer.headers.push(header);
        }
        if !head_only {
            let length = answer.header("content-length").unwrap().parse().unwrap();
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// True once the exporter closed the connection without saying more; waits for that or a word.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(more) => more.is_empty(),
            // A reset is a close too; that nothing came in time is none.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                true
            }
        }
    }
}
