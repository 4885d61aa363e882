//! One unit: a pure state machine. What systemd told goes in, states and counters come out; no I/O
//! and no clock of its own.

use std::borrow::Cow;
use std::sync::Arc;

use super::settings::Settings;

/// The ActiveStates that every unit has a series for, whether it was ever in them or not.
pub const ACTIVE_STATES: [&str; 6] = [
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
];

/// Two automatic restarts within this time are a loop, in microseconds. A loop of one restart every
/// five minutes must count.
const LOOP_WINDOW: u64 = 15 * 60 * 1_000_000;
/// A loop is over when no restart came for twice the time between the last two, and this long, in
/// microseconds: no round takes exactly as long as the one before.
const LOOP_SLACK: u64 = 30 * 1_000_000;
/// A minute, in microseconds: how finely the restarts of the last hour are told apart.
const MINUTE: u64 = 60_000_000;
/// How long after its last start a service counts that was in a loop before watching began, in
/// microseconds: how long its rounds take is not known then.
const UNSEEN_LOOP: u64 = 5 * 60 * 1_000_000;

/// A moment as systemd tells it, on both of its clocks, in microseconds; zero is "never".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_REALTIME, since the epoch. Jumps when the clock is set: only to be shown.
    pub realtime: u64,
    /// CLOCK_MONOTONIC, since boot: durations are taken from this one.
    pub monotonic: u64,
}

/// When a unit last changed state (`*Timestamp` of org.freedesktop.systemd1.Unit).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The latest change of ActiveState or SubState.
    pub state_change: Stamp,
    /// It left inactive or failed.
    pub inactive_exit: Stamp,
    /// It became active.
    pub active_enter: Stamp,
    /// It ceased to be active.
    pub active_exit: Stamp,
    /// It became inactive or failed.
    pub inactive_enter: Stamp,
}

/// What a reading or a signal says of one unit. `None`: it says nothing of that property.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    pub load_state: Option<Cow<'static, str>>,
    pub active_state: Option<Cow<'static, str>>,
    pub sub_state: Option<Cow<'static, str>>,
    pub fragment_path: Option<String>,
    pub drop_in_paths: Option<Vec<String>>,
    pub need_daemon_reload: Option<bool>,
    pub stamps: Option<Stamps>,
    /// InvocationID; zero when the unit was never started.
    pub invocation: Option<u128>,
    /// Requires, Requisite and BindsTo together.
    pub requires: Option<Vec<String>>,
    pub part_of: Option<Vec<String>>,
    /// As [`Unit::pulled_in`].
    pub pulled_in: Option<bool>,
    /// Type of a service or a mount.
    pub kind: Option<Cow<'static, str>>,
    pub restart: Option<Cow<'static, str>>,
    pub remain_after_exit: Option<bool>,
    pub n_restarts: Option<u32>,
    pub result: Option<Cow<'static, str>>,
    pub exec_main_code: Option<i32>,
    pub exec_main_status: Option<i32>,
    /// ExecMainStartTimestampMonotonic, microseconds.
    pub exec_main_start: Option<u64>,
    pub main_pid: Option<u32>,
    pub control_pid: Option<u32>,
    /// What only a whole reading of a service tells.
    pub settings: Option<Arc<Settings>>,
    /// As [`Service::programs`].
    pub programs: Option<Box<[String]>>,
    pub control_group: Option<String>,
    pub slice: Option<String>,
    /// LastTriggerUSec: realtime microseconds.
    pub last_trigger: Option<u64>,
    pub next_elapse_realtime: Option<u64>,
    pub next_elapse_monotonic: Option<u64>,
    pub n_accepted: Option<u32>,
    pub n_connections: Option<u32>,
    pub n_refused: Option<u32>,
}

/// One line of ListUnits: what systemd says of a unit without being asked for its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub load_state: Cow<'static, str>,
    pub active_state: Cow<'static, str>,
    pub sub_state: Cow<'static, str>,
}

