//! How single units stand against what the baseline expects of them.

use std::time::Duration;

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};
use crate::world::Behaviour;

const RUNS: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

#[test]
fn units_that_stopped_are_told_with_their_cause_on_252() {
    stopped(Systemd::V252);
}

#[test]
fn units_that_stopped_are_told_with_their_cause_on_257() {
    stopped(Systemd::V257);
}

fn stopped(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let requires = |name: &str| format!("[Unit]\nRequires={name}\nAfter={name}\n{RUNS}");
    for name in ["by-hand.service", "needed.service", "idle.service"] {
        machine.unit(name, RUNS);
    }
    machine.unit("needs.service", &requires("needed.service"));
    machine.unit("needs-absent.service", &requires("nowhere.service"));
    machine.unit("needs-masked.service", &requires("hidden.service"));
    machine.sh("ln -s /dev/null /etc/systemd/system/hidden.service");
    machine.unit(
        "worked.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    machine.unit(
        "broke.service",
        "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    );
    // What a timer or a target refers to stays in memory after its work.
    machine.unit(
        "all.target",
        "[Unit]\nWants=worked.service broke.service needs.service by-hand.service\n",
    );
    let wanted = "[Unit]\nDescription=Enabled\n[Install]\nWantedBy=all.target\n";
    for name in ["pattern.target", "listed.target"] {
        machine.unit(name, wanted);
    }
    for name in ["pattern.timer", "listed.timer"] {
        let elapses = "[Timer]\nOnCalendar=yearly\nUnit=idle.service\n";
        machine.unit(name, &format!("{wanted}{elapses}"));
    }
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "all.target"]);
    for unit in ["target", "timer"] {
        machine.systemctl(&[
            "enable",
            &format!("pattern.{unit}"),
            &format!("listed.{unit}"),
        ]);
    }
    let exporter = machine.exporter_with(
        "  watch: ['pattern.*']
  running: [by-hand.service, needs.service, needs-absent.service, needs-masked.service,
    idle.service, worked.service, broke.service]
  active: [listed.target, listed.timer, all.target]
",
    );

    exporter.stands("worked.service", &[]);
    exporter.stands("broke.service", &["failed"]);
    exporter.stands("all.target", &[]);
    machine.check_says("broke.service failed (result exit-code, main process exited 1)");
    assert!(!machine.check_same().stdout.contains("worked.service is"));

    exporter.stands("by-hand.service", &[]);
    machine.systemctl(&["stop", "by-hand.service"]);
    exporter.stands("by-hand.service", &["stopped"]);
    machine.check_says("by-hand.service is inactive (");

    exporter.stands("needs.service", &[]);
    machine.systemctl(&["stop", "needed.service"]);
    for name in ["needs-absent.service", "needs-masked.service"] {
        assert!(
            !machine
                .try_run(&["systemctl", "start", name])
                .status
                .success()
        );
    }
    for (name, required, state) in [
        ("needs.service", "needed.service", "inactive"),
        ("needs-absent.service", "nowhere.service", "not-found"),
        ("needs-masked.service", "hidden.service", "masked"),
    ] {
        exporter.stands(name, &["stopped"]);
        let cause = [
            ("name", name),
            ("cause", "dependency"),
            ("detail", required),
        ];
        exporter.shows("baseline_unit_cause", &cause, 1.0);
        machine.check_says(&format!(
            "{name} is inactive ({required}, which it requires, is {state})"
        ));
    }

    // Never loaded, for nothing refers to it.
    exporter.stands("idle.service", &["stopped"]);
    let listed = machine.systemctl(&["list-units", "--all", "--plain", "--no-legend"]);
    assert!(!listed.contains("needs-absent.service"), "{listed}");
    for name in [
        "pattern.target",
        "pattern.timer",
        "listed.target",
        "listed.timer",
    ] {
        exporter.stands(name, &["stopped"]);
        machine.check_says(&format!("{name} is inactive (dead)"));
        machine.systemctl(&["start", name]);
        exporter.stands(name, &[]);
    }
}

#[test]
fn what_a_stopped_target_took_down_is_told_on_252() {
    taken_down(Systemd::V252);
}

#[test]
fn what_a_stopped_target_took_down_is_told_on_257() {
    taken_down(Systemd::V257);
}

