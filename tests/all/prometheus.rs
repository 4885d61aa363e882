//! A real Prometheus inside a machine.

use serde_json::Value;

use crate::machine::{CACHE, Machine, script};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const PORT: u16 = 9090;

/// Which Prometheus, with the promtool, Alertmanager and amtool of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Debian 12's: Prometheus 2.42, Alertmanager 0.25.
    V242,
    /// Debian 13's: Prometheus 2.53, Alertmanager 0.28.
    V253,
    /// Debian 14's: Prometheus 3.5, Alertmanager 0.33, or later.
    V3,
}

impl Generation {
    pub const ALL: [Self; 3] = [Self::V242, Self::V253, Self::V3];

    /// Where one of its programs is, as a machine sees it.
    #[track_caller]
    pub fn inside(self, program: &str) -> String {
        self.on_host(program).replace(CACHE, "/mnt")
    }

    /// Where one of its programs is on the host.
    #[track_caller]
    pub fn on_host(self, program: &str) -> String {
        let generations = script("prometheus.sh", &[CACHE]);
        let suite = match self {
            Self::V242 => "bookworm",
            Self::V253 => "trixie",
            Self::V3 => "forky",
        };
        format!("{}/{suite}/{program}", generations.trim_end())
    }
}

/// A Prometheus on its usual port.
#[derive(Debug)]
pub struct Prometheus<'m> {
    pub server: Server<'m>,
}

impl<'m> Prometheus<'m> {
    /// Starts one in `machine` that scrapes one target, such as `127.0.0.1:9990`, every second.
    #[track_caller]
    pub fn run(machine: &'m Machine, generation: Generation, target: &str) -> Self {
        machine.write_file(
            "/run/prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s}}\n\
                 scrape_configs: [{{job_name: test, static_configs: [{{targets: ['{target}']}}]}}]\n"
            ),
        );
        Self::start(machine, generation, "/run/prometheus.yml", &[])
    }

    /// Starts one in `machine` with the file `config` there, and waits until it is ready.
    #[track_caller]
    pub fn start(
        machine: &'m Machine,
        generation: Generation,
        config: &str,
        flags: &[&str],
    ) -> Self {
        let binary = generation.inside("prometheus");
        let config = format!("--config.file={config}");
        let listen = format!("--web.listen-address=127.0.0.1:{PORT}");
        let storage = "--storage.tsdb.path=/tmp/prometheus";
        let argv = [&[binary.as_str(), &config, storage, &listen], flags].concat();
        let server = Server::start(
            machine,
            "prometheus-under-test.service",
            "root",
            PORT,
            &argv,
        );
        let server = server.unwrap_or_else(|why| panic!("{why}"));
        server.wait_until_ready();
        Self { server }
    }

    /// The first target as /api/v1/targets tells it, once it has been scraped: `health`,
    /// `lastError`, …
    #[track_caller]
    pub fn target(&self) -> Value {
        wait_for("Prometheus to scrape", PATIENCE, || {
            let targets = self.get("targets");
            let target = &targets["activeTargets"][0];
            match target["health"].as_str() {
                Some("up" | "down") => Ok(target.clone()),
                _ => Err(targets.to_string()),
            }
        })
    }

    /// The `data` of one answer of its HTTP API, such as `alerts`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let body = self.server.get(&format!("/api/v1/{path}"), &[]).text();
        let answer: Value = serde_json::from_str(&body).expect(&body);
        assert_eq!(answer["status"], "success", "{body}");
        answer["data"].clone()
    }
}
