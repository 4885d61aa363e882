//! What `tests/demo` runs. Without a word: a machine with the deployment in good health, the exporter,
//! Prometheus and Alertmanager with the shipped files, and a receiver that prints each page. With
//! `break`, `fix` or `check`: asks the one that runs to do it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are those of the tests"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it talks to a terminal"
)]

#[path = "../all/alertmanager.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod alertmanager;
#[path = "../incidents/faults.rs"]
mod faults;
mod forward;
#[path = "../all/machine.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod machine;
mod menu;
#[path = "../all/metrics.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod metrics;
#[path = "../incidents/pages.rs"]
mod pages;
#[path = "../all/prometheus.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod prometheus;
#[path = "../incidents/replay.rs"]
#[expect(dead_code, reason = "tests/incidents uses the rest of it")]
mod replay;
#[path = "../incidents/runbook.rs"]
#[expect(dead_code, reason = "tests/incidents uses the rest of it")]
mod runbook;
#[path = "../all/server.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod server;
#[path = "../all/stack.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod stack;
#[path = "../all/wait.rs"]
mod wait;
#[path = "../all/webhook.rs"]
mod webhook;
#[path = "../all/world.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use crate::forward::forward;
use crate::machine::{Machine, Systemd};
use crate::menu::Fault;
use crate::prometheus::Generation;
use crate::replay::{BASELINE, FACTOR, Replay};
use crate::webhook::Notification;