fn taken_down(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.unit("whole.target", "[Unit]\nDescription=Whole\n");
    let parts = ["part.service", "part-of-boot.service"];
    for name in parts {
        let more = format!("[Unit]\nPartOf=whole.target\n{RUNS}");
        machine.unit(
            name,
            &format!("{more}[Install]\nWantedBy=multi-user.target\n"),
        );
    }
    machine.unit(
        "needs.service",
        &format!("[Unit]\nRequires=part.service\nAfter=part.service\n{RUNS}"),
    );
    machine.systemctl(&["enable", "part-of-boot.service"]);
    machine.systemctl(&["start", "whole.target", "needs.service", parts[0], parts[1]]);
    let exporter = machine.exporter_with(
        "  running: [part.service, part-of-boot.service, needs.service]\n  active: [whole.target]\n",
    );
    let taken = [parts[0], parts[1], "needs.service"];
    for name in taken {
        exporter.stands(name, &[]);
    }

    let blamed = || {
        for name in taken {
            exporter.stands(name, &["stopped"]);
            let cause = [
                ("name", name),
                ("cause", "dependency"),
                ("detail", "whole.target"),
            ];
            exporter.shows("baseline_unit_cause", &cause, 1.0);
        }
    };
    machine.systemctl(&["stop", "whole.target"]);
    exporter.stands("whole.target", &["stopped"]);
    blamed();
    machine.check_says("cause: it depends on whole.target, which is not active or was stopped");
    // It does not bring them back.
    machine.systemctl(&["start", "whole.target"]);
    exporter.stands("whole.target", &[]);
    blamed();

    machine.systemctl(&["start", "needs.service", parts[1]]);
    for name in taken {
        exporter.stands(name, &[]);
    }
    machine.systemctl(&["stop", parts[1]]);
    exporter.stands(parts[1], &["stopped"]);
    let metrics = exporter.scrape();
    assert_eq!(metrics.lines("baseline_unit_cause"), "", "by hand");
}

#[test]
fn what_a_reboot_would_not_bring_back_is_told_on_252() {
    lost_at_boot(Systemd::V252);
}

#[test]
fn what_a_reboot_would_not_bring_back_is_told_on_257() {
    lost_at_boot(Systemd::V257);
}

fn lost_at_boot(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let installed = format!("{RUNS}[Install]\nWantedBy=all.target\n");
    machine.unit(
        "all.target",
        "[Install]\nWantedBy=multi-user.target\n[Unit]\nWants=wanted.service\n",
    );
    for name in ["enabled.service", "runtime.service", "wanted.service"] {
        machine.unit(name, &installed);
    }
    machine.unit("static.service", RUNS);
    machine.write_file("/run/systemd/system/passing.service", &installed);
    let oneshot = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    machine.unit("job.service", oneshot);
    machine.unit(
        "job.timer",
        "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n",
    );
    let running = [
        "enabled.service",
        "runtime.service",
        "wanted.service",
        "static.service",
        "passing.service",
        "job.service",
    ];
    machine.systemctl(&["enable", "all.target", "enabled.service", "passing.service"]);
    machine.systemctl(&["enable", "--runtime", "runtime.service"]);
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "all.target", "job.timer"]);
    machine.systemctl(&[&["start"], &running[..]].concat());
    let exporter = machine.exporter_with(&format!(
        "  running: [{}]\n  active: [all.target, job.timer]\n  watch: ['dbus.*']\n",
        running.join(", ")
    ));
    let starts = |name: &str, value: f64| {
        exporter.shows("baseline_unit_starts_at_boot", &[("name", name)], value);
    };
    let warnings = || {
        let check = machine.check_same();
        assert_eq!(check.status.code(), Some(0), "{check}");
        let lines = check.stdout.lines();
        let warnings = lines.filter_map(|line| line.strip_prefix("warning: "));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    for name in [
        "enabled.service",
        "wanted.service",
        "job.service",
        "all.target",
    ] {
        starts(name, 1.0);
    }
    let lost = [
        (
            "runtime.service",
            "runs",
            "it is enabled for this boot only; systemctl enable runtime.service",
        ),
        (
            "static.service",
            "runs",
            "its unit file is static, and no unit pulls it in; give it a section [Install], then systemctl enable static.service",
        ),
        (
            "passing.service",
            "runs",
            "its unit file lies below /run; move it to /etc/systemd/system",
        ),
        (
            "job.timer",
            "is active",
            "it is disabled, and no unit pulls it in; systemctl enable job.timer",
        ),
    ];
    let warning = |(name, stands, why): (&str, &str, &str)| {
        format!("{name} {stands} now, but would not come back after a reboot: {why}")
    };
    for unit in lost {
        starts(unit.0, 0.0);
    }
    assert_eq!(warnings(), lost.map(warning));
    let metrics = exporter.scrape();
    let dbus = [("name", "dbus.service")];
    assert_eq!(metrics.value("baseline_unit_starts_at_boot", &dbus), None);

    machine.systemctl(&["disable", "enabled.service"]);
    starts("enabled.service", 0.0);
    let why = "it is disabled, and no unit pulls it in; systemctl enable enabled.service";
    assert_eq!(warnings()[0], warning(("enabled.service", "runs", why)));
    machine.systemctl(&["enable", "enabled.service"]);
    starts("enabled.service", 1.0);

    // The files of others say so, too.
    machine.sh("sed -i /Wants=/d /etc/systemd/system/all.target; systemctl daemon-reload");
    starts("wanted.service", 0.0);
    exporter.stands("wanted.service", &[]);
}