/// One watched unit, as last told by systemd, with the counters kept since watching began.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The name it is watched under.
    pub name: Arc<str>,
    /// systemd's own name for it (Id): differs from `name` where that is an alias.
    pub id: Arc<str>,
    /// LoadState: loaded, not-found, masked, bad-setting, error, …
    pub load_state: Cow<'static, str>,
    /// ActiveState.
    pub active_state: Cow<'static, str>,
    /// SubState.
    pub sub_state: Cow<'static, str>,
    /// UnitFileState; `None` where no unit file exists.
    pub file_state: Option<Cow<'static, str>>,
    /// True once its file was looked for: before that, `file_state` says nothing.
    pub file_sought: bool,
    /// FragmentPath; empty where there is none.
    pub fragment_path: Box<str>,
    /// DropInPaths.
    pub drop_in_paths: Box<[String]>,
    /// NeedDaemonReload.
    pub need_daemon_reload: bool,
    /// The unit's own time stamps; all zero while it is not loaded.
    pub stamps: Stamps,
    /// When it last became active, monotonic microseconds; zero: never, as far as is known. Kept
    /// while it is not loaded, unlike its stamps.
    pub started: u64,
    /// When it last ceased to be active; likewise.
    pub ended: u64,
    /// Units it cannot run without: Requires, Requisite and BindsTo.
    pub requires: Box<[String]>,
    /// PartOf: units whose stop stops it, too. Their start does not start it.
    pub part_of: Box<[String]>,
    /// True if a unit in memory starts it together with itself: WantedBy, RequiredBy, BoundBy,
    /// UpheldBy or TriggeredBy. `None` until it was read, which it is of units that the baseline
    /// names.
    pub pulled_in: Option<bool>,
    /// The first of `requires` that is not active while this unit is down, and how it stands;
    /// `None` where all are, or the unit runs.
    pub missing_requirement: Option<(String, String)>,
    /// How its last job ended, if not with `done` (JobRemoved); cleared by the next start.
    pub job_result: Option<Cow<'static, str>>,
    /// ControlGroup, below the root of the cgroup file systems; empty while unknown.
    pub control_group: Box<str>,
    /// New InvocationIDs seen.
    pub activations: u64,
    /// Type of a service or a mount; empty for other units and while unknown.
    pub kind: Cow<'static, str>,
    /// For services: what only they have.
    pub service: Option<Service>,
    /// For timers: what only they have.
    pub timer: Option<Timer>,
    /// For sockets: what only they have.
    pub socket: Option<Socket>,
    /// True while systemd holds the unit in memory.
    pub loaded: bool,
    /// True once its properties were read since it was last loaded, or asked for while it was
    /// not; false again when they may have changed unseen.
    pub detailed: bool,
    /// True if its files may have changed after systemd loaded them, so that its next daemon-reload
    /// may change its properties. NeedDaemonReload alone does not tell, for it is as old as the other
    /// properties: the files may have changed after those were read.
    pub may_be_outdated: bool,
    /// True once the reading that it was first seen in is complete: from then on its changes count.
    pub settled: bool,
    /// InvocationID of its latest run; zero while none is known.
    pub invocation: u128,
    tallies: Vec<Tally>,
    /// Until when the tallies account for the time, monotonic microseconds.
    accounted: u64,
}

/// Time in one ActiveState and entries to it, since watching began.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tally {
    state: Cow<'static, str>,
    micros: u64,
    entries: u64,
}

/// What only services have (org.freedesktop.systemd1.Service).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Restart=: no, always, on-failure, …; empty while unknown.
    pub restart: Cow<'static, str>,
    /// RemainAfterExit: it stays active when its work is done.
    pub remain_after_exit: bool,
    /// NRestarts; systemd sets it back with every start by hand.
    pub n_restarts: u32,
    /// Automatic restarts seen since watching began; never set back.
    pub auto_restarts: u64,
    /// Endings with a Result that is neither success nor exec-condition (a start that a condition
    /// declined is no failure).
    pub failures: u64,
    /// Result.
    pub result: Cow<'static, str>,
    /// The last Result that was a failure; empty if there was none. A start sets Result back to
    /// success, but a unit that is in a loop is asked why while it runs, too.
    pub last_failure: Cow<'static, str>,
    /// How the main process last ended, ExecMainCode and ExecMainStatus: 1 exited, 2 killed,
    /// 3 dumped, and the exit status or signal number. `None` if it never did. Kept over the next
    /// start, which clears it in systemd.
    pub last_exit: Option<(i32, i32)>,
    /// When a run of a oneshot last ended with success, realtime microseconds; zero while none is
    /// known. Later failures leave it.
    pub last_success: u64,
    /// Automatic restarts by the minute in which they were seen (of the monotonic clock), of the last
    /// hour before the latest: never more than 61 of them, however quick a loop is.
    recent_restarts: Vec<(u64, u32)>,
    /// When the last automatic restart was, monotonic microseconds; zero: none since the last start
    /// by hand.
    last_restart: u64,
    /// Until when its latest restarts count as a loop if no other one comes, monotonic microseconds;
    /// zero: there were not two of them.
    loops_until: u64,
    /// MainPID; zero while it has none.
    pub main_pid: u32,
    /// ControlPID, of a command before or after the main one; zero while there is none.
    pub control_pid: u32,
    /// What decides where it can write from its next start on; `None` until it was read.
    pub settings: Option<Arc<Settings>>,
    /// What a process is called that runs one of its ExecStart=: the program's file name, cut off
    /// as the kernel does.
    pub programs: Box<[String]>,
    /// NRestarts when it was last started.
    n_restarts_at_start: u32,
    /// Restarts counted that no ending was seen for yet.
    unmatched_restarts: u32,
    /// An ending was seen that no restart followed yet.
    unmatched_ending: bool,
}

/// What only timers have (org.freedesktop.systemd1.Timer).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timer {
    /// LastTriggerUSec, realtime microseconds; zero: never.
    pub last_trigger: u64,
    /// NextElapseUSecRealtime, microseconds; zero or the maximum: none.
    pub next_elapse_realtime: u64,
    /// NextElapseUSecMonotonic, microseconds; zero or the maximum: none.
    pub next_elapse_monotonic: u64,
}

