//! The host of the quantum-trader deployment, with stand-ins for its programs.

use std::time::Duration;

use crate::machine::Machine;
use crate::wait::{PATIENCE, wait_for};

/// The services that run when all is well.
pub const RUNNING: [&str; 12] = [
    "quantum-binance-pnl-tracker.service",
    "quantum-ceo-brain.service",
    "quantum-execution.service",
    "quantum-market-publisher.service",
    "quantum-portfolio-intelligence.service",
    "quantum-position-monitor.service",
    "quantum-risk-brain.service",
    "quantum-rl-feedback-v2.service",
    "quantum-rl-monitor.service",
    "quantum-rl-sizer.service",
    "quantum-strategy-brain.service",
    "quantum-strategy-ops.service",
];

/// The services that exist, but are neither enabled nor run.
pub const DISABLED: [&str; 2] = ["quantum-clm.service", "quantum-risk-safety.service"];

/// The services that the target wants and nobody wrote.
pub const ABSENT: [&str; 13] = [
    "quantum-cross-exchange.service",
    "quantum-exposure-balancer.service",
    "quantum-meta-regime.service",
    "quantum-model-federation.service",
    "quantum-model-supervisor.service",
    "quantum-pil.service",
    "quantum-portfolio-governance.service",
    "quantum-retraining-worker.service",
    "quantum-rl-dashboard.service",
    "quantum-strategic-evolution.service",
    "quantum-strategic-memory.service",
    "quantum-trade-intent-consumer.service",
    "quantum-universe-os.service",
];

/// Connects to Redis by its name, and lives for as long as it answers.
const ASKS_REDIS: &str = r#"#!/bin/bash
exec 3<>/dev/tcp/quantum_redis/6379 || exit 1
while printf 'PING\r\n' >&3 && read -r -t 5 answer <&3 && [ "$answer" = $'+PONG\r' ]; do sleep 0.2; done
echo "redis is gone" >&2
exit 1
"#;

/// Keeps a file in each directory that it is given.
const WRITES: &str = r#"#!/bin/bash
while for directory; do echo x >>"$directory/written.log" || exit 1; done; do sleep 0.2; done
"#;

/// What a stand-in does, from its start or from the moment that it is told.
#[derive(Debug, Clone, Copy)]
pub enum Behaviour {
    /// Runs until it is stopped.
    Run,
    /// Runs for a while, then exits with a status.
    Exit { status: u8, after: Duration },
    /// Runs for a while, then dies of a signal, such as `SEGV`.
    Crash {
        signal: &'static str,
        after: Duration,
    },
    /// Never says that it is ready: a start of Type=notify does not come to an end.
    Hang,
    /// Runs and ignores SIGTERM.
    Deaf,
}

impl Machine {
    /// Puts the deployment on the machine and starts it: 12 services run, 2 are disabled, 13 absent;
    /// the alias resolves, Redis answers, the directories can be written, and a snapshot of the unit
    /// files is kept, as the old script took it.
    #[track_caller]
    pub fn world(&self) {
        for service in RUNNING.into_iter().chain(DISABLED) {
            self.stand_in(
                service,
                "[Service]\nRestart=always\nRestartSec=2\n[Install]\nWantedBy=quantum-trader.target\n",
            );
        }
        self.unit(
            "quantum-trader.target",
            &format!(
                "[Install]\nWantedBy=multi-user.target\n[Unit]\nWants={}\n",
                ABSENT.join(" ")
            ),
        );
        self.systemctl(&["enable", "--quiet", "quantum-trader.target"]);
        self.systemctl(&[&["enable", "--quiet"], &RUNNING[..]].concat());
        self.sh("echo '127.0.0.1 quantum_redis' >>/etc/hosts
            mkdir -p /home/qt/quantum_trader/{logs,runtime}
            snapshot=/root/unit_backups_clean_20260107_final
            mkdir -p $snapshot
            cp /etc/systemd/system/quantum-*.service /etc/systemd/system/quantum-trader.target $snapshot
            chmod 755 /root");
        self.systemctl(&["start", "redis-server.service", "quantum-trader.target"]);
        self.wait_until_active(&RUNNING);
    }

    /// Programs that truly try what those of the deployment do, asks-redis and writes, and the account
    /// and the directories that these have.
    #[track_caller]
    pub fn programs(&self) {
        self.write_program("/usr/local/bin/asks-redis", ASKS_REDIS.as_bytes());
        self.write_program("/usr/local/bin/writes", WRITES.as_bytes());
        self.sh(
            "echo 'qt:x:5991:5991::/home/qt:/usr/sbin/nologin' >>/etc/passwd
            echo 'qt:x:5991:' >>/etc/group
            mkdir -p /home/qt/quantum_trader/data
            chown -R qt:qt /home/qt",
        );
    }

    /// Writes a service whose program is a stand-in. `more` is unit file text for whatever else it
    /// should have, section headers included; with Type=notify the stand-in says when it is ready.
    #[track_caller]
    pub fn stand_in(&self, service: &str, more: &str) {
        self.write_program(
            "/usr/local/bin/stand-in",
            include_bytes!("../machine/stand-in"),
        );
        let text = format!(
            "[Unit]\nDescription=Stand-in for {service}\n\
             [Service]\nExecStart=/usr/local/bin/stand-in %n\nNotifyAccess=all\nLimitCORE=0\n{more}"
        );
        self.unit(service, &text);
        self.write_file(&format!("/run/stand-in/{service}"), "run\n");
    }

    /// Tells a stand-in what to do, now if it runs and at each start from now on.
    #[track_caller]
    pub fn behave(&self, service: &str, behaviour: Behaviour) {
        let order = match behaviour {
            Behaviour::Run => "run\n".to_owned(),
            Behaviour::Exit { status, after } => format!("exit {status} {}\n", after.as_secs_f64()),
            Behaviour::Crash { signal, after } => {
                format!("crash {signal} {}\n", after.as_secs_f64())
            }
            Behaviour::Hang => "hang\n".to_owned(),
            Behaviour::Deaf => "deaf\n".to_owned(),
        };
        self.write_file(&format!("/run/stand-in/{service}"), &order);
        // Fails where nothing runs, and then there is nobody to tell.
        self.try_run(&[
            "systemctl",
            "kill",
            "--kill-whom=main",
            "--signal=URG",
            service,
        ]);
    }

    /// Makes `count` services, `quantum-0000.service` and so on, starts them, and gives their names.
    #[track_caller]
    pub fn services(&self, count: usize, text_of: impl Fn(usize) -> String) -> Vec<String> {
        let names: Vec<_> = (0..count)
            .map(|number| format!("quantum-{number:04}.service"))
            .collect();
        for (number, name) in names.iter().enumerate() {
            self.write_file(&format!("/run/systemd/system/{name}"), &text_of(number));
        }
        self.systemctl(&["daemon-reload"]);
        for batch in names.chunks(100) {
            let batch: Vec<_> = batch.iter().map(String::as_str).collect();
            self.systemctl(&[&["start"], &batch[..]].concat());
        }
        names
    }

    /// Waits until each of these units is active.
    #[track_caller]
    pub fn wait_until_active(&self, units: &[&str]) {
        wait_for(&format!("{units:?} to be active"), PATIENCE, || {
            let states = self.try_run(&[&["systemctl", "is-active"], units].concat());
            if states.status.success() && states.stdout.lines().all(|state| state == "active") {
                return Ok(());
            }
            Err(states.to_string())
        });
    }
}
