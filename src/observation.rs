//! One look at the host: everything that metrics, the page and the report are made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::baseline::Baseline;
use crate::process::Process;
use crate::systemd::cgroup::{Hierarchies, Usage};
use crate::systemd::unit::{Stamp, Unit};
use crate::systemd::{self, Link, Manager, Others, Watch};

/// What one look saw. Never changed after; same observation, same bytes.
#[derive(Debug)]
pub struct Observation {
    /// What it is compared with.
    pub baseline: Arc<Baseline>,
    /// The units; or why they cannot be told.
    pub units: Result<Units, String>,
    /// How long it took to tell.
    pub units_took: Duration,
    /// How the connection to systemd has fared.
    pub link: Link,
    /// The exporter's own process.
    pub process: Process,
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
    baseline: Arc<Baseline>,
    watch: Watch,
    hierarchies: Arc<Hierarchies>,
}

impl Host {
    /// Starts to watch this host, on the current tokio runtime.
    pub fn watch(baseline: Baseline) -> Self {
        Self {
            watch: Watch::start(&baseline.systemd),
            baseline: Arc::new(baseline),
            hierarchies: Arc::new(Hierarchies::mounted()),
        }
    }

    /// Looks at everything at once; what did not answer by `deadline` is unknown in the result.
    pub async fn look(&self, deadline: Instant) -> Observation {
        let started = Instant::now();
        let told = self.watch.units(deadline.into()).await;
        // At the same moment: nothing is awaited in between.
        let link = self.watch.link();
        let units = match told {
            Ok(units) => self.with_usage(units, deadline).await,
            Err(reason) => Err(reason),
        };
        Observation {
            baseline: self.baseline.clone(),
            units,
            units_took: started.elapsed(),
            link,
            process: Process::read(),
        }
    }

    async fn with_usage(&self, units: systemd::Units, deadline: Instant) -> Result<Units, String> {
        let hierarchies = self.hierarchies.clone();
        // Files of a file system in memory: quick, but many.
        let work = tokio::task::spawn_blocking(move || {
            let observe = |unit: Arc<Unit>| {
                // Nothing of it runs, so there is no cgroup.
                let usage = if unit.is_down() || unit.sub_state == "exited" {
                    Usage::default()
                } else {
                    hierarchies.usage(&unit.control_group)
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
}
