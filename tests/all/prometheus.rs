//! A real Prometheus inside a machine, scraping one target there.

use serde_json::Value;

use crate::machine::{CACHE, Machine, script};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const PORT: u16 = 9090;

/// Which Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: 2.42.
    V2,
    /// Debian testing's: 3.5 or later.
    V3,
}

/// A Prometheus that scrapes every second.
#[derive(Debug)]
pub struct Prometheus<'m> {
    pub server: Server<'m>,
}

impl<'m> Prometheus<'m> {
    /// Starts it in `machine` with one target, such as `127.0.0.1:9990`.
    #[track_caller]
    pub fn run(machine: &'m Machine, version: Version, target: &str) -> Self {
        script("prometheus.sh", &[CACHE]);
        let binary = match version {
            Version::V2 => "/mnt/prometheus-2",
            Version::V3 => "/mnt/prometheus-3",
        };
        machine.write_file(
            "/run/prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s}}\n\
                 scrape_configs: [{{job_name: test, static_configs: [{{targets: ['{target}']}}]}}]\n"
            ),
        );
        let listen = format!("--web.listen-address=127.0.0.1:{PORT}");
        let argv = [
            binary,
            "--config.file=/run/prometheus.yml",
            "--storage.tsdb.path=/tmp/prometheus",
            &listen,
        ];
        let server = Server::start(
            machine,
            "prometheus-under-test.service",
            "root",
            PORT,
            &argv,
        );
        let server = server.unwrap_or_else(|why| panic!("{why}"));
        wait_for("Prometheus to be ready", PATIENCE, || {
            match server.get("/-/ready", &[]).status {
                200 => Ok(()),
                status => Err(format!("{status}, its log: {}", server.log())),
            }
        });
        Self { server }
    }

    /// The target as /api/v1/targets tells it, once it has been scraped: `health`, `lastError`, …
    #[track_caller]
    pub fn target(&self) -> Value {
        wait_for("Prometheus to scrape", PATIENCE, || {
            let body = self.server.get("/api/v1/targets", &[]).text();
            let answer: Value =
                serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
            let target = &answer["data"]["activeTargets"][0];
            match target["health"].as_str() {
                Some("up" | "down") => Ok(target.clone()),
                _ => Err(body),
            }
        })
    }

    /// What it logged at level warn or worse.
    pub fn complaints(&self) -> String {
        let levels = ["level=warn", "level=error", "level=WARN", "level=ERROR"];
        let log = self.server.log();
        let lines = log
            .lines()
            .filter(|line| levels.iter().any(|level| line.contains(level)));
        lines.map(|line| format!("{line}\n")).collect()
    }
}
