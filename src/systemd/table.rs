//! The unit table: which units are watched, and what is known of each. Pure as they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::unit::{Properties, Row, Unit, word};

/// The watched units, and how many others the host has.
#[derive(Debug)]
pub struct Table {
    named: HashSet<Arc<str>>,
    patterns: Vec<glob::Pattern>,
    units: Vec<Arc<Unit>>,
    /// Positions in `units` by systemd's own name; an alias and its unit share one.
    by_id: HashMap<Arc<str>, Vec<usize>>,
    others: Others,
    /// True once the first reading is complete: from then on every change counts.
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
            patterns,
            units: Vec::new(),
            by_id: HashMap::new(),
            others: Others::default(),
            settled: false,
        };
        for name in names {
            table.named.insert(name.into());
            table.add(name, now);
        }
        table
    }

    /// The units, each as an immutable value that later changes leave alone.
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

    /// Ends the first reading: from now on every change counts.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// True once the first reading was complete.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Takes over what a signal says of the unit that systemd calls `id`: it is in memory.
    pub fn signal(&mut self, id: &str, told: &Properties, now: u64) -> Applied {
        let mut applied = Applied {
            detailed: true,
            stands_otherwise: false,
        };
        for index in self.indices(id, now) {
            let unit = Arc::make_mut(&mut self.units[index]);
            let before = (unit.is_down(), unit.active_state == "failed");
            unit.detailed &= unit.loaded;
            unit.loaded = true;
            unit.apply(told, now, !self.settled && !unit.detailed);
            // A signal of a socket says that its counters moved, but not where to.
            unit.detailed &= unit.socket.is_none();
            applied.detailed &= unit.detailed;
            applied.stands_otherwise |= before != (unit.is_down(), unit.active_state == "failed");
        }
        applied
    }

    /// Takes over a reply about the unit that systemd calls `id`. `is_whole` says that its
    /// properties are known with this one.
    /// True if a file came up that the unit did not have before, so the files have to be read.
    pub fn reply(&mut self, id: &str, told: &Properties, is_whole: bool, now: u64) -> bool {
        let settled = self.settled;
        let mut has_new_file = false;
        self.each(id, |unit| {
            let before = unit.fragment_path.clone();
            unit.apply(told, now, !settled && !unit.detailed);
            unit.detailed |= is_whole;
            has_new_file |=
                settled && !unit.fragment_path.is_empty() && unit.fragment_path != before;
        });
        has_new_file
    }

    /// Says that the properties of `id` may have changed unseen.
    pub fn forget(&mut self, id: &str) {
        self.each(id, |unit| unit.detailed = false);
    }

    /// The units whose properties are not known, by systemd's own names: the loaded ones, and
    /// those with a unit file that were not asked about yet, which loads them for a moment.
    pub fn undetailed_ids(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<_> = self
            .units
            .iter()
            .filter(|unit| !unit.detailed && (unit.loaded || unit.load_state == "loaded"))
            .map(|unit| unit.id.clone())
            .collect();
        ids.dedup();
        ids
    }

    /// The watched units that systemd does not hold in memory.
    pub fn unloaded_names(&self) -> Vec<Arc<str>> {
        let unloaded = self.units.iter().filter(|unit| !unit.loaded);
        unloaded.map(|unit| unit.name.clone()).collect()
    }

    /// Patterns for all watched names, named ones too, as systemd takes them.
    pub fn file_patterns(&self) -> Vec<String> {
        let patterns = self
            .patterns
            .iter()
            .map(|pattern| pattern.as_str().to_owned());
        let named = self.named.iter().map(ToString::to_string);
        let templates = self.named.iter().filter_map(|name| template(name));
        patterns.chain(named).chain(templates).collect()
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

    /// Says that systemd read its unit files again: what stood otherwise on disk is in force now.
    pub fn reloaded(&mut self) {
        for unit in self.units.iter_mut().filter(|unit| unit.need_daemon_reload) {
            Arc::make_mut(unit).detailed = false;
        }
    }

    /// What the units that are down require, each name once.
    pub fn requirements(&self) -> Vec<String> {
        let down = self.units.iter().filter(|unit| unit.is_down());
        let names: BTreeSet<&String> = down.flat_map(|unit| unit.requires.iter()).collect();
        names.into_iter().cloned().collect()
    }

    /// A job of this unit ended other than with `done`.
    pub fn job_failed(&mut self, name: &str, result: Cow<'static, str>) {
        self.each(name, |unit| unit.job_result = Some(result.clone()));
    }

    /// systemd dropped the unit from memory: nothing of it runs, and its counters start afresh
    /// should it come back.
    pub fn removed(&mut self, id: &str, now: u64) {
        self.each(id, |unit| unit.unload(now));
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
                } else if !self.settled {
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
                Arc::make_mut(unit).unload(now);
            }
        }
        self.others = others;
        self.find_missing_requirements(&rows.iter().map(|row| (row.name.as_str(), row)).collect());
        differing
    }

    /// Finds out for each unit that is down which of the units it requires is down too. A required
    /// unit that has no row stands as it did when it last had one.
    pub fn find_missing_requirements(&mut self, rows: &HashMap<&str, &Row>) {
        for unit in self.units.iter_mut().filter(|unit| unit.is_down()) {
            let before = unit.missing_requirement.as_ref();
            let missing = unit.requires.iter().find_map(|name| {
                let Some(row) = rows.get(name.as_str()) else {
                    return before.filter(|(before, _)| before == name).cloned();
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

    /// Takes over the unit files that exist: name and UnitFileState. Watched names that match a
    /// pattern only, are not in memory and have no file any more, are gone for good and dropped.
    pub fn files(&mut self, files: &HashMap<String, String>, now: u64) {
        let known: HashSet<Arc<str>> = self.units.iter().map(|unit| unit.name.clone()).collect();
        let mut new: Vec<&String> = files
            .keys()
            // A template is no unit, its instances are.
            .filter(|name| !name.contains("@.") && self.watches(name))
            .filter(|name| !known.contains(name.as_str()))
            .collect();
        new.sort_unstable();
        for name in new {
            self.add(name, now);
        }
        for unit in &mut self.units {
            let file_state = files.get(&*unit.name).map(|state| word(state)).or_else(|| {
                // An instance lives from its template's file; its own enablement is a property.
                let template = files.get(&template(&unit.name)?)?;
                Some(unit.file_state.clone().unwrap_or_else(|| word(template)))
            });
            if unit.file_state != file_state {
                Arc::make_mut(unit).file_state = file_state;
            }
        }
        let named = &self.named;
        self.units
            .retain(|unit| unit.loaded || unit.file_state.is_some() || named.contains(&unit.name));
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
            let old = std::mem::replace(&mut unit.id, row.name.as_str().into());
            let id = unit.id.clone();
            if let Some(indices) = self.by_id.get_mut(&old) {
                indices.retain(|other| *other != index);
            }
            self.by_id.retain(|_, indices| !indices.is_empty());
            self.by_id.entry(id).or_default().push(index);
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
        let unit = Unit::new(name, now);
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

/// The template of an instance: `a@.service` of `a@b.service`.
fn template(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}
