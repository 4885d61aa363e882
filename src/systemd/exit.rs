//! How a main process ended, in systemd's own words.

/// What ExecMainCode means: exited, killed or dumped; `None` where no process ended yet.
pub fn code_name(code: i32) -> Option<&'static str> {
    // CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid(2).
    match code {
        1 => Some("exited"),
        2 => Some("killed"),
        3 => Some("dumped"),
        _ => None,
    }
}

/// What ExecMainStatus means: `203/EXEC` for the exit statuses that systemd itself uses, the plain
/// number for a program's own, the signal's name for one that was killed.
pub fn status_name(code: i32, status: i32) -> String {
    if code != 1 {
        return signal_name(status).map_or_else(|| format!("signal {status}"), str::to_owned);
    }
    EXIT_STATUSES
        .iter()
        .find(|(number, _)| *number == status)
        .map_or_else(
            || status.to_string(),
            |(number, name)| format!("{number}/{name}"),
        )
}

fn signal_name(signal: i32) -> Option<&'static str> {
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    SIGNALS.get(index).copied()
}

/// signal(7), from 1 on.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// systemd.exec(5), "Process Exit Codes": what failed before the program was run.
const EXIT_STATUSES: [(i32, &str); 43] = [
    (200, "CHDIR"),
    (201, "NICE"),
    (202, "FDS"),
    (203, "EXEC"),
    (204, "MEMORY"),
    (205, "LIMITS"),
    (206, "OOM_ADJUST"),
    (207, "SIGNAL_MASK"),
    (208, "STDIN"),
    (209, "STDOUT"),
    (210, "CHROOT"),
    (211, "IOPRIO"),
    (212, "TIMERSLACK"),
    (213, "SECUREBITS"),
    (214, "SETSCHEDULER"),
    (215, "CPUAFFINITY"),
    (216, "GROUP"),
    (217, "USER"),
    (218, "CAPABILITIES"),
    (219, "CGROUP"),
    (220, "SETSID"),
    (221, "CONFIRM"),
    (222, "STDERR"),
    (224, "PAM"),
    (225, "NETWORK"),
    (226, "NAMESPACE"),
    (227, "NO_NEW_PRIVILEGES"),
    (228, "SECCOMP"),
    (229, "SELINUX_CONTEXT"),
    (230, "PERSONALITY"),
    (231, "APPARMOR_PROFILE"),
    (232, "ADDRESS_FAMILIES"),
    (233, "RUNTIME_DIRECTORY"),
    (235, "CHOWN"),
    (236, "SMACK_PROCESS_LABEL"),
    (237, "KEYRING"),
    (238, "STATE_DIRECTORY"),
    (239, "CACHE_DIRECTORY"),
    (240, "LOGS_DIRECTORY"),
    (241, "CONFIGURATION_DIRECTORY"),
    (242, "NUMA_POLICY"),
    (243, "CREDENTIALS"),
    (245, "BPF"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_carry_systemds_names() {
        assert_eq!(status_name(1, 203), "203/EXEC");
        assert_eq!(status_name(1, 1), "1");
        assert_eq!(status_name(2, 9), "SIGKILL");
        assert_eq!(status_name(3, 6), "SIGABRT");
        assert_eq!(status_name(2, 34), "signal 34");
        assert_eq!(code_name(0), None);
    }
}