impl Timer {
    /// When it will elapse next, microseconds since the epoch; `None` if it will not.
    pub fn next_trigger(&self, now: Stamp) -> Option<u64> {
        let is_set = |at: u64| at != 0 && at != u64::MAX;
        let monotonic = is_set(self.next_elapse_monotonic).then(|| {
            now.realtime
                .saturating_add(self.next_elapse_monotonic)
                .saturating_sub(now.monotonic)
        });
        let realtime = is_set(self.next_elapse_realtime).then_some(self.next_elapse_realtime);
        [monotonic, realtime].into_iter().flatten().min()
    }
}

/// What only sockets have (org.freedesktop.systemd1.Socket).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Socket {
    pub n_accepted: u32,
    pub n_connections: u32,
    pub n_refused: u32,
}

impl Unit {
    pub(crate) fn new(name: &str, now: u64) -> Self {
        let suffix = suffix(name);
        Self {
            name: name.into(),
            id: name.into(),
            load_state: Cow::Borrowed("not-found"),
            active_state: Cow::Borrowed("inactive"),
            sub_state: Cow::Borrowed("dead"),
            file_state: None,
            file_sought: false,
            fragment_path: Box::default(),
            drop_in_paths: Box::default(),
            need_daemon_reload: false,
            stamps: Stamps::default(),
            started: 0,
            ended: 0,
            requires: Box::default(),
            part_of: Box::default(),
            pulled_in: None,
            missing_requirement: None,
            job_result: None,
            control_group: Box::default(),
            activations: 0,
            kind: Cow::Borrowed(""),
            service: (suffix == "service").then(|| Service {
                result: Cow::Borrowed("success"),
                ..Service::default()
            }),
            timer: (suffix == "timer").then(Timer::default),
            socket: (suffix == "socket").then(Socket::default),
            loaded: false,
            detailed: false,
            may_be_outdated: false,
            settled: true,
            invocation: 0,
            tallies: ACTIVE_STATES
                .iter()
                .map(|state| Tally {
                    state: Cow::Borrowed(state),
                    micros: 0,
                    entries: 0,
                })
                .collect(),
            accounted: now,
        }
    }

    /// The unit's type, as its name ends: service, timer, …
    pub fn suffix(&self) -> &str {
        suffix(&self.name)
    }

    /// True while nothing of it runs: ActiveState inactive or failed.
    pub fn is_down(&self) -> bool {
        matches!(&*self.active_state, "inactive" | "failed")
    }

    /// True if systemd tells properties of it: it is in memory, or has a file that is loaded for a
    /// moment to answer.
    pub fn has_properties(&self) -> bool {
        self.loaded || self.load_state == "loaded"
    }

    /// True if it is restarted again and again, as of `now` (monotonic microseconds).
    pub fn is_looping(&self, now: u64) -> bool {
        self.sub_state.contains("auto-restart")
            || !self.is_down()
                && self
                    .service
                    .as_ref()
                    .is_some_and(|service| now < service.loops_until)
    }

    /// True if its unit file lies below /run, which the next boot empties; generators fill their part
    /// of it again.
    pub fn has_passing_file(&self) -> bool {
        self.fragment_path.starts_with("/run/") && self.file_state.as_deref() != Some("generated")
    }

    /// Whether the next boot starts it: its file is enabled, or another unit pulls it in. `None`
    /// where it has no unit file, or it was not read yet who pulls it in.
    pub fn starts_at_boot(&self) -> Option<bool> {
        match self.file_state.as_deref()? {
            _ if self.has_passing_file() => Some(false),
            "enabled" => Some(true),
            // Pulled in for this boot only, or never.
            "enabled-runtime" | "masked" | "masked-runtime" => Some(false),
            _ => self.pulled_in,
        }
    }

    /// Each ActiveState with the seconds spent in it until `now` (monotonic microseconds) and the
    /// times it was entered, since watching began. The six of [`ACTIVE_STATES`] come first, then
    /// those that this unit was seen in besides.
    pub fn tallies(&self, now: u64) -> impl Iterator<Item = (&str, f64, u64)> {
        self.tallies.iter().map(move |tally| {
            let open = if tally.state == self.active_state {
                now.saturating_sub(self.accounted)
            } else {
                0
            };
            (
                &*tally.state,
                micros_as_seconds(tally.micros + open),
                tally.entries,
            )
        })
    }

