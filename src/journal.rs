//! What a unit that fails wrote to the journal before it did: the last line that tells why.

mod masking;
mod signatures;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::systemd::unit::Unit;
pub use signatures::{Class, Clue};

const JOURNALCTL: &str = "/usr/bin/journalctl";

/// How many of the newest lines of a unit are read.
const LINES: &str = "--lines=60";

/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// How many journalctl may run at the same time.
const READERS: usize = 2;

/// More than this of what journalctl prints is not read, in bytes.
const MOST_OUTPUT: u64 = 256 * 1024;

/// More than this of what journalctl complains of is not read, in bytes.
const MOST_COMPLAINT: u64 = 4 * 1024;

/// A unit is not read more often than this.
const UNIT_INTERVAL: Duration = Duration::from_secs(30);

/// No more than this many readings within a [`MINUTE`], whatever fails.
const MOST_READINGS: usize = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// What is written last may not be in the journal yet, so a failure of which nothing is found gets
/// a second reading.
const TRIES: u32 = 2;

/// Reads what failing units wrote. Clones share what is known.
///
/// Everything here is a help for whoever looks for a cause: without the journal, or without
/// permission to read it, there are fewer clues and nothing else is missing.
#[derive(Debug, Clone)]
pub struct Journal {
    journalctl: Arc<str>,
    timeout: Duration,
    ledger: Arc<Mutex<Ledger>>,
    readers: Arc<Semaphore>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::by(JOURNALCTL, READ_TIMEOUT)
    }
}

impl Journal {
    fn by(journalctl: &str, timeout: Duration) -> Self {
        Self {
            journalctl: journalctl.into(),
            timeout,
            ledger: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Why the unit fails, as far as the journal tells; `None` where it does not, where it cannot
    /// be read, and until it could be read.
    ///
    /// Meant for units that failed or are in a restart loop, and only for these: each new failure
    /// starts a program. That takes a second at most, and no longer than `deadline`.
    pub async fn read(&self, unit: &Arc<Unit>, deadline: Instant) -> Option<Clue> {
        let failure = Failure::of(unit)?;
        let until = deadline.min(Instant::now() + self.timeout);
        let Ok(Ok(_reader)) = timeout_at(until, self.readers.acquire()).await else {
            return self.ledger().known(&unit.name);
        };
        if !self.ledger().begin(&unit.name, &failure, Instant::now()) {
            return self.ledger().known(&unit.name);
        }
        let outcome = match timeout_at(until, self.journalctl(&unit.id)).await {
            Ok(Ok(output)) => Ok(newest_clue(&output, &failure)),
            Ok(Err(reason)) => Err((MINUTE, reason)),
            // That the look has no more time is no fault of the journal.
            Err(_) if until == deadline => return self.ledger().known(&unit.name),
            Err(_) => Err((
                UNIT_INTERVAL,
                format!("{} took longer than {:?}", self.journalctl, self.timeout),
            )),
        };
        let mut ledger = self.ledger();
        ledger.end(&unit.name, outcome, Instant::now());
        ledger.known(&unit.name)
    }

    /// Drops the clues of all units but these, which are the ones that still fail.
    pub fn forget_all_but(&self, failing: &[Arc<Unit>]) {
        self.ledger().forget_all_but(failing, Instant::now());
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit's newest lines, newest first, as JSON objects, one a line.
    ///
    /// By journalctl rather than from the files: their format has compression, hash tables and
    /// rotation in it, changes with systemd, and has no reader but systemd's own C library. A child
    /// can also be ended, whatever the disk does to it.
    async fn journalctl(&self, id: &str) -> Result<Vec<u8>, String> {
        let program = &*self.journalctl;
        let mut child = Command::new(program)
            // In one argument, so that no name is taken for an option.
            .arg(format!("--unit={id}"))
            .args([
                "--system",
                LINES,
                // If there is too much of it, the oldest lines are missing.
                "--reverse",
                "--output=json",
                "--output-fields=MESSAGE,INVOCATION_ID,_SYSTEMD_INVOCATION_ID",
                "--no-pager",
                "--quiet",
            ])
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("starting {program} failed: {error}"))?;
        let failed = |error| format!("reading from {program} failed: {error}");
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = stdout.take(MOST_OUTPUT);
            stdout.read_to_end(&mut output).await.map_err(failed)?;
            if stdout.limit() == 0 {
                // Enough. Dropped with the pipe, it ends.
                return Ok(output);
            }
        }
        // What it complains of fits into the pipe: it need not be read at the same time.
        let mut complaint = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            let mut stderr = stderr.take(MOST_COMPLAINT);
            stderr.read_to_end(&mut complaint).await.map_err(failed)?;
        }
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(output);
        }
        let complaint = masking::mask(&masking::clean(&String::from_utf8_lossy(&complaint)));
        Err(format!(
            "{program} failed ({status}): {complaint} (only root and members of the group systemd-journal may read the journal)"
        ))
    }
}

