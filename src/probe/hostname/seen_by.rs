//! The hosts file as a service's own process sees it, which its sandbox may have replaced.

use std::fs::File;
use std::io::Read;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::systemd::unit::Unit;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The content of the file at `path`, which begins at the root that the unit's main process has, or
/// the one that prepares or cleans up; empty if there is no such file.
///
/// # Errors
///
/// No process runs, or the exporter may not look through its eyes.
pub fn read(unit: &Unit, path: &str) -> Result<Vec<u8>, String> {
    let service = unit.service.as_ref();
    let known = service.map_or([0; 2], |service| [service.main_pid, service.control_pid]);
    let Some(pid) = known.into_iter().find(|pid| *pid != 0) else {
        return Err(none_runs(&unit.name));
    };
    let of = format!("process {pid} of {}", unit.name);
    let failed = |what: &str, error: Errno| match error {
        Errno::NOENT | Errno::SRCH => format!(
            "{of} has ended or is hidden from the exporter: run the exporter without ProtectProc= \
             and mount /proc without hidepid="
        ),
        Errno::ACCESS | Errno::PERM => format!(
            "{what} as {of} sees it failed: {error}; run the exporter as that service's user or \
             give it CAP_SYS_PTRACE"
        ),
        _ => format!("{what} as {of} sees it failed: {error}"),
    };
    // Held by its directory: another process that gets the same number is not mistaken for it.
    let process = openat(CWD, format!("/proc/{pid}"), DIRECTORY, Mode::empty())
        .map_err(|error| failed("looking at the host", error))?;
    if !is_of(&process, &unit.id).map_err(|error| failed("reading its cgroup", error))? {
        return Err(failed("reading its cgroup", Errno::SRCH));
    }
    let root = openat(&process, "root", DIRECTORY, Mode::empty())
        .map_err(|error| failed("looking at the host", error))?;
    // Symbolic links lead where they do for the process.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let reading = format!("reading {path}");
    match openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(file) => content(file).map_err(|error| failed(&reading, error)),
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(error) => Err(failed(&reading, error)),
    }
}

/// Why there is nobody to look as.
pub fn none_runs(service: &str) -> String {
    format!("{service} has no process to look through the eyes of: start it")
}

/// True if the process belongs to the unit of this name.
fn is_of(process: &OwnedFd, id: &str) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let cgroup = content(openat(process, "cgroup", flags, Mode::empty())?)?;
    let cgroup = String::from_utf8_lossy(&cgroup);
    Ok(cgroup
        .lines()
        .any(|line| line.split('/').any(|part| part == id)))
}

fn content(file: OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    File::from(file)
        .read_to_end(&mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}
