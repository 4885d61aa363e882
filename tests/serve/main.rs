//! The real binary from outside: its command line, its answers, its limits and its end.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic as tests may; clippy spares only the test functions"
)]

mod answers;
mod auth;
mod certificates;
mod command_line;
mod exporter;
mod limits;
mod oddities;
mod reload;
mod sockets;
mod tls;