/// Whether this process may read the host's journal; `None` where there is none.
pub fn is_readable() -> Option<bool> {
    is_readable_below(Path::new("/"))
}

fn is_readable_below(root: &Path) -> Option<bool> {
    let machine = fs::read_to_string(root.join("etc/machine-id")).ok()?;
    // On disk, or in memory.
    ["var/log/journal", "run/log/journal"]
        .iter()
        .find_map(|directory| {
            let file = root
                .join(directory)
                .join(machine.trim())
                .join("system.journal");
            match File::open(file) {
                Ok(_) => Some(true),
                Err(error) => (error.kind() == ErrorKind::PermissionDenied).then_some(false),
            }
        })
}

/// One failure of one unit: equal for as long as nothing more happens to the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    invocation: u128,
    activations: u64,
    failures: u64,
    restarts: u64,
    active_state: Cow<'static, str>,
}

impl Failure {
    /// `None` for a unit that was never started: it wrote nothing.
    fn of(unit: &Unit) -> Option<Self> {
        let service = unit.service.as_ref();
        (unit.invocation != 0).then(|| Self {
            invocation: unit.invocation,
            activations: unit.activations,
            failures: service.map_or(0, |service| service.failures),
            restarts: service.map_or(0, |service| service.auto_restarts),
            active_state: unit.active_state.clone(),
        })
    }

    fn is_down(&self) -> bool {
        matches!(&*self.active_state, "inactive" | "failed")
    }
}

/// What is known, and when it was read.
#[derive(Debug, Default)]
struct Ledger {
    units: HashMap<Arc<str>, Reading>,
    /// When the latest readings were begun, no more than [`MOST_READINGS`].
    begun: VecDeque<Instant>,
    /// Until then the journal is not tried again: it could not be read.
    closed_until: Option<Instant>,
    /// True while the last reading failed.
    closed: bool,
}

/// The last reading of one unit.
#[derive(Debug)]
struct Reading {
    failure: Failure,
    begun: Instant,
    /// Readings of this failure that came to an end.
    tries: u32,
    clue: Option<Clue>,
}

impl Ledger {
    fn known(&self, name: &str) -> Option<Clue> {
        self.units.get(name)?.clue.clone()
    }

    /// Whether the unit may be read now; true counts as a reading that has begun.
    fn begin(&mut self, name: &Arc<str>, failure: &Failure, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let last = self.units.get(name);
        let is_known = last.is_some_and(|last| {
            since(last.begun) < UNIT_INTERVAL
                || (last.failure == *failure && (last.clue.is_some() || last.tries >= TRIES))
        });
        while self.begun.front().is_some_and(|at| since(*at) >= MINUTE) {
            self.begun.pop_front();
        }
        if is_known
            || self.begun.len() >= MOST_READINGS
            || self.closed_until.is_some_and(|until| now < until)
        {
            return false;
        }
        self.begun.push_back(now);
        let (tries, clue) = match self.units.remove(name) {
            Some(last) if last.failure == *failure => (last.tries, last.clue),
            // Better than none until the new one is in.
            Some(last) => (0, last.clue),
            None => (0, None),
        };
        let reading = Reading {
            failure: failure.clone(),
            begun: now,
            tries,
            clue,
        };
        self.units.insert(name.clone(), reading);
        true
    }

    /// Takes over what was found; or for how long the journal is not to be tried again, and why.
    fn end(&mut self, name: &str, outcome: Result<Option<Clue>, (Duration, String)>, now: Instant) {
        match outcome {
            Ok(clue) => {
                if let Some(reading) = self.units.get_mut(name) {
                    reading.clue = clue;
                    reading.tries += 1;
                }
                if self.closed {
                    info!("the journal can be read again");
                }
                self.closed = false;
                self.closed_until = None;
            }
            Err((pause, reason)) => {
                if !self.closed {
                    warn!(reason, "causes that only the journal tells are not found");
                }
                self.closed = true;
                self.closed_until = Some(now + pause);
            }
        }
    }

