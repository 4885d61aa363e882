//! The tests that need a real systemd: each boots a machine of its own and drives it from outside.
//!
//! They need root, namespaces and a cgroup2 mount. Where these are missing the tests say so and
//! pass, except under CI=true, where they fail.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that cannot do its work has to fail its test"
)]

mod adoption;
mod alertmanager;
mod deploy;
mod expect;
mod failures;
mod harness;
mod healthy;
mod host;
mod hostnames;
mod hung;
mod incidents;
mod jobs;
mod journal;
mod learn;
mod loops;
mod machine;
mod messages;
mod metrics;
mod package;
mod persistence;
mod prometheus;
mod restarts;
mod server;
mod service;
mod snapshot;
mod stack;
mod unit_files;
mod units;
mod views;
mod wait;
#[expect(dead_code, reason = "tests/demonstration uses the rest of it")]
mod webhook;
mod world;
mod write_path_cases;
mod write_paths;
