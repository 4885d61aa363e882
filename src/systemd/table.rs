//! The unit table: which units are watched, and what is known of each. Pure as they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::unit::{Properties, Row, Stamps, Unit, word};
use super::unit_files::UnitFiles;

/// The watched units, and how many others the host has.
#[derive(Debug)]
pub struct Table {
    named: HashSet<Arc<str>>,
    patterns: Vec<glob::Pattern>,
    units: Vec<Arc<Unit>>,
    /// Positions in `units` by systemd's own name; an alias and its unit share one.
    by_id: HashMap<Arc<str>, Vec<usize>>,
    others: Others,
    /// When the units were last shown to anybody, monotonic microseconds.
    shown: u64,
    /// True until everything that is watched was read: what is added meanwhile, and how it came to
    /// stand so, was there before watching it began.
    reading: bool,
    /// True once the first reading is complete.
    settled: bool,
}

/// What came of a signal or a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// False if the unit's properties have to be read, because only some are known.
    pub detailed: bool,
    /// The unit went up, went down or failed: what it needs, and the manager, may differ too.
    pub stands_otherwise: bool,
}

/// The units of the host that are not watched, as last listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// How many are in each ActiveState.
    pub counts: BTreeMap<Cow<'static, str>, usize>,
    /// Those that failed.
    pub failed: BTreeSet<String>,
}

