//! The command line: flags, their defaults, their help text and their mistakes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::baseline;
use crate::logging;
use crate::server::{self, ListenAddress};

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nrevision:   ",
    env!("BASELINE_EXPORTER_REVISION"),
    "\nbuild date: ",
    env!("BASELINE_EXPORTER_BUILD_DATE"),
    "\ntarget:     ",
    env!("BASELINE_EXPORTER_TARGET"),
);

const EXAMPLES: &str = "\
Examples:
  Serve http://this-host:20107/metrics for the deployment that a file describes:
    baseline-exporter --config.file=/etc/baseline-exporter/baseline.yml

  See at a terminal what Prometheus would be told, and why:
    baseline-exporter check --config.file=/etc/baseline-exporter/baseline.yml

  Keep the unit files while all is well, and bring them back later:
    baseline-exporter snapshot take /var/lib/baseline-exporter/golden
    baseline-exporter snapshot restore /var/lib/baseline-exporter/golden --apply

  Write a baseline of your own while all is well, and see later what has changed:
    baseline-exporter learn --match 'shop-*' >baseline.yml
    baseline-exporter learn --diff --config.file=baseline.yml

Exit status of check: 0 the baseline holds, 1 it is violated, 2 could not tell.";

/// Tells Prometheus whether this host is still at its known-good baseline, and if not, why
#[derive(Debug, Parser)]
#[command(
    name = "baseline-exporter",
    version,
    long_version = LONG_VERSION,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands (without one: serve)",
    max_term_width = 100
)]
pub struct CommandLine {
    /// What to do; `None` means serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which baseline.
    #[command(flatten)]
    pub config: Config,
    /// How it is served.
    #[command(flatten)]
    pub web: Web,
    /// How it is logged.
    #[command(flatten)]
    pub log: Log,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve metrics until told to stop
    Serve,
    /// Look at the host once and report what does not hold
    Check {
        /// How to print the report
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
        output: Output,
    },
    /// Keep, compare and bring back the unit files that were last known good
    #[command(subcommand, disable_help_subcommand = true)]
    Snapshot(Snapshot),
    /// Write a baseline from this host, which is healthy now
    #[command(after_help = LEARN)]
    Learn(Learn),
}

const LEARN: &str = "\
Exit status: 0 the baseline is on standard output, 1 units are in trouble, 2 could not tell.
With --diff: 0 no difference, 1 some, 2 could not tell. As root it can read every environment file.";

/// From what to learn, and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Learn {
    /// Learn from the units of this name (`*`, `?`, `[...]`), such as 'shop-*'; may be given more
    /// than once [default: the units whose files the administrator put into /etc/systemd/system]
    #[arg(long = "match", value_name = "PATTERN", value_parser = baseline::watch_pattern)]
    pub patterns: Vec<glob::Pattern>,
    /// Learn though units failed, restart again and again or are stuck: nothing is expected of
    /// those, comments tell of them
    #[arg(long)]
    pub force: bool,
    /// Say how the baseline of --config.file, else the built-in one, differs from this host: one
    /// line each. `+` is on the host only, `-` in the baseline only, `~` otherwise
    #[arg(long, conflicts_with_all = ["patterns", "force"])]
    pub diff: bool,
}

