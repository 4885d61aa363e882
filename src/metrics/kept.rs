//! The text of units that stand as they stood when somebody last asked.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::Families;
use super::units::{self, States};
use crate::findings::Judged;

/// Texts of units, from one exposition to the next: writing them is most of what one costs, and most
/// units are as they were. None outlives its unit by more than an exposition.
#[derive(Debug, Default)]
pub struct Kept(Mutex<HashMap<Arc<str>, Arc<UnitText>>>);

/// The series of one unit that do not move by themselves.
#[derive(Debug)]
struct UnitText {
    /// What it was made of.
    judged: Judged,
    samples: Box<str>,
    /// Where in these each family ends.
    ends: Box<[u32]>,
}

/// The texts of the units of one exposition.
#[derive(Debug, Default)]
pub struct Texts {
    /// The place of each family in a unit's text, by its name.
    families: HashMap<String, usize>,
    units: Vec<Arc<UnitText>>,
}

impl Kept {
    /// The text of each of these units: that of the last time where nothing of it changed.
    pub fn texts(&self, judged: &[Judged]) -> Texts {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *kept);
        let units: Vec<_> = judged
            .iter()
            .map(|judged| {
                before
                    .remove(&judged.unit.name)
                    .filter(|text| text.judged.is_told_like(judged))
                    .unwrap_or_else(|| Arc::new(UnitText::new(judged)))
            })
            .collect();
        *kept = units
            .iter()
            .map(|text| (text.judged.unit.name.clone(), text.clone()))
            .collect();
        let names = encode(None);
        let names = names.lines().filter_map(family);
        Texts {
            families: names.map(str::to_owned).zip(0..).collect(),
            units,
        }
    }
}

impl Texts {
    /// Adds the kept samples of this family, if it is one that has any.
    pub fn add_samples(&self, family: &str, out: &mut String) {
        if let Some(place) = self.families.get(family) {
            for unit in &self.units {
                out.push_str(unit.samples(*place));
            }
        }
    }
}

impl UnitText {
    fn new(judged: &Judged) -> Self {
        let text = encode(Some(judged));
        let mut samples = String::with_capacity(text.len());
        let mut ends: Vec<u32> = Vec::new();
        for line in text.split_inclusive('\n') {
            if family(line).is_some() {
                ends.push(0);
            } else if !line.starts_with('#') {
                samples.push_str(line);
            }
            if let Some(end) = ends.last_mut() {
                *end = u32::try_from(samples.len()).unwrap_or(u32::MAX);
            }
        }
        Self {
            judged: judged.clone(),
            // Not a longer string made shorter, which would leave holes in the heap.
            samples: samples.as_str().into(),
            ends: ends.as_slice().into(),
        }
    }

    fn samples(&self, place: usize) -> &str {
        let end = |place: usize| usize::try_from(*self.ends.get(place)?).ok();
        let begin = place.checked_sub(1).and_then(end).unwrap_or(0);
        let range = end(place).and_then(|end| self.samples.get(begin..end));
        range.unwrap_or_default()
    }
}

/// The family whose samples follow this line.
fn family(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.split(' ').next()
}

/// The families of units with the series of this one.
fn encode(judged: Option<&Judged>) -> String {
    let mut registry = Registry::default();
    let judged = judged.cloned().into_iter().collect();
    registry.register_collector(Box::new(OfUnits(judged)));
    let mut text = String::new();
    let written = text::encode_registry(&mut text, &registry);
    // Writing to a string cannot fail, and nothing here returns an error of its own.
    debug_assert!(written.is_ok());
    text
}

#[derive(Debug)]
struct OfUnits(Vec<Judged>);

impl Collector for OfUnits {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        units::encode(&mut families, &self.0)?;
        // The past does not depend on the time.
        units::state_seconds(&mut families, &self.0, States::Past, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::observation;
    use super::super::{Format, encode};
    use super::*;
    use crate::findings::judge;
    use crate::observation::{Observation, Units};
    use crate::systemd::unit::Unit;

    fn units(observation: &mut Observation) -> &mut Units {
        observation.units.as_mut().unwrap()
    }

    fn change(observation: &mut Observation, name: &str, change: impl FnOnce(&mut Unit)) {
        let watched = &mut units(observation).watched;
        let mut units = watched.iter_mut().map(|observed| &mut observed.unit);
        let unit = units.find(|unit| &*unit.name == name).unwrap();
        change(Arc::make_mut(unit));
    }

    #[test]
    fn an_exposition_with_kept_texts_is_the_same_as_one_without() {
        let kept = Kept::default();
        let mut observation = Arc::into_inner(observation()).unwrap();
        let changes: [fn(&mut Observation); 7] = [
            |_| {},
            |observation| {
                let wait = 3_600_000_000;
                let now = &mut units(observation).now;
                now.monotonic += wait;
                now.realtime += wait;
            },
            |observation| {
                change(observation, "runs.service", |unit| {
                    unit.active_state = "failed".into();
                });
            },
            |observation| {
                change(observation, "loops.service", |unit| {
                    unit.sub_state = "running".into();
                });
            },
            |observation| {
                let baseline = Arc::make_mut(&mut observation.baseline);
                for unit in &mut baseline.systemd.units {
                    unit.tier = 3;
                }
            },
            |observation| drop(units(observation).watched.remove(1)),
            |observation| units(observation).watched.reverse(),
        ];
        let mut seen = HashSet::new();
        for change in changes {
            change(&mut observation);
            let looked = Arc::new(observation);
            for format in [Format::Text, Format::OpenMetrics] {
                let text = encode(&looked, None, &kept, format, 0);
                assert_eq!(text, encode(&looked, None, &Kept::default(), format, 0));
                seen.insert(text);
            }
            observation = Arc::into_inner(looked).unwrap();
        }
        assert_eq!(seen.len(), 2 * changes.len(), "each change shows");
    }

    #[test]
    fn a_text_is_kept_while_the_unit_stays_and_no_longer() {
        let kept = Kept::default();
        let mut observation = Arc::into_inner(observation()).unwrap();
        let texts = |judged: &[Judged]| kept.texts(judged).units;
        let judged = judge(&observation).units;
        let first = texts(&judged);
        change(&mut observation, "runs.service", |unit| {
            unit.need_daemon_reload = true;
        });
        let judged = judge(&observation).units;
        let second = texts(&judged);
        for (before, after) in first.iter().zip(&second) {
            let same = &*before.judged.unit.name != "runs.service";
            assert_eq!(
                Arc::ptr_eq(before, after),
                same,
                "{}",
                before.judged.unit.name
            );
        }
        texts(&[]);
        assert_eq!(kept.0.lock().unwrap().len(), 0);
    }
}
