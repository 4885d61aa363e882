//! Reading the baseline and the web configuration again while the exporter serves: all of it, or
//! nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use crate::baseline::Baseline;
use crate::observation::Host;
use crate::probe::Workers;
use crate::server::{Web, WebConfig};
use crate::service::Service;

/// How long reading the files may take: they may lie on a file system that hangs.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long a reload waits for systemd to tell of the units that are new in the baseline.
const UNITS_WITHIN: Duration = Duration::from_secs(10);

/// Puts in force what the files say now, one reload after the other.
pub struct Reload {
    files: Files,
    web: Web,
    host: Arc<Host>,
    service: Arc<Service>,
    workers: Workers,
    turn: Mutex<()>,
    begun: AtomicU64,
}

/// What is read again.
#[derive(Debug, Clone)]
pub struct Files {
    /// `--config.file`; `None` is the baseline that is compiled in.
    pub baseline: Option<PathBuf>,
    /// `--web.config.file`; `None` is plain HTTP.
    pub web_config: Option<PathBuf>,
}

impl Files {
    /// What they were found to say, a line for each.
    pub fn summary(&self, baseline: &Baseline, web: &WebConfig) -> String {
        let mut text = baseline.summary();
        if let Some(path) = &self.web_config {
            text.push_str(&format!("\n{}: {}", path.display(), web.summary()));
        }
        text
    }
}

impl Reload {
    /// A reload of these files for this host and its server, told to systemd.
    pub fn new(files: Files, web: Web, host: Arc<Host>, service: Arc<Service>) -> Self {
        Self {
            files,
            web,
            host,
            service,
            workers: Workers::default(),
            turn: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// Reloads whose turn has come: one that still waits for it reads what the files say after this.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Reads everything, then puts all of it in force; returns the summary of it once systemd has
    /// told of the new units. With a mistake what is in force stays, and the error says every
    /// mistake, a line each; the log says them, too. Dropped half-way, systemd takes the reload for
    /// one that goes on.
    pub async fn run(&self) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.service.reloading();
        let outcome = self.read().await;
        match &outcome {
            Ok((baseline, web_config)) => {
                self.host.follow(baseline.clone());
                self.web.send_replace(web_config.clone());
                info!(
                    web = web_config.summary(),
                    baseline = baseline.source,
                    version = baseline.version,
                    deployment = baseline.deployment,
                    "reloaded"
                );
                if timeout(UNITS_WITHIN, self.host.read()).await.is_err() {
                    warn!(
                        "the files are reloaded, but systemd has not told all units of the baseline yet"
                    );
                }
            }
            Err(mistakes) => {
                self.host.keep_baseline();
                for mistake in mistakes.lines() {
                    error!(mistake, "not reloaded, what was in force stays");
                }
            }
        }
        self.service.ready();
        outcome.map(|(baseline, web)| self.files.summary(&baseline, &web))
    }

    /// Everything that a reload puts in force, read before any of it is: what fails here changes
    /// nothing.
    async fn read(&self) -> Result<(Baseline, Arc<WebConfig>), String> {
        let files = self.files.clone();
        let read = move || {
            let baseline = Baseline::of(files.baseline.as_deref());
            let web_config = WebConfig::of(files.web_config.as_deref());
            match (baseline, web_config) {
                (Ok(baseline), Ok(web_config)) => Ok((baseline, Arc::new(web_config))),
                (baseline, web_config) => {
                    let mistakes = [baseline.err(), web_config.err()].into_iter().flatten();
                    let mistakes: Vec<_> = mistakes.map(|found| found.to_string()).collect();
                    Err(mistakes.join("\n"))
                }
            }
        };
        let deadline = Instant::now() + READ_WITHIN;
        let read = self
            .workers
            .run_one("the files of a reload", deadline, read);
        read.await.unwrap_or_else(|| {
            let Files {
                baseline,
                web_config,
            } = &self.files;
            let files = [baseline, web_config].into_iter().flatten();
            let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
            Err(format!(
                "{} could not be read within {} s: see whether a file system hangs (df {}), or \
                 threads have run out",
                files.join(" and "),
                READ_WITHIN.as_secs(),
                files.join(" "),
            ))
        })
    }
}