/// What to do with a snapshot of the watched units' files in /etc/systemd/system.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Snapshot {
    /// Copy the watched units' files, drop-ins and links into a new directory
    Take {
        /// The directory; what is in it already is never written over
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Show how the host's files differ: exit status 0 not at all, 1 they do, 2 could not tell
    Diff {
        /// The snapshot [default: the one that the baseline names]
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Say what would bring the files back, or with --apply do it and check the host
    Restore {
        /// The snapshot; a backup of the files as they are is put beside it first
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Do it: write the files, make systemd read them again, and run the checks. Units are
        /// neither started nor stopped
        #[arg(long)]
        apply: bool,
        /// Remove the watched units' files that are not in the snapshot
        #[arg(long)]
        prune: bool,
    },
}

/// How the report of `check` is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which baseline.
#[derive(Debug, Args)]
#[command(next_help_heading = "Baseline")]
pub struct Config {
    /// The file that says what the deployment looks like when it is healthy
    /// [default: the baseline that is built in]
    #[arg(long = "config.file", global = true, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Only check the baseline and --web.config.file: print a summary, or every mistake in them
    #[arg(long = "config.check", global = true)]
    pub check: bool,
}

/// How it is served.
#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub struct Web {
    /// Where to listen; without a host on every address.
    #[arg(
        long = "web.listen-address",
        help = "Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or \
                unix:/run/x.sock. Without a host: on every address. May be given more than once",
        global = true,
        value_name = "ADDRESS",
        default_value = ":20107"
    )]
    pub listen_address: Vec<ListenAddress>,
    /// Listen on the sockets that systemd passes (socket activation) instead of on addresses
    #[arg(
        long = "web.systemd-socket",
        global = true,
        conflicts_with = "listen_address"
    )]
    pub systemd_socket: bool,
    /// The file with TLS, passwords, headers and a rate limit, in the format of Prometheus'
    /// exporters [default: plain HTTP]
    #[arg(long = "web.config.file", global = true, value_name = "PATH")]
    pub config_file: Option<PathBuf>,
    /// Answer /-/healthy and /-/ready without a password
    #[arg(long = "web.health-without-credentials", global = true)]
    pub health_without_credentials: bool,
    /// The path of the metrics
    #[arg(
        long = "web.telemetry-path",
        global = true,
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = server::telemetry_path
    )]
    pub telemetry_path: String,
    /// How many answers may be in the making or on their way at once; further scrapes get
    /// status 503. Scrapes that overlap share one answer and count once. 0 is no limit
    #[arg(
        long = "web.max-requests",
        global = true,
        value_name = "NUMBER",
        default_value_t = 40
    )]
    pub max_requests: usize,
    /// Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same
    /// in any case
    #[arg(long = "web.enable-lifecycle", global = true)]
    pub enable_lifecycle: bool,
}

/// How it is logged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct Log {
    /// How much to log on standard error [default: info; check logs nothing unless asked]
    #[arg(long = "log.level", global = true, value_enum, value_name = "LEVEL")]
    pub level: Option<logging::Level>,
    /// How to write a log line
    #[arg(
        long = "log.format",
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = logging::Format::Logfmt
    )]
    pub format: logging::Format,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use clap::CommandFactory;
    use clap_complete::Shell;

    use super::*;

    /// The text without what differs from build to build.
    fn command() -> clap::Command {
        CommandLine::command().long_version(None)
    }

    /// `UPDATE_GOLDEN=1 cargo test` writes the files anew.
    fn is_kept_in(directory: &str, write: impl Fn(&Path)) {
        let made = tempfile::tempdir().unwrap();
        write(made.path());
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::remove_dir_all(&kept).unwrap_or_default();
            fs::create_dir_all(&kept).unwrap();
            write(&kept);
        }
        let files = |directory: &Path| {
            let files = fs::read_dir(directory).unwrap().map(|file| {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            });
            files.collect::<BTreeMap<_, _>>()
        };
        let (made, kept) = (files(made.path()), files(&kept));
        assert!(made.len() >= 3);
        assert!(
            made.keys().eq(kept.keys()),
            "UPDATE_GOLDEN=1 rewrites {directory}"
        );
        for (name, text) in &made {
            assert_eq!(
                text, &kept[name],
                "UPDATE_GOLDEN=1 rewrites {directory}/{name:?}"
            );
        }
    }

    #[test]
    fn the_manual_pages_are_those_of_these_flags() {
        is_kept_in("deploy/man", |directory| {
            clap_mangen::generate_to(command(), directory).unwrap();
        });
    }

    #[test]
    fn the_completions_are_those_of_these_flags() {
        is_kept_in("deploy/completions", |directory| {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                let name = "baseline-exporter";
                clap_complete::generate_to(shell, &mut command(), name, directory).unwrap();
            }
        });
    }

    #[test]
    fn the_flags_contradict_nothing() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_snapshot_is_restored_only_when_asked_to() {
        let restore = |arguments: &[&str]| {
            let line = [&["x", "snapshot", "restore"], arguments].concat();
            CommandLine::try_parse_from(line).map(|line| line.command)
        };
        let asked = |apply, prune| {
            Some(Command::Snapshot(Snapshot::Restore {
                directory: PathBuf::from("d"),
                apply,
                prune,
            }))
        };
        assert_eq!(restore(&["d"]).unwrap(), asked(false, false));
        assert_eq!(restore(&["d", "--prune"]).unwrap(), asked(false, true));
        assert_eq!(restore(&["d", "--apply"]).unwrap(), asked(true, false));
        restore(&[]).unwrap_err();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for arguments in [
            ["x", "--config.file=a.yml", "check"],
            ["x", "check", "--config.file=a.yml"],
        ] {
            let line = CommandLine::try_parse_from(arguments).unwrap();
            assert_eq!(line.config.file, Some(PathBuf::from("a.yml")));
            assert_eq!(
                line.command,
                Some(Command::Check {
                    output: Output::Text
                })
            );
        }
    }
}
