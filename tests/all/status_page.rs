//! The page as a person sees it, in a browser: healthy, in incidents, blind, and with many units.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::browser::{Browser, View};
use crate::incidents::{
    EXECUTION, MONITOR, PORTFOLIO, REPOSITORY, RESTARTS, deployed_with_snapshot,
};
use crate::machine::{CACHE, Machine, Systemd};
use crate::server::Server;
use crate::wait::{PATIENCE, wait_for};

const PAGE: &str = "http://127.0.0.1:9990/";

const DESK: View = View {
    name: "desk-light",
    width: 1280,
    height: 800,
    dark: false,
};
const PHONE: View = View {
    name: "phone-dark",
    width: 390,
    height: 844,
    dark: true,
};
const ALL_VIEWS: [View; 4] = [
    DESK,
    PHONE,
    View {
        name: "desk-dark",
        dark: true,
        ..DESK
    },
    View {
        name: "phone-light",
        dark: false,
        ..PHONE
    },
];

/// What somebody else may have written into a journal.
const HOSTILE: &str = "<script>document.title=1</script><img src=x onerror=alert(1)>";

/// Where the pictures are kept.
fn pictures() -> PathBuf {
    let pictures = PathBuf::from(CACHE).join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    pictures
}

/// Opens the page, keeps a picture, and finds that nothing complains and nothing is cut off.
#[track_caller]
fn look(browser: &mut Browser, what: &str, view: View) {
    browser.view(view);
    browser.open(PAGE);
    browser.picture(&pictures().join(format!("{what}-{}.png", view.name)));
    let wide = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
    assert!(
        wide.as_i64().unwrap() <= 0,
        "{what}: {wide} wider than {view:?}"
    );
    let foreign = browser.evaluate("document.scripts.length + document.images.length");
    assert_eq!(foreign, 0, "{what}");
    assert_eq!(browser.complaints(), [""; 0], "{what}, {view:?}");
}

/// Looks at an incident in both sizes.
#[track_caller]
fn look_at_incident(browser: &mut Browser, what: &str) {
    for view in [DESK, PHONE] {
        look(browser, what, view);
        above_the_fold(browser, &format!("{what}, {view:?}"));
        is_accessible(browser);
    }
}

/// axe finds nothing that it calls serious, or worse, on the page that is open.
#[track_caller]
fn is_accessible(browser: &mut Browser) {
    let axe = fs::read_to_string(PathBuf::from(CACHE).join("axe.min.js"));
    browser.evaluate(&axe.expect("target/tmp/axe.min.js, which tests/run fetches"));
    let faults = browser.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations
            .filter(fault => ['serious', 'critical'].includes(fault.impact))
            .map(fault => fault.id + ': ' + fault.nodes.slice(0, 3)
                .map(node => node.html + ' ' + node.failureSummary).join('; ')))",
    );
    assert_eq!(faults, Value::Array(Vec::new()));
}

/// The verdict, the first unit in trouble, its cause and its fix are seen without scrolling.
#[track_caller]
fn above_the_fold(browser: &mut Browser, place: &str) {
    let hidden = browser.evaluate(
        "['h1', '.trouble .subject', '.trouble .cause', '.trouble .fix'].filter(selector => {
            const box = document.querySelector(selector)?.getBoundingClientRect();
            return !box || box.width < 10 || box.height < 10 || box.top < 0
                || box.bottom > innerHeight || box.left < 0 || box.right > innerWidth;
        })",
    );
    assert_eq!(hidden, Value::Array(Vec::new()), "{place}");
}

/// The text of the first trouble.
fn first_trouble(browser: &mut Browser) -> String {
    let text = browser.evaluate("document.querySelector('.trouble').innerText");
    text.as_str().unwrap().to_owned()
}

impl Server<'_> {
    /// Waits until the page's JSON, which is what `check` prints, is as wanted.
    #[track_caller]
    fn reports(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        wait_for(what, PATIENCE, || {
            let answer = self.get("/", &[("Accept", "application/json")]);
            assert_eq!(answer.status, 200, "{answer:?}");
            let report: Value = serde_json::from_slice(&answer.body).unwrap();
            if is_it(&report) {
                Ok(())
            } else {
                Err(answer.text())
            }
        });
    }

    #[track_caller]
    fn reports_healthy(&self) {
        self.reports("everything to hold", |report| {
            report["status"] == "holds" && report["remarks"] == Value::Array(Vec::new())
        });
    }

    /// Waits until this unit has this cause.
    #[track_caller]
    fn reports_cause(&self, unit: &str, cause: &str) {
        self.reports(&format!("{unit} to have the cause {cause}"), |report| {
            let mut units = report["units"].as_array().unwrap().iter();
            units.any(|found| {
                let causes = found["causes"].as_array().unwrap();
                found["name"] == unit && causes.len() == 1 && causes[0]["cause"] == cause
            })
        });
    }
}

