//! Services that work and end: when they last did so with success.

use crate::machine::{Machine, Systemd};

const LAST_SUCCESS: &str = "systemd_service_last_success_timestamp_seconds";

#[test]
fn the_last_success_of_a_job_is_told_on_252() {
    last_success(Systemd::V252);
}

#[test]
fn the_last_success_of_a_job_is_told_on_257() {
    last_success(Systemd::V257);
}

fn last_success(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    // Succeeds for as long as the file is there.
    machine.unit(
        "job.service",
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Service]\nType=oneshot\nExecStart=/bin/test -e /run/works\n",
    );
    machine.unit(
        "job.timer",
        "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=200ms\nAccuracySec=1ms\n",
    );
    machine.unit(
        "stays.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    );
    machine.unit("simple.service", "[Service]\nExecStart=/bin/true\n");
    machine.systemctl(&["start", "stays.service", "simple.service"]);
    let baseline = "  watch: [job.service, stays.service, simple.service]\n";
    let exporter = machine.exporter_with(baseline);
    let job = [("name", "job.service")];
    let stays = [("name", "stays.service")];
    exporter.until("the first success of a job", |metrics| {
        let became_active = metrics.value("systemd_unit_active_enter_time_seconds", &stays);
        match metrics.value(LAST_SUCCESS, &stays) {
            Some(at) if Some(at) == became_active => Ok(()),
            at => Err(format!("{at:?}, active since {became_active:?}")),
        }
    });
    let metrics = exporter.scrape();
    assert_eq!(metrics.value(LAST_SUCCESS, &job), None);
    let simple = [("name", "simple.service")];
    assert_eq!(metrics.value(LAST_SUCCESS, &simple), None);

    let failures = |least: f64| {
        exporter.until(&format!("{least} failures"), |metrics| {
            let failures = metrics.at("systemd_service_failures_total", &job);
            if failures >= least {
                Ok(metrics.value(LAST_SUCCESS, &job))
            } else {
                Err(failures.to_string())
            }
        })
    };
    machine.systemctl(&["start", "job.timer"]);
    assert_eq!(failures(2.0), None, "it only failed");
    machine.systemctl(&["stop", "job.timer"]);
    machine.systemctl(&["reset-failed", "job.service"]);
    let after_reset = exporter.scrape();
    assert_eq!(after_reset.value(LAST_SUCCESS, &job), None);

    machine.sh("touch /run/works");
    machine.systemctl(&["start", "job.timer"]);
    let succeeded = |after: f64| {
        exporter.until("a success", |metrics| {
            let ended = metrics.value("systemd_unit_inactive_enter_time_seconds", &job);
            match metrics.value(LAST_SUCCESS, &job) {
                Some(at) if at > after && Some(at) == ended => Ok(at),
                at => Err(format!("{at:?}, ended at {ended:?}")),
            }
        })
    };
    let first = succeeded(0.0);
    succeeded(first);

    machine.sh("rm /run/works");
    let failed = exporter.scrape().at("systemd_service_failures_total", &job);
    let last = failures(failed + 1.0);
    assert!(last >= Some(first), "{last:?}");
    assert_eq!(failures(failed + 3.0), last, "it only failed since");

    let before = exporter.scrape().value(LAST_SUCCESS, &stays);
    machine.systemctl(&["stop", "stays.service"]);
    let inactive = [stays[0], ("state", "inactive")];
    exporter.shows("systemd_unit_state", &inactive, 1.0);
    assert_eq!(exporter.scrape().value(LAST_SUCCESS, &stays), before);
}