    /// Takes over what `told` says. `now` is monotonic microseconds; a `first` reading counts
    /// nothing, for it was before watching began.
    pub(super) fn apply(&mut self, told: &Properties, now: u64, first: bool) {
        if let Some(service) = &mut self.service {
            service.apply(told, now, first);
        }
        if let Some(timer) = &mut self.timer {
            set(&mut timer.last_trigger, told.last_trigger);
            set(&mut timer.next_elapse_realtime, told.next_elapse_realtime);
            set(&mut timer.next_elapse_monotonic, told.next_elapse_monotonic);
        }
        if let Some(socket) = &mut self.socket {
            set(&mut socket.n_accepted, told.n_accepted);
            set(&mut socket.n_connections, told.n_connections);
            set(&mut socket.n_refused, told.n_refused);
        }
        set(&mut self.load_state, told.load_state.clone());
        set(&mut self.kind, told.kind.clone());
        set(&mut self.need_daemon_reload, told.need_daemon_reload);
        set(
            &mut self.fragment_path,
            told.fragment_path.clone().map(Into::into),
        );
        set(
            &mut self.drop_in_paths,
            told.drop_in_paths.clone().map(Into::into),
        );
        set(&mut self.requires, told.requires.clone().map(Into::into));
        set(&mut self.part_of, told.part_of.clone().map(Into::into));
        self.pulled_in = told.pulled_in.or(self.pulled_in);
        match (told.control_group.as_deref(), &told.slice) {
            (Some(group), _) if !group.is_empty() => self.control_group = group.into(),
            // It is made with the first start, and no signal names it; but its place is known.
            (_, Some(slice)) => self.control_group = control_group(slice, &self.id).into(),
            _ => {}
        }
        // An older message than the last one: the newer one has said it all.
        let changed_at = told
            .stamps
            .map_or(0, |stamps| stamps.state_change.monotonic);
        if changed_at != 0 && changed_at < self.stamps.state_change.monotonic {
            return;
        }
        if let Some(invocation) = told.invocation
            && invocation != self.invocation
        {
            if invocation != 0 && !first {
                self.activations += 1;
                self.job_result = None;
            }
            self.invocation = invocation;
            if let Some(service) = &mut self.service {
                service.started(first);
            }
        }
        if let Some(active_state) = &told.active_state {
            let sub_state = told.sub_state.as_ref().unwrap_or(&self.sub_state).clone();
            self.enter(active_state, sub_state, told.stamps.as_ref(), now, first);
        }
    }

    /// Moves to the given state. The stamps tell what happened on the way, also when signals were
    /// lost or one signal stands for several changes.
    fn enter(
        &mut self,
        active_state: &str,
        sub_state: Cow<'static, str>,
        stamps: Option<&Stamps>,
        now: u64,
        first: bool,
    ) {
        let stamps = stamps.copied().unwrap_or(self.stamps);
        let changed_at = stamps.state_change.monotonic;
        if first {
            self.active_state = word(active_state);
            self.accounted = now;
        } else {
            let result = self
                .service
                .as_ref()
                .map_or("success", |service| &service.result);
            let down =
                if active_state == "failed" || (active_state != "inactive" && is_failure(result)) {
                    "failed"
                } else {
                    "inactive"
                };
            let moved = stamps.inactive_enter.monotonic > self.stamps.inactive_enter.monotonic;
            // An automatic restart passes through inactive on its way to the next run, and the
            // ending before it was seen when the wait for it began.
            let ended = moved
                && (!self.sub_state.contains("auto-restart")
                    || (is_failure(result) && active_state != "inactive"));
            for (at, state) in passed(&self.stamps, &stamps, active_state, down) {
                self.account(at, Cow::Borrowed(state));
            }
            if self.active_state != active_state {
                let at = if changed_at == 0 { now } else { changed_at };
                self.account(at, word(active_state));
            }
            if let Some(service) = &mut self.service {
                service.settle(ended);
            }
        }
        if self.kind == "oneshot"
            && let Some(service) = &mut self.service
            && let Some(at) = service.succeeded(active_state, &self.stamps, &stamps, first)
        {
            service.last_success = at;
        }
        // It has its series from now on, also if this is the first reading.
        self.tally(active_state);
        self.sub_state = sub_state;
        self.stamps = stamps;
        self.started = self.started.max(stamps.active_enter.monotonic);
        self.ended = self.ended.max(stamps.active_exit.monotonic);
        if !self.is_down() {
            self.missing_requirement = None;
        }
    }

    /// Leaves the time until `shown` to the current state: a counter that was shown with it must
    /// not fall, though the state turns out to have ended a little earlier.
    pub(super) fn keep(&mut self, shown: u64) {
        if shown > self.accounted {
            let spent = shown - self.accounted;
            self.tally(&self.active_state.clone()).micros += spent;
            self.accounted = shown;
        }
    }

    /// Closes the current state's interval at `at` and opens one of `state`.
    fn account(&mut self, at: u64, state: Cow<'static, str>) {
        let until = at.max(self.accounted);
        let spent = until - self.accounted;
        self.tally(&self.active_state.clone()).micros += spent;
        self.tally(&state).entries += 1;
        self.active_state = state;
        self.accounted = until;
    }

    pub(super) fn unload(&mut self, now: u64) {
        if self.active_state != "inactive" {
            self.account(now, Cow::Borrowed("inactive"));
        }
        self.loaded = false;
        self.sub_state = Cow::Borrowed("dead");
        self.stamps = Stamps::default();
        self.need_daemon_reload = false;
        if let Some(service) = &mut self.service {
            service.n_restarts = 0;
            (service.main_pid, service.control_pid) = (0, 0);
        }
    }

    fn tally(&mut self, state: &str) -> &mut Tally {
        let index = self
            .tallies
            .iter()
            .position(|tally| tally.state == state)
            .unwrap_or_else(|| {
                self.tallies.push(Tally {
                    state: word(state),
                    micros: 0,
                    entries: 0,
                });
                self.tallies.len() - 1
            });
        &mut self.tallies[index]
    }
}