#[test]
fn the_page_is_seen_as_it_is_meant() {
    let Some(machine) = deployed_with_snapshot(Systemd::V252, |machine| {
        machine.sh("hostname quantum-trader-vps");
        machine.unit(
            PORTFOLIO,
            &format!("[Service]\nExecStart=asks-redis\n{RESTARTS}"),
        );
        machine.unit(
            EXECUTION,
            &format!("[Service]\nExecStart=writes {REPOSITORY}/runtime\n{RESTARTS}"),
        );
    }) else {
        return;
    };
    let exporter = machine.exporter_that_sees_all();
    let browser = &mut Browser::start(&machine);

    exporter.reports_healthy();
    for view in ALL_VIEWS {
        look(browser, "healthy", view);
        is_accessible(browser);
    }
    let verdict = browser.evaluate("document.querySelector('h1').innerText");
    assert_eq!(verdict, "✓ all 11 checks hold");

    // Nobody can tell.
    machine.signal(machine.pid1(), Signal::STOP);
    exporter.reports("the units to be unknown", |report| {
        report["status"] == "unknown"
    });
    for view in [DESK, PHONE] {
        look(browser, "unknown", view);
        is_accessible(browser);
    }
    let page = browser.evaluate("document.body.innerText");
    let page = page.as_str().unwrap();
    assert!(page.contains(": failed_units, running_units, "), "{page}");
    assert!(page.contains("This is not the same as healthy"), "{page}");
    machine.signal(machine.pid1(), Signal::CONT);

    exporter.reports_healthy();

    in_incidents(&machine, &exporter, browser);

    machine.write_file(
        "/run/systemd/system/quantum-many@.target",
        "[Unit]\nDescription=One of many\n",
    );
    machine.sh("systemctl daemon-reload; systemctl start quantum-many@{1..2000}.target");
    wait_for("2,000 units on the page", PATIENCE, || {
        let page = exporter.get("/", &[]);
        let rows = page.text().matches("quantum-many@").count();
        if rows == 2000 {
            let zipped = exporter.get("/", &[("Accept-Encoding", "gzip")]);
            println!(
                "2,000 units: {} bytes, {} by gzip",
                page.body.len(),
                zipped.body.len()
            );
            assert!(page.body.len() < 1_000_000, "{}", page.body.len());
            return Ok(());
        }
        Err(format!("{rows} rows"))
    });
    for view in [DESK, PHONE] {
        look(browser, "many", view);
        is_accessible(browser);
    }

    keep_for_the_readme();
}

fn in_incidents(machine: &Machine, exporter: &Server<'_>, browser: &mut Browser) {
    machine.sh("sed '/quantum_redis/d' /etc/hosts >/etc/hosts.new; cp /etc/hosts.new /etc/hosts");
    machine.systemctl(&["restart", PORTFOLIO]);
    exporter.reports_cause(PORTFOLIO, "hostname");
    let last_words = "Temporary failure in name resolution";
    wait_for("its last words", PATIENCE, || {
        let page = String::from_utf8(exporter.get("/", &[]).body).unwrap();
        if page.contains(last_words) {
            Ok(())
        } else {
            Err(page)
        }
    });
    for view in ALL_VIEWS {
        look(browser, "hostname", view);
        above_the_fold(browser, view.name);
        is_accessible(browser);
    }
    let told = first_trouble(browser);
    for part in [
        PORTFOLIO,
        "restarts again and again",
        "hostname quantum_redis does not resolve as it should",
        "echo '127.0.0.1 quantum_redis' >>/etc/hosts",
        last_words,
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    machine.sh("echo '127.0.0.1 quantum_redis' >>/etc/hosts");
    machine.restart(PORTFOLIO);

    machine.systemctl(&["stop", "redis-server.service"]);
    exporter.reports_cause(PORTFOLIO, "redis");
    look_at_incident(browser, "redis");
    assert!(first_trouble(browser).contains("redis-cli PING"));
    machine.systemctl(&["start", "redis-server.service"]);
    machine.restart(PORTFOLIO);

    machine.repair(
        EXECUTION,
        &format!("[Service]\nReadOnlyPaths={REPOSITORY}/runtime\n"),
    );
    exporter.reports_cause(EXECUTION, "write_path");
    look_at_incident(browser, "write-path");
    assert!(first_trouble(browser).contains("ReadWritePaths=%s"));
    machine.sh(&format!(
        "rm -r /etc/systemd/system/{EXECUTION}.d; systemctl daemon-reload"
    ));
    machine.restart(EXECUTION);

    machine.replace(
        MONITOR,
        &format!(
            "ExecStart=sh -c 'echo \"ModuleNotFoundError: No module named {HOSTILE}\" >&2; exit 1'"
        ),
    );
    exporter.reports_cause(MONITOR, "missing_module");
    look_at_incident(browser, "missing-module");
    let told = first_trouble(browser);
    assert!(told.contains(HOSTILE), "{told}");

    // Several at once: one stopped by hand, one whose program is gone, one that is named and not there.
    machine.replace(MONITOR, "ExecStart=/opt/gone/monitor");
    machine.systemctl(&["stop", EXECUTION]);
    machine.sh(
        "echo After=quantum-ai-engine.service >>/etc/systemd/system/quantum-trader.target
        systemctl daemon-reload",
    );
    exporter.reports_cause(MONITOR, "missing_executable");
    look_at_incident(browser, "several");
    is_accessible(browser);
    let troubles = browser.evaluate("document.querySelectorAll('.trouble').length");
    assert_eq!(
        troubles, 4,
        "two units, a reference, and unit files that differ"
    );
}

/// Those of the README, which are only replaced on request.
fn keep_for_the_readme() {
    if std::env::var_os("UPDATE_PICTURES").is_none() {
        return;
    }
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/pictures");
    fs::create_dir_all(&kept).unwrap();
    for (made, name) in [
        ("healthy-desk-light.png", "healthy.png"),
        ("hostname-desk-light.png", "incident.png"),
        ("hostname-phone-dark.png", "incident-phone.png"),
    ] {
        fs::copy(pictures().join(made), kept.join(name)).unwrap();
    }
}
