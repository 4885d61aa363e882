//! The demo, as somebody uses it who breaks everything that it offers.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::machine::{CACHE, Machine, Systemd};
use crate::wait::wait_for;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/demo");

/// What a build and a page take on a busy host.
const PATIENCE: Duration = Duration::from_secs(300);

/// What breaks, whom the resolved notice names, and the words of the notice before that.
const FAULTS: [(&str, &str, &[&str]); 8] = [
    (
        "write-path",
        "quantum-portfolio-intelligence.service",
        &[
            "PAGE: CRITICAL",
            "A service cannot write where it has to.",
            "cause: write path /home/qt/quantum_trader/logs denied",
        ],
    ),
    (
        "loop",
        "quantum-rl-feedback-v2.service",
        &[
            "PAGE: CRITICAL",
            "A unit restarts again and again.",
            "cause: missing executable",
        ],
    ),
    (
        "module",
        "quantum-rl-sizer.service",
        &[
            "PAGE: CRITICAL",
            "A unit restarts again and again.",
            "cause: missing module",
        ],
    ),
    (
        "stop",
        "quantum-strategy-ops.service",
        &[
            "PAGE: CRITICAL",
            "A service that should run is down.",
            "should be running and is stopped",
        ],
    ),
    (
        "reference",
        "quantum-ai-engine",
        &["TICKET: WARNING", "Units name a unit that does not exist."],
    ),
    (
        "drift",
        "unit-files",
        &["TICKET: WARNING", "quantum-ceo-brain.service (modified)"],
    ),
    (
        "hostname",
        "quantum_redis",
        &[
            "PAGE: CRITICAL",
            "cause: hostname quantum_redis: temporary",
            "quantum-market-publisher.service",
        ],
    ),
    (
        "redis",
        "redis-quantum",
        &[
            "PAGE: CRITICAL",
            "cause: redis quantum: refused",
            "quantum-risk-brain.service",
        ],
    ),
];

#[test]
fn what_the_demo_offers_breaks_and_is_told_and_mended() {
    if Machine::boot(Systemd::V252).is_none() {
        return;
    }
    let mut demo = Demo::start();
    demo.until("Ctrl-C ends the demo", |screen| {
        screen.contains("Ctrl-C ends the demo")
    });
    let metrics = demo.get("exporter", "/metrics");
    assert!(metrics.contains("\nbaseline_info{"), "{metrics}");
    for server in ["Prometheus", "Alertmanager"] {
        let ready = demo.get(server, "/-/ready");
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    }
    assert_eq!(ask(&["check"]).status.code(), Some(0));
    assert_eq!(ask(&["break", "nothing"]).status.code(), Some(2));

    // While Redis is down, units that fail are first taken to fail because of it: it comes last.
    let (first, last) = FAULTS.split_at(6);
    demo.break_and_wait(first, &first[..4]);
    demo.break_and_wait(last, &FAULTS);
    let check = ask(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");

    for (fault, ..) in FAULTS {
        let fixed = ask(&["fix", fault]);
        let said = String::from_utf8_lossy(&fixed.stdout);
        assert!(said.starts_with("Done, as rules/runbook.md says"), "{said}");
    }
    for (_, subject, _) in FAULTS {
        let notice = format!("  RESOLVED {subject} on localhost:20107\n");
        demo.until(&notice, |screen| screen.contains(&notice));
    }
    wait_for("all checks to hold", PATIENCE, || {
        let check = ask(&["check"]);
        match check.status.code() {
            Some(0) => Ok(()),
            _ => Err(format!("{check:?}")),
        }
    });
    demo.end();
}

/// `tests/demo` with these words.
fn ask(words: &[&str]) -> Output {
    Command::new(DEMO).args(words).output().unwrap()
}

/// The demo that runs in a terminal of its own.
struct Demo {
    process: Child,
    screen: Arc<Mutex<String>>,
}

impl Demo {
    fn start() -> Self {
        let mut process = Command::new(DEMO)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut chunk) {
                shown
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
        });
        Self { process, screen }
    }

    /// Waits until what is on the screen is as wanted.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        wait_for(what, PATIENCE, || {
            let screen = self.screen.lock().unwrap();
            if wanted(&screen) {
                Ok(())
            } else {
                Err(screen.clone())
            }
        });
    }

    /// Breaks some and waits until some are told of.
    #[track_caller]
    fn break_and_wait(&self, breaks: &[(&str, &str, &[&str])], told: &[(&str, &str, &[&str])]) {
        for (fault, ..) in breaks {
            let broken = ask(&["break", fault]);
            assert!(broken.stdout.starts_with(b"Broken: "), "{broken:?}");
        }
        for (fault, subject, words) in told {
            self.until(&format!("{fault}: {subject} {words:?}"), |screen| {
                // Each begins with its time.
                screen.split("\n\n20").any(|notice| {
                    // Lines end where they are full.
                    let notice = notice.split_whitespace().collect::<Vec<_>>().join(" ");
                    notice.contains(subject) && words.iter().all(|word| notice.contains(word))
                })
            });
        }
    }

    /// What a server answers at the address that the screen shows for it.
    #[track_caller]
    fn get(&self, server: &str, path: &str) -> String {
        let screen = self.screen.lock().unwrap().clone();
        let line = screen.lines().find(|line| line.starts_with(server));
        let (_, address) = line.expect(server).split_once("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        io::read_to_string(stream).unwrap()
    }

    /// Presses Ctrl-C, and looks whether anything is left.
    #[track_caller]
    fn end(&mut self) {
        let pid = Pid::from_child(&self.process);
        let machine = format!("machine-{pid}-0");
        assert!(processes_of(&machine) > 20, "it can be told which they are");
        kill_process_group(pid, Signal::INT).unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert_eq!(processes_of(&machine), 0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&machine), "{mounts}");
        let cgroups = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
        for mount in cgroups.map(|line| line.split(' ').nth(4).unwrap()) {
            assert!(!Path::new(mount).join(&machine).exists());
        }
        assert!(!Path::new(CACHE).join("demo.socket").exists());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its machine ends with it, and it may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// How many processes there are in a machine and around it.
fn processes_of(machine: &str) -> usize {
    let tells = |path: &Path| fs::read(path).is_ok_and(|text| contains(&text, machine.as_bytes()));
    let processes = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    processes
        .filter(|process| tells(&process.join("cgroup")) || tells(&process.join("cmdline")))
        .count()
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