/// Where the demo that runs listens for commands.
const SOCKET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/demo.socket");

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        [] => run().map(|()| ExitCode::SUCCESS),
        ["check"] => ask("check"),
        [what @ ("break" | "fix"), fault] if Fault::named(fault).is_some() => {
            ask(&format!("{what} {fault}"))
        }
        _ => {
            eprintln!("{}", menu::text());
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

/// Asks the demo that runs, prints its answer and ends with its status.
fn ask(command: &str) -> io::Result<ExitCode> {
    let mut stream = UnixStream::connect(SOCKET).map_err(|error| {
        io::Error::other(format!(
            "No demo runs (nobody listens on {SOCKET}: {error}). Start it in another terminal: tests/demo"
        ))
    })?;
    stream.write_all(command.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    print!("{text}");
    match status.trim_end().parse::<u8>() {
        Ok(status) => Ok(status.into()),
        Err(_) => Err(io::Error::other("The demo ended before it had an answer.")),
    }
}

/// What the demo waits for.
enum Event {
    /// Somebody asks for something.
    Command(UnixStream),
    /// Ctrl-C.
    End,
}

/// Boots, shows and serves until Ctrl-C. Ctrl-C before that ends the process at once, and the
/// machine with it.
fn run() -> io::Result<()> {
    if UnixStream::connect(SOCKET).is_ok() {
        return Err(io::Error::other("A demo runs already: end it with Ctrl-C."));
    }
    println!(
        "Starting: a systemd of its own with the quantum-trader deployment (12 services run, 2 are\n\
         disabled, 13 absent) and Redis; the exporter; Prometheus and Alertmanager of Debian 12, fetched\n\
         the first time. It takes half a minute."
    );
    let Some(machine) = replay::deployment(Systemd::V252) else {
        return Err(io::Error::other("The demo needs a machine."));
    };
    menu::prepare(&machine);
    let replay = Replay::start("demo", &machine);

    let (sender, events) = mpsc::channel();
    end_on_signals(sender.clone())?;
    let socket = Socket::listen(sender)?;
    println!(
        "\nexporter      http://{}\nPrometheus    http://{}\nAlertmanager  http://{}\n\n\
         Shortened: what the shipped rules and routes wait for takes a {FACTOR}th of its time here, and\n\
         scrapes come every second instead of every 15. Expressions, routes and texts are as shipped.\n\n\
         {}",
        forward(&machine, 20107)?,
        forward(&machine, 9090)?,
        forward(&machine, 9093)?,
        menu::text()
    );

    let mut broken = BTreeSet::new();
    loop {
        match events.recv_timeout(Duration::from_millis(100)) {
            // Whoever asked and went away misses the answer.
            Ok(Event::Command(stream)) => serve(&machine, &mut broken, stream).unwrap_or_default(),
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        for notification in replay.stack.webhook.take() {
            print_page(&machine, &notification);
        }
    }
    println!("\nEnding.");
    drop(socket);
    drop(replay);
    drop(machine);
    println!("Nothing is left.");
    Ok(())
}

/// Does what somebody asks for, prints it here and tells it there.
fn serve(
    machine: &Machine,
    broken: &mut BTreeSet<&'static str>,
    mut stream: UnixStream,
) -> io::Result<()> {
    let mut command = String::new();
    stream.read_to_string(&mut command)?;
    let (status, text) = match command.split_once(' ') {
        Some((what, fault)) => match Fault::named(fault) {
            Some(fault) if what == "break" => (0, break_it(machine, broken, fault)),
            Some(fault) => (0, fix_it(machine, broken, fault)),
            None => (2, format!("Nobody knows the fault {fault}.\n")),
        },
        None => {
            let config = format!("--config.file={BASELINE}");
            let check = machine.try_run(&["baseline-exporter", "check", &config]);
            let status = check.status.code().unwrap_or(2);
            (status, check.stdout + &check.stderr)
        }
    };
    print!("\n{} $ tests/demo {command}\n{text}", now());
    stream.write_all(format!("{status}\n{text}").as_bytes())
}

fn break_it(machine: &Machine, broken: &mut BTreeSet<&'static str>, fault: &Fault) -> String {
    if !broken.insert(fault.name) {
        return format!(
            "It is broken already. Mend it: tests/demo fix {}\n",
            fault.name
        );
    }
    (fault.inject)(machine);
    format!(
        "Broken: {}.\nA {} comes within a minute.\n",
        fault.what, fault.tells
    )
}

fn fix_it(machine: &Machine, broken: &mut BTreeSet<&'static str>, fault: &Fault) -> String {
    if !broken.remove(fault.name) {
        return format!(
            "It is not broken. Break it: tests/demo break {}\n",
            fault.name
        );
    }
    let blocks = runbook::fixes();
    let mut text = "Done, as rules/runbook.md says:\n".to_owned();
    for (block, parameters) in fault.fix {
        machine.fix(block, parameters);
        text += &format!("\n  # {block}\n");
        for (name, value) in *parameters {
            text += &format!("  {name}=\"{value}\"\n");
        }
        for line in blocks[block].lines() {
            text += &format!("  {line}\n");
        }
    }
    text + "\nThe resolved notice comes within a minute.\n"
}

/// Shows a page or a ticket as the shipped template writes it; the dead man's signal is not shown.
fn print_page(machine: &Machine, notification: &Notification) {
    let kind = match notification.path.as_str() {
        "/critical" => "PAGE",
        "/warning" => "TICKET",
        _ => return,
    };
    let rendered = stack::render(machine, Generation::V242, &notification.body);
    let (title, text) = rendered.split_once("\n---\n").expect("a title and a text");
    let text: String = text
        .trim_end()
        .trim_end_matches("---")
        .lines()
        .map(|line| format!("  {line}").trim_end().to_owned() + "\n")
        .collect();
    print!("\n{} {kind}: {title}\n\n{text}", now());
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Has SIGINT, SIGTERM and SIGHUP end the demo in good order.
fn end_on_signals(events: Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate, mut hangup) = runtime.block_on(async {
        Ok::<_, io::Error>((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // Nobody listens any more only when it ends anyway.
        events.send(Event::End).ok();
    });
    Ok(())
}

/// The socket for commands; its file goes with it.
struct Socket;

impl Socket {
    fn listen(events: Sender<Event>) -> io::Result<Self> {
        // That of a demo that was killed.
        fs::remove_file(SOCKET).ok();
        let listener = UnixListener::bind(SOCKET)?;
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if events.send(Event::Command(stream)).is_err() {
                    break;
                }
            }
        });
        Ok(Self)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        fs::remove_file(SOCKET).ok();
    }
}
