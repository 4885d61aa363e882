//! What the headers of a request ask for: format, compression, and how soon.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AsHeaderName};

use crate::metrics::Format;

/// The scrape time-out of a scraper that names none: Prometheus' default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time-outs are taken to lie between these, whatever the header says; in seconds.
const TIMEOUTS: (f64, f64) = (0.2, 120.0);

/// What is left of a scrape's time for encoding and for the way back …
const MARGIN: Duration = Duration::from_millis(500);

/// … but not more than this share, where there is little time.
const MARGIN_SHARE: u32 = 2;

/// How long a look may take where nobody names a time-out.
pub const DEFAULT_LOOK: Duration = DEFAULT_TIMEOUT.saturating_sub(MARGIN);

/// How long a scraper waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the look; never zero.
    pub look: Duration,
    /// For the whole answer: nobody listens any more after it.
    pub answer: Duration,
}

/// The patience that `X-Prometheus-Scrape-Timeout-Seconds` tells.
pub fn patience(headers: &HeaderMap) -> Patience {
    let (shortest, longest) = TIMEOUTS;
    let answer = headers
        .get("X-Prometheus-Scrape-Timeout-Seconds")
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .map_or(DEFAULT_TIMEOUT, |seconds| {
            Duration::from_secs_f64(seconds.clamp(shortest, longest))
        });
    Patience {
        look: answer - MARGIN.min(answer / MARGIN_SHARE),
        answer,
    }
}

/// The format that the `Accept` header prefers; text 0.0.4 where it names none that we have.
pub fn format(headers: &HeaderMap) -> Format {
    let mut best = (Format::Text, 0.0);
    for item in items(headers, ACCEPT) {
        let version = item.parameter("version");
        let format = match item.name.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                Format::OpenMetrics
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => Format::Text,
            "text/*" | "*/*" => Format::Text,
            _ => continue,
        };
        // Of equals, the one that is named first.
        if item.quality > best.1 {
            best = (format, item.quality);
        }
    }
    best.0
}

/// Whether the `Accept` header prefers JSON to HTML: by quality, else by being named at all.
pub fn json(headers: &HeaderMap) -> bool {
    // The quality that a type has by the most specific range that matches it, and how specific.
    let mut of_json = (0.0, 0);
    let mut of_html = (0.0, 0);
    let rank = |best: &mut (f32, u8), quality, specific| {
        if specific >= best.1 {
            *best = (quality, specific);
        }
    };
    for item in items(headers, ACCEPT) {
        match item.name.as_str() {
            "application/json" => rank(&mut of_json, item.quality, 3),
            "application/*" => rank(&mut of_json, item.quality, 2),
            "text/html" => rank(&mut of_html, item.quality, 3),
            "text/*" => rank(&mut of_html, item.quality, 2),
            "*/*" => {
                rank(&mut of_json, item.quality, 1);
                rank(&mut of_html, item.quality, 1);
            }
            _ => {}
        }
    }
    of_json.0 > 0.0 && of_json > of_html
}

/// Whether the `Accept-Encoding` header prefers gzip to none.
pub fn gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for item in items(headers, ACCEPT_ENCODING) {
        match item.name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(item.quality),
            "*" => any = Some(item.quality),
            "identity" => identity = Some(item.quality),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// One element of a header that lists what is acceptable.
struct Item<'h> {
    /// In lower case.
    name: String,
    parameters: Vec<(&'h str, &'h str)>,
    /// 0 is not at all, 1 is best.
    quality: f32,
}

impl Item<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// The elements of all headers of this name; those with a senseless quality are left out.
fn items(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = Item<'_>> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|element| {
            let mut parts = element.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let parameters = parts
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
                .collect();
            let mut item = Item {
                name,
                parameters,
                quality: 1.0,
            };
            if let Some(quality) = item.parameter("q") {
                item.quality = quality.parse().ok()?;
            }
            (0.0..=1.0).contains(&item.quality).then_some(item)
        })
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &str, value: &str) -> HeaderMap {
        let name = HeaderName::try_from(name).unwrap();
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())])
    }

    #[test]
    fn the_preferred_format_wins() {
        for (accept, expected) in [
            // Prometheus 2
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            // Prometheus 3
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.5",
                Format::OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text", Format::Text),
            (
                "application/openmetrics-text;q=0.3, text/plain;q=0.4",
                Format::Text,
            ),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=7", Format::Text),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("text/html", Format::Text),
            ("*/*", Format::Text),
            (",;=;,", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(format(&headers("accept", accept)), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn json_only_for_those_who_prefer_it() {
        for (accept, expected) in [
            ("application/json", true),
            ("application/json, text/plain, */*", true),
            ("application/*", true),
            ("text/html;q=0.5, application/json", true),
            ("text/html;q=0.5, */*", true),
            ("application/json;q=0.4, */*;q=0.3", true),
            // Browsers.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                false,
            ),
            ("text/html, application/json", false),
            ("application/json, text/html", false),
            ("application/json;q=0.3, text/*;q=0.4", false),
            ("application/json;q=0", false),
            ("application/json;q=0, */*", false),
            ("application/json;q=7", false),
            ("image/png", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(json(&headers("accept", accept)), expected, "{accept}");
        }
        assert!(!json(&HeaderMap::new()));
    }

    #[test]
    fn gzip_only_for_those_who_want_it() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("identity;q=0.5, gzip", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0.5, identity", false),
            ("br", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(
                gzip(&headers("accept-encoding", accept)),
                expected,
                "{accept}"
            );
        }
        assert!(!gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_look_ends_before_the_scraper_gives_up() {
        for (timeout, look) in [
            ("10", 9.5),
            ("2.5", 2.0),
            ("1", 0.5),
            ("0.000001", 0.1),
            ("1e300", 119.5),
            ("inf", 119.5),
            ("0", 9.5),
            ("-5", 9.5),
            ("NaN", 9.5),
            ("soon", 9.5),
        ] {
            let patience = patience(&headers("x-prometheus-scrape-timeout-seconds", timeout));
            assert_eq!(patience.look.as_secs_f64(), look, "{timeout}");
            assert!(patience.answer > patience.look);
        }
        assert_eq!(patience(&HeaderMap::new()).look, DEFAULT_LOOK);
    }
}
