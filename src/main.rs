//! baseline-exporter: is this host still at its known-good baseline?

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

mod baseline;
mod metrics;
mod observation;

fn main() -> anyhow::Result<()> {
    let baseline = match std::env::args_os().nth(1) {
        Some(path) => baseline::Baseline::load(Path::new(&path))?,
        None => baseline::Baseline::embedded(),
    };
    writeln!(std::io::stdout(), "{}", baseline.summary()).context("writing to standard output")
}
