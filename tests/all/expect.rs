//! What a test expects an exporter to show, now or soon.

use serde_json::Value;

use crate::machine::{Machine, Output};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const BASELINE: &str = "/etc/baseline.yml";

impl Machine {
    /// The exporter with this section `systemd` as its baseline.
    #[track_caller]
    pub fn exporter_with(&self, systemd: &str) -> Server<'_> {
        let text = format!("deployment: test\nsystemd:\n  resync: 1s\n{systemd}");
        self.write_file(BASELINE, &text);
        self.exporter(&[&format!("--config.file={BASELINE}")])
    }

    /// `check` with the baseline that the exporter has.
    pub fn check_same(&self) -> Output {
        self.check(&[&format!("--config.file={BASELINE}")])
    }

    /// Waits until `check` finds something wrong and says this of it.
    #[track_caller]
    pub fn check_says(&self, sentence: &str) {
        wait_for(&format!("check to say {sentence:?}"), PATIENCE, || {
            let check = self.check_same();
            if check.status.code() == Some(1) && check.stdout.contains(sentence) {
                Ok(())
            } else {
                Err(check.to_string())
            }
        });
    }

    /// What `check`, for programs, has seen of failed units.
    #[track_caller]
    pub fn check_failed_units(&self) -> String {
        let file = format!("--config.file={BASELINE}");
        let check = self.check(&[&file, "--output=json"]);
        let report: Value = serde_json::from_str(&check.stdout).expect("a JSON report");
        let mut checks = report["checks"].as_array().unwrap().iter();
        let failed_units = checks
            .find(|check| check["name"] == "failed_units")
            .unwrap();
        failed_units["seen"].as_str().unwrap().to_owned()
    }
}

impl Server<'_> {
    /// Waits until a unit deviates in exactly these ways, named in alphabetical order.
    #[track_caller]
    pub fn stands(&self, unit: &str, deviations: &[&str]) {
        let of_unit = [("name", unit)];
        self.until(&format!("{unit} {deviations:?}"), |metrics| {
            let known = metrics.ones("baseline_unit_expected", &of_unit, "name");
            let seen = metrics.ones("baseline_unit_deviation", &of_unit, "deviation");
            if !known.is_empty() && seen == deviations {
                return Ok(());
            }
            let states = metrics.ones("systemd_unit_sub_state", &of_unit, "sub_state");
            Err(format!("{known:?} {seen:?}, {states:?}"))
        });
    }

    /// Waits until a sample has this value.
    #[track_caller]
    pub fn shows(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.until(&format!("{name} {labels:?} {value}"), |metrics| {
            let seen = metrics.value(name, labels);
            if seen == Some(value) {
                return Ok(());
            }
            let lines = metrics.lines(name);
            let alike = lines
                .lines()
                .filter(|line| labels.first().is_none_or(|(_, v)| line.contains(v)));
            Err(alike.collect::<Vec<_>>().join("\n"))
        });
    }

    /// Waits until a scrape is as `look` wants it.
    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl Fn(&Metrics) -> Result<T, String>) -> T {
        wait_for(what, PATIENCE, || look(&self.scrape()))
    }
}