impl Service {
    fn apply(&mut self, told: &Properties, now: u64, first: bool) {
        set(&mut self.restart, told.restart.clone());
        set(&mut self.remain_after_exit, told.remain_after_exit);
        set(&mut self.result, told.result.clone());
        set(&mut self.main_pid, told.main_pid);
        set(&mut self.control_pid, told.control_pid);
        if told.settings.is_some() {
            self.settings.clone_from(&told.settings);
        }
        set(&mut self.programs, told.programs.clone());
        if is_failure(&self.result) {
            self.last_failure = self.result.clone();
        }
        if let (Some(code), Some(status)) = (told.exec_main_code, told.exec_main_status)
            && code != 0
        {
            self.last_exit = Some((code, status));
        }
        let Some(n_restarts) = told.n_restarts else {
            return;
        };
        if first {
            self.seed(n_restarts, now, told);
        } else {
            let new = n_restarts.checked_sub(self.n_restarts).unwrap_or_else(|| {
                // Smaller than before: somebody started it by hand, which ends a loop and sets
                // the count back to zero; all that it shows is new.
                self.end_loop();
                n_restarts
            });
            self.auto_restarts += u64::from(new);
            self.unmatched_restarts = self.unmatched_restarts.saturating_add(new);
            self.restarted(new, now);
        }
        self.n_restarts = n_restarts;
    }

    /// The automatic restarts of the hour before `now` (monotonic microseconds) that were seen, to the
    /// minute.
    pub fn restarts_in_the_last_hour(&self, now: u64) -> u64 {
        let recent = self.recent_restarts.iter();
        recent
            .filter(|(minute, _)| is_recent(*minute, now))
            .map(|(_, times)| u64::from(*times))
            .sum()
    }

    fn keep_recent(&mut self, times: u32, now: u64) {
        self.recent_restarts
            .retain(|(minute, _)| is_recent(*minute, now));
        match self.recent_restarts.last_mut() {
            Some((minute, count)) if *minute == now / MINUTE => {
                *count = count.saturating_add(times);
            }
            _ => self.recent_restarts.push((now / MINUTE, times)),
        }
    }

    /// It was restarted so many times since the last message.
    fn restarted(&mut self, times: u32, now: u64) {
        let apart = match times {
            0 => return,
            1 if self.last_restart == 0 => LOOP_WINDOW,
            1 => now.saturating_sub(self.last_restart),
            // One message tells of several: they came quickly.
            _ => 0,
        };
        self.keep_recent(times, now);
        self.last_restart = now;
        // Both must hold: the last one is not long ago, and the one before is in the window.
        let left = LOOP_WINDOW.saturating_sub(apart);
        self.loops_until = now + left.min(2 * apart + LOOP_SLACK);
    }

    fn end_loop(&mut self) {
        (self.last_restart, self.loops_until) = (0, 0);
    }

    /// It was started. A start that no automatic restart was counted for was one by hand, and ends
    /// a loop, also where systemd goes on counting (it does if the unit waited for a restart).
    fn started(&mut self, first: bool) {
        if !first && self.n_restarts == self.n_restarts_at_start {
            self.end_loop();
        }
        self.n_restarts_at_start = self.n_restarts;
    }

    /// What the first reading tells of restarts before it: two or more since the last start by
    /// hand, the latest one when the unit was last started, make a loop as far as can be known.
    fn seed(&mut self, n_restarts: u32, now: u64, told: &Properties) {
        let last_start = told.exec_main_start.unwrap_or(now);
        if n_restarts >= 1 {
            self.last_restart = last_start;
        }
        if n_restarts >= 2 {
            self.loops_until = last_start + UNSEEN_LOOP;
        }
    }

    /// When the run of a oneshot ended with success that these stamps tell of, realtime microseconds;
    /// `None` if they tell of none.
    fn succeeded(
        &self,
        active_state: &str,
        old: &Stamps,
        new: &Stamps,
        first: bool,
    ) -> Option<u64> {
        if self.remain_after_exit {
            // Only a success makes it active.
            return Some(new.active_enter.realtime).filter(|at| *at != 0);
        }
        let ended = new.inactive_enter.monotonic > old.inactive_enter.monotonic;
        // `systemctl reset-failed` sets Result to success, too: whoever did not see the ending
        // needs the exit status to be sure.
        let is_sure = !first || self.last_exit == Some((1, 0));
        (ended && is_sure && active_state == "inactive" && self.result == "success")
            .then_some(new.inactive_enter.realtime)
    }

    /// Counts the endings that belong to what was just told. Each automatic restart follows an
    /// ending; where a signal stands for several rounds, the restarts tell how many there were.
    fn settle(&mut self, ended: bool) {
        let seen = u32::from(self.unmatched_ending) + u32::from(ended);
        let unseen = self.unmatched_restarts.saturating_sub(seen);
        let failing = is_failure(&self.result);
        // A start sets Result back to success, so it may no longer tell how the last run ended;
        // with these, nothing but a failure is followed by a restart.
        let restarts_on_failure_only = matches!(
            &*self.restart,
            "on-failure" | "on-abnormal" | "on-abort" | "on-watchdog"
        );
        if ended && (failing || (restarts_on_failure_only && self.unmatched_restarts > 0)) {
            self.failures += 1;
        }
        if failing || restarts_on_failure_only {
            self.failures += u64::from(unseen);
        }
        self.unmatched_ending = seen > self.unmatched_restarts && (ended || self.unmatched_ending);
        self.unmatched_restarts = 0;
    }
}

