//! A real Alertmanager inside a machine.

use serde_json::Value;

use crate::machine::Machine;
use crate::prometheus::Generation;
use crate::server::Server;

const PORT: u16 = 9093;

/// An Alertmanager on its usual port.
#[derive(Debug)]
pub struct Alertmanager<'m> {
    pub server: Server<'m>,
}

impl<'m> Alertmanager<'m> {
    /// Starts one in `machine` with the file `config` there, and waits until it is ready.
    #[track_caller]
    pub fn start(machine: &'m Machine, generation: Generation, config: &str) -> Self {
        install_default_templates(machine, generation);
        let argv = [
            &generation.inside("alertmanager"),
            &format!("--config.file={config}"),
            "--storage.path=/tmp/alertmanager",
            &format!("--web.listen-address=127.0.0.1:{PORT}"),
            "--cluster.listen-address=",
        ];
        let service = "alertmanager-under-test.service";
        let server = Server::start(machine, service, "root", PORT, &argv);
        let server = server.unwrap_or_else(|why| panic!("{why}"));
        server.wait_until_ready();
        Self { server }
    }

    /// Sends it alerts as Prometheus does: each an object with `labels`, and perhaps `annotations`,
    /// `startsAt` and `endsAt`.
    #[track_caller]
    pub fn post(&self, alerts: &[Value]) {
        let answer = self.server.post("/api/v2/alerts", &alerts.into());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The alerts that it holds, as /api/v2/alerts tells them.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Value> {
        let body = self.server.get("/api/v2/alerts", &[]).text();
        serde_json::from_str(&body).expect(&body)
    }
}

/// Puts the default template where Debian's Alertmanager and amtool look for it.
#[track_caller]
pub fn install_default_templates(machine: &Machine, generation: Generation) {
    let share = generation.inside("share");
    machine.sh(&format!(
        "cd /usr/share && mkdir -p prometheus && rm -rf prometheus/alertmanager
         ln -s {share} prometheus/alertmanager"
    ));
}
