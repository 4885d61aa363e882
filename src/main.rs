//! baseline-exporter: is this host still at its known-good baseline?

mod baseline;
mod metrics;
mod observation;

fn main() {}
