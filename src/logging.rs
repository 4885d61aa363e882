//! Log lines on standard error: logfmt or JSON, one line per event, no colours.

use std::fmt::{self, Write};
use std::time::SystemTime;

use anyhow::Context;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Everything, each request too.
    Debug,
    /// What starts, stops and changes.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `ts=… level=info msg="…" key=value`
    Logfmt,
    /// `{"ts":"…","level":"info","msg":"…","key":"value"}`
    Json,
}

/// Sends every event from now on to standard error. Fails when called a second time.
pub fn start(level: Level, format: Format) -> anyhow::Result<()> {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new()
        .with_default(level)
        // It tells of every message on the bus.
        .with_target("zbus", level.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { format })
        .with_writer(std::io::stderr)
        // A closed standard error must not end the exporter.
        .log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(lines).with(targets);
    tracing::subscriber::set_global_default(subscriber).context("starting to log")
}

/// Writes one event as one line.
struct Lines {
    format: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);

        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let mut line = Line::new(self.format);
        line.text("ts", &ts);
        line.text("level", &level);
        line.text("msg", &fields.message);
        for (key, value) in &fields.others {
            match value {
                Value::Text(text) => line.text(key, text),
                Value::Plain(plain) => line.plain(key, plain),
            }
        }
        // Our own events say what they are about; those of libraries need their origin.
        if !metadata.target().starts_with(env!("CARGO_CRATE_NAME")) {
            line.text("target", metadata.target());
        }
        writeln!(writer, "{}", line.finish())
    }
}

/// The fields of an event, in its order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number or a boolean: the same in both formats.
    Plain(String),
}

impl Fields {
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        let value = Value::Plain(value.to_string());
        self.others.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A message, and what is logged with `%`, comes as the Debug of its Display.
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others
                .push((field.name(), Value::Text(value.to_owned())));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            // JSON has no such number.
            self.record_str(field, &value.to_string());
        }
    }
}

/// One line that is being written.
struct Line {
    format: Format,
    out: String,
}

impl Line {
    fn new(format: Format) -> Self {
        Self {
            format,
            out: String::with_capacity(256),
        }
    }

    fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let bare = self.format == Format::Logfmt
            && !value.is_empty()
            && !value.chars().any(|c| c == ' ' || c == '=' || is_escaped(c));
        if bare {
            self.out.push_str(value);
        } else {
            self.quote(value);
        }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            Format::Logfmt => {
                if !self.out.is_empty() {
                    self.out.push(' ');
                }
                self.out.push_str(key);
                self.out.push('=');
            }
            Format::Json => {
                self.out.push(if self.out.is_empty() { '{' } else { ',' });
                self.quote(key);
                self.out.push(':');
            }
        }
    }

    /// In double quotes, as JSON quotes; logfmt readers understand the same escapes.
    fn quote(&mut self, value: &str) {
        self.out.push('"');
        for c in value.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if is_escaped(c) => {
                    // Writing to a string cannot fail.
                    write!(self.out, "\\u{:04x}", u32::from(c)).unwrap_or_default();
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn finish(mut self) -> String {
        if self.format == Format::Json {
            self.out.push('}');
        }
        self.out
    }
}

/// What would end the line, the value or a terminal's patience. All below U+10000.
fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format) -> String {
        let mut line = Line::new(format);
        line.text("msg", "two words");
        line.text("unit", "quantum-ai.service");
        line.text("empty", "");
        line.text("error", "a=\"b\"\\\n\u{1b}[31m\u{2028}");
        line.plain("took_ms", "12");
        line.finish()
    }

    #[test]
    fn logfmt_quotes_only_what_needs_it_and_stays_on_one_line() {
        assert_eq!(
            line(Format::Logfmt),
            r#"msg="two words" unit=quantum-ai.service empty="" error="a=\"b\"\\\n\u001b[31m\u2028" took_ms=12"#
        );
    }

    #[test]
    fn json_lines_are_json() {
        let parsed: serde_json::Value = serde_json::from_str(&line(Format::Json)).unwrap();
        assert_eq!(parsed["msg"], "two words");
        assert_eq!(parsed["error"], "a=\"b\"\\\n\u{1b}[31m\u{2028}");
        assert_eq!(parsed["took_ms"], 12);
        assert!(!line(Format::Json).contains('\n'));
    }
}