impl Table {
    /// A table that watches the units of these names, and those that match a pattern once they
    /// are seen. `now` is monotonic microseconds.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        patterns: Vec<glob::Pattern>,
        now: u64,
    ) -> Self {
        let mut table = Self {
            named: HashSet::new(),
            patterns: Vec::new(),
            units: Vec::new(),
            by_id: HashMap::new(),
            others: Others::default(),
            shown: 0,
            reading: true,
            settled: false,
        };
        table.rewatch(names, patterns, now);
        table
    }

    /// Watches these from now on, as [`new`](Self::new) does. A unit that was watched before keeps
    /// all that is known and counted of it; what nobody watches any more is gone. Of those that
    /// come, nothing counts before the next [`settle`](Self::settle).
    pub fn rewatch<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        patterns: Vec<glob::Pattern>,
        now: u64,
    ) {
        let mut before = std::mem::take(&mut self.units);
        self.by_id.clear();
        self.named.clear();
        self.patterns = patterns;
        self.reading = true;
        for name in names {
            self.named.insert(name.into());
            match before.iter().position(|unit| *unit.name == *name) {
                Some(index) => self.units.push(before.remove(index)),
                None => {
                    self.add(name, now);
                }
            }
        }
        let patterns = &self.patterns;
        before.retain(|unit| patterns.iter().any(|pattern| pattern.matches(&unit.name)));
        self.units.extend(before);
        self.reindex();
    }

    /// The units to be shown with their counters as of `now`, each as an immutable value that later
    /// changes leave alone.
    pub fn show(&mut self, now: u64) -> Vec<Arc<Unit>> {
        self.shown = now;
        self.units.clone()
    }

    /// The units.
    pub fn units(&self) -> &[Arc<Unit>] {
        &self.units
    }

    /// The units that are not watched.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// True if a unit of this name is watched.
    pub fn watches(&self, name: &str) -> bool {
        self.by_id.contains_key(name)
            || self.named.contains(name)
            || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Ends the reading of everything: from now on every change counts.
    pub fn settle(&mut self) {
        self.reading = false;
        self.settled = true;
        for unit in self.units.iter_mut().filter(|unit| !unit.settled) {
            Arc::make_mut(unit).settled = true;
        }
    }

    /// True once the first reading was complete.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Takes over what a signal says of the unit that systemd calls `id`: it is in memory, if it did
    /// anything there.
    pub fn signal(&mut self, id: &str, told: &Properties, now: u64) -> Applied {
        let mut applied = Applied {
            detailed: true,
            stands_otherwise: false,
        };
        for index in self.indices(id, now) {
            let unit = Arc::make_mut(&mut self.units[index]);
            let before = (unit.is_down(), unit.active_state == "failed");
            if unit.loaded || !is_idle(told) {
                unit.detailed &= unit.loaded;
                unit.loaded = true;
            }
            unit.keep(self.shown);
            unit.apply(told, now, !unit.settled && !unit.detailed);
            // A signal of a socket says that its counters moved, but not where to; while it is down,
            // they do not.
            unit.detailed &= unit.socket.is_none() || (before.0 && unit.is_down());
            applied.detailed &= unit.detailed;
            applied.stands_otherwise |= before != (unit.is_down(), unit.active_state == "failed");
        }
        applied
    }

    /// Takes over a reply about the unit that systemd calls `id`. `is_whole` says that its
    /// properties are known with this one. True if a file came up that the unit did not have
    /// before, so that the files have to be read.
    pub fn reply(&mut self, id: &str, told: &Properties, is_whole: bool, now: u64) -> bool {
        let shown = self.shown;
        let mut has_new_file = false;
        self.each(id, |unit| {
            unit.keep(shown);
            let before = unit.fragment_path.clone();
            unit.apply(told, now, !unit.settled && !unit.detailed);
            unit.detailed |= is_whole;
            has_new_file |=
                unit.settled && !unit.fragment_path.is_empty() && unit.fragment_path != before;
        });
        has_new_file
    }

    /// Says that the properties of `id` may have changed unseen.
    pub fn forget(&mut self, id: &str) {
        self.each(id, |unit| {
            unit.detailed = false;
            unit.may_be_outdated = true;
        });
    }

    /// Says that systemd read its unit files again: what was outdated is so no more, and the files
    /// of other units say who pulls in those that are named.
    pub fn forget_reloaded(&mut self) {
        for unit in &mut self.units {
            let outdated = unit.may_be_outdated || unit.need_daemon_reload;
            if outdated || self.named.contains(&unit.name) {
                let unit = Arc::make_mut(unit);
                unit.detailed = false;
                unit.may_be_outdated = false;
            }
        }
    }

    /// True if systemd calls a unit so that is watched by its name, and not by a pattern only.
    pub fn is_named(&self, id: &str) -> bool {
        let mut indices = self.by_id.get(id).into_iter().flatten();
        indices.any(|index| self.named.contains(&self.units[*index].name))
    }

    /// The units whose properties are not known, by systemd's own names.
    pub fn undetailed_ids(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<_> = self
            .units
            .iter()
            .filter(|unit| !unit.detailed && unit.has_properties())
            .map(|unit| unit.id.clone())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The watched units that systemd does not hold in memory.
    pub fn unloaded_names(&self) -> Vec<Arc<str>> {
        let unloaded = self.units.iter().filter(|unit| !unit.loaded);
        unloaded.map(|unit| unit.name.clone()).collect()
    }

    /// The names and the patterns that are watched.
    pub fn watched_names(&self) -> (HashSet<Arc<str>>, Vec<glob::Pattern>) {
        (self.named.clone(), self.patterns.clone())
    }

    /// Says that the properties of every unit may have changed unseen.
    pub fn forget_details(&mut self) {
        for unit in &mut self.units {
            Arc::make_mut(unit).detailed = false;
        }
    }

    /// Says that the counters of sockets may have moved: no signal tells when a connection ends.
    pub fn forget_sockets(&mut self) {
        for unit in self
            .units
            .iter_mut()
            .filter(|unit| unit.loaded && unit.socket.is_some())
        {
            Arc::make_mut(unit).detailed = false;
        }
    }

    /// True if one of these units, by systemd's own names, is down.
    pub fn is_any_down(&self, ids: &[Arc<str>]) -> bool {
        let mut indices = ids.iter().filter_map(|id| self.by_id.get(id)).flatten();
        indices.any(|index| self.units[*index].is_down())
    }

    /// What the units that are down require, each name once.
    pub fn requirements(&self) -> Vec<String> {
        let down = self.units.iter().filter(|unit| unit.is_down());
        let names: BTreeSet<&String> = down.flat_map(|unit| unit.requires.iter()).collect();
        names.into_iter().cloned().collect()
    }

    /// A job of this unit ended other than with `done`.
    pub fn job_failed(&mut self, name: &str, result: &str) {
        self.each(name, |unit| unit.job_result = Some(word(result)));
    }

    /// systemd dropped the unit from memory: nothing of it runs, and its counters start afresh
    /// should it come back.
    pub fn removed(&mut self, id: &str, now: u64) {
        let shown = self.shown;
        self.each(id, |unit| {
            unit.keep(shown);
            unit.unload(now);
        });
    }

    /// Takes over a list of every unit that systemd holds in memory. Units whose state differs
    /// from the table's, though it was read before, are returned and left as they are: whoever
    /// asked knows whether a signal may still be on its way.
    pub fn list(&mut self, rows: &[Row], now: u64) -> Vec<String> {
        let mut differing = Vec::new();
        let mut others = Others::default();
        let mut listed = HashSet::new();
        for row in rows {
            if !self.watches(&row.name) {
                *others.counts.entry(row.active_state.clone()).or_default() += 1;
                if row.active_state == "failed" {
                    others.failed.insert(row.name.clone());
                }
                continue;
            }
            for index in self.indices(&row.name, now) {
                listed.insert(index);
                let unit = &mut self.units[index];
                if unit.load_state != row.load_state || !unit.loaded {
                    let unit = Arc::make_mut(unit);
                    unit.detailed &= unit.loaded;
                    unit.loaded = true;
                    unit.load_state = row.load_state.clone();
                }
                if unit.active_state == row.active_state && unit.sub_state == row.sub_state {
                    continue;
                }
                if unit.detailed {
                    differing.push(row.name.clone());
                } else if !unit.settled {
                    let told = Properties {
                        active_state: Some(row.active_state.clone()),
                        sub_state: Some(row.sub_state.clone()),
                        ..Properties::default()
                    };
                    Arc::make_mut(unit).apply(&told, now, true);
                }
            }
        }
        for (index, unit) in self.units.iter_mut().enumerate() {
            if unit.loaded && !listed.contains(&index) {
                if !unit.is_down() {
                    differing.push(unit.id.to_string());
                }
                let unit = Arc::make_mut(unit);
                unit.keep(self.shown);
                unit.unload(now);
            }
        }
        self.others = others;
        self.find_missing_requirements(&rows.iter().map(|row| (row.name.as_str(), row)).collect());
        differing
    }

    /// Finds out for each unit that is down which of the units it requires is down too. A required
    /// unit that has no row is not in memory: it stands as it did when it last had one.
    pub fn find_missing_requirements(&mut self, rows: &HashMap<&str, &Row>) {
        for unit in self.units.iter_mut().filter(|unit| unit.is_down()) {
            let before = unit.missing_requirement.as_ref();
            let missing = unit.requires.iter().find_map(|name| {
                let Some(row) = rows.get(name.as_str()) else {
                    let last = before.filter(|(before, _)| before == name).cloned();
                    return last.or_else(|| Some((name.clone(), "inactive".to_owned())));
                };
                let state = if row.load_state == "loaded" {
                    &row.active_state
                } else {
                    &row.load_state
                };
                (row.active_state != "active").then(|| (name.clone(), state.to_string()))
            });
            if unit.missing_requirement != missing {
                Arc::make_mut(unit).missing_requirement = missing;
            }
        }
    }

    /// Takes over the unit files that exist. Watched names that match a pattern only, are not in
    /// memory and have no file any more, are gone for good and dropped.
    pub fn files(&mut self, files: &UnitFiles, now: u64) {
        let known: HashSet<Arc<str>> = self.units.iter().map(|unit| unit.name.clone()).collect();
        for name in files.names() {
            if self.watches(name) && !known.contains(name) {
                self.add(name, now);
            }
        }
        for unit in &mut self.units {
            let file_state = files.state(&unit.name);
            if unit.file_state.as_ref() != file_state || !unit.file_sought {
                let unit = Arc::make_mut(unit);
                unit.file_state = file_state.cloned();
                unit.file_sought = true;
            }
        }
        let named = &self.named;
        self.units
            .retain(|unit| unit.loaded || files.has(&unit.name) || named.contains(&unit.name));
        self.reindex();
    }

    fn reindex(&mut self) {
        self.by_id.clear();
        for (index, unit) in self.units.iter().enumerate() {
            self.by_id.entry(unit.id.clone()).or_default().push(index);
        }
    }

    /// Takes over what systemd says of a unit that it does not hold in memory: the name that was
    /// asked for, and the line it answered with, whose name differs for an alias.
    pub fn unloaded(&mut self, asked: &str, row: &Row) {
        let Some(index) = self.units.iter().position(|unit| *unit.name == *asked) else {
            return;
        };
        let unit = Arc::make_mut(&mut self.units[index]);
        unit.load_state = row.load_state.clone();
        if *unit.id != *row.name {
            unit.id = row.name.as_str().into();
            self.reindex();
        }
    }

    /// True if the row says the same as the table.
    pub fn agrees(&self, row: &Row) -> bool {
        self.by_id.get(&*row.name).is_none_or(|indices| {
            indices.iter().all(|index| {
                let unit = &self.units[*index];
                unit.active_state == row.active_state && unit.sub_state == row.sub_state
            })
        })
    }

    fn add(&mut self, name: &str, now: u64) -> usize {
        let mut unit = Unit::new(name, now);
        unit.settled = !self.reading;
        let index = self.units.len();
        self.by_id.entry(unit.id.clone()).or_default().push(index);
        self.units.push(Arc::new(unit));
        index
    }

    /// Where a unit of this id stands; a watched one that was not there is added.
    fn indices(&mut self, id: &str, now: u64) -> Vec<usize> {
        if let Some(indices) = self.by_id.get(id) {
            return indices.clone();
        }
        // An alias that became a unit of its own: it follows itself from now on.
        if let Some(index) = self.units.iter().position(|unit| *unit.name == *id) {
            Arc::make_mut(&mut self.units[index]).id = id.into();
            self.reindex();
            return vec![index];
        }
        if self.watches(id) {
            vec![self.add(id, now)]
        } else {
            Vec::new()
        }
    }

    fn each(&mut self, id: &str, mut change: impl FnMut(&mut Unit)) {
        for index in self.by_id.get(id).into_iter().flatten() {
            change(Arc::make_mut(&mut self.units[*index]));
        }
    }
}

/// True of what a signal says of a unit that systemd has only just loaded, such as for a moment to
/// answer a question about it: it was never anything but down. Asking again would load it again.
fn is_idle(told: &Properties) -> bool {
    matches!(told.active_state.as_deref(), None | Some("inactive"))
        && told.stamps.is_none_or(|stamps| stamps == Stamps::default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unit::Stamp;
    use super::*;

    const NAME: &str = "a.service";

    /// A service as systemd itself has it, with the truth that no reader of signals sees whole.
    #[derive(Debug, Clone, Default)]
    struct Service {
        now: u64,
        state: &'static str,
        sub_state: &'static str,
        stamps: Stamps,
        invocation: u128,
        n_restarts: u32,
        result: &'static str,
        restarts: u64,
        failures: u64,
        starts: u64,
    }

    impl Service {
        fn new() -> Self {
            Self {
                now: 1_000_000,
                state: "inactive",
                sub_state: "dead",
                result: "success",
                ..Self::default()
            }
        }

        /// Sets the state and the stamps, as systemd does with every change.
        fn enter(&mut self, state: &'static str, sub_state: &'static str, after: u64) {
            self.now += after.max(1);
            let now = Stamp {
                realtime: self.now,
                monotonic: self.now,
            };
            let is_down = |state| matches!(state, "inactive" | "failed");
            if is_down(self.state) && !is_down(state) {
                self.stamps.inactive_exit = now;
            }
            if !is_down(self.state) && is_down(state) {
                self.stamps.inactive_enter = now;
            }
            if self.state != "active" && state == "active" {
                self.stamps.active_enter = now;
            }
            if self.state == "active" && state != "active" {
                self.stamps.active_exit = now;
            }
            self.stamps.state_change = now;
            (self.state, self.sub_state) = (state, sub_state);
        }

        fn start(&mut self, after: u64) {
            self.invocation += 1;
            self.starts += 1;
            self.result = "success";
            self.enter("active", "running", after);
        }

        fn start_by_hand(&mut self, after: u64) {
            if self.state == "active" {
                self.enter("inactive", "dead", after);
            }
            self.n_restarts = 0;
            self.start(1);
        }

        /// A crash, and the wait for the restart.
        fn crash(&mut self, after: u64) {
            if self.state != "active" {
                return;
            }
            self.result = "exit-code";
            self.failures += 1;
            self.enter("failed", "failed", after);
            self.enter("activating", "auto-restart", 1);
        }

        fn restart(&mut self, after: u64) {
            if self.sub_state != "auto-restart" {
                return;
            }
            self.n_restarts += 1;
            self.restarts += 1;
            self.enter("inactive", "dead", after);
            self.start(1);
        }

        fn stop(&mut self, after: u64) {
            if self.state == "active" {
                self.enter("deactivating", "stop-sigterm", after);
                self.enter("inactive", "dead", 5);
            }
        }

        /// What the two signals say that follow a change: the service's own part comes first.
        fn signals(&self) -> [Properties; 2] {
            let own = Properties {
                restart: Some("on-failure".into()),
                n_restarts: Some(self.n_restarts),
                result: Some(self.result.into()),
                ..Properties::default()
            };
            let unit = Properties {
                active_state: Some(self.state.into()),
                sub_state: Some(self.sub_state.into()),
                stamps: Some(self.stamps),
                invocation: Some(self.invocation),
                ..Properties::default()
            };
            [own, unit]
        }

        fn row(&self) -> Row {
            Row {
                name: NAME.to_owned(),
                load_state: "loaded".into(),
                active_state: self.state.into(),
                sub_state: self.sub_state.into(),
            }
        }
    }

    #[test]
    fn a_unit_that_is_loaded_to_answer_a_question_is_not_read_again() {
        let mut service = Service::new();
        let mut table = Table::new([NAME].into_iter(), Vec::new(), service.now);
        read_in_full(&mut table, &service);
        table.settle();
        table.removed(NAME, service.now);
        for signal in service.signals() {
            assert!(table.signal(NAME, &signal, service.now).detailed);
        }
        table.removed(NAME, service.now);
        assert!(table.undetailed_ids().is_empty());

        service.start(5);
        let [own, unit] = service.signals();
        table.signal(NAME, &own, service.now);
        assert!(!table.signal(NAME, &unit, service.now).detailed);
        assert_eq!(table.undetailed_ids().len(), 1);
    }

    fn read_in_full(table: &mut Table, service: &Service) {
        table.list(&[service.row()], service.now);
        let [own, unit] = service.signals();
        table.reply(NAME, &own, false, service.now);
        table.reply(NAME, &unit, true, service.now);
    }

    fn tell(table: &mut Table, service: &Service) {
        for told in service.signals() {
            table.signal(NAME, &told, service.now);
        }
    }

    fn watched(service: &Service) -> Table {
        let mut table = Table::new([NAME].into_iter(), Vec::new(), service.now);
        read_in_full(&mut table, service);
        table.settle();
        table
    }

    fn entries(table: &Table, state: &str) -> u64 {
        let tallies = table.units()[0]
            .tallies(0)
            .find(|(name, _, _)| *name == state);
        tallies.map_or(0, |(_, _, entries)| entries)
    }

    #[test]
    fn the_first_reading_counts_nothing() {
        let mut service = Service::new();
        service.start_by_hand(10);
        for _ in 0..7 {
            service.crash(10);
            service.restart(10);
        }
        let table = watched(&service);
        let unit = &table.units()[0];
        let counted = unit.service.as_ref().unwrap();
        assert_eq!(
            (counted.n_restarts, counted.auto_restarts, counted.failures),
            (7, 0, 0)
        );
        assert_eq!(unit.activations, 0);
        assert_eq!(entries(&table, "active"), 0);
    }

    #[test]
    fn every_round_of_a_loop_is_counted_once() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        for _ in 0..5 {
            service.crash(300_000);
            tell(&mut table, &service);
            service.restart(700_000);
            tell(&mut table, &service);
        }
        let unit = &table.units()[0];
        let counted = unit.service.as_ref().unwrap();
        assert_eq!(
            (counted.auto_restarts, counted.failures, unit.activations),
            (5, 5, 5)
        );
        assert_eq!(entries(&table, "active"), 5);
        assert_eq!(entries(&table, "failed"), 5);
        let seconds: HashMap<_, _> = unit
            .tallies(service.now)
            .map(|(state, seconds, _)| (state, seconds))
            .collect();
        assert!((seconds["active"] - 1.5).abs() < 1e-3, "{seconds:?}");
        assert!((seconds["activating"] - 3.5).abs() < 1e-3, "{seconds:?}");
    }

    #[test]
    fn one_signal_for_a_whole_round_counts_the_round() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        service.crash(1000);
        service.restart(1000);
        tell(&mut table, &service);
        let counted = table.units()[0].service.as_ref().unwrap();
        assert_eq!((counted.auto_restarts, counted.failures), (1, 1));
        assert_eq!(entries(&table, "active"), 1);
    }

    #[test]
    fn a_start_by_hand_sets_back_nrestarts_and_nothing_else() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        for _ in 0..3 {
            service.crash(10);
            service.restart(10);
            tell(&mut table, &service);
        }
        assert!(table.units()[0].is_looping(service.now));
        service.start_by_hand(10);
        tell(&mut table, &service);
        let counted = table.units()[0].service.as_ref().unwrap();
        assert_eq!((counted.n_restarts, counted.auto_restarts), (0, 3));
        assert!(!table.units()[0].is_looping(service.now));
    }

    #[test]
    fn a_start_by_hand_ends_a_loop_also_where_systemd_goes_on_counting() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        for _ in 0..3 {
            service.crash(10);
            service.restart(10);
            tell(&mut table, &service);
        }
        service.crash(10);
        tell(&mut table, &service);
        // While it waits for the next automatic restart.
        service.enter("inactive", "dead", 10);
        service.start(10);
        tell(&mut table, &service);
        let unit = &table.units()[0];
        assert_eq!(unit.service.as_ref().unwrap().n_restarts, 3);
        assert!(!unit.is_looping(service.now));
    }

    #[test]
    fn an_instance_that_only_a_pattern_names_goes_with_systemds_memory_of_it() {
        let pattern = glob::Pattern::new("q@*.service").unwrap();
        let mut table = Table::new([].into_iter(), vec![pattern], 1);
        table.settle();
        let row = Row {
            name: "q@1.service".to_owned(),
            ..Service::new().row()
        };
        let files = UnitFiles::of(&[("q@.service", "static")]);
        table.list(&[row], 2);
        table.files(&files, 2);
        assert_eq!(table.units()[0].file_state.as_deref(), Some("static"));
        table.removed("q@1.service", 3);
        table.files(&files, 3);
        assert!(table.units().is_empty());
    }

    #[test]
    fn an_older_message_does_not_bring_back_the_past() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        let [_, old] = service.signals();
        service.stop(10);
        tell(&mut table, &service);
        table.signal(NAME, &old, service.now);
        assert_eq!(table.units()[0].active_state, "inactive");
        assert_eq!(entries(&table, "deactivating"), 1);
    }

    #[test]
    fn a_reload_outdates_what_was_read_before_it_of_changed_files() {
        let pattern = glob::Pattern::new("*.service").unwrap();
        let service = Service::new();
        let mut table = Table::new(std::iter::empty(), vec![pattern], service.now);
        read_in_full(&mut table, &service);
        table.forget_reloaded();
        assert!(table.undetailed_ids().is_empty());

        // The files changed, and what is read after is still what systemd had loaded before.
        table.forget(NAME);
        read_in_full(&mut table, &service);
        assert!(table.undetailed_ids().is_empty());
        table.forget_reloaded();
        assert_eq!(table.undetailed_ids(), [Arc::from(NAME)]);
    }

    #[test]
    fn a_new_state_of_a_newer_systemd_is_data() {
        let service = Service::new();
        let mut table = watched(&service);
        let told = Properties {
            active_state: Some("hibernating".into()),
            sub_state: Some("deep".into()),
            stamps: Some(Stamps {
                state_change: Stamp {
                    realtime: 2_000_000,
                    monotonic: 2_000_000,
                },
                ..Stamps::default()
            }),
            ..Properties::default()
        };
        table.signal(NAME, &told, 2_000_000);
        assert_eq!(table.units()[0].active_state, "hibernating");
        assert_eq!(entries(&table, "hibernating"), 1);
        assert_eq!(table.units()[0].tallies(0).count(), 7);
    }

    #[test]
    fn an_absent_unit_stays_in_the_table_and_a_matching_one_goes_with_its_file() {
        let pattern = glob::Pattern::new("q-*.service").unwrap();
        let mut table = Table::new(["absent.service"].into_iter(), vec![pattern], 1);
        let files = UnitFiles::of(&[("q-1.service", "enabled")]);
        table.files(&files, 2);
        table.settle();
        assert_eq!(names(&table), ["absent.service", "q-1.service"]);
        assert_eq!(table.units()[0].load_state, "not-found");
        table.files(&UnitFiles::default(), 3);
        assert_eq!(names(&table), ["absent.service"]);
        assert!(table.watches("q-2.service") && !table.watches("other.service"));
    }

    fn names(table: &Table) -> Vec<String> {
        let units = table.units().iter();
        units.map(|unit| unit.name.to_string()).collect()
    }

    /// How often the units of these names were restarted by systemd, and how often that was seen.
    fn restarts(table: &Table, name: &str) -> (u32, u64) {
        let mut units = table.units().iter();
        let unit = units.find(|unit| *unit.name == *name).unwrap();
        let service = unit.service.as_ref().unwrap();
        (service.n_restarts, service.auto_restarts)
    }

    #[test]
    fn units_that_are_still_watched_keep_their_counts_and_new_ones_begin_theirs() {
        let mut service = Service::new();
        service.start_by_hand(10);
        let mut table = watched(&service);
        service.crash(10);
        service.restart(10);
        tell(&mut table, &service);
        assert_eq!(restarts(&table, NAME), (1, 1));

        // Of the new ones, one is named and one matches; both were restarted before.
        let pattern = glob::Pattern::new("q-*.service").unwrap();
        let new = ["b.service", NAME];
        table.rewatch(new.into_iter(), vec![pattern], service.now);
        assert_eq!(names(&table), new);
        let others = ["b.service", "q-1.service"];
        let row = |name: &str| Row {
            name: name.to_owned(),
            ..service.row()
        };
        let all = ["b.service", NAME, "q-1.service"];
        table.list(&all.map(row), service.now);
        // What happens to the old one meanwhile counts.
        service.crash(10);
        service.restart(10);
        tell(&mut table, &service);
        for name in others {
            for (index, told) in service.signals().iter().enumerate() {
                table.reply(name, told, index == 1, service.now);
            }
        }
        table.settle();
        assert_eq!(names(&table), all);
        assert_eq!(restarts(&table, NAME), (2, 2));
        for name in others {
            assert_eq!(restarts(&table, name), (2, 0));
        }

        // And of all of them from now on.
        service.crash(10);
        service.restart(10);
        for told in service.signals() {
            for name in all {
                table.signal(name, &told, service.now);
            }
        }
        assert_eq!(restarts(&table, NAME), (3, 3));
        for name in others {
            assert_eq!(restarts(&table, name), (3, 1));
        }

        // Named before, matched now; what nobody watches any more is gone, also by its id.
        let pattern = glob::Pattern::new("b*").unwrap();
        table.rewatch(["c.service"].into_iter(), vec![pattern], service.now);
        assert_eq!(names(&table), ["c.service", "b.service"]);
        assert_eq!(restarts(&table, "b.service"), (3, 1));
        assert!(!table.watches(NAME));
        tell(&mut table, &service);
        assert_eq!(names(&table), ["c.service", "b.service"]);
    }

    #[test]
    fn an_alias_follows_its_unit() {
        let mut table = Table::new(["alias.service"].into_iter(), Vec::new(), 1);
        let row = Row {
            name: NAME.to_owned(),
            ..Service::new().row()
        };
        table.unloaded("alias.service", &row);
        table.settle();
        let mut service = Service::new();
        service.start_by_hand(10);
        tell(&mut table, &service);
        assert_eq!(&*table.units()[0].name, "alias.service");
        assert_eq!(table.units()[0].active_state, "active");
    }

    #[test]
    fn units_that_nobody_watches_are_counted_and_the_failed_ones_named() {
        let mut table = Table::new([NAME].into_iter(), Vec::new(), 1);
        let other = |name: &str, state: &'static str| Row {
            name: name.to_owned(),
            load_state: "loaded".into(),
            active_state: state.into(),
            sub_state: state.into(),
        };
        table.list(
            &[other("b.service", "failed"), other("c.mount", "active")],
            1,
        );
        assert_eq!(table.others().counts.get("active"), Some(&1));
        assert!(table.others().failed.contains("b.service"));
    }

    #[test]
    fn a_required_unit_that_left_memory_is_down() {
        let mut service = Service::new();
        let mut table = watched(&service);
        let told = Properties {
            requires: Some(vec!["b.service".to_owned()]),
            ..Properties::default()
        };
        table.reply(NAME, &told, true, service.now);
        let required = |state: &'static str| Row {
            name: "b.service".to_owned(),
            active_state: state.into(),
            ..service.row()
        };
        let down = |state: &str| Some(("b.service".to_owned(), state.to_owned()));
        let missing = |table: &Table| table.units()[0].missing_requirement.clone();
        table.list(&[service.row(), required("active")], service.now);
        assert_eq!(missing(&table), None);
        table.list(&[service.row()], service.now);
        assert_eq!(missing(&table), down("inactive"));
        table.list(&[service.row(), required("failed")], service.now);
        table.list(&[service.row()], service.now);
        assert_eq!(missing(&table), down("failed"));
        service.start(1);
        tell(&mut table, &service);
        assert_eq!(missing(&table), None, "it runs");
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Start(u64),
        Crash(u64),
        Restart(u64),
        Stop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let after = 1..2_000_000_u64;
        prop_oneof![
            after.clone().prop_map(Step::Start),
            after.clone().prop_map(Step::Crash),
            after.clone().prop_map(Step::Restart),
            after.prop_map(Step::Stop),
        ]
    }

    fn take(service: &mut Service, step: Step) {
        match step {
            Step::Start(after) => service.start_by_hand(after),
            Step::Crash(after) => service.crash(after),
            Step::Restart(after) => service.restart(after),
            Step::Stop(after) => service.stop(after),
        }
    }

    /// How the signals of one step reach us.
    #[derive(Debug, Clone, Copy)]
    enum Delivery {
        Whole,
        Twice,
        OwnPartOnly,
        UnitPartOnly,
        Lost,
        /// Lost with the connection; a full reading follows.
        Reconnected,
        /// An older message comes once more.
        WithOldOne,
    }

    fn delivery() -> impl Strategy<Value = Delivery> {
        prop_oneof![
            4 => Just(Delivery::Whole),
            1 => Just(Delivery::Twice),
            1 => Just(Delivery::OwnPartOnly),
            1 => Just(Delivery::UnitPartOnly),
            1 => Just(Delivery::Lost),
            1 => Just(Delivery::Reconnected),
            1 => Just(Delivery::WithOldOne),
        ]
    }

    /// Every counter of the unit, in one list.
    fn counters(table: &mut Table, now: u64) -> Vec<f64> {
        let unit = &table.show(now)[0];
        let counted = unit.service.as_ref().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let whole = [counted.auto_restarts, counted.failures, unit.activations].map(|n| n as f64);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let tallies = unit
            .tallies(now)
            .flat_map(|(_, seconds, entries)| [seconds, entries as f64]);
        whole.into_iter().chain(tallies).collect()
    }

    proptest! {
        #[test]
        fn signals_that_all_arrive_tell_the_whole_truth(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut service = Service::new();
            let mut table = watched(&service);
            for step in steps {
                take(&mut service, step);
                tell(&mut table, &service);
            }
            let unit = &table.units()[0];
            let counted = unit.service.as_ref().unwrap();
            prop_assert_eq!(&unit.active_state, service.state);
            prop_assert_eq!(counted.auto_restarts, service.restarts);
            prop_assert_eq!(counted.failures, service.failures);
            prop_assert_eq!(unit.activations, service.starts);
        }

        #[test]
        fn whatever_is_lost_counters_never_fall_and_the_next_reading_is_right(
            steps in prop::collection::vec((step(), delivery()), 0..60),
        ) {
            let mut service = Service::new();
            service.start_by_hand(1);
            service.starts = 0;
            let mut table = watched(&service);
            let began = service.now;
            let mut before = counters(&mut table, service.now);
            let mut old = service.signals();
            for (step, delivery) in steps {
                take(&mut service, step);
                let [own, unit] = service.signals();
                let now = service.now;
                match delivery {
                    Delivery::Whole => tell(&mut table, &service),
                    Delivery::Twice => {
                        tell(&mut table, &service);
                        tell(&mut table, &service);
                    }
                    Delivery::OwnPartOnly => drop(table.signal(NAME, &own, now)),
                    Delivery::UnitPartOnly => drop(table.signal(NAME, &unit, now)),
                    Delivery::Lost => {}
                    Delivery::Reconnected => {
                        table.forget_details();
                        read_in_full(&mut table, &service);
                    }
                    Delivery::WithOldOne => {
                        tell(&mut table, &service);
                        table.signal(NAME, &old[1], now);
                    }
                }
                old = [own, unit];
                let after = counters(&mut table, now);
                for (before, after) in before.iter().zip(&after) {
                    prop_assert!(before <= after, "{:?} fell to {:?}", before, after);
                }
                before = after;
            }
            table.forget_details();
            read_in_full(&mut table, &service);
            let unit = &table.units()[0];
            let counted = unit.service.as_ref().unwrap();
            prop_assert_eq!(&unit.active_state, service.state);
            prop_assert_eq!(&unit.sub_state, service.sub_state);
            prop_assert_eq!(counted.n_restarts, service.n_restarts);
            // Only what a loss hid is missing: nothing is counted that did not happen.
            prop_assert!(counted.auto_restarts <= service.restarts);
            prop_assert!(unit.activations <= service.starts);
            let watched: f64 = unit.tallies(service.now).map(|(_, seconds, _)| seconds).sum();
            let elapsed = super::super::unit::micros_as_seconds(service.now - began);
            prop_assert!((watched - elapsed).abs() < 1e-6, "{} of {} s", watched, elapsed);
        }
    }
}