    /// When they were read stays: a unit that comes and goes is not read any more often.
    fn forget_all_but(&mut self, failing: &[Arc<Unit>], now: Instant) {
        self.units.retain(|name, reading| {
            if failing.iter().any(|unit| unit.name == *name) {
                return true;
            }
            reading.clue = None;
            now.saturating_duration_since(reading.begun) < UNIT_INTERVAL
        });
    }
}

/// One line of the journal, as journalctl prints it. A field that is too long for it is null.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    /// Set by systemd, where it speaks of the unit.
    #[serde(rename = "INVOCATION_ID", default)]
    about: Value,
    /// Set by journald, where a process of the unit speaks.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    by: Value,
}

impl Entry {
    /// The run of the unit that it belongs to.
    fn invocation(&self) -> Option<u128> {
        let id = text(&self.about).or_else(|| text(&self.by))?;
        u128::from_str_radix(&id, 16).ok()
    }
}

/// The clue of the run that failed. Of a unit that is down, that is its last one; of one that is
/// started again and again, perhaps only the one before.
fn newest_clue(output: &[u8], failure: &Failure) -> Option<Clue> {
    let mut runs: Vec<u128> = Vec::new();
    let mut messages = Vec::new();
    for line in output.split(|byte| *byte == b'\n') {
        // The last line may be cut off.
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
            continue;
        };
        let Some(run) = entry.invocation() else {
            continue;
        };
        if failure.is_down() && run != failure.invocation {
            continue;
        }
        if !runs.contains(&run) {
            if runs.len() == 2 {
                break;
            }
            runs.push(run);
        }
        messages.extend(text(&entry.message));
    }
    signatures::clue(messages.iter().map(String::as_str))
}

/// The text of a field: journalctl prints what is no UTF-8, or no printable text, as an array of its
/// bytes, and what an entry holds several times as an array of all of it, of which this takes the
/// first.
fn text(field: &Value) -> Option<String> {
    match field {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => match items.first()? {
            Value::String(text) => Some(text.clone()),
            Value::Array(bytes) => from_bytes(bytes),
            _ => from_bytes(items),
        },
        _ => None,
    }
}

