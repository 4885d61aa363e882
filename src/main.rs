//! baseline-exporter: is this host still at its known-good baseline?

mod baseline;
mod command_line;
mod findings;
mod logging;
mod metrics;
mod observation;
mod process;
mod report;
mod server;
mod systemd;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Runtime;
use tracing::info;

use crate::baseline::Baseline;
use crate::command_line::{Command, CommandLine, Config, Output};
use crate::findings::Status;
use crate::observation::Host;
use crate::server::Server;

/// Wrong usage, a mistake in the baseline, or a check that could not tell.
const COULD_NOT_TELL: u8 = 2;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match line.command {
        _ if line.config.check => check_baseline(&line.config),
        None | Some(Command::Serve) => serve(&line),
        Some(Command::Check { output }) => check_host(&line, output),
    };
    outcome.unwrap_or_else(|error| {
        let status = match line.command {
            Some(Command::Check { .. }) => COULD_NOT_TELL,
            _ => 1,
        };
        // A baseline's mistakes start with their own file and line, as compilers print them.
        let (text, status) = match error.downcast_ref::<baseline::Mistakes>() {
            Some(mistakes) => (format!("{mistakes}\n"), COULD_NOT_TELL),
            None => (format!("baseline-exporter: {error:#}\n"), status),
        };
        // Where standard error is closed, the exit status is all that can be said.
        io::stderr().write_all(text.as_bytes()).unwrap_or_default();
        ExitCode::from(status)
    })
}

/// `--config.check`: the baseline's summary, or its mistakes.
fn check_baseline(config: &Config) -> anyhow::Result<ExitCode> {
    print(&format!("{}\n", load(config)?.summary()))?;
    Ok(ExitCode::SUCCESS)
}

/// `check`: looks at the host once, and reports.
fn check_host(line: &CommandLine, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(level) = line.log.level {
        logging::start(level, line.log.format)?;
    }
    let baseline = load(&line.config)?;
    let runtime = runtime()?;
    let observation = runtime.block_on(async {
        let host = Host::watch(baseline);
        host.look(Instant::now() + server::DEFAULT_LOOK).await
    });
    runtime.shutdown_background();

    let (text, status) = report::report(&observation, output);
    print(&text)?;
    Ok(match status {
        Status::Holds => ExitCode::SUCCESS,
        Status::Violated => ExitCode::from(1),
        Status::Unknown => ExitCode::from(COULD_NOT_TELL),
    })
}

/// `serve`: answers scrapes until a signal ends it.
fn serve(line: &CommandLine) -> anyhow::Result<ExitCode> {
    // Before anything else: from here on whoever connects waits instead of being refused.
    let listeners = server::bind(&line.web.listen_address)?;
    let baseline = load(&line.config)?;
    logging::start(
        line.log.level.unwrap_or(logging::Level::Info),
        line.log.format,
    )?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("BASELINE_EXPORTER_REVISION"),
        baseline = baseline.source,
        deployment = baseline.deployment,
        "starting"
    );
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let server = Server {
            deployment: baseline.deployment.clone(),
            baseline_source: baseline.source.clone(),
            telemetry_path: line.web.telemetry_path.clone(),
            max_requests: line.web.max_requests,
            host: Arc::new(Host::watch(baseline)),
        };
        server.run(listeners).await
    });
    // Dropping it would wait for a name look-up that may hang for ever.
    runtime.shutdown_background();
    outcome
}

/// The baseline of `--config.file`, else the one that is compiled in.
fn load(config: &Config) -> Result<Baseline, baseline::Mistakes> {
    match &config.file {
        Some(path) => Baseline::load(path),
        None => Ok(Baseline::embedded()),
    }
}

/// One thread for everything that awaits; a few more for calls that block.
fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("starting the runtime")
}

/// Prints on standard output; a reader that went away has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("writing to standard output"),
    }
}
