//! The task that keeps the unit table true: connect, subscribe, read, follow signals, compare,
//! and all of it again when the connection is lost.

use std::collections::{HashMap, HashSet};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, warn};
use zbus::Message;
use zbus::message::Type;

use super::bus::{self, Bus, BusError};
use super::sources::{Changes, Sources};
use super::table::Table;
use super::unit::{Row, suffix};
use super::unit_files::UnitFiles;
use super::{Phase, Shared, monotonic_micros, properties};

/// How long one call may take; systemd answers in a millisecond, and in a second while it reloads
/// two thousand units.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls in flight at most: the system bus allows a connection 128 and then drops replies.
pub(super) const WINDOW: usize = 64;
/// How long systemd may be silent before it is asked for a sign of life, while anybody looks.
pub const SILENCE: Duration = Duration::from_secs(2);
/// How long it has for that sign.
pub const SIGN_OF_LIFE_TIMEOUT: Duration = Duration::from_secs(2);
/// Unanswered signs of life at most, for they wait in systemd's queue while it hangs; then a new
/// connection is made.
const PINGS: usize = 60;
/// Without a look for so long, nobody needs the sign.
const LOOKED_AT: Duration = Duration::from_secs(180);
/// How long changes of unwatched units are gathered before the host's units are listed again…
const LIST_DELAY: Duration = Duration::from_millis(250);
/// …and how far apart such lists are at least, however busy the host is.
const LIST_GAP: Duration = Duration::from_secs(5);
/// How long a signal may still be on its way when a list differs from the table.
const SIGNAL_GRACE: Duration = Duration::from_millis(300);
/// Waits between attempts to connect, doubling from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long to wait after a refusal, such as that of a systemd that is not on the bus yet.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How long looking at the unit files may take.
const SOURCES_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the objects of units live.
const UNIT_PATHS: &str = "/org/freedesktop/systemd1/unit/";
/// Interfaces whose changes say something that the table holds.
const INTERFACES: [&str; 4] = ["Unit", "Service", "Timer", "Socket"];
/// Signals of the manager that are followed.
const MANAGER_SIGNALS: [&str; 6] = [
    "UnitNew",
    "UnitRemoved",
    "JobRemoved",
    "Reloading",
    "UnitFilesChanged",
    "StartupFinished",
];

/// Runs for as long as the exporter does.
pub(super) async fn run(shared: &Shared) {
    let mut wait = BACK_OFF.0;
    let mut disk = Disk::default();
    loop {
        let error = match Bus::connect(&shared.traffic).await {
            Ok(bus) => {
                let mut session = Session::new(shared, bus, &mut disk);
                let error = session.run().await;
                if session.was_current {
                    wait = BACK_OFF.0;
                    shared.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                error
            }
            Err(error) => error,
        };
        shared.set_phase(Phase::Down(error.to_string()));
        sleep(wait + jitter(wait)).await;
        wait = (wait * 2).min(BACK_OFF.1);
    }
}

/// Up to a quarter of the wait, so that not all exporters of a host come at once.
fn jitter(wait: Duration) -> Duration {
    let micros = u32::try_from(monotonic_micros() % 251).unwrap_or(0);
    wait / 4 * micros / 250
}

/// One connection, from subscribing to its end.
struct Session<'a> {
    shared: &'a Shared,
    bus: Bus<'a>,
    /// systemd's unique name on the bus; `None` while it has none, and on the private socket.
    owner: Option<String>,
    /// True once this connection had a full reading.
    was_current: bool,
    /// When the next comparison with a fresh list is due.
    resync_at: Instant,
    /// When the units of the host are to be listed again, if anything changed.
    list_at: Option<Instant>,
    listed_at: Instant,
    /// Signs of life that were asked for and did not come yet, oldest first.
    pings: Vec<(u32, Instant)>,
    /// When the last one was asked for.
    asked_at: Instant,
    /// What the messages taken since ask for.
    wants: Wants,
    /// Units that a signal came for since this was last cleared.
    told: HashSet<String>,
    /// UnitPath of the manager.
    directories: Vec<String>,
    /// `None` while they are being looked at.
    sources: Option<Sources>,
    disk: &'a mut Disk,
}

