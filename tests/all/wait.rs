//! Waiting for a condition.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Longer than anything on a machine should take, however busy its host: also than it takes a quick
/// restart loop to end by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `look` until it gives a value. What it said instead the last time is part of the panic
/// that ends the waiting after `limit`, and not written out before.
#[track_caller]
pub fn wait_for<T, E: Display>(what: &str, limit: Duration, look: impl Fn() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(status) if start.elapsed() > limit => {
                panic!("waited {limit:?} for {what}; last seen: {status}")
            }
            Err(_) => pause(start.elapsed() / 20),
        }
    }
}

/// The longer something takes, the less it matters when that is noticed, and the more looks there are:
/// they are work for machines that have other work.
#[expect(
    clippy::disallowed_methods,
    reason = "the one pause between two looks at a condition"
)]
fn pause(about: Duration) {
    std::thread::sleep(about.clamp(Duration::from_millis(10), Duration::from_millis(200)));
}
