//! What the rest of the exporter may know of systemd: start watching, read the table.

mod bus;
pub mod cgroup;
pub mod exit;
pub mod manager;
mod private_socket;
mod properties;
pub mod settings;
mod sources;
pub mod table;
pub mod unit;
pub mod unit_files;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, watch as channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::baseline::Baseline;
pub use table::Others;
use table::Table;
use unit::{Stamp, Unit};

/// Where unit files lie unless systemd says otherwise (systemd.unit(5)), in their order.
const UNIT_PATH: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The running watch. Ends with the runtime.
#[derive(Debug, Clone)]
pub struct Watch {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// The units at one moment.
#[derive(Debug)]
pub struct Units {
    /// Every watched unit: those that the baseline names in its order, then those that match.
    pub watched: Vec<Arc<Unit>>,
    /// The host's other units.
    pub others: Others,
    /// The manager itself.
    pub manager: Manager,
    /// The moment, on both clocks.
    pub now: Stamp,
}

/// What systemd says of itself (org.freedesktop.systemd1.Manager).
#[derive(Debug, Clone, Default)]
pub struct Manager {
    /// SystemState: running, degraded, starting, …
    pub state: String,
    /// Version, as the distribution writes it.
    pub version: String,
    /// UnitPath: the directories of unit files, of which the earlier ones win.
    pub unit_path: Arc<[String]>,
}

/// How the connection to systemd has fared since the exporter was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Connected, read in full, and systemd answers.
    pub connected: bool,
    /// Connections that were lost after a full reading.
    pub reconnects: u64,
    /// Messages sent, on all connections.
    pub sent: u64,
    /// Messages received, signals and replies.
    pub received: u64,
    /// Comparisons of the table with a fresh list.
    pub resyncs: u64,
    /// Changes found by them that no signal had told.
    pub corrections: u64,
}

/// How far the table can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not everything that is watched was read yet: since the start, or since the baseline was
    /// read again.
    Reading,
    /// The table is what systemd says.
    Current,
    /// It is not, and why.
    Down(String),
}

/// What the watch task and the looks share.
#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    manager: Mutex<Manager>,
    phase: channel::Sender<Phase>,
    /// When systemd last said anything.
    heard: channel::Sender<Instant>,
    /// When anybody last looked; `None` before the first look.
    looked_at: Mutex<Option<Instant>>,
    /// Wakes the watch for a sign of life.
    looked: Notify,
    /// systemd is reading its unit files again: units come and go without meaning.
    reloading: AtomicBool,
    traffic: bus::Traffic,
    reconnects: AtomicU64,
    resyncs: AtomicU64,
    corrections: AtomicU64,
    /// The baseline whose units are watched.
    baseline: Mutex<Arc<Baseline>>,
    /// Wakes the watch for another baseline.
    followed: Notify,
}

impl Watch {
    /// Starts to watch the units of this baseline, on the current tokio runtime.
    pub fn start(baseline: &Arc<Baseline>) -> Self {
        let (names, patterns) = watched(baseline);
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(names, patterns, monotonic_micros())),
            manager: Mutex::default(),
            phase: channel::Sender::new(Phase::Reading),
            heard: channel::Sender::new(Instant::now()),
            looked_at: Mutex::default(),
            looked: Notify::new(),
            reloading: AtomicBool::new(false),
            traffic: bus::Traffic::default(),
            reconnects: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
            corrections: AtomicU64::new(0),
            baseline: Mutex::new(baseline.clone()),
            followed: Notify::new(),
        });
        let task = shared.clone();
        let task = tokio::spawn(async move { watch::run(&task).await });
        Self {
            shared,
            task: task.abort_handle(),
        }
    }

    /// Watches the units of this baseline from now on. Those that were watched before keep what
    /// was counted of them. Looks wait until the others were read, unless systemd cannot be asked.
    pub fn follow(&self, baseline: &Arc<Baseline>) {
        let shared = &*self.shared;
        let (names, patterns) = watched(baseline);
        // All in one: no reading of the units before may count as one of these.
        shared.table(|table, now| {
            table.rewatch(names, patterns, now);
            shared.set_baseline(baseline);
            let is_current = *shared.phase.borrow() == Phase::Current;
            if is_current {
                shared.set_phase(Phase::Reading);
            }
        });
        shared.followed.notify_one();
    }

    /// Waits until all that is watched was read, or systemd cannot be asked.
    pub async fn read(&self) {
        let mut phase = self.shared.phase.subscribe();
        // Its sender is as old as this.
        drop(phase.wait_for(|phase| *phase != Phase::Reading).await);
    }

    /// True once the first full reading is in.
    pub fn is_ready(&self) -> bool {
        self.shared.table(|table, _| table.is_settled())
    }

    /// Waits until the units are as systemd says.
    pub async fn ready(&self) {
        let mut phase = self.shared.phase.subscribe();
        // Its sender is as old as this.
        drop(phase.wait_for(|phase| *phase == Phase::Current).await);
    }

    /// True while the task that follows systemd does; only a panic ends it.
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// The units of this baseline as systemd says they are now; or why that cannot be told. Costs
    /// no message: waits only while the first reading is on its way, or systemd owes a sign of life.
    pub async fn units(
        &self,
        baseline: &Arc<Baseline>,
        deadline: Instant,
    ) -> Result<Units, String> {
        let shared = &*self.shared;
        shared.set_looked();
        let mut phase = shared.phase.subscribe();
        if timeout_at(deadline, phase.wait_for(|phase| *phase != Phase::Reading))
            .await
            .is_err()
        {
            return Err("systemd has not told all of its units yet".to_owned());
        }
        shared.sign_of_life(deadline).await?;
        match &*phase.borrow() {
            Phase::Current => {}
            Phase::Reading => return Err("systemd has not told all of its units yet".to_owned()),
            Phase::Down(reason) => return Err(reason.clone()),
        }
        let (watched, others, now) = shared.table(|table, now| {
            // The table has other units than the baseline of this look.
            if !Arc::ptr_eq(&shared.baseline(), baseline) {
                return Err("the baseline was read again while systemd was waited for".to_owned());
            }
            let now = Stamp {
                realtime: realtime_micros(),
                monotonic: now,
            };
            Ok((table.show(now.monotonic), table.others().clone(), now))
        })?;
        let manager = shared
            .manager
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Units {
            watched,
            others,
            manager,
            now,
        })
    }

    /// The directories of unit files, as systemd last told them; else those that it is built with.
    pub fn unit_path(&self) -> Arc<[String]> {
        let manager = &self.shared.manager;
        let manager = manager.lock().unwrap_or_else(PoisonError::into_inner);
        if manager.unit_path.is_empty() {
            return UNIT_PATH.map(str::to_owned).into();
        }
        manager.unit_path.clone()
    }

    /// How the connection has fared.
    pub fn link(&self) -> Link {
        let shared = &*self.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Link {
            connected: *shared.phase.borrow() == Phase::Current,
            reconnects: count(&shared.reconnects),
            sent: count(&shared.traffic.sent),
            received: count(&shared.traffic.received),
            resyncs: count(&shared.resyncs),
            corrections: count(&shared.corrections),
        }
    }
}

