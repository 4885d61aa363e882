//! The exporter as a service of systemd's: what it tells the manager by sd_notify(3).

use std::env::{self, VarError};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::findings::{self, Check, Status};
use crate::observation::Observation;
use crate::systemd;

/// The manager's end, as the environment names it. Says nothing where it names none.
#[derive(Debug)]
pub struct Service {
    /// `None` where the exporter is no service, or one that need not tell (Type=exec).
    manager: Option<Manager>,
    /// WatchdogSec= of the unit; `None` where it has none.
    watchdog: Option<Duration>,
}

/// Where the manager hears.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Service {
    /// As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID tell. Fails where they make no sense.
    pub fn from_environment() -> anyhow::Result<Self> {
        Self::new(|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(value)) => anyhow::bail!(
                "{name} is {value:?}, which is no text: systemd sets it, leave it alone or unset it"
            ),
        })
    }

    fn new(variable: impl Fn(&str) -> anyhow::Result<Option<String>>) -> anyhow::Result<Self> {
        let manager = match variable("NOTIFY_SOCKET")? {
            Some(address) if !address.is_empty() => {
                Some(Manager::at(&address).map_err(|error| {
                    anyhow::anyhow!(
                        "NOTIFY_SOCKET is {address}, which is no socket to tell systemd anything \
                         ({error}): systemd sets it, leave it alone or unset it"
                    )
                })?)
            }
            _ => None,
        };
        // Meant for another process of the service, such as a shell that started this one.
        let for_another = variable("WATCHDOG_PID")?
            .is_some_and(|pid| !pid.is_empty() && pid != std::process::id().to_string());
        let watchdog = match variable("WATCHDOG_USEC")? {
            Some(micros) if !micros.is_empty() && !for_another => match micros.parse() {
                Ok(0) => None,
                Ok(micros) => Some(Duration::from_micros(micros)),
                Err(error) => anyhow::bail!(
                    "WATCHDOG_USEC is {micros}, which is no number of microseconds ({error}): \
                     systemd sets it, leave it alone or unset it"
                ),
            },
            _ => None,
        };
        Ok(Self { manager, watchdog })
    }

    /// True if anybody hears what is told.
    pub fn is_heard(&self) -> bool {
        self.manager.is_some()
    }

    /// The baseline and the web configuration are being read again, until it is ready.
    pub fn reloading(&self) {
        let now = systemd::monotonic_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// The start or a reload is over.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// What a look saw, as the line that `systemctl status` shows, which begins with its time: where
    /// nobody looks, it is of long ago. Judging keeps a core busy for a while.
    pub fn saw(&self, observation: &Observation) {
        let checks = findings::judge(observation).checks;
        let blind = observation.units.as_ref().err();
        let is_reloaded = observation.last_reload.successful;
        let line = status_line(&checks, blind.map(String::as_str), is_reloaded);
        let at = humantime::format_rfc3339_seconds(observation.at);
        self.tell(&format!("STATUS={at}: {line}"));
    }

    /// Feeds the manager's watchdog while `is_well` finds nothing wrong; returns at once where
    /// the unit has none.
    pub async fn feed_watchdog(&self, is_well: impl Fn() -> Result<(), &'static str>) {
        let Some(limit) = self.watchdog else {
            return;
        };
        let mut tick = interval(limit / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match is_well() {
                Ok(()) => {
                    self.tell("WATCHDOG=1");
                }
                Err(reason) => warn!(
                    reason,
                    "systemd's watchdog is not fed, it will restart the exporter"
                ),
            }
        }
    }

    /// True if the manager has it.
    fn tell(&self, text: &str) -> bool {
        let Some(manager) = &self.manager else {
            return false;
        };
        let Manager { socket, address } = manager;
        match socket.send_to_addr(text.as_bytes(), address) {
            Ok(_) => true,
            Err(error) => {
                warn!(%error, text, "systemd cannot be told");
                false
            }
        }
    }
}