#[test]
fn unit_files_that_come_and_go_are_noticed_on_252() {
    files(Systemd::V252);
}

#[test]
fn unit_files_that_come_and_go_are_noticed_on_257() {
    files(Systemd::V257);
}

fn files(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let installed = format!("{RUNS}[Install]\nWantedBy=machine.target\n");
    let running = [
        "deleted.service",
        "edited.service",
        "real.service",
        "a@1.service",
    ];
    for name in [
        "deleted", "edited", "real", "a@", "runs", "enabled", "linked", "emptied",
    ] {
        machine.unit(&format!("{name}.service"), &installed);
    }
    machine.unit("real.service", &format!("{installed}Alias=aka.service\n"));
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["enable", "real.service"]);
    machine.systemctl(&[&["start"], &running[..]].concat());
    let exporter = machine.exporter_with(
        "  watch: [real.service, 'like-*.service']
  running: [deleted.service, edited.service, aka.service, a@1.service, linked.service,
    emptied.service]
  disabled: [runs.service, enabled.service]
  absent: [loaded.service, unnoticed.service]
",
    );

    for name in [
        "a@1.service",
        "aka.service",
        "runs.service",
        "loaded.service",
    ] {
        exporter.stands(name, &[]);
    }
    machine.systemctl(&["start", "runs.service"]);
    exporter.stands("runs.service", &["running"]);
    machine.check_says("runs.service is active though it should not run");
    machine.systemctl(&["enable", "enabled.service"]);
    exporter.stands("enabled.service", &["enabled"]);
    machine.check_says("enabled.service is enabled though it should not start at boot");

    machine.unit("loaded.service", &installed);
    machine.systemctl(&["daemon-reload"]);
    exporter.stands("loaded.service", &["present"]);
    machine.unit("unnoticed.service", &installed);
    exporter.stands("unnoticed.service", &["present"]);
    machine.check_says("unnoticed.service exists (disabled) though it should be absent");

    exporter.stands("deleted.service", &[]);
    machine.sh("rm /etc/systemd/system/deleted.service");
    exporter.stands("deleted.service", &["missing"]);
    machine.systemctl(&["daemon-reload"]);
    exporter.shows(
        "systemd_unit_load_state",
        &[("name", "deleted.service"), ("load_state", "not-found")],
        1.0,
    );
    exporter.stands("deleted.service", &["missing"]);
    machine.check_says("deleted.service runs, but its unit file is gone");
    machine.systemctl(&["stop", "deleted.service"]);
    exporter.stands("deleted.service", &["missing"]);
    machine.check_says("deleted.service has no unit file");

    exporter.stands("linked.service", &["stopped"]);
    machine.sh("ln -sf /dev/null /etc/systemd/system/linked.service; : >/etc/systemd/system/emptied.service");
    for name in ["linked.service", "emptied.service"] {
        exporter.stands(name, &["masked"]);
    }
    machine.systemctl(&["daemon-reload"]);
    for name in ["linked.service", "emptied.service"] {
        exporter.stands(name, &["masked"]);
        let masked = [("name", name), ("load_state", "masked")];
        exporter.shows("systemd_unit_load_state", &masked, 1.0);
        machine.check_says(&format!("{name} is masked"));
    }

    let edited = [("name", "edited.service")];
    exporter.shows("systemd_unit_need_daemon_reload", &edited, 0.0);
    machine.unit("edited.service", &format!("{installed}# edited\n"));
    exporter.shows("systemd_unit_need_daemon_reload", &edited, 1.0);
    machine.systemctl(&["daemon-reload"]);
    exporter.shows("systemd_unit_need_daemon_reload", &edited, 0.0);

    // A unit that only a pattern covers, changed before the exporter first looked at its files.
    machine.unit("like-this.service", &installed);
    machine.systemctl(&["start", "like-this.service"]);
    let like = |kind| [("name", "like-this.service"), ("service_type", kind)];
    exporter.shows("systemd_unit_info", &like("simple"), 1.0);
    machine.sh("mkdir /etc/systemd/system/like-this.service.d
        printf '[Service]\nType=exec\n' >/etc/systemd/system/like-this.service.d/type.conf
        systemctl daemon-reload");
    exporter.shows("systemd_unit_info", &like("exec"), 1.0);

    // And one that systemd does not hold in memory: it reads the file whenever it is asked.
    machine.unit("like-idle.service", &installed);
    let idle = |kind| [("name", "like-idle.service"), ("service_type", kind)];
    exporter.shows("systemd_unit_info", &idle("simple"), 1.0);
    machine.unit(
        "like-idle.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    machine.systemctl(&["daemon-reload"]);
    exporter.shows("systemd_unit_info", &idle("oneshot"), 1.0);

    machine.systemctl(&["kill", "--signal=KILL", "real.service"]);
    exporter.stands("aka.service", &["failed"]);
    exporter.stands("real.service", &["failed"]);
    let killed = [
        ("name", "aka.service"),
        ("code", "killed"),
        ("status", "SIGKILL"),
    ];
    exporter.shows("systemd_service_last_exit", &killed, 1.0);
    let metrics = exporter.scrape();
    assert_eq!(
        metrics.ones("systemd_failed_unit", &[], "name"),
        ["real.service"]
    );
    assert_eq!(machine.check_failed_units(), "1: real.service");
}

#[test]
fn starts_that_go_wrong_are_told_apart_on_252() {
    starts(Systemd::V252);
}

#[test]
fn starts_that_go_wrong_are_told_apart_on_257() {
    starts(Systemd::V257);
}

fn starts(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.stand_in("hangs.service", "Type=notify\n");
    machine.behave("hangs.service", Behaviour::Hang);
    machine.unit("no-program.service", "[Service]\nExecStart=/nonexistent\n");
    machine.stand_in("crashes.service", "");
    let after = Duration::ZERO;
    let signal = "SEGV";
    machine.behave("crashes.service", Behaviour::Crash { signal, after });
    machine.systemctl(&["daemon-reload"]);
    let exporter = machine.exporter_with(
        "  running:
    - {name: hangs.service, start_within: 1s}
    - no-program.service
    - crashes.service
",
    );
    for name in ["hangs.service", "no-program.service", "crashes.service"] {
        machine.systemctl(&["start", "--no-block", name]);
    }

    exporter.stands("hangs.service", &["activating_too_long"]);
    machine.check_says("hangs.service is stuck in its start (start)");
    machine.behave("hangs.service", Behaviour::Run);
    exporter.stands("hangs.service", &[]);

    for (name, code, status) in [
        ("no-program.service", "exited", "203/EXEC"),
        ("crashes.service", "killed", "SIGSEGV"),
    ] {
        exporter.stands(name, &["failed"]);
        let labels = [("name", name), ("code", code), ("status", status)];
        exporter.shows("systemd_service_last_exit", &labels, 1.0);
        machine.check_says(&format!("main process {code} {status}"));
    }
    let cause = [
        ("name", "no-program.service"),
        ("cause", "missing_executable"),
    ];
    exporter.shows("baseline_unit_cause", &cause, 1.0);
    machine.check_says("cause: the program of ExecStart= cannot be run (203/EXEC)");
}

#[test]
fn watching_everything_comes_to_rest_on_252() {
    watching_everything_comes_to_rest(Systemd::V252);
}

#[test]
fn watching_everything_comes_to_rest_on_257() {
    watching_everything_comes_to_rest(Systemd::V257);
}

/// To tell of a unit that it does not hold in memory, systemd loads it for a moment, and of some sends
/// signals then: those are no reason to ask again.
fn watching_everything_comes_to_rest(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    machine.write_file(
        "/etc/everything.yml",
        "deployment: test\nsystemd: {watch: ['*']}\n",
    );
    machine.unit(
        "on-the-bus.service",
        "[Service]\nType=dbus\nBusName=test.nobody\nExecStart=/bin/true\n",
    );
    machine.systemctl(&["daemon-reload"]);
    let exporter = machine.exporter(&["--config.file=/etc/everything.yml"]);
    let sent = || {
        let metrics = exporter.scrape();
        let direction = [("direction", "sent")];
        (
            metrics.at("baseline_exporter_bus_connected", &[]),
            metrics.at("baseline_exporter_bus_messages_total", &direction),
        )
    };
    wait_for(
        "the exporter to have asked for everything",
        PATIENCE,
        || match (sent(), sent()) {
            (before, after) if before == after && after.0 == 1.0 => Ok(()),
            (before, after) => Err(format!("{before:?}, then {after:?}")),
        },
    );
}