impl Shared {
    /// Works on the table, with the time in monotonic microseconds.
    fn table<T>(&self, work: impl FnOnce(&mut Table, u64) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut table, monotonic_micros())
    }

    fn baseline(&self) -> Arc<Baseline> {
        let baseline = self.baseline.lock();
        baseline.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_baseline(&self, new: &Arc<Baseline>) {
        let baseline = self.baseline.lock();
        *baseline.unwrap_or_else(PoisonError::into_inner) = new.clone();
    }

    /// How often the table is compared with a fresh list.
    fn resync(&self) -> Duration {
        self.baseline().systemd.resync
    }

    fn manager(&self, change: impl FnOnce(&mut Manager)) {
        change(&mut self.manager.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes the phase, and logs it if it is another one.
    fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|old| {
            if *old == phase {
                return false;
            }
            match (&*old, &phase) {
                (_, Phase::Current) => info!("the units are known and followed"),
                // Only the reason changed.
                (Phase::Down(_), _) => {}
                (_, Phase::Down(reason)) => {
                    warn!(%reason, "the units are unknown until systemd can be asked again");
                }
                (_, Phase::Reading) => {}
            }
            *old = phase;
            true
        });
    }

    fn heard(&self) -> Instant {
        *self.heard.borrow()
    }

    fn set_heard(&self) {
        self.heard.send_replace(Instant::now());
    }

    fn set_looked(&self) {
        let mut looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *looked_at = Some(Instant::now());
    }

    fn looked_within(&self, time: Duration) -> bool {
        let looked_at = *self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        looked_at.is_some_and(|at| at.elapsed() < time)
    }

    fn reloading(&self) -> bool {
        self.reloading.load(Ordering::Relaxed)
    }

    fn set_reloading(&self, reloading: bool) {
        self.reloading.store(reloading, Ordering::Relaxed);
    }

    /// Waits for a word of systemd's if its last one is older than it should be.
    async fn sign_of_life(&self, deadline: Instant) -> Result<(), String> {
        let is_fresh = |heard: &Instant| heard.elapsed() < watch::SILENCE;
        if is_fresh(&self.heard.borrow()) {
            return Ok(());
        }
        self.looked.notify_one();
        let mut heard = self.heard.subscribe();
        let mut phase = self.phase.subscribe();
        let deadline = deadline.min(Instant::now() + watch::SILENCE + watch::SIGN_OF_LIFE_TIMEOUT);
        let silent = || Err("systemd does not answer".to_owned());
        tokio::select! {
            heard = timeout_at(deadline, heard.wait_for(is_fresh)) => match heard {
                Ok(_) => Ok(()),
                Err(_) => silent(),
            },
            _ = phase.wait_for(|phase| matches!(phase, Phase::Down(_))) => Ok(()),
        }
    }
}

/// The names and the patterns that this baseline wants watched.
fn watched(baseline: &Baseline) -> (impl Iterator<Item = &str>, Vec<glob::Pattern>) {
    let systemd = &baseline.systemd;
    let names = systemd.units.iter().map(|unit| unit.name.as_str());
    (names, systemd.watch.clone())
}

/// CLOCK_MONOTONIC in microseconds, the clock of systemd's `*Monotonic` stamps.
pub fn monotonic_micros() -> u64 {
    micros(ClockId::Monotonic)
}

/// CLOCK_REALTIME in microseconds.
fn realtime_micros() -> u64 {
    micros(ClockId::Realtime)
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is ever before its zero.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}