/// What is being read from the disk, which hangs with a dead network file system: one of each at most,
/// whichever session began it.
#[derive(Debug, Default)]
struct Disk {
    look: Option<JoinHandle<(Sources, Changes)>>,
    files: Option<JoinHandle<io::Result<UnitFiles>>>,
}

/// What this work comes to, if that is soon; `None` while it hangs, and where it panicked: a bug that
/// standard error tells of. Forgets it once it has ended.
async fn ended<T>(work: &mut Option<JoinHandle<T>>) -> Option<T> {
    let done = timeout(SOURCES_TIMEOUT, work.as_mut()?).await.ok()?;
    *work = None;
    done.ok()
}

/// What a message asks to be done once it was taken.
#[derive(Debug, Default)]
struct Wants {
    /// Everything anew: systemd was executed anew, or was silent for long.
    reading: bool,
    /// Unit files changed.
    files: bool,
    /// systemd read its unit files again.
    reload: bool,
    /// Some unit's properties.
    details: bool,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, bus: Bus<'a>, disk: &'a mut Disk) -> Self {
        let now = Instant::now();
        shared.set_reloading(false);
        Self {
            shared,
            bus,
            owner: None,
            was_current: false,
            resync_at: now + shared.resync(),
            list_at: None,
            listed_at: now,
            pings: Vec::new(),
            asked_at: now,
            wants: Wants::default(),
            told: HashSet::new(),
            directories: Vec::new(),
            sources: None,
            disk,
        }
    }

    /// Follows systemd until the connection ends, and says why it did.
    async fn run(&mut self) -> BusError {
        if let Err(error) = self.subscribe_to_bus().await {
            return error;
        }
        self.wants.reading = true;
        loop {
            match self.catch_up().await {
                Ok(()) => {}
                // A silent systemd is waited for on the same connection: its answer is the first
                // sign of its return. One that refuses is asked again at a steady pace.
                Err(error @ (BusError::Timeout(_) | BusError::Refused { .. })) => {
                    self.wants.reading = true;
                    self.silent(&error);
                    let waited = match error {
                        BusError::Timeout(_) => self.wait_for_life().await,
                        _ => self.take_for(REFUSED_PAUSE).await,
                    };
                    if let Err(error) = waited {
                        return error;
                    }
                    continue;
                }
                Err(error) => return error,
            }
            if let Err(error) = self.next_event().await {
                return error;
            }
        }
    }

    /// Asks the bus for the signals that matter. The private socket sends them all unasked.
    async fn subscribe_to_bus(&mut self) -> Result<(), BusError> {
        if !self.bus.is_bus {
            return Ok(());
        }
        let from = format!("type='signal',sender='{}'", bus::SYSTEMD);
        let properties = INTERFACES.iter().map(|interface| {
            format!(
                "{from},interface='{}',member='PropertiesChanged',\
                 path_namespace='/org/freedesktop/systemd1/unit',arg0='{}.{interface}'",
                bus::PROPERTIES,
                bus::SYSTEMD
            )
        });
        let manager = MANAGER_SIGNALS.iter().map(|member| {
            format!(
                "{from},interface='{}',member='{member}',path='{}'",
                bus::MANAGER,
                bus::MANAGER_PATH
            )
        });
        let owner = format!(
            "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
             member='NameOwnerChanged',arg0='{}'",
            bus::SYSTEMD
        );
        let rules: Vec<String> = properties.chain(manager).chain([owner]).collect();
        let make = |number: usize| bus_call("AddMatch", &rules[number]);
        self.calls("AddMatch", rules.len(), make, |_, _, reply| reply.map(drop))
            .await
    }

    /// Does what is wanted or due, in an order in which nothing is asked twice.
    async fn catch_up(&mut self) -> Result<(), BusError> {
        let wants = std::mem::take(&mut self.wants);
        let now = Instant::now();
        if wants.reading {
            return self.read_everything().await;
        }
        if wants.reload || now >= self.resync_at {
            self.resync(wants.reload, wants.reload || wants.files)
                .await?;
        } else if wants.files {
            self.read_files().await?;
        }
        if self.list_at.is_some_and(|at| now >= at) {
            let rows = self.list().await?;
            self.table(|table, now| table.list(&rows, now));
        }
        self.read_details().await
    }

    /// Waits for the next message, or for the next thing that is due.
    async fn next_event(&mut self) -> Result<(), BusError> {
        let wants = &self.wants;
        if wants.reading || wants.files || wants.reload || wants.details {
            return Ok(());
        }
        let due = [Some(self.resync_at), self.list_at, self.ping_at()];
        let due = due.into_iter().flatten().min();
        let shared = self.shared;
        tokio::select! {
            message = self.bus.next() => {
                let message = message?;
                self.take(&message);
            }
            () = sleep_until(due.unwrap_or(self.resync_at)) => {}
            () = shared.looked.notified() => {}
            () = shared.followed.notified() => self.wants.reading = true,
        }
        self.ping().await
    }

    /// Waits for any message of systemd's, asking now and then.
    async fn wait_for_life(&mut self) -> Result<(), BusError> {
        let before = self.shared.heard();
        for _ in 0..PINGS {
            self.ask_for_life().await?;
            let until = Instant::now() + SIGN_OF_LIFE_TIMEOUT;
            while let Ok(message) = timeout_at(until, self.bus.next()).await {
                self.take(&message?);
                if self.shared.heard() != before {
                    self.pings.clear();
                    return Ok(());
                }
            }
        }
        Err(BusError::Closed(
            "systemd has not answered for minutes".to_owned(),
        ))
    }

    /// Takes messages for so long.
    async fn take_for(&mut self, time: Duration) -> Result<(), BusError> {
        let until = Instant::now() + time;
        while let Ok(message) = timeout_at(until, self.bus.next()).await {
            self.take(&message?);
        }
        Ok(())
    }

    async fn ask_for_life(&mut self) -> Result<(), BusError> {
        let peer = "org.freedesktop.DBus.Peer";
        let ping = bus::call(bus::SYSTEMD, bus::MANAGER_PATH, peer, "Ping", &())?;
        let serial = self.bus.send(&ping).await?;
        self.asked_at = Instant::now();
        self.pings.push((serial, self.asked_at));
        Ok(())
    }

    /// When the next sign of life is to be asked for, or the last one is overdue.
    fn ping_at(&self) -> Option<Instant> {
        if let Some((_, asked)) = self.pings.first() {
            return Some(*asked + SIGN_OF_LIFE_TIMEOUT);
        }
        // The bus answers at once for a systemd that is not there: no reason to ask at once again.
        let quiet_since = self.shared.heard().max(self.asked_at);
        self.shared
            .looked_within(LOOKED_AT)
            .then(|| quiet_since + SILENCE)
    }

    /// Asks for a sign of life if one is due, and notices if the last one did not come.
    async fn ping(&mut self) -> Result<(), BusError> {
        if self.ping_at().is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        if !self.pings.is_empty() {
            self.silent(&BusError::Timeout("a ping"));
            self.wants.reading = true;
            return self.wait_for_life().await;
        }
        self.ask_for_life().await
    }

    fn silent(&mut self, error: &BusError) {
        self.shared.set_phase(Phase::Down(error.to_string()));
    }

    /// The full reading: after connecting, after systemd was executed anew, after a silence.
    async fn read_everything(&mut self) -> Result<(), BusError> {
        if self.bus.is_bus {
            let reply = self
                .call("GetNameOwner", bus_call("GetNameOwner", bus::SYSTEMD)?)
                .await?;
            self.owner = Some(read("GetNameOwner", reply.body().deserialize::<String>())?);
        }
        match self
            .call("Subscribe", bus::manager_call("Subscribe", &())?)
            .await
        {
            // It remembers its subscribers when it is executed anew.
            Err(BusError::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => {}
            other => drop(other?),
        }
        // Who told of another baseline before now told of this one.
        pin!(self.shared.followed.notified()).as_mut().enable();
        let baseline = self.shared.baseline();
        self.table(|table, _| table.forget_details());
        let version = self.manager_property("Version").await?;
        let reply = self.call("Get", property_call("UnitPath")?).await?;
        let body = reply.body();
        let paths = read("UnitPath", body.deserialize::<zbus::wire::Variant<'_>>())?;
        let paths: Vec<String> = read("UnitPath", paths.downcast())?;
        self.sources = Some(Sources::of(paths.clone()));
        self.directories = paths;
        let rows = self.list().await?;
        self.table(|table, now| table.list(&rows, now));
        self.read_files().await?;
        self.read_details().await?;
        // Now that the files' paths are known: what changes from here on is newer than what was read.
        self.look_at_sources().await;
        // It left the bus meanwhile: what was read is of no use.
        if self.wants.reading || (self.bus.is_bus && self.owner.is_none()) {
            self.wants.reading = true;
            return Err(BusError::Timeout("all of it"));
        }
        self.was_current = true;
        self.resync_at = Instant::now() + self.shared.resync();
        let unit_path = self.directories.clone().into();
        self.shared.manager(|manager| {
            manager.version = version;
            manager.unit_path = unit_path;
        });
        let shared = self.shared;
        shared.table(|table, _| {
            // Another baseline came meanwhile: it has units that were not read.
            if !Arc::ptr_eq(&baseline, &shared.baseline()) {
                self.wants.reading = true;
                return;
            }
            table.settle();
            shared.set_phase(Phase::Current);
        });
        Ok(())
    }

    /// Compares the table with a fresh list. What differs though no signal came for it and none
    /// comes in time was missed: it is read, and counted as a correction.
    async fn resync(&mut self, reloaded: bool, files: bool) -> Result<(), BusError> {
        self.resync_at = Instant::now() + self.shared.resync();
        // First, for what a look finds after it may be newer than what systemd has read.
        if reloaded {
            self.table(|table, _| table.forget_reloaded());
        }
        let files_changed = self.look_at_sources().await;
        self.told.clear();
        let rows = self.list().await?;
        let suspects = self.table(|table, now| table.list(&rows, now));
        let mut suspects: Vec<String> = suspects
            .into_iter()
            .filter(|name| !self.told.contains(name))
            .collect();
        if !suspects.is_empty() {
            self.take_for(SIGNAL_GRACE).await?;
            let rows = self.list().await?;
            let rows: HashMap<&str, &Row> =
                rows.iter().map(|row| (row.name.as_str(), row)).collect();
            let told = &self.told;
            suspects.retain(|name| {
                !told.contains(name)
                    && rows
                        .get(name.as_str())
                        .is_none_or(|row| self.shared.table(|table, _| !table.agrees(row)))
            });
        }
        for name in &suspects {
            warn!(unit = %name, "a change was missed, no signal told of it");
            self.table(|table, _| table.forget(name));
        }
        let missed = u64::try_from(suspects.len()).unwrap_or(u64::MAX);
        self.shared.corrections.fetch_add(missed, Ordering::Relaxed);
        self.shared.resyncs.fetch_add(1, Ordering::Relaxed);
        self.table(|table, _| table.forget_sockets());
        if files_changed || files {
            self.read_files().await?;
        }
        self.read_details().await?;
        self.read_requirements().await
    }

    /// Notices unit files that changed on disk, which systemd tells nobody about. True if some
    /// came or went. A look that hangs, on a dead network file system, is waited for no longer
    /// than a moment, and no other one is started before it is back.
    async fn look_at_sources(&mut self) -> bool {
        if self.sources.is_some() {
            // One that was begun before the full reading finds what is old.
            drop(ended(&mut self.disk.look).await);
        }
        if self.disk.look.is_none()
            && let Some(mut sources) = self.sources.take()
        {
            let units = self.shared.table(|table, _| table.units().to_vec());
            self.disk.look = Some(spawn_blocking(move || {
                let changes = sources.look(&units);
                (sources, changes)
            }));
        }
        let looked = match self.sources {
            // The old one still hangs.
            Some(_) => None,
            None => ended(&mut self.disk.look).await,
        };
        let Some((sources, changes)) = looked else {
            warn!("looking at the unit files takes too long, their changes go unnoticed");
            return false;
        };
        self.sources = Some(sources);
        for name in &changes.units {
            self.table(|table, _| table.forget(name));
        }
        changes.directories
    }

    /// Lists every unit that systemd holds in memory, and reads the manager's own state.
    async fn list(&mut self) -> Result<Vec<Row>, BusError> {
        self.list_at = None;
        self.listed_at = Instant::now();
        let state = self.manager_property("SystemState").await?;
        let reply = self
            .call("ListUnits", bus::manager_call("ListUnits", &())?)
            .await?;
        let rows = read("ListUnits", properties::rows(&reply))?;
        self.shared.manager(|manager| manager.state = state);
        Ok(rows)
    }

    /// Reads which unit files exist, and asks once about the watched units that systemd does not
    /// hold in memory.
    async fn read_files(&mut self) -> Result<(), BusError> {
        let (named, patterns) = self.shared.table(|table, _| table.watched_names());
        let directories = self.directories.clone();
        let work = move || {
            UnitFiles::read(&directories, |name| {
                named.contains(name)
                    || name.contains("@.")
                    || patterns.iter().any(|pattern| pattern.matches(name))
            })
        };
        // One that was begun before finds what is old.
        drop(ended(&mut self.disk.files).await);
        let files = match self.disk.files {
            Some(_) => None,
            None => {
                self.disk.files = Some(spawn_blocking(work));
                ended(&mut self.disk.files).await
            }
        };
        match files {
            Some(Ok(files)) => self.table(|table, now| table.files(&files, now)),
            Some(Err(error)) => {
                warn!(%error, "the unit files cannot be read, their changes go unnoticed");
            }
            None => warn!("reading the unit files takes too long, their changes go unnoticed"),
        }
        let unloaded = self.shared.table(|table, _| table.unloaded_names());
        if unloaded.is_empty() {
            return Ok(());
        }
        let message = {
            let names: Vec<&str> = unloaded.iter().map(|name| &**name).collect();
            bus::manager_call("ListUnitsByNames", &names)?
        };
        let reply = self.call("ListUnitsByNames", message).await?;
        let rows = read("ListUnitsByNames", properties::rows(&reply))?;
        if rows.len() == unloaded.len() {
            self.table(|table, _| {
                for (name, row) in unloaded.iter().zip(&rows) {
                    table.unloaded(name, row);
                }
            });
        }
        Ok(())
    }

    /// Reads the properties of the units whose properties are not known.
    async fn read_details(&mut self) -> Result<(), BusError> {
        let ids = self.shared.table(|table, _| table.undetailed_ids());
        if ids.is_empty() {
            return Ok(());
        }
        debug!(units = ids.len(), "reading properties");
        self.told.clear();
        let mut targets = Vec::new();
        for id in &ids {
            // The unit's own interface first: the stamps settle what it counts.
            targets.extend(own_interface(id).is_some().then_some((id, None)));
            if self.shared.table(|table, _| table.is_named(id)) {
                targets.extend(properties::PULLED_IN_BY.map(|name| (id, Some(name))));
            }
            targets.extend(properties::OF_UNIT.map(|name| (id, Some(name))));
        }
        let make = |number: usize| {
            let (id, name) = targets[number];
            let path = object_path(id);
            match name {
                Some(name) => {
                    let body = (UNIT_INTERFACE, name);
                    bus::call(bus::SYSTEMD, &path, bus::PROPERTIES, "Get", &body)
                }
                // Only of those that have one.
                None => {
                    let own = own_interface(id).unwrap_or_default();
                    bus::call(bus::SYSTEMD, &path, bus::PROPERTIES, "GetAll", &own)
                }
            }
        };
        let mut values = HashMap::new();
        self.calls("Get", targets.len(), make, |session, number, reply| {
            let (id, name) = targets[number];
            let Some(name) = name else {
                let told = known(reply, properties::of_reply)?.unwrap_or_default();
                session.table(|table, now| table.reply(id, &told, false, now));
                return Ok(());
            };
            if let Some(value) = known(reply, properties::value)? {
                values.insert(name, value);
            }
            if Some(&name) == properties::OF_UNIT.last() {
                let mut told = properties::read(&values);
                values.clear();
                // A signal that came in between told its state as a whole, and later.
                if session.told.contains(&**id) {
                    (told.active_state, told.stamps, told.invocation) = (None, None, None);
                }
                session.wants.files |=
                    session.table(|table, now| table.reply(id, &told, true, now));
            }
            Ok(())
        })
        .await?;
        // What is not in memory is loaded for the answer, of which other units tell in turn: where that
        // were asked each time that a socket moved, it would go on for ever.
        if self.shared.table(|table, _| table.is_any_down(&ids)) {
            self.read_requirements().await?;
        }
        Ok(())
    }

    /// Reads how the units stand that those which are down require: where neither is in memory, no
    /// list tells.
    async fn read_requirements(&mut self) -> Result<(), BusError> {
        let names = self.shared.table(|table, _| table.requirements());
        if names.is_empty() {
            return Ok(());
        }
        let message = bus::manager_call("ListUnitsByNames", &names)?;
        let reply = self.call("ListUnitsByNames", message).await?;
        let rows = read("ListUnitsByNames", properties::rows(&reply))?;
        if rows.len() == names.len() {
            // An alias is answered with the unit's own name.
            let rows = names.iter().map(String::as_str).zip(&rows).collect();
            self.table(|table, _| table.find_missing_requirements(&rows));
        }
        Ok(())
    }

    async fn manager_property(&mut self, name: &'static str) -> Result<String, BusError> {
        let reply = self.call(name, property_call(name)?).await?;
        let body = reply.body();
        let value = read(name, body.deserialize::<zbus::wire::Variant<'_>>())?;
        read(name, value.downcast())
    }

    /// One call and its reply. Signals that come in between are taken, in their order.
    async fn call(&mut self, name: &'static str, message: Message) -> Result<Message, BusError> {
        let mut answer = None;
        self.calls(
            name,
            1,
            |_| Ok(message.clone()),
            |_, _, reply| {
                answer = Some(reply?);
                Ok(())
            },
        )
        .await?;
        answer.ok_or(BusError::Timeout(name))
    }

    /// `count` calls, each made when its turn comes, some of them in flight at once; `each` gets
    /// every reply with the number of its call. Signals that come in between are taken, in their
    /// order.
    async fn calls(
        &mut self,
        name: &'static str,
        count: usize,
        make: impl Fn(usize) -> Result<Message, BusError>,
        mut each: impl FnMut(&mut Self, usize, Result<Message, BusError>) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let mut numbers = 0..count;
        let mut waiting = HashMap::new();
        loop {
            while waiting.len() < WINDOW
                && let Some(number) = numbers.next()
            {
                waiting.insert(self.bus.send(&make(number)?).await?, number);
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let deadline = Instant::now() + CALL_TIMEOUT;
            loop {
                let message = timeout_at(deadline, self.bus.next())
                    .await
                    .map_err(|_| BusError::Timeout(name))??;
                match reply_serial(&message).and_then(|serial| waiting.remove(&serial)) {
                    Some(number) => {
                        self.heard(&message);
                        each(self, number, bus::accept(name, message))?;
                        break;
                    }
                    None => self.take(&message),
                }
            }
        }
    }

    /// Takes a message that nobody waits for. Only looks at what it must: signals of unwatched
    /// units are dropped by their path.
    fn take(&mut self, message: &Message) {
        self.heard(message);
        if let Some(serial) = reply_serial(message) {
            self.pings.retain(|(ping, _)| *ping != serial);
            return;
        }
        let header = message.header();
        if message.message_type() != Type::Signal {
            return;
        }
        let (Some(path), Some(member)) = (header.path(), header.member()) else {
            return;
        };
        if path.as_str() == "/org/freedesktop/DBus" {
            if member.as_str() == "NameOwnerChanged" {
                self.owner_changed(message);
            }
            return;
        }
        if !self.is_from_systemd(message) {
            return;
        }
        if path.as_str() == bus::MANAGER_PATH {
            self.manager_signal(member.as_str(), message);
        } else if member.as_str() == "PropertiesChanged"
            && let Some(escaped) = path.as_str().strip_prefix(UNIT_PATHS)
        {
            self.unit_changed(&unescape(escaped), message);
        }
    }

    fn unit_changed(&mut self, id: &str, message: &Message) {
        if !self.shared.table(|table, _| table.watches(id)) {
            self.list_soon();
            return;
        }
        let told = match properties::of_signal(message) {
            Ok(told) => told,
            Err(error) => {
                warn!(unit = id, %error, "a signal cannot be read");
                self.table(|table, _| table.forget(id));
                self.wants.details = true;
                return;
            }
        };
        // Only the unit's own interface tells its state; the other one comes right before it.
        if told.active_state.is_some() {
            self.told.insert(id.to_owned());
        }
        let applied = self.table(|table, now| table.signal(id, &told, now));
        self.wants.details |= !applied.detailed;
        if applied.stands_otherwise {
            self.list_soon();
        }
    }

    fn manager_signal(&mut self, member: &str, message: &Message) {
        let body = message.body();
        match member {
            "UnitNew" | "UnitRemoved" => {
                let Ok((id, _)) = body.deserialize::<(&str, zbus::wire::ObjectPath<'_>)>() else {
                    return;
                };
                if member == "UnitRemoved" && !self.shared.reloading() {
                    self.table(|table, now| table.removed(id, now));
                    self.told.insert(id.to_owned());
                }
                self.list_soon();
            }
            "JobRemoved" => {
                type Removed<'a> = (u32, zbus::wire::ObjectPath<'a>, &'a str, &'a str);
                if let Ok((_, _, unit, result)) = body.deserialize::<Removed<'_>>()
                    && result != "done"
                {
                    self.table(|table, _| table.job_failed(unit, result));
                }
            }
            "Reloading" => {
                let begins = body.deserialize::<bool>().unwrap_or(false);
                self.shared.set_reloading(begins);
                self.wants.reload |= !begins;
            }
            "UnitFilesChanged" => self.wants.files = true,
            "StartupFinished" => self.list_soon(),
            _ => {}
        }
    }

    /// systemd left the bus or came back: executed anew, or the bus daemon was.
    fn owner_changed(&mut self, message: &Message) {
        let body = message.body();
        let Ok((_, _, new)) = body.deserialize::<(&str, &str, &str)>() else {
            return;
        };
        if new.is_empty() {
            self.owner = None;
            self.shared
                .set_phase(Phase::Down("systemd is not on the bus".to_owned()));
        } else {
            self.owner = Some(new.to_owned());
            self.shared.set_heard();
            self.shared.set_reloading(false);
            self.wants.reading = true;
        }
    }

    /// Lists the host's units soon, but not more often than [`LIST_GAP`] allows.
    fn list_soon(&mut self) {
        if self.list_at.is_none() {
            self.list_at = Some((Instant::now() + LIST_DELAY).max(self.listed_at + LIST_GAP));
        }
    }

    fn heard(&self, message: &Message) {
        if self.is_from_systemd(message) {
            self.shared.set_heard();
        }
    }

    /// On the private socket there is nobody else.
    fn is_from_systemd(&self, message: &Message) -> bool {
        !self.bus.is_bus
            || message.header().sender().map(|name| name.as_str()) == self.owner.as_deref()
    }

    fn table<T>(&self, change: impl FnOnce(&mut Table, u64) -> T) -> T {
        self.shared.table(change)
    }
}

pub(super) const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";

/// What a reply says; `None` if the unit is gone, which the next list tells, or has no such thing.
pub(super) fn known<T>(
    reply: Result<Message, BusError>,
    decode: impl FnOnce(&Message) -> Result<T, zbus::Error>,
) -> Result<Option<T>, BusError> {
    match reply {
        Ok(reply) => read("Get", decode(&reply)).map(Some),
        // The bus says so in the name of a systemd that went away.
        Err(error @ BusError::Refused { .. }) if error.is_of_nobody() => Err(error),
        Err(BusError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The interface with what only units of this type have, where the table wants any of it.
pub(super) fn own_interface(id: &str) -> Option<String> {
    let own = match suffix(id) {
        "service" => "Service",
        "timer" => "Timer",
        "socket" => "Socket",
        "mount" => "Mount",
        _ => return None,
    };
    Some(format!("{}.{own}", bus::SYSTEMD))
}

fn bus_call(member: &'static str, argument: &str) -> Result<Message, BusError> {
    let bus = "org.freedesktop.DBus";
    bus::call(bus, "/org/freedesktop/DBus", bus, member, &argument)
}

pub(super) fn property_call(name: &str) -> Result<Message, BusError> {
    bus::call(
        bus::SYSTEMD,
        bus::MANAGER_PATH,
        bus::PROPERTIES,
        "Get",
        &(bus::MANAGER, name),
    )
}

/// Which call this message answers; `None` for anything but an answer.
pub(super) fn reply_serial(message: &Message) -> Option<u32> {
    matches!(message.message_type(), Type::MethodReturn | Type::Error)
        .then(|| message.header().reply_serial())
        .flatten()
        .map(Into::into)
}

fn read<T>(call: &'static str, result: Result<T, zbus::Error>) -> Result<T, BusError> {
    result.map_err(|source| BusError::Reply { call, source })
}

/// The object path of a unit: every byte that is not a letter or a digit becomes `_xx`, a digit
/// in front too (bus_label_escape of systemd).
pub(super) fn object_path(id: &str) -> String {
    let mut path = UNIT_PATHS.to_owned();
    if id.is_empty() {
        path.push('_');
    }
    for (index, byte) in id.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// The unit name in the last part of an object path.
fn unescape(label: &str) -> String {
    let mut name = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = (*byte == b'_')
            .then(|| after.split_at_checked(2))
            .flatten()
            .and_then(|(digits, after)| Some((std::str::from_utf8(digits).ok()?, after)))
            .and_then(|(digits, after)| Some((u8::from_str_radix(digits, 16).ok()?, after)));
        let (byte, after) = escaped.unwrap_or((*byte, after));
        name.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_and_unit_names_translate_both_ways() {
        for (name, path) in [
            (
                "quantum-ceo-brain.service",
                "quantum_2dceo_2dbrain_2eservice",
            ),
            ("0_a@b\\x2d.service", "_30_5fa_40b_5cx2d_2eservice"),
            ("dev-\u{e4}.mount", "dev_2d_c3_a4_2emount"),
        ] {
            assert_eq!(object_path(name), format!("{UNIT_PATHS}{path}"));
            assert_eq!(unescape(path), name);
        }
        assert_eq!(unescape("a_2"), "a_2");
    }
}
