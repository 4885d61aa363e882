//! The baseline read again while the exporter serves, by signal and over HTTP. There is no bus, so
//! that nothing is known of units.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::exporter::{Exporter, SilentBus, command, run};

/// A file with a baseline, and its exporter's flag for it.
struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
    flag: String,
}

impl File {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("baseline.yml");
        let file = Self {
            flag: format!("--config.file={}", path.display()),
            path,
            _directory: directory,
        };
        file.says("deployment: first\nsystemd: {running: [a.service]}\n");
        file
    }

    fn says(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

const SECOND: &str = "deployment: second\nsystemd: {running: [b.service, c.service]}\n";
const TWO_MISTAKES: &str =
    "deployment: third\nsystemd: {running: [b.service], runing: []}\nhostname: []\n";

/// The deployment, and whether the last reload was a success.
fn in_force(metrics: &str) -> (String, bool) {
    let (_, rest) = metrics.split_once("baseline_info{deployment=\"").unwrap();
    let (deployment, _) = rest.split_once('"').unwrap();
    let successful = metrics.contains("baseline_exporter_config_last_reload_successful{} 1\n");
    let failed = metrics.contains("baseline_exporter_config_last_reload_successful{} 0\n");
    assert_ne!(successful, failed);
    (deployment.to_owned(), successful)
}

fn now_in_force(exporter: &Exporter) -> (String, bool) {
    in_force(exporter.get("/metrics", &[]).text())
}

#[test]
fn a_hangup_reads_the_baseline_again_or_leaves_it() {
    let file = File::new();
    let exporter = Exporter::start(&[&file.flag]);
    assert_eq!(now_in_force(&exporter), ("first".to_owned(), true));

    file.says(SECOND);
    exporter.signal(Signal::HUP);
    let line = exporter.log_line("msg=reloaded");
    assert!(line.contains("deployment=second"), "{line}");
    let second = exporter.get("/metrics", &[]);
    assert_eq!(in_force(second.text()), ("second".to_owned(), true));
    assert!(
        second
            .text()
            .contains("baseline_units_running_expected{} 2\n")
    );
    assert!(exporter.get("/", &[]).text().contains(">second on "));

    file.says(TWO_MISTAKES);
    exporter.signal(Signal::HUP);
    for place in ["baseline.yml:2:", "baseline.yml:3:"] {
        let line = exporter.log_line("not reloaded");
        assert!(line.contains("level=error"), "{line}");
        assert!(line.contains(place), "{line}");
    }
    assert_eq!(now_in_force(&exporter), ("second".to_owned(), false));

    file.says(SECOND);
    exporter.signal(Signal::HUP);
    exporter.log_line("msg=reloaded");
    assert_eq!(now_in_force(&exporter), ("second".to_owned(), true));
}

#[test]
fn over_http_it_is_off_unless_asked_for() {
    let file = File::new();
    let exporter = Exporter::start(&[&file.flag]);
    file.says(SECOND);
    for method in ["POST", "PUT"] {
        let answer = exporter.connect().ask(method, "/-/reload", &[]);
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("--web.enable-lifecycle"));
    }
    assert_eq!(now_in_force(&exporter), ("first".to_owned(), true));
}

#[test]
fn over_http_it_answers_what_came_of_it() {
    let file = File::new();
    let exporter = Exporter::start(&[&file.flag, "--web.enable-lifecycle"]);
    for method in ["GET", "HEAD", "DELETE"] {
        let answer = exporter.connect().ask(method, "/-/reload", &[]);
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("POST, PUT"));
    }
    for (method, text, deployment) in [
        ("POST", SECOND, "second"),
        ("PUT", "deployment: b\nsystemd: {watch: ['q-*']}\n", "b"),
    ] {
        file.says(text);
        let answer = exporter.connect().ask(method, "/-/reload", &[]);
        assert_eq!(answer.status, 200);
        let (_, summary, _) = run(&[&file.flag, "--config.check"]);
        assert_eq!(answer.text(), format!("reloaded {summary}"));
        assert_eq!(now_in_force(&exporter), (deployment.to_owned(), true));
    }

    file.says(TWO_MISTAKES);
    let refused = exporter.connect().ask("POST", "/-/reload", &[]);
    assert_eq!(refused.status, 500);
    let (_, _, mistakes) = run(&[&file.flag, "--config.check"]);
    assert_eq!(refused.text(), mistakes);
    assert_eq!(mistakes.lines().count(), 2, "{mistakes}");
    assert_eq!(now_in_force(&exporter), ("b".to_owned(), false));

    std::fs::remove_file(&file.path).unwrap();
    let refused = exporter.connect().ask("POST", "/-/reload", &[]);
    assert_eq!(refused.status, 500);
    assert!(
        refused.text().contains("no such file"),
        "{}",
        refused.text()
    );
}

#[test]
fn a_crowd_of_reloads_is_harmless() {
    let file = File::new();
    let mut exporter = Exporter::start(&[&file.flag, "--web.enable-lifecycle"]);
    file.says(SECOND);
    let mut clients: Vec<_> = (0..50).map(|_| exporter.connect()).collect();
    for client in &mut clients {
        client.send("POST", "/-/reload", &[]);
        exporter.signal(Signal::HUP);
    }
    // Half of them do not wait for their answer.
    clients.truncate(25);
    assert!(now_in_force(&exporter).1);
    for client in &mut clients {
        assert_eq!(client.receive(false).status, 200);
    }
    assert_eq!(now_in_force(&exporter), ("second".to_owned(), true));
    exporter.signal(Signal::TERM);
    assert!(exporter.wait().success());
}