fn from_bytes(items: &[Value]) -> Option<String> {
    let byte = |item: &Value| u8::try_from(item.as_u64()?).ok();
    let bytes: Vec<u8> = items.iter().map(byte).collect::<Option<_>>()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(failures: u64) -> Failure {
        Failure {
            invocation: 2,
            activations: 0,
            failures,
            restarts: 0,
            active_state: Cow::Borrowed("failed"),
        }
    }

    fn some_clue() -> Option<Clue> {
        signatures::clue(["MemoryError"].into_iter())
    }

    /// As journalctl prints it: a program speaks of itself, systemd of a unit.
    fn entry(run: u128, message: &str) -> String {
        format!("{{\"_SYSTEMD_INVOCATION_ID\":\"{run:032x}\",\"MESSAGE\":{message}}}\n")
    }

    #[test]
    fn a_journal_is_looked_for_on_disk_and_in_memory() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(is_readable_below(root.path()), None);
        write("etc/machine-id", "abc\n");
        assert_eq!(is_readable_below(root.path()), None);
        write("run/log/journal/abc/system.journal", "");
        assert_eq!(is_readable_below(root.path()), Some(true));
    }

    #[test]
    fn a_failure_is_read_once_and_a_unit_not_too_often() {
        let (name, mut ledger, start) = (Arc::from("a.service"), Ledger::default(), Instant::now());
        assert!(ledger.begin(&name, &failure(1), start));
        ledger.end(&name, Ok(some_clue()), start);
        assert_eq!(ledger.known(&name), some_clue());

        let later = start + UNIT_INTERVAL - Duration::from_millis(1);
        assert!(!ledger.begin(&name, &failure(2), later), "too early");
        let later = start + UNIT_INTERVAL;
        assert!(!ledger.begin(&name, &failure(1), later), "known");
        assert!(ledger.begin(&name, &failure(2), later));
        assert_eq!(ledger.known(&name), some_clue(), "until the new one is in");
        ledger.end(&name, Ok(None), later);
        assert_eq!(ledger.known(&name), None);
    }

    #[test]
    fn a_failure_that_told_nothing_is_read_once_more() {
        let (name, mut ledger, mut now) =
            (Arc::from("a.service"), Ledger::default(), Instant::now());
        for reads in [true, true, false, false] {
            assert_eq!(ledger.begin(&name, &failure(1), now), reads);
            if reads {
                ledger.end(&name, Ok(None), now);
            }
            now += MINUTE;
        }
    }

    #[test]
    fn however_much_fails_ten_units_a_minute_are_read() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let begun = |ledger: &mut Ledger, now: Instant| {
            (0..100)
                .filter(|n| ledger.begin(&format!("{n}.service").into(), &failure(1), now))
                .count()
        };
        assert_eq!(begun(&mut ledger, start), 10);
        assert_eq!(begun(&mut ledger, start + MINUTE / 2), 0);
        assert_eq!(begun(&mut ledger, start + MINUTE), 10);
    }

    #[test]
    fn a_closed_journal_is_left_alone_for_a_while() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let (one, other) = (Arc::from("a.service"), Arc::from("b.service"));
        assert!(ledger.begin(&one, &failure(1), start));
        ledger.end(&one, Err((MINUTE, "closed".to_owned())), start);
        let before = start + MINUTE - Duration::from_millis(1);
        assert!(!ledger.begin(&one, &failure(1), before));
        assert!(!ledger.begin(&other, &failure(1), before));
        assert!(ledger.begin(&one, &failure(1), start + MINUTE));
        assert!(ledger.begin(&other, &failure(1), start + MINUTE));
    }

    #[test]
    fn a_unit_that_holds_again_has_no_clue() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for name in ["a.service", "b.service"] {
            ledger.begin(&name.into(), &failure(1), now);
            ledger.end(name, Ok(some_clue()), now);
        }
        let failing = [Arc::new(Unit::new("b.service", 0))];
        ledger.forget_all_but(&failing, now);
        assert_eq!(ledger.known("a.service"), None);
        assert_eq!(ledger.known("b.service"), some_clue());
        assert!(!ledger.begin(&"a.service".into(), &failure(2), now));

        ledger.forget_all_but(&failing, now + UNIT_INTERVAL);
        assert_eq!(
            ledger.units.len(),
            1,
            "a unit that is long well leaves nothing"
        );
        assert_eq!(ledger.known("b.service"), some_clue());
    }

    #[test]
    fn only_the_run_that_failed_counts() {
        let class = |output: &str, state: &'static str| {
            let failure = Failure {
                active_state: Cow::Borrowed(state),
                ..failure(1)
            };
            newest_clue(output.as_bytes(), &failure).map(|clue| clue.class)
        };
        let quiet = entry(2, "\"hello\"");
        let before = entry(1, "\"MemoryError\"");
        let long_ago = entry(9, "\"permission denied\"");
        let output = format!("{quiet}{before}{long_ago}");
        assert_eq!(class(&output, "failed"), None);
        assert_eq!(class(&output, "active"), Some(Class::OutOfMemory));
        let output = format!("{quiet}{}{long_ago}", entry(1, "\"hello\""));
        assert_eq!(class(&output, "activating"), None, "too long ago");
        let by_systemd = format!(
            "{{\"INVOCATION_ID\":\"{:032x}\",\"_SYSTEMD_INVOCATION_ID\":\"{:032x}\",\
             \"MESSAGE\":\"killed by the OOM killer\"}}\n",
            2, 77
        );
        assert_eq!(class(&by_systemd, "failed"), Some(Class::OutOfMemory));
    }

    #[test]
    fn odd_output_is_read_as_far_as_it_makes_sense() {
        let bytes = |text: &[u8]| {
            let bytes: Vec<_> = text.iter().map(u8::to_string).collect();
            format!("[{}]", bytes.join(","))
        };
        let line = |output: &str| newest_clue(output.as_bytes(), &failure(1)).map(|clue| clue.line);
        let message = bytes(b"\x1b[31m\xff permission denied");
        let found = Some("\u{fffd} permission denied".to_owned());
        assert_eq!(line(&entry(2, &message)), found);
        assert_eq!(line(&entry(2, &format!("[{message},\"second\"]"))), found);
        let found = Some("permission denied".to_owned());
        assert_eq!(line(&entry(2, "[\"permission denied\",\"second\"]")), found);
        for odd in ["null", "7", "[]", "[300]", "[[]]", "{\"a\":1}", "[1,\"x\"]"] {
            assert_eq!(line(&entry(2, odd)), None, "{odd}");
        }
        let cut_off = entry(2, "\"permission denied\"");
        let cut_off = cut_off.trim_end().trim_end_matches('}');
        assert_eq!(line(cut_off), None);
        assert_eq!(line("no JSON\n[]\n\n{}\n"), None);
    }

    /// A journalctl of this shell script's making.
    struct Fake {
        dir: tempfile::TempDir,
    }

    impl Fake {
        fn new(script: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            // By a process of its own: a file that this one holds open cannot be run.
            let made = std::process::Command::new("/bin/sh")
                .args(["-c", "printf '%s' \"$1\" >\"$2\"; chmod +x \"$2\"", "sh"])
                .arg(format!("#!/bin/sh\necho $$ >>\"$0.pids\"\n{script}"))
                .arg(dir.path().join("journalctl"))
                .status();
            assert!(made.unwrap().success());
            Self { dir }
        }

        fn journal(&self) -> Journal {
            self.journal_within(MINUTE)
        }

        fn journal_within(&self, timeout: Duration) -> Journal {
            let program = self.dir.path().join("journalctl");
            Journal::by(program.to_str().unwrap(), timeout)
        }

        /// The processes that were started.
        fn pids(&self) -> Vec<String> {
            let pids = fs::read_to_string(self.dir.path().join("journalctl.pids"));
            let pids = pids.unwrap_or_default();
            pids.lines().map(str::to_owned).collect()
        }
    }

    fn unit(name: &str) -> Arc<Unit> {
        let mut unit = Unit::new(name, 0);
        unit.invocation = 2;
        unit.active_state = Cow::Borrowed("failed");
        Arc::new(unit)
    }

    fn soon() -> Instant {
        Instant::now() + MINUTE
    }

    #[tokio::test]
    async fn no_name_is_taken_for_an_option() {
        let fake = Fake::new(
            "printf '{\"INVOCATION_ID\":\"2\",\"MESSAGE\":\"permission denied, %s, %s\"}' \"$1\" \"$LC_ALL$HOME\"",
        );
        let clue = fake
            .journal()
            .read(&unit("--help.service"), soon())
            .await
            .unwrap();
        assert_eq!(clue.line, "permission denied, --unit=--help.service, C");
    }

    #[tokio::test]
    async fn endless_output_is_read_to_its_limit() {
        let fake =
            Fake::new("exec yes '{\"INVOCATION_ID\":\"2\",\"MESSAGE\":\"permission denied\"}'");
        let clue = fake.journal().read(&unit("a.service"), soon()).await;
        assert_eq!(clue.unwrap().class, Class::PermissionDenied);
        ended(&fake).await;
    }

    #[tokio::test]
    async fn a_journalctl_that_nobody_waits_for_is_ended() {
        let fake = Fake::new("exec sleep 1000");
        let (journal, unit) = (fake.journal(), unit("a.service"));
        tokio::select! {
            clue = journal.read(&unit, soon()) => panic!("{clue:?}"),
            () = started(&fake) => {}
        }
        ended(&fake).await;
    }

    #[tokio::test]
    async fn a_journalctl_that_hangs_is_left_alone_for_a_while() {
        let fake = Fake::new("exec sleep 1000");
        let journal = fake.journal_within(Duration::from_millis(10));
        for name in ["a.service", "b.service"] {
            assert_eq!(journal.read(&unit(name), soon()).await, None);
        }
        assert_eq!(journal.ledger().begun.len(), 1);
    }

    async fn started(fake: &Fake) {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while fake.pids().is_empty() {
            look.tick().await;
        }
    }

    /// Waits until what was started has ended.
    async fn ended(fake: &Fake) {
        let pids = fake.pids();
        assert_eq!(pids.len(), 1);
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while Path::new(&format!("/proc/{}", pids[0])).exists() {
            look.tick().await;
        }
    }

    #[tokio::test]
    async fn without_permission_or_program_there_is_no_clue() {
        let fake = Fake::new(
            "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1",
        );
        let journal = fake.journal();
        for name in ["a.service", "b.service"] {
            assert_eq!(journal.read(&unit(name), soon()).await, None);
        }
        assert_eq!(fake.pids().len(), 1);
        let journal = Journal::by("/nonexistent/journalctl", MINUTE);
        assert_eq!(journal.read(&unit("a.service"), soon()).await, None);
    }

    #[tokio::test]
    async fn what_was_never_started_is_not_read() {
        let fake = Fake::new("exit 0");
        let never = Arc::new(Unit::new("a.service", 0));
        assert_eq!(fake.journal().read(&never, soon()).await, None);
        assert!(fake.pids().is_empty());
    }
}
