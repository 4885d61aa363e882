//! baseline-exporter: is this host still at its known-good baseline?

mod baseline;
mod command_line;
mod findings;
mod journal;
mod learn;
mod logging;
mod metrics;
mod observation;
mod probe;
mod process;
mod reload;
mod report;
mod server;
mod service;
mod snapshot;
mod status_page;
mod systemd;
mod views;
mod yaml;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Error, bail};
use clap::Parser;
use tokio::runtime::Runtime;
use tracing::info;

use crate::baseline::Baseline;
use crate::command_line::{Command, CommandLine, Config, Output};
use crate::findings::Status;
use crate::learn::{Differences, Outcome};
use crate::observation::Host;
use crate::reload::{Files, Reload};
use crate::server::{Server, Web, WebConfig};
use crate::service::Service;
use crate::snapshot::restore::{self, Plan};
use crate::snapshot::take::{About, take};
use crate::snapshot::{Scope, Snapshot, diff};
use crate::status_page::Links;

/// Wrong usage, a mistake in a file, or a check that could not tell.
const COULD_NOT_TELL: u8 = 2;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match &line.command {
        _ if line.config.check => check_files(&line),
        None | Some(Command::Serve) => serve(&line),
        Some(Command::Check { output }) => check_host(&line, *output),
        Some(Command::Snapshot(command)) => keep(&line, command),
        Some(Command::Learn(command)) if command.diff => diff_host(&line),
        Some(Command::Learn(command)) => learn(&line, command),
    };
    outcome.unwrap_or_else(|error| {
        let status = match line.command {
            Some(Command::Check { .. } | Command::Snapshot(_) | Command::Learn(_)) => {
                COULD_NOT_TELL
            }
            _ => 1,
        };
        // A file's mistakes start with their own file and line, as compilers print them.
        let (text, status) = match error.downcast_ref::<yaml::Mistakes>() {
            Some(mistakes) => {
                // systemd is to start what serves again, except where only a person can help.
                let serves = matches!(line.command, None | Some(Command::Serve));
                let may_pass = serves && !line.config.check && mistakes.may_pass();
                let status = if may_pass { 1 } else { COULD_NOT_TELL };
                (format!("{mistakes}\n"), status)
            }
            None => (format!("baseline-exporter: {error:#}\n"), status),
        };
        complain(&text);
        ExitCode::from(status)
    })
}

