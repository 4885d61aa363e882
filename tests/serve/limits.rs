//! Crowds, slow clients, hang-ups, short deadlines and signals.

use std::net::Shutdown;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::exporter::{Answer, Client, Exporter, SilentBus};

#[test]
fn a_scrape_is_answered_within_the_time_it_has() {
    let bus = SilentBus::new();
    let exporter = Exporter::start_on(&bus);
    // One that waits, one with little time: the second does not wait for the first.
    let mut patient = exporter.connect();
    patient.send("GET", "/metrics", &[]);
    for timeout in ["0.2", "0.000001"] {
        let header = [("X-Prometheus-Scrape-Timeout-Seconds", timeout)];
        let answer = exporter.get("/metrics", &header);
        assert_eq!(answer.status, 200, "what can be told is told");
    }
    bus.hang_up();
    assert_eq!(patient.receive(false).status, 200);
}

#[test]
fn those_who_ask_together_get_the_same_even_if_the_first_hangs_up() {
    let bus = SilentBus::new();
    let exporter = Exporter::start_on(&bus);
    let mut clients: Vec<Client> = (0..50).map(|_| exporter.connect()).collect();
    for client in &mut clients {
        client.send("GET", "/metrics", &[]);
    }
    // Answered after those above were read.
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    let first = clients.remove(0);
    first.stream.get_ref().shutdown(Shutdown::Both).unwrap();
    drop(first);
    bus.hang_up();
    let answers: Vec<Answer> = clients.iter_mut().map(|c| c.receive(false)).collect();
    for answer in &answers {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, answers[0].body);
    }
}

#[test]
fn a_client_that_closes_its_sending_side_is_answered() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    client.send("GET", "/metrics", &[]);
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive(false).status, 200);
}

#[test]
fn what_is_no_request_is_refused() {
    let exporter = Exporter::start(&[]);
    let long = "x".repeat(20_000);
    let mut client = exporter.connect();
    client.write(format!("GET /metrics HTTP/1.1\r\nLong: {long}\r\n\r\n").as_bytes());
    assert_eq!(client.receive(true).status, 431);

    let mut client = exporter.connect();
    client.write(format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100)).as_bytes());
    assert_eq!(client.receive(true).status, 431);

    let mut client = exporter.connect();
    client.write(b"\x16\x03\x01 hello\r\n\r\n");
    assert_eq!(client.receive(true).status, 400);
    assert!(client.is_closed());
}

#[test]
fn a_thousand_silent_and_slow_clients_do_not_stop_a_scrape() {
    // This process holds one end of each, the exporter the other.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(4096, |maximum| maximum.min(4096)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();

    let exporter = Exporter::start(&[]);
    // A scraper that keeps its connection keeps it.
    let mut kept = exporter.connect();
    assert_eq!(kept.ask("GET", "/metrics", &[]).status, 200);
    let mut crowd = Vec::new();
    for number in 0..1000 {
        let mut client = exporter.connect();
        if number % 2 == 0 {
            client.write(b"GET /metrics HTTP/1.1\r\nHost: slo");
        }
        crowd.push(client);
        if number % 250 == 0 {
            assert_eq!(exporter.get("/metrics", &[]).status, 200);
        }
    }
    assert_eq!(exporter.get("/metrics", &[]).status, 200);
    assert_eq!(kept.ask("GET", "/metrics", &[]).status, 200);
    assert!(crowd[0].is_closed(), "the oldest made room");
}

#[test]
fn a_signal_lets_answers_finish_and_ends_with_zero() {
    for signal in [Signal::TERM, Signal::INT] {
        let bus = SilentBus::new();
        let mut exporter = Exporter::start_on(&bus);
        let mut idle = exporter.connect();
        assert_eq!(idle.ask("GET", "/-/healthy", &[]).status, 200);
        let mut scraper = exporter.connect();
        scraper.send("GET", "/metrics", &[]);
        // Answered after the scrape was read.
        assert_eq!(exporter.get("/-/healthy", &[]).status, 200);

        exporter.signal(signal);
        exporter.log_line("msg=stopping");
        bus.hang_up();
        assert_eq!(scraper.receive(false).status, 200);
        assert!(scraper.is_closed());
        assert!(idle.is_closed());
        exporter.log_line("msg=stopped");
        assert_eq!(exporter.wait().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let bus = SilentBus::new();
    let mut exporter = Exporter::start_on(&bus);
    let mut scraper = exporter.connect();
    scraper.send("GET", "/metrics", &[]);
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    exporter.signal(Signal::TERM);
    exporter.log_line("msg=stopping");
    exporter.signal(Signal::INT);
    exporter.log_line("stopped at once");
    assert_eq!(exporter.wait().code(), Some(130));
}
