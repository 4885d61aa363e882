//! A machine: a real systemd as PID 1 in namespaces of its own, gone when dropped.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait::{PATIENCE, wait_for};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine");

/// What is made once and used by many machines; mounted at /mnt in each, read-only.
pub const CACHE: &str = env!("CARGO_TARGET_TMPDIR");

/// A command inside that takes longer is ended, with exit status 124.
const RUN_LIMIT_SECONDS: &str = "60";

/// Which systemd a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Systemd {
    /// The host's own tree: Debian 12.
    V252,
    /// A Debian 13 tree, made when first asked for.
    V257,
}

/// A booted machine. All its processes, mounts and cgroups end with it, and with the test process.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// Waits for the end of its input, then removes the machine.
    watcher: Child,
    pid1: Pid,
}

impl Machine {
    /// Boots a machine and waits until its manager is `running` and its bus answers. `None`, with a
    /// word on stderr, where this host cannot boot one.
    pub fn boot(systemd: Systemd) -> Option<Self> {
        if let Err(reason) = host_can_boot() {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI has to boot machines, but {reason}"
            );
            // Not by eprintln: the test runner would keep that to itself.
            let mut stderr = io::stderr();
            writeln!(stderr, "\nSKIPPED, no machine to test on: {reason}").unwrap();
            return None;
        }
        let tree = match systemd {
            Systemd::V252 => "/".to_owned(),
            Systemd::V257 => script("trixie.sh", &[CACHE]).trim_end().to_owned(),
        };

        static BOOTED: AtomicU32 = AtomicU32::new(0);
        let number = BOOTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("machine-{}-{number}", std::process::id());
        let mut watcher = Command::new(format!("{SCRIPTS}/boot.sh"))
            .args([&name, &tree, CACHE])
            // A Ctrl-C is for the tests; the watcher has to outlive them by a moment.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("boot.sh starts");
        let mut line = String::new();
        BufReader::new(watcher.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid1 = line
            .trim_end()
            .strip_prefix("pid ")
            .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .expect("boot.sh says the PID before it becomes systemd");

        let machine = Self {
            name,
            watcher,
            pid1,
        };
        wait_for("the machine to be running", PATIENCE, || {
            let state = machine.try_run(&["systemctl", "is-system-running"]);
            match state.stdout.trim_end() {
                "running" => Ok(()),
                "degraded" => panic!(
                    "{}",
                    machine.sh("systemctl --failed; journalctl --no-pager")
                ),
                _ => Err(state.to_string()),
            }
        });
        let bus = "org.freedesktop.DBus";
        machine.run(&["busctl", "call", bus, "/org/freedesktop/DBus", bus, "GetId"]);
        Some(machine)
    }

    /// Runs a command as root inside all the machine's namespaces.
    pub fn try_run(&self, argv: &[&str]) -> Output {
        let pid = self.pid1.to_string();
        let output = Command::new("nsenter")
            .args([
                "--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
            ])
            .args([
                "env",
                "-i",
                "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
            ])
            .args(["HOME=/root", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"])
            .args(["timeout", RUN_LIMIT_SECONDS])
            .args(argv)
            // A Ctrl-C is for who runs it; it ends with its machine.
            .process_group(0)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter starts");
        Output {
            command: argv.join(" "),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// As [`try_run`](Self::try_run), for a command that has to succeed; gives what it printed.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> String {
        let output = self.try_run(argv);
        assert!(output.status.success(), "{output}");
        output.stdout
    }

    /// Runs a shell script that has to succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&["bash", "-euc", script])
    }

    /// Runs systemctl, which has to succeed.
    #[track_caller]
    pub fn systemctl(&self, args: &[&str]) -> String {
        self.run(&[&["systemctl"], args].concat())
    }

    /// One property of a unit, as `systemctl show` prints it.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, unit])
            .trim_end()
            .to_owned()
    }

    /// What the journal holds, one message a line.
    #[track_caller]
    pub fn journal(&self, args: &[&str]) -> String {
        self.run(&["journalctl", "--sync"]);
        self.run(&[&["journalctl", "--quiet", "--output=cat"], args].concat())
    }

    /// Writes a file and the directories above it.
    #[track_caller]
    pub fn write_file(&self, path: &str, text: &str) {
        self.write(path, text.as_bytes(), 0o644);
    }

    /// Writes a file that may be executed.
    #[track_caller]
    pub fn write_program(&self, path: &str, content: &[u8]) {
        self.write(path, content, 0o755);
    }

    #[track_caller]
    fn write(&self, path: &str, content: &[u8], mode: u32) {
        fs::create_dir_all(self.seen_from_host(path).parent().unwrap()).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        self.open(path, flags, mode)
            .and_then(|mut file| file.write_all(content))
            .expect(path);
    }

    /// The text of a file inside.
    #[track_caller]
    pub fn read_file(&self, path: &str) -> String {
        let mut text = String::new();
        self.open(path, OFlags::RDONLY, 0)
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect(path);
        text
    }

    /// Opens with symbolic links followed as inside, where "/" is the machine's own root.
    fn open(&self, path: &str, flags: OFlags, mode: u32) -> io::Result<File> {
        let root = File::open(self.seen_from_host("/"))?;
        let mode = Mode::from_raw_mode(mode);
        Ok(openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT,
        )?
        .into())
    }

