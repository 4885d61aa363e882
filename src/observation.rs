//! One look at the host: everything that metrics, the page and the report are made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;

use crate::baseline::{self, Baseline};
use crate::journal::{self, Clue, Journal};
use crate::probe::Workers;
use crate::probe::hostname::{self, Hostname};
use crate::probe::redis::{self, Redis};
use crate::probe::unit_files::{self, UnitFiles};
use crate::probe::write_path::{self, WritePath};
use crate::process::Process;
use crate::systemd::cgroup::{Hierarchies, Slices, Usage};
use crate::systemd::unit::{Stamp, Unit};
use crate::systemd::{self, Link, Manager, Others, Watch};

/// What one look saw. Never changed after; same observation, same bytes.
#[derive(Debug)]
pub struct Observation {
    /// When the look began, by this host's clock.
    pub at: SystemTime,
    /// The host's own name (uname(2)).
    pub host: String,
    /// What it is compared with.
    pub baseline: Arc<Baseline>,
    /// The units; or why they cannot be told.
    pub units: Result<Units, String>,
    /// The names of the baseline, in its order.
    pub hostnames: Vec<Hostname>,
    /// The Redis servers of the baseline, in its order.
    pub redis: Vec<Redis>,
    /// What the services have to write; or why it cannot be told.
    pub write_paths: Result<Vec<WritePath>, String>,
    /// The unit files on disk.
    pub unit_files: UnitFiles,
    /// What failing units wrote to the journal, by their names.
    pub clues: HashMap<Arc<str>, Clue>,
    /// Whether the host's journal may be read; `None` where there is none, or no answer in time.
    pub journal_readable: Option<bool>,
    /// How long each took.
    pub took: Took,
    /// How the connection to systemd has fared.
    pub link: Link,
    /// How the baseline and the web configuration were last read.
    pub last_reload: LastReload,
    /// The exporter's own process.
    pub process: Process,
}

/// How the baseline and the web configuration were last read, both or neither. The start counts as a
/// reload, and a successful one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastReload {
    /// Reloads since the start, whatever came of them.
    pub number: u64,
    /// False if one of them could not be read: those before stayed in force.
    pub successful: bool,
    /// When those in force were read.
    pub success_at: SystemTime,
}

/// How long it took to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// All of it, which is done at once.
    pub all: Duration,
    pub units: Duration,
    pub hostnames: Duration,
    pub redis: Duration,
    pub write_paths: Duration,
    pub unit_files: Duration,
}

/// The units of the host, as seen at one moment.
#[derive(Debug)]
pub struct Units {
    /// Those that are watched.
    pub watched: Vec<Observed>,
    /// How many others are in each ActiveState, and which of them failed.
    pub others: Others,
    /// systemd's word on the whole host.
    pub manager: Manager,
    /// The moment.
    pub now: Stamp,
}

/// One watched unit.
#[derive(Debug)]
pub struct Observed {
    /// As systemd tells it.
    pub unit: Arc<Unit>,
    /// What it uses; all `None` while nothing of it runs.
    pub usage: Usage,
}

/// The host as it can be looked at.
#[derive(Debug)]
pub struct Host {
    /// What it is compared with from the next look on, and how that was read.
    current: Mutex<(Arc<Baseline>, LastReload)>,
    watch: Watch,
    hierarchies: Arc<Hierarchies>,
    workers: Workers,
    journal: Journal,
    unit_files: Arc<unit_files::Cache>,
}

impl Host {
    /// Starts to watch this host, on the current tokio runtime.
    pub fn watch(baseline: Baseline) -> Self {
        let baseline = Arc::new(baseline);
        let last_reload = LastReload {
            number: 0,
            successful: true,
            success_at: SystemTime::now(),
        };
        Self {
            watch: Watch::start(&baseline),
            current: Mutex::new((baseline, last_reload)),
            hierarchies: Arc::new(Hierarchies::mounted()),
            workers: Workers::default(),
            journal: Journal::default(),
            unit_files: Arc::default(),
        }
    }

    /// Compares with this baseline from now on. Looks that are under way end with the one that they
    /// began with if they have its units already, else they are made anew.
    pub fn follow(&self, baseline: Baseline) {
        let baseline = Arc::new(baseline);
        // Held meanwhile: nobody looks by one baseline at the units of the other.
        let mut current = self.current();
        self.watch.follow(&baseline);
        let last_reload = LastReload {
            number: current.1.number + 1,
            successful: true,
            success_at: SystemTime::now(),
        };
        *current = (baseline, last_reload);
    }

    /// Remembers that a file could not be read again: the baseline in force stays.
    pub fn keep_baseline(&self) {
        let (_, last_reload) = &mut *self.current();
        last_reload.number += 1;
        last_reload.successful = false;
    }

    /// Reloads since the start: looks before and after one tell different things.
    pub fn reloads(&self) -> u64 {
        self.current().1.number
    }

    fn current(&self) -> MutexGuard<'_, (Arc<Baseline>, LastReload)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at everything at once; what did not answer by `deadline` is unknown in the result.
    pub async fn look(&self, deadline: Instant) -> Observation {
        let observation = self.look_once(deadline).await;
        // Its units are not followed any more: those of the baseline in force can be told.
        let is_overtaken = !Arc::ptr_eq(&observation.baseline, &self.current().0);
        if observation.units.is_err() && is_overtaken && Instant::now() < deadline {
            return self.look_once(deadline).await;
        }
        observation
    }

