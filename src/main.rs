//! baseline-exporter: is this host still at its known-good baseline?

mod baseline;
mod command_line;
mod findings;
mod logging;
mod metrics;
mod observation;
mod probe;
mod process;
mod report;
mod server;
mod snapshot;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Every source file below `path`, with its text up to its tests.
    fn sources(path: &Path, found: &mut Vec<(String, String)>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                sources(&entry.unwrap().path(), found);
            }
            return;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
        found.push((path.to_str().unwrap().to_owned(), code));
    }

    #[test]
    fn dependencies_point_one_way() {
        let above_systemd = ["observation", "findings", "metrics", "report", "server"];
        let rules: [(&str, &[&str], &[&str]); 5] = [
            ("systemd", &above_systemd, &["prometheus_client", "hyper"]),
            (
                "baseline",
                &above_systemd,
                &["zbus", "prometheus_client", "hyper"],
            ),
            (
                "observation",
                &["findings", "metrics", "report", "server"],
                &["zbus", "hyper"],
            ),
            (
                "findings",
                &["metrics", "report", "server"],
                &["zbus", "prometheus_client", "hyper"],
            ),
            ("metrics", &["report", "server"], &["zbus", "hyper"]),
        ];
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        for (module, modules, crates) in rules {
            let mut files = Vec::new();
            sources(Path::new(&format!("{root}/{module}.rs")), &mut files);
            if Path::new(&format!("{root}/{module}")).is_dir() {
                sources(Path::new(&format!("{root}/{module}")), &mut files);
            }
            for (path, code) in files {
                for other in modules {
                    assert!(
                        !code.contains(&format!("crate::{other}")),
                        "{path} knows {other}"
                    );
                }
                for other in crates {
                    assert!(
                        !code.contains(&format!("{other}::")),
                        "{path} knows {other}"
                    );
                }
            }
        }
    }
}
