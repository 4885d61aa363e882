//! How the unit files of the host differ from the golden snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::baseline::{self, Baseline};
use crate::probe::{TARGET_TIMEOUT, Workers};
use crate::snapshot::{self, Pair, Scope, Snapshot};

/// The unit files against the golden snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The digest over the snapshot's content, hexadecimal.
    pub digest: String,
    /// When it was taken, by its manifest; for one without a manifest its directory's time stamp.
    pub taken: Option<SystemTime>,
    /// Each file of the snapshot, and each that is only on the host, sorted; `None`: as in the snapshot.
    pub files: Vec<(String, Option<Difference>)>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Its text (beyond line ends and trailing blanks), where it links to, or whether it masks.
    Modified,
    /// The snapshot has it, the host does not.
    Missing,
    /// The host has it, the snapshot does not.
    Extra,
}

impl Difference {
    /// All of them, in the order of their series.
    pub const ALL: [Self; 3] = [Self::Modified, Self::Missing, Self::Extra];

    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::Missing => "missing",
            Self::Extra => "extra",
        }
    }
}

/// Compares on a thread of its own, as the snapshot may be on another file system; `None` where
/// the baseline names none.
pub(super) async fn probe(
    baseline: &Arc<Baseline>,
    workers: &Workers,
    deadline: Instant,
) -> Option<Result<Drift, String>> {
    let snapshot = &baseline.unit_files.as_ref()?.snapshot;
    let work = {
        let baseline = baseline.clone();
        move || {
            let unit_files = baseline.unit_files.as_ref()?;
            Some(compare(unit_files, &baseline.systemd))
        }
    };
    let deadline = deadline.min(Instant::now() + TARGET_TIMEOUT);
    let target = format!("unit files and snapshot {}", snapshot.display());
    let compared = workers.run_one(&target, deadline, work);
    compared.await.unwrap_or_else(|| {
        let snapshot = snapshot.display();
        Some(Err(format!(
            "comparing the unit files with the snapshot {snapshot} took too long: see whether \
             its file system answers"
        )))
    })
}

/// Reads the snapshot and the host's files, and compares. Blocks.
///
/// # Errors
///
/// A sentence that says what cannot be read and what helps: then nothing can be told.
pub fn compare(
    unit_files: &baseline::UnitFiles,
    systemd: &baseline::Systemd,
) -> Result<Drift, String> {
    compare_with(Path::new(snapshot::UNIT_DIRECTORY), unit_files, systemd)
}

fn compare_with(
    unit_directory: &Path,
    unit_files: &baseline::UnitFiles,
    systemd: &baseline::Systemd,
) -> Result<Drift, String> {
    let scope = Scope::new(systemd, Some(unit_files));
    let snapshot = Snapshot::read(&unit_files.snapshot)?;
    let (digest, taken) = (snapshot.digest.clone(), snapshot.taken);
    let pairs = snapshot.compare(unit_directory, scope)?;
    let files = pairs.into_iter().map(|pair| {
        let difference = difference(&pair);
        (pair.path, difference)
    });
    Ok(Drift {
        digest,
        taken,
        files: files.collect(),
    })
}

