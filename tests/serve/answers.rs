//! What is answered: paths, methods, formats.

use std::io::Read;

use crate::exporter::{Exporter, SilentBus, run};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

#[test]
fn every_path_answers_and_the_others_name_them() {
    let exporter = Exporter::start(&[]);
    let page = exporter.get("/", &[]);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some(HTML));
    assert!(page.text().contains("quantum-trader"));
    assert!(page.text().contains("href=\"/metrics\""));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");

    let healthy = exporter.get("/-/healthy", &[]);
    assert_eq!((healthy.status, healthy.text()), (200, "healthy\n"));

    let metrics = exporter.get("/metrics?ignored=1", &[]);
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("baseline_info{"));

    for path in ["/nothing", "/metrics/", "/-/", "//"] {
        let answer = exporter.get(path, &[]);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.text(),
            "nothing is here; the paths are /, /metrics, /-/healthy and /-/ready\n"
        );
    }
}

#[test]
fn readiness_waits_for_the_units() {
    let bus = SilentBus::new();
    let exporter = Exporter::start_on(&bus);
    let ready = exporter.get("/-/ready", &[]);
    assert_eq!(ready.status, 503);
    assert!(ready.text().starts_with("not ready: "));
}

#[test]
fn head_tells_what_get_would_bring() {
    let exporter = Exporter::start(&[]);
    let mut client = exporter.connect();
    for path in ["/-/healthy", "/-/ready", "/nothing"] {
        let mut get = client.ask("GET", path, &[]);
        let mut head = client.ask("HEAD", path, &[]);
        assert_eq!(head.status, get.status, "{path}");
        for answer in [&mut get, &mut head] {
            answer.headers.retain(|(name, _)| name != "date");
        }
        assert_eq!(head.headers, get.headers, "{path}");
        assert!(!get.body.is_empty());
    }
    for (path, content_type) in [("/metrics", TEXT), ("/", HTML)] {
        let head = client.ask("HEAD", path, &[]);
        assert_eq!(head.header("content-type"), Some(content_type));
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(length > 1000);
    }
    // No stray body: the connection still works.
    assert_eq!(client.ask("GET", "/-/healthy", &[]).status, 200);
}

#[test]
fn other_methods_are_refused_and_their_bodies_not_read() {
    let exporter = Exporter::start(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = exporter.connect().ask(method, "/metrics", &[]);
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    // The body never comes.
    let endless = [("Content-Length", "1000000")];
    let answer = exporter.connect().ask("POST", "/metrics", &endless);
    assert_eq!(answer.status, 405);
}

#[test]
fn the_format_is_the_one_the_scraper_prefers() {
    let exporter = Exporter::start(&[]);
    for (accept, content_type) in [
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.8", TEXT),
        (
            "text/plain;q=0.2, application/openmetrics-text;q=0.8",
            OPENMETRICS,
        ),
        ("*/*", TEXT),
        ("image/png", TEXT),
    ] {
        let answer = exporter.get("/metrics", &[("Accept", accept)]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        let is_open = answer.text().ends_with("# EOF\n");
        assert_eq!(is_open, content_type == OPENMETRICS);
    }
    let answer = exporter.get("/metrics", &[]);
    assert_eq!(answer.header("content-type"), Some(TEXT));
}

#[test]
fn the_page_is_also_the_report_of_check() {
    let exporter = Exporter::start(&[]);
    for (accept, content_type) in [
        ("application/json", "application/json"),
        (
            "text/html;q=0.4, application/json;q=0.5",
            "application/json",
        ),
        ("text/html, application/json;q=0.9", HTML),
        ("*/*", HTML),
    ] {
        let answer = exporter.get("/", &[("Accept", accept)]);
        assert_eq!(
            answer.header("content-type"),
            Some(content_type),
            "{accept}"
        );
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let answer = exporter.get("/", &[("Accept", "application/json")]);
    let (_, check, _) = run(&["check", "--output=json"]);
    let [answer, check] = [answer.text(), &check].map(|json| {
        let mut report: serde_json::Value = serde_json::from_str(json).unwrap();
        // Each in its own words, as each found it.
        for check in report["checks"].as_array_mut().unwrap() {
            check.as_object_mut().unwrap().remove("seen");
        }
        report["remarks"] = serde_json::Value::Null;
        report
    });
    assert_eq!(answer, check);
}

#[test]
fn gzip_is_sent_to_those_who_want_it() {
    let exporter = Exporter::start(&[]);
    let packed = exporter.get("/metrics", &[("Accept-Encoding", "deflate, gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("baseline_info{"));
    assert!(packed.body.len() < text.len());
    let page = exporter.get("/", &[("Accept-Encoding", "gzip")]);
    assert_eq!(page.header("content-encoding"), Some("gzip"));

    let plain = exporter.get("/metrics", &[("Accept-Encoding", "gzip;q=0, br")]);
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.text().contains("baseline_info{"));
}

#[test]
fn a_time_out_that_makes_no_sense_is_ignored() {
    let exporter = Exporter::start(&[]);
    for timeout in ["-1", "0", "NaN", "inf", "1e300", "soon", ""] {
        let header = [("X-Prometheus-Scrape-Timeout-Seconds", timeout)];
        assert_eq!(exporter.get("/metrics", &header).status, 200, "{timeout}");
    }
}