    async fn look_once(&self, deadline: Instant) -> Observation {
        let (at, began) = (SystemTime::now(), Instant::now());
        let (baseline, last_reload) = self.current().clone();
        let Baseline {
            deployment: _,
            version: _,
            source: _,
            systemd: _,
            hostnames,
            redis,
            write_paths,
            unit_files: _,
        } = &*baseline;
        // Names that are looked up as a service wait for the word on that service.
        let (of_units, of_host): (Vec<_>, Vec<_>) = hostnames
            .iter()
            .cloned()
            .partition(|hostname| hostname.resolved_as.is_some());
        let workers = &self.workers;
        let probe_until = deadline.into();
        let unit_path = self.watch.unit_path();

        let units = async {
            let started = Instant::now();
            let told = self.watch.units(&baseline, deadline.into()).await;
            // At the same moment: nothing is awaited in between.
            let link = self.watch.link();
            let watched = told.as_ref().map(|units| units.watched.clone());
            let watched = watched.map_err(Clone::clone);
            let services = watched.as_deref().unwrap_or_default();
            let now = told.as_ref().map_or(0, |units| units.now.monotonic);
            let usage = async {
                let units = match told {
                    Ok(units) => self.with_usage(units, deadline).await,
                    Err(reason) => Err(reason),
                };
                (units, started.elapsed())
            };
            let written = async {
                match &watched {
                    Ok(units) => {
                        Ok(write_path::probe(write_paths, units, workers, probe_until).await)
                    }
                    Err(reason) => Err(reason.clone()),
                }
            };
            let ((units, units_took), clues, written, named) = tokio::join!(
                usage,
                self.clues(services, now, probe_until),
                timed(written),
                timed(hostname::probe(&of_units, services, workers, probe_until)),
            );
            (units, units_took, link, clues, written, named)
        };
        let (
            (units, units_took, link, clues, (write_paths, write_paths_took), of_units),
            of_host,
            (redis, redis_took),
            (unit_files, unit_files_took),
            journal_readable,
        ) = tokio::join!(
            units,
            timed(hostname::probe(&of_host, &[], workers, probe_until)),
            timed(redis::probe(redis, workers, probe_until)),
            timed(unit_files::probe(
                &baseline,
                &unit_path,
                &self.unit_files,
                workers,
                probe_until
            )),
            workers.run_one("the journal", probe_until, journal::is_readable),
        );
        let took = Took {
            all: began.elapsed(),
            units: units_took,
            hostnames: of_host.1.max(of_units.1),
            redis: redis_took,
            write_paths: write_paths_took,
            unit_files: unit_files_took,
        };
        Observation {
            at,
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            hostnames: in_order(hostnames, of_host.0, of_units.0),
            baseline,
            units,
            redis,
            write_paths,
            unit_files,
            clues,
            journal_readable: journal_readable.flatten(),
            took,
            link,
            last_reload,
            process: Process::read(),
        }
    }

    /// What the units that fail or loop wrote before they did.
    async fn clues(
        &self,
        units: &[Arc<Unit>],
        now: u64,
        deadline: tokio::time::Instant,
    ) -> HashMap<Arc<str>, Clue> {
        let failing: Vec<_> = units
            .iter()
            .filter(|unit| unit.active_state == "failed" || unit.is_looping(now))
            .cloned()
            .collect();
        self.journal.forget_all_but(&failing);
        let read = failing.iter().map(async |unit| {
            let clue = self.journal.read(unit, deadline).await?;
            Some((unit.name.clone(), clue))
        });
        join_all(read).await.into_iter().flatten().collect()
    }

    async fn with_usage(&self, units: systemd::Units, deadline: Instant) -> Result<Units, String> {
        let hierarchies = self.hierarchies.clone();
        // Files of a file system in memory: quick, but many.
        let work = tokio::task::spawn_blocking(move || {
            let mut slices = Slices::default();
            let observe = |unit: Arc<Unit>| {
                // Nothing of it runs, so there is no cgroup.
                let usage = if unit.is_down() || unit.sub_state == "exited" {
                    Usage::default()
                } else {
                    hierarchies.usage(&unit.control_group, &mut slices)
                };
                Observed { unit, usage }
            };
            Units {
                watched: units.watched.into_iter().map(observe).collect(),
                others: units.others,
                manager: units.manager,
                now: units.now,
            }
        });
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(Ok(units)) => Ok(units),
            Ok(Err(error)) => Err(format!("reading the units' cgroups failed: {error}")),
            Err(_) => Err("reading the units' cgroups took too long".to_owned()),
        }
    }

    /// True once the first full reading of the units is in.
    pub fn is_ready(&self) -> bool {
        self.watch.is_ready()
    }

    /// Waits until the units are known.
    pub async fn ready(&self) {
        self.watch.ready().await;
    }

    /// Waits until the units of the baseline in force were read, or systemd cannot be asked.
    pub async fn read(&self) {
        self.watch.read().await;
    }

    /// True while the units are followed, or it is tried; false after a crash, which is a mistake
    /// in this exporter.
    pub fn is_watched(&self) -> bool {
        self.watch.is_alive()
    }
}

/// The result and how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = work.await;
    (result, started.elapsed())
}

/// What was found of the names, in the baseline's order.
fn in_order(
    hostnames: &[baseline::Hostname],
    of_host: Vec<Hostname>,
    of_units: Vec<Hostname>,
) -> Vec<Hostname> {
    let (mut of_host, mut of_units) = (of_host.into_iter(), of_units.into_iter());
    hostnames
        .iter()
        .filter_map(|hostname| match hostname.resolved_as {
            None => of_host.next(),
            Some(_) => of_units.next(),
        })
        .collect()
}