/// `--config.check`: the summaries of the baseline and the web configuration, or their mistakes.
fn check_files(line: &CommandLine) -> anyhow::Result<ExitCode> {
    let (baseline, web) = (
        load(&line.config),
        WebConfig::of(line.web.config_file.as_deref()),
    );
    if let (Err(_), Err(mistakes)) = (&baseline, &web) {
        // Those of the baseline are told by the caller.
        complain(&format!("{mistakes}\n"));
    }
    let text = files(line).summary(&baseline?, &web?);
    print(&format!("{text}\n"))?;
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

/// `learn`: writes a baseline from the host as it is, or says why it is not fit for that.
fn learn(line: &CommandLine, command: &command_line::Learn) -> anyhow::Result<ExitCode> {
    if let Some(level) = line.log.level {
        logging::start(level, line.log.format)?;
    }
    let runtime = runtime()?;
    let learned = runtime.block_on(learn::learn(&command.patterns, command.force));
    runtime.shutdown_background();
    let (said, status) = match learned.map_err(Error::msg)? {
        Outcome::Learned { text, remarks } => {
            print(&text)?;
            (remarks, ExitCode::SUCCESS)
        }
        Outcome::Refused(mut troubles) => {
            troubles.push(
                "nothing was learned: what is in trouble would become the baseline. Mend these units \
                 first, or leave them out by --force"
                    .to_owned(),
            );
            (troubles, ExitCode::from(1))
        }
    };
    let said: String = said.iter().map(|said| format!("{said}\n")).collect();
    io::stderr().write_all(said.as_bytes()).unwrap_or_default();
    Ok(status)
}

/// `learn --diff`: says how the baseline differs from the host as it is.
fn diff_host(line: &CommandLine) -> anyhow::Result<ExitCode> {
    if let Some(level) = line.log.level {
        logging::start(level, line.log.format)?;
    }
    let baseline = load(&line.config)?;
    let runtime = runtime()?;
    let differences = runtime.block_on(learn::diff(baseline));
    runtime.shutdown_background();
    let Differences { lines, unknown } = differences.map_err(Error::msg)?;
    let told = lines.iter().chain(&unknown);
    print(&told.map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(match (lines.is_empty(), unknown.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(COULD_NOT_TELL),
        (false, _) => ExitCode::from(1),
    })
}

/// `snapshot`: takes one, compares with one, or restores one.
fn keep(line: &CommandLine, command: &command_line::Snapshot) -> anyhow::Result<ExitCode> {
    let baseline = load(&line.config)?;
    let scope = Scope::of(&baseline);
    let units = Path::new(snapshot::UNIT_DIRECTORY);
    match command {
        command_line::Snapshot::Take { directory } => {
            let files = snapshot::host(units, scope).map_err(Error::msg)?;
            if files.is_empty() {
                bail!(
                    "{} holds no file of a watched unit: check that the baseline is the right one",
                    units.display()
                );
            }
            take(&files, directory, &about(&baseline)?).map_err(Error::msg)?;
            print(&format!(
                "{} files kept in {}\n",
                files.len(),
                directory.display()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        command_line::Snapshot::Diff { directory } => {
            let named = baseline.unit_files.as_ref().map(|files| &files.snapshot);
            let Some(directory) = directory.as_ref().or(named) else {
                bail!(
                    "the baseline names no snapshot: give its directory, or name it in \
                     `unit_files.snapshot`"
                );
            };
            let snapshot = Snapshot::read(directory).map_err(Error::msg)?;
            let pairs = snapshot.compare(units, scope).map_err(Error::msg)?;
            let text = diff::diff(&pairs);
            print(&text)?;
            Ok(ExitCode::from(u8::from(!text.is_empty())))
        }
        command_line::Snapshot::Restore {
            directory,
            apply,
            prune,
        } => {
            let _lock = apply
                .then(|| restore::lock(units))
                .transpose()
                .map_err(Error::msg)?;
            let snapshot = Snapshot::read(directory).map_err(Error::msg)?;
            let plan = Plan::make(snapshot, units, scope, *prune).map_err(Error::msg)?;
            print(&plan.text())?;
            if !apply {
                print("nothing was changed: --apply does it\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            if !plan.is_empty() {
                let about = about(&baseline)?;
                let backup = plan.back_up(units, scope, directory, &about);
                let backup = backup.map_err(Error::msg)?;
                print(&format!(
                    "the files as they were are in {}\n",
                    backup.display()
                ))?;
                plan.apply(units, &backup).map_err(Error::msg)?;
            }
            // Also if nothing changed: an earlier run may have been killed just before this.
            runtime()?
                .block_on(systemd::manager::reload())
                .map_err(Error::msg)
                .context(
                    "the files are restored, but systemd has not read them, run \
                     `systemctl daemon-reload`",
                )?;
            print("systemd has read the files; no unit was started or stopped\n\n")?;
            check_host(line, Output::Text)
        }
    }
}

/// What a snapshot's manifest says of this host.
fn about(baseline: &Baseline) -> anyhow::Result<About> {
    Ok(About {
        deployment: baseline.deployment.clone(),
        systemd: runtime()?.block_on(systemd::manager::version()),
    })
}

/// `serve`: answers scrapes until a signal ends it.
fn serve(line: &CommandLine) -> anyhow::Result<ExitCode> {
    // Before anything else: from here on whoever connects waits instead of being refused.
    let listeners = if line.web.systemd_socket {
        server::inherit()?
    } else {
        server::bind(&line.web.listen_address)?
    };
    let baseline = load(&line.config)?;
    let web = Web::new(Arc::new(WebConfig::of(line.web.config_file.as_deref())?));
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
    let service = Service::from_environment()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let host = Arc::new(Host::watch(baseline));
        let service = Arc::new(service);
        let reload = Reload::new(files(line), web.clone(), host.clone(), service.clone());
        let server = Server {
            reload: Arc::new(reload),
            lifecycle: line.web.enable_lifecycle,
            links: Arc::new(Links {
                telemetry_path: line.web.telemetry_path.clone(),
                runbook: line.web.runbook_url.clone(),
            }),
            max_requests: line.web.max_requests,
            web,
            health_without_credentials: line.web.health_without_credentials,
            host,
            service,
        };
        server.run(listeners).await
    });
    // Dropping it would wait for a name look-up that may hang for ever.
    runtime.shutdown_background();
    outcome
}

/// The files that the command line names, which a reload reads again.
fn files(line: &CommandLine) -> Files {
    Files {
        baseline: line.config.file.clone(),
        web_config: line.web.config_file.clone(),
    }
}

/// The baseline of `--config.file`, else the one that is compiled in.
fn load(config: &Config) -> Result<Baseline, yaml::Mistakes> {
    Baseline::of(config.file.as_deref())
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

/// Prints on standard error; where that is closed, the exit status is all that can be said.
fn complain(text: &str) {
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
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
        let above_systemd = [
            "observation",
            "findings",
            "metrics",
            "report",
            "server",
            "status_page",
        ];
        let rules: [(&str, &[&str], &[&str]); 10] = [
            ("systemd", &above_systemd, &["prometheus_client", "hyper"]),
            (
                "probe",
                &above_systemd,
                &["zbus", "prometheus_client", "hyper"],
            ),
            (
                "journal",
                &above_systemd,
                &["zbus", "prometheus_client", "hyper"],
            ),
            (
                "baseline",
                &above_systemd,
                &["zbus", "prometheus_client", "hyper"],
            ),
            ("observation", &above_systemd[1..], &["zbus", "hyper"]),
            (
                "findings",
                &above_systemd[2..],
                &["zbus", "prometheus_client", "hyper"],
            ),
            ("metrics", &above_systemd[3..], &["zbus", "hyper"]),
            (
                "status_page",
                &["metrics", "server", "systemd::table", "systemd::watch"],
                &["zbus", "prometheus_client", "hyper"],
            ),
            (
                "learn",
                &["metrics", "report", "server"],
                &["zbus", "prometheus_client", "hyper"],
            ),
            (
                "snapshot",
                &above_systemd,
                &["zbus", "prometheus_client", "hyper"],
            ),
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
