//! The exporter's own process, under the names that every Prometheus client uses.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

/// What /proc/self tells. `None` where it could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time, seconds (stat, fields 14 and 15).
    pub cpu_seconds: Option<f64>,
    /// Resident memory, bytes (statm, field 2).
    pub resident_bytes: Option<u64>,
    /// Open file descriptors (fd).
    pub open_descriptors: Option<usize>,
    /// When the process was started, seconds since the epoch (stat, field 22, and btime).
    pub started_seconds: Option<f64>,
}

impl Process {
    /// Reads it now.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name in brackets, and may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("btime ")?.parse::<u64>().ok())
        });
        let seconds = |ticks: u64| in_seconds(ticks, clock_ticks_per_second());
        let pages = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| seconds(user + system)),
            resident_bytes: pages
                .and_then(|pages| pages.checked_mul(u64::try_from(page_size()).ok()?)),
            // The directory that is being read is one of them.
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count() - 1),
            started_seconds: boot
                .zip(field(22))
                .map(|(boot, start)| in_seconds(boot, 1) + seconds(start)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ticks")]
fn in_seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_all_of_it() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 4096));
        assert!(process.open_descriptors.is_some_and(|count| count >= 3));
        assert!(process.started_seconds.is_some_and(|at| at > 1.7e9));
    }
}