    fn seen_from_host(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.pid1).into()
    }

    /// Writes a unit file where an administrator would. The manager learns of it by a
    /// `daemon-reload`.
    #[track_caller]
    pub fn unit(&self, name: &str, text: &str) {
        self.write_file(&format!("/etc/systemd/system/{name}"), text);
    }

    /// The machine's PID 1, by the host's number.
    pub fn pid1(&self) -> Pid {
        self.pid1
    }

    /// The system bus daemon, by the host's number.
    pub fn dbus_pid(&self) -> Pid {
        self.pid_of("dbus.service")
    }

    /// The process that PID 1 started for a service, by the host's number. Asks the kernel only, so
    /// a stopped manager does not matter.
    #[track_caller]
    pub fn pid_of(&self, service: &str) -> Pid {
        let path = self
            .cgroup()
            .join("system.slice")
            .join(service)
            .join("cgroup.procs");
        let pids = fs::read_to_string(&path).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", self.pid1);
        pids.lines()
            .find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|s| s.contains(&parent))
            })
            .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .unwrap_or_else(|| {
                panic!(
                    "{service} has no process; {} holds {pids:?}",
                    path.display()
                )
            })
    }

    /// Sends a signal from outside, so that PID 1, too, cannot ignore it.
    #[track_caller]
    pub fn signal(&self, pid: Pid, signal: Signal) {
        kill_process(pid, signal).expect("the process exists");
    }

    /// A connection to a port on the machine's own loopback.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.in_network(move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
    }

    /// Makes a socket in the machine's network.
    pub fn in_network<T: Send + 'static>(
        &self,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.network()?.open(open)
    }

    /// The machine's network, for who opens sockets in it later.
    pub fn network(&self) -> io::Result<Network> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid1))?;
        Ok(Network { namespace })
    }

    /// The machine's cgroup as the host sees it.
    pub fn cgroup(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts
            .lines()
            .find_map(|line| {
                let fields: Vec<_> = line.split(' ').collect();
                (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned())
            })
            .expect("a cgroup2 mount");
        Path::new(&mount).join(&self.name)
    }
}

/// The network of a machine.
#[derive(Debug)]
pub struct Network {
    namespace: File,
}

impl Network {
    /// Makes a socket in it.
    pub fn open<T: Send + 'static>(
        &self,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let namespace = self.namespace.try_clone()?;
        // A thread that entered another network namespace is done for; its sockets stay.
        let work = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            open()
        };
        std::thread::spawn(work)
            .join()
            .expect("opening a socket does not panic")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Nothing is left to do about a watcher that cannot be waited for.
        self.watcher.wait().ok();
    }
}

/// What a command inside the machine did; prints as a paragraph for a failed test.
#[derive(Debug)]
pub struct Output {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command}`: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

/// Runs one of the scripts beside the tests; gives what it printed.
#[track_caller]
pub fn script(name: &str, args: &[&str]) -> String {
    let output = Command::new(format!("{SCRIPTS}/{name}"))
        .args(args)
        .output()
        .expect(name);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

fn host_can_boot() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can boot one".to_owned());
    }
    let tried = Command::new("unshare")
        .args([
            "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--cgroup",
        ])
        .args([
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /mnt && findmnt --types cgroup2",
        ])
        .output()
        .map_err(|error| format!("unshare does not start: {error}"))?;
    if !tried.status.success() {
        let stderr = String::from_utf8_lossy(&tried.stderr);
        return Err(format!(
            "namespaces or cgroup2 are missing: {}",
            stderr.trim_end()
        ));
    }
    Ok(())
}