impl Manager {
    fn at(address: &str) -> io::Result<Self> {
        let address = match address.split_at_checked(1) {
            Some(("@", name)) => SocketAddr::from_abstract_name(name)?,
            Some(("/", _)) => SocketAddr::from_pathname(address)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that hangs does not read: the exporter must not wait for it.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

/// How the host stands against its baseline, in one line; why its units cannot be told, if so; and
/// whether the files in force are those that were last to be read.
fn status_line(checks: &[Check], blind: Option<&str>, is_reloaded: bool) -> String {
    let named = |wanted| {
        let names = checks.iter().filter(|check| check.status == wanted);
        names.map(|check| check.name).collect::<Vec<_>>()
    };
    let mut line = format!(
        "{} of {} checks hold",
        named(Status::Holds).len(),
        checks.len()
    );
    let mut separator = ", ";
    for status in [Status::Violated, Status::Unknown] {
        let names = named(status);
        if !names.is_empty() {
            line.push_str(&format!(
                "{separator}{}: {}",
                status.word(),
                names.join(", ")
            ));
            separator = "; ";
        }
    }
    if let Some(reason) = blind {
        line.push_str(&format!("; the units cannot be told: {reason}"));
    }
    if !is_reloaded {
        line.push_str("; the files could not be read again, those before stay: see the log");
    }
    // One line of the message is one of its fields.
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A manager's socket, and the service that tells it.
    fn service(directory: &tempfile::TempDir, more: &[(&str, &str)]) -> (UnixDatagram, Service) {
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut variables: HashMap<_, _> = more.iter().copied().collect();
        let path = path.to_str().unwrap().to_owned();
        variables.insert("NOTIFY_SOCKET", &path);
        (socket, of(&variables).unwrap())
    }

    fn of(variables: &HashMap<&str, &str>) -> anyhow::Result<Service> {
        Service::new(|name| Ok(variables.get(name).map(|value| (*value).to_owned())))
    }

    fn next(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_is_told_arrives() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, service) = service(&directory, &[]);
        assert!(service.is_heard());
        service.ready();
        let before = systemd::monotonic_micros();
        service.reloading();
        service.stopping();
        assert_eq!(next(&socket), "READY=1");
        let reloading = next(&socket);
        let micros = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        let micros: u64 = micros.parse().unwrap();
        assert!((before..=systemd::monotonic_micros()).contains(&micros));
        assert_eq!(next(&socket), "STOPPING=1");
    }

    #[test]
    fn an_abstract_socket_is_told_too() {
        let name = format!("baseline-exporter-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let address = format!("@{name}");
        let service = of(&HashMap::from([("NOTIFY_SOCKET", address.as_str())])).unwrap();
        service.ready();
        assert_eq!(next(&socket), "READY=1");
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, service) = service(&directory, &[]);
        // Its queue is full at some point.
        while service.tell("STATUS=again") {}
        assert_eq!(next(&socket), "STATUS=again");
        assert!(service.tell("STATUS=there is room again"));
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        let service = of(&HashMap::new()).unwrap();
        assert!(!service.is_heard());
        service.ready();
        assert!(!service.tell("STATUS=nobody hears it"));
        assert_eq!(service.watchdog, None);
    }

    #[test]
    fn an_environment_that_makes_no_sense_is_refused() {
        for (name, value, part) in [
            (
                "NOTIFY_SOCKET",
                "vsock:2:1234",
                "neither a path nor an abstract name",
            ),
            ("WATCHDOG_USEC", "soon", "no number of microseconds"),
        ] {
            let error = of(&HashMap::from([(name, value)])).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with(&format!("{name} is {value}, ")),
                "{error}"
            );
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let own = std::process::id().to_string();
        for (pid, micros, watchdog) in [
            (own.as_str(), "30000000", Some(Duration::from_secs(30))),
            ("", "1", Some(Duration::from_micros(1))),
            ("1", "30000000", None),
            (own.as_str(), "0", None),
        ] {
            let service = of(&HashMap::from([
                ("WATCHDOG_PID", pid),
                ("WATCHDOG_USEC", micros),
            ]));
            assert_eq!(service.unwrap().watchdog, watchdog, "{pid} {micros}");
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_all_is_well() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, service) = service(&directory, &[("WATCHDOG_USEC", "2000")]);
        let looks = std::cell::Cell::new(0);
        let is_well = || {
            looks.set(looks.get() + 1);
            // Well, then not, then told so by what comes next.
            match looks.get() {
                1 => Ok(()),
                10 => {
                    service.tell("STATUS=not fed since");
                    Err("a test")
                }
                _ => Err("a test"),
            }
        };
        let until = async {
            while looks.get() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = service.feed_watchdog(is_well) => panic!("it goes on for ever"),
            () = until => {}
        }
        assert_eq!(next(&socket), "WATCHDOG=1");
        assert_eq!(next(&socket), "STATUS=not fed since");
    }

    #[test]
    fn the_status_is_one_line_that_names_what_does_not_hold() {
        let line = |statuses: &[(&'static str, Status)], blind| {
            let check = |(name, status): &(&'static str, Status)| Check {
                name,
                status: *status,
                expected: String::new(),
                seen: String::new(),
                wanted: None,
                found: None,
            };
            status_line(&statuses.iter().map(check).collect::<Vec<_>>(), blind, true)
        };
        let (holds, violated, unknown) = (Status::Holds, Status::Violated, Status::Unknown);
        assert_eq!(
            line(&[("a", holds), ("b", holds)], None),
            "2 of 2 checks hold"
        );
        assert_eq!(
            line(&[("a", violated), ("b", holds), ("c", violated)], None),
            "1 of 3 checks hold, violated: a, c"
        );
        assert_eq!(
            line(&[("a", unknown), ("b", violated)], None),
            "0 of 2 checks hold, violated: b; unknown: a"
        );
        assert_eq!(
            line(&[("a", unknown)], Some("no bus\nREADY=1")),
            "0 of 1 checks hold, unknown: a; the units cannot be told: no bus READY=1"
        );
        assert_eq!(
            status_line(&[], None, false),
            "0 of 0 checks hold; the files could not be read again, those before stay: see the log"
        );
    }
}
