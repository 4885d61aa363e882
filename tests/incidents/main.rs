//! The incidents of the deployment, replayed: a real systemd and Redis, the built exporter, a real
//! Prometheus and Alertmanager with the shipped files, and what arrives at the other end of them.
//!
//! Each test breaks the host as it was broken then, waits for the pages, repairs it with the commands
//! of the runbook and waits for the resolved notices; every page and ticket that came must be one of
//! those expected. Durations of rules and routes are a fifteenth of the shipped ones, as scrapes are
//! every second, not every fifteen; expressions are untouched. What was measured is left in the
//! directory `incidents` below cargo's directory for tests' files, a line each.
//!
//! They wait more than they work: `--test-threads=6` is well on two cores.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that cannot do its work has to fail its test"
)]

#[path = "../all/alertmanager.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod alertmanager;
mod demo;
mod dependencies;
mod faults;
mod later;
#[path = "../all/machine.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod machine;
#[path = "../all/metrics.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod metrics;
mod notes;
mod others;
mod pages;
#[path = "../all/prometheus.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod prometheus;
mod quiet;
mod replay;
mod runbook;
#[path = "../all/server.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod server;
#[path = "../all/stack.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod stack;
#[path = "../all/wait.rs"]
mod wait;
mod watcher;
#[path = "../all/webhook.rs"]
#[expect(dead_code, reason = "tests/demonstration uses the rest of it")]
mod webhook;
#[path = "../all/world.rs"]
#[expect(dead_code, reason = "tests/all uses the rest of it")]
mod world;