#[test]
fn who_asks_while_a_reload_waits_shares_it() {
    let file = File::new();
    let exporter = Exporter::start(&[&file.flag, "--web.enable-lifecycle"]);
    // Read only once somebody writes to it.
    std::fs::remove_file(&file.path).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &file.path, FileType::Fifo, mode, 0).unwrap();
    let mut first = exporter.connect();
    first.send("POST", "/-/reload", &[]);
    // Opened once the reload does.
    let mut open = OpenOptions::new().write(true).open(&file.path).unwrap();
    let mut clients: Vec<_> = (0..20).map(|_| exporter.connect()).collect();
    for client in &mut clients {
        client.send("POST", "/-/reload", &[]);
    }
    // Answered after those above were read.
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    open.write_all(SECOND.as_bytes()).unwrap();
    drop(open);
    exporter.log_line("deployment=second");
    file.says("deployment: third\nsystemd: {watch: ['q-*']}\n");
    exporter.log_line("deployment=third");
    let first = first.receive(false);
    assert_eq!(first.status, 200);
    assert!(first.text().contains("second"), "{}", first.text());
    for client in &mut clients {
        let answer = client.receive(false);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("third"), "{}", answer.text());
    }
}

#[test]
fn the_status_is_not_that_of_a_look_from_before_a_reload() {
    let file = File::new();
    let bus = SilentBus::new();
    let manager = file.path.with_file_name("notify");
    let heard = UnixDatagram::bind(&manager).unwrap();
    let mut command = command(&["--web.listen-address=127.0.0.1:0", &file.flag]);
    command
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
        .env("NOTIFY_SOCKET", &manager);
    let exporter = Exporter::spawn(command, 1);
    let mut before = exporter.connect();
    before.send("GET", "/metrics", &[]);
    // Answered after the one above was read.
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    file.says(TWO_MISTAKES);
    exporter.signal(Signal::HUP);
    exporter.log_line("not reloaded");
    bus.hang_up();
    assert_eq!(before.receive(false).status, 200);
    loop {
        let mut buffer = [0; 4096];
        let length = heard.recv(&mut buffer).unwrap();
        let told = std::str::from_utf8(&buffer[..length]).unwrap();
        if let Some(status) = told.strip_prefix("STATUS=") {
            assert!(status.contains("could not be read again"), "{told}");
            let (time, _) = status.split_once(": ").unwrap();
            humantime::parse_rfc3339(time).unwrap();
            break;
        }
    }
}

#[test]
fn a_look_that_spans_a_reload_has_the_units_of_one_baseline() {
    let file = File::new();
    let bus = SilentBus::new();
    let mut command = command(&["--web.listen-address=127.0.0.1:0", &file.flag]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
    let exporter = Exporter::spawn(command, 1);
    let mut before = exporter.connect();
    before.send("GET", "/metrics", &[]);
    // Answered after the one above was read.
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);

    file.says(SECOND);
    exporter.signal(Signal::HUP);
    exporter.log_line("msg=reloaded");
    let mut after = exporter.connect();
    after.send("GET", "/metrics", &[]);
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    bus.hang_up();
    // It had no word on the units of the first one yet, and never will.
    let before = before.receive(false);
    assert_eq!(in_force(before.text()), ("second".to_owned(), true));
    let after = after.receive(false);
    assert_eq!(in_force(after.text()), ("second".to_owned(), true));
}

#[test]
fn the_baseline_and_the_web_configuration_are_put_in_force_together() {
    let file = File::new();
    let web_config = file.path.with_file_name("web.yml");
    let passwords = "basic_auth_users:\n  prometheus: \
        $2y$10$oHQ9BtxZ/QcJ21huhqL0HOzYyDLp6eTPC4V1U9W0VWbKJYkq0TI4S\n";
    std::fs::write(&web_config, "").unwrap();
    let web_flag = format!("--web.config.file={}", web_config.display());
    let exporter = Exporter::start(&[&file.flag, &web_flag]);
    assert_eq!(exporter.get("/metrics", &[]).status, 200);

    // One mistake in each: both are told, neither file is in force.
    file.says("deployment: third\nsystemd: {runing: []}\n");
    std::fs::write(&web_config, format!("{passwords}rate_limits: {{}}\n")).unwrap();
    exporter.signal(Signal::HUP);
    for place in ["baseline.yml:2:", "web.yml:3:"] {
        let line = exporter.log_line("not reloaded");
        assert!(line.contains(place), "{line}");
    }
    assert_eq!(now_in_force(&exporter), ("first".to_owned(), false));

    // A good baseline beside a bad web configuration changes nothing either.
    file.says(SECOND);
    exporter.signal(Signal::HUP);
    let line = exporter.log_line("not reloaded");
    assert!(line.contains("web.yml:3:"), "{line}");
    assert_eq!(now_in_force(&exporter), ("first".to_owned(), false));

    let mut kept = exporter.connect();
    assert_eq!(kept.ask("GET", "/metrics", &[]).status, 200);
    std::fs::write(&web_config, passwords).unwrap();
    exporter.signal(Signal::HUP);
    let line = exporter.log_line("msg=reloaded");
    assert!(line.contains("deployment=second"), "{line}");
    assert_eq!(kept.ask("GET", "/metrics", &[]).status, 401);
    assert_eq!(exporter.get("/metrics", &[]).status, 401);
    let login = ("Authorization", "Basic cHJvbWV0aGV1czpjaGFuZ2UgbWU=");
    let metrics = exporter.get("/metrics", &[login]);
    assert_eq!(in_force(metrics.text()), ("second".to_owned(), true));
}