/// The changes between two sets of stamps, oldest first: when, and which ActiveState began.
/// `down` is the one that an `inactive_enter` stands for.
fn passed(
    old: &Stamps,
    new: &Stamps,
    active_state: &str,
    down: &'static str,
) -> Vec<(u64, &'static str)> {
    let moved = |old: Stamp, new: Stamp| new.monotonic > old.monotonic;
    // Stamps of one moment are one change: a crash leaves active and enters failed at once, a
    // target goes from inactive to active; the state between was never taken.
    let started = (moved(old.inactive_exit, new.inactive_exit)
        && new.inactive_exit.monotonic != new.active_enter.monotonic)
        .then_some((new.inactive_exit.monotonic, "activating"));
    let became_active =
        moved(old.active_enter, new.active_enter).then_some((new.active_enter.monotonic, "active"));
    // Where active gave way to a state other than deactivating, that state has no stamp of its own
    // and `enter` accounts for it.
    let left_for_another =
        new.active_exit.monotonic == new.state_change.monotonic && active_state != "deactivating";
    let stopping = (moved(old.active_exit, new.active_exit)
        && new.active_exit.monotonic != new.inactive_enter.monotonic
        && !left_for_another)
        .then_some((new.active_exit.monotonic, "deactivating"));
    let ended = moved(old.inactive_enter, new.inactive_enter)
        .then_some((new.inactive_enter.monotonic, down));
    // The sort keeps this order among equals: what it is now came last.
    let mut changes: Vec<_> = if matches!(active_state, "inactive" | "failed") {
        [started, became_active, stopping, ended]
            .into_iter()
            .flatten()
            .collect()
    } else {
        [stopping, ended, started, became_active]
            .into_iter()
            .flatten()
            .collect()
    };
    changes.sort_by_key(|(at, _)| *at);
    changes
}

/// Where systemd makes the cgroup of a unit in this slice: `a-b.slice` lies in `a.slice`.
fn control_group(slice: &str, id: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let parents = stem
        .match_indices('-')
        .filter_map(|(dash, _)| stem.get(..dash));
    let mut path: String = parents
        .chain([stem])
        .filter(|slice| !slice.is_empty() && *slice != "-")
        .flat_map(|slice| ["/", slice, ".slice"])
        .collect();
    path.push('/');
    path.push_str(id);
    path
}

/// Whether this minute of the monotonic clock lies in the hour before `now`.
fn is_recent(minute: u64, now: u64) -> bool {
    minute + 60 >= now / MINUTE
}

/// A Result that counts as a failure.
pub fn is_failure(result: &str) -> bool {
    !matches!(result, "" | "success" | "exec-condition")
}

/// The part of a unit name after its last dot.
pub fn suffix(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, suffix)| suffix)
}

fn set<T>(field: &mut T, told: Option<T>) {
    if let Some(value) = told {
        *field = value;
    }
}

/// One of systemd's words. The known ones cost nothing; a new one of a newer systemd is kept.
pub fn word(text: &str) -> Cow<'static, str> {
    WORDS.binary_search(&text).map_or_else(
        |_| Cow::Owned(text.to_owned()),
        |index| Cow::Borrowed(WORDS[index]),
    )
}

/// Words that many units share, sorted.
const WORDS: &[&str] = &[
    "",
    "abandoned",
    "activating",
    "active",
    "alias",
    "always",
    "auto-restart",
    "auto-restart-queued",
    "bad",
    "bad-setting",
    "canceled",
    "core-dump",
    "dbus",
    "deactivating",
    "dead",
    "dead-before-auto-restart",
    "dependency",
    "disabled",
    "elapsed",
    "enabled",
    "enabled-runtime",
    "error",
    "exec",
    "exec-condition",
    "exit-code",
    "exited",
    "failed",
    "failed-before-auto-restart",
    "final-sigkill",
    "final-sigterm",
    "forking",
    "generated",
    "idle",
    "inactive",
    "indirect",
    "linked",
    "linked-runtime",
    "listening",
    "loaded",
    "masked",
    "masked-runtime",
    "merged",
    "mounted",
    "no",
    "not-found",
    "notify",
    "notify-reload",
    "on-abnormal",
    "on-abort",
    "on-failure",
    "on-success",
    "on-watchdog",
    "oneshot",
    "oom-kill",
    "plugged",
    "protocol",
    "reloading",
    "resources",
    "running",
    "signal",
    "simple",
    "start",
    "start-limit-hit",
    "start-post",
    "start-pre",
    "static",
    "stop",
    "stop-post",
    "stop-sigkill",
    "stop-sigterm",
    "success",
    "timeout",
    "tmpfs",
    "transient",
    "waiting",
    "watchdog",
];