fn difference(pair: &Pair) -> Option<Difference> {
    match (&pair.golden, &pair.host) {
        (Some(golden), Some(host)) => (!golden.means(host)).then_some(Difference::Modified),
        (Some(_), None) => Some(Difference::Missing),
        (None, Some(_)) => Some(Difference::Extra),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use Difference::{Extra, Missing, Modified};
    use glob::Pattern;

    use super::*;
    use crate::snapshot::tests::Host;

    fn compare(host: &Host) -> Result<Drift, String> {
        compare_with(&host.units(), &host.unit_files, &host.systemd)
    }

    /// The differences of one file after the other.
    #[track_caller]
    fn drift(host: &Host) -> Vec<(String, Option<Difference>)> {
        compare(host).unwrap().files
    }

    /// Why nothing can be told, without the directory that is another one each time.
    #[track_caller]
    fn refusal(host: &Host) -> String {
        let path = format!("{}/", host.directory.path().display());
        compare(host).unwrap_err().replace(&path, "")
    }

    fn file(path: &str, difference: Option<Difference>) -> (String, Option<Difference>) {
        (path.to_owned(), difference)
    }

    #[test]
    fn copies_without_a_manifest_tell_what_changed() {
        let host = Host::new();
        for name in ["a", "b", "c"] {
            let name = format!("quantum-{name}.service");
            host.write(&format!("snapshot/{name}"), "[Service]\nExecStart=/bin/a\n");
            host.write(&format!("host/{name}"), "[Service]\nExecStart=/bin/a\n");
        }
        host.write("snapshot/quantum-trader.target", "[Unit]\n");
        host.write("snapshot/README", "how this was made\n");
        host.write("host/quantum-b.service", "[Service]\nExecStart=/bin/b\n");
        host.write("host/quantum-new.service", "[Service]\n");
        host.write("host/other.service", "[Service]\n");
        fs::remove_file(host.path("host/quantum-c.service")).unwrap();
        assert_eq!(
            drift(&host),
            [
                file("quantum-a.service", None),
                file("quantum-b.service", Some(Modified)),
                file("quantum-c.service", Some(Missing)),
                file("quantum-new.service", Some(Extra)),
                file("quantum-trader.target", Some(Missing)),
            ]
        );
    }

    #[test]
    fn copies_without_a_manifest_never_had_drop_ins_and_links() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Service]\n");
        host.write("host/quantum-a.service", "[Service]\n");
        host.write("host/quantum-a.service.d/more.conf", "[Service]\n");
        host.link("/x/quantum-a.service", "host/alias.service");
        host.link(
            "/x/quantum-a.service",
            "host/multi-user.target.wants/quantum-a.service",
        );
        assert_eq!(drift(&host), [file("quantum-a.service", None)]);
    }

    #[test]
    fn what_systemd_does_not_notice_is_no_difference() {
        let host = Host::new();
        let same = |one: &str, other: &str| {
            host.write("snapshot/quantum-a.service", one);
            host.write("host/quantum-a.service", other);
            drift(&host) == [file("quantum-a.service", None)]
        };
        assert!(same("[Unit]\nA=b\n", "[Unit]\r\nA=b\r\n"));
        assert!(same("[Unit]\nA=b\n", "[Unit] \nA=b\t \n\n\n"));
        assert!(same("[Unit]\nA=b\n", "[Unit]\nA=b"));
        assert!(same("A=b \\\nc\n", "A=b \\\r\nc\n"));

        assert!(
            !same("A=b \\\nc\n", "A=b \\ \nc\n"),
            "no continuation any more"
        );
        assert!(!same("[Unit]\nA=b\n", "[Unit]\n\nA=b\n"));
        assert!(!same("[Unit]\nA=b\n", "[Unit]\n A=b\n"));
        assert!(!same("[Unit]\n", "\n"));
        assert!(!same("[Unit]\n", ""), "masked");
    }

    #[test]
    fn a_mask_is_a_mask_however_it_is_written() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "");
        host.write("snapshot/quantum-b.service", "");
        host.write("snapshot/quantum-c.service", "");
        host.write("snapshot/quantum-d.service", "[Service]\n");
        host.link("/dev/null", "host/quantum-a.service");
        host.write("host/quantum-b.service", "");
        host.write("host/quantum-c.service", "[Service]\n");
        host.link("/dev/null", "host/quantum-d.service");
        assert_eq!(
            drift(&host),
            [
                file("quantum-a.service", None),
                file("quantum-b.service", None),
                file("quantum-c.service", Some(Modified)),
                file("quantum-d.service", Some(Modified)),
            ]
        );
    }

    #[test]
    fn a_pipe_or_a_directory_in_place_of_a_file_is_a_difference_and_blocks_nothing() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Service]\n");
        host.write("snapshot/quantum-b.service", "[Service]\n");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            host.path("host/quantum-a.service"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        fs::create_dir(host.path("host/quantum-b.service")).unwrap();
        assert_eq!(
            drift(&host),
            [
                file("quantum-a.service", Some(Modified)),
                file("quantum-b.service", Some(Modified)),
            ]
        );
    }

    #[test]
    fn what_is_ignored_is_not_compared() {
        let mut host = Host::new();
        host.unit_files.ignore = ["quantum-b.*", "quantum-n?w.service"]
            .map(|pattern| Pattern::new(pattern).unwrap())
            .to_vec();
        for name in ["a", "b"] {
            host.write(&format!("snapshot/quantum-{name}.service"), "[Service]\n");
        }
        host.write("host/quantum-new.service", "[Service]\n");
        assert_eq!(drift(&host), [file("quantum-a.service", Some(Missing))]);
    }

    #[test]
    fn one_snapshot_has_one_digest() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Service]\n");
        let digest = || compare(&host).unwrap().digest;
        let first = digest();
        assert_eq!(first.len(), 64);
        host.write("host/quantum-a.service", "[Unit]\n");
        host.write("snapshot/README", "more\n");
        assert_eq!(digest(), first);
        host.write("snapshot/quantum-a.service", "[Unit]\n");
        assert_ne!(digest(), first);
    }

    #[test]
    fn a_snapshot_that_cannot_be_read_is_no_difference_but_a_sentence() {
        let mut host = Host::new();
        assert_eq!(
            refusal(&host),
            "the snapshot snapshot holds no unit file: name the directory that \
             `baseline-exporter snapshot take` wrote, or one with copies of the unit files"
        );
        host.write("snapshot/quantum-a.service", "[Service]\n");
        host.write("snapshot/manifest.json", "{");
        assert!(
            refusal(&host).starts_with(
                "the snapshot snapshot is damaged: its manifest.json cannot be read: "
            )
        );
        host.unit_files.snapshot = host.path("missing");
        assert_eq!(
            refusal(&host),
            "there is no snapshot missing: take one with `baseline-exporter snapshot take \
             missing` while all is well, with the exporter's --config.file if it has one, or name \
             another one in `unit_files.snapshot`"
        );
        host.write("file", "");
        host.unit_files.snapshot = host.path("file");
        assert_eq!(
            refusal(&host),
            "the snapshot file is not a directory: name the one that holds the files"
        );
    }

    #[test]
    fn what_may_not_be_read_is_no_difference_but_a_sentence() {
        // Root may read everything.
        if rustix::process::geteuid().is_root() {
            return;
        }
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Service]\n");
        host.write("host/quantum-a.service", "[Service]\n");
        let closed = |path: &str| {
            fs::set_permissions(host.path(path), fs::Permissions::from_mode(0o000)).unwrap();
        };
        closed("host/quantum-a.service");
        assert_eq!(
            refusal(&host),
            "reading host/quantum-a.service: permission denied, let the exporter's user read it, \
             or give the exporter CAP_DAC_READ_SEARCH"
        );
        closed("snapshot");
        assert_eq!(
            refusal(&host),
            "reading the snapshot snapshot: permission denied, name a copy in \
             `unit_files.snapshot` that the exporter's user can read, or give the exporter \
             CAP_DAC_READ_SEARCH"
        );
    }
}
