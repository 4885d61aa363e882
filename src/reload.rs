//! Reading the baseline again while the exporter serves: all of it, or nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use crate::baseline::Baseline;
use crate::observation::Host;
use crate::probe::Workers;
use crate::service::Service;

/// How long reading the files may take: they may lie on a file system that hangs.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long a reload waits for systemd to tell of the units that are new in the baseline.
const UNITS_WITHIN: Duration = Duration::from_secs(10);

/// Puts in force what the files say now, one reload after the other.
#[derive(Debug)]
pub struct Reload {
    /// The baseline's; `None` is the one that is compiled in.
    file: Option<PathBuf>,
    host: Arc<Host>,
    service: Arc<Service>,
    workers: Workers,
    turn: Mutex<()>,
}

impl Reload {
    /// A reload of this file for this host, told to systemd.
    pub fn new(file: Option<PathBuf>, host: Arc<Host>, service: Arc<Service>) -> Self {
        Self {
            file,
            host,
            service,
            workers: Workers::default(),
            turn: Mutex::default(),
        }
    }

    /// Reads everything, then puts all of it in force; returns the summary of it once systemd has
    /// told of the new units. With a mistake what is in force stays, and the error says every
    /// mistake, a line each; the log says them, too. Dropped half-way, systemd takes the reload for
    /// one that goes on.
    pub async fn run(&self) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        self.service.reloading();
        let outcome = self.read().await;
        match &outcome {
            Ok(baseline) => {
                self.host.follow(baseline.clone());
                info!(
                    baseline = baseline.source,
                    version = baseline.version,
                    deployment = baseline.deployment,
                    "reloaded"
                );
                if timeout(UNITS_WITHIN, self.host.read()).await.is_err() {
                    warn!(
                        "the baseline is reloaded, but systemd has not told all of its units yet"
                    );
                }
            }
            Err(mistakes) => {
                self.host.keep_baseline();
                for mistake in mistakes.lines() {
                    error!(mistake, "not reloaded, the baseline before stays in force");
                }
            }
        }
        self.service.ready();
        outcome.map(|baseline| baseline.summary())
    }

    /// Everything that a reload puts in force, read before any of it is: what fails here changes
    /// nothing.
    async fn read(&self) -> Result<Baseline, String> {
        let file = self.file.clone();
        let read = move || Baseline::of(file.as_deref());
        let deadline = Instant::now() + READ_WITHIN;
        match self.workers.run_one("the baseline", deadline, read).await {
            Some(read) => read.map_err(|mistakes| mistakes.to_string()),
            None => {
                let file = self.file.as_deref().unwrap_or_else(|| "embedded".as_ref());
                Err(format!(
                    "{}: reading the baseline took longer than {} s: see whether its file system \
                     hangs (df {})",
                    file.display(),
                    READ_WITHIN.as_secs(),
                    file.display(),
                ))
            }
        }
    }
}
