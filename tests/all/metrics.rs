//! A scrape in Prometheus's text format 0.0.4, taken apart for questions.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of one scrape, in order.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    line: String,
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Panics at the first line that is no sample, no comment and not empty.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}")));
        Self {
            samples: samples.collect(),
        }
    }

    /// The value of the one sample that carries these labels, perhaps among others.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples.iter().filter(|sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        });
        let first = found.next()?;
        assert!(
            found.next().is_none(),
            "{name} {labels:?} is not one sample:\n{}",
            self.lines(name)
        );
        Some(first.value)
    }

    /// As [`value`](Self::value), for a sample that has to be there.
    #[track_caller]
    pub fn at(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.value(name, labels)
            .unwrap_or_else(|| panic!("no {name} {labels:?}; there is:\n{}", self.lines(name)))
    }

    /// What one label says in those samples of value 1 that carry these labels, sorted.
    pub fn ones(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<String> {
        let carries = |sample: &&Sample| {
            sample.name == name
                && sample.value == 1.0
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        let found = self.samples.iter().filter(carries);
        let mut said: Vec<_> = found
            .filter_map(|sample| sample.labels.get(label).cloned())
            .collect();
        said.sort_unstable();
        said
    }

    /// Every series, name and labels as they came, sorted.
    pub fn series(&self) -> Vec<String> {
        let mut series: Vec<_> = self
            .samples
            .iter()
            .map(|sample| {
                let end = sample.line.rfind(' ').unwrap();
                sample.line.split_at(end).0.to_owned()
            })
            .collect();
        series.sort_unstable();
        series
    }

    /// The names of all samples.
    pub fn names(&self) -> BTreeSet<String> {
        let names = self.samples.iter().map(|sample| sample.name.clone());
        names.collect()
    }

    /// The label names that samples of one name carry.
    pub fn label_sets(&self, name: &str) -> BTreeSet<BTreeSet<String>> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples
            .map(|sample| sample.labels.keys().cloned().collect())
            .collect()
    }

    /// The values of one name, by the value of the label that tells them apart.
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples
            .map(|sample| (sample.labels[label].clone(), sample.value))
            .collect()
    }

    /// The lines of one name as they came.
    pub fn lines(&self, name: &str) -> String {
        let lines = self.samples.iter().filter(|sample| sample.name == name);
        lines.map(|sample| format!("{}\n", sample.line)).collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_prefix('{').unwrap_or(rest);
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.insert(label.trim_start_matches(',').to_owned(), value);
        rest = chars.as_str();
    }
    let value = rest
        .trim_start_matches(['}', ','])
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(Sample {
        line: line.to_owned(),
        name: name.to_owned(),
        labels,
        value,
    })
}

#[test]
fn samples_are_found_by_name_and_labels() {
    let metrics = Metrics::parse(
        "# HELP a help\n# TYPE a gauge\na{x=\"one, \\\"two\\\"\",y=\"b\\\\c\"} 1\na{x=\"}\",} 2.5 1000\nb NaN\nc +Inf\n",
    );
    assert_eq!(
        metrics.value("a", &[("x", "one, \"two\""), ("y", "b\\c")]),
        Some(1.0)
    );
    assert_eq!(metrics.at("a", &[("x", "}")]), 2.5);
    assert_eq!(metrics.value("a", &[("x", "three")]), None);
    assert!(metrics.at("b", &[]).is_nan());
    assert_eq!(metrics.at("c", &[]), f64::INFINITY);
}