/// Microseconds as the seconds that Prometheus counts in.
pub fn micros_as_seconds(micros: u64) -> f64 {
    // Exact up to 2^53 µs, which is 285 years.
    #[expect(clippy::cast_precision_loss, reason = "see the line above")]
    let micros = micros as f64;
    micros / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_words_are_sorted_and_found() {
        assert!(WORDS.is_sorted());
        assert!(matches!(word("deactivating"), Cow::Borrowed(_)));
        assert!(matches!(word("never-heard-of"), Cow::Owned(_)));
    }

    #[test]
    fn a_cgroup_lies_in_its_slices() {
        let path = |slice| control_group(slice, "a.service");
        assert_eq!(path("system.slice"), "/system.slice/a.service");
        assert_eq!(
            path("a-b-c.slice"),
            "/a.slice/a-b.slice/a-b-c.slice/a.service"
        );
        assert_eq!(path("-.slice"), "/a.service");
    }

    #[test]
    fn the_next_trigger_is_the_earlier_one_that_is_set() {
        let now = Stamp {
            realtime: 1_000_000_000,
            monotonic: 1_000_000,
        };
        let timer = |realtime, monotonic| Timer {
            next_elapse_realtime: realtime,
            next_elapse_monotonic: monotonic,
            ..Timer::default()
        };
        assert_eq!(timer(0, u64::MAX).next_trigger(now), None);
        assert_eq!(timer(0, 3_000_000).next_trigger(now), Some(1_002_000_000));
        assert_eq!(
            timer(1_001_000_000, 3_000_000).next_trigger(now),
            Some(1_001_000_000)
        );
    }

    #[test]
    fn the_next_boot_starts_what_is_enabled_or_pulled_in() {
        let of = |file_state: Option<&'static str>, fragment_path: &str, pulled_in| {
            let mut unit = Unit::new("a.service", 0);
            unit.file_state = file_state.map(Cow::Borrowed);
            unit.fragment_path = fragment_path.into();
            unit.pulled_in = pulled_in;
            unit.starts_at_boot()
        };
        let etc = "/etc/systemd/system/a.service";
        let run = "/run/systemd/system/a.service";
        let generator = "/run/systemd/generator/a.service";
        assert_eq!(of(Some("enabled"), etc, Some(false)), Some(true));
        assert_eq!(of(Some("enabled"), run, Some(true)), Some(false));
        // The link that enables it pulls it in, too, and goes.
        assert_eq!(of(Some("enabled-runtime"), etc, Some(true)), Some(false));
        assert_eq!(of(Some("masked"), etc, Some(true)), Some(false));
        for file_state in ["disabled", "static", "indirect", "alias", "linked"] {
            assert_eq!(of(Some(file_state), etc, Some(true)), Some(true));
            assert_eq!(of(Some(file_state), etc, Some(false)), Some(false));
            assert_eq!(of(Some(file_state), etc, None), None, "not read yet");
        }
        assert_eq!(of(Some("generated"), generator, Some(true)), Some(true));
        assert_eq!(of(Some("generated"), generator, Some(false)), Some(false));
        assert_eq!(of(None, "", Some(true)), None);
    }

    /// A oneshot that was `active_state` since this second, after it was active and inactive then.
    fn oneshot_told(
        active_state: &'static str,
        result: &'static str,
        exit: i32,
        at: u64,
    ) -> Properties {
        let stamp = |at| Stamp {
            realtime: 2 * at,
            monotonic: at,
        };
        let active_enter = if active_state == "active" { at } else { 0 };
        let inactive_enter = if active_state == "active" { 0 } else { at };
        Properties {
            kind: Some("oneshot".into()),
            active_state: Some(active_state.into()),
            result: Some(result.into()),
            exec_main_code: Some(1),
            exec_main_status: Some(exit),
            stamps: Some(Stamps {
                state_change: stamp(at),
                active_enter: stamp(active_enter),
                inactive_enter: stamp(inactive_enter),
                ..Stamps::default()
            }),
            ..Properties::default()
        }
    }

    fn last_success(unit: &Unit) -> u64 {
        unit.service.as_ref().unwrap().last_success
    }

    #[test]
    fn the_last_success_of_a_oneshot_is_kept_over_failures() {
        let mut unit = Unit::new("a.service", 0);
        let mut told = |active_state, result, exit, at| {
            unit.apply(&oneshot_told(active_state, result, exit, at), at, false);
            last_success(&unit)
        };
        assert_eq!(told("failed", "exit-code", 1, 10), 0, "none yet");
        // By `systemctl reset-failed`.
        assert_eq!(told("inactive", "success", 1, 10), 0);
        assert_eq!(told("inactive", "success", 0, 20), 40);
        assert_eq!(told("failed", "exit-code", 1, 30), 40);
        assert_eq!(told("inactive", "success", 1, 30), 40);
        assert_eq!(told("inactive", "exec-condition", 1, 40), 40);
        assert_eq!(
            told("inactive", "success", 3, 50),
            100,
            "SuccessExitStatus="
        );
        unit.unload(60);
        assert_eq!(last_success(&unit), 100);
    }

    #[test]
    fn a_first_reading_tells_the_last_success_where_it_is_sure() {
        let first = |remain_after_exit, told: Properties| {
            let mut unit = Unit::new("a.service", 0);
            let told = Properties {
                remain_after_exit: Some(remain_after_exit),
                ..told
            };
            unit.apply(&told, 100, true);
            last_success(&unit)
        };
        assert_eq!(first(false, oneshot_told("inactive", "success", 0, 10)), 20);
        assert_eq!(first(false, oneshot_told("inactive", "success", 1, 10)), 0);
        assert_eq!(first(false, oneshot_told("failed", "exit-code", 1, 10)), 0);
        assert_eq!(first(false, oneshot_told("inactive", "success", 0, 0)), 0);
        assert_eq!(first(true, oneshot_told("active", "success", 0, 10)), 20);
        assert_eq!(first(true, oneshot_told("inactive", "success", 0, 10)), 0);
        let service = Properties {
            kind: Some("simple".into()),
            ..oneshot_told("inactive", "success", 0, 10)
        };
        assert_eq!(first(false, service), 0);
    }

    const SECOND: u64 = 1_000_000;

    /// A service that runs, after automatic restarts at these moments under our eyes.
    fn restarted_at(moments: &[u64]) -> Unit {
        let mut unit = Unit::new("a.service", 0);
        unit.active_state = Cow::Borrowed("active");
        unit.sub_state = Cow::Borrowed("running");
        for (before, moment) in (0..).zip(moments) {
            unit.apply(&restarts(before + 1), *moment, false);
        }
        unit
    }

    fn restarts(n_restarts: u32) -> Properties {
        Properties {
            n_restarts: Some(n_restarts),
            ..Properties::default()
        }
    }

    #[test]
    fn a_loop_of_any_period_is_seen_at_any_moment_and_ends_by_itself() {
        for period in [1, 2, 5, 10, 30, 60, 90, 100, 120, 180, 300].map(|s| s * SECOND) {
            // It waits for its restart for a tenth of the time, or for nearly all of it.
            for wait in [period / 10, period - period / 10] {
                let began = 1000 * MINUTE;
                let mut unit = restarted_at(&[]);
                for second in 0..=10 * period / SECOND {
                    let now = began + second * SECOND;
                    let restarted = u32::try_from((now - began) / period).unwrap();
                    let waits = (now - began) % period >= period - wait;
                    (unit.active_state, unit.sub_state) = if waits {
                        ("activating".into(), "auto-restart".into())
                    } else {
                        ("active".into(), "running".into())
                    };
                    unit.apply(&restarts(restarted), now, false);
                    let loops = unit.is_looping(now);
                    let at = format!("period {period}, wait {wait}, second {second}");
                    assert!(loops || restarted < 2, "{at}");
                    assert!(!loops || restarted >= 2 || waits, "{at}");
                }
                // That was the last one.
                let last = began + 10 * period;
                assert!(unit.is_looping(last));
                assert!(!unit.is_looping(last + 2 * period + 30 * SECOND));
            }
        }
    }

    #[test]
    fn the_restarts_of_the_last_hour_are_counted_without_keeping_each() {
        let mut unit = Unit::new("a.service", 0);
        unit.apply(&restarts(0), 0, true);
        // Two a minute, for three hours.
        for count in 1..=360 {
            unit.apply(&restarts(count), u64::from(count) * MINUTE / 2, false);
        }
        let service = unit.service.as_ref().unwrap();
        assert_eq!(service.auto_restarts, 360);
        assert_eq!(service.recent_restarts.len(), 61);
        let at = |minutes| service.restarts_in_the_last_hour(minutes * MINUTE);
        assert!((120..=122).contains(&at(180)), "{}", at(180));
        assert!((60..=62).contains(&at(210)), "{}", at(210));
        assert_eq!(at(241), 0);
    }

    #[test]
    fn restarts_far_apart_are_no_loop() {
        assert!(!restarted_at(&[100 * MINUTE]).is_looping(100 * MINUTE));
        let far = restarted_at(&[100 * MINUTE, 116 * MINUTE]);
        assert!(!far.is_looping(116 * MINUTE));
    }

    #[test]
    fn several_restarts_in_one_message_are_a_quick_loop() {
        let mut unit = restarted_at(&[]);
        unit.apply(&restarts(2), 100 * MINUTE, false);
        assert!(unit.is_looping(100 * MINUTE + 29 * SECOND));
        assert!(!unit.is_looping(100 * MINUTE + 30 * SECOND));
    }

    #[test]
    fn a_loop_from_before_watching_began_counts_for_five_minutes_after_its_last_start() {
        let first = |n_restarts| {
            let mut unit = restarted_at(&[]);
            let told = Properties {
                exec_main_start: Some(100 * MINUTE),
                ..restarts(n_restarts)
            };
            unit.apply(&told, 102 * MINUTE, true);
            unit
        };
        assert!(first(2).is_looping(105 * MINUTE - 1));
        assert!(!first(2).is_looping(105 * MINUTE));
        let mut unit = first(1);
        assert!(!unit.is_looping(102 * MINUTE));
        unit.apply(&restarts(2), 103 * MINUTE, false);
        assert!(unit.is_looping(103 * MINUTE), "the second one");
    }

    #[test]
    fn a_loop_ends_when_the_service_is_down() {
        let mut unit = restarted_at(&[100 * MINUTE, 105 * MINUTE]);
        unit.active_state = Cow::Borrowed("inactive");
        unit.sub_state = Cow::Borrowed("dead");
        assert!(!unit.is_looping(106 * MINUTE));
        unit.active_state = Cow::Borrowed("activating");
        unit.sub_state = Cow::Borrowed("auto-restart");
        assert!(unit.is_looping(200 * MINUTE), "that is a restart by itself");
    }
}
